/* The filter's detectors, on what is planted and on real texts and photos that should pass: junk,
 * sensitive words, personal information, pictures, topics.  How many of each are found, and how
 * many good ones are taken for one, is printed as one table and must stay. */
#include "clean/picture.h"
#include "clean/rules.h"
#include "clean/segment.h"
#include "clean/topics/train.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "tests/support/cleaning.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/junk.h"
#include "tests/support/tmp.h"

#include <archive.h>
#include <archive_entry.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct wl_err err;

/* ---- the table ---- */

enum { ROWS = 64 };
static struct row {
	char name[40];
	size_t planted, found, wrong, good;
} rows[ROWS];
static size_t n_rows;

static void note(
	const char *what, const char *kind, size_t planted, size_t found, size_t wrong, size_t good)
{
	struct row *r = &rows[n_rows++];

	assert_true(n_rows <= ROWS);
	*r = (struct row){.planted = planted, .found = found, .wrong = wrong, .good = good};
	snprintf(r->name, sizeof(r->name), "%s: %s", what, kind);
}

/* The last of the tests. */
static void table(void **state)
{
	(void)state;
	print_message("%-34s %7s %7s %8s %6s %7s\n", "detector", "planted", "found", "recall",
		"false", "of good");
	for (size_t i = 0; i < n_rows; i++) {
		const struct row *r = &rows[i];
		print_message("%-34s %7zu %7zu %8.4f %6zu %7zu\n", r->name, r->planted, r->found,
			(double)r->found / (double)r->planted, r->wrong, r->good);
	}
	assert_true(n_rows > 0);
}

/* ---- measuring ---- */

static struct wl_rules *rules_with(const struct tmp_dir *tmp, const char *sensitive)
{
	char path[512], cwd[400], *yaml;
	struct wl_rules *r;

	assert_non_null(getcwd(cwd, sizeof(cwd)));
	yaml = wl_strf(&err,
		"version: 1\ntext: {min_chars: 2, min_chinese: 0.3, max_foreign: 0.3, "
		"min_common: 0.4, max_symbols: 0.6, max_run: 10, max_repeat: 0.5, "
		"file_names: true, max_ad: 2}\nads: {file: %s/clean/rules/ads.txt}\n%s",
		cwd, sensitive);
	tmp_write(tmp_path(tmp, "r.yaml", path), yaml);
	free(yaml);
	r = wl_rules_load(path, tx, &err);
	if (!r)
		fail_msg("%s", err.msg);
	return r;
}

static void judge(const struct wl_rules *r, const char *text, struct wl_outcome *o)
{
	json_t *texts = json_pack("[[s, s]]", "caption", text);
	char *raw = texts ? json_dumps(texts, 0) : NULL;
	struct wl_subject s = {.name = "00000-1",
		.source = "news",
		.texts = raw,
		.width = 60,
		.height = 60,
		.bytes = 1000};

	if (!raw)
		fail_msg("not UTF-8: %s", text);
	OK(wl_rules_judge(r, &s, o, &err));
	free(raw);
	json_decref(texts);
}

static bool has_reason(const struct wl_outcome *o, const char *reason)
{
	for (size_t i = 0; i < o->n; i++)
		if (strncmp(o->v[i].reason, reason, strlen(reason)) == 0)
			return true;
	return false;
}

