/* Opens the vehicle that tests/c.rs prepared: arguments are STORE DIRECTOR_ROOT IMAGE_ROOT SERVER [TOKEN]. */
#ifndef VEHICLE_H
#define VEHICLE_H

#include "check.h"

static inline swb_vehicle_config vehicle_config(char **arguments) {
  swb_vehicle_config config = {
      .struct_size = sizeof config,
      .abi_version = SWB_ABI_VERSION,
      .store_dir = arguments[1],
      .director_root = arguments[2],
      .image_root = arguments[3],
      .server_url = arguments[4],
      .vehicle_id = "vehicle-c",
      .ecu_serial = "primary-c",
      .hardware_id = "drive-a",
      .tier = "ultra",
      .region = "eu",
  };
  return config;
}

static inline swb_vehicle *open_vehicle(char **arguments) {
  swb_vehicle *vehicle = NULL;
  swb_vehicle_config config = vehicle_config(arguments);
  CHECK_RESULT(swb_vehicle_open(&config, &vehicle), SWB_OK);
  CHECK(vehicle != NULL);
  return vehicle;
}

/* A complete input that points to what the caller keeps. */
static inline swb_drive_input drive_input(uint64_t sequence, const swb_ego_state *ego) {
  swb_drive_input input = {
      .struct_size = sizeof input,
      .sequence = sequence,
      .time_ns = (int64_t)sequence * 50000000,
      .requested_mode = SWB_MODE_ENGAGED,
      .ego = ego,
  };
  return input;
}

#endif
