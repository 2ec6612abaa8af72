/* Checkpoint directories: see ckpt.h for the protocol and its promise. */
#include "train/checkpoint/ckpt.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/path.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char state_name[] = "state.json";

/* "ckpt-00000123" or "ckpt-123" -> 123; -1 for anything else. */
static int64_t step_of(const char *name)
{
	char *end;
	long long v;

	if (strncmp(name, "ckpt-", 5) || name[5] < '0' || name[5] > '9')
		return -1;
	v = strtoll(name + 5, &end, 10);
	return *end ? -1 : (int64_t)v;
}

static char *ckpt_path(const char *run_dir, int64_t step, struct wl_err *err)
{
	return wl_strf(err, "%s/ckpt-%08lld", run_dir, (long long)step);
}

/* What earlier kills left: temporary directories of saves and of deletions. */
static int sweep(const char *run_dir, struct wl_err *err)
{
	struct wl_names names = {0};
	char *path;
	size_t i;
	int ret = -1;

	WL_TRY(wl_list_dir(run_dir, ".ckpt-*.tmp", &names, err));
	for (i = 0; i < names.n; i++) {
		path = wl_path_join(run_dir, names.v[i], err);
		if (!path || wl_remove_tree(path, err) < 0) {
			free(path);
			goto out;
		}
		free(path);
	}
	ret = 0;
out:
	wl_names_release(&names);
	return ret;
}

void wl_ckpt_leave(struct wl_ckpt *c)
{
	free(c->run_dir);
	free(c->tmp);
	free(c->path);
	*c = (struct wl_ckpt){0};
}

int wl_ckpt_join(struct wl_ckpt *c, const char *run_dir, int64_t step, struct wl_err *err)
{
	*c = (struct wl_ckpt){.step = step};
	c->run_dir = wl_strf(err, "%s", run_dir);
	c->tmp = wl_strf(err, "%s/.ckpt-%08lld.tmp", run_dir, (long long)step);
	c->path = ckpt_path(run_dir, step, err);
	if (c->run_dir && c->tmp && c->path)
		return 0;
	wl_ckpt_leave(c);
	return -1;
}

int wl_ckpt_begin(struct wl_ckpt *c, const char *run_dir, int64_t step, struct wl_err *err)
{
	WL_TRY(wl_ckpt_join(c, run_dir, step, err));
	if (sweep(run_dir, err) < 0)
		goto fail;
	if (wl_exists(c->path)) {
		wl_err_set(err, WL_EFAIL, "%s: this checkpoint exists already; remove it to write "
			"it again", c->path);
		goto fail;
	}
	if (wl_mkdir_p(c->tmp, err) == 0)
		return 0;
fail:
	wl_ckpt_release(c);
	return -1;
}

void wl_ckpt_release(struct wl_ckpt *c)
{
	struct wl_err ignored = WL_ERR_INIT;

	if (!c)
		return;
	if (c->tmp && wl_exists(c->tmp) && wl_remove_tree(c->tmp, &ignored) < 0)
		wl_warn("%s", ignored.msg); /* the next begin sweeps it */
	wl_ckpt_leave(c);
}

char *wl_ckpt_file(const struct wl_ckpt *c, const char *name, struct wl_err *err)
{
	return wl_path_join(c->tmp, name, err);
}

int wl_ckpt_copy(const struct wl_ckpt *c, const char *from, const char *name, struct wl_err *err)
{
	struct wl_buf bytes;
	char *to = wl_ckpt_file(c, name, err);
	int ret = -1;

	wl_buf_init(&bytes, (size_t)64 << 20); /* vocabularies and settings, not weights */
	if (!to || wl_read_file(from, &bytes, err) < 0 ||
		wl_write_file(to, wl_buf_str(&bytes), bytes.len, err) < 0)
		goto out;
	ret = 0;
out:
	wl_buf_release(&bytes);
	free(to);
	return ret;
}

static int sync_file(const char *path, struct wl_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return wl_err_errno(err, "%s: cannot be opened to be synced", path);
	if (fsync(fd) < 0) {
		wl_err_errno(err, "%s: sync failed", path);
		close(fd);
		return -1;
	}
	close(fd);
	return 0;
}

static int hash_hex(const char *path, char hex[WL_SHA256_HEX], struct wl_err *err)
{
	uint8_t sum[WL_SHA256_BYTES];

	WL_TRY(wl_sha256_file(path, sum, err));
	wl_hex(sum, sizeof sum, hex);
	return 0;
}

