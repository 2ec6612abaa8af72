/* wenlan-shard stats. */
#include "shards/commands.h"

#include "ops/json.h"
#include "ops/opt.h"
#include "shards/stats.h"

#include <stdio.h>

struct stats_cmd {
	const char *shards, *html;
};

static double number(const json_t *v, const char *key)
{
	return json_number_value(json_object_get(v, key));
}

static void print_counts(const char *title, const json_t *counts)
{
	const char *key;
	json_t *v;

	printf("%s\n", title);
	json_object_foreach((json_t *)counts, key, v)
		printf("  %-24s %12lld\n", *key ? key : "(none)", (long long)json_integer_value(v));
}

static void print_table(const json_t *stats)
{
	const char *split;
	json_t *t;

	printf("%-8s %8s %12s %14s %10s %12s %12s\n", "split", "shards", "samples", "bytes",
		"rejected", "mean jpg", "largest jpg");
	json_object_foreach(json_object_get(stats, "splits"), split, t) printf(
		"%-8s %8.0f %12.0f %14.0f %10.0f %12.0f %12.0f\n", split, number(t, "shards"),
		number(t, "samples"), number(t, "bytes"), number(t, "rejected"),
		number(t, "mean_jpg_bytes"), number(t, "max_jpg_bytes"));
	print_counts("samples by source", json_object_get(stats, "sources"));
	print_counts("samples by topic", json_object_get(stats, "topics"));
}

static int run_stats(struct wl_opts *o, void *user, struct wl_err *err)
{
	const struct stats_cmd *c = user;
	json_t *stats = wl_shards_stats(c->shards, err);
	int rc = 0;

	if (!stats)
		return -1;
	if (c->html)
		rc = wl_shards_stats_page(c->shards, stats, c->html, err);
	if (rc == 0 && o->common.json)
		rc = wl_json_print(stats, err);
	else if (rc == 0 && !c->html)
		print_table(stats);
	json_decref(stats);
	return rc;
}

static const struct wl_path_rule paths[] = {
	{"html", WL_PATH_OUTPUT, NULL},
	{0},
};

int wl_cmd_stats(int argc, char **argv)
{
	struct stats_cmd c = {0};
	const struct wl_opt table[] = {
		{"shards", WL_OPT_STR, &c.shards, "DIR", "the shard set", true},
		{"html", WL_OPT_STR, &c.html, "FILE",
			"a page with counts, sizes, languages and pictures to look at", false},
		{0},
	};
	struct wl_opts opts = {.program = "wenlan-shard stats",
		.usage = "--shards DIR [--html FILE]",
		.about = "Counts and sizes of a shard set by split, source and topic.",
		.example = "wenlan-shard stats --shards shards --html shards.html",
		.table = table,
		.paths = paths};

	return wl_main(&opts, argc, argv, run_stats, &c);
}
