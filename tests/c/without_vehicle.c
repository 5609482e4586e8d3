/* Everything that can be got wrong before there is a vehicle. */
#include "check.h"

static void versions_agree(void) {
  CHECK(swb_abi_version() == SWB_ABI_VERSION);
  CHECK(SWB_ABI_VERSION == ((SWB_ABI_MAJOR << 16) | SWB_ABI_MINOR));
  CHECK(strlen(swb_version_string()) >= strlen("0.0.0"));
}

static void every_result_has_a_name(void) {
  CHECK(strcmp(swb_result_name(SWB_OK), "SWB_OK") == 0);
  CHECK(strcmp(swb_result_name(SWB_ERROR_NO_MODEL), "SWB_ERROR_NO_MODEL") == 0);
  CHECK(strcmp(swb_result_name(-1), "unknown result") == 0);
  CHECK(strcmp(swb_result_name(INT32_MAX), "unknown result") == 0);
  CHECK(strcmp(swb_result_name(152), "SWB_ERROR_TRUST") == 0);
  CHECK(strcmp(swb_event_name(SWB_EVENT_UPDATE, SWB_UPDATE_ROLLED_BACK), "rolled-back") == 0);
  CHECK(strcmp(swb_event_name(SWB_EVENT_CHECK_FAILED, 0), "check-failed") == 0);
  CHECK(strcmp(swb_event_name(UINT32_MAX, 0), "unknown") == 0);
  CHECK(strcmp(swb_event_name(SWB_EVENT_UPDATE, UINT32_MAX), "unknown") == 0);
}

static void there_is_no_text_before_the_first_error(void) {
  char text[8] = "before";
  CHECK(swb_last_error(text, sizeof text) == 0);
  CHECK(text[0] == '\0');
  CHECK(swb_last_error(NULL, 0) == 0);
}

static void the_text_is_cut_to_the_buffer(void) {
  char text[8];
  memset(text, '?', sizeof text);
  CHECK_RESULT(swb_vehicle_open(NULL, NULL), SWB_ERROR_NULL);
  CHECK(swb_last_error(NULL, 0) == strlen("out is NULL"));
  CHECK(swb_last_error(text, 5) == strlen("out is NULL"));
  CHECK(memcmp(text, "out \0???", 8) == 0);
}

static void null_is_refused(void) {
  swb_vehicle *vehicle = (swb_vehicle *)1;
  swb_drive_input input = {.struct_size = sizeof input, .sequence = 42, .requested_mode = SWB_MODE_ENGAGED};
  swb_drive_output output = {.struct_size = sizeof output};
  swb_status status = {.struct_size = sizeof status};
  swb_event event = {.struct_size = sizeof event};

  CHECK_RESULT(swb_vehicle_open(NULL, &vehicle), SWB_ERROR_NULL);
  CHECK_TEXT("config is NULL");
  CHECK(vehicle == NULL);
  CHECK_RESULT(swb_vehicle_step(NULL, &input, NULL), SWB_ERROR_NULL);
  CHECK_TEXT("output is NULL");
  CHECK_RESULT(swb_vehicle_status(NULL, &status), SWB_ERROR_NULL);
  CHECK_TEXT("vehicle is NULL");
  CHECK_RESULT(swb_vehicle_status(NULL, NULL), SWB_ERROR_NULL);
  CHECK_TEXT("status is NULL");
  CHECK_RESULT(swb_vehicle_next_event(NULL, &event), SWB_ERROR_NULL);
  CHECK_RESULT(swb_vehicle_wait_event(NULL, 1000, &event), SWB_ERROR_NULL);
  CHECK_RESULT(swb_vehicle_next_event(NULL, NULL), SWB_ERROR_NULL);
  CHECK_TEXT("event is NULL");
  CHECK_RESULT(swb_vehicle_wait_event(NULL, 1000, NULL), SWB_ERROR_NULL);
  CHECK_TEXT("event is NULL");
  CHECK_RESULT(swb_vehicle_check_now(NULL), SWB_ERROR_NULL);
  CHECK_RESULT(swb_vehicle_activate(NULL), SWB_ERROR_NULL);
  CHECK_RESULT(swb_vehicle_install_offline(NULL, "update.tar"), SWB_ERROR_NULL);
  swb_vehicle_free(NULL);

  /* Even here the driver is told to take over. */
  CHECK_RESULT(swb_vehicle_step(NULL, &input, &output), SWB_ERROR_NULL);
  CHECK(output.struct_size == sizeof output && output.sequence == 42 && output.control_valid == 0);
  CHECK(output.faults == SWB_FAULT_CALL && output.takeover_level == SWB_TAKEOVER_IMMEDIATE);
  CHECK(output.takeover_reason == SWB_TAKEOVER_REASON_CALL && output.minimal_risk == SWB_MINIMAL_RISK_STRAIGHT_STOP);
}

