/* Reading pairs, images, counts and the fingerprint of a corpus. */
#include "ingest/corpus_priv.h"

#include "ops/file.h"
#include "ops/hash.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAIR_COLUMNS                                                                               \
	"SELECT id, source, url, page_url, texts, split_hint, image_sha256, segment, \"offset\","  \
	" length, format, width, height, boxes, fetched_at, meta FROM pair "

struct wl_pair_cursor {
	int partition;
	struct wl_db db; /* h NULL: the lane was never written to */
	sqlite3_stmt *walk, *find;
};

int wl_catalog_open(struct wl_corpus *c, int partition, struct wl_db *db, struct wl_err *err)
{
	char *path = wl_corpus_part_file(c, partition, "catalog.db", err);
	int ret = 0;
	*db = (struct wl_db){0};
	if (!path)
		return -1;
	if (wl_exists(path))
		ret = wl_db_open(db, path, WL_DB_READ_BY_ONE, err);
	/* A kill between making the file and its tables leaves an empty database. */
	int64_t tables = 0;
	if (ret == 0 && db->h)
		ret = wl_db_int(db, 0, &tables, err,
			"SELECT count(*) FROM sqlite_master WHERE name IN "
			"('pair','quarantine','segment')");
	if (ret == 0 && db->h && tables < 3)
		wl_db_close(db);
	free(path);
	return ret;
}

struct wl_pair_cursor *wl_pairs_open(struct wl_corpus *c, int partition, struct wl_err *err)
{
	struct wl_pair_cursor *cur = calloc(1, sizeof *cur);
	if (!cur) {
		wl_err_nomem(err, "a cursor", sizeof *cur);
		return NULL;
	}
	cur->partition = partition;
	if (wl_catalog_open(c, partition, &cur->db, err) < 0)
		goto fail;
	if (cur->db.h &&
		(wl_db_prepare(&cur->db, &cur->walk, PAIR_COLUMNS "ORDER BY id", err) < 0 ||
			wl_db_prepare(&cur->db, &cur->find, PAIR_COLUMNS "WHERE id = ?", err) < 0))
		goto fail;
	return cur;
fail:
	wl_pairs_close(cur);
	return NULL;
}

void wl_pairs_close(struct wl_pair_cursor *cur)
{
	if (!cur)
		return;
	sqlite3_finalize(cur->walk);
	sqlite3_finalize(cur->find);
	wl_db_close(&cur->db);
	free(cur);
}

const char *wl_corpus_text(sqlite3_stmt *s, int i)
{
	const char *t = (const char *)sqlite3_column_text(s, i);
	return t ? t : "";
}

static int fill(struct wl_pair_cursor *cur, sqlite3_stmt *s, struct wl_pair *p, struct wl_err *err)
{
	p->id = sqlite3_column_int64(s, 0);
	p->partition = cur->partition;
	p->source = wl_corpus_text(s, 1);
	p->url = wl_corpus_text(s, 2);
	p->page_url = wl_corpus_text(s, 3);
	p->texts = wl_corpus_text(s, 4);
	p->split_hint = wl_corpus_text(s, 5);
	if (sqlite3_column_bytes(s, 6) != (int)sizeof p->image_sha256)
		return wl_err_set(err, WL_EDATA,
			"%s: the image hash of pair %lld has %d bytes, not 32", cur->db.path,
			(long long)p->id, sqlite3_column_bytes(s, 6));
	memcpy(p->image_sha256, sqlite3_column_blob(s, 6), sizeof p->image_sha256);
	WL_READ_STORED(p, s, 7);
	p->boxes = (const char *)sqlite3_column_text(s, 13);
	p->fetched_at = sqlite3_column_int64(s, 14);
	p->meta = wl_corpus_text(s, 15);
	return 1;
}

int wl_pairs_next(struct wl_pair_cursor *cur, struct wl_pair *p, struct wl_err *err)
{
	if (!cur->walk)
		return 0;
	int row = wl_db_step(&cur->db, cur->walk, err);
	return row > 0 ? fill(cur, cur->walk, p, err) : row;
}

int wl_pairs_find(struct wl_pair_cursor *cur, int64_t id, struct wl_pair *p, struct wl_err *err)
{
	if (!cur->find)
		return 0;
	WL_TRY(wl_db_bind(&cur->db, cur->find, err, "i", id));
	int row = wl_db_step(&cur->db, cur->find, err);
	return row > 0 ? fill(cur, cur->find, p, err) : row;
}

int wl_pairs_hold(struct wl_pair_cursor *cur, struct wl_err *err)
{
	return cur->db.h ? wl_db_exec(&cur->db, "BEGIN", err) : 0;
}

/* ---- images ---- */

