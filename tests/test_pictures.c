/*
 * Pictures as a GPU takes them (loader/planes.h) become what the loader makes itself: by a plain
 * reading of the header here, and by the GPU's kernels where the program is linked with them
 * (emulated, or under `make test-gpu` themselves).
 */
#include "clean/wordpiece.h"
#include "ingest/image.h"
#include "loader/augment.h"
#include "loader/augment_formula.h"
#include "loader/decode.h"
#include "loader/loader.h"
#include "loader/planes_make.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/pictures.h"
#include "tests/support/shardset.h"
#include "tests/support/tmp.h"
#include "train/backend/elementwise.h"
#include "train/backend/pictures.h"
#include "train/feed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { S = 40, PX = S * S, N = 30, R = 5, LEN = 8 };

static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};

/* A thousandth of a grey level: what the order of float sums makes, and no more. */
static const double bound = 1e-3;
static struct wl_err err;

/* The largest difference of two normalised pictures in grey levels. */
static double apart(const float *a, const float *b)
{
	double worst = 0;

	for (int i = 0; i < 3 * PX; i++) {
		double d = fabs((double)a[i] - (double)b[i]) * 255 * (double)std[i % 3];

		worst = d > worst || isnan(d) ? d : worst;
	}
	return worst;
}

/* --- the header, read plainly --- */

static float weighted(const uint8_t *area, const struct wl_stored_plane *s, int x, int y)
{
	const int32_t *sx = (const void *)(area + s->across.start);
	const int32_t *sy = (const void *)(area + s->down.start);
	const float *wx = (const void *)(area + s->across.weight);
	const float *wy = (const void *)(area + s->down.weight);
	double sum = 0;

	for (int j = 0; j < s->across.taps; j++)
		for (int k = 0; k < s->down.taps; k++)
			sum += (double)wx[x * s->across.taps + j] *
			       (double)wy[y * s->down.taps + k] *
			       area[s->data + (size_t)((sy[y] + k) * s->pitch + sx[x] + j)];
	return (float)sum;
}

static void render(const struct wl_planes *p, const uint8_t *area, float *out)
{
	struct wl_pixels *px = wl_pixels_new(S, &err);
	float row[3][S];
	const float *const rgb[3] = {row[0], row[1], row[2]};

	assert_non_null(px);
	wl_pixels_begin(px, &p->params, mean, std, out);
	for (int y = 0; y < S; y++) {
		for (int x = 0; x < S; x++) {
			for (int c = 0; c < 3; c++) {
				int k = p->planes == 1 ? 0 : c;
				const float *f = (const void *)(area + p->plane[0].data);

				row[c][x] = p->planes ? weighted(area, &p->plane[k], x, y)
						      : f[(c * S + y) * S + x];
			}
			if (p->ycc)
				wl_aug_ycc(&row[0][x], &row[1][x], &row[2][x]);
		}
		wl_pixels_row(px, rgb);
	}
	wl_pixels_finish(px);
	wl_pixels_free(px);
}

/* --- on the GPU --- */

/* There where the GPU is emulated, its JPEG decoder by the loader's own. */
void emulated_barrier(void) __attribute__((weak));

struct gpu {
	struct wl_backend *be;
	struct wl_pictures *pictures;
	enum wl_dtype dtype;
};

static struct gpu gpu_open(int64_t batch, enum wl_dtype dtype, bool jpegs)
{
	struct wl_pictures_opts o = {.batch = batch, .px = S, .dtype = dtype, .jpegs = jpegs};
	struct gpu g = {.dtype = dtype};

	memcpy(o.mean, mean, sizeof(mean));
	memcpy(o.std, std, sizeof(std));
	g.be = wl_backend_cuda_open(0, &err);
	if (!g.be)
		fail_msg("%s", err.msg);
	assert_non_null(g.be->pictures);
	g.pictures = g.be->pictures->open(g.be, &o, &err);
	if (!g.pictures && !(jpegs && err.code == WL_EUSAGE)) /* nvJPEG may be missing */
		fail_msg("%s", err.msg);
	return g;
}

static void gpu_close(struct gpu *g)
{
	g->be->pictures->close(g->pictures);
	wl_backend_close(g->be);
}

/* The oldest batch begun, n pictures of it, as floats. */
static void gpu_take(struct gpu *g, int64_t n, float *out)
{
	size_t count = (size_t)n * 3 * PX;
	uint16_t *half = malloc(count * sizeof(*half));
	void *data;

	OK(g->be->pictures->take(g->pictures, &data, &err));
	if (g->dtype == WL_F32) {
		g->be->download(g->be, out, data, count * sizeof(float));
	} else {
		g->be->download(g->be, half, data, count * sizeof(*half));
		for (size_t i = 0; i < count; i++)
			out[i] = wl_bf16_value(half[i]);
	}
	free(half);
	OK(g->be->sync(g->be, &err));
}