static void a_wrong_struct_size_is_refused(void) {
  swb_vehicle *vehicle;
  swb_vehicle_config config = {.abi_version = SWB_ABI_VERSION};
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_STRUCT_SIZE);
  config.struct_size = offsetof(swb_vehicle_config, mirrors) - 1;
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_STRUCT_SIZE);
  config.struct_size = (size_t)-1;
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_STRUCT_SIZE);

  /* Nothing can be written into an output of unknown size. */
  swb_drive_output output;
  memset(&output, 0x55, sizeof output);
  output.struct_size = 8;
  swb_drive_output before = output;
  CHECK_RESULT(swb_vehicle_step(NULL, NULL, &output), SWB_ERROR_STRUCT_SIZE);
  CHECK(memcmp(&before, &output, sizeof output) == 0);
}

static void a_caller_of_another_abi_is_refused(void) {
  swb_vehicle *vehicle;
  swb_vehicle_config config = {.struct_size = sizeof config, .abi_version = (SWB_ABI_MAJOR + 1) << 16};
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_ABI);
  CHECK_TEXT("the program was compiled for ABI 2.0, this library has 1.0");
  config.abi_version = 0;
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_ABI);
}

static void a_config_without_its_texts_is_refused(void) {
  swb_vehicle *vehicle;
  swb_vehicle_config config = {.struct_size = sizeof config, .abi_version = SWB_ABI_VERSION};
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_NULL);
  CHECK_TEXT("swb_vehicle_config.store_dir is NULL");
  config.store_dir = "\xff\xfe";
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_VALUE);
  CHECK_TEXT("swb_vehicle_config.store_dir is not UTF-8");
  CHECK(vehicle == NULL);
  const char *const mirrors[] = {NULL};
  config.mirrors = mirrors;
  config.mirrors_len = SWB_MIRRORS_MAX + 1;
  config.store_dir = "/dev/null/store";
  config.server_url = config.director_root = config.image_root = config.vehicle_id = config.ecu_serial = "/dev/null";
  config.hardware_id = config.tier = config.region = "x";
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_VALUE);
  CHECK_TEXT("swb_vehicle_config.mirrors_len cannot be 17");
  config.mirrors_len = 1;
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_NULL);
  CHECK_TEXT("swb_vehicle_config.mirrors is NULL");
  /* A program from before there were mirrors owns fewer bytes, and what lies behind them is not looked at. */
  config.struct_size = offsetof(swb_vehicle_config, mirrors);
  CHECK(swb_vehicle_open(&config, &vehicle) != SWB_ERROR_NULL);
  config.struct_size = sizeof config;
  config.activation = 99;
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_ERROR_VALUE);
  CHECK_TEXT("swb_vehicle_config.activation cannot be 99");
}

static void a_newer_caller_reads_zero_where_the_library_knows_nothing(void) {
  struct {
    swb_drive_output known;
    uint8_t newer[16];
  } output;
  memset(&output, 0x55, sizeof output);
  output.known.struct_size = sizeof output;
  CHECK_RESULT(swb_vehicle_step(NULL, NULL, &output.known), SWB_ERROR_NULL);
  static const uint8_t zero[16];
  CHECK(memcmp(output.newer, zero, sizeof zero) == 0);
  CHECK(output.known.struct_size == sizeof output && output.known.takeover_level == SWB_TAKEOVER_IMMEDIATE);
}

int main(void) {
  there_is_no_text_before_the_first_error();
  versions_agree();
  every_result_has_a_name();
  the_text_is_cut_to_the_buffer();
  null_is_refused();
  a_wrong_struct_size_is_refused();
  a_caller_of_another_abi_is_refused();
  a_config_without_its_texts_is_refused();
  a_newer_caller_reads_zero_where_the_library_knows_nothing();
  return 0;
}
