/*
 * What happens to a batch of pairs on a worker's thread.  Bytes that do not match the catalog mean
 * that the corpus is damaged and end the run; a picture that cannot become a JPEG is only rejected,
 * and counted.
 */
#include "shards/pack_job.h"

#include "ingest/image.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>

enum { TEXTS_MAX = 16 << 20 };

struct wl_pack_job *wl_pack_job_new(struct wl_corpus *c, int quality, struct wl_err *err)
{
	struct wl_pack_job *j = calloc(1, sizeof *j);

	if (!j) {
		wl_err_nomem(err, "a sample", sizeof *j);
		return NULL;
	}
	j->corpus = c;
	j->quality = quality;
	wl_buf_init(&j->raw, WL_IMAGE_MAX_BYTES);
	wl_buf_init(&j->jpg, WL_IMAGE_MAX_BYTES);
	return j;
}

void wl_pack_job_free(struct wl_pack_job *j)
{
	if (!j)
		return;
	wl_arena_release(&j->arena);
	wl_buf_release(&j->raw);
	wl_buf_release(&j->jpg);
	free(j->json);
	free(j);
}

/* ---- on the thread that owns the databases ---- */

static int copy_text(struct wl_pack_job *j, const char **s, struct wl_err *err)
{
	if (!*s)
		return 0;
	*s = wl_arena_strdup(&j->arena, *s, err);
	return *s ? 0 : -1;
}

/* The filter's texts; what the filter has not seen (--allow-unfiltered) goes in as received. */
static int fill_texts(struct wl_pack_job *j, struct wl_kept *k, struct wl_err *err)
{
	struct wl_buf texts, category;
	int rc;

	wl_buf_init(&texts, TEXTS_MAX);
	wl_buf_init(&category, TEXTS_MAX);
	j->topic = -1;
	j->category = NULL;
	rc = wl_kept_texts(k, j->pair.id, &texts, &j->topic, &category, err);
	if (rc >= 0) {
		const char *s = rc ? wl_buf_str(&texts) : j->pair.texts;

		j->texts = wl_arena_strdup(&j->arena, s, err);
		rc = j->texts ? 0 : -1;
	}
	if (rc == 0 && category.len) {
		j->category = wl_arena_strdup(&j->arena, wl_buf_str(&category), err);
		rc = j->category ? 0 : -1;
	}
	wl_buf_release(&category);
	wl_buf_release(&texts);
	return rc;
}

int wl_pack_job_fill(struct wl_pack_job *j, struct wl_pair_cursor *cur, struct wl_kept *k,
	int64_t id, int64_t group, struct wl_err *err)
{
	int rc;

	wl_arena_reset(&j->arena);
	free(j->json);
	j->json = j->txt = NULL;
	j->rejected = j->failed = j->unchecked = false;
	j->group = group;
	WL_TRY(rc = wl_pairs_find(cur, id, &j->pair, err));
	if (!rc)
		return wl_err_set(err, WL_EDATA,
			"pair %lld vanished from the corpus while it was packed: is another "
			"program changing it?",
			(long long)id);
	WL_TRY(fill_texts(j, k, err));
	WL_TRY(copy_text(j, &j->pair.source, err));
	WL_TRY(copy_text(j, &j->pair.url, err));
	WL_TRY(copy_text(j, &j->pair.page_url, err));
	WL_TRY(copy_text(j, &j->pair.format, err));
	WL_TRY(copy_text(j, &j->pair.boxes, err));
	j->pair.texts = j->pair.split_hint = j->pair.meta = "";
	return 0;
}

/* ---- on a worker's thread ---- */

/* Every text but titles is a caption; a pair with a title alone has it for a caption. */
static int split_texts(
	struct wl_pack_job *j, const json_t *texts, struct wl_sample_facts *f, struct wl_err *err)
{
	size_t n = json_array_size(texts);
	const char **captions = wl_arena_calloc(&j->arena, n + 1, sizeof *captions, err);

	if (!captions)
		return -1;
	for (size_t i = 0; i < n; i++) {
		const json_t *entry = json_array_get(texts, i);
		const char *kind = json_string_value(json_array_get(entry, 0));
		const char *text = json_string_value(json_array_get(entry, 1));

		if (!kind || !text)
			return wl_err_set(err, WL_EDATA,
				"pair %lld: its texts are not [[kind, text], ...]",
				(long long)j->pair.id);
		if (strcmp(kind, "title"))
			captions[f->n_captions++] = text;
		else if (!f->title)
			f->title = text;
	}
	if (!f->n_captions && f->title)
		captions[f->n_captions++] = f->title;
	f->captions = captions;
	return 0;
}

