/*
 * wenlan-shard tombstone.  Everything that was named (pairs, keys, URLs, hosts, hashes) is looked
 * for in one walk over the samples of all shards, and remembers whether it was found: who asks for
 * a take-down must hear of a slip of the pen, or the picture stays up.
 */
#include "shards/commands.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "shards/count.h"
#include "shards/index.h"
#include "shards/manifest.h"
#include "shards/shard_db.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct tombstone_cmd {
	const char *shards, *reason;
	struct wl_strs urls, hosts, hashes;
};

enum kind { PAIR, URL, HOST, HASH, NO_SAMPLE /* a key that the set has not */, KINDS };

/* Something that was named on the command line. */
struct named {
	enum kind kind;
	const char *said; /* borrowed; NULL: a double of the one before it */
	char *text;	  /* what is compared; "" for PAIR */
	int64_t id;	  /* PAIR */
	bool found;
};

/* All that was named, in order of kind and value; the pairs that they mean. */
struct request {
	struct named *v;
	size_t n, first[KINDS + 1]; /* v[first[k]] ... are of kind k */
	int64_t *ids;
	size_t n_ids, cap_ids;
	size_t missing; /* of v */
};

static int by_value(const void *a, const void *b)
{
	const struct named *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return strcmp(x->text, y->text);
}

static void release(struct request *r)
{
	for (size_t i = 0; r->v && i < r->n; i++)
		free(r->v[i].text);
	free(r->v);
	free(r->ids);
}

/* ---- what was named ---- */

/* "123", "00000-123" (a pair's name) or "train-000000_000123" (a sample's key).  1; 0: a key that
 * the set has not. */
static int resolve(const char *dir, const char *arg, int64_t *id, struct wl_err *err)
{
	const char *digits = strlen(arg) > 6 && arg[5] == '-' ? arg + 6 : arg;
	struct wl_shard_rows rows;
	char name[WL_SHARD_NAME_MAX], *end;
	struct wl_shard_row row;
	struct wl_manifest m;
	bool listed = false;
	int64_t index = 0;
	int rc;

	errno = 0;
	*id = strtoll(digits, &end, 10);
	if (isdigit((unsigned char)*digits) && !*end && !errno)
		return 1;
	if (wl_key_parse(arg, name, &index, err) < 0)
		return wl_err_set(err, WL_EUSAGE,
			"\"%s\" is neither a pair (ID or PPPPP-ID) nor a sample's key "
			"(SPLIT-NNNNNN_NNNNNN)",
			arg);
	WL_TRY(wl_manifest_read(&m, dir, err));
	for (size_t i = 0; i < m.n; i++)
		listed |= !strcmp(m.shards[i].name, name);
	wl_manifest_release(&m);
	if (!listed)
		return 0;
	WL_TRY(wl_shard_rows_open(&rows, dir, name, err));
	rc = wl_shard_rows_seek(&rows, index, &row, err);
	wl_shard_rows_close(&rows);
	if (rc > 0)
		*id = row.pair_id;
	return rc;
}

static int add(struct request *r, enum kind kind, const char *said, int64_t id, struct wl_err *err)
{
	struct named *m = &r->v[r->n];

	*m = (struct named){.kind = kind, .said = said, .id = kind == PAIR ? id : 0};
	m->text = wl_strf(err, "%s", kind == PAIR ? "" : said);
	if (!m->text)
		return -1;
	for (char *p = m->text; *p && (kind == HOST || kind == HASH); p++)
		*p = (char)tolower((unsigned char)*p);
	r->n++;
	if (kind != HASH || (strlen(said) == 64 && strspn(m->text, "0123456789abcdef") == 64))
		return 0;
	return wl_err_set(err, WL_EUSAGE,
		"--sha256 %s: expected the 64 hex digits of a picture's SHA-256", said);
}

static int add_list(
	struct request *r, enum kind kind, const struct wl_strs *list, struct wl_err *err)
{
	for (size_t i = 0; i < list->n; i++)
		WL_TRY(add(r, kind, list->v[i], 0, err));
	return 0;
}

