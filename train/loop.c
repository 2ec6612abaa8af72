/*
 * The training loop: see loop.h.
 *
 * Order of a step's traces: metrics line, then (where due) checkpoint.  A
 * checkpoint states how long metrics.jsonl was, synced, when it was written;
 * what a kill leaves behind that length belongs to steps that run again.
 */
#include "train/loop.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "ops/signals.h"
#include "train/checkpoint/ckpt.h"
#include "train/training.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* metrics.jsonl, cut to what the checkpoint knew, open for more. */
static int open_metrics(struct wl_training *r, int64_t bytes, struct wl_err *err)
{
	int64_t have;

	if (!wl_training_first(r))
		return 0;
	have = wl_exists(r->metrics_path) ? wl_file_size(r->metrics_path, err) : 0;
	if (have < 0)
		return -1;
	if (have > bytes && truncate(r->metrics_path, bytes) < 0)
		return wl_err_errno(
			err, "%s: cannot be cut to %lld bytes", r->metrics_path, (long long)bytes);
	if (have < bytes)
		wl_warn("%s has %lld bytes and the checkpoint knows of %lld: lines are missing",
			r->metrics_path, (long long)have, (long long)bytes);
	return wl_jsonl_open(&r->teller.metrics, r->metrics_path, err);
}

static int start_fresh(struct wl_training *r, struct wl_err *err)
{
	struct wl_trainer *t = &r->trainer;
	const struct wl_towers *towers = &r->job->towers;

	WL_TRY(towers->init(&t->params, towers->model, t->seed, err));
	WL_TRY(wl_train_import(&t->params, &r->config->init, err));
	wl_trainer_start(t);
	return open_metrics(r, 0, err);
}

/* The vocabulary must be the checkpoint's, or every token id means another word; other shards
 * are allowed (data may have come in), but said. */
static int check_inputs(const struct wl_training *r, const json_t *state, struct wl_err *err)
{
	const json_t *extra = json_object_get(state, "run");
	const char *had = json_string_value(json_object_get(extra, "shards"));
	const char *vocab = json_string_value(json_object_get(
		json_object_get(json_object_get(state, "files"), "vocab.txt"), "sha256"));
	uint8_t sum[WL_SHA256_BYTES];
	char hex[WL_SHA256_HEX];

	WL_TRY(wl_sha256_file(r->config->vocab, sum, err));
	wl_hex(sum, sizeof sum, hex);
	if (vocab && strcmp(vocab, hex))
		return wl_err_set(err, WL_EUSAGE,
			"%s is not the vocabulary that the run at %s began "
			"with; give that one (its checkpoint holds a copy), or another --run",
			r->config->vocab, r->config->run);
	if (had && strcmp(had, r->fingerprint))
		wl_warn("%s does not hold the shards that the run at %s began with: it goes on, in "
			"another order of samples",
			r->config->shards, r->config->run);
	return 0;
}

/* Bad samples are counted by each rank; a checkpoint holds their number over all. */
static void share_skipped(const struct wl_training *r, struct wl_loader_pos *pos)
{
	int64_t world = wl_comm_size(r->comm), all = pos->skipped;

	pos->skipped = all / world + (wl_training_first(r) ? all % world : 0);
}

/* Continues from RUN's newest checkpoint, of that step. */
static int resume(struct wl_training *r, int64_t step, struct wl_err *err)
{
	struct wl_loader_pos pos;
	int64_t bytes;
	json_t *state, *extra;
	char *dir;
	int ret = -1;

	if (!wl_training_first(r)) { /* it was verified by the first */
		dir = wl_strf(err, "%s/ckpt-%08lld", r->config->run, (long long)step);
		state = dir ? wl_ckpt_state(dir, err) : NULL;
		if (!state) {
			free(dir);
			return -1;
		}
	} else {
		WL_TRY(wl_ckpt_load(r->config->run, &dir, &state, err));
	}
	extra = json_object_get(state, "run");
	if (check_inputs(r, state, err) < 0 || wl_trainer_load(&r->trainer, dir, state, err) < 0 ||
		wl_json_int(extra, "loader_epoch", dir, &pos.epoch, err) < 0 ||
		wl_json_int(extra, "loader_position", dir, &pos.position, err) < 0 ||
		wl_json_int(extra, "loader_skipped", dir, &pos.skipped, err) < 0 ||
		wl_json_int(extra, "metrics_bytes", dir, &bytes, err) < 0)
		goto out;
	share_skipped(r, &pos);
	WL_TRY_OUT(wl_feed_seek(r->train, &pos, err));
	WL_TRY_OUT(open_metrics(r, bytes, err));
	wl_info("going on from %s (step %lld of %lld)%s", dir, (long long)r->trainer.step,
		(long long)r->total_steps, r->config->init.n ? "; --init is not used" : "");
	ret = 0;
out:
	json_decref(state);
	free(dir);
	return ret;
}

