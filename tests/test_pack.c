/* wenlan-shard: from a corpus with verdicts to shards.  Same bytes for any threads, partitions
 * and kills; splits by whole groups; every damage is found; every pair is accounted for. */
#include "ingest/corpus.h"
#include "ingest/image.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/progress.h"
#include "shards/check.h"
#include "shards/index.h"
#include "shards/manifest.h"
#include "shards/pack.h"
#include "shards/sets.h"
#include "shards/shard.h"
#include "shards/shard_db.h"
#include "tests/support/kills.h"
#include "tests/support/packcorpus.h"
#include "tests/support/tmp.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { N = PACK_N };

#define OK(expr)                                                                                   \
	do {                                                                                       \
		if ((expr) < 0)                                                                    \
			fail_msg("%s: %s", #expr, err.msg);                                        \
	} while (0)

/* ---- tests ---- */

static int number_of(int64_t id)
{
	for (int i = 0; i < N; i++)
		if (pack_id_of(i) == id)
			return i;
	return -1;
}

static void pair_ids(struct wl_shardset *s, int64_t ids[N])
{
	struct wl_err err = WL_ERR_INIT;

	assert_in_range(wl_shardset_size(s), 1, N);
	OK(wl_shardset_pair_ids(s, ids, &err));
}

static void check_sample(
	struct wl_shardset *s, int64_t k, int64_t id, struct wl_buf *jpg, struct wl_buf *json)
{
	struct wl_err err = WL_ERR_INIT;
	int i = number_of(id);
	char want[64];
	struct wl_buf raw;
	json_t *o;

	assert_true(i >= 0);
	assert_false(pack_is_dup(i) || pack_is_filtered(i) || pack_is_broken(i));
	OK(wl_shardset_read(s, k, jpg, json, &err));
	o = wl_json_parse(json->data, json->len, "KEY.json", &err);
	assert_non_null(o);
	snprintf(want, sizeof want, "第%d句", i);
	assert_int_equal(json_array_size(json_object_get(o, "captions")), 2);
	assert_string_equal(
		json_string_value(json_array_get(json_object_get(o, "captions"), 0)), want);
	snprintf(want, sizeof want, "题%d", i);
	assert_string_equal(json_string_value(json_object_get(o, "title")), want);
	assert_int_equal(json_integer_value(json_object_get(o, "split_group")),
		pack_id_of(pack_group_of(i)));
	assert_int_equal(json_is_array(json_object_get(o, "boxes")), i % 4 == 0);
	assert_int_equal(json_is_null(json_object_get(o, "topic")), i % 5 == 0);
	if (i % 5 == 1)
		assert_string_equal(json_string_value(json_object_get(o, "category")), "sports");
	else
		assert_null(json_object_get(o, "category"));
	json_decref(o);
	wl_buf_init(&raw, 1 << 20);
	pack_make_image(i, &raw);
	if (pack_is_png(i)) {
		assert_memory_equal(jpg->data, "\xff\xd8", 2);
	} else { /* never encoded again */
		assert_int_equal(jpg->len, raw.len);
		assert_memory_equal(jpg->data, raw.data, raw.len);
	}
	wl_buf_release(&raw);
}

static void test_pack_everything(void **state)
{
	int64_t ids[N];
	static const char *const splits[] = {"train", "val", "test"};
	struct wl_err err = WL_ERR_INIT;
	struct wl_pack_opts o;
	struct wl_verify_result v;
	struct wl_audit_result a;
	struct wl_pack_result r;
	struct wl_buf jpg, json;
	int split_of[N] = {0};

	(void)state;
	pack_make_corpus(pack_in("c"), 2, false, 2);
	o = pack_options(pack_in("c"), pack_in("s"));
	pack_run(&o, &r);
	assert_int_equal(r.rejected, 1);
	assert_int_equal(r.samples, N * 8 / 10 - 1);
	assert_true(r.shards > 4);
	assert_int_equal(
		r.in_split[WL_SPLIT_TEST] + r.in_split[WL_SPLIT_VAL] + r.in_split[WL_SPLIT_TRAIN],
		r.samples);
	wl_buf_init(&jpg, 1 << 20);
	wl_buf_init(&json, 1 << 20);
	for (int k = 0; k < 3; k++) {
		struct wl_shardset *s = wl_shardset_open(pack_in("s"), splits[k], &err);

		assert_non_null(s);
		pair_ids(s, ids);
		for (int64_t i = 0; i < wl_shardset_size(s); i++) {
			check_sample(s, i, ids[i], &jpg, &json);
			split_of[number_of(ids[i])] = k + 1;
		}
		if (k) /* exactly as many as asked, but for the rejected one, which is alone */
			assert_in_range(
				wl_shardset_size(s), (k == 1 ? 10 : 20) - 1, k == 1 ? 10 : 20);
		wl_shardset_close(s);
	}
	for (int i = 0; i < N; i++) { /* no group is torn */
		int first = pack_group_of(i);

		while (first < i && !split_of[first])
			first++;
		if (split_of[i])
			assert_int_equal(split_of[i], split_of[first]);
	}
	wl_buf_release(&jpg);
	wl_buf_release(&json);
	OK(wl_shards_verify(pack_in("s"), true, 2, &v, &err));
	assert_int_equal(v.samples, r.samples);
	OK(wl_shards_audit(pack_in("c"), pack_in("s"), &a, &err));
	assert_int_equal(a.read, N + 2);
	assert_int_equal(a.quarantined, 2);
	assert_int_equal(a.dropped_dedup, N / 10);
	assert_int_equal(a.dropped_filter, N / 10);
	assert_int_equal(a.rejected, 1);
	assert_int_equal(a.packed, r.samples);
	/* A finished set is left alone. */
	pack_run(&o, &r);
	assert_true(r.nothing_to_do);
	assert_int_equal(r.samples, v.samples);
}

static void test_same_bytes(void **state)
{
	char first[65], again[65];
	struct wl_pack_opts o;
	struct wl_pack_result r;

	(void)state;
	pack_make_corpus(pack_in("c1"), 1, false, 2);
	pack_make_corpus(pack_in("c3"), 3, false, 2);
	o = pack_options(pack_in("c1"), pack_in("s1"));
	o.threads = 1;
	pack_run(&o, &r);
	pack_digest(pack_in("s1"), first);
	o = pack_options(pack_in("c3"), pack_in("s3"));
	o.threads = 5;
	pack_run(&o, &r);
	pack_digest(pack_in("s3"), again);
	/* plan.json counts verdicts, which are equal too. */
	assert_string_equal(first, again);
	o = pack_options(pack_in("c3"), pack_in("s4"));
	o.plan.seed = 8;
	pack_run(&o, &r);
	pack_digest(pack_in("s4"), again);
	assert_string_not_equal(first, again);
}

/* Killed at random moments until it ends by itself: the same bytes as in one go. */
static void test_kill(void **state)
{
	static const char args[] =
		"--test 20 --val 10 --shard-size 60k --seed 7 --threads 2 --quiet";
	char exe[4200], begin[256], cmd[5000], whole[65], pieces[65];

	(void)state;
	snprintf(exe, sizeof exe, "%s/wenlan-shard", tmp_bin());
	if (access(exe, X_OK)) {
		printf("SKIPPED: %s is not built\n", exe);
		skip();
	}
	pack_make_corpus(pack_in("c"), 2, false, 2);
	assert_int_equal(tmp_run(NULL, "'%s' --corpus '%s' --out '%s' %s", exe, pack_in("c"),
				 pack_in("whole"), args),
		0);
	pack_digest(pack_in("whole"), whole);
	snprintf(begin, sizeof begin, "rm -rf '%s'", pack_in("pieces"));
	snprintf(cmd, sizeof cmd, "exec '%s' --corpus '%s' --out '%s' %s", exe, pack_in("c"),
		pack_in("pieces"), args);
	kill_until_done(begin, cmd, 3);
	pack_digest(pack_in("pieces"), pieces);
	assert_string_equal(whole, pieces);
}

static void refuse(const struct wl_pack_opts *o, enum wl_code code, const char *what)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_pack_result r;

	assert_int_equal(wl_pack(o, &r, &err), -1);
	if (err.code != code || !strstr(err.msg, what))
		fail_msg("expected code %d and \"%s\" in %d: %s", code, what, err.code, err.msg);
}