static int gather(struct request *r, const struct tombstone_cmd *c, const struct wl_strs *pairs,
	struct wl_err *err)
{
	size_t most = pairs->n + c->urls.n + c->hosts.n + c->hashes.n;

	r->v = calloc(most + 1, sizeof *r->v);
	if (!r->v)
		return wl_err_nomem(err, "a list of samples", most * sizeof *r->v);
	for (size_t i = 0; i < pairs->n; i++) {
		int64_t id = 0;
		int rc = resolve(c->shards, pairs->v[i], &id, err);

		WL_TRY(rc);
		WL_TRY(add(r, rc ? PAIR : NO_SAMPLE, pairs->v[i], id, err));
	}
	WL_TRY(add_list(r, URL, &c->urls, err));
	WL_TRY(add_list(r, HOST, &c->hosts, err));
	WL_TRY(add_list(r, HASH, &c->hashes, err));
	qsort(r->v, r->n, sizeof *r->v, by_value);
	for (size_t i = 0; i < r->n; i++)
		if (i && !by_value(&r->v[i - 1], &r->v[i]))
			r->v[i].said = NULL;
	for (int k = 0; k <= KINDS; k++)
		while (r->first[k] < r->n && (int)r->v[r->first[k]].kind < k)
			r->first[k]++;
	return 0;
}

/* ---- looking for it ---- */

/* Marks whatever of the kind has this value as found; doubles too. */
static bool mark(struct request *r, enum kind kind, int64_t id, char *text)
{
	struct named want = {.kind = kind, .id = id, .text = text}, *base = r->v + r->first[kind];
	size_t n = r->first[kind + 1] - r->first[kind];
	struct named *hit = n ? bsearch(&want, base, n, sizeof *base, by_value) : NULL;

	if (!hit)
		return false;
	while (hit > base && !by_value(hit - 1, &want))
		hit--;
	for (; hit < base + n && !by_value(hit, &want); hit++)
		hit->found = true;
	return true;
}

/* For http://user@www.example.org:80/a.jpg: www.example.org, then example.org, then org. */
static bool mark_hosts(struct request *r, const char *url)
{
	const char *p = strstr(url, "://"), *at;
	char host[1024];
	bool any = false;
	size_t n;

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
	if (n >= sizeof host)
		return false;
	for (size_t i = 0; i < n; i++)
		host[i] = (char)tolower((unsigned char)p[i]);
	host[n] = 0;
	for (char *h = host; h; h = strchr(h, '.') ? strchr(h, '.') + 1 : NULL)
		any |= mark(r, HOST, 0, h);
	return any;
}

static bool is_meant(struct request *r, const struct wl_shard_row *row)
{
	bool any = mark(r, PAIR, row->pair_id, (char[]){""});
	char hex[WL_SHA256_HEX];

	if (r->first[HASH] < r->first[HASH + 1]) {
		wl_hex(row->sha256, sizeof row->sha256, hex);
		any |= mark(r, HASH, 0, hex);
	}
	if (row->url && r->first[URL] < r->first[URL + 1])
		any |= mark(r, URL, 0, (char *)row->url);
	if (row->url && r->first[HOST] < r->first[HOST + 1])
		any |= mark_hosts(r, row->url);
	return any;
}

static int take_note(struct request *r, int64_t id, struct wl_err *err)
{
	if (r->n_ids == r->cap_ids) {
		size_t cap = r->cap_ids ? r->cap_ids * 2 : 64;
		void *v = realloc(r->ids, cap * sizeof *r->ids);

		if (!v)
			return wl_err_nomem(err, "a list of pairs", cap * sizeof *r->ids);
		r->ids = v;
		r->cap_ids = cap;
	}
	r->ids[r->n_ids++] = id;
	return 0;
}

static int look(struct request *r, const char *dir, struct wl_err *err)
{
	struct wl_manifest m;
	int rc = 0;

	WL_TRY(wl_manifest_read(&m, dir, err));
	for (size_t i = 0; i < m.n && rc == 0; i++) {
		struct wl_shard_rows rows;
		struct wl_shard_row row;

		rc = wl_shard_rows_open(&rows, dir, m.shards[i].name, err);
		while (rc == 0 && (rc = wl_shard_rows_next(&rows, &row, err)) > 0)
			rc = is_meant(r, &row) ? take_note(r, row.pair_id, err) : 0;
		wl_shard_rows_close(&rows);
	}
	wl_manifest_release(&m);
	for (size_t i = 0; i < r->n; i++)
		r->missing += r->v[i].said && !r->v[i].found;
	return rc;
}

