/* What a vehicle without a model answers, and what it refuses. */
#include "vehicle.h"

static const swb_ego_state EGO = {.struct_size = sizeof EGO, .speed_mps = 8.0f};

/* On the heap with not a byte to spare, so that valgrind sees a write beyond. */
static swb_drive_output *new_output(void) {
  swb_drive_output *output = malloc(sizeof *output);
  CHECK(output != NULL);
  memset(output, 0x55, sizeof *output);
  output->struct_size = sizeof *output;
  return output;
}

static void check_asks_to_take_over(const swb_drive_output *output, uint64_t sequence, uint64_t fault, uint32_t reason) {
  CHECK(output->struct_size == sizeof *output);
  CHECK(output->sequence == sequence);
  CHECK(output->control_valid == 0);
  CHECK((output->faults & fault) == fault);
  CHECK(output->takeover_level == SWB_TAKEOVER_IMMEDIATE);
  CHECK(output->takeover_reason == reason);
  CHECK(output->minimal_risk != SWB_MINIMAL_RISK_NONE);
  CHECK(output->trajectory_len == 0 && output->actions_len == 0 && output->model.generation == 0);
  CHECK(output->curvature_1pm == 0.0f && output->acceleration_mps2 == 0.0f);
}

static void a_step_without_a_model_asks_the_driver_to_take_over(swb_vehicle *vehicle, swb_drive_output *output) {
  swb_drive_input input = drive_input(1, &EGO);
  CHECK_RESULT(swb_vehicle_step(vehicle, &input, output), SWB_ERROR_NO_MODEL);
  CHECK_TEXT("no model is active");
  check_asks_to_take_over(output, 1, SWB_FAULT_NO_MODEL, SWB_TAKEOVER_REASON_NO_MODEL);
}

static void nothing_is_asked_of_the_driver_in_standby(swb_vehicle *vehicle, swb_drive_output *output) {
  swb_drive_input input = drive_input(2, &EGO);
  input.requested_mode = SWB_MODE_STANDBY;
  CHECK_RESULT(swb_vehicle_step(vehicle, &input, output), SWB_ERROR_NO_MODEL);
  CHECK(output->sequence == 2 && output->control_valid == 0 && output->mode == SWB_MODE_STANDBY);
  CHECK(output->takeover_level == SWB_TAKEOVER_NONE && output->minimal_risk == SWB_MINIMAL_RISK_NONE);
  input.ego = NULL;
  CHECK_RESULT(swb_vehicle_step(vehicle, &input, output), SWB_ERROR_NULL);
  CHECK(output->faults == SWB_FAULT_CALL && output->control_valid == 0 && output->mode == SWB_MODE_STANDBY);
  CHECK(output->takeover_level == SWB_TAKEOVER_NONE && output->minimal_risk == SWB_MINIMAL_RISK_NONE);
}

/* Each refused input leaves an output that asks to take over. */
static void check_refused(swb_vehicle *vehicle, const swb_drive_input *input, int32_t result, const char *text) {
  swb_drive_output *output = new_output();
  CHECK_RESULT(swb_vehicle_step(vehicle, input, output), result);
  CHECK_TEXT(text);
  check_asks_to_take_over(output, input == NULL || input->struct_size != sizeof *input ? 0 : input->sequence, SWB_FAULT_CALL,
                          SWB_TAKEOVER_REASON_CALL);
  free(output);
}

static void an_input_that_cannot_be_read_is_refused(swb_vehicle *vehicle) {
  uint8_t pixels[6 * 4] = {0};
  swb_camera_frame cameras[2] = {{.struct_size = sizeof *cameras, .format = SWB_PIXEL_FORMAT_RGB8, .data = pixels, .data_len = sizeof pixels}};
  cameras[1] = cameras[0];
  swb_signal signal = {.struct_size = sizeof signal};
  swb_route route = {.struct_size = sizeof route};
  swb_driver_state driver = {.struct_size = sizeof driver};
  swb_ego_state short_ego = {.struct_size = 4};
  swb_drive_input input = drive_input(2, &EGO);

  check_refused(vehicle, NULL, SWB_ERROR_NULL, "input is NULL");
  input.struct_size = 16;
  check_refused(vehicle, &input, SWB_ERROR_STRUCT_SIZE, "swb_drive_input.struct_size is 16, at least 80 is needed");
  input = drive_input(2, NULL);
  check_refused(vehicle, &input, SWB_ERROR_NULL, "swb_drive_input.ego is NULL");
  input = drive_input(2, &short_ego);
  check_refused(vehicle, &input, SWB_ERROR_STRUCT_SIZE, "swb_ego_state.struct_size is 4, at least 40 is needed");
  input = drive_input(2, &EGO);
  input.requested_mode = 7;
  check_refused(vehicle, &input, SWB_ERROR_VALUE, "swb_drive_input.requested_mode cannot be 7");

  input = drive_input(2, &EGO);
  input.cameras_len = 1;
  check_refused(vehicle, &input, SWB_ERROR_NULL, "swb_drive_input.cameras is NULL");
  input.cameras = cameras;
  input.cameras_len = SWB_CAMERAS_MAX + 1;
  check_refused(vehicle, &input, SWB_ERROR_VALUE, "swb_drive_input.cameras_len cannot be 17");
  input.cameras_len = 2;
  cameras[1].camera_id = 3;
  cameras[1].format = 9;
  check_refused(vehicle, &input, SWB_ERROR_VALUE, "swb_camera_frame.format of camera 3 cannot be 9");
  cameras[1].format = SWB_PIXEL_FORMAT_NV12;
  cameras[1].struct_size = sizeof *cameras + 8;
  check_refused(vehicle, &input, SWB_ERROR_STRUCT_SIZE, "swb_camera_frame.struct_size is 72, at least 64 is needed");
  cameras[1].struct_size = sizeof *cameras;
  cameras[1].data_len = (size_t)-1;
  check_refused(vehicle, &input, SWB_ERROR_VALUE, "swb_camera_frame.data_len of camera 3 cannot be 18446744073709551615");
  cameras[1].data = NULL;
  cameras[1].data_len = 1;
  check_refused(vehicle, &input, SWB_ERROR_NULL, "swb_camera_frame.data of camera 3 is NULL");

  input = drive_input(2, &EGO);
  input.signals_len = 1;
  check_refused(vehicle, &input, SWB_ERROR_NULL, "swb_drive_input.signals is NULL");
  input.signals = &signal;
  check_refused(vehicle, &input, SWB_ERROR_NULL, "swb_signal.name is NULL");
  signal.name = "\xc3";
  check_refused(vehicle, &input, SWB_ERROR_VALUE, "swb_signal.name is not UTF-8");

  input = drive_input(2, &EGO);
  input.route = &route;
  route.command = 5;
  check_refused(vehicle, &input, SWB_ERROR_VALUE, "swb_route.command cannot be 5");
  input = drive_input(2, &EGO);
  input.driver = &driver;
  driver.eyes_on_road = 3;
  check_refused(vehicle, &input, SWB_ERROR_VALUE, "swb_driver_state.eyes_on_road cannot be 3");
  driver.eyes_on_road = SWB_NO;
  driver.overrides = 2;
  check_refused(vehicle, &input, SWB_ERROR_VALUE, "swb_driver_state.overrides cannot be 2");
}

