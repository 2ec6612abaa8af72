/* The shard format: what the writer writes, the reader, tar and SQLite read back; damage of
 * each file gives a sentence, never a wrong sample. */
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "shards/hasher.h"
#include "shards/index.h"
#include "shards/manifest.h"
#include "shards/shard.h"
#include "shards/shard_db.h"
#include "shards/tar.h"
#include "shards/write.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { N = 50, BIG = 3 * 1000 * 1000 };

#define OK(expr) assert_ok((expr) < 0, &err, #expr)

static void assert_ok(int failed, const struct wl_err *err, const char *expr)
{
	if (failed)
		fail_msg("%s: %s", expr, err->msg);
}

static int setup(void **state)
{
	char *dir = strdup("/tmp/wl-shard-XXXXXX");

	assert_non_null(mkdtemp(dir));
	*state = dir;
	return 0;
}

static int teardown(void **state)
{
	int rc = wl_remove_tree(*state, NULL);

	free(*state);
	return rc;
}

/* Bytes of sample i, a function of i; one is larger than the writer's whole ring of chunks. */
static size_t fake_jpg(int i, uint8_t *out)
{
	size_t n = i == 7 ? BIG : (size_t)(i * 37 % 1500);

	for (size_t k = 0; k < n; k++)
		out[k] = (uint8_t)wl_rand64(1, (uint64_t)i, k / 64);
	return n;
}

static char *fake_json(int i, char *txt, size_t size)
{
	struct wl_err err = WL_ERR_INIT;
	const char *captions[2] = {txt, "另一句"};
	struct wl_sample_facts f = {.pair_id = 1000 + i,
		.source = "news",
		.url = "http://x/1.jpg",
		.title = "标题",
		.width = 10 + i,
		.height = 20,
		.topic = i % 3 - 1,
		.split_group = i,
		.boxes = "[[1,2,3,4]]",
		.captions = captions,
		.n_captions = 2};
	char *json;

	snprintf(txt, size, "第%d张图", i);
	json = wl_sample_json(&f, &err);
	if (!json)
		fail_msg("%s", err.msg);
	return json;
}

static void write_shard(const char *dir, const char *split, int number, int from, int to,
	struct wl_shard_info *info)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_shard_writer *w = wl_shard_writer_new(dir, split, number, "plan", &err);
	uint8_t *jpg = malloc(BIG);

	assert_ok(!w, &err, "wl_shard_writer_new");
	for (int i = from; i < to; i++) {
		char txt[64];
		char *json = fake_json(i, txt, sizeof txt);
		struct wl_sample s = {.jpg = jpg,
			.jpg_len = fake_jpg(i, jpg),
			.txt = txt,
			.json = json,
			.pair_id = 1000 + i,
			.topic = i % 3 - 1,
			.width = 10 + i,
			.height = 20,
			.source = "news",
			.url = "http://x/1.jpg"};

		OK(wl_shard_writer_add(w, &s, &err));
		free(json);
	}
	wl_shard_writer_finish(w);
	OK(wl_shard_writer_wait(w, info, &err));
	wl_shard_writer_free(w);
	free(jpg);
}

/* train-000000 with samples 0..N/2-1, train-000001 with the rest. */
static void write_set(const char *dir)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_shard_info info[2];
	json_t *meta = json_pack("{s:i}", "seed", 5);

	write_shard(dir, "train", 0, 0, N / 2, &info[0]);
	write_shard(dir, "train", 1, N / 2, N, &info[1]);
	OK(wl_manifest_write(dir, info, 2, meta, &err));
	json_decref(meta);
}

static void check_sample(struct wl_shardset *s, int i, uint8_t *jpg)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_buf a, b, c;
	char txt[64], key[WL_KEY_MAX], want[WL_KEY_MAX];
	char *json = fake_json(i, txt, sizeof txt);
	size_t n = fake_jpg(i, jpg);

	wl_buf_init(&a, BIG);
	wl_buf_init(&b, 10000);
	wl_buf_init(&c, 10000);
	OK(wl_shardset_read(s, i, &a, &b, &err));
	OK(wl_shardset_read_text(s, i, &c, &err));
	assert_int_equal(a.len, n);
	assert_memory_equal(wl_buf_str(&a), jpg, n);
	assert_string_equal(wl_buf_str(&b), json);
	assert_string_equal(wl_buf_str(&c), txt);
	snprintf(want, sizeof want, "train-%06d_%06d", i / (N / 2), i % (N / 2));
	wl_shardset_key(s, i, key);
	assert_string_equal(key, want);
	assert_int_equal(wl_shardset_find(s, key), i);
	free(json);
	wl_buf_release(&a);
	wl_buf_release(&b);
	wl_buf_release(&c);
}

