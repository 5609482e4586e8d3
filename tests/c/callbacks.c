/* What the library asks of the program, and an update that the program activates. */
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "vehicle.h"

enum { WIDTH = 16, HEIGHT = 8, AHEAD_S = 200, PATIENCE_S = 300 };

struct program {
  _Atomic(swb_vehicle *) vehicle;
  atomic_int offers, questions, looks, lines, refused;
  uint64_t sequence;
  swb_drive_output output;
};

/* A callback that calls in is refused and changes nothing: the update thread would wait for itself. */
static void call_in(struct program *program) {
  swb_vehicle *vehicle = atomic_load(&program->vehicle);
  if (vehicle == NULL) {
    return;
  }
  swb_status status = {.struct_size = sizeof status};
  swb_event event = {.struct_size = sizeof event};
  swb_drive_input input = {.struct_size = sizeof input, .sequence = 7, .requested_mode = SWB_MODE_ENGAGED};
  swb_drive_output output = {.struct_size = sizeof output};
  CHECK_RESULT(swb_vehicle_status(vehicle, &status), SWB_ERROR_IN_CALLBACK);
  CHECK_TEXT("the call came from within a callback, which must not call the library");
  CHECK_RESULT(swb_vehicle_next_event(vehicle, &event), SWB_ERROR_IN_CALLBACK);
  CHECK_RESULT(swb_vehicle_wait_event(vehicle, 1000, &event), SWB_ERROR_IN_CALLBACK);
  CHECK_RESULT(swb_vehicle_check_now(vehicle), SWB_ERROR_IN_CALLBACK);
  CHECK_RESULT(swb_vehicle_activate(vehicle), SWB_ERROR_IN_CALLBACK);
  CHECK_RESULT(swb_vehicle_step(vehicle, &input, &output), SWB_ERROR_IN_CALLBACK);
  CHECK(output.sequence == 7 && output.control_valid == 0 && output.takeover_level == SWB_TAKEOVER_IMMEDIATE);
  swb_vehicle_free(vehicle);
  atomic_fetch_add(&program->refused, 1);
}

/* A clock that goes ahead, so that its time can be told from the system's, by less than the server forgives (300 s). */
static int64_t tell_time(void *userdata) {
  (void)userdata;
  return (int64_t)time(NULL) + AHEAD_S;
}

static uint32_t decide(void *userdata, const swb_offer *offer) {
  struct program *program = userdata;
  CHECK(offer->struct_size >= sizeof *offer);
  CHECK(strcmp(offer->model, "vla-1") == 0 && strcmp(offer->version, "1.0.0") == 0);
  CHECK(offer->release_counter == 1 && offer->download_bytes > 0);
  call_in(program);
  /* The driver is asked first, and agrees. */
  return atomic_fetch_add(&program->offers, 1) == 0 ? SWB_CONSENT_LATER : SWB_CONSENT_GRANTED;
}

/* At home there is a network; before that one asks in vain. */
static uint32_t allow(void *userdata, const swb_transfer *transfer, uint64_t *bytes_max) {
  struct program *program = userdata;
  CHECK(transfer->struct_size >= sizeof *transfer);
  CHECK(strcmp(transfer->model, "vla-1") == 0 && strcmp(transfer->version, "1.0.0") == 0);
  CHECK(transfer->release_counter == 1 && *bytes_max == 0);
  call_in(program);
  if (atomic_fetch_add(&program->questions, 1) == 0) return SWB_NETWORK_NONE;
  *bytes_max = 1 << 30;
  return SWB_NETWORK_METERED;
}

static void tell_state(void *userdata, swb_vehicle_state *state) {
  struct program *program = userdata;
  CHECK(state->struct_size >= sizeof *state && state->speed_mps != state->speed_mps);
  call_in(program);
  state->speed_mps = 10.0f;
  state->driving_function_engaged = SWB_YES;
  atomic_fetch_add(&program->looks, 1);
}

static void keep_line(void *userdata, uint32_t level, const char *text, size_t text_len) {
  struct program *program = userdata;
  CHECK(level >= SWB_LOG_ERROR && level <= SWB_LOG_DEBUG);
  CHECK(strlen(text) == text_len && strchr(text, '\n') == NULL);
  atomic_fetch_add(&program->lines, 1);
}

static int32_t step(swb_vehicle *vehicle, struct program *program) {
  static const uint8_t pixels[WIDTH * HEIGHT * 3];
  program->sequence++;
  int64_t time_ns = (int64_t)program->sequence * 50000000;
  swb_camera_frame camera = {
      .struct_size = sizeof camera,
      .format = SWB_PIXEL_FORMAT_RGB8,
      .width = WIDTH,
      .height = HEIGHT,
      .stride_bytes = WIDTH * 3,
      .frame_id = program->sequence,
      .exposure_ns = time_ns,
      .data = pixels,
      .data_len = sizeof pixels,
  };
  swb_ego_state ego = {.struct_size = sizeof ego, .time_ns = time_ns, .speed_mps = 10.0f};
  swb_drive_input input = drive_input(program->sequence, &ego);
  input.cameras = &camera;
  input.cameras_len = 1;
  program->output.struct_size = sizeof program->output;
  return swb_vehicle_step(vehicle, &input, &program->output);
}

