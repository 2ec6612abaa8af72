/*
 * The loader's promises: the same batches for any number of threads and ranks, every sample
 * once an epoch, exact seeking, bad samples left out alike by everybody, take-downs honoured,
 * masks and boxes right, bad options refused.
 */
#include "clean/wordpiece.h"
#include "loader/augment.h"
#include "loader/loader.h"
#include "loader/regions.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "tests/support/cm.h"
#include "tests/support/shardset.h"

#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N = 50, S = 32, R = 6, LEN = 12, DEAD = 1013 };

struct fixture {
	struct wl_toy_home home;
	char good[96], bad[96];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct wl_toy_set set;
	struct wl_err err = WL_ERR_INIT;

	assert_non_null(f);
	wl_toy_home_make(&f->home, "loader");
	snprintf(f->good, sizeof(f->good), "%s/good", f->home.dir);
	snprintf(f->bad, sizeof(f->bad), "%s/bad", f->home.dir);
	assert_int_equal(0, wl_mkdir_p(f->good, &err));
	assert_int_equal(0, wl_mkdir_p(f->bad, &err));
	set = (struct wl_toy_set){f->good, "train", N + 1, 20, 3, -1, -1, true, DEAD, false};
	wl_toy_set_write(&set);
	set = (struct wl_toy_set){f->bad, "train", N, 20, 1, 11, 30, false, 0, false};
	wl_toy_set_write(&set);
	*state = f;
	return 0;
}

static struct wl_loader_opts options(const struct fixture *f)
{
	struct wl_loader_opts o = {
		.dir = f->good,
		.split = "train",
		.batch = 8,
		.image_px = S,
		.regions = R,
		.grid = 2,
		.use_boxes = true,
		.text_len = LEN,
		.vocab = f->home.vocab,
		.mean = {0.485f, 0.456f, 0.406f},
		.std = {0.229f, 0.224f, 0.225f},
		.shuffle = true,
		.seed = 7,
		.world = 1,
		.threads = 2,
		.prefetch = 1,
	};
	struct wl_err err = WL_ERR_INIT;

	assert_int_equal(0, wl_augment_preset("paper", &o.augment, &err));
	return o;
}

/* A hash of all that a batch holds. */
static uint64_t digest(const struct wl_batch *b)
{
	size_t n = (size_t)b->n, t = (size_t)b->n_texts;
	uint64_t h = (uint64_t)b->epoch * 1000003u + (uint64_t)b->position;

	h = wl_hash64(b->pixels, n * S * S * 3 * sizeof(float), h);
	h = wl_hash64(b->boxes, n * R * 4 * sizeof(float), h);
	h = wl_hash64(b->region_mask, n * R * sizeof(float), h);
	h = wl_hash64(b->ids, t * LEN * sizeof(int32_t), h);
	h = wl_hash64(b->lens, t * sizeof(int32_t), h);
	h = wl_hash64(b->text_mask, t * LEN * sizeof(float), h);
	h = wl_hash64(b->pair_ids, n * sizeof(int64_t), h);
	h = wl_hash64(b->samples, n * sizeof(int64_t), h);
	h = wl_hash64(b->text_hash, t * sizeof(uint64_t), h);
	return wl_hash64(b->text_image, t * sizeof(int64_t), h);
}

static void same_at_any_thread_count(void **state)
{
	const struct fixture *f = *state;
	uint64_t want[20];

	for (int threads = 1; threads <= 4; threads++) {
		struct wl_loader_opts o = options(f);
		struct wl_loader *l;

		o.threads = threads;
		o.prefetch = threads;
		l = wl_toy_open(&o);
		assert_int_equal(wl_loader_size(l), N);
		assert_int_equal(wl_loader_batches(l), N / 8);
		for (int i = 0; i < 20; i++) {
			uint64_t h = digest(wl_toy_next(l));

			if (threads == 1)
				want[i] = h;
			assert_int_equal(h, want[i]);
		}
		wl_loader_close(l);
	}
	for (int i = 1; i < 20; i++)
		assert_true(want[i] != want[0]);
}

