/*
 * The caption metrics on 30,000 images with five references, words drawn by Zipf's law; tokens are
 * numbers already, as the bar excludes segmentation.  One core.
 *
 *   bench_captions [IMAGES]           times the metrics
 *   bench_captions IMAGES OUT.json    writes the captions too, for pycocoevalcap
 * (bench_captions.sh)
 */
#include "eval/metrics/caption.h"
#include "eval/metrics/meteor.h"
#include "ops/clock.h"
#include "ops/hash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { REFS = 5, VOCABULARY = 8000, LONGEST = 16 };

/* Word k with probability about 1 / k. */
static uint32_t zipf(uint64_t i, uint64_t k)
{
	return (uint32_t)(pow(VOCABULARY, wl_rand_unit(5, i, k)) - 1);
}

/* An image has a topic of 12 words, of which its captions take most of theirs. */
static void fill(uint32_t *token, size_t *n, uint64_t image, uint64_t caption)
{
	*n = 6 + wl_rand64(6, image, caption) % (LONGEST - 6);
	for (uint64_t k = 0; k < *n; k++) {
		uint64_t r = wl_rand64(7, image * 8 + caption, k);

		token[k] = r % 3 ? zipf(image, 100 + (r >> 8) % 12)
				 : zipf(image * 8 + caption, 200 + k);
	}
}

static void write_caption(FILE *fp, const struct wl_caption *c)
{
	fputc('"', fp);
	/* One Chinese character a word, so that METEOR's normaliser keeps the words. */
	for (size_t k = 0; k < c->n; k++)
		fprintf(fp, "%s\\u%04x", k ? " " : "", 0x4e00 + c->token[k]);
	fputc('"', fp);
}

static int write_all(const char *path, const struct wl_captioned *im, size_t n)
{
	FILE *fp = fopen(path, "w");

	if (!fp) {
		perror(path);
		return 1;
	}
	fputs("[", fp);
	for (size_t i = 0; i < n; i++) {
		fputs(i ? ",\n[" : "[", fp);
		write_caption(fp, &im[i].hyp);
		for (size_t r = 0; r < im[i].n_refs; r++) {
			fputc(',', fp);
			write_caption(fp, &im[i].refs[r]);
		}
		fputc(']', fp);
	}
	fputs("]\n", fp);
	return fclose(fp) ? 1 : 0;
}

static struct wl_captioned *make(size_t n)
{
	struct wl_captioned *im = calloc(n, sizeof *im);
	struct wl_caption *refs = calloc(n * REFS, sizeof *refs);
	uint32_t *tokens = calloc(n * (REFS + 1) * LONGEST, sizeof *tokens);

	if (!im || !refs || !tokens) {
		perror("bench_captions");
		exit(1);
	}
	for (size_t i = 0; i < n; i++) {
		for (size_t c = 0; c <= REFS; c++) {
			struct wl_caption *to = c ? &refs[i * REFS + c - 1] : &im[i].hyp;
			uint32_t *t = tokens + (i * (REFS + 1) + c) * LONGEST;

			fill(t, &to->n, i, c);
			to->token = t;
		}
		im[i].refs = refs + i * REFS;
		im[i].n_refs = REFS;
	}
	return im;
}

int main(int argc, char **argv)
{
	size_t n = argc > 1 ? (size_t)atoll(argv[1]) : 30000;
	struct wl_captioned *im = make(n);
	const struct wl_meteor_params english = wl_meteor_english();
	double bleu[4], cider, rouge, meteor, best[3] = {1e9, 1e9, 1e9};
	struct wl_err err = WL_ERR_INIT;

	if (argc > 2)
		return write_all(argv[2], im, n);
	for (int round = 0; round < 3; round++) {
		double t0 = wl_cpu_s(), t1, t2, t3;

		if (wl_bleu_cider(im, n, bleu, NULL, &cider, NULL, &err) < 0)
			return fprintf(stderr, "%s\n", err.msg), 1;
		t1 = wl_cpu_s();
		if (wl_rouge_l(im, n, &rouge, NULL, &err) < 0)
			return fprintf(stderr, "%s\n", err.msg), 1;
		t2 = wl_cpu_s();
		if (wl_meteor(im, n, &english, NULL, &meteor, NULL, &err) < 0)
			return fprintf(stderr, "%s\n", err.msg), 1;
		t3 = wl_cpu_s();
		best[0] = fmin(best[0], t1 - t0);
		best[1] = fmin(best[1], t2 - t1);
		best[2] = fmin(best[2], t3 - t2);
	}
	printf("ours %zu images: BLEU and CIDEr %.3f s, ROUGE-L %.3f s, METEOR %.3f s, together "
	       "%.3f s of"
	       " one core\n",
		n, best[0], best[1], best[2], best[0] + best[1] + best[2]);
	printf("scores %.12f %.12f %.12f %.12f %.12f %.12f %.12f\n", bleu[0], bleu[1], bleu[2],
		bleu[3], meteor, rouge, cider);
	return 0;
}
