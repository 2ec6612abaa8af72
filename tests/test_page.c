/*
 * Pages into pairs: what each sentence of ingest/page.h promises, on pages made here, then on the
 * real ones of ../shared/data/web/html.
 */
#include "ingest/page.h"

#include "ops/file.h"
#include "ops/json.h"
#include "tests/support/tmp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HTML "../shared/data/web/html"

/* All that a page gave, as JSON: [{url, page_url, texts, meta, ordinal, width, height}, ...]. */
static int collect(void *ctx, const struct wl_page_pair *p)
{
	json_t *texts = json_loads(p->texts, 0, NULL), *meta = json_loads(p->meta, 0, NULL);
	assert_true(json_array_size(texts) >= 1);
	assert_non_null(meta);
	json_t *o = json_pack("{s:s, s:s, s:o, s:o, s:I, s:i, s:i}", "url", p->image_url,
		"page_url", p->page_url, "texts", texts, "meta", meta, "ordinal",
		(json_int_t)p->ordinal, "width", p->width, "height", p->height);
	assert_non_null(o);
	assert_int_equal(json_array_append_new(ctx, o), 0);
	return 0;
}

static struct wl_profile *profile_of(const char *name)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_profile *p = wl_profile_load(name, &err);
	if (!p)
		fail_msg("%s", err.msg);
	return p;
}

static json_t *pairs_of(const char *profile, const char *url, const char *html, size_t n,
	struct wl_page_counts *counts)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_profile *p = profile_of(profile);
	struct wl_page page = {.url = url, .bytes = html, .n = n};
	json_t *out = json_array();
	*counts = (struct wl_page_counts){0};
	if (wl_page_pairs(p, &page, collect, out, counts, &err) < 0)
		fail_msg("%s", err.msg);
	int64_t sum = counts->pairs;
	for (int i = 0; i < WL_SKIP_COUNT; i++)
		sum += counts->skipped[i];
	assert_int_equal(sum, counts->images);
	assert_int_equal(json_array_size(out), counts->pairs);
	wl_profile_free(p);
	return out;
}

/* The text of this kind, among the chosen ones or the others; NULL: none. */
static const char *text_of(const json_t *pairs, size_t i, const char *kind)
{
	const json_t *pair = json_array_get(pairs, i);
	const json_t *lists[] = {json_object_get(pair, "texts"),
		json_object_get(json_object_get(pair, "meta"), "texts")};
	for (size_t l = 0; l < 2; l++)
		for (size_t k = 0; k < json_array_size(lists[l]); k++) {
			const json_t *t = json_array_get(lists[l], k);
			if (strcmp(json_string_value(json_array_get(t, 0)), kind) == 0)
				return json_string_value(json_array_get(t, 1));
		}
	return NULL;
}

static const char *chosen(const json_t *pairs, size_t i)
{
	return json_string_value(json_array_get(
		json_array_get(json_object_get(json_array_get(pairs, i), "texts"), 0), 0));
}

static const char *url_of(const json_t *pairs, size_t i)
{
	return json_string_value(json_object_get(json_array_get(pairs, i), "url"));
}

#define PARA1 "<p>九月七日下午，未来科学大奖的获奖名单在北京公布，三位科学家站上了领奖台。他们笑了。</p>"
#define PARA2 "<p>第二天，记者在实验室里见到了其中一位，她正在整理数据，桌上放着一杯凉了的茶。</p>"
#define HEAD "<title>科学家的一天_某某新闻网</title><h1>科学家的一天</h1>"

