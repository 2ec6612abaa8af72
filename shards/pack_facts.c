/* What is written down about a set: plan.json before it is packed, the manifest after. */
#include "shards/pack_priv.h"

#include "ops/file.h"
#include "ops/json.h"
#include "shards/index.h"
#include "shards/shard_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Samples by source and by topic, from the shards' own databases. */
static int count_column(
	const struct wl_packing *p, const char *column, json_t *out, struct wl_err *err)
{
	char sql[128];

	snprintf(sql, sizeof sql, "SELECT ifnull(%s,'none'), count(*) FROM sample GROUP BY 1",
		column);
	for (size_t i = 0; i < p->plan.n_shards; i++) {
		char *path = wl_strf(err, "%s/%s.db", p->o->out, p->infos[i].name);
		sqlite3_stmt *st = NULL;
		struct wl_db db = {0};
		int rc = -1;

		if (path && wl_db_open(&db, path, WL_DB_READ, err) == 0 &&
			wl_db_prepare(&db, &st, sql, err) == 0)
			while ((rc = wl_db_step(&db, st, err)) > 0) {
				const char *v = (const char *)sqlite3_column_text(st, 0);
				json_int_t n = sqlite3_column_int64(st, 1);

				n += json_integer_value(json_object_get(out, v));
				json_object_set_new(out, v, json_integer(n));
			}
		sqlite3_finalize(st);
		wl_db_close(&db);
		free(path);
		WL_TRY(rc);
	}
	return 0;
}

/* What the plan was made of; in plan.json from the start, in the manifest at the end. */
static json_t *plan_facts(const struct wl_packing *p, struct wl_err *err)
{
	const struct wl_shard_plan_opts *o = &p->o->plan;
	json_t *v = json_pack(
		"{s:i, s:s, s:s, s:I, s:{s:I, s:I, s:I, s:I, s:I, s:i, s:b, s:b, s:b},"
		" s:I, s:I, s:I, s:I, s:O}",
		"version", WL_SHARDS_VERSION, "plan", p->plan.hash, "corpus", p->plan.corpus,
		"seed", (json_int_t)o->seed, "params", "test", (json_int_t)o->test, "val",
		(json_int_t)o->val, "shard_bytes", (json_int_t)o->shard_bytes, "shard_samples",
		(json_int_t)o->shard_samples, "seed", (json_int_t)o->seed, "quality", o->quality,
		"draw_beside_hints", o->draw_beside_hints, "ignore_hints", o->ignore_hints,
		"allow_unfiltered", o->allow_unfiltered, "pairs_seen", (json_int_t)p->plan.seen,
		"pairs_dropped", (json_int_t)p->plan.dropped, "pairs_kept", (json_int_t)p->plan.n,
		"train_pairs_in_held_out_groups", (json_int_t)p->plan.leaks, "verdicts",
		p->plan.verdicts);

	if (!v)
		wl_err_nomem(err, "the plan's description", 0);
	return v;
}

int wl_pack_write_plan(const struct wl_packing *p, struct wl_err *err)
{
	char *path = wl_path_join(p->o->out, "plan.json", err);
	json_t *facts = path ? plan_facts(p, err) : NULL;
	int ret = facts ? wl_json_save(path, facts, err) : -1;

	json_decref(facts);
	free(path);
	return ret;
}

/* Adds the counts that the old manifest's meta keeps as JSON text under `key`. */
static void add_old_counts(const struct wl_packing *p, const char *key, json_t *counts)
{
	const char *text = json_string_value(json_object_get(p->base.meta, key)), *name;
	json_t *old = text ? wl_json_parse(text, strlen(text), key, NULL) : NULL, *v;

	json_object_foreach(old, name, v) json_object_set_new(counts, name,
		json_integer(
			json_integer_value(v) + json_integer_value(json_object_get(counts, name))));
	json_decref(old);
}

/* The facts of a set that was added to: those of the first packing, and of each that followed. */
static json_t *added_facts(const struct wl_packing *p, json_t *facts, struct wl_err *err)
{
	const char *text = json_string_value(json_object_get(p->base.meta, "added"));
	json_t *meta = json_deep_copy(p->base.meta);
	json_t *added = text ? wl_json_parse(text, strlen(text), "added", err) : json_array();

	if (!meta || !added || json_array_append_new(added, facts) < 0 ||
		json_object_set_new(meta, "added", added) < 0) {
		json_decref(meta);
		wl_err_nomem(err, "a manifest", 0);
		return NULL;
	}
	return meta;
}

int wl_pack_write_manifest(const struct wl_packing *p, struct wl_err *err)
{
	json_t *meta = plan_facts(p, err);
	json_t *sources = json_object(), *topics = json_object();
	size_t n = p->base.n + p->plan.n_shards;
	struct wl_shard_info *all = calloc(n, sizeof *all);
	int ret = -1;

	if (meta && p->o->append)
		meta = added_facts(p, meta, err);
	if (!all || !meta) {
		wl_err_nomem(err, "a manifest", n * sizeof *all);
		goto out;
	}
	if (p->base.n)
		memcpy(all, p->base.shards, p->base.n * sizeof *all);
	memcpy(all + p->base.n, p->infos, p->plan.n_shards * sizeof *all);

	if (!meta || !sources || !topics)
		goto out;
	WL_TRY_OUT(count_column(p, "source", sources, err));
	WL_TRY_OUT(count_column(p, "topic", topics, err));
	add_old_counts(p, "samples_by_source", sources);
	add_old_counts(p, "samples_by_topic", topics);
	json_object_set(meta, "samples_by_source", sources);
	json_object_set(meta, "samples_by_topic", topics);
	WL_TRY_OUT(wl_index_write(p->o->out, all, n, err));
	WL_TRY_OUT(wl_manifest_write(p->o->out, all, n, meta, err));
	ret = wl_index_energon(p->o->out, err);
out:
	json_decref(meta);
	json_decref(sources);
	json_decref(topics);
	free(all);
	return ret;
}
