/*
 * Where a graph's time goes: its operations by kind and shape, against a device's roofline.
 * Inline, as bench.h.
 */
#ifndef WL_TESTS_BENCH_SPENDERS_H
#define WL_TESTS_BENCH_SPENDERS_H

#include "train/nn/graph.h"

#include <stdio.h>

enum { SPENDERS = 2048, COSTLIEST = 10 };

/* Operations of one kind and shape: their sums. */
struct spender {
	struct wl_graph_cost all;
	int n;
};

static inline bool spender_alike(const struct spender *s, const struct wl_graph_cost *c)
{
	return s->all.kind == c->kind && wl_shape_equal(&s->all.shape, &c->shape) &&
	       s->all.bytes == s->n * c->bytes;
}

/* A graph that was profiled: its operations to the list of *n; empty_ms: of a wait for nothing. */
static inline void spenders_add(struct spender *list, int *n, const struct wl_graph *g,
	double empty_ms)
{
	int forward, ops = wl_graph_ops(g, &forward);

	for (int i = 0; i < ops; i++) {
		struct wl_graph_cost c;
		int k = 0;

		wl_graph_cost(g, i, &c);
		c.ms = c.ms > empty_ms ? c.ms - empty_ms : 0;
		while (k < *n && !spender_alike(&list[k], &c))
			k++;
		if (k == SPENDERS)
			continue;
		if (k == *n)
			list[(*n)++] = (struct spender){.all = {.kind = c.kind, .label = c.label,
				.shape = c.shape}};
		list[k].all.flops += c.flops;
		list[k].all.bytes += c.bytes;
		list[k].all.ms += c.ms;
		list[k].n++;
	}
}

static inline int spender_by_time(const void *a, const void *b)
{
	double x = ((const struct spender *)a)->all.ms, y = ((const struct spender *)b)->all.ms;

	return (x < y) - (x > y);
}

/* total: milliseconds of all; the device's peaks in operations and bytes a second. */
static inline void spender_print(const struct spender *v, double total, double peak_flops,
	double peak_bytes)
{
	double flops = v->all.flops / peak_flops, bytes = v->all.bytes / peak_bytes;
	double floor = flops > bytes ? flops : bytes, seconds = 1e-3 * v->all.ms + 1e-12;
	char text[WL_SHAPE_TEXT];

	printf("%-18s x%-4d %9.3f ms %5.1f %%  %5.2f TB/s %7.1f TFLOP/s %5.1f %% of the roofline  "
	       "%s %s\n", wl_op_name(v->all.kind), v->n, v->all.ms, 100 * v->all.ms / total,
		1e-12 * v->all.bytes / seconds, 1e-12 * v->all.flops / seconds,
		100 * floor / seconds, wl_shape_text(&v->all.shape, text), v->all.label);
}

#endif
