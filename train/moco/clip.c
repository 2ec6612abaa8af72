/*
 * CLIP: see moco.h.  The towers' graph gives embeddings and takes their
 * gradients (seeds); a small second graph holds the losses over the embeddings
 * of all ranks, so that ranks can exchange between the two.
 *
 * With W ranks of B pairs the objective is the mean over ranks of the local
 * losses, and parameters' gradients are averaged over ranks by whoever trains.
 * So a rank's embedding gets the sum over ranks of what their losses say of it
 * as a key, and what its own says of it as a query.
 */
#include "train/moco/internal.h"


/* Both losses: each modality's queries of this rank against all keys of the other. */
static void build_losses(struct wl_moco *m)
{
	static const char *const query_name[2] = {"image_query", "text_query"};
	static const char *const key_name[2] = {"image_all", "text_all"};
	struct wl_graph *g = m->loss;
	int64_t all = m->batch * wl_comm_size(m->config.comm);
	struct wl_infonce loss = {
		.log_scale = wl_moco_scale_param(g, &m->config),
		.row_ids = wl_g_external(g, "row_ids", WL_I64, WL_SHAPE(all, WL_QUEUE_IDS)),
		.in_batch = true,
		.first = m->batch * wl_comm_rank(m->config.comm),
	};
	wl_tid query[2], key[2];
	int i;

	for (i = 0; i < 2; i++) {
		query[i] = wl_g_external(g, query_name[i], WL_F32, WL_SHAPE(m->batch, m->dim));
		key[i] = wl_g_external(g, key_name[i], WL_F32, WL_SHAPE(all, m->dim));
		wl_g_want_grad(g, query[i]);
		wl_g_want_grad(g, key[i]);
	}
	for (i = 0; i < 2; i++) {
		loss.query = query[i];
		loss.key = key[!i];
		m->loss_of[i] = wl_g_infonce(g, &loss, &m->accuracy[i]);
		wl_g_output(g, m->loss_of[i], i ? "loss_t2i" : "loss_i2t");
		wl_g_output(g, m->accuracy[i], i ? "accuracy_t2i" : "accuracy_i2t");
		wl_moco_seed_loss(m, g, m->loss_of[i], 0.5f);
	}
}

int wl_clip_init(struct wl_moco *m, struct wl_err *err)
{
	struct wl_graph_options opts = {.train = true, .no_wait = true};
	struct wl_shape part = WL_SHAPE(m->part, m->dim);

	wl_g_seed(m->query, m->image, wl_g_external(m->query, "image_grad", WL_F32, part));
	wl_g_seed(m->query, m->text, wl_g_external(m->query, "text_grad", WL_F32, part));
	m->loss = wl_graph_new("loss", m->online, &opts, err);
	if (!m->loss)
		return -1;
	build_losses(m);
	return 0;
}

int wl_clip_start(struct wl_moco *m, struct wl_err *err)
{
	struct wl_backend *be = m->online->backend;
	size_t own = (size_t)(m->batch * m->dim), at = own * (size_t)wl_comm_rank(m->config.comm);
	size_t world = (size_t)wl_comm_size(m->config.comm), bytes = own * sizeof(float);
	size_t part = (size_t)(m->part * m->dim) * sizeof(float);
	const struct wl_moco_room v[] = {
		{(void **)&m->image_keys, world * bytes},
		{(void **)&m->text_keys, world * bytes},
		{(void **)&m->image_grad, bytes},
		{(void **)&m->text_grad, bytes},
		{(void **)&m->part_grad, m->config.accumulate > 1 ? 2 * part : 0},
		/* all ranks', and this one's to gather from */
		{(void **)&m->row_ids,
			(world + 1) * (size_t)m->batch * WL_QUEUE_IDS * sizeof *m->row_ids},
	};

	WL_TRY(wl_moco_alloc(m, v, sizeof v / sizeof *v, err));
	WL_TRY(wl_graph_compile(m->loss, be, err));
	wl_graph_bind(m->loss, wl_graph_find(m->loss, "row_ids"), m->row_ids);
	wl_graph_bind(m->loss, wl_graph_find(m->loss, "image_all"), m->image_keys);
	wl_graph_bind(m->loss, wl_graph_find(m->loss, "text_all"), m->text_keys);
	wl_graph_bind(m->loss, wl_graph_find(m->loss, "image_query"), m->image_keys + at);
	wl_graph_bind(m->loss, wl_graph_find(m->loss, "text_query"), m->text_keys + at);
	wl_graph_bind(m->query, wl_graph_find(m->query, "image_grad"),
		m->part_grad ? m->part_grad : m->image_grad);
	wl_graph_bind(m->query, wl_graph_find(m->query, "text_grad"),
		m->part_grad ? m->part_grad + m->part * m->dim : m->text_grad);
	wl_graph_record(m->loss, m->config.record);
	return 0;
}

