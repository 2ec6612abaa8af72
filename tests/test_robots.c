/* What a crawler may do: robots.txt (the cases of RFC 9309 among them), X-Robots-Tag, addresses,
 * and how URLs are written. */
#include "ingest/csv.h"
#include "ingest/netaddr.h"
#include "ingest/robots.h"
#include "ingest/url.h"
#include "tests/support/cm.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static struct wl_err err;

static bool allows(const char *rules, const char *token, const char *path)
{
	struct wl_robots *r = wl_robots_parse(rules, strlen(rules), token, &err);
	assert_non_null(r);
	bool yes = wl_robots_allows(r, path);
	wl_robots_free(r);
	return yes;
}

#define ALLOWED(rules, path)                                                                       \
	do {                                                                                       \
		if (!allows(rules, "wenlan-ingest", path))                                         \
			fail_msg("%s is forbidden by: %s", path, rules);                           \
	} while (0)
#define FORBIDDEN(rules, path)                                                                     \
	do {                                                                                       \
		if (allows(rules, "wenlan-ingest", path))                                          \
			fail_msg("%s is allowed by: %s", path, rules);                             \
	} while (0)

static void test_groups(void **state)
{
	static const char mine[] = "User-agent: *\nDisallow: /\nUser-Agent: WenLan-Ingest/2.0\n"
				   "Disallow: /x\n";
	static const char shared[] = "user-agent: a\nuser-agent: wenlan-ingest\nuser-agent: b\n"
				     "disallow: /x\n\nuser-agent: c\ndisallow: /y";
	static const char twice[] = "User-agent: wenlan-ingest\nDisallow: /a\nUser-agent: other\n"
				    "Disallow: /\nUser-agent: wenlan-ingest\nDisallow: /b\n";
	(void)state;
	ALLOWED(mine, "/y");
	FORBIDDEN(mine, "/x1");
	FORBIDDEN(shared, "/x");
	ALLOWED(shared, "/y");
	/* Groups for one crawler are one group. */
	FORBIDDEN(twice, "/a");
	FORBIDDEN(twice, "/b");
	ALLOWED(twice, "/c");
	/* A name that only begins like ours is not ours. */
	ALLOWED("User-agent: wenlan\nDisallow: /", "/");
	ALLOWED("User-agent: wenlan-ingester\nDisallow: /", "/");
	/* A group for us without rules allows what everyone else must not have. */
	ALLOWED("User-agent: wenlan-ingest\nDisallow:\n\nUser-agent: *\nDisallow: /\n", "/a");
	/* Other lines do not part a group, rules before any group are nobody's. */
	FORBIDDEN("User-agent: *\nSitemap: http://x/s.xml\nDisallow: /a\n", "/a");
	ALLOWED("Disallow: /\n", "/a");
	ALLOWED("", "/a");
	assert_true(wl_robots_allows(NULL, "/a"));
	FORBIDDEN("User-agent: *\nDisallow: /\n", "/");
	ALLOWED("User-agent: *\nDisallow: /\n", "/robots.txt");
}

static void test_lines(void **state)
{
	(void)state;
	FORBIDDEN("\xef\xbb\xbfUser-agent: *\r\nDisallow: /a\r\n", "/a");
	FORBIDDEN("User-agent: *\rDisallow: /a\r", "/a");
	FORBIDDEN("  user-AGENT \t:  * # all\n\t DISALLOW:/a#comment", "/a");
	ALLOWED("User-agent: *\nDisallow: /a # /b\n", "/b");
	ALLOWED("User-agent: *\n# Disallow: /a\n", "/a");
	ALLOWED("User-agent *\nDisallow /a\n", "/a");
	/* Any bytes. */
	static const char odd[] = "\0\xff:\0\n::::\nUser-agent:\nallow:";
	struct wl_robots *r = wl_robots_parse(odd, sizeof odd - 1, "x", &err);
	assert_non_null(r);
	assert_true(wl_robots_allows(r, "/"));
	wl_robots_free(r);
}

static void test_longest_match(void **state)
{
	static const char r1[] = "User-agent: *\nDisallow: /a/\nAllow: /a/b.jpg\n";
	static const char r2[] = "User-agent: *\nAllow: /a\nDisallow: /a\n";
	/* RFC 9309, 5.2. */
	static const char r3[] = "User-agent: *\nAllow: /example/page/\n"
				 "Disallow: /example/page/disallowed.gif\n";
	(void)state;
	FORBIDDEN(r1, "/a/c.jpg");
	ALLOWED(r1, "/a/b.jpg");
	ALLOWED(r2, "/a");
	ALLOWED(r3, "/example/page/x.gif");
	FORBIDDEN(r3, "/example/page/disallowed.gif");
	FORBIDDEN("User-agent: *\nDisallow: /\nAllow: /$\n", "/a");
	ALLOWED("User-agent: *\nDisallow: /\nAllow: /$\n", "/");
}

