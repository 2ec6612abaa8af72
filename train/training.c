/* What a run needs before its first step: see training.h. */
#include "train/training.h"

#include "loader/loader.h"
#include "ops/log.h"
#include "ops/ram.h"
#include "shards/manifest.h"
#include "shards/shard.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool wl_training_first(const struct wl_training *r)
{
	return wl_comm_rank(r->comm) == 0;
}

static struct wl_loader_opts loader_opts(const struct wl_training *r, bool train)
{
	const struct wl_train_config *c = r->config;
	struct wl_loader_opts o = {
		.dir = c->shards,
		.cache = c->cache,
		.cache_bytes = c->cache_size,
		.split = train ? c->train_split : c->val_split,
		.batch = c->batch,
		.image_px = (int)r->job->towers.image_px,
		.regions = (int)r->job->towers.regions,
		.grid = r->job->model.image.grid,
		.use_boxes = c->use_boxes,
		.text_len = (int)r->job->towers.text_len,
		.vocab = r->job->vocab,
		.shuffle = train,
		.all_captions = !train,
		.seed = (uint64_t)c->seed,
		.rank = wl_comm_rank(r->comm),
		.world = wl_comm_size(r->comm),
		.threads = wl_comm_share_of_cores(r->comm, c->loader_threads),
		.prefetch = (int)c->prefetch,
		.max_bad_rate = c->max_bad_rate,
		.limit = train ? c->limit : c->val_limit,
		.mix = train ? c->mix : NULL,
	};

	memcpy(o.mean, r->job->model.image.mean, sizeof o.mean);
	memcpy(o.std, r->job->model.image.std, sizeof o.std);
	return o;
}

/* Samples of a split by the manifest, 0 when it has none. */
static int64_t split_samples(struct wl_training *r, const char *split, struct wl_err *err)
{
	struct wl_manifest m;
	int64_t n = 0;
	size_t i;

	WL_TRY(wl_shard_manifest(&(struct wl_shard_place){.at = r->config->shards,
		.cache = r->config->cache, .cache_bytes = r->config->cache_size}, &m, err));
	memcpy(r->fingerprint, m.fingerprint, sizeof r->fingerprint);
	for (i = 0; i < m.n; i++)
		if (strcmp(m.shards[i].split, split) == 0)
			n += m.shards[i].samples;
	wl_manifest_release(&m);
	return n;
}

static int open_data(struct wl_training *r, struct wl_err *err)
{
	const struct wl_train_config *c = r->config;
	struct wl_loader_opts o = loader_opts(r, true);
	int64_t n;

	WL_TRY(c->augment ? wl_augment_parse(c->augment, &o.augment, err)
			  : wl_augment_preset("paper", &o.augment, err));
	o.jpegs = c->nvjpeg;
	if (c->nvjpeg && !(c->gpu_augment && r->backend->pictures))
		wl_warn("data.nvjpeg does nothing without a GPU and data.gpu-augment");
	r->train = wl_feed_open(&o, c->gpu_augment ? r->backend : NULL, err);
	if (!r->train)
		return -1;
	r->epoch_steps = wl_loader_batches(wl_feed_loader(r->train));
	r->total_steps = c->epochs * r->epoch_steps;
	if (c->max_steps && c->max_steps < r->total_steps)
		r->total_steps = c->max_steps;
	n = split_samples(r, c->val_split, err);
	if (n < 0)
		return -1;
	if (c->val_every < 0)
		return 0;
	r->val_every = c->val_every ? c->val_every : r->epoch_steps;
	if (n == 0) {
		wl_warn("%s has no samples of the split \"%s\": no validation", c->shards,
			c->val_split);
		return 0;
	}
	o = loader_opts(r, false);
	WL_TRY(wl_augment_preset("none", &o.augment, err));
	r->val = wl_feed_open(&o, c->gpu_augment ? r->backend : NULL, err);
	return r->val ? 0 : -1;
}