/* Drives until the update is in this state. Events of the driving function's time carry the program's own. */
static void until(swb_vehicle *vehicle, struct program *program, uint32_t update) {
  swb_event event = {.struct_size = sizeof event};
  time_t give_up = time(NULL) + PATIENCE_S;
  while (event.kind != SWB_EVENT_UPDATE || event.update != update) {
    CHECK(time(NULL) < give_up);
    step(vehicle, program);
    CHECK_RESULT(swb_vehicle_wait_event(vehicle, 2, &event), SWB_OK);
    if (event.kind != SWB_EVENT_NONE) {
      printf("%s %s %s\n", swb_event_name(event.kind, event.update), event.model, event.text);
      fflush(stdout);
    }
    CHECK(event.kind == SWB_EVENT_NONE || event.time_s >= (int64_t)time(NULL) + AHEAD_S - PATIENCE_S);
    CHECK(event.kind != SWB_EVENT_UPDATE || event.result == 0);
  }
  CHECK(strcmp(event.model, "vla-1") == 0 && strcmp(event.version, "1.0.0") == 0);
}

/* Drives until the download waits for a network. */
static void until_paused(swb_vehicle *vehicle, struct program *program) {
  swb_event event = {.struct_size = sizeof event};
  time_t give_up = time(NULL) + PATIENCE_S;
  while (event.kind != SWB_EVENT_DOWNLOAD_PAUSED) {
    CHECK(time(NULL) < give_up);
    step(vehicle, program);
    CHECK_RESULT(swb_vehicle_wait_event(vehicle, 2, &event), SWB_OK);
  }
  CHECK(event.result == 505 && strcmp(event.reason, "network_not_allowed") == 0);
}

int main(int count, char **arguments) {
  CHECK(count == 6);
  static struct program program;
  swb_vehicle_config config = vehicle_config(arguments);
  config.enrollment_token = arguments[5];
  config.poll_interval_s = 1;
  config.activation = SWB_ACTIVATE_MANUALLY;
  config.userdata = &program;
  config.log = keep_line;
  config.log_level = SWB_LOG_DEBUG;
  config.clock = tell_time;
  config.consent = decide;
  config.vehicle_state = tell_state;
  config.network = allow;
  /* Nobody listens there: the server itself goes on. */
  static const char *const mirrors[] = {"http://127.0.0.1:9"};
  config.mirrors = mirrors;
  config.mirrors_len = 1;
  config.download_bytes_per_s_max = 1 << 30;
  swb_vehicle *vehicle = NULL;
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_OK);
  atomic_store(&program.vehicle, vehicle);

  until(vehicle, &program, SWB_UPDATE_OFFERED);
  until_paused(vehicle, &program);
  CHECK_RESULT(swb_vehicle_check_now(vehicle), SWB_OK);
  until(vehicle, &program, SWB_UPDATE_ARMED);
  CHECK(atomic_load(&program.offers) == 2);
  CHECK(atomic_load(&program.questions) > 2);
  CHECK(atomic_load(&program.looks) > 0);
  CHECK(atomic_load(&program.refused) > 0);
  swb_status status = {.struct_size = sizeof status};
  CHECK_RESULT(swb_vehicle_status(vehicle, &status), SWB_OK);
  CHECK(status.update == SWB_UPDATE_ARMED && status.enrolled && status.running && status.active.generation == 0);
  CHECK(status.downloaded_bytes > 0 && status.reused_bytes == 0);
  CHECK(strcmp(status.candidate_model, "vla-1") == 0 && strcmp(status.candidate_version, "1.0.0") == 0);
  CHECK_RESULT(step(vehicle, &program), SWB_ERROR_NO_MODEL);

  CHECK_RESULT(swb_vehicle_activate(vehicle), SWB_OK);
  until(vehicle, &program, SWB_UPDATE_CONFIRMED);
  CHECK_RESULT(step(vehicle, &program), SWB_OK);
  const swb_drive_output *output = &program.output;
  CHECK(output->control_valid == 1 && output->takeover_level == SWB_TAKEOVER_NONE);
  CHECK(output->curvature_1pm == 0.015f && output->acceleration_mps2 == 0.0f);
  CHECK(output->trajectory_len == 20 && output->trajectory[0].x_m > 0.0f && output->trajectory[19].time_s > output->trajectory[0].time_s);
  CHECK(output->sequence == program.sequence && output->valid_until_ns > 0);
  CHECK(strcmp(output->model.name, "vla-1") == 0 && strcmp(output->model.version, "1.0.0") == 0 && output->model.release_counter == 1);
  CHECK_RESULT(swb_vehicle_status(vehicle, &status), SWB_OK);
  CHECK(status.active.generation == output->model.generation && memcmp(status.active.sha256, output->model.sha256, 32) == 0);

  int lines = atomic_load(&program.lines);
  swb_vehicle_free(vehicle);
  CHECK(lines > 0);
  return 0;
}
