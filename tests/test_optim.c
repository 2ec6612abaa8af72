/* train/optim against PyTorch (tests/golden/optim.py) and by definition. */
#include "ops/hash.h"
#include "ops/json.h"
#include "tests/support/scaler_same.h"
#include "train/optim/depth.h"
#include "train/optim/guard.h"
#include "train/optim/optim.h"
#include "train/optim/scaler.h"
#include "train/optim/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *golden(void)
{
	struct wl_err err = WL_ERR_INIT;
	json_t *g = wl_json_load("tests/golden/optim.json", &err);

	if (!g)
		fail_msg("%s", err.msg);
	return g;
}

static double item(const json_t *g, const char *key, size_t i)
{
	return json_number_value(json_array_get(json_object_get(g, key), i));
}

static void schedule_equals_torch(void **state)
{
	struct wl_schedule s = {2e-2, 1e-3, 4, 16};
	struct wl_err err = WL_ERR_INIT;
	json_t *g = golden();
	size_t i;

	(void)state;
	assert_int_equal(wl_schedule_check(&s, &err), 0);
	for (i = 0; i < 16; i++)
		if (!(fabs(wl_schedule_lr(&s, (int64_t)i) - item(g, "lr", i)) < 1e-12))
			fail_msg("step %zu: %.15g, torch %.15g", i, wl_schedule_lr(&s, (int64_t)i),
				item(g, "lr", i));
	assert_true(wl_schedule_lr(&s, 16) == 1e-3);
	assert_true(wl_schedule_lr(&s, 1000) == 1e-3);
	json_decref(g);
}

static void schedule_refuses_nonsense(void **state)
{
	const struct wl_schedule bad[] = {
		{-1, 0, 0, 10}, {NAN, 0, 0, 10}, {1e-3, 2e-3, 0, 10}, {1e-3, 0, 11, 10},
		{1e-3, 0, -1, 10}, {1e-3, 0, 0, 0},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wl_err err = WL_ERR_INIT;

		assert_int_equal(wl_schedule_check(&bad[i], &err), -1);
		assert_int_equal(err.code, WL_EUSAGE);
	}
}

static void guard_skips_what_is_not_finite(void **state)
{
	struct wl_guard g = {.spike_z = 6, .max_in_a_row = 3};
	struct wl_err err = WL_ERR_INIT;

	(void)state;
	assert_int_equal(wl_guard_judge(&g, 1, 1), WL_GUARD_OK);
	assert_int_equal(wl_guard_judge(&g, NAN, 1), WL_GUARD_NONFINITE);
	assert_int_equal(wl_guard_judge(&g, 1, INFINITY), WL_GUARD_NONFINITE);
	assert_int_equal(wl_guard_give_up(&g, 2, &err), 0);
	assert_int_equal(wl_guard_judge(&g, 1, NAN), WL_GUARD_NONFINITE);
	assert_int_equal(wl_guard_give_up(&g, 3, &err), -1);
	assert_int_equal(err.code, WL_ENUMERIC);
	assert_int_equal(wl_guard_judge(&g, 1, 1), WL_GUARD_OK);
	assert_int_equal(wl_guard_give_up(&g, 4, &err), 0);
	assert_int_equal(g.nonfinite, 3);
	assert_int_equal(g.seen, 2);
}

static void guard_finds_spikes_and_survives_a_checkpoint(void **state)
{
	struct wl_guard g = {.spike_z = 6, .max_in_a_row = 10}, h = g;
	struct wl_err err = WL_ERR_INIT;
	json_t *saved, *back;
	char *text;
	int i;

	(void)state;
	for (i = 0; i < 300; i++)
		assert_int_equal(wl_guard_judge(&g, 1, 1 + wl_rand_unit(3, 0, (uint64_t)i) / 3),
			WL_GUARD_OK);
	assert_int_equal(wl_guard_judge(&g, 1, 50), WL_GUARD_SPIKE);
	saved = wl_guard_save(&g);
	text = wl_json_text(saved, &err);
	back = wl_json_parse(text, strlen(text), "saved", &err);
	assert_non_null(back);
	assert_int_equal(wl_guard_restore(&h, back, &err), 0);
	assert_memory_equal(&g, &h, sizeof g); /* through text, to the last bit */
	assert_int_equal(wl_guard_judge(&h, 1, 50), WL_GUARD_SPIKE);
	assert_int_equal(h.spikes, 2);
	assert_int_equal(wl_guard_judge(&h, 1, 1.2), WL_GUARD_OK);
	json_object_del(back, "seen");
	assert_int_equal(wl_guard_restore(&h, back, &err), -1);
	assert_int_equal(err.code, WL_ECKPT);
	json_decref(saved);
	json_decref(back);
	free(text);
}

