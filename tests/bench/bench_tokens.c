/*
 * Tokenising speed: `bench_tokens VOCAB OUT FILE...` cuts every line of the files into ids
 * (512 at most) by wl_wordpiece, several times over; prints Chinese characters a second of CPU
 * time on one core, best of the rounds, and writes the ids of each line to OUT for the peer.
 */
#include "clean/wordpiece.h"
#include "ops/clock.h"
#include "ops/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5, MAX_IDS = 512, MAX_BYTES = 64 << 20 };

/* Ids of all lines of the text; out may be NULL.  Returns how many before the padding. */
static size_t tokenise(const struct wl_vocab *v, const char *s, size_t n, FILE *out)
{
	static int32_t ids[MAX_IDS];
	size_t total = 0, from = 0;

	while (from < n) {
		const char *nl = memchr(s + from, '\n', n - from);
		size_t end = nl ? (size_t)(nl - s) : n;
		size_t used = wl_wordpiece(v, s + from, end - from, ids, MAX_IDS);

		for (size_t i = 0; out && i < used; i++)
			fprintf(out, "%" PRId32 "%c", ids[i], i + 1 < used ? ' ' : '\n');
		total += used;
		from = end + 1;
	}
	return total;
}

/* Code points of three bytes in UTF-8: in Chinese text, Chinese characters and signs. */
static size_t characters(const char *s, size_t n)
{
	size_t c = 0;

	for (size_t i = 0; i < n; i++)
		c += ((unsigned char)s[i] & 0xf0) == 0xe0;
	return c;
}

static int run(int argc, char **argv, struct wl_err *err)
{
	struct wl_vocab *v = wl_vocab_load(argv[1], err);
	FILE *out = v ? fopen(argv[2], "w") : NULL;
	double best = 1e9;
	struct wl_buf b;
	size_t ids = 0;
	int rc = -1;

	wl_buf_init(&b, MAX_BYTES);
	if (!v)
		goto done;
	for (int i = 3; i < argc; i++) {
		if (wl_read_file(argv[i], &b, err) < 0)
			goto done;
	}
	for (int r = 0; r < ROUNDS; r++) {
		double t = wl_cpu_s();

		ids = tokenise(v, b.data, b.len, NULL);
		t = wl_cpu_s() - t;
		best = t < best ? t : best;
	}
	if (out)
		tokenise(v, b.data, b.len, out);
	printf("{\"characters_per_cpu_s\": %.0f, \"bytes_per_cpu_s\": %.0f, \"ids\": %zu}\n",
		(double)characters(b.data, b.len) / best, (double)b.len / best, ids);
	rc = 0;
done:
	if (out && fclose(out) != 0)
		rc = wl_err_set(err, WL_EFAIL, "%s could not be written", argv[2]);
	wl_buf_release(&b);
	wl_vocab_free(v);
	return rc;
}

int main(int argc, char **argv)
{
	struct wl_err err = WL_ERR_INIT;

	if (argc < 4) {
		fprintf(stderr, "usage: bench_tokens VOCAB OUT FILE...\n");
		return 2;
	}
	if (run(argc, argv, &err) < 0) {
		fprintf(stderr, "bench_tokens: %s\n", err.msg);
		return 1;
	}
	return 0;
}
