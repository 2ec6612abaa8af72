/*
 * The objectives against PyTorch (tests/golden/objective.json): ten whole steps of cross-modal
 * MoCo on shrunken `public` and `paper` models (losses, gradient norms, queues, weights of both
 * towers, Adam's moments), extra positives, CLIP; and what follows from the definitions: CLIP in
 * parts or on several ranks is CLIP of the whole batch.
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
#include "train/model/init.h"
#include "train/moco/moco.h"
#include "train/optim/optim.h"
#include "train/towers.h"

enum { N = 4, REGIONS = 6, LENGTH = 10, PX = 96 };

static json_t *golden;
static struct wl_backend *backend;

static int group_setup(void **state)
{
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	golden = wl_json_load("tests/golden/objective.json", &err);
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

static double number(const json_t *o, const char *key)
{
	assert_true(json_is_number(json_object_get(o, key)));
	return json_number_value(json_object_get(o, key));
}

/* |x - want| within tolerance of want. */
static void near(const char *what, size_t step, double x, double want, double tolerance)
{
	if (!(fabs(x - want) <= tolerance * fabs(want)))
		fail_msg("%s at step %zu: %.9g, PyTorch %.9g (allowed %g relative)", what, step, x,
			want, tolerance);
}

/* --- the golden's model and batches --- */

static struct wl_model_config model_of(const json_t *g)
{
	const json_t *c = json_object_get(g, "config");
	struct wl_err err = WL_ERR_INIT;
	struct wl_model_config m;
	json_t *v = json_pack(
		"{s:s, s:i, s:{s:s, s:i, s:f, s:f, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}},"
		" s:{s:i, s:b, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}}}",
		"preset", "small", "dim", (int)number(c, "dim"), "image", "encoder", "b0", "px", PX,
		"width", number(c, "width"), "depth", number(c, "depth"), "head",
		(int)number(c, "head"), "region_width", (int)number(c, "region"), "regions",
		REGIONS, "attention", "layers", 2, "heads", 4, "ffn", 40, "dropout", 0, "text",
		"length", LENGTH, "pad_mask", json_is_true(json_object_get(c, "pad_mask")), "vocab",
		(int)number(c, "vocab"), "hidden", 32, "layers", (int)number(c, "bert_layers"),
		"heads", 4, "ffn", 64, "positions", 16, "dropout", 0, "attention_dropout", 0,
		"attention", "layers", 2, "heads", 4, "ffn", 40, "dropout", 0);

	assert_non_null(v);
	json_object_set(v, "freeze", json_object_get(g, "freeze"));
	ok(wl_model_parse(v, &m, &err), &err);
	json_decref(v);
	return m;
}

struct data {
	float images[N * PX * PX * 3], boxes[N * REGIONS * 4], rmask[N * REGIONS];
	float tmask[N * LENGTH];
	int32_t ids[N * LENGTH];
	int64_t pairs[N];
	uint64_t hashes[N];
	struct wl_moco_batch b;
};

