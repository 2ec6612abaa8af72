/*
 * Cross-modal MoCo: see moco.h.  The key graph reads the query graph's inputs
 * and the query graph reads the key graph's outputs in place; queues and
 * identities are bound once.  So a step copies the batch in and nothing else.
 */
#include "train/moco/moco.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double tau_min = 0.01; /* FACTS, Decisions: CLIP's clamp of the scale to 100 */

static int check(const struct wl_moco_config *c, int64_t batch, struct wl_err *err)
{
	if (!(c->momentum >= 0 && c->momentum <= 1))
		return wl_err_set(err, WL_EUSAGE, "moco.momentum is %g: expected a number in [0, "
			"1]",
			c->momentum);
	if (!(c->tau >= tau_min && c->tau <= 10))
		return wl_err_set(err, WL_EUSAGE, "moco.tau is %g: expected a temperature in "
			"[%g, 10]", c->tau, tau_min);
	if (c->queue < 1 || batch < 1)
		return wl_err_set(err, WL_EUSAGE, "moco.queue is %lld and data.batch %lld: "
			"expected both to be at least 1", (long long)c->queue, (long long)batch);
	return 0;
}

/* The inputs of a batch as graph leaves; kind: wl_g_input or wl_g_external. */
typedef wl_tid (*leaf_fn)(struct wl_graph *g, const char *name, enum wl_dtype dtype,
	struct wl_shape shape);

struct leaves {
	wl_tid images, boxes, region_mask, ids, text_mask;
};

static struct leaves make_leaves(struct wl_graph *g, const struct wl_towers *t, int64_t b,
	leaf_fn leaf)
{
	struct leaves l;

	l.images = leaf(g, "images", WL_F32, WL_SHAPE(b, t->image_px, t->image_px, 3));
	l.boxes = leaf(g, "boxes", WL_F32, WL_SHAPE(b, t->regions, 4));
	l.region_mask = leaf(g, "region_mask", WL_F32, WL_SHAPE(b, t->regions));
	l.ids = leaf(g, "ids", WL_I32, WL_SHAPE(b, t->text_len));
	l.text_mask = leaf(g, "text_mask", WL_F32, WL_SHAPE(b, t->text_len));
	return l;
}

/* The query graph: online towers, both losses, backward. */
static void build_query(struct wl_moco *m, const struct wl_towers *t, int64_t dim)
{
	struct wl_graph *g = m->query;
	int64_t b = m->batch, k = m->config.queue;
	struct leaves l = make_leaves(g, t, b, wl_g_input);
	wl_tid image = t->image(g, t->model, l.images, l.boxes, l.region_mask);
	wl_tid text = t->text(g, t->model, l.ids, l.text_mask);
	struct wl_infonce loss = {
		.log_scale = wl_g_param(g, WL_MOCO_SCALE, WL_LAYOUT_PLAIN, WL_SHAPE(1),
			m->config.learn_tau ? WL_PARAM_GAIN : 0),
		.row_ids = wl_g_external(g, "row_ids", WL_I64, WL_SHAPE(b, WL_QUEUE_IDS)),
		.in_batch = m->config.in_batch,
	};
	wl_tid image_key = image, text_key = text;
	int i;

	if (!m->config.online_positive) {
		image_key = wl_g_external(g, "image_key", WL_F32, WL_SHAPE(b, dim));
		text_key = wl_g_external(g, "text_key", WL_F32, WL_SHAPE(b, dim));
	}
	for (i = 0; i < 2; i++) {
		loss.query = i ? text : image;
		loss.key = i ? image_key : text_key;
		loss.queue = wl_g_external(g, i ? "image_queue" : "text_queue", WL_F32,
			WL_SHAPE(k, dim));
		loss.queue_ids = wl_g_external(g, i ? "image_queue_ids" : "text_queue_ids", WL_I64,
			WL_SHAPE(k, WL_QUEUE_IDS));
		m->loss[i] = wl_g_infonce(g, &loss, &m->accuracy[i]);
		wl_g_output(g, m->loss[i], i ? "loss_t2i" : "loss_i2t");
		wl_g_output(g, m->accuracy[i], i ? "accuracy_t2i" : "accuracy_i2t");
		wl_g_loss(g, m->loss[i], 1);
	}
	wl_g_output(g, image, "image");
	wl_g_output(g, text, "text");
	m->images = l.images;
	m->boxes = l.boxes;
	m->region_mask = l.region_mask;
	m->ids = l.ids;
	m->text_mask = l.text_mask;
}

