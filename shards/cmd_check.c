/* wenlan-shard verify, repair, audit. */
#include "shards/commands.h"

#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "shards/check.h"
#include "shards/count.h"
#include "shards/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check_cmd {
	const char *corpus, *shards;
	bool deep, trust_tars;
	int64_t threads;
};

/* Prints v (stolen) as one line on standard output when --json was given. */
static int put_json(const struct wl_opts *o, json_t *v, struct wl_err *err)
{
	int ret = o->common.json ? wl_json_print(v, err) : 0;

	json_decref(v);
	return ret;
}

static int run_verify(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct check_cmd *c = user;
	struct wl_verify_result r;
	int rc = wl_shards_verify(c->shards, c->deep, c->threads, &r, err);
	json_t *v = json_pack("{s:I, s:I, s:I, s:I, s:b}", "shards", (json_int_t)r.shards,
		"samples", (json_int_t)r.samples, "bytes", (json_int_t)r.bytes, "bad_shards",
		(json_int_t)r.bad_shards, "sound", rc == 0);

	WL_TRY(put_json(o, v, rc < 0 ? NULL : err));
	if (rc == 0)
		wl_info("%s is sound: %s in %s, every byte of %.1f MB%s", c->shards,
			wl_count(r.samples, "sample").s, wl_count(r.shards, "shard").s,
			(double)r.bytes / 1e6, c->deep ? ", every picture decoded" : "");
	return rc;
}

int wl_cmd_verify(int argc, char **argv)
{
	struct check_cmd c = {0};
	const struct wl_opt table[] = {
		{"shards", WL_OPT_STR, &c.shards, "DIR", "the shard set", true},
		{"deep", WL_OPT_BOOL, &c.deep, NULL, "decode every picture too", false},
		{"threads", WL_OPT_INT, &c.threads, "N", "0: one per core", false},
		{0},
	};
	struct wl_opts opts = {.program = "wenlan-shard verify",
		.usage = "--shards DIR [--deep]",
		.about = "Reads every byte of a shard set and compares it with the hashes, "
			 "offsets and descriptions in the databases.  Exit code 3 names the "
			 "first bad sample.",
		.example = "wenlan-shard verify --shards shards --deep",
		.table = table};

	return wl_main(&opts, argc, argv, run_verify, &c);
}

static int64_t param(const json_t *v, const char *key)
{
	json_t *x = json_object_get(v, key);

	return json_is_true(x) ? 1 : json_integer_value(x);
}

/* Packs what is damaged or gone again, with the options that the set was packed with. */
static int restore(const struct wl_opts *o, const struct check_cmd *c, struct wl_err *err)
{
	char *path = wl_path_join(c->shards, "plan.json", err);
	json_t *plan = path ? wl_json_load(path, err) : NULL, *v = json_object_get(plan, "params");
	struct wl_pack_opts p = {.corpus = c->corpus,
		.out = c->shards,
		.recheck = true,
		.threads = c->threads,
		.plan = {.test = param(v, "test"),
			.val = param(v, "val"),
			.shard_bytes = param(v, "shard_bytes"),
			.shard_samples = param(v, "shard_samples"),
			.seed = (uint64_t)param(v, "seed"),
			.quality = (int)param(v, "quality"),
			.draw_beside_hints = param(v, "draw_beside_hints"),
			.ignore_hints = param(v, "ignore_hints"),
			.allow_unfiltered = param(v, "allow_unfiltered")}};
	struct wl_pack_result r = {0};
	int rc = plan ? wl_pack(&p, &r, err) : -1;

	json_decref(plan);
	free(path);
	WL_TRY(rc);
	wl_info("%s: of %s %lld %s sound, %lld packed again", c->shards,
		wl_count(r.shards, "shard").s, (long long)r.kept_shards,
		r.kept_shards == 1 ? "was" : "were", (long long)(r.shards - r.kept_shards));
	return put_json(o,
		json_pack("{s:I, s:I, s:I}", "shards", (json_int_t)r.shards, "sound",
			(json_int_t)r.kept_shards, "samples", (json_int_t)r.samples),
		err);
}

