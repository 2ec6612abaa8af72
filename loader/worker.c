/*
 * The row of pixels is made in one go: the resizer pulls scanlines out of the decoder and
 * pushes finished rows into the colour passes, so that a picture is never held whole before
 * it is S x S.
 */
#include "loader/worker.h"

#include "clean/wordpiece.h"
#include "ingest/image.h"
#include "loader/decode.h"
#include "loader/planes_make.h"
#include "loader/regions.h"
#include "ops/clock.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>

#ifdef __AVX512VBMI__
#include <immintrin.h>
#endif

enum {
	MAX_JSON_BYTES = 16 * 1024 * 1024,
	/* A caption longer than this cannot matter to 512 ids; it is cut before tokenising. */
	MAX_CAPTION_BYTES = 64 * 1024,
};

struct wl_worker {
	const struct wl_loader_opts *o;
	struct wl_shardset *shards;
	struct wl_decoder *decoder;
	struct wl_resizer *resizer;
	struct wl_pixels *pixels;
	struct wl_plane_maker *maker; /* with planes_only */
	struct wl_buf jpg, json;
	struct wl_worker_times times;
	double decode_s; /* of the picture in hand */
	uint8_t *crops;  /* where rows go with crops_only */
};

void wl_texts_release(struct wl_texts *t)
{
	if (!t || t->borrowed)
		return;
	free(t->ids);
	free(t->lens);
	free(t->hash);
	*t = (struct wl_texts){0};
}

static int texts_reserve(struct wl_texts *t, int64_t n, int text_len, struct wl_err *err)
{
	size_t cap = (size_t)n + 4;
	void *ids, *lens, *hash;

	if (n <= t->cap)
		return 0;
	WL_ASSERT(!t->borrowed);
	ids = realloc(t->ids, cap * (size_t)text_len * sizeof(*t->ids));
	if (ids)
		t->ids = ids;
	lens = realloc(t->lens, cap * sizeof(*t->lens));
	if (lens)
		t->lens = lens;
	hash = realloc(t->hash, cap * sizeof(*t->hash));
	if (hash)
		t->hash = hash;
	if (!ids || !lens || !hash)
		return wl_err_nomem(err, "captions", cap * (size_t)text_len * sizeof(*t->ids));
	t->cap = (int64_t)cap;
	return 0;
}

struct wl_worker *wl_worker_new(const struct wl_loader_opts *o, struct wl_shardset *shards,
	struct wl_err *err)
{
	struct wl_worker *w = calloc(1, sizeof(*w));

	if (!w) {
		wl_err_nomem(err, "a loader worker", sizeof(*w));
		return NULL;
	}
	w->o = o;
	w->shards = shards;
	wl_buf_init(&w->jpg, WL_IMAGE_MAX_BYTES);
	wl_buf_init(&w->json, MAX_JSON_BYTES);
	w->decoder = wl_decoder_new(err);
	w->resizer = w->decoder ? wl_resizer_new(o->image_px, err) : NULL;
	w->pixels = w->resizer ? wl_pixels_new(o->image_px, err) : NULL;
	if (w->pixels && o->planes_only)
		w->maker = wl_plane_maker_new(o->image_px, err);
	if (!w->pixels || (o->planes_only && !w->maker)) {
		wl_worker_free(w);
		return NULL;
	}
	return w;
}

void wl_worker_free(struct wl_worker *w)
{
	if (!w)
		return;
	wl_decoder_free(w->decoder);
	wl_resizer_free(w->resizer);
	wl_pixels_free(w->pixels);
	wl_plane_maker_free(w->maker);
	wl_buf_release(&w->jpg);
	wl_buf_release(&w->json);
	free(w);
}

/* The decoder's strips, timed. */
static int timed_strip(void *source, uint8_t *const *const rows[WL_PLANES_MAX],
	struct wl_err *err)
{
	struct wl_worker *w = source;
	double t = wl_now_s();
	int rc = wl_decoder_strip(w->decoder, rows, err);

	w->decode_s += wl_now_s() - t;
	return rc;
}

static void to_pixels(void *sink, int y, const float *const rgb[3])
{
	struct wl_worker *w = sink;

	(void)y;
	wl_pixels_row(w->pixels, rgb);
}

