/* wenlan-shard lint, diff, merge. */
#include "shards/commands.h"

#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "shards/count.h"
#include "shards/sets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sets_cmd {
	const char *shards, *out;
	int64_t shard_size, seed;
};

static int64_t number(const json_t *v, const char *key)
{
	return json_integer_value(json_object_get(v, key));
}

static void print_examples(const char *title, const json_t *examples, int64_t count)
{
	json_t *v;
	size_t i;

	printf("%-40s %12lld", title, (long long)count);
	json_array_foreach(examples, i, v) printf("%s%s", i ? ", " : "   ", json_string_value(v));
	printf("%s\n", count > (int64_t)json_array_size(examples) ? ", ..." : "");
}

static int run_lint(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct sets_cmd *c = user;
	json_t *v = wl_shards_lint(c->shards, err), *f;
	int64_t errors;
	size_t i;
	int rc = 0;

	if (!v)
		return -1;
	errors = number(v, "errors");
	if (o->common.json)
		rc = wl_json_print(v, err);
	else
		json_array_foreach(json_object_get(v, "findings"), i, f)
		{
			char title[96];

			snprintf(title, sizeof title, "%s: %s",
				json_string_value(json_object_get(f, "level")),
				json_string_value(json_object_get(f, "rule")));
			print_examples(title, json_object_get(f, "examples"), number(f, "count"));
		}
	if (rc == 0)
		wl_info("%s, %s, %s", wl_count(number(v, "samples"), "sample").s,
			wl_count(errors, "error").s,
			wl_count(number(v, "warnings"), "warning").s);
	json_decref(v);
	if (rc == 0 && errors)
		return wl_err_set(err, WL_EDATA,
			"%s has %s; a set packed anew by wenlan-shard has none", c->shards,
			wl_count(errors, "error").s);
	return rc;
}

int wl_cmd_lint(int argc, char **argv)
{
	struct sets_cmd c = {0};
	const struct wl_opt table[] = {
		{"shards", WL_OPT_STR, &c.shards, "DIR", "the shard set", true},
		{0},
	};
	struct wl_opts opts = {.program = "wenlan-shard lint",
		.usage = "--shards DIR",
		.about =
			"Looks for what makes a sound set a bad one: pictures or duplicate groups "
			"in two splits, pairs twice, missing captions, tiny pictures.  Exit code 3 "
			"when there are errors.",
		.example = "wenlan-shard lint --shards shards",
		.table = table};

	return wl_main(&opts, argc, argv, run_lint, &c);
}

static int run_diff(struct wl_opts *o, void *user, struct wl_err *err)
{
	static const char *const keys[] = {"only_a", "only_b", "picture", "text", "split"};
	static const char *const titles[] = {"only in the first", "only in the second",
		"another picture", "another text", "another split"};
	int64_t different = 0;
	json_t *v;
	int rc = 0;

	(void)user;
	if (o->positional.n != 2)
		return wl_err_set(
			err, WL_EUSAGE, "expected two shard sets, got %zu", o->positional.n);
	v = wl_shards_diff(o->positional.v[0], o->positional.v[1], err);
	if (!v)
		return -1;
	if (o->common.json)
		rc = wl_json_print(v, err);
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		int64_t n = number(v, keys[i]);

		different += n;
		if (n && !o->common.json)
			print_examples(titles[i],
				json_object_get(json_object_get(v, "examples"), keys[i]), n);
	}
	if (rc == 0)
		wl_info("%s the same, %s", wl_count(number(v, "same"), "sample").s,
			wl_count(different, "difference").s);
	json_decref(v);
	if (rc == 0 && different)
		return wl_err_set(
			err, WL_EFAIL, "%s and %s differ", o->positional.v[0], o->positional.v[1]);
	return rc;
}

int wl_cmd_diff(int argc, char **argv)
{
	const struct wl_opt table[] = {{0}};
	struct wl_opts opts = {.program = "wenlan-shard diff",
		.usage = "SHARDS SHARDS",
		.about =
			"Compares two shard sets pair by pair: what only one has, other pictures, "
			"texts or splits.  Order and sharding do not count.  Exit code 1 when they "
			"differ.",
		.example = "wenlan-shard diff shards-old shards-new",
		.table = table,
		.allow_positional = true};

	return wl_main(&opts, argc, argv, run_diff, NULL);
}

static int run_merge(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct sets_cmd *c = user;
	struct wl_merge_opts m = {.dirs = o->positional.v,
		.n = o->positional.n,
		.out = c->out,
		.shard_bytes = c->shard_size,
		.seed = (uint64_t)c->seed};
	struct wl_merge_result r;

	if (m.n < 1 || m.shard_bytes < 1)
		return wl_err_set(err, WL_EUSAGE,
			m.n ? "--shard-size must be positive" : "name the shard sets to merge");
	WL_TRY(wl_shards_merge(&m, &r, err));
	if (r.stopped)
		return 0;
	wl_info("%s in %s; %s and %lld taken down left out", wl_count(r.samples, "sample").s,
		wl_count(r.shards, "shard").s, wl_count(r.doubles, "double").s,
		(long long)r.taken_down);
	return 0;
}

static const struct wl_path_rule merge_paths[] = {
	{"out", WL_PATH_OUTPUT_DIR, NULL},
	{0},
};

int wl_cmd_merge(int argc, char **argv)
{
	struct sets_cmd c = {.shard_size = 1000000000};
	const struct wl_opt table[] = {
		{"out", WL_OPT_STR, &c.out, "DIR", "where the merged set goes", true},
		{"shard-size", WL_OPT_INT, &c.shard_size, "BYTES", "aim for a shard's size", false},
		{"seed", WL_OPT_INT, &c.seed, "N", "of the shuffle", false},
		{0},
	};
	struct wl_opts opts = {.program = "wenlan-shard merge",
		.usage = "--out DIR SHARDS...",
		.about =
			"Writes one shard set of the samples of several, each split shuffled anew. "
			"A pair in several comes from the first; samples taken down stay out.",
		.example = "wenlan-shard merge --out all shards-2024 shards-2025",
		.table = table,
		.paths = merge_paths,
		.allow_positional = true};

	return wl_main(&opts, argc, argv, run_merge, &c);
}
