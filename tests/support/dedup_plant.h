/* A corpus with planted repeats of every kind, and the pairs that they are. */
#ifndef WL_TESTS_DEDUP_PLANT_H
#define WL_TESTS_DEDUP_PLANT_H

#include <stdint.h>

enum { BASES = 40, EACH = 5 };

struct planted {
	int64_t base[BASES], copy[EACH], comment[EACH], quality[EACH], half[EACH], dark[EACH];
	int64_t longer[EACH], same_text[EACH], test, near_test[2], val, near_val, broken;
	int64_t silent[2];
};

/* Makes it in dir, of three partitions; fails the running test when that fails. */
void dedup_plant(const char *dir, struct planted *x);
/* parts 1: the bases and their variants; 2: the rest; 3: both. */
void dedup_plant_parts(const char *dir, struct planted *x, int parts);

#endif
