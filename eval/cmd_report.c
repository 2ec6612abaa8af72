/* wenlan-eval report: the page about runs. */
#include "eval/commands.h"
#include "eval/report.h"
#include "ops/file.h"
#include "ops/opt.h"

#include <stdio.h>

static int check(struct wl_report_opts *r, const struct wl_strs *positional, struct wl_err *err)
{
	if (r->examples < 0 || r->examples > 1000 || r->top < 1 || r->top > 100)
		return wl_err_set(err, WL_EUSAGE,
			"--examples must be 0 to 1000 and --top 1 to 100, found %lld and %lld",
			(long long)r->examples, (long long)r->top);
	if (r->bootstrap < 100 || r->bootstrap > 1000000)
		return wl_err_set(err, WL_EUSAGE, "--bootstrap must be 100 to 1000000, found %lld",
			(long long)r->bootstrap);
	if (positional->n && r->runs.n)
		return wl_err_set(
			err, WL_EUSAGE, "runs are named either with --run or without, not both");
	if (positional->n)
		r->runs = *positional;
	if (!r->runs.n)
		return wl_err_set(err, WL_EUSAGE, "a report needs a run: --run DIR, "
			"the directory that wenlan-train --run made");
	for (size_t i = 0; i < r->runs.n; i++)
		if (wl_path_check(r->runs.v[i], WL_PATH_DIR,
			    "a run is the directory that wenlan-train --run made", err) < 0) {
			if (err)
				err->code = WL_EUSAGE;
			return -1;
		}
	if (r->embeddings.n > r->runs.n)
		return wl_err_set(err, WL_EUSAGE,
			"%zu files of embeddings for %zu runs: give one a run, in"
			" their order",
			r->embeddings.n, r->runs.n);
	return 0;
}

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct wl_report_opts *r = user;

	WL_TRY(check(r, &o->positional, err));
	WL_TRY(wl_report_write(r, err));
	if (!o->common.json)
		printf("report: %s\n", r->out);
	else
		printf("{\"report\":\"%s\"}\n", r->out);
	return 0;
}

static const struct wl_path_rule paths[] = {
	{"embeddings", WL_PATH_FILE,
		"wenlan-embed --ckpt RUN --shards DIR --out FILE writes them"},
	{"results", WL_PATH_FILE,
		"wenlan-eval retrieval (or caption, ...) --out FILE.json writes them"},
	{"out", WL_PATH_OUTPUT, NULL},
	{0},
};

int wl_cmd_report(int argc, char **argv)
{
	struct wl_report_opts r = {.split = "test", .examples = 6, .top = 5, .bootstrap = 2000};
	const struct wl_opt table[] = {
		{"run", WL_OPT_LIST, &r.runs, "DIR", "what wenlan-train wrote; may be repeated",
			false},
		{"shards", WL_OPT_STR, &r.shards, "DIR",
			"for the counts and the examples' pictures", false},
		{"split", WL_OPT_STR, &r.split, "NAME", "which split was embedded", false},
		{"embeddings", WL_OPT_LIST, &r.embeddings, "FILE",
			"safetensors of wenlan-embed, one a run", false},
		{"protocol", WL_OPT_STR, &r.protocol, "NAME",
			"of the embeddings: aic-icc, wenlan, flickr30k-cn, flickr8k-cn, ...",
			false},
		{"results", WL_OPT_LIST, &r.results, "FILE.json",
			"results of wenlan-eval for the tables; a run's own are found", false},
		{"out", WL_OPT_STR, &r.out, "FILE.html",
			"the page; FILE.md and FILE.json beside it", true},
		{"title", WL_OPT_STR, &r.title, "TEXT", "its title; the run's name if not given",
			false},
		{"examples", WL_OPT_INT, &r.examples, "N",
			"queries shown a direction: best, median, worst", false},
		{"top", WL_OPT_INT, &r.top, "K", "answers shown a query", false},
		{"bootstrap", WL_OPT_INT, &r.bootstrap, "N", "rounds for intervals and comparison",
			false},
		{0},
	};
	struct wl_opts o = {
		.program = "wenlan-eval",
		.usage = "report RUN... [--shards DIR --embeddings FILE] --out FILE.html",
		.about = "One self-contained page: R@K beside chance and published rows, curves, "
			 "examples;\n"
			 "two runs are compared by a paired bootstrap.",
		.example = "wenlan-eval report --run demo/run --shards demo/shards "
			   "--embeddings demo/test.safetensors --out demo/report.html",
		.table = table,
		.paths = paths,
		.allow_positional = true,
	};

	return wl_main(&o, argc, argv, run, &r);
}