/* --- AdamW against torch.optim.AdamW --- */

static struct wl_err err;

static void must(int result)
{
	if (result < 0)
		fail_msg("%s", err.msg);
}

/* tests/golden/optim.py's fill. */
static void fill(float *to, int n, uint64_t seed, uint64_t stream, double scale)
{
	for (int i = 0; i < n; i++)
		to[i] = (float)((wl_rand_unit(seed, stream, (uint64_t)i) - 0.5) * scale);
}

/* A store with the golden's two parameters, and two more: frozen, and running statistics. */
struct rig {
	struct wl_backend *be;
	struct wl_params p;
	struct wl_optim o;
};

static void open_store(struct rig *r)
{
	static const struct {
		const char *name;
		struct wl_shape shape;
		unsigned flags;
	} entries[] = {
		{"frozen", {1, {5}}, WL_PARAM_DECAY},
		{"w", {2, {4, 6}}, WL_PARAM_WEIGHT},
		{"mean", {1, {3}}, WL_PARAM_BUFFER},
		{"b", {1, {6}}, WL_PARAM_GAIN},
	};
	size_t i;

	r->be = wl_backend_cpu_open(2, &err);
	if (!r->be)
		fail_msg("%s", err.msg);
	wl_params_init(&r->p);
	for (i = 0; i < sizeof entries / sizeof *entries; i++)
		must(wl_params_add(&r->p, entries[i].name, WL_LAYOUT_PLAIN, &entries[i].shape,
			entries[i].flags, &err));
	must(wl_params_seal(&r->p, r->be, true, &err));
}

static void close_store(struct rig *r)
{
	wl_optim_release(&r->o);
	wl_params_release(&r->p);
	wl_backend_close(r->be);
}

static float *at(struct rig *r, const char *name, bool grad)
{
	return (grad ? r->p.grad : r->p.value) + r->p.item[wl_params_find(&r->p, name)].offset;
}

static void close_to(const char *what, size_t i, double got, double want, double tolerance)
{
	if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
		fail_msg("%s[%zu]: %.9g, torch %.9g", what, i, got, want);
}

static const struct wl_optim_config golden_config = {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6,
	.weight_decay = 0.1, .clip_norm = 4};

static void adamw_equals_torch(void **state)
{
	struct wl_schedule s = {2e-2, 1e-3, 4, 16};
	json_t *g = golden();
	struct rig r;
	size_t i;

	(void)state;
	open_store(&r);
	must(wl_optim_init(&r.o, &r.p, &golden_config, &err));
	fill(at(&r, "w", false), 24, 1, 0, 2);
	fill(at(&r, "b", false), 6, 1, 1, 2);
	at(&r, "frozen", false)[2] = at(&r, "mean", false)[1] = 3;
	for (i = 0; i < 16; i++) {
		const json_t *track = json_array_get(json_object_get(g, "track"), i);
		double norm;

		fill(at(&r, "w", true), 24, 2, 2 * i, 3);
		fill(at(&r, "b", true), 6, 2, 2 * i + 1, 3);
		norm = wl_optim_grad_norm(&r.o);
		close_to("norm", i, norm, item(g, "norm", i), 1e-6);
		wl_optim_step(&r.o, wl_schedule_lr(&s, (int64_t)i), norm);
		close_to("w[0] at step", i, at(&r, "w", false)[0],
			json_number_value(json_array_get(track, 0)), 1e-5);
		close_to("b[5] at step", i, at(&r, "b", false)[5],
			json_number_value(json_array_get(track, 1)), 1e-5);
	}
	for (i = 0; i < 24; i++)
		close_to("w", i, at(&r, "w", false)[i], item(g, "w", i), 1e-5);
	for (i = 0; i < 6; i++)
		close_to("b", i, at(&r, "b", false)[i], item(g, "b", i), 1e-5);
	assert_true(at(&r, "frozen", false)[2] == 3 && at(&r, "mean", false)[1] == 3);
	json_decref(g);
	close_store(&r);
}

