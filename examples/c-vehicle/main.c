/* A vehicle in C: drives the simulator at 20 Hz with whatever model is installed, and takes an update on the way.
 *
 * It uses nothing but switchback.h and POSIX. Read it from the bottom up: main, drive, step. What is particular to this library is
 *   open_vehicle   how a vehicle is opened, with the callbacks
 *   step           how one frame is answered, and what to do when the answer must not be used
 *   tell_events    how the program follows an update
 * the rest is a camera, a clock and a log. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <switchback.h>

#include "journal.h"
#include "options.h"
#include "simulator.h"

enum { FRAME_NS = 50 * 1000 * 1000, CAMERA_FRONT = 0, EXIT_OPTIONS = 2, EXIT_NOT_REACHED = 3, EXIT_NOT_ENROLLED = 4 };

/* What the vehicle's own braking does when the library asks for a minimal risk manoeuvre: a firm, controllable stop. */
static const float MINIMAL_RISK_ACCELERATION_MPS2 = -3.0f;

static volatile sig_atomic_t stop_asked;

static void ask_to_stop(int signal_number) {
  (void)signal_number;
  stop_asked = 1;
}

struct program {
  struct options options;
  struct simulator simulator;
  struct journal journal;
  swb_vehicle *vehicle;
  uint64_t sequence;
  int64_t start_ns;
  float curvature_1pm; /* driven last */
  bool confirmed;      /* the version that --until-confirmed names */
  bool not_enrolled;   /* the server refused the token, or the two roots are exchanged */
  /* Written by the driving thread, read by the callback on the library's thread. */
  _Atomic float speed_mps;
  atomic_bool engaged;
};

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sleep_until(int64_t due_ns) {
  struct timespec due = {.tv_sec = due_ns / 1000000000, .tv_nsec = due_ns % 1000000000};
  /* A signal to stop does not cut it short either: the frame that is due then would come from the future. */
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR) {
  }
}

static double seconds_since_start(const struct program *program) { return (double)(now_ns() - program->start_ns) / 1e9; }

/* A failed call says what, by a stable number, and why, by a text of the calling thread. */
static void print_error(const char *what, int32_t result) {
  char text[512] = "";
  swb_last_error(text, sizeof text);
  fprintf(stderr, "c-vehicle: %s: %s (%s, %" PRId32 ")\n", what, text, swb_result_name(result), result);
}

/* ---- callbacks: the library calls these, mostly from its own threads ---- */

static void on_log(void *userdata, uint32_t level, const char *text, size_t text_len) {
  (void)userdata;
  if (level <= SWB_LOG_WARN) {
    fprintf(stderr, "c-vehicle: %.*s\n", (int)text_len, text);
  }
}

/* A real vehicle asks its driver. SWB_CONSENT_LATER is the answer as long as nobody has said yes. */
static uint32_t on_consent(void *userdata, const swb_offer *offer) {
  (void)userdata;
  (void)offer;
  return SWB_CONSENT_GRANTED;
}

static void on_vehicle_state(void *userdata, swb_vehicle_state *state) {
  struct program *program = userdata;
  state->speed_mps = atomic_load(&program->speed_mps);
  state->driving_function_engaged = atomic_load(&program->engaged) ? SWB_YES : SWB_NO;
  state->parked = SWB_NO;
  state->power_suffices = SWB_YES;
}

/* ---- the vehicle ---- */

static bool open_vehicle(struct program *program) {
  const struct options *options = &program->options;
  if (swb_abi_version() >> 16 != SWB_ABI_MAJOR) {
    fprintf(stderr, "c-vehicle: libswitchback %s is not for this program\n", swb_version_string());
    return false;
  }
  swb_vehicle_config config = {
      .struct_size = sizeof config,
      .abi_version = SWB_ABI_VERSION,
      .activation = options->activation,
      .store_dir = options->store,
      .server_url = options->server,
      .director_root = options->director_root,
      .image_root = options->image_root,
      .enrollment_token = options->token,
      .vehicle_id = options->vehicle_id,
      .ecu_serial = options->ecu_serial,
      .hardware_id = options->hardware,
      .tier = options->tier,
      .region = options->region,
      .runtime_path = options->runtime,
      .poll_interval_s = options->poll_s,
      .userdata = program,
      .log = on_log,
      .consent = on_consent,
      .vehicle_state = on_vehicle_state,
  };
  int32_t result = swb_vehicle_open(&config, &program->vehicle);
  if (result != SWB_OK) {
    print_error("cannot open the vehicle", result);
  }
  return result == SWB_OK;
}

static uint32_t route_command(const struct observation *seen) {
  switch (seen->route) {
  case SIMULATOR_ROUTE_LEFT:
    return SWB_ROUTE_LEFT;
  case SIMULATOR_ROUTE_RIGHT:
    return SWB_ROUTE_RIGHT;
  case SIMULATOR_ROUTE_STOP:
    return SWB_ROUTE_STOP;
  default:
    return SWB_ROUTE_FOLLOW;
  }
}

