/*
 * The objectives' common part and MoCo's step: see moco.h; CLIP's is in clip.c.
 * The key graph reads the query graph's inputs and the query graph reads the key
 * graph's outputs in place; queues and identities are bound once.  So a step copies the batch in
 * and nothing else.
 */
#include "train/moco/moco.h"

#include "train/moco/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int check(const struct wl_moco_config *c, int64_t batch, struct wl_err *err)
{
	bool moco = c->objective == WL_OBJECTIVE_MOCO;

	if (c->accumulate < 0 || (c->accumulate && batch % c->accumulate))
		return wl_err_set(err, WL_EUSAGE, "data.accumulate is %lld, and data.batch %lld: "
			"expected a divisor of the batch", (long long)c->accumulate,
			(long long)batch);
	if (!moco && batch * wl_comm_size(c->comm) < 2)
		return wl_err_set(err, WL_EUSAGE, "objective clip needs at least 2 pairs a step: "
			"the others of the batch are its only negatives");
	if (moco && (c->extra_positives < 0 || c->extra_positives > WL_TOP_MAX ||
			c->extra_positives > c->queue))
		return wl_err_set(err, WL_EUSAGE, "moco.extra-positives is %lld: expected 0 to %d, "
			"and no more than moco.queue (%lld)", (long long)c->extra_positives,
			WL_TOP_MAX, (long long)c->queue);
	if (moco && !(c->momentum >= 0 && c->momentum <= 1))
		return wl_err_set(err, WL_EUSAGE, "moco.momentum is %g: expected a number in [0, "
			"1]",
			c->momentum);
	if (!(c->tau >= WL_TAU_MIN && c->tau <= 10))
		return wl_err_set(err, WL_EUSAGE, "moco.tau is %g: expected a temperature in "
			"[%g, 10]", c->tau, WL_TAU_MIN);
	if ((moco && c->queue < 1) || batch < 1)
		return wl_err_set(err, WL_EUSAGE, "moco.queue is %lld and data.batch %lld: "
			"expected both to be at least 1", (long long)c->queue, (long long)batch);
	return 0;
}

/* The inputs of a part as graph leaves; kind: wl_g_input or wl_g_external. */
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

/* The online towers over a part. */
static void build_towers(struct wl_moco *m, const struct wl_towers *t)
{
	struct wl_graph *g = m->query;
	struct leaves l = make_leaves(g, t, m->part, wl_g_input);

	wl_g_section(g, WL_SECTION_IMAGE);
	m->image = t->image(g, t->model, l.images, l.boxes, l.region_mask);
	wl_g_section(g, WL_SECTION_TEXT);
	m->text = t->text(g, t->model, l.ids, l.text_mask);
	wl_g_section(g, WL_SECTION_REST);
	m->images = l.images;
	m->boxes = l.boxes;
	m->region_mask = l.region_mask;
	m->ids = l.ids;
	m->text_mask = l.text_mask;
	wl_g_output(g, m->image, "image");
	wl_g_output(g, m->text, "text");
}

wl_tid wl_moco_scale_param(struct wl_graph *g, const struct wl_moco_config *c)
{
	return wl_g_param(g, WL_MOCO_SCALE, WL_LAYOUT_PLAIN, WL_SHAPE(1),
		c->learn_tau ? WL_PARAM_GAIN : 0);
}

/* What MoCo adds to the query graph: both losses over a part, backward. */
static void build_losses(struct wl_moco *m)
{
	struct wl_graph *g = m->query;
	int64_t k = m->config.queue;
	int64_t b = wl_moco_all_negatives(m) ? m->batch * wl_comm_size(m->config.comm) : m->part;
	struct wl_infonce loss = {
		.first = wl_moco_all_negatives(m) ? m->batch * wl_comm_rank(m->config.comm) : 0,
		.log_scale = wl_moco_scale_param(g, &m->config),
		.row_ids = wl_g_external(g, "row_ids", WL_I64, WL_SHAPE(b, WL_QUEUE_IDS)),
		.in_batch = m->config.in_batch,
	};
	wl_tid key[2], queue[2], ids[2]; /* of texts, of images */
	int i;

	for (i = 0; i < 2; i++) {
		key[i] = wl_g_external(g, i ? "image_key" : "text_key", WL_F32,
			WL_SHAPE(b, m->dim));
		queue[i] = wl_g_external(g, i ? "image_queue" : "text_queue", m->config.queue_dtype,
			WL_SHAPE(k, m->dim));
		ids[i] = wl_g_external(g, i ? "image_queue_ids" : "text_queue_ids", WL_I64,
			WL_SHAPE(k, WL_QUEUE_IDS));
	}
	if (m->config.extra_positives)
		loss.extra = wl_g_both_near(g, key[0], queue[0], key[1], queue[1],
			m->config.extra_positives);
	for (i = 0; i < 2; i++) {
		loss.query = i ? m->text : m->image;
		loss.key = !m->config.online_positive ? key[i] : i ? m->image : m->text;
		loss.queue = queue[i];
		loss.queue_ids = ids[i];
		m->loss_of[i] = wl_g_infonce(g, &loss, &m->accuracy[i]);
		wl_g_output(g, m->loss_of[i], i ? "loss_t2i" : "loss_i2t");
		wl_g_output(g, m->accuracy[i], i ? "accuracy_t2i" : "accuracy_i2t");
		wl_moco_seed_loss(m, g, m->loss_of[i], (float)m->part / (float)m->batch);
	}
}

