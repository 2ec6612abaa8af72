/*
 * What a page is made of before it is a tree, and the tree: skim.h's and dom.h's promises, on pages
 * made here, hostile ones, and the real ones of ../shared/data/web/html.
 */
#include "ingest/dom.h"

#include "ingest/page.h"
#include "ops/file.h"
#include "tests/support/cm.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HTML "../shared/data/web/html"

/* ---- hostile pages ---- */

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static char *repeated(const char *unit, size_t times, const char *tail)
{
	size_t n = strlen(unit);
	char *s = malloc(n * times + strlen(tail) + 1), *w = s;
	assert_non_null(s);
	for (size_t i = 0; i < times; i++, w += n)
		memcpy(w, unit, n);
	memcpy(w, tail, strlen(tail) + 1);
	return s;
}

static int ignore(void *ctx, const struct wl_page_pair *p)
{
	(void)ctx;
	(void)p;
	return 0;
}

static void test_hostile(void **state)
{
	(void)state;
	static const char *const units[] = {"<div>", "<b><p>", "<font color=1>x<p>", "<table><td>",
		"<a href=x><div>", "<svg><g>", "<ul><li>", "<button><p>", "<select><option>",
		"</p>", "<!--", "<![CDATA[", "<x y=\"", "<template>", "&#x41;", "<div></b>",
		"<i><div></i>", "<frameset>", "<script>", "<img src=a", "<math><mi>", "<dd><dl>"};
	struct wl_err err = WL_ERR_INIT;
	struct wl_profile *p = wl_profile_load("news", &err);
	assert_non_null(p);
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		struct wl_page_counts c = {0};
		char *s = repeated(units[i], 20000, "<img src=http://a.cn/a.jpg>");
		struct wl_page page = {.url = "http://x.cn/", .bytes = s, .n = strlen(s)};
		double start = now();
		err = (struct wl_err)WL_ERR_INIT;
		if (wl_page_pairs(p, &page, ignore, NULL, &c, &err) < 0)
			assert_int_equal(err.code, WL_EDATA);
		/* Far from quadratic; seconds would be. */
		if (now() - start > 5)
			fail_msg("20,000 times %s took %.1f s", units[i], now() - start);
		free(s);
	}
	wl_profile_free(p);
}

/* Where a page is cut so that no more than `depth` elements are open. */
static size_t cut_of(const char *s, size_t depth)
{
	struct wl_skim k = {0};
	struct wl_err err = WL_ERR_INIT;
	assert_int_equal(wl_skim_page(&k, s, strlen(s), depth, false, &err), 0);
	size_t at = k.cut_at;
	wl_skim_release(&k);
	return at;
}

/* What nests legitimately is not cut, what does not is. */
static void test_depth(void **state)
{
	(void)state;
	char *s = repeated("<div><p>a<p>b<p>c<ul><li>1<li>2</ul></div>", 3000, "");
	assert_int_equal(cut_of(s, 20), strlen(s));
	free(s);
	s = repeated("<div>", 600, "");
	assert_int_equal(cut_of(s, 512), 512 * 5);
	free(s);
	static const char raw[] =
		"<script>'<div>'+\"</div\"</script><!-- <div> --><div a='>'></div>";
	assert_int_equal(cut_of(raw, 1), sizeof raw - 1);
}

/* ---- what is left out before parsing ---- */

static void small(const char *page, const char *want)
{
	struct wl_skim k = {0};
	struct wl_err err = WL_ERR_INIT;
	assert_int_equal(wl_skim_page(&k, page, strlen(page), 512, false, &err), 0);
	if (strcmp(k.text.data, want) != 0)
		fail_msg("%s becomes %s, not %s", page, k.text.data, want);
	wl_skim_release(&k);
}

static void test_skim(void **state)
{
	(void)state;
	small("<!DOCTYPE html><p onclick='x>y' class=a>b</p>",
		"<!DOCTYPE html><p class=\"a\">b</p>");
	small("<script>if (a<b) '</scr'</script >c", "c");
	small("a<!-- x --><!--> b --><? x ?>c</ d>e", "a b -->ce");
	small("<img src='a\"b' alt=c/d x=\"'\"/>", "<img src='a\"b' alt=\"c/d\" x=\"'\" />");
	small("1 < 2 <3 <a", "1 < 2 <3 ");
	small("<p>\n\n  <b>", "<p>\n<b>");
	small("<title>a<b></title>", "<title>a<b></title>");
	small("x\xef\xa3\xb0"
	      "0\xef\xa3\xb1",
		"x\xef\xbf\xbd"
		"0\xef\xbf\xbd");
	small("<p>a long run of text, longer than a mark</p>", "<p>\xef\xa3\xb0"
							       "0\xef\xa3\xb1</p>");
	small("<div style='color:red'><div style='display:none'>",
		"<div><div style=\"display:none\">");
}

