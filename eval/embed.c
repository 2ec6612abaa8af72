/* Three kinds of input, one file out: see embed.h. */
#include "eval/embed.h"

#include "clean/utf8.h"
#include "eval/embed_corpus.h"
#include "eval/model.h"
#include "ingest/image.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/progress.h"
#include "ops/signals.h"
#include "ops/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct job {
	const struct wl_embed_opts *o;
	struct wl_eval_model model;
	struct wl_embeddings out;
	json_t *sources; /* paths of pictures, or NULL */
	int64_t bad;
};

/* --- from shards --- */

static int embed_shards(struct job *j, struct wl_err *err)
{
	struct wl_loader_opts lo;
	struct wl_feed *f;
	int ret;

	WL_TRY(wl_eval_model_loader_opts(&j->model, &lo, err));
	lo.dir = j->o->shards;
	lo.cache = j->o->cache;
	lo.cache_bytes = j->o->cache_size;
	lo.split = j->o->split;
	lo.batch = j->o->batch;
	lo.limit = j->o->limit;
	f = wl_feed_open(&lo, j->model.backend, err);
	if (!f)
		return -1;
	ret = wl_encode_split(&j->model.encoder, f, true, &j->out, err);
	wl_feed_close(f);
	return ret;
}

/* --- from pictures --- */

static int add_source(struct job *j, const char *path, struct wl_err *err)
{
	return json_array_append_new(j->sources, json_string(path)) ?
		wl_err_nomem(err, "a list of pictures", 0) : 0;
}

/* A file, the pictures of a directory (by ending, sorted), or a glob. */
static int expand(struct job *j, const char *arg, struct wl_err *err)
{
	static const char *const endings[] = {".jpg", ".jpeg", ".png", ".webp"};
	struct wl_names names = {0};
	struct stat st;
	bool dir = stat(arg, &st) == 0 && S_ISDIR(st.st_mode);
	size_t i, e;
	int ret = 0;

	WL_TRY(dir ? wl_list_dir(arg, "*", &names, err) : wl_glob(arg, &names, err));
	for (i = 0; i < names.n && ret == 0; i++) {
		const char *dot = strrchr(names.v[i], '.');
		bool picture = !dir;
		char *path;

		for (e = 0; e < sizeof endings / sizeof *endings && dot; e++)
			picture |= !strcasecmp(dot, endings[e]);
		if (!picture)
			continue;
		path = dir ? wl_path_join(arg, names.v[i], err) : wl_strf(err, "%s", names.v[i]);
		ret = path ? add_source(j, path, err) : -1;
		free(path);
	}
	wl_names_release(&names);
	return ret;
}

/* One batch's rows in host memory. */
struct rows {
	float *pixels, *boxes, *mask;
	int64_t n;
};

static int flush_images(struct job *j, struct rows *r, struct wl_err *err)
{
	struct wl_embeddings *v = &j->out;

	WL_TRY(wl_encoder_images(&j->model.encoder, r->pixels, r->boxes, r->mask, r->n,
		v->images + v->n_images * v->dim, err));
	v->n_images += r->n;
	r->n = 0;
	return 0;
}

/* Adds the picture at path as the next row; one that cannot be read is named and left out. */
static int add_picture(struct job *j, struct rows *r, int64_t number, const char *path,
	struct wl_buf *bytes, struct wl_err *err)
{
	const struct wl_image_config *c = &j->model.config.image;
	struct wl_embeddings *v = &j->out;
	struct wl_err why = WL_ERR_INIT;
	int64_t px = (int64_t)c->px * c->px * 3;

	wl_buf_reset(bytes);
	if (wl_read_file(path, bytes, &why) < 0 ||
		wl_eval_model_image(&j->model, bytes->data, bytes->len, r->pixels + r->n * px,
			r->boxes + r->n * c->regions * 4, r->mask + r->n * c->regions, &why) < 0) {
		wl_warn("left out %s: %s", path, why.msg);
		j->bad++;
		return 0;
	}
	WL_TRY(wl_embeddings_reserve(v, r->n + 1, 0, err));
	v->image_ids[v->n_images + r->n++] = number;
	return r->n == j->o->batch ? flush_images(j, r, err) : 0;
}

