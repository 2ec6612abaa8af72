/*
 * See saver.h.  Each rank is IDLE, WRITING its files, WRITTEN, FAILED, or (rank 0)
 * COMPLETING; where stores lie in pieces, WRITING first what other ranks want for theirs, then
 * SHARED.  Ranks move on together:
 *
 *   save       IDLE -> WRITING
 *   advance    all SHARED -> WRITING
 *   advance    all WRITTEN -> rank 0 COMPLETING, others IDLE
 *   advance    rank 0's thread has completed it -> IDLE
 *
 * A rank hashes its own files as it writes them, so that rank 0 need not read
 * what others wrote.
 */
#include "train/saver.h"

#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "train/checkpoint/ckpt.h"
#include "train/state.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* In the order of "how far behind": the largest of all ranks says what may be done. */
enum state { IDLE, WRITTEN, COMPLETED, SHARED, WRITING, COMPLETING, FAILED };

struct wl_saver {
	struct wl_trainer *t;
	struct wl_saver_config config;
	struct wl_snapshot snapshot;
	struct wl_ckpt ckpt; /* being written; run_dir NULL: none is */
	json_t *files;       /* of this rank, then (rank 0) of all: names, lengths, hashes */
	pthread_t thread;
	bool running; /* there is a thread to join */
	pthread_mutex_t lock;
	enum state state;
	struct wl_err err; /* of FAILED */
};

static bool first(const struct wl_saver *s)
{
	return wl_dist_rank(s->t->dist) == 0;
}

static void set_state(struct wl_saver *s, enum state state)
{
	pthread_mutex_lock(&s->lock);
	s->state = state;
	pthread_mutex_unlock(&s->lock);
}

int64_t wl_saver_state(struct wl_saver *s)
{
	int64_t state;

	pthread_mutex_lock(&s->lock);
	state = s->state;
	pthread_mutex_unlock(&s->lock);
	return state;
}

struct wl_saver *wl_saver_open(struct wl_trainer *t, const struct wl_saver_config *config,
	struct wl_err *err)
{
	struct wl_saver *s = calloc(1, sizeof *s);

	if (!s) {
		wl_err_nomem(err, "the writer of checkpoints", sizeof *s);
		return NULL;
	}
	s->t = t;
	s->config = *config;
	pthread_mutex_init(&s->lock, NULL);
	if (wl_snapshot_reserve(&s->snapshot, t, err) < 0) {
		wl_saver_close(s);
		return NULL;
	}
	return s;
}

static void join(struct wl_saver *s)
{
	if (s->running)
		pthread_join(s->thread, NULL);
	s->running = false;
}

/* Nothing is under way any more. */
static void forget(struct wl_saver *s)
{
	join(s);
	if (first(s))
		wl_ckpt_release(&s->ckpt);
	else
		wl_ckpt_leave(&s->ckpt);
	json_decref(s->files);
	s->files = NULL;
	wl_snapshot_drop(&s->snapshot);
	set_state(s, IDLE);
}

