/* wenlan-shard ls, get, stats. */
#include "shards/commands.h"

#include "ops/buf.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/opt.h"
#include "shards/shard_db.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct show_cmd {
	const char *shards, *split, *out;
	bool samples, member[WL_MEMBERS];
};

/* ---- ls ---- */

static int ls_samples(const struct show_cmd *c, const char *name, struct wl_err *err)
{
	struct wl_shard_rows rows;
	struct wl_shard_row r;
	int rc;

	WL_TRY(wl_shard_rows_open(&rows, c->shards, name, err));
	while ((rc = wl_shard_rows_next(&rows, &r, err)) > 0)
		printf("%s\t%lld\t%lldx%lld\t%lld\t%s\t%s\n", r.key, (long long)r.pair_id,
			(long long)r.width, (long long)r.height, (long long)r.length[WL_MEMBER_JPG],
			r.source ? r.source : "", r.url ? r.url : "");
	wl_shard_rows_close(&rows);
	return rc;
}

static int run_ls(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct show_cmd *c = user;
	struct wl_manifest m;
	int rc = 0;

	(void)o;
	WL_TRY(wl_manifest_read(&m, c->shards, err));
	for (size_t i = 0; i < m.n && rc == 0; i++) {
		const struct wl_shard_info *s = &m.shards[i];

		if (c->split && strcmp(c->split, s->split))
			continue;
		if (c->samples)
			rc = ls_samples(c, s->name, err);
		else
			printf("%s\t%s\t%lld samples\t%lld bytes\t%s\n", s->name, s->split,
				(long long)s->samples, (long long)s->bytes, s->sha256);
	}
	wl_manifest_release(&m);
	return rc;
}

int wl_cmd_ls(int argc, char **argv)
{
	struct show_cmd c = {0};
	const struct wl_opt table[] = {
		{"shards", WL_OPT_STR, &c.shards, "DIR", "the shard set", true},
		{"split", WL_OPT_STR, &c.split, "NAME", "only this split", false},
		{"samples", WL_OPT_BOOL, &c.samples, NULL,
			"a line a sample: key, pair, size, bytes, source, URL", false},
		{0},
	};
	struct wl_opts opts = {.program = "wenlan-shard ls",
		.usage = "--shards DIR [--samples]",
		.about = "Lists the shards of a set, or their samples, as tab-separated lines.",
		.example = "wenlan-shard ls --shards shards --split test --samples",
		.table = table};

	return wl_main(&opts, argc, argv, run_ls, &c);
}

/* ---- get ---- */

static int read_member(const char *dir, const char *name, const struct wl_shard_row *r, int m,
	struct wl_buf *out, struct wl_err *err)
{
	char *path = wl_strf(err, "%s/%s.tar", dir, name);
	int fd = -1, ret = -1;

	if (!path || wl_buf_reserve(out, (size_t)r->length[m], err) < 0)
		goto out;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		wl_err_errno(err, "%s cannot be opened", path);
		goto out;
	}
	ret = wl_pread_full(fd, out->data, (size_t)r->length[m], r->offset[m], path, err);
	out->len = (size_t)r->length[m];
out:
	if (fd >= 0)
		close(fd);
	free(path);
	return ret;
}

static int get_key(const struct show_cmd *c, const char *key, struct wl_err *err)
{
	int m = c->member[WL_MEMBER_JPG]   ? WL_MEMBER_JPG
		: c->member[WL_MEMBER_TXT] ? WL_MEMBER_TXT
					   : WL_MEMBER_JSON;
	char name[WL_SHARD_NAME_MAX];
	struct wl_shard_rows rows;
	struct wl_shard_row r;
	struct wl_buf b;
	int64_t index = 0;
	int rc;

	WL_TRY(wl_key_parse(key, name, &index, err));
	WL_TRY(wl_shard_rows_open(&rows, c->shards, name, err));
	rc = wl_shard_rows_seek(&rows, index, &r, err);
	wl_shard_rows_close(&rows);
	if (!rc)
		return wl_err_set(err, WL_EUSAGE, "%s has no sample %s", c->shards, key);
	WL_TRY(rc);
	wl_buf_init(&b, (size_t)256 << 20);
	rc = read_member(c->shards, name, &r, m, &b, err);
	if (rc == 0 && c->out)
		rc = wl_write_file(c->out, b.data, b.len, err);
	else if (rc == 0) {
		fwrite(b.data, 1, b.len, stdout);
		if (m != WL_MEMBER_JPG)
			putchar('\n');
	}
	wl_buf_release(&b);
	return rc;
}

static int run_get(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct show_cmd *c = user;
	int asked = 0;

	for (int m = 0; m < WL_MEMBERS; m++)
		asked += c->member[m];
	if (o->positional.n != 1 || asked > 1)
		return wl_err_set(
			err, WL_EUSAGE, "expected one KEY, and at most one of --jpg and --txt");
	return get_key(c, o->positional.v[0], err);
}

int wl_cmd_get(int argc, char **argv)
{
	struct show_cmd c = {0};
	const struct wl_opt table[] = {
		{"shards", WL_OPT_STR, &c.shards, "DIR", "the shard set", true},
		{"jpg", WL_OPT_BOOL, &c.member[WL_MEMBER_JPG], NULL, "the picture's bytes", false},
		{"txt", WL_OPT_BOOL, &c.member[WL_MEMBER_TXT], NULL, "the first caption", false},
		{"out", WL_OPT_STR, &c.out, "FILE", "there instead of standard output", false},
		{0},
	};
	struct wl_opts opts = {.program = "wenlan-shard get",
		.usage = "--shards DIR KEY [--jpg|--txt|--json] [--out FILE]",
		.about = "Prints one sample: its description (KEY.json) unless --jpg or --txt is "
			 "given.",
		.example = "wenlan-shard get --shards shards train-000000_000123 --jpg --out a.jpg",
		.table = table,
		.allow_positional = true};

	return wl_main(&opts, argc, argv, run_get, &c);
}