/* Asks the library about one frame. `answer` is written whatever happens. */
static int32_t step(struct program *program, const struct observation *seen, int64_t exposure_ns, uint32_t mode, swb_drive_output *answer) {
  swb_camera_frame camera = {
      .struct_size = sizeof camera,
      .camera_id = CAMERA_FRONT,
      .format = seen->nv12 ? SWB_PIXEL_FORMAT_NV12 : SWB_PIXEL_FORMAT_RGB8,
      .width = seen->width,
      .height = seen->height,
      .stride_bytes = seen->nv12 ? seen->width : 3 * seen->width,
      .frame_id = program->sequence + 1,
      .exposure_ns = exposure_ns,
      .data = seen->pixels,
      .data_len = seen->pixels_len,
  };
  int64_t time_ns = now_ns();
  swb_ego_state ego = {
      .struct_size = sizeof ego,
      .time_ns = time_ns,
      .speed_mps = seen->speed_mps,
      .acceleration_mps2 = seen->acceleration_mps2,
      .lateral_acceleration_mps2 = seen->lateral_acceleration_mps2,
      .yaw_rate_radps = seen->yaw_rate_radps,
      .steering_rad = seen->steering_rad,
  };
  swb_route route = {.struct_size = sizeof route, .command = route_command(seen)};
  swb_drive_input input = {
      .struct_size = sizeof input,
      .sequence = ++program->sequence,
      .time_ns = time_ns,
      .cameras = &camera,
      .cameras_len = 1,
      .requested_mode = mode,
      .ego = &ego,
      .route = &route,
  };
  atomic_store(&program->speed_mps, seen->speed_mps);
  atomic_store(&program->engaged, mode == SWB_MODE_ENGAGED);
  return swb_vehicle_step(program->vehicle, &input, answer);
}

/* The library answers and asks; the vehicle decides what its actuators do. */
static struct actuation actuation(struct program *program, const swb_drive_output *answer) {
  struct actuation applied = {.mark = (uint32_t)answer->model.generation};
  if (answer->control_valid && now_ns() <= answer->valid_until_ns) {
    program->curvature_1pm = answer->curvature_1pm;
    applied.acceleration_mps2 = answer->acceleration_mps2;
  } else {
    /* No usable answer: hold the wheel where it is and come to a stop. A real vehicle warns its driver and follows its own safe-stop path. */
    applied.acceleration_mps2 = MINIMAL_RISK_ACCELERATION_MPS2;
  }
  applied.curvature_1pm = program->curvature_1pm;
  return applied;
}

static void tell_events(struct program *program) {
  swb_event event = {.struct_size = sizeof event};
  while (swb_vehicle_next_event(program->vehicle, &event) == SWB_OK && event.kind != SWB_EVENT_NONE) {
    if (event.kind == SWB_EVENT_CHECKED) {
      continue; /* every few seconds, and nothing new */
    }
    printf("%8.2f s  %-12s %s %s  %s\n", seconds_since_start(program), swb_event_name(event.kind, event.update),
           event.model[0] ? event.model : "-", event.version[0] ? event.version : "-", event.text);
    program->not_enrolled |= event.kind == SWB_EVENT_ENROLLMENT_FAILED;
    if (event.kind == SWB_EVENT_UPDATE && event.update == SWB_UPDATE_CONFIRMED && program->options.until_confirmed != NULL) {
      program->confirmed |= strcmp(event.version, program->options.until_confirmed) == 0;
    }
  }
  fflush(stdout);
}

/* Whether the server knows the vehicle; says why, if it does not. */
static bool is_enrolled(struct program *program) {
  swb_status status = {.struct_size = sizeof status};
  if (swb_vehicle_status(program->vehicle, &status) != SWB_OK || (status.enrolled && !program->not_enrolled)) {
    return true;
  }
  const struct options *options = &program->options;
  fprintf(stderr, program->not_enrolled ? "c-vehicle: %s did not enroll at %s; is the --token unused, and for this --vehicle-id?\n"
                                        : "c-vehicle: %s was not heard of at %s: no answer to it yet, or no --token\n",
          options->vehicle_id, options->server);
  return false;
}

/* Stands at the roadside with the camera running until a model answers: on its first day a vehicle has none. */
static bool wait_for_model(struct program *program, const struct observation *seen) {
  swb_drive_output answer = {.struct_size = sizeof answer};
  int64_t give_up_ns = now_ns() + (int64_t)(program->options.wait_model_s * 1e9);
  for (int64_t due_ns = now_ns(); !stop_asked && due_ns < give_up_ns; due_ns += FRAME_NS) {
    sleep_until(due_ns);
    int32_t result = step(program, seen, due_ns, SWB_MODE_STANDBY, &answer);
    tell_events(program);
    if (result == SWB_OK) {
      return true;
    }
    if (program->not_enrolled) {
      /* A real vehicle is enrolled at the workshop; here there is nothing more to see. */
      return false;
    }
    if (result != SWB_ERROR_NO_MODEL) {
      print_error("a step while standing", result);
    }
  }
  if (!stop_asked) {
    fprintf(stderr, "c-vehicle: no model within %.0f s\n", program->options.wait_model_s);
  }
  return false;
}