static void test_kinds(void **state)
{
	(void)state;
	static const char page[] = HEAD PARA1
		"<figure><img src=a.jpg alt='领奖台上的三位科学家'><figcaption>颁奖现场。\n 新华社"
		"</figcaption></figure>" PARA2;
	struct wl_page_counts c;
	json_t *p = pairs_of("news", "http://x.cn/n/1.html", page, sizeof page - 1, &c);
	assert_int_equal(json_array_size(p), 1);
	assert_string_equal(url_of(p, 0), "http://x.cn/n/a.jpg");
	assert_string_equal(chosen(p, 0), "caption");
	assert_string_equal(text_of(p, 0, "caption"), "颁奖现场。新华社");
	assert_string_equal(text_of(p, 0, "alt_text"), "领奖台上的三位科学家");
	assert_string_equal(text_of(p, 0, "title"), "科学家的一天");
	assert_string_equal(text_of(p, 0, "first"),
		"九月七日下午，未来科学大奖的获奖名单在北京公布，三位科学家站上了领奖台");
	assert_non_null(strstr(text_of(p, 0, "sur_text"), "站上了领奖台"));
	assert_non_null(strstr(text_of(p, 0, "sur_text"), "凉了的茶"));
	assert_null(strstr(text_of(p, 0, "sur_text"), "颁奖现场"));
	/* Between two paragraphs the one that follows is nearer. */
	assert_non_null(strstr(text_of(p, 0, "easy"), "第二天"));
	json_decref(p);
}

/* The paragraph under a picture that is its caption, and those that are not. */
static void test_caption_lines(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		const char *caption; /* NULL: the line is none */
	} cases[] = {
		{"<p>▲三位科学家在领奖台上</p>", "▲三位科学家在领奖台上"},
		{"<p>图为实验室内景</p>", "图为实验室内景"},
		{"<p>领奖台上的三位科学家（张三 摄）。</p>", "领奖台上的三位科学家（张三 摄）。"},
		{"<p>实验室内景 受访者供图</p>", "实验室内景 受访者供图"},
		{"<p align=center>实验室内景</p>", "实验室内景"},
		{"<p style='TEXT-ALIGN: center'>实验室内景</p>", "实验室内景"},
		{"<span class=img_descr>她在整理数据</span>", "她在整理数据"},
		{"<div class='pic image-desc'>她在整理数据</div>", "她在整理数据"},
		{"<p>图片来源：未来科学大奖官网</p>", NULL},
		{"<p>她说，实验还要做很久。</p>", NULL},
		{"<h2>图为小标题</h2>", NULL},
		{"<p align=center><a href=/>更多图片请点这里</a></p>", NULL},
		{"<p>▼下面是另一张图的说明</p>", NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wl_page_counts c;
		char *page = wl_strf(NULL, "%s%s<p><img src=/a.jpg></p>%s%s%s", HEAD, PARA1,
			cases[i].line, PARA2, PARA1);
		json_t *p = pairs_of("news", "http://x.cn/", page, strlen(page), &c);
		assert_int_equal(json_array_size(p), 1);
		const char *got = text_of(p, 0, "caption");
		if (!cases[i].caption != !got || (got && strcmp(got, cases[i].caption) != 0))
			fail_msg("%s: the caption is %s, not %s", cases[i].line, got ? got : "none",
				cases[i].caption ? cases[i].caption : "none");
		json_decref(p);
		free(page);
	}
}

/* Of pictures in a row only the last has the line under them; a list item's line is its own. */
static void test_caption_owner(void **state)
{
	(void)state;
	static const char row[] =
		HEAD PARA1 "<p><img src=/1.jpg></p><p><img src=/2.jpg></p><p>图为第二张</p>" PARA2
			   "<p>▼第三张的说明</p><p><img src=/3.jpg></p>" PARA1
			   "<ul><li><img src=/4.jpg><p>甲先生</p></li><li><img "
			   "src=/5.jpg><p>乙女士</p></li></ul>"
			   "<dl><dt><img src=/6.jpg></dt><dd>丙同学在操场</dd></dl>";
	static const char *const want[] = {
		NULL, "图为第二张", "▼第三张的说明", "甲先生", "乙女士", "丙同学在操场"};
	struct wl_page_counts c;
	json_t *p = pairs_of("news", "http://x.cn/", row, sizeof row - 1, &c);
	for (size_t i = 0; i < json_array_size(p); i++) {
		const char *got = text_of(p, i, "caption");
		size_t n = (size_t)url_of(p, i)[strlen("http://x.cn/")] - '1';
		if (!want[n] != !got || (got && strcmp(got, want[n]) != 0))
			fail_msg("image %zu has the caption %s", n + 1, got ? got : "none");
	}
	json_decref(p);
}

