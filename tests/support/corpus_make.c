/* See corpus_make.h. */
#include "tests/support/corpus_make.h"

#include "ops/hash.h"
#include "tests/support/cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wl_err err;

static int below(uint64_t seed, uint64_t i, int n)
{
	return (int)(wl_rand64(seed, 77, i) % (uint64_t)n);
}

void draw_picture(uint64_t seed, int width, int height, struct wl_image *out)
{
	uint64_t r = 0;

	*out = (struct wl_image){width, height, 3, malloc((size_t)width * (size_t)height * 3)};
	assert_non_null(out->data);
	int base[3], slope[3];
	for (int c = 0; c < 3; c++) {
		base[c] = 40 + below(seed, r++, 120);
		slope[c] = below(seed, r++, 80);
	}
	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++)
			for (int c = 0; c < 3; c++)
				out->data[(y * width + x) * 3 + c] =
					(uint8_t)(base[c] + slope[c] * (c == 1 ? x : y) /
								    (c == 1 ? width : height));
	for (int blob = 0; blob < 14; blob++) {
		int cx = below(seed, r++, width), cy = below(seed, r++, height);
		int rx = 4 + below(seed, r++, width / 3), ry = 4 + below(seed, r++, height / 3);
		int colour[3];
		for (int c = 0; c < 3; c++)
			colour[c] = below(seed, r++, 256);
		for (int y = 0; y < height; y++)
			for (int x = 0; x < width; x++) {
				int64_t dx = x - cx, dy = y - cy;
				if (dx * dx * ry * ry + dy * dy * rx * rx >
					(int64_t)rx * rx * ry * ry)
					continue;
				for (int c = 0; c < 3; c++)
					out->data[(y * width + x) * 3 + c] = (uint8_t)colour[c];
			}
	}
}

void scale_brightness(struct wl_image *im, int percent)
{
	size_t n = (size_t)im->width * (size_t)im->height * (size_t)im->channels;

	for (size_t i = 0; i < n; i++) {
		int v = im->data[i] * percent / 100;
		im->data[i] = (uint8_t)(v > 255 ? 255 : v);
	}
}

void corpus_make_open(struct corpus_maker *m, const char *dir, int partitions)
{
	memset(m, 0, sizeof(*m));
	assert_true(partitions <= 8);
	m->c = wl_corpus_open(dir, true, partitions, &err);
	if (!m->c)
		fail_msg("%s", err.msg);
	for (int p = 0; p < partitions; p++) {
		m->lanes[p] = wl_lane_open(m->c, p, &err);
		if (!m->lanes[p])
			fail_msg("%s", err.msg);
	}
}

int64_t corpus_make_bytes(struct corpus_maker *m, const char *source, const char *texts,
	const char *split, const void *bytes, size_t n, int width, int height)
{
	char url[64];
	struct wl_pair p = {.source = source,
		.url = url,
		.page_url = "",
		.texts = texts,
		.split_hint = split,
		.format = "jpeg",
		.width = width,
		.height = height,
		.fetched_at = 1000 + m->added,
		.meta = "{}"};
	int lane = (int)(m->added % wl_corpus_partitions(m->c));
	int added;

	snprintf(url, sizeof(url), "http://x/%lld.jpg", (long long)m->added++);
	p.id = wl_pair_id(p.source, p.page_url, url, 0);
	OK(added = wl_lane_add(m->lanes[lane], &p, bytes, n, &err));
	assert_int_equal(added, 1);
	return p.id;
}

int64_t corpus_make_jpeg(struct corpus_maker *m, const char *source, const char *texts,
	const char *split, const struct wl_image *im, int quality)
{
	struct wl_buf b;
	int64_t id;

	wl_buf_init(&b, 1 << 24);
	OK(wl_image_encode_jpeg(im, quality, &b, &err));
	id = corpus_make_bytes(m, source, texts, split, b.data, b.len, im->width, im->height);
	wl_buf_release(&b);
	return id;
}

void corpus_make_close(struct corpus_maker *m)
{
	for (int p = 0; p < wl_corpus_partitions(m->c); p++) {
		char position[32];
		snprintf(position, sizeof(position), "%lld", (long long)m->added);
		OK(wl_lane_commit(m->lanes[p], "test", position, &err));
		wl_lane_close(m->lanes[p]);
	}
	wl_corpus_close(m->c);
}

static void dump_row(struct wl_buf *b, sqlite3_stmt *st)
{
	for (int i = 0; i < sqlite3_column_count(st); i++) {
		if (i)
			OK(wl_buf_putc(b, '|', &err));
		if (sqlite3_column_type(st, i) == SQLITE_BLOB) {
			size_t n = (size_t)sqlite3_column_bytes(st, i);
			char *hex = malloc(2 * n + 1);
			wl_hex(sqlite3_column_blob(st, i), n, hex);
			OK(wl_buf_puts(b, hex, &err));
			free(hex);
		} else if (sqlite3_column_type(st, i) != SQLITE_NULL) {
			OK(wl_buf_puts(b, (const char *)sqlite3_column_text(st, i), &err));
		}
	}
	OK(wl_buf_putc(b, '\n', &err));
}

void corpus_make_different(
	const char *dir, int partitions, int from, int to, int test, int64_t *id)
{
	struct corpus_maker m;

	corpus_make_open(&m, dir, partitions);
	m.added = from;
	for (int i = from; i < to; i++) {
		struct wl_image im;
		char text[200];

		draw_picture(3000 + (uint64_t)i, 96, 80, &im);
		snprintf(text, sizeof(text), "[[\"caption\",\"%c这里说的是第%06d件事情\"]]", 'a' + i % 26,
			i * 7919);
		id[i] = corpus_make_jpeg(&m, "news", text, i == test ? "test" : "", &im, 90);
		wl_image_release(&im);
	}
	corpus_make_close(&m);
}

char *stage_dump(const char *dir, const char *stage, const char *sql)
{
	struct wl_corpus *c = wl_corpus_open(dir, false, 0, &err);
	struct wl_buf b;

	if (!c)
		fail_msg("%s", err.msg);
	wl_buf_init(&b, 1 << 26);
	OK(wl_buf_puts(&b, "", &err));
	for (int p = 0; p < wl_corpus_partitions(c); p++) {
		char *path =
			wl_corpus_stage_path(c, stage, wl_corpus_generation(c, stage), p, &err);
		struct wl_db db;
		sqlite3_stmt *st = NULL;
		int row;
		assert_non_null(path);
		OK(wl_db_open(&db, path, WL_DB_READ, &err));
		OK(wl_db_prepare(&db, &st, sql, &err));
		while ((row = wl_db_step(&db, st, &err)) > 0)
			dump_row(&b, st);
		OK(row);
		sqlite3_finalize(st);
		wl_db_close(&db);
		free(path);
	}
	wl_corpus_close(c);
	return b.data;
}
