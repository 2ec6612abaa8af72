/* The grammar of flags and YAML keys (opt.h), YAML and JSON glue (json.h). */
#include "ops/json.h"
#include "ops/opt.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct wl_err err;

/* A program with one option of each kind. */
struct prog {
	bool fast, safe;
	int64_t radius;
	double rate;
	const char *corpus, *name;
	struct wl_strs against;
	json_t *model;
	int64_t depth;
	struct wl_opt table[10];
	struct wl_opts o;
};

static void prog_init(struct prog *p)
{
	const struct wl_opt table[] = {
		{"fast", WL_OPT_BOOL, &p->fast, NULL, "be fast", false},
		{"safe", WL_OPT_BOOL, &p->safe, NULL, "be safe", false},
		{"image-radius", WL_OPT_INT, &p->radius, "N", "bits", false},
		{"rate", WL_OPT_DOUBLE, &p->rate, "X", "learning rate", false},
		{"corpus", WL_OPT_STR, &p->corpus, "DIR", "the workspace", true},
		{"name", WL_OPT_STR, &p->name, "NAME", "a name", false},
		{"against", WL_OPT_LIST, &p->against, "DIR", "other corpora", false},
		{"model", WL_OPT_JSON, &p->model, "YAML", "the model", false},
		{"tower.depth", WL_OPT_INT, &p->depth, "N", "layers", false},
		{0},
	};

	*p = (struct prog){.safe = true, .radius = 4, .rate = 0.5, .name = "unnamed"};
	memcpy(p->table, table, sizeof table);
	p->o = (struct wl_opts){.program = "wenlan-test", .table = p->table};
	err = (struct wl_err)WL_ERR_INIT;
}

/* Parses the words of a line. */
static int parse(struct prog *p, const char *line)
{
	static char words[1000];
	static char program[] = "wenlan-test";
	char *argv[40] = {program}, *save = NULL;
	int argc = 1;

	prog_init(p);
	snprintf(words, sizeof words, "%s", line);
	for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	return wl_opts_parse(&p->o, argc, argv, &err);
}

static void flags(void **state)
{
	struct prog p;

	(void)state;
	assert_int_equal(parse(&p, "--corpus /c --fast --no-safe --image-radius=6 --rate 1e-3 "
				   "--against a --against=b --tower.depth 64Ki --model "
				   "{\"width\":8} --model.width 9"),
		0);
	assert_true(p.fast && !p.safe);
	assert_int_equal(p.radius, 6);
	assert_true(p.rate == 1e-3);
	assert_string_equal(p.corpus, "/c");
	assert_string_equal(p.name, "unnamed");
	assert_int_equal(p.against.n, 2);
	assert_string_equal(p.against.v[1], "b");
	assert_int_equal(p.depth, 65536);
	assert_int_equal(json_object_size(p.model), 1);
	char *text = wl_json_text(p.o.effective, &err);
	assert_string_equal(text,
		"{\"against\":[\"a\",\"b\"],\"corpus\":\"/c\",\"fast\":true,"
		"\"image-radius\":6,\"model\":{\"width\":9},"
		"\"name\":\"unnamed\",\"rate\":0.001,\"safe\":false,\"tower\":{\"depth\":65536}}");
	free(text);
	wl_opts_release(&p.o);
	wl_opts_release(&p.o);
}