static void test_stages_must_have_run(void **state)
{
	struct wl_pack_opts o;
	struct wl_pack_result r;
	struct wl_err err = WL_ERR_INIT;
	struct wl_shardset *s;
	struct wl_buf txt;

	(void)state;
	pack_make_corpus(pack_in("c0"), 1, false, 0);
	o = pack_options(pack_in("c0"), pack_in("s"));
	refuse(&o, WL_EDATA, "run wenlan-dedup --corpus");
	o.plan.allow_unfiltered = true;
	pack_run(&o, &r);
	assert_int_equal(r.samples, N - 1);
	s = wl_shardset_open(pack_in("s"), "train", &err);
	assert_non_null(s);
	wl_buf_init(&txt, 1000);
	OK(wl_shardset_read_text(s, 0, &txt, &err));
	assert_memory_equal(txt.data, "raw ", 4);
	wl_buf_release(&txt);
	wl_shardset_close(s);
	pack_make_corpus(pack_in("c1"), 1, false, 1);
	o = pack_options(pack_in("c1"), pack_in("s1"));
	refuse(&o, WL_EDATA, "run wenlan-filter --corpus");
	o.corpus = pack_in("nothing");
	refuse(&o, WL_EDATA, "nothing");
}

static void test_splits(void **state)
{
	struct wl_pack_opts o;
	struct wl_pack_result r;

	(void)state;
	pack_make_corpus(pack_in("h"), 1, true, 2);
	o = pack_options(pack_in("h"), pack_in("s"));
	o.plan.val = 0;
	pack_run(&o, &r); /* the input's own test pairs: 0, 1, 2 */
	assert_int_equal(r.in_split[WL_SPLIT_TEST], 3);
	assert_int_equal(r.in_split[WL_SPLIT_VAL], 0);
	o.out = pack_in("s2");
	o.plan.draw_beside_hints = true;
	pack_run(&o, &r);
	assert_in_range(r.in_split[WL_SPLIT_TEST], 22, 23);
	o.out = pack_in("s3");
	o.plan.test = 1000;
	refuse(&o, WL_EDATA, "--test 1000 cannot be met");
	o.plan.ignore_hints = true;
	refuse(&o, WL_EDATA, "--test 1000 cannot be met: whole groups of near-duplicates");
	o.plan.test = 20;
	pack_run(&o, &r);
	assert_in_range(r.in_split[WL_SPLIT_TEST], 19, 20);
}

