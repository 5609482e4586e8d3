/* The road: a child process that renders what the camera sees and moves the vehicle as it is told.
 *
 * In a vehicle this file is the camera driver and the actuators. The protocol is described in examples/road-sim/src/bridge.rs. */
#ifndef SIMULATOR_H
#define SIMULATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct simulator {
  pid_t process;
  int from_simulator; /* observations are read here */
  int to_simulator;   /* controls are written here */
  uint8_t *pixels;    /* of the newest observation; grows as needed */
  size_t pixels_capacity;
};

/* What the sensors say at one step. Axes and units are those of switchback.h. */
struct observation {
  uint64_t sequence;
  uint32_t width, height;
  bool nv12;
  const uint8_t *pixels;
  size_t pixels_len;
  uint32_t route; /* SIMULATOR_ROUTE_... */
  bool over;      /* the run has ended; there are no pixels and no control is expected */
  float speed_mps, acceleration_mps2, lateral_acceleration_mps2, yaw_rate_radps, steering_rad;
};

enum { SIMULATOR_ROUTE_FOLLOW = 0, SIMULATOR_ROUTE_LEFT = 1, SIMULATOR_ROUTE_RIGHT = 2, SIMULATOR_ROUTE_STOP = 3 };

struct actuation {
  float curvature_1pm, acceleration_mps2;
  uint32_t mark; /* kept in the simulator's own log: here the generation of the model that answered */
  bool end_run;
};

/* Starts `arguments[0]`. Returns false after printing why. The fork comes before the library's threads: call this first. */
bool simulator_start(struct simulator *simulator, const char *const arguments[]);

/* Waits for the next observation. Its pixels are valid until the next call. Returns false after printing why. */
bool simulator_observe(struct simulator *simulator, struct observation *observation);

/* Answers the observation `sequence`; the simulator then moves on by 50 ms. */
bool simulator_actuate(struct simulator *simulator, uint64_t sequence, const struct actuation *actuation);

/* Closes the pipes and waits for the process. Returns false if it did not end well. */
bool simulator_stop(struct simulator *simulator);

#endif
