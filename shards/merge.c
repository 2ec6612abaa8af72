/* Several shard sets made one: see sets.h. */
#include "shards/sets.h"

#include "ops/buf.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/progress.h"
#include "ops/signals.h"
#include "shards/index.h"
#include "shards/manifest.h"
#include "shards/plan.h"
#include "shards/shard.h"
#include "shards/shard_db.h"
#include "shards/tar.h"
#include "shards/write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One sample to copy: where it is. */
struct item {
	int64_t pair_id, number; /* of its set's split */
	int64_t bytes;		 /* in a shard */
	uint8_t sha256[32];
	uint32_t set;
	uint32_t split; /* enum wl_split */
};

struct merge {
	const struct wl_merge_opts *o;
	struct wl_manifest *manifests; /* [n sets] */
	struct wl_shardset **sets;     /* [n sets, WL_SPLITS], NULL: no such split */
	struct item *items;	       /* by split, then pair */
	size_t n, cap;
	char plan[65];
	struct wl_shard_info *infos;
	size_t n_infos;
	json_t *sources, *topics;
	struct wl_buf jpg, txt, json;
	struct wl_progress *progress;
};

/* ---- what there is ---- */

static int split_of(const char *name, const char *dir, struct wl_err *err)
{
	for (int s = WL_SPLIT_TEST; s < WL_SPLITS; s++)
		if (!strcmp(name, wl_split_names[s]))
			return s;
	return wl_err_set(err, WL_EDATA,
		"%s has shards of a split \"%s\"; only train, val and test can be merged", dir,
		name);
}

static int collect_shard(struct merge *m, size_t set, const struct wl_shard_info *s, int split,
	int64_t *number, struct wl_err *err)
{
	struct wl_shard_rows rows = {0};
	struct wl_shard_row r;
	int rc;

	WL_TRY(wl_shard_rows_open(&rows, m->o->dirs[set], s->name, err));
	while ((rc = wl_shard_rows_next(&rows, &r, err)) > 0) {
		struct item *it = &m->items[m->n++];

		*it = (struct item){.pair_id = r.pair_id,
			.number = (*number)++,
			.set = (uint32_t)set,
			.split = (uint32_t)split};
		memcpy(it->sha256, r.sha256, sizeof it->sha256);
		for (int k = 0; k < WL_MEMBERS; k++)
			it->bytes += WL_TAR_BLOCK + wl_tar_padded(r.length[k]);
	}
	wl_shard_rows_close(&rows);
	return rc;
}

static int collect_set(struct merge *m, size_t set, struct wl_err *err)
{
	const struct wl_manifest *man = &m->manifests[set];
	struct wl_shardset **open = m->sets + set * WL_SPLITS;
	int64_t number[WL_SPLITS] = {0};

	for (size_t i = 0; i < man->n; i++) {
		const struct wl_shard_info *s = &man->shards[i];
		int split;

		WL_TRY(split = split_of(s->split, m->o->dirs[set], err));
		if (!open[split])
			open[split] = wl_shardset_open(m->o->dirs[set], s->split, err);
		if (!open[split])
			return -1;
		WL_TRY(collect_shard(m, set, s, split, &number[split], err));
	}
	return 0;
}

static bool is_down(const struct merge *m, int64_t pair_id)
{
	for (size_t i = 0; i < m->o->n; i++) {
		const struct wl_manifest *man = &m->manifests[i];
		size_t lo = 0, hi = man->n_tombstones;

		while (lo < hi) {
			size_t mid = lo + (hi - lo) / 2;

			if (man->tombstones[mid] < pair_id)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo < man->n_tombstones && man->tombstones[lo] == pair_id)
			return true;
	}
	return false;
}

/* Held-out copies of a pair first (the enum has test before val before train), then by set. */
static int by_pair(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->pair_id != y->pair_id)
		return (x->pair_id > y->pair_id) - (x->pair_id < y->pair_id);
	if (x->split != y->split)
		return (x->split > y->split) - (x->split < y->split);
	if (x->set != y->set)
		return (x->set > y->set) - (x->set < y->set);
	return (x->number > y->number) - (x->number < y->number);
}

