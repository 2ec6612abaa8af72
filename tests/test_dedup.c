/* clean/dedup: what becomes of planted repeats, near texts, templates and what is near an
 * evaluation set, by every policy.  That threads, ranks and kills change nothing:
 * test_dedup_same.c. */
#include "clean/match.h"
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/dedup_plant.h"
#include "tests/support/dedup_run.h"
#include "tests/support/tmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static int dedup_with(const char *dir, const struct wl_dedup_options *o, struct wl_dedup_counts *n)
{
	int ret;

	OK(ret = dedup_run(dir, o, n, &err));
	return ret;
}

static int dedup(
	const char *dir, enum wl_dedup_policy policy, int threads, struct wl_dedup_counts *n)
{
	struct wl_dedup_options o = {.policy = policy, .image_radius = 4, .threads = threads};

	return dedup_with(dir, &o, n);
}

static void policy_image(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_dedup_counts n;
	struct planted x;
	const char *dir = tmp.path;
	const int64_t pairs = BASES + 5 * EACH + 2 * EACH + 5 + 1 + 2;

	(void)state;
	dedup_plant(dir, &x);
	assert_int_equal(dedup(dir, WL_DEDUP_IMAGE, 2, &n), 0);
	for (int i = 0; i < EACH; i++) {
		/* Equal in size: the base has the longest caption; the half is smaller. */
		dedup_expect(dir, x.base[i], NULL, 0);
		dedup_expect(dir, x.copy[i], "duplicate-image", x.base[i]);
		dedup_expect(dir, x.comment[i], "duplicate-image", x.base[i]);
		dedup_expect(dir, x.quality[i], "duplicate-image", x.base[i]);
		dedup_expect(dir, x.half[i], "duplicate-image", x.base[i]);
		dedup_expect(dir, x.dark[i], "duplicate-image", x.base[i]);
		dedup_expect(dir, x.base[20 + i], "duplicate-image", x.longer[i]);
		dedup_expect(dir, x.longer[i], NULL, 0);
		dedup_expect(dir, x.same_text[i], NULL, 0);
	}
	dedup_expect(dir, x.test, NULL, 0);
	dedup_expect(dir, x.val, NULL, 0);
	dedup_expect(dir, x.near_test[0], "near-test", x.test);
	dedup_expect(dir, x.near_test[1], "near-test", x.test);
	dedup_expect(dir, x.near_val, "near-val", x.val);
	dedup_expect(dir, x.broken, "bad-image", 0);
	dedup_expect(dir, x.silent[0], NULL, 0);
	dedup_expect(dir, x.silent[1], NULL, 0);
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
	dedup_plant(dir, &x);
	assert_int_equal(dedup(dir, WL_DEDUP_TEXT, 2, &n), 0);
	/* The long captions differ in one digit of 22 characters: Jaccard 18 / 22. */
	assert_int_equal(n.duplicates, EACH + EACH - 1);
	for (int i = 0; i < EACH; i++) {
		dedup_expect(dir, x.same_text[i], "duplicate-text", x.base[10 + i]);
		dedup_expect(dir, x.copy[i], NULL, 0);
		assert_int_equal(group_of(dir, x.same_text[i]), group_of(dir, x.base[10 + i]));
		assert_int_equal(group_of(dir, x.half[i]), group_of(dir, x.base[i]));
		assert_int_equal(group_of(dir, x.dark[i]), group_of(dir, x.base[i]));
	}
	dedup_expect(dir, x.near_test[0], "near-test", x.test);
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
	dedup_plant(tmp.path, &x);
	dedup(tmp.path, WL_DEDUP_IMAGE, 2, &n);
	corpus_make_open(&m, tmp.path, 3);
	m.added = 1000;
	draw_picture(30, 150, 96, &im);
	later = corpus_make_jpeg(&m, "news", "[[\"caption\",\"后来\"]]", "", &im, 70);
	wl_image_release(&im);
	corpus_make_close(&m);
	assert_int_equal(dedup(tmp.path, WL_DEDUP_IMAGE, 2, &n), 0);
	assert_int_equal(n.duplicates, 6 * EACH + 1);
	dedup_expect(tmp.path, later, "duplicate-image", x.base[30]);
	tmp_remove(&tmp);
}