json_t *wl_ckpt_describe(const struct wl_ckpt *c, const struct wl_names *names,
	struct wl_err *err)
{
	json_t *files = json_object();
	char hex[WL_SHA256_HEX], *path = NULL;
	int64_t bytes;
	size_t i;

	if (!files) {
		wl_err_nomem(err, state_name, 0);
		return NULL;
	}
	for (i = 0; i < names->n; i++) {
		path = wl_ckpt_file(c, names->v[i], err);
		if (!path || sync_file(path, err) < 0 || hash_hex(path, hex, err) < 0)
			goto fail;
		bytes = wl_file_size(path, err);
		if (bytes < 0)
			goto fail;
		if (json_object_set_new(files, names->v[i], json_pack("{s:I,s:s}", "bytes",
				(json_int_t)bytes, "sha256", hex))) {
			wl_err_nomem(err, state_name, 0);
			goto fail;
		}
		free(path);
		path = NULL;
	}
	return files;
fail:
	free(path);
	json_decref(files);
	return NULL;
}

/* The files described are those in the directory. */
static int check_complete(const struct wl_ckpt *c, const json_t *files, struct wl_err *err)
{
	struct wl_names names = {0};
	int ret = 0;

	WL_TRY(wl_list_dir(c->tmp, "*", &names, err));
	for (size_t i = 0; i < names.n && ret == 0; i++)
		if (!json_object_get(files, names.v[i]))
			ret = wl_err_set(err, WL_EFAIL, "%s/%s: this file is in a checkpoint that "
				"is being written, and no rank says that it wrote it; let one run "
				"at a time write here", c->tmp, names.v[i]);
	if (ret == 0 && names.n != json_object_size(files))
		ret = wl_err_set(err, WL_EFAIL, "%s: the checkpoint being written has %zu files, "
			"and the ranks have written %zu: do all of them see the same directory?",
			c->tmp, names.n, json_object_size(files));
	wl_names_release(&names);
	return ret;
}

/* The hash of state without its key "check". */
static int self_check(const json_t *state, char hex[WL_SHA256_HEX], struct wl_err *err)
{
	json_t *copy = json_copy((json_t *)state);
	uint8_t sum[WL_SHA256_BYTES];
	char *text;

	if (!copy)
		return wl_err_nomem(err, state_name, 0);
	json_object_del(copy, "check");
	text = wl_json_text(copy, err);
	json_decref(copy);
	if (!text)
		return -1;
	wl_sha256(text, strlen(text), sum);
	wl_hex(sum, sizeof sum, hex);
	free(text);
	return 0;
}

static int write_state(struct wl_ckpt *c, json_t *state, json_t *files, struct wl_err *err)
{
	char check[WL_SHA256_HEX], *path;
	int ret;

	if (json_object_set(state, "files", files) ||
		json_object_set_new(state, "version", json_integer(WL_CKPT_VERSION)) ||
		json_object_set_new(state, "step", json_integer(c->step)))
		return wl_err_nomem(err, state_name, 0);
	WL_TRY(self_check(state, check, err));
	if (json_object_set_new(state, "check", json_string(check)))
		return wl_err_nomem(err, state_name, 0);
	path = wl_ckpt_file(c, state_name, err);
	ret = path ? wl_json_save(path, state, err) : -1;
	free(path);
	return ret;
}

/* RUN/latest -> ckpt-STEP, for people and scripts; nothing here reads it, so a file system
 * without symbolic links only loses the convenience. */
static void point_latest(const struct wl_ckpt *c)
{
	struct wl_err ignored = WL_ERR_INIT;
	char *link = wl_path_join(c->run_dir, "latest", &ignored);
	char *tmp = wl_path_join(c->run_dir, ".latest.tmp", &ignored);

	if (link && tmp) {
		unlink(tmp);
		if (symlink(strrchr(c->path, '/') + 1, tmp) == 0 && rename(tmp, link) < 0)
			unlink(tmp);
	}
	free(link);
	free(tmp);
}

int wl_ckpt_commit(struct wl_ckpt *c, json_t *state, struct wl_err *err)
{
	struct wl_names names = {0};
	json_t *files;
	int ret;

	WL_TRY(wl_list_dir(c->tmp, "*", &names, err));
	files = wl_ckpt_describe(c, &names, err);
	ret = files ? wl_ckpt_commit_files(c, state, files, err) : -1;
	json_decref(files);
	wl_names_release(&names);
	return ret;
}