#ifdef __AVX512VBMI__
/* 16 values as 0 .. 255, in 32 bits each. */
static inline __m512i to_bytes(const float *v)
{
	const __m512 full = _mm512_set1_ps(255.0f), half = _mm512_set1_ps(0.5f);

	return _mm512_cvttps_epi32(_mm512_fmadd_ps(_mm512_loadu_ps(v), full, half));
}

/* Whole vectors of pixels as bytes side by side; returns how many pixels that was.  gcc 12 takes
 * four times as long for what follows in C. */
static int pack_bytes(const float *r, const float *g, const float *b, uint8_t *out, int n)
{
	const __m512i three_of_four = _mm512_setr_epi32(0x04020100, 0x09080605, 0x0e0d0c0a,
		0x14121110, 0x19181615, 0x1e1d1c1a, 0x24222120, 0x29282625, 0x2e2d2c2a, 0x34323130,
		0x39383635, 0x3e3d3c3a, 0, 0, 0, 0);
	const __mmask64 used = ((__mmask64)1 << 48) - 1;
	int i;

	for (i = 0; i + 16 <= n; i += 16) {
		__m512i px = _mm512_or_epi32(to_bytes(r + i),
			_mm512_or_epi32(_mm512_slli_epi32(to_bytes(g + i), 8),
			_mm512_slli_epi32(to_bytes(b + i), 16)));

		_mm512_mask_storeu_epi8(out + 3 * i, used,
			_mm512_permutexvar_epi8(three_of_four, px));
	}
	return i;
}
#else
static int pack_bytes(const float *r, const float *g, const float *b, uint8_t *out, int n)
{
	(void)r, (void)g, (void)b, (void)out, (void)n;
	return 0;
}
#endif

static void to_crops(void *sink, int y, const float *const rgb[3])
{
	struct wl_worker *w = sink;
	const float *restrict r = rgb[0], *restrict g = rgb[1], *restrict b = rgb[2];
	int side = w->o->image_px, i;
	uint8_t *restrict out = w->crops + (size_t)y * (size_t)side * 3;

	for (i = pack_bytes(r, g, b, out, side); i < side; i++) {
		out[3 * i] = (uint8_t)(r[i] * 255.0f + 0.5f);
		out[3 * i + 1] = (uint8_t)(g[i] * 255.0f + 0.5f);
		out[3 * i + 2] = (uint8_t)(b[i] * 255.0f + 0.5f);
	}
}

/* Leaves the decoding to a GPU where it can be. */
static int keep_jpeg(struct wl_worker *w, struct wl_row *row, bool *kept, struct wl_err *err)
{
	const struct wl_augment_params *p = row->params;
	struct wl_region whole;
	int width, height;

	*kept = false;
	if (!w->o->jpegs || !wl_decoder_plain(w->decoder))
		return 0;
	WL_TRY(wl_decoder_region(w->decoder, p->crop_x, p->crop_y, p->crop_w, p->crop_h,
		w->o->image_px, 0, &whole, err));
	WL_TRY(wl_planes_keep_jpeg(w->maker, &whole, p, w->jpg.data, w->jpg.len, row->area,
		row->planes, kept, err));
	/* Else decoding begins anew, at the scale that suits it. */
	return *kept ? 0
		     : wl_decoder_open(w->decoder, w->jpg.data, w->jpg.len, &width, &height, err);
}

static int make_pixels(struct wl_worker *w, const struct wl_region *region, struct wl_row *row,
	struct wl_err *err)
{
	const struct wl_augment_params *p = row->params;

	if (w->maker)
		return wl_planes_make(w->maker, region, p, w->resizer, timed_strip, w, row->area,
			row->planes, err);
	w->crops = row->crops;
	if (!row->crops)
		wl_pixels_begin(w->pixels, p, w->o->mean, w->o->std, row->pixels);
	WL_TRY(wl_resizer_run(w->resizer, region, p->flip, timed_strip, w,
		row->crops ? to_crops : to_pixels, w, err));
	if (!row->crops)
		wl_pixels_finish(w->pixels);
	return 0;
}

/* Draws the parameters, decodes what they ask for and makes the row's picture. */
static int make_picture(struct wl_worker *w, int64_t epoch, int64_t sample, struct wl_row *row,
	struct wl_err *err)
{
	const struct wl_loader_opts *o = w->o;
	struct wl_augment_params *p = row->params;
	struct wl_region region;
	int width, height;
	double t0 = wl_now_s(), t1;
	bool whole, kept;