static void every_sample_once(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f);
	int order[2][N];

	o.batch = 10; /* divides N */
	struct wl_loader *l = wl_toy_open(&o);
	for (int e = 0; e < 2; e++) {
		int seen[2000] = {0};

		for (int i = 0; i < N / 10; i++) {
			const struct wl_batch *b = wl_toy_next(l);

			assert_int_equal(b->epoch, e);
			assert_int_equal(b->position, i * 10);
			assert_int_equal(b->n, 10);
			for (int k = 0; k < 10; k++) {
				order[e][i * 10 + k] = (int)b->pair_ids[k];
				seen[b->pair_ids[k]]++;
				assert_int_equal(b->pair_ids[k], 1000 + b->samples[k]);
			}
		}
		for (int i = 0; i <= N; i++)
			assert_int_equal(seen[1000 + i], 1000 + i == DEAD ? 0 : 1);
	}
	assert_memory_not_equal(order[0], order[1], sizeof(order[0]));
	wl_loader_close(l);
}

/* Two ranks together see what one sees: rank r's row i is row 2i + r. */
static void ranks_share_the_order(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f), half = o;
	struct wl_loader *whole, *part[2];
	const size_t row = S * S * 3 * sizeof(float);

	half.batch = o.batch / 2;
	half.world = 2;
	half.threads = 1;
	whole = wl_toy_open(&o);
	part[0] = wl_toy_open(&half);
	half.rank = 1;
	part[1] = wl_toy_open(&half);
	for (int i = 0; i < 14; i++) {
		const struct wl_batch *b = wl_toy_next(whole);
		const struct wl_batch *p[2] = {wl_toy_next(part[0]), wl_toy_next(part[1])};

		for (int k = 0; k < 8; k++) {
			const struct wl_batch *q = p[k % 2];

			assert_int_equal(b->samples[k], q->samples[k / 2]);
			assert_int_equal(b->text_hash[k], q->text_hash[k / 2]);
			assert_memory_equal(b->pixels + (size_t)k * S * S * 3,
				q->pixels + (size_t)(k / 2) * S * S * 3, row);
		}
	}
	wl_loader_close(whole);
	wl_loader_close(part[0]);
	wl_loader_close(part[1]);
}

static void seeks_exactly(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f);
	struct wl_err err = WL_ERR_INIT;
	struct wl_loader_pos pos[16];
	uint64_t want[16];
	struct wl_loader *l = wl_toy_open(&o), *m;

	for (int i = 0; i < 16; i++) {
		wl_loader_tell(l, &pos[i]);
		want[i] = digest(wl_toy_next(l));
	}
	assert_int_equal(pos[6].position, 48); /* 50 / 8: two samples more are in the next batch */
	assert_int_equal(pos[7].epoch, 1);
	assert_int_equal(pos[7].position, 6);
	for (int i = 15; i >= 0; i -= 5) {
		assert_int_equal(0, wl_loader_seek(l, &pos[i], &err));
		for (int k = i; k < 16; k++)
			assert_int_equal(digest(wl_toy_next(l)), want[k]);
	}
	/* In a fresh loader with other threads, and with another batch from the same place. */
	o.threads = 3;
	m = wl_toy_open(&o);
	assert_int_equal(0, wl_loader_seek(m, &pos[9], &err));
	assert_int_equal(digest(wl_toy_next(m)), want[9]);
	wl_loader_close(m);
	o.batch = 4;
	m = wl_toy_open(&o);
	assert_int_equal(0, wl_loader_seek(l, &pos[9], &err));
	assert_int_equal(0, wl_loader_seek(m, &pos[9], &err));
	const struct wl_batch *a = wl_toy_next(l), *b = wl_toy_next(m);
	assert_memory_equal(a->samples, b->samples, 4 * sizeof(int64_t));
	wl_loader_close(m);

	pos[0].position = N + 1;
	assert_int_equal(-1, wl_loader_seek(l, &pos[0], &err));
	assert_int_equal(WL_EDATA, err.code);
	wl_loader_close(l);
}

