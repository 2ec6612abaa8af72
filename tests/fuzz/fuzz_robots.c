/* Any bytes as a robots.txt, as an X-Robots-Tag, as a header block and as URLs: no crash, and what
 * must hold holds. */
#include "ingest/fetch_priv.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void fuzz_robots(const char *s, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	char path[256], word[WL_ROBOTS_TOKEN];
	struct wl_robots *r = wl_robots_parse(s, n, "wenlan-ingest", &err);
	if (!r || !wl_robots_allows(r, "/robots.txt"))
		abort();
	size_t len = n < sizeof path - 1 ? n : sizeof path - 1;
	memcpy(path, s + n - len, len);
	path[len] = '\0';
	path[0] = '/';
	(void)wl_robots_allows(r, path);
	if (wl_robots_delay_ms(r) < 0 || wl_robots_delay_ms(r) > 60000)
		abort();
	wl_robots_free(r);
	if (wl_robots_tag_denies(s, n, "wenlan-ingest", word) && strlen(word) < 4)
		abort();
	wl_robots_token(path, word);
}

/* Lines as libcurl hands them over. */
static void fuzz_headers(const char *s, size_t n)
{
	struct wl_answer *a = calloc(1, sizeof *a);
	if (!a)
		abort();
	for (size_t at = 0; at < n;) {
		const char *nl = memchr(s + at, '\n', n - at);
		size_t len = nl ? (size_t)(nl - (s + at)) + 1 : n - at;
		wl_answer_header(a, s + at, len, "wenlan-ingest");
		at += len;
	}
	if (a->status < 0 || a->status > 999 || a->retry_after_s < -1)
		abort();
	free(a);
}

/* What was accepted is http or https, has a host, and stays what it is. */
static void fuzz_url(const char *s, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_url u, again, moved;
	char *text = malloc(n + 1);
	if (!text)
		abort();
	memcpy(text, s, n);
	text[n] = '\0';
	if (wl_url_parse(&u, text, &err) == 0) {
		if ((strncmp(u.text, "http://", 7) && strncmp(u.text, "https://", 8)) || !*u.host ||
			*u.path != '/')
			abort();
		if (wl_url_parse(&again, u.text, &err) < 0 || strcmp(again.text, u.text) != 0)
			abort();
		wl_url_release(&again);
		wl_url_release(&u);
	}
	if (wl_url_resolve(&moved, "http://a/b/c?d", text, &err) == 0)
		wl_url_release(&moved);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < 2)
		return 0;
	const char *s = (const char *)data + 1;
	if (data[0] % 3 == 0)
		fuzz_robots(s, n - 1);
	else if (data[0] % 3 == 1)
		fuzz_headers(s, n - 1);
	else
		fuzz_url(s, n - 1);
	return 0;
}
