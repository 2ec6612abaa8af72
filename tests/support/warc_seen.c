/* See warc_seen.h. */
#include "tests/support/warc_seen.h"

#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/warc_make.h"

#include <stdio.h>
#include <string.h>

static struct wl_err err;

/* ---- reading all ---- */

static struct warc_seen look(const struct wl_warc_record *r)
{
	struct warc_seen s = {r->member, r->inside, r->next_member, r->next_inside, r->length,
		r->type, wl_hash64(r->body, r->n, 1), r->n, r->damage != NULL, r->mended, "", ""};
	if (r->uri.p)
		snprintf(s.uri, sizeof s.uri, "%.*s", (int)r->uri.n, r->uri.p);
	snprintf(s.why, sizeof s.why, "%s", r->damage ? r->damage : "");
	/* Every slice must lie in memory that can be read. */
	uint64_t sum = 0;
	for (size_t i = 0; i < r->fields->n; i++)
		sum += wl_hash64(r->fields->v[i].name.p, r->fields->v[i].name.n, 0) +
		       wl_hash64(r->fields->v[i].value.p, r->fields->v[i].value.n, sum);
	s.hash ^= sum;
	return s;
}

void warc_read_from(const char *path, struct warc_seens *out, int64_t member, int64_t inside,
	size_t most)
{
	struct wl_warc w;
	struct wl_warc_record r;
	int more = 1;

	out->n = 0;
	OK(wl_warc_open(&w, path, member, inside, &err));
	while (out->n < most && (more = wl_warc_next(&w, &r, &err)) > 0) {
		assert_true(out->n < sizeof out->v / sizeof *out->v);
		out->v[out->n++] = look(&r);
	}
	if (more < 0)
		fail_msg("%s", err.msg);
	if (!more)
		assert_int_equal(wl_warc_next(&w, &r, &err), 0); /* and it stays so */
	wl_warc_close(&w);
}

static bool same(const struct warc_seen *a, const struct warc_seen *b)
{
	return a->member == b->member && a->inside == b->inside &&
	       a->next_member == b->next_member && a->next_inside == b->next_inside &&
	       a->length == b->length && a->type == b->type && a->hash == b->hash && a->n == b->n &&
	       a->damaged == b->damaged && a->mended == b->mended && !strcmp(a->uri, b->uri) &&
	       !strcmp(a->why, b->why);
}

void warc_check_places(const char *path, const struct warc_seens *all, const char *what)
{
	static struct warc_seens rest;

	for (size_t i = 0; i < all->n; i++) {
		warc_read_from(path, &rest, all->v[i].next_member, all->v[i].next_inside, 2);
		size_t want = all->n - i - 1 < 2 ? all->n - i - 1 : 2;
		if (rest.n != want)
			fail_msg("%s: after record %zu (%s) there are %zu, expected %zu: %s", what,
				i, all->v[i].why, rest.n, want, rest.n ? rest.v[0].why : "");
		for (size_t k = 0; k < want; k++)
			if (!same(&rest.v[k], &all->v[i + 1 + k]))
				fail_msg("%s: record %zu read from place %lld+%lld differs: %zu "
					 "bytes "
					 "%s / %zu bytes %s",
					what, i + 1 + k, (long long)all->v[i].next_member,
					(long long)all->v[i].next_inside, rest.v[k].n,
					rest.v[k].why, all->v[i + 1 + k].n, all->v[i + 1 + k].why);
	}
}

/* ---- archives ---- */

const char *const WARC_FORM_NAMES[WARC_FORMS] = {"plain", "plain, LF", "gz",
	"gz of one member", "zst", "zst with a dictionary",
	"zst with a compressed dictionary"};

void warc_block(struct wl_buf *b, int seed, size_t n)
{
	wl_buf_reset(b);
	OK(wl_buf_printf(b, &err, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"));
	for (uint64_t i = 0; b->len < n; i++) {
		uint64_t x = wl_rand64((uint64_t)seed, 1, i);
		OK(wl_buf_printf(b, &err, "<p>%llx</p>%s", (unsigned long long)x,
			x % 5	? ""
			: x % 3 ? "\r\n\r\n"
				: "\nWARC/1.0 is a format\n"));
	}
	b->len = n;
}

static void to_lf(struct wl_buf *b)
{
	size_t w = 0;
	for (size_t i = 0; i < b->len; i++)
		if (b->data[i] != '\r')
			b->data[w++] = b->data[i];
	b->len = w;
}

static size_t size_of(int seed, int i, size_t most)
{
	return i % 7 == 3 ? 0 : (size_t)(wl_rand64((uint64_t)seed, 2, (uint64_t)i) % most);
}

void warc_archive_make(struct warc_archive *a, enum warc_form form, int seed, int n, size_t most)
{
	static const char dict[] =
		"WARC/1.1\r\nWARC-Type: response\r\nWARC-Date: 2024-01-31T12:00:"
		"00Z\r\nWARC-Target-URI: http://x/HTTP/1.1 200 OK\r\nContent-Type";
	struct wl_buf one, b, all;

	wl_buf_init(&a->file, 1 << 30);
	wl_buf_init(&one, 1 << 30);
	wl_buf_init(&b, 1 << 30);
	wl_buf_init(&all, 1 << 30);
	if (form == WARC_ZST_DICT)
		warc_zstd_skip(&a->file, 0x184D2A5D, dict, sizeof dict - 1);
	if (form == WARC_ZST_DICT_Z) {
		warc_zstd(&b, dict, sizeof dict - 1, NULL, 0);
		warc_zstd_skip(&a->file, 0x184D2A5D, b.data, b.len);
	}
	for (int i = 0; i < n; i++) {
		char uri[64];
		snprintf(uri, sizeof uri, "http://x/%d", i);
		warc_block(&b, seed * 1000 + i, size_of(seed, i, most));
		wl_buf_reset(&one);
		if (form == WARC_LF)
			to_lf(&b);
		a->body[i] = b.len;
		warc_record(&one, i % 2 ? "1.1" : "1.0", i % 3 == 2 ? "request" : "response", uri,
			b.data, b.len, -1);
		if (form == WARC_LF)
			to_lf(&one);
		a->at[i] = a->file.len;
		if (form == WARC_PLAIN || form == WARC_LF)
			OK(wl_buf_add(&a->file, one.data, one.len, &err));
		else if (form == WARC_GZ)
			warc_gzip(&a->file, one.data, one.len);
		else if (form == WARC_GZ_ONE)
			OK(wl_buf_add(&all, one.data, one.len, &err));
		else
			warc_zstd(&a->file, one.data, one.len, form == WARC_ZST ? NULL : dict,
				form == WARC_ZST ? 0 : sizeof dict - 1);
	}
	if (form == WARC_GZ_ONE)
		warc_gzip(&a->file, all.data, all.len);
	a->n = (size_t)n;
	wl_buf_release(&one);
	wl_buf_release(&b);
	wl_buf_release(&all);
}
