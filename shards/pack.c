/* Packing a set: what is there already, what is missing (pack_fill.c), the manifest.  See
 * pack.h. */
#include "shards/pack_priv.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/pool.h"
#include "ops/progress.h"
#include "ops/signals.h"
#include "shards/index.h"
#include "shards/places.h"
#include "shards/shard_db.h"
#include "shards/write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what is there already ---- */

bool wl_pack_is_mine(const struct wl_packing *p, size_t shard)
{
	return !p->o->parts || (int64_t)shard % p->o->parts == p->o->part - 1;
}

/* 1: DIR/NAME.tar is sealed, of this plan, and its bytes are those that were hashed; 0: not. */
static int shard_is_sound(const struct wl_packing *p, const char *name, struct wl_shard_info *out)
{
	uint8_t digest[WL_SHA256_BYTES];
	struct wl_err why = WL_ERR_INIT;
	char plan[65], hex[WL_SHA256_HEX];
	char *tar = wl_strf(&why, "%s/%s.tar", p->o->out, name);
	int sound = 0;

	if (!tar || !wl_exists(tar))
		goto out;
	if (wl_shard_info_read(out, plan, p->o->out, name, &why) < 0 ||
		strcmp(plan, p->plan.hash) || wl_file_size(tar, &why) != out->bytes)
		goto out;
	if (wl_sha256_file(tar, digest, &why) == 0) {
		wl_hex(digest, sizeof digest, hex);
		sound = !strcmp(hex, out->sha256);
	}
	if (!sound)
		wl_warn("%s is not what was sealed; it is packed again", tar);
out:
	free(tar);
	return sound;
}

static void check_shard(void *ctx, size_t i)
{
	struct wl_packing *p = ctx;
	const struct wl_planned_shard *s = &p->plan.shards[i];
	char name[WL_SHARD_NAME_MAX];

	if (wl_pack_is_mine(p, i) &&
		wl_shard_name(name, wl_split_names[s->split], s->number, NULL) == 0)
		p->sealed[i] = shard_is_sound(p, name, &p->infos[i]);
}

/* A finished set of this plan whose files are all there, by size: 1, else 0. */
static int is_finished(struct wl_packing *p)
{
	struct wl_manifest m = {0};
	const char *hash;
	bool all = true;

	if (!wl_manifest_exists(p->o->out) || wl_manifest_read(&m, p->o->out, NULL) < 0)
		return 0;
	hash = json_string_value(json_object_get(m.meta, "plan"));
	all = hash && !strcmp(hash, p->plan.hash) && m.n == p->plan.n_shards;
	for (size_t i = 0; i < m.n && all; i++) {
		char *tar = wl_strf(NULL, "%s/%s.tar", p->o->out, m.shards[i].name);
		char *db = wl_strf(NULL, "%s/%s.db", p->o->out, m.shards[i].name);

		all = tar && db && wl_file_size(tar, NULL) == m.shards[i].bytes && wl_exists(db);
		free(tar);
		free(db);
		p->infos[i] = m.shards[i];
	}
	wl_manifest_release(&m);
	return all;
}

/* True for SPLIT-NNNNNN.EXT of our splits and extensions, temporary names included: only such
 * files are ever removed. */
static bool is_shard_file(const char *name, char stem[WL_SHARD_NAME_MAX], const char **ext)
{
	static const char *const known[] = {
		".tar", ".db", ".idx", ".tar.idx", ".tar.tmp", ".db.tmp"};
	const char *dot = strchr(name, '.');
	bool ok = false;

	if (!dot || dot - name >= WL_SHARD_NAME_MAX)
		return false;
	memcpy(stem, name, (size_t)(dot - name));
	stem[dot - name] = 0;
	for (int s = WL_SPLIT_TEST; s < WL_SPLITS; s++)
		ok |= wl_shard_name_ok(stem, wl_split_names[s]);
	for (size_t i = 0; ok && i < sizeof known / sizeof *known; i++)
		if (!strcmp(dot, known[i])) {
			*ext = dot;
			return true;
		}
	return false;
}