/* The key graph: momentum towers forward. Returns D, 0 when a builder failed. */
static int64_t build_key(struct wl_moco *m, const struct wl_towers *t)
{
	struct wl_graph *g = m->key;
	struct leaves l = make_leaves(g, t, m->part, wl_g_external);
	struct wl_shape shape;

	wl_g_section(g, WL_SECTION_IMAGE);
	m->image_key = t->image(g, t->model, l.images, l.boxes, l.region_mask);
	wl_g_section(g, WL_SECTION_TEXT);
	m->text_key = t->text(g, t->model, l.ids, l.text_mask);
	wl_g_output(g, m->image_key, "image");
	wl_g_output(g, m->text_key, "text");
	shape = wl_g_shape(g, m->image_key);
	return shape.rank == 2 ? shape.dim[1] : 0;
}

/* D: the key graph is built over the online store first, only to learn its names and D; the
 * momentum store cannot be laid out before it knows them. */
static int learn_names(struct wl_moco *m, const struct wl_towers *towers,
	const struct wl_graph_options *opts, struct wl_err *err)
{
	struct wl_graph *names = wl_graph_new("names", m->online, opts, err);
	int64_t dim;

	if (!names)
		return -1;
	m->key = names;
	dim = build_key(m, towers);
	m->key = NULL;
	wl_graph_free(names);
	m->dim = dim ? dim : 1; /* 0: the query graph's compile says why */
	return 0;
}

static int init_moco(struct wl_moco *m, const struct wl_towers *towers,
	const struct wl_graph_options *opts, uint64_t seed, struct wl_err *err)
{
	const size_t k = (size_t)m->config.queue, d = (size_t)m->dim;

	build_losses(m);
	WL_TRY(wl_params_clone_layout(&m->momentum, m->online, err));
	m->key = wl_graph_new("key", &m->momentum, opts, err);
	if (!m->key)
		return -1;
	build_key(m, towers);
	/* Streams of their own, so that the two queues start different. */
	WL_TRY(wl_queue_init(&m->image_queue, k, d, seed * 2 + 1, err));
	WL_TRY(wl_queue_init(&m->text_queue, k, d, seed * 2 + 2, err));
	if (m->config.queue_dtype == WL_F32)
		return 0;
	WL_TRY(wl_queue_narrow(&m->image_queue, err));
	return wl_queue_narrow(&m->text_queue, err);
}

bool wl_moco_has_keys(const struct wl_moco *m)
{
	return m->config.objective == WL_OBJECTIVE_MOCO;
}

int wl_moco_init(struct wl_moco *m, const struct wl_towers *towers,
	const struct wl_moco_config *config, struct wl_params *online, int64_t batch,
	uint64_t seed, struct wl_err *err)
{
	struct wl_graph_options opts = {.train = true, .compute_dtype = config->compute_dtype,
		.recompute = config->recompute, .no_wait = true};
	int ret = -1;

	*m = (struct wl_moco){.config = *config, .online = online, .batch = batch};
	WL_TRY(check(config, batch, err));
	if (!m->config.accumulate)
		m->config.accumulate = 1;
	m->part = batch / m->config.accumulate;
	WL_TRY(learn_names(m, towers, &opts, err));
	m->query = wl_graph_new("query", online, &opts, err);
	if (!m->query)
		goto out;
	build_towers(m, towers);
	m->host_ids = calloc((size_t)m->batch, WL_QUEUE_IDS * sizeof *m->host_ids);
	if (!m->host_ids)
		wl_err_nomem(err, "a batch's identities", (size_t)m->batch * 16);
	else
		ret = wl_moco_has_keys(m) ? init_moco(m, towers, &opts, seed, err)
					  : wl_clip_init(m, err);
out:
	if (ret < 0)
		wl_moco_release(m);
	return ret;
}