static void test_urls(void **state)
{
	(void)state;
	static const struct {
		const char *img, *url; /* url NULL: left out */
		enum wl_page_skip skip;
	} cases[] = {
		{"<img src='a.jpg'>", "http://x.cn/n/a.jpg", 0},
		{"<img src='/a.jpg#top'>", "http://x.cn/a.jpg", 0},
		{"<img src='../a.jpg'>", "http://x.cn/a.jpg", 0},
		{"<img src='//img.cn/a.jpg'>", "http://img.cn/a.jpg", 0},
		{"<img src=' \n https://Img.CN:443/a b.jpg?x=1&amp;y=%20 '>",
			"https://img.cn/a%20b.jpg?x=1&y=%20", 0},
		{"<img src='/图.jpg'>", "http://x.cn/%e5%9b%be.jpg", 0},
		{"<img src='data:image/gif;base64,R0lG' data-src='//i.cn/real.jpg'>",
			"http://i.cn/real.jpg", 0},
		{"<img src='/img/blank.gif' data-original='/real.jpg'>", "http://x.cn/real.jpg", 0},
		{"<img src='/small.jpg' data-lazy-src='true' data-src='/large.jpg'>",
			"http://x.cn/large.jpg", 0},
		{"<img src='/s.jpg' srcset='/s.jpg 320w, /l.jpg 1280w, /m.jpg 640w'>",
			"http://x.cn/l.jpg", 0},
		{"<img src='/s.jpg' srcset='/x,y.jpg 1x,/z.jpg 2x'>", "http://x.cn/z.jpg", 0},
		{"<picture><source srcset='/p.webp 2x, /q.webp 1x'><img></picture>",
			"http://x.cn/p.webp", 0},
		{"<img alt=x>", NULL, WL_SKIP_NO_URL},
		{"<img src='/lazy/loading.gif'>", NULL, WL_SKIP_NO_URL},
		{"<img src='data:image/png;base64,AAAA'>", NULL, WL_SKIP_DATA_URL},
		{"<img src='ftp://x.cn/a.jpg'>", NULL, WL_SKIP_BAD_URL},
		{"<img src='javascript:void(0)'>", NULL, WL_SKIP_BAD_URL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wl_page_counts c;
		char *page = wl_strf(NULL, "%s%s%s%s", HEAD, PARA1, cases[i].img, PARA2);
		json_t *p = pairs_of("news", "http://x.cn/n/1.html", page, strlen(page), &c);
		const char *got = json_array_size(p) ? url_of(p, 0) : NULL;
		if (!got != !cases[i].url || (got && strcasecmp(got, cases[i].url) != 0))
			fail_msg("%s gives %s, not %s", cases[i].img, got ? got : "nothing",
				cases[i].url ? cases[i].url : "nothing");
		if (!got)
			assert_int_equal(c.skipped[cases[i].skip], 1);
		json_decref(p);
		free(page);
	}
}

static void test_page_address(void **state)
{
	(void)state;
	static const struct {
		const char *url, *head, *page_url, *image;
	} cases[] = {
		{"http://x.cn/a/b.html", "<base href='/c/'>", "http://x.cn/a/b.html",
			"http://x.cn/c/i.jpg"},
		{"http://x.cn/a/b.html", "<link rel=canonical href='http://y.cn/'>",
			"http://x.cn/a/b.html", "http://x.cn/a/i.jpg"},
		{NULL, "<link rel=canonical href='http://y.cn/d/'>", "http://y.cn/d/",
			"http://y.cn/d/i.jpg"},
		{"", "<meta property=og:url content='https://z.cn/e/f'>", "https://z.cn/e/f",
			"https://z.cn/e/i.jpg"},
		{"", "<base href='http://b.cn/g/'>", "http://b.cn/g/", "http://b.cn/g/i.jpg"},
	};
	struct wl_page_counts c;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *page =
			wl_strf(NULL, "%s%s%s<img src=i.jpg>%s", cases[i].head, HEAD, PARA1, PARA2);
		json_t *p = pairs_of("news", cases[i].url, page, strlen(page), &c);
		assert_int_equal(json_array_size(p), 1);
		assert_string_equal(url_of(p, 0), cases[i].image);
		assert_string_equal(
			json_string_value(json_object_get(json_array_get(p, 0), "page_url")),
			cases[i].page_url);
		json_decref(p);
		free(page);
	}
	static const char lost[] = HEAD PARA1 "<img src=i.jpg>" PARA2 "<img src=http://a.cn/b.jpg>";
	json_t *p = pairs_of("news", NULL, lost, sizeof lost - 1, &c);
	assert_int_equal(c.skipped[WL_SKIP_BAD_URL], 1);
	assert_int_equal(json_array_size(p), 1);
	json_decref(p);
}

