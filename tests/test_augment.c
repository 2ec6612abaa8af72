/*
 * Augmentation against torchvision (tests/golden/augment.py), and the draws: presets,
 * configuration, crops inside the picture, rates, independence of the parameters.
 */
#include "loader/augment.h"
#include "loader/resize.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const float no_mean[3] = {0, 0, 0}, no_std[3] = {1, 1, 1};

struct golden {
	json_t *json;
	struct wl_buf bin;
	int side;
};

static void golden_open(struct golden *g)
{
	struct wl_err err = WL_ERR_INIT;

	g->json = wl_json_load("tests/golden/augment.json", &err);
	assert_non_null(g->json);
	wl_buf_init(&g->bin, 1 << 20);
	if (wl_read_file("tests/golden/augment.bin", &g->bin, &err) < 0)
		fail_msg("%s", err.msg);
	g->side = (int)json_integer_value(json_object_get(g->json, "side"));
}

static void golden_close(struct golden *g)
{
	json_decref(g->json);
	wl_buf_release(&g->bin);
}

static int int_of(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);

	assert_true(json_is_integer(v));
	return (int)json_integer_value(v);
}

static double worst(const float *a, const float *b, size_t n)
{
	double w = 0;

	for (size_t i = 0; i < n; i++) {
		double d = fabs((double)a[i] - b[i]);

		w = d > w || isnan(d) ? d : w;
	}
	return w;
}

static void params_of(const json_t *c, int side, struct wl_augment_params *p)
{
	size_t i;

	wl_augment_identity(side, side, p);
	for (i = 0; i < 4; i++) {
		json_t *f = json_array_get(json_object_get(c, "factor"), i);
		json_t *o = json_array_get(json_object_get(c, "order"), i);

		p->factor[i] = (float)json_number_value(f);
		p->order[i] = (int32_t)json_integer_value(o);
	}
	p->grey = int_of(c, "grey");
	p->blur_sigma = (float)json_number_value(json_object_get(c, "sigma"));
}

static void colour_like_torchvision(void **state)
{
	struct golden g;
	struct wl_err err = WL_ERR_INIT;
	size_t i, cases = 0;
	json_t *c;

	(void)state;
	golden_open(&g);
	const size_t n = (size_t)g.side * (size_t)g.side;
	const uint8_t *src = (uint8_t *)g.bin.data + int_of(g.json, "src");
	float *plane = calloc(n * 3, sizeof(float)), *out = calloc(n * 3, sizeof(float));
	struct wl_pixels *px = wl_pixels_new(g.side, &err);
	assert_non_null(px);
	for (i = 0; i < n; i++)
		for (int k = 0; k < 3; k++)
			plane[(size_t)k * n + i] = (float)src[3 * i + (size_t)k] / 255.0f;
	json_array_foreach(json_object_get(g.json, "cases"), i, c) {
		struct wl_augment_params p;
		double w;

		if (strcmp(json_string_value(json_object_get(c, "kind")), "colour"))
			continue;
		cases++;
		params_of(c, g.side, &p);
		wl_pixels_begin(px, &p, no_mean, no_std, out);
		for (int y = 0; y < g.side; y++) {
			const float *row = plane + (size_t)y * (size_t)g.side;

			wl_pixels_row(px, (const float *const[]){row, row + n, row + 2 * n});
		}
		wl_pixels_finish(px);
		w = worst(out, (float *)(void *)(g.bin.data + int_of(c, "at")), n * 3);
		if (!(w <= 2e-5))
			fail_msg("%s: differs by %g, at most 2e-5 expected",
				json_string_value(json_object_get(c, "name")), w);
	}
	assert_true(cases >= 15);
	wl_pixels_free(px);
	free(plane);
	free(out);
	golden_close(&g);
}

struct memory_rows {
	const uint8_t *rgb;
	int width, next;
};

static int strip_from_memory(void *source, uint8_t *const *const rows[WL_PLANES_MAX],
	struct wl_err *err)
{
	struct memory_rows *m = source;
	const uint8_t *s = m->rgb + m->next++ * m->width * 3;

	(void)err;
	for (int i = 0; i < m->width; i++)
		for (int k = 0; k < 3; k++)
			rows[k][0][i] = s[3 * i + k];
	return 0;
}

struct memory_sink {
	float *out;
	int side, rows;
};

static void row_to_memory(void *sink, int y, const float *const rgb[3])
{
	struct memory_sink *m = sink;

	assert_int_equal(y, m->rows++);
	for (int i = 0; i < m->side * 3; i++)
		m->out[y * m->side * 3 + i] = rgb[i % 3][i / 3];
}

