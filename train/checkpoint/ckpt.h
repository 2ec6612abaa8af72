/*
 * Checkpoint directories: RUN/ckpt-STEP/ with any files and a state.json that
 * names each with its length and SHA-256 and closes with a hash of itself.
 *
 * A checkpoint is written under a temporary name (.ckpt-STEP.tmp), every file
 * synced and hashed, state.json last, then renamed and the run's directory
 * synced: a kill at any instant leaves either the whole checkpoint or a
 * temporary directory that the next begin removes.  Old ones are renamed to a
 * temporary name before they are deleted, so no half-deleted one is ever seen.
 * What is in the files is the caller's business (train/state.c).
 */
#ifndef WL_TRAIN_CHECKPOINT_CKPT_H
#define WL_TRAIN_CHECKPOINT_CKPT_H

#include "ops/file.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { WL_CKPT_VERSION = 1 };

/* A checkpoint being written. */
struct wl_ckpt {
	char *run_dir, *tmp, *path; /* owned; path: its final name */
	int64_t step;
};

/* Makes RUN/.ckpt-STEP.tmp, empty, after removing what earlier kills left.  WL_EFAIL when
 * RUN/ckpt-STEP exists already. */
WL_MUST_CHECK int wl_ckpt_begin(struct wl_ckpt *c, const char *run_dir, int64_t step,
	struct wl_err *err);
/* The names alone, on a rank that writes into what another one has begun; then wl_ckpt_leave. */
WL_MUST_CHECK int wl_ckpt_join(struct wl_ckpt *c, const char *run_dir, int64_t step,
	struct wl_err *err);
void wl_ckpt_leave(struct wl_ckpt *c);
/* The path under which to write the file `name`; the caller frees it. */
char *wl_ckpt_file(const struct wl_ckpt *c, const char *name, struct wl_err *err);
/* Copies an existing file into the checkpoint. */
WL_MUST_CHECK int wl_ckpt_copy(const struct wl_ckpt *c, const char *from, const char *name,
	struct wl_err *err);
/* Syncs and hashes every file, writes state.json (`state` gets the keys version, step, files
 * and check), renames, points RUN/latest at it.  On failure the old state stands. */
WL_MUST_CHECK int wl_ckpt_commit(struct wl_ckpt *c, json_t *state, struct wl_err *err);
/* The same in two parts, for files of several ranks.  {name: {bytes, sha256}} of these files, each
 * synced first; a new reference, NULL on failure. */
json_t *wl_ckpt_describe(const struct wl_ckpt *c, const struct wl_names *names,
	struct wl_err *err);
/* files: the descriptions of all files, borrowed; WL_EFAIL when the directory holds others. */
WL_MUST_CHECK int wl_ckpt_commit_files(struct wl_ckpt *c, json_t *state, json_t *files,
	struct wl_err *err);
/* Removes the temporary directory of one not committed; frees the names. */
void wl_ckpt_release(struct wl_ckpt *c);

/* The step of RUN's newest complete checkpoint, -1 when there is none; -2 on failure.
 * A directory of that name without a readable state.json, or with a file missing or of another
 * length, is not complete: it is named in a warning and passed over.  When there are
 * checkpoints and none is complete: WL_ECKPT, since starting afresh would hide it. */
WL_MUST_CHECK int64_t wl_ckpt_newest(const char *run_dir, struct wl_err *err);

/* Finds and verifies a checkpoint: `path` is one, or a run's directory (its newest complete one
 * is taken).  On success *dir (the caller frees) and *state (owned by the caller) are set.
 * Every file is hashed; one that differs is WL_ECKPT, and so is a path with no checkpoint. */
WL_MUST_CHECK int wl_ckpt_load(const char *path, char **dir, json_t **state, struct wl_err *err);

/* state.json of a checkpoint that somebody else has verified; NULL on failure. */
json_t *wl_ckpt_state(const char *dir, struct wl_err *err);

/* Deletes all but the newest `keep` (at least 1) of RUN's checkpoints, and all but those of steps
 * that are multiples of `every` (0: no step is). */
WL_MUST_CHECK int wl_ckpt_prune(const char *run_dir, int64_t keep, int64_t every,
	struct wl_err *err);

#endif
