/* A defect in the library ends neither the program nor the duty to answer. */
#include "vehicle.h"

/* Exported for this test only; not in the header. */
int32_t swb_test_panic(swb_vehicle *vehicle);

int main(int count, char **arguments) {
  CHECK(count == 5);
  static const swb_ego_state ego = {.struct_size = sizeof ego};
  swb_vehicle *vehicle = open_vehicle(arguments);
  swb_drive_input input = drive_input(7, &ego);
  swb_drive_output output = {.struct_size = sizeof output};
  swb_status status = {.struct_size = sizeof status};
  swb_event event = {.struct_size = sizeof event};

  CHECK_RESULT(swb_test_panic(vehicle), SWB_ERROR_PANIC);
  CHECK_TEXT("defect in libswitchback: asked for by swb_test_panic");

  CHECK_RESULT(swb_vehicle_step(vehicle, &input, &output), SWB_ERROR_POISONED);
  CHECK(output.sequence == 7 && output.control_valid == 0 && output.takeover_level == SWB_TAKEOVER_IMMEDIATE);
  CHECK(output.faults == SWB_FAULT_CALL && output.minimal_risk == SWB_MINIMAL_RISK_STRAIGHT_STOP);
  CHECK_RESULT(swb_vehicle_status(vehicle, &status), SWB_ERROR_POISONED);
  CHECK_RESULT(swb_vehicle_next_event(vehicle, &event), SWB_ERROR_POISONED);
  CHECK_RESULT(swb_vehicle_wait_event(vehicle, 1000, &event), SWB_ERROR_POISONED);
  CHECK_RESULT(swb_vehicle_check_now(vehicle), SWB_ERROR_POISONED);
  CHECK_RESULT(swb_vehicle_activate(vehicle), SWB_ERROR_POISONED);
  swb_vehicle_free(vehicle);

  /* Another vehicle is not affected. */
  vehicle = open_vehicle(arguments);
  CHECK_RESULT(swb_vehicle_status(vehicle, &status), SWB_OK);
  swb_vehicle_free(vehicle);
  return 0;
}