static void test_wildcards(void **state)
{
	static const struct {
		const char *pattern, *path;
		bool hit;
	} cases[] = {{"/fish", "/fish.html", true}, {"/fish", "/Fish", false},
		{"/fish*", "/fishheads/y", true}, {"/*.php", "/a/b.php?x", true},
		{"/*.php", "/windows.PHP", false}, {"/*.php$", "/a.php", true},
		{"/*.php$", "/a.php?x", false}, {"/*.php$", "/a.php.php", true},
		{"/fish*.php", "/fish/salmon.php5", true}, {"/fish*.php", "/x/fish.php", false},
		{"*", "/anything", true}, {"$", "/", false}, {"*$", "/a", true},
		{"/a*b*c$", "/axxbyyc", true}, {"/a*b*c$", "/axxbyycd", false},
		{"/a*bc$", "/abcbc", true}, {"/a**b", "/ab", true}, {"/a$b", "/a$b", true},
		{"/aa$", "/a", false}, {"/a*aa$", "/aa", false}, {"/a*aa$", "/aaa", true},
		/* Escapes: one normal form (RFC 9309, 2.2.2). */
		{"/foo/bar?baz=https%3A%2F%2Fx", "/foo/bar?baz=https%3a%2f%2Fx", true},
		{"/foo/bar/\xe3\x83\x84", "/foo/bar/%E3%83%84", true},
		{"/foo/bar/%E3%83%84", "/foo/bar/\xe3\x83\x84", true},
		{"/foo/bar/%62%61%7A", "/foo/bar/baz", true}, {"/a%2Fb", "/a/b", false},
		{"/a%", "/a%", true}, {"/a%2", "/a%2x", true}};
	char rules[256];
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		snprintf(rules, sizeof rules, "User-agent: *\nDisallow: %s\n", cases[i].pattern);
		if (allows(rules, "x", cases[i].path) == cases[i].hit)
			fail_msg("%s %s %s", cases[i].pattern,
				cases[i].hit ? "does not match" : "matches", cases[i].path);
	}
}

/* A file made to be slow is not. */
static void test_hostile(void **state)
{
	size_t n = WL_ROBOTS_MAX_BYTES;
	char *rules = malloc(n + 1), path[4096] = "/";
	(void)state;
	assert_non_null(rules);
	size_t at = (size_t)sprintf(rules, "User-agent: *\n");
	while (at + 64 < n)
		at += (size_t)sprintf(rules + at, "Disallow: /*a*a*a*a*a*a*a*a*a*b$\n");
	memset(path + 1, 'a', sizeof path - 2);
	path[sizeof path - 1] = '\0';
	ALLOWED(rules, path);
	/* Only so much of a file is read. */
	memset(rules, '\n', n);
	strcpy(rules, "User-agent: *\n");
	strcpy(rules + n - 20, "\nDisallow: /a\n");
	struct wl_robots *r = wl_robots_parse(rules, n - 6, "x", &err);
	assert_non_null(r);
	assert_false(wl_robots_allows(r, "/a"));
	wl_robots_free(r);
	free(rules);
}

static void test_delay_and_token(void **state)
{
	char token[WL_ROBOTS_TOKEN];
	(void)state;
	static const char slow[] = "User-agent: *\nCrawl-delay: 1.5\nDisallow: /a\n";
	static const char slower[] = "User-agent: *\nCrawl-delay: 1e9\n";
	struct wl_robots *r = wl_robots_parse(slow, sizeof slow - 1, "x", &err);
	assert_non_null(r);
	assert_int_equal(wl_robots_delay_ms(r), 1500);
	wl_robots_free(r);
	r = wl_robots_parse(slower, sizeof slower - 1, "x", &err);
	assert_int_equal(wl_robots_delay_ms(r), 60000);
	wl_robots_free(r);
	wl_robots_token("Wenlan-Ingest/1.0 (+mailto:x)", token);
	assert_string_equal(token, "wenlan-ingest");
	wl_robots_token("123", token);
	assert_string_equal(token, "");
}

