/* See planted.h. */
#include "tests/support/planted.h"
#include "ops/hash.h"

#include <stdio.h>
#include <stdlib.h>

/* A length 1 - place/2^bits; both lengths' bits together must fit into a float. */
static float length(int64_t place, int64_t steps)
{
	return 1 - (float)place / (float)steps;
}

static void *need(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p) {
		perror("planted");
		exit(1);
	}
	return p;
}

static int64_t power_of_two(int64_t n)
{
	int64_t p = 1;

	while (p < n)
		p *= 2;
	return p;
}

void planted_make(struct planted *p, int64_t n, int64_t captions, int64_t dim)
{
	int64_t m = n * captions, per_axis = (n + dim - 1) / dim;
	int64_t steps_i = power_of_two(per_axis), steps_t = power_of_two(per_axis * captions);

	if (steps_i > (1 << 24) / steps_t) {
		fprintf(stderr, "planted: %lld images on %lld axes are too many\n", (long long)n,
			(long long)dim);
		exit(1);
	}
	p->images = need((size_t)(n * dim), sizeof *p->images);
	p->texts = need((size_t)(m * dim), sizeof *p->texts);
	p->pair_image = need((size_t)m, sizeof *p->pair_image);
	p->pair_text = need((size_t)m, sizeof *p->pair_text);
	p->image_rank = need((size_t)n, sizeof *p->image_rank);
	p->text_rank = need((size_t)m, sizeof *p->text_rank);
	for (int64_t i = 0; i < n; i++) {
		int64_t axis = i % dim, place = i / dim;
		int64_t on_axis = (n - axis + dim - 1) / dim;

		p->images[i * dim + axis] = length(place, steps_i);
		for (int64_t c = 0; c < captions; c++) {
			int64_t j = i * captions + c;
			int64_t at = (int64_t)wl_shuffle((uint64_t)(place * captions + c),
				(uint64_t)(on_axis * captions), 77 + (uint64_t)axis);

			p->texts[j * dim + axis] = length(at, steps_t);
			p->pair_image[j] = i;
			p->pair_text[j] = j;
			p->text_rank[j] = place + 1;
			if (!c || at + 1 < p->image_rank[i])
				p->image_rank[i] = at + 1;
		}
	}
	p->in = (struct wl_retrieval_in){.images = p->images, .texts = p->texts, .n_images = n,
		.n_texts = m, .dim = dim, .pair_image = p->pair_image, .pair_text = p->pair_text,
		.n_pairs = m};
}

void planted_release(struct planted *p)
{
	free(p->images);
	free(p->texts);
	free(p->pair_image);
	free(p->pair_text);
	free(p->image_rank);
	free(p->text_rank);
	*p = (struct planted){0};
}
