/* The corpus: lanes, cursors, recovery after a torn write, stages. */
#include "ingest/corpus.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/wl-corpus-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return wl_remove_tree(dir, NULL);
}

#define OK(expr)                                                                                   \
	do {                                                                                       \
		if ((expr) < 0)                                                                    \
			fail_msg("%s: %s", #expr, err.msg);                                        \
	} while (0)

static struct wl_corpus *corpus(const char *name, int partitions)
{
	struct wl_err err = WL_ERR_INIT;
	char path[128];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	struct wl_corpus *c = wl_corpus_open(path, true, partitions, &err);
	if (!c)
		fail_msg("%s", err.msg);
	return c;
}

/* The i-th pair's image: length and bytes are a function of i. */
static size_t image_of(int i, uint8_t *out)
{
	size_t n = (size_t)(i * 97 % 2000);
	for (size_t k = 0; k < n; k++)
		out[k] = (uint8_t)wl_rand64(3, (uint64_t)i, k);
	return n;
}

static int add(struct wl_lane *l, int i)
{
	struct wl_err err = WL_ERR_INIT;
	uint8_t image[2000];
	char url[64], texts[64];
	size_t n = image_of(i, image);
	snprintf(url, sizeof url, "http://x/%d.jpg", i);
	snprintf(texts, sizeof texts, "[[\"caption\",\"图 %d\"]]", i);
	struct wl_pair p = {.source = "news",
		.url = url,
		.page_url = "",
		.texts = texts,
		.split_hint = i % 3 ? "" : "val",
		.format = "jpeg",
		.width = 10 + i,
		.height = 20,
		.boxes = i % 2 ? "[[0,0,1,1]]" : NULL,
		.fetched_at = i,
		.meta = "{}"};
	p.id = wl_pair_id(p.source, p.page_url, url, 0);
	int ret = wl_lane_add(l, &p, image, n, &err);
	OK(ret);
	return ret;
}

static struct wl_lane *lane(struct wl_corpus *c, int p)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_lane *l = wl_lane_open(c, p, &err);
	if (!l)
		fail_msg("%s", err.msg);
	return l;
}

static void check_pairs(struct wl_corpus *c, int partition, int want)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_pair p, q;
	struct wl_buf b;
	int64_t last = -1;
	int n = 0, ret;
	struct wl_pair_cursor *cur = wl_pairs_open(c, partition, &err);
	struct wl_pair_cursor *other = wl_pairs_open(c, partition, &err);
	assert_non_null(cur);
	assert_non_null(other);
	wl_buf_init(&b, 1 << 20);
	while ((ret = wl_pairs_next(cur, &p, &err)) > 0) {
		uint8_t image[2000];
		int i = p.width - 10;
		char texts[64];
		assert_true(p.id > last);
		last = p.id;
		snprintf(texts, sizeof texts, "[[\"caption\",\"图 %d\"]]", i);
		assert_string_equal(p.texts, texts);
		assert_string_equal(p.split_hint, i % 3 ? "" : "val");
		if (i % 2)
			assert_string_equal(p.boxes, "[[0,0,1,1]]");
		else
			assert_null(p.boxes);
		assert_int_equal(p.fetched_at, i);
		OK(wl_corpus_image(c, &p, &b, &err));
		assert_int_equal(b.len, image_of(i, image));
		assert_memory_equal(b.data, image, b.len);
		assert_int_equal(wl_pairs_find(other, p.id, &q, &err), 1);
		assert_string_equal(q.url, p.url);
		n++;
	}
	OK(ret);
	assert_int_equal(n, want);
	assert_int_equal(wl_pairs_find(other, 12345, &q, &err), 0);
	wl_buf_release(&b);
	wl_pairs_close(cur);
	wl_pairs_close(other);
}

static void test_round_trip(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_corpus *c = corpus("round", 3);
	struct wl_lane *l = lane(c, 1);
	const char *pos;
	OK(wl_lane_position(l, "a", &pos, &err));
	assert_string_equal(pos, "");
	wl_lane_segment_bytes(l, 50000);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(add(l, i), 1);
		assert_int_equal(add(l, i), 0);
		if (i % 40 == 39)
			OK(wl_lane_commit(l, "a", i == 199 ? "end" : "mid", &err));
	}
	OK(wl_lane_quarantine(l, "a", "line 7", "it is broken", "xyz", 3, &err));
	OK(wl_lane_commit(l, "a", "end", &err));
	OK(wl_lane_position(l, "a", &pos, &err));
	assert_string_equal(pos, "end");
	wl_lane_close(l);
	check_pairs(c, 1, 200);
	check_pairs(c, 0, 0);
	struct wl_corpus_counts n;
	OK(wl_corpus_count(c, &n, &err));
	assert_int_equal(n.pairs, 200);
	assert_int_equal(n.quarantined, 1);
	assert_true(n.segments > 3);
	wl_corpus_close(c);
}