/* The key graph reads the query graph's inputs in place, and the query graph its outputs. */
static void bind_all(struct wl_moco *m)
{
	static const char *const inputs[] = {"images", "boxes", "region_mask", "ids", "text_mask"};
	struct wl_graph *q = m->query, *k = m->key;
	size_t i;

	for (i = 0; i < sizeof inputs / sizeof *inputs; i++)
		if (wl_graph_find(k, inputs[i]) >= 0)
			wl_graph_bind(k, wl_graph_find(k, inputs[i]),
				wl_graph_data(q, wl_graph_find(q, inputs[i])));
	wl_graph_bind(q, wl_graph_find(q, "row_ids"),
		wl_moco_all_negatives(m) ? m->peer_ids :
		m->part_ids ? m->part_ids : m->row_ids);
	wl_graph_bind(q, wl_graph_find(q, "image_queue"), wl_queue_rows(&m->image_queue));
	wl_graph_bind(q, wl_graph_find(q, "text_queue"), wl_queue_rows(&m->text_queue));
	wl_graph_bind(q, wl_graph_find(q, "image_queue_ids"), m->image_queue.ids);
	wl_graph_bind(q, wl_graph_find(q, "text_queue_ids"), m->text_queue.ids);
	wl_graph_bind(q, wl_graph_find(q, "image_key"),
		wl_moco_all_negatives(m) ? m->peer_image : wl_graph_data(k, m->image_key));
	wl_graph_bind(q, wl_graph_find(q, "text_key"),
		wl_moco_all_negatives(m) ? m->peer_text : wl_graph_data(k, m->text_key));
}

int wl_moco_alloc(const struct wl_moco *m, const struct wl_moco_room *v, size_t n,
	struct wl_err *err)
{
	struct wl_backend *be = m->online->backend;

	for (size_t i = 0; i < n; i++)
		if (v[i].bytes && !(*v[i].at = be->alloc(be, v[i].bytes, err)))
			return -1;
	return 0;
}

/* MoCo's own memory. */
static int make_room(struct wl_moco *m, struct wl_err *err)
{
	size_t row = (size_t)m->dim * sizeof(float), id = WL_QUEUE_IDS * sizeof *m->row_ids;
	size_t n = (size_t)m->batch, world = (size_t)wl_comm_size(m->config.comm);
	size_t all = world > 1 ? n * world : 0;
	const struct wl_moco_room v[] = {
		{(void **)&m->row_ids, n * id},
		{(void **)&m->part_ids, m->config.accumulate > 1 ? (size_t)m->part * id : 0},
		{(void **)&m->image_keys, n * row},
		{(void **)&m->text_keys, n * row},
		{(void **)&m->peer_image, all * row},
		{(void **)&m->peer_text, all * row},
		{(void **)&m->mixed, all * row},
		{(void **)&m->peer_ids, all * id},
		{(void **)&m->mixed_ids, all * id},
	};

	return wl_moco_alloc(m, v, sizeof v / sizeof *v, err);
}

int wl_moco_start(struct wl_moco *m, struct wl_err *err)
{
	struct wl_backend *be = m->online->backend;
	size_t stats = (size_t)(m->online->floats - m->online->weights) * sizeof(float);
	const struct wl_moco_room v[] = {
		{(void **)&m->stats, stats * (wl_moco_has_keys(m) ? 2 : 1)},
		{(void **)&m->scores, (size_t)m->config.accumulate * 4 * sizeof(float)},
	};

	m->momentum.value_parts = wl_dist_stage(m->config.dist) > 0 && be->reserve;
	if (wl_moco_has_keys(m))
		WL_TRY(wl_params_seal(&m->momentum, be, false, err));
	WL_TRY(wl_moco_alloc(m, v, sizeof v / sizeof *v, err));
	wl_graph_store_for(m->query, be);
	WL_TRY(wl_graph_compile(m->query, be, err));
	wl_graph_record(m->query, m->config.record);
	if (!wl_moco_has_keys(m))
		return wl_clip_start(m, err);
	wl_graph_store_for(m->key, be);
	WL_TRY(wl_graph_compile(m->key, be, err));
	WL_TRY(make_room(m, err));
	WL_TRY(wl_queue_move(&m->image_queue, be, err));
	WL_TRY(wl_queue_move(&m->text_queue, be, err));
	bind_all(m);
	wl_graph_record(m->key, m->config.record);
	return 0;
}