static void test_round_trip(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_shardset *s;
	uint8_t *jpg = malloc(BIG);
	int64_t ids[N];

	write_set(*state);
	s = wl_shardset_open(*state, "train", &err);
	assert_ok(!s, &err, "wl_shardset_open");
	assert_int_equal(wl_shardset_size(s), N);
	OK(wl_shardset_pair_ids(s, ids, &err));
	for (int i = 0; i < N; i++)
		assert_int_equal(ids[i], 1000 + i);
	for (int i = N - 1; i >= 0; i--)
		check_sample(s, i, jpg);
	assert_int_equal(wl_shardset_find(s, "train-000002_000000"), -1);
	assert_int_equal(wl_shardset_find(s, "train-000001_000999"), -1);
	assert_int_equal(wl_shardset_find(s, "nonsense"), -1);
	wl_shardset_close(s);
	free(jpg);
}

/* By NAME.tar.idx samples are found without the databases. */
static void test_offsets(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	uint8_t *jpg = malloc(BIG);
	char path[512];
	struct wl_shard_info info[2];
	char plan[65];
	struct wl_shardset *s;

	write_set(*state);
	for (int k = 0; k < 2; k++) {
		snprintf(path, sizeof path, "train-%06d", k);
		OK(wl_shard_info_read(&info[k], plan, *state, path, &err));
	}
	OK(wl_index_write(*state, info, 2, &err));
	for (int k = 0; k < 2; k++) {
		snprintf(path, sizeof path, "%s/train-%06d.db", (char *)*state, k);
		assert_int_equal(unlink(path), 0);
	}
	s = wl_shardset_open(*state, "train", &err);
	assert_ok(!s, &err, "wl_shardset_open");
	for (int i = 0; i < N; i++)
		check_sample(s, i, jpg);
	wl_shardset_close(s);
	free(jpg);
}

/* libarchive sees the same members in the same order, and 512-aligned offsets hold. */
static void test_libarchive(void **state)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	char path[512], want[64];
	int n = 0;

	write_set(*state);
	snprintf(path, sizeof path, "%s/train-000000.tar", (char *)*state);
	archive_read_support_format_tar(a);
	assert_int_equal(archive_read_open_filename(a, path, 65536), ARCHIVE_OK);
	while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
		static const char *const ext[] = {"jpg", "txt", "json"};

		snprintf(want, sizeof want, "train-000000_%06d.%s", n / 3, ext[n % 3]);
		assert_string_equal(archive_entry_pathname(e), want);
		assert_int_equal(archive_entry_mtime(e), 0);
		n++;
	}
	assert_int_equal(n, 3 * (N / 2));
	assert_null(archive_error_string(a));
	archive_read_free(a);
}

static void test_tools(void **state)
{
	char cmd[1024];

	write_set(*state);
	snprintf(cmd, sizeof cmd, "test \"$(tar tf %s/train-000001.tar | wc -l)\" = %d",
		(char *)*state, 3 * (N - N / 2));
	assert_int_equal(system(cmd), 0);
	if (system("command -v sqlite3 >/dev/null")) {
		printf("SKIPPED: the sqlite3 command is not installed\n");
		skip();
	}
	snprintf(cmd, sizeof cmd,
		"test \"$(sqlite3 %s/manifest.db 'SELECT sum(samples) FROM shard')\" = %d && "
		"test \"$(sqlite3 %s/train-000000.db 'SELECT count(*) FROM sample "
		"WHERE width=10+idx AND length(sha256)=32')\" = %d",
		(char *)*state, N, (char *)*state, N / 2);
	assert_int_equal(system(cmd), 0);
}

static void slurp(const char *dir, const char *name, struct wl_buf *b)
{
	struct wl_err err = WL_ERR_INIT;
	char path[512];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	wl_buf_init(b, 1 << 26);
	OK(wl_read_file(path, b, &err));
}

