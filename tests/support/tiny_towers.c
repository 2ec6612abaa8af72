/* See tiny_towers.h. */
#include "tests/support/tiny_towers.h"

#include "ops/hash.h"

#include <string.h>

static wl_tid param(struct wl_graph *g, const char *name, struct wl_shape shape, unsigned flags)
{
	return wl_g_param(g, name, shape.rank == 4 ? WL_LAYOUT_CONV : WL_LAYOUT_PLAIN, shape,
		flags);
}

static wl_tid image_tower(struct wl_graph *g, const void *model, wl_tid images, wl_tid boxes,
	wl_tid mask)
{
	const int64_t b = wl_g_shape(g, images).dim[0];
	struct wl_bn bn = {.eps = 1e-3f, .momentum = 0.1f, .act = WL_ACT_SILU, .residual = WL_NONE};
	wl_tid x, regions, flat;

	(void)model;
	x = wl_g_conv2d(g, images, param(g, "image.conv", WL_SHAPE(8, 3, 3, 3), WL_PARAM_WEIGHT),
		WL_NONE, 2);
	bn.gamma = param(g, "image.bn.weight", WL_SHAPE(8), WL_PARAM_GAIN);
	bn.beta = param(g, "image.bn.bias", WL_SHAPE(8), WL_PARAM_GAIN);
	bn.mean = param(g, "image.bn.running_mean", WL_SHAPE(8), WL_PARAM_BUFFER);
	bn.var = param(g, "image.bn.running_var", WL_SHAPE(8), WL_PARAM_BUFFER);
	x = wl_g_batch_norm(g, x, &bn);
	regions = wl_g_masked_mean(g, wl_g_roi_grid(g, x, boxes, TINY_PX, TINY_PX), mask);
	flat = wl_g_reshape(g, x, WL_SHAPE(b, 4 * 4 * 8));
	x = wl_g_dropout(g, wl_g_concat(g, flat, regions, 1), 0.1f);
	x = wl_g_linear(g, x,
		param(g, "image.fc.weight", WL_SHAPE(TINY_DIM, 136), WL_PARAM_WEIGHT),
		param(g, "image.fc.bias", WL_SHAPE(TINY_DIM), WL_PARAM_GAIN), WL_ACT_NONE);
	return wl_g_l2_normalize(g, x, 1e-12f);
}

static wl_tid text_tower(struct wl_graph *g, const void *model, wl_tid ids, wl_tid mask)
{
	wl_tid x;

	(void)model;
	x = wl_g_embedding(g, ids,
		param(g, "text.word", WL_SHAPE(TINY_VOCAB, TINY_DIM), WL_PARAM_WEIGHT),
		param(g, "text.position", WL_SHAPE(TINY_LEN, TINY_DIM), WL_PARAM_WEIGHT), WL_NONE);
	x = wl_g_dropout(g, wl_g_masked_mean(g, x, mask), 0.05f);
	x = wl_g_linear(g, x, param(g, "text.fc.weight", WL_SHAPE(TINY_DIM, TINY_DIM),
		WL_PARAM_WEIGHT), param(g, "text.fc.bias", WL_SHAPE(TINY_DIM), WL_PARAM_GAIN),
		WL_ACT_NONE);
	return wl_g_l2_normalize(g, x, 1e-12f);
}

static int tiny_init(struct wl_params *p, const void *model, uint64_t seed, struct wl_err *err)
{
	float host[4096];
	int64_t k;
	int i;

	(void)model;
	(void)err;
	for (i = 0; i < p->n; i++) {
		const struct wl_param *e = &p->item[i];
		bool one = !strcmp(e->name, "image.bn.weight") ||
			!strcmp(e->name, "image.bn.running_var");

		WL_ASSERT(e->count <= 4096);
		for (k = 0; k < e->count; k++)
			host[k] = one ? 1 : e->flags & WL_PARAM_DECAY ?
				(float)(0.2 * wl_rand_normal(seed, (uint64_t)i, (uint64_t)k)) : 0;
		wl_param_from_torch(p, i, host);
	}
	return 0;
}

void tiny_towers(struct wl_towers *t)
{
	*t = (struct wl_towers){.image = image_tower, .text = text_tower, .init = tiny_init,
		.image_px = TINY_PX, .regions = TINY_REGIONS, .text_len = TINY_LEN};
}

/* Pair p is the word (colour, row, column): picture and text both show it. */
static void draw(int64_t p, int64_t b, float *pixels, int32_t *ids)
{
	int64_t colour = p % 3, row = p / 3 % 4, col = p / 12 % 4, y, x, c;

	for (y = 0; y < TINY_PX; y++)
		for (x = 0; x < TINY_PX; x++)
			for (c = 0; c < 3; c++) {
				bool on = y / 2 == row && x / 2 == col && c == colour;

				int64_t at = (y * TINY_PX + x) * 3 + c;

				pixels[b * TINY_PX * TINY_PX * 3 + at] = (on ? 2.f : 0.f) +
					(float)(0.1 * wl_rand_normal(5, (uint64_t)p, (uint64_t)at));
			}
	ids[b * TINY_LEN + 0] = 1;
	ids[b * TINY_LEN + 1] = (int32_t)(3 + colour);
	ids[b * TINY_LEN + 2] = (int32_t)(6 + row);
	ids[b * TINY_LEN + 3] = (int32_t)(10 + col);
	ids[b * TINY_LEN + 4] = 2;
	ids[b * TINY_LEN + 5] = 0;
}

const struct wl_moco_batch *tiny_batch(int64_t step)
{
	static float pixels[TINY_BATCH * TINY_PX * TINY_PX * 3];
	static float boxes[TINY_BATCH * TINY_REGIONS * 4], mask[TINY_BATCH * TINY_REGIONS];
	static float text_mask[TINY_BATCH * TINY_LEN];
	static int32_t ids[TINY_BATCH * TINY_LEN];
	static int64_t pair_ids[TINY_BATCH];
	static uint64_t hashes[TINY_BATCH];
	static const struct wl_moco_batch batch = {pixels, boxes, mask, ids, text_mask, pair_ids,
		hashes};
	static const float box[TINY_REGIONS][4] = {{0, 0, 4, 8}, {0, 0, 8, 8}, {0, 0, 0, 0}};
	int64_t b, p, epoch = step / (TINY_PAIRS / TINY_BATCH);
	int64_t place = step % (TINY_PAIRS / TINY_BATCH) * TINY_BATCH;

	for (b = 0; b < TINY_BATCH; b++) {
		p = (int64_t)wl_shuffle((uint64_t)(place + b), TINY_PAIRS, (uint64_t)epoch);
		draw(p, b, pixels, ids);
		memcpy(boxes + b * TINY_REGIONS * 4, box, sizeof box);
		mask[b * TINY_REGIONS] = mask[b * TINY_REGIONS + 1] = 1;
		for (int i = 0; i < TINY_LEN; i++)
			text_mask[b * TINY_LEN + i] = i < 5;
		pair_ids[b] = 100 + p;
		hashes[b] = 500 + (uint64_t)p;
	}
	return &batch;
}