	WL_TRY(wl_decoder_open(w->decoder, w->jpg.data, w->jpg.len, &width, &height, err));
	wl_augment_draw(&o->augment, width, height, o->image_px, o->seed, epoch, sample, p);
	WL_TRY(keep_jpeg(w, row, &kept, err));
	if (kept) {
		w->times.augment_s += wl_now_s() - t0;
		return 0;
	}
	whole = p->crop_w == width && p->crop_h == height;
	WL_TRY(wl_decoder_region(w->decoder, p->crop_x, p->crop_y, p->crop_w, p->crop_h,
		o->image_px, whole ? 2 : 1, &region, err));
	t1 = wl_now_s();
	w->decode_s = t1 - t0;
	WL_TRY(make_pixels(w, &region, row, err));
	w->times.decode_s += w->decode_s;
	w->times.augment_s += wl_now_s() - t0 - w->decode_s;
	return 0;
}

static int add_caption(struct wl_worker *w, const json_t *caption, size_t i,
	struct wl_texts *t, struct wl_err *err)
{
	int L = w->o->text_len;
	const char *s = json_string_value(caption);
	size_t len = json_string_length(caption);

	if (!s)
		return wl_err_set(err, WL_EDATA, "captions[%zu] is not a string", i);
	t->hash[t->n] = wl_hash64(s, len, 0);
	len = len < MAX_CAPTION_BYTES ? len : MAX_CAPTION_BYTES;
	t->lens[t->n] = (int32_t)wl_wordpiece(w->o->vocab, s, len, t->ids + t->n * L, (size_t)L);
	t->n++;
	return 0;
}

static int make_texts(struct wl_worker *w, const json_t *sample_json, int64_t epoch,
	int64_t sample, struct wl_texts *t, struct wl_err *err)
{
	const json_t *list = json_object_get(sample_json, "captions");
	size_t n = json_array_size(list), i;

	if (!json_is_array(list) || n == 0)
		return wl_err_set(err, WL_EDATA, "it has no list of captions");
	t->n = 0;
	WL_TRY(texts_reserve(t, w->o->all_captions ? (int64_t)n : 1, w->o->text_len, err));
	if (!w->o->all_captions) {
		i = (size_t)wl_caption_draw((int64_t)n, w->o->seed, epoch, sample);
		return add_caption(w, json_array_get(list, i), i, t, err);
	}
	for (i = 0; i < n; i++)
		WL_TRY(add_caption(w, json_array_get(list, i), i, t, err));
	return 0;
}

static int make_row(struct wl_worker *w, const json_t *json, int64_t epoch, int64_t sample,
	struct wl_row *row, struct wl_err *err)
{
	const struct wl_loader_opts *o = w->o;
	const json_t *boxes = o->use_boxes ? json_object_get(json, "boxes") : NULL;
	double t = wl_now_s();

	WL_TRY(make_texts(w, json, epoch, sample, row->texts, err));
	w->times.text_s += wl_now_s() - t;
	WL_TRY(make_picture(w, epoch, sample, row, err));
	return wl_regions(boxes, row->params, o->image_px, o->regions, o->grid, row->boxes,
		row->region_mask, err);
}

int wl_worker_sample(struct wl_worker *w, int64_t epoch, int64_t sample, struct wl_row *row,
	struct wl_err *err)
{
	char key[WL_KEY_MAX];
	json_t *json = NULL;
	double t = wl_now_s();
	int rc;

	wl_buf_reset(&w->jpg);
	wl_buf_reset(&w->json);
	rc = wl_shardset_read(w->shards, sample, &w->jpg, &w->json, err);
	w->times.read_s += wl_now_s() - t;
	WL_TRY(rc);
	rc = -1;
	t = wl_now_s();
	wl_shardset_key(w->shards, sample, key);
	json = wl_json_parse(wl_buf_str(&w->json), w->json.len, key, err);
	w->times.text_s += wl_now_s() - t;
	if (!json)
		return -1;
	rc = make_row(w, json, epoch, sample, row, err);
	*row->pair_id = json_integer_value(json_object_get(json, "pair_id"));
	json_decref(json);
	return rc < 0 ? wl_err_prefix(err, "sample %s", key) : 0;
}

void wl_worker_times(struct wl_worker *w, struct wl_worker_times *t)
{
	t->read_s += w->times.read_s;
	t->decode_s += w->times.decode_s;
	t->augment_s += w->times.augment_s;
	t->text_s += w->times.text_s;
	w->times = (struct wl_worker_times){0};
}
