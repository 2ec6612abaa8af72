/*
 * What dedup finds of copies of photos that went through what happens on the web
 * (tests/support/transform.h), by hashes and by embeddings; bench_copies.sh runs it.
 *
 *   bench_copies make DIR N      N photos of Flickr8k-CN and 15 changed copies of each, as files
 *   bench_copies check CORPUS    a line: recall of each change, and pairs of different photos that
 *                                are taken for one
 */
#include "ingest/corpus.h"
#include "ops/file.h"
#include "tests/support/cm.h"
#include "tests/support/corpus_make.h"
#include "tests/support/transform.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PHOTOS "../shared/data/flickr8kcn/test.tar"

static struct wl_err err;

static int give_up(void)
{
	fprintf(stderr, "bench_copies: %s\n", err.msg);
	return 1;
}

/* ---- make ---- */

/* Copy 0 is the photo itself. */
static int save(const char *dir, int photo, int copy, const struct wl_image *im)
{
	char *path = wl_strf(&err, "%s/%05d-%02d.jpg", dir, photo, copy), text[64];
	char *beside = wl_strf(&err, "%s/%05d-%02d.txt", dir, photo, copy);
	struct wl_buf b;
	int ret = path && beside ? 0 : -1;

	wl_buf_init(&b, 64 << 20);
	snprintf(text, sizeof(text), "第%d张照片的第%d份\n", photo, copy);
	if (ret == 0)
		ret = wl_image_encode_jpeg(im, 92, &b, &err);
	if (ret == 0)
		ret = wl_write_file(path, b.data, b.len, &err);
	if (ret == 0)
		ret = wl_write_file(beside, text, strlen(text), &err);
	wl_buf_release(&b);
	free(path);
	free(beside);
	return ret;
}

static int save_all(const char *dir, int photo, const void *bytes, size_t n)
{
	struct wl_image im = {0};
	int ret = wl_image_decode(bytes, n, &im, &err);

	if (ret == 0)
		ret = save(dir, photo, 0, &im);
	for (int t = 0; t < TRANSFORMS && ret == 0; t++) {
		struct wl_image out = {0};
		transform_make(&im, (enum transform)t, 5000 + (uint64_t)photo * 31 + (uint64_t)t,
			&out);
		ret = save(dir, photo, t + 1, &out);
		wl_image_release(&out);
	}
	wl_image_release(&im);
	return ret;
}

static int make(const char *dir, int n)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	int i = 0, ret = wl_mkdir_p(dir, &err);

	archive_read_support_format_tar(a);
	if (ret == 0 && archive_read_open_filename(a, PHOTOS, 1 << 16) != ARCHIVE_OK) {
		printf("SKIPPED: %s is not here\n", PHOTOS);
		ret = 2;
	}
	while (ret == 0 && i < n && archive_read_next_header(a, &e) == ARCHIVE_OK) {
		size_t size = (size_t)archive_entry_size(e);
		char *bytes = malloc(size + 1);
		if (!bytes || archive_read_data(a, bytes, size) != (la_ssize_t)size)
			ret = wl_err_set(&err, WL_EFAIL, "%s: cut short", PHOTOS);
		else if (strstr(archive_entry_pathname(e), ".jpg"))
			ret = save_all(dir, i++, bytes, size);
		free(bytes);
	}
	archive_read_free(a);
	return ret < 0 ? give_up() : ret;
}

/* ---- check ---- */

struct name {
	int64_t id;
	int photo, copy;
};

struct names {
	struct name *v;
	size_t n, cap;
	int photos;
};

static int by_id(const void *p, const void *q)
{
	const struct name *a = p, *b = q;

	return (a->id > b->id) - (a->id < b->id);
}

static int read_partition(struct wl_corpus *c, int p, struct names *out)
{
	struct wl_pair_cursor *cur = wl_pairs_open(c, p, &err);
	struct wl_pair pair;
	int row = cur ? 0 : -1;

	while (cur && (row = wl_pairs_next(cur, &pair, &err)) > 0) {
		struct name x = {.id = pair.id};
		const char *s = strstr(pair.texts, "第");
		if (out->n == out->cap) {
			out->cap = out->cap ? 2 * out->cap : 1024;
			out->v = realloc(out->v, out->cap * sizeof(*out->v));
		}
		if (!out->v || !s || sscanf(s, "第%d张照片的第%d份", &x.photo, &x.copy) != 2) {
			row = wl_err_set(&err, WL_EDATA, "pair %lld is none of `make`",
				(long long)pair.id);
			break;
		}
		out->photos += x.copy == 0;
		out->v[out->n++] = x;
	}
	wl_pairs_close(cur);
	return row;
}

static int read_names(const char *dir, struct names *out)
{
	struct wl_corpus *c = wl_corpus_open(dir, false, 0, &err);
	int ret = c ? 0 : -1;

	for (int p = 0; ret == 0 && p < wl_corpus_partitions(c); p++)
		ret = read_partition(c, p, out);
	wl_corpus_close(c);
	if (ret == 0)
		qsort(out->v, out->n, sizeof(*out->v), by_id);
	return ret;
}

static int check(const char *dir)
{
	struct names names = {0};
	int found[TRANSFORMS] = {0}, all = 0, wrong = 0;
	char *edges, *line, *save_at = NULL;
	long long a, b;

	if (read_names(dir, &names) < 0)
		return give_up();
	edges = stage_dump(dir, "dedup", "SELECT a, b FROM edge WHERE kind = 0");
	for (line = strtok_r(edges, "\n", &save_at); line; line = strtok_r(NULL, "\n", &save_at)) {
		struct name *x, *y, key = {0};
		if (sscanf(line, "%lld|%lld", &a, &b) != 2)
			continue;
		key.id = a;
		x = bsearch(&key, names.v, names.n, sizeof(key), by_id);
		key.id = b;
		y = bsearch(&key, names.v, names.n, sizeof(key), by_id);
		if (!x || !y)
			continue;
		all++;
		wrong += x->photo != y->photo;
		if (x->photo == y->photo && (x->copy == 0 || y->copy == 0))
			found[x->copy + y->copy - 1]++;
	}
	int sum = 0;
	for (int t = 0; t < TRANSFORMS; t++) {
		printf("%s %.0f, ", transform_name((enum transform)t),
			100.0 * found[t] / names.photos);
		sum += found[t];
	}
	printf("all %.1f %%; %d of %d pairs are of different photos (precision %.2f %%)\n",
		100.0 * sum / (names.photos * TRANSFORMS), wrong, all,
		all ? 100.0 * (all - wrong) / all : 100.0);
	free(edges);
	free(names.v);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "make") == 0)
		return make(argv[2], atoi(argv[3]));
	if (argc == 3 && strcmp(argv[1], "check") == 0)
		return check(argv[2]);
	fprintf(stderr, "usage: bench_copies make DIR N | check CORPUS\n");
	return 2;
}