/* A slot that holds the segment already, or an idle one to be used for it; NULL: all busy. */
static struct wl_corpus_fd *pick_slot(struct wl_corpus *c, int partition, int segment)
{
	struct wl_corpus_fd *idle = NULL;
	for (struct wl_corpus_fd *f = c->fds; f < c->fds + WL_CORPUS_FDS; f++) {
		if (f->fd >= 0 && f->partition == partition && f->segment == segment)
			return f;
		if (f->users == 0 &&
			(!idle || f->fd < 0 || (idle->fd >= 0 && f->used_at < idle->used_at)))
			idle = f;
	}
	return idle;
}

static int open_segment(struct wl_corpus *c, int partition, int segment, struct wl_err *err)
{
	char *path = wl_corpus_segment_path(c, partition, segment, err);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (path && fd < 0)
		wl_err_errno(err, "raw segment %s cannot be opened", path);
	free(path);
	return fd;
}

/* Gives a descriptor and, unless all slots were busy, the slot it is shared through. */
static int take_fd(struct wl_corpus *c, int partition, int segment, struct wl_corpus_fd **slot,
	struct wl_err *err)
{
	int fd;
	pthread_mutex_lock(&c->lock);
	struct wl_corpus_fd *f = pick_slot(c, partition, segment);
	*slot = f;
	if (f && f->fd >= 0 && f->partition == partition && f->segment == segment) {
		fd = f->fd;
	} else {
		fd = open_segment(c, partition, segment, err);
		if (fd >= 0 && f) {
			if (f->fd >= 0)
				close(f->fd);
			*f = (struct wl_corpus_fd){
				.fd = fd, .partition = partition, .segment = segment};
		}
	}
	if (fd >= 0 && f) {
		f->users++;
		f->used_at = ++c->clock;
	}
	pthread_mutex_unlock(&c->lock);
	return fd;
}

static void give_fd(struct wl_corpus *c, int fd, struct wl_corpus_fd *slot)
{
	if (!slot) {
		close(fd);
		return;
	}
	pthread_mutex_lock(&c->lock);
	slot->users--;
	pthread_mutex_unlock(&c->lock);
}

/* The bytes by one read, which gets all of them nearly always; only where it does not is the path
 * made for what may be said. */
static int read_at(struct wl_corpus *c, const struct wl_pair *p, int fd, void *to, size_t n,
	struct wl_err *err)
{
	ssize_t got = pread(fd, to, n, p->offset);
	char *path;
	int rc;
	if (got >= 0 && (size_t)got == n)
		return 0;
	path = wl_corpus_segment_path(c, p->partition, p->segment, err);
	rc = path ? wl_pread_full(fd, to, n, p->offset, path, err) : -1;
	free(path);
	return rc;
}

int wl_corpus_image_bytes(
	struct wl_corpus *c, const struct wl_pair *p, struct wl_buf *out, struct wl_err *err)
{
	struct wl_corpus_fd *slot;
	size_t n = (size_t)p->length;
	int fd, rc;

	wl_buf_reset(out);
	WL_TRY(wl_buf_reserve(out, n, err));
	fd = take_fd(c, p->partition, p->segment, &slot, err);
	if (fd < 0)
		return -1;
	rc = read_at(c, p, fd, out->data, n, err);
	give_fd(c, fd, slot);
	if (rc == 0) {
		out->len = n;
		out->data[n] = '\0';
	}
	return rc;
}

int wl_corpus_image_check(struct wl_corpus *c, const struct wl_pair *p,
	const uint8_t digest[WL_SHA256_BYTES], struct wl_err *err)
{
	char *path;

	if (!memcmp(digest, p->image_sha256, sizeof p->image_sha256))
		return 0;
	path = wl_corpus_segment_path(c, p->partition, p->segment, err);
	if (!path)
		return -1;
	wl_err_set(err, WL_EDATA,
		"%s, %lld bytes at offset %lld: they are not the image of pair %05d-%lld "
		"(SHA-256 differs); the segment is damaged, restore it from a copy",
		path, (long long)p->length, (long long)p->offset, p->partition, (long long)p->id);
	free(path);
	return -1;
}

int wl_corpus_image(
	struct wl_corpus *c, const struct wl_pair *p, struct wl_buf *out, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];

	WL_TRY(wl_corpus_image_bytes(c, p, out, err));
	wl_sha256(out->data, out->len, digest);
	return wl_corpus_image_check(c, p, digest, err);
}

/* ---- counts and fingerprint ---- */