/* The input names every pair's split: nothing is left to draw from, and the message says why. */
static void test_all_hinted(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_pack_opts o;
	struct wl_pack_result r;
	struct wl_db db;

	(void)state;
	pack_make_corpus(pack_in("a"), 1, false, 2);
	OK(wl_db_open(&db, pack_in("a/part-00000/catalog.db"), WL_DB_WRITE, &err));
	pack_exec(&db, "UPDATE pair SET split_hint='train'");
	wl_db_close(&db);
	o = pack_options(pack_in("a"), pack_in("t"));
	o.plan.val = 0;
	refuse(&o, WL_EDATA, "the input names the split of 192 of the 192 kept pairs itself");
	refuse(&o, WL_EDATA, "(test 0, val 0, train 192)");
	refuse(&o, WL_EDATA, "leave --test out to take the input's splits as they are");
	refuse(&o, WL_EDATA, "pass --ignore-hints");
	o.plan.ignore_hints = true;
	pack_run(&o, &r);
	assert_in_range(r.in_split[WL_SPLIT_TEST], 19, 20);
	/* As a corpus without hints is split: the draw asks for nothing else. */
	assert_int_equal(r.in_split[WL_SPLIT_TEST] + r.in_split[WL_SPLIT_TRAIN], r.samples);
}

