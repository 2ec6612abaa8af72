/* What the tests of clean/ begin with: normalised texts ready, and rules out of a line of YAML. */
#ifndef WL_TESTS_CLEANING_H
#define WL_TESTS_CLEANING_H

#include "clean/rules.h"
#include "tests/support/tmp.h"

/* Ready between open_text and close_text, cmocka's set-up and tear-down of a group. */
extern struct wl_text *tx;

int open_text(void **state);
int close_text(void **state);

/* The rules that this YAML says, written to rules.yaml of tmp; fails the running test with the
 * error's sentence when they are refused.  The caller frees them. */
struct wl_rules *rules_of(const struct tmp_dir *tmp, const char *yaml);

#endif
