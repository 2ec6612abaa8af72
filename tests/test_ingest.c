/*
 * wenlan-ingest as people run it: every kind of source, every count, and the promise that the
 * corpus is the same whatever the number of workers and partitions and however often the run
 * was killed.
 */
#include "ingest/corpus.h"
#include "ops/file.h"
#include "ops/json.h"
#include "tests/support/archives.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_dump.h"
#include "tests/support/ingest_run.h"
#include "tests/support/kills.h"
#include "tests/support/pictures.h"
#include "tests/support/tmp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct tmp_dir tmp;
static struct wl_err err;

/* ---- input ---- */

/* A JPEG that is a function of seed. */
static struct wl_buf jpeg(uint32_t seed)
{
	return pictures_seeded(24 + (int)(seed % 17), 20, seed, 90);
}

static void path_of(char out[512], const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void path_of(char out[512], const char *fmt, ...)
{
	char rel[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(rel, sizeof rel, fmt, ap);
	va_end(ap);
	tmp_path(&tmp, rel, out);
}

static void write_jpeg(const char *path, uint32_t seed, size_t cut)
{
	struct wl_buf b = jpeg(seed);

	tmp_write_bytes(path, b.data, b.len - cut);
	wl_buf_release(&b);
}

/* dir/: 40 pictures in two folders; of them 1 cut off, 1 text named .jpg, 1 empty, 1 without
 * text, and 1 text without picture. */
static void make_dir(void)
{
	char p[512];

	for (int i = 0; i < 40; i++) {
		path_of(p, "dir/%s", i % 2 ? "b" : "a");
		OK(wl_mkdir_p(p, &err));
		path_of(p, "dir/%s/%d.jpg", i % 2 ? "b" : "a", i);
		write_jpeg(p, (uint32_t)i, i == 3 ? 40 : 0);
		if (i == 5)
			tmp_write(p, "this is text");
		if (i == 6)
			tmp_write(p, "");
		path_of(p, "dir/%s/%d.txt", i % 2 ? "b" : "a", i);
		if (i != 7)
			tmp_write(p, i == 8 ? "第一句\n第二句\n" : "一张图");
	}
	path_of(p, "dir/a/orphan.txt");
	tmp_write(p, "没有图");
	path_of(p, "dir/a/12.json");
	tmp_write(p, "{\"captions\":[\"来自 JSON\"],\"split\":\"val\",\"source\":\"weibo\"}");
}

enum { DIR_ITEMS = 41, DIR_KEPT = 36 };

/* jsonl/: 60 lines; 2 broken JSON, 1 image missing, 1 image_url, 1 without text, 1 of a picture
 * in base64, two blank lines. */
static void make_jsonl(struct wl_buf *out)
{
	char p[512];

	path_of(p, "jsonl/img");
	OK(wl_mkdir_p(p, &err));
	for (int i = 0; i < 60; i++) {
		path_of(p, "jsonl/img/%d.jpg", i);
		if (i != 10)
			write_jpeg(p, 100 + (uint32_t)i, 0);
		if (i == 20)
			OK(wl_buf_puts(out, "{\"image\": \"img/20.jpg\", \n", &err));
		else if (i == 21)
			OK(wl_buf_printf(
				out, &err, "{\"text\":\"x\",\"image_url\":\"http://x/%d\"}\n", i));
		else if (i == 22)
			OK(wl_buf_printf(out, &err, "{\"image\":\"img/%d.jpg\"}\n \n\n", i));
		else if (i == 23)
			OK(wl_buf_printf(out, &err, "{\"text\":\"x\",\"image_b64\":\"bm8=\"}\n"));
		else
			OK(wl_buf_printf(out, &err,
				"{\"image\":\"img/%d.jpg\",\"text\":\"第 %d 张\",\"n\":%d}\n", i, i,
				i));
	}
}

enum { JSONL_ITEMS = 60, JSONL_KEPT = 55 };

/* WebDataset groups: 30, of them 1 without text, 1 text only, 1 with a long name. */
static void make_groups(const char *path, bool gzip)
{
	struct archive *a = archives_tar(path, gzip);
	char name[256];

	archives_add(a, "./README", "hello", 5);
	for (int i = 0; i < 30; i++) {
		struct wl_buf b = jpeg(300 + (uint32_t)i);
		const char *dir =
			i == 4 ? "a_rather_long_directory_name_that_does_not_fit_into_the_"
				 "hundred_bytes_which_the_oldest_header_has_for_a_name_"
				 "and_so_needs_an_extended_one"
			       : "d";
		snprintf(name, sizeof name, "%s/%06d.jpg", dir, i);
		if (i != 9)
			archives_add(a, name, b.data, b.len);
		wl_buf_release(&b);
		snprintf(name, sizeof name, "%s/%06d.%s", dir, i, i == 11 ? "json" : "txt");
		if (i == 11)
			archives_add(a, name, "{\"captions\":[\"甲\",\"乙\"]}", 26);
		else if (i != 10)
			archives_add(a, name, "标题", 6);
		snprintf(name, sizeof name, "%s/%06d.cls", dir, i);
		archives_add(a, name, "7", 1);
	}
	archives_close(a);
}

enum { TAR_ITEMS = 30, TAR_KEPT = 28 };

/* All sources at once, for the comparisons; in a shell's words. */
static char sources[2048];

static int setup(void **state)
{
	struct wl_buf lines;
	char p[512], q[512];

	(void)state;
	tmp = tmp_make();
	make_dir();
	wl_buf_init(&lines, 1 << 20);
	make_jsonl(&lines);
	path_of(p, "jsonl/a.jsonl");
	tmp_write_bytes(p, lines.data, lines.len);
	path_of(q, "jsonl/b.jsonl.gz");
	archives_compress(p, q, false);
	path_of(q, "jsonl/c.jsonl.zst");
	archives_compress(p, q, true);
	/* The same records beside their images in one tar. */
	path_of(q, "lines.tar");
	struct archive *a = archives_tar(q, false);
	archives_add(a, "set/list.jsonl", lines.data, lines.len);
	for (int i = 0; i < 60; i++) {
		char name[64];
		struct wl_buf b = jpeg(100 + (uint32_t)i);
		snprintf(name, sizeof name, "set/img/%d.jpg", i);
		if (i != 10)
			archives_add(a, name, b.data, b.len);
		wl_buf_release(&b);
	}
	archives_close(a);
	wl_buf_release(&lines);
	path_of(p, "groups.tar");
	make_groups(p, false);
	path_of(p, "groups.tar.gz");
	make_groups(p, true);
	snprintf(sources, sizeof sources,
		"dir:%s/dir 'jsonl:%s/jsonl/*.jsonl*' tar:%s/lines.tar 'tar:%s/groups.tar*'",
		tmp.path, tmp.path, tmp.path, tmp.path);
	return 0;
}

enum {
	ALL_ITEMS = DIR_ITEMS + 4 * JSONL_ITEMS + 2 * TAR_ITEMS,
	ALL_KEPT = DIR_KEPT + 4 * JSONL_KEPT + 2 * TAR_KEPT,
};

static int teardown(void **state)
{
	(void)state;
	tmp_remove(&tmp);
	return 0;
}

/* ---- running and looking ---- */

static json_t *ingest(const char *corpus, const char *args, int want_code)
{
	return ingest_run(&tmp, "--quiet --no-fetch", corpus, args, want_code, NULL);
}

#define ingestf(corpus, want_code, ...)                                                            \
	ingest_runf(&tmp, "--quiet --no-fetch", corpus, want_code, __VA_ARGS__)

static void expect(json_t *v, int64_t records, int64_t kept, int64_t known)
{
	assert_non_null(v);
	assert_int_equal(ingest_count(v, "records"), records);
	assert_int_equal(ingest_count(v, "kept"), kept);
	assert_int_equal(ingest_count(v, "known"), known);
	assert_int_equal(ingest_count(v, "quarantined") + ingest_count(v, "pending"),
		records - kept - known);
	json_decref(v);
}

static struct wl_corpus *open_corpus(const char *name)
{
	char p[512];
	struct wl_corpus *c = wl_corpus_open(tmp_path(&tmp, name, p), false, 0, &err);

	if (!c)
		fail_msg("%s", err.msg);
	return c;
}

static char *reference; /* dump of an uninterrupted run */

/* ---- tests ---- */

static void test_counts(void **state)
{
	char p[512];
	size_t rows;

	(void)state;
	json_t *v = ingestf("one", 0, "dir:%s/dir", tmp.path), *why = json_object_get(v, "reasons");
	assert_int_equal(ingest_count(why, "no image beside the text"), 1);
	assert_int_equal(ingest_count(why, "no text"), 1);
	assert_int_equal(ingest_count(why, "the JPEG is damaged"), 1);
	assert_int_equal(ingest_count(why, "this is no image that we know"), 1);
	assert_int_equal(ingest_count(why, "the image has zero bytes"), 1);
	expect(v, DIR_ITEMS, DIR_KEPT, 0);
	expect(ingest("ref", sources, 0), ALL_ITEMS, ALL_KEPT, 0);
	reference = corpus_dump(tmp_path(&tmp, "ref", p), &rows);
	assert_int_equal(rows, ALL_ITEMS);
	assert_non_null(strstr(reference, "|weibo||"));
	assert_non_null(strstr(reference, "|http://x/21|"));
	assert_non_null(strstr(reference, "[[\"caption\",\"第一句\"],[\"caption\",\"第二句\"]]"));
	assert_non_null(strstr(reference, "[[\"caption\",\"来自 JSON\"]]|val|"));
	/* Again: nothing to do, nothing doubled. */
	expect(ingest("ref", sources, 0), 0, 0, 0);
	corpus_is(&tmp, "ref", reference, "run twice");
}

static void test_workers_and_partitions(void **state)
{
	static const char *const options[] = {"--workers 1", "--workers 3 --commit-every 1",
		"--partitions 4", "--partitions 7 --workers 2 --commit-every 11"};
	struct wl_corpus *c = open_corpus("ref");
	char want[65], got[65], name[16];

	(void)state;
	OK(wl_corpus_fingerprint(c, want, &err));
	wl_corpus_close(c);
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof name, "wp%d", i);
		expect(ingestf(name, 0, "%s %s", options[i], sources), ALL_ITEMS, ALL_KEPT, 0);
		corpus_is(&tmp, name, reference, options[i]);
		c = open_corpus(name);
		OK(wl_corpus_fingerprint(c, got, &err));
		wl_corpus_close(c);
		assert_string_equal(got, want);
	}
}