static int embed_pictures(struct job *j, struct wl_err *err)
{
	const struct wl_image_config *c = &j->model.config.image;
	size_t px = (size_t)c->px * (size_t)c->px * 3, r = (size_t)c->regions, i;
	size_t batch = (size_t)j->o->batch;
	struct rows rows = {0};
	struct wl_buf bytes;
	struct wl_progress *p = NULL;
	int ret = -1;

	wl_buf_init(&bytes, WL_IMAGE_MAX_BYTES);
	rows.pixels = malloc(batch * px * sizeof(float));
	rows.boxes = malloc(batch * r * 4 * sizeof(float));
	rows.mask = malloc(batch * r * sizeof(float));
	j->sources = json_array();
	if (!rows.pixels || !rows.boxes || !rows.mask || !j->sources) {
		wl_err_nomem(err, "a batch of pictures", batch * px * sizeof(float));
		goto out;
	}
	for (i = 0; i < j->o->images.n; i++)
		WL_TRY_OUT(expand(j, j->o->images.v[i], err));
	p = wl_progress_new("embedding", "pictures", json_array_size(j->sources));
	for (i = 0; i < json_array_size(j->sources) && !wl_stop_requested(); i++) {
		WL_TRY_OUT(add_picture(j, &rows, (int64_t)i,
			json_string_value(json_array_get(j->sources, i)), &bytes, err));
		wl_progress_add(p, 1);
	}
	if (rows.n)
		WL_TRY_OUT(flush_images(j, &rows, err));
	ret = i < json_array_size(j->sources);
	if (ret == 0 && j->out.n_images == 0)
		ret = wl_err_set(err, WL_EDATA, "--images: none of the %zu files is a picture that "
			"can be read; name .jpg, .png or .webp files, or a directory that holds "
			"some", i);
out:
	wl_progress_free(p);
	wl_buf_release(&bytes);
	free(rows.pixels);
	free(rows.boxes);
	free(rows.mask);
	return ret;
}

/* --- from texts --- */

static int embed_lines(struct job *j, const char *text, size_t len, struct wl_err *err)
{
	size_t words = (size_t)j->model.config.text.length, n = 0, i;
	struct wl_embeddings *v = &j->out;
	const char *end = text + len, *line = text, *eol;
	int32_t *ids;
	float *mask;
	int ret = -1;

	for (i = 0; i < len; i++)
		n += text[i] == '\n';
	n += len && text[len - 1] != '\n';
	ids = malloc((n + 1) * words * sizeof *ids);
	mask = malloc((n + 1) * words * sizeof *mask);
	if (!ids || !mask) {
		wl_err_nomem(err, "token ids", n * words * sizeof *ids);
		goto out;
	}
	WL_TRY_OUT(wl_embeddings_reserve(v, 0, (int64_t)n, err));
	for (i = 0; i < n; i++, line = eol + 1) {
		eol = memchr(line, '\n', (size_t)(end - line));
		if (!eol)
			eol = end;
		wl_eval_model_text(&j->model, line, (size_t)(eol - line), ids + i * words,
			mask + i * words);
		v->text_ids[i] = (int64_t)i;
		v->text_image[i] = -1;
	}
	WL_TRY_OUT(wl_encoder_texts(&j->model.encoder, ids, mask, (int64_t)n, v->texts, err));
	v->n_texts = (int64_t)n;
	ret = 0;
out:
	free(ids);
	free(mask);
	return ret;
}

/* Such lines keep their rows, so that rows and lines go together, but hardly mean what is meant. */
static void say_not_utf8(const char *path, const char *text, size_t len)
{
	size_t line = 1, last = 0, first = 0, bad = 0;

	for (size_t i = 0; i < len;) {
		bool newline = text[i] == '\n', ok = true;

		wl_utf8_next(text, len, &i, &ok);
		if (!ok && last != line) {
			first = bad++ ? first : line;
			last = line;
		}
		line += newline;
	}
	if (bad)
		wl_warn("%s: line %zu and %zu more are not UTF-8; save the file as UTF-8, or their "
			"vectors mean little", path, first, bad - 1);
}

static int embed_texts(struct job *j, struct wl_err *err)
{
	struct wl_buf bytes;
	int ret;

	wl_buf_init(&bytes, (size_t)1 << 30);
	ret = wl_read_file(j->o->texts, &bytes, err);
	if (ret == 0 && bytes.len == 0)
		ret = wl_err_set(err, WL_EDATA, "%s is empty: at least one line is expected, a "
			"text each; nothing was written", j->o->texts);
	if (ret == 0)
		say_not_utf8(j->o->texts, wl_buf_str(&bytes), bytes.len);
	if (ret == 0)
		ret = embed_lines(j, wl_buf_str(&bytes), bytes.len, err);
	wl_buf_release(&bytes);
	return ret;
}

/* --- the file --- */

static int add_meta(struct wl_safetensors_writer *w, const struct job *j, struct wl_err *err)
{
	char *text;
	int ret;

	WL_TRY(wl_safetensors_add_meta(w, "checkpoint", j->model.dir, err));
	if (!j->sources)
		return 0;
	text = wl_json_text(j->sources, err);
	ret = text ? wl_safetensors_add_meta(w, "sources", text, err) : -1;
	free(text);
	return ret;
}

