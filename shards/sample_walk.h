/*
 * Walks a shard's tar sample by sample, trusting nothing: verify and repair read through it.
 */
#ifndef WL_SHARDS_SAMPLE_WALK_H
#define WL_SHARDS_SAMPLE_WALK_H

#include "ops/buf.h"
#include "ops/err.h"
#include "shards/shard_db.h"
#include "shards/tar.h"

#include <jansson.h>
#include <stdbool.h>

struct wl_sample_walk {
	struct wl_tar_walk tar;
	int fd;
	char *path, *name;		 /* owned: the tar's path; "train-000000" */
	int64_t index;			 /* of the next sample */
	struct wl_buf bytes[WL_MEMBERS]; /* of the current sample */
	json_t *json;			 /* KEY.json of the current sample */
	struct wl_sha256 *whole;	 /* NULL, or what every byte of the tar goes through */
	bool no_picture_hash;		 /* rows come without sha256: the caller does it */
};

WL_MUST_CHECK int wl_sample_walk_open(
	struct wl_sample_walk *w, const char *dir, const char *name, struct wl_err *err);
/* The same on an open file, which the walk closes (also on failure); path is for messages. */
WL_MUST_CHECK int wl_sample_walk_open_fd(
	struct wl_sample_walk *w, int fd, const char *path, const char *name, struct wl_err *err);
/* Before the first sample: hash the tar as it is read. */
void wl_sample_walk_hash(struct wl_sample_walk *w, struct wl_sha256 *whole);
/* 1: *row says what the tar itself says of the next sample (strings live until the next call);
 * 0: the tar ended as it should; -1: WL_EDATA naming the key or the offset.  Checks: members
 * in order under the expected key, KEY.json is an object with the fields of its row and at
 * least one caption, KEY.txt equals captions[0]. */
WL_MUST_CHECK int wl_sample_walk_next(
	struct wl_sample_walk *w, struct wl_shard_row *row, struct wl_err *err);
void wl_sample_walk_close(struct wl_sample_walk *w);

#endif
