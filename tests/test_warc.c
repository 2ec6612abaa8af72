/*
 * WARC archives: real ones as warcio reads them, and the same records in every form that they come
 * in.  What is checked everywhere: reading ends, whole records are not lost, and a reader opened
 * at the place after a record goes on exactly as the one that read through (that is what makes
 * the ingest resumable).  Damage is test_warc_damage.c's.
 */
#include "ingest/http_message.h"
#include "ingest/warc.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/tmp.h"
#include "tests/support/warc_make.h"
#include "tests/support/warc_seen.h"

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

/* A test that failed while it read another archive must not make this one write there. */
static void write_file(const struct wl_buf *b)
{
	path = own_path;
	tmp_write_bytes(own_path, b->data ? b->data : "", b->len);
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

static void read_real(struct warc_seens *out, const char *name)
{
	char file[512];

	snprintf(file, sizeof file, "../shared/data/web/warc/%s", name);
	path = file;
	warc_read_from(path, out, 0, 0, SIZE_MAX);
	warc_check_places(path, out, name);
	path = own_path;
}

static void test_real_damaged(void **state)
{
	static struct warc_seens s;
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

static void test_forms(void **state)
{
	static struct warc_seens s;
	static struct warc_archive a;

	(void)state;
	for (int form = 0; form < WARC_FORMS; form++) {
		warc_archive_make(&a, (enum warc_form)form, 1, 200, 3000);
		write_file(&a.file);
		warc_read_from(path, &s, 0, 0, SIZE_MAX);
		if (s.n != 200)
			fail_msg("%s: %zu records: %s", WARC_FORM_NAMES[form], s.n,
				s.v[s.n - 1].why);
		for (size_t i = 0; i < s.n; i++) {
			char uri[64];
			snprintf(uri, sizeof uri, "http://x/%zu", i);
			assert_string_equal(s.v[i].uri, uri);
			assert_false(s.v[i].damaged || s.v[i].mended);
			assert_int_equal(s.v[i].n, a.body[i]);
			assert_int_equal(
				s.v[i].type, i % 3 == 2 ? WL_WARC_REQUEST : WL_WARC_RESPONSE);
		}
		warc_check_places(path, &s, WARC_FORM_NAMES[form]);
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
		warc_block(&b, i, (size_t)(wl_rand64(5, 5, (uint64_t)i) % 700));
		warc_record(&file, "1.1", "response", "http://x/", b.data, b.len, -1);
	}
	assert_true(file.len > 8 << 20);
	write_file(&file);
	OK(wl_warc_open(&w, path, 0, 0, &err));
	while ((more = wl_warc_next(&w, &r, &err)) > 0) {
		warc_block(&b, n, (size_t)(wl_rand64(5, 5, (uint64_t)n) % 700));
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

static void test_refused(void **state)
{
	struct wl_buf file;
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
		cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests_name("warc", tests, setup, teardown);
}
