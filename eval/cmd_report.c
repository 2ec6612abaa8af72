/* wenlan-eval report: the page about a run. */
#include "eval/commands.h"
#include "eval/report.h"
#include "ops/file.h"
#include "ops/opt.h"

#include <stdio.h>

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	const struct wl_report_opts *r = user;

	if (r->examples < 0 || r->examples > 1000 || r->top < 1 || r->top > 100)
		return wl_err_set(err, WL_EUSAGE,
			"--examples must be 0 to 1000 and --top 1 to 100, found %lld and %lld",
			(long long)r->examples, (long long)r->top);
	if (!wl_exists(r->run))
		return wl_err_set(err, WL_EUSAGE, "the run %s is not there", r->run);
	WL_TRY(wl_report_write(r, err));
	if (!o->common.json)
		printf("report: %s\n", r->out);
	else
		printf("{\"report\":\"%s\"}\n", r->out);
	return 0;
}

int wl_cmd_report(int argc, char **argv)
{
	struct wl_report_opts r = {.split = "test", .examples = 6, .top = 5};
	const struct wl_opt table[] = {
		{"run", WL_OPT_STR, &r.run, "DIR", "what wenlan-train wrote", true},
		{"shards", WL_OPT_STR, &r.shards, "DIR", "for the counts and the examples' pictures",
			false},
		{"split", WL_OPT_STR, &r.split, "NAME", "which split was embedded", false},
		{"embeddings", WL_OPT_STR, &r.embeddings, "FILE", "safetensors of wenlan-embed", false},
		{"out", WL_OPT_STR, &r.out, "FILE.html", "the page", true},
		{"title", WL_OPT_STR, &r.title, "TEXT", "its title; the run's name if not given", false},
		{"examples", WL_OPT_INT, &r.examples, "N", "queries shown a direction", false},
		{"top", WL_OPT_INT, &r.top, "K", "answers shown a query", false},
		{0},
	};
	struct wl_opts o = {
		.program = "wenlan-eval",
		.usage = "report --run DIR [--shards DIR --embeddings FILE] --out FILE.html",
		.about = "One self-contained page: curves, R@K beside chance, retrieved examples.",
		.example = "wenlan-eval report --run demo/run --shards demo/shards "
			   "--embeddings demo/test.safetensors --out demo/report.html",
		.table = table,
	};

	return wl_main(&o, argc, argv, run, &r);
}