/* batch() of objective.py. */
static const struct wl_moco_batch *batch(struct data *d, size_t step, int vocab)
{
	float raw[N * REGIONS * 4];
	char name[64];

	snprintf(name, sizeof name, "input.image.%zu", step);
	fill_values(name, (int64_t)N * PX * PX * 3, d->images);
	snprintf(name, sizeof name, "input.ids.%zu", step);
	fill_tokens(name, N * LENGTH, vocab, d->ids);
	fill_values("input.boxes", N * REGIONS * 4, raw);
	for (int i = 0; i < N * REGIONS; i++) {
		int used = REGIONS - 1 - i / REGIONS % 3, r = i % REGIONS;

		d->rmask[i] = r <= used;
		for (int k = 0; k < 2; k++) {
			float lo = fminf(raw[4 * i + k], raw[4 * i + k + 2]);
			float hi = fmaxf(raw[4 * i + k], raw[4 * i + k + 2]);

			d->boxes[4 * i + k] = r >= used ? 0 : (lo + 1) / 2 * PX;
			d->boxes[4 * i + k + 2] = r > used ? 0 : r == used ? PX : (hi + 1) / 2 * PX;
		}
	}
	for (int i = 0; i < N * LENGTH; i++) {
		d->tmask[i] = i % LENGTH < LENGTH - i / LENGTH % 4 * 2;
		if (d->tmask[i] == 0)
			d->ids[i] = 0;
	}
	/* The golden rules know no identities: each key counts as another pair's. */
	for (size_t i = 0; i < N; i++) {
		d->pairs[i] = (int64_t)(step * N + i + 1);
		d->hashes[i] = 1000 + step * N + i;
	}
	d->b = (struct wl_moco_batch){d->images, d->boxes, d->rmask, d->ids, d->tmask, d->pairs,
		d->hashes};
	return &d->b;
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

/* [norm, probe] of x within tolerance * max(norm, floor). */
static void check_probe(const char *what, const char *name, int64_t n, const float *x,
	const json_t *want, double tolerance, double floor)
{
	double norm, dot, wnorm = json_number_value(json_array_get(want, 0));
	double wdot = json_number_value(json_array_get(want, 1));
	double allowed = tolerance * fmax(wnorm, floor);
	char probe[300];

	snprintf(probe, sizeof probe, "probe.%s", name);
	fill_probe(probe, n, x, &norm, &dot);
	if (!(fabs(norm - wnorm) <= allowed && fabs(dot - wdot) <= allowed))
		fail_msg("%s %s: norm %.9g and probe %.9g, PyTorch %.9g and %.9g (allowed %.3g)",
			what, name, norm, dot, wnorm, wdot, allowed);
}

/* Every tensor that the golden lists, read from `values` laid out as the store: matrices and
 * convolutions within 1e-3, gains and biases, which start small and move by as much in a few of
 * Adam's steps, within 1e-2. */
static void check_state(const char *what, const struct wl_params *p, const float *values,
	const json_t *want, double floor_share)
{
	double floor = 0;
	const char *name;
	const json_t *v;

	assert_true(json_object_size(want) > 10);
	json_object_foreach((json_t *)(uintptr_t)want, name, v)
		floor = fmax(floor, floor_share * json_number_value(json_array_get(v, 0)));
	json_object_foreach((json_t *)(uintptr_t)want, name, v) {
		int i = wl_params_find(p, name);
		float *host;

		if (i < 0)
			fail_msg("%s: %s is missing", what, name);
		host = malloc((size_t)p->item[i].count * sizeof *host);
		wl_layout_to_torch(&p->item[i], values + p->item[i].offset, host);
		check_probe(what, name, p->item[i].count, host, v,
			p->item[i].torch_shape.rank > 1 ? 1e-3 : 1e-2, floor);
		free(host);
	}
}

struct rig {
	struct wl_model_config model;
	struct wl_towers towers;
	struct wl_params online;
	struct wl_moco m;
	struct wl_optim optim;
};

static void rig_open(struct rig *r, const struct wl_moco_config *mc, double decay, double clip)
{
	struct wl_optim_config oc = {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6,
		.weight_decay = decay, .clip_norm = clip};
	struct wl_err err = WL_ERR_INIT;

	wl_brivl_towers(&r->towers, &r->model);
	wl_params_init(&r->online);
	ok(wl_moco_init(&r->m, &r->towers, mc, &r->online, N, 1, &err), &err);
	ok(wl_model_freeze(&r->online, &r->model, &err), &err);
	ok(wl_params_seal(&r->online, backend, true, &err), &err);
	ok(wl_moco_start(&r->m, &err), &err);
	ok(wl_optim_init(&r->optim, &r->online, &oc, &err), &err);
	fill_params(&r->online);
	wl_moco_copy(&r->m);
}

static void rig_close(struct rig *r)
{
	wl_optim_release(&r->optim);
	wl_moco_release(&r->m);
	wl_params_release(&r->online);
}

/* The steps of a golden: losses within 1e-3, and tau, gradient norm. */
static void run_steps(struct rig *r, const json_t *g)
{
	static struct data d;
	const json_t *steps = json_object_get(g, "steps");
	struct wl_err err = WL_ERR_INIT;

	for (size_t s = 0; s < json_array_size(steps); s++) {
		const json_t *step = json_array_get(steps, s);
		struct wl_moco_result result;
		double norm;

		ok(wl_moco_step(&r->m, batch(&d, s, r->model.text.bert.vocab), 1, s, &result, &err),
			&err);
		near("image to text", s, result.loss_i2t, number(step, "i2t"), 1e-3);
		near("text to image", s, result.loss_t2i, number(step, "t2i"), 1e-3);
		norm = wl_optim_grad_norm(&r->optim);
		if (json_object_get(step, "norm"))
			/* The first is the gradient alone; later ones follow from weights that
			 * differ by rounding. */
			near("gradient norm", s, norm, number(step, "norm"), s ? 1e-2 : 1e-3);
		wl_optim_step(&r->optim, number(g, "lr"), norm);
		wl_moco_clamp_tau(&r->m);
		near("tau", s, wl_moco_tau(&r->m), number(step, "tau"), 1e-4);
		ok(wl_moco_push(&r->m, &err), &err);
	}
}

static void moco_open(struct rig *r, const json_t *g)
{
	struct wl_moco_config mc = {.queue = (int64_t)number(g, "queue"),
		.momentum = number(g, "momentum"), .tau = number(g, "tau"),
		.learn_tau = json_is_true(json_object_get(g, "learn_tau")),
		.extra_positives = (int64_t)number(g, "top")};

	r->model = model_of(g);
	rig_open(r, &mc, number(g, "weight_decay"), number(g, "clip"));
	fill_queue(&r->m.image_queue, "img_queue");
	fill_queue(&r->m.text_queue, "text_queue");
}

static void check_moco(const char *key)
{
	const json_t *g = json_object_get(golden, key);
	struct rig r;

	assert_int_equal(json_array_size(json_object_get(g, "steps")), 10);
	moco_open(&r, g);
	run_steps(&r, g);
	check_probe("queue", "img_queue", (int64_t)(r.m.image_queue.size * r.m.image_queue.dim),
		r.m.image_queue.keys, json_object_get(g, "img_queue"), 1e-3, 0);
	check_probe("queue", "text_queue", (int64_t)(r.m.text_queue.size * r.m.text_queue.dim),
		r.m.text_queue.keys, json_object_get(g, "text_queue"), 1e-3, 0);
	assert_int_equal(r.m.image_queue.next, number(g, "ptr"));
	check_state("weight", &r.online, r.online.value, json_object_get(g, "online"), 0);
	check_state("momentum weight", &r.online, r.m.momentum.value, json_object_get(g, "keys"),
		0);
	/* Moments that are 0 in exact arithmetic (a key's bias) are noise on both sides. */
	check_state("exp_avg", &r.online, r.optim.m, json_object_get(g, "exp_avg"), 1e-2);
	check_state("exp_avg_sq", &r.online, r.optim.v, json_object_get(g, "exp_avg_sq"), 1e-2);
	rig_close(&r);
}

static void public_takes_torchs_ten_steps(void **state)
{
	(void)state;
	check_moco("public");
}

static void paper_takes_torchs_ten_steps(void **state)
{
	(void)state;
	check_moco("paper");
}

static void extra_positives_as_published(void **state)
{
	const json_t *g = json_object_get(golden, "extra"), *v;
	int extra = 0;
	struct rig r;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(g, "steps"), i, v)
		extra += (int)number(v, "extra");
	assert_true(extra > 0); /* or the golden shows nothing */
	moco_open(&r, g);
	run_steps(&r, g);
	rig_close(&r);
}

