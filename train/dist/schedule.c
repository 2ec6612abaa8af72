/* First and last uses: see schedule.h. */
#include "train/dist/schedule.h"

#include <stdlib.h>

/* Of each bucket: operations that touch it first and last, in one phase; -1: none does. */
struct use {
	int first, last, grad_first, grad;
};

struct walk {
	const struct wl_params *store;
	const struct wl_cut *cut;
	struct use *uses;
	int op;
};

static void touch(void *ctx, int index, bool grad)
{
	struct walk *w = ctx;
	const struct wl_param *e = &w->store->item[index];

	if (e->flags & WL_PARAM_BUFFER)
		return;
	for (int b = wl_cut_at(w->cut, e->offset);
		b <= wl_cut_at(w->cut, e->offset + e->count - 1); b++) {
		struct use *u = &w->uses[b];

		if (grad) {
			if (u->grad_first < 0)
				u->grad_first = w->op;
			u->grad = w->op;
			continue;
		}
		if (u->first < 0)
			u->first = w->op;
		u->last = w->op;
	}
}

static int by_op(const void *a, const void *b)
{
	const struct wl_event *x = a, *y = b;

	return x->op != y->op ? (x->op < y->op ? -1 : 1) : x->bucket - y->bucket;
}

static void sort(struct wl_event *v, int n)
{
	if (n)
		qsort(v, (size_t)n, sizeof *v, by_op);
}

/* Operations [from, to) as one phase. */
static void phase(struct wl_schedule_of_buckets *s, const struct wl_graph *g, struct walk *w,
	int from, int to)
{
	for (int b = 0; b < w->cut->n; b++)
		w->uses[b] = (struct use){-1, -1, -1, -1};
	for (w->op = from; w->op < to; w->op++)
		wl_graph_op_params(g, w->op, touch, w);
	for (int b = 0; b < w->cut->n; b++) {
		const struct use *u = &w->uses[b];

		if (u->first >= 0) {
			s->come[s->n_come++] = (struct wl_event){u->first, b};
			s->go[s->n_go++] = (struct wl_event){u->last, b};
		}
		if (u->grad >= 0)
			s->begin[s->n_begin++] = (struct wl_event){u->grad_first, b};
		if (u->grad >= 0)
			s->ready[s->n_ready++] = (struct wl_event){u->grad, b};
	}
}

int wl_schedule_make(struct wl_schedule_of_buckets *s, const struct wl_graph *g,
	const struct wl_params *store, const struct wl_cut *cut, bool once, struct wl_err *err)
{
	int forward, ops = wl_graph_ops(g, &forward);
	size_t n = 2 * (size_t)cut->n + 1;
	struct walk w = {.store = store, .cut = cut};

	*s = (struct wl_schedule_of_buckets){0};
	s->come = calloc(n, sizeof *s->come);
	s->go = calloc(n, sizeof *s->go);
	s->ready = calloc(n, sizeof *s->ready);
	s->begin = calloc(n, sizeof *s->begin);
	w.uses = calloc((size_t)cut->n + 1, sizeof *w.uses);
	if (!s->come || !s->go || !s->ready || !s->begin || !w.uses) {
		wl_schedule_release(s);
		free(w.uses);
		return wl_err_nomem(err, "the schedule of a graph's weights", n * sizeof *s->come);
	}
	phase(s, g, &w, 0, once ? ops : forward);
	if (!once)
		phase(s, g, &w, forward, ops);
	free(w.uses);
	sort(s->come, s->n_come);
	sort(s->go, s->n_go);
	sort(s->ready, s->n_ready);
	sort(s->begin, s->n_begin);
	if (once)
		s->n_go = 0;
	return 0;
}

void wl_schedule_release(struct wl_schedule_of_buckets *s)
{
	free(s->come);
	free(s->go);
	free(s->ready);
	free(s->begin);
	*s = (struct wl_schedule_of_buckets){0};
}
