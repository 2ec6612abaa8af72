/*
 * Ranks as threads of one process: every operation posts what the rank has, waits for all,
 * takes what it needs from the others' memory, and waits again before that memory may change.
 */
#include "ops/comm_priv.h"
#include "ops/hash.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RANKS_MAX = 64 };

struct sim {
	pthread_mutex_t lock;
	pthread_cond_t turn;
	int size, waiting;
	int inside, living; /* ranks in the round's wait, and those that may still come to it */
	uint64_t round;
	int ended; /* ranks at the end of an exchange */
	uint64_t end_round;
	bool broken; /* a rank has left */
	const void *in[RANKS_MAX];
	const size_t *send[RANKS_MAX];
	const struct wl_comm_faults *faults; /* NULL: nothing goes wrong */
	int64_t turn_of[RANKS_MAX]; /* exchanges that each rank has begun */
	bool dead[RANKS_MAX];
};

struct sim_rank {
	struct wl_comm comm;
	int (*fn)(struct wl_comm *c, void *user, struct wl_err *err);
	void *user;
	int ret;
	struct wl_err err;
	pthread_t thread;
};

/* Nothing more comes from this rank: those who wait look again whether anybody can. */
static void gone(struct wl_comm *c, bool dead)
{
	struct sim *s = c->state;

	pthread_mutex_lock(&s->lock);
	s->living -= !s->dead[c->rank];
	s->dead[c->rank] = s->dead[c->rank] || dead;
	pthread_cond_broadcast(&s->turn);
	pthread_mutex_unlock(&s->lock);
}

/* What the plan of faults has for this exchange: a delay now; 1: what is sent is lost; -1: this
 * rank is dead. */
static int misfortune(struct wl_comm *c, struct wl_err *err)
{
	struct sim *s = c->state;
	const struct wl_comm_faults *f = s->faults;
	int64_t turn = s->turn_of[c->rank]++;

	if (!f)
		return 0;
	if (f->delay_us > 0) {
		uint64_t r = wl_mix64(wl_mix64(f->seed ^ (uint64_t)c->rank << 40) ^ (uint64_t)turn);

		usleep((useconds_t)(r % (uint64_t)f->delay_us));
	}
	if (c->rank == f->kill_rank && turn >= f->kill_at) {
		gone(c, true);
		return wl_err_set(err, WL_EFAIL, "rank %d is killed in exchange %lld.", c->rank,
			(long long)turn);
	}
	return c->rank == f->drop_rank && turn == f->drop_at;
}

/* The end of a wait for the other ranks; 0: none is set. */
static bool deadline(const struct wl_comm *c, struct timespec *t)
{
	if (c->timeout_s <= 0)
		return false;
	clock_gettime(CLOCK_REALTIME, t);
	t->tv_sec += (time_t)c->timeout_s;
	t->tv_nsec += (long)((c->timeout_s - (double)(time_t)c->timeout_s) * 1e9);
	if (t->tv_nsec >= 1000000000) {
		t->tv_sec++;
		t->tv_nsec -= 1000000000;
	}
	return true;
}

/* lost: what this rank sends does not arrive.  A limit is over at once when all ranks that live
 * wait in vain: how soon must not depend on how fast the machine is. */
static int meet(struct wl_comm *c, bool lost, struct wl_err *err)
{
	struct sim *s = c->state;
	struct timespec until;
	bool limited = deadline(c, &until), late = false, alone;

	pthread_mutex_lock(&s->lock);
	uint64_t round = s->round;
	s->inside++;
	if (!lost && !s->broken && ++s->waiting == s->size) {
		s->waiting = s->inside = 0;
		s->round++;
		pthread_cond_broadcast(&s->turn);
	}
	while (s->round == round && !s->broken && !late) {
		if (limited && s->inside == s->living)
			late = true;
		else if (limited)
			late = pthread_cond_timedwait(&s->turn, &s->lock, &until) == ETIMEDOUT;
		else
			pthread_cond_wait(&s->turn, &s->lock);
	}
	alone = s->round == round;
	if (alone && !s->broken) { /* nobody may meet with one that is going */
		s->broken = true;
		pthread_cond_broadcast(&s->turn);
	} else {
		late = false;
	}
	pthread_mutex_unlock(&s->lock);
	if (alone && late)
		return wl_err_set(err, WL_ERETRY, "rank %d has waited %g s for another one.",
			c->rank, c->timeout_s);
	return alone ? wl_err_set(err, WL_ERETRY, "another rank has failed.") : 0;
}

/* The first meeting of an exchange, where things go wrong. */
static int sim_barrier(struct wl_comm *c, struct wl_err *err)
{
	int lost = misfortune(c, err);

	return lost < 0 ? -1 : meet(c, lost, err);
}

/* The last one: all have come as far as here, or will soon, and until then they may be reading
 * this rank's memory, so nothing ends the wait before. */
static void sim_end(struct wl_comm *c)
{
	struct sim *s = c->state;

	pthread_mutex_lock(&s->lock);
	uint64_t round = s->end_round;
	if (++s->ended == s->size) {
		s->ended = 0;
		s->end_round++;
		pthread_cond_broadcast(&s->turn);
	}
	while (s->end_round == round)
		pthread_cond_wait(&s->turn, &s->lock);
	pthread_mutex_unlock(&s->lock);
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
	sim_end(c);
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
	sim_end(c);
	return 0;
}

static int sim_broadcast(
	struct wl_comm *c, void *v, size_t bytes, int root, struct wl_err *err)
{
	struct sim *s = c->state;

	s->in[c->rank] = v;
	WL_TRY(sim_barrier(c, err));
	if (c->rank != root && bytes)
		memcpy(v, s->in[root], bytes);
	sim_end(c);
	return 0;
}

static int sim_gather_in_place(struct wl_comm *c, void *v, size_t bytes, struct wl_err *err)
{
	struct sim *s = c->state;

	s->in[c->rank] = v;
	WL_TRY(sim_barrier(c, err));
	for (int r = 0; r < c->size; r++)
		if (r != c->rank && bytes)
			memcpy((char *)v + (size_t)r * bytes,
				(const char *)s->in[r] + (size_t)r * bytes, bytes);
	sim_end(c);
	return 0;
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
	sim_end(c);
	return 0;
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
	sim_broadcast, sim_gather_in_place, sim_exchange, sim_leave, sim_close, false, NULL};

static void *rank_main(void *arg)
{
	struct sim_rank *r = arg;

	const struct sim *s = r->comm.state;

	r->ret = r->fn(&r->comm, r->user, &r->err);
	if (r->ret < 0 && !s->dead[r->comm.rank]) /* the dead do not say that they are */
		wl_comm_leave(&r->comm);
	gone(&r->comm, false);
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
	return wl_comm_simulate_faults(n, fn, user, NULL, err);
}

int wl_comm_simulate_faults(int n, int (*fn)(struct wl_comm *c, void *user, struct wl_err *err),
	void *user, const struct wl_comm_faults *faults, struct wl_err *err)
{
	struct sim s = {.size = n, .living = n, .faults = faults};
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
		r->comm = (struct wl_comm){.ops = &sim_ops, .rank = started, .size = n,
			.local_size = n, .local_rank = started, .state = &s,
			.timeout_s = faults ? faults->timeout_s : 0};
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
