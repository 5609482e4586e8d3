/* What the vehicle is told at start. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct options {
  /* Where updates come from and where they are kept. */
  const char *server, *store, *director_root, *image_root, *token, *runtime;
  uint32_t poll_s;
  uint32_t activation; /* SWB_ACTIVATE_... */
  /* Which vehicle this is. */
  const char *vehicle_id, *ecu_serial, *hardware, *tier, *region, *model_line;
  /* The drive. */
  const char *road_sim, *seed, *length_m, *sim_log, *log;
  bool night, nv12;
  double seconds;              /* end after so many seconds of driving; 0: at the end of the road */
  const char *until_confirmed; /* or as soon as this version is confirmed */
  double wait_model_s;         /* how long to stand and wait for a first model */
};

/* Returns false after printing what is wrong or, for --help, how to use the program. */
bool options_parse(struct options *options, int count, char **words);

#endif
