/* Inference with the two towers: see encode.h. */
#include "train/encode.h"

#include "ops/signals.h"

#include <stdlib.h>
#include <string.h>

int wl_encoder_declare(struct wl_encoder *e, const struct wl_towers *t, struct wl_params *params,
	int64_t batch, enum wl_dtype compute, struct wl_err *err)
{
	struct wl_graph_options opts = {.train = false, .compute_dtype = compute};
	struct wl_graph *g;
	wl_tid images, boxes, mask, ids, text_mask;

	*e = (struct wl_encoder){.towers = *t, .batch = batch};
	g = e->image = wl_graph_new("encode_image", params, &opts, err);
	if (!g)
		return -1;
	images = wl_g_input(g, "images", WL_F32, WL_SHAPE(batch, t->image_px, t->image_px, 3));
	boxes = wl_g_input(g, "boxes", WL_F32, WL_SHAPE(batch, t->regions, 4));
	mask = wl_g_input(g, "region_mask", WL_F32, WL_SHAPE(batch, t->regions));
	e->image_out = t->image(g, t->model, images, boxes, mask);
	wl_g_output(g, e->image_out, "image");
	g = e->text = wl_graph_new("encode_text", params, &opts, err);
	if (!g) {
		wl_encoder_release(e);
		return -1;
	}
	ids = wl_g_input(g, "ids", WL_I32, WL_SHAPE(batch, t->text_len));
	text_mask = wl_g_input(g, "text_mask", WL_F32, WL_SHAPE(batch, t->text_len));
	e->text_out = t->text(g, t->model, ids, text_mask);
	wl_g_output(g, e->text_out, "text");
	return 0;
}

int wl_encoder_start(struct wl_encoder *e, struct wl_backend *be, struct wl_err *err)
{
	struct wl_shape s = wl_g_shape(e->image, e->image_out);

	e->backend = be;
	wl_graph_store_for(e->image, be);
	wl_graph_store_for(e->text, be);
	e->dim = wl_shape_last(&s);
	if (wl_graph_compile(e->image, be, err) < 0 || wl_graph_compile(e->text, be, err) < 0) {
		wl_encoder_release(e);
		return -1;
	}
	return 0;
}

int wl_encoder_init(struct wl_encoder *e, const struct wl_towers *towers,
	struct wl_params *params, int64_t batch, enum wl_dtype compute, struct wl_err *err)
{
	WL_TRY(wl_encoder_declare(e, towers, params, batch, compute, err));
	return wl_encoder_start(e, params->backend, err);
}

void wl_encoder_release(struct wl_encoder *e)
{
	if (!e)
		return;
	wl_graph_free(e->image);
	wl_graph_free(e->text);
	*e = (struct wl_encoder){0};
}

/* Rows [at, at + n) of host into the input, the rest of the batch zero. */
static void fill(const struct wl_encoder *e, struct wl_graph *g, const char *input,
	const void *host, int64_t at, int64_t n, int64_t row_bytes)
{
	char *dst = wl_graph_data(g, wl_graph_find(g, input));
	struct wl_backend *be = e->backend;

	be->upload(be, dst, (const char *)host + at * row_bytes, (size_t)(n * row_bytes));
	if (n < e->batch)
		be->zero(be, dst + n * row_bytes, (size_t)((e->batch - n) * row_bytes));
}

static int run_chunk(struct wl_encoder *e, struct wl_graph *g, wl_tid out_t, float *out,
	int64_t n, struct wl_err *err)
{
	WL_TRY(wl_graph_run(g, 0, 0, err));
	e->backend->download(e->backend, out, wl_graph_data(g, out_t),
		(size_t)(n * e->dim) * sizeof *out);
	return 0;
}