/* ---- more reasons ---- */

static void part_of(const struct wl_image *im, int top, struct wl_image *out)
{
	size_t row = (size_t)im->width * 3;

	*out = (struct wl_image){
		im->width, im->height - top, 3, malloc((size_t)(im->height - top) * row)};
	assert_non_null(out->data);
	memcpy(out->data, im->data + (size_t)top * row, (size_t)(im->height - top) * row);
}

/* B is A without its head, C is B without its: A and C are not alike.  B goes, C stays, and all
 * three are of one split group. */
static void chains_do_not_join(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_image im[3];
	struct corpus_maker m;
	struct wl_dedup_counts n;
	struct wl_view v[3];
	int64_t id[3];

	(void)state;
	draw_picture(4242, 400, 400, &im[0]);
	part_of(&im[0], 80, &im[1]);
	part_of(&im[1], 64, &im[2]);
	corpus_make_open(&m, tmp.path, 2);
	for (int i = 0; i < 3; i++) {
		OK(wl_view_make(&im[i], &v[i], &err));
		id[i] = corpus_make_jpeg(&m, "news", "[[\"caption\",\"同一张\"]]", "", &im[i], 95);
		wl_image_release(&im[i]);
	}
	corpus_make_close(&m);
	assert_true(wl_view_match(&v[0], &v[1], (struct wl_radii){6, 4}));
	assert_true(wl_view_match(&v[1], &v[2], (struct wl_radii){6, 4}));
	assert_false(wl_view_match(&v[0], &v[2], (struct wl_radii){6, 4}));
	dedup(tmp.path, WL_DEDUP_IMAGE, 1, &n);
	assert_int_equal(n.duplicates, 1);
	dedup_expect(tmp.path, id[0], NULL, 0);
	dedup_expect(tmp.path, id[1], "duplicate-image", id[0]);
	dedup_expect(tmp.path, id[2], NULL, 0);
	assert_int_equal(group_of(tmp.path, id[0]), group_of(tmp.path, id[2]));
	tmp_remove(&tmp);
}

static void near_texts(void **state)
{
	static const char *const texts[] = {
		"一位穿着红色外套的老人带着他的小狗在湖边的小路上慢慢地散步晒太阳",
		"一位穿着红色外套的老人，带着他的小狗在湖边小路上慢慢地散步晒太阳！",
		"一位穿着红色外套的老人带着他的孙子在公园里的草地上放风筝玩得很高兴",
		"海边的红色灯塔和白色的帆船", "海边的红色灯塔与白色的帆船",
		"海边的蓝色房子与白色的帆船"};
	struct tmp_dir tmp = tmp_make();
	struct corpus_maker m;
	struct wl_dedup_counts n;
	struct wl_image im;
	int64_t id[6];
	char t[256];

	(void)state;
	corpus_make_open(&m, tmp.path, 2);
	for (int i = 0; i < 6; i++) {
		draw_picture(600 + (uint64_t)i, 200 - 10 * i, 150, &im);
		snprintf(t, sizeof(t), "[[\"caption\",\"%s\"]]", texts[i]);
		id[i] = corpus_make_jpeg(&m, "news", t, "", &im, 90);
		wl_image_release(&im);
	}
	corpus_make_close(&m);
	dedup(tmp.path, WL_DEDUP_TEXT, 1, &n);
	dedup_expect(tmp.path, id[0], NULL, 0);
	dedup_expect(tmp.path, id[1], "duplicate-text", id[0]);
	dedup_expect(tmp.path, id[2], NULL, 0);
	dedup_expect(tmp.path, id[3], NULL, 0);
	dedup_expect(tmp.path, id[4], "duplicate-text", id[3]);
	dedup_expect(tmp.path, id[5], NULL, 0);
	assert_int_equal(n.alike_texts, 2);
	tmp_remove(&tmp);
}

