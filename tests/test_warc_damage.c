/*
 * Damaged WARC archives: damage of every kind at every place, single faults and what is made of
 * them.  Reading ends, whole records are not lost, and any place can be come back to.
 */
#include "ops/hash.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"
#include "tests/support/warc_make.h"
#include "tests/support/warc_seen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tmp_dir tmp;
static struct wl_err err;
static char path[512]; /* the archive that a test writes, under tmp */

static int setup(void **state)
{
	(void)state;
	tmp = tmp_make();
	tmp_path(&tmp, "a.warc", path);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tmp_remove(&tmp);
	return 0;
}

static void write_file(const struct wl_buf *b)
{
	tmp_write_bytes(path, b->data ? b->data : "", b->len);
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
static bool is_untouched(const struct warc_archive *a, size_t i, size_t lo, size_t hi)
{
	size_t begin = a->at[i], end = i + 1 < a->n ? a->at[i + 1] : (size_t)-2;

	return end <= lo || begin > hi;
}

static void check_damaged(
	const struct warc_archive *a, enum warc_form form, uint64_t seed, size_t lo, size_t hi)
{
	static struct warc_seens s;
	char what[128];
	size_t at = 0;

	snprintf(what, sizeof what, "%s, damage %llu", WARC_FORM_NAMES[form],
		(unsigned long long)seed);
	warc_read_from(path, &s, 0, 0, SIZE_MAX);
	for (size_t i = 0; i < a->n && form != WARC_GZ_ONE; i++) {
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
	warc_check_places(path, &s, what);
}

static void test_damage(void **state)
{
	static struct warc_archive a;
	static const enum warc_form forms[] = {
		WARC_PLAIN, WARC_GZ, WARC_GZ_ONE, WARC_ZST, WARC_ZST_DICT};

	(void)state;
	for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
		for (uint64_t seed = 0; seed < 60; seed++) {
			size_t lo, hi;
			warc_archive_make(
				&a, forms[f], (int)(seed % 3), 12, seed % 4 ? 4000 : 60000);
			/* Without its dictionary nothing can be read: that is an error, see below.
			 */
			size_t head = forms[f] == WARC_ZST_DICT ? a.at[0] : 0;
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

static const struct warc_seens *read_back(void)
{
	static struct warc_seens s;
	write_file(&file);
	warc_read_from(path, &s, 0, 0, SIZE_MAX);
	warc_check_places(path, &s, "a fault");
	wl_buf_reset(&file);
	return &s;
}

#define LONG_TEXT "0123456789 0123456789 0123456789 0123456789 0123456789"

static void test_lengths(void **state)
{
	static const long long wrong[] = {
		0, 1, 30, 52, 59, 70, 120, 200, 330, 5000, 1 << 20, 60 << 20, 1LL << 40};
	const struct warc_seens *s;

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
	const struct warc_seens *s;

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
	const struct warc_seens *s;

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
		warc_block(&b, i, 20000);
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
	const struct warc_seens *s;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_garbage_gzip),
		cmocka_unit_test(test_all_damaged),
		cmocka_unit_test(test_huge),
	};
	return cmocka_run_group_tests_name("warc damage", tests, setup, teardown);
}