static int write_out(const struct job *j, struct wl_err *err)
{
	const struct wl_embeddings *v = &j->out;
	struct wl_safetensors_writer *w = wl_safetensors_create(j->o->out, err);
	const struct {
		const char *name;
		const void *data;
		int64_t rows;
		bool vectors;
	} t[] = {
		{"image_embeddings", v->images, v->n_images, true},
		{"text_embeddings", v->texts, v->n_texts, true},
		{"image_ids", v->image_ids, v->n_images, false},
		{"text_ids", v->text_ids, v->n_texts, false},
		{"text_image", v->text_image, v->n_texts, false},
	};
	const int n = sizeof t / sizeof *t;
	int i, handle[sizeof t / sizeof *t];

	if (!w || add_meta(w, j, err) < 0)
		goto fail;
	for (i = 0; i < n; i++) {
		int64_t shape[2] = {t[i].rows, v->dim};

		handle[i] = wl_safetensors_declare(w, t[i].name,
			t[i].vectors ? WL_SAVED_F32 : WL_SAVED_I64, t[i].vectors ? 2 : 1, shape,
				err);
		if (handle[i] < 0)
			goto fail;
	}
	if (wl_safetensors_begin(w, err) < 0)
		goto fail;
	for (i = 0; i < n; i++) {
		size_t row = t[i].vectors ? (size_t)v->dim * sizeof(float) : sizeof(int64_t);

		if (wl_safetensors_write(w, handle[i], t[i].data, (size_t)t[i].rows * row, err) < 0)
			goto fail;
	}
	return wl_safetensors_finish(w, err);
fail:
	wl_safetensors_abort(w);
	return -1;
}

static int check(const struct wl_embed_opts *o, struct wl_err *err)
{
	int kinds = (o->shards != NULL) + (o->images.n > 0) + (o->texts != NULL) +
		(o->corpus != NULL);

	if (kinds != 1)
		return wl_err_set(err, WL_EUSAGE, "give one of --shards DIR, --images PATH, "
			"--texts FILE and --corpus DIR: %d were given", kinds);
	WL_TRY(wl_path_check(o->out, o->vectors ? WL_PATH_OUTPUT_DIR : WL_PATH_OUTPUT, NULL, err));
	if (o->batch < 1)
		return wl_err_set(err, WL_EUSAGE, "batch is %lld: expected at least 1",
			(long long)o->batch);
	if (strcmp(o->device, "auto") && strcmp(o->device, "cpu") && strcmp(o->device, "cuda"))
		return wl_err_set(err, WL_EUSAGE, "device is \"%s\": expected auto, cpu or cuda",
			o->device);
	if (o->vectors && !o->corpus)
		return wl_err_set(err, WL_EUSAGE, "--vectors is of --corpus: pictures, texts and "
			"shards give vectors anyhow, so take it out");
	if (strcmp(o->store, "fp32") && strcmp(o->store, "fp16") && strcmp(o->store, "bf16"))
		return wl_err_set(err, WL_EUSAGE, "store is \"%s\": expected fp32, fp16 or bf16",
			o->store);
	if (strcmp(o->precision, "fp32") && strcmp(o->precision, "bf16"))
		return wl_err_set(err, WL_EUSAGE, "precision is \"%s\": expected fp32 or bf16",
			o->precision);
	return 0;
}

int wl_embed_run(const struct wl_embed_opts *o, struct wl_err *err)
{
	struct job j = {.o = o};
	int ret;

	WL_TRY(check(o, err));
	WL_TRY(wl_eval_model_open(&j.model, o->ckpt, o->batch, o->device, (int)o->threads,
		strcmp(o->precision, "bf16") ? WL_F32 : WL_BF16, err));
	if (o->corpus) {
		ret = wl_embed_corpus(&j.model, o, err);
		wl_eval_model_close(&j.model);
		return ret < 0 ? -1 : 0;
	}
	j.out.dim = j.model.encoder.dim;
	ret = o->shards ? embed_shards(&j, err) : o->texts ? embed_texts(&j, err)
							    : embed_pictures(&j, err);
	if (ret == 0)
		ret = write_out(&j, err);
	if (ret == 0)
		wl_info("%lld pictures and %lld texts of %lld numbers in %s%s",
			(long long)j.out.n_images, (long long)j.out.n_texts, (long long)j.out.dim,
			o->out, j.bad ? "; some pictures were left out" : "");
	json_decref(j.sources);
	wl_embeddings_release(&j.out);
	wl_eval_model_close(&j.model);
	return ret < 0 ? -1 : 0;
}