int wl_encoder_images(struct wl_encoder *e, const float *images, const float *boxes,
	const float *mask, int64_t n, float *out, struct wl_err *err)
{
	const int64_t px = e->towers.image_px, r = e->towers.regions, f = sizeof(float);
	int64_t at, m;

	for (at = 0; at < n; at += m) {
		m = n - at < e->batch ? n - at : e->batch;
		fill(e, e->image, "images", images, at, m, px * px * 3 * f);
		fill(e, e->image, "boxes", boxes, at, m, r * 4 * f);
		fill(e, e->image, "region_mask", mask, at, m, r * f);
		WL_TRY(run_chunk(e, e->image, e->image_out, out + at * e->dim, m, err));
	}
	return 0;
}

int wl_encoder_texts(struct wl_encoder *e, const int32_t *ids, const float *mask, int64_t n,
	float *out, struct wl_err *err)
{
	const int64_t len = e->towers.text_len;
	int64_t at, m;

	for (at = 0; at < n; at += m) {
		m = n - at < e->batch ? n - at : e->batch;
		fill(e, e->text, "ids", ids, at, m, len * (int64_t)sizeof *ids);
		fill(e, e->text, "text_mask", mask, at, m, len * (int64_t)sizeof *mask);
		WL_TRY(run_chunk(e, e->text, e->text_out, out + at * e->dim, m, err));
	}
	return 0;
}

static int grow(void **p, int64_t rows, int64_t row_bytes, struct wl_err *err)
{
	void *q = realloc(*p, (size_t)(rows * row_bytes));

	if (!q)
		return wl_err_nomem(err, "embeddings", (size_t)(rows * row_bytes));
	*p = q;
	return 0;
}

int wl_embeddings_reserve(struct wl_embeddings *v, int64_t images, int64_t texts,
	struct wl_err *err)
{
	const int64_t f = sizeof(float), id = sizeof(int64_t);

	images += v->n_images;
	texts += v->n_texts;
	if (images > v->image_cap) {
		v->image_cap = images > 2 * v->image_cap ? images : 2 * v->image_cap;
		WL_TRY(grow((void **)&v->images, v->image_cap, v->dim * f, err));
		WL_TRY(grow((void **)&v->image_ids, v->image_cap, id, err));
	}
	if (texts > v->text_cap) {
		v->text_cap = texts > 2 * v->text_cap ? texts : 2 * v->text_cap;
		WL_TRY(grow((void **)&v->texts, v->text_cap, v->dim * f, err));
		WL_TRY(grow((void **)&v->text_ids, v->text_cap, id, err));
		WL_TRY(grow((void **)&v->text_image, v->text_cap, id, err));
	}
	return 0;
}

void wl_embeddings_release(struct wl_embeddings *v)
{
	if (!v)
		return;
	free(v->images);
	free(v->texts);
	free(v->image_ids);
	free(v->text_ids);
	free(v->text_image);
	*v = (struct wl_embeddings){0};
}

/* Empty runs of a graph, for the sake of ranks that have more to do. */
static int idle(struct wl_graph *g, int64_t runs, struct wl_err *err)
{
	for (; runs > 0; runs--)
		WL_TRY(wl_graph_run(g, 0, 0, err));
	return 0;
}

static int64_t chunks(const struct wl_encoder *e, int64_t n)
{
	return (n + e->batch - 1) / e->batch;
}

/* image_runs, text_runs: how often each graph runs at least. */
static int encode_batch(struct wl_encoder *e, const struct wl_batch *b, const float *pictures,
	int64_t image_runs, int64_t text_runs, struct wl_embeddings *v, struct wl_err *err)
{
	int64_t i;

	WL_TRY(wl_embeddings_reserve(v, b->n, b->n_texts, err));
	WL_TRY(wl_encoder_images(e, pictures, b->boxes, b->region_mask, b->n,
		v->images + v->n_images * v->dim, err));
	WL_TRY(idle(e->image, image_runs - chunks(e, b->n), err));
	WL_TRY(wl_encoder_texts(e, b->ids, b->text_mask, b->n_texts,
		v->texts + v->n_texts * v->dim, err));
	WL_TRY(idle(e->text, text_runs - chunks(e, b->n_texts), err));
	for (i = 0; i < b->n_texts; i++) {
		v->text_image[v->n_texts + i] = v->n_images + b->text_image[i];
		v->text_ids[v->n_texts + i] = b->pair_ids[b->text_image[i]];
	}
	memcpy(v->image_ids + v->n_images, b->pair_ids, (size_t)b->n * sizeof *b->pair_ids);
	v->n_images += b->n;
	v->n_texts += b->n_texts;
	return 0;
}

