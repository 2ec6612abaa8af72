/* wenlan-shard verify, repair, audit, tombstone. */
#include "shards/commands.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "shards/check.h"
#include "shards/index.h"
#include "shards/pack.h"
#include "shards/shard_db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check_cmd {
	const char *corpus, *shards, *reason;
	struct wl_strs urls, hosts, hashes;
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
		wl_info("%s is sound: %lld samples in %lld shards, every byte of %.1f MB%s",
			c->shards, (long long)r.samples, (long long)r.shards, (double)r.bytes / 1e6,
			c->deep ? ", every picture decoded" : "");
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
	wl_info("%s: %lld of %lld shards were sound, %lld were packed again", c->shards,
		(long long)r.kept_shards, (long long)r.shards,
		(long long)(r.shards - r.kept_shards));
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
	wl_info("%s: databases of %lld shards with %lld samples made again", c->shards,
		(long long)r.shards, (long long)r.samples);
	return put_json(o,
		json_pack("{s:I, s:I, s:b}", "shards", (json_int_t)r.shards, "samples",
			(json_int_t)r.samples, "tombstones_lost", r.tombstones_lost),
		err);
}

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
		.table = table};

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

/* ---- tombstone ---- */

struct id_list {
	int64_t *v;
	size_t n, cap;
};

static int push(struct id_list *l, int64_t id, struct wl_err *err)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		void *v = realloc(l->v, cap * sizeof *l->v);

		if (!v)
			return wl_err_nomem(err, "a list of pairs", cap * sizeof *l->v);
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = id;
	return 0;
}

/* "123", "00000-123" (a pair's name) or "train-000000_000123" (a sample's key). */
static int resolve(const char *dir, const char *arg, int64_t *id, struct wl_err *err)
{
	const char *digits = strlen(arg) > 6 && arg[5] == '-' ? arg + 6 : arg;
	char name[WL_SHARD_NAME_MAX], *end;
	struct wl_shard_rows rows;
	struct wl_shard_row row;
	int64_t index = 0;
	int rc;

	errno = 0;
	*id = strtoll(digits, &end, 10);
	if (*digits && !*end && !errno && *id >= 0)
		return 0;
	if (wl_key_parse(arg, name, &index, err) < 0)
		return wl_err_set(err, WL_EUSAGE,
			"\"%s\" is neither a pair (ID or PPPPP-ID) nor a sample's key "
			"(SPLIT-NNNNNN_NNNNNN)",
			arg);
	WL_TRY(wl_shard_rows_open(&rows, dir, name, err));
	rc = wl_shard_rows_seek(&rows, index, &row, err);
	wl_shard_rows_close(&rows);
	if (!rc)
		return wl_err_set(err, WL_EUSAGE, "%s has no sample %s", dir, arg);
	*id = rc > 0 ? row.pair_id : 0;
	return rc < 0 ? -1 : 0;
}

/* "example.org" for http://user@www.example.org:80/a.jpg: the host, or one below it. */
static bool has_host(const char *url, const char *host)
{
	const char *p = url ? strstr(url, "://") : NULL, *at;
	size_t n, want = strlen(host);

	if (!p)
		return false;
	p += 3;
	n = strcspn(p, "/?#");
	at = memchr(p, '@', n);
	if (at) {
		n -= (size_t)(at + 1 - p);
		p = at + 1;
	}
	n = strcspn(p, ":/?#") < n ? strcspn(p, ":/?#") : n;
	return n >= want && !strncasecmp(p + n - want, host, want) &&
	       (n == want || p[n - want - 1] == '.');
}

static bool is_meant(const struct check_cmd *c, const struct wl_shard_row *row)
{
	char hex[65];

	for (size_t i = 0; i < c->urls.n; i++)
		if (row->url && !strcmp(row->url, c->urls.v[i]))
			return true;
	for (size_t i = 0; i < c->hosts.n; i++)
		if (has_host(row->url, c->hosts.v[i]))
			return true;
	if (c->hashes.n)
		wl_hex(row->sha256, sizeof row->sha256, hex);
	for (size_t i = 0; i < c->hashes.n; i++)
		if (!strcasecmp(hex, c->hashes.v[i]))
			return true;
	return false;
}