static void test_kills(void **state)
{
	char begin[512], cmd[6144];

	(void)state;
	snprintf(begin, sizeof begin, "rm -rf %s/killed", tmp.path);
	snprintf(cmd, sizeof cmd,
		"exec %s/wenlan-ingest --quiet --no-fetch --corpus %s/killed --partitions 3 "
		"--commit-every 2 "
		"%s",
		tmp_bin(), tmp.path, sources);
	kill_until_done(begin, cmd, 5);
	corpus_is(&tmp, "killed", reference, "killed again and again");
}

/* max-records stops a run in the middle, and the next goes on. */
static void test_stops(void **state)
{
	int64_t total = 0;

	(void)state;
	for (int i = 0; i < 20; i++) {
		json_t *v = ingestf("steps", 0, "--max-records 37 %s", sources);
		int64_t n = ingest_count(v, "records");
		json_decref(v);
		total += n;
		assert_true(n <= 37);
		if (n < 37)
			break;
	}
	assert_int_equal(total, ALL_ITEMS);
	corpus_is(&tmp, "steps", reference, "in steps");
}

/* New files in a directory, new lines in a file: only they are taken. */
static void test_growth(void **state)
{
	char p[512], args[1024];
	size_t n;

	(void)state;
	path_of(p, "grow");
	OK(wl_mkdir_p(p, &err));
	for (int i = 0; i < 4; i++) {
		path_of(p, "grow/%d.txt", 2 * i);
		tmp_write(p, "图");
		path_of(p, "grow/%d.jpg", 2 * i);
		write_jpeg(p, 500 + (uint32_t)i, i == 1 ? 30 : 0);
	}
	path_of(p, "grow/l.jsonl");
	tmp_write(
		p, "{\"image\":\"0.jpg\",\"text\":\"甲\"}\n{\"image\":\"4.jpg\",\"text\":\"乙\"}");
	snprintf(args, sizeof args, "dir:%s/grow jsonl:%s//grow/./l.jsonl", tmp.path, tmp.path);
	expect(ingest("grown", args, 0), 6, 5, 0);
	expect(ingest("grown", args, 0), 0, 0, 0);
	/* One file new, the cut one mended, a good one broken: its pair stays. */
	path_of(p, "grow/1.txt");
	tmp_write(p, "新");
	path_of(p, "grow/1.jpg");
	write_jpeg(p, 600, 0);
	path_of(p, "grow/2.jpg");
	write_jpeg(p, 501, 0);
	path_of(p, "grow/6.jpg");
	write_jpeg(p, 503, 33);
	path_of(p, "grow/l.jsonl");
	char *old = tmp_read(p, &n);
	char *longer = wl_strf(&err, "%s\n{\"image\":\"1.jpg\",\"text\":\"丙\"}\n", old);
	tmp_write(p, longer);
	free(old);
	free(longer);
	json_t *v = ingest("grown", args, 0);
	assert_int_equal(ingest_count(json_object_get(v, "corpus"), "pairs"), 8);
	assert_int_equal(ingest_count(json_object_get(v, "corpus"), "quarantined"), 0);
	expect(v, 6, 3, 3);
	/* A file that was replaced is not continued in its middle. */
	tmp_write(p,
		"{\"image\":\"0.jpg\",\"text\":\"别的，而且长得多，长得多，长得多，长得多，长得多，"
		"长得多，长得多，长得多，长得多，长得多，长得多，长得多，长得多\"}\n");
	json_decref(ingest("grown", args, 3));
	tmp_write(p, "x");
	json_decref(ingest("grown", args, 3));
}

