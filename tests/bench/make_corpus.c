/*
 * Writes a synthetic corpus whose answers are known (tests/support/bigcorpus.h), or holds what a
 * stage said of one against them.
 *
 *   make_corpus N DIR [PARTITIONS [THREADS]]        default 8 partitions, 2 threads
 *   make_corpus check DIR STAGE [POLICY]            dedup (image), filter; exit 1: some missed,
 *                                                   or others dropped
 */
#include "tests/support/bigcorpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check(const char *dir, const char *stage, const char *policy)
{
	struct bigcorpus_found f;
	struct wl_err err = {0};
	int64_t bad = 0;

	if (bigcorpus_check(dir, stage, policy, &f, &err) < 0) {
		fprintf(stderr, "make_corpus: %s\n", err.msg);
		return 1;
	}
	for (int k = 0; k < BIG_KINDS; k++) {
		bad += f.planted[k] - f.found[k] + f.wrong[k];
		if (f.planted[k] || f.wrong[k])
			printf("%s, %s: %lld planted, %lld found, %lld wrong\n", stage,
				bigcorpus_kind_name((enum bigcorpus_kind)k),
				(long long)f.planted[k], (long long)f.found[k],
				(long long)f.wrong[k]);
	}
	printf("%s: %lld pairs, %lld answers are wrong\n", stage, (long long)f.pairs,
		(long long)bad);
	return bad != 0;
}

int main(int argc, char **argv)
{
	int64_t n = argc > 2 ? atoll(argv[1]) : 0;
	struct wl_err err = {0};

	if (argc >= 4 && strcmp(argv[1], "check") == 0)
		return check(argv[2], argv[3], argc > 4 ? argv[4] : "image");
	if (n < 1) {
		fprintf(stderr, "usage: make_corpus N DIR [PARTITIONS [THREADS]]\n"
				"       make_corpus check DIR STAGE [POLICY]\n");
		return 2;
	}
	if (bigcorpus_make(argv[2], n, argc > 3 ? atoi(argv[3]) : 8, argc > 4 ? atoi(argv[4]) : 2,
		    &err) < 0) {
		fprintf(stderr, "make_corpus: %s\n", err.msg);
		return 1;
	}
	return 0;
}