int wl_ckpt_commit_files(struct wl_ckpt *c, json_t *state, json_t *files, struct wl_err *err)
{
	WL_TRY(check_complete(c, files, err));
	WL_TRY(write_state(c, state, files, err));
	WL_TRY(wl_fsync_dir(c->tmp, err));
	if (rename(c->tmp, c->path) < 0)
		return wl_err_errno(err, "%s: cannot be renamed to %s", c->tmp, c->path);
	WL_TRY(wl_fsync_dir(c->run_dir, err));
	point_latest(c);
	return 0;
}

static int damaged(const char *dir, const char *what, struct wl_err *err)
{
	return wl_err_set(err, WL_ECKPT, "%s/%s: %s; this checkpoint is damaged: move the "
		"directory away to continue from an older one", dir, state_name, what);
}

/* Reads state.json and checks its own hash, version and shape. */
static json_t *read_state(const char *dir, struct wl_err *err)
{
	char *path = wl_path_join(dir, state_name, err), check[WL_SHA256_HEX];
	json_t *state = path ? wl_json_load(path, err) : NULL;
	const char *stored;

	free(path);
	if (!state) {
		if (err)
			err->code = WL_ECKPT;
		return NULL;
	}
	stored = json_string_value(json_object_get(state, "check"));
	if (!stored || !json_is_object(json_object_get(state, "files"))) {
		damaged(dir, "the keys \"files\" and \"check\" are missing", err);
		goto fail;
	}
	if (self_check(state, check, err) < 0)
		goto fail;
	if (strcmp(check, stored)) {
		damaged(dir, "its contents do not have the hash that it states", err);
		goto fail;
	}
	if (json_integer_value(json_object_get(state, "version")) != WL_CKPT_VERSION) {
		wl_err_set(err, WL_ECKPT, "%s/%s: format version %lld, and this program reads "
			"version %d; use the program that wrote it", dir, state_name,
			(long long)json_integer_value(json_object_get(state, "version")),
			WL_CKPT_VERSION);
		goto fail;
	}
	return state;
fail:
	json_decref(state);
	return NULL;
}

json_t *wl_ckpt_state(const char *dir, struct wl_err *err)
{
	return read_state(dir, err);
}

/* Every file is there with its length and, if `hash`, with its SHA-256. */
static int check_files(const char *dir, json_t *state, bool hash, struct wl_err *err)
{
	const char *name, *want;
	char hex[WL_SHA256_HEX], *path;
	json_t *f;
	int64_t bytes, expected;
	int ret = 0;

	json_object_foreach(json_object_get(state, "files"), name, f) {
		if (!*name || *name == '.' || strchr(name, '/'))
			return damaged(dir, "it names a file outside the checkpoint", err);
		path = wl_path_join(dir, name, err);
		if (!path)
			return -1;
		expected = json_integer_value(json_object_get(f, "bytes"));
		want = json_string_value(json_object_get(f, "sha256"));
		bytes = wl_file_size(path, err);
		if (bytes < 0)
			ret = wl_err_set(err, WL_ECKPT, "%s: this file of the checkpoint is "
				"missing; bring it back, or move the checkpoint away to continue "
				"from an older one", path);
		else if (bytes != expected)
			ret = wl_err_set(err, WL_ECKPT, "%s: this file of the checkpoint has %lld "
				"bytes, and %s says %lld; the checkpoint is not complete: move it "
				"away to continue from an older one", path, (long long)bytes,
				state_name,
				(long long)expected);
		else if (hash && hash_hex(path, hex, err) < 0)
			ret = -1;
		else if (hash && (!want || strcmp(hex, want)))
			ret = wl_err_set(err, WL_ECKPT, "%s: the file's SHA-256 is %s, and %s "
				"says %s; the checkpoint is damaged: move the directory away to "
				"continue from "
				"an older one", path, hex, state_name, want ? want : "nothing");
		free(path);
		if (ret < 0)
			return -1;
	}
	return 0;
}

