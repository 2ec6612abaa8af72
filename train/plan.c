/* wenlan-train --dry-run: what a run would take, on standard output. */
#include "ops/ram.h"
#include "train/encode.h"
#include "train/loop.h"
#include "train/trainer.h"

#include <stdio.h>
#include <string.h>

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

enum { GPU_PART = 2 << 20 }; /* what NVIDIA's driver maps memory in */

static bool for_gpus(const struct wl_train_config *c)
{
	return !strcmp(c->device, "cuda") ||
		(!strcmp(c->device, "auto") && wl_backend_cuda_count());
}

/* On GPUs, where memory is shared out in large parts and settled once. */
static int plan_gpus(const struct wl_dist_config *how, struct wl_trainer *t, int ranks, double adam,
	struct wl_dist_plan *p, struct wl_err *err)
{
	struct wl_moco *m = &t->moco;
	struct wl_dist_planned graphs[3] = {{m->query, true, true}};
	int n = 1;

	if (m->loss)
		graphs[n++] = (struct wl_dist_planned){m->loss, true, false};
	if (m->key)
		graphs[n++] = (struct wl_dist_planned){m->key, false, false};
	return wl_dist_plan_parts(how, ranks, GPU_PART, graphs, n, &t->params,
		m->key ? &m->momentum : NULL, m->config.accumulate, adam, p, err);
}

/* What stays on one rank by class, at each stage, and what it sends in a step. */
static int print_memory(const struct wl_train_config *c, struct wl_trainer *t, int ranks,
	double activations, double queues, struct wl_err *err)
{
	double adam = 2.0 * (double)wl_dtype_bytes(c->optim.state);
	struct wl_dist_config how = c->dist;

	printf("memory of a rank, GiB, on %d %s%s%s\n", ranks, for_gpus(c) ? "GPU" : "rank",
		ranks > 1 ? "s" : "",
		ranks > 1 ? "" : " (stages differ on several: --dist.ranks)");
	printf("  zero    weights  gradients       Adam   momentum     coming activations"
	       "     queues        all   sent a step\n");
	for (how.zero = 0; how.zero <= (ranks > 1 ? 3 : 0); how.zero++) {
		struct wl_dist_plan p;

		wl_dist_plan(&how, ranks, t->moco.config.accumulate, t->params.weights,
			wl_params_trainable_count(&t->params), adam, &p);
		if (!wl_moco_has_keys(&t->moco)) { /* nor do they travel */
			p.momentum = 0;
			p.sent -= how.zero ? 4.0 * (double)t->params.weights * (1 - 1.0 / ranks) *
				(double)t->moco.config.accumulate : 0;
		}
		if (ranks > 1 && for_gpus(c))
			WL_TRY(plan_gpus(&how, t, ranks, adam, &p, err));
		printf("%s %4lld %10.3f %10.3f %10.3f %10.3f %10.3f  %10.3f %10.3f %10.3f %10.3f "
		       "GiB\n", ranks > 1 && how.zero == c->dist.zero ? "->" : "  ",
			(long long)how.zero, gib(p.weights), gib(p.gradients), gib(p.adam),
			gib(p.momentum), gib(p.coming), gib(activations), gib(queues),
			gib(p.weights + p.gradients + p.adam + p.momentum + p.coming + activations +
				queues), gib(p.sent));
	}
	if (!c->ckpt_wait)
		printf("  while a checkpoint is written, its copy comes on top (not with "
		       "--ckpt.wait, nor at the end)\n");
	return 0;
}

/* The number of ranks to plan for; *print: this rank is to speak. */
static int count_ranks(const struct wl_train_config *c, int *ranks, bool *print,
	struct wl_err *err)
{
	struct wl_comm *comm = wl_comm_open(err);

	if (!comm)
		return -1;
	*ranks = c->plan_ranks ? (int)c->plan_ranks : wl_comm_size(comm);
	*print = wl_comm_rank(comm) == 0;
	wl_comm_close(comm);
	return 0;
}

/* How this configuration takes less, without what it does already. */
static void what_helps(const struct wl_train_config *c, int ranks, char *out, size_t size)
{
	snprintf(out, size, "lower --data.batch (%lld now)%s%s%s%s; --dry-run says what takes how "
		"much", (long long)c->batch,
		c->moco.accumulate > 1 ? ", raise --data.accumulate" :
			", take a step in parts (--data.accumulate 4)",
		c->moco.recompute ? "" : ", --recompute",
		strcmp(c->optim_state, "bf16") ? ", --optim.state bf16" : "",
		ranks == 1 || c->dist.zero < 3 ? ", share it out over ranks (mpirun -np N, "
			"--dist.zero 3)" : ", start more ranks");
}

int wl_train_fits(const struct wl_trainer *t, int ranks, struct wl_ram there, struct wl_err *err)
{
	const struct wl_train_config *c = t->config;
	const struct wl_graph *graphs[] = {t->moco.query, t->moco.key, t->moco.loss};
	struct wl_dist_plan p;
	struct wl_graph_stats s;
	char mend[400];
	double need;

	wl_dist_plan(&c->dist, ranks, t->moco.config.accumulate, t->params.weights,
		wl_params_trainable_count(&t->params),
		2.0 * (double)wl_dtype_bytes(c->optim.state), &p);
	need = p.weights + p.gradients + p.adam + p.coming +
		(wl_moco_has_keys(&t->moco) ? p.momentum : 0);
	for (size_t i = 0; i < sizeof graphs / sizeof *graphs; i++)
		if (graphs[i]) {
			wl_graph_stats(graphs[i], &s);
			need += (double)(s.arena_bytes + s.scratch_bytes);
		}
	what_helps(c, ranks, mend, sizeof mend);
	return wl_ram_check(need, there, ranks > 1 ? "a rank of this training" : "this training",
		mend, err);
}

int wl_train_plan(const struct wl_train_job *job, struct wl_err *err)
{
	const struct wl_train_config *c = job->config;
	struct wl_backend *be = wl_backend_cpu_open((int)c->threads, err);
	struct wl_trainer t;
	double bytes = 0, flops = 0;
	size_t queues;
	int ret = -1, ranks;
	bool print = true;

	if (!be)
		return -1;
	if (count_ranks(c, &ranks, &print, err) < 0 || !print) {
		wl_backend_close(be);
		return print ? -1 : 0;
	}
	if (wl_trainer_init(&t, c, &job->towers, be, NULL, c->schedule.warmup_steps + 1,
		    INT64_MAX / 4, err) < 0)
		goto out;
	queues = 2 * t.moco.image_queue.size * (t.moco.image_queue.dim *
		wl_dtype_bytes(wl_train_queue_type(c, for_gpus(c))) +
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
	ret = print_memory(c, &t, ranks, bytes, (double)queues, err);
	printf("a step       %.2f GFLOP, %.2f a pair\n", 1e-9 * flops,
		1e-9 * flops / (double)c->batch);
	wl_trainer_release(&t);
out:
	wl_backend_close(be);
	return ret;
}