static void test_furniture(void **state)
{
	(void)state;
	static const struct {
		const char *img;
		enum wl_page_skip skip;
	} cases[] = {
		{"<img src=/a.gif width=1 height=1>", WL_SKIP_TRACKER},
		{"<img src=//beacon.sina.com.cn/a.gif?x>", WL_SKIP_TRACKER},
		{"<img src=/images/sina_logo01.png>", WL_SKIP_ICON},
		{"<span class=searchIcon><img src=/a.png></span>", WL_SKIP_ICON},
		{"<img class='user-avatar' src=/a.png>", WL_SKIP_AVATAR},
		{"<div class=wx_qr><img src=/a.png></div>", WL_SKIP_QR_CODE},
		{"<img src=/a.png alt='扫描二维码关注我们'>", WL_SKIP_QR_CODE},
		{"<div id=ad_top><p><b><i><img src=/a.png></i></b></p></div>", WL_SKIP_ADVERT},
		{"<nav><img src=/a.png></nav>", WL_SKIP_CHROME},
		{"<div class=footer><ul><li><a><img src=/a.png></a></li></ul></div>",
			WL_SKIP_CHROME},
		{"<div style='display: none'><img src=/a.png></div>", WL_SKIP_CHROME},
		{"<img src=/a.png width=40>", WL_SKIP_TINY},
		{"<img src=/a.png style='max-width:20px; height:30px'>", WL_SKIP_TINY},
		{"<img src=/a.png width=960 height=90>", WL_SKIP_RATIO},
		{"<img src=/kept.png>", WL_SKIP_REPEATED},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wl_page_counts c;
		char *page = wl_strf(NULL, "%s%s<img src=/kept.png width='100%%'>%s%s%s", HEAD,
			PARA1, PARA2, PARA1, cases[i].img);
		json_t *p = pairs_of("news", "http://x.cn/", page, strlen(page), &c);
		if (c.skipped[cases[i].skip] != 1 || c.pairs != 1)
			for (int k = 0; k < WL_SKIP_COUNT; k++)
				if (c.skipped[k] || c.pairs != 1)
					fail_msg("%s is left out as %s", cases[i].img,
						c.pairs == 1
							? wl_page_skip_name((enum wl_page_skip)k)
							: "no furniture");
		json_decref(p);
		free(page);
	}
	/* A class that holds most of the page's text is no furniture, whatever its name. */
	static const char all[] =
		"<div class='comment-wrap'>" HEAD PARA1 "<img src=/a.jpg>" PARA2 "</div>";
	struct wl_page_counts c;
	json_t *p = pairs_of("news", "http://x.cn/", all, sizeof all - 1, &c);
	assert_int_equal(c.pairs, 1);
	json_decref(p);
	/* Compiled class names end in random letters. */
	static const char hash[] =
		HEAD PARA1 "<div class='box-2adK gg1x'><img src=/a.jpg></div>" PARA2;
	p = pairs_of("news", "http://x.cn/", hash, sizeof hash - 1, &c);
	assert_int_equal(c.pairs, 1);
	json_decref(p);
}

