/* The options of wenlan-train: see config.h.  Defaults are those of the preset `small`; what the
 * paper states is in train/presets/paper.yaml. */
#include "train/config.h"

#include <stddef.h>
#include <string.h>

static const struct wl_train_config defaults = {
	.device = "auto",
	.precision = "fp32",
	.seed = 1,
	.train_split = "train",
	.val_split = "val",
	.batch = 32,
	.max_bad_rate = 0.01,
	.use_boxes = true,
	.gpu_augment = true,
	.moco = {.queue = 1024, .momentum = 0.99, .tau = 0.05, .learn_tau = true,
		.record = true},
	.objective = "moco",
	.positive = "momentum",
	.queue_type = "auto",
	.optim = {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6, .weight_decay = 0.05, .layer_decay = 1,
		.clip_norm = 1},
	.schedule = {.lr = 5e-4, .floor = 1e-6, .warmup_steps = 100},
	.optim_state = "fp32",
	.spike_z = 0,
	.loss_scale = 65536, /* these two as torch.cuda.amp.GradScaler */
	.loss_scale_interval = 2000,
	.max_bad_steps = 10,
	.dist = {.zero = 1, .bucket_mb = 8, .each_part = true},
	.dist_timeout = 600,
	.epochs = 15,
	.ckpt_every = 500,
	.ckpt_keep = 2,
	.val_every = 0,
	.log_every = 0,
};

/* Where an option goes: its place in the struct, to which init adds the struct's address. */
#define AT(member) ((void *)offsetof(struct wl_train_config, member))