static void templates_and_banners(void **state)
{
	struct tmp_dir tmp = tmp_make();
	struct wl_dedup_options o = {
		.image_radius = 6, .threads = 1, .template_images = 4, .banner_texts = 4};
	struct wl_dedup_counts n;
	struct corpus_maker m;
	struct wl_image im;
	int64_t slogan[5], logo[5], four[4];
	char t[128];

	(void)state;
	corpus_make_open(&m, tmp.path, 2);
	for (int i = 0; i < 5; i++) {
		draw_picture(100 + (uint64_t)i, 120, 120, &im);
		slogan[i] = corpus_make_jpeg(
			&m, "news", "[[\"caption\",\"欢迎光临本站\"]]", "", &im, 90);
		wl_image_release(&im);
		draw_picture(77, 120, 120, &im);
		snprintf(t, sizeof(t), "[[\"caption\",\"第%d篇文章的题目\"]]", i);
		logo[i] = corpus_make_jpeg(&m, "news", t, "", &im, 60 + 5 * i);
		wl_image_release(&im);
	}
	for (int i = 0; i < 4; i++) { /* just not too often */
		draw_picture(200 + (uint64_t)i, 120, 120, &im);
		four[i] = corpus_make_jpeg(
			&m, "news", "[[\"caption\",\"日落时分的海边\"]]", "", &im, 90);
		wl_image_release(&im);
	}
	corpus_make_close(&m);
	dedup_with(tmp.path, &o, &n);
	for (int i = 0; i < 5; i++) {
		dedup_expect(tmp.path, slogan[i], "template-text", 0);
		dedup_expect(tmp.path, logo[i], "banner-image", 0);
	}
	for (int i = 0; i < 4; i++)
		dedup_expect(tmp.path, four[i], NULL, 0);
	assert_int_equal(n.templates, 5);
	assert_int_equal(n.banners, 5);
	assert_int_equal(n.kept, 4);
	tmp_remove(&tmp);
}

/* ---- evaluation sets ---- */

static void write_jpeg(const char *dir, const char *name, uint64_t seed, int quality)
{
	struct wl_image im;
	struct wl_buf b;
	char path[600];

	draw_picture(seed, 160, 120, &im);
	wl_buf_init(&b, 1 << 24);
	OK(wl_image_encode_jpeg(&im, quality, &b, &err));
	snprintf(path, sizeof(path), "%s/%s.jpg", dir, name);
	tmp_write_bytes(path, b.data, b.len);
	snprintf(path, sizeof(path), "%s/%s.txt", dir, name);
	tmp_write(path, "评测集里的一段说明文字，写得足够长，好让它也能被比较\n");
	wl_buf_release(&b);
	wl_image_release(&im);
}

static void check_near_eval(const char *dir, int64_t id, const char *name)
{
	char sql[160], *got;

	snprintf(sql, sizeof(sql), "SELECT reason, detail FROM verdict WHERE pair_id = %lld",
		(long long)id);
	got = stage_dump(dir, "dedup", sql);
	if (strncmp(got, "near-eval|", 10) != 0 || !strstr(got, name))
		fail_msg("pair %lld: \"%s\", expected near-eval of %s", (long long)id, got, name);
	free(got);
}