/* --- the loss scale against torch.amp.GradScaler (tests/golden/scaler.py) --- */

static void one_scaler(const json_t *g)
{
	struct wl_optim_config c = golden_config;
	struct wl_scaler s = {.scale = (float)json_number_value(json_object_get(g, "init")),
		.interval = json_integer_value(json_object_get(g, "interval"))};
	size_t n = json_array_size(json_object_get(g, "bad")), i, j;
	int64_t bad_so_far = 0;
	struct rig r;

	open_store(&r);
	c.clip_norm = 1e-3;
	must(wl_optim_init(&r.o, &r.p, &c, &err));
	fill(at(&r, "w", false), 24, 1, 0, 2);
	for (i = 0; i < n; i++) {
		bool bad = json_is_true(json_array_get(json_object_get(g, "bad"), i));
		float *grad = at(&r, "w", true);
		double norm;

		r.o.loss_scale = wl_scaler_scale(&s);
		fill(grad, 24, 2, i, 1e-3);
		for (j = 0; j < 24; j++)
			grad[j] *= s.scale;
		if (bad)
			grad[i % 24] = i % 2 ? INFINITY : NAN;
		norm = wl_optim_grad_norm(&r.o);
		assert_int_equal(isfinite(norm), !bad);
		assert_int_equal(wl_scaler_overflowed(&s, 1, norm), bad && s.scale > 1);
		assert_false(wl_scaler_overflowed(&s, NAN, norm));
		wl_scaler_update(&s, isfinite(norm));
		if (!bad)
			wl_optim_step(&r.o, 1e-2, norm);
		bad_so_far += bad;
		assert_true((double)s.scale == item(g, "scale", i));
		assert_int_equal(s.good, item(g, "good", i));
		assert_int_equal(s.overflows, bad_so_far);
		close_to("w[0] after a scaled step", i, at(&r, "w", false)[0], item(g, "w0", i),
			1e-5);
	}
	for (i = 0; i < 24; i++)
		close_to("w", i, at(&r, "w", false)[i], item(g, "w", i), 1e-5);
	close_store(&r);
}

static void loss_scale_equals_torch(void **state)
{
	json_t *all = wl_json_load("tests/golden/scaler.json", &err), *g;
	size_t i;

	(void)state;
	assert_int_equal(json_array_size(all), 3);
	json_array_foreach(all, i, g)
		one_scaler(g);
	json_decref(all);
}

static void loss_scale_survives_a_checkpoint(void **state)
{
	struct wl_scaler s = {.scale = 0x1p17f, .interval = 5, .good = 3, .overflows = 2};
	struct wl_scaler t = {.scale = 65536, .interval = 5}, none = {0};
	json_t *saved = wl_scaler_save(&s);

	(void)state;
	assert_int_equal(wl_scaler_restore(&t, saved, &err), 0);
	scaler_same(&s, &t);
	assert_int_equal(wl_scaler_restore(&t, NULL, &err), 0); /* of another precision */
	scaler_same(&s, &t);
	json_object_set_new(saved, "scale", json_real(-1));
	assert_int_equal(wl_scaler_restore(&t, saved, &err), -1);
	assert_int_equal(err.code, WL_ECKPT);
	json_decref(saved);
	wl_scaler_update(&none, false); /* fp32: there is none */
	assert_true(wl_scaler_scale(&none) == 1 && none.overflows == 0);
	assert_false(wl_scaler_overflowed(&none, 1, NAN));
}

static json_t *groups(const char *text)
{
	json_t *g = wl_json_parse(text, strlen(text), "groups", &err);

	assert_non_null(g);
	return g;
}

