#include "simulator.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OBSERVATION_BYTES = 80, CONTROL_BYTES = 32, PROTOCOL_VERSION = 1, PIXELS_MAX = 64 << 20 };
enum { OBSERVATION_MAGIC = 0x4F425753, CONTROL_MAGIC = 0x43425753 };
enum { FLAG_OVER = 1 << 1, FLAG_END_RUN = 1 << 0 };

/* The wire is little-endian whatever this machine is. */
static uint64_t get(const uint8_t *at, int bytes) {
  uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; i--) {
    value = value << 8 | at[i];
  }
  return value;
}

static void put(uint8_t *at, int bytes, uint64_t value) {
  for (int i = 0; i < bytes; i++) {
    at[i] = (uint8_t)(value >> (8 * i));
  }
}

static float get_float(const uint8_t *at) {
  uint32_t bits = (uint32_t)get(at, 4);
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void put_float(uint8_t *at, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  put(at, 4, bits);
}

static bool read_all(int file, uint8_t *into, size_t bytes) {
  while (bytes > 0) {
    ssize_t got = read(file, into, bytes);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      fprintf(stderr, "c-vehicle: the simulator stopped answering: %s\n", got == 0 ? "it closed its pipe" : strerror(errno));
      return false;
    }
    into += got;
    bytes -= (size_t)got;
  }
  return true;
}

static bool write_all(int file, const uint8_t *from, size_t bytes) {
  while (bytes > 0) {
    ssize_t put_bytes = write(file, from, bytes);
    if (put_bytes < 0 && errno == EINTR) {
      continue;
    }
    if (put_bytes < 0) {
      fprintf(stderr, "c-vehicle: the simulator takes no control: %s\n", strerror(errno));
      return false;
    }
    from += put_bytes;
    bytes -= (size_t)put_bytes;
  }
  return true;
}

static void become_simulator(int input, int output, const char *const arguments[]) {
  if (dup2(input, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0) {
    execv(arguments[0], (char *const *)arguments);
  }
  fprintf(stderr, "c-vehicle: cannot start %s: %s\n", arguments[0], strerror(errno));
  _exit(127);
}

bool simulator_start(struct simulator *simulator, const char *const arguments[]) {
  int observations[2], controls[2];
  memset(simulator, 0, sizeof *simulator);
  if (pipe(observations) != 0 || pipe(controls) != 0) {
    perror("c-vehicle: pipe");
    return false;
  }
  /* Our ends must not leak into the child, or it would never see that we are gone. */
  fcntl(observations[0], F_SETFD, FD_CLOEXEC);
  fcntl(controls[1], F_SETFD, FD_CLOEXEC);
  simulator->process = fork();
  if (simulator->process < 0) {
    perror("c-vehicle: fork");
    return false;
  }
  if (simulator->process == 0) {
    become_simulator(controls[0], observations[1], arguments);
  }
  close(observations[1]);
  close(controls[0]);
  simulator->from_simulator = observations[0];
  simulator->to_simulator = controls[1];
  return true;
}

static bool reserve_pixels(struct simulator *simulator, size_t bytes) {
  if (bytes <= simulator->pixels_capacity) {
    return true;
  }
  uint8_t *larger = bytes <= PIXELS_MAX ? realloc(simulator->pixels, bytes) : NULL;
  if (larger == NULL) {
    fprintf(stderr, "c-vehicle: no memory for an image of %zu bytes\n", bytes);
    return false;
  }
  simulator->pixels = larger;
  simulator->pixels_capacity = bytes;
  return true;
}

bool simulator_observe(struct simulator *simulator, struct observation *observation) {
  uint8_t header[OBSERVATION_BYTES];
  if (!read_all(simulator->from_simulator, header, sizeof header)) {
    return false;
  }
  if (get(header, 4) != OBSERVATION_MAGIC || get(header + 4, 2) != PROTOCOL_VERSION || get(header + 6, 2) != OBSERVATION_BYTES) {
    fprintf(stderr, "c-vehicle: the simulator speaks another protocol\n");
    return false;
  }
  size_t payload = (size_t)get(header + 36, 4);
  if (!reserve_pixels(simulator, payload) || !read_all(simulator->from_simulator, simulator->pixels, payload)) {
    return false;
  }
  *observation = (struct observation){
      .sequence = get(header + 8, 8),
      .width = (uint32_t)get(header + 24, 4),
      .height = (uint32_t)get(header + 28, 4),
      .nv12 = get(header + 32, 4) == 1,
      .pixels = simulator->pixels,
      .pixels_len = payload,
      .route = (uint32_t)get(header + 40, 4),
      .over = (get(header + 44, 4) & FLAG_OVER) != 0,
      .speed_mps = get_float(header + 48),
      .acceleration_mps2 = get_float(header + 52),
      .lateral_acceleration_mps2 = get_float(header + 56),
      .yaw_rate_radps = get_float(header + 60),
      .steering_rad = get_float(header + 64),
  };
  return true;
}

bool simulator_actuate(struct simulator *simulator, uint64_t sequence, const struct actuation *actuation) {
  uint8_t message[CONTROL_BYTES] = {0};
  put(message, 4, CONTROL_MAGIC);
  put(message + 4, 2, PROTOCOL_VERSION);
  put(message + 6, 2, CONTROL_BYTES);
  put(message + 8, 8, sequence);
  put_float(message + 16, actuation->curvature_1pm);
  put_float(message + 20, actuation->acceleration_mps2);
  put(message + 24, 4, actuation->end_run ? FLAG_END_RUN : 0);
  put(message + 28, 4, actuation->mark);
  return write_all(simulator->to_simulator, message, sizeof message);
}

bool simulator_stop(struct simulator *simulator) {
  int status = 0;
  close(simulator->to_simulator);
  close(simulator->from_simulator);
  free(simulator->pixels);
  simulator->pixels = NULL;
  while (waitpid(simulator->process, &status, 0) < 0) {
    if (errno != EINTR) {
      return false;
    }
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
