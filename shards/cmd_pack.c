/* wenlan-shard --corpus DIR --out DIR: options, and what is said at the end. */
#include "shards/commands.h"

#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "shards/count.h"
#include "shards/pack.h"

#include <stdio.h>
#include <stdlib.h>

struct pack_cmd {
	struct wl_pack_opts o;
	int64_t seed, quality;
	const char *part;
};

/* "2/8" */
static int parse_part(struct pack_cmd *p, struct wl_err *err)
{
	long long i, n;
	char rest;

	if (!p->part)
		return 0;
	if (sscanf(p->part, "%lld/%lld%c", &i, &n, &rest) != 2 || i < 1 || i > n || n > 100000)
		return wl_err_set(err, WL_EUSAGE,
			"--part %s: expected I/N with I from 1 to N, as in 2/8", p->part);
	if (p->o.append)
		return wl_err_set(err, WL_EUSAGE, "--part does not go with --append");
	p->o.part = i;
	p->o.parts = n;
	return 0;
}

static int check(const struct pack_cmd *p, struct wl_err *err)
{
	const struct wl_shard_plan_opts *o = &p->o.plan;

	if (o->test < 0 || o->val < 0 || o->shard_samples < 0 || p->o.threads < 0)
		return wl_err_set(err, WL_EUSAGE,
			"--test, --val, --shard-samples and --threads must not be negative");
	if (o->shard_bytes < 1)
		return wl_err_set(err, WL_EUSAGE, "--shard-size %lld: expected at least one byte",
			(long long)o->shard_bytes);
	if (p->quality < 1 || p->quality > 100)
		return wl_err_set(
			err, WL_EUSAGE, "--quality %lld: expected 1 to 100", (long long)p->quality);
	if (p->o.append && p->o.replace)
		return wl_err_set(err, WL_EUSAGE, "--append does not go with --replace");
	return 0;
}

static int say(const struct wl_opts *opts, const struct pack_cmd *p, const struct wl_pack_result *r,
	struct wl_err *err)
{
	json_t *v;
	int ret;

	if (r->nothing_to_do)
		wl_info(p->o.append ? "%s has all of the corpus's kept pairs already"
				    : "%s is finished already and nothing has changed",
			p->o.out);
	if (r->unfinished)
		wl_info("part %s is done; when all parts are, the same command without --part "
			"checks "
			"their shards and writes the manifest",
			p->part);
	wl_info("%s (train %lld, val %lld, test %lld) in %s, %.1f MB%s",
		wl_count(r->samples, "sample").s, (long long)r->in_split[WL_SPLIT_TRAIN],
		(long long)r->in_split[WL_SPLIT_VAL], (long long)r->in_split[WL_SPLIT_TEST],
		wl_count(r->shards, "shard").s, (double)r->bytes / 1e6,
		r->kept_shards && !r->nothing_to_do ? "; some were sealed by an earlier run" : "");
	if (r->rejected)
		wl_warn("%s left out because the picture could not be packed; the shards' "
			"databases say why (table rejected)",
			wl_count(r->rejected, "pair").s);
	if (!opts->common.json)
		return 0;
	v = json_pack("{s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I}, s:b}", "shards",
		(json_int_t)r->shards, "shards_kept", (json_int_t)r->kept_shards, "samples",
		(json_int_t)r->samples, "bytes", (json_int_t)r->bytes, "rejected",
		(json_int_t)r->rejected, "splits", "train", (json_int_t)r->in_split[WL_SPLIT_TRAIN],
		"val", (json_int_t)r->in_split[WL_SPLIT_VAL], "test",
		(json_int_t)r->in_split[WL_SPLIT_TEST], "nothing_to_do", r->nothing_to_do);
	ret = v ? wl_json_print(v, err) : wl_err_nomem(err, "the result", 0);
	json_decref(v);
	return ret;
}

static int run(struct wl_opts *opts, void *user, struct wl_err *err)
{
	struct pack_cmd *p = user;
	struct wl_pack_result r;

	WL_TRY(check(p, err));
	WL_TRY(parse_part(p, err));
	p->o.plan.seed = (uint64_t)p->seed;
	p->o.plan.quality = (int)p->quality;
	WL_TRY(wl_pack(&p->o, &r, err));
	return r.stopped ? 0 : say(opts, p, &r, err);
}

static const struct wl_path_rule paths[] = {
	{"out", WL_PATH_OUTPUT_DIR, NULL},
	{0},
};

int wl_cmd_pack(int argc, char **argv)
{
	struct pack_cmd p = {.o.plan.shard_bytes = 256 * 1000 * 1000, .quality = 95, .seed = 1};
	const struct wl_opt table[] = {
		{"corpus", WL_OPT_STR, &p.o.corpus, "DIR", "the corpus to pack", true},
		{"out", WL_OPT_STR, &p.o.out, "DIR", "where the shards go; made when missing",
			true},
		{"shard-size", WL_OPT_INT, &p.o.plan.shard_bytes, "BYTES",
			"aim for a shard's size (k, M, G and Ki, Mi, Gi work)", false},
		{"shard-samples", WL_OPT_INT, &p.o.plan.shard_samples, "N",
			"most samples in a shard (0: no limit)", false},
		{"test", WL_OPT_INT, &p.o.plan.test, "N",
			"draw exactly N pairs for test, by whole groups of near-duplicates; "
			"nothing when the input names test pairs itself",
			false},
		{"val", WL_OPT_INT, &p.o.plan.val, "N", "the same for val", false},
		{"draw-beside-hints", WL_OPT_BOOL, &p.o.plan.draw_beside_hints, NULL,
			"draw although the input names test or val pairs itself, of the pairs "
			"whose split it does not name",
			false},
		{"ignore-hints", WL_OPT_BOOL, &p.o.plan.ignore_hints, NULL,
			"draw as if the input named no splits", false},
		{"seed", WL_OPT_INT, &p.seed, "N", "of the draw and of the global shuffle", false},
		{"quality", WL_OPT_INT, &p.quality, "Q",
			"of JPEGs made from other formats (JPEGs are copied byte for byte)", false},
		{"allow-unfiltered", WL_OPT_BOOL, &p.o.plan.allow_unfiltered, NULL,
			"pack pairs that dedup or filter have not examined", false},
		{"replace", WL_OPT_BOOL, &p.o.replace, NULL,
			"remove shards in --out that come from other options or another corpus",
			false},
		{"part", WL_OPT_STR, &p.part, "I/N",
			"only every Nth shard, from the Ith: N machines pack one set; then the "
			"same "
			"without --part",
			false},
		{"append", WL_OPT_BOOL, &p.o.append, NULL,
			"add the pairs that the finished set in --out lacks, in new shards (of "
			"another "
			"corpus: run its wenlan-dedup --against the first)",
			false},
		{"threads", WL_OPT_INT, &p.o.threads, "N", "0: one per core", false},
		{0},
	};
	struct wl_opts opts = {.program = "wenlan-shard",
		.usage = "--corpus DIR --out DIR [OPTION]...",
		.about = "Packs the kept pairs of a corpus into WebDataset tars with a SQLite "
			 "manifest.\nThe same command goes on where a killed run stopped.\n"
			 "Commands: verify, repair, audit, ls, get, stats, lint, diff, merge, "
			 "tombstone "
			 "(each has --help).",
		.example = "wenlan-shard --corpus corpus --out shards --test 11000 --val 1000",
		.table = table,
		.paths = paths};

	return wl_main(&opts, argc, argv, run, &p);
}
