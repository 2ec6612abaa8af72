/*
 * WARC archives: real ones as warcio reads them, the same records in every form that they come
 * in, and damage of every kind at every place.  What is checked everywhere: reading ends, whole
 * records are not lost, and a reader opened at the place after a record goes on exactly as the
 * one that read through (that is what makes the ingest resumable).
 */
#include "ingest/http_message.h"
#include "ingest/warc.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"
#include "tests/support/warc_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tmp_dir tmp;
static struct wl_err err;
static char own_path[512];	    /* the archive that a test writes, under tmp */
static const char *path = own_path; /* the one that is read; never written through */

static int setup(void **state)
{
	(void)state;
	tmp = tmp_make();
	tmp_path(&tmp, "a.warc", own_path);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tmp_remove(&tmp);
	return 0;
}

/* ---- reading all ---- */

struct seen {
	int64_t member, inside, next_member, next_inside, length;
	enum wl_warc_type type;
	uint64_t hash;
	size_t n;
	bool damaged, mended;
	char uri[64], why[256];
};
struct seens {
	struct seen v[600];
	size_t n;
};

static struct seen look(const struct wl_warc_record *r)
{
	struct seen s = {r->member, r->inside, r->next_member, r->next_inside, r->length, r->type,
		wl_hash64(r->body, r->n, 1), r->n, r->damage != NULL, r->mended, "", ""};
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

static void read_from(struct seens *out, int64_t member, int64_t inside, size_t most)
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

/* A test that failed while it read another archive must not make this one write there. */
static void write_file(const struct wl_buf *b)
{
	path = own_path;
	tmp_write_bytes(own_path, b->data ? b->data : "", b->len);
}

static bool same(const struct seen *a, const struct seen *b)
{
	return a->member == b->member && a->inside == b->inside &&
	       a->next_member == b->next_member && a->next_inside == b->next_inside &&
	       a->length == b->length && a->type == b->type && a->hash == b->hash && a->n == b->n &&
	       a->damaged == b->damaged && a->mended == b->mended && !strcmp(a->uri, b->uri) &&
	       !strcmp(a->why, b->why);
}

/* From the place after any record on, the rest comes out the same. */
static void check_places(const struct seens *all, const char *what)
{
	static struct seens rest;

	for (size_t i = 0; i < all->n; i++) {
		read_from(&rest, all->v[i].next_member, all->v[i].next_inside, 2);
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

/* ---- real archives ---- */

static void check_golden(const char *name, const json_t *want)
{
	char file[512], hex[65];
	struct wl_warc w;
	struct wl_warc_record r;
	struct wl_http *h = malloc(sizeof *h);
	struct wl_http_body b;
	size_t i = 0;
	int more;

	snprintf(file, sizeof file, "../shared/data/web/warc/%s", name);
	wl_http_body_init(&b, 16 << 20);
	OK(wl_warc_open(&w, file, 0, 0, &err));
	while ((more = wl_warc_next(&w, &r, &err)) > 0) {
		const json_t *g = json_array_get(want, i++);
		uint8_t sha[32];
		if (!g)
			fail_msg("%s: more records than warcio reads", name);
		assert_null(r.damage);
		assert_int_equal(wl_inflate_is_compressed(&w.in) ? r.member : r.inside,
			json_integer_value(json_array_get(g, 0)));
		assert_string_equal(
			wl_warc_type_name(r.type), json_string_value(json_array_get(g, 1)));
		const char *uri = json_string_value(json_array_get(g, 2));
		assert_int_equal(strlen(uri), r.uri.n);
		assert_memory_equal(uri, r.uri.p ? r.uri.p : "", r.uri.n);
		wl_sha256(r.body, r.n, sha);
		wl_hex(sha, 8, hex);
		assert_string_equal(hex, json_string_value(json_array_get(g, 3)));
		const char *body = json_string_value(json_array_get(g, 4));
		if (!*body)
			continue;
		OK(wl_http_parse(h, r.body, r.n, &err));
		OK(wl_http_body_decode(&b, h, &err));
		wl_sha256(b.p, b.n, sha);
		wl_hex(sha, 8, hex);
		assert_string_equal(hex, body);
	}
	OK(more);
	assert_int_equal(i, json_array_size(want));
	wl_warc_close(&w);
	wl_http_body_release(&b);
	free(h);
}

static void test_real(void **state)
{
	json_error_t why;
	json_t *golden = json_load_file("tests/golden/warc.json", 0, &why), *want;
	const char *name;

	(void)state;
	assert_non_null(golden);
	if (!wl_exists("../shared/data/web/warc")) {
		json_decref(golden);
		SKIP("../shared/data/web/warc is absent");
	}
	assert_int_equal(json_object_size(golden), 6);
	json_object_foreach(golden, name, want) check_golden(name, want);
	json_decref(golden);
}

static void read_real(struct seens *out, const char *name)
{
	char file[512];

	snprintf(file, sizeof file, "../shared/data/web/warc/%s", name);
	path = file;
	read_from(out, 0, 0, SIZE_MAX);
	check_places(out, name);
	path = own_path;
}

static void test_real_damaged(void **state)
{
	static struct seens s;
	(void)state;
	if (!wl_exists("../shared/data/web/warc"))
		SKIP("../shared/data/web/warc is absent");
	read_real(&s, "resiliparse_clipped.warc.gz");
	assert_int_equal(s.n, 1);
	assert_true(s.v[0].damaged);
	assert_non_null(strstr(s.v[0].why, "cut off: 75207 of its 88275 bytes"));
	/* Its Content-Length is 2 too small: the next head shows where it ends. */
	read_real(&s, "warcio_example-trunc.warc");
	assert_int_equal(s.n, 4);
	assert_int_equal(s.v[2].length, 973);
	assert_int_equal(s.v[2].n, 975);
	assert_true(s.v[2].mended && !s.v[2].damaged);
	/* A record over two gzip members. */
	read_real(&s, "warcio_example-wrong-chunks.warc.gz");
	assert_int_equal(s.n, 2);
	assert_int_equal(s.v[0].n, 1613);
	assert_false(s.v[0].damaged || s.v[1].damaged);
	/* All records in one gzip member, which warcio refuses. */
	read_real(&s, "warcio_example-bad-non-chunked.warc.gz");
	assert_int_equal(s.n, 6);
	for (size_t i = 0; i < s.n; i++)
		assert_false(s.v[i].damaged || s.v[i].mended);
}

/* ---- archives of our own ---- */

enum form { PLAIN, LF, GZ, GZ_ONE, ZST, ZST_DICT, ZST_DICT_Z, FORMS };
static const char *const FORM_NAMES[FORMS] = {"plain", "plain, LF", "gz", "gz of one member", "zst",
	"zst with a dictionary", "zst with a compressed dictionary"};

/* A block of n bytes: text, with blank lines and what looks like heads in it. */
static void block(struct wl_buf *b, int seed, size_t n)
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

/* Records of an archive: sizes by seed; record i of type response at http://x/<i>. */
struct archive {
	struct wl_buf file;
	size_t n;
	size_t at[600]; /* where record i begins in the file, for forms of one member a record */
	size_t body[600];
};

static size_t size_of(int seed, int i, size_t most)
{
	return i % 7 == 3 ? 0 : (size_t)(wl_rand64((uint64_t)seed, 2, (uint64_t)i) % most);
}

static void make(struct archive *a, enum form form, int seed, int n, size_t most)
{
	static const char dict[] =
		"WARC/1.1\r\nWARC-Type: response\r\nWARC-Date: 2024-01-31T12:00:"
		"00Z\r\nWARC-Target-URI: http://x/HTTP/1.1 200 OK\r\nContent-Type";
	struct wl_buf one, b, all;

	wl_buf_init(&a->file, 1 << 30);
	wl_buf_init(&one, 1 << 30);
	wl_buf_init(&b, 1 << 30);
	wl_buf_init(&all, 1 << 30);
	if (form == ZST_DICT)
		warc_zstd_skip(&a->file, 0x184D2A5D, dict, sizeof dict - 1);
	if (form == ZST_DICT_Z) {
		warc_zstd(&b, dict, sizeof dict - 1, NULL, 0);
		warc_zstd_skip(&a->file, 0x184D2A5D, b.data, b.len);
	}
	for (int i = 0; i < n; i++) {
		char uri[64];
		snprintf(uri, sizeof uri, "http://x/%d", i);
		block(&b, seed * 1000 + i, size_of(seed, i, most));
		wl_buf_reset(&one);
		if (form == LF)
			to_lf(&b);
		a->body[i] = b.len;
		warc_record(&one, i % 2 ? "1.1" : "1.0", i % 3 == 2 ? "request" : "response", uri,
			b.data, b.len, -1);
		if (form == LF)
			to_lf(&one);
		a->at[i] = a->file.len;
		if (form == PLAIN || form == LF)
			OK(wl_buf_add(&a->file, one.data, one.len, &err));
		else if (form == GZ)
			warc_gzip(&a->file, one.data, one.len);
		else if (form == GZ_ONE)
			OK(wl_buf_add(&all, one.data, one.len, &err));
		else
			warc_zstd(&a->file, one.data, one.len, form == ZST ? NULL : dict,
				form == ZST ? 0 : sizeof dict - 1);
	}
	if (form == GZ_ONE)
		warc_gzip(&a->file, all.data, all.len);
	a->n = (size_t)n;
	wl_buf_release(&one);
	wl_buf_release(&b);
	wl_buf_release(&all);
}

static void test_forms(void **state)
{
	static struct seens s;
	static struct archive a;

	(void)state;
	for (int form = 0; form < FORMS; form++) {
		make(&a, (enum form)form, 1, 200, 3000);
		write_file(&a.file);
		read_from(&s, 0, 0, SIZE_MAX);
		if (s.n != 200)
			fail_msg("%s: %zu records: %s", FORM_NAMES[form], s.n, s.v[s.n - 1].why);
		for (size_t i = 0; i < s.n; i++) {
			char uri[64];
			snprintf(uri, sizeof uri, "http://x/%zu", i);
			assert_string_equal(s.v[i].uri, uri);
			assert_false(s.v[i].damaged || s.v[i].mended);
			assert_int_equal(s.v[i].n, a.body[i]);
			assert_int_equal(
				s.v[i].type, i % 3 == 2 ? WL_WARC_REQUEST : WL_WARC_RESPONSE);
		}
		check_places(&s, FORM_NAMES[form]);
		wl_buf_release(&a.file);
	}
}

/* Windows end at every byte of a head sooner or later: 20,000 records of changing sizes (the
 * reader of libarchive loses all but 5 to 97 of 10,000). */
static void test_straddling(void **state)
{
	struct wl_buf file, b;
	struct wl_warc w;
	struct wl_warc_record r;
	int n = 0, more, total = 20000;

	(void)state;
	wl_buf_init(&file, 1 << 30);
	wl_buf_init(&b, 1 << 20);
	for (int i = 0; i < total; i++) {
		block(&b, i, (size_t)(wl_rand64(5, 5, (uint64_t)i) % 700));
		warc_record(&file, "1.1", "response", "http://x/", b.data, b.len, -1);
	}
	assert_true(file.len > 8 << 20);
	write_file(&file);
	OK(wl_warc_open(&w, path, 0, 0, &err));
	while ((more = wl_warc_next(&w, &r, &err)) > 0) {
		block(&b, n, (size_t)(wl_rand64(5, 5, (uint64_t)n) % 700));
		assert_int_equal(r.n, b.len);
		assert_memory_equal(r.body, b.data, b.len);
		assert_null(r.damage);
		assert_int_equal(r.uri.n, 9);
		n++;
	}
	OK(more);
	assert_int_equal(n, total);
	wl_warc_close(&w);
	wl_buf_release(&file);
	wl_buf_release(&b);
}

/* ---- damage ---- */

/* One change at a place that the seed says; *lo .. *hi: bytes of the file that it touched. */
static void damage(struct wl_buf *f, uint64_t seed, size_t *lo, size_t *hi)
{
	size_t at = (size_t)(wl_rand64(seed, 7, 0) % f->len);
	size_t n = 1 + (size_t)(wl_rand64(seed, 7, 1) % 3000);

	if (n > f->len - at)
		n = f->len - at;
	*lo = at;
	*hi = at + n;
	switch (seed % 5) {
	case 0: /* one bit */
		f->data[at] ^= (char)(1 << wl_rand64(seed, 7, 2) % 8);
		*hi = at + 1;
		break;
	case 1: /* noise */
		for (size_t i = 0; i < n; i++)
			f->data[at + i] = (char)wl_rand64(seed, 8, i);
		break;
	case 2: /* bytes lost */
		memmove(f->data + at, f->data + at + n, f->len - at - n);
		f->len -= n;
		break;
	case 3: /* bytes added */
		OK(wl_buf_reserve(f, n, &err));
		memmove(f->data + at + n, f->data + at, f->len - at);
		for (size_t i = 0; i < n; i++)
			f->data[at + i] = (char)wl_rand64(seed, 9, i);
		f->len += n;
		*hi = at;
		break;
	default: /* cut off */
		f->len = at;
		*hi = (size_t)-1;
	}
}

/* Whether the change leaves record i as it was. */
static bool is_untouched(const struct archive *a, size_t i, size_t lo, size_t hi)
{
	size_t begin = a->at[i], end = i + 1 < a->n ? a->at[i + 1] : (size_t)-2;

	return end <= lo || begin > hi;
}

static void check_damaged(
	const struct archive *a, enum form form, uint64_t seed, size_t lo, size_t hi)
{
	static struct seens s;
	char what[128];
	size_t at = 0;

	snprintf(what, sizeof what, "%s, damage %llu", FORM_NAMES[form], (unsigned long long)seed);
	read_from(&s, 0, 0, SIZE_MAX);
	for (size_t i = 0; i < a->n && form != GZ_ONE; i++) {
		char uri[64];
		/* The neighbour of damage may swallow it, or be cut by it. */
		if (!is_untouched(a, i, lo, hi) ||
			(i + 1 < a->n && !is_untouched(a, i + 1, lo, hi)))
			continue;
		snprintf(uri, sizeof uri, "http://x/%zu", i);
		while (at < s.n && strcmp(s.v[at].uri, uri))
			at++;
		if (at == s.n || s.v[at].n != a->body[i] || s.v[at].damaged)
			fail_msg("%s at %zu: record %zu is lost: %s", what, lo, i,
				at < s.n ? s.v[at].why : "not there");
	}
	check_places(&s, what);
}

static void test_damage(void **state)
{
	static struct archive a;
	static const enum form forms[] = {PLAIN, GZ, GZ_ONE, ZST, ZST_DICT};

	(void)state;
	for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
		for (uint64_t seed = 0; seed < 60; seed++) {
			size_t lo, hi;
			make(&a, forms[f], (int)(seed % 3), 12, seed % 4 ? 4000 : 60000);
			/* Without its dictionary nothing can be read: that is an error, see below.
			 */
			size_t head = forms[f] == ZST_DICT ? a.at[0] : 0;
			struct wl_buf part = a.file;
			part.data += head;
			part.len -= head;
			part.cap -= head;
			OK(wl_buf_reserve(&a.file, 4000, &err));
			part = a.file;
			part.data += head;
			part.len -= head;
			part.cap -= head;
			damage(&part, seed, &lo, &hi);
			a.file.len = part.len + head;
			write_file(&a.file);
			check_damaged(
				&a, forms[f], seed, lo + head, hi == (size_t)-1 ? hi : hi + head);
			wl_buf_release(&a.file);
		}
	}
}

/* ---- single faults, and what is made of them ---- */

static struct wl_buf file;

static void add(const char *uri, const char *text, long long length)
{
	warc_record(&file, "1.0", "response", uri, text, strlen(text), length);
}

static const struct seens *read_back(void)
{
	static struct seens s;
	write_file(&file);
	read_from(&s, 0, 0, SIZE_MAX);
	check_places(&s, "a fault");
	wl_buf_reset(&file);
	return &s;
}

#define LONG_TEXT "0123456789 0123456789 0123456789 0123456789 0123456789"

static void test_lengths(void **state)
{
	static const long long wrong[] = {
		0, 1, 30, 52, 59, 70, 120, 200, 330, 5000, 1 << 20, 60 << 20, 1LL << 40};
	const struct seens *s;

	(void)state;
	wl_buf_init(&file, 1 << 28);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		add("http://x/0", "first", -1);
		add("http://x/1", LONG_TEXT, wrong[i]);
		add("http://x/2", "second", -1);
		add("http://x/3", "third", -1);
		s = read_back();
		/* However wrong, the record's own text comes out and the others are not lost. */
		if (s->n != 4)
			fail_msg("length %lld: %zu records", wrong[i], s->n);
		for (int k = 0; k < 4; k++)
			assert_int_equal(s->v[k].uri[9], '0' + k);
		assert_true(s->v[1].mended != s->v[1].damaged);
		assert_int_equal(s->v[1].damaged, wrong[i] > WL_WARC_MAX_BODY);
		if (s->v[1].mended)
			assert_int_equal(s->v[1].n, strlen(LONG_TEXT));
	}
	add("http://x/0", LONG_TEXT, -2);
	add("http://x/1", "next", -1);
	s = read_back();
	assert_int_equal(s->n, 2);
	assert_non_null(strstr(s->v[0].why, "without a Content-Length"));
	assert_string_equal(s->v[0].uri, "http://x/0");
	assert_true(s->v[0].n >= strlen(LONG_TEXT));
	assert_false(s->v[1].damaged);
	wl_buf_release(&file);
}

static void test_garbage(void **state)
{
	const struct seens *s;

	(void)state;
	wl_buf_init(&file, 1 << 28);
	/* Between records of a plain file. */
	add("http://x/0", "first", -1);
	OK(wl_buf_puts(
		&file, "some bytes that are no record\r\nWARC/x\r\nWARC/1.0 talk\r\n", &err));
	add("http://x/1", "second", -1);
	s = read_back();
	assert_int_equal(s->n, 3);
	assert_int_equal(s->v[1].type, WL_WARC_GARBAGE);
	assert_non_null(strstr(s->v[1].why, "54 bytes that begin none"));
	assert_int_equal(s->v[1].n, 54);
	assert_false(s->v[0].damaged || s->v[2].damaged);
	/* Blank lines are none. */
	OK(wl_buf_puts(&file, "\r\n\r\n\n\n", &err));
	add("http://x/0", "first", -1);
	OK(wl_buf_puts(&file, "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", &err));
	add("http://x/1", "second", -1);
	s = read_back();
	assert_int_equal(s->n, 2);
	assert_false(s->v[0].damaged || s->v[0].mended || s->v[1].damaged);
	/* A head without an end, at the end. */
	add("http://x/0", "first", -1);
	OK(wl_buf_puts(&file, "WARC/1.0\r\nWARC-Type: response\r\nContent-Le", &err));
	s = read_back();
	assert_int_equal(s->n, 2);
	assert_true(s->v[1].damaged);
	/* A file that is none at all; an empty one. */
	OK(wl_buf_puts(&file, "just text\n", &err));
	s = read_back();
	assert_int_equal(s->n, 1);
	assert_int_equal(s->v[0].type, WL_WARC_GARBAGE);
	assert_int_equal(read_back()->n, 0);
	wl_buf_release(&file);
}

static void test_garbage_gzip(void **state)
{
	struct wl_buf gz, one;
	const struct seens *s;

	(void)state;
	wl_buf_init(&file, 1 << 28);
	wl_buf_init(&gz, 1 << 20);
	wl_buf_init(&one, 1 << 20);
	warc_record(&one, "1.0", "response", "http://x/0", "hello", 5, -1);
	warc_gzip(&file, one.data, one.len);
	OK(wl_buf_puts(&file, "\x1f\x8b\x08 not deflate at all \x1f\x8b\x08\xff.....", &err));
	warc_gzip(&file, one.data, one.len);
	OK(wl_buf_add(&file, "\0\0\0\0\0\0\0\0\0\0", 10, &err));
	s = read_back();
	assert_int_equal(s->n, 4);
	assert_int_equal(s->v[0].n, 5);
	assert_int_equal(s->v[1].type, WL_WARC_GARBAGE);
	assert_int_equal(s->v[2].n, 5);
	assert_int_equal(s->v[3].type, WL_WARC_GARBAGE);
	/* A wrong checksum: the record is there, and may be wrong. */
	warc_gzip(&file, one.data, one.len);
	file.data[file.len - 6] ^= 1;
	warc_gzip(&file, one.data, one.len);
	s = read_back();
	assert_int_equal(s->n, 2);
	assert_true(s->v[0].damaged);
	assert_non_null(strstr(s->v[0].why, "incorrect data check"));
	assert_int_equal(s->v[0].n, 5);
	assert_false(s->v[1].damaged);
	wl_buf_release(&one);
	wl_buf_release(&gz);
	wl_buf_release(&file);
}

/* A writer that got every checksum wrong: read in one pass, not again and again (this takes an hour
 * when each damaged member is looked at with megabytes of what follows it). */
static void test_all_damaged(void **state)
{
	struct wl_buf one, b;
	struct wl_warc w;
	struct wl_warc_record r;
	int n = 0, more;

	(void)state;
	wl_buf_init(&file, 1 << 28);
	wl_buf_init(&one, 1 << 20);
	wl_buf_init(&b, 1 << 20);
	for (int i = 0; i < 3000; i++) {
		wl_buf_reset(&one);
		block(&b, i, 20000);
		warc_record(&one, "1.0", "response", "http://x/", b.data, b.len, -1);
		warc_gzip(&file, one.data, one.len);
		file.data[file.len - 7] ^= 1;
	}
	write_file(&file);
	OK(wl_warc_open(&w, path, 0, 0, &err));
	while ((more = wl_warc_next(&w, &r, &err)) > 0) {
		assert_int_equal(r.n, 20000);
		assert_non_null(strstr(r.damage, "incorrect data check"));
		n++;
	}
	OK(more);
	assert_int_equal(n, 3000);
	wl_warc_close(&w);
	wl_buf_release(&one);
	wl_buf_release(&b);
	wl_buf_release(&file);
}

/* What does not fit: a member past what is inflated at once, a record past what is read. */
static void test_huge(void **state)
{
	enum { HUGE = 40 << 20, GIANT = 70 << 20 };
	struct wl_buf one;
	const struct seens *s;
	char *zeros = calloc(1, GIANT);

	(void)state;
	assert_non_null(zeros);
	wl_buf_init(&file, 1 << 28);
	wl_buf_init(&one, 1 << 28);
	warc_record(&one, "1.0", "response", "http://x/0", zeros, HUGE, -1);
	warc_gzip(&file, one.data, one.len);
	wl_buf_reset(&one);
	warc_record(&one, "1.0", "response", "http://x/1", zeros, GIANT, -1);
	warc_record(&one, "1.0", "response", "http://x/2", "small", 5, -1);
	warc_gzip(&file, one.data, one.len);
	wl_buf_reset(&one);
	warc_record(&one, "1.0", "response", "http://x/3", "small", 5, -1);
	warc_gzip(&file, one.data, one.len);
	free(zeros);
	wl_buf_release(&one);
	s = read_back();
	assert_int_equal(s->n, 4);
	assert_int_equal(s->v[0].n, HUGE);
	assert_false(s->v[0].damaged);
	assert_true(s->v[1].damaged);
	assert_non_null(strstr(s->v[1].why, "too large"));
	assert_string_equal(s->v[1].uri, "http://x/1");
	assert_int_equal(s->v[2].n, 5);
	assert_false(s->v[2].damaged || s->v[3].damaged);
	wl_buf_release(&file);
}

static void test_refused(void **state)
{
	struct wl_warc w;

	(void)state;
	path = own_path;
	tmp_write(own_path, "WARC/1.0\r\n");
	FAILS(WL_EDATA, "it is another file", wl_warc_open(&w, path, 0, 11, &err));
	FAILS(WL_EDATA, "it is another file", wl_warc_open(&w, path, 3, 0, &err));
	OK(wl_warc_open(&w, path, 0, 10, &err));
	wl_warc_close(&w);
	FAILS(WL_EFAIL, "cannot be opened", wl_warc_open(&w, "/nonexistent/x.warc", 0, 0, &err));
	FAILS(WL_EUSAGE, "not a plain file", wl_warc_open(&w, tmp.path, 0, 0, &err));
	wl_buf_init(&file, 1 << 20);
	warc_gzip(&file, "WARC/1.0\r\n", 10);
	write_file(&file);
	FAILS(WL_EDATA, "it is another file", wl_warc_open(&w, path, 0, 11, &err));
	FAILS(WL_EDATA, "it is another file",
		wl_warc_open(&w, path, (int64_t)file.len + 1, 0, &err));
	OK(wl_warc_open(&w, path, (int64_t)file.len, 0, &err));
	wl_warc_close(&w);
	/* A dictionary that is not there, or is none. */
	wl_buf_reset(&file);
	warc_zstd_skip(&file, 0x184D2A5D, "0123456789", 10);
	file.len -= 3;
	write_file(&file);
	FAILS(WL_EDATA, "dictionary", wl_warc_open(&w, path, 0, 0, &err));
	wl_buf_reset(&file);
	warc_zstd_skip(&file, 0x184D2A5D, "\x28\xb5\x2f\xfd\xff\xff\xff\xff", 8);
	write_file(&file);
	FAILS(WL_EDATA, "dictionary", wl_warc_open(&w, path, 0, 0, &err));
	wl_buf_release(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real),
		cmocka_unit_test(test_real_damaged),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_straddling),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_garbage_gzip),
		cmocka_unit_test(test_all_damaged),
		cmocka_unit_test(test_huge),
		cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests_name("warc", tests, setup, teardown);
}
