/*
 * Reading shards.  A shard set is a directory
 *
 *   manifest.db                 shard(name, split, bytes, samples, sha256 (hex, of the tar),
 *                               sealed_at, rejected),
 *                               meta(key, value), tombstone(pair_id PRIMARY KEY, reason, at)
 *   {train,val,test}-NNNNNN.tar WebDataset: KEY.jpg, KEY.txt (= captions[0]), KEY.json
 *   {train,...}-NNNNNN.db       sample(idx INTEGER PRIMARY KEY, key, pair_id, jpg_offset,
 *                               jpg_length, txt_offset, txt_length, json_offset, json_length,
 *                               sha256 (32 bytes, of the jpg), width, height, source, topic,
 *                               url), rejected(pair_id, reason), and shard(...): one row
 *                               about the tar
 *
 * KEY is `train-000000_000123` (shard, index; no dot: WebDataset cuts at the first one).
 * KEY.json: {pair_id, source, url, page_url, title, width, height, topic, [category], boxes,
 * captions:[...], split_group}.  Offsets point at the member's bytes (not its header), so a
 * sample is read by pread alone.
 *
 * A directory of tars without a manifest is read too (foreign.h): its samples are its numbers,
 * its keys "TAR KEY".
 */
#ifndef WL_SHARDS_SHARD_H
#define WL_SHARDS_SHARD_H

#include "ops/buf.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

struct wl_shardset; /* an open set: safe to read from any thread */

/* Where a set lies, and how it will be read.  Only .at is needed. */
struct wl_shard_place {
	const char *at;	     /* the directory, or the URL of one: http(s)://..., s3://... (web.h) */
	const char *cache;   /* of a URL: the folder for whole shards (cache.h); NULL: the user's */
	int64_t cache_bytes; /* of a URL: the most that it may hold; 0: 20 GB */
	bool in_order; /* samples are read in order: shards behind may go, the next is fetched */
	int stall_s;   /* of a URL: seconds without a byte that break a connection; 0: 20 */
};
struct wl_manifest;
/* The set's manifest (manifest.h), wherever it lies. */
WL_MUST_CHECK int wl_shard_manifest(
	const struct wl_shard_place *at, struct wl_manifest *m, struct wl_err *err);

/* split: "train", "val", "test".  Samples are numbered 0..n-1 over its shards in the order of
 * their names (tombstoned ones included: see wl_shardset_dead).  Opening reads the manifest and
 * compares the tars' sizes; where a shard's samples lie is read when the first of them is (4 bytes
 * a sample: places.h), so that a set of 30 M samples opens at once.
 * NULL on failure: WL_EDATA for a damaged or missing manifest or shard. */
struct wl_shardset *wl_shardset_open_at(
	const struct wl_shard_place *at, const char *split, struct wl_err *err);
/* The same for a place that is nothing but a directory or a URL. */
struct wl_shardset *wl_shardset_open(const char *dir, const char *split, struct wl_err *err);
void wl_shardset_close(struct wl_shardset *s);
int64_t wl_shardset_size(const struct wl_shardset *s);
/* Samples that were taken down, never to be shown: their numbers, ascending. */
const int64_t *wl_shardset_dead_samples(const struct wl_shardset *s, int64_t *n);
bool wl_shardset_dead(const struct wl_shardset *s, int64_t i);
/* SHA-256 (hex) of the manifest's facts: the same for the same shards. */
const char *wl_shardset_fingerprint(const struct wl_shardset *s);
/* The pair ids of all samples, read from the NAME.db files, into out[n]. */
WL_MUST_CHECK int wl_shardset_pair_ids(struct wl_shardset *s, int64_t *out, struct wl_err *err);

/* fn(ctx, sample, source) for every sample in order, from the shards' databases; the first
 * failure of fn ends it. */
typedef int wl_source_fn(void *ctx, int64_t sample, const char *source, struct wl_err *err);
WL_MUST_CHECK int wl_shardset_sources(
	struct wl_shardset *s, wl_source_fn *fn, void *ctx, struct wl_err *err);

/* Members of sample i into the buffers (NULL: not wanted).  WL_EDATA naming shard and key when the
 * shard's index or the tar's headers are not what this sample needs. */
WL_MUST_CHECK int wl_shardset_read(struct wl_shardset *s, int64_t i, struct wl_buf *jpg,
	struct wl_buf *json, struct wl_err *err);
/* Says that sample i will be asked for soon, with its picture: a set elsewhere begins to fetch it.
 */
void wl_shardset_ahead(struct wl_shardset *s, int64_t i);
/* "train-000000_000123" into out. */
enum { WL_KEY_MAX = 64 };
void wl_shardset_key(const struct wl_shardset *s, int64_t i, char out[WL_KEY_MAX]);
/* KEY.txt, which is captions[0]. */
WL_MUST_CHECK int wl_shardset_read_text(
	struct wl_shardset *s, int64_t i, struct wl_buf *txt, struct wl_err *err);
/* The sample of that key, -1 when there is none. */
int64_t wl_shardset_find(const struct wl_shardset *s, const char *key);

#endif