static const struct wl_opt options[] = {
	{"shards", WL_OPT_STR, AT(shards), "DIR|URL",
		"the shards to train on: a folder, http(s)://... or s3://...", true},
	{"cache", WL_OPT_STR, AT(cache), "DIR",
		"of a URL: whole shards are kept here (else in ~/.cache/wenlan)", false},
	{"cache-size", WL_OPT_INT, AT(cache_size), "BYTES",
		"the most that the cache may hold (20G)", false},
	{"run", WL_OPT_STR, AT(run), "DIR", "where checkpoints and metrics.jsonl go", true},
	{"device", WL_OPT_STR, AT(device), "NAME", "auto, cpu or cuda", false},
	{"precision", WL_OPT_STR, AT(precision), "NAME",
		"fp32; bf16 or fp16 for the inputs of matrix products", false},
	{"recompute", WL_OPT_BOOL, AT(moco.recompute), NULL,
		"run blocks again in backward instead of keeping their inside", false},
	{"cuda-graph", WL_OPT_BOOL, AT(moco.record), NULL,
		"record a step's kernels and give them to a GPU as one", false},
	{"init", WL_OPT_LIST, AT(init), "[PREFIX=]FILE",
		"start from these weights (safetensors or .pth); PREFIX: imgencoder. or "
		"textencoder.", false},
	{"dry-run", WL_OPT_BOOL, AT(dry_run), NULL,
		"print parameters, memory and FLOPs, and stop", false},
	{"threads", WL_OPT_INT, AT(threads), "N", "compute threads, 0: all cores", false},
	{"seed", WL_OPT_INT, AT(seed), "N", "of order, augmentation, weights, dropout",
		false},
	{"model", WL_OPT_JSON, AT(model), "MAPPING", "the model: preset and changes",
		false},
	{"data.vocab", WL_OPT_STR, AT(vocab), "FILE", "vocab.txt of the text tower", true},
	{"data.batch", WL_OPT_INT, AT(batch), "N", "pairs a step", false},
	{"data.accumulate", WL_OPT_INT, AT(moco.accumulate), "N",
		"take a step's pairs in N parts, for less memory", false},
	{"data.augment", WL_OPT_JSON, AT(augment), "MAPPING",
		"{preset: none|paper|public, ...}", false},
	{"data.mix", WL_OPT_JSON, AT(mix), "MAPPING",
		"{news: 2, baike: 1}: sources by weight, others left out", false},
	{"data.use-boxes", WL_OPT_BOOL, AT(use_boxes), NULL,
		"regions from the samples' boxes where present, else the grid", false},
	{"data.gpu-augment", WL_OPT_BOOL, AT(gpu_augment), NULL,
		"no-: with a GPU, too, the processor resizes and colours pictures", false},
	{"data.nvjpeg", WL_OPT_BOOL, AT(nvjpeg), NULL,
		"the GPU decodes JPEGs too, where it can (nvJPEG)", false},
	{"data.train-split", WL_OPT_STR, AT(train_split), "NAME", "split to train on",
		false},
	{"data.val-split", WL_OPT_STR, AT(val_split), "NAME", "split to validate on",
		false},
	{"data.limit", WL_OPT_INT, AT(limit), "N", "use the first N samples, 0: all",
		false},
	{"data.threads", WL_OPT_INT, AT(loader_threads), "N",
		"loader threads, 0: one per core", false},
	{"data.prefetch", WL_OPT_INT, AT(prefetch), "N", "batches ahead, 0: 2", false},
	{"data.max-bad-rate", WL_OPT_DOUBLE, AT(max_bad_rate), "X",
		"share of unreadable samples that ends the run", false},
	{"objective", WL_OPT_STR, AT(objective), "NAME",
		"moco, or clip: the batch alone, no momentum towers and queues", false},
	{"moco.queue", WL_OPT_INT, AT(moco.queue), "K", "keys a queue", false},
	{"moco.queue-type", WL_OPT_STR, AT(queue_type), "NAME",
		"how queues lie in memory: fp32, bf16, or auto: bf16 on a GPU that takes bf16 "
		"products, to the same bits", false},
	{"moco.momentum", WL_OPT_DOUBLE, AT(moco.momentum), "M", "of the key towers",
		false},
	{"moco.tau", WL_OPT_DOUBLE, AT(moco.tau), "T", "temperature at the start", false},
	{"moco.learn-tau", WL_OPT_BOOL, AT(moco.learn_tau), NULL, "learn it", false},
	{"moco.in-batch", WL_OPT_BOOL, AT(moco.in_batch), NULL,
		"other keys of the batch are negatives too", false},
	{"moco.positive", WL_OPT_STR, AT(positive), "NAME",
		"momentum or online embedding of the other modality", false},
	{"moco.extra-positives", WL_OPT_INT, AT(moco.extra_positives), "T",
		"queued keys among the T nearest of both modalities are positives", false},
	{"optim.lr", WL_OPT_DOUBLE, AT(schedule.lr), "X", "rate after warm-up", false},
	{"optim.lr-floor", WL_OPT_DOUBLE, AT(schedule.floor), "X", "rate at the end",
		false},
	{"optim.warmup-steps", WL_OPT_INT, AT(schedule.warmup_steps), "N",
		"linear warm-up", false},
	{"optim.beta1", WL_OPT_DOUBLE, AT(optim.beta1), "X", "AdamW", false},
	{"optim.beta2", WL_OPT_DOUBLE, AT(optim.beta2), "X", "AdamW", false},
	{"optim.eps", WL_OPT_DOUBLE, AT(optim.eps), "X", "AdamW", false},
	{"optim.weight-decay", WL_OPT_DOUBLE, AT(optim.weight_decay), "X",
		"decoupled, on weights that are not gains or biases", false},
	{"optim.layer-decay", WL_OPT_DOUBLE, AT(optim.layer_decay), "X",
		"rate's factor a layer down a backbone, 1: the same for all", false},
	{"optim.clip-norm", WL_OPT_DOUBLE, AT(optim.clip_norm), "X",
		"largest gradient norm, 0: no clipping", false},
	{"optim.state", WL_OPT_STR, AT(optim_state), "NAME",
		"moments as fp32, or bf16: half the memory, stochastic rounding", false},
	{"optim.groups", WL_OPT_JSON, AT(groups), "LIST",
		"[{match: GLOB, lr: FACTOR, decay: FACTOR}, ...], first match counts",
		false},
	{"optim.spike-z", WL_OPT_DOUBLE, AT(spike_z), "Z",
		"skip gradient norms Z deviations above the last 128, 0: never", false},
	{"optim.loss-scale", WL_OPT_DOUBLE, AT(loss_scale), "X",
		"fp16: what the loss is multiplied by at first", false},
	{"optim.loss-scale-interval", WL_OPT_INT, AT(loss_scale_interval), "N",
		"fp16: good steps in a row that double it (an overflow halves it)", false},
	{"optim.max-bad-steps", WL_OPT_INT, AT(max_bad_steps), "N",
		"skipped steps in a row that end the run, 0: never", false},
	{"rendezvous", WL_OPT_STR, AT(rendezvous), "PLACE",
		"several ranks without MPI meet at tcp://HOST:PORT or file:DIR", false},
	{"dist.zero", WL_OPT_INT, AT(dist.zero), "0..3",
		"what ranks share out: 1 optimiser and momentum, 2 gradients, 3 weights",
		false},
	{"dist.sync-bn", WL_OPT_BOOL, AT(dist.sync_bn), NULL,
		"batch norm over the samples of all ranks", false},
	{"dist.bucket-mb", WL_OPT_INT, AT(dist.bucket_mb), "MB",
		"weights and gradients travel in pieces of this size", false},
	{"dist.each-part", WL_OPT_BOOL, AT(dist.each_part), NULL,
		"with data.accumulate gradients travel after each part; no-: once a step, where "
		"dist.zero is 0 or 1", false},
	{"dist.ranks", WL_OPT_INT, AT(plan_ranks), "N",
		"ranks that --dry-run plans for, 0: those it is started on", false},
	{"dist.timeout", WL_OPT_DOUBLE, AT(dist_timeout), "SECONDS",
		"a rank that waits longer for another ends the run (exit code 75)", false},
	{"epochs", WL_OPT_INT, AT(epochs), "N", "passes over the data", false},
	{"max-steps", WL_OPT_INT, AT(max_steps), "N", "at most so many steps, 0: no limit",
		false},
	{"ckpt.every", WL_OPT_INT, AT(ckpt_every), "STEPS", "checkpoint interval", false},
	{"ckpt.keep", WL_OPT_INT, AT(ckpt_keep), "N", "checkpoints kept", false},
	{"ckpt.keep-every", WL_OPT_INT, AT(ckpt_keep_every), "STEPS",
		"also keep those of steps that are multiples of it, 0: none", false},
	{"ckpt.wait", WL_OPT_BOOL, AT(ckpt_wait), NULL,
		"training waits for checkpoints, which saves the memory of a copy", false},
	{"val.every", WL_OPT_INT, AT(val_every), "STEPS",
		"validation interval, 0: each epoch, -1: never", false},
	{"val.limit", WL_OPT_INT, AT(val_limit), "N", "validation samples, 0: all", false},
	{"peak-gflops", WL_OPT_DOUBLE, AT(peak_gflops), "X",
		"the processor's matrix products a second, for use of it; 0: measured",
		false},
	{"log-every", WL_OPT_INT, AT(log_every), "STEPS",
		"a line in the log, 0: only progress", false},
	{NULL, WL_OPT_BOOL, NULL, NULL, NULL, false},
};
_Static_assert(sizeof options / sizeof *options <= WL_TRAIN_OPTIONS, "table too small");

