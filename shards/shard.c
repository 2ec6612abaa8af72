/* Opening shard sets, and what is known of them without reading a sample: see shard.h. */
#include "shards/shard_priv.h"

#include "ops/file.h"
#include "shards/places.h"
#include "shards/shard_db.h"
#include "shards/web.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of a set elsewhere: requests under way, and bytes that wait for who announced them. */
enum { AHEAD_THREADS = 24, AHEAD_BYTES = 128 << 20, AHEAD_ONE_BYTES = 128 << 20 };

/* ---- opening ---- */

int wl_shard_no_split(
	const struct wl_manifest *m, const char *dir, const char *split, struct wl_err *err)
{
	char have[256] = "";
	const char *last = "";

	for (size_t i = 0; i < m->n; i++) {
		size_t used = strlen(have);

		if (strcmp(m->shards[i].split, last))
			snprintf(have + used, sizeof have - used, "%s%s", used ? ", " : "",
				m->shards[i].split);
		last = m->shards[i].split;
	}
	return wl_err_set(err, WL_EDATA,
		"%s/manifest.db lists no shard of the split \"%s\"; it has %s", dir, split,
		*have ? have : "none at all");
}

static int pick_shards(struct wl_shardset *s, const struct wl_manifest *m, struct wl_err *err)
{
	s->shards = calloc(m->n ? m->n : 1, sizeof *s->shards);
	if (!s->shards)
		return wl_err_nomem(err, "a shard set", m->n * sizeof *s->shards);
	for (size_t i = 0; i < m->n; i++)
		if (!strcmp(m->shards[i].split, s->split)) {
			s->shards[s->n_shards++] = (struct wl_set_shard){
				.info = m->shards[i], .first = s->n, .fd = -1};
			s->n += m->shards[i].samples;
		}
	return s->n_shards ? 0 : wl_shard_no_split(m, s->at, s->split, err);
}

/* Whose fault it is: the shard's own database tells how long it was sealed. */
static int wrong_size(const struct wl_shardset *s, const struct wl_set_shard *sh, const char *tar,
	int64_t size, struct wl_err *err)
{
	struct wl_shard_info sealed;
	char plan[65];

	if (wl_shard_info_read(&sealed, plan, s->dir, sh->info.name, NULL) == 0 &&
		sealed.bytes == size)
		return wl_err_set(err, WL_EDATA,
			"%s has %lld bytes, as its database says, but the manifest says %lld: "
			"manifest.db is another set's; copy this one's here, or run wenlan-shard "
			"repair --shards %s, which makes it again from the tars",
			tar, (long long)size, (long long)sh->info.bytes, s->dir);
	return wl_err_set(err, WL_EDATA,
		"%s has %lld bytes, the manifest says %lld; the shard is damaged: remove it and "
		"run wenlan-shard --corpus again, which packs only what is missing",
		tar, (long long)size, (long long)sh->info.bytes);
}

/* The tar must be there, as long as it was sealed. */
static int check_size(
	const struct wl_shardset *s, const struct wl_set_shard *sh, struct wl_err *err)
{
	char *tar = wl_strf(err, "%s/%s.tar", s->dir, sh->info.name);
	int64_t size = tar ? wl_file_size(tar, err) : -1;

	if (tar && size < 0 && !wl_exists(tar))
		wl_err_set(err, WL_EDATA,
			"%s is missing, though the set's manifest.db names it: run wenlan-shard "
			"--corpus again, which packs only what is missing, or, where the manifest "
			"is another set's, wenlan-shard repair",
			tar);
	else if (tar && size < 0 && err && err->code == WL_EFAIL)
		err->code = WL_EDATA;
	if (size >= 0 && size != sh->info.bytes)
		size = wrong_size(s, sh, tar, size, err);
	free(tar);
	return size < 0 ? -1 : 0;
}

static struct wl_set_shard *shard_named(const struct wl_shardset *s, const char *name)
{
	size_t lo = 0, hi = s->n_shards;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int d = strcmp(s->shards[mid].info.name, name);