static void clip_takes_torchs_steps(void **state)
{
	const json_t *g = json_object_get(golden, "clip");
	struct wl_moco_config mc = {.objective = WL_OBJECTIVE_CLIP, .tau = number(g, "tau"),
		.learn_tau = true};
	struct rig r;

	(void)state;
	r.model = model_of(json_object_get(golden, "paper"));
	r.model.image.effnet.width = 0.25;
	r.model.image.effnet.depth = 0.5;
	r.model.text.bert.layers = 2;
	rig_open(&r, &mc, number(g, "weight_decay"), 0);
	assert_false(r.m.momentum.sealed); /* no momentum towers, no queues */
	assert_null(r.m.key);
	assert_null(r.m.image_queue.keys);
	run_steps(&r, g);
	check_state("weight", &r.online, r.online.value, json_object_get(g, "online"), 0);
	rig_close(&r);
}

/* Blocks computed again in backward: the same steps to the last bit, in less memory. */
static void recomputing_changes_no_bit(void **state)
{
	static struct data d;
	const json_t *g = json_object_get(golden, "paper");
	struct wl_moco_config mc = {.queue = 8, .momentum = 0.9, .tau = 0.1, .learn_tau = true};
	struct wl_err err = WL_ERR_INIT;
	struct wl_graph_stats stats[2];
	struct rig r[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		r[i].model = model_of(g);
		r[i].model.image.attention.dropout = r[i].model.text.attention.dropout = 0.1f;
		r[i].model.text.bert.dropout = r[i].model.image.effnet.drop_path = 0.2f;
		mc.recompute = i;
		rig_open(&r[i], &mc, 0.01, 1);
		wl_graph_stats(r[i].m.query, &stats[i]);
	}
	if (!(stats[1].arena_bytes < 0.6 * (double)stats[0].arena_bytes))
		fail_msg("recomputing takes %zu bytes of %zu", stats[1].arena_bytes,
			stats[0].arena_bytes);
	for (size_t s = 0; s < 3; s++)
		for (int i = 0; i < 2; i++) {
			struct wl_moco_result result;

			ok(wl_moco_step(&r[i].m, batch(&d, s, 100), 1, s, &result, &err), &err);
			wl_optim_step(&r[i].optim, 1e-3, wl_optim_grad_norm(&r[i].optim));
			ok(wl_moco_push(&r[i].m, &err), &err);
		}
	assert_memory_equal(r[0].online.value, r[1].online.value,
		(size_t)r[0].online.floats * sizeof(float));
	assert_memory_equal(r[0].m.momentum.value, r[1].m.momentum.value,
		(size_t)r[0].online.floats * sizeof(float));
	rig_close(&r[0]);
	rig_close(&r[1]);
}