/* Evaluation: shard order, the last batch short, every caption of every sample. */
static void evaluation_order(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f);
	struct wl_err err = WL_ERR_INIT;
	const struct wl_batch *b;
	struct wl_loader *l;
	int64_t next = 0, texts = 0, batches = 0;

	o.shuffle = false;
	o.all_captions = true;
	assert_int_equal(0, wl_augment_preset("none", &o.augment, &err));
	l = wl_toy_open(&o);
	assert_int_equal(wl_loader_batches(l), 7);
	while ((b = wl_toy_next(l))) {
		int64_t t = 0;

		batches++;
		for (int64_t i = 0; i < b->n; i++, next++) {
			int64_t captions;

			next += 1000 + next == DEAD;
			assert_int_equal(b->samples[i], next);
			captions = 1 + next % 3;
			for (int64_t k = 0; k < captions; k++, t++) {
				char text[64];

				snprintf(text, sizeof(text), "图片 %d，说法 %d", (int)next, (int)k);
				assert_int_equal(b->text_image[t], i);
				assert_int_equal(b->text_hash[t], wl_hash64(text, strlen(text), 0));
				assert_int_equal(b->ids[t * LEN], 2);
				assert_int_equal(b->ids[t * LEN + b->lens[t] - 1], 3);
			}
		}
		assert_int_equal(t, b->n_texts);
		texts += t;
	}
	assert_int_equal(batches, 7);
	assert_int_equal(next, N + 1);
	assert_true(texts > N);
	assert_int_equal(0, wl_loader_next(l, &b, &err)); /* stays at the end */
	wl_loader_close(l);
}

static void whole_pictures_are_right(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f);
	struct wl_err err = WL_ERR_INIT;
	const struct wl_batch *b;
	struct wl_loader *l;
	struct wl_image im;

	o.shuffle = false;
	o.batch = 1;
	for (int c = 0; c < 3; c++) {
		o.mean[c] = 0;
		o.std[c] = 1;
	}
	assert_int_equal(0, wl_augment_preset("none", &o.augment, &err));
	l = wl_toy_open(&o);
	for (int i = 0; i < 5; i++) {
		double sum[3] = {0}, got[3] = {0};

		b = wl_toy_next(l);
		wl_toy_picture(i, &im);
		for (int k = 0; k < im.width * im.height * 3; k++)
			sum[k % 3] += im.data[k];
		for (int k = 0; k < S * S * 3; k++)
			got[k % 3] += b->pixels[k];
		/* The mean colour survives resizing; the centre of the rectangle is bright. */
		for (int c = 0; c < 3; c++)
			assert_true(fabs(sum[c] / (im.width * im.height * 255.0) -
				got[c] / (S * S)) < 0.01);
		assert_true(b->pixels[(S * 5 / 12 * S + S * 3 / 8) * 3 + i % 3] > 0.85);
		wl_image_release(&im);
	}
	wl_loader_close(l);
}

static void boxes_and_masks(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f);
	struct wl_err err = WL_ERR_INIT;
	const struct wl_batch *b;
	struct wl_loader *l;

	o.shuffle = false;
	o.batch = 3;
	assert_int_equal(0, wl_augment_preset("none", &o.augment, &err));
	l = wl_toy_open(&o);
	b = wl_toy_next(l);
	/* Sample 0 has boxes (the third is under a pixel wide), sample 1 the grid. */
	const float sx = (float)S / (float)wl_toy_width(0), sy = (float)S / (float)wl_toy_height(0);
	const float want[R * 4] = {10 * sx, 5 * sy, 30 * sx, 25 * sy, 40.5f * sx, 20 * sy,
		60 * sx, 44 * sy, 0, 0, 2 * sx, 2 * sy, 0, 0, S, S};
	for (int i = 0; i < R * 4; i++)
		assert_float_equal(b->boxes[i], want[i], 1e-4);
	for (int i = 0; i < R; i++)
		assert_true(b->region_mask[i] == (i < 4));
	const float *grid = b->boxes + R * 4;
	assert_true(grid[0] == 0 && grid[1] == 0 && grid[2] == S / 2 && grid[3] == S / 2);
	assert_true(grid[4] == S / 2 && grid[5] == 0 && grid[16] == 0 && grid[18] == S);
	for (int i = 0; i < R; i++)
		assert_true(b->region_mask[R + i] == (i < 5));
	for (int64_t t = 0; t < b->n_texts; t++)
		for (int k = 0; k < LEN; k++)
			assert_true(b->text_mask[t * LEN + k] == (k < b->lens[t]));
	wl_loader_close(l);
}