static void resize_like_torchvision(void **state)
{
	struct golden g;
	struct wl_err err = WL_ERR_INIT;
	size_t i, cases = 0;
	json_t *c;

	(void)state;
	golden_open(&g);
	const size_t n = (size_t)g.side * (size_t)g.side;
	float *out = calloc(n * 3, sizeof(float));
	struct wl_resizer *r = wl_resizer_new(g.side, &err);
	assert_non_null(r);
	json_array_foreach(json_object_get(g.json, "cases"), i, c) {
		struct memory_sink sink = {out, g.side, 0};
		struct memory_rows rows = {0};
		struct wl_region region;
		double box[4], w;

		if (strcmp(json_string_value(json_object_get(c, "kind")), "resize"))
			continue;
		cases++;
		for (size_t k = 0; k < 4; k++)
			box[k] = (double)json_integer_value(
				json_array_get(json_object_get(c, "crop"), k));
		rows.rgb = (uint8_t *)g.bin.data + int_of(c, "src");
		rows.width = int_of(c, "width");
		region = (struct wl_region){box[0], box[1], box[2], box[3], 3, false, {{0}}};
		for (int k = 0; k < 3; k++)
			region.plane[k] = (struct wl_plane){.width = rows.width,
				.height = int_of(c, "height"), .stride = rows.width, .strip = 1,
				.h = 1, .v = 1};
		assert_int_equal(0, wl_resizer_run(r, &region, int_of(c, "flip"),
			strip_from_memory, &rows, row_to_memory, &sink, &err));
		assert_int_equal(sink.rows, g.side);
		w = worst(out, (float *)(void *)(g.bin.data + int_of(c, "at")), n * 3);
		if (!(w <= 2e-5))
			fail_msg("%s: differs by %g, at most 2e-5 expected",
				json_string_value(json_object_get(c, "name")), w);
	}
	assert_true(cases >= 6);
	wl_resizer_free(r);
	free(out);
	golden_close(&g);
}

static void normalises(void **state)
{
	const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
	const float r[2] = {0, 1}, g[2] = {0.25f, 0.75f}, b[2] = {0.5f, 0.5f};
	const float *const rgb[3] = {r, g, b};
	float out[2 * 2 * 3];
	struct wl_augment_params p;
	struct wl_err err = WL_ERR_INIT;
	struct wl_pixels *px = wl_pixels_new(2, &err);

	(void)state;
	assert_non_null(px);
	wl_augment_identity(2, 2, &p);
	wl_pixels_begin(px, &p, mean, std, out);
	wl_pixels_row(px, rgb);
	wl_pixels_row(px, rgb);
	wl_pixels_finish(px);
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < 3; k++)
			assert_float_equal(out[3 * i + k],
				(rgb[k][i % 2] - mean[k]) / std[k], 1e-6);
	wl_pixels_free(px);
}

static void presets_and_parse(void **state)
{
	struct wl_augment a, b;
	struct wl_err err = WL_ERR_INIT;
	json_t *v;

	(void)state;
	assert_int_equal(0, wl_augment_preset("paper", &a, &err));
	assert_true(a.flip == 0.5 && a.jitter == 0.8 && a.grey == 0.2 && a.blur == 0.5);
	assert_int_equal(0, wl_augment_preset("public", &b, &err));
	assert_true(b.flip == 0 && b.crop_scale_min == 1 && b.blur == 0 && b.jitter == 0.8);
	assert_int_equal(-1, wl_augment_preset("papr", &a, &err));
	assert_int_equal(WL_EUSAGE, err.code);
	assert_non_null(strstr(err.msg, "did you mean paper"));

	v = json_pack("{s:s, s:f, s:i}", "preset", "paper", "crop_scale_min", 0.5, "flip", 0);
	assert_int_equal(0, wl_augment_parse(v, &a, &err));
	assert_true(a.crop_scale_min == 0.5 && a.flip == 0 && a.blur == 0.5);
	json_decref(v);
	v = json_pack("{s:f}", "flips", 0.5);
	assert_int_equal(-1, wl_augment_parse(v, &a, &err));
	assert_int_equal(WL_EUSAGE, err.code);
	json_decref(v);
	v = json_pack("{s:f}", "flip", 1.5);
	assert_int_equal(-1, wl_augment_parse(v, &a, &err));
	assert_non_null(strstr(err.msg, "between"));
	json_decref(v);
	v = json_pack("{s:f}", "crop_ratio_min", 2.0);
	assert_int_equal(-1, wl_augment_parse(v, &a, &err));
	json_decref(v);
}

