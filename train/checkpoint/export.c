/* Weights under other projects' names.  See export.h. */
#include "train/checkpoint/export.h"

#include "ops/file.h"
#include "ops/path.h"
#include "train/checkpoint/ckpt.h"
#include "train/checkpoint/import.h"
#include "ops/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a part's names begin with in a checkpoint, and what is left of that. */
static const struct part {
	const char *name, *before[2];
	bool strip;
} parts[] = {
	{"image", {"imgencoder.backbone.", NULL}, true},
	{"text", {"textencoder.backbone.bert.", NULL}, true},
	{"towers", {"imgencoder.", "textencoder."}, false},
};

static const char running_mean[] = "running_mean", counter[] = "num_batches_tracked";

/* The file of weights at `from`: itself, or a checkpoint's model. Owned by the caller. */
static char *weights_of(const char *from, bool momentum, struct wl_err *err)
{
	char *dir, *path;
	json_t *state;

	struct stat st;

	if (stat(from, &st) < 0) {
		wl_path_failed(from, "opened", "name a checkpoint, a run of wenlan-train, or a "
			"file of weights", err);
		return NULL;
	}
	if (!S_ISDIR(st.st_mode)) {
		if (!momentum)
			return wl_strf(err, "%s", from);
		wl_err_set(err, WL_EUSAGE, "%s is a file: only a checkpoint has momentum towers "
			"apart", from);
		return NULL;
	}
	if (wl_ckpt_load(from, &dir, &state, err) < 0)
		return NULL;
	path = wl_path_join(dir, momentum ? "momentum.safetensors" : "model.safetensors", err);
	json_decref(state);
	free(dir);
	return path;
}

/* The exported name of a tensor, NULL when it is not of the part. */
static const char *new_name(const struct part *p, const char *name)
{
	/* The public file keeps its towers under a key. */
	if (!strncmp(name, "learnable.", 10))
		name += 10;
	for (size_t i = 0; i < 2; i++)
		if (p->before[i] && !strncmp(name, p->before[i], strlen(p->before[i])))
			return name + (p->strip ? strlen(p->before[i]) : 0);
	return NULL;
}

static bool is_float(const struct wl_saved_tensor *t)
{
	return t->dtype == WL_SAVED_F64 || t->dtype == WL_SAVED_F32 ||
	       t->dtype == WL_SAVED_F16 || t->dtype == WL_SAVED_BF16;
}

/* The counter's name beside a running_mean, NULL for others or where the file has one.
 * name: the exported one; old: the file's. Owned by the caller; *failed without memory. */
static char *counter_for(const struct wl_saved_list *list, const char *name, const char *old,
	bool *failed, struct wl_err *err)
{
	size_t n = strlen(name), k = sizeof running_mean - 1;
	char *full;
	bool there;

	if (n < k || strcmp(name + n - k, running_mean))
		return NULL;
	full = wl_strf(err, "%.*s%s", (int)(strlen(old) - k), old, counter);
	there = full && wl_saved_find(list, full);
	*failed |= !full;
	free(full);
	if (there || *failed)
		return NULL;
	full = wl_strf(err, "%.*s%s", (int)(n - k), name, counter);
	*failed |= !full;
	return full;
}

static int declare_one(struct wl_safetensors_writer *w, const struct wl_saved_list *list,
	const struct wl_saved_tensor *t, const char *name, struct wl_err *err)
{
	bool failed = false;
	char *more;
	int ret;

	WL_TRY(wl_safetensors_declare(w, name, is_float(t) ? WL_SAVED_F32 : WL_SAVED_I64, t->rank,
		t->shape, err));
	more = counter_for(list, name, t->name, &failed, err);
	if (!more)
		return failed ? -1 : 0;
	ret = wl_safetensors_declare(w, more, WL_SAVED_I64, 0, NULL, err);
	free(more);
	return ret < 0 ? -1 : 1;
}