static void usage_errors(void **state)
{
	static const struct {
		const char *line, *part;
	} bad[] = {
		{"--corpus c --image-radios 5", "did you mean image-radius"},
		{"--corpsu c", "did you mean corpus"},
		{"--corpus c --zzzzzz 5", "--help"},
		{"--fast", "--corpus DIR is required"},
		{"--corpus", "needs a value"},
		{"--corpus c --image-radius five", "'five'"},
		{"--corpus c --image-radius 5x", "'5x'"},
		{"--corpus c --image-radius 99999999999999999999", "integer"},
		{"--corpus c --image-radius 9999999999999G", "integer"},
		{"--corpus c --rate nan", "number"},
		{"--corpus c --fast=maybe", "true or false"},
		{"--corpus c extra", "'extra' is not expected"},
		{"--corpus c -x", "-x"},
		{"--corpus c --model {a", "--model"},
		{"--corpus c --log-level loud", "loud"},
		{"--corpus c --progress loud", "loud"},
		{"--corpus c --metrics-port 99999", "65535"},
		{"--corpus c --config /nowhere.yaml", "/nowhere.yaml"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct prog p;

		FAILS(WL_EUSAGE, bad[i].part, parse(&p, bad[i].line));
		wl_opts_release(&p.o);
	}
}

static void config_file(void **state)
{
	struct tmp_dir t = tmp_make();
	char path[512], line[700];
	struct prog p;

	(void)state;
	tmp_write(tmp_path(&t, "c.yaml", path),
		"corpus: /from-file\nimage-radius: 10k\nfast: true\nrate: 2\nname: 12\n"
		"against: one\ntower: {depth: 3}\nmodel:\n  width: 8\n  towers: [a, b]\n"
		"log-level: warn\n");
	snprintf(line, sizeof line, "--config %s --corpus /flag --model.width 16", path);
	assert_int_equal(parse(&p, line), 0);
	assert_string_equal(p.corpus, "/flag"); /* a flag wins over the file */
	assert_int_equal(p.radius, 10000);
	assert_true(p.fast && p.rate == 2.0);
	assert_string_equal(p.name, "12");
	assert_int_equal(p.against.n, 1);
	assert_int_equal(p.depth, 3);
	assert_int_equal(json_integer_value(json_object_get(p.model, "width")), 16);
	assert_int_equal(json_array_size(json_object_get(p.model, "towers")), 2);
	wl_opts_release(&p.o);
	tmp_write(path, "corpus: c\nimage-radus: 3\n");
	snprintf(line, sizeof line, "--config %s", path);
	FAILS(WL_EUSAGE, "did you mean image-radius", parse(&p, line));
	wl_opts_release(&p.o);
	tmp_write(path, "corpus: c\ntower: {depht: 3}\n");
	FAILS(WL_EUSAGE, "did you mean tower.depth", parse(&p, line));
	wl_opts_release(&p.o);
	tmp_write(path, "corpus: c\nfast: 3\n");
	FAILS(WL_EUSAGE, "fast must be true or false, found 3", parse(&p, line));
	wl_opts_release(&p.o);
	tmp_write(path, "- a\n- b\n");
	FAILS(WL_EUSAGE, "mapping", parse(&p, line));
	wl_opts_release(&p.o);
	tmp_write(path, "corpus: [c\n");
	FAILS(WL_EUSAGE, "line 2", parse(&p, line));
	wl_opts_release(&p.o);
	tmp_remove(&t);
}

static void print_config_reads_back(void **state)
{
	struct tmp_dir t = tmp_make();
	char path[512], line[700];
	struct prog p;
	json_t *first, *second;
	int saved, fd;

	(void)state;
	tmp_path(&t, "p.yaml", path);
	assert_int_equal(parse(&p, "--corpus /c --rate 0.1 --model [1,{x:2}] --against yes"), 0);
	first = json_deep_copy(p.o.effective);
	wl_opts_release(&p.o);
	fflush(stdout);
	saved = dup(1);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	dup2(fd, 1);
	assert_int_equal(
		parse(&p, "--corpus /c --rate 0.1 --model [1,{x:2}] --against yes --print-config"),
		1);
	fflush(stdout);
	dup2(saved, 1);
	close(saved);
	close(fd);
	wl_opts_release(&p.o);
	snprintf(line, sizeof line, "--config %s", path);
	assert_int_equal(parse(&p, line), 0);
	second = p.o.effective;
	assert_true(json_equal(first, second));
	wl_opts_release(&p.o);
	json_decref(first);
	tmp_remove(&t);
}

static void positionals(void **state)
{
	struct wl_opts o = {.program = "wenlan-test", .allow_positional = true};
	char words[][12] = {"wenlan-test", "a", "-", "--quiet", "--", "--json"};
	char *argv[] = {words[0], words[1], words[2], words[3], words[4], words[5], NULL};

	(void)state;
	err = (struct wl_err)WL_ERR_INIT;
	assert_int_equal(wl_opts_parse(&o, 6, argv, &err), 0);
	assert_int_equal(o.positional.n, 3);
	assert_string_equal(o.positional.v[1], "-");
	assert_string_equal(o.positional.v[2], "--json");
	assert_true(o.common.quiet && !o.common.json);
	wl_opts_release(&o);
}

static void nearest(void **state)
{
	static const char *const names[] = {"shards", "shard-size", "seed", NULL};

	(void)state;
	assert_string_equal(wl_nearest_name("shrads", names), "shards");
	assert_string_equal(wl_nearest_name("--sede", names), "seed");
	assert_string_equal(wl_nearest_name("shard-si", names), "shard-size");
	assert_null(wl_nearest_name("temperature", names));
}

static void yaml_core_schema(void **state)
{
	static const struct {
		const char *yaml, *json;
	} good[] = {
		{"a: 1\nb: -0x\nc: 0x1F\nd: 0o17\ne: 007",
			"{\"a\":1,\"b\":\"-0x\",\"c\":31,\"d\":15,\"e\":7}"},
		{"[1.5, .5, 1., 1e3, -2E-2, 1e, .e3]", "[1.5,0.5,1.0,1000.0,-0.02,\"1e\",\".e3\"]"},
		{"[true, False, yes, 'true', ~, null, '', \"x\\ty\"]",
			"[true,false,\"yes\",\"true\",null,null,\"\",\"x\\ty\"]"},
		{"base: &b {w: 1}\nmore: *b\n", "{\"base\":{\"w\":1},\"more\":{\"w\":1}}"},
		{"text: |\n  一\n  二\n", "{\"text\":\"一\\n二\\n\"}"},
		{"", "null"},
		{"# only a comment\n", "null"},
		{"1: one", "{\"1\":\"one\"}"},
		{"{\"json\": [1, {\"a\": null}]}", "{\"json\":[1,{\"a\":null}]}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		json_t *v = wl_yaml_parse(good[i].yaml, strlen(good[i].yaml), "t", &err);
		char *text;

		if (!v)
			fail_msg("%s: %s", good[i].yaml, err.msg);
		text = wl_json_text(v, &err);
		assert_string_equal(text, good[i].json);
		free(text);
		json_decref(v);
	}
}

static void yaml_refusals(void **state)
{
	static const struct {
		const char *yaml, *part;
	} bad[] = {
		{"a: 1\na: 2", "line 2 column 1"},
		{"a: !!str 3", "tags"},
		{"a: !mine {b: 1}", "tags"},
		{"a: 1\n---\nb: 2\n", "one document"},
		{"a: *nix", "anchor"},
		{"a: &x [*x]", "anchor"},
		{"[1, 2\nb", "line"},
		{"a: 99999999999999999999", "64 bits"},
		{"a: .inf", "infinity"},
		{"? [1, 2]\n: 3", "key"},
		{"a: \"\\0\"", "zero byte"},
		{"a: \xff\xfe", "t is not valid"},
	};
	char deep[600];
	struct wl_err *e = &err;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		json_t *v;

		err = (struct wl_err)WL_ERR_INIT;
		v = wl_yaml_parse(bad[i].yaml, strlen(bad[i].yaml), "t", e);
		if (v)
			fail_msg("accepted: %s", bad[i].yaml);
		assert_int_equal(err.code, WL_EDATA);
		if (!strstr(err.msg, bad[i].part))
			fail_msg("\"%s\" does not contain \"%s\"", err.msg, bad[i].part);
	}
	memset(deep, '[', sizeof deep);
	assert_null(wl_yaml_parse(deep, sizeof deep, "t", e));
}

static void yaml_laughs_are_refused(void **state)
{
	/* Nine levels of ten aliases: a billion values from 400 bytes. */
	char text[2000] = "l0: &l0 x\n";

	(void)state;
	for (int i = 1; i < 10; i++) {
		size_t n = strlen(text);

		n += (size_t)snprintf(text + n, sizeof text - n, "l%d: &l%d [", i, i);
		for (int k = 0; k < 10; k++)
			n += (size_t)snprintf(
				text + n, sizeof text - n, "*l%d%s", i - 1, k < 9 ? ", " : "]\n");
	}
	err = (struct wl_err)WL_ERR_INIT;
	assert_null(wl_yaml_parse(text, strlen(text), "t", &err));
	assert_non_null(strstr(err.msg, "too large"));
}

static void json_members(void **state)
{
	static const char *const known[] = {"s", "i", "d", "b", "z", NULL};
	const char *text = "{\"s\":\"x\",\"i\":7,\"d\":0.5,\"b\":true,\"z\":null}";
	json_t *o = wl_json_parse(text, strlen(text), "t", &err);
	const char *s;
	int64_t i;
	double d;
	bool b;

	(void)state;
	assert_non_null(o);
	OK(wl_json_str(o, "s", "t", &s, &err));
	assert_string_equal(s, "x");
	OK(wl_json_str_or(o, "z", "t", "fallback", &s, &err));
	assert_string_equal(s, "fallback");
	OK(wl_json_int_or(o, "absent", "t", 3, &i, &err));
	assert_int_equal(i, 3);
	OK(wl_json_int(o, "i", "t", &i, &err));
	assert_int_equal(i, 7);
	OK(wl_json_num_or(o, "i", "t", 0, &d, &err));
	assert_true(d == 7.0);
	OK(wl_json_bool_or(o, "b", "t", false, &b, &err));
	assert_true(b);
	FAILS(WL_EDATA, "t: \"i\" must be a string, found an integer",
		wl_json_str(o, "i", "t", &s, &err));
	FAILS(WL_EDATA, "found nothing", wl_json_int(o, "absent", "t", &i, &err));
	FAILS(WL_EDATA, "must be an integer", wl_json_int_or(o, "d", "t", 1, &i, &err));
	FAILS(WL_EDATA, "true or false", wl_json_bool_or(o, "s", "t", 1, &b, &err));
	OK(wl_json_only_keys(o, known, "t", &err));
	json_object_set_new(o, "bb", json_null());
	FAILS(WL_EUSAGE, "did you mean", wl_json_only_keys(o, known, "t", &err));
	json_decref(o);
	err = (struct wl_err)WL_ERR_INIT;
	assert_null(wl_json_parse("{\"a\":1,\n\"a\":2}", 14, "t", &err));
	assert_non_null(strstr(err.msg, "line 2"));
	assert_null(wl_json_load("/nowhere.json", &err));
	assert_int_equal(err.code, WL_EFAIL);
}

static void json_save_reads_back(void **state)
{
	struct tmp_dir t = tmp_make();
	char path[512];
	json_t *o = json_pack("{s:[i,f,s]}", "k", 1, 0.1, "中"), *back;

	(void)state;
	OK(wl_json_save(tmp_path(&t, "x.json", path), o, &err));
	back = wl_json_load(path, &err);
	assert_non_null(back);
	assert_true(json_equal(o, back));
	json_decref(o);
	json_decref(back);
	tmp_remove(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags),
		cmocka_unit_test(usage_errors),
		cmocka_unit_test(config_file),
		cmocka_unit_test(print_config_reads_back),
		cmocka_unit_test(positionals),
		cmocka_unit_test(nearest),
		cmocka_unit_test(yaml_core_schema),
		cmocka_unit_test(yaml_refusals),
		cmocka_unit_test(yaml_laughs_are_refused),
		cmocka_unit_test(json_members),
		cmocka_unit_test(json_save_reads_back),
	};

	return cmocka_run_group_tests_name("opt", tests, NULL, NULL);
}