static void groups_scale_rate_and_decay(void **state)
{
	struct wl_optim_config c = golden_config;
	json_t *g = groups(
		"[{\"match\":\"w*\",\"lr\":0,\"decay\":3},{\"match\":\"*\",\"lr\":0.5}]");
	struct rig r;

	(void)state;
	open_store(&r);
	c.groups = g;
	must(wl_optim_init(&r.o, &r.p, &c, &err));
	json_decref(g); /* not needed after init */
	assert_int_equal(r.o.n_ranges, 2);
	assert_true(fabs(r.o.ranges[0].weight_decay - 0.3) < 1e-7);
	assert_true(r.o.ranges[1].weight_decay == 0);
	fill(at(&r, "w", false), 24, 1, 0, 2);
	fill(at(&r, "w", true), 24, 2, 0, 3);
	fill(at(&r, "b", true), 6, 2, 1, 3);
	float w = at(&r, "w", false)[3];
	wl_optim_step(&r.o, 0.1, wl_optim_grad_norm(&r.o));
	assert_true(at(&r, "w", false)[3] == w); /* rate 0 */
	/* Adam's first step is the rate, against the gradient's sign. */
	assert_true(fabs(fabs(at(&r, "b", false)[0]) - 0.05) < 1e-4);
	close_store(&r);
}

static void bad_groups_are_refused(void **state)
{
	static const struct {
		const char *text, *word;
	} bad[] = {
		{"[{\"match\":\"image.*\"}]", "no trainable parameter"},
		{"[{\"match\":\"*\",\"rate\":1}]", "rate"},
		{"[{\"match\":\"*\",\"lr\":-1}]", "not negative"},
		{"[{\"lr\":1}]", "match"},
		{"{\"match\":\"*\"}", "list"},
	};
	struct rig r;
	size_t i;

	(void)state;
	open_store(&r);
	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wl_optim_config c = golden_config;
		json_t *g = groups(bad[i].text);

		c.groups = g;
		assert_int_equal(wl_optim_init(&r.o, &r.p, &c, &err), -1);
		if (!strstr(err.msg, bad[i].word))
			fail_msg("\"%s\" is not in: %s", bad[i].word, err.msg);
		json_decref(g);
	}
	close_store(&r);
}

static void culprit_is_named(void **state)
{
	struct rig r;

	(void)state;
	open_store(&r);
	must(wl_optim_init(&r.o, &r.p, &golden_config, &err));
	assert_null(wl_optim_blame(&r.o));
	at(&r, "b", true)[5] = INFINITY;
	assert_false(isfinite(wl_optim_grad_norm(&r.o)));
	assert_string_equal(wl_optim_blame(&r.o), "b");
	close_store(&r);
}

/* Layer-wise rates follow the depth: a stem or embedding lies deepest, heads have the full rate. */
static void rates_fall_with_depth(void **state)
{
	static const struct {
		const char *name;
		int depth;
	} want[] = {
		{"imgencoder.backbone.conv_stem.weight", 4},
		{"imgencoder.backbone.bn1.weight", 4},
		{"imgencoder.backbone.blocks.0.1.bn1.weight", 3},
		{"imgencoder.backbone.blocks.2.0.conv_pw.weight", 1},
		{"imgencoder.backbone.conv_head.weight", 0},
		{"imgencoder.learnable.imgFC.fc1.weight", 0},
		{"textencoder.backbone.bert.embeddings.word_embeddings.weight", 13},
		{"textencoder.backbone.bert.encoder.layer.0.output.dense.weight", 12},
		{"textencoder.backbone.bert.encoder.layer.11.output.dense.weight", 1},
		{"textencoder.learnable.textAtt.layers.0.norm1.weight", 0},
		{"logit_scale", 0},
	};
	struct wl_optim_config c = golden_config;
	struct wl_shape shape = WL_SHAPE(16);
	struct rig r;

	(void)state;
	r.be = wl_backend_cpu_open(1, &err);
	assert_non_null(r.be);
	wl_params_init(&r.p);
	for (size_t i = 0; i < sizeof want / sizeof *want; i++)
		must(wl_params_add(&r.p, want[i].name, WL_LAYOUT_PLAIN, &shape, WL_PARAM_GAIN,
			&err));
	must(wl_params_seal(&r.p, r.be, true, &err));
	for (int i = 0; i < r.p.n; i++)
		if (wl_layer_depth(&r.p, i) != want[i].depth)
			fail_msg("%s lies %d deep, expected %d", want[i].name,
				wl_layer_depth(&r.p, i), want[i].depth);
	/* A first AdamW step moves each weight by its rate. */
	c.layer_decay = 0.5;
	c.clip_norm = 0;
	must(wl_optim_init(&r.o, &r.p, &c, &err));
	for (int64_t i = 0; i < r.p.floats; i++)
		r.p.grad[i] = 1;
	wl_optim_step(&r.o, 1e-3, wl_optim_grad_norm(&r.o));
	for (int i = 0; i < r.p.n; i++)
		close_to(want[i].name, 0, r.p.value[r.p.item[i].offset] / -1e-3,
			pow(0.5, want[i].depth), 1e-4);
	close_store(&r);
}

