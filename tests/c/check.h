/* The smallest test harness: a failed check says where and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <switchback.h>

#define CHECK(condition)                                                                                                                   \
  do {                                                                                                                                     \
    if (!(condition)) {                                                                                                                    \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                                              \
      exit(1);                                                                                                                             \
    }                                                                                                                                      \
  } while (0)

#define CHECK_RESULT(call, expected) check_result(__FILE__, __LINE__, #call, (call), (expected))

static inline void check_result(const char *file, int line, const char *call, int32_t found, int32_t expected) {
  char text[512] = "";
  if (found != expected) {
    swb_last_error(text, sizeof text);
    fprintf(stderr, "%s:%d: %s is %" PRId32 " (%s: %s), not %" PRId32 " (%s)\n", file, line, call, found, swb_result_name(found), text,
            expected, swb_result_name(expected));
    exit(1);
  }
}

/* The text of the last failed call is exactly this. */
static inline void check_text(const char *file, int line, const char *expected) {
  char text[512] = "";
  size_t length = swb_last_error(text, sizeof text);
  if (strcmp(text, expected) != 0 || length != strlen(expected)) {
    fprintf(stderr, "%s:%d: the text is \"%s\", not \"%s\"\n", file, line, text, expected);
    exit(1);
  }
}
#define CHECK_TEXT(expected) check_text(__FILE__, __LINE__, (expected))

#endif