void wl_saver_close(struct wl_saver *s)
{
	if (!s)
		return;
	forget(s);
	wl_snapshot_release(&s->snapshot);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* --- in the thread --- */

/* rank 0's files that are not of the snapshot. */
static int write_extras(struct wl_saver *s, struct wl_err *err)
{
	char *path;
	int ret;

	if (s->config.vocab)
		WL_TRY(wl_ckpt_copy(&s->ckpt, s->config.vocab, "vocab.txt", err));
	if (!s->config.preprocess)
		return 0;
	path = wl_ckpt_file(&s->ckpt, "preprocess.json", err);
	ret = path ? wl_json_save(path, s->config.preprocess, err) : -1;
	free(path);
	return ret;
}

static int write_files(struct wl_saver *s, struct wl_err *err)
{
	struct wl_names names = {0};
	int ret;

	WL_TRY(wl_snapshot_write(&s->snapshot, s->ckpt.tmp, &names, err));
	ret = first(s) ? write_extras(s, err) : 0;
	if (ret == 0 && first(s) && s->config.vocab)
		ret = wl_names_add(&names, "vocab.txt", err);
	if (ret == 0 && first(s) && s->config.preprocess)
		ret = wl_names_add(&names, "preprocess.json", err);
	if (ret == 0) {
		s->files = wl_ckpt_describe(&s->ckpt, &names, err);
		ret = s->files ? 0 : -1;
	}
	wl_names_release(&names);
	return ret;
}

static void *write_thread(void *arg)
{
	struct wl_saver *s = arg;

	set_state(s, write_files(s, &s->err) < 0 ? FAILED : WRITTEN);
	return NULL;
}

static void *share_thread(void *arg)
{
	struct wl_saver *s = arg;
	int ret = wl_snapshot_share(&s->snapshot, s->ckpt.tmp, &s->err);

	set_state(s, ret < 0 ? FAILED : SHARED);
	return NULL;
}

static int complete(struct wl_saver *s, struct wl_err *err)
{
	WL_TRY(wl_ckpt_commit_files(&s->ckpt, s->snapshot.state, s->files, err));
	return wl_ckpt_prune(s->config.run_dir, s->config.keep, s->config.keep_every, err);
}

static void *complete_thread(void *arg)
{
	struct wl_saver *s = arg;

	set_state(s, complete(s, &s->err) < 0 ? FAILED : COMPLETED);
	return NULL;
}

/* Without a thread to be had, the work is done here. */
static void spawn(struct wl_saver *s, void *(*work)(void *), bool here)
{
	join(s);
	s->running = !here && pthread_create(&s->thread, NULL, work, s) == 0;
	if (!s->running)
		work(s);
}

/* --- in the main thread --- */

/* Descriptions of all ranks' files in rank 0's. */
static int gather_files(struct wl_saver *s, struct wl_err *err)
{
	struct wl_comm *comm = wl_dist_comm(s->t->dist);
	char *text, *all = NULL, *at;
	size_t *of;
	int ret = -1;

	if (!s->t->dist)
		return 0;
	text = json_dumps(s->files, JSON_COMPACT);
	of = calloc((size_t)wl_comm_size(comm), sizeof *of);
	if (!text || !of) {
		wl_err_nomem(err, "a list of files", 0);
		goto out;
	}
	WL_TRY_OUT(wl_comm_all_gatherv(comm, text, strlen(text), (void **)&all, of, err));
	at = all;
	for (int r = 0; r < wl_comm_size(comm); at += of[r++]) {
		json_t *files = json_loadb(at, of[r], 0, NULL);

		if (!files || json_object_update(s->files, files)) {
			json_decref(files);
			wl_err_nomem(err, "a list of files", 0);
			goto out;
		}
		json_decref(files);
	}
	ret = 0;
out:
	free(text);
	free(of);
	free(all);
	return ret;
}

static int advance(struct wl_saver *s, int64_t worst, bool here, struct wl_err *err)
{
	if (worst == FAILED) {
		bool mine = wl_saver_state(s) == FAILED;

		join(s);
		if (mine && err)
			*err = s->err;
		forget(s);
		return mine ? -1 : wl_err_set(err, WL_EFAIL, "a checkpoint could not be written "
			"by another rank; its own message says why");
	}
	if (worst == SHARED) {
		set_state(s, WRITING);
		spawn(s, write_thread, here);
		return 0;
	}
	if (worst == WRITTEN) {
		join(s);
		WL_TRY(gather_files(s, err));
		if (!first(s)) {
			forget(s);
			return 0;
		}
		set_state(s, COMPLETING);
		spawn(s, complete_thread, here);
		return 0;
	}
	if (worst == COMPLETED)
		forget(s);
	return 0;
}

int wl_saver_advance(struct wl_saver *s, int64_t worst, struct wl_err *err)
{
	return advance(s, worst, false, err);
}

/* Waits for this rank's thread, then lets all go on, until all are idle. */
static int finish(struct wl_saver *s, struct wl_err *err)
{
	for (;;) {
		int64_t worst;

		join(s);
		worst = wl_saver_state(s);
		if (s->t->dist)
			WL_TRY(wl_comm_all_reduce(wl_dist_comm(s->t->dist), &worst, 1, WL_COMM_I64,
				WL_COMM_MAX, err));
		if (worst == IDLE)
			return 0;
		WL_TRY(advance(s, worst, true, err));
	}
}

int wl_saver_finish(struct wl_saver *s, struct wl_err *err)
{
	return finish(s, err);
}

/* Rank 0 makes the directory, the others learn its name. */
static int begin(struct wl_saver *s, struct wl_err *err)
{
	int64_t step = s->t->step;
	int ret = first(s) ? wl_ckpt_begin(&s->ckpt, s->config.run_dir, step, err)
			   : wl_ckpt_join(&s->ckpt, s->config.run_dir, step, err);

	return wl_trainer_agree(s->t, ret, "begin a checkpoint", err);
}

static int exists(struct wl_saver *s, int64_t *yes, struct wl_err *err)
{
	char *done = wl_strf(err, "%s/ckpt-%08lld/state.json", s->config.run_dir,
		(long long)s->t->step);

	if (!done)
		return -1;
	*yes = wl_exists(done);
	free(done);
	if (s->t->dist)
		WL_TRY(wl_comm_broadcast(wl_dist_comm(s->t->dist), yes, sizeof *yes, 0, err));
	return 0;
}

int wl_saver_save(struct wl_saver *s, json_t *extra, bool last, struct wl_err *err)
{
	bool here = last || s->config.wait;
	int64_t there;

	WL_TRY(finish(s, err));
	WL_TRY(exists(s, &there, err));
	if (there)
		return 0;
	if (begin(s, err) < 0 ||
		wl_trainer_agree(s->t, wl_snapshot_take(&s->snapshot, s->t, !here, extra, err),
			"copy its state", err) < 0) {
		forget(s);
		return -1;
	}
	set_state(s, WRITING);
	spawn(s, wl_snapshot_shares(&s->snapshot) ? share_thread : write_thread, here);
	return here ? finish(s, err) : 0;
}
