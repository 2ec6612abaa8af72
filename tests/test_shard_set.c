/* A set over its life: packed by several machines, added to, mended from the corpus, taken down
 * from, looked at by people and by other people's readers. */
#include "ingest/corpus.h"
#include "ops/db.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/log.h"
#include "ops/progress.h"
#include "shards/check.h"
#include "shards/manifest.h"
#include "shards/pack.h"
#include "shards/plan.h"
#include "shards/shard.h"
#include "shards/shard_db.h"
#include "tests/support/cm.h"
#include "tests/support/packcorpus.h"
#include "tests/support/tmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct tmp_dir tmp;
static struct wl_err err;
static char corpus[512], set[512], other[512];

static int setup(void **state)
{
	(void)state;
	wl_log_init("test_shard_set", WL_LOG_ERROR);
	OK(wl_progress_mode("none", &err));
	tmp = tmp_make();
	tmp_path(&tmp, "c", corpus);
	tmp_path(&tmp, "s", set);
	tmp_path(&tmp, "other", other);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tmp_remove(&tmp);
	return 0;
}

static struct wl_pack_opts options(const char *out)
{
	return (struct wl_pack_opts){.corpus = corpus,
		.out = out,
		.threads = 2,
		.plan = {.test = 20, .val = 10, .shard_bytes = 150000, .seed = 7, .quality = 95}};
}

static struct wl_pack_result pack(struct wl_pack_opts o)
{
	struct wl_pack_result r;

	OK(wl_pack(&o, &r, &err));
	return r;
}

static char *fingerprint(const char *dir)
{
	static char hex[65];
	struct wl_manifest m;

	OK(wl_manifest_read(&m, dir, &err));
	memcpy(hex, m.fingerprint, sizeof hex);
	wl_manifest_release(&m);
	return hex;
}

static void verify(const char *dir)
{
	struct wl_verify_result v;

	OK(wl_shards_verify(dir, true, 2, &v, &err));
}

/* Three parts, in any order and with one done twice, make what one run makes. */
static void test_parts(void **state)
{
	static const int order[] = {3, 1, 3, 2};
	struct wl_pack_opts o = options(set);
	struct wl_pack_result r, whole;
	char want[65];
	int64_t kept = 0;

	(void)state;
	pack_make_corpus(corpus, 3, false, 2);
	whole = pack(options(other));
	strcpy(want, fingerprint(other));
	o.parts = 3;
	for (int i = 0; i < 4; i++) {
		o.part = order[i];
		r = pack(o);
		assert_true(r.unfinished);
		assert_false(wl_manifest_exists(set));
		kept += r.kept_shards;
	}
	assert_in_range(kept, whole.shards / 3, whole.shards / 3 + 1); /* the repeated part's */
	r = pack(options(set));
	assert_int_equal(r.kept_shards, whole.shards);
	assert_int_equal(r.samples, whole.samples);
	assert_string_equal(fingerprint(set), want);
	verify(set);
	/* Asked for again: nothing to do, and the parts agree. */
	assert_true(pack(options(set)).nothing_to_do);
}

