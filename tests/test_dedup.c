/* clean/dedup: planted repeats, evaluation pairs, policies, threads, ranks, memory, kills, and
 * pairs that come later. */
#include "clean/dedup.h"
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/tmp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct wl_err err;

/* ---- a corpus with planted repeats ---- */

enum { BASES = 40, EACH = 5 };

struct planted {
	int64_t base[BASES], copy[EACH], comment[EACH], quality[EACH], half[EACH], dark[EACH];
	int64_t longer[EACH], same_text[EACH], test, near_test[2], val, near_val, broken;
	int64_t silent[2];
};

static const char *caption(char out[128], const char *s, int i)
{
	snprintf(out, 128, "[[\"sur_text\",\"旁边的文字\"],[\"caption\",\"%s第%d张\"]]", s, i);
	return out;
}

static void add_variants(struct corpus_maker *m, struct planted *x, int i, struct wl_image *im)
{
	struct wl_image small = {0};
	struct wl_buf b, c;
	char t[128];

	wl_buf_init(&b, 1 << 24);
	wl_buf_init(&c, 1 << 24);
	OK(wl_image_encode_jpeg(im, 90, &b, &err));
	x->copy[i] = corpus_make_bytes(
		m, "news", caption(t, "复制", i), "", b.data, b.len, im->width, im->height);
	/* Other bytes, same pixels: a comment behind the first marker. */
	OK(wl_buf_add(&c, b.data, 2, &err));
	OK(wl_buf_add(&c, "\xff\xfe\0\5abc", 7, &err));
	OK(wl_buf_add(&c, b.data + 2, b.len - 2, &err));
	x->comment[i] = corpus_make_bytes(
		m, "news", caption(t, "注", i), "", c.data, c.len, im->width, im->height);
	x->quality[i] = corpus_make_jpeg(m, "news", caption(t, "质", i), "", im, 45);
	OK(wl_image_resize_lanczos(im, im->width / 2, im->height / 2, &small, &err));
	x->half[i] = corpus_make_jpeg(
		m, "news", caption(t, "这是一张小了一半的图片", i), "", &small, 90);
	scale_brightness(im, 88);
	x->dark[i] = corpus_make_jpeg(m, "news", caption(t, "暗", i), "", im, 90);
	wl_image_release(&small);
	wl_buf_release(&b);
	wl_buf_release(&c);
}

static void make_corpus(const char *dir, struct planted *x)
{
	struct corpus_maker m;
	struct wl_image im;
	char t[128];

	corpus_make_open(&m, dir, 3);
	for (int i = 0; i < BASES; i++) {
		draw_picture((uint64_t)i, 120 + i, 96, &im);
		x->base[i] = corpus_make_jpeg(&m, "news", caption(t, "原来的图片", i), "", &im, 90);
		if (i < EACH)
			add_variants(&m, x, i, &im);
		wl_image_release(&im);
	}
	for (int i = 0; i < EACH; i++) { /* the text of base 10 + i, another picture */
		draw_picture(500 + (uint64_t)i, 100, 100, &im);
		snprintf(t, sizeof(t), "[[\"caption\",\" 原来的 图片，第%d张！\"]]", 10 + i);
		x->same_text[i] = corpus_make_jpeg(&m, "weibo", t, "", &im, 80);
		wl_image_release(&im);
		/* A longer caption of the picture of base 20 + i, same size. */
		draw_picture(20 + (uint64_t)i, 140 + i, 96, &im);
		x->longer[i] = corpus_make_jpeg(&m, "news",
			caption(t, "一段长得多也说得多的文字，讲原来的图片", i), "", &im, 89);
		wl_image_release(&im);
	}
	draw_picture(900, 128, 128, &im);
	x->near_test[0] = corpus_make_jpeg(&m, "news", caption(t, "甲", 1), "train", &im, 95);
	x->test = corpus_make_jpeg(&m, "coco", caption(t, "乙", 1), "test", &im, 60);
	x->near_test[1] = corpus_make_jpeg(&m, "news", caption(t, "丙", 1), "", &im, 80);
	wl_image_release(&im);
	draw_picture(901, 128, 128, &im);
	x->val = corpus_make_jpeg(&m, "coco", caption(t, "丁", 1), "val", &im, 60);
	x->near_val = corpus_make_jpeg(&m, "news", caption(t, "戊", 1), "", &im, 80);
	wl_image_release(&im);
	x->broken = corpus_make_bytes(
		&m, "news", caption(t, "坏", 1), "", "\xff\xd8\xff\xe0junk", 8, 10, 10);
	for (int i = 0; i < 2; i++) { /* captions without a letter are not the same text */
		draw_picture(700 + (uint64_t)i, 90, 90, &im);
		x->silent[i] =
			corpus_make_jpeg(&m, "news", "[[\"caption\",\"！！\"]]", "", &im, 80);
		wl_image_release(&im);
	}
	corpus_make_close(&m);
}

