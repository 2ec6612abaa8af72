/* train/model/config and init: presets, reading and writing, refusals; how parameters
 * start and which ones are frozen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "train/model/brivl.h"
#include "train/model/init.h"

static void ok(int ret, const struct wl_err *err)
{
	if (ret < 0)
		fail_msg("%s", err->msg);
}

/* Adds the towers' parameters to the store. */
static void declare(struct wl_params *p, const struct wl_model_config *c, bool image, bool text)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_graph *g;

	if (image) {
		g = wl_brivl_image_graph(c, p, 1, WL_F32, &err);
		assert_non_null(g);
		wl_graph_free(g);
	}
	if (text) {
		g = wl_brivl_text_graph(c, p, 1, WL_F32, &err);
		assert_non_null(g);
		wl_graph_free(g);
	}
	assert_true(p->n > 50);
}

/* What is written reads back as itself, for every preset. */
static void test_config(void **state)
{
	static const char *const names[] = {"paper", "public", "small"};

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct wl_model_config a, b;
		struct wl_err err = WL_ERR_INIT;
		json_t *v;

		ok(wl_model_preset(names[i], &a, &err), &err);
		v = wl_model_to_json(&a);
		assert_non_null(v);
		ok(wl_model_parse(v, &b, &err), &err);
		assert_memory_equal(&a, &b, sizeof a);
		json_decref(v);
	}
}

/* The published sizes (FACTS section 5, less BERT's pooler), from shapes alone. */
static void test_preset_sizes(void **state)
{
	static const struct {
		const char *preset;
		int64_t image, text;
	} want[] = {
		/* 232,917,432 less the classifier 2,561,000; 368,302,080 less the pooler */
		{"paper", 232917432 - 2561000, 368302080 - (1024 * 1024 + 1024)},
		{"public", 143724056 - 2049000, 130094848 - (768 * 768 + 768)},
	};

	(void)state;
	for (int i = 0; i < 2; i++)
		for (int image = 0; image < 2; image++) {
			struct wl_err err = WL_ERR_INIT;
			struct wl_model_config c;
			struct wl_params p;
			int64_t weights = 0;

			ok(wl_model_preset(want[i].preset, &c, &err), &err);
			c.image.px = 64; /* the input's size does not change the weights */
			wl_params_init(&p);
			declare(&p, &c, image, !image);
			for (int k = 0; k < p.n; k++)
				if (!(p.item[k].flags & WL_PARAM_BUFFER))
					weights += p.item[k].count;
			assert_int_equal(weights, image ? want[i].image : want[i].text);
			wl_params_release(&p);
		}
}

static void test_config_errors(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"\"huge\"", "paper, public and small"},
		{"{\"preset\":\"small\",\"dims\":3}", "dim"},
		{"{\"image\":{\"encoder\":\"b9\"}}", "b0 to b7"},
		{"{\"image\":{\"encodr\":\"b1\"}}", "encoder"},
		{"{\"image\":{\"px\":8}}", "64"},
		{"{\"image\":{\"attention\":{\"heads\":7}}}", "divide"},
		{"{\"text\":{\"heads\":7}}", "divide"},
		{"{\"text\":{\"length\":2000}}", "positions"},
		{"{\"text\":{\"layers\":100000}}", "the most are 65536, 512"},
		{"{\"text\":{\"hidden\":16777216}}", "the most are 65536, 512"},
		{"{\"image\":{\"encoder\":\"vit-b16\",\"vit_layers\":513}}", "the most are 65536"},
		{"{\"text\":{\"encoder\":\"gpt\"}}", "bert"},
		{"{\"image\":{\"mean\":[1,2]}}", "three"},
		{"{\"freeze\":\"all\"}", "list"},
		{"{\"image\":{\"px\":-1}}", "px"},
		{"3", "mapping"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wl_err err = WL_ERR_INIT;
		struct wl_model_config c;
		json_t *v = json_loads(cases[i].text, JSON_DECODE_ANY, NULL);

		assert_non_null(v);
		assert_int_equal(wl_model_parse(v, &c, &err), -1);
		assert_int_equal(err.code, WL_EUSAGE);
		if (!strstr(err.msg, cases[i].says))
			fail_msg("%s: \"%s\" should say \"%s\"", cases[i].text, err.msg,
				cases[i].says);
		json_decref(v);
	}
}