static int start(struct wl_training *r, struct wl_err *err)
{
	int64_t newest = -2;
	char *lock;
	int ret = -1;

	r->metrics_path = wl_path_join(r->config->run, "metrics.jsonl", err);
	if (!r->metrics_path)
		return -1;
	if (wl_training_first(r)) {
		WL_TRY(wl_mkdir_p(r->config->run, err));
		lock = wl_path_join(r->config->run, ".lock", err);
		r->lock = lock ? wl_lock_file(lock, err) : -1;
		free(lock);
		newest = r->lock < 0 ? -2 : wl_ckpt_newest(r->config->run, err);
		if (newest < -1)
			return -1;
	}
	if (r->dist)
		WL_TRY(wl_comm_broadcast(wl_dist_comm(r->dist), &newest, sizeof newest, 0, err));
	/* The others read what the first has found whole: it goes on only if that loads. */
	if (wl_training_first(r))
		ret = newest < 0 ? start_fresh(r, err) : resume(r, newest, err);
	if (r->dist && wl_training_first(r) && ret < 0)
		return -1;
	if (r->dist)
		WL_TRY(wl_comm_barrier(wl_dist_comm(r->dist), err));
	if (!wl_training_first(r))
		ret = newest < 0 ? start_fresh(r, err) : resume(r, newest, err);
	return ret;
}

static int save(struct wl_training *r, bool last, struct wl_err *err)
{
	struct wl_loader_pos pos;
	json_t *extra;
	int64_t bytes;
	int ret = -1;

	wl_feed_tell(r->train, &pos);
	if (wl_training_first(r) && fsync(r->teller.metrics.fd) < 0)
		return wl_err_errno(err, "%s: sync failed", r->metrics_path);
	bytes = wl_training_first(r) ? wl_file_size(r->metrics_path, err) : 0;
	if (bytes < 0)
		return -1;
	if (r->dist)
		WL_TRY(wl_comm_all_reduce(wl_dist_comm(r->dist), &pos.skipped, 1, WL_COMM_I64,
			WL_COMM_SUM, err));
	extra = json_pack("{s:I,s:I,s:I,s:I,s:O?,s:s}", "loader_epoch", (json_int_t)pos.epoch,
		"loader_position", (json_int_t)pos.position, "loader_skipped",
		(json_int_t)pos.skipped, "metrics_bytes", (json_int_t)bytes, "model",
		r->job->model_json, "shards", r->fingerprint);
	if (!extra)
		wl_err_nomem(err, "state.json", 0);
	else
		ret = wl_saver_save(r->saver, extra, last, err);
	json_decref(extra);
	return ret;
}

static bool validates(const struct wl_training *r, int64_t step)
{
	return r->val && (step % r->val_every == 0 || step == r->total_steps);
}

/* The validation of a step where it is due; *val stays NULL where not. */
static int validate(struct wl_training *r, int64_t step, json_t **val, struct wl_err *err)
{
	*val = NULL;
	if (!validates(r, step))
		return 0;
	WL_TRY(wl_validate(&r->encoder, r->val, r->dist, val, err));
	if (!*val)
		return 0;
	wl_teller_validated(&r->teller, step, *val);
	return 0;
}