/* ---- what is said ---- */

/* Names what matched nothing, the first few of it. */
static int nothing_has(const struct request *r, const char *dir, struct wl_err *err)
{
	static const char *const flag[KINDS] = {"", "--url ", "--host ", "--sha256 ", ""};
	enum { SHOWN = 10 };
	char list[1200] = "";
	size_t shown = 0;

	for (size_t i = 0; i < r->n && shown < SHOWN; i++) {
		size_t used = strlen(list);

		if (r->v[i].found || !r->v[i].said)
			continue;
		snprintf(list + used, sizeof list - used, "%s%s%.100s", shown ? ", " : "",
			flag[r->v[i].kind], r->v[i].said);
		shown++;
	}
	if (r->missing > shown) {
		size_t used = strlen(list);

		snprintf(list + used, sizeof list - used, " and %zu more", r->missing - shown);
	}
	return wl_err_set(err, WL_EUSAGE,
		"nothing in %s matches %s; %s; wenlan-shard ls --shards %s --samples lists the "
		"keys, pairs and URLs that there are",
		dir, list,
		r->n_ids ? "what else was named is taken down" : "nothing was taken down", dir);
}

static json_t *missing_names(const struct request *r)
{
	json_t *a = json_array();

	for (size_t i = 0; i < r->n; i++)
		if (r->v[i].said && !r->v[i].found)
			json_array_append_new(a, json_string(r->v[i].said));
	return a;
}

static int take_down(const struct wl_opts *o, const struct tombstone_cmd *c,
	const struct request *r, struct wl_err *err)
{
	int64_t added = 0;
	json_t *v;
	int rc = 0;

	if (r->n_ids) {
		added = wl_manifest_tombstone(c->shards, r->ids, r->n_ids, c->reason, err);
		WL_TRY(added < 0 ? -1 : 0);
		WL_TRY(wl_index_energon(c->shards, err));
		wl_info("%s taken down%s; readers leave %s out from now on",
			wl_count(added, "sample").s,
			added == (int64_t)r->n_ids ? "" : " (the others were down already)",
			added == 1 ? "it" : "them");
	}
	v = json_pack("{s:I, s:I, s:o}", "named", (json_int_t)r->n_ids, "added", (json_int_t)added,
		"not_found", missing_names(r));
	if (o->common.json)
		rc = v ? wl_json_print(v, err) : wl_err_nomem(err, "the result", 0);
	json_decref(v);
	WL_TRY(rc);
	return r->missing ? nothing_has(r, c->shards, err) : 0;
}

static int run_tombstone(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct tombstone_cmd *c = user;
	struct request r = {0};
	int ret = -1;

	if (!wl_manifest_exists(c->shards)) {
		struct wl_manifest none;

		return wl_manifest_read(&none, c->shards, err); /* says what the folder is */
	}
	WL_TRY_OUT(gather(&r, c, &o->positional, err));
	if (!r.n) {
		wl_err_set(err, WL_EUSAGE,
			"nothing to take down in %s: name pairs, keys, --url, --host or --sha256",
			c->shards);
		goto out;
	}
	WL_TRY_OUT(look(&r, c->shards, err));
	ret = take_down(o, c, &r, err);
out:
	release(&r);
	return ret;
}

int wl_cmd_tombstone(int argc, char **argv)
{
	struct tombstone_cmd c = {0};
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
			 "written anew, and packing the same corpus again keeps them down.  Exit "
			 "code 2 when something that was named is nowhere in the set; what was "
			 "found is taken down all the same.",
		.example = "wenlan-shard tombstone --shards shards --reason 'owner asked' --url "
			   "http://example.org/a.jpg",
		.table = table,
		.allow_positional = true};

	return wl_main(&opts, argc, argv, run_tombstone, &c);
}
