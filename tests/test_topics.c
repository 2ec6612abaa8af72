/* Topics over a corpus with three planted themes: sports, food, and what pages sell.  Trained,
 * labelled by rules and by hand, used by the filter; damaged files are refused. */
#include "clean/filter.h"
#include "clean/topics/labels.h"
#include "clean/topics/report.h"
#include "clean/topics/terms.h"
#include "clean/topics/topics.h"
#include "clean/topics/train.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/tmp.h"

#include <stdlib.h>
#include <string.h>

static struct wl_err err;

enum { SPORTS, FOOD, JUNK, THEMES, PAIRS = 600 };

static const char *const words[THEMES][12] = {
	{"比赛", "球队", "球员", "足球", "冠军", "联赛", "教练", "决赛", "篮球", "奥运", "赛季",
		"进球"},
	{"米饭", "面条", "蔬菜", "豆腐", "水果", "厨房", "晚餐", "味道", "鸡蛋", "牛肉", "土豆",
		"西瓜"},
	{"点击", "下载", "注册", "登录", "优惠", "链接", "网址", "客服", "促销", "包邮", "折扣",
		"抽奖"},
};

struct place {
	struct tmp_dir tmp;
	char corpus[512], topics[512], rules[512], labels[600];
};

static int theme_of(int64_t i)
{
	return (int)(wl_rand64(21, (uint64_t)i, 0) % THEMES);
}

/* Eight words of the pair's theme and a stop word, as a caption and a title. */
static void make_text(int64_t i, char out[600])
{
	size_t n = (size_t)sprintf(out, "[[\"caption\",\"因为");

	for (uint64_t k = 0; k < 8; k++)
		n += (size_t)sprintf(out + n, "%s%s", k == 4 ? "\"],[\"title\",\"" : "、",
			words[theme_of(i)][wl_rand64(22, (uint64_t)i, k) % 12]);
	sprintf(out + n, "\"]]");
}

/* Pair 0, ..., PAIRS-1 of source news in three partitions; 3 of "tiny"; the first junk pair is of
 * the test split. */
static void make_corpus(struct place *p)
{
	static const unsigned char bytes[] = "not decoded here";
	struct corpus_maker m;
	bool val = false;
	char text[600];

	p->tmp = tmp_make();
	tmp_path(&p->tmp, "corpus", p->corpus);
	tmp_path(&p->tmp, "topics", p->topics);
	tmp_path(&p->tmp, "rules.yaml", p->rules);
	snprintf(p->labels, sizeof(p->labels), "%s/labels.yaml", p->topics);
	tmp_write(p->rules, "version: 1\ntopics: {model: topics, max_unwanted: 0.6}\n");
	corpus_make_open(&m, p->corpus, 3);
	for (int64_t i = 0; i < PAIRS; i++) {
		bool is_val = theme_of(i) == JUNK && !val;
		make_text(i, text);
		corpus_make_bytes(
			&m, "news", text, is_val ? "test" : "", bytes, sizeof(bytes), 64, 64);
		val = val || is_val;
	}
	for (int i = 0; i < 3; i++)
		corpus_make_bytes(&m, "tiny", "[[\"caption\",\"足球比赛\"]]", "", bytes,
			sizeof(bytes), 64, 64);
	corpus_make_close(&m);
}

static struct wl_topics_options options(void)
{
	return (struct wl_topics_options){
		.lda = {.topics = 3, .alpha = 0.1, .beta = 0.01, .iterations = 60, .seed = 3},
		.bounds = {.min_docs = 2, .max_share = 0.9, .max_words = 1000},
		.min_chars = 2,
		.min_pairs = 100,
		.sample = 1,
		.held_out = 0.1,
		.stop = "clean/topics/stopwords.txt",
		.select = "clean/topics/select.yaml",
		.threads = 2};
}

static int train(const struct place *p, const char *out, const struct wl_topics_options *o)
{
	struct wl_corpus *c = wl_corpus_open(p->corpus, false, 0, &err);
	int ret = c ? wl_topics_train(c, out, o, NULL, &err) : -1;

	wl_corpus_close(c);
	return ret;
}

