/* wenlan-shard ls, get. */
#include "shards/commands.h"

#include "ops/buf.h"
#include "ops/file.h"
#include "ops/opt.h"
#include "ops/path.h"
#include "shards/shard_db.h"
#include "shards/shard_priv.h"

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
	bool any = !c->split;
	int rc = 0;

	(void)o;
	WL_TRY(wl_manifest_read(&m, c->shards, err));
	for (size_t i = 0; i < m.n && rc == 0; i++) {
		const struct wl_shard_info *s = &m.shards[i];

		if (c->split && strcmp(c->split, s->split))
			continue;
		any = true;
		if (c->samples)
			rc = ls_samples(c, s->name, err);
		else
			printf("%s\t%s\t%lld samples\t%lld bytes\t%s\n", s->name, s->split,
				(long long)s->samples, (long long)s->bytes, s->sha256);
	}
	if (!any)
		rc = wl_shard_no_split(&m, c->shards, c->split, err);
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
		wl_path_failed(path, "opened", NULL, err);
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

static const struct wl_path_rule get_paths[] = {
	{"out", WL_PATH_OUTPUT, NULL},
	{0},
};

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
		.paths = get_paths,
		.allow_positional = true};

	return wl_main(&opts, argc, argv, run_get, &c);
}