static void test_tag(void **state)
{
	static const struct {
		const char *value, *word;
	} cases[] = {{"noai", "noai"}, {"NoImageAI", "noimageai"}, {"nosnippet, noai", "noai"},
		{"all", NULL}, {"", NULL}, {"noaiming", NULL}, {"noindex", "noindex"},
		{"none", "none"}, {"otherbot: noai", NULL}, {"wenlan-ingest: noai", "noai"},
		{"otherbot: noai, noindex", NULL}, {"otherbot: none, wenlan-ingest: noai", "noai"},
		{"unavailable_after: 25 Jun 2010 15:00:00 PST, noai", "noai"},
		{"max-image-preview:large", NULL}, {" , ,noai ,", "noai"}};
	char word[WL_ROBOTS_TOKEN];
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bool hit = wl_robots_tag_denies(
			cases[i].value, strlen(cases[i].value), "wenlan-ingest", word);
		if (hit != (cases[i].word != NULL) || (hit && strcmp(word, cases[i].word) != 0))
			fail_msg("\"%s\": %s", cases[i].value, hit ? word : "not denied");
	}
}

static void address(const char *text, struct sockaddr_storage *a, socklen_t *n)
{
	struct sockaddr_in *in = (struct sockaddr_in *)a;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)a;
	memset(a, 0, sizeof *a);
	if (strchr(text, ':')) {
		in6->sin6_family = AF_INET6;
		assert_int_equal(inet_pton(AF_INET6, text, &in6->sin6_addr), 1);
		*n = sizeof *in6;
	} else {
		in->sin_family = AF_INET;
		assert_int_equal(inet_pton(AF_INET, text, &in->sin_addr), 1);
		*n = sizeof *in;
	}
}

static void test_addresses(void **state)
{
	static const char *const inside[] = {"0.0.0.0", "10.1.2.3", "100.64.0.1", "100.127.255.255",
		"127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.0.0.1", "192.0.2.9", "192.168.0.1", "198.18.0.1", "198.19.255.255",
		"198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
		"64:ff9b::7f00:1", "fc00::1", "fd12::1", "fe80::1", "ff02::1", "2001:db8::1",
		"2001::1", "2002:7f00:1::", "2002:a00:1::", "3fff::1", "100::1", "5f00::1"};
	static const char *const outside[] = {"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.0.1",
		"100.128.0.1", "126.255.255.255", "128.0.0.1", "169.253.0.1", "172.15.0.1",
		"172.32.0.1", "192.0.1.1", "192.167.0.1", "198.17.0.1", "198.20.0.1", "223.255.0.1",
		"::ffff:8.8.8.8", "64:ff9b::808:808", "2400:3200::1", "2001:4860::8888",
		"2606:4700::1", "2002:808:808::"};
	struct sockaddr_storage a;
	socklen_t n;
	(void)state;
	for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
		address(inside[i], &a, &n);
		if (wl_addr_is_public((struct sockaddr *)&a, n))
			fail_msg("%s is public", inside[i]);
	}
	for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
		address(outside[i], &a, &n);
		if (!wl_addr_is_public((struct sockaddr *)&a, n))
			fail_msg("%s is not public", outside[i]);
	}
	a.ss_family = AF_UNIX;
	assert_false(wl_addr_is_public((struct sockaddr *)&a, sizeof a));
}

static void test_networks(void **state)
{
	static const struct {
		const char *nets, *a;
		bool in;
	} cases[] = {{"10.0.0.0/8", "10.9.9.9", true}, {"10.0.0.0/8", "11.0.0.1", false},
		{"10.1.0.0/15,::1", "10.0.255.1", true}, {"10.2.0.0/15", "10.1.0.1", false},
		{"1.2.3.4, ::1", "::1", true}, {"fd00::/8", "fdff::1", true},
		{"fd00::/9", "fdff::1", false}, {"0.0.0.0/0", "9.9.9.9", true},
		{"0.0.0.0/0", "::1", false}, {"", "10.0.0.1", false}};
	static const char *const bad[] = {
		"10", "10.0.0.0/33", "10.0.0.0/x", "host", "::1/129", "10.0.0.0/8/9", "1.2.3.4/"};
	struct sockaddr_storage a;
	struct wl_nets nets;
	socklen_t n;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		OK(wl_nets_parse(&nets, cases[i].nets, &err));
		address(cases[i].a, &a, &n);
		if (wl_nets_has(&nets, (struct sockaddr *)&a, n) != cases[i].in)
			fail_msg("%s in %s: not %d", cases[i].a, cases[i].nets, cases[i].in);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		FAILS(WL_EUSAGE, "is no network", wl_nets_parse(&nets, bad[i], &err));
}