static void the_status_tells_that_there_is_no_model(swb_vehicle *vehicle) {
  swb_status status = {.struct_size = sizeof status};
  CHECK_RESULT(swb_vehicle_status(vehicle, &status), SWB_OK);
  CHECK(status.active.generation == 0 && status.active.name[0] == '\0');
  CHECK(status.struct_size == sizeof status);
  swb_status wrong = {.struct_size = 3};
  CHECK_RESULT(swb_vehicle_status(vehicle, &wrong), SWB_ERROR_STRUCT_SIZE);
  swb_event wrong_event = {.struct_size = 3};
  CHECK_RESULT(swb_vehicle_next_event(vehicle, &wrong_event), SWB_ERROR_STRUCT_SIZE);
}

static void a_store_is_opened_once(char **arguments) {
  swb_vehicle *second = (swb_vehicle *)1;
  swb_vehicle_config config = vehicle_config(arguments);
  int32_t result = swb_vehicle_open(&config, &second);
  CHECK(result >= SWB_ERROR_STORE && result < SWB_ERROR_STORE + 100);
  CHECK(strcmp(swb_result_name(result), "SWB_ERROR_STORE") == 0);
  CHECK(second == NULL);
}

static void an_offline_update_that_is_none_is_refused(swb_vehicle *vehicle, char **arguments) {
  CHECK_RESULT(swb_vehicle_install_offline(vehicle, NULL), SWB_ERROR_NULL);
  CHECK_TEXT("path is NULL");
  CHECK_RESULT(swb_vehicle_install_offline(vehicle, "\xff"), SWB_ERROR_VALUE);
  CHECK_RESULT(swb_vehicle_install_offline(vehicle, "/nowhere/update.tar"), SWB_ERROR_FETCH + 40);
  /* The root of the provisioning is a file, but no archive. */
  CHECK_RESULT(swb_vehicle_install_offline(vehicle, arguments[3]), SWB_ERROR_FETCH + 41);
}

static void the_files_of_a_config_are_named_when_they_cannot_be_used(char **arguments) {
  swb_vehicle *vehicle = (swb_vehicle *)1;
  swb_vehicle_config config = vehicle_config(arguments);
  config.provisioned_dir = "/nowhere";
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_FILE);
  CHECK_TEXT("cannot read swb_vehicle_config.provisioned_dir /nowhere: there is no metadata in its folders director and image");
  config.provisioned_dir = NULL;
  config.provisioned_time_s = UINT64_C(1800000000000); /* Milliseconds. */
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_VALUE);
  CHECK_TEXT("swb_vehicle_config.provisioned_time_s cannot be 1800000000000");
  config.provisioned_time_s = 0;
  config.repository_map = arguments[3]; /* A root is no map. */
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_VEHICLE);
  CHECK(vehicle == NULL);
}

int main(int count, char **arguments) {
  CHECK(count == 5);
  swb_drive_output *output = new_output();
  swb_vehicle *vehicle = open_vehicle(arguments);
  a_step_without_a_model_asks_the_driver_to_take_over(vehicle, output);
  nothing_is_asked_of_the_driver_in_standby(vehicle, output);
  an_input_that_cannot_be_read_is_refused(vehicle);
  the_status_tells_that_there_is_no_model(vehicle);
  a_store_is_opened_once(arguments);
  CHECK_RESULT(swb_vehicle_check_now(vehicle), SWB_OK);
  CHECK_RESULT(swb_vehicle_activate(vehicle), SWB_OK);
  an_offline_update_that_is_none_is_refused(vehicle, arguments);
  swb_vehicle_free(vehicle);
  /* The store is released with the vehicle. */
  swb_vehicle_free(open_vehicle(arguments));
  the_files_of_a_config_are_named_when_they_cannot_be_used(arguments);
  free(output);
  return 0;
}