/* ---- stats ---- */

struct totals {
	char split[WL_SPLIT_MAX];
	int64_t shards, samples, bytes, jpg_bytes, jpg_max, rejected;
	double pixels;
};

static int add_shard(
	const char *dir, const struct wl_shard_info *s, struct totals *t, struct wl_err *err)
{
	struct wl_shard_rows rows;
	struct wl_shard_row r;
	int rc;

	t->shards++;
	t->samples += s->samples;
	t->bytes += s->bytes;
	t->rejected += s->rejected;
	WL_TRY(wl_shard_rows_open(&rows, dir, s->name, err));
	while ((rc = wl_shard_rows_next(&rows, &r, err)) > 0) {
		int64_t n = r.length[WL_MEMBER_JPG];

		t->jpg_bytes += n;
		t->jpg_max = n > t->jpg_max ? n : t->jpg_max;
		t->pixels += (double)r.width * (double)r.height;
	}
	wl_shard_rows_close(&rows);
	return rc;
}

static json_t *totals_json(const struct totals *t)
{
	double n = t->samples ? (double)t->samples : 1;

	return json_pack("{s:I, s:I, s:I, s:I, s:f, s:I, s:f}", "shards", (json_int_t)t->shards,
		"samples", (json_int_t)t->samples, "bytes", (json_int_t)t->bytes, "rejected",
		(json_int_t)t->rejected, "mean_jpg_bytes", (double)t->jpg_bytes / n,
		"max_jpg_bytes", (json_int_t)t->jpg_max, "mean_megapixels", t->pixels / n / 1e6);
}

/* The manifest keeps nested counts as JSON text. */
static json_t *meta_json(const struct wl_manifest *m, const char *key)
{
	const char *text = json_string_value(json_object_get(m->meta, key));
	json_t *v = text ? wl_json_parse(text, strlen(text), key, NULL) : NULL;

	return v ? v : json_object();
}

static void print_counts(const char *title, const json_t *counts)
{
	const char *key;
	json_t *v;

	printf("%s\n", title);
	json_object_foreach((json_t *)counts, key, v)
		printf("  %-24s %12lld\n", *key ? key : "(none)", (long long)json_integer_value(v));
}

static void print_table(
	const struct totals *t, size_t n, const json_t *sources, const json_t *topics)
{
	printf("%-8s %8s %12s %14s %10s %12s %12s\n", "split", "shards", "samples", "bytes",
		"rejected", "mean jpg", "largest jpg");
	for (size_t i = 0; i < n; i++)
		printf("%-8s %8lld %12lld %14lld %10lld %12.0f %12lld\n", t[i].split,
			(long long)t[i].shards, (long long)t[i].samples, (long long)t[i].bytes,
			(long long)t[i].rejected,
			t[i].samples ? (double)t[i].jpg_bytes / (double)t[i].samples : 0.0,
			(long long)t[i].jpg_max);
	print_counts("samples by source", sources);
	print_counts("samples by topic", topics);
}

static int run_stats(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct show_cmd *c = user;
	struct totals t[64] = {0};
	json_t *sources, *topics, *splits = json_object(), *all;
	struct wl_manifest m;
	size_t n = 0;
	int rc = 0;

	WL_TRY(wl_manifest_read(&m, c->shards, err));
	for (size_t i = 0; i < m.n && rc == 0; i++) {
		/* Shards come sorted by name, so those of a split are neighbours. */
		if (!n || strcmp(t[n - 1].split, m.shards[i].split)) {
			if (n == sizeof t / sizeof *t)
				break;
			memcpy(t[n++].split, m.shards[i].split, WL_SPLIT_MAX);
		}
		rc = add_shard(c->shards, &m.shards[i], &t[n - 1], err);
	}
	sources = meta_json(&m, "samples_by_source");
	topics = meta_json(&m, "samples_by_topic");
	if (rc == 0 && !o->common.json)
		print_table(t, n, sources, topics);
	for (size_t i = 0; i < n; i++)
		json_object_set_new(splits, t[i].split, totals_json(&t[i]));
	all = json_pack("{s:s, s:I, s:o, s:o, s:o, s:O}", "fingerprint", m.fingerprint,
		"tombstones", (json_int_t)m.n_tombstones, "splits", splits, "sources", sources,
		"topics", topics, "meta", m.meta);
	if (rc == 0 && o->common.json)
		rc = wl_json_print(all, err);
	json_decref(all);
	wl_manifest_release(&m);
	return rc;
}

int wl_cmd_stats(int argc, char **argv)
{
	struct show_cmd c = {0};
	const struct wl_opt table[] = {
		{"shards", WL_OPT_STR, &c.shards, "DIR", "the shard set", true},
		{0},
	};
	struct wl_opts opts = {.program = "wenlan-shard stats",
		.usage = "--shards DIR",
		.about = "Counts and sizes of a shard set by split, source and topic.",
		.example = "wenlan-shard stats --shards shards --json",
		.table = table};

	return wl_main(&opts, argc, argv, run_stats, &c);
}