static int run_repair(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct check_cmd *c = user;
	struct wl_repair_result r;

	if (c->corpus)
		return restore(o, c, err);
	WL_TRY(wl_shards_repair(c->shards, c->trust_tars, &r, err));
	wl_info("%s: databases of %s with %s made again", c->shards, wl_count(r.shards, "shard").s,
		wl_count(r.samples, "sample").s);
	return put_json(o,
		json_pack("{s:I, s:I, s:b}", "shards", (json_int_t)r.shards, "samples",
			(json_int_t)r.samples, "tombstones_lost", r.tombstones_lost),
		err);
}

static const struct wl_path_rule repair_paths[] = {
	{"shards", WL_PATH_DIR, "it is the directory that wenlan-shard --out was given"},
	{0},
};

int wl_cmd_repair(int argc, char **argv)
{
	struct check_cmd c = {0};
	const struct wl_opt table[] = {
		{"shards", WL_OPT_STR, &c.shards, "DIR", "the shard set", true},
		{"corpus", WL_OPT_STR, &c.corpus, "DIR",
			"what it was packed from: compare every byte, and pack damaged and missing "
			"shards again",
			false},
		{"trust-tars", WL_OPT_BOOL, &c.trust_tars, NULL,
			"take the tars as they are, even where their bytes are not those that were "
			"sealed",
			false},
		{"threads", WL_OPT_INT, &c.threads, "N", "with --corpus; 0: one per core", false},
		{0},
	};
	struct wl_opts opts = {.program = "wenlan-shard repair",
		.usage = "--shards DIR [--corpus DIR | --trust-tars]",
		.about = "Makes NAME.db, manifest.db and the index files of wids, DALI and "
			 "Megatron-Energon again from the tars; or, with --corpus, damaged tars "
			 "from the corpus, to the same bytes.",
		.example = "wenlan-shard repair --shards shards",
		.table = table,
		.paths = repair_paths};

	return wl_main(&opts, argc, argv, run_repair, &c);
}

static int run_audit(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct check_cmd *c = user;
	struct wl_audit_result r;

	WL_TRY(wl_shards_audit(c->corpus, c->shards, &r, err));
	wl_info("%lld read = %lld packed + %lld dropped by dedup + %lld dropped by filter + %lld "
		"rejected at packing + %lld quarantined + %lld pending (%lld of the packed are "
		"taken "
		"down)",
		(long long)r.read, (long long)r.packed, (long long)r.dropped_dedup,
		(long long)r.dropped_filter, (long long)r.rejected, (long long)r.quarantined,
		(long long)r.pending, (long long)r.tombstoned);
	return put_json(o,
		json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "read",
			(json_int_t)r.read, "pending", (json_int_t)r.pending, "packed",
			(json_int_t)r.packed, "dropped_dedup", (json_int_t)r.dropped_dedup,
			"dropped_filter", (json_int_t)r.dropped_filter, "rejected",
			(json_int_t)r.rejected, "quarantined", (json_int_t)r.quarantined,
			"tombstoned", (json_int_t)r.tombstoned, "balanced", 1),
		err);
}

int wl_cmd_audit(int argc, char **argv)
{
	struct check_cmd c = {0};
	const struct wl_opt table[] = {
		{"corpus", WL_OPT_STR, &c.corpus, "DIR", "the corpus that was packed", true},
		{"shards", WL_OPT_STR, &c.shards, "DIR", "the shard set", true},
		{0},
	};
	struct wl_opts opts = {.program = "wenlan-shard audit",
		.usage = "--corpus DIR --shards DIR",
		.about = "Checks that every input item is in exactly one of packed, dropped by a "
			 "stage, rejected, quarantined, and names the first that is not (exit "
			 "code 3).",
		.example = "wenlan-shard audit --corpus corpus --shards shards",
		.table = table};

	return wl_main(&opts, argc, argv, run_audit, &c);
}