/* bf16 moments: 4000 steps under one gradient bring v to its square on the average (rounded to
 * nearest it would stop far below), any thread count gives the same bits, and f32 stays near. */
static void half_moments_are_unbiased(void **state)
{
	enum { N = 4096, STEPS = 4000 };
	struct wl_backend *one = wl_backend_cpu_open(1, &err), *two = wl_backend_cpu_open(2, &err);
	struct wl_adamw how = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .grad_scale = 1,
		.state = WL_BF16, .seed = 3};
	static float w[2][N], g[N];
	static uint16_t m[2][N], v[2][N];
	double mean = 0;
	int i;

	(void)state;
	assert_true(one && two);
	for (i = 0; i < N; i++)
		g[i] = 0.01f;
	for (how.step = 1; how.step <= STEPS; how.step++) {
		const struct wl_adamw_range half[2] = {{0, N / 2, 1e-3f, 0}, {N / 2, N, 1e-3f, 0}};

		one->adamw(one, w[0], g, m[0], v[0], half, 2, &how);
		if (how.step <= 50)
			two->adamw(two, w[1], g, m[1], v[1], half, 2, &how);
		if (how.step == 50) {
			assert_memory_equal(w[0], w[1], sizeof w[0]);
			assert_memory_equal(v[0], v[1], sizeof v[0]);
		}
	}
	for (i = 0; i < N; i++) {
		uint32_t u = (uint32_t)v[0][i] << 16;
		float f;

		memcpy(&f, &u, sizeof f);
		mean += (double)f / N;
	}
	/* v = g^2 (1 - beta2^steps) */
	close_to("mean v", 0, mean / (1e-4 * (1 - pow(0.999, STEPS))), 1, 0.01);
	/* Every step moved each weight by the rate. */
	close_to("w", 0, (double)w[0][7], -1e-3 * STEPS, 0.02);
	wl_backend_close(one);
	wl_backend_close(two);
}

/* Half the state, nearly the same path. */
static void half_moments_follow_torch(void **state)
{
	struct wl_schedule s = {2e-2, 1e-3, 4, 16};
	struct wl_optim_config c = golden_config;
	json_t *g = golden();
	struct rig r;
	size_t i;

	(void)state;
	c.state = WL_BF16;
	c.seed = 1;
	open_store(&r);
	must(wl_optim_init(&r.o, &r.p, &c, &err));
	fill(at(&r, "w", false), 24, 1, 0, 2);
	fill(at(&r, "b", false), 6, 1, 1, 2);
	for (i = 0; i < 16; i++) {
		fill(at(&r, "w", true), 24, 2, 2 * i, 3);
		fill(at(&r, "b", true), 6, 2, 2 * i + 1, 3);
		wl_optim_step(&r.o, wl_schedule_lr(&s, (int64_t)i), wl_optim_grad_norm(&r.o));
	}
	for (i = 0; i < 24; i++)
		close_to("w", i, at(&r, "w", false)[i], item(g, "w", i), 3e-3);
	close_store(&r);
	json_decref(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(schedule_equals_torch),
		cmocka_unit_test(schedule_refuses_nonsense),
		cmocka_unit_test(guard_skips_what_is_not_finite),
		cmocka_unit_test(guard_finds_spikes_and_survives_a_checkpoint),
		cmocka_unit_test(adamw_equals_torch),
		cmocka_unit_test(loss_scale_equals_torch),
		cmocka_unit_test(loss_scale_survives_a_checkpoint),
		cmocka_unit_test(rates_fall_with_depth),
		cmocka_unit_test(half_moments_are_unbiased),
		cmocka_unit_test(half_moments_follow_torch),
		cmocka_unit_test(groups_scale_rate_and_decay),
		cmocka_unit_test(bad_groups_are_refused),
		cmocka_unit_test(culprit_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