/* Each sealed segment, and the open one, is a tar that libarchive reads to its end. */
static void test_segments_are_tars(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_corpus *c = corpus("tars", 1);
	struct wl_lane *l = lane(c, 0);
	int members = 0;
	wl_lane_segment_bytes(l, 30000);
	for (int i = 0; i < 60; i++)
		assert_int_equal(add(l, i), 1);
	OK(wl_lane_commit(l, "a", "1", &err));
	wl_lane_close(l);
	for (int s = 0;; s++) {
		char path[160];
		struct archive_entry *e;
		int r;
		snprintf(path, sizeof path, "%s/tars/part-00000/raw-%06d.tar", dir, s);
		if (!wl_exists(path)) {
			assert_true(s > 1);
			break;
		}
		struct archive *a = archive_read_new();
		archive_read_support_format_tar(a);
		assert_int_equal(archive_read_open_filename(a, path, 10240), ARCHIVE_OK);
		while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK) {
			assert_non_null(strstr(archive_entry_pathname(e), ".jpg"));
			members++;
		}
		assert_int_equal(r, ARCHIVE_EOF);
		archive_read_free(a);
	}
	assert_int_equal(members, 60);
	wl_corpus_close(c);
}

/* What was not committed is gone, whatever it left in the files; the lane goes on. */
static void test_recovery(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_corpus *c = corpus("recover", 1);
	struct wl_lane *l = lane(c, 0);
	char path[160];
	const char *pos;
	wl_lane_segment_bytes(l, 40000);
	for (int i = 0; i < 10; i++)
		assert_int_equal(add(l, i), 1);
	OK(wl_lane_commit(l, "a", "10", &err));
	for (int i = 10; i < 100; i++) /* seals segments inside the batch */
		assert_int_equal(add(l, i), 1);
	wl_lane_close(l);
	snprintf(path, sizeof path, "%s/recover/part-00000/raw-000000.tar", dir);
	int fd = open(path, O_WRONLY | O_APPEND);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "torn", 4), 4);
	close(fd);
	l = lane(c, 0);
	OK(wl_lane_position(l, "a", &pos, &err));
	assert_string_equal(pos, "10");
	for (int i = 10; i < 30; i++)
		assert_int_equal(add(l, i), 1);
	OK(wl_lane_commit(l, "a", "30", &err));
	wl_lane_close(l);
	check_pairs(c, 0, 30);
	/* A segment that lost committed bytes is an error, not a fresh start. */
	assert_int_equal(truncate(path, 100), 0);
	assert_null(wl_lane_open(c, 0, &err));
	assert_int_equal(err.code, WL_EDATA);
	wl_corpus_close(c);
}

static void test_one_writer(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_corpus *c = corpus("lock", 2);
	struct wl_lane *l = lane(c, 0);
	assert_null(wl_lane_open(c, 0, &err));
	assert_non_null(strstr(err.msg, "locked"));
	struct wl_lane *other = lane(c, 1);
	wl_lane_close(other);
	wl_lane_close(l);
	wl_corpus_close(c);
}

static void test_damaged_image(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_corpus *c = corpus("damage", 1);
	struct wl_lane *l = lane(c, 0);
	struct wl_pair p;
	struct wl_buf b;
	char path[160];
	assert_int_equal(add(l, 5), 1);
	OK(wl_lane_commit(l, "a", "1", &err));
	wl_lane_close(l);
	snprintf(path, sizeof path, "%s/damage/part-00000/raw-000000.tar", dir);
	int fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "\xee\xee", 2, 700), 2);
	close(fd);
	struct wl_pair_cursor *cur = wl_pairs_open(c, 0, &err);
	wl_buf_init(&b, 1 << 20);
	assert_int_equal(wl_pairs_next(cur, &p, &err), 1);
	assert_int_equal(wl_corpus_image(c, &p, &b, &err), -1);
	assert_int_equal(err.code, WL_EDATA);
	wl_buf_release(&b);
	wl_pairs_close(cur);
	wl_corpus_close(c);
}

/* The same pairs in another number of lanes have the same fingerprint. */
static void test_fingerprint(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	char hex[3][65];
	for (int k = 0; k < 3; k++) {
		const int lanes[] = {1, 4, 4};
		char name[16];
		snprintf(name, sizeof name, "f%d", k);
		struct wl_corpus *c = corpus(name, lanes[k]);
		for (int p = 0; p < lanes[k]; p++) {
			struct wl_lane *l = lane(c, p);
			for (int i = 0; i < 50 + (k == 2); i++)
				if (i % lanes[k] == p)
					assert_int_equal(add(l, i), 1);
			OK(wl_lane_commit(l, "a", "1", &err));
			wl_lane_close(l);
		}
		OK(wl_corpus_fingerprint(c, hex[k], &err));
		wl_corpus_close(c);
	}
	assert_string_equal(hex[0], hex[1]);
	assert_string_not_equal(hex[1], hex[2]);
}

