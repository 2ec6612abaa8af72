/*
 * train/model against PyTorch, timm and transformers: tests/golden/model.json,
 * made by golden/model.py.  Structures by a hash of names and shapes, towers by
 * their outputs (relative error 1e-4) and by two numbers of every gradient
 * (1e-3), five MoCo steps by losses, queues and weights.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/json.h"
#include "tests/support/fill.h"
#include "train/moco/moco.h"
#include "train/model/brivl.h"
#include "train/model/efficientnet.h"
#include "train/optim/optim.h"

enum { N = 4, REGIONS = 6, LENGTH = 10 };

static json_t *golden;
static struct wl_backend *backend;

static int group_setup(void **state)
{
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	json_t *more = wl_json_load("tests/golden/objective.json", &err);

	golden = wl_json_load("tests/golden/model.json", &err);
	if (golden && more) {
		json_object_set(golden, "vit", json_object_get(more, "vit"));
		json_object_set(golden, "roi_align", json_object_get(more, "roi_align"));
	}
	json_decref(more);
	backend = wl_backend_cpu_open(0, &err);
	if (!golden || !backend)
		print_error("%s\n", err.msg);
	return golden && backend ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	json_decref(golden);
	wl_backend_close(backend);
	return 0;
}

static void ok(int ret, const struct wl_err *err)
{
	if (ret < 0)
		fail_msg("%s", err->msg);
}

/* --- structures --- */