/* --- parts and ranks: towers without batch norm, so that each sample stands alone --- */

enum { SIDE = 4, WIDE = SIDE * SIDE * 3, WORDS = 6, D = 16, ALL = 8, GRADS = 2048 };

static wl_tid plain_image(struct wl_graph *g, const void *model, wl_tid images, wl_tid boxes,
	wl_tid mask)
{
	int64_t n = wl_g_shape(g, images).dim[0];
	wl_tid w = wl_g_param(g, "image.w", WL_LAYOUT_PLAIN, WL_SHAPE(D, WIDE), WL_PARAM_WEIGHT);

	(void)model;
	(void)boxes;
	(void)mask;
	return wl_g_l2_normalize(g, wl_g_linear(g, wl_g_reshape(g, images, WL_SHAPE(n, WIDE)), w,
		WL_NONE, WL_ACT_TANH), 1e-12f);
}

static wl_tid plain_text(struct wl_graph *g, const void *model, wl_tid ids, wl_tid mask)
{
	wl_tid w = wl_g_param(g, "text.w", WL_LAYOUT_PLAIN, WL_SHAPE(20, D), WL_PARAM_WEIGHT);
	wl_tid x = wl_g_embedding(g, ids, w, WL_NONE, WL_NONE);

	(void)model;
	return wl_g_l2_normalize(g, wl_g_act(g, wl_g_masked_mean(g, x, mask), WL_ACT_TANH), 1e-12f);
}

/* Pictures of 4x4 pixels, texts of six words; sample 5 repeats sample 1's caption. */
struct plain {
	float images[ALL * WIDE], boxes[ALL * 4], rmask[ALL], tmask[ALL * WORDS];
	int32_t ids[ALL * WORDS];
	int64_t pairs[ALL];
	uint64_t hashes[ALL];
};

static void plain_data(struct plain *d)
{
	fill_values("plain.images", ALL * WIDE, d->images);
	fill_tokens("plain.ids", ALL * WORDS, 20, d->ids);
	for (int i = 0; i < ALL; i++) {
		d->pairs[i] = 100 + i;
		d->hashes[i] = (uint64_t)(i == 5 ? 1 : i) + 500;
		d->rmask[i] = 1;
	}
	for (int i = 0; i < ALL * WORDS; i++)
		d->tmask[i] = 1;
}

struct plain_run {
	struct wl_moco_result result;
	float grad[GRADS];
	int64_t floats;
};

/* A step of CLIP over `batch` of the eight samples from `first` on, in parts; the store's
 * gradients are copied out. */
static int plain_step(const struct plain *d, struct wl_comm *comm, int64_t batch, int64_t first,
	int64_t parts, struct plain_run *out, struct wl_err *err)
{
	struct wl_towers towers = {.image = plain_image, .text = plain_text, .image_px = SIDE,
		.regions = 1, .text_len = WORDS};
	struct wl_moco_config mc = {.objective = WL_OBJECTIVE_CLIP, .tau = 0.1, .learn_tau = true,
		.accumulate = parts, .comm = comm};
	struct wl_moco_batch b = {d->images + first * WIDE, d->boxes + first * 4,
		d->rmask + first, d->ids + first * WORDS, d->tmask + first * WORDS,
		d->pairs + first, d->hashes + first};
	struct wl_backend *be = wl_backend_cpu_open(1, err);
	struct wl_params p;
	struct wl_moco m = {0};
	int ret = -1;

	if (!be)
		return -1;
	wl_params_init(&p);
	WL_TRY_OUT(wl_moco_init(&m, &towers, &mc, &p, batch, 1, err));
	WL_TRY_OUT(wl_params_seal(&p, be, true, err));
	WL_TRY_OUT(wl_moco_start(&m, err));
	fill_params(&p);
	wl_moco_copy(&m);
	WL_TRY_OUT(wl_moco_step(&m, &b, 1, 0, &out->result, err));
	out->floats = 0;
	for (int i = 0; i < p.n; i++) {
		WL_ASSERT(out->floats + p.item[i].count <= GRADS);
		wl_param_grad_to_torch(&p, i, out->grad + out->floats);
		out->floats += p.item[i].count;
	}
	ret = 0;
out:
	wl_moco_release(&m);
	wl_params_release(&p);
	wl_backend_close(be);
	return ret;
}

