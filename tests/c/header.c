/* The header stands alone, may be read twice, and is C and C++. */
#include <switchback.h>

#include <switchback.h>

/* A pointer to every kind of thing, so that nothing is an unused declaration of an unknown type. */
int header(swb_vehicle **vehicle, const swb_vehicle_config *config, const swb_drive_input *input, swb_drive_output *output);

int header(swb_vehicle **vehicle, const swb_vehicle_config *config, const swb_drive_input *input, swb_drive_output *output) {
  swb_status status;
  swb_event event;
  status.struct_size = sizeof status;
  event.struct_size = sizeof event;
  if (swb_abi_version() >> 16 != SWB_ABI_MAJOR || swb_vehicle_open(config, vehicle) != SWB_OK) {
    return 1;
  }
  output->struct_size = sizeof *output;
  return swb_vehicle_step(*vehicle, input, output) + swb_vehicle_status(*vehicle, &status) + swb_vehicle_next_event(*vehicle, &event);
}