/* A part's embeddings into this rank's rows of the keys. */
static int embed(struct wl_moco *m, const struct wl_moco_batch *b, int64_t p, uint64_t seed,
	uint64_t step, struct wl_err *err)
{
	struct wl_backend *be = m->online->backend;
	const size_t n = (size_t)(m->part * m->dim);
	size_t at = (size_t)m->batch * (size_t)m->dim * (size_t)wl_comm_rank(m->config.comm) +
		(size_t)p * n;

	wl_moco_fill(m, b, p);
	WL_TRY(wl_graph_forward(m->query, seed, step, err));
	be->copy(be, m->image_keys + at, 0, wl_graph_data(m->query, m->image), 0,
		n * sizeof(float), 1);
	be->copy(be, m->text_keys + at, 0, wl_graph_data(m->query, m->text), 0,
		n * sizeof(float), 1);
	return 0;
}

/* Embeddings and identities of all ranks.  A rank's own rows are gathered from a copy, since the
 * collective wants its input apart from its output. */
static int gather(struct wl_moco *m, struct wl_err *err)
{
	struct wl_backend *be = m->online->backend;
	size_t rank = (size_t)wl_comm_rank(m->config.comm), n = (size_t)(m->batch * m->dim);
	size_t ids = (size_t)m->batch * WL_QUEUE_IDS, bytes = n * sizeof(float);
	int64_t *own = m->row_ids + ids * (size_t)wl_comm_size(m->config.comm);

	if (wl_comm_size(m->config.comm) == 1)
		return 0;
	be->copy(be, m->image_grad, 0, m->image_keys + rank * n, 0, bytes, 1);
	be->copy(be, m->text_grad, 0, m->text_keys + rank * n, 0, bytes, 1);
	be->copy(be, own, 0, m->row_ids + rank * ids, 0, ids * sizeof *own, 1);
	WL_TRY(wl_moco_gather(m, m->image_grad, bytes, m->image_keys, err));
	WL_TRY(wl_moco_gather(m, m->text_grad, bytes, m->text_keys, err));
	return wl_moco_gather(m, own, ids * sizeof *own, m->row_ids, err);
}

/* The sum over the ranks of what their losses say of this rank's embeddings as keys. */
static int scatter(struct wl_moco *m, float *key, float *to, struct wl_err *err)
{
	size_t n = (size_t)(m->batch * m->dim);

	if (m->config.dist)
		return wl_dist_scatter(m->config.dist, key, to, n, err);
	return wl_comm_reduce_scatter(m->config.comm, key, to, n, WL_COMM_F32, err);
}

/* The gradient by this rank's embeddings: as queries here, as keys everywhere. */
static int gradient_of(struct wl_moco *m, bool text, struct wl_err *err)
{
	struct wl_backend *be = m->online->backend;
	float *to = text ? m->text_grad : m->image_grad;
	const float *query = wl_graph_grad(m->loss,
		wl_graph_find(m->loss, text ? "text_query" : "image_query"));
	float *key = wl_graph_grad(m->loss,
		wl_graph_find(m->loss, text ? "text_all" : "image_all"));

	if (wl_comm_size(m->config.comm) == 1)
		be->copy(be, to, 0, key, 0, (size_t)(m->batch * m->dim) * sizeof *to, 1);
	else
		WL_TRY(scatter(m, key, to, err));
	be->add(be, to, query, m->batch * m->dim);
	return 0;
}

/* Backward of part p, whose forward is run again where it is not the last that ran. */
static int part_bwd(struct wl_moco *m, const struct wl_moco_batch *b, int64_t p, uint64_t seed,
	uint64_t step, struct wl_err *err)
{
	const size_t n = (size_t)(m->part * m->dim), at = (size_t)p * n, bytes = n * sizeof(float);
	struct wl_backend *be = m->online->backend;

	if (m->part_grad) {
		wl_moco_fill(m, b, p);
		WL_TRY(wl_graph_forward(m->query, seed, step, err));
		/* At one place, for recordings. */
		be->copy(be, m->part_grad, 0, m->image_grad + at, 0, bytes, 1);
		be->copy(be, m->part_grad + n, 0, m->text_grad + at, 0, bytes, 1);
	}
	wl_moco_part(m, p);
	return wl_graph_backward(m->query, err);
}

int wl_clip_step(struct wl_moco *m, const struct wl_moco_batch *b, uint64_t seed, uint64_t step,
	struct wl_moco_result *out, struct wl_err *err)
{
	const uint64_t parts = (uint64_t)m->config.accumulate;
	uint64_t p;

	wl_moco_fill_ids(m, b, m->row_ids +
		m->batch * WL_QUEUE_IDS * wl_comm_rank(m->config.comm));
	for (p = 0; p < parts; p++)
		WL_TRY(embed(m, b, (int64_t)p, seed, step * parts + p, err));
	WL_TRY(gather(m, err));
	wl_params_zero_grad(m->online);
	wl_moco_fill_seed(m, m->loss);
	/* It draws nothing: the last part's number is at hand on a device. */
	WL_TRY(wl_graph_run(m->loss, seed, step * parts + parts - 1, err));
	WL_TRY(gradient_of(m, false, err));
	WL_TRY(gradient_of(m, true, err));
	if (parts > 1)
		wl_moco_back_stats(m); /* the second pass moves them again, to the same */
	for (p = 0; p < parts; p++)
		WL_TRY(part_bwd(m, b, (int64_t)p, seed, step * parts + p, err));
	wl_moco_score(m, m->loss, 0);
	return wl_moco_read_scores(m, 1, out, err);
}
