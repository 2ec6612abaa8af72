/* Checkpoints to embeddings: see model.h. */
#include "eval/model.h"

#include "loader/augment.h"
#include "loader/decode.h"
#include "loader/regions.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/ram.h"
#include "train/checkpoint/ckpt.h"
#include "train/checkpoint/store.h"
#include "train/towers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int load_config(struct wl_eval_model *m, const json_t *state, struct wl_err *err)
{
	char *path = wl_path_join(m->dir, "preprocess.json", err);
	json_t *prep = path ? wl_json_load(path, err) : NULL;
	int ret = -1;

	free(path);
	if (prep && wl_json_bool_or(prep, "use_boxes", "preprocess.json", true, &m->use_boxes,
		    err) == 0 &&
		wl_model_parse(json_object_get(json_object_get(state, "run"), "model"), &m->config,
			err) == 0)
		ret = wl_model_check(&m->config, err);
	if (ret < 0 && err) {
		wl_err_prefix(err, "%s", m->dir);
		err->code = WL_ECKPT;
	}
	json_decref(prep);
	return ret;
}

static int load_vocab(struct wl_eval_model *m, struct wl_err *err)
{
	char *path = wl_path_join(m->dir, "vocab.txt", err);

	m->vocab = path ? wl_vocab_load(path, err) : NULL;
	free(path);
	return m->vocab ? 0 : -1;
}

/* Before it is used: on the processor there are only addresses so far. */
static int check_memory(const struct wl_eval_model *m, int64_t batch, struct wl_err *err)
{
	const struct wl_graph *graphs[] = {m->encoder.image, m->encoder.text};
	double need = (double)m->params.floats * sizeof(float);
	struct wl_graph_stats s;
	char mend[64];

	if (strcmp(m->backend->name, "cpu"))
		return 0;
	for (size_t i = 0; i < sizeof graphs / sizeof *graphs; i++) {
		wl_graph_stats(graphs[i], &s);
		need += (double)(s.arena_bytes + s.scratch_bytes);
	}
	snprintf(mend, sizeof mend, "lower --batch (%lld now)", (long long)batch);
	return wl_ram_check(need, wl_ram_there(), "computing embeddings", mend, err);
}

static int load_weights(struct wl_eval_model *m, int64_t batch, const char *device, int threads,
	enum wl_dtype compute, struct wl_err *err)
{
	struct wl_store_array all = {.prefix = ""};
	struct wl_towers towers;
	char *path;
	int ret;

	m->backend = wl_backend_open(device, 0, threads, err);
	if (!m->backend)
		return -1;
	wl_brivl_towers(&towers, &m->config);
	WL_TRY(wl_encoder_declare(&m->encoder, &towers, &m->params, batch, compute, err));
	/* In the file beside the towers; nothing here reads it. */
	WL_TRY(wl_params_add(&m->params, WL_MOCO_SCALE, WL_LAYOUT_PLAIN, &WL_SHAPE(1), 0, err));
	WL_TRY(wl_params_seal(&m->params, m->backend, false, err));
	WL_TRY(wl_encoder_start(&m->encoder, m->backend, err));
	WL_TRY(check_memory(m, batch, err));
	all.data = m->params.value;
	path = wl_path_join(m->dir, "model.safetensors", err);
	ret = path ? wl_store_load(path, &m->params, &all, 1, err) : -1;
	free(path);
	return ret;
}

int wl_eval_model_open(struct wl_eval_model *m, const char *path, int64_t batch,
	const char *device, int threads, enum wl_dtype compute, struct wl_err *err)
{
	json_t *state = NULL;
	int ret = -1;

	*m = (struct wl_eval_model){0};
	wl_params_init(&m->params);
	if (wl_ckpt_load(path, &m->dir, &state, err) < 0 || load_config(m, state, err) < 0 ||
		load_vocab(m, err) < 0 || load_weights(m, batch, device, threads, compute, err) < 0)
		goto out;
	m->decoder = wl_decoder_new(err);
	m->resizer = m->decoder ? wl_resizer_new(m->config.image.px, err) : NULL;
	m->pixels = m->resizer ? wl_pixels_new(m->config.image.px, err) : NULL;
	ret = m->pixels ? 0 : -1;
out:
	json_decref(state);
	if (ret < 0)
		wl_eval_model_close(m);
	return ret;
}

void wl_eval_model_close(struct wl_eval_model *m)
{
	if (!m)
		return;
	wl_encoder_release(&m->encoder);
	wl_params_release(&m->params);
	wl_backend_close(m->backend);
	wl_vocab_free(m->vocab);
	wl_decoder_free(m->decoder);
	wl_resizer_free(m->resizer);
	wl_pixels_free(m->pixels);
	free(m->dir);
	*m = (struct wl_eval_model){0};
}

static void emit(void *sink, int y, const float *const rgb[3])
{
	(void)y;
	wl_pixels_row(sink, rgb);
}

int wl_eval_model_image(struct wl_eval_model *m, const void *bytes, size_t n, float *pixels,
	float *boxes, float *mask, struct wl_err *err)
{
	const struct wl_image_config *c = &m->config.image;
	struct wl_augment_params whole;
	struct wl_region region;
	int width, height;

	WL_TRY(wl_decoder_open(m->decoder, bytes, n, &width, &height, err));
	wl_augment_identity(width, height, &whole);
	WL_TRY(wl_decoder_region(m->decoder, 0, 0, width, height, c->px, 2, &region, err));
	wl_pixels_begin(m->pixels, &whole, c->mean, c->std, pixels);
	WL_TRY(wl_resizer_run(m->resizer, &region, false, wl_decoder_strip, m->decoder, emit,
		m->pixels, err));
	wl_pixels_finish(m->pixels);
	return wl_regions(NULL, &whole, c->px, c->regions, c->grid, boxes, mask, err);
}

void wl_eval_model_text(const struct wl_eval_model *m, const char *text, size_t len,
	int32_t *ids, float *mask)
{
	size_t max = (size_t)m->config.text.length, n = wl_wordpiece(m->vocab, text, len, ids, max);
	size_t i;

	for (i = 0; i < max; i++)
		mask[i] = i < n;
}

int wl_eval_model_loader_opts(const struct wl_eval_model *m, struct wl_loader_opts *o,
	struct wl_err *err)
{
	const struct wl_image_config *c = &m->config.image;

	*o = (struct wl_loader_opts){
		.image_px = c->px,
		.regions = c->regions,
		.grid = c->grid,
		.use_boxes = m->use_boxes,
		.text_len = m->config.text.length,
		.vocab = m->vocab,
		.all_captions = true,
		.world = 1,
	};
	memcpy(o->mean, c->mean, sizeof o->mean);
	memcpy(o->std, c->std, sizeof o->std);
	return wl_augment_preset("none", &o->augment, err);
}