static bool no_tables(void)
{
	struct wl_segment *s = wl_segment_open(NULL, NULL, 0, &err);

	wl_segment_close(s);
	return !s;
}

#define NEED_TABLES()                                                                              \
	do {                                                                                       \
		if (no_tables())                                                                   \
			SKIP("jieba's tables are not here (apt-get install python3-jieba)");       \
	} while (0)

/* ---- training and labels ---- */

static void labels_by_rules_and_by_hand(void **state)
{
	struct wl_topics_options o = options();
	struct wl_topic_models m;
	struct wl_topic_label_counts n;
	struct place p;
	json_t *labels;
	int sports = -1, food = -1, junk = -1;

	(void)state;
	NEED_TABLES();
	make_corpus(&p);
	OK(train(&p, p.topics, &o));
	OK(wl_topic_models_load(&m, p.topics, true, &err));
	assert_int_equal(m.n, 1);
	assert_string_equal(m.v[0].source, "news");
	assert_int_equal(m.v[0].terms.n, 36);
	assert_int_equal(wl_terms_find(&m.v[0].terms, "因为", 6), -1);
	labels = wl_topic_labels_load(&m, p.labels, &err);
	assert_non_null(labels);
	for (int k = 0; k < 3; k++) {
		struct wl_topic_label l = wl_topic_labels_get(labels, "news", k);
		if (l.category && strcmp(l.category, "sports") == 0 && !l.drop)
			sports = k;
		else if (l.drop)
			junk = k;
		else if (!l.category)
			food = k;
	}
	if (sports < 0 || food < 0 || junk < 0)
		fail_msg("topics are %d, %d, %d", sports, food, junk);
	/* A person wants the food dropped and gives it a name. */
	json_t *l = json_object_get(json_object_get(json_object_get(labels, "sources"), "news"),
		(char[]){(char)('0' + food), 0});
	json_object_set_new(l, "label", json_string("drop"));
	json_object_set_new(l, "category", json_string("food"));
	json_object_set_new(l, "by", json_string("hand"));
	OK(wl_json_save(p.labels, labels, &err)); /* JSON is YAML */
	json_decref(labels);
	OK(wl_topic_labels_select(&m, p.topics, "clean/topics/select.yaml", &n, &err));
	assert_int_equal(n.by_hand, 1);
	assert_int_equal(n.dropped, 2);
	assert_int_equal(n.kept, 1);
	labels = wl_topic_labels_load(&m, p.labels, &err);
	assert_string_equal(wl_topic_labels_get(labels, "news", food).category, "food");
	json_decref(labels);
	FAILS(WL_EUSAGE, "by hand", train(&p, p.topics, &o));
	o.force = true;
	OK(train(&p, p.topics, &o));
	wl_topic_models_release(&m);
	tmp_remove(&p.tmp);
}

static char *tree_hash(const char *dir)
{
	char *out = NULL;

	assert_int_equal(tmp_run(&out, "cd %s && find . -type f | sort | xargs sha256sum", dir), 0);
	return out;
}

static int train_rank(struct wl_comm *comm, void *user, struct wl_err *e)
{
	struct wl_topics_options o = options();
	const struct place *p = user;
	struct wl_corpus *c = wl_corpus_open(p->corpus, false, 0, e);
	int ret;

	o.threads = 1;
	ret = c ? wl_topics_train(c, p->topics, &o, comm, e) : -1;
	wl_corpus_close(c);
	return ret;
}

static void same_files(void **state)
{
	struct wl_topics_options o = options();
	struct place p;
	char *first, *again;

	(void)state;
	NEED_TABLES();
	make_corpus(&p);
	OK(train(&p, p.topics, &o));
	first = tree_hash(p.topics);
	assert_non_null(strstr(first, "news/topic_word.npy"));
	for (int64_t threads = 1; threads <= 3; threads += 2) {
		o.threads = threads;
		OK(train(&p, p.topics, &o));
		again = tree_hash(p.topics);
		assert_string_equal(first, again);
		free(again);
	}
	for (int ranks = 2; ranks <= 3; ranks++) {
		OK(wl_comm_simulate(ranks, train_rank, &p, &err));
		again = tree_hash(p.topics);
		assert_string_equal(first, again);
		free(again);
	}
	free(first);
	tmp_remove(&p.tmp);
}

