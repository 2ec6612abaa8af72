/* See commands.h. */
#include "clean/topics/commands.h"

#include "clean/text.h"
#include "clean/topics/labels.h"
#include "clean/topics/report.h"
#include "clean/topics/train.h"
#include "ops/comm.h"
#include "ops/file.h"
#include "ops/log.h"
#include "ops/opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- train ---- */

struct train_options {
	const char *corpus, *out;
	int64_t topics, iterations, seed;
	struct wl_topics_options o;
};

static int run_train(struct wl_opts *opts, void *user, struct wl_err *err)
{
	struct train_options *t = user;
	struct wl_comm *comm = NULL;
	struct wl_corpus *c = NULL;
	char *stop = NULL, *select = NULL;
	int ret = -1;

	(void)opts;
	if (t->topics < 2 || t->topics > 65535 || t->iterations < 1 || t->iterations > 1000000 ||
		t->o.threads < 0 || t->o.threads > 1024)
		return wl_err_set(err, WL_EUSAGE,
			"--topics is %lld, --iterations %lld and --threads %lld, expected 2 to "
			"65535, "
			"1 to 1000000 and 0 to 1024.",
			(long long)t->topics, (long long)t->iterations, (long long)t->o.threads);
	t->o.lda.topics = (int)t->topics;
	t->o.lda.iterations = (int)t->iterations;
	t->o.lda.seed = (uint64_t)t->seed;
	stop = t->o.stop ? wl_strf(err, "%s", t->o.stop)
			 : wl_share_path("clean/topics/stopwords.txt", err);
	select = t->o.select ? wl_strf(err, "%s", t->o.select)
			     : wl_share_path("clean/topics/select.yaml", err);
	t->o.stop = stop;
	t->o.select = select;
	comm = stop && select ? wl_comm_open(err) : NULL;
	c = comm ? wl_corpus_open(t->corpus, false, 0, err) : NULL;
	if (c)
		ret = wl_topics_train(c, t->out, &t->o, comm, err);
	wl_corpus_close(c);
	/* A rank that failed does not wait for the others: the launcher ends them. */
	if (ret >= 0 || !wl_comm_launched())
		wl_comm_close(comm);
	free(stop);
	free(select);
	return ret;
}

static const struct wl_path_rule train_paths[] = {
	{"out", WL_PATH_OUTPUT_DIR, NULL},
	{"stop", WL_PATH_FILE,
		"it has one word a line; without it clean/topics/stopwords.txt is used"},
	{"user-dict", WL_PATH_FILE, "it has one word a line, as jieba's load_userdict takes them"},
	{"select", WL_PATH_FILE,
		"clean/topics/select.yaml is one to begin with, and is used without it"},
	{0},
};

static int main_train(int argc, char **argv)
{
	struct train_options t = {.topics = 100,
		.iterations = 200,
		.seed = 1,
		.o = {.lda = {.alpha = 0.1, .beta = 0.01},
			.bounds = {.min_docs = 5, .max_share = 0.3, .max_words = 50000},
			.min_chars = 2,
			.min_pairs = 500,
			.sample = 1,
			.held_out = 0.05}};
	const struct wl_opt table[] = {
		{"corpus", WL_OPT_STR, &t.corpus, "DIR", "the corpus", true},
		{"out", WL_OPT_STR, &t.out, "DIR", "where the topics go", true},
		{"topics", WL_OPT_INT, &t.topics, "N", "topics of each source", false},
		{"iterations", WL_OPT_INT, &t.iterations, "N", "sweeps over all words", false},
		{"alpha", WL_OPT_DOUBLE, &t.o.lda.alpha, "X", "prior of a text's topics", false},
		{"beta", WL_OPT_DOUBLE, &t.o.lda.beta, "X", "prior of a topic's words", false},
		{"seed", WL_OPT_INT, &t.seed, "N", "of the random numbers", false},
		{"sample", WL_OPT_DOUBLE, &t.o.sample, "SHARE", "of the pairs to train on", false},
		{"held-out", WL_OPT_DOUBLE, &t.o.held_out, "SHARE",
			"of those to measure the perplexity on", false},
		{"min-docs", WL_OPT_INT, &t.o.bounds.min_docs, "N",
			"documents that must have a word", false},
		{"max-share", WL_OPT_DOUBLE, &t.o.bounds.max_share, "SHARE",
			"of the documents that may have it", false},
		{"max-words", WL_OPT_INT, &t.o.bounds.max_words, "N",
			"of the vocabulary, the most frequent", false},
		{"min-chars", WL_OPT_INT, &t.o.min_chars, "N", "characters of a word", false},
		{"min-pairs", WL_OPT_INT, &t.o.min_pairs, "N",
			"documents that a source must have for a model", false},
		{"merged", WL_OPT_BOOL, &t.o.merged, NULL,
			"one model for all sources instead of one each", false},
		{"stop", WL_OPT_STR, &t.o.stop, "FILE", "stop words (clean/topics/stopwords.txt)",
			false},
		{"user-dict", WL_OPT_LIST, &t.o.user_dicts, "FILE",
			"words for the segmentation, as jieba.load_userdict takes them", false},
		{"select", WL_OPT_STR, &t.o.select, "FILE",
			"rules for the labels (clean/topics/select.yaml)", false},
		{"force", WL_OPT_BOOL, &t.o.force, NULL,
			"replace topics though they have labels by hand", false},
		{"threads", WL_OPT_INT, &t.o.threads, "N", "threads (0: one per core)", false},
		{0},
	};
	struct wl_opts opts = {
		.program = "wenlan-filter topics train",
		.usage = "--corpus DIR --out DIR [OPTION]...",
		.about =
			"Learns what each source writes about: LDA over the words of its texts.\n"
			"Under mpirun the partitions are shared among the ranks; the result is the "
			"same.",
		.example = "wenlan-filter topics train --corpus corpus --out topics --topics 100\n"
			   "mpirun -np 4 wenlan-filter topics train --corpus corpus --out topics",
		.table = table,
		.paths = train_paths,
	};

	return wl_main(&opts, argc, argv, run_train, &t);
}