static int by_split(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->split != y->split)
		return (x->split > y->split) - (x->split < y->split);
	return (x->pair_id > y->pair_id) - (x->pair_id < y->pair_id);
}

static void drop_doubles(struct merge *m, struct wl_merge_result *out)
{
	size_t n = 0;

	qsort(m->items, m->n, sizeof *m->items, by_pair);
	for (size_t i = 0; i < m->n; i++) {
		if (i && m->items[i].pair_id == m->items[i - 1].pair_id)
			out->doubles++;
		else if (is_down(m, m->items[i].pair_id))
			out->taken_down++;
	}
	for (size_t i = 0; i < m->n; i++) {
		struct item it = m->items[i];

		if ((n && m->items[n - 1].pair_id == it.pair_id) || is_down(m, it.pair_id))
			continue;
		m->items[n++] = it;
	}
	m->n = n;
	qsort(m->items, m->n, sizeof *m->items, by_split);
}

static int collect(struct merge *m, struct wl_merge_result *out, struct wl_err *err)
{
	size_t n = 0, sets = m->o->n;

	m->manifests = calloc(sets, sizeof *m->manifests);
	m->sets = calloc(sets * WL_SPLITS, sizeof *m->sets);
	if (!m->manifests || !m->sets)
		return wl_err_nomem(err, "a merge", sets * sizeof *m->manifests);
	for (size_t i = 0; i < sets; i++) {
		WL_TRY(wl_manifest_read(&m->manifests[i], m->o->dirs[i], err));
		for (size_t k = 0; k < m->manifests[i].n; k++)
			n += (size_t)m->manifests[i].shards[k].samples;
	}
	m->items = calloc(n + 1, sizeof *m->items);
	m->infos = calloc(n + 1, sizeof *m->infos); /* no shard is empty */
	if (!m->items || !m->infos)
		return wl_err_nomem(err, "a merge", n * sizeof *m->items);
	for (size_t i = 0; i < sets; i++)
		WL_TRY(collect_set(m, i, err));
	drop_doubles(m, out);
	return 0;
}

/* Names the merge: sealed shards of another one are not taken for ours. */
static int make_plan(struct merge *m, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	struct wl_sha256 h;
	char text[96];
	int n;

	WL_TRY(wl_sha256_init(&h, err));
	for (size_t i = 0; i < m->o->n; i++)
		wl_sha256_add(&h, m->manifests[i].fingerprint, 64);
	for (size_t i = 0; i < m->n; i++)
		wl_sha256_add(&h, &m->items[i].pair_id, sizeof m->items[i].pair_id);
	n = snprintf(text, sizeof text, "merge %llu %lld", (unsigned long long)m->o->seed,
		(long long)m->o->shard_bytes);
	wl_sha256_add(&h, text, (size_t)n);
	wl_sha256_final(&h, digest);
	wl_sha256_release(&h);
	wl_hex(digest, sizeof digest, m->plan);
	return 0;
}

/* ---- writing ---- */

static void count(json_t *counts, const char *key)
{
	json_object_set_new(
		counts, key, json_integer(1 + json_integer_value(json_object_get(counts, key))));
}

static int copy(
	struct merge *m, struct wl_shard_writer *w, const struct item *it, struct wl_err *err)
{
	struct wl_shardset *set = m->sets[it->set * WL_SPLITS + it->split];
	struct wl_sample s = {.pair_id = it->pair_id, .jpg_sha256 = it->sha256, .topic = -1};
	uint8_t digest[WL_SHA256_BYTES];
	char topic[24];
	json_t *facts, *t;
	int rc;

