/* wenlan-train --dry-run: what a run would take, on standard output. */
#include "train/encode.h"
#include "train/loop.h"
#include "train/trainer.h"

#include <stdio.h>

static double gib(double bytes)
{
	return bytes / (1024.0 * 1024 * 1024);
}

static void print_graph(const char *name, const struct wl_graph *g, double *bytes, double *flops)
{
	struct wl_graph_stats s;

	wl_graph_stats(g, &s);
	printf("%-12s %5d + %-5d %10.3f GiB %10.3f GiB %12.2f GFLOP\n", name, s.ops_forward,
		s.ops_backward, gib((double)(s.arena_bytes + s.scratch_bytes)),
		gib((double)s.unshared_bytes), 1e-9 * (s.flops_forward + s.flops_backward));
	*bytes += (double)(s.arena_bytes + s.scratch_bytes);
	*flops += s.flops_forward + s.flops_backward;
}

int wl_train_plan(const struct wl_train_job *job, struct wl_err *err)
{
	const struct wl_train_config *c = job->config;
	struct wl_backend *be = wl_backend_cpu_open((int)c->threads, err);
	struct wl_trainer t;
	double bytes = 0, flops = 0, weights;
	size_t queues;
	int ret = -1;

	if (!be)
		return -1;
	if (wl_trainer_init(&t, c, &job->towers, be, NULL, c->schedule.warmup_steps + 1, INT64_MAX / 4,
		    err) < 0)
		goto out;
	/* values, gradients, two moments, momentum values */
	weights = (wl_moco_has_keys(&t.moco) ? 5.0 : 4.0) * sizeof(float) *
		(double)t.params.floats;
	queues = 2 * t.moco.image_queue.size * (t.moco.image_queue.dim * sizeof(float) +
		WL_QUEUE_IDS * sizeof(int64_t));
	printf("parameters   %lld floats in the towers, %lld of them trainable; the momentum "
		"towers "
	       "hold as many\n", (long long)t.params.floats,
		(long long)wl_params_trainable_count(&t.params));
	printf("batch        %lld pairs of %lld x %lld pixels, %lld regions, %lld tokens\n",
		(long long)c->batch, (long long)job->towers.image_px,
		(long long)job->towers.image_px, (long long)job->towers.regions,
		(long long)job->towers.text_len);
	printf("queues       2 x %zu keys of %zu\n", t.moco.image_queue.size,
		t.moco.image_queue.dim);
	printf("graph        operations          memory  without reuse         a step\n");
	if (t.moco.key)
		print_graph("key", t.moco.key, &bytes, &flops);
	print_graph("query", t.moco.query, &bytes, &flops);
	if (t.moco.loss)
		print_graph("loss", t.moco.loss, &bytes, &flops);
	printf("memory       %.3f GiB: %.3f weights, gradients, moments and momentum, %.3f "
	       "activations, %.3f queues\n", gib(bytes + weights + (double)queues), gib(weights),
		gib(bytes), gib((double)queues));
	printf("a step       %.2f GFLOP, %.2f a pair\n", 1e-9 * flops,
		1e-9 * flops / (double)c->batch);
	ret = 0;
	wl_trainer_release(&t);
out:
	wl_backend_close(be);
	return ret;
}