static void test_profiles(void **state)
{
	(void)state;
	static const char weibo[] = "<div class='WB_detail'><div class='WB_text W_f14'>今天的晚霞，"
				    "真是太美了！#晚霞#</div><div><img src=/w.jpg></div></div>"
				    "<div class=footer><p>关于我们，联系方式。</p></div>";
	struct wl_page_counts c;
	json_t *p = pairs_of("weibo", "http://weibo.com/1", weibo, sizeof weibo - 1, &c);
	assert_int_equal(c.pairs, 1);
	assert_string_equal(chosen(p, 0), "content");
	assert_string_equal(text_of(p, 0, "content"), "今天的晚霞，真是太美了！#晚霞#");
	json_decref(p);
	static const char baike[] =
		"<h1>诺伍德大厅酒店</h1><div class=summary-pic><img alt='诺伍德大厅酒店'"
		" src=/b.jpg></div><div class=para>诺伍德大厅酒店位于阿伯丁，是家4星级"
		"酒店。</div>";
	p = pairs_of("baike", "http://baike.cn/1", baike, sizeof baike - 1, &c);
	assert_int_equal(c.pairs, 1);
	assert_string_equal(chosen(p, 0), "sur_text");
	assert_string_equal(text_of(p, 0, "sur_text"), "诺伍德大厅酒店位于阿伯丁，是家4星级酒店。");
	/* As the public sample has it: the first sentence without its full stop. */
	assert_string_equal(text_of(p, 0, "first"), "诺伍德大厅酒店位于阿伯丁，是家4星级酒店");
	assert_string_equal(text_of(p, 0, "alt_text"), "诺伍德大厅酒店");
	json_decref(p);
	/* Nothing of what is asked for: left out and counted. */
	static const char bare[] = "<img src=/a.jpg alt='好'>";
	p = pairs_of("weibo", "http://x.cn/", bare, sizeof bare - 1, &c);
	assert_int_equal(c.skipped[WL_SKIP_NO_TEXT], 1);
	json_decref(p);
}

static void test_profile_errors(void **state)
{
	(void)state;
	static const struct {
		const char *yaml, *says;
	} cases[] = {
		{"use: [captoin]\n", "caption"},
		{"use: [caption]\nmin_side: 7000000\n", "min_side"},
		{"use: [caption]\nmax_ratio: 0.5\n", "at least 1"},
		{"use: caption\n", "list of strings"},
		{"use: []\n", "uses no kind"},
		{"use: [caption, caption]\n", "twice"},
		{"use: [caption]\nfurniture: {icons: {class: [x]}}\n", "icon"},
		{"use: [caption]\nfurniture: {icon: {klass: [x]}}\n", "class"},
		{"uses: [caption]\n", "use"},
		{"extends: nothere\nuse: [caption]\n", "nothere"},
		{"[1, 2]\n", "mapping"},
		{"use: [caption\n", "line"},
	};
	struct tmp_dir t = tmp_make();
	char path[512];
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wl_err err = WL_ERR_INIT;
		tmp_write(tmp_path(&t, "p.yaml", path), cases[i].yaml);
		assert_null(wl_profile_load(path, &err));
		assert_int_equal(err.code, WL_EUSAGE);
		if (!strstr(err.msg, cases[i].says))
			fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].yaml, err.msg,
				cases[i].says);
	}
	struct wl_err err = WL_ERR_INIT;
	assert_null(wl_profile_load("newz", &err));
	assert_int_equal(err.code, WL_EUSAGE);
	assert_non_null(strstr(err.msg, "news"));
	tmp_write(tmp_path(&t, "loop.yaml", path), "");
	char *loop = wl_strf(NULL, "extends: %s\nuse: [caption]\n", path);
	tmp_write(path, loop);
	assert_null(wl_profile_load(path, &err));
	assert_non_null(strstr(err.msg, "circle"));
	free(loop);
	/* A profile of one's own adds words and replaces kinds. */
	tmp_write(path, "extends: news\nname: mine\nuse: [alt_text]\n"
			"furniture: {advert: {class: [zhuanti]}}\n");
	struct wl_profile *p = wl_profile_load(path, &err);
	assert_non_null(p);
	assert_string_equal(wl_profile_name(p), "mine");
	wl_profile_free(p);
	static const char page[] = PARA1 "<div class=zhuanti><img src=/a.jpg alt='专题图'></div>"
					 "<div class=logo><img src=/b.jpg alt='专题图'></div>"
					 "<img src=/c.jpg alt='实验室内景'>" PARA2;
	struct wl_page_counts c;
	json_t *got = pairs_of(path, "http://x.cn/", page, sizeof page - 1, &c);
	assert_int_equal(c.skipped[WL_SKIP_ADVERT], 1);
	assert_int_equal(c.skipped[WL_SKIP_ICON], 1);
	assert_string_equal(chosen(got, 0), "alt_text");
	json_decref(got);
	tmp_remove(&t);
}