/* --- one picture of every form --- */

struct form {
	int w, h;          /* of the source */
	struct jpeg_form jpeg;
	int x, y, cw, ch;  /* the crop; cw 0: whole */
};

static void draw(struct wl_image *im, int w, int h)
{
	*im = (struct wl_image){w, h, 3, malloc((size_t)w * (size_t)h * 3)};
	assert_non_null(im->data);
	for (int i = 0; i < w * h * 3; i++)
		im->data[i] = (uint8_t)(128 + 90 * sin(i % 3 + i / 3 % w * 0.11) *
						      cos(i / 3 / w * 0.17) +
					(int)(wl_rand64(1, 2, (uint64_t)i) % 30));
}

struct tools {
	struct wl_decoder *d;
	struct wl_resizer *r;
	struct wl_pixels *px;
	struct wl_plane_maker *m;
};

static void emit(void *sink, int y, const float *const rgb[3])
{
	(void)y;
	wl_pixels_row(sink, rgb);
}

static void begin(struct tools *t, const uint8_t *jpg, unsigned long n,
	const struct wl_augment_params *p, double reserve, struct wl_region *g)
{
	int w, h;

	OK(wl_decoder_open(t->d, jpg, n, &w, &h, &err));
	OK(wl_decoder_region(t->d, p->crop_x, p->crop_y, p->crop_w, p->crop_h, S, reserve, g,
		&err));
}

/* The picture of form f both ways: `want` as the loader makes it, and its planes, or with `jpeg`
 * the JPEG for a GPU to decode, where it fits. */
static void both_ways(struct tools *t, const struct form *f, bool jpeg, uint64_t seed, float *want,
	uint8_t *area, struct wl_planes *planes)
{
	double reserve = jpeg ? 0 : 1; /* a GPU decodes at full size */
	bool kept = false;
	struct wl_augment_params p;
	struct wl_augment a;
	struct wl_image im;
	struct wl_region g;
	unsigned long n;
	uint8_t *jpg;

	OK(wl_augment_preset("paper", &a, &err));
	a.jitter = a.blur = 0.8;
	draw(&im, f->w, f->h);
	pictures_encode(&im, f->jpeg, &jpg, &n);
	wl_augment_draw(&a, f->w, f->h, S, seed, 0, 0, &p);
	if (f->cw)
		p.crop_x = f->x, p.crop_y = f->y, p.crop_w = f->cw, p.crop_h = f->ch;
	begin(t, jpg, n, &p, reserve, &g);
	wl_pixels_begin(t->px, &p, mean, std, want);
	OK(wl_resizer_run(t->r, &g, p.flip, wl_decoder_strip, t->d, emit, t->px, &err));
	wl_pixels_finish(t->px);
	begin(t, jpg, n, &p, reserve, &g);
	/* What is not written must not matter. */
	memset(area, 0x55, wl_planes_area(S));
	if (jpeg && wl_decoder_plain(t->d))
		OK(wl_planes_keep_jpeg(t->m, &g, &p, jpg, n, area, planes, &kept, &err));
	if (!kept)
		OK(wl_planes_make(t->m, &g, &p, t->r, wl_decoder_strip, t->d, area, planes,
			&err));
	assert_true(planes->bytes <= wl_planes_area(S));
	free(jpg);
	wl_image_release(&im);
}

static const struct form forms[] = {
	{200, 150, {0}, 0, 0, 0, 0}, {200, 150, {.h = 2, .v = 1}, 0, 0, 0, 0},
	{200, 150, {.h = 1, .v = 1}, 0, 0, 0, 0}, {200, 150, {.h = 1, .v = 2}, 0, 0, 0, 0},
	{201, 151, {0}, 0, 0, 0, 0}, {201, 151, {.grey = true}, 0, 0, 0, 0},
	{333, 77, {0}, 0, 0, 0, 0}, {33, 27, {0}, 0, 0, 0, 0},
	{5, 3, {0}, 0, 0, 0, 0}, {1, 1, {.h = 1, .v = 1}, 0, 0, 1, 1},
	{640, 480, {0}, 200, 100, 300, 280}, {640, 480, {.h = 4, .v = 1}, 639, 479, 1, 1},
	{400, 300, {0}, 17, 33, 61, 59}, {400, 300, {0}, 399, 0, 1, 300},
	/* A panorama: more samples than the area holds, so resized by the loader. */
	{2000, 60, {.h = 1, .v = 1}, 0, 0, 2000, 60}, {2000, 60, {.grey = true}, 0, 0, 2000, 60},
};
enum { FORMS = sizeof(forms) / sizeof(*forms) };