/* The same pictures as a directory, as shards (a tar) and as a corpus. */
static void against(void **state)
{
	struct tmp_dir tmp = tmp_make(), other = tmp_make();
	char set[600], tars[600], second[600];
	struct corpus_maker m;
	struct wl_image im;
	struct wl_dedup_counts n;
	int64_t id[3], said;

	(void)state;
	snprintf(set, sizeof(set), "%s/set", other.path);
	snprintf(tars, sizeof(tars), "%s/tars", other.path);
	snprintf(second, sizeof(second), "%s/corpus", other.path);
	OK(wl_mkdir_p(set, &err));
	OK(wl_mkdir_p(tars, &err));
	write_jpeg(set, "eins", 1, 50);
	write_jpeg(set, "zwei", 2, 50);
	assert_int_equal(tmp_run(NULL, "tar -cf %s/a.tar -C %s .", tars, set), 0);
	corpus_make_open(&m, second, 2);
	draw_picture(2, 160, 120, &im);
	corpus_make_jpeg(&m, "aic", "[[\"caption\",\"评测\"]]", "", &im, 40);
	wl_image_release(&im);
	corpus_make_close(&m);
	corpus_make_open(&m, tmp.path, 3);
	for (int i = 0; i < 3; i++) {
		draw_picture((uint64_t)i, 160, 120, &im);
		id[i] = corpus_make_jpeg(&m, "news", "[[\"caption\",\"一张图片\"]]", "", &im, 90);
		wl_image_release(&im);
	}
	draw_picture(50, 160, 120, &im);
	said = corpus_make_jpeg(&m, "news",
		"[[\"caption\",\"评测集里的一段说明文字写得足够长好让它也能被比较\"]]", "", &im,
		90);
	wl_image_release(&im);
	corpus_make_close(&m);
	const char *const ways[] = {set, tars, second};
	for (int w = 0; w < 3; w++) {
		struct wl_dedup_options o = {
			.image_radius = 6, .threads = 2, .against = &ways[w], .n_against = 1};
		assert_int_equal(dedup_with(tmp.path, &o, &n), 0);
		assert_int_equal(n.against, w == 2 ? 1 : 2);
		assert_int_equal(n.near_against, n.against);
		assert_int_equal(n.pairs, 4);
		dedup_expect(tmp.path, id[0], NULL, 0);
		if (w < 2)
			check_near_eval(tmp.path, id[1], "eins");
		check_near_eval(tmp.path, id[2], w == 2 ? "00" : "zwei");
		dedup_expect(tmp.path, said, NULL, 0);
		o.against_by = WL_AGAINST_EITHER;
		assert_int_equal(dedup_with(tmp.path, &o, &n), 0);
		assert_int_equal(n.near_against, w == 2 ? 1 : 3);
		assert_int_equal(dedup_with(tmp.path, &o, &n), 1);
	}
	struct wl_corpus *c = wl_corpus_open(tmp.path, false, 0, &err);
	const char *nowhere = "/nonexistent/set", *empty = other.path;
	struct wl_dedup_options bad = {.against = &nowhere, .n_against = 1};
	FAILS(WL_EUSAGE, "no such directory", wl_dedup(c, &bad, &n, &err));
	assert_int_equal(tmp_run(NULL, "rm -r %s/*", other.path), 0);
	bad.against = &empty;
	FAILS(WL_EDATA, "no pictures", wl_dedup(c, &bad, &n, &err));
	wl_corpus_close(c);
	tmp_remove(&tmp);
	tmp_remove(&other);
}

static void bad_arguments(void **state)
{
	enum wl_dedup_policy p;

	(void)state;
	FAILS(WL_EUSAGE, "expected image, text or pair", wl_dedup_policy_parse("img", &p, &err));
	OK(wl_dedup_policy_parse("pair", &p, &err));
	assert_int_equal(p, WL_DEDUP_PAIR);
	enum wl_against_by by;
	FAILS(WL_EUSAGE, "expected image, text or either", wl_against_by_parse("x", &by, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policy_image),
		cmocka_unit_test(policies_and_groups),
		cmocka_unit_test(grows),
		cmocka_unit_test(chains_do_not_join),
		cmocka_unit_test(near_texts),
		cmocka_unit_test(templates_and_banners),
		cmocka_unit_test(against),
		cmocka_unit_test(bad_arguments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