/* The loader's next batch into the trainer. */
static int give_step(struct wl_training *r, double *loaded, struct wl_err *err)
{
	const struct wl_batch *b;
	const float *pictures;
	int got = wl_feed_next(r->train, &b, &pictures, err);

	if (got < 0)
		return -1;
	if (got == 0)
		return wl_err_set(err, WL_EDATA, "%s: the split \"%s\" ended, and a shuffled one "
			"never does", r->config->shards, r->config->train_split);
	if (b->n != r->config->batch)
		return wl_err_set(err, WL_EDATA, "%s: a batch of %lld came, and %lld were "
			"asked for", r->config->shards, (long long)b->n,
			(long long)r->config->batch);
	*loaded = now_s();
	struct wl_moco_batch mb = {pictures, b->boxes, b->region_mask, b->ids, b->text_mask,
		b->pair_ids, b->text_hash};
	return wl_trainer_give(&r->trainer, &mb, err);
}

/* What is to be said of a step that was taken (stepped < 0: it ends the run). */
static int tell_step(struct wl_training *r, const struct wl_step_report *report, int stepped,
	struct wl_err *err)
{
	const struct wl_spent *spent = &r->spent[report->step % (WL_TRAINER_LATE + 1)];
	json_t *val = NULL;
	int ret;

	wl_teller_step(&r->teller, report, spent);
	if (stepped == 0)
		WL_TRY(validate(r, report->step, &val, err));
	ret = wl_teller_line(&r->teller, report, spent, val, stepped < 0 ? NULL : err);
	return stepped < 0 ? stepped : ret;
}

/* Takes steps until `keep` are under way; begin: when the newest of them began, 0: it is over. */
static int take_steps(struct wl_training *r, int64_t keep, double begin, struct wl_err *err)
{
	struct wl_spent *newest = &r->spent[r->trainer.step % (WL_TRAINER_LATE + 1)];

	while (wl_trainer_untaken(&r->trainer) > keep) {
		struct wl_step_report report = {0};
		int stepped = wl_trainer_take(&r->trainer, &report, err);

		if (stepped < 0 && report.verdict == WL_GUARD_OK)
			return -1;
		if (begin > 0)
			newest->all = now_s() - begin;
		WL_TRY(tell_step(r, &report, stepped, err));
	}
	if (begin > 0)
		newest->all = now_s() - begin;
	return 0;
}

/* Whether a checkpoint is due after it, which stands for steps that are all told. */
static bool saves(const struct wl_training *r, int64_t step)
{
	return step % r->config->ckpt_every == 0 || step == r->total_steps;
}

/* On a GPU steps are told of some steps later, so that it never waits for the host. */
static int one_step(struct wl_training *r, struct wl_err *err)
{
	double begin = now_s(), loaded = begin;
	int64_t step;

	WL_TRY(give_step(r, &loaded, err));
	step = r->trainer.step;
	r->spent[step % (WL_TRAINER_LATE + 1)].wait = loaded - begin;
	if (validates(r, step) || saves(r, step))
		return take_steps(r, 0, begin, err);
	return take_steps(r, wl_trainer_late(&r->trainer), begin, err);
}

/* Between steps: whether any rank was told to stop (all then do, after the same step), and how far
 * the ranks are with a checkpoint. */
static int meet(struct wl_training *r, bool *stop, struct wl_err *err)
{
	int64_t v[2] = {wl_stop_requested(), wl_saver_state(r->saver)};

	if (r->dist)
		WL_TRY(wl_comm_all_reduce(wl_dist_comm(r->dist), v, 2, WL_COMM_I64, WL_COMM_MAX,
			err));
	*stop = v[0];
	return wl_saver_advance(r->saver, v[1], err);
}