/* The same samples give the same bytes, in both files. */
static void test_same_bytes(void **state)
{
	static const char *const names[] = {"train-000000.tar", "train-000000.db"};
	struct wl_shard_info info[2];
	struct wl_buf first[2], again;

	write_shard(*state, "train", 0, 0, N, &info[0]);
	for (int i = 0; i < 2; i++)
		slurp(*state, names[i], &first[i]);
	write_shard(*state, "train", 0, 0, N, &info[1]);
	for (int i = 0; i < 2; i++) {
		slurp(*state, names[i], &again);
		assert_int_equal(first[i].len, again.len);
		assert_memory_equal(first[i].data, again.data, again.len);
		wl_buf_release(&again);
		wl_buf_release(&first[i]);
	}
	assert_string_equal(info[0].sha256, info[1].sha256);
}

static void test_abandoned_leaves_nothing(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_shard_writer *w = wl_shard_writer_new(*state, "val", 3, "", &err);
	struct wl_sample s = {.jpg = "x", .jpg_len = 1, .txt = "y", .json = "{}"};
	struct wl_names names = {0};

	assert_ok(!w, &err, "wl_shard_writer_new");
	OK(wl_shard_writer_add(w, &s, &err));
	wl_shard_writer_free(w);
	OK(wl_list_dir(*state, "*", &names, &err));
	assert_int_equal(names.n, 0);
	wl_names_release(&names);
	assert_null(wl_shard_writer_new("/nonexistent/dir", "val", 3, "", &err));
	assert_non_null(strstr(err.msg, "/nonexistent/dir"));
	assert_null(wl_shard_writer_new(*state, "../x", 3, "", &err));
	assert_int_equal(err.code, WL_EUSAGE);
}

/* Four writers share a hasher; they grow unevenly, one is given up half-way and one ends early: the
 * others' hashes are those of their files, and nobody waits for ever. */
static void test_hashed_side_by_side(void **state)
{
	enum { WRITERS = 4, ROUNDS = 5, BYTES = 1 << 20 };
	struct wl_err err = WL_ERR_INIT;
	struct wl_hasher *h = wl_hasher_new(&err);
	struct wl_shard_writer *w[WRITERS];
	uint8_t *jpg = malloc(BYTES), digest[WL_SHA256_BYTES];
	char path[300], hex[WL_SHA256_HEX];

	assert_ok(!h, &err, "wl_hasher_new");
	assert_non_null(jpg);
	for (int i = 0; i < WRITERS; i++) {
		w[i] = wl_shard_writer_new_beside(h, *state, "train", i, "", &err);
		assert_ok(!w[i], &err, "wl_shard_writer_new_beside");
	}
	for (int i = 0; i < WRITERS * ROUNDS * WRITERS; i++) {
		int k = i / WRITERS % WRITERS, round = i / WRITERS / WRITERS;
		struct wl_sample s = {.jpg = jpg, .txt = "y", .json = "{}"};

		if (i % WRITERS > k || (k == 1 && round > 2) || (k == 2 && round > 1))
			continue;
		for (size_t b = 0; b < BYTES; b++)
			jpg[b] = (uint8_t)(b * 31 + (b >> 8) + (size_t)i);
		s.jpg_len = (size_t)(BYTES - i * 1000);
		OK(wl_shard_writer_add(w[k], &s, &err));
		if (k == 1 && round == 2 && i % WRITERS == k)
			wl_shard_writer_finish(w[k]);
		if (k == 2 && round == 1 && i % WRITERS == k) {
			wl_shard_writer_free(w[k]);
			w[k] = NULL;
		}
	}
	for (int i = 0; i < WRITERS; i++) {
		struct wl_shard_info info;

		snprintf(path, sizeof path, "%s/train-%06d.tar", (char *)*state, i);
		if (!w[i]) {
			assert_false(wl_exists(path));
			continue;
		}
		if (i != 1)
			wl_shard_writer_finish(w[i]);
		OK(wl_shard_writer_wait(w[i], &info, &err));
		wl_shard_writer_free(w[i]);
		OK(wl_sha256_file(path, digest, &err));
		wl_hex(digest, sizeof digest, hex);
		assert_string_equal(info.sha256, hex);
		assert_true(info.bytes > (i == 1 ? 3 : 5 * (i + 1)) * (BYTES / 10 * 9));
	}
	wl_hasher_free(h);
	free(jpg);
}