static int by_name(const void *a, const void *b)
{
	const struct wl_param *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* The hash of golden/model.py's names_hash: FNV-1a over "name 3x4\n" in the order of names. */
static void names_hash(const struct wl_params *p, size_t skip, char hex[17], int64_t *weights)
{
	struct wl_param *sorted = malloc((size_t)p->n * sizeof *sorted);
	uint64_t h = 0xcbf29ce484222325u;

	memcpy(sorted, p->item, (size_t)p->n * sizeof *sorted);
	qsort(sorted, (size_t)p->n, sizeof *sorted, by_name);
	*weights = 0;
	for (int i = 0; i < p->n; i++) {
		const struct wl_shape *s = &sorted[i].torch_shape;
		char line[300];
		int n = snprintf(line, sizeof line, "%s ", sorted[i].name + skip);

		for (int k = 0; k < s->rank; k++)
			n += snprintf(line + n, sizeof line - (size_t)n, "%s%lld", k ? "x" : "",
				(long long)s->dim[k]);
		n += snprintf(line + n, sizeof line - (size_t)n, "\n");
		for (int k = 0; k < n; k++)
			h = (h ^ (unsigned char)line[k]) * 0x100000001b3u;
		if (!(sorted[i].flags & WL_PARAM_BUFFER))
			*weights += sorted[i].count;
	}
	snprintf(hex, 17, "%016llx", (unsigned long long)h);
	free(sorted);
}

/* Every EfficientNet has timm's names and shapes, one for one. */
static void test_structures(void **state)
{
	const json_t *all = json_object_get(golden, "structures"), *want;
	const char *name;

	(void)state;
	assert_int_equal(json_object_size(all), 13);
	json_object_foreach((json_t *)(uintptr_t)all, name, want) {
		struct wl_graph_options opts = {.train = true};
		struct wl_image_config c = {0};
		struct wl_err err = WL_ERR_INIT;
		struct wl_params p;
		struct wl_graph *g;
		int64_t weights;
		char hex[17];

		wl_params_init(&p);
		snprintf(c.encoder, sizeof c.encoder, "%s", name);
		ok(wl_effnet_encoder.defaults(&c, &err), &err);
		g = wl_graph_new(name, &p, &opts, &err);
		assert_non_null(g);
		wl_effnet_encoder.features(g, &c, "x.",
			wl_g_input(g, "images", WL_F32, WL_SHAPE(1, 64, 64, 3)));
		names_hash(&p, 2, hex, &weights);
		assert_int_equal(p.n, json_integer_value(json_object_get(want, "tensors")));
		assert_int_equal(weights, json_integer_value(json_object_get(want, "params")));
		assert_string_equal(hex, json_string_value(json_object_get(want, "hash")));
		wl_graph_free(g);
		wl_params_release(&p);
	}
}

/* --- towers --- */

/* The model of the goldens (TINY in model.py). */
static struct wl_model_config tiny(const char *encoder)
{
	struct wl_model_config c;
	struct wl_err err = WL_ERR_INIT;
	json_t *v = json_pack(
		"{s:s, s:i, s:{s:s, s:i, s:f, s:f, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}},"
		" s:{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}}}",
		"preset", "small", "dim", 24, "image", "encoder", encoder, "px", 96, "width",
		strcmp(encoder, "b0") ? 0.3 : 0.25, "depth", 0.5,
		"head", 48, "region_width", 32, "regions", REGIONS, "attention", "layers", 2,
		"heads", 4, "ffn", 40, "dropout", 0, "text", "length", LENGTH, "vocab", 100,
		"hidden", 32, "layers", 2, "heads", 4, "ffn", 64, "positions", 16, "dropout", 0,
		"attention_dropout", 0, "attention", "layers", 2, "heads", 4, "ffn", 40, "dropout",
		0);

	assert_non_null(v);
	ok(wl_model_parse(v, &c, &err), &err);
	json_decref(v);
	return c;
}

/* Boxes and mask as box_input of model.py. */
static void fill_boxes(float *boxes, float *mask, float size)
{
	float raw[N * REGIONS * 4];

	fill_values("input.boxes", N * REGIONS * 4, raw);
	for (int n = 0; n < N; n++)
		for (int r = 0; r < REGIONS; r++) {
			int used = REGIONS - 1 - n % 3;
			float *b = boxes + (n * REGIONS + r) * 4, *u = raw + (n * REGIONS + r) * 4;

			mask[n * REGIONS + r] = r <= used;
			for (int k = 0; k < 2; k++) {
				b[k] = r > used ? 0 :
				       r == used ? 0 : (fminf(u[k], u[k + 2]) + 1) / 2 * size;
				b[k + 2] = r > used  ? 0 :
					   r == used ? size :
						       (fmaxf(u[k], u[k + 2]) + 1) / 2 * size;
			}
		}
}

static void fill_text(int32_t *ids, float *mask)
{
	fill_tokens("input.ids", N * LENGTH, 100, ids);
	for (int n = 0; n < N; n++)
		for (int s = 0; s < LENGTH; s++) {
			mask[n * LENGTH + s] = s < LENGTH - n % 4 * 2;
			if (s >= LENGTH - n % 4 * 2)
				ids[n * LENGTH + s] = 0;
		}
}

/* |x - want| / |want| <= tolerance. */
static void assert_close(const char *what, const float *x, const json_t *want, double tolerance)
{
	double diff = 0, norm = 0;

	for (size_t i = 0; i < json_array_size(want); i++) {
		double w = json_number_value(json_array_get(want, i)), d = (double)x[i] - w;

		diff += d * d;
		norm += w * w;
	}
	if (!(sqrt(diff / norm) <= tolerance))
		fail_msg("%s: relative error %.3g, allowed %.3g", what, sqrt(diff / norm),
			tolerance);
}

/* [norm, probe] of x against the golden, relative to the norm but never to less than floor. */
static void assert_probe(const char *name, int64_t n, const float *x, const json_t *want,
	double tolerance, double floor)
{
	double norm, dot, wnorm = json_number_value(json_array_get(want, 0));
	double wdot = json_number_value(json_array_get(want, 1));
	double allowed = tolerance * fmax(wnorm, floor);
	char probe[300];

	assert_int_equal(json_array_size(want), 2);
	snprintf(probe, sizeof probe, "probe.%s", name);
	fill_probe(probe, n, x, &norm, &dot);
	if (!(fabs(norm - wnorm) <= allowed && fabs(dot - wdot) <= allowed))
		fail_msg("%s: norm %.9g and probe %.9g, expected %.9g and %.9g within %.3g", name,
			norm, dot, wnorm, wdot, allowed);
}

struct tower {
	struct wl_model_config config;
	struct wl_params params;
	struct wl_graph *train, *eval;
	wl_tid out_train, out_eval;
};

static wl_tid build(struct wl_graph *g, const struct wl_model_config *c, bool image)
{
	wl_tid a, b, m;

	if (image) {
		a = wl_g_input(g, "images", WL_F32, WL_SHAPE(N, c->image.px, c->image.px, 3));
		b = wl_g_input(g, "boxes", WL_F32, WL_SHAPE(N, REGIONS, 4));
		m = wl_g_input(g, "mask", WL_F32, WL_SHAPE(N, REGIONS));
		return wl_brivl_image(g, c, a, b, m);
	}
	a = wl_g_input(g, "ids", WL_I32, WL_SHAPE(N, LENGTH));
	m = wl_g_input(g, "mask", WL_F32, WL_SHAPE(N, LENGTH));
	return wl_brivl_text(g, c, a, m);
}

static void *input(struct wl_graph *g, const char *name)
{
	void *p = wl_graph_data(g, wl_graph_find(g, name));

	assert_non_null(p);
	return p;
}

static void fill_inputs(struct wl_graph *g, const struct wl_model_config *c, bool image)
{
	if (image) {
		fill_values("input.image", (int64_t)N * c->image.px * c->image.px * 3,
			input(g, "images"));
		fill_boxes(input(g, "boxes"), input(g, "mask"), (float)c->image.px);
	} else {
		fill_text(input(g, "ids"), input(g, "mask"));
	}
}

static void tower_open(struct tower *t, const struct wl_model_config *c, bool image)
{
	struct wl_graph_options train = {.train = true, .poison = true}, eval = {.poison = true};
	struct wl_err err = WL_ERR_INIT;
	wl_tid probe;

	t->config = *c;
	wl_params_init(&t->params);
	t->train = wl_graph_new("train", &t->params, &train, &err);
	t->eval = wl_graph_new("eval", &t->params, &eval, &err);
	assert_true(t->train && t->eval);
	t->out_train = build(t->train, c, image);
	t->out_eval = build(t->eval, c, image);
	wl_g_output(t->train, t->out_train, "embeddings");
	wl_g_output(t->eval, t->out_eval, "embeddings");
	probe = wl_g_input(t->train, "probe", WL_F32, WL_SHAPE(N, c->dim));
	wl_g_loss(t->train, wl_g_dot(t->train, t->out_train, probe), 1);
	ok(wl_params_seal(&t->params, backend, true, &err), &err);
	fill_params(&t->params);
	ok(wl_graph_compile(t->train, backend, &err), &err);
	ok(wl_graph_compile(t->eval, backend, &err), &err);
	fill_inputs(t->train, c, image);
	fill_inputs(t->eval, c, image);
	fill_values("probe.embedding", (int64_t)N * c->dim, input(t->train, "probe"));
}

static void tower_close(struct tower *t)
{
	wl_graph_free(t->train);
	wl_graph_free(t->eval);
	wl_params_release(&t->params);
}

/* All gradients, and the buffers after the one step of training. */
static void check_params(const struct tower *t, const json_t *want)
{
	const json_t *grads = json_object_get(want, "grad");
	const json_t *buffers = json_object_get(want, "buffers"), *v;
	double floor = 0;
	const char *name;
	int seen = 0;

	/* Gradients that are 0 in exact arithmetic (a bias before a batch norm, a key's bias) are
	 * noise on both sides; they are held to the size of the others. */
	json_object_foreach((json_t *)(uintptr_t)grads, name, v)
		floor = fmax(floor, 1e-3 * json_number_value(json_array_get(v, 0)));
	for (int i = 0; i < t->params.n; i++) {
		const struct wl_param *e = &t->params.item[i];
		bool buffer = e->flags & WL_PARAM_BUFFER;
		float *host = malloc((size_t)e->count * sizeof *host);

		v = json_object_get(buffer ? buffers : grads, e->name);
		if (!v)
			fail_msg("%s is not in the golden", e->name);
		if (buffer)
			wl_param_to_torch(&t->params, i, host);
		else
			wl_param_grad_to_torch(&t->params, i, host);
		assert_probe(e->name, e->count, host, v, buffer ? 1e-4 : 1e-3,
			buffer ? 1e-3 : floor);
		free(host);
		seen++;
	}
	assert_int_equal(seen, json_object_size(grads) + json_object_size(buffers));
}

static void check_tower(const char *key, const struct wl_model_config *c, bool image)
{
	const json_t *want = json_object_get(golden, key);
	struct wl_err err = WL_ERR_INIT;
	struct tower t;

	assert_non_null(want);
	tower_open(&t, c, image);
	wl_params_zero_grad(&t.params);
	ok(wl_graph_run(t.train, 1, 0, &err), &err);
	assert_close("training forward", wl_graph_data(t.train, t.out_train),
		json_object_get(want, "train"), 1e-4);
	check_params(&t, want);
	ok(wl_graph_run(t.eval, 1, 0, &err), &err);
	assert_close("inference", wl_graph_data(t.eval, t.out_eval),
		json_object_get(want, "eval"), 1e-4);
	tower_close(&t);
}

static void test_image_tower(void **state)
{
	struct wl_model_config c = tiny("b0");

	(void)state;
	check_tower("image", &c, true);
}

static void test_lite_tower(void **state)
{
	struct wl_model_config c = tiny("lite0");

	(void)state;
	check_tower("image_lite", &c, true);
}

/* The same tower with a vision transformer instead, by a line of the configuration. */
static void test_vit_tower(void **state)
{
	struct wl_model_config c = tiny("vit-ti16");

	(void)state;
	c.image.vit.hidden = 32;
	c.image.vit.layers = 2;
	c.image.vit.heads = 4;
	check_tower("vit", &c, true);
}

static void test_roi_align(void **state)
{
	const json_t *want = json_object_get(golden, "roi_align");
	const json_t *boxes = json_object_get(want, "boxes");
	struct wl_graph_options opts = {.train = true};
	struct wl_err err = WL_ERR_INIT;
	struct wl_params none;
	struct wl_graph *g;
	wl_tid map, at, y, probe;

	(void)state;
	wl_params_init(&none);
	g = wl_graph_new("roi", &none, &opts, &err);
	assert_non_null(g);
	map = wl_g_input(g, "map", WL_F32, WL_SHAPE(2, 4, 5, 7));
	at = wl_g_input(g, "boxes", WL_F32, WL_SHAPE(2, 4, 4));
	probe = wl_g_input(g, "probe", WL_F32, WL_SHAPE(2, 4, 7));
	y = wl_g_roi_align(g, map, at, 128, 128);
	wl_g_output(g, y, "y");
	wl_g_want_grad(g, map);
	wl_g_loss(g, wl_g_dot(g, y, probe), 1);
	ok(wl_params_seal(&none, backend, true, &err), &err);
	ok(wl_graph_compile(g, backend, &err), &err);
	fill_values("roi.map", (int64_t)2 * 4 * 5 * 7, wl_graph_data(g, map));
	fill_values("roi.probe", (int64_t)8 * 7, wl_graph_data(g, probe));
	for (size_t i = 0; i < json_array_size(boxes); i++)
		((float *)wl_graph_data(g, at))[i] =
			(float)json_number_value(json_array_get(boxes, i));
	ok(wl_graph_run(g, 1, 0, &err), &err);
	assert_int_equal(json_array_size(json_object_get(want, "y")), 56);
	assert_close("roi_align", wl_graph_data(g, y), json_object_get(want, "y"), 1e-5);
	assert_close("roi_align gradient", wl_graph_grad(g, map), json_object_get(want, "grad"),
		1e-5);
	wl_graph_free(g);
	wl_params_release(&none);
}

static void test_text_tower(void **state)
{
	struct wl_model_config c = tiny("b0");

	(void)state;
	check_tower("text", &c, false);
	c.text.pad_mask = false;
	check_tower("text_unmasked", &c, false);
}

/* --- MoCo --- */

static wl_tid image_of(struct wl_graph *g, const void *model, wl_tid images, wl_tid boxes,
	wl_tid mask)
{
	return wl_brivl_image(g, model, images, boxes, mask);
}

static wl_tid text_of(struct wl_graph *g, const void *model, wl_tid ids, wl_tid mask)
{
	return wl_brivl_text(g, model, ids, mask);
}

static void fill_queue(struct wl_queue *q, const char *name)
{
	fill_values(name, (int64_t)(q->size * q->dim), q->keys);
	for (size_t i = 0; i < q->size; i++) {
		double sum = 0;

		for (size_t d = 0; d < q->dim; d++)
			sum += (double)q->keys[i * q->dim + d] * (double)q->keys[i * q->dim + d];
		for (size_t d = 0; d < q->dim; d++)
			q->keys[i * q->dim + d] = (float)(q->keys[i * q->dim + d] / sqrt(sum));
	}
}

static void check_watched(const char *what, const struct wl_params *p, const json_t *want)
{
	const char *name;
	const json_t *v;

	assert_true(json_object_size(want) > 0);
	json_object_foreach((json_t *)(uintptr_t)want, name, v) {
		int i = wl_params_find(p, name);
		float *host;

		if (i < 0)
			fail_msg("%s: %s is missing", what, name);
		host = malloc((size_t)p->item[i].count * sizeof *host);
		wl_param_to_torch(p, i, host);
		assert_probe(name, p->item[i].count, host, v, 1e-3, 0);
		free(host);
	}
}

static double number(const json_t *o, const char *key)
{
	assert_true(json_is_number(json_object_get(o, key)));
	return json_number_value(json_object_get(o, key));
}

static void check_queue(const struct wl_queue *q, const json_t *want)
{
	float corner[8 * 4];

	for (size_t i = 0; i < 32; i++)
		corner[i] = q->keys[i / 4 * q->dim + i % 4];
	assert_close("queue", corner, want, 2e-3);
}

static void assert_loss(size_t step, double x, double want)
{
	if (!(fabs(x - want) <= 2e-3 * want))
		fail_msg("step %zu: loss %.9g, expected %.9g", step, x, want);
}

static void run_moco(struct wl_moco *m, struct wl_optim *o, const json_t *want)
{
	static float images[N * 96 * 96 * 3], boxes[N * REGIONS * 4], rmask[N * REGIONS];
	static float tmask[N * LENGTH];
	static int32_t ids[N * LENGTH];
	const json_t *steps = json_object_get(want, "steps");
	struct wl_err err = WL_ERR_INIT;

	fill_values("input.image", (int64_t)N * 96 * 96 * 3, images);
	fill_boxes(boxes, rmask, 96);
	fill_text(ids, tmask);
	for (size_t s = 0; s < json_array_size(steps); s++) {
		int64_t pairs[N];
		uint64_t hashes[N];
		struct wl_moco_batch b = {images, boxes, rmask, ids, tmask, pairs, hashes};
		const json_t *step = json_array_get(steps, s);
		struct wl_moco_result r;

		/* The golden rule knows no identities: each key counts as another pair's. */
		for (size_t i = 0; i < N; i++) {
			pairs[i] = (int64_t)(s * N + i + 1);
			hashes[i] = 1000 + s * N + i;
		}
		ok(wl_moco_step(m, &b, 1, s, &r, &err), &err);
		assert_loss(s, r.loss_i2t, number(step, "i2t"));
		assert_loss(s, r.loss_t2i, number(step, "t2i"));
		wl_optim_step(o, number(want, "lr"), wl_optim_grad_norm(o));
		ok(wl_moco_push(m, &err), &err);
	}
}

/* Five steps of the published rule, from losses to the momentum tower's weights. */
static void test_moco_steps(void **state)
{
	const json_t *want = json_object_get(golden, "moco");
	struct wl_model_config c = tiny("b0");
	struct wl_towers towers = {.model = &c, .image = image_of, .text = text_of,
		.image_px = c.image.px, .regions = REGIONS, .text_len = LENGTH};
	struct wl_moco_config mc = {.queue = (int64_t)number(want, "queue"),
		.momentum = number(want, "momentum"), .tau = number(want, "tau")};
	struct wl_optim_config oc = {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6,
		.weight_decay = number(want, "weight_decay")};
	struct wl_err err = WL_ERR_INIT;
	struct wl_params online;
	struct wl_optim optim;
	struct wl_moco m;
	int scale;

	(void)state;
	wl_params_init(&online);
	ok(wl_moco_init(&m, &towers, &mc, &online, N, 1, &err), &err);
	ok(wl_params_seal(&online, backend, true, &err), &err);
	ok(wl_moco_start(&m, &err), &err);
	ok(wl_optim_init(&optim, &online, &oc, &err), &err);
	fill_params(&online);
	wl_moco_copy(&m);
	scale = wl_params_find(&online, WL_MOCO_SCALE);
	assert_true(scale >= 0 && !(online.item[scale].flags & WL_PARAM_TRAINABLE));
	fill_queue(&m.image_queue, "img_queue");
	fill_queue(&m.text_queue, "text_queue");
	run_moco(&m, &optim, want);
	check_queue(&m.image_queue, json_object_get(want, "img_queue"));
	check_queue(&m.text_queue, json_object_get(want, "text_queue"));
	check_watched("online", &online, json_object_get(want, "online"));
	check_watched("momentum", &m.momentum, json_object_get(want, "momentum_tower"));
	wl_optim_release(&optim);
	wl_moco_release(&m);
	wl_params_release(&online);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_structures),
		cmocka_unit_test(test_image_tower),
		cmocka_unit_test(test_lite_tower),
		cmocka_unit_test(test_vit_tower),
		cmocka_unit_test(test_roi_align),
		cmocka_unit_test(test_text_tower),
		cmocka_unit_test(test_moco_steps),
	};

	return cmocka_run_group_tests_name("model", tests, group_setup, group_teardown);
}
