/* wenlan-shard on sets and corpora that were damaged: every damage is found and named, repair makes
 * again what can be made, and the audit finds every pair. */
#include "ops/file.h"
#include "ops/log.h"
#include "ops/progress.h"
#include "shards/check.h"
#include "shards/manifest.h"
#include "shards/pack.h"
#include "shards/shard_db.h"
#include "tests/support/cm.h"
#include "tests/support/packcorpus.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void flip(const char *path, int64_t at)
{
	FILE *f = fopen(path, "r+b");
	int c;

	assert_non_null(f);
	fseek(f, at, SEEK_SET);
	c = fgetc(f);
	fseek(f, at, SEEK_SET);
	fputc(c ^ 0x10, f);
	fclose(f);
}

static void found_bad(const char *what)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_verify_result v;

	assert_int_equal(wl_shards_verify(pack_in("s"), false, 2, &v, &err), -1);
	assert_int_equal(err.code, WL_EDATA);
	if (!strstr(err.msg, what))
		fail_msg("expected \"%s\" in: %s", what, err.msg);
}

static void test_verify_finds(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	const char *tar = pack_in("s/train-000001.tar"), *db = pack_in("s/train-000001.db");
	int64_t size;
	struct wl_pack_opts o;
	struct wl_pack_result r;
	struct wl_verify_result v;

	(void)state;
	pack_make_corpus(pack_in("c"), 1, false, 2);
	o = pack_options(pack_in("c"), pack_in("s"));
	pack_run(&o, &r);
	OK(size = wl_file_size(tar, &err));
	for (int64_t at = 0; at < size; at += 997) { /* wherever it is */
		flip(tar, at);
		found_bad("train-000001");
		flip(tar, at);
	}
	flip(tar, size - 1);
	found_bad("zero block");
	flip(tar, size - 1);
	flip(tar, 600); /* inside the first picture */
	found_bad("train-000001_000000: its picture");
	flip(tar, 600);
	OK(wl_shards_verify(pack_in("s"), true, 2, &v, &err));
	OK(wl_write_file(pack_in("s/val-000009.tar"), "x", 1, &err));
	found_bad("val-000009.tar is not in the manifest");
	unlink(pack_in("s/val-000009.tar"));
	flip(db, 5); /* "SQLite" */
	found_bad("train-000001.db");
	flip(db, 5);
	unlink(db);
	found_bad("train-000001.db");
}

static void test_repair(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_names dbs;
	struct wl_repair_result rep;
	struct wl_audit_result a;
	struct wl_verify_result v;
	struct wl_pack_opts o;
	struct wl_pack_result r;
	char before[65], after[65];

	(void)state;
	pack_make_corpus(pack_in("c"), 1, false, 2);
	o = pack_options(pack_in("c"), pack_in("s"));
	pack_run(&o, &r);
	pack_digest(pack_in("s"), before);
	/* All databases but the one that alone knows of the rejected pair are lost. */
	OK(wl_list_dir(pack_in("s"), "*.db", &dbs, &err));
	for (size_t i = 0; i < dbs.n; i++) {
		struct wl_err e = WL_ERR_INIT;
		struct wl_db db;
		int64_t n = 0;
		char path[512];

		snprintf(path, sizeof path, "%.100s/%s", pack_in("s"), dbs.v[i]);
		if (strcmp(dbs.v[i], "manifest.db") && wl_db_open(&db, path, WL_DB_READ, &e) == 0) {
			assert_int_equal(
				wl_db_int(&db, 0, &n, &e, "SELECT count(*) FROM rejected"), 0);
			wl_db_close(&db);
		}
		if (!n)
			unlink(path);
	}
	wl_names_release(&dbs);
	OK(wl_shards_repair(pack_in("s"), false, &rep, &err));
	assert_int_equal(rep.samples, r.samples);
	assert_false(rep.tombstones_lost);
	OK(wl_shards_verify(pack_in("s"), true, 2, &v, &err));
	OK(wl_shards_audit(pack_in("c"), pack_in("s"), &a, &err));
	pack_digest(pack_in("s"), after);
	assert_string_equal(before, after);
	pack_run(&o, &r);
	assert_true(r.nothing_to_do);
	/* A damaged manifest is set aside. */
	OK(wl_write_file(pack_in("s/manifest.db"), "rubbish", 7, &err));
	OK(wl_shards_repair(pack_in("s"), false, &rep, &err));
	assert_true(rep.tombstones_lost);
	assert_true(wl_exists(pack_in("s/manifest.db.damaged")));
	/* A picture that changed after sealing is not made the truth, unless that is asked for. */
	flip(pack_in("s/train-000000.tar"), 700);
	assert_int_equal(wl_shards_repair(pack_in("s"), false, &rep, &err), -1);
	assert_int_equal(err.code, WL_EDATA);
	assert_non_null(strstr(err.msg, "train-000000.tar: its bytes are not those that were"));
	found_bad("wenlan-shard repair --shards");
	unlink(pack_in("s/train-000000.db")); /* the manifest knows too */
	assert_int_equal(wl_shards_repair(pack_in("s"), false, &rep, &err), -1);
	assert_non_null(strstr(err.msg, "its bytes are not those that were sealed"));
	OK(wl_shards_repair(pack_in("s"), true, &rep, &err));
	OK(wl_shards_verify(pack_in("s"), false, 2, &v, &err));
	/* A lost database, or another set's manifest. */
	{
		struct wl_shard_rows rows;

		assert_int_equal(wl_shard_rows_open(&rows, pack_in("s"), "train-000099", &err), -1);
		assert_int_equal(err.code, WL_EDATA);
		assert_non_null(strstr(err.msg, "another set's; wenlan-shard repair --shards"));
	}
	/* A damaged tar is named, and nothing is made up. */
	flip(pack_in("s/train-000000.tar"), 100);
	assert_int_equal(wl_shards_repair(pack_in("s"), false, &rep, &err), -1);
	assert_non_null(strstr(err.msg, "train-000000.tar"));
}