static void test_tombstones(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	int64_t ids[] = {1003, 1004, 99};
	const int64_t *dead;
	int64_t n_dead;
	struct wl_shardset *s;
	struct wl_shard_info info[2];
	char plan[65];

	write_set(*state);
	assert_int_equal(wl_manifest_tombstone(*state, ids, 3, "asked", &err), 3);
	assert_int_equal(wl_manifest_tombstone(*state, ids, 1, "again", &err), 0);
	/* A manifest that is written anew keeps them. */
	OK(wl_shard_info_read(&info[0], plan, *state, "train-000000", &err));
	OK(wl_shard_info_read(&info[1], plan, *state, "train-000001", &err));
	assert_string_equal(plan, "plan");
	OK(wl_manifest_write(*state, info, 2, NULL, &err));
	s = wl_shardset_open(*state, "train", &err);
	assert_ok(!s, &err, "wl_shardset_open");
	dead = wl_shardset_dead_samples(s, &n_dead);
	assert_int_equal(n_dead, 2);
	assert_int_equal(dead[0], 3);
	assert_int_equal(dead[1], 4);
	for (int i = 0; i < N; i++)
		assert_int_equal(wl_shardset_dead(s, i), i == 3 || i == 4);
	wl_shardset_close(s);
}

/* Opening must fail with a sentence that names `what`. */
static void refuse(const char *dir, const char *what)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_shardset *s = wl_shardset_open(dir, "train", &err);

	assert_null(s);
	assert_int_equal(err.code, WL_EDATA);
	if (!strstr(err.msg, what))
		fail_msg("expected \"%s\" in: %s", what, err.msg);
}

#define FAILS(code_, part, call)                                                                   \
	do {                                                                                       \
		struct wl_err fails_ = WL_ERR_INIT;                                                \
		err = fails_;                                                                      \
		assert_true((call) < 0);                                                           \
		assert_int_equal(err.code, code_);                                                 \
		if (!strstr(err.msg, part))                                                        \
			fail_msg("expected \"%s\" in: %s", part, err.msg);                         \
	} while (0)

/* Opening does well; reading sample i does not, with a sentence that names `what`. */
static void refuse_sample(const char *dir, int64_t i, const char *what)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_shardset *s = wl_shardset_open(dir, "train", &err);
	struct wl_buf jpg, json;

	assert_ok(!s, &err, "wl_shardset_open");
	wl_buf_init(&jpg, BIG * 2);
	wl_buf_init(&json, BIG);
	FAILS(WL_EDATA, what, wl_shardset_read(s, i, &jpg, &json, &err));
	FAILS(WL_EDATA, what, wl_shardset_read(s, i, NULL, &json, &err));
	FAILS(WL_EDATA, what, wl_shardset_read_text(s, i, &json, &err));
	wl_buf_release(&jpg);
	wl_buf_release(&json);
	wl_shardset_close(s);
}