static void same_run(const char *what, const struct plain_run *a, const struct plain_run *b)
{
	double diff = 0, norm = 0;

	near(what, 0, a->result.loss, b->result.loss, 1e-6);
	near(what, 0, a->result.acc_i2t, b->result.acc_i2t, 1e-6);
	assert_int_equal(a->floats, b->floats);
	for (int64_t i = 0; i < a->floats; i++) {
		diff += pow((double)a->grad[i] - (double)b->grad[i], 2);
		norm += pow((double)b->grad[i], 2);
	}
	assert_true(norm > 1e-3);
	if (!(diff <= 1e-12 * norm))
		fail_msg("%s: gradients differ by %g relative", what, sqrt(diff / norm));
}

static void clip_in_parts_is_clip_of_the_whole(void **state)
{
	static struct plain_run whole, parts;
	struct wl_err err = WL_ERR_INIT;
	struct plain d;

	(void)state;
	plain_data(&d);
	ok(plain_step(&d, NULL, ALL, 0, 1, &whole, &err), &err);
	ok(plain_step(&d, NULL, ALL, 0, 4, &parts, &err), &err);
	same_run("parts", &parts, &whole);
}

struct ranks {
	struct plain d;
	struct plain_run run[4];
};

static int rank_step(struct wl_comm *c, void *user, struct wl_err *err)
{
	struct ranks *r = user;
	int64_t batch = ALL / wl_comm_size(c);

	return plain_step(&r->d, c, batch, batch * wl_comm_rank(c), 1 + wl_comm_rank(c) % 2,
		&r->run[wl_comm_rank(c)], err);
}

/* The mean over ranks of losses and gradients is the whole batch's. */
static void clip_on_ranks_is_clip_of_the_whole(void **state)
{
	static struct plain_run whole, mean;
	static struct ranks r;
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	plain_data(&r.d);
	ok(plain_step(&r.d, NULL, ALL, 0, 1, &whole, &err), &err);
	for (int world = 2; world <= 4; world += 2) {
		ok(wl_comm_simulate(world, rank_step, &r, &err), &err);
		mean = (struct plain_run){.floats = r.run[0].floats};
		for (int k = 0; k < world; k++) {
			mean.result.loss += r.run[k].result.loss / world;
			mean.result.acc_i2t += r.run[k].result.acc_i2t / world;
			for (int64_t i = 0; i < mean.floats; i++)
				mean.grad[i] += r.run[k].grad[i] / (float)world;
		}
		same_run("ranks", &mean, &whole);
	}
}

static void mistakes_are_told(void **state)
{
	static const struct {
		struct wl_moco_config c;
		int64_t batch;
		const char *says;
	} bad[] = {
		{{.objective = WL_OBJECTIVE_CLIP, .tau = 0.1, .accumulate = 3}, 8, "divisor"},
		{{.objective = WL_OBJECTIVE_CLIP, .tau = 0.1}, 1, "at least 2 pairs"},
		{{.tau = 0.1, .queue = 4, .extra_positives = 5}, 8, "extra-positives is 5"},
		{{.tau = 0.1, .queue = 0}, 8, "moco.queue is 0"},
	};
	struct wl_towers towers = {.image = plain_image, .text = plain_text, .image_px = SIDE,
		.regions = 1, .text_len = WORDS};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wl_err err = WL_ERR_INIT;
		struct wl_params p;
		struct wl_moco m;

		wl_params_init(&p);
		assert_int_equal(
			wl_moco_init(&m, &towers, &bad[i].c, &p, bad[i].batch, 1, &err), -1);
		assert_int_equal(err.code, WL_EUSAGE);
		if (!strstr(err.msg, bad[i].says))
			fail_msg("\"%s\" does not say \"%s\"", err.msg, bad[i].says);
		wl_params_release(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(public_takes_torchs_ten_steps),
		cmocka_unit_test(paper_takes_torchs_ten_steps),
		cmocka_unit_test(extra_positives_as_published),
		cmocka_unit_test(clip_takes_torchs_steps),
		cmocka_unit_test(recomputing_changes_no_bit),
		cmocka_unit_test(clip_in_parts_is_clip_of_the_whole),
		cmocka_unit_test(clip_on_ranks_is_clip_of_the_whole),
		cmocka_unit_test(mistakes_are_told),
	};

	return cmocka_run_group_tests_name("objective", tests, group_setup, group_teardown);
}
