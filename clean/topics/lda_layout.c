/*
 * The sampler's memory: cells by word, the way from documents to cells, and jobs that are the same
 * on all ranks.
 */
#include "clean/topics/lda_priv.h"

#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>

size_t lda_block_words(const struct lda *s)
{
	size_t n = LDA_BLOCK_BYTES / ((size_t)s->K * sizeof(uint32_t));

	return n ? n : 1;
}

int lda_end_sweep(struct lda *s, struct wl_err *err)
{
	int64_t *sum = malloc((size_t)s->K * sizeof(*sum));
	int ret = -1;

	if (!sum || s->no_memory) {
		wl_err_nomem(err, "a sweep of the topic sampler", (size_t)s->K * sizeof(*sum));
		goto out;
	}
	for (int k = 0; k < s->K; k++)
		sum[k] = atomic_exchange(&s->change[k], 0);
	WL_TRY_OUT(wl_comm_all_reduce(s->comm, sum, (size_t)s->K, WL_COMM_I64, WL_COMM_SUM, err));
	for (int k = 0; k < s->K; k++) {
		s->total[k] += sum[k];
		s->inverse[k] = 1 / ((double)s->total[k] + s->V * s->beta);
	}
	ret = 0;
out:
	free(sum);
	return ret;
}

/* Jobs of words: the same on all ranks, since they exchange by them; so cut by what all ranks have
 * of each word, and by the size of a block. */
static size_t cut_words(const struct lda *s, struct span *out)
{
	size_t room = lda_block_words(s), n = 0;
	uint32_t from = 0;
	uint64_t tokens = 0;

	for (uint32_t w = 0; w < s->V; w++) {
		tokens += s->size[w];
		if (w + 1 < s->V && tokens < LDA_CHUNK && w + 1 - from < room)
			continue;
		if (out)
			out[n] = (struct span){from, w + 1};
		n++;
		from = w + 1;
		tokens = 0;
	}
	return n;
}

static size_t cut_docs(const struct wl_docs *d, struct span *out)
{
	size_t from = 0, n = 0;

	for (size_t i = 0; i < d->n; i++) {
		if (i + 1 < d->n && d->start[i + 1] - d->start[from] < LDA_CHUNK)
			continue;
		if (out)
			out[n] = (struct span){(uint32_t)from, (uint32_t)(i + 1)};
		n++;
		from = i + 1;
	}
	return n;
}

/* Counts of words here and on the ranks before and with this one. */
static int number_words(struct lda *s, struct wl_err *err)
{
	int size = wl_comm_size(s->comm), rank = wl_comm_rank(s->comm);
	size_t n = (size_t)s->V + 1; /* and the tokens */
	uint64_t *mine = calloc(n, sizeof(*mine)), *all = calloc(n * (size_t)size, sizeof(*all));
	uint64_t first = 0;
	int ret = -1;

	if (!mine || !all) {
		wl_err_nomem(err, "counts of words", n * sizeof(*mine) * (size_t)size);
		goto out;
	}
	for (size_t t = 0; t < s->n; t++)
		mine[s->docs->word[t]]++;
	mine[s->V] = s->n;
	WL_TRY_OUT(wl_comm_all_gather(s->comm, mine, n * sizeof(*mine), all, err));
	for (uint32_t w = 0; w < s->V; w++) {
		s->begin[w + 1] = s->begin[w] + (uint32_t)mine[w];
		s->number[w] = first;
		for (int r = 0; r < size; r++) {
			uint64_t c = all[(size_t)r * n + w];
			s->size[w] += c;
			s->number[w] += r < rank ? c : 0;
		}
		first += s->size[w];
	}
	for (int r = 0; r < rank; r++)
		s->token0 += all[(size_t)r * n + s->V];
	ret = first ? 0
		    : wl_err_set(err, WL_EDATA,
			      "There is no text to make topics of: no document has a word of the "
			      "vocabulary; lower the vocabulary's bounds or give more texts.");
out:
	free(mine);
	free(all);
	return ret;
}

/* Random topics; the proposal is the topic itself, which changes nothing. */
static int place_tokens(struct lda *s, struct wl_err *err)
{
	uint32_t *next = malloc((size_t)s->V * sizeof(*next));

	if (!next)
		return wl_err_nomem(err, "counts of words", (size_t)s->V * sizeof(*next));
	memcpy(next, s->begin, (size_t)s->V * sizeof(*next));
	for (size_t t = 0; t < s->n; t++) {
		double u = wl_rand_unit(s->seed, UINT64_MAX, s->token0 + t);
		uint32_t z = (uint32_t)(u * s->K);
		s->pos[t] = next[s->docs->word[t]]++;
		s->cell[s->pos[t]] = z | z << 16;
		s->change[z]++;
	}
	free(next);
	return lda_end_sweep(s, err);
}

void lda_release(struct lda *s)
{
	free(s->cell);
	free(s->pos);
	free(s->begin);
	free(s->size);
	free(s->number);
	free(s->total);
	free((void *)s->change);
	free(s->inverse);
	free(s->words);
	free(s->parts);
	free(s->block);
}

int lda_init(struct lda *s, struct wl_err *err)
{
	size_t n = s->n ? s->n : 1, K = (size_t)s->K;

	s->cell = malloc(n * sizeof(*s->cell));
	s->pos = malloc(n * sizeof(*s->pos));
	s->begin = calloc((size_t)s->V + 1, sizeof(*s->begin));
	s->size = calloc((size_t)s->V + 1, sizeof(*s->size));
	s->number = calloc((size_t)s->V + 1, sizeof(*s->number));
	s->total = calloc(K, sizeof(*s->total));
	s->change = calloc(K, sizeof(*s->change));
	s->inverse = calloc(K, sizeof(*s->inverse));
	if (wl_comm_size(s->comm) > 1)
		s->block = malloc(lda_block_words(s) * K * sizeof(*s->block));
	if (!s->cell || !s->pos || !s->begin || !s->size || !s->number || !s->total || !s->change ||
		!s->inverse || (wl_comm_size(s->comm) > 1 && !s->block))
		return wl_err_nomem(err, "the tokens of the topic sampler", n * 8);
	WL_TRY(number_words(s, err));
	s->n_words = cut_words(s, NULL);
	s->n_parts = cut_docs(s->docs, NULL);
	s->words = malloc(s->n_words * sizeof(*s->words));
	s->parts = malloc((s->n_parts + 1) * sizeof(*s->parts));
	if (!s->words || !s->parts)
		return wl_err_nomem(err, "the jobs of the topic sampler", s->n_words * 8);
	cut_words(s, s->words);
	cut_docs(s->docs, s->parts);
	return place_tokens(s, err);
}
