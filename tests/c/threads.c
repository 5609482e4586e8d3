/* Two threads in one step: the second is refused at once and still gets an output. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "vehicle.h"

static atomic_bool busy_seen;
static atomic_uint_fast64_t sequence = 1;

static void *step_until_busy(void *argument) {
  static const swb_ego_state ego = {.struct_size = sizeof ego};
  swb_vehicle *vehicle = argument;
  swb_drive_output output = {.struct_size = sizeof output};
  time_t give_up = time(NULL) + 300;
  while (!atomic_load(&busy_seen) && time(NULL) < give_up) {
    swb_drive_input input = drive_input(atomic_fetch_add(&sequence, 1), &ego);
    int32_t result = swb_vehicle_step(vehicle, &input, &output);
    CHECK(output.sequence == input.sequence && output.takeover_level == SWB_TAKEOVER_IMMEDIATE);
    if (result == SWB_ERROR_BUSY) {
      CHECK_TEXT("another thread is inside swb_vehicle_step for this vehicle");
      CHECK(output.faults == SWB_FAULT_CALL);
      atomic_store(&busy_seen, true);
    } else {
      CHECK_RESULT(result, SWB_ERROR_NO_MODEL);
    }
  }
  return NULL;
}

int main(int count, char **arguments) {
  CHECK(count == 5);
  swb_vehicle *vehicle = open_vehicle(arguments);
  pthread_t other;
  CHECK(pthread_create(&other, NULL, step_until_busy, vehicle) == 0);
  step_until_busy(vehicle);
  CHECK(pthread_join(other, NULL) == 0);
  CHECK(atomic_load(&busy_seen));
  swb_vehicle_free(vehicle);
  return 0;
}
