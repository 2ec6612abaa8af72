/*
 * Writing one shard: NAME.tar and NAME.db appear together, whole and synced, or not at all.
 * The bytes depend on the samples and their order alone.
 *
 * Two threads work behind the caller's back on a ring of four 4 MiB chunks: one hashes the tar,
 * which several writers may share, and is then faster (hasher.h); one of the writer's own writes
 * it (past the page cache where the file system allows it) and does the sealing, so that the next
 * shard can be filled while this one is being synced.
 */
#ifndef WL_SHARDS_WRITE_H
#define WL_SHARDS_WRITE_H

#include "ops/err.h"
#include "shards/manifest.h"

#include <stddef.h>
#include <stdint.h>

/* What KEY.json says.  Strings are borrowed; NULL is stored as "". */
struct wl_sample_facts {
	int64_t pair_id;
	const char *source, *url, *page_url, *title;
	int width, height;	     /* upright pixels of the JPEG */
	int64_t topic;		     /* -1: none (null) */
	const char *category;	     /* of the topic; NULL: none, then KEY.json has no such key */
	int64_t split_group;	     /* the pair's cluster; its own id when it has none */
	const char *boxes;	     /* JSON [[x1,y1,x2,y2],...] or NULL */
	const char *const *captions; /* [n_captions] UTF-8; the first becomes KEY.txt */
	size_t n_captions;
};

/* KEY.json: compact, sorted keys, to be freed.  WL_EDATA when a string is not UTF-8, boxes are
 * no JSON, or there is no caption. */
char *wl_sample_json(const struct wl_sample_facts *f, struct wl_err *err);

struct wl_sample {
	const void *jpg;
	size_t jpg_len;
	const uint8_t *jpg_sha256; /* [32], or NULL: computed here */
	const char *txt;	   /* captions[0] */
	const char *json;	   /* from wl_sample_json */
	int64_t pair_id, topic;	   /* topic -1: none */
	int width, height;
	const char *source, *url;
};

struct wl_shard_writer;

/* Starts DIR/SPLIT-NUMBER.tar; dir must exist.  plan: what the shard is part of (a hash, kept
 * in NAME.db and asked for on resuming), "" when nothing. */
struct wl_shard_writer *wl_shard_writer_new(
	const char *dir, const char *split, int64_t number, const char *plan, struct wl_err *err);
/* The same, hashed by a hasher that other writers share, and that outlives them; NULL: its own. */
struct wl_hasher;
struct wl_shard_writer *wl_shard_writer_new_beside(struct wl_hasher *hasher, const char *dir,
	const char *split, int64_t number, const char *plan, struct wl_err *err);
/* Appends the sample as the next index.  An error of the writer's threads shows up here or in
 * wl_shard_writer_wait. */
WL_MUST_CHECK int wl_shard_writer_add(
	struct wl_shard_writer *w, const struct wl_sample *s, struct wl_err *err);
/* Notes a pair that belongs here but has no usable picture, so that nothing is lost unseen. */
WL_MUST_CHECK int wl_shard_writer_reject(
	struct wl_shard_writer *w, int64_t pair_id, const char *reason, struct wl_err *err);
/* No more samples: sealing goes on in the writer's thread.  Nothing may be added after. */
void wl_shard_writer_finish(struct wl_shard_writer *w);
/* Waits until the shard is sealed under its final name; *out says what was written. */
WL_MUST_CHECK int wl_shard_writer_wait(
	struct wl_shard_writer *w, struct wl_shard_info *out, struct wl_err *err);
/* Frees; a shard that was not sealed is removed.  NULL is fine. */
void wl_shard_writer_free(struct wl_shard_writer *w);

#endif
