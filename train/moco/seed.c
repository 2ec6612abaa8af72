/* Where backward starts: at the losses, by their weight and, in fp16, the loss scale. */
#include "train/moco/internal.h"

void wl_moco_seed_loss(struct wl_moco *m, struct wl_graph *g, wl_tid loss, float weight)
{
	if (!m->config.scaled) {
		wl_g_loss(g, loss, weight);
		return;
	}
	if (m->loss_seed == WL_NONE)
		m->loss_seed = wl_g_input(g, "loss_scale", WL_F32, WL_SHAPE(1));
	m->loss_weight = weight;
	wl_g_seed(g, loss, m->loss_seed);
}

void wl_moco_fill_seed(struct wl_moco *m, struct wl_graph *g)
{
	float v = (float)(m->loss_scale * (double)m->loss_weight);
	struct wl_backend *be = m->online->backend;

	if (m->config.scaled && m->judge)
		be->judges->seed(m->judge, (double)m->loss_weight, wl_graph_data(g, m->loss_seed));
	else if (m->config.scaled)
		be->send(be, wl_graph_data(g, m->loss_seed), &v, sizeof v);
}
