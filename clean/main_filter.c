/* wenlan-filter: rules over texts and pictures; what fails gets a verdict. */
#include "clean/filter.h"
#include "ops/file.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "ops/signals.h"

#include <stdlib.h>

struct options {
	const char *corpus, *rules, *explain, *report;
	int64_t threads;
};

static int print_json(const struct wl_filter_counts *n, struct wl_err *err)
{
	json_t *o = json_pack("{s:I, s:I, s:O}", "pairs", (json_int_t)n->pairs, "kept",
		(json_int_t)n->kept, "reasons", n->reasons);

	if (!o)
		return wl_err_nomem(err, "counts", 0);
	json_dumpf(o, stdout, JSON_COMPACT | JSON_SORT_KEYS);
	putchar('\n');
	json_decref(o);
	return 0;
}

static int filter(struct wl_corpus *c, const struct wl_rules *r, const struct options *o,
	const struct wl_opts *opts, struct wl_err *err)
{
	struct wl_filter_counts n;
	const char *reason;
	json_t *count;
	int ret = wl_filter(c, r, (int)o->threads, &n, err);

	if (ret < 0)
		return -1;
	if (ret > 0)
		wl_info("nothing to do: neither the corpus nor the rules have changed");
	ret = 0;
	if (!wl_stop_requested()) {
		json_object_foreach(n.reasons, reason, count)
			wl_info("  %-20s %lld", reason, (long long)json_integer_value(count));
		wl_info("%lld pairs: %lld kept", (long long)n.pairs, (long long)n.kept);
		if (opts->common.json)
			ret = print_json(&n, err);
		if (ret == 0 && o->report)
			ret = wl_filter_report(c, o->report, err);
	}
	wl_filter_counts_release(&n);
	return ret;
}

static int run(struct wl_opts *opts, void *user, struct wl_err *err)
{
	struct options *o = user;
	struct wl_corpus *c = NULL;
	struct wl_text *tx = NULL;
	struct wl_rules *r = NULL;
	char *path = NULL;
	int ret = -1;

	if (o->threads < 0 || o->threads > 1024)
		return wl_err_set(err, WL_EUSAGE,
			"--threads is %lld, expected 0 (one per core) "
			"to 1024.",
			(long long)o->threads);
	path = o->rules ? wl_strf(err, "%s", o->rules)
			: wl_share_path("clean/rules/default.yaml", err);
	tx = path ? wl_text_open(err) : NULL;
	r = tx ? wl_rules_load(path, tx, err) : NULL;
	c = r ? wl_corpus_open(o->corpus, false, 0, err) : NULL;
	if (c)
		ret = o->explain ? wl_filter_explain(c, r, o->explain, stdout, err)
				 : filter(c, r, o, opts, err);
	wl_corpus_close(c);
	wl_rules_free(r);
	wl_text_close(tx);
	free(path);
	return ret;
}

int main(int argc, char **argv)
{
	struct options o = {0};
	const struct wl_opt table[] = {
		{"corpus", WL_OPT_STR, &o.corpus, "DIR", "the corpus to filter", true},
		{"rules", WL_OPT_STR, &o.rules, "FILE", "rules in YAML (clean/rules/default.yaml)",
			false},
		{"explain", WL_OPT_STR, &o.explain, "ID", "say why a pair was kept or not", false},
		{"report", WL_OPT_STR, &o.report, "FILE.html",
			"write a page of what was dropped, with examples", false},
		{"threads", WL_OPT_INT, &o.threads, "N", "threads (0: one per core)", false},
		{0},
	};
	struct wl_opts opts = {
		.program = "wenlan-filter",
		.usage = "--corpus DIR [--rules FILE] [OPTION]...",
		.about =
			"Cleans the texts of every pair and writes a verdict for those that fail a "
			"rule.",
		.example = "wenlan-filter --corpus corpus --rules clean/rules/default.yaml "
			   "--report filter.html\n"
			   "wenlan-filter --corpus corpus --explain 00001-1234567",
		.table = table,
	};

	return wl_main(&opts, argc, argv, run, &o);
}
