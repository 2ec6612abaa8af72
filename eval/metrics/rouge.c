/* ROUGE-L: see caption.h.  An empty caption counts as one empty token, as "".split(" ") does. */
#include "eval/metrics/caption.h"

#include <stdlib.h>
#include <string.h>

/* No interned token has this number: the empty token of an empty caption. */
static const uint32_t empty_token[1] = {UINT32_MAX};

static struct wl_caption padded(struct wl_caption c)
{
	return c.n ? c : (struct wl_caption){empty_token, 1};
}

/* The longest common subsequence in one row of memory: row[j] = of a's first i and b's first j. */
static size_t lcs(struct wl_caption a, struct wl_caption b, size_t *row)
{
	memset(row, 0, (b.n + 1) * sizeof *row);
	for (size_t i = 0; i < a.n; i++) {
		size_t diagonal = 0;
		for (size_t j = 0; j < b.n; j++) {
			size_t above = row[j + 1];
			if (a.token[i] == b.token[j])
				row[j + 1] = diagonal + 1;
			else if (row[j] > above)
				row[j + 1] = row[j];
			diagonal = above;
		}
	}
	return row[b.n];
}

static double image_score(const struct wl_captioned *im, size_t *row)
{
	static const double beta2 = 1.2 * 1.2;
	struct wl_caption hyp = padded(im->hyp);
	double p = 0, r = 0;

	for (size_t i = 0; i < im->n_refs; i++) {
		struct wl_caption ref = padded(im->refs[i]);
		double common = (double)lcs(hyp, ref, row);
		p = common / (double)hyp.n > p ? common / (double)hyp.n : p;
		r = common / (double)ref.n > r ? common / (double)ref.n : r;
	}
	return p > 0 && r > 0 ? (1 + beta2) * p * r / (r + beta2 * p) : 0;
}

int wl_rouge_l(const struct wl_captioned *im, size_t n, double *corpus, double *per_image,
	struct wl_err *err)
{
	size_t longest = 1, *row;
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t r = 0; r < im[i].n_refs; r++)
			longest = im[i].refs[r].n > longest ? im[i].refs[r].n : longest;
	row = calloc(longest + 1, sizeof *row);
	if (!row)
		return wl_err_nomem(err, "ROUGE-L", (longest + 1) * sizeof *row);
	for (size_t i = 0; i < n; i++) {
		double s = image_score(&im[i], row);
		sum += s;
		if (per_image)
			per_image[i] = s;
	}
	*corpus = n ? sum / (double)n : 0;
	free(row);
	return 0;
}