static void draws_are_right(void **state)
{
	struct wl_augment a, no_jitter;
	struct wl_augment_params p, q, r;
	struct wl_err err = WL_ERR_INIT;
	int flips = 0, jitters = 0, greys = 0, blurs = 0, first[4] = {0}, n = 4000;
	double area = 0;

	(void)state;
	assert_int_equal(0, wl_augment_preset("paper", &a, &err));
	no_jitter = a;
	no_jitter.jitter = 0;
	for (int i = 0; i < n; i++) {
		int w = 200 + i % 400, h = 200 + i * 7 % 400;

		wl_augment_draw(&a, w, h, 224, 5, 3, i, &p);
		wl_augment_draw(&a, w, h, 224, 5, 3, i, &q);
		assert_memory_equal(&p, &q, sizeof(p));
		assert_true(p.crop_w >= 1 && p.crop_h >= 1 && p.crop_x >= 0 && p.crop_y >= 0);
		assert_true(p.crop_x + p.crop_w <= w && p.crop_y + p.crop_h <= h);
		area += (double)p.crop_w * p.crop_h / ((double)w * h);
		flips += p.flip;
		jitters += p.order[0] >= 0;
		greys += p.grey;
		blurs += p.blur_sigma > 0;
		if (p.order[0] >= 0)
			first[p.order[0]]++;
		/* Switching one operation off leaves the others as they were. */
		wl_augment_draw(&no_jitter, w, h, 224, 5, 3, i, &r);
		assert_true(r.order[0] == -1 && r.crop_x == p.crop_x && r.flip == p.flip);
		assert_true(r.grey == p.grey && r.blur_sigma == p.blur_sigma);
	}
	assert_true(abs(flips - n / 2) < 200 && abs(jitters - n * 8 / 10) < 150);
	assert_true(abs(greys - n / 5) < 150 && abs(blurs - n / 2) < 200);
	/* Uniform on 0.2 .. 1 has mean 0.6; crops that did not fit were drawn again. */
	assert_true(area / n > 0.45 && area / n < 0.6);
	for (int i = 0; i < 4; i++)
		assert_true(abs(first[i] - jitters / 4) < 150);
	/* Another epoch, sample or seed: another crop. */
	wl_augment_draw(&a, 500, 400, 224, 5, 3, 1, &p);
	wl_augment_draw(&a, 500, 400, 224, 5, 4, 1, &q);
	assert_true(memcmp(&p, &q, sizeof(p)));
	wl_augment_draw(&a, 500, 400, 224, 6, 3, 1, &q);
	assert_true(memcmp(&p, &q, sizeof(p)));
	/* The sigma is scaled with the side. */
	for (int i = 0; i < 20; i++) {
		wl_augment_draw(&a, 500, 400, 224, 5, 3, i, &p);
		wl_augment_draw(&a, 500, 400, 112, 5, 3, i, &q);
		assert_float_equal(p.blur_sigma, 2 * q.blur_sigma, 1e-5);
	}
}

/* A strip that no ratio of 3/4 .. 4/3 fits: the central crop. */
static void narrow_pictures(void **state)
{
	struct wl_augment a;
	struct wl_augment_params p;
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	assert_int_equal(0, wl_augment_preset("paper", &a, &err));
	wl_augment_draw(&a, 1000, 10, 64, 1, 0, 0, &p);
	assert_int_equal(p.crop_h, 10);
	assert_int_equal(p.crop_w, 13);
	assert_int_equal(p.crop_x, 493);
	wl_augment_draw(&a, 1, 1, 64, 1, 0, 0, &p);
	assert_true(p.crop_w == 1 && p.crop_h == 1);
}

/* Blur wider than the picture is cut to what reflection allows, and stays an average. */
static void blur_on_tiny_pictures(void **state)
{
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	for (int side = 1; side <= 5; side++) {
		struct wl_pixels *px = wl_pixels_new(side, &err);
		float row[5], out[5 * 5 * 3];
		const float *const rgb[3] = {row, row, row};
		struct wl_augment_params p;

		assert_non_null(px);
		for (int i = 0; i < side; i++)
			row[i] = 0.5f;
		wl_augment_identity(side, side, &p);
		p.blur_sigma = 3;
		wl_pixels_begin(px, &p, no_mean, no_std, out);
		for (int y = 0; y < side; y++)
			wl_pixels_row(px, rgb);
		wl_pixels_finish(px);
		for (int i = 0; i < side * side * 3; i++)
			assert_float_equal(out[i], 0.5f, 1e-6);
		wl_pixels_free(px);
	}
}

static void captions_drawn(void **state)
{
	int seen[5] = {0};

	(void)state;
	for (int e = 0; e < 200; e++) {
		int64_t c = wl_caption_draw(5, 1, e, 17);

		assert_true(c >= 0 && c < 5);
		seen[c]++;
	}
	for (int i = 0; i < 5; i++)
		assert_true(seen[i] > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(colour_like_torchvision),
		cmocka_unit_test(resize_like_torchvision),
		cmocka_unit_test(normalises),
		cmocka_unit_test(presets_and_parse),
		cmocka_unit_test(draws_are_right),
		cmocka_unit_test(narrow_pictures),
		cmocka_unit_test(blur_on_tiny_pictures),
		cmocka_unit_test(captions_drawn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