/* Whose files are never touched: the set's that is added to, and other parts' shards. */
static bool is_others(const struct wl_packing *p, const char *stem)
{
	char name[WL_SHARD_NAME_MAX];

	for (size_t i = 0; i < p->base.n; i++)
		if (!strcmp(p->base.shards[i].name, stem))
			return true;
	for (size_t i = 0; p->o->parts && i < p->plan.n_shards; i++) {
		const struct wl_planned_shard *s = &p->plan.shards[i];

		if (!wl_pack_is_mine(p, i) &&
			wl_shard_name(name, wl_split_names[s->split], s->number, NULL) == 0 &&
			!strcmp(name, stem))
			return true;
	}
	return false;
}

/* Keeps shards of this plan, removes what a killed run left, and refuses tars that are not of
 * this plan, or removes them if --replace. */
static int clear_file(struct wl_packing *p, const char *name, struct wl_err *err)
{
	char stem[WL_SHARD_NAME_MAX], plan[65], *path;
	struct wl_shard_info info;
	const char *ext;
	int rc;

	if (!is_shard_file(name, stem, &ext) || is_others(p, stem))
		return 0;
	if (!strstr(ext, ".tmp")) {
		if (wl_shard_info_read(&info, plan, p->o->out, stem, NULL) == 0 &&
			!strcmp(plan, p->plan.hash))
			return 0;
		if (p->o->recheck && !strcmp(ext, ".tar"))
			return wl_err_set(err, WL_EUSAGE,
				"%s/%s is not what %s gives with the options in %s/plan.json: name "
				"the corpus that it was packed from, or remove the tar if that is "
				"the one; of a set that was added to, remove the files of damaged "
				"shards (NAME.*), then run wenlan-shard repair --shards %s, and "
				"wenlan-shard --append with each corpus",
				p->o->out, name, p->o->corpus, p->o->out, p->o->out);
		if (!p->o->replace && !strcmp(ext, ".tar"))
			return wl_err_set(err, WL_EUSAGE,
				"%s/%s was packed from another corpus or with other options; "
				"give another --out, or pass --replace to remove the shards that "
				"are there",
				p->o->out, name);
		if (!p->o->replace) /* beside such a tar; or about to be written anew */
			return 0;
	}
	path = wl_path_join(p->o->out, name, err);
	rc = path ? wl_remove_tree(path, err) : -1;
	free(path);
	return rc;
}

static int clear_out_dir(struct wl_packing *p, struct wl_err *err)
{
	struct wl_names names = {0};
	int rc = wl_list_dir(p->o->out, "*", &names, err);

	for (size_t i = 0; i < names.n && rc == 0; i++)
		rc = clear_file(p, names.v[i], err);
	wl_names_release(&names);
	return rc < 0 ? -1 : 0;
}

/* ---- the set ---- */

static void sum_up(const struct wl_packing *p, struct wl_pack_result *out)
{
	out->shards = (int64_t)p->plan.n_shards;
	out->old_shards = (int64_t)p->base.n;
	for (size_t i = 0; i < p->plan.n_shards; i++) {
		out->samples += p->infos[i].samples;
		out->bytes += p->infos[i].bytes;
		out->rejected += p->infos[i].rejected;
		for (int s = WL_SPLIT_TEST; s < WL_SPLITS; s++)
			if (!strcmp(p->infos[i].split, wl_split_names[s]))
				out->in_split[s] += p->infos[i].samples;
	}
}

/* What is in the set that is added to: its pairs, and the numbers that are taken. */
static int read_base(struct wl_packing *p, struct wl_err *err)
{
	int64_t n = 0;

	if (!wl_manifest_exists(p->o->out))
		return wl_err_set(err, WL_EUSAGE,
			"%s holds no finished set to add to; pack one first, without --append",
			p->o->out);
	WL_TRY(wl_manifest_read(&p->base, p->o->out, err));
	for (size_t i = 0; i < p->base.n; i++)
		n += p->base.shards[i].samples + p->base.shards[i].rejected;
	p->base_ids = malloc(((size_t)n + 1) * sizeof *p->base_ids);
	if (!p->base_ids)
		return wl_err_nomem(err, "the pairs of a set", (size_t)n * sizeof *p->base_ids);
	n = 0;
	for (size_t i = 0; i < p->base.n; i++) {
		const struct wl_shard_info *s = &p->base.shards[i];
		int64_t next = atoll(s->name + strlen(s->split) + 1) + 1;

		WL_TRY(wl_places_pair_ids(p->o->out, s, p->base_ids + n, err));
		n += s->samples;
		if (s->rejected) {
			int64_t out = wl_places_rejected(p->o->out, s, p->base_ids + n, err);

			WL_TRY((int)out);
			n += out;
		}
		for (int k = WL_SPLIT_TEST; k < WL_SPLITS; k++)
			if (!strcmp(s->split, wl_split_names[k]) && p->plan_opts.first[k] < next)
				p->plan_opts.first[k] = next;
	}
	qsort(p->base_ids, (size_t)n, sizeof *p->base_ids, wl_by_id);
	p->plan_opts.skip = p->base_ids;
	p->plan_opts.n_skip = (size_t)n;
	p->plan_opts.base = p->base.fingerprint;
	return 0;
}

