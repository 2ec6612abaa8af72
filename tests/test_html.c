/* Reports: escaping, tables, charts that survive NaN, images, atomic saving. */
#include "ops/html.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static size_t count(const char *text, const char *part)
{
	size_t n = 0;

	for (; (text = strstr(text, part)); text += strlen(part))
		n++;
	return n;
}

static void escapes(void **state)
{
	struct wl_html h;

	(void)state;
	OK(wl_html_init(&h, "<title> & \"co\"", &err));
	OK(wl_html_para(&h, "</p><script>alert('x')</script>", &err));
	OK(wl_html_image(&h, "abcd", 4, "image/jpeg", "\"><b>", 30, &err));
	assert_null(strstr(h.b.data, "<script"));
	assert_null(strstr(h.b.data, "<b>"));
	assert_non_null(strstr(h.b.data, "<title>&lt;title&gt; &amp; &quot;co&quot;</title>"));
	assert_non_null(strstr(h.b.data, "&lt;script&gt;alert(&#39;x&#39;)"));
	wl_html_release(&h);
	wl_html_release(&h);
}

static void base64_known_answers(void **state)
{
	/* RFC 4648, section 10. */
	static const char *const known[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
		{"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"}};

	(void)state;
	for (size_t i = 0; i < 7; i++) {
		struct wl_html h;
		char want[40];

		OK(wl_html_init(&h, "t", &err));
		OK(wl_html_image(&h, known[i][0], i, "image/png", "", 0, &err));
		snprintf(want, sizeof want, "base64,%s\"", known[i][1]);
		assert_non_null(strstr(h.b.data, want));
		wl_html_release(&h);
	}
}

static void table_aligns_numbers(void **state)
{
	static const char *const cells[] = {"name", "R@1", "a<b", "12.5 %", "c", "-"};
	struct wl_html h;

	(void)state;
	OK(wl_html_init(&h, "t", &err));
	OK(wl_html_table(&h, 3, 2, cells, "caption", &err));
	assert_non_null(strstr(h.b.data, "<th>name</th><th class=\"n\">R@1</th>"));
	assert_non_null(strstr(h.b.data, "<td>a&lt;b</td><td class=\"n\">12.5 %</td>"));
	wl_html_release(&h);
}

static void chart(void **state)
{
	double x[5000], y[5000], flat[2] = {3, 3}, xs[2] = {0, 1};
	struct wl_series s[] = {
		{"loss", x, y, 5000}, {"flat", xs, flat, 2}, {"none", NULL, NULL, 0}};
	struct wl_html h;

	(void)state;
	for (size_t i = 0; i < 5000; i++) {
		x[i] = (double)i;
		y[i] = i == 2000 ? NAN : i == 0 ? INFINITY : exp(-(double)i / 500);
	}
	for (int log_y = 0; log_y < 2; log_y++) {
		OK(wl_html_init(&h, "t", &err));
		OK(wl_html_chart(&h, "Loss", "step", "loss", s, 3, log_y, &err));
		OK(wl_html_chart(&h, "Empty", "x", "y", s + 2, 1, log_y, &err));
		OK(wl_html_chart(&h, "Flat", "x", "y", s + 1, 1, log_y, &err));
		assert_int_equal(count(h.b.data, "<svg"), 3);
		assert_int_equal(count(h.b.data, "<path"), 5);
		/* No coordinate is nan or inf. */
		assert_null(strstr(h.b.data, "nan"));
		assert_null(strstr(h.b.data, "inf"));
		assert_true(count(h.b.data, "class=\"g\"") >= 12);
		/* 5,000 points are thinned, and the two gaps lift the pen. */
		assert_in_range(count(h.b.data, "L"), 1000, 1600);
		assert_int_equal(count(h.b.data, "M"), 1 + 2 + 2);
		wl_html_release(&h);
	}
}

static void saves(void **state)
{
	struct tmp_dir t = tmp_make();
	struct wl_html h;
	char path[512], *text;

	(void)state;
	OK(wl_html_init(&h, "报告", &err));
	OK(wl_html_save(&h, tmp_path(&t, "r.html", path), &err));
	text = tmp_read(path, NULL);
	assert_non_null(strstr(text, "<h1>报告</h1>"));
	assert_non_null(strstr(text, "</html>\n"));
	/* Self-contained: no script and nothing fetched from elsewhere. */
	assert_null(strstr(text, "<script"));
	assert_null(strstr(text, "http"));
	free(text);
	FAILS(WL_EFAIL, "/nowhere/r.html", wl_html_save(&h, "/nowhere/r.html", &err));
	wl_html_release(&h);
	tmp_remove(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(escapes),
		cmocka_unit_test(base64_known_answers),
		cmocka_unit_test(table_aligns_numbers),
		cmocka_unit_test(chart),
		cmocka_unit_test(saves),
	};

	return cmocka_run_group_tests_name("html", tests, NULL, NULL);
}