static double deviation(const struct wl_params *p, const char *name, double *mean)
{
	int i = wl_params_find(p, name);
	const float *v;
	double sum = 0, square = 0;

	if (i < 0)
		fail_msg("there is no %s", name);
	v = p->value + p->item[i].offset;
	for (int64_t k = 0; k < p->item[i].count; k++) {
		sum += (double)v[k];
		square += (double)v[k] * (double)v[k];
	}
	*mean = sum / (double)p->item[i].count;
	return sqrt(square / (double)p->item[i].count - *mean * *mean);
}

/* The start follows the libraries' rules and the seed; freezing clears the flag by pattern. */
static void test_init_and_freeze(void **state)
{
	static const struct {
		const char *name;
		double mean, deviation;
	} want[] = {
		/* fan-out of a 3x3 stem to 8: sqrt(2/72); of a 1x1 to 48: sqrt(2/48) */
		{"imgencoder.backbone.conv_stem.weight", 0, 0.16667},
		{"imgencoder.backbone.conv_head.weight", 0, 0.20412},
		{"imgencoder.backbone.bn1.weight", 1, 0},
		{"imgencoder.backbone.bn1.running_var", 1, 0},
		{"imgencoder.backbone.bn1.bias", 0, 0},
		/* truncation at two deviations leaves 0.8796 of 0.02 */
		{"textencoder.backbone.bert.embeddings.word_embeddings.weight", 0, 0.01759},
		/* Xavier of 96 x 32: sqrt(6/128)/sqrt(3); uniform in 1/sqrt(32) */
		{"textencoder.learnable.textAtt.layers.0.self_attn.in_proj_weight", 0, 0.125},
		{"imgencoder.learnable.imgFC.fc1.weight", 0, 0.10206},
	};
	struct wl_err err = WL_ERR_INIT;
	struct wl_backend *be = wl_backend_cpu_open(1, &err);
	struct wl_model_config c;
	struct wl_params p;
	int frozen = 0;

	(void)state;
	assert_non_null(be);
	ok(wl_model_preset("small", &c, &err), &err);
	c.image.effnet.width = 0.25;
	c.image.effnet.head = 48;
	c.image.region_width = 32;
	c.text.bert.vocab = 1000;
	c.text.bert.hidden = 32;
	wl_params_init(&p);
	declare(&p, &c, true, true);
	ok(wl_params_seal(&p, be, false, &err), &err);
	ok(wl_model_init(&p, &c, 7, &err), &err);
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		double mean, sd = deviation(&p, want[i].name, &mean);

		if (fabs(sd - want[i].deviation) > 0.12 * want[i].deviation ||
			fabs(mean - want[i].mean) > 0.25 * want[i].deviation)
			fail_msg("%s starts with mean %g and deviation %g, expected %g and %g",
				want[i].name, mean, sd, want[i].mean, want[i].deviation);
	}
	snprintf(c.freeze[0], sizeof c.freeze[0], "imgencoder.backbone.blocks.[0-2].*");
	c.n_freeze = 1;
	ok(wl_model_freeze(&p, &c, &err), &err);
	for (int i = 0; i < p.n; i++) {
		const struct wl_param *e = &p.item[i];
		bool low = !strncmp(e->name, "imgencoder.backbone.blocks.", 27) &&
			   e->name[27] <= '2';

		if (!(e->flags & WL_PARAM_BUFFER))
			assert_int_equal(!(e->flags & WL_PARAM_TRAINABLE), low);
		frozen += low;
	}
	assert_true(frozen > 20);
	snprintf(c.freeze[0], sizeof c.freeze[0], "imgencoder.nothing.*");
	assert_int_equal(wl_model_freeze(&p, &c, &err), -1);
	assert_int_equal(err.code, WL_EUSAGE);
	wl_params_release(&p);
	wl_backend_close(be);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_preset_sizes),
		cmocka_unit_test(test_config_errors),
		cmocka_unit_test(test_init_and_freeze),
	};

	return cmocka_run_group_tests_name("model config", tests, NULL, NULL);
}