/* Drives until something ends it, and says what. */
static const char *drive(struct program *program, struct observation *seen) {
  const struct options *options = &program->options;
  swb_drive_output answer = {.struct_size = sizeof answer};
  int32_t last_result = SWB_OK;
  int64_t due_ns = now_ns();
  int64_t end_ns = options->seconds > 0.0 ? due_ns + (int64_t)(options->seconds * 1e9) : INT64_MAX;
  for (;;) {
    int64_t begun_ns = now_ns();
    int32_t result = step(program, seen, due_ns, SWB_MODE_ENGAGED, &answer);
    int64_t done_ns = now_ns();
    if (result != SWB_OK && result != last_result) {
      print_error("a step", result);
    }
    last_result = result;

    struct actuation applied = actuation(program, &answer);
    applied.end_run = stop_asked || program->confirmed || done_ns >= end_ns;
    struct journal_row row = {
        .time_s = (double)(due_ns - program->start_ns) / 1e9,
        .seen = seen,
        .answer = &answer,
        .applied = &applied,
        .step_us = (uint32_t)((done_ns - begun_ns) / 1000),
        .missed = (uint32_t)((done_ns - due_ns) / FRAME_NS),
    };
    journal_add(&program->journal, &row);
    if (!simulator_actuate(&program->simulator, seen->sequence, &applied)) {
      return "simulator failed";
    }
    if (applied.end_run) {
      return program->confirmed ? "confirmed" : stop_asked ? "stopped" : "time";
    }
    tell_events(program);
    journal_flush(&program->journal);

    /* The next frame is due 50 ms after this one was, however long this one took. Late frames are dropped, not queued. */
    do {
      due_ns += FRAME_NS;
    } while (due_ns + FRAME_NS < now_ns());
    sleep_until(due_ns);
    if (!simulator_observe(&program->simulator, seen)) {
      return "simulator failed";
    }
    if (seen->over) {
      return "road ended";
    }
  }
}

static bool start_simulator(struct program *program) {
  const struct options *options = &program->options;
  const char *arguments[16];
  size_t count = 0;
  arguments[count++] = options->road_sim;
  arguments[count++] = "bridge";
  arguments[count++] = "--seed";
  arguments[count++] = options->seed;
  arguments[count++] = "--length";
  arguments[count++] = options->length_m;
  if (options->night) {
    arguments[count++] = "--night";
  }
  if (options->nv12) {
    arguments[count++] = "--nv12";
  }
  if (options->sim_log != NULL) {
    arguments[count++] = "--log";
    arguments[count++] = options->sim_log;
  }
  arguments[count] = NULL;
  return simulator_start(&program->simulator, arguments);
}

static int run(struct program *program) {
  const char *end = "no model";
  struct observation seen;
  if (!simulator_observe(&program->simulator, &seen) || !open_vehicle(program)) {
    return EXIT_FAILURE;
  }
  if (wait_for_model(program, &seen)) {
    end = drive(program, &seen);
    tell_events(program);
  }
  bool reached = program->options.until_confirmed != NULL ? program->confirmed : strcmp(end, "time") == 0 || strcmp(end, "road ended") == 0;
  bool succeeded = reached || stop_asked;
  if (!stop_asked && !program->confirmed && !is_enrolled(program)) {
    end = "not-enrolled";
  }
  swb_vehicle_free(program->vehicle);
  journal_summary(&program->journal, program->options.vehicle_id, end, seconds_since_start(program));
  if (strcmp(end, "not-enrolled") == 0) {
    return EXIT_NOT_ENROLLED;
  }
  return succeeded ? EXIT_SUCCESS : EXIT_NOT_REACHED;
}

int main(int count, char **words) {
  /* Static, because the latency histogram is too large for a stack. */
  static struct program program;
  if (!options_parse(&program.options, count, words)) {
    return count == 2 && strcmp(words[1], "--help") == 0 ? EXIT_SUCCESS : EXIT_OPTIONS;
  }
  struct sigaction stop = {.sa_handler = ask_to_stop}, ignore = {.sa_handler = SIG_IGN};
  sigaction(SIGINT, &stop, NULL);
  sigaction(SIGTERM, &stop, NULL);
  sigaction(SIGPIPE, &ignore, NULL); /* a simulator that dies is an error of write, not the end of us */
  program.start_ns = now_ns();
  if (!journal_open(&program.journal, program.options.log) || !start_simulator(&program)) {
    return EXIT_FAILURE;
  }
  int status = run(&program);
  bool simulator_ended_well = simulator_stop(&program.simulator);
  bool journal_complete = journal_close(&program.journal);
  return simulator_ended_well && journal_complete ? status : EXIT_FAILURE;
}