/* Calls fn for each part of the weights whose momentum this rank keeps. */
static void each_owned(struct wl_moco *m, void (*fn)(struct wl_moco *m, int64_t at, int64_t n))
{
	const struct wl_cut *cut =
		wl_dist_stage(m->config.dist) ? wl_dist_cut(m->config.dist) : NULL;
	int64_t all = m->online->weights;
	struct wl_span s;

	for (s = wl_cut_next(cut, 0, all); s.begin < s.end; s = wl_cut_next(cut, s.end, all))
		fn(m, s.begin, s.end - s.begin);
}

static void copy_part(struct wl_moco *m, int64_t at, int64_t n)
{
	struct wl_backend *be = m->online->backend;

	be->copy(be, m->momentum.value + at, 0, m->online->value + at, 0,
		(size_t)n * sizeof(float), 1);
}

static void average_part(struct wl_moco *m, int64_t at, int64_t n)
{
	struct wl_backend *be = m->online->backend;

	be->ema(be, m->momentum.value + at, m->online->value + at, n, (float)m->config.momentum);
}

void wl_moco_copy(struct wl_moco *m)
{
	struct wl_backend *be = m->online->backend;
	float v = (float)-log(m->config.tau);

	wl_moco_scale_value(m, &v);
	if (!wl_moco_has_keys(m))
		return;
	if (wl_dist_stage(m->config.dist) == 0) {
		wl_params_copy_values(&m->momentum, m->online);
		return;
	}
	each_owned(m, copy_part);
	be->copy(be, m->momentum.value + m->momentum.weights, 0,
		m->online->value + m->online->weights, 0,
		(size_t)(m->online->floats - m->online->weights) * sizeof(float), 1);
}

void wl_moco_release(struct wl_moco *m)
{
	if (!m)
		return;
	void *owned[] = {m->image_keys, m->text_keys, m->image_grad, m->text_grad, m->part_grad,
		m->peer_image, m->peer_text, m->mixed, m->row_ids, m->part_ids, m->peer_ids,
		m->mixed_ids, m->stats, m->scores};

	for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
		if (owned[i])
			m->online->backend->free_mem(m->online->backend, owned[i]);
	wl_graph_free(m->key);
	wl_graph_free(m->query);
	wl_graph_free(m->loss);
	wl_params_release(&m->momentum);
	wl_queue_release(&m->image_queue);
	wl_queue_release(&m->text_queue);
	free(m->host_ids);
	*m = (struct wl_moco){0};
}

/* Rows [part p) of a host array into the input t. */
static void fill(struct wl_moco *m, wl_tid t, const void *host, size_t element, int64_t p)
{
	struct wl_shape s = wl_g_shape(m->query, t);
	struct wl_backend *be = m->online->backend;
	size_t bytes = (size_t)wl_shape_count(&s) * element;

	be->send(be, wl_graph_data(m->query, t), (const char *)host + (size_t)p * bytes, bytes);
}

void wl_moco_fill(struct wl_moco *m, const struct wl_moco_batch *b, int64_t p)
{
	fill(m, m->images, b->images, sizeof *b->images, p);
	fill(m, m->boxes, b->boxes, sizeof *b->boxes, p);
	fill(m, m->region_mask, b->region_mask, sizeof *b->region_mask, p);
	fill(m, m->ids, b->ids, sizeof *b->ids, p);
	fill(m, m->text_mask, b->text_mask, sizeof *b->text_mask, p);
}

void wl_moco_fill_ids(struct wl_moco *m, const struct wl_moco_batch *b, int64_t *ids)
{
	struct wl_backend *be = m->online->backend;
	int64_t *v = m->host_ids, i;

	for (i = 0; i < m->batch; i++) { /* 0 means nobody */
		v[2 * i] = b->pair_ids[i] ? b->pair_ids[i] : 1;
		v[2 * i + 1] = b->text_hash[i] ? (int64_t)b->text_hash[i] : 1;
	}
	be->send(be, ids, v, (size_t)m->batch * WL_QUEUE_IDS * sizeof *ids);
}