static void test_urls(void **state)
{
	static const struct {
		const char *in, *out, *site, *host;
	} good[] = {{"http://X.Com", "http://x.com/", "http://x.com", "x.com"},
		{"HTTPS://x.com:443/a?b#c", "https://x.com/a?b", "https://x.com", "x.com"},
		{"http://x.com:8080/a", "http://x.com:8080/a", "http://x.com:8080", "x.com"},
		{" //x.com/a b \r\n", "https://x.com/a%20b", "https://x.com", "x.com"},
		{"http://u:p@x.com/a", "http://x.com/a", "http://x.com", "x.com"},
		{"http://x.com/图.jpg", "http://x.com/%e5%9b%be.jpg", "http://x.com", "x.com"},
		{"http://x.com/a/../b", "http://x.com/b", "http://x.com", "x.com"},
		{"http://[::1]:80/x", "http://[::1]/x", "http://[::1]", "::1"}};
	static const char *const bad[] = {"", " ", "x.jpg", "file:///etc/passwd",
		"data:image/png,x", "ftp://x.com/a", "javascript:alert(1)", "http://",
		"gopher://x/", "http://x.com:99999/", "http://a b/"};
	struct wl_url u;
	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		OK(wl_url_parse(&u, good[i].in, &err));
		if (strcasecmp(u.text, good[i].out) != 0)
			fail_msg("%s -> %s, expected %s", good[i].in, u.text, good[i].out);
		assert_string_equal(u.site, good[i].site);
		assert_string_equal(u.host, good[i].host);
		/* What is normal stays. */
		struct wl_url again;
		OK(wl_url_parse(&again, u.text, &err));
		assert_string_equal(again.text, u.text);
		wl_url_release(&again);
		wl_url_release(&u);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (wl_url_parse(&u, bad[i], &err) == 0)
			fail_msg("\"%s\" is %s", bad[i], u.text);
		else
			assert_int_equal(err.code, WL_EDATA);
	OK(wl_url_resolve(&u, "http://x.com/a/b?c", "../d?e", &err));
	assert_string_equal(u.text, "http://x.com/d?e");
	wl_url_release(&u);
	OK(wl_url_resolve(&u, "http://x.com/a", "//y.com", &err));
	assert_string_equal(u.text, "http://y.com/");
	wl_url_release(&u);
	FAILS(WL_EDATA, "neither http", wl_url_resolve(&u, "http://x.com/a", "file:///x", &err));
}

static void test_csv(void **state)
{
	static const struct {
		const char *line;
		char sep;
		size_t n;
		const char *v[4];
	} cases[] = {{"a,b,c", ',', 3, {"a", "b", "c"}}, {"", ',', 1, {""}},
		{"a,,\r", ',', 3, {"a", "", ""}}, {"\"a,b\",c", ',', 2, {"a,b", "c"}},
		{"\"a\"\"b\",\"c\nd\"", ',', 2, {"a\"b", "c\nd"}},
		{"a\"b,c", ',', 2, {"a\"b", "c"}}, {"\"a\tb\"\tc", '\t', 3, {"\"a", "b\"", "c"}},
		{"\"open,x", ',', 1, {"open,x"}}};
	static const char *const names[] = {"link", "URL", NULL};
	struct wl_arena mem = WL_ARENA_INIT;
	struct wl_csv_row row;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		OK(wl_csv_split(
			&row, cases[i].line, strlen(cases[i].line), cases[i].sep, &mem, &err));
		assert_int_equal(row.n, cases[i].n);
		for (size_t k = 0; k < row.n; k++)
			assert_string_equal(row.v[k], cases[i].v[k]);
	}
	OK(wl_csv_split(&row, "id,url,caption", 14, ',', &mem, &err));
	assert_int_equal(wl_csv_column(&row, names), 1);
	wl_arena_release(&mem);
	assert_true(wl_csv_is_open("a,\"b", 4, false));
	assert_false(wl_csv_is_open("b\",c", 4, true));
	assert_false(wl_csv_is_open("\"a\"\"b\"", 6, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_groups),
		cmocka_unit_test(test_lines), cmocka_unit_test(test_longest_match),
		cmocka_unit_test(test_wildcards), cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_delay_and_token), cmocka_unit_test(test_tag),
		cmocka_unit_test(test_addresses), cmocka_unit_test(test_networks),
		cmocka_unit_test(test_urls), cmocka_unit_test(test_csv)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