/* ---- in the filter ---- */

static int filter(const struct place *p, struct wl_filter_counts *n)
{
	struct wl_text *tx = wl_text_open(&err);
	struct wl_rules *r = tx ? wl_rules_load(p->rules, tx, &err) : NULL;
	struct wl_corpus *c = r ? wl_corpus_open(p->corpus, false, 0, &err) : NULL;
	int ret = c ? wl_filter(c, r, 2, n, &err) : -1;

	wl_corpus_close(c);
	wl_rules_free(r);
	wl_text_close(tx);
	return ret;
}

static void filter_uses_topics(void **state)
{
	struct wl_topics_options o = options();
	struct wl_filter_counts n;
	int64_t of[THEMES] = {0}, sports = 0, none = 0;
	struct place p;
	char *dump, text[512];

	(void)state;
	NEED_TABLES();
	make_corpus(&p);
	OK(train(&p, p.topics, &o));
	for (int64_t i = 0; i < PAIRS; i++)
		of[theme_of(i)]++;
	assert_int_equal(filter(&p, &n), 0);
	/* All of the junk but the pair of the test split, and nothing else. */
	assert_int_equal(
		json_integer_value(json_object_get(n.reasons, "topic-unwanted")), of[JUNK] - 1);
	assert_int_equal(n.kept, PAIRS + 3 - (of[JUNK] - 1));
	wl_filter_counts_release(&n);
	dump = stage_dump(
		p.corpus, "filter", "SELECT ifnull(category,''), ifnull(topic,-1) FROM clean");
	for (char *line = strtok(dump, "\n"); line; line = strtok(NULL, "\n")) {
		sports += strncmp(line, "sports|", 7) == 0;
		none += strcmp(line, "|-1") == 0;
	}
	free(dump);
	assert_int_equal(sports, of[SPORTS]);
	assert_int_equal(none, 3);	     /* "tiny" has no model */
	assert_int_equal(filter(&p, &n), 1); /* nothing to do */
	wl_filter_counts_release(&n);
	/* Other labels, other verdicts. */
	dump = tmp_read(p.labels, NULL);
	for (char *s = dump; (s = strstr(s, "label: \"drop\"")); s += 6)
		memcpy(s, "label: \"keep\"", 13);
	tmp_write(p.labels, dump);
	free(dump);
	assert_int_equal(filter(&p, &n), 0);
	assert_null(json_object_get(n.reasons, "topic-unwanted"));
	wl_filter_counts_release(&n);
	tmp_path(&p.tmp, "report.html", text);
	struct wl_corpus *c = wl_corpus_open(p.corpus, false, 0, &err);
	struct wl_text *tx = wl_text_open(&err);
	OK(wl_topics_report(c, tx, p.topics, NULL, 100, text, &err));
	wl_text_close(tx);
	wl_corpus_close(c);
	dump = tmp_read(text, NULL);
	assert_non_null(strstr(dump, "100 pairs looked at"));
	assert_non_null(strstr(dump, "keep, sports"));
	assert_non_null(strstr(dump, "客服"));
	free(dump);
	tmp_remove(&p.tmp);
}

/* ---- bad input ---- */

/* The file replaced by `text` must be refused by wl_topics_open; then it is as before. */
static void refuses(const struct place *p, const char *file, const char *text, size_t len,
	enum wl_code code, const char *part)
{
	char path[600];
	size_t n;
	char *was;

	snprintf(path, sizeof(path), "%s/%s", p->topics, file);
	was = tmp_read(path, &n);
	tmp_write_bytes(path, text, len);
	FAILS(code, part, wl_topics_open(p->topics, NULL, &err) ? 0 : -1);
	tmp_write_bytes(path, was, n);
	free(was);
}

