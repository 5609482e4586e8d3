#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <switchback.h>

static const char USAGE[] =
    "usage: c-vehicle --road-sim PROGRAM --server URL --store DIR --director-root FILE --image-root FILE [OPTIONS]\n"
    "\n"
    "updates    --server URL             address of switchback-server\n"
    "           --store DIR              where models and state are kept; made if missing\n"
    "           --director-root FILE     trusted root of the Director, as provisioned\n"
    "           --image-root FILE        trusted root of the Image repository, as provisioned\n"
    "           --token TEXT             one-time token of the first enrollment\n"
    "           --runtime FILE           ONNX Runtime library; default: ORT_DYLIB_PATH, then the loader's search path\n"
    "           --poll SECONDS           time between two questions to the server (default 5)\n"
    "           --activate WHEN          disengaged (default), standstill, now or manual\n"
    "vehicle    --vehicle-id, --ecu-serial, --hardware, --tier, --region, --model-line TEXT\n"
    "drive      --road-sim PROGRAM       the simulator\n"
    "           --seed N, --length METERS, --night, --nv12\n"
    "           --seconds N              end after N seconds of driving\n"
    "           --until-confirmed V      end when version V is confirmed; exit code 3 if the drive ends before\n"
    "           --wait-model SECONDS     how long to stand and wait for a first model (default 120)\n"
    "output     --log FILE               one CSV row per frame\n"
    "           --sim-log FILE           the simulator's own record: true path, lane, offset (JSON)\n";

static bool to_number(const char *name, const char *text, double *value) {
  char *end;
  *value = strtod(text, &end);
  if (end == text || *end != '\0' || !(*value >= 0.0) || *value > 1e9) {
    fprintf(stderr, "c-vehicle: %s cannot be '%s'\n", name, text);
    return false;
  }
  return true;
}

static bool to_activation(const char *text, uint32_t *activation) {
  if (strcmp(text, "now") == 0) {
    *activation = SWB_ACTIVATE_NOW;
  } else if (strcmp(text, "disengaged") == 0) {
    *activation = SWB_ACTIVATE_NEXT_DISENGAGED;
  } else if (strcmp(text, "standstill") == 0) {
    *activation = SWB_ACTIVATE_NEXT_STANDSTILL;
  } else if (strcmp(text, "manual") == 0) {
    *activation = SWB_ACTIVATE_MANUALLY;
  } else {
    fprintf(stderr, "c-vehicle: --activate cannot be '%s'\n", text);
    return false;
  }
  return true;
}

static bool is_missing(const char *name, const char *value) {
  if (value == NULL) {
    fprintf(stderr, "c-vehicle: %s is missing; --help shows all options\n", name);
  }
  return value == NULL;
}

bool options_parse(struct options *options, int count, char **words) {
  *options = (struct options){
      .activation = SWB_ACTIVATE_NEXT_DISENGAGED,
      .vehicle_id = "vehicle-1",
      .ecu_serial = "primary-1",
      .hardware = "adc-1",
      .tier = "ultra",
      .region = "eu",
      .model_line = "P7",
      .seed = "1",
      .length_m = "2000",
  };
  double poll_s = 5.0, wait_model_s = 120.0;
  const struct {
    const char *name;
    const char **text;
  } texts[] = {
      {"--server", &options->server},         {"--store", &options->store},           {"--director-root", &options->director_root},
      {"--image-root", &options->image_root}, {"--token", &options->token},           {"--runtime", &options->runtime},
      {"--vehicle-id", &options->vehicle_id}, {"--ecu-serial", &options->ecu_serial}, {"--hardware", &options->hardware},
      {"--tier", &options->tier},             {"--region", &options->region},         {"--model-line", &options->model_line},
      {"--road-sim", &options->road_sim},     {"--seed", &options->seed},             {"--length", &options->length_m},
      {"--sim-log", &options->sim_log},       {"--log", &options->log},               {"--until-confirmed", &options->until_confirmed},
  };
  const struct {
    const char *name;
    double *number;
  } numbers[] = {{"--poll", &poll_s}, {"--seconds", &options->seconds}, {"--wait-model", &wait_model_s}};
  const struct {
    const char *name;
    bool *flag;
  } flags[] = {{"--night", &options->night}, {"--nv12", &options->nv12}};

  for (int at = 1; at < count; at++) {
    const char *name = words[at];
    const char *value = at + 1 < count ? words[at + 1] : NULL;
    bool known = false, takes_value = false;
    if (strcmp(name, "--help") == 0) {
      fputs(USAGE, stdout);
      return false;
    }
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
      if (strcmp(name, flags[i].name) == 0) {
        *flags[i].flag = known = true;
      }
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
      if (strcmp(name, texts[i].name) == 0) {
        *texts[i].text = value;
        known = takes_value = true;
      }
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
      if (strcmp(name, numbers[i].name) == 0) {
        known = takes_value = true;
        if (value != NULL && !to_number(name, value, numbers[i].number)) {
          return false;
        }
      }
    }
    if (strcmp(name, "--activate") == 0) {
      known = takes_value = true;
      if (value != NULL && !to_activation(value, &options->activation)) {
        return false;
      }
    }
    if (!known || (takes_value && value == NULL)) {
      fprintf(stderr, "c-vehicle: %s %s; --help shows all options\n", name, known ? "needs a value" : "is no option");
      return false;
    }
    at += takes_value;
  }
  options->poll_s = (uint32_t)poll_s;
  options->wait_model_s = wait_model_s;
  return !is_missing("--road-sim", options->road_sim) && !is_missing("--server", options->server) &&
         !is_missing("--store", options->store) && !is_missing("--director-root", options->director_root) &&
         !is_missing("--image-root", options->image_root);
}