struct cases {
	struct tools t;
	float want[FORMS][3 * PX];
	uint8_t *areas;
	struct wl_planes planes[FORMS];
};

static struct cases *make_cases(bool jpeg, uint64_t seed)
{
	struct cases *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->areas = aligned_alloc(4096, FORMS * wl_planes_area(S));
	c->t = (struct tools){wl_decoder_new(&err), wl_resizer_new(S, &err), wl_pixels_new(S, &err),
		wl_plane_maker_new(S, &err)};
	assert_true(c->areas && c->t.d && c->t.r && c->t.px && c->t.m);
	for (int i = 0; i < FORMS; i++) {
		c->planes[i].area = i;
		both_ways(&c->t, &forms[i], jpeg, seed + (uint64_t)i, c->want[i],
			c->areas + (size_t)i * wl_planes_area(S), &c->planes[i]);
	}
	return c;
}

static void free_cases(struct cases *c)
{
	wl_decoder_free(c->t.d);
	wl_resizer_free(c->t.r);
	wl_pixels_free(c->t.px);
	wl_plane_maker_free(c->t.m);
	free(c->areas);
	free(c);
}

static void compare(const char *by, int form, const float *want, const float *got, double limit)
{
	double worst = apart(want, got);

	if (!(worst <= limit))
		fail_msg("form %d (%d x %d) by %s: %g grey levels apart, over %g", form,
			forms[form].w, forms[form].h, by, worst, limit);
}

static void planes_say_the_picture(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 200; seed += 60) {
		struct cases *c = make_cases(false, seed);
		float *got = malloc(3 * PX * sizeof(float));

		for (int i = 0; i < FORMS; i++) {
			render(&c->planes[i], c->areas + (size_t)i * wl_planes_area(S), got);
			compare("the header", i, c->want[i], got, bound);
		}
		assert_int_equal(c->planes[FORMS - 2].planes, 0);
		assert_int_equal(c->planes[5].planes, 1);
		/* A broken weight must show. */
		((float *)(void *)(c->areas + c->planes[0].plane[0].down.weight))[0] += 0.01f;
		render(&c->planes[0], c->areas, got);
		assert_true(apart(c->want[0], got) > bound);
		free(got);
		free_cases(c);
	}
}

static void gpu_makes_the_picture(void **state)
{
	float *got;

	(void)state;
	if (!wl_backend_cuda_count())
		SKIP("neither a GPU nor its emulation is there");
	got = malloc(FORMS * 3 * PX * sizeof(float));
	for (int mode = 0; mode < 3; mode++) {
		bool half = mode == 1, jpeg = mode == 2;
		struct gpu g = gpu_open(FORMS, half ? WL_BF16 : WL_F32, jpeg);
		struct cases *a = make_cases(jpeg, 7), *b = make_cases(jpeg, 77);

		/* Another decoder's inverse transform may be a level off, which jitter widens. */
		double limit = half ? 255 * 0.229 * 0.011 /* half of 2^-7 of at most 2.64 */
				    : jpeg && !emulated_barrier ? 12 : bound;

		if (!g.pictures) {
			printf("SKIPPED: %s\n", err.msg);
			err = (struct wl_err)WL_ERR_INIT;
			free_cases(a);
			free_cases(b);
			wl_backend_close(g.be);
			continue;
		}
		assert_int_equal(jpeg, a->planes[7].jpeg_bytes > 0); /* 33 x 27: fits */
		assert_int_equal(0, a->planes[FORMS - 2].jpeg_bytes);
		/* Two batches begun, both taken, a third begun: each as it is. */
		OK(g.be->pictures->start(
			g.pictures, a->areas, wl_planes_area(S), a->planes, FORMS, &err));
		OK(g.be->pictures->start(
			g.pictures, b->areas, wl_planes_area(S), b->planes, FORMS, &err));
		for (int turn = 0; turn < 3; turn++) {
			const struct cases *c = turn % 2 ? b : a;

			gpu_take(&g, FORMS, got);
			if (turn == 1)
				OK(g.be->pictures->start(g.pictures, a->areas, wl_planes_area(S),
					a->planes, FORMS, &err));
			for (int i = 0; i < FORMS; i++)
				compare(jpeg ? "the GPU from JPEGs" : "the GPU", i, c->want[i],
					got + i * 3 * PX, limit);
		}
		free_cases(a);
		free_cases(b);
		gpu_close(&g);
	}
	free(got);
}