		if (!d)
			return &s->shards[mid];
		if (d < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

/* The manifest's take-downs as numbers of samples. */
static int bury(struct wl_shardset *s, const struct wl_manifest *m, struct wl_err *err)
{
	if (!m->n_dead)
		return 0;
	s->dead = malloc(m->n_dead * sizeof *s->dead);
	if (!s->dead)
		return wl_err_nomem(err, "the list of take-downs", m->n_dead * sizeof *s->dead);
	for (size_t i = 0; i < m->n_dead; i++) {
		const struct wl_set_shard *sh = shard_named(s, m->dead[i].shard);

		if (sh && m->dead[i].index >= 0 && m->dead[i].index < sh->info.samples)
			s->dead[s->n_dead++] = sh->first + m->dead[i].index;
	}
	qsort(s->dead, (size_t)s->n_dead, sizeof *s->dead, wl_by_id);
	return 0;
}

static int start_remote(struct wl_shardset *s, struct wl_err *err)
{
	struct wl_shard_info *infos = calloc(s->n_shards, sizeof *infos);
	int rc;

	if (!infos)
		return wl_err_nomem(err, "a shard set", s->n_shards * sizeof *infos);
	for (size_t i = 0; i < s->n_shards; i++)
		infos[i] = s->shards[i].info;
	rc = wl_remote_start(s->remote, infos, s->n_shards, err);
	free(infos);
	WL_TRY(rc);
	s->ahead = wl_ahead_new(
		AHEAD_THREADS, AHEAD_BYTES, AHEAD_ONE_BYTES, wl_shard_fetch_ahead, s, err);
	return s->ahead ? 0 : -1;
}

/* Tars of another writer: whatever is asked of the set is asked of their index. */
static int open_foreign(struct wl_shardset *s, struct wl_err *err)
{
	s->foreign = wl_foreign_open(s->dir, s->split, err);
	if (!s->foreign)
		return -1;
	s->n = wl_foreign_size(s->foreign);
	snprintf(s->fingerprint, sizeof s->fingerprint, "%s", wl_foreign_fingerprint(s->foreign));
	return 0;
}

static int open_set(struct wl_shardset *s, const struct wl_shard_place *at, struct wl_err *err)
{
	struct wl_manifest m = {0};
	int ret = -1;

	s->at = wl_strf(err, "%s", at->at);
	if (!s->at)
		return -1;
	if (wl_web_is_url(at->at) && !(s->remote = wl_remote_open(at, err)))
		return -1;
	s->dir = wl_strf(err, "%s", s->remote ? wl_remote_dir(s->remote) : at->at);
	if (!s->dir)
		return -1;
	if (!s->remote && wl_foreign_is(s->dir))
		return open_foreign(s, err);
	WL_TRY_OUT(wl_manifest_read(&m, s->dir, err));
	WL_TRY_OUT(pick_shards(s, &m, err));
	for (size_t i = 0; i < s->n_shards && !s->remote; i++)
		WL_TRY_OUT(check_size(s, &s->shards[i], err));
	WL_TRY_OUT(bury(s, &m, err));
	memcpy(s->fingerprint, m.fingerprint, sizeof s->fingerprint);
	ret = s->remote ? start_remote(s, err) : 0;
out:
	wl_manifest_release(&m);
	return ret;
}

struct wl_shardset *wl_shardset_open_at(
	const struct wl_shard_place *at, const char *split, struct wl_err *err)
{
	struct wl_shardset *s = calloc(1, sizeof *s);

	if (!s) {
		wl_err_nomem(err, "a shard set", sizeof *s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	snprintf(s->split, sizeof s->split, "%s", split);
	if (open_set(s, at, err) == 0)
		return s;
	wl_shardset_close(s);
	return NULL;
}

struct wl_shardset *wl_shardset_open(const char *dir, const char *split, struct wl_err *err)
{
	return wl_shardset_open_at(&(struct wl_shard_place){.at = dir}, split, err);
}

int wl_shard_manifest(const struct wl_shard_place *at, struct wl_manifest *m, struct wl_err *err)
{
	struct wl_remote *r;
	int rc;

	if (!wl_web_is_url(at->at))
		return wl_manifest_read(m, at->at, err);
	*m = (struct wl_manifest){0};
	r = wl_remote_open(at, err);
	rc = r ? wl_manifest_read(m, wl_remote_dir(r), err) : -1;
	wl_remote_close(r);
	return rc;
}

void wl_shardset_close(struct wl_shardset *s)
{
	if (!s)
		return;
	if (s->remote)
		wl_remote_stop(s->remote);
	wl_ahead_free(s->ahead);
	wl_remote_close(s->remote);
	for (size_t i = 0; i < s->n_shards; i++) {
		if (s->shards[i].fd >= 0)
			close(s->shards[i].fd);
		free(s->shards[i].places);
	}
	pthread_mutex_destroy(&s->lock);
	wl_foreign_close(s->foreign);
	free(s->shards);
	free(s->dead);
	free(s->dir);
	free(s->at);
	free(s);
}

/* ---- facts ---- */

int64_t wl_shardset_size(const struct wl_shardset *s)
{
	return s->n;
}

const int64_t *wl_shardset_dead_samples(const struct wl_shardset *s, int64_t *n)
{
	*n = s->n_dead;
	return s->dead;
}

bool wl_shardset_dead(const struct wl_shardset *s, int64_t i)
{
	return s->n_dead && bsearch(&i, s->dead, (size_t)s->n_dead, sizeof *s->dead, wl_by_id);
}

int wl_shardset_pair_ids(struct wl_shardset *s, int64_t *out, struct wl_err *err)
{
	for (int64_t i = 0; s->foreign && i < s->n; i++)
		out[i] = i;
	for (size_t i = 0; i < s->n_shards; i++) {
		if (s->remote)
			WL_TRY(wl_remote_db(s->remote, i, err));
		WL_TRY(wl_places_pair_ids(
			s->dir, &s->shards[i].info, out + s->shards[i].first, err));
	}
	return 0;
}

/* The sources of one shard's samples. */
static int shard_sources(const struct wl_shardset *s, const struct wl_set_shard *sh,
	wl_source_fn *fn, void *ctx, struct wl_err *err)
{
	struct wl_shard_rows rows;
	struct wl_shard_row r;
	int64_t i = 0;
	int rc;

	WL_TRY(wl_shard_rows_open(&rows, s->dir, sh->info.name, err));
	while ((rc = wl_shard_rows_next(&rows, &r, err)) > 0 && i < sh->info.samples) {
		if (fn(ctx, sh->first + i++, r.source, err) < 0) {
			rc = -1;
			break;
		}
	}
	if (rc >= 0 && (rc > 0 || i != sh->info.samples))
		rc = wl_err_set(err, WL_EDATA,
			"%s, table sample, does not have the %lld rows that the manifest says: run "
			"wenlan-shard repair",
			rows.db.path, (long long)sh->info.samples);
	wl_shard_rows_close(&rows);
	return rc;
}

int wl_shardset_sources(struct wl_shardset *s, wl_source_fn *fn, void *ctx, struct wl_err *err)
{
	char source[256];

	for (int64_t i = 0; s->foreign && i < s->n; i++)
		WL_TRY(fn(ctx, i, wl_foreign_source(s->foreign, i, source, sizeof source), err));
	for (size_t i = 0; i < s->n_shards; i++) {
		if (s->remote)
			WL_TRY(wl_remote_db(s->remote, i, err));
		WL_TRY(shard_sources(s, &s->shards[i], fn, ctx, err));
	}
	return 0;
}

const char *wl_shardset_fingerprint(const struct wl_shardset *s)
{
	return s->fingerprint;
}

void wl_shardset_key(const struct wl_shardset *s, int64_t i, char out[WL_KEY_MAX])
{
	const struct wl_set_shard *sh;

	if (s->foreign) {
		snprintf(out, WL_KEY_MAX, "%s", wl_foreign_key(s->foreign, i));
		return;
	}
	sh = wl_shard_of(s, i);
	snprintf(out, WL_KEY_MAX, "%s_%06d", sh->info.name, (int)(i - sh->first));
}

int64_t wl_shardset_find(const struct wl_shardset *s, const char *key)
{
	const char *mark = strrchr(key, '_');
	char name[WL_SHARD_NAME_MAX];
	const struct wl_set_shard *sh;
	int64_t index;

	if (!mark || strlen(mark + 1) != 6 || strspn(mark + 1, "0123456789") != 6)
		return -1;
	index = atoll(mark + 1);
	snprintf(name, sizeof name, "%.*s", (int)(mark - key), key);
	sh = mark - key < (long)sizeof name ? shard_named(s, name) : NULL;
	return sh && index < sh->info.samples ? sh->first + index : -1;
}