static char *replaced(const char *file, const char *from, const char *to)
{
	char *was = tmp_read(file, NULL), *at = strstr(was, from), *out;

	assert_non_null(at);
	out = wl_strf(&err, "%.*s%s%s", (int)(at - was), was, to, at + strlen(from));
	free(was);
	return out;
}

static void damaged_files(void **state)
{
	struct wl_topics_options o = options();
	struct wl_topics *t;
	struct place p;
	char *text, path[600];
	size_t n;

	(void)state;
	NEED_TABLES();
	make_corpus(&p);
	FAILS(WL_EUSAGE, "train topics first", wl_topics_open(p.topics, NULL, &err) ? 0 : -1);
	OK(train(&p, p.topics, &o));
	t = wl_topics_open(p.topics, NULL, &err);
	assert_non_null(t);
	wl_topics_close(t);
	snprintf(path, sizeof(path), "%s/news/topic_word.npy", p.topics);
	text = tmp_read(path, &n);
	refuses(&p, "news/topic_word.npy", text, n - 4, WL_EDATA, "is not the table");
	text[30] = 'x';
	refuses(&p, "news/topic_word.npy", text, n, WL_EDATA, "is not the table");
	free(text);
	refuses(&p, "news/vocab.txt", "足球\n", 7, WL_EDATA, "line 1");
	refuses(&p, "news/vocab.txt", "足球\t3\t3\n足球\t3\t3\n", 22, WL_EDATA, "line 2");
	refuses(&p, "news/model.json", "{}", 2, WL_EDATA, "0 topics");
	refuses(&p, "topics.json", "{\"version\":2}", 13, WL_EDATA, "version 2");
	text = replaced(p.labels, "label: \"keep\"", "label: \"kept\"");
	refuses(&p, "labels.yaml", text, strlen(text), WL_EUSAGE, "expected keep or drop");
	free(text);
	text = replaced(p.labels, "\"2\":", "\"7\":");
	refuses(&p, "labels.yaml", text, strlen(text), WL_EUSAGE, "topic 2 of news has no label");
	free(text);
	text = replaced(p.labels, "topics: \"", "topics: \"x");
	refuses(&p, "labels.yaml", text, strlen(text), WL_EUSAGE, "other topics");
	free(text);
	tmp_write(p.rules, "version: 1\ntopics: {model: topics, max_unwantd: 1}\n");
	FAILS(WL_EUSAGE, "max_unwanted", filter(&p, &(struct wl_filter_counts){0}));
	tmp_write(p.rules, "version: 1\ntopics: {model: topics, max_unwanted: 2}\n");
	FAILS(WL_EUSAGE, "share from 0 to 1", filter(&p, &(struct wl_filter_counts){0}));
	tmp_write(p.rules, "version: 1\ntopics: {model: nowhere}\n");
	FAILS(WL_EUSAGE, "nowhere/topics.json", filter(&p, &(struct wl_filter_counts){0}));
	tmp_remove(&p.tmp);
}

static void bad_options(void **state)
{
	struct wl_topics_options o = options();
	struct wl_topic_models m;
	struct wl_topic_label_counts n;
	struct place p;
	char path[512];

	(void)state;
	NEED_TABLES();
	make_corpus(&p);
	o.sample = 0;
	FAILS(WL_EUSAGE, "--sample is 0", train(&p, p.topics, &o));
	o = options();
	o.min_pairs = 5000;
	FAILS(WL_EDATA, "no source has 5000", train(&p, p.topics, &o));
	assert_false(wl_exists(p.topics));
	o = options();
	FAILS(WL_EUSAGE, "has no topics in it", train(&p, p.tmp.path, &o));
	OK(train(&p, p.topics, &o));
	OK(wl_topic_models_load(&m, p.topics, false, &err));
	tmp_path(&p.tmp, "select.yaml", path);
	tmp_write(path, "version: 1\nmin_coherense: 0\n");
	FAILS(WL_EUSAGE, "min_coherence", wl_topic_labels_select(&m, p.topics, path, &n, &err));
	tmp_write(path, "version: 1\nmin_overlap: 0\n");
	FAILS(WL_EUSAGE, "min_overlap", wl_topic_labels_select(&m, p.topics, path, &n, &err));
	tmp_write(path, "version: 1\ncategories: {sports: [1]}\n");
	FAILS(WL_EUSAGE, "word 1 is no text", wl_topic_labels_select(&m, p.topics, path, &n, &err));
	tmp_write(path,
		"version: 1\nneed_category: true\ncategories: {sports: [球队]}\nmin_overlap: "
		"0.02\n");
	OK(wl_topic_labels_select(&m, p.topics, path, &n, &err));
	assert_int_equal(n.kept, 1);
	wl_topic_models_release(&m);
	tmp_remove(&p.tmp);
}