static void test_audit_finds(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_audit_result a;
	struct wl_pack_opts o;
	struct wl_pack_result r;
	struct wl_db db;

	(void)state;
	pack_make_corpus(pack_in("c"), 1, false, 2);
	o = pack_options(pack_in("c"), pack_in("s"));
	pack_run(&o, &r);
	OK(wl_db_open(&db, pack_in("c/part-00000/filter-1.db"), WL_DB_WRITE, &err));
	pack_exec(&db, "INSERT INTO verdict VALUES(%lld,'late','x')", (long long)pack_id_of(1));
	assert_int_equal(wl_shards_audit(pack_in("c"), pack_in("s"), &a, &err), -1);
	assert_non_null(strstr(err.msg, "has a verdict and is in a shard"));
	pack_exec(&db, "DELETE FROM verdict WHERE pair_id IN (%lld,%lld)", (long long)pack_id_of(1),
		(long long)pack_id_of(7));
	assert_int_equal(wl_shards_audit(pack_in("c"), pack_in("s"), &a, &err), -1);
	assert_non_null(strstr(err.msg, "is kept, but in no shard"));
	wl_db_close(&db);
	pack_make_corpus(pack_in("other"), 1, false, 0);
	assert_int_equal(wl_shards_audit(pack_in("nothing"), pack_in("s"), &a, &err), -1);
}

/* A byte of a picture that changed on the disk since it was received stops the packing. */
static void test_damaged_corpus(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_pack_opts o;
	struct wl_pack_result r;
	char path[256];
	FILE *fp;
	int c;

	(void)state;
	pack_make_corpus(pack_in("c"), 1, false, 2);
	snprintf(path, sizeof path, "%.200s/part-00000/raw-000000.tar", pack_in("c"));
	fp = fopen(path, "r+b");
	assert_non_null(fp);
	fseek(fp, 512 + 300, SEEK_SET); /* in the entropy-coded data: the head still parses */
	c = fgetc(fp);
	fseek(fp, 512 + 300, SEEK_SET);
	fputc(c ^ 1, fp);
	fclose(fp);
	o = pack_options(pack_in("c"), pack_in("s"));
	assert_int_equal(wl_pack(&o, &r, &err), -1);
	assert_int_equal(err.code, WL_EDATA);
	assert_non_null(strstr(err.msg, "SHA-256 differs"));
	assert_false(wl_manifest_exists(pack_in("s")));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, pack_setup, pack_teardown)
	const struct CMUnitTest tests[] = {T(test_verify_finds), T(test_repair),
		T(test_audit_finds), T(test_damaged_corpus)};
	struct wl_err err;

	wl_log_init("test_pack_damage", WL_LOG_ERROR);
	if (wl_progress_mode("none", &err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
