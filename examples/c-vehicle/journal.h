/* What the drive looked like: a CSV row per frame for plots, and a summary for people and scripts. */
#ifndef JOURNAL_H
#define JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <switchback.h>

#include "simulator.h"

enum { JOURNAL_LATENCY_US_MAX = 200000 };

struct journal {
  FILE *rows; /* NULL: no CSV */
  double x_m, y_m, heading_rad;
  uint64_t frames, missed_frames, swaps, fallbacks, invalid_frames, takeover_frames, missed_at_swap;
  uint32_t step_us_max;
  uint32_t step_us_counts[JOURNAL_LATENCY_US_MAX + 1]; /* steps by whole microseconds; the last counts all that took longer */
  swb_model_identity model;                            /* that answered last */
};

/* One frame as it went. */
struct journal_row {
  double time_s;
  const struct observation *seen;
  const swb_drive_output *answer;
  const struct actuation *applied;
  uint32_t step_us;
  uint32_t missed; /* frames that were due before the step ended */
};

bool journal_open(struct journal *journal, const char *csv_path);
void journal_add(struct journal *journal, const struct journal_row *row);

/* Hands the rows so far to the system, so that others can follow the drive. Call it when there is time. */
void journal_flush(struct journal *journal);

/* Prints the summary as one line of JSON. `end` says why the drive ended. */
void journal_summary(const struct journal *journal, const char *vehicle_id, const char *end, double seconds);

/* Returns false when the CSV could not be written completely. */
bool journal_close(struct journal *journal);

#endif