static int dedup(
	const char *dir, enum wl_dedup_policy policy, int threads, struct wl_dedup_counts *n)
{
	struct wl_dedup_options o = {.policy = policy, .image_radius = 4, .threads = threads};
	struct wl_corpus *c = wl_corpus_open(dir, false, 0, &err);
	int ret;

	if (!c)
		fail_msg("%s", err.msg);
	OK(ret = wl_dedup(c, &o, n, &err));
	wl_corpus_close(c);
	return ret;
}

/* "reason|detail" lines of a pair; "" when it is kept. */
static void expect_verdict(const char *dir, int64_t id, const char *reason, int64_t kept)
{
	char sql[160];
	char *got;

	snprintf(sql, sizeof(sql), "SELECT reason, detail FROM verdict WHERE pair_id = %lld",
		(long long)id);
	got = stage_dump(dir, "dedup", sql);
	if (!reason) {
		assert_string_equal(got, "");
	} else {
		char tail[64];
		snprintf(tail, sizeof(tail), "-%lld\n", (long long)kept);
		if (strncmp(got, reason, strlen(reason)) != 0 || got[strlen(reason)] != '|' ||
			(kept && strcmp(strchr(got, '-') ? strrchr(got, '-') : "", tail) != 0))
			fail_msg("pair %lld: verdict \"%s\", expected %s of %lld", (long long)id,
				got, reason, (long long)kept);
	}
	free(got);
}

static void policy_image(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_dedup_counts n;
	struct planted x;
	const char *dir = tmp.path;
	const int64_t pairs = BASES + 5 * EACH + 2 * EACH + 5 + 1 + 2;

	(void)state;
	make_corpus(dir, &x);
	assert_int_equal(dedup(dir, WL_DEDUP_IMAGE, 2, &n), 0);
	for (int i = 0; i < EACH; i++) {
		/* Equal in size: the base has the longest caption; the half is smaller. */
		expect_verdict(dir, x.base[i], NULL, 0);
		expect_verdict(dir, x.copy[i], "duplicate-image", x.base[i]);
		expect_verdict(dir, x.comment[i], "duplicate-image", x.base[i]);
		expect_verdict(dir, x.quality[i], "duplicate-image", x.base[i]);
		expect_verdict(dir, x.half[i], "duplicate-image", x.base[i]);
		expect_verdict(dir, x.dark[i], "duplicate-image", x.base[i]);
		expect_verdict(dir, x.base[20 + i], "duplicate-image", x.longer[i]);
		expect_verdict(dir, x.longer[i], NULL, 0);
		expect_verdict(dir, x.same_text[i], NULL, 0);
	}
	expect_verdict(dir, x.test, NULL, 0);
	expect_verdict(dir, x.val, NULL, 0);
	expect_verdict(dir, x.near_test[0], "near-test", x.test);
	expect_verdict(dir, x.near_test[1], "near-test", x.test);
	expect_verdict(dir, x.near_val, "near-val", x.val);
	expect_verdict(dir, x.broken, "bad-image", 0);
	expect_verdict(dir, x.silent[0], NULL, 0);
	expect_verdict(dir, x.silent[1], NULL, 0);
	assert_int_equal(n.pairs, pairs);
	assert_int_equal(n.duplicates, 6 * EACH);
	assert_int_equal(n.near_eval, 3);
	assert_int_equal(n.bad_images, 1);
	assert_int_equal(n.kept, pairs - 6 * EACH - 3 - 1);
	assert_int_equal(n.image_sets, 2 * EACH + 2);
	assert_int_equal(n.cut, 0);
	/* The same again: nothing to do, same counts. */
	struct wl_dedup_counts again;
	assert_int_equal(dedup(dir, WL_DEDUP_IMAGE, 1, &again), 1);
	assert_memory_equal(&n, &again, sizeof(n));
	tmp_remove(&tmp);
}

static int64_t group_of(const char *dir, int64_t id)
{
	char sql[160], *got;
	int64_t g;

	snprintf(sql, sizeof(sql), "SELECT split_group FROM cluster WHERE pair_id = %lld",
		(long long)id);
	got = stage_dump(dir, "dedup", sql);
	g = atoll(got);
	free(got);
	return g;
}