/* --- through the loader --- */

struct fixture {
	struct wl_toy_home home;
	char set[96];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct wl_toy_set set;

	assert_non_null(f);
	wl_toy_home_make(&f->home, "pictures");
	snprintf(f->set, sizeof(f->set), "%s/set", f->home.dir);
	OK(wl_mkdir_p(f->set, &err));
	set = (struct wl_toy_set){f->set, "train", N, 10, 1, 3, 8, true, 0, false};
	wl_toy_set_write(&set);
	*state = f;
	return 0;
}

static struct wl_loader_opts options(const struct fixture *f, bool shuffle)
{
	struct wl_loader_opts o = {.dir = f->set, .split = "train", .batch = 7, .image_px = S,
		.regions = R, .grid = 2, .use_boxes = true, .text_len = LEN, .vocab = f->home.vocab,
		.shuffle = shuffle, .seed = 5, .world = 1, .threads = 2, .prefetch = 1,
		.max_bad_rate = 0.5};

	memcpy(o.mean, mean, sizeof(mean));
	memcpy(o.std, std, sizeof(std));
	OK(wl_augment_preset("paper", &o.augment, &err));
	return o;
}

static struct wl_loader *open_loader(const struct fixture *f, bool shuffle, bool planes,
	struct wl_loader_memory memory)
{
	struct wl_loader_opts o = options(f, shuffle);

	o.planes_only = planes;
	o.hold = planes ? 2 : 0;
	o.memory = memory;
	return wl_toy_open(&o);
}

static void *lend(void *user, size_t bytes, struct wl_err *e)
{
	(void)e;
	++*(int *)user;
	return aligned_alloc(4096, bytes);
}

static void take_back(void *user, void *p)
{
	--*(int *)user;
	free(p);
}

static void check_batch(const struct wl_batch *a, const struct wl_batch *b)
{
	float *got = malloc(3 * PX * sizeof(float));

	assert_null(b->pixels);
	assert_int_equal(a->n, b->n);
	assert_memory_equal(a->samples, b->samples, (size_t)a->n * sizeof(*a->samples));
	assert_memory_equal(a->params, b->params, (size_t)a->n * sizeof(*a->params));
	assert_memory_equal(a->boxes, b->boxes, (size_t)a->n * R * 4 * sizeof(float));
	for (int64_t i = 0; i < a->n; i++) {
		double worst;

		render(&b->planes[i], b->areas + (size_t)b->planes[i].area * b->area_bytes, got);
		worst = apart(a->pixels + i * 3 * PX, got);
		if (!(worst <= bound))
			fail_msg("sample %lld: %g grey levels apart", (long long)a->samples[i],
				worst);
	}
	free(got);
}

/* Shuffled and in order (where bad samples shorten batches), from borrowed memory. */
static void loader_gives_planes(void **state)
{
	const struct fixture *f = *state;
	int lent = 0;

	for (int shuffle = 0; shuffle < 2; shuffle++) {
		struct wl_loader *l =
			open_loader(f, shuffle, false, (struct wl_loader_memory){0});
		struct wl_loader *m = open_loader(
			f, shuffle, true, (struct wl_loader_memory){lend, take_back, &lent});
		const struct wl_batch *a, *b;
		int more;

		assert_int_equal(lent, 4); /* prefetch + 1 + hold */
		for (int i = 0; i < 8; i++) {
			more = wl_loader_next(l, &a, &err);
			OK(more);
			assert_int_equal(wl_loader_next(m, &b, &err), more);
			if (!more)
				break;
			check_batch(a, b);
		}
		wl_loader_close(l);
		wl_loader_close(m);
		assert_int_equal(lent, 0);
	}
}

/* With hold 2 a batch is as it was when the next has come, and the threads have made the one after
 * that: they would have written over it if they could. */
static void held_batches_stay(void **state)
{
	struct wl_loader *m = open_loader(*state, true, true, (struct wl_loader_memory){0});
	const struct wl_batch *first, *b;
	uint64_t was;

	OK(wl_loader_next(m, &first, &err));
	was = wl_hash64(first->areas, 7 * first->area_bytes, 0);
	OK(wl_loader_next(m, &b, &err));
	assert_ptr_not_equal(first, b);
	for (int64_t since = 0; !wl_loader_ready(m);)
		assert_true(tmp_wait(&since));
	assert_true(was == wl_hash64(first->areas, 7 * first->area_bytes, 0));
	wl_loader_close(m);
}

