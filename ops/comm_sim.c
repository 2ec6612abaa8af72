/*
 * Ranks as threads of one process: every operation posts what the rank has, waits for all,
 * takes what it needs from the others' memory, and waits again before that memory may change.
 */
#include "ops/comm_priv.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS_MAX = 64 };

struct sim {
	pthread_mutex_t lock;
	pthread_cond_t turn;
	int size, waiting;
	uint64_t round;
	bool broken; /* a rank has left */
	const void *in[RANKS_MAX];
	const size_t *send[RANKS_MAX];
};

struct sim_rank {
	struct wl_comm comm;
	int (*fn)(struct wl_comm *c, void *user, struct wl_err *err);
	void *user;
	int ret;
	struct wl_err err;
	pthread_t thread;
};

static int sim_barrier(struct wl_comm *c, struct wl_err *err)
{
	struct sim *s = c->state;
	bool broken;

	pthread_mutex_lock(&s->lock);
	uint64_t round = s->round;
	if (++s->waiting == s->size) {
		s->waiting = 0;
		s->round++;
		pthread_cond_broadcast(&s->turn);
	}
	while (s->round == round && !s->broken)
		pthread_cond_wait(&s->turn, &s->lock);
	broken = s->broken && s->round == round;
	pthread_mutex_unlock(&s->lock);
	return broken ? wl_err_set(err, WL_ERETRY, "another rank has failed.") : 0;
}

static int sim_all_reduce(struct wl_comm *c, void *v, size_t n, enum wl_comm_type t,
	enum wl_comm_op op, struct wl_err *err)
{
	struct sim *s = c->state;
	size_t bytes = n * wl_comm_type_bytes(t);
	char *acc = malloc(bytes + 1);
	int ret = -1;

	if (!acc)
		return wl_err_nomem(err, "a reduction", bytes);
	s->in[c->rank] = v;
	WL_TRY_OUT(sim_barrier(c, err));
	if (bytes)
		memcpy(acc, s->in[0], bytes);
	for (int r = 1; r < c->size; r++)
		comm_combine(acc, s->in[r], n, t, op);
	WL_TRY_OUT(sim_barrier(c, err));
	if (bytes)
		memcpy(v, acc, bytes);
	ret = 0;
out:
	free(acc);
	return ret;
}

static int sim_reduce_scatter(struct wl_comm *c, const void *in, void *out, size_t n,
	enum wl_comm_type t, struct wl_err *err)
{
	struct sim *s = c->state;
	size_t bytes = n * wl_comm_type_bytes(t), at = (size_t)c->rank * bytes;

	s->in[c->rank] = in;
	WL_TRY(sim_barrier(c, err));
	if (bytes)
		memcpy(out, (const char *)s->in[0] + at, bytes);
	for (int r = 1; r < c->size; r++)
		comm_combine(out, (const char *)s->in[r] + at, n, t, WL_COMM_SUM);
	return sim_barrier(c, err);
}

static int sim_broadcast(
	struct wl_comm *c, void *v, size_t bytes, int root, struct wl_err *err)
{
	struct sim *s = c->state;

	s->in[c->rank] = v;
	WL_TRY(sim_barrier(c, err));
	if (c->rank != root && bytes)
		memcpy(v, s->in[root], bytes);
	return sim_barrier(c, err);
}

static int sim_exchange(struct wl_comm *c, const void *in, const size_t *send, void *out,
	const size_t *recv, struct wl_err *err)
{
	struct sim *s = c->state;
	char *dst = out;

	s->in[c->rank] = in;
	s->send[c->rank] = send;
	WL_TRY(sim_barrier(c, err));
	for (int r = 0; r < c->size; r++) {
		const char *src = s->in[r];
		for (int k = 0; k < c->rank; k++)
			src += s->send[r][k];
		WL_ASSERT(s->send[r][c->rank] == recv[r]);
		if (recv[r])
			memcpy(dst, src, recv[r]);
		dst += recv[r];
	}
	return sim_barrier(c, err);
}

static void sim_leave(struct wl_comm *c)
{
	struct sim *s = c->state;

	pthread_mutex_lock(&s->lock);
	s->broken = true;
	pthread_cond_broadcast(&s->turn);
	pthread_mutex_unlock(&s->lock);
}

static void sim_close(struct wl_comm *c)
{
	(void)c;
}

static const struct comm_ops sim_ops = {sim_barrier, sim_all_reduce, sim_reduce_scatter,
	sim_broadcast, sim_exchange, sim_leave, sim_close};

static void *rank_main(void *arg)
{
	struct sim_rank *r = arg;

	r->ret = r->fn(&r->comm, r->user, &r->err);
	if (r->ret < 0)
		wl_comm_leave(&r->comm);
	return NULL;
}

/* The error that came first, not one that says only that another rank failed. */
static int first_error(const struct sim_rank *v, int n, struct wl_err *err)
{
	const struct sim_rank *worst = NULL;

	for (int i = 0; i < n; i++)
		if (v[i].ret < 0 &&
			(!worst || (worst->err.code == WL_ERETRY && v[i].err.code != WL_ERETRY)))
			worst = &v[i];
	if (!worst)
		return 0;
	if (err)
		*err = worst->err;
	return -1;
}

int wl_comm_simulate(int n, int (*fn)(struct wl_comm *c, void *user, struct wl_err *err),
	void *user, struct wl_err *err)
{
	struct sim s = {.size = n};
	struct sim_rank *v;
	int started = 0, ret;

	WL_ASSERT(n >= 1 && n <= RANKS_MAX);
	v = calloc((size_t)n, sizeof(*v));
	if (!v)
		return wl_err_nomem(err, "ranks", (size_t)n * sizeof(*v));
	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.turn, NULL);
	for (; started < n; started++) {
		struct sim_rank *r = &v[started];
		r->comm = (struct wl_comm){&sim_ops, started, n, &s};
		r->fn = fn;
		r->user = user;
		if (pthread_create(&r->thread, NULL, rank_main, r) != 0) {
			r->ret = wl_err_set(&r->err, WL_EFAIL, "no thread can be started.");
			wl_comm_leave(&r->comm);
			break;
		}
	}
	for (int i = 0; i < started; i++)
		pthread_join(v[i].thread, NULL);
	ret = first_error(v, n, err);
	pthread_cond_destroy(&s.turn);
	pthread_mutex_destroy(&s.lock);
	free(v);
	return ret;
}