/* A tensor's numbers; *handle moves on by what declare_one declared. */
static int write_one(struct wl_safetensors_writer *w, const struct wl_saved_tensor *t,
	bool with_counter, int *handle, struct wl_err *err)
{
	size_t each = is_float(t) ? sizeof(float) : sizeof(int64_t);
	void *host = malloc((size_t)t->count * each + 1);
	const int64_t zero = 0;
	int ret;

	if (!host)
		return wl_err_nomem(err, t->name, (size_t)t->count * each);
	ret = is_float(t) ? wl_saved_to_f32(t, host, err) : wl_saved_to_i64(t, host, err);
	if (ret == 0)
		ret = wl_safetensors_write(w, *handle, host, (size_t)t->count * each, err);
	free(host);
	WL_TRY(ret);
	++*handle;
	return with_counter ? wl_safetensors_write(w, (*handle)++, &zero, sizeof zero, err) : 0;
}

static int write_part(const struct wl_saved_list *list, const struct part *p, const char *to,
	struct wl_err *err)
{
	struct wl_safetensors_writer *w = wl_safetensors_create(to, err);
	bool *with = calloc(list->count + 1, sizeof *with);
	int handle = 0, ret = -1, added;
	const char *name;

	if (!with)
		wl_err_nomem(err, "a list of tensors", list->count);
	if (!w || !with || wl_safetensors_add_meta(w, "format", "pt", err) < 0)
		goto out;
	for (size_t i = 0; i < list->count; i++) {
		if (!(name = new_name(p, list->items[i].name)))
			continue;
		added = declare_one(w, list, &list->items[i], name, err);
		WL_TRY_OUT(added);
		with[i] = added;
	}
	WL_TRY_OUT(wl_safetensors_begin(w, err));
	for (size_t i = 0; i < list->count; i++)
		if (new_name(p, list->items[i].name))
			WL_TRY_OUT(write_one(w, &list->items[i], with[i], &handle, err));
	if (!handle) {
		wl_err_set(err, WL_ECKPT, "there is nothing of the part \"%s\" among the %zu "
			"tensors (the first is \"%.100s\")", p->name, list->count,
			list->count ? list->items[0].name : "");
		goto out;
	}
	ret = wl_safetensors_finish(w, err);
	w = NULL;
out:
	wl_safetensors_abort(w);
	free(with);
	return ret < 0 ? -1 : handle;
}

int wl_export(const struct wl_export_opts *o, struct wl_err *err)
{
	const struct part *p = NULL;
	struct wl_weights *weights;
	char *path;
	int ret;

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (!strcmp(o->part, parts[i].name))
			p = &parts[i];
	if (!p)
		return wl_err_set(err, WL_EUSAGE, "the part is \"%s\": expected image, text or "
			"towers", o->part);
	path = weights_of(o->from, o->momentum, err);
	weights = path ? wl_weights_open(path, err) : NULL;
	ret = weights ? write_part(wl_weights_list(weights), p, o->to, err) : -1;
	/* Of what is written the message speaks itself. */
	if (weights && ret < 0 && err && strncmp(err->msg, o->to, strlen(o->to)))
		wl_err_prefix(err, "%s", path);
	wl_weights_close(weights);
	free(path);
	return ret;
}

int wl_weights_print(const char *from, struct wl_err *err)
{
	char *path = weights_of(from, false, err), shape[128];
	struct wl_weights *w = path ? wl_weights_open(path, err) : NULL;
	const struct wl_saved_list *list = w ? wl_weights_list(w) : NULL;

	for (size_t i = 0; list && i < list->count; i++)
		printf("%s %s %s\n", list->items[i].name,
			wl_saved_dtype_name(list->items[i].dtype),
			wl_saved_shape_text(list->items[i].rank, list->items[i].shape, shape,
				sizeof shape));
	wl_weights_close(w);
	free(path);
	return list ? 0 : -1;
}