static void test_images_tar(void **state)
{
	char p[512];

	(void)state;
	path_of(p, "it.jsonl");
	tmp_write(p, "{\"image\":\"img/1.jpg\",\"text\":\"甲\"}\n{\"image\":\"set/img/2.jpg\","
		     "\"text\":\"乙\"}\n{\"image\":\"./set/img/3.jpg\",\"text\":\"丙\"}\n");
	json_t *v = ingestf("it", 0, "'jsonl:%s/it.jsonl?images=%s/lines.tar'", tmp.path, tmp.path);
	assert_int_equal(
		ingest_count(json_object_get(v, "reasons"), "the image file cannot be read"), 1);
	expect(v, 3, 2, 0);
	json_decref(ingestf(
		"it2", 2, "'jsonl:%s/it.jsonl?images=%s/groups.tar.gz'", tmp.path, tmp.path));
	json_decref(
		ingestf("it2", 2, "'jsonl:%s/it.jsonl?images=%s/none.tar'", tmp.path, tmp.path));
	json_decref(
		ingestf("it2", 2, "'jsonl:%s/it.jsonl?image=%s/lines.tar'", tmp.path, tmp.path));
	/* The data set was moved: leading directories of the paths are left out. */
	path_of(p, "root.jsonl");
	tmp_write(
		p, "{\"image_id\":\"../data/img/7.jpg\",\"sentences\":[[\"alt_text\",\"甲\"]]}\n");
	expect(ingestf("root", 0, "'jsonl:%s/root.jsonl?root=%s/jsonl'", tmp.path, tmp.path), 1, 1,
		0);
}