static int make_json(struct wl_pack_job *j, struct wl_err *err)
{
	struct wl_sample_facts f = {.pair_id = j->pair.id,
		.source = j->pair.source,
		.url = j->pair.url,
		.page_url = j->pair.page_url,
		.width = j->pair.width,
		.height = j->pair.height,
		.topic = j->topic,
		.category = j->category,
		.split_group = j->group,
		.boxes = j->pair.boxes};
	json_t *texts = wl_json_parse(j->texts, strlen(j->texts), "a pair's texts", err);
	int ret = -1;

	if (!texts)
		return wl_err_prefix(err, "pair %lld", (long long)j->pair.id);
	WL_TRY_OUT(split_texts(j, texts, &f, err));
	j->json = wl_sample_json(&f, err);
	if (!j->json)
		goto out;
	j->txt = wl_arena_strdup(&j->arena, f.captions[0], err);
	ret = j->txt ? 0 : -1;
out:
	json_decref(texts);
	return ret;
}

/* The picture's bytes for the shard, without a copy when they go in as they are.  Those are
 * checked against the catalog many at once. */
static int make_jpeg(struct wl_pack_job *j, struct wl_err *err)
{
	struct wl_image_info info;
	uint8_t digest[WL_SHA256_BYTES];
	int rc = wl_image_probe(j->raw.data, j->raw.len, &info, err);

	j->unchecked = rc == 0 && info.jpeg_plain;
	if (j->unchecked) {
		j->out = &j->raw;
		memcpy(j->sha256, j->pair.image_sha256, sizeof j->sha256);
		return 0;
	}
	wl_sha256(j->raw.data, j->raw.len, digest);
	if (wl_corpus_image_check(j->corpus, &j->pair, digest, err) < 0) {
		j->failed = true;
		return -1;
	}
	if (rc < 0)
		return -1;
	wl_buf_reset(&j->jpg);
	WL_TRY(wl_image_to_jpeg(j->raw.data, j->raw.len, j->quality, &j->jpg, err));
	j->out = &j->jpg;
	wl_sha256(j->jpg.data, j->jpg.len, j->sha256);
	return 0;
}

static void run_one(struct wl_pack_job *j)
{
	if (wl_corpus_image_bytes(j->corpus, &j->pair, &j->raw, &j->err) < 0 ||
		make_json(j, &j->err) < 0) {
		j->failed = true;
	} else if (make_jpeg(j, &j->err) < 0) {
		j->rejected = !j->failed && j->err.code == WL_EDATA;
		j->failed = !j->rejected;
	}
}

/* Compares the pictures that go in as they are with the catalog. */
static void check(struct wl_pack_batch *b)
{
	uint8_t digest[WL_PACK_BATCH][WL_SHA256_BYTES];
	struct wl_pack_job *of[WL_PACK_BATCH];
	const void *bytes[WL_PACK_BATCH];
	size_t len[WL_PACK_BATCH], n = 0;

	for (size_t i = 0; i < b->n; i++)
		if (b->job[i]->unchecked && !b->job[i]->failed) {
			of[n] = b->job[i];
			bytes[n] = b->job[i]->out->data;
			len[n++] = b->job[i]->out->len;
		}
	if (!n)
		return;
	wl_sha256_many(bytes, len, n, digest);
	for (size_t i = 0; i < n; i++)
		if (wl_corpus_image_check(b->corpus, &of[i]->pair, digest[i], &of[i]->err) < 0)
			of[i]->failed = true;
}

void wl_pack_batch_run(void *batch)
{
	struct wl_pack_batch *b = batch;

	for (size_t i = 0; i < b->n; i++)
		run_one(b->job[i]);
	check(b);
}

struct wl_pack_batch *wl_pack_batch_new(struct wl_corpus *c, int quality, struct wl_err *err)
{
	struct wl_pack_batch *b = calloc(1, sizeof *b);

	if (!b) {
		wl_err_nomem(err, "samples", sizeof *b);
		return NULL;
	}
	b->corpus = c;
	for (size_t i = 0; i < WL_PACK_BATCH; i++) {
		b->job[i] = wl_pack_job_new(c, quality, err);
		if (!b->job[i]) {
			wl_pack_batch_free(b);
			return NULL;
		}
	}
	return b;
}

void wl_pack_batch_free(struct wl_pack_batch *b)
{
	for (size_t i = 0; b && i < WL_PACK_BATCH; i++)
		wl_pack_job_free(b->job[i]);
	free(b);
}
