/*
 * Lists of addresses in every form, good and bad, and records whose picture is an address: what is
 * read of them, and that it is fetched.  See test_fetch.c for what servers do.
 */
#include "ops/buf.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/webrig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static void write_form(const struct web_rig *rig, const char *name, const char *form)
{
	struct wl_buf b;
	char p[512], url[64];
	wl_buf_init(&b, 1 << 20);
	if (strcmp(form, "csv") == 0)
		OK(wl_buf_puts(&b, "\xef\xbb\xbfid,URL,caption\r\n", &err));
	if (strcmp(form, "tsv") == 0)
		OK(wl_buf_puts(&b, "url\ttext\tlicense\n", &err));
	for (int i = 0; i < 5; i++) {
		snprintf(url, sizeof url, "http://127.0.0.1:%d/img/%d.jpg", rig->web.port, i);
		if (strcmp(form, "csv") == 0)
			OK(wl_buf_printf(&b, &err, "%d,%s,\"图 %d, \"\"好\"\"%s\"\n", i, url, i,
				i == 3 ? "\n第二行" : ""));
		else if (strcmp(form, "tsv") == 0)
			OK(wl_buf_printf(&b, &err, "%s\t图 %d, \"好\"%s\tcc\n", url, i, ""));
		else if (strcmp(form, "jsonl") == 0)
			OK(wl_buf_printf(&b, &err,
				"{\"url\":\"%s\",\"caption\":\"图 %d, \\\"好\\\"\"}\n", url, i));
		else
			OK(wl_buf_printf(&b, &err, "%s\t图 %d, \"好\"\n\n", url, i));
	}
	tmp_path(&rig->tmp, name, p);
	tmp_write_bytes(p, b.data, b.len);
	wl_buf_release(&b);
}

static void test_forms(void **state)
{
	struct web_rig *rig = *state;
	static const char *const forms[] = {"txt", "csv", "tsv", "jsonl"};
	char args[1024], name[32];
	for (size_t i = 0; i < 4; i++) {
		snprintf(name, sizeof name, "form.%s", forms[i]);
		write_form(rig, name, forms[i]);
		tmp_run(NULL, "gzip -k %s/form.%s", rig->tmp.path, forms[i]);
		/* In steps too: the header must be known in the middle of a file. */
		snprintf(args, sizeof args, "--max-records 2 'urls:%s/form.%s*'", rig->tmp.path,
			forms[i]);
		int64_t pairs = 0;
		for (int step = 0; step < 6; step++) {
			json_t *v = web_ingest(rig, forms[i], 0, "%s", args);
			pairs = ingest_count(v, "corpus.pairs");
			assert_int_equal(ingest_count(v, "corpus.quarantined"), 0);
			json_decref(v);
		}
		assert_int_equal(pairs, 10);
		char *d = ingest_dump(&rig->tmp, forms[i]);
		assert_non_null(strstr(d, "[[\"caption\",\"图 4, \\\"好\\\"\"]]"));
		if (strcmp(forms[i], "csv") == 0) {
			assert_non_null(strstr(d,
				"[[\"caption\",\"图 3, \\\"好\\\"\"],[\"caption\",\"第二行\"]]"));
			assert_non_null(strstr(d, "{\"id\":\"4\"}"));
		}
		if (strcmp(forms[i], "tsv") == 0)
			assert_non_null(strstr(d, "{\"license\":\"cc\"}"));
		free(d);
	}
}

static void test_bad_lists(void **state)
{
	struct web_rig *rig = *state;
	char p[512];
	tmp_path(&rig->tmp, "bad.txt", p);
	tmp_write(p, "ftp://x/y\tx\nnot a url\n\n\x01\x02\tx\nhttp://\tx\n");
	json_t *v = web_ingest(rig, "bad", 0, "urls:%s", p);
	INGEST_IS(v, "records", 4);
	INGEST_IS(v, "quarantined", 4);
	json_decref(v);
	tmp_path(&rig->tmp, "bad.csv", p);
	tmp_write(p, "caption,url\nx\n\"never closed,http://127.0.0.1/a.jpg\nx,y\n");
	v = web_ingest(rig, "badcsv", 0, "urls:%s", p);
	INGEST_IS(v, "quarantined", 2);
	INGEST_IS(v, "records", 2);
	json_decref(v);
	tmp_path(&rig->tmp, "empty.txt", p);
	tmp_write(p, "");
	v = web_ingest(rig, "empty", 0, "urls:%s", p);
	INGEST_IS(v, "records", 0);
	json_decref(v);
}

/* A record of another kind of source whose picture is a URL. */
static void test_jsonl(void **state)
{
	struct web_rig *rig = *state;
	char p[512], line[1024];
	tmp_path(&rig->tmp, "r.jsonl", p);
	snprintf(line, sizeof line,
		"{\"text\":\"图\",\"image_url\":\"http://127.0.0.1:%d/referer/1\","
		"\"page_url\":\"http://127.0.0.1/page\",\"source\":\"weibo\",\"split\":\"val\","
		"\"boxes\":[[0,0,9,9]],\"n\":7}\n{\"image_url\":\"http://127.0.0.1/x\"}\n",
		rig->web.port);
	tmp_write(p, line);
	json_t *v = web_ingest(rig, "r", 0, "--no-fetch jsonl:%s", p);
	INGEST_IS(v, "pending", 1);
	INGEST_IS(v, "quarantined", 1);
	INGEST_IS(v, "corpus.pending", 1);
	json_decref(v);
	char *before = ingest_dump(&rig->tmp, "r");
	long long id;
	const char *row = strstr(before, "P|");
	assert_non_null(row);
	assert_int_equal(sscanf(row, "P|%lld|", &id), 1);
	/* Without a source: what waits is fetched, and the pair has the id it had while waiting. */
	v = web_ingest(rig, "r", 0, " ");
	INGEST_IS(v, "fetch.pairs", 1);
	INGEST_IS(v, "corpus.pending", 0);
	json_decref(v);
	char *after = ingest_dump(&rig->tmp, "r"), want[32];
	snprintf(want, sizeof want, "%020lld|weibo|", id);
	if (!strstr(after, want) || !strstr(after, "|val|") || !strstr(after, "[[0,0,9,9]]") ||
		!strstr(after, "{\"n\":7}"))
		fail_msg("the pair is not what waited:\n%s\n%s", before, after);
	free(before);
	free(after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms),
		cmocka_unit_test(test_bad_lists), cmocka_unit_test(test_jsonl)};
	return cmocka_run_group_tests(tests, web_rig_start, web_rig_stop);
}