/* ---- select ---- */

struct model_options {
	const char *model, *rules, *labels, *source, *corpus, *out;
	int64_t max_pairs;
};

static int run_select(struct wl_opts *opts, void *user, struct wl_err *err)
{
	struct model_options *o = user;
	struct wl_topic_models m;
	struct wl_topic_label_counts n;
	char *rules = o->rules ? wl_strf(err, "%s", o->rules)
			       : wl_share_path("clean/topics/select.yaml", err);
	int ret = -1;

	if (!rules)
		return -1;
	if (wl_topic_models_load(&m, o->model, false, err) == 0) {
		ret = wl_topic_labels_select(&m, o->model, rules, &n, err);
		if (ret == 0)
			wl_info("%lld topics kept, %lld dropped, %lld of them by hand",
				(long long)n.kept, (long long)n.dropped, (long long)n.by_hand);
		if (ret == 0 && opts->common.json)
			printf("{\"kept\":%lld,\"dropped\":%lld,\"by_hand\":%lld}\n",
				(long long)n.kept, (long long)n.dropped, (long long)n.by_hand);
		wl_topic_models_release(&m);
	}
	free(rules);
	return ret;
}

static const struct wl_path_rule select_paths[] = {
	{"rules", WL_PATH_FILE,
		"clean/topics/select.yaml is one to begin with, and is used without it"},
	{0},
};

static int main_select(int argc, char **argv)
{
	struct model_options o = {0};
	const struct wl_opt table[] = {
		{"model", WL_OPT_STR, &o.model, "DIR", "the topics", true},
		{"rules", WL_OPT_STR, &o.rules, "FILE", "rules (clean/topics/select.yaml)", false},
		{0},
	};
	struct wl_opts opts = {
		.program = "wenlan-filter topics select",
		.usage = "--model DIR [--rules FILE]",
		.about = "Labels topics keep or drop, and by category, into DIR/labels.yaml; what "
			 "is\n"
			 "labelled by hand there stays.",
		.example = "wenlan-filter topics select --model topics --rules my-select.yaml",
		.table = table,
		.paths = select_paths,
	};

	return wl_main(&opts, argc, argv, run_select, &o);
}

/* ---- show ---- */

static void print_topic(const json_t *f, struct wl_topic_label l, int k)
{
	const json_t *w;
	size_t i;

	printf("%4d  %s  %-13s %8lld  %+.3f ", k, l.drop ? "drop" : "keep",
		l.category ? l.category : "-",
		(long long)json_integer_value(json_object_get(f, "docs")),
		json_number_value(json_object_get(f, "coherence")));
	json_array_foreach(json_object_get(f, "likely"), i, w) if (i < 12)
		printf(" %s", json_string_value(w));
	putchar('\n');
}