	WL_TRY(wl_shardset_read(set, it->number, &m->jpg, &m->json, err));
	WL_TRY(wl_shardset_read_text(set, it->number, &m->txt, err));
	wl_sha256(m->jpg.data, m->jpg.len, digest);
	if (memcmp(digest, it->sha256, sizeof digest) != 0)
		return wl_err_set(err, WL_EDATA,
			"%s: the picture of pair %lld is not what its index says (SHA-256 "
			"differs): wenlan-shard verify names the shard",
			m->o->dirs[it->set], (long long)it->pair_id);
	facts = wl_json_parse((const char *)m->json.data, m->json.len, m->o->dirs[it->set], err);
	if (!facts)
		return -1;
	s.jpg = m->jpg.data;
	s.jpg_len = m->jpg.len;
	s.txt = wl_buf_str(&m->txt);
	s.json = wl_buf_str(&m->json);
	s.width = (int)json_integer_value(json_object_get(facts, "width"));
	s.height = (int)json_integer_value(json_object_get(facts, "height"));
	s.source = json_string_value(json_object_get(facts, "source"));
	s.url = json_string_value(json_object_get(facts, "url"));
	t = json_object_get(facts, "topic");
	s.topic = json_is_integer(t) ? json_integer_value(t) : -1;
	snprintf(topic, sizeof topic, "%lld", (long long)s.topic);
	count(m->sources, s.source ? s.source : "");
	count(m->topics, s.topic < 0 ? "" : topic);
	rc = wl_shard_writer_add(w, &s, err);
	json_decref(facts);
	return rc;
}

/* Writes items [first, first + n) of a split in their shuffled order.  1: a signal came. */
static int write_shard(struct merge *m, const struct item *v, size_t all, const size_t *range,
	int split, int64_t number, struct wl_err *err)
{
	uint64_t seed = wl_mix64(m->o->seed + (uint64_t)split);
	struct wl_shard_writer *w =
		wl_shard_writer_new(m->o->out, wl_split_names[split], number, m->plan, err);
	int rc = w ? 0 : -1;

	for (size_t i = range[0]; i < range[1] && rc == 0 && !wl_stop_requested(); i++) {
		rc = copy(m, w, &v[wl_shuffle(i, all, seed)], err);
		wl_progress_add(m->progress, 1);
	}
	if (rc == 0 && !wl_stop_requested()) {
		wl_shard_writer_finish(w);
		rc = wl_shard_writer_wait(w, &m->infos[m->n_infos], err);
	}
	wl_shard_writer_free(w);
	return rc < 0 ? -1 : wl_stop_requested();
}

/* A shard of this merge that an earlier run sealed: its facts, counted. */
static bool is_sealed(struct merge *m, const char *name, size_t samples)
{
	uint8_t digest[WL_SHA256_BYTES];
	char hex[WL_SHA256_HEX];
	struct wl_shard_info *info = &m->infos[m->n_infos];
	struct wl_shard_rows rows = {0};
	struct wl_shard_row r;
	char plan[65], topic[24];
	char *tar = wl_strf(NULL, "%s/%s.tar", m->o->out, name);
	bool ok = tar && wl_exists(tar) &&
		  wl_shard_info_read(info, plan, m->o->out, name, NULL) == 0 &&
		  !strcmp(plan, m->plan) && info->samples == (int64_t)samples &&
		  wl_sha256_file(tar, digest, NULL) == 0;

	free(tar);
	if (ok)
		wl_hex(digest, sizeof digest, hex);
	if (!ok || strcmp(hex, info->sha256) ||
		wl_shard_rows_open(&rows, m->o->out, name, NULL) < 0)
		return false;
	info->sealed_at = wl_shard_sealed_at(m->o->out, name);
	while (wl_shard_rows_next(&rows, &r, NULL) > 0) {
		snprintf(topic, sizeof topic, "%lld", (long long)r.topic);
		count(m->sources, r.source ? r.source : "");
		count(m->topics, r.topic < 0 ? "" : topic);
	}
	wl_shard_rows_close(&rows);
	return true;
}

static int write_split(
	struct merge *m, const struct item *v, size_t all, int split, struct wl_err *err)
{
	uint64_t seed = wl_mix64(m->o->seed + (uint64_t)split);
	size_t range[2] = {0, 0};
	int64_t number = 0;
	int rc = 0;