/* Of several ranks each has a GPU of its own, or none has one. */
static int choose_device(const struct wl_training *r, const char **device, struct wl_err *err)
{
	int gpus = 0, local = wl_comm_local_size(r->comm);
	int64_t enough;

	*device = r->config->device;
	if (!r->dist || strcmp(*device, "cpu") == 0)
		return 0;
	gpus = wl_backend_cuda_count();
	enough = gpus >= local;
	if (strcmp(*device, "cuda") == 0)
		return enough || !gpus ? 0 : wl_err_set(err, WL_EUSAGE, "device is \"cuda\": %d "
			"ranks are on this machine, and it has %d GPU%s; start one rank a GPU",
			local, gpus, gpus == 1 ? "" : "s");
	WL_TRY(wl_comm_all_reduce(wl_dist_comm(r->dist), &enough, 1, WL_COMM_I64, WL_COMM_MIN,
		err));
	if (!enough)
		*device = "cpu";
	return 0;
}

static int open_backend(struct wl_training *r, struct wl_err *err)
{
	const struct wl_train_config *c = r->config;
	const char *device;

	WL_TRY(choose_device(r, &device, err));
	r->backend = wl_backend_open(device, wl_comm_local_rank(r->comm),
		wl_comm_share_of_cores(r->comm, c->threads), err);
	if (!r->backend)
		return -1;
	if (c->moco.compute_dtype == WL_BF16 && !strcmp(r->backend->name, "cpu") &&
		!wl_backend_cpu_has_bf16())
		wl_warn("this processor has no bf16 products: precision bf16 computes in fp32");
	return 0;
}

static int open_model(struct wl_training *r, struct wl_err *err)
{
	const struct wl_train_config *c = r->config;

	WL_TRY(wl_trainer_init(&r->trainer, c, &r->job->towers, r->backend, r->dist,
		r->total_steps, wl_loader_size(wl_feed_loader(r->train)), err));
	/* So far there are addresses; memory comes as it is used. */
	if (!strcmp(r->backend->name, "cpu"))
		WL_TRY(wl_train_fits(&r->trainer, wl_comm_size(r->comm), wl_ram_there(), err));
	if (!r->val)
		return 0;
	WL_TRY(wl_encoder_init(&r->encoder, &r->job->towers, &r->trainer.params, c->batch,
		c->moco.compute_dtype, err));
	if (!r->dist)
		return 0;
	WL_TRY(wl_dist_attach(r->dist, r->encoder.image, &r->trainer.params, false, err));
	return wl_dist_attach(r->dist, r->encoder.text, &r->trainer.params, false, err);
}

/* The other ranks.  Those but the first say only what is wrong. */
static int open_ranks(struct wl_training *r, struct wl_err *err)
{
	const struct wl_train_config *c = r->config;
	struct wl_dist_config dist;

	r->comm = wl_comm_open_at(c->rendezvous, c->dist_timeout, err);
	if (!r->comm)
		return -1;
	if (wl_comm_size(r->comm) == 1)
		return 0;
	if (!wl_training_first(r) && wl_log_level() > WL_LOG_WARN)
		wl_log_init("wenlan-train", WL_LOG_WARN);
	WL_TRY(wl_comm_timeout(r->comm, c->dist_timeout, err));
	dist = c->dist;
	dist.timeout_s = c->dist_timeout;
	r->dist = wl_dist_open(r->comm, &dist, err);
	if (!r->dist)
		return -1;
	wl_info("%d ranks, %lld pairs a step on each; zero stage %lld%s", wl_comm_size(r->comm),
		(long long)c->batch, (long long)c->dist.zero,
		c->dist.sync_bn ? ", batch norm over all" : "");
	return 0;
}

int wl_training_open(struct wl_training *r, struct wl_err *err)
{
	WL_TRY(open_ranks(r, err));
	WL_TRY(open_backend(r, err));
	WL_TRY(open_data(r, err));
	return open_model(r, err);
}

void wl_training_close(struct wl_training *r)
{
	wl_progress_free(r->teller.progress);
	wl_train_report_close(r->teller.report);
	wl_saver_close(r->saver);
	wl_dist_close(r->dist);
	if (r->teller.metrics.path)
		wl_jsonl_close(&r->teller.metrics);
	wl_encoder_release(&r->encoder);
	wl_trainer_release(&r->trainer);
	wl_feed_close(r->val);
	wl_feed_close(r->train);
	wl_backend_close(r->backend);
	free(r->metrics_path);
	if (r->lock >= 0)
		close(r->lock);
	wl_comm_close(r->comm);
}