static void sql(const char *dir, const char *name, const char *text)
{
	char path[512];
	sqlite3 *h;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
	assert_int_equal(sqlite3_exec(h, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(h);
}

static void test_damage(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	const char *dir = *state;
	struct wl_shardset *s;
	uint8_t zeros[(N / 2 + 1) * 8] = {0};
	char path[512];

	refuse(dir, "manifest.db is missing");
	write_set(dir);
	assert_null(wl_shardset_open(dir, "val", &err));
	assert_non_null(strstr(err.msg, "it has train"));
	sql(dir, "train-000001.db", "UPDATE sample SET json_offset=1<<40 WHERE idx=5");
	refuse_sample(dir, N - 1, "train-000001.db, table sample, row 5");
	write_set(dir);
	sql(dir, "train-000001.db", "DELETE FROM sample WHERE idx=24");
	refuse_sample(dir, N - 1, "train-000001.db, table sample: 24 rows");
	write_set(dir);
	sql(dir, "manifest.db", "UPDATE shard SET name='../../etc/passwd' WHERE name LIKE '%1'");
	refuse(dir, "the manifest is damaged");
	write_set(dir);
	sql(dir, "manifest.db", "UPDATE meta SET value='9' WHERE key='version'");
	refuse(dir, "is of version 9");
	write_set(dir);
	sql(dir, "manifest.db", "INSERT INTO tombstone VALUES(1007,'by hand',0)");
	s = wl_shardset_open(dir, "train", &err); /* found without a row in `place` */
	assert_ok(!s, &err, "wl_shardset_open");
	assert_true(wl_shardset_dead(s, 7));
	assert_false(wl_shardset_dead(s, 8));
	wl_shardset_close(s);
	sql(dir, "manifest.db", "DROP TABLE tombstone");
	refuse(dir, "tombstone");
	/* Nor is such a manifest replaced: the take-downs in it would be lost unseen. */
	assert_int_equal(wl_manifest_write(dir, NULL, 0, NULL, &err), -1);
	snprintf(path, sizeof path, "%s/manifest.db", dir);
	unlink(path);
	write_set(dir);
	snprintf(path, sizeof path, "%s/train-000000.tar.idx", dir);
	OK(wl_write_file(path, "short", 5, &err));
	refuse_sample(dir, 0, "train-000000.tar.idx has 5 bytes");
	OK(wl_write_file(path, zeros, sizeof zeros, &err));
	refuse_sample(dir, 0, "train-000000.tar.idx, entry 1");
	for (size_t i = 0; i < sizeof zeros / 8; i++)
		zeros[8 * i + 1] = (uint8_t)(2 * i);
	OK(wl_write_file(path, zeros, sizeof zeros, &err));
	refuse_sample(dir, 1, "sample train-000000_000001");
	unlink(path);
	snprintf(path, sizeof path, "%s/train-000000.tar", dir);
	assert_int_equal(truncate(path, 100000), 0);
	refuse(dir, "train-000000.tar has 100000 bytes");
	unlink(path);
	refuse(dir, "train-000000.tar");
	snprintf(path, sizeof path, "%s/manifest.db", dir);
	OK(wl_write_file(path, "garbage that is no database", 27, &err));
	refuse(dir, "manifest.db");
}

/* ---- tar ---- */

static int walk(const char *path, int *members, struct wl_err *err)
{
	int fd = open(path, O_RDONLY);
	struct wl_tar_walk w;
	struct wl_tar_member m;
	int rc = wl_tar_walk_init(&w, fd, path, err);

	for (*members = 0; rc == 0 && (rc = wl_tar_walk_next(&w, &m, err)) > 0; rc = 0)
		++*members;
	close(fd);
	return rc;
}

static void test_tar_walk(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_shard_info info;
	struct wl_buf b;
	char path[512];
	int n;

	write_shard(*state, "val", 0, 0, 6, &info);
	slurp(*state, "val-000000.tar", &b);
	assert_int_equal(b.len, info.bytes);
	snprintf(path, sizeof path, "%s/t.tar", (char *)*state);
	OK(wl_write_file(path, b.data, b.len, &err));
	OK(walk(path, &n, &err));
	assert_int_equal(n, 18);
	/* Cut at any block, and at places inside one: always a sentence. */
	for (size_t cut = 0; cut < b.len; cut += cut % 512 ? 212 : 300) {
		OK(wl_write_file(path, b.data, cut, &err));
		assert_int_equal(walk(path, &n, &err), -1);
		assert_int_equal(err.code, WL_EDATA);
	}
	/* Every bit of a header is under its sum. */
	for (size_t k = 0; k < WL_TAR_BLOCK; k += 3) {
		b.data[k] ^= 4;
		OK(wl_write_file(path, b.data, b.len, &err));
		assert_int_equal(walk(path, &n, &err), -1);
		b.data[k] ^= 4;
	}
	OK(wl_buf_add(&b, "tail", 4, &err));
	OK(wl_write_file(path, b.data, b.len, &err));
	assert_int_equal(walk(path, &n, &err), -1);
	wl_buf_release(&b);
}

static void test_tar_header_limits(void **state)
{
	struct wl_err err = WL_ERR_INIT;
	uint8_t block[WL_TAR_BLOCK];
	char name[102];

	(void)state;
	memset(name, 'n', 101);
	name[101] = 0;
	assert_int_equal(wl_tar_header(block, name, 1, &err), -1);
	name[100] = 0;
	OK(wl_tar_header(block, name, (INT64_C(1) << 33) - 1, &err));
	assert_int_equal(wl_tar_header(block, "a", INT64_C(1) << 33, &err), -1);
	assert_int_equal(wl_tar_header(block, "", 1, &err), -1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(test_round_trip), T(test_offsets), T(test_libarchive),
		T(test_tools), T(test_same_bytes), T(test_abandoned_leaves_nothing),
		T(test_hashed_side_by_side), T(test_tombstones), T(test_damage), T(test_tar_walk),
		T(test_tar_header_limits)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
