/*
 * Addresses: what url.h promises of single ones, and that those which are taken without libcurl's
 * grammar come out as libcurl makes them.
 */
#include "ingest/url.h"

#include "ops/hash.h"
#include "tests/support/cm.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static struct wl_err err;

static void test_forms(void **state)
{
	static const struct {
		const char *base, *text, *want; /* want NULL: refused */
	} cases[] = {{NULL, "HTTP://EXAMPLE.cn:80/A?b#c", "http://example.cn/A?b"},
		{NULL, "//i.cn/x.jpg", "https://i.cn/x.jpg"},
		{NULL, " http://i.cn \n", "http://i.cn/"},
		{NULL, "http://i.cn/a b/\xe4\xb8\xad.jpg", "http://i.cn/a%20b/%e4%b8%ad.jpg"},
		{NULL, "http://i.cn/a/../b.jpg", "http://i.cn/b.jpg"},
		{NULL, "ftp://i.cn/a", NULL}, {NULL, "mailto:a@b.cn", NULL}, {NULL, "", NULL},
		{"http://n.cn/a/b.html?q=/x", "c.jpg", "http://n.cn/a/c.jpg"},
		{"http://n.cn/a/b.html", "/c.jpg", "http://n.cn/c.jpg"},
		{"https://n.cn/a/b.html", "//i.cn/c.jpg", "https://i.cn/c.jpg"},
		{"http://n.cn/a/b.html", "../c.jpg", "http://n.cn/c.jpg"},
		{"http://n.cn/a/b.html", "c.jpg#x", "http://n.cn/a/c.jpg"},
		{"http://n.cn/a/b.html", "?p=1", "http://n.cn/a/b.html?p=1"}};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wl_url u;
		err = (struct wl_err)WL_ERR_INIT;
		int ret = cases[i].base ? wl_url_resolve(&u, cases[i].base, cases[i].text, &err)
					: wl_url_parse(&u, cases[i].text, &err);
		if (!cases[i].want) {
			if (ret == 0)
				fail_msg("%s is taken as %s", cases[i].text, u.text);
			assert_int_equal(err.code, WL_EDATA);
			continue;
		}
		if (ret < 0)
			fail_msg("%s: %s", cases[i].text, err.msg);
		assert_string_equal(u.text, cases[i].want);
		wl_url_release(&u);
	}
}

/* With what stands before it; "" when there is none. */
static char *part(CURLU *h, CURLUPart what, const char *before)
{
	char *v = NULL, *copy = calloc(1, 1024);
	assert_non_null(copy);
	if (!curl_url_get(h, what, &v, CURLU_NO_DEFAULT_PORT))
		snprintf(copy, 1024, "%s%s", before, v);
	curl_free(v);
	return copy;
}

/* What libcurl makes of it, user, fragment and default port left out, the host in lower case;
 * false: it refuses. */
static bool by_curl(const char *base, const char *text, char out[2048])
{
	const unsigned flags = CURLU_URLENCODE | CURLU_NON_SUPPORT_SCHEME;
	CURLU *h = curl_url();
	assert_non_null(h);
	bool ok = (!base || !curl_url_set(h, CURLUPART_URL, base, flags)) &&
		  !curl_url_set(h, CURLUPART_URL, text, flags);
	char *scheme = part(h, CURLUPART_SCHEME, ""), *host = part(h, CURLUPART_HOST, ""),
	     *port = part(h, CURLUPART_PORT, ":"), *path = part(h, CURLUPART_PATH, ""),
	     *query = part(h, CURLUPART_QUERY, "?");
	for (char *p = host; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	snprintf(out, 2048, "%s://%.400s%.100s%.700s%.700s", scheme, host, port, path, query);
	ok = ok && strncasecmp(scheme, "http", 4) == 0;
	free(scheme);
	free(host);
	free(port);
	free(path);
	free(query);
	curl_url_cleanup(h);
	return ok;
}

/* Addresses of pieces that matter, one after the other at random. */
static void make(char *out, uint64_t seed, bool absolute)
{
	static const char *const hosts[] = {"http://a.cn", "https://img1.b-c.com.cn",
		"http://1.2.3", "http://a.1cn", "http://a..cn", "http://-a.cn", "http://x",
		"//i.cn", "http://a.cn.", "https://xn--fiq.cn", "http://0x7f.1", "http://a_b.cn"};
	static const char *const parts[] = {"/", "a", "B", "7", ".", "..", "/.", "/..", "?", "&x=1",
		"=", ":", ";", ",", "@", "!", "%", "%2f", "%E4", "+", "*", "(", ")", "~", "-", "_",
		"//", "/a/b", ".jpg", "?a=/b/../c", "w:1", "$", "'", " "};
	size_t n = (size_t)(wl_rand64(seed, 0, 0) % 7);
	*out = '\0';
	if (absolute)
		strcat(out, hosts[wl_rand64(seed, 0, 1) % (sizeof hosts / sizeof *hosts)]);
	for (size_t i = 0; i < n; i++)
		strcat(out, parts[wl_rand64(seed, 1, i) % (sizeof parts / sizeof *parts)]);
}

static void test_as_curl(void **state)
{
	size_t same = 0;
	(void)state;
	for (uint64_t seed = 0; seed < 60000; seed++) {
		char base[256], text[256], want[2048];
		struct wl_url u;
		make(base, 2 * seed, true);
		make(text, 2 * seed + 1, seed % 4 == 0);
		size_t n = strlen(text); /* blanks around an address are left out first */
		bool alone = seed % 8 == 4 && *text != '/' && text[n - 1] != ' ';
		if (!alone && !by_curl(NULL, base, want))
			continue; /* a base is always an address that was taken */
		bool taken = by_curl(alone ? NULL : base, text, want);
		err = (struct wl_err)WL_ERR_INIT;
		int ret = alone ? wl_url_parse(&u, text, &err)
				: wl_url_resolve(&u, base, text, &err);
		if (ret == 0 && (!taken || strcmp(want, u.text) != 0))
			fail_msg("\"%s\" over \"%s\" is %s, libcurl's %s", text,
				alone ? "" : base, u.text, taken ? want : "none");
		if (ret == 0) {
			char whole[1024];
			snprintf(whole, sizeof whole, "%s%s", u.site, u.path);
			assert_string_equal(u.text, whole);
			same++;
			wl_url_release(&u);
		}
	}
	assert_true(same > 20000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_as_curl),
	};
	return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