/* The key graph: momentum towers forward. Returns D, 0 when a builder failed. */
static int64_t build_key(struct wl_moco *m, const struct wl_towers *t)
{
	struct wl_graph *g = m->key;
	struct leaves l = make_leaves(g, t, m->batch, wl_g_external);
	struct wl_shape shape;

	m->image_key = t->image(g, t->model, l.images, l.boxes, l.region_mask);
	m->text_key = t->text(g, t->model, l.ids, l.text_mask);
	wl_g_output(g, m->image_key, "image");
	wl_g_output(g, m->text_key, "text");
	shape = wl_g_shape(g, m->image_key);
	return shape.rank == 2 ? shape.dim[1] : 0;
}

int wl_moco_init(struct wl_moco *m, const struct wl_towers *towers,
	const struct wl_moco_config *config, struct wl_params *online, int64_t batch,
	uint64_t seed, struct wl_err *err)
{
	struct wl_graph_options opts = {.train = true, .compute_dtype = config->compute_dtype};
	struct wl_graph *names;
	int64_t dim;
	int ret = -1;

	*m = (struct wl_moco){.config = *config, .online = online, .batch = batch};
	WL_TRY(check(config, batch, err));
	/* The key graph is built over the online store first, only to learn its names and D: the
	 * momentum store cannot be laid out before it knows them. */
	names = wl_graph_new("names", online, &opts, err);
	if (!names)
		return -1;
	m->key = names;
	dim = build_key(m, towers);
	m->key = NULL;
	wl_graph_free(names);
	m->query = wl_graph_new("query", online, &opts, err);
	if (!m->query)
		goto out;
	build_query(m, towers, dim ? dim : 1);
	if (wl_params_clone_layout(&m->momentum, online, err) < 0)
		goto out;
	m->key = wl_graph_new("key", &m->momentum, &opts, err);
	if (!m->key)
		goto out;
	build_key(m, towers);
	m->row_ids = calloc((size_t)batch, WL_QUEUE_IDS * sizeof *m->row_ids);
	if (!m->row_ids) {
		wl_err_nomem(err, "a batch's identities", (size_t)batch * 16);
		goto out;
	}
	/* Streams of their own, so that the two queues start different. */
	if (wl_queue_init(&m->image_queue, (size_t)config->queue, (size_t)(dim ? dim : 1),
		    seed * 2 + 1, err) < 0 ||
		wl_queue_init(&m->text_queue, (size_t)config->queue, (size_t)(dim ? dim : 1),
			seed * 2 + 2, err) < 0)
		goto out;
	ret = 0;
out:
	if (ret < 0)
		wl_moco_release(m);
	return ret;
}

static void bind_all(struct wl_moco *m)
{
	static const char *const inputs[] = {"images", "boxes", "region_mask", "ids", "text_mask"};
	struct wl_graph *q = m->query, *k = m->key;
	size_t i;

	for (i = 0; i < sizeof inputs / sizeof *inputs; i++)
		if (wl_graph_find(k, inputs[i]) >= 0)
			wl_graph_bind(k, wl_graph_find(k, inputs[i]),
				wl_graph_data(q, wl_graph_find(q, inputs[i])));
	wl_graph_bind(q, wl_graph_find(q, "row_ids"), m->row_ids);
	wl_graph_bind(q, wl_graph_find(q, "image_queue"), m->image_queue.keys);
	wl_graph_bind(q, wl_graph_find(q, "text_queue"), m->text_queue.keys);
	wl_graph_bind(q, wl_graph_find(q, "image_queue_ids"), m->image_queue.ids);
	wl_graph_bind(q, wl_graph_find(q, "text_queue_ids"), m->text_queue.ids);
	if (!m->config.online_positive) {
		wl_graph_bind(q, wl_graph_find(q, "image_key"), wl_graph_data(k, m->image_key));
		wl_graph_bind(q, wl_graph_find(q, "text_key"), wl_graph_data(k, m->text_key));
	}
}

/* Copies every buffer of both stores to m->stats or, with `back`, from there; nothing unless
 * `copy`.  Returns the number of floats. */
static size_t copy_stats(struct wl_moco *m, bool copy, bool back)
{
	struct wl_params *stores[2] = {m->online, &m->momentum};
	struct wl_backend *be = m->online->backend;
	size_t at = 0, bytes;
	int s, i;

	for (s = 0; s < 2; s++)
		for (i = 0; i < stores[s]->n; i++) {
			const struct wl_param *e = &stores[s]->item[i];

			if (!(e->flags & WL_PARAM_BUFFER))
				continue;
			bytes = (size_t)e->count * sizeof(float);
			if (copy && back)
				be->upload(be, stores[s]->value + e->offset, m->stats + at, bytes);
			else if (copy)
				be->download(be, m->stats + at, stores[s]->value + e->offset,
					bytes);
			at += (size_t)e->count;
		}
	return at;
}

