/* Makes texts with personal information planted in them, and near misses that must be left
 * alone: what precision and recall of the detectors are measured on. */
#ifndef WL_TESTS_PLANT_H
#define WL_TESTS_PLANT_H

#include "clean/personal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PLANT_MAX = 512 };

struct plant {
	char text[PLANT_MAX];
	char secret[PLANT_MAX / 2]; /* what must be masked; "" for a near miss */
};

/* A function of its arguments.  miss: a near miss of that kind. */
struct plant plant_personal(enum wl_personal kind, bool miss, uint64_t seed);

/* How a word is hidden: spaces, signs, emoji, full-width, Traditional, digits for letters...;
 * `trick` counts from 0, of PLANT_TRICKS (some leave a word of other letters as it is). */
enum { PLANT_TRICKS = 9 };
void plant_disguise(const char *word, int trick, uint64_t seed, char out[PLANT_MAX]);

#endif