/* Pairs whose picture came from one of the URLs or hosts, or has one of the hashes. */
static int find_pictures(const struct check_cmd *c, struct id_list *ids, struct wl_err *err)
{
	struct wl_manifest m;
	int rc = 0;

	for (size_t i = 0; i < c->hashes.n; i++)
		if (strspn(c->hashes.v[i], "0123456789abcdefABCDEF") != 64 || c->hashes.v[i][64])
			return wl_err_set(err, WL_EUSAGE,
				"--sha256 %s: expected the 64 hex digits of a picture's SHA-256",
				c->hashes.v[i]);
	if (!c->urls.n && !c->hosts.n && !c->hashes.n)
		return 0;
	WL_TRY(wl_manifest_read(&m, c->shards, err));
	for (size_t i = 0; i < m.n && rc == 0; i++) {
		struct wl_shard_rows rows;
		struct wl_shard_row row;

		rc = wl_shard_rows_open(&rows, c->shards, m.shards[i].name, err);
		while (rc == 0 && (rc = wl_shard_rows_next(&rows, &row, err)) > 0)
			rc = is_meant(c, &row) ? push(ids, row.pair_id, err) : 0;
		wl_shard_rows_close(&rows);
	}
	wl_manifest_release(&m);
	return rc;
}

static int run_tombstone(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct check_cmd *c = user;
	struct id_list ids = {0};
	int64_t added, id;
	int ret = -1;

	if (!wl_manifest_exists(c->shards)) {
		struct wl_manifest none;

		return wl_manifest_read(&none, c->shards, err); /* says what the folder is */
	}
	for (size_t i = 0; i < o->positional.n; i++) {
		WL_TRY_OUT(resolve(c->shards, o->positional.v[i], &id, err));
		WL_TRY_OUT(push(&ids, id, err));
	}
	WL_TRY_OUT(find_pictures(c, &ids, err));
	if (!ids.n) {
		wl_err_set(err, WL_EUSAGE,
			c->urls.n || c->hosts.n || c->hashes.n
				? "no sample of %s has any of these URLs, hosts or hashes"
				: "nothing to take down in %s: name pairs, keys, --url, --host or "
				  "--sha256",
			c->shards);
		goto out;
	}
	added = wl_manifest_tombstone(c->shards, ids.v, ids.n, c->reason, err);
	if (added >= 0 && wl_index_energon(c->shards, err) == 0)
		ret = put_json(o,
			json_pack("{s:I, s:I}", "named", (json_int_t)ids.n, "added",
				(json_int_t)added),
			err);
	if (ret == 0)
		wl_info("%lld pairs taken down (%zu named); readers leave them out from now on",
			(long long)added, ids.n);
out:
	free(ids.v);
	return ret;
}

int wl_cmd_tombstone(int argc, char **argv)
{
	struct check_cmd c = {0};
	const struct wl_opt table[] = {
		{"shards", WL_OPT_STR, &c.shards, "DIR", "the shard set", true},
		{"url", WL_OPT_LIST, &c.urls, "URL", "every sample whose picture came from it",
			false},
		{"host", WL_OPT_LIST, &c.hosts, "HOST",
			"every sample whose picture came from it or a host below it", false},
		{"sha256", WL_OPT_LIST, &c.hashes, "HEX", "every sample with that picture", false},
		{"reason", WL_OPT_STR, &c.reason, "TEXT", "kept beside the tombstone", true},
		{0},
	};
	struct wl_opts opts = {.program = "wenlan-shard tombstone",
		.usage = "--shards DIR --reason TEXT [--url URL | --host HOST | --sha256 HEX]... "
			 "[PAIR|KEY]...",
		.about = "Takes samples down: readers leave them out at once, no shard is "
			 "written anew, and packing the same corpus again keeps them down.",
		.example = "wenlan-shard tombstone --shards shards --reason 'owner asked' --url "
			   "http://example.org/a.jpg",
		.table = table,
		.allow_positional = true};

	return wl_main(&opts, argc, argv, run_tombstone, &c);
}