static void junk(void **state)
{
	static struct texts good;
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r = rules_with(&tmp, "");
	size_t wrong[JUNKS] = {0}, any = 0;
	int shown = 0;

	(void)state;
	load_good(&good);
	for (size_t i = 0; i < good.n; i++) {
		struct wl_outcome o;
		judge(r, good.v[i], &o);
		any += o.n > 0;
		if (o.n && shown++ < 12)
			print_message(
				"  dropped a good one, %s: %s\n", o.v[0].reason, o.v[0].detail);
		for (int k = 0; k < JUNKS; k++)
			wrong[k] += has_reason(&o, junks[k].reason);
		wl_outcome_release(&o);
	}
	print_message("%zu of %zu good texts were dropped\n", any, good.n);
	assert_true(any * 100 <= good.n);
	for (int k = 0; k < JUNKS; k++) {
		size_t planted = 0, found = 0;
		double precision, recall;
		shown = 0;
		for (size_t i = 0; i < good.n; i++) {
			char text[PLANT_MAX];
			struct wl_outcome o;
			bool ok;
			if (strlen(good.v[i]) < 18 || !make_junk((enum junk)k, i, good.v[i], text))
				continue;
			judge(r, text, &o);
			ok = has_reason(&o, junks[k].reason);
			if (!ok && shown++ < 3)
				print_message("  missed %s: %s\n", junks[k].name, text);
			planted++;
			found += ok;
			wl_outcome_release(&o);
		}
		/* As many good texts as planted ones. */
		recall = (double)found / (double)planted;
		precision = (double)found /
			    ((double)found + (double)wrong[k] * (double)planted / (double)good.n);
		note("text", junks[k].name, planted, found, wrong[k], good.n);
		if (precision < 0.99 || recall < 0.97)
			fail_msg("%s: precision %.4f, recall %.4f", junks[k].name, precision,
				recall);
	}
	release_texts(&good);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

/* ---- sensitive words in disguise ---- */

static const char own_words[] =
	"代开发票\n六合彩\n赌博网站\n枪支弹药\n毒品交易\n裸聊\n发票代理\n假身份证\n"
	"casino\nviagra\nporn\nonlinebet\n加薇信号\n刻章办证\n香港马会\nadult vip\n";

static void sensitive(void **state)
{
	static const char *const tricks[PLANT_TRICKS] = {"plain", "signs", "emoji", "zero-width",
		"spaces", "full-width", "capitals", "digits", "Cyrillic"};
	static struct texts good;
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r;
	char path[512], *words, *next;
	size_t wrong = 0;

	(void)state;
	tmp_write(tmp_path(&tmp, "words.txt", path), own_words);
	r = rules_with(&tmp, "sensitive: {own: {file: words.txt}}\n");
	load_good(&good);
	for (size_t i = 0; i < good.n; i++) {
		struct wl_outcome o;
		judge(r, good.v[i], &o);
		wrong += has_reason(&o, "sensitive-own");
		wl_outcome_release(&o);
	}
	for (int t = 0; t < PLANT_TRICKS; t++) {
		size_t planted = 0, found = 0;
		words = strdup(own_words);
		for (char *w = strtok_r(words, "\n", &next); w; w = strtok_r(NULL, "\n", &next))
			for (uint64_t i = 0; i < 60; i++) {
				const char *host = good.v[wl_rand64(4, i, planted) % good.n];
				char hidden[PLANT_MAX], text[3 * PLANT_MAX], part[PLANT_MAX];
				struct wl_outcome o;
				plant_disguise(w, t, i * 31 + planted, hidden);
				/* Between letters of the host; words of Latin letters need room. */
				snprintf(text, sizeof(text), "%s%s%s%s%s", i % 2 ? "今天" : "看 ",
					(unsigned char)*w < 0x80 ? " " : "", hidden,
					(unsigned char)*w < 0x80 ? " " : "",
					head_of(host, 120, part));
				judge(r, text, &o);
				planted++;
				if (has_reason(&o, "sensitive-own"))
					found++;
				else
					print_message("  missed %s: %s\n", tricks[t], text);
				wl_outcome_release(&o);
			}
		free(words);
		note("sensitive word", tricks[t], planted, found, wrong, good.n);
		assert_int_equal(found, planted);
	}
	print_message("false finds in %zu good texts: %zu\n", good.n, wrong);
	assert_true(wrong * 2000 <= good.n);
	release_texts(&good);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

/* ---- personal information ---- */

static void personal(void **state)
{
	enum { N = 1000 };
	struct wl_text_work w = {.look = WL_PERSONAL_ALL, .mask = WL_PERSONAL_ALL};
	static struct texts good;
	int wrong[WL_PERSONAL_KINDS] = {0};
	struct wl_text_facts f;
	struct wl_buf b;

	(void)state;
	wl_buf_init(&b, 1 << 20);
	load_good(&good);
	for (size_t i = 0; i < good.n; i++) {
		wl_buf_reset(&b);
		OK(wl_text_clean(tx, &w, good.v[i], strlen(good.v[i]), &b, &f, &err));
		for (int k = 0; k < WL_PERSONAL_KINDS; k++)
			wrong[k] += f.personal[k] > 0;
	}
	for (int k = 0; k < WL_PERSONAL_KINDS; k++) {
		size_t found = 0;
		for (uint64_t i = 0; i < N; i++) {
			struct plant p = plant_personal((enum wl_personal)k, false, i + 9000);
			wl_buf_reset(&b);
			OK(wl_text_clean(tx, &w, p.text, strlen(p.text), &b, &f, &err));
			found += f.personal[k] == 1 && !strstr(wl_buf_str(&b), p.secret);
		}
		note("personal", wl_personal_names[k], N, found, (size_t)wrong[k], good.n);
		assert_true(found * 100 >= 99 * (size_t)N && wrong[k] * 1000 <= (int)good.n);
	}
	release_texts(&good);
	wl_buf_release(&b);
}

/* ---- pictures ---- */

enum { PHOTOS = 150 };

/* Photos of Flickr8k-CN, or drawings where they are missing. */
static void load_photos(struct wl_image photos[PHOTOS])
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	int n = 0;

	archive_read_support_format_tar(a);
	if (archive_read_open_filename(a, "../shared/data/flickr8kcn/test.tar", 1 << 20) ==
		ARCHIVE_OK)
		while (n < PHOTOS && archive_read_next_header(a, &e) == ARCHIVE_OK) {
			size_t size = (size_t)archive_entry_size(e);
			char *bytes = malloc(size + 1);
			if (strstr(archive_entry_pathname(e), ".jpg")) {
				assert_int_equal(archive_read_data(a, bytes, size), size);
				OK(wl_image_decode(bytes, size, &photos[n++], &err));
			}
			free(bytes);
		}
	archive_read_free(a);
	for (; n < PHOTOS; n++)
		draw_picture((uint64_t)n, 400, 300, &photos[n]);
}

static void load_golden(const char *name, struct wl_image *out)
{
	char path[200];
	struct wl_buf b;

	wl_buf_init(&b, 1 << 24);
	snprintf(path, sizeof(path), "tests/golden/picture/%s.jpg", name);
	OK(wl_read_file(path, &b, &err));
	OK(wl_image_decode(b.data, b.len, out, &err));
	wl_buf_release(&b);
}

/* A copy of it with a QR code of 35 to 60 % of its shorter side somewhere on it. */
static void plant_qr(const struct wl_image *photo, uint64_t seed, struct wl_image *out)
{
	int least = photo->width < photo->height ? photo->width : photo->height;
	int side = least * (35 + (int)(wl_rand64(seed, 5, 0) % 26)) / 100;
	int x0 = (int)(wl_rand64(seed, 5, 1) % (uint64_t)(photo->width - side));
	int y0 = (int)(wl_rand64(seed, 5, 2) % (uint64_t)(photo->height - side));
	struct wl_image code = {0}, small = {0};
	size_t n = (size_t)photo->width * (size_t)photo->height * 3;

	load_golden("qr-plain", &code);
	OK(wl_image_resize_lanczos(&code, side, side, &small, &err));
	*out = *photo;
	out->data = malloc(n);
	assert_non_null(out->data);
	memcpy(out->data, photo->data, n);
	for (int y = 0; y < side; y++)
		memcpy(out->data + ((size_t)(y0 + y) * (size_t)photo->width + (size_t)x0) * 3,
			small.data + (size_t)y * (size_t)side * 3, (size_t)side * 3);
	wl_image_release(&code);
	wl_image_release(&small);
}

/* A page of text, smaller. */
static void plant_page(uint64_t seed, struct wl_image *out)
{
	static const char *const pages[] = {
		"text-article", "text-small", "text-dark", "text-colour", "text-big"};
	struct wl_image page = {0};
	int percent = 70 + (int)(wl_rand64(seed, 6, 0) % 31);

	load_golden(pages[seed % 5], &page);
	OK(wl_image_resize_lanczos(
		&page, page.width * percent / 100, page.height * percent / 100, out, &err));
	wl_image_release(&page);
}

/* One colour, and a little noise. */
static void plant_blank(uint64_t seed, struct wl_image *out)
{
	size_t n = (size_t)200 * 150 * 3;

	*out = (struct wl_image){200, 150, 3, malloc(n)};
	assert_non_null(out->data);
	for (size_t i = 0; i < n; i++)
		out->data[i] = (uint8_t)(wl_rand64(seed, 7, i % 3) % 250 +
					 wl_rand64(seed, 8, i) % (1 + seed % 5));
}

/* After a JPEG of a quality between 60 and 95, as the filter sees it. */
static void judge_picture(
	const struct wl_rules *r, const struct wl_image *im, uint64_t seed, struct wl_outcome *o)
{
	struct wl_image seen = {0};
	struct wl_picture p;
	struct wl_look look;
	struct wl_buf jpeg;
	struct wl_subject s = {.name = "00000-1",
		.source = "news",
		.texts = "[[\"caption\",\"一张图片\"]]",
		.bytes = 1000};

	wl_buf_init(&jpeg, 1 << 24);
	OK(wl_image_encode_jpeg(im, 60 + (int)(seed % 36), &jpeg, &err));
	OK(wl_image_decode(jpeg.data, jpeg.len, &seen, &err));
	OK(wl_look_make(&seen, &look, &err));
	OK(wl_picture_measure(&seen, &p, &err));
	s.width = seen.width;
	s.height = seen.height;
	s.look = &look;
	s.picture = &p;
	OK(wl_rules_judge(r, &s, o, &err));
	wl_image_release(&seen);
	wl_buf_release(&jpeg);
}

static void pictures(void **state)
{
	static const char *const reasons[] = {"image-qr", "image-text", "image-blank"};
	static struct wl_image photos[PHOTOS];
	size_t found[3] = {0}, wrong[3] = {0};
	struct tmp_dir tmp = tmp_make();
	struct wl_rules *r =
		rules_of(&tmp, "version: 1\nimage: {min_spread: 2, max_text: 0.5, max_qr: 0.05}\n");

	(void)state;
	load_photos(photos);
	for (int i = 0; i < PHOTOS; i++) {
		struct wl_image im = {0};
		struct wl_outcome o;
		judge_picture(r, &photos[i], (uint64_t)i, &o);
		for (int k = 0; k < 3; k++)
			wrong[k] += has_reason(&o, reasons[k]);
		wl_outcome_release(&o);
		for (int k = 0; k < 3; k++) {
			if (k == 0)
				plant_qr(&photos[i], (uint64_t)i, &im);
			else if (k == 1)
				plant_page((uint64_t)i, &im);
			else
				plant_blank((uint64_t)i, &im);
			judge_picture(r, &im, (uint64_t)i, &o);
			found[k] += has_reason(&o, reasons[k]);
			wl_outcome_release(&o);
			wl_image_release(&im);
		}
		wl_image_release(&photos[i]);
	}
	for (int k = 0; k < 3; k++) {
		note("picture", reasons[k], PHOTOS, found[k], wrong[k], PHOTOS);
		if (found[k] * 100 < 95 * PHOTOS || wrong[k] * 100 > PHOTOS)
			fail_msg("%s: %zu of %d found, %zu photos taken for one", reasons[k],
				found[k], PHOTOS, wrong[k]);
	}
	wl_rules_free(r);
	tmp_remove(&tmp);
}

/* ---- topics ---- */

enum { JUNK_DOCS = 500 };

/* What pages say about themselves: half of the words are those that the labels' rules know. */
static void site_talk(uint64_t seed, char out[PLANT_MAX])
{
	static const char *const words[] = {"点击", "下载", "登录", "注册", "版权", "链接", "客服",
		"优惠", "包邮", "促销", "免费", "会员", "充值", "批发", "折扣", "抽奖", "广告",
		"首页", "立即", "购买", "热线", "咨询", "发货", "价格", "厂家", "代理", "关注",
		"扫描", "活动", "领取", "红包", "手机", "用户", "软件", "系统", "账号", "密码"};
	size_t n = 0;

	for (uint64_t i = 0; i < 9; i++)
		n += (size_t)snprintf(out + n, PLANT_MAX - n, "%s%s", i ? "，" : "",
			words[wl_rand64(seed, 9, i) % (sizeof(words) / sizeof(*words))]);
}

static void train_topics(const char *corpus, const char *topics)
{
	struct wl_topics_options o = {
		.lda = {.topics = 20, .alpha = 0.1, .beta = 0.01, .iterations = 100, .seed = 3},
		.bounds = {.min_docs = 4, .max_share = 0.3, .max_words = 20000},
		.min_chars = 2,
		.min_pairs = 100,
		.sample = 1,
		.held_out = 0.05,
		.stop = "clean/topics/stopwords.txt",
		.select = "clean/topics/select.yaml",
		.threads = 2};
	struct wl_corpus *c = wl_corpus_open(corpus, false, 0, &err);

	assert_non_null(c);
	OK(wl_topics_train(c, topics, &o, NULL, &err));
	wl_corpus_close(c);
}

static bool unwanted(const struct wl_rules *r, const char *text)
{
	struct wl_outcome o;
	bool yes;

	judge(r, text, &o);
	yes = has_reason(&o, "topic-unwanted");
	wl_outcome_release(&o);
	return yes;
}

/* A model of captions, headlines and site talk; judged are others of the same making. */
static void topics(void **state)
{
	struct wl_segment *seg = wl_segment_open(NULL, NULL, 0, &err);
	static struct texts good;
	struct tmp_dir tmp = tmp_make();
	char dir[512], out[512], text[PLANT_MAX];
	size_t found = 0, wrong = 0, judged = 0;
	struct corpus_maker m;
	struct wl_rules *r;

	(void)state;
	wl_segment_close(seg);
	load_good(&good);
	if (!seg || good.n < 4000) {
		release_texts(&good);
		tmp_remove(&tmp);
		SKIP("jieba's tables or ../shared/data/text are missing");
	}
	corpus_make_open(&m, tmp_path(&tmp, "corpus", dir), 1);
	for (size_t i = 0; i < good.n + 2 * JUNK_DOCS; i += 2) {
		json_t *texts;
		char *raw;
		if (i >= good.n)
			site_talk(i - good.n, text);
		texts = json_pack("[[s, s]]", "caption", i < good.n ? good.v[i] : text);
		raw = json_dumps(texts, 0);
		corpus_make_bytes(&m, "news", raw, "", "x", 1, 64, 64);
		free(raw);
		json_decref(texts);
	}
	corpus_make_close(&m);
	train_topics(dir, tmp_path(&tmp, "topics", out));
	r = rules_of(&tmp, "version: 1\ntopics: {model: topics, max_unwanted: 0.5}\n");
	for (size_t i = 1; i < good.n; i += 2, judged++)
		wrong += unwanted(r, good.v[i]);
	for (uint64_t i = 0; i < JUNK_DOCS; i++) {
		site_talk(2 * i + 1, text);
		found += unwanted(r, text);
	}
	note("topic", "what sites say of themselves", JUNK_DOCS, found, wrong, judged);
	if (found * 100 < 95 * JUNK_DOCS || wrong * 50 > judged)
		fail_msg("%zu of %d found, %zu of %zu good ones dropped", found, JUNK_DOCS, wrong,
			judged);
	release_texts(&good);
	wl_rules_free(r);
	tmp_remove(&tmp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(junk),
		cmocka_unit_test(sensitive),
		cmocka_unit_test(personal),
		cmocka_unit_test(pictures),
		cmocka_unit_test(topics),
		cmocka_unit_test(table),
	};
	return cmocka_run_group_tests(tests, open_text, close_text);
}