/* The filter changes its mind on some pairs: these alone are added, and shards stay as they are. */
static void test_append(void **state)
{
	struct wl_pack_opts o = options(set);
	struct wl_pack_result first, r;
	struct wl_manifest before, after;
	struct wl_corpus *c;
	struct wl_db db;
	char *path, tar[600];
	struct wl_repair_result rep;
	uint8_t a[32], b[32];

	(void)state;
	pack_make_corpus(corpus, 1, false, 2);
	o.append = true;
	FAILS(WL_EUSAGE, "no finished set to add to", wl_pack(&o, &r, &err));
	first = pack(options(set));
	OK(wl_manifest_read(&before, set, &err));
	snprintf(tar, sizeof tar, "%s/%s.tar", set, before.shards[0].name);
	OK(wl_sha256_file(tar, a, &err));
	assert_true(pack(o).nothing_to_do);
	c = wl_corpus_open(corpus, false, 0, &err);
	assert_non_null(c);
	path = wl_corpus_stage_path(c, "filter", 1, 0, &err);
	OK(wl_db_open(&db, path, WL_DB_WRITE, &err));
	OK(wl_db_exec(&db, "DELETE FROM verdict", &err));
	wl_db_close(&db);
	free(path);
	wl_corpus_close(c);
	o.plan.test = 2;
	o.plan.val = 0;
	r = pack(o);
	assert_int_equal(r.old_shards, first.shards);
	assert_true(r.samples > 2);
	assert_int_equal(r.in_split[WL_SPLIT_TEST], 2);
	assert_int_equal(r.in_split[WL_SPLIT_VAL], 0);
	OK(wl_manifest_read(&after, set, &err));
	assert_int_equal(after.n, before.n + (size_t)r.shards);
	for (size_t i = 0, k = 0; i < before.n; i++) {
		while (k < after.n && strcmp(after.shards[k].name, before.shards[i].name))
			k++;
		assert_true(k < after.n);
		assert_string_equal(after.shards[k].sha256, before.shards[i].sha256);
	}
	OK(wl_sha256_file(tar, b, &err));
	assert_memory_equal(a, b, 32);
	assert_non_null(json_object_get(after.meta, "added"));
	verify(set);
	assert_true(pack(o).nothing_to_do);
	/* All is there once: the audit of the corpus as it is now balances. */
	{
		struct wl_audit_result au;

		OK(wl_shards_audit(corpus, set, &au, &err));
		assert_int_equal(au.packed, first.samples + r.samples);
	}
	/* And the manifest can be made again from the tars of both packings. */
	path = wl_path_join(set, "manifest.db", &err);
	unlink(path);
	free(path);
	OK(wl_shards_repair(set, false, &rep, &err));
	assert_string_equal(fingerprint(set), after.fingerprint);
	wl_manifest_release(&before);
	wl_manifest_release(&after);
}

static void flip(const char *path, long at)
{
	FILE *fp = fopen(path, "r+");
	int c;

	assert_non_null(fp);
	fseek(fp, at, SEEK_SET);
	c = fgetc(fp);
	fseek(fp, at, SEEK_SET);
	fputc(c ^ 1, fp);
	fclose(fp);
}

/* A damaged shard comes back from the corpus, to the same bytes. */
static void test_restore(void **state)
{
	char want[65], path[600], *out;

	(void)state;
	pack_make_corpus(corpus, 1, false, 2);
	pack(options(set));
	strcpy(want, fingerprint(set));
	snprintf(path, sizeof path, "%s/train-000000.tar", set);
	flip(path, 700);
	snprintf(path, sizeof path, "%s/train-000001.tar", set);
	unlink(path);
	assert_int_equal(tmp_run(&out, "%s/wenlan-shard verify --shards %s", tmp_bin(), set), 3);
	free(out);
	if (tmp_run(&out, "%s/wenlan-shard repair --shards %s --corpus %s", tmp_bin(), set, corpus))
		fail_msg("%s", out);
	assert_non_null(strstr(out, "2 packed again"));
	free(out);
	verify(set);
	assert_string_equal(fingerprint(set), want);
}

/* Runs it on the set, with these arguments. */
static void tombstone(int code, const char *args, const char *says)
{
	char *out;
	int got = tmp_run(&out, "%s/wenlan-shard tombstone --shards %s --reason x %s", tmp_bin(),
		set, args);

	if (got != code || !strstr(out, says))
		fail_msg("exit code %d, expected %d with \"%s\" in: %s", got, code, says, out);
	free(out);
}

static size_t count_tombstones(void)
{
	struct wl_manifest m;
	size_t n;

	OK(wl_manifest_read(&m, set, &err));
	n = m.n_tombstones;
	assert_int_equal(m.n_dead, n); /* no tombstone without a sample */
	wl_manifest_release(&m);
	return n;
}