/* What stands at the head of the page. */
static int open_report(struct wl_training *r, struct wl_err *err)
{
	const struct wl_train_config *c = r->config;
	char about[400];
	double peak = c->peak_gflops;

	r->teller.trainer = &r->trainer;
	r->teller.pairs = (double)c->batch * wl_comm_size(r->comm);
	r->teller.epoch_steps = r->epoch_steps;
	r->teller.total_steps = r->total_steps;
	r->teller.log_every = c->log_every;
	r->teller.first = wl_training_first(r);
	if (!wl_training_first(r))
		return 0;
	if (peak == 0)
		peak = 1e-9 * wl_watch_peak(r->backend, c->moco.compute_dtype);
	wl_watch_start(&r->teller.watch, &r->trainer, peak);
	snprintf(about, sizeof about, "%s, %s: %lld trainable parameters, %lld pairs, %.0f pairs a "
		"step on %d rank%s; the processor reaches %.0f GFLOP/s a rank.", c->run,
		c->objective, (long long)wl_params_trainable_count(&r->trainer.params),
		(long long)wl_loader_size(wl_feed_loader(r->train)), r->teller.pairs,
		wl_comm_size(r->comm),
		r->dist ? "s" : "", peak);
	r->teller.report = wl_train_report_open(c->run, about, r->total_steps, err);
	return r->teller.report ? wl_train_report_read(r->teller.report, r->metrics_path, err)
				: -1;
}

static int open_saver(struct wl_training *r, struct wl_err *err)
{
	const struct wl_train_config *c = r->config;
	struct wl_saver_config how = {.run_dir = c->run, .vocab = c->vocab,
		.preprocess = r->job->preprocess, .keep = c->ckpt_keep,
		.keep_every = c->ckpt_keep_every, .wait = c->ckpt_wait};

	r->saver = wl_saver_open(&r->trainer, &how, err);
	return r->saver ? 0 : -1;
}

static int loop(struct wl_training *r, struct wl_err *err)
{
	int64_t step = r->trainer.step;
	bool stop;

	WL_TRY(meet(r, &stop, err));
	while (step < r->total_steps && !stop) {
		WL_TRY(one_step(r, err));
		step = r->trainer.step;
		WL_TRY(meet(r, &stop, err));
		if (stop)
			WL_TRY(take_steps(r, 0, 0, err));
		if (saves(r, step) || stop)
			WL_TRY(save(r, step == r->total_steps || stop, err));
	}
	WL_TRY(wl_saver_finish(r->saver, err));
	if (stop && step < r->total_steps && step > 0)
		wl_info("stopped at step %lld of %lld; the checkpoint is in %s", (long long)step,
			(long long)r->total_steps, r->config->run);
	return 0;
}

int wl_train_run(const struct wl_train_job *job, struct wl_err *err)
{
	static struct wl_training r; /* threads of a rank that fails use it to the end */
	int ret = -1;

	r = (struct wl_training){.job = job, .config = job->config, .lock = -1};
	if (wl_training_open(&r, err) < 0 || start(&r, err) < 0 || open_saver(&r, err) < 0 ||
		open_report(&r, err) < 0)
		goto out;
	wl_info("%lld trainable parameters, %lld pairs, %lld steps an epoch, %lld steps in all",
		(long long)wl_params_trainable_count(&r.trainer.params),
		(long long)wl_loader_size(wl_feed_loader(r.train)), (long long)r.epoch_steps,
		(long long)r.total_steps);
	if (wl_training_first(&r))
		r.teller.progress = wl_progress_new("training", "pairs",
			(uint64_t)((double)r.total_steps * r.teller.pairs));
	WL_TRY_OUT(loop(&r, err));
	if (r.teller.report)
		WL_TRY_OUT(wl_train_report_write(r.teller.report, true, err));
	if (r.trainer.scaler.overflows)
		wl_info("%lld steps were skipped for their loss scale, which ended at %g",
			(long long)r.trainer.scaler.overflows, (double)r.trainer.scaler.scale);
	if (r.trainer.guard.nonfinite + r.trainer.guard.spikes)
		wl_warn("%lld steps were skipped as not finite, %lld as spikes",
			(long long)r.trainer.guard.nonfinite, (long long)r.trainer.guard.spikes);
	ret = 0;
out:
	/* A rank that failed does not wait for the others: it ends with its code, and the launcher
	 * ends them.  What exchanges, what writes a checkpoint and what loads may still be at work
	 * in what would be freed, and wait for what does not come. */
	if (ret < 0 && r.dist) {
		wl_main_end_at_once();
		return wl_err_prefix(err, "rank %d", wl_comm_rank(r.comm));
	}
	wl_training_close(&r);
	return ret;
}
