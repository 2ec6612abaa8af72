/* See packcorpus.h. */
#include "tests/support/packcorpus.h"

#include "ingest/corpus.h"
#include "ingest/image.h"
#include "ops/file.h"
#include "ops/hash.h"

#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { N = PACK_N, GROUP = 4 };

#define OK(expr)                                                                                   \
	do {                                                                                       \
		if ((expr) < 0)                                                                    \
			fail_msg("%s: %s", #expr, err.msg);                                        \
	} while (0)

bool pack_is_dup(int i)
{
	return i % 10 == 3;
}

bool pack_is_filtered(int i)
{
	return i % 10 == 7;
}

bool pack_is_png(int i)
{
	return i % 6 == 1;
}

bool pack_is_broken(int i)
{
	return i == 50;
}

int pack_group_of(int i)
{
	return i >= 100 && i < 140 ? i - i % GROUP : i;
}

void pack_make_image(int i, struct wl_buf *out)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_image im = {.width = 24 + i % 9, .height = 20 + i % 7, .channels = 3};
	size_t n = (size_t)(im.width * im.height * 3);

	wl_buf_reset(out);
	if (pack_is_broken(i)) {
		OK(wl_buf_puts(out, "\x89PNG\r\n\x1a\n and then nothing that a PNG has", &err));
		return;
	}
	im.data = malloc(n);
	for (size_t k = 0; k < n; k++)
		im.data[k] = (uint8_t)wl_rand64(9, (uint64_t)i, k / 16);
	if (pack_is_png(i)) {
		png_image png = {.version = PNG_IMAGE_VERSION,
			.width = (unsigned)im.width,
			.height = (unsigned)im.height,
			.format = PNG_FORMAT_RGB};
		png_alloc_size_t size = 100000;
		static char mem[100000];

		assert_int_equal(
			png_image_write_to_memory(&png, mem, &size, 0, im.data, 0, NULL), 1);
		OK(wl_buf_add(out, mem, size, &err));
	} else {
		OK(wl_image_encode_jpeg(&im, 90, out, &err));
	}
	free(im.data);
}

int64_t pack_id_of(int i)
{
	char page[64];

	snprintf(page, sizeof page, "http://p/%d", i);
	return wl_pair_id("news", page, "o", i);
}

static void add_pair(struct wl_lane *l, int i, const char *hint)
{
	struct wl_err err = WL_ERR_INIT;
	char page[64], url[64], texts[128];
	struct wl_buf image;
	struct wl_pair p;

	wl_buf_init(&image, 1 << 20);
	pack_make_image(i, &image);
	snprintf(page, sizeof page, "http://p/%d", i);
	snprintf(url, sizeof url, "http://i/%d.jpg", i);
	snprintf(texts, sizeof texts, "[[\"caption\",\"raw %d\"]]", i);
	p = (struct wl_pair){.id = pack_id_of(i),
		.source = i % 2 ? "news" : "baike",
		.url = url,
		.page_url = page,
		.texts = texts,
		.split_hint = hint,
		.format = pack_is_png(i) || pack_is_broken(i) ? "png" : "jpeg",
		.width = 24 + i % 9,
		.height = 20 + i % 7,
		.boxes = i % 4 ? NULL : "[[0,0,5,5]]",
		.meta = "{}"};
	assert_int_equal(wl_lane_add(l, &p, image.data, image.len, &err), 1);
	wl_buf_release(&image);
}

static void stage_db(struct wl_corpus *c, const char *stage, int part, struct wl_db *db)
{
	struct wl_err err = WL_ERR_INIT;
	char *path = wl_corpus_stage_path(c, stage, 1, part, &err);

	OK(wl_db_open(db, path, WL_DB_WRITE, &err));
	free(path);
	OK(wl_db_exec(db,
		"BEGIN;"
		"CREATE TABLE examined(pair_id INTEGER PRIMARY KEY);"
		"CREATE TABLE verdict(pair_id, reason TEXT, detail TEXT,"
		" PRIMARY KEY(pair_id, reason)) WITHOUT ROWID;"
		"CREATE TABLE cluster(pair_id INTEGER PRIMARY KEY, split_group INTEGER);"
		"CREATE TABLE clean(pair_id INTEGER PRIMARY KEY, texts TEXT, topic INTEGER,"
		" category TEXT, scores TEXT);",
		&err));
}

void pack_exec(struct wl_db *db, const char *fmt, ...)
{
	struct wl_err err = WL_ERR_INIT;
	char sql[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sql, sizeof sql, fmt, ap);
	va_end(ap);
	OK(wl_db_exec(db, sql, &err));
}

