/* A vehicle whose ONNX Runtime is not where it should be. */
#include "vehicle.h"

int main(int count, char **arguments) {
  CHECK(count == 5);
  swb_vehicle *vehicle = NULL;
  swb_vehicle_config config = vehicle_config(arguments);
  config.runtime_path = "/nowhere/libonnxruntime.so.1";
  int32_t result = swb_vehicle_open(&config, &vehicle);
  CHECK(strcmp(swb_result_name(result), "SWB_ERROR_RUNTIME") == 0);
  CHECK(vehicle == NULL);
  char text[512];
  swb_last_error(text, sizeof text);
  CHECK(strstr(text, "/nowhere/libonnxruntime.so.1") != NULL);
  return 0;
}
