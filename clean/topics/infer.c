/* See infer.h.  Sums run over 16 lanes and then over those, so that their order is fixed and a
 * compiler may use vectors without changing a bit. */
#include "clean/topics/infer.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, STEPS = 20, CHUNK = 256 };

int wl_phi_init(struct wl_phi *f, const struct wl_lda_model *m, struct wl_err *err)
{
	size_t bytes;

	memset(f, 0, sizeof(*f));
	f->n_words = m->n_words;
	f->topics = m->topics;
	f->stride = (m->topics + LANES - 1) / LANES * LANES;
	f->alpha = m->alpha;
	bytes = (size_t)m->n_words * (size_t)f->stride * sizeof(*f->p);
	f->p = aligned_alloc(64, bytes ? bytes : 64);
	if (!f->p)
		return wl_err_nomem(err, "a topic model", bytes);
	memset(f->p, 0, bytes);
	for (uint32_t w = 0; w < m->n_words; w++)
		for (int k = 0; k < m->topics; k++)
			f->p[(size_t)w * (size_t)f->stride + (size_t)k] =
				(float)((m->count[(size_t)w * (size_t)m->topics + (size_t)k] +
						m->beta) /
					((double)m->total[k] + m->n_words * m->beta));
	return 0;
}

void wl_phi_release(struct wl_phi *f)
{
	free(f->p);
	memset(f, 0, sizeof(*f));
}

static float sum_of_lanes(const float acc[LANES])
{
	float s = 0;

	for (int i = 0; i < LANES; i++)
		s += acc[i];
	return s;
}

static float dot(const float *a, const float *b, int n)
{
	float acc[LANES] = {0};

	for (int k = 0; k < n; k += LANES)
		for (int i = 0; i < LANES; i++)
			acc[i] += a[k + i] * b[k + i];
	return sum_of_lanes(acc);
}

void wl_phi_infer(const struct wl_phi *f, const uint32_t *word, size_t n, float *theta,
	float *scratch)
{
	float alpha = (float)f->alpha, scale = 1 / ((float)n + (float)f->topics * alpha);

	for (int k = 0; k < f->stride; k++)
		theta[k] = k < f->topics ? 1 / (float)f->topics : 0;
	for (int step = 0; step < STEPS && n; step++) {
		memset(scratch, 0, (size_t)f->stride * sizeof(*scratch));
		for (size_t i = 0; i < n; i++) {
			const float *p = f->p + (size_t)word[i] * (size_t)f->stride;
			float s = dot(theta, p, f->stride);
			s = s > 0 ? 1 / s : 0;
			for (int k = 0; k < f->stride; k++)
				scratch[k] += theta[k] * p[k] * s;
		}
		for (int k = 0; k < f->topics; k++)
			theta[k] = (scratch[k] + alpha) * scale;
	}
}

/* ---- perplexity ---- */

struct job {
	const struct wl_phi *f;
	const struct wl_docs *docs;
	_Atomic int64_t sum, n; /* of -ln p in units of 2^-24; of words */
	_Atomic int failed;
};

static void chunk(void *ctx, size_t c)
{
	struct job *j = ctx;
	size_t to = (c + 1) * CHUNK < j->docs->n ? (c + 1) * CHUNK : j->docs->n;
	size_t stride = (size_t)j->f->stride, cap = 1;
	int64_t sum = 0, words = 0;
	float *theta;
	uint32_t *even;

	for (size_t d = c * CHUNK; d < to; d++) {
		size_t n = (size_t)(j->docs->start[d + 1] - j->docs->start[d]);
		cap = n > cap ? n : cap;
	}
	theta = malloc(2 * stride * sizeof(*theta));
	even = malloc(cap * sizeof(*even));
	for (size_t d = c * CHUNK; theta && even && d < to; d++) {
		const uint32_t *w = j->docs->word + j->docs->start[d];
		size_t n = (size_t)(j->docs->start[d + 1] - j->docs->start[d]);
		for (size_t i = 0; i < n; i += 2)
			even[i / 2] = w[i];
		wl_phi_infer(j->f, even, (n + 1) / 2, theta, theta + stride);
		for (size_t i = 1; i < n; i += 2) {
			float p = dot(theta, j->f->p + (size_t)w[i] * stride, j->f->stride);
			sum -= llround(log(p > 1e-30f ? (double)p : 1e-30) * 0x1p24);
			words++;
		}
	}
	if (!theta || !even)
		j->failed = 1;
	j->sum += sum;
	j->n += words;
	free(theta);
	free(even);
}

int wl_phi_perplexity(const struct wl_phi *f, const struct wl_docs *docs, struct wl_comm *comm,
	struct wl_pool *pool, double *out, struct wl_err *err)
{
	size_t chunks = (docs->n + CHUNK - 1) / CHUNK;
	struct job j = {.f = f, .docs = docs};
	int64_t both[2];

	if (pool)
		wl_pool_for(pool, chunks, chunk, &j);
	else
		for (size_t c = 0; c < chunks; c++)
			chunk(&j, c);
	if (j.failed)
		return wl_err_nomem(err, "the perplexity of held-out texts", chunks * 16);
	both[0] = j.sum;
	both[1] = j.n;
	WL_TRY(wl_comm_all_reduce(comm, both, 2, WL_COMM_I64, WL_COMM_SUM, err));
	*out = both[1] ? exp((double)both[0] * 0x1p-24 / (double)both[1]) : NAN;
	return 0;
}