/* The elements in order, with what of them is read, and all text. */
static void outline(const struct wl_dom *d, const wl_node *n, struct wl_buf *out)
{
	static const char *const attrs[] = {"class", "id", "src", "alt", "data-src"};
	if (wl_node_is_text(n)) {
		const char *at = wl_node_text(n);
		struct wl_span piece;
		while (wl_skim_piece(&d->skim, &at, &piece))
			for (size_t i = 0; i < piece.n; i++)
				if (!strchr(" \t\r\n\f", piece.p[i]))
					assert_int_equal(wl_buf_putc(out, piece.p[i], NULL), 0);
		return;
	}
	if (!wl_node_is_element(n))
		return;
	myhtml_tag_id_t tag = n->tag_id;
	if (tag == MyHTML_TAG_SCRIPT || tag == MyHTML_TAG_STYLE || tag == MyHTML_TAG_TEXTAREA ||
		tag == MyHTML_TAG_IFRAME || tag == MyHTML_TAG_XMP || tag == MyHTML_TAG_NOFRAMES)
		return;
	const char *name = myhtml_tag_name_by_id(d->tree, tag, NULL);
	assert_int_equal(wl_buf_printf(out, NULL, "\n<%s", name), 0);
	for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++) {
		const char *v = wl_dom_attr(n, attrs[i]);
		if (v && (i < 2 || tag == MyHTML_TAG_IMG))
			assert_int_equal(wl_buf_printf(out, NULL, " %s=%s", attrs[i], v), 0);
	}
	assert_int_equal(wl_buf_putc(out, '>', NULL), 0);
	for (const wl_node *c = n->child; c; c = c->next)
		outline(d, c, out);
	assert_int_equal(wl_buf_printf(out, NULL, "</%s>", name), 0);
}

/* The tree of the small page is that of the whole page, on every real page. */
static void test_same_tree(void **state)
{
	(void)state;
	struct wl_names names = {0};
	struct wl_err err = WL_ERR_INIT;
	size_t whole = 0, little = 0;
	if (!wl_exists(HTML))
		SKIP(HTML " is not here");
	assert_int_equal(wl_list_dir(HTML, "*.html", &names, &err), 0);
	for (size_t i = 0; i < names.n; i++) {
		char path[512];
		struct wl_buf b, x, y;
		struct wl_dom d = {0}, all = {0};
		snprintf(path, sizeof path, HTML "/%s", names.v[i]);
		wl_buf_init(&b, 16 << 20);
		wl_buf_init(&x, 64 << 20);
		wl_buf_init(&y, 64 << 20);
		assert_int_equal(wl_read_file(path, &b, &err), 0);
		assert_int_equal(wl_dom_parse(&d, b.data, b.len, &err), 0);
		assert_int_equal(wl_dom_parse_all(&all, b.data, b.len, &err), 0);
		outline(&d, d.root, &x);
		outline(&all, all.root, &y);
		size_t at = 0;
		while (at < x.len && at < y.len && x.data[at] == y.data[at])
			at++;
		if (at != x.len || at != y.len)
			fail_msg("%s: from byte %zu on: %.80s, not %.80s", names.v[i], at,
				wl_buf_str(&x) + (at > 40 ? at - 40 : 0),
				wl_buf_str(&y) + (at > 40 ? at - 40 : 0));
		whole += b.len;
		little += d.skim.text.len;
		wl_dom_release(&d);
		wl_dom_release(&all);
		wl_buf_release(&b);
		wl_buf_release(&x);
		wl_buf_release(&y);
	}
	print_message("%zu bytes of pages, %zu to parse\n", whole, little);
	assert_true(little < whole / 2);
	wl_names_release(&names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_skim),
		cmocka_unit_test(test_same_tree),
	};
	return cmocka_run_group_tests_name("dom", tests, NULL, NULL);
}
