/* wenlan-filter: rules over texts and pictures; what fails gets a verdict. */
#include "clean/filter.h"
#include "clean/score_model.h"
#include "clean/topics/commands.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>

struct options {
	const char *corpus, *rules, *explain, *report, *scores, *score_model, *sample;
	int64_t threads, sample_size, seed;
	struct wl_comm *comm;
};

static int print_json(const struct wl_filter_counts *n, struct wl_err *err)
{
	json_t *o = json_pack("{s:I, s:I, s:O}", "pairs", (json_int_t)n->pairs, "kept",
		(json_int_t)n->kept, "reasons", n->reasons);
	int ret = o ? wl_json_print(o, err) : wl_err_nomem(err, "counts", 0);

	json_decref(o);
	return ret;
}

static int filter(struct wl_corpus *c, const struct wl_rules *r, const struct options *o,
	const struct wl_opts *opts, struct wl_err *err)
{
	struct wl_filter_counts n;
	const char *reason;
	json_t *count;
	int ret = wl_filter_on(o->comm, c, r, (int)o->threads, &n, err);

	if (ret < 0)
		return -1;
	if (wl_comm_rank(o->comm) != 0) {
		wl_filter_counts_release(&n);
		return 0;
	}
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

/* A path, or the name of a profile that is shipped ("danqing"); to be freed. */
static char *rules_path(const char *name, struct wl_err *err)
{
	char *profile, *path;

	if (!name)
		return wl_share_path("clean/rules/default.yaml", err);
	if (strchr(name, '/') || strchr(name, '.') || wl_exists(name))
		return wl_path_check(name, WL_PATH_FILE, "name a file of rules or a profile: "
			       "baike, danqing, default, news, weibo, wukong", err) == 0
			       ? wl_strf(err, "%s", name)
			       : NULL;
	profile = wl_strf(err, "clean/rules/%s.yaml", name);
	path = profile ? wl_share_path(profile, err) : NULL;
	if (profile && !path)
		wl_err_set(err, WL_EUSAGE,
			"--rules %s: neither a file nor one of the profiles baike, danqing, "
			"default, "
			"news, weibo, wukong.",
			name);
	free(profile);
	return path;
}

static int act(struct wl_corpus *c, const struct wl_rules *r, const struct options *o,
	const struct wl_opts *opts, struct wl_err *err)
{
	if (wl_comm_rank(o->comm) != 0 && (o->explain || o->sample))
		return 0;
	if (o->explain)
		return wl_filter_explain(c, r, o->explain, stdout, err);
	if (o->sample)
		return wl_filter_sample(
			c, o->sample, (size_t)o->sample_size, (uint64_t)o->seed, stdout, err);
	return filter(c, r, o, opts, err);
}

/* Of --scores, or made by --score-model on rank 0; *out stays NULL without both.  1: stopped. */
static int load_scores(const struct options *o, struct wl_scores **out, struct wl_err *err)
{
	struct told {
		int ret;
		struct wl_err err;
		char path[4096];
	} t = {0};
	char *made = NULL;
	int ret;

	if (o->score_model && wl_comm_rank(o->comm) == 0) {
		t.ret = wl_score_by_model(o->corpus, o->score_model, o->threads, &made, &t.err);
		snprintf(t.path, sizeof(t.path), "%s", made ? made : "");
	}
	free(made);
	WL_TRY(wl_comm_broadcast(o->comm, &t, sizeof(t), 0, err));
	ret = t.ret;
	if (ret < 0 && err)
		*err = t.err;
	if (ret == 0 && (o->scores || o->score_model)) {
		*out = wl_scores_load(o->score_model ? t.path : o->scores, err);
		ret = *out ? 0 : -1;
	}
	return ret;
}

static int run(struct wl_opts *opts, void *user, struct wl_err *err)
{
	struct options *o = user;
	struct wl_corpus *c = NULL;
	struct wl_text *tx = NULL;
	struct wl_rules *r = NULL;
	struct wl_scores *scores = NULL;
	char *path = NULL;
	int ret = -1;

	if (o->threads < 0 || o->threads > 1024)
		return wl_err_set(err, WL_EUSAGE,
			"--threads is %lld, expected 0 (one per core) to 1024.",
			(long long)o->threads);
	if (o->sample_size < 1 || o->sample_size > 1000000)
		return wl_err_set(err, WL_EUSAGE, "--sample-size is %lld, expected 1 to 1000000.",
			(long long)o->sample_size);
	if (o->scores && o->score_model)
		return wl_err_set(err, WL_EUSAGE,
			"--scores and --score-model are both given; one of them says how picture "
			"and "
			"text agree.");
	path = rules_path(o->rules, err);
	tx = path ? wl_text_open(err) : NULL;
	r = tx ? wl_rules_load(path, tx, err) : NULL;
	if (!r)
		goto out;
	c = wl_corpus_open(o->corpus, false, 0, err);
	o->comm = c ? wl_comm_open(err) : NULL;
	if (!o->comm)
		goto out;
	if (!o->sample) {
		WL_TRY_OUT(ret = load_scores(o, &scores, err));
		if (ret > 0) { /* stopped */
			ret = 0;
			goto out;
		}
		ret = -1;
		WL_TRY_OUT(wl_rules_use_scores(r, scores, c, err));
	}
	ret = act(c, r, o, opts, err);
out:
	/* A rank that failed does not wait for the others: the launcher ends them. */
	if (ret >= 0 || !wl_comm_launched())
		wl_comm_close(o->comm);
	wl_corpus_close(c);
	wl_rules_free(r);
	wl_scores_free(scores);
	wl_text_close(tx);
	free(path);
	return ret;
}

static const struct wl_path_rule paths[] = {
	{"scores", WL_PATH_FILE, "wenlan-embed --corpus DIR --out FILE writes them"},
	{"report", WL_PATH_OUTPUT, NULL},
	{0},
};

static int main_filter(int argc, char **argv)
{
	struct options o = {.sample_size = 20};
	const struct wl_opt table[] = {
		{"corpus", WL_OPT_STR, &o.corpus, "DIR", "the corpus to filter", true},
		{"rules", WL_OPT_STR, &o.rules, "FILE",
			"rules in YAML, or a profile: baike, danqing, default, news, weibo, wukong",
			false},
		{"scores", WL_OPT_STR, &o.scores, "FILE",
			"agreement of picture and text, PAIR,SCORE a line, for the rules' "
			"\"agreement\"",
			false},
		{"score-model", WL_OPT_STR, &o.score_model, "CKPT",
			"let this checkpoint (or run) of wenlan-train give the scores", false},
		{"explain", WL_OPT_STR, &o.explain, "ID", "say why a pair was kept or not", false},
		{"report", WL_OPT_STR, &o.report, "FILE.html",
			"write a page of what was dropped, with examples", false},
		{"sample", WL_OPT_STR, &o.sample, "REASON",
			"print pairs that were dropped for it (kept: that were not)", false},
		{"sample-size", WL_OPT_INT, &o.sample_size, "N", "how many (20)", false},
		{"seed", WL_OPT_INT, &o.seed, "N", "which ones (0)", false},
		{"threads", WL_OPT_INT, &o.threads, "N", "threads (0: one per core)", false},
		{0},
	};
	struct wl_opts opts = {
		.program = "wenlan-filter",
		.usage = "--corpus DIR [--rules FILE] [OPTION]...",
		.about =
			"Cleans the texts of every pair and writes a verdict for those that fail a "
			"rule.\nUnder mpirun every rank takes its partitions.",
		.example = "wenlan-filter --corpus corpus --rules clean/rules/default.yaml "
			   "--report filter.html\n"
			   "wenlan-filter --corpus corpus --explain 00001-1234567\n"
			   "wenlan-filter topics --help      (topic models: train, select, show, "
			   "report)",
		.table = table,
		.paths = paths,
	};

	return wl_main(&opts, argc, argv, run, &o);
}

int main(int argc, char **argv)
{
	static const struct wl_command commands[] = {
		{"", NULL, main_filter},
		{"topics", "topic models: train, select, show, report", wl_topics_main},
		{0},
	};

	return wl_main_commands("wenlan-filter", commands, argc, argv);
}