/* What is nowhere in the set is named, and is no tombstone; the rest is taken down. */
static void test_take_down_unknown(void **state)
{
	struct wl_shard_rows rows;
	struct wl_shard_row row;
	char args[1024], hex[65];

	(void)state;
	pack_make_corpus(corpus, 1, false, 2);
	pack(options(set));
	OK(wl_shard_rows_open(&rows, set, "train-000000", &err));
	assert_int_equal(wl_shard_rows_next(&rows, &row, &err), 1);
	tombstone(2, "123", "matches 123; nothing was taken down");
	tombstone(2, "train-000000_999999", "matches train-000000_999999; nothing");
	tombstone(2, "train-777777_000000", "matches train-777777_000000; nothing");
	tombstone(2, "--url http://nowhere.org/a.jpg --json", "[\"http://nowhere.org/a.jpg\"]");
	tombstone(2, "nonsense", "\"nonsense\" is neither a pair");
	assert_int_equal(count_tombstones(), 0);
	memset(hex, '0', 64);
	hex[64] = 0;
	snprintf(args, sizeof args, "%lld 00000-%lld --sha256 %s 5", (long long)row.pair_id,
		(long long)row.pair_id, hex);
	tombstone(2, args, "1 sample taken down; readers leave it out");
	assert_int_equal(count_tombstones(), 1);
	tombstone(2, args, "what else was named is taken down");
	tombstone(2, args, "5, --sha256 0000");
	tombstone(0, "train-000000_000000", "(the others were down already)");
	tombstone(0, "train-000000_000001 train-000000_000002 train-000000_000001",
		"2 samples taken down; readers leave them out");
	assert_int_equal(count_tombstones(), 3);
	wl_shard_rows_close(&rows);
}

/* By host and by hash; both need no id. */
static void test_take_down(void **state)
{
	struct wl_shard_rows rows;
	struct wl_shard_row row;
	struct wl_manifest m;
	char hex[65], *out;
	int64_t all;

	(void)state;
	pack_make_corpus(corpus, 1, false, 2);
	all = pack(options(set)).samples;
	OK(wl_shard_rows_open(&rows, set, "train-000000", &err));
	assert_int_equal(wl_shard_rows_next(&rows, &row, &err), 1);
	wl_hex(row.sha256, 32, hex);
	wl_shard_rows_close(&rows);
	assert_int_equal(
		tmp_run(&out, "%s/wenlan-shard tombstone --shards %s --reason x --sha256 %s",
			tmp_bin(), set, hex),
		0);
	free(out);
	OK(wl_manifest_read(&m, set, &err));
	assert_true(m.n_tombstones >= 1 && m.n_dead == m.n_tombstones);
	assert_int_equal(m.dead[0].index, 0);
	assert_string_equal(m.dead[0].shard, "train-000000");
	wl_manifest_release(&m);
	tombstone(2, "--host j", "matches --host j; nothing was taken down");
	assert_int_equal(
		tmp_run(&out, "%s/wenlan-shard tombstone --shards %s --reason x --sha256 xyz",
			tmp_bin(), set),
		2);
	free(out);
	assert_int_equal(tmp_run(&out, "%s/wenlan-shard tombstone --shards %s --reason x --host I",
				 tmp_bin(), set),
		0);
	free(out);
	OK(wl_manifest_read(&m, set, &err));
	assert_int_equal(m.n_tombstones, all);
	wl_manifest_release(&m);
}

static void test_stats(void **state)
{
	char page[512], *out, *html;
	size_t n;

	(void)state;
	pack_make_corpus(corpus, 1, false, 2);
	pack(options(set));
	tmp_path(&tmp, "page.html", page);
	if (tmp_run(&out, "%s/wenlan-shard stats --shards %s --html %s --json", tmp_bin(), set,
		    page))
		fail_msg("%s", out);
	assert_non_null(strstr(out, "\"shorter_side\":{"));
	free(out);
	html = tmp_read(page, &n);
	assert_non_null(strstr(html, "Chinese"));
	assert_non_null(strstr(html, "baike"));
	assert_non_null(strstr(html, "train-000000_000000"));
	assert_non_null(strstr(html, "data:image/jpeg;base64,"));
	free(html);
}