/* ---- pages that are none ---- */

static void test_bad_pages(void **state)
{
	(void)state;
	struct wl_profile *p = profile_of(NULL);
	static const char gif[] =
		"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff\x21\xf9\x04\x01\0\0\0\0,"
		"\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0;\0\0\0\0\0\0\0\1\2\3\4";
	static const struct {
		const char *bytes;
		size_t n;
		const char *says;
	} cases[] = {{"", 0, "empty"}, {gif, sizeof gif, "control characters"}};
	assert_string_equal(wl_profile_name(p), "news");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wl_err err = WL_ERR_INIT;
		struct wl_page_counts c = {0};
		struct wl_page page = {.bytes = cases[i].bytes, .n = cases[i].n};
		assert_int_equal(wl_page_pairs(p, &page, collect, NULL, &c, &err), -1);
		assert_int_equal(err.code, WL_EDATA);
		assert_non_null(strstr(err.msg, cases[i].says));
	}
	wl_profile_free(p);
	assert_true(wl_page_is_html("text/html;charset=gbk", "x", 1));
	assert_true(wl_page_is_html(NULL, "\n <!DOCTYPE html>", 17));
	assert_false(wl_page_is_html("image/jpeg", "<html>", 6));
	assert_false(wl_page_is_html(NULL, "\xff\xd8\xff", 3));
}

static int refuse(void *ctx, const struct wl_page_pair *p)
{
	(void)p;
	++*(int *)ctx;
	return -1;
}

static void test_emit_stops(void **state)
{
	(void)state;
	static const char page[] = PARA1 "<img src=/a.jpg><img src=/b.jpg>" PARA2;
	struct wl_profile *p = profile_of("news");
	struct wl_err err = WL_ERR_INIT;
	struct wl_page_counts c = {0};
	struct wl_page in = {.url = "http://x.cn/", .bytes = page, .n = sizeof page - 1};
	int calls = 0;
	assert_int_equal(wl_page_pairs(p, &in, refuse, &calls, &c, &err), -1);
	assert_int_equal(calls, 1);
	wl_profile_free(p);
}

/* ---- real pages ---- */

static size_t same_title(const json_t *want, const json_t *pairs)
{
	const char *a = json_string_value(json_object_get(want, "title"));
	const char *b = a && json_array_size(pairs) ? text_of(pairs, 0, "title") : NULL;
	if (!a || !b)
		return 0;
	while (*a && *b) {
		if (*a == ' ')
			a++;
		else if (*b == ' ')
			b++;
		else if (*a++ != *b++)
			return 0;
	}
	return !*a && !*b;
}