/* Whole by its structure and broken inside: kept, and dropped by name by the next stage, which
 * decodes; or refused at once when that is asked for. */
static void test_broken_inside(void **state)
{
	char p[512], *out;
	int64_t n;
	struct wl_db db;

	(void)state;
	path_of(p, "inside");
	OK(wl_mkdir_p(p, &err));
	for (int i = 0; i < 6; i++) {
		struct wl_buf b = jpeg(700 + (uint32_t)i);
		char *sos = memmem(b.data, b.len, "\xff\xda", 2);
		assert_non_null(sos);
		if (i == 2)
			sos[6] = 0x33; /* Huffman tables that there are not */
		path_of(p, "inside/%d.jpg", i);
		tmp_write_bytes(p, b.data, b.len);
		wl_buf_release(&b);
		path_of(p, "inside/%d.txt", i);
		tmp_write(p, "一张照片");
	}
	json_t *v = ingestf("inside-all", 0, "--check decode dir:%s/inside", tmp.path);
	assert_int_equal(ingest_count(json_object_get(v, "reasons"), "the JPEG is damaged"), 1);
	expect(v, 6, 5, 0);
	expect(ingestf("inside-later", 0, "dir:%s/inside", tmp.path), 6, 6, 0);
	if (tmp_run(&out, "%s/wenlan-dedup --quiet --corpus %s/inside-later", tmp_bin(), tmp.path))
		fail_msg("dedup: %s", out);
	free(out);
	path_of(p, "inside-later/part-00000/dedup-1.db");
	OK(wl_db_open(&db, p, WL_DB_READ, &err));
	OK(wl_db_int(&db, 0, &n, &err, "SELECT count(*) FROM verdict WHERE reason = 'bad-image'"));
	assert_int_equal(n, 1);
	wl_db_close(&db);
	json_decref(ingestf("inside", 2, "--check quickly dir:%s/inside", tmp.path));
}