static void test_other_options(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	int64_t id = pack_id_of(0);
	struct wl_pack_opts o;
	struct wl_pack_result r;
	struct wl_manifest m;
	struct wl_verify_result v;

	(void)state;
	pack_make_corpus(pack_in("c"), 1, false, 2);
	o = pack_options(pack_in("c"), pack_in("s"));
	pack_run(&o, &r);
	assert_int_equal(wl_manifest_tombstone(pack_in("s"), &id, 1, "asked", &err), 1);
	OK(wl_write_file(pack_in("s/photo-123456.jpg"), "mine", 4, &err));
	o.plan.shard_bytes *= 3;
	refuse(&o, WL_EUSAGE, "--replace");
	o.replace = true;
	pack_run(&o, &r);
	assert_int_equal(r.kept_shards, 0);
	OK(wl_manifest_read(&m, pack_in("s"), &err));
	assert_int_equal(m.n_tombstones, 1);
	wl_manifest_release(&m);
	OK(wl_shards_verify(pack_in("s"), false, 2, &v, &err));
	assert_true(wl_exists(pack_in("s/photo-123456.jpg")));
	/* A lost shard alone is packed again. */
	unlink(pack_in("s/train-000001.tar"));
	assert_int_equal(wl_shards_verify(pack_in("s"), false, 2, &v, &err), -1);
	o.replace = false;
	pack_run(&o, &r);
	assert_int_equal(r.kept_shards, r.shards - 1);
	OK(wl_shards_verify(pack_in("s"), false, 2, &v, &err));
}

/* ---- other people's readers ---- */

static void test_webdataset(void **state)
{
	const char *python = getenv("WL_PYTHON") ? getenv("WL_PYTHON") : "python3";
	struct wl_pack_opts o;
	struct wl_pack_result r;
	char cmd[1024];

	(void)state;
	snprintf(cmd, sizeof cmd, "%s -c 'import webdataset' 2>/dev/null", python);
	if (system(cmd)) {
		printf("SKIPPED: %s has no webdataset package (WL_PYTHON names another python)\n",
			python);
		skip();
	}
	pack_make_corpus(pack_in("c"), 1, false, 2);
	o = pack_options(pack_in("c"), pack_in("s"));
	pack_run(&o, &r);
	snprintf(cmd, sizeof cmd, "%s tests/golden/read_webdataset.py %.100s", python,
		pack_in("s"));
	assert_int_equal(system(cmd), 0);
}

static int64_t in(const json_t *v, const char *key)
{
	return json_integer_value(json_object_get(v, key));
}