/* Directories named ckpt-N, ascending by N (names are zero-padded, but need not be). */
static int list_steps(const char *run_dir, int64_t **steps, size_t *n, struct wl_err *err)
{
	struct wl_names names = {0};
	size_t i, j;
	int64_t s;

	*steps = NULL;
	*n = 0;
	if (!wl_exists(run_dir))
		return 0;
	WL_TRY(wl_list_dir(run_dir, "ckpt-*", &names, err));
	*steps = calloc(names.n + 1, sizeof **steps);
	if (!*steps) {
		wl_names_release(&names);
		return wl_err_nomem(err, "a list of checkpoints", names.n * sizeof **steps);
	}
	for (i = 0; i < names.n; i++) {
		s = step_of(names.v[i]);
		if (s < 0)
			continue;
		for (j = (*n)++; j > 0 && (*steps)[j - 1] > s; j--)
			(*steps)[j] = (*steps)[j - 1];
		(*steps)[j] = s;
	}
	wl_names_release(&names);
	return 0;
}

int64_t wl_ckpt_newest(const char *run_dir, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	int64_t *steps, found = -1;
	json_t *state;
	size_t n, i;
	char *dir;

	if (list_steps(run_dir, &steps, &n, err) < 0)
		return -2;
	for (i = n; i > 0 && found == -1; i--) {
		dir = ckpt_path(run_dir, steps[i - 1], err);
		state = dir ? read_state(dir, &why) : NULL;
		if (!dir)
			found = -2;
		else if (state && check_files(dir, state, false, &why) == 0)
			found = steps[i - 1];
		else
			wl_warn("passed over %s: %s", dir, why.msg);
		json_decref(state);
		free(dir);
	}
	if (n && found == -1) {
		wl_err_set(err, WL_ECKPT, "%s: none of the %zu checkpoints there is complete (%s); "
			"move them away to start afresh", run_dir, n, why.msg);
		found = -2;
	}
	free(steps);
	return found;
}

/* The mend depends on what is at path. */
static void no_checkpoint(const char *path, const char *inside, struct wl_err *err)
{
	if (wl_path_check(path, WL_PATH_DIR, "a checkpoint is a directory in the one that "
		"wenlan-train --run made; name either", err) == 0)
		wl_err_set(err, WL_ECKPT, "%s: there is no checkpoint here: expected %s, or "
			"directories named ckpt-STEP; name what wenlan-train --run made, once it "
			"has written one (--ckpt.every)", path, inside);
	else if (err)
		err->code = WL_ECKPT;
}

int wl_ckpt_load(const char *path, char **dir, json_t **state, struct wl_err *err)
{
	char *inside = wl_path_join(path, state_name, err);
	int64_t step;

	*dir = NULL;
	*state = NULL;
	if (!inside)
		return -1;
	if (wl_exists(inside)) {
		*dir = wl_strf(err, "%s", path);
	} else {
		step = wl_path_check(path, WL_PATH_DIR, NULL, NULL) ? -1 :
			wl_ckpt_newest(path, err);
		if (step == -1)
			no_checkpoint(path, inside, err);
		*dir = step < 0 ? NULL : ckpt_path(path, step, err);
	}
	free(inside);
	if (!*dir)
		return -1;
	*state = read_state(*dir, err);
	if (*state && check_files(*dir, *state, true, err) == 0)
		return 0;
	json_decref(*state);
	free(*dir);
	*state = NULL;
	*dir = NULL;
	return -1;
}

int wl_ckpt_prune(const char *run_dir, int64_t keep, int64_t every, struct wl_err *err)
{
	int64_t *steps;
	char *path = NULL, *tmp = NULL;
	size_t n, i;
	int ret = -1;

	if (keep < 1)
		keep = 1;
	WL_TRY(list_steps(run_dir, &steps, &n, err));
	for (i = 0; n > (size_t)keep && i < n - (size_t)keep; i++) {
		if (every > 0 && steps[i] % every == 0)
			continue;
		path = ckpt_path(run_dir, steps[i], err);
		tmp = wl_strf(err, "%s/.ckpt-%08lld.tmp", run_dir, (long long)steps[i]);
		if (!path || !tmp)
			goto out;
		if (wl_exists(path)) {
			if (rename(path, tmp) < 0) {
				wl_err_errno(err, "%s: cannot be renamed to be deleted", path);
				goto out;
			}
			WL_TRY_OUT(wl_remove_tree(tmp, err));
		}
		free(path);
		free(tmp);
		path = tmp = NULL;
	}
	ret = 0;
out:
	free(path);
	free(tmp);
	free(steps);
	return ret;
}
