/* wenlan-load: what a training run would see of a shard set, and how fast. */
#include "clean/wordpiece.h"
#include "loader/inspect.h"
#include "loader/loader.h"
#include "ops/opt.h"
#include "ops/pool.h"

#include <string.h>

struct config {
	const char *shards, *cache, *split, *vocab, *sheet;
	json_t *augment, *mix;
	int64_t cache_size, size, batch, threads, prefetch, seed, regions, grid, text_len;
	int64_t samples, limit, epoch, position, rank, world;
	double max_bad_rate;
	bool boxes, shuffle, bench, crops, planes;
};

/* Without a vocabulary captions are shown, but no ids. */
static struct wl_vocab *open_vocab(const char *path, struct wl_err *err)
{
	static const char none[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n";

	return path ? wl_vocab_load(path, err)
		    : wl_vocab_parse(none, sizeof(none) - 1, "none", err);
}

static int loader_options(const struct config *c, struct wl_loader_opts *o, struct wl_err *err)
{
	*o = (struct wl_loader_opts){
		.dir = c->shards, .cache = c->cache, .cache_bytes = c->cache_size,
		.split = c->split, .batch = c->batch, .image_px = (int)c->size,
		.regions = (int)c->regions, .grid = (int)c->grid, .use_boxes = c->boxes,
		.text_len = (int)c->text_len, .std = {1, 1, 1}, .shuffle = c->shuffle,
		.seed = (uint64_t)c->seed, .prefetch = (int)c->prefetch,
		.threads = c->threads ? (int)c->threads : (int)wl_cores(), .limit = c->limit,
		.mix = c->mix, .world = (int)c->world, .rank = (int)c->rank,
		.max_bad_rate = c->max_bad_rate, .crops_only = c->crops && c->bench,
		.planes_only = c->planes && c->bench,
	};
	if (c->samples < 1 || c->samples > 1000000)
		return wl_err_set(err, WL_EUSAGE,
			"samples is %lld, but must lie between 1 and 1000000",
			(long long)c->samples);
	return c->augment ? wl_augment_parse(c->augment, &o->augment, err) :
		wl_augment_preset("paper", &o->augment, err);
}

static int run(struct wl_opts *opts, void *user, struct wl_err *err)
{
	const struct config *c = user;
	struct wl_loader_pos pos = {c->epoch, c->position, 0};
	struct wl_loader_opts o;
	struct wl_inspect w = {&o, c->vocab != NULL, opts->common.json, c->samples, c->sheet};
	struct wl_vocab *vocab = NULL;
	struct wl_loader *l = NULL;
	int rc = -1;

	WL_TRY_OUT(loader_options(c, &o, err));
	o.vocab = vocab = open_vocab(c->vocab, err);
	if (!vocab)
		goto out;
	l = wl_loader_open(&o, err);
	if (!l)
		goto out;
	WL_TRY_OUT(wl_loader_seek(l, &pos, err));
	rc = c->bench ? wl_inspect_bench(l, &w, err) : wl_inspect_show(l, &w, err);
out:
	wl_loader_close(l);
	wl_vocab_free(vocab);
	return rc;
}

static const struct wl_path_rule paths[] = {
	{"vocab", WL_PATH_FILE,
		"wenlan-vocab --corpus DIR --out FILE writes one, or take BERT's vocab.txt"},
	{"cache", WL_PATH_OUTPUT_DIR, NULL},
	{"contact-sheet", WL_PATH_OUTPUT, NULL},
	{0},
};

int main(int argc, char **argv)
{
	struct config c = {.split = "train",
		.size = 224,
		.batch = 16,
		.seed = 1,
		.regions = 37,
		.grid = 6,
		.world = 1,
		.text_len = 64,
		.samples = 8,
		.boxes = true,
		.shuffle = true};
	const struct wl_opt table[] = {
		{"shards", WL_OPT_STR, &c.shards, "DIR|URL",
			"the shard set: a folder, http(s)://... or s3://...", true},
		{"cache", WL_OPT_STR, &c.cache, "DIR",
			"of a URL: whole shards are kept here (else in ~/.cache/wenlan)", false},
		{"cache-size", WL_OPT_INT, &c.cache_size, "BYTES",
			"the most that the cache may hold (20G)", false},
		{"split", WL_OPT_STR, &c.split, "NAME", "train, val or test", false},
		{"vocab", WL_OPT_STR, &c.vocab, "FILE", "vocab.txt: also show tokens", false},
		{"augment", WL_OPT_JSON, &c.augment, "PRESET|MAPPING",
			"none, paper (default), public, or {preset: ..., flip: ...}", false},
		{"mix", WL_OPT_JSON, &c.mix, "MAPPING",
			"{news: 2, baike: 1}: sources by weight, others left out", false},
		{"rank", WL_OPT_INT, &c.rank, "N", "show what this rank of --world sees", false},
		{"world", WL_OPT_INT, &c.world, "N", "ranks that share the samples", false},
		{"max-bad-rate", WL_OPT_DOUBLE, &c.max_bad_rate, "X",
			"end with 3 when more samples cannot be used, 0: 0.01", false},
		{"size", WL_OPT_INT, &c.size, "PX", "side of the picture", false},
		{"batch", WL_OPT_INT, &c.batch, "N", "samples a batch", false},
		{"threads", WL_OPT_INT, &c.threads, "N", "workers, 0: one per core", false},
		{"prefetch", WL_OPT_INT, &c.prefetch, "N", "batches ahead, 0: 2", false},
		{"seed", WL_OPT_INT, &c.seed, "N", "of order and augmentation", false},
		{"epoch", WL_OPT_INT, &c.epoch, "N", "start in this epoch", false},
		{"position", WL_OPT_INT, &c.position, "N", "start at this position of it", false},
		{"shuffle", WL_OPT_BOOL, &c.shuffle, NULL, "no-: in the order of the shards",
			false},
		{"limit", WL_OPT_INT, &c.limit, "N", "only the first N samples, 0: all", false},
		{"boxes", WL_OPT_BOOL, &c.boxes, NULL, "no-: the grid for every sample", false},
		{"regions", WL_OPT_INT, &c.regions, "N", "boxes and the whole picture", false},
		{"grid", WL_OPT_INT, &c.grid, "N", "cells a side without boxes", false},
		{"text-len", WL_OPT_INT, &c.text_len, "N", "ids a caption", false},
		{"samples", WL_OPT_INT, &c.samples, "N", "how many to show or to measure", false},
		{"contact-sheet", WL_OPT_STR, &c.sheet, "FILE",
			"the augmented pictures with their regions: .jpg, or .html with captions",
			false},
		{"bench", WL_OPT_BOOL, &c.bench, NULL, "measure images a second", false},
		{"crops", WL_OPT_BOOL, &c.crops, NULL,
			"measure what a GPU is given: crops of bytes, colours not changed", false},
		{"planes", WL_OPT_BOOL, &c.planes, NULL,
			"measure what a GPU that resizes is given: decoded, and no more", false},
		{NULL, WL_OPT_BOOL, NULL, NULL, NULL, false},
	};
	struct wl_opts o = {
		.program = "wenlan-load",
		.usage = "--shards DIR [OPTION]...",
		.about = "Shows what a training run would see of shards, or measures the loader.",
		.example =
			"wenlan-load --shards demo/shards --samples 24 --contact-sheet sheet.html\n"
			"wenlan-load --shards demo/shards --bench --samples 2000 --threads 1",
		.table = table,
		.paths = paths,
	};

	return wl_main(&o, argc, argv, run, &c);
}