/* Two sets that overlap, one with a take-down, become one without doubles. */
static void test_sets(void **state)
{
	int64_t ids[N];
	const char *dirs[] = {pack_in("s"), pack_in("s2")};
	struct wl_merge_opts m = {
		.dirs = dirs, .n = 2, .out = pack_in("m"), .shard_bytes = 200000, .seed = 5};
	struct wl_err err = WL_ERR_INIT;
	struct wl_verify_result ver;
	struct wl_merge_result mr;
	struct wl_pack_result r;
	struct wl_shardset *set;
	struct wl_pack_opts o;
	int64_t id;
	json_t *v;

	(void)state;
	pack_make_corpus(pack_in("c"), 1, false, 2);
	o = pack_options(pack_in("c"), dirs[0]);
	pack_run(&o, &r);
	o = pack_options(pack_in("c"), dirs[1]);
	o.plan.seed += 1;
	pack_run(&o, &r);
	v = wl_shards_lint(dirs[0], &err);
	assert_non_null(v);
	assert_int_equal(in(v, "samples"), r.samples);
	assert_int_equal(in(v, "errors"), 0);
	json_decref(v);
	set = wl_shardset_open(dirs[1], "train", &err);
	assert_non_null(set);
	pair_ids(set, ids);
	id = ids[0];
	wl_shardset_close(set);
	assert_int_equal(wl_manifest_tombstone(dirs[1], &id, 1, "test", &err), 1);
	assert_int_equal(wl_shards_merge(&m, &mr, &err), 0);
	assert_int_equal(mr.samples, r.samples - 1);
	assert_int_equal(mr.doubles, r.samples);
	assert_int_equal(mr.taken_down, 1);
	assert_int_equal(wl_shards_verify(m.out, false, 1, &ver, &err), 0);
	v = wl_shards_diff(dirs[0], m.out, &err);
	assert_non_null(v);
	assert_int_equal(in(v, "only_a"), 1);
	assert_int_equal(in(v, "only_b") + in(v, "picture") + in(v, "text"), 0);
	json_decref(v);
	/* A leak: the first set beside one whose splits were drawn otherwise. */
	v = wl_shards_diff(dirs[0], dirs[1], &err);
	assert_non_null(v);
	assert_int_equal(in(v, "only_a") + in(v, "only_b"), 0);
	assert_int_equal(in(v, "same") + in(v, "split"), r.samples);
	json_decref(v);
	/* Again: found finished.  Of other sets: refused. */
	assert_int_equal(wl_shards_merge(&m, &mr, &err), 0);
	m.n = 1;
	assert_int_equal(wl_shards_merge(&m, &mr, &err), -1);
	assert_non_null(strstr(err.msg, "another shard set"));
}

/* A set with one sample taken down: Energon opens it as it is, and yields the others. */
static void test_energon(void **state)
{
	int64_t ids[N];
	const char *python = getenv("WL_ENERGON_PYTHON") ? getenv("WL_ENERGON_PYTHON") : "python3";
	struct wl_pack_opts o;
	struct wl_pack_result r;
	struct wl_err err = WL_ERR_INIT;
	struct wl_shardset *set;
	char cmd[1024], want[64], got[64] = "";
	int64_t id;
	FILE *pipe;

	(void)state;
	snprintf(cmd, sizeof cmd, "%s -c 'import megatron.energon, torch' 2>/dev/null", python);
	if (system(cmd)) {
		printf("SKIPPED: %s has no megatron-energon (WL_ENERGON_PYTHON names another)\n",
			python);
		skip();
	}
	pack_make_corpus(pack_in("c"), 1, false, 2);
	o = pack_options(pack_in("c"), pack_in("s"));
	pack_run(&o, &r);
	set = wl_shardset_open(pack_in("s"), "train", &err);
	assert_non_null(set);
	pair_ids(set, ids);
	id = ids[0];
	snprintf(want, sizeof want, "train %lld\n", (long long)wl_shardset_size(set) - 1);
	wl_shardset_close(set);
	assert_int_equal(wl_manifest_tombstone(pack_in("s"), &id, 1, "test", &err), 1);
	assert_int_equal(wl_index_energon(pack_in("s"), &err), 0);
	snprintf(cmd, sizeof cmd, "%s tests/golden/read_energon.py %.100s train", python,
		pack_in("s"));
	pipe = popen(cmd, "r");
	assert_non_null(pipe);
	assert_non_null(fgets(got, sizeof got, pipe));
	assert_int_equal(pclose(pipe), 0);
	assert_string_equal(got, want);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, pack_setup, pack_teardown)
	const struct CMUnitTest tests[] = {T(test_pack_everything), T(test_same_bytes),
		T(test_kill), T(test_stages_must_have_run), T(test_splits), T(test_all_hinted),
		T(test_other_options), T(test_sets), T(test_webdataset), T(test_energon)};
	struct wl_err err;

	wl_log_init("test_pack", WL_LOG_ERROR);
	if (wl_progress_mode("none", &err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