void wl_train_config_init(struct wl_train_config *c, struct wl_opt *table)
{
	*c = defaults;
	memcpy(table, options, sizeof options);
	for (struct wl_opt *o = table; o->name; o++)
		o->dst = (char *)c + (size_t)o->dst;
}

static int one_of(const char *option, const char *value, const char *a, const char *b,
	struct wl_err *err)
{
	if (strcmp(value, a) == 0)
		return 0;
	if (strcmp(value, b) == 0)
		return 1;
	return wl_err_set(err, WL_EUSAGE, "%s is \"%s\": expected \"%s\" or \"%s\"", option, value,
		a, b);
}

static int check_precision(struct wl_train_config *c, struct wl_err *err)
{
	static const char *const names[] = {"fp32", "bf16", "fp16"};
	static const enum wl_dtype types[] = {WL_F32, WL_BF16, WL_F16};
	size_t i;

	for (i = 0; i < 3 && strcmp(c->precision, names[i]); i++)
		;
	if (i == 3)
		return wl_err_set(err, WL_EUSAGE, "precision is \"%s\": expected \"fp32\", "
			"\"bf16\" or \"fp16\"", c->precision);
	c->moco.compute_dtype = types[i];
	c->moco.scaled = types[i] == WL_F16; /* bf16 has f32's range and needs no scale */
	if (!(c->loss_scale >= 1 && c->loss_scale <= 0x1p100) || c->loss_scale_interval < 1)
		return wl_err_set(err, WL_EUSAGE, "optim.loss-scale is %g and "
			"optim.loss-scale-interval %lld: expected 1 to 2^100, and at least 1",
			c->loss_scale, (long long)c->loss_scale_interval);
	return 0;
}

/* Bounds of numbers that nothing else checks: below them there is no meaning, above them sizes in
 * bytes would not be numbers any more. */