static void boxes_follow_the_crop(void **state)
{
	struct wl_augment_params p = {.crop_x = 20, .crop_y = 10, .crop_w = 50, .crop_h = 25,
		.flip = 1};
	struct wl_err err = WL_ERR_INIT;
	float out[4 * 4], mask[4];
	json_t *v = json_pack("[[i,i,i,i],[i,i,i,i],[i,i,i,i]]", 0, 0, 30, 20, 71, 12, 90, 30,
		40, 20, 200, 200);

	(void)state;
	assert_int_equal(0, wl_regions(v, &p, 100, 4, 0, out, mask, &err));
	/* 20..30 of 20..70 -> 0..20 of 100 -> mirrored 80..100; the second is outside. */
	const float want[16] = {80, 0, 100, 40, 0, 40, 60, 100, 0, 0, 100, 100};
	for (int i = 0; i < 16; i++)
		assert_float_equal(out[i], want[i], 1e-4);
	assert_true(mask[0] == 1 && mask[1] == 1 && mask[2] == 1 && mask[3] == 0);
	json_decref(v);
	v = json_pack("[[i,i,i]]", 1, 2, 3);
	assert_int_equal(-1, wl_regions(v, &p, 100, 4, 0, out, mask, &err));
	assert_int_equal(WL_EDATA, err.code);
	json_decref(v);
	v = json_pack("[[i,i,i,s]]", 1, 2, 3, "x");
	assert_int_equal(-1, wl_regions(v, &p, 100, 4, 0, out, mask, &err));
	json_decref(v);
}

/* Samples 11 (half a JPEG) and 30 (captions no strings) cannot be used. */
static void bad_samples_are_left_out(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f);
	uint64_t want[5] = {0};
	struct wl_loader_stats st;
	struct wl_loader_pos pos;

	o.dir = f->bad;
	o.batch = 10;
	o.max_bad_rate = 0.05;
	assert_int_equal(0, wl_augment_preset("none", &o.augment, &(struct wl_err)WL_ERR_INIT));
	for (int threads = 1; threads <= 3; threads++) {
		struct wl_loader *l;
		int seen[N] = {0}, twice = 0;

		o.threads = threads;
		l = wl_toy_open(&o);
		for (int i = 0; i < 5; i++) {
			const struct wl_batch *b = wl_toy_next(l);
			uint64_t h = digest(b);

			want[i] = threads == 1 ? h : want[i];
			assert_int_equal(h, want[i]);
			assert_int_equal(b->n, 10);
			for (int k = 0; k < 10; k++)
				twice += ++seen[b->samples[k]] > 1;
		}
		assert_int_equal(seen[11] + seen[30], 0);
		assert_int_equal(twice, 2); /* their rows show others */
		wl_loader_stats(l, &st);
		assert_int_equal(st.bad, 2);
		assert_int_equal(st.samples, 50);
		wl_loader_tell(l, &pos);
		assert_int_equal(pos.skipped, 2);
		wl_loader_close(l);
	}
	/* Evaluation leaves the rows out. */
	o.shuffle = false;
	struct wl_loader *l = wl_toy_open(&o);
	const struct wl_batch *b;
	int64_t n = 0, i;
	while ((b = wl_toy_next(l)))
		for (i = 0; i < b->n; i++, n++) {
			assert_true(b->samples[i] != 11 && b->samples[i] != 30);
			assert_int_equal(b->pair_ids[i], 1000 + b->samples[i]);
		}
	assert_int_equal(n, N - 2);
	wl_loader_close(l);
}

static void too_many_bad_samples_stop(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f);
	struct wl_err err = WL_ERR_INIT;
	const struct wl_batch *b;
	struct wl_loader *l;
	int rc = 1;

	o.dir = f->bad; /* 2 of 50 are bad, 1 % is allowed */
	l = wl_toy_open(&o);
	for (int i = 0; i < 12 && rc == 1; i++)
		rc = wl_loader_next(l, &b, &err);
	assert_int_equal(rc, -1);
	assert_int_equal(err.code, WL_EDATA);
	assert_non_null(strstr(err.msg, "train-00000"));
	assert_non_null(strstr(err.msg, f->bad));
	wl_loader_close(l);
}