void wl_moco_score(const struct wl_moco *m, struct wl_graph *g, int64_t p)
{
	const wl_tid from[4] = {m->loss_of[0], m->loss_of[1], m->accuracy[0], m->accuracy[1]};
	struct wl_backend *be = m->online->backend;

	for (int i = 0; i < 4; i++)
		be->copy(be, m->scores + 4 * p + i, 0, wl_graph_data(g, from[i]), 0,
			sizeof *m->scores, 1);
}

double wl_moco_loss_weight(const struct wl_moco *m)
{
	return wl_moco_has_keys(m) ? 1 : 0.5;
}

int wl_moco_read_scores(const struct wl_moco *m, int64_t parts, struct wl_moco_result *r,
	struct wl_err *err)
{
	double *to[4] = {&r->loss_i2t, &r->loss_t2i, &r->acc_i2t, &r->acc_t2i};
	struct wl_backend *be = m->online->backend;
	float v[4];

	if (m->judge)
		return 0;
	for (int64_t p = 0; p < parts; p++) {
		be->download(be, v, m->scores + 4 * p, sizeof v);
		for (int i = 0; i < 4; i++)
			*to[i] += 1 / (double)parts * (double)v[i];
	}
	WL_TRY(be->sync(be, err));
	r->loss = wl_moco_loss_weight(m) * (r->loss_i2t + r->loss_t2i);
	return 0;
}

int wl_moco_gather(const struct wl_moco *m, const void *from, size_t bytes, void *to,
	struct wl_err *err)
{
	return m->config.dist ? wl_dist_gather(m->config.dist, from, bytes, to, err)
			      : wl_comm_all_gather(m->config.comm, from, bytes, to, err);
}

void wl_moco_part(struct wl_moco *m, int64_t p)
{
	if (!m->config.dist)
		return;
	wl_dist_part(m->config.dist, p, m->config.accumulate);
	wl_graph_variant(m->query, wl_dist_variant(m->config.dist));
}

/* A part's keys, then its losses and gradients. */
static int step_part(struct wl_moco *m, const struct wl_moco_batch *b, int64_t p, uint64_t seed,
	uint64_t step, struct wl_err *err)
{
	struct wl_backend *be = m->online->backend;
	const size_t n = (size_t)(m->part * m->dim);

	wl_moco_fill(m, b, p);
	WL_TRY(wl_graph_run(m->key, seed, step, err));
	be->copy(be, m->image_keys + (size_t)p * n, 0, wl_graph_data(m->key, m->image_key), 0,
		n * sizeof(float), 1);
	be->copy(be, m->text_keys + (size_t)p * n, 0, wl_graph_data(m->key, m->text_key), 0,
		n * sizeof(float), 1);
	if (wl_moco_all_negatives(m))
		WL_TRY(wl_moco_gather_keys(m, err));
	if (m->part_ids) /* at one place, for recordings */
		be->copy(be, m->part_ids, 0, m->row_ids + p * m->part * WL_QUEUE_IDS, 0,
			(size_t)m->part * WL_QUEUE_IDS * sizeof *m->part_ids, 1);
	wl_moco_fill_seed(m, m->query);
	return wl_graph_run(m->query, seed, step, err);
}

static int moco_step(struct wl_moco *m, const struct wl_moco_batch *b, uint64_t seed,
	uint64_t step, struct wl_moco_result *out, struct wl_err *err)
{
	const int64_t parts = m->config.accumulate;
	int64_t p;

	wl_moco_fill_ids(m, b, m->row_ids);
	if (!m->followed) {
		m->online->backend->hold(m->online->backend);
		each_owned(m, average_part);
	}
	m->followed = false;
	wl_params_zero_grad(m->online);
	for (p = 0; p < parts; p++) {
		wl_moco_part(m, p);
		WL_TRY(step_part(m, b, p, seed, step * (uint64_t)parts + (uint64_t)p, err));
		wl_moco_score(m, m->query, p);
	}
	return wl_moco_read_scores(m, parts, out, err);
}

int wl_moco_step(struct wl_moco *m, const struct wl_moco_batch *b, uint64_t seed,
	uint64_t step, struct wl_moco_result *out, struct wl_err *err)
{
	*out = (struct wl_moco_result){0};
	wl_moco_keep_stats(m);
	return wl_moco_has_keys(m) ? moco_step(m, b, seed, step, out, err)
				   : wl_clip_step(m, b, seed, step, out, err);
}