	for (; range[0] < all && rc == 0; range[0] = range[1], number++) {
		char name[WL_SHARD_NAME_MAX];
		int64_t bytes = 0;

		while (range[1] < all && range[1] - range[0] < WL_SHARD_SAMPLES_MAX) {
			bytes += v[wl_shuffle(range[1], all, seed)].bytes;
			if (bytes > m->o->shard_bytes && range[1] > range[0])
				break;
			range[1]++;
		}
		WL_TRY(wl_shard_name(name, wl_split_names[split], number, err));
		if (is_sealed(m, name, range[1] - range[0]))
			wl_progress_add(m->progress, range[1] - range[0]);
		else
			rc = write_shard(m, v, all, range, split, number, err);
		if (rc == 0)
			m->n_infos++;
	}
	return rc;
}

static int write_all(struct merge *m, struct wl_merge_result *out, struct wl_err *err)
{
	json_t *meta, *from = json_array();
	int rc = 0;

	for (size_t first = 0, end; first < m->n && rc == 0; first = end) {
		end = first;
		while (end < m->n && m->items[end].split == m->items[first].split)
			end++;
		rc = write_split(m, m->items + first, end - first, (int)m->items[first].split, err);
	}
	out->stopped = rc > 0;
	for (size_t i = 0; i < m->o->n; i++)
		json_array_append_new(from, json_string(m->manifests[i].fingerprint));
	meta = json_pack("{s:s, s:I, s:o, s:O, s:O}", "plan", m->plan, "seed",
		(json_int_t)m->o->seed, "merged_from", from, "samples_by_source", m->sources,
		"samples_by_topic", m->topics);
	if (!meta)
		rc = wl_err_nomem(err, "a manifest", 0);
	if (rc == 0)
		rc = wl_index_write(m->o->out, m->infos, m->n_infos, err);
	if (rc == 0)
		rc = wl_manifest_write(m->o->out, m->infos, m->n_infos, meta, err);
	if (rc == 0)
		rc = wl_index_energon(m->o->out, err);
	json_decref(meta);
	out->samples = (int64_t)m->n;
	out->shards = (int64_t)m->n_infos;
	return rc < 0 ? -1 : 0;
}

/* The place must be new, or what an earlier run of this merge left. */
static int check_out(const struct merge *m, struct wl_err *err)
{
	struct wl_manifest man;
	bool ours;

	WL_TRY(wl_mkdir_p(m->o->out, err));
	if (!wl_manifest_exists(m->o->out))
		return 0;
	WL_TRY(wl_manifest_read(&man, m->o->out, err));
	ours = !strcmp(m->plan, json_string_value(json_object_get(man.meta, "plan"))
					? json_string_value(json_object_get(man.meta, "plan"))
					: "");
	wl_manifest_release(&man);
	if (ours)
		return 0;
	return wl_err_set(err, WL_EUSAGE,
		"%s holds another shard set; name an empty directory, or remove it", m->o->out);
}

static void release(struct merge *m)
{
	for (size_t i = 0; i < m->o->n && m->manifests; i++)
		wl_manifest_release(&m->manifests[i]);
	for (size_t i = 0; i < m->o->n * WL_SPLITS && m->sets; i++)
		wl_shardset_close(m->sets[i]);
	free(m->manifests);
	free(m->sets);
	free(m->items);
	free(m->infos);
	json_decref(m->sources);
	json_decref(m->topics);
	wl_buf_release(&m->jpg);
	wl_buf_release(&m->txt);
	wl_buf_release(&m->json);
	wl_progress_free(m->progress);
}

int wl_shards_merge(const struct wl_merge_opts *o, struct wl_merge_result *out, struct wl_err *err)
{
	struct merge m = {.o = o, .sources = json_object(), .topics = json_object()};
	int ret = -1;

	*out = (struct wl_merge_result){0};
	wl_buf_init(&m.jpg, (size_t)256 << 20);
	wl_buf_init(&m.txt, (size_t)16 << 20);
	wl_buf_init(&m.json, (size_t)16 << 20);
	WL_TRY_OUT(collect(&m, out, err));
	WL_TRY_OUT(make_plan(&m, err));
	WL_TRY_OUT(check_out(&m, err));
	m.progress = wl_progress_new("merging", "samples", m.n);
	ret = write_all(&m, out, err);
out:
	release(&m);
	return ret;
}