/* With crops_only the bytes are the crop, and the parameters say what is left to do. */
static void crops_and_parameters(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f);
	struct wl_err err = WL_ERR_INIT;
	struct wl_loader *l, *m;
	struct wl_pixels *px = wl_pixels_new(S, &err);
	float *out = calloc(S * S * 3, sizeof(float)), row[3][S];
	const float *const rgb[3] = {row[0], row[1], row[2]};
	double worst = 0;

	assert_non_null(px);
	l = wl_toy_open(&o);
	o.crops_only = true;
	m = wl_toy_open(&o);
	const struct wl_batch *a = wl_toy_next(l), *b = wl_toy_next(m);
	assert_null(b->pixels);
	for (int i = 0; i < 8; i++) {
		assert_memory_equal(a->params + i, b->params + i, sizeof(*a->params));
		wl_pixels_begin(px, b->params + i, o.mean, o.std, out);
		for (int y = 0; y < S; y++) {
			for (int x = 0; x < S * 3; x++)
				row[x % 3][x / 3] =
					(float)b->crops[((i * S + y) * S) * 3 + x] / 255.0f;
			wl_pixels_row(px, rgb);
		}
		wl_pixels_finish(px);
		for (int k = 0; k < S * S * 3; k++)
			worst = fmax(worst, fabs((double)out[k] - a->pixels[i * S * S * 3 + k]));
	}
	/* Half a grey level, over std 0.224, times what hue and contrast amplify. */
	assert_true(worst > 0 && worst < 0.15);
	wl_pixels_free(px);
	free(out);
	wl_loader_close(l);
	wl_loader_close(m);
}

static void refuses_bad_options(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f);
	struct wl_err err = WL_ERR_INIT;

	o.batch = N + 1;
	assert_null(wl_loader_open(&o, &err));
	assert_int_equal(err.code, WL_EUSAGE);
	assert_non_null(strstr(err.msg, "lower the batch"));
	o = options(f);
	o.grid = 3;
	assert_null(wl_loader_open(&o, &err));
	assert_int_equal(err.code, WL_EUSAGE);
	o = options(f);
	o.dir = "/nonexistent";
	assert_null(wl_loader_open(&o, &err));
	o = options(f);
	o.split = "nosuch";
	o.shuffle = false;
	struct wl_loader *l = wl_loader_open(&o, &err);
	if (l)
		assert_int_equal(wl_loader_size(l), 0);
	wl_loader_close(l);
}

static void limit_takes_the_first(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f);
	struct wl_loader *l;

	o.limit = 16;
	l = wl_toy_open(&o);
	assert_int_equal(wl_loader_batches(l), 2);
	for (int i = 0; i < 6; i++) {
		const struct wl_batch *b = wl_toy_next(l);

		for (int k = 0; k < 8; k++)
			assert_true(b->samples[k] <= 16 && b->pair_ids[k] != DEAD);
	}
	wl_loader_close(l);
}

/* Closing while workers are busy, and before anything was asked for. */
static void closes_at_any_time(void **state)
{
	const struct fixture *f = *state;

	for (int i = 0; i < 10; i++) {
		struct wl_loader_opts o = options(f);
		struct wl_loader *l;

		o.threads = 4;
		o.prefetch = 4;
		l = wl_toy_open(&o);
		for (int k = 0; k < i % 3; k++)
			wl_toy_next(l);
		wl_loader_close(l);
	}
}

/* After an epoch of warming up, three more leave the heap as it was. */
static void memory_does_not_grow(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_opts o = options(f);
	struct wl_loader *l = wl_toy_open(&o);
	size_t before;

	for (int i = 0; i < 2 * N / 8; i++)
		wl_toy_next(l);
	before = mallinfo2().uordblks;
	for (int i = 0; i < 3 * N / 8; i++)
		wl_toy_next(l);
	/* What two workers have in hand differs from moment to moment: a few samples' JSON and
	 * libjpeg's tables, not batches (of 98 KiB each). */
	if (mallinfo2().uordblks > before + 3 * S * S * 8 * sizeof(float))
		fail_msg("%zu bytes in use, %zu before", mallinfo2().uordblks, before);
	wl_loader_close(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_at_any_thread_count),
		cmocka_unit_test(every_sample_once),
		cmocka_unit_test(ranks_share_the_order),
		cmocka_unit_test(seeks_exactly),
		cmocka_unit_test(evaluation_order),
		cmocka_unit_test(whole_pictures_are_right),
		cmocka_unit_test(boxes_and_masks),
		cmocka_unit_test(boxes_follow_the_crop),
		cmocka_unit_test(bad_samples_are_left_out),
		cmocka_unit_test(too_many_bad_samples_stop),
		cmocka_unit_test(crops_and_parameters),
		cmocka_unit_test(refuses_bad_options),
		cmocka_unit_test(limit_takes_the_first),
		cmocka_unit_test(closes_at_any_time),
		cmocka_unit_test(memory_does_not_grow),
	};
	wl_log_init("test_loader", WL_LOG_ERROR);
	return cmocka_run_group_tests(tests, setup, wl_toy_teardown);
}