static void test_pair_id(void **state)
{
	(void)state;
	int64_t a = wl_pair_id("news", "p", "i", 0);
	assert_true(a >= 0);
	assert_true(a == wl_pair_id("news", "p", "i", 0));
	assert_true(a != wl_pair_id("news", "p", "i", 1));
	assert_true(a != wl_pair_id("newsp", "", "i", 0));
	assert_true(a != wl_pair_id("news", "", "pi", 0));
}

static void test_stages(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	struct wl_corpus *c = corpus("stages", 2), *other;
	char path[128];
	for (int p = 0; p < 2; p++)
		wl_lane_close(lane(c, p));
	assert_int_equal(wl_corpus_generation(c, "dedup"), 0);
	assert_null(wl_corpus_stage_facts(c, "dedup"));
	for (int g = 1; g <= 2; g++) {
		char *file = wl_corpus_stage_path(c, "dedup", g, 0, &err);
		json_t *facts = json_pack("{s:i}", "run", g);
		OK(wl_write_file(file, "x", 1, &err));
		free(file);
		OK(wl_corpus_publish(c, "dedup", g, facts, &err));
		json_decref(facts);
	}
	snprintf(path, sizeof path, "%s/stages", dir);
	other = wl_corpus_open(path, false, 0, &err);
	assert_non_null(other);
	assert_int_equal(wl_corpus_generation(other, "dedup"), 2);
	assert_int_equal(
		json_integer_value(json_object_get(wl_corpus_stage_facts(other, "dedup"), "run")),
		2);
	for (int g = 1; g <= 2; g++) {
		char *file = wl_corpus_stage_path(c, "dedup", g, 0, &err);
		assert_int_equal(wl_exists(file), g == 2);
		free(file);
	}
	/* Two stages publishing from two handles do not undo each other. */
	OK(wl_corpus_publish(other, "filter", 1, NULL, &err));
	OK(wl_corpus_publish(c, "dedup", 3, NULL, &err));
	assert_int_equal(wl_corpus_generation(c, "filter"), 1);
	assert_int_equal(wl_corpus_publish(other, "dedup", 3, NULL, &err), -1);
	wl_corpus_close(other);
	wl_corpus_close(c);
	/* A partition that was lost on the way is no empty one. */
	snprintf(path, sizeof path, "%s/stages/part-00001", dir);
	OK(wl_remove_tree(path, &err));
	snprintf(path, sizeof path, "%s/stages", dir);
	assert_null(wl_corpus_open(path, false, 0, &err));
	assert_int_equal(err.code, WL_EDATA);
	assert_non_null(strstr(err.msg, "part-00001 is missing"));
}

static void test_bad_config(void **state)
{
	(void)state;
	struct wl_err err = WL_ERR_INIT;
	const char *const bad[] = {"", "{", "[]", "{\"version\":1}",
		"{\"version\":2,\"partitions\":1}", "{\"version\":1,\"partitions\":0}",
		"{\"version\":1,\"partitions\":1,\"stages\":3}"};
	char path[128];
	assert_null(wl_corpus_open("/nonexistent/x", false, 0, &err));
	assert_int_equal(err.code, WL_EDATA);
	snprintf(path, sizeof path, "%s/bad/corpus.json", dir);
	wl_corpus_close(corpus("bad", 1));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char d[96];
		OK(wl_write_file(path, bad[i], strlen(bad[i]), &err));
		snprintf(d, sizeof d, "%s/bad", dir);
		assert_null(wl_corpus_open(d, false, 0, &err));
		assert_int_equal(err.code, WL_EDATA);
	}
	struct wl_corpus *c = corpus("many", 7);
	wl_corpus_close(c);
	snprintf(path, sizeof path, "%s/many", dir);
	assert_null(wl_corpus_open(path, true, 8, &err));
	assert_int_equal(err.code, WL_EUSAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_segments_are_tars),
		cmocka_unit_test(test_recovery),
		cmocka_unit_test(test_one_writer),
		cmocka_unit_test(test_damaged_image),
		cmocka_unit_test(test_fingerprint),
		cmocka_unit_test(test_pair_id),
		cmocka_unit_test(test_stages),
		cmocka_unit_test(test_bad_config),
	};
	return cmocka_run_group_tests_name("corpus", tests, setup, teardown);
}