static void test_real_pages(void **state)
{
	(void)state;
	if (!wl_exists(HTML)) {
		print_message("SKIPPED: " HTML " is not here\n");
		skip();
	}
	struct wl_err err = WL_ERR_INIT;
	json_t *golden = wl_json_load("tests/golden/page.json", &err);
	struct wl_buf index;
	wl_buf_init(&index, 1 << 20);
	assert_int_equal(wl_read_file(HTML "/index.jsonl", &index, &err), 0);
	size_t n = 0, titles = 0, gne = 0, captions = 0, pairs = 0;
	for (char *line = index.data; *line;) {
		size_t len = strcspn(line, "\n");
		json_t *o = json_loadb(line, len, 0, NULL);
		const char *file = json_string_value(json_object_get(o, "file"));
		char path[512];
		struct wl_buf b;
		struct wl_page_counts c;
		snprintf(path, sizeof path, HTML "/%s", file);
		wl_buf_init(&b, 16 << 20);
		assert_int_equal(wl_read_file(path, &b, &err), 0);
		json_t *p = pairs_of("news", "http://unknown.example/", b.data, b.len, &c);
		assert_int_equal(c.cut, 0);
		if (c.images != json_integer_value(json_object_get(golden, file)))
			fail_msg("%s has %lld images, not %lld", file, (long long)c.images,
				(long long)json_integer_value(json_object_get(golden, file)));
		for (size_t i = 0; i < json_array_size(p); i++)
			captions += strcmp(chosen(p, i), "caption") == 0;
		pairs += json_array_size(p);
		const json_t *want = json_object_get(o, "gne_extracted");
		if (json_is_object(want) && json_array_size(p)) {
			gne++;
			titles += same_title(want, p);
			if (!same_title(want, p))
				print_message("%s: title %s\n", file, text_of(p, 0, "title"));
		}
		n++;
		json_decref(p);
		json_decref(o);
		wl_buf_release(&b);
		line += len + (line[len] == '\n');
	}
	print_message("%zu pages, %zu pairs, %zu with captions, %zu of %zu titles as GNE's\n", n,
		pairs, captions, titles, gne);
	assert_int_equal(n, 45);
	assert_true(titles + 1 >= gne);
	assert_in_range(pairs, 250, 450);
	assert_in_range(captions, 40, 150);
	wl_buf_release(&index);
	json_decref(golden);
}

/* What a reader of these pages says belongs to the picture. */
static void test_known_captions(void **state)
{
	(void)state;
	static const struct {
		const char *file, *url_part, *caption;
	} cases[] = {
		{"163_2.html", "73ba1da3c70f4003b1075552028ea51d", "姚明场边支招周琦。视频截图"},
		{"cjn_1.html", "W020201004753948187334", "雨游黄鹤楼照样开心。城市摄影队 周斌 摄"},
		{"sina_1.html", "2905625", "Gweilo镜头下的南湖公园（视频截图）"},
		{"shanxi_1.html", "W020190918234243033577",
			"图为山西品牌丝路行（南美站）启动仪式。（刘通摄）"},
		{"toutiao_4.html", "RiHqbHC87fBWyk",
			"资料图：市民在寒冷天气中出行。中新社记者 贾天勇 摄"},
		{"qq_2.html", "10362088290", "（某头部数据公司的部分报价单）"},
		{"gsc_1.html", "022253543627", "大会分会场"},
		{"thepaper_1.html", "/646/420", "共享充电宝。视觉中国 资料"},
	};
	if (!wl_exists(HTML)) {
		print_message("SKIPPED: " HTML " is not here\n");
		skip();
	}
	for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
		struct wl_err err = WL_ERR_INIT;
		struct wl_page_counts c;
		struct wl_buf b;
		char path[512];
		const char *got = NULL;
		snprintf(path, sizeof path, HTML "/%s", cases[k].file);
		wl_buf_init(&b, 16 << 20);
		assert_int_equal(wl_read_file(path, &b, &err), 0);
		json_t *p = pairs_of("news", "http://unknown.example/", b.data, b.len, &c);
		for (size_t i = 0; i < json_array_size(p); i++)
			if (strstr(url_of(p, i), cases[k].url_part))
				got = text_of(p, i, "caption");
		if (!got || strcmp(got, cases[k].caption) != 0)
			fail_msg("%s, %s: the caption is %s", cases[k].file, cases[k].url_part,
				got ? got : "none");
		json_decref(p);
		wl_buf_release(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_caption_lines),
		cmocka_unit_test(test_caption_owner),
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_page_address),
		cmocka_unit_test(test_furniture),
		cmocka_unit_test(test_profiles),
		cmocka_unit_test(test_profile_errors),
		cmocka_unit_test(test_bad_pages),
		cmocka_unit_test(test_emit_stops),
		cmocka_unit_test(test_real_pages),
		cmocka_unit_test(test_known_captions),
	};
	return cmocka_run_group_tests_name("page", tests, NULL, NULL);
}
