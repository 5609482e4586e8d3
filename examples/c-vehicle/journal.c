#include "journal.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static const double FRAME_S = 0.05;

bool journal_open(struct journal *journal, const char *csv_path) {
  memset(journal, 0, sizeof *journal);
  if (csv_path == NULL) {
    return true;
  }
  journal->rows = fopen(csv_path, "w");
  if (journal->rows == NULL) {
    fprintf(stderr, "c-vehicle: cannot write %s: %s\n", csv_path, strerror(errno));
    return false;
  }
  setvbuf(journal->rows, NULL, _IOFBF, 1 << 20);
  fputs("time_s,sequence,x_m,y_m,heading_rad,speed_mps,curvature_1pm,acceleration_mps2,step_us,run_us,missed,model,version,generation,"
        "swapped,fell_back,takeover,minimal_risk,faults,control_valid\n",
        journal->rows);
  return true;
}

/* Where the wheels have taken us since the start: the simulator's own log (--sim-log) has the true path. */
static void reckon(struct journal *journal, const struct observation *seen) {
  double middle = journal->heading_rad + seen->yaw_rate_radps * FRAME_S / 2.0;
  journal->x_m += seen->speed_mps * FRAME_S * cos(middle);
  journal->y_m += seen->speed_mps * FRAME_S * sin(middle);
  journal->heading_rad += seen->yaw_rate_radps * FRAME_S;
}

void journal_add(struct journal *journal, const struct journal_row *row) {
  const swb_drive_output *answer = row->answer;
  uint32_t bucket = row->step_us < JOURNAL_LATENCY_US_MAX ? row->step_us : JOURNAL_LATENCY_US_MAX;
  journal->frames++;
  journal->step_us_counts[bucket]++;
  journal->step_us_max = row->step_us > journal->step_us_max ? row->step_us : journal->step_us_max;
  journal->missed_frames += row->missed;
  journal->swaps += answer->swapped && !answer->fell_back;
  journal->missed_at_swap += answer->swapped ? row->missed : 0;
  journal->fallbacks += answer->fell_back;
  journal->invalid_frames += !answer->control_valid;
  journal->takeover_frames += answer->takeover_level >= SWB_TAKEOVER_REQUEST;
  if (answer->model.generation != 0) {
    journal->model = answer->model;
  }
  if (journal->rows != NULL) {
    fprintf(journal->rows, "%.6f,%" PRIu64 ",%.4f,%.4f,%.6f,%.4f,%.6f,%.4f,%" PRIu32 ",%" PRIu64 ",%" PRIu32 ",%s,%s,%" PRIu64, row->time_s,
            answer->sequence, journal->x_m, journal->y_m, journal->heading_rad, (double)row->seen->speed_mps,
            (double)row->applied->curvature_1pm, (double)row->applied->acceleration_mps2, row->step_us, answer->run_ns / 1000, row->missed,
            answer->model.name, answer->model.version, answer->model.generation);
    fprintf(journal->rows, ",%d,%d,%" PRIu32 ",%" PRIu32 ",%" PRIu64 ",%d\n", answer->swapped, answer->fell_back, answer->takeover_level,
            answer->minimal_risk, answer->faults, answer->control_valid);
    /* Once a second, so that others can follow the drive while the disk is hardly felt in the loop. */
    if (journal->frames % 20 == 0) {
      fflush(journal->rows);
    }
  }
  reckon(journal, row->seen);
}

void journal_flush(struct journal *journal) {
  if (journal->rows != NULL) {
    fflush(journal->rows);
  }
}

static uint32_t percentile_us(const struct journal *journal, double share) {
  uint64_t wanted = (uint64_t)ceil(share * (double)journal->frames), seen = 0;
  for (uint32_t us = 0; us < JOURNAL_LATENCY_US_MAX; us++) {
    seen += journal->step_us_counts[us];
    if (seen >= wanted) {
      return us;
    }
  }
  return journal->step_us_max;
}

/* Names and versions are checked by the signing side to be plain; a vehicle id is whatever the command line says. */
static void print_json_text(const char *text) {
  putchar('"');
  for (; *text != '\0'; text++) {
    if (*text == '"' || *text == '\\') {
      putchar('\\');
    }
    putchar((unsigned char)*text < 0x20 ? ' ' : *text);
  }
  putchar('"');
}

void journal_summary(const struct journal *journal, const char *vehicle_id, const char *end, double seconds) {
  printf("{\"vehicle\":");
  print_json_text(vehicle_id);
  printf(",\"end\":\"%s\",\"seconds\":%.2f,\"frames\":%" PRIu64 ",\"missed_frames\":%" PRIu64 ",\"missed_at_swap\":%" PRIu64, end, seconds,
         journal->frames, journal->missed_frames, journal->missed_at_swap);
  printf(",\"swaps\":%" PRIu64 ",\"fallbacks\":%" PRIu64 ",\"invalid_frames\":%" PRIu64 ",\"takeover_frames\":%" PRIu64, journal->swaps,
         journal->fallbacks, journal->invalid_frames, journal->takeover_frames);
  printf(",\"step_us_p50\":%" PRIu32 ",\"step_us_p99\":%" PRIu32 ",\"step_us_max\":%" PRIu32, percentile_us(journal, 0.50),
         percentile_us(journal, 0.99), journal->step_us_max);
  printf(",\"model\":");
  print_json_text(journal->model.name);
  printf(",\"version\":");
  print_json_text(journal->model.version);
  printf(",\"generation\":%" PRIu64 "}\n", journal->model.generation);
  fflush(stdout);
}

bool journal_close(struct journal *journal) {
  if (journal->rows == NULL) {
    return true;
  }
  bool complete = !ferror(journal->rows);
  complete = fclose(journal->rows) == 0 && complete;
  if (!complete) {
    fprintf(stderr, "c-vehicle: the log is incomplete: %s\n", strerror(errno));
  }
  journal->rows = NULL;
  return complete;
}
