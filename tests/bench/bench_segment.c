/*
 * Cuts every line of a file into words; prints MB of CPU time a second, opening not counted.
 *
 *   bench_segment IN OUT 1|0     1: with the model; OUT: U+0001 behind each word
 */
#include "clean/segment.h"
#include "ops/clock.h"
#include "ops/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seconds spent in cutting; writes the words when out is not NULL. */
static double cut_all(
	const struct wl_segment *s, const struct wl_buf *b, unsigned flags, FILE *out)
{
	struct wl_cuts cuts = {0};
	struct wl_err err;
	double start = wl_cpu_s();

	for (size_t at = 0, end; at < b->len; at = end + 1) {
		const char *nl = memchr(b->data + at, '\n', b->len - at), *p = b->data + at;
		size_t from = 0;
		end = nl ? (size_t)(nl - b->data) : b->len;
		if (wl_segment_cut(s, p, end - at, flags, &cuts, &err) < 0) {
			fprintf(stderr, "%s\n", err.msg);
			exit(1);
		}
		for (size_t i = 0; out && i < cuts.n; from = cuts.end[i++])
			fprintf(out, "%.*s\1", (int)(cuts.end[i] - from), p + from);
		if (out)
			fputc('\n', out);
	}
	start = wl_cpu_s() - start;
	wl_cuts_release(&cuts);
	return start;
}

int main(int argc, char **argv)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_segment *s;
	struct wl_buf b;
	unsigned flags;
	double best = 1e9;
	FILE *out;

	if (argc != 4)
		return 2;
	wl_buf_init(&b, 1 << 30);
	s = wl_segment_open(NULL, NULL, 0, &err);
	if (!s || wl_read_file(argv[1], &b, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return (int)err.code;
	}
	flags = strcmp(argv[3], "1") == 0 ? 0 : WL_SEGMENT_NO_HMM;
	out = fopen(argv[2], "w");
	if (!out)
		return 1;
	cut_all(s, &b, flags, out);
	if (fclose(out) != 0)
		return 1;
	for (int i = 0; i < 3; i++) {
		double t = cut_all(s, &b, flags, NULL);
		best = t < best ? t : best;
	}
	printf("%.3f\n", (double)b.len / best / 1e6);
	wl_segment_close(s);
	wl_buf_release(&b);
	return 0;
}