/* What dedup and filter would have written about the pairs of a partition. */
static void make_stages(struct wl_corpus *c, int part, int parts)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_db dedup, filter;

	stage_db(c, "dedup", part, &dedup);
	stage_db(c, "filter", part, &filter);
	for (int i = part; i < N; i += parts) {
		long long id = pack_id_of(i), group = pack_id_of(pack_group_of(i));

		pack_exec(&dedup, "INSERT INTO examined VALUES(%lld)", id);
		pack_exec(&filter, "INSERT INTO examined VALUES(%lld)", id);
		pack_exec(&dedup, "INSERT INTO cluster VALUES(%lld,%lld)", id, group);
		pack_exec(&filter,
			"INSERT INTO clean VALUES(%lld,'[[\"caption\",\"第%d句\"],"
			"[\"title\",\"题%d\"],[\"alt_text\",\"别%d\"]]',%s,%s,NULL)",
			id, i, i, i, i % 5 ? "3" : "NULL", i % 5 == 1 ? "'sports'" : "NULL");
		if (pack_is_dup(i))
			pack_exec(&dedup, "INSERT INTO verdict VALUES(%lld,'duplicate-image','x')",
				id);
		if (pack_is_filtered(i))
			pack_exec(&filter, "INSERT INTO verdict VALUES(%lld,'short','x')", id);
	}
	OK(wl_db_commit(&dedup, &err));
	OK(wl_db_commit(&filter, &err));
	wl_db_close(&dedup);
	wl_db_close(&filter);
}

/* hinted: pairs 0..4 are named test by the input.  stages: 0 none, 1 dedup, 2 both. */
void pack_make_corpus(const char *dir, int parts, bool hinted, int stages)
{
	static const char *const names[] = {"dedup", "filter"};
	struct wl_err err = WL_ERR_INIT;
	struct wl_corpus *c = wl_corpus_open(dir, true, parts, &err);
	json_t *facts = json_pack("{s:s}", "params_hash", "p");

	assert_non_null(c);
	for (int part = 0; part < parts; part++) {
		struct wl_lane *l = wl_lane_open(c, part, &err);

		assert_non_null(l);
		for (int i = part; i < N; i += parts)
			add_pair(l, i, hinted && i < 5 ? (i < 3 ? "test" : "train") : "");
		OK(wl_lane_quarantine(l, "o", "q", "broken", "xyz", 3, &err));
		OK(wl_lane_commit(l, "o", "end", &err));
		wl_lane_close(l);
		if (stages)
			make_stages(c, part, parts);
	}
	for (int s = 0; s < stages; s++)
		OK(wl_corpus_publish(c, names[s], 1, facts, &err));
	json_decref(facts);
	wl_corpus_close(c);
}

static char dir[64];

int pack_setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/wl-pack-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

int pack_teardown(void **state)
{
	(void)state;
	return wl_remove_tree(dir, NULL);
}

const char *pack_in(const char *name)
{
	static char paths[64][128];
	static int n;
	char want[128];

	snprintf(want, sizeof want, "%s/%s", dir, name);
	for (int i = 0; i < n; i++)
		if (!strcmp(paths[i], want))
			return paths[i];
	assert_true(n < 64);
	return strcpy(paths[n++], want);
}

struct wl_pack_opts pack_options(const char *corpus, const char *out)
{
	return (struct wl_pack_opts){.corpus = corpus,
		.out = out,
		.threads = 2,
		.plan = {.test = 20, .val = 10, .shard_bytes = 150000, .seed = 7, .quality = 95}};
}

void pack_run(const struct wl_pack_opts *o, struct wl_pack_result *r)
{
	struct wl_err err = WL_ERR_INIT;

	OK(wl_pack(o, r, &err));
}

void pack_digest(const char *path, char hex[65])
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_names names;
	struct wl_sha256 h;
	uint8_t digest[32];

	OK(wl_list_dir(path, "*", &names, &err));
	OK(wl_sha256_init(&h, &err));
	for (size_t i = 0; i < names.n; i++) {
		char file[512];
		uint8_t d[32];

		if (*names.v[i] == '.' || !strncmp(names.v[i], "manifest.db", 11))
			continue;
		snprintf(file, sizeof file, "%s/%s", path, names.v[i]);
		OK(wl_sha256_file(file, d, &err));
		wl_sha256_add(&h, names.v[i], strlen(names.v[i]));
		wl_sha256_add(&h, d, sizeof d);
	}
	wl_sha256_final(&h, digest);
	wl_sha256_release(&h);
	wl_names_release(&names);
	wl_hex(digest, sizeof digest, hex);
}