int wl_encode_split(struct wl_encoder *e, struct wl_feed *f, bool stoppable,
	struct wl_embeddings *out, struct wl_err *err)
{
	const struct wl_batch *b;
	const float *pictures;
	int more;

	out->dim = e->dim;
	while ((more = wl_feed_next(f, &b, &pictures, err)) > 0) {
		if (stoppable && wl_stop_requested())
			return 1;
		WL_TRY(encode_batch(e, b, pictures, 0, 0, out, err));
	}
	return more;
}

int wl_encode_share(struct wl_encoder *e, struct wl_feed *f, struct wl_dist *dist,
	struct wl_embeddings *out, struct wl_err *err)
{
	static const struct wl_batch none;
	const struct wl_batch *b;
	const float *pictures = NULL;

	out->dim = e->dim;
	for (;;) {
		int more = wl_feed_next(f, &b, &pictures, err);
		int64_t runs[3];

		if (more < 0)
			return -1;
		if (!more)
			b = &none;
		runs[0] = more;
		runs[1] = chunks(e, b->n);
		runs[2] = chunks(e, b->n_texts);
		WL_TRY(wl_comm_all_reduce(wl_dist_comm(dist), runs, 3, WL_COMM_I64, WL_COMM_MAX,
			err));
		if (!runs[0])
			return 0;
		WL_TRY(encode_batch(e, b, pictures, runs[1], runs[2], out, err));
	}
}

/* Rows of all ranks in place of this one's *p [n, row_bytes]; *n becomes their number, and
 * first (may be NULL) the number of rows of lower ranks. */
static int join(void **p, int64_t *n, size_t row_bytes, int64_t *first, struct wl_comm *comm,
	struct wl_err *err)
{
	size_t *of = calloc((size_t)wl_comm_size(comm), sizeof *of), all = 0, before = 0;
	void *joined;
	int r;

	if (!of)
		return wl_err_nomem(err, "embeddings", (size_t)wl_comm_size(comm) * sizeof *of);
	if (wl_comm_all_gatherv(comm, *p, (size_t)*n * row_bytes, &joined, of, err) < 0) {
		free(of);
		return -1;
	}
	for (r = 0; r < wl_comm_size(comm); r++) {
		before += r < wl_comm_rank(comm) ? of[r] : 0;
		all += of[r];
	}
	free(of);
	free(*p);
	*p = joined;
	*n = (int64_t)(all / row_bytes);
	if (first)
		*first = (int64_t)(before / row_bytes);
	return 0;
}

int wl_embeddings_join(struct wl_embeddings *v, struct wl_comm *comm, struct wl_err *err)
{
	const size_t row = (size_t)v->dim * sizeof(float), id = sizeof(int64_t);
	int64_t images = v->n_images, texts = v->n_texts, n = texts, first, i;

	n = images;
	WL_TRY(join((void **)&v->images, &n, row, &first, comm, err));
	WL_TRY(join((void **)&v->image_ids, &images, id, NULL, comm, err));
	for (i = 0; i < texts; i++)
		v->text_image[i] += first;
	n = texts;
	WL_TRY(join((void **)&v->texts, &n, row, NULL, comm, err));
	n = texts;
	WL_TRY(join((void **)&v->text_ids, &n, id, NULL, comm, err));
	WL_TRY(join((void **)&v->text_image, &texts, id, NULL, comm, err));
	v->n_images = v->image_cap = images;
	v->n_texts = v->text_cap = texts;
	return 0;
}