/* Stored, so that a byte can be changed in one picture alone. */
static void make_zip(const char *path, bool deflate)
{
	struct archive *a = archives_zip(path, deflate);
	char name[64];

	archives_add(a, "readme.md", "hello", 5);
	for (int i = 0; i < 20; i++) {
		struct wl_buf b = jpeg(300 + (uint32_t)i);
		snprintf(name, sizeof name, "目录/%06d.jpg", i);
		archives_add(a, name, b.data, b.len);
		snprintf(name, sizeof name, "目录/%06d.txt", i);
		archives_add(a, name, "标题", 6);
		wl_buf_release(&b);
	}
	archives_close(a);
}

static void test_zip(void **state)
{
	char args[1024], p[512], q[512];
	size_t n;

	(void)state;
	for (int deflate = 0; deflate < 2; deflate++) {
		path_of(p, "z%d.zip", deflate);
		make_zip(p, deflate);
		snprintf(q, sizeof q, "zip%d", deflate);
		expect(ingestf(q, 0, "--commit-every 3 --max-records 7 zip:%s", p), 7, 7, 0);
		snprintf(args, sizeof args, "zip:%s", p);
		expect(ingest(q, args, 0), 13, 13, 0);
		expect(ingest(q, args, 0), 0, 0, 0);
	}
	/* One picture damaged: its record is refused, all others are kept. */
	path_of(p, "z0.zip");
	char *bytes = tmp_read(p, &n);
	struct wl_buf b = jpeg(305);
	char *at = memmem(bytes, n, b.data, b.len);
	assert_non_null(at);
	at[b.len / 2] ^= 1;
	wl_buf_release(&b);
	path_of(p, "bad.zip");
	tmp_write_bytes(p, bytes, n);
	json_t *v = ingestf("badzip", 0, "zip:%s", p);
	assert_int_equal(ingest_count(json_object_get(v, "reasons"), "a member is damaged"), 1);
	expect(v, 20, 19, 0);
	/* Its directory, which stands at the end, is gone. */
	path_of(p, "cut.zip");
	tmp_write_bytes(p, bytes, n / 2);
	json_decref(ingestf("cutzip", 3, "zip:%s", p));
	free(bytes);
}