static int count_lane(
	struct wl_corpus *c, int partition, struct wl_corpus_counts *out, struct wl_err *err)
{
	struct wl_db db;
	int64_t pairs, quarantined, segments, bytes, has_pending, pending = 0, left_out = 0;
	int ret = -1;
	WL_TRY(wl_catalog_open(c, partition, &db, err));
	if (!db.h)
		return 0;
	WL_TRY_OUT(wl_db_int(&db, 0, &pairs, err, "SELECT count(*) FROM pair"));
	WL_TRY_OUT(wl_db_int(&db, 0, &quarantined, err, "SELECT count(*) FROM quarantine"));
	WL_TRY_OUT(wl_db_int(&db, 0, &segments, err, "SELECT count(*) FROM segment"));
	WL_TRY_OUT(wl_db_int(&db, 0, &bytes, err, "SELECT sum(length) FROM segment"));
	/* Catalogs of before there were fetches have no such table. */
	WL_TRY_OUT(wl_db_int(&db, 0, &has_pending, err,
		"SELECT count(*) FROM sqlite_master WHERE name = 'pending'"));
	if (has_pending) {
		WL_TRY_OUT(wl_db_int(&db, 0, &pending, err,
			"SELECT count(*) FROM pending WHERE failed = 0"));
		WL_TRY_OUT(wl_db_int(&db, 0, &left_out, err,
			"SELECT count(*) FROM pending WHERE failed = 2"));
	}
	out->pending += pending;
	out->left_out += left_out;
	out->pairs += pairs;
	out->quarantined += quarantined;
	out->segments += segments;
	out->bytes += bytes;
	ret = 0;
out:
	wl_db_close(&db);
	return ret;
}

int wl_corpus_count(struct wl_corpus *c, struct wl_corpus_counts *out, struct wl_err *err)
{
	struct wl_corpus_counts sum = {0};
	for (int p = 0; p < c->partitions; p++)
		WL_TRY(count_lane(c, p, &sum, err));
	*out = sum;
	return 0;
}

/* One lane's place in the merge by id. */
struct head {
	struct wl_pair_cursor *cur;
	struct wl_pair pair;
};

static bool before(const struct head *a, const struct head *b)
{
	return a->pair.id < b->pair.id ||
	       (a->pair.id == b->pair.id && a->pair.partition < b->pair.partition);
}

/* Binary heap of n heads, smallest first: moves heap[i] down to its place. */
static void sift_down(struct head *heap, size_t n, size_t i)
{
	for (;;) {
		size_t least = i, l = 2 * i + 1;
		if (l < n && before(&heap[l], &heap[least]))
			least = l;
		if (l + 1 < n && before(&heap[l + 1], &heap[least]))
			least = l + 1;
		if (least == i)
			return;
		struct head t = heap[i];
		heap[i] = heap[least];
		heap[least] = t;
		i = least;
	}
}

static void hash_pair(struct wl_sha256 *h, const struct wl_pair *p)
{
	size_t len = strlen(p->texts);
	uint8_t be[16];
	for (int i = 0; i < 8; i++) {
		be[i] = (uint8_t)((uint64_t)p->id >> (56 - 8 * i));
		be[8 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
	}
	wl_sha256_add(h, be, sizeof be);
	wl_sha256_add(h, p->image_sha256, sizeof p->image_sha256);
	wl_sha256_add(h, p->texts, len);
}

static int merge(struct head *heap, size_t n, struct wl_sha256 *h, struct wl_err *err)
{
	for (size_t i = n; i-- > 0;)
		sift_down(heap, n, i);
	while (n) {
		hash_pair(h, &heap[0].pair);
		int row = wl_pairs_next(heap[0].cur, &heap[0].pair, err);
		WL_TRY(row);
		if (row == 0) {
			struct head t = heap[0];
			heap[0] = heap[--n];
			heap[n] = t; /* stays in the array: its cursor is closed at the end */
		}
		sift_down(heap, n, 0);
	}
	return 0;
}

int wl_corpus_fingerprint(struct wl_corpus *c, char hex[65], struct wl_err *err)
{
	struct head *heap = calloc((size_t)c->partitions, sizeof *heap);
	struct wl_sha256 h = {0};
	uint8_t digest[WL_SHA256_BYTES];
	size_t n = 0;
	int ret = -1;
	if (!heap)
		return wl_err_nomem(
			err, "a merge of partitions", (size_t)c->partitions * sizeof *heap);
	WL_TRY_OUT(wl_sha256_init(&h, err));
	for (int p = 0; p < c->partitions; p++) {
		struct wl_pair_cursor *cur = wl_pairs_open(c, p, err);
		if (!cur)
			goto out;
		heap[n].cur = cur;
		int row = wl_pairs_next(cur, &heap[n].pair, err);
		if (row > 0) {
			n++;
			continue;
		}
		wl_pairs_close(cur);
		heap[n].cur = NULL;
		if (row < 0)
			goto out;
	}
	WL_TRY_OUT(merge(heap, n, &h, err));
	wl_sha256_final(&h, digest);
	wl_hex(digest, sizeof digest, hex);
	ret = 0;
out:
	for (size_t i = 0; i < n; i++)
		wl_pairs_close(heap[i].cur);
	free(heap);
	wl_sha256_release(&h);
	return ret;
}