/* The paper's 11,000 held-out pairs, exactly, by whole groups, from 30,000 with many groups. */
static void test_eleven_thousand(void **state)
{
	enum { PAIRS = 30000, TEST = 11000 };
	struct wl_corpus *c = wl_corpus_open(corpus, true, 2, &err);
	struct wl_shard_plan_opts o = {
		.test = TEST, .val = 500, .shard_bytes = 1 << 28, .seed = 3, .quality = 95};
	json_t *facts = json_pack("{s:s}", "params_hash", "p");
	int8_t *split_of_group = calloc(PAIRS, 1);
	struct wl_shard_plan plan;

	(void)state;
	assert_non_null(c);
	for (int part = 0; part < 2; part++) {
		struct wl_lane *l = wl_lane_open(c, part, &err);
		struct wl_db db[2];

		assert_non_null(l);
		for (int s = 0; s < 2; s++) {
			char *path = wl_corpus_stage_path(c, s ? "filter" : "dedup", 1, part, &err);

			OK(wl_db_open(&db[s], path, WL_DB_WRITE, &err));
			free(path);
			OK(wl_db_exec(&db[s],
				"BEGIN; CREATE TABLE examined(pair_id INTEGER PRIMARY KEY);"
				"CREATE TABLE verdict(pair_id, reason TEXT, detail TEXT);"
				"CREATE TABLE cluster(pair_id INTEGER PRIMARY KEY, split_group);"
				"CREATE TABLE clean(pair_id INTEGER PRIMARY KEY, texts TEXT, topic,"
				" category, scores)",
				&err));
		}
		for (int i = part; i < PAIRS; i += 2) {
			char url[64];
			struct wl_pair p = {.id = i + 1,
				.source = "x",
				.url = url,
				.page_url = "",
				.texts = "[[\"caption\",\"x\"]]",
				.split_hint = "",
				.format = "jpeg",
				.width = 9,
				.height = 9,
				.meta = "{}"};

			snprintf(url, sizeof url, "http://x/%d", i);
			assert_int_equal(wl_lane_add(l, &p, "x", 1, &err), 1);
			for (int s = 0; s < 2; s++)
				pack_exec(&db[s], "INSERT INTO examined VALUES(%d)", i + 1);
			/* Groups of 1 to 7 neighbours, over both partitions. */
			pack_exec(&db[0], "INSERT INTO cluster VALUES(%d,%d)", i + 1,
				i / (1 + i / 1000 % 7) * (1 + i / 1000 % 7) + 1);
		}
		OK(wl_lane_commit(l, "o", "end", &err));
		wl_lane_close(l);
		for (int s = 0; s < 2; s++) {
			OK(wl_db_commit(&db[s], &err));
			wl_db_close(&db[s]);
		}
	}
	OK(wl_corpus_publish(c, "dedup", 1, facts, &err));
	OK(wl_corpus_publish(c, "filter", 1, facts, &err));
	json_decref(facts);
	OK(wl_shard_plan_make(&plan, c, &o, &err));
	assert_int_equal(plan.n, PAIRS);
	assert_int_equal(plan.in_split[WL_SPLIT_TEST], TEST);
	assert_int_equal(plan.in_split[WL_SPLIT_VAL], 500);
	for (size_t i = 0; i < plan.n; i++) {
		int8_t *s = &split_of_group[plan.pairs[i].group - 1];

		if (*s)
			assert_int_equal(*s, plan.pairs[i].split);
		*s = (int8_t)plan.pairs[i].split;
	}
	wl_shard_plan_release(&plan);
	wl_corpus_close(c);
	free(split_of_group);
}

/* ---- other people's readers ---- */

static void read_by(const char *kind, const char *module)
{
	const char *python = getenv("WL_PYTHON") ? getenv("WL_PYTHON") : "python3";
	long long samples = 0, bytes = 0;
	struct wl_shardset *s;
	char want[64], *out;
	struct wl_buf jpg;

	if (tmp_run(NULL, "%s -c 'import %s' 2>/dev/null", python, module))
		SKIP("%s has no %s package (WL_PYTHON names another python)", python, module);
	pack_make_corpus(corpus, 1, false, 2);
	pack(options(set));
	s = wl_shardset_open(set, "train", &err);
	assert_non_null(s);
	wl_buf_init(&jpg, 1 << 20);
	for (samples = 0; samples < wl_shardset_size(s); samples++) {
		OK(wl_shardset_read(s, samples, &jpg, NULL, &err));
		bytes += (long long)jpg.len;
	}
	wl_buf_release(&jpg);
	wl_shardset_close(s);
	snprintf(want, sizeof want, "%s train %lld %lld\n", kind, samples, bytes);
	if (tmp_run(&out, "%s tests/golden/read_wids_dali.py %s %s train", python, kind, set))
		fail_msg("%s", out);
	if (!strstr(out, want))
		fail_msg("expected %s in: %s", want, out);
	free(out);
}

static void test_wids(void **state)
{
	(void)state;
	read_by("wids", "wids");
}

static void test_dali(void **state)
{
	(void)state;
	read_by("dali", "nvidia.dali");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_parts), T(test_append), T(test_restore),
		T(test_take_down), T(test_take_down_unknown), T(test_stats),
		T(test_eleven_thousand), T(test_wids), T(test_dali)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