/* A damaged file: exit 3, what came before is kept, the other sources are read. */
static void test_damaged_files(void **state)
{
	static const struct {
		const char *from, *to;
		size_t cut;
	} cases[] = {{"groups.tar", "cut.tar", 20000}, {"groups.tar.gz", "cut.tar.gz", 3000},
		{"jsonl/b.jsonl.gz", "jsonl/cut.jsonl.gz", 200}};
	char p[512], q[512], args[2048];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t n;
		path_of(p, "%s", cases[i].from);
		path_of(q, "%s", cases[i].to);
		char *bytes = tmp_read(p, &n);
		assert_true(n > cases[i].cut);
		tmp_write_bytes(q, bytes, n - cases[i].cut);
		free(bytes);
		snprintf(args, sizeof args, "%s:%s tar:%s/lines.tar", i == 2 ? "jsonl" : "tar", q,
			tmp.path);
		char name[16];
		snprintf(name, sizeof name, "cut%d", (int)i);
		json_t *v = ingest(name, args, 3);
		assert_non_null(v);
		assert_true(ingest_count(v, "kept") > JSONL_KEPT || i == 2);
		assert_true(ingest_count(v, "kept") >= JSONL_KEPT);
		json_decref(v);
		json_decref(ingest(name, args, 3)); /* still damaged, nothing doubled */
	}
	path_of(p, "not.tar");
	tmp_write(p, "this is no tar at all, but it is long enough to look at");
	json_decref(ingestf("not", 3, "tar:%s", p));
}

static void test_usage(void **state)
{
	char p[512];
	static const struct {
		const char *args, *says;
	} bad[] = {{"jsnl:x", "jsonl"}, {"zzzzzz:x", "there are"},
		{"dir:/nonexistent/x", "there is no"}, {"'jsonl:/nonexistent/*.jsonl'", ""},
		{"nothing", "KIND:PATH"}, {"", "SOURCE"},
		{"dir:/tmp --commit-every 0", "commit-every"},
		{"dir:/tmp --partition 3", "partitions"}};

	(void)state;
	tmp_path(&tmp, "usage", p);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char *out;
		int code =
			tmp_run(&out, "%s/wenlan-ingest --corpus %s %s", tmp_bin(), p, bad[i].args);
		if (code != 2 || !strstr(out, bad[i].says))
			fail_msg("%s: exit code %d, expected 2 and \"%s\": %s", bad[i].args, code,
				bad[i].says, out);
		free(out);
	}
}

static void test_real_data(void **state)
{
	static const char data[] = "../shared/data";

	(void)state;
	if (!wl_exists(data))
		SKIP("%s is not here", data);
	expect(ingest("f8k",
		       "'jsonl:../shared/data/flickr8kcn/val.jsonl?images="
		       "../shared/data/flickr8kcn/val.tar' --max-records 200",
		       0),
		200, 200, 0);
	expect(ingest("brivl",
		       "'jsonl:../shared/data/brivl-sample/jsonls/example.jsonl?root="
		       "../shared/data/brivl-sample'",
		       0),
		3, 3, 0);
}

static void test_stamps(void **state)
{
	static const char dir[] = "/usr/share/tuxpaint/stamps";

	(void)state;
	if (!wl_exists(dir))
		SKIP("%s is not here (Debian package tuxpaint-stamps-default)", dir);
	json_t *v = ingestf("stamps", 0, "stamps:%s", dir);
	assert_true(ingest_count(v, "kept") >= 700);
	assert_int_equal(ingest_count(v, "records"),
		ingest_count(v, "kept") + ingest_count(v, "quarantined"));
	json_decref(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts), /* first: it makes the reference */
		cmocka_unit_test(test_workers_and_partitions),
		cmocka_unit_test(test_kills),
		cmocka_unit_test(test_stops),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_images_tar),
		cmocka_unit_test(test_broken_inside),
		cmocka_unit_test(test_zip),
		cmocka_unit_test(test_damaged_files),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_real_data),
		cmocka_unit_test(test_stamps),
	};
	int failed = cmocka_run_group_tests_name("ingest", tests, setup, teardown);

	free(reference);
	return failed;
}