static int run_show(struct wl_opts *opts, void *user, struct wl_err *err)
{
	struct model_options *o = user;
	char *labels = wl_path_join(o->model, "labels.yaml", err);
	struct wl_topic_models m = {0};
	json_t *l = NULL;
	int ret = -1;

	if (!labels || wl_topic_models_load(&m, o->model, false, err) < 0)
		goto out;
	l = wl_topic_labels_load(&m, o->labels ? o->labels : labels, err);
	if (!l)
		goto out;
	for (size_t i = 0; i < m.n; i++) {
		const struct wl_topic_model *t = &m.v[i];
		if (o->source && strcmp(o->source, t->source) != 0)
			continue;
		if (opts->common.json) {
			json_dumpf(t->facts, stdout, JSON_COMPACT);
			putchar('\n');
			continue;
		}
		printf("%s: %lld documents, perplexity %.1f\n", t->source,
			(long long)json_integer_value(json_object_get(t->facts, "docs")),
			json_number_value(json_object_get(t->facts, "perplexity")));
		for (int k = 0; k < t->lda.topics; k++)
			print_topic(json_array_get(json_object_get(t->facts, "topics"), (size_t)k),
				wl_topic_labels_get(l, t->source, k), k);
	}
	ret = 0;
out:
	json_decref(l);
	wl_topic_models_release(&m);
	free(labels);
	return ret;
}

static int main_show(int argc, char **argv)
{
	struct model_options o = {0};
	const struct wl_opt table[] = {
		{"model", WL_OPT_STR, &o.model, "DIR", "the topics", true},
		{"source", WL_OPT_STR, &o.source, "NAME", "of this source only", false},
		{"labels", WL_OPT_STR, &o.labels, "FILE", "labels (DIR/labels.yaml)", false},
		{0},
	};
	struct wl_opts opts = {
		.program = "wenlan-filter topics show",
		.usage = "--model DIR [--source NAME]",
		.about = "Lists the topics: number, label, category, documents, coherence, words.",
		.example = "wenlan-filter topics show --model topics --source news",
		.table = table,
	};

	return wl_main(&opts, argc, argv, run_show, &o);
}

/* ---- report ---- */

static int run_report(struct wl_opts *opts, void *user, struct wl_err *err)
{
	struct model_options *o = user;
	struct wl_corpus *c = NULL;
	struct wl_text *tx = NULL;
	int ret = -1;

	(void)opts;
	if (o->corpus) {
		c = wl_corpus_open(o->corpus, false, 0, err);
		tx = c ? wl_text_open(err) : NULL;
		if (!tx)
			goto out;
	}
	ret = wl_topics_report(c, tx, o->model, o->labels, o->max_pairs, o->out, err);
out:
	wl_text_close(tx);
	wl_corpus_close(c);
	return ret;
}

static const struct wl_path_rule report_paths[] = {
	{"out", WL_PATH_OUTPUT, NULL},
	{0},
};

static int main_report(int argc, char **argv)
{
	struct model_options o = {.max_pairs = 100000};
	const struct wl_opt table[] = {
		{"model", WL_OPT_STR, &o.model, "DIR", "the topics", true},
		{"out", WL_OPT_STR, &o.out, "FILE.html", "the page", true},
		{"corpus", WL_OPT_STR, &o.corpus, "DIR", "where examples come from", false},
		{"labels", WL_OPT_STR, &o.labels, "FILE", "labels (DIR/labels.yaml)", false},
		{"max-pairs", WL_OPT_INT, &o.max_pairs, "N", "pairs to look at for examples",
			false},
		{0},
	};
	struct wl_opts opts = {
		.program = "wenlan-filter topics report",
		.usage = "--model DIR --out FILE.html [--corpus DIR]",
		.about = "Draws topics, their words, sizes, quality and texts as one page.",
		.example = "wenlan-filter topics report --model topics --corpus corpus "
			   "--out topics.html",
		.table = table,
		.paths = report_paths,
	};

	return wl_main(&opts, argc, argv, run_report, &o);
}

int wl_topics_main(int argc, char **argv)
{
	static const struct wl_command commands[] = {
		{"train", "learn the topics of each source of a corpus", main_train},
		{"select", "label topics keep or drop, by rules", main_select},
		{"show", "list topics and labels", main_show},
		{"report", "draw them as a page", main_report},
		{0},
	};

	return wl_main_commands("wenlan-filter topics", commands, argc, argv);
}