static int check_ranges(const struct wl_train_config *c, struct wl_err *err)
{
	const struct {
		const char *name;
		double value, low, high;
	} all[] = {
		{"threads", (double)c->threads, 0, 4096},
		{"cache-size", (double)c->cache_size, 0, 0x1p60},
		{"data.batch", (double)c->batch, 1, 0x1p20},
		{"data.limit", (double)c->limit, 0, 0x1p60},
		{"data.max-bad-rate", c->max_bad_rate, 0, 1},
		{"moco.queue", (double)c->moco.queue, 0, 0x1p32},
		{"optim.max-bad-steps", (double)c->max_bad_steps, 0, 0x1p60},
		{"optim.spike-z", c->spike_z, 0, 1e9},
		{"dist.bucket-mb", (double)c->dist.bucket_mb, 1, 0x1p20},
		{"ckpt.keep-every", (double)c->ckpt_keep_every, 0, 0x1p60},
		{"val.limit", (double)c->val_limit, 0, 0x1p60},
		{"log-every", (double)c->log_every, 0, 0x1p60},
		{"peak-gflops", c->peak_gflops, 0, 1e12},
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (!(all[i].value >= all[i].low && all[i].value <= all[i].high))
			return wl_err_set(err, WL_EUSAGE, "%s is %.17g: expected %.17g to %.17g",
				all[i].name, all[i].value, all[i].low, all[i].high);
	return 0;
}

enum wl_dtype wl_train_queue_type(const struct wl_train_config *c, bool gpu)
{
	bool half = !strcmp(c->queue_type, "bf16") ||
		    (!strcmp(c->queue_type, "auto") && gpu && c->moco.compute_dtype == WL_BF16);

	return half ? WL_BF16 : WL_F32;
}

int wl_train_config_check(struct wl_train_config *c, struct wl_err *err)
{
	int online, clip, half;

	if (strcmp(c->device, "auto") && strcmp(c->device, "cpu") && strcmp(c->device, "cuda"))
		return wl_err_set(err, WL_EUSAGE, "device is \"%s\": expected auto, cpu or cuda",
			c->device);
	if (strcmp(c->queue_type, "auto") && strcmp(c->queue_type, "fp32") &&
		strcmp(c->queue_type, "bf16"))
		return wl_err_set(err, WL_EUSAGE, "moco.queue-type is \"%s\": expected auto, fp32 "
			"or bf16", c->queue_type);
	WL_TRY(check_precision(c, err));
	WL_TRY(check_ranges(c, err));
	online = one_of("moco.positive", c->positive, "momentum", "online", err);
	clip = one_of("objective", c->objective, "moco", "clip", err);
	half = one_of("optim.state", c->optim_state, "fp32", "bf16", err);
	if (online < 0 || clip < 0 || half < 0)
		return -1;
	c->optim.state = half ? WL_BF16 : WL_F32;
	c->optim.seed = (uint64_t)c->seed;
	c->moco.objective = clip ? WL_OBJECTIVE_CLIP : WL_OBJECTIVE_MOCO;
	c->moco.online_positive = online;
	c->optim.groups = c->groups;
	if (c->batch < 1 || c->epochs < 1 || c->max_steps < 0 || c->ckpt_every < 1 ||
		c->ckpt_keep < 1 || c->val_every < -1)
		return wl_err_set(err, WL_EUSAGE, "data.batch (%lld), epochs (%lld), ckpt.every "
			"(%lld) and ckpt.keep (%lld) must be at least 1, max-steps (%lld) at "
			"least 0 and val.every (%lld) at least -1", (long long)c->batch,
			(long long)c->epochs,
			(long long)c->ckpt_every, (long long)c->ckpt_keep, (long long)c->max_steps,
			(long long)c->val_every);
	if (!c->dist.each_part && c->dist.zero >= 2 && c->moco.accumulate > 1)
		return wl_err_set(err, WL_EUSAGE, "dist.each-part is off and dist.zero %lld: "
			"gradients that are shared out travel after each part; leave it on, or use "
			"dist.zero 1", (long long)c->dist.zero);
	if (c->plan_ranks < 0 || c->plan_ranks > WL_TRAINER_RANKS)
		return wl_err_set(err, WL_EUSAGE, "dist.ranks is %lld: expected 0 to %d",
			(long long)c->plan_ranks, WL_TRAINER_RANKS);
	if (c->dist.zero < 0 || c->dist.zero > 3 || c->dist.bucket_mb < 1 || c->dist_timeout < 0)
		return wl_err_set(err, WL_EUSAGE, "dist.zero is %lld, dist.bucket-mb %lld and "
			"dist.timeout %g: expected 0 to 3, at least 1, and not negative (0: wait "
			"for ever)", (long long)c->dist.zero, (long long)c->dist.bucket_mb,
			c->dist_timeout);
	return 0;
}