/* Other policies on the same corpus reuse the signatures; groups do not change with them. */
static void policies_and_groups(void **state)
{
	struct tmp_dir tmp = tmp_make();
	const char *dir = tmp.path;
	struct wl_dedup_counts n;
	struct planted x;
	char *groups, *same;

	(void)state;
	make_corpus(dir, &x);
	assert_int_equal(dedup(dir, WL_DEDUP_TEXT, 2, &n), 0);
	/* The long captions differ in one digit of 22 characters: Jaccard 18 / 22. */
	assert_int_equal(n.duplicates, EACH + EACH - 1);
	for (int i = 0; i < EACH; i++) {
		expect_verdict(dir, x.same_text[i], "duplicate-text", x.base[10 + i]);
		expect_verdict(dir, x.copy[i], NULL, 0);
		assert_int_equal(group_of(dir, x.same_text[i]), group_of(dir, x.base[10 + i]));
		assert_int_equal(group_of(dir, x.half[i]), group_of(dir, x.base[i]));
		assert_int_equal(group_of(dir, x.dark[i]), group_of(dir, x.base[i]));
	}
	expect_verdict(dir, x.near_test[0], "near-test", x.test);
	assert_true(group_of(dir, x.silent[0]) != group_of(dir, x.silent[1]));
	assert_int_equal(group_of(dir, x.base[39]), x.base[39]);
	groups = stage_dump(dir, "dedup", "SELECT * FROM cluster ORDER BY pair_id");
	assert_int_equal(dedup(dir, WL_DEDUP_PAIR, 2, &n), 0);
	assert_int_equal(n.duplicates, 0);
	same = stage_dump(dir, "dedup", "SELECT * FROM cluster ORDER BY pair_id");
	assert_string_equal(groups, same);
	free(groups);
	free(same);
	tmp_remove(&tmp);
}

static const char *const tables[] = {"SELECT * FROM signature ORDER BY 1",
	"SELECT * FROM look ORDER BY 1", "SELECT * FROM verdict ORDER BY 1, 2",
	"SELECT * FROM cluster ORDER BY 1", "SELECT * FROM examined ORDER BY 1",
	"SELECT * FROM bad ORDER BY 1", "SELECT * FROM near ORDER BY 1",
	"SELECT * FROM edge ORDER BY 1, 2, 3, 4"};

static void assert_same_stage(const char *a, const char *b)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		char *x = stage_dump(a, "dedup", tables[i]), *y = stage_dump(b, "dedup", tables[i]);
		if (strcmp(x, y) != 0)
			fail_msg("%s differs between the two runs", tables[i]);
		free(x);
		free(y);
	}
}

static void threads_make_no_difference(void **state)
{
	struct tmp_dir a = tmp_make(), b = tmp_make();
	struct wl_dedup_counts na, nb;
	struct planted x;

	(void)state;
	make_corpus(a.path, &x);
	make_corpus(b.path, &x);
	dedup(a.path, WL_DEDUP_IMAGE, 1, &na);
	dedup(b.path, WL_DEDUP_IMAGE, 4, &nb);
	assert_memory_equal(&na, &nb, sizeof(na));
	assert_same_stage(a.path, b.path);
	tmp_remove(&a);
	tmp_remove(&b);
}

/* Killed at ever later moments, then run to the end: the same as without kills. */
static void killed_and_run_again(void **state)
{
	struct tmp_dir a = tmp_make(), b = tmp_make();
	struct wl_dedup_counts na, nb;
	struct planted x;
	int kills = 0;

	(void)state;
	make_corpus(a.path, &x);
	make_corpus(b.path, &x);
	dedup(a.path, WL_DEDUP_IMAGE, 2, &na);
	for (int i = 0; i < 12; i++) {
		int status;
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			struct wl_dedup_counts n;
			dedup(b.path, WL_DEDUP_IMAGE, 2, &n);
			_exit(0);
		}
		usleep((useconds_t)(3000 + i * 40000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		kills += WIFSIGNALED(status);
	}
	print_message("%d of 12 runs were killed before their end\n", kills);
	dedup(b.path, WL_DEDUP_IMAGE, 2, &nb);
	assert_true(kills > 0);
	assert_memory_equal(&na, &nb, sizeof(na));
	assert_same_stage(a.path, b.path);
	tmp_remove(&a);
	tmp_remove(&b);
}

/* Pairs added later: only they are signed, and the result is that of one run over all. */
static void grows(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_dedup_counts n;
	struct corpus_maker m;
	struct wl_image im;
	struct planted x;
	int64_t later;

	(void)state;
	make_corpus(tmp.path, &x);
	dedup(tmp.path, WL_DEDUP_IMAGE, 2, &n);
	corpus_make_open(&m, tmp.path, 3);
	m.added = 1000;
	draw_picture(30, 150, 96, &im);
	later = corpus_make_jpeg(&m, "news", "[[\"caption\",\"后来\"]]", "", &im, 70);
	wl_image_release(&im);
	corpus_make_close(&m);
	assert_int_equal(dedup(tmp.path, WL_DEDUP_IMAGE, 2, &n), 0);
	assert_int_equal(n.duplicates, 6 * EACH + 1);
	expect_verdict(tmp.path, later, "duplicate-image", x.base[30]);
	tmp_remove(&tmp);
}

static void bad_arguments(void **state)
{
	enum wl_dedup_policy p;

	(void)state;
	FAILS(WL_EUSAGE, "expected image, text or pair", wl_dedup_policy_parse("img", &p, &err));
	OK(wl_dedup_policy_parse("pair", &p, &err));
	assert_int_equal(p, WL_DEDUP_PAIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policy_image),
		cmocka_unit_test(policies_and_groups),
		cmocka_unit_test(threads_make_no_difference),
		cmocka_unit_test(killed_and_run_again),
		cmocka_unit_test(grows),
		cmocka_unit_test(bad_arguments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
