/* Any bytes as graded lists, and (a zero byte divides them) as qrels and run. */
#include "eval/metrics/ranking.h"
#include "eval/rankfile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void measure(struct wl_rankings *r)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct wl_ranked *q = &r->v[i];
		double x = wl_ndcg(q->grade, q->n, q->ideal, q->n_ideal, 10, WL_GAIN_LINEAR);

		if (!isfinite(x) || x < 0 || x > 1.0000001)
			abort();
	}
	wl_rankings_release(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_rankings r;
	char *text = malloc(n + 2), *second;

	if (!text)
		return 0;
	if (n)
		memcpy(text, bytes, n);
	text[n] = text[n + 1] = 0;
	if (!wl_rankings_parse(&r, text, "fuzz", &err))
		measure(&r);
	if (n)
		memcpy(text, bytes, n);
	second = text + strlen(text) + 1;
	if (second > text + n)
		second = text + n;
	if (!wl_rankings_parse_trec(&r, text, second, "qrels", "run", true, &err))
		measure(&r);
	free(text);
	return 0;
}