void wl_moco_undo_stats(struct wl_moco *m)
{
	copy_stats(m, true, true);
}

int wl_moco_start(struct wl_moco *m, struct wl_err *err)
{
	struct wl_backend *be = m->online->backend;

	size_t bytes;

	WL_TRY(wl_params_seal(&m->momentum, be, false, err));
	bytes = copy_stats(m, false, false) * sizeof(float);
	m->stats = malloc(bytes + 1);
	if (!m->stats)
		return wl_err_nomem(err, "running statistics", bytes);
	WL_TRY(wl_graph_compile(m->query, be, err));
	WL_TRY(wl_graph_compile(m->key, be, err));
	bind_all(m);
	return 0;
}

/* Reads, and with `set` first writes, the one float of the log scale. */
static float scale_value(const struct wl_moco *m, const float *set)
{
	struct wl_params *p = m->online;
	float *at = p->value + p->item[wl_params_find(p, WL_MOCO_SCALE)].offset, v;

	if (set)
		p->backend->upload(p->backend, at, set, sizeof v);
	p->backend->download(p->backend, &v, at, sizeof v);
	return v;
}

void wl_moco_copy(struct wl_moco *m)
{
	float v = (float)-log(m->config.tau);

	scale_value(m, &v);
	wl_params_copy_values(&m->momentum, m->online);
}

double wl_moco_tau(const struct wl_moco *m)
{
	return exp(-(double)scale_value(m, NULL));
}

void wl_moco_clamp_tau(struct wl_moco *m)
{
	float most = (float)-log(tau_min);

	if (m->config.learn_tau && scale_value(m, NULL) > most)
		scale_value(m, &most);
}

void wl_moco_release(struct wl_moco *m)
{
	if (!m)
		return;
	wl_graph_free(m->key);
	wl_graph_free(m->query);
	wl_params_release(&m->momentum);
	wl_queue_release(&m->image_queue);
	wl_queue_release(&m->text_queue);
	free(m->row_ids);
	free(m->stats);
	*m = (struct wl_moco){0};
}

static void fill(struct wl_moco *m, wl_tid t, const void *host, size_t element)
{
	struct wl_shape s = wl_g_shape(m->query, t);
	struct wl_backend *be = m->online->backend;

	be->upload(be, wl_graph_data(m->query, t), host, (size_t)wl_shape_count(&s) * element);
}

static void fill_batch(struct wl_moco *m, const struct wl_moco_batch *b)
{
	int64_t i;

	fill(m, m->images, b->images, sizeof *b->images);
	fill(m, m->boxes, b->boxes, sizeof *b->boxes);
	fill(m, m->region_mask, b->region_mask, sizeof *b->region_mask);
	fill(m, m->ids, b->ids, sizeof *b->ids);
	fill(m, m->text_mask, b->text_mask, sizeof *b->text_mask);
	for (i = 0; i < m->batch; i++) { /* 0 means nobody */
		m->row_ids[2 * i] = b->pair_ids[i] ? b->pair_ids[i] : 1;
		m->row_ids[2 * i + 1] = b->text_hash[i] ? (int64_t)b->text_hash[i] : 1;
	}
}

static double scalar(const struct wl_moco *m, wl_tid t)
{
	struct wl_backend *be = m->online->backend;
	float v;

	be->download(be, &v, wl_graph_data(m->query, t), sizeof v);
	return v;
}

int wl_moco_step(struct wl_moco *m, const struct wl_moco_batch *b, uint64_t seed,
	uint64_t step, struct wl_moco_result *out, struct wl_err *err)
{
	fill_batch(m, b);
	copy_stats(m, true, false);
	wl_params_ema(&m->momentum, m->online, (float)m->config.momentum);
	WL_TRY(wl_graph_run(m->key, seed, step, err));
	wl_params_zero_grad(m->online);
	WL_TRY(wl_graph_run(m->query, seed, step, err));
	out->loss_i2t = scalar(m, m->loss[0]);
	out->loss_t2i = scalar(m, m->loss[1]);
	out->loss = out->loss_i2t + out->loss_t2i;
	out->acc_i2t = scalar(m, m->accuracy[0]);
	out->acc_t2i = scalar(m, m->accuracy[1]);
	return 0;
}

void wl_moco_push(struct wl_moco *m)
{
	size_t n = (size_t)m->batch;

	wl_queue_push(&m->image_queue, wl_graph_data(m->key, m->image_key), m->row_ids, n);
	wl_queue_push(&m->text_queue, wl_graph_data(m->key, m->text_key), m->row_ids, n);
}