static int pack_locked(struct wl_packing *p, struct wl_pack_result *out, struct wl_err *err)
{
	bool all = true;

	p->plan_opts = p->o->plan;
	if (p->o->append)
		WL_TRY(read_base(p, err));
	WL_TRY(wl_shard_plan_make(&p->plan, p->corpus, &p->plan_opts, err));
	if (!p->plan.n) {
		out->nothing_to_do = true;
		out->old_shards = (int64_t)p->base.n;
		return 0;
	}
	p->infos = calloc(p->plan.n_shards, sizeof *p->infos);
	p->sealed = calloc(p->plan.n_shards, sizeof *p->sealed);
	if (!p->infos || !p->sealed)
		return wl_err_nomem(err, "packing", p->plan.n_shards * sizeof *p->infos);
	if (!p->o->append && !p->o->recheck && is_finished(p)) {
		out->nothing_to_do = true;
		out->kept_shards = (int64_t)p->plan.n_shards;
		sum_up(p, out);
		/* A kill may have come between the manifest and this; an older set lacks some. */
		WL_TRY(wl_index_write(p->o->out, p->infos, p->plan.n_shards, err));
		return wl_index_energon(p->o->out, err);
	}
	WL_TRY(clear_out_dir(p, err));
	WL_TRY(wl_pack_write_plan(p, err));
	WL_TRY(wl_pack_workers(p, err));
	wl_pool_for(p->pool, p->plan.n_shards, check_shard, p);
	for (size_t i = 0; i < p->plan.n_shards; i++)
		out->kept_shards += p->sealed[i];
	WL_TRY(wl_pack_missing(p, err));
	for (size_t i = 0; i < p->plan.n_shards; i++)
		all &= p->sealed[i] || !wl_pack_is_mine(p, i);
	out->stopped = !all;
	out->unfinished = p->o->parts > 0;
	if (!all)
		return 0;
	if (!p->o->parts)
		WL_TRY(wl_pack_write_manifest(p, err));
	sum_up(p, out);
	return 0;
}

static void release(struct wl_packing *p)
{
	wl_pack_workers_release(p);
	free(p->infos);
	free(p->sealed);
	free(p->base_ids);
	wl_manifest_release(&p->base);
	wl_shard_plan_release(&p->plan);
	wl_corpus_close(p->corpus);
}

int wl_pack(const struct wl_pack_opts *o, struct wl_pack_result *out, struct wl_err *err)
{
	struct wl_packing p = {.o = o};
	char *lock_path, lock_name[64];
	int lock, ret = -1;

	*out = (struct wl_pack_result){0};
	p.corpus = wl_corpus_open(o->corpus, false, 0, err);
	if (!p.corpus)
		return -1;
	/* Parts work side by side, but not two runs of one part. */
	snprintf(lock_name, sizeof lock_name, o->parts ? ".lock-%lld-of-%lld" : ".lock",
		(long long)o->part, (long long)o->parts);
	if (wl_mkdir_p(o->out, err) < 0 || !(lock_path = wl_path_join(o->out, lock_name, err))) {
		release(&p);
		return -1;
	}
	lock = wl_lock_file(lock_path, err);
	if (lock >= 0)
		ret = pack_locked(&p, out, err);
	if (lock >= 0)
		close(lock);
	free(lock_path);
	release(&p);
	return ret;
}