/* ---- several ranks ---- */

/* Trains and filters by mpirun -np n; gives what the filter said of every pair, to be freed. */
static char *train_and_filter(struct place *p, int n)
{
	char *out, how[512];
	int code;

	make_corpus(p);
	tmp_mpirun(&p->tmp, how);
	code = tmp_run(&out,
		"%s -np %d %s/wenlan-filter topics train --corpus %s --out %s --topics 3 "
		"--iterations 30 --min-docs 2 --max-share 0.9 --min-pairs 100 --threads 1 --quiet "
		"&& %s -np %d %s/wenlan-filter --corpus %s --rules %s --threads 1 --quiet",
		how, n, tmp_bin(), p->corpus, p->topics, how, n, tmp_bin(), p->corpus, p->rules);
	if (code != 0)
		fail_msg("mpirun -np %d: exit code %d: %s", n, code, out);
	free(out);
	return stage_dump(p->corpus, "filter",
		"SELECT c.*, v.* FROM examined e LEFT JOIN clean c USING(pair_id) "
		"LEFT JOIN verdict v USING(pair_id) ORDER BY 1");
}

static void under_mpirun(void **state)
{
	struct place one, more;
	char *want, *got, *out, how[512];

	(void)state;
	NEED_TABLES();
	if (tmp_run(NULL, "command -v mpirun && test -x %s/wenlan-filter", tmp_bin()) != 0)
		SKIP("mpirun or wenlan-filter is not here");
	want = train_and_filter(&one, 1);
	assert_non_null(strstr(want, "topic-unwanted"));
	for (int n = 2; n <= 3; n++) {
		got = train_and_filter(&more, n);
		assert_string_equal(want, got);
		if (tmp_run(&out, "diff -r %s %s", one.topics, more.topics) != 0)
			fail_msg("-np %d trains other topics: %s", n, out);
		free(out);
		free(got);
		tmp_remove(&more.tmp);
	}
	/* The code of what went wrong is that of the whole. */
	assert_int_equal(
		tmp_run(NULL, "%s -np 2 %s/wenlan-filter --corpus %s --rules nowhere.yaml",
			tmp_mpirun(&one.tmp, how), tmp_bin(), one.corpus),
		WL_EFAIL);
	free(want);
	tmp_remove(&one.tmp);
}

static void lists_of_words(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_terms t = {0};
	char path[512];

	(void)state;
	tmp_write(tmp_path(&tmp, "list", path), "的 # of\n\n 因为\r\n");
	OK(wl_terms_read_list(&t, path, &err));
	assert_int_equal(t.n, 2);
	assert_true(wl_terms_find(&t, "因为", 6) >= 0);
	tmp_write(path, "的\n\xd2\xf2\xce\xaa\n"); /* GBK */
	FAILS(WL_EDATA, "line 2 is not UTF-8", wl_terms_read_list(&t, path, &err));
	tmp_write_bytes(path, "a\0b\n", 4);
	FAILS(WL_EDATA, "line 1: a 0 byte", wl_terms_read_list(&t, path, &err));
	wl_terms_release(&t);
	tmp_remove(&tmp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_of_words),
		cmocka_unit_test(labels_by_rules_and_by_hand),
		cmocka_unit_test(same_files),
		cmocka_unit_test(filter_uses_topics),
		cmocka_unit_test(damaged_files),
		cmocka_unit_test(bad_options),
		cmocka_unit_test(under_mpirun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