static struct wl_feed *open_feed(const struct wl_loader_opts *o, struct wl_backend *be)
{
	struct wl_feed *f = wl_feed_open(o, be, &err);

	if (!f)
		fail_msg("%s", err.msg);
	return f;
}

/* The next batch of both feeds is the same, and so is where they then stand; false: the end. */
static bool same_step(struct wl_feed *plain, struct wl_feed *gpu, struct wl_backend *be)
{
	struct wl_loader_pos p, q;
	const struct wl_batch *a, *b;
	const float *want, *made;
	int more = wl_feed_next(plain, &a, &want, &err);
	float *got;

	OK(more);
	assert_int_equal(wl_feed_next(gpu, &b, &made, &err), more);
	wl_feed_tell(plain, &p);
	wl_feed_tell(gpu, &q);
	assert_int_equal(p.epoch, q.epoch);
	assert_int_equal(p.position, q.position);
	assert_int_equal(p.skipped, q.skipped);
	if (!more)
		return false;
	assert_int_equal(a->n, b->n);
	assert_int_equal(a->position, b->position);
	assert_memory_equal(a->samples, b->samples, (size_t)a->n * sizeof(*a->samples));
	assert_memory_equal(a->ids, b->ids, (size_t)a->n * LEN * sizeof(*a->ids));
	got = malloc((size_t)a->n * 3 * PX * sizeof(float));
	be->download(be, got, made, (size_t)a->n * 3 * PX * sizeof(float));
	for (int64_t i = 0; i < a->n; i++)
		assert_true(apart(want + i * 3 * PX, got + i * 3 * PX) <= bound);
	free(got);
	return true;
}

/* With a GPU the trainer is fed what it is fed without: pictures, order, positions to save, and
 * going on from one of them while a batch has been begun. */
static void feeds_are_the_same(void **state)
{
	const struct fixture *f = *state;
	struct wl_loader_pos pos = {0};
	struct wl_backend *be;

	if (!wl_backend_cuda_count())
		SKIP("neither a GPU nor its emulation is there");
	be = wl_backend_cuda_open(0, &err);
	assert_non_null(be);
	for (int shuffle = 0; shuffle < 2; shuffle++) {
		struct wl_loader_opts o = options(f, shuffle);
		struct wl_feed *plain = open_feed(&o, NULL), *gpu = open_feed(&o, be);

		for (int i = 0; i < 7; i++) {
			if (!same_step(plain, gpu, be))
				break;
			if (i == 2)
				wl_feed_tell(gpu, &pos);
			usleep(2000); /* so that the next is ready, mostly */
		}
		OK(wl_feed_seek(plain, &pos, &err));
		OK(wl_feed_seek(gpu, &pos, &err));
		assert_true(same_step(plain, gpu, be));
		wl_feed_close(plain);
		wl_feed_close(gpu);
	}
	wl_backend_close(be);
}

/* A batch that cannot be had is told when it is asked for, not while the one before is in use. */
static void errors_come_in_their_place(void **state)
{
	struct wl_loader_opts o = options(*state, false);
	struct wl_backend *be;
	struct wl_feed *f;
	const struct wl_batch *b;
	const float *pictures;

	if (!wl_backend_cuda_count())
		SKIP("neither a GPU nor its emulation is there");
	be = wl_backend_cuda_open(0, &err);
	assert_non_null(be);
	o.batch = 3; /* sample 3 is bad: in the second batch */
	o.max_bad_rate = 0.01;
	f = open_feed(&o, be);
	for (int64_t since = 0; !wl_loader_ready(wl_feed_loader(f));)
		assert_true(tmp_wait(&since));
	assert_int_equal(wl_feed_next(f, &b, &pictures, &err), 1);
	assert_int_equal(b->n, 3);
	assert_int_equal(wl_feed_next(f, &b, &pictures, &err), -1);
	assert_int_equal(err.code, WL_EDATA);
	assert_non_null(strstr(err.msg, "train-000000_000003"));
	err = (struct wl_err)WL_ERR_INIT;
	wl_feed_close(f);
	wl_backend_close(be);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(planes_say_the_picture),
		cmocka_unit_test(gpu_makes_the_picture),
		cmocka_unit_test(loader_gives_planes),
		cmocka_unit_test(held_batches_stay),
		cmocka_unit_test(feeds_are_the_same),
		cmocka_unit_test(errors_come_in_their_place),
	};

	return cmocka_run_group_tests(tests, setup, wl_toy_teardown);
}
