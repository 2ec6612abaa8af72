/*
 * Ranks over TCP, each with a connection to every other.
 *
 * One primitive: a round, in which a rank may send to and take from each of the others, all at the
 * same time.  Every message says which collective it belongs to, so that ranks which disagree find
 * out instead of computing nonsense.  Sums add in the order of ranks, as the simulator's do: the
 * bits depend on the number of ranks alone.
 *
 * A rank that ends says so to all; a connection that closes without that word is a rank lost, and
 * the call fails with WL_ERETRY at once.  One that is silent (a machine without power, a process
 * that is stopped) is given up after wl_comm_timeout.
 */
#include "ops/comm_mesh.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	BLOCK = 1 << 20,   /* bytes of a reduction under way to one rank */
	SMALL = 1 << 12,   /* all-reduces up to here take one round */
	BYE_MS = 5000,	   /* how long the others are waited for at the end */
};

/* One rank's side of a round. */
struct flow {
	bool sends, takes;
	const char *src;
	char *dst;
	size_t out, in; /* bytes of the message */
	uint8_t head_out[COMM_FRAME_BYTES], head_in[COMM_FRAME_BYTES];
	size_t sent, got; /* heads included */
};

struct mesh {
	int *fd; /* [size]; -1: this rank */
	struct flow *flow; /* [size] */
	struct pollfd *poll; /* [size] */
	bool *ended; /* [size] it has said that it ends */
	uint64_t number; /* of the collective */
	bool failed;
	char *room; /* [size * BLOCK], made when it is first needed */
};

double comm_now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int lost(struct wl_comm *c, int rank, const char *why, enum comm_kind kind,
	struct wl_err *err)
{
	((struct mesh *)c->state)->failed = true;
	return wl_err_set(err, WL_ERETRY, "rank %d has lost rank %d in %s (%s); the same command "
		"goes on from the last checkpoint", c->rank, rank, comm_kind_name(kind), why);
}

static bool sending(const struct flow *f)
{
	return f->sends && f->sent < COMM_FRAME_BYTES + f->out;
}

static bool taking(const struct flow *f)
{
	return f->takes && f->got < COMM_FRAME_BYTES + f->in;
}

static int push(struct wl_comm *c, int r, enum comm_kind kind, struct wl_err *err)
{
	struct mesh *m = c->state;
	struct flow *f = &m->flow[r];

	while (sending(f)) {
		bool head = f->sent < COMM_FRAME_BYTES;
		const void *from = head ? (const void *)(f->head_out + f->sent)
					: f->src + (f->sent - COMM_FRAME_BYTES);
		size_t n = head ? COMM_FRAME_BYTES - f->sent : COMM_FRAME_BYTES + f->out - f->sent;
		ssize_t k = send(m->fd[r], from, n, MSG_NOSIGNAL | (head && f->out ? MSG_MORE : 0));

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (k < 0)
			return lost(c, r, strerror(errno), kind, err);
		f->sent += (size_t)k;
	}
	return 0;
}

/* The head of a message is there: it must be the one that belongs here. */
static int check_head(struct wl_comm *c, int r, enum comm_kind kind, struct wl_err *err)
{
	struct mesh *m = c->state;
	struct flow *f = &m->flow[r];
	struct comm_frame head;

	if (comm_frame_read(f->head_in, &head, err) < 0) {
		m->failed = true;
		return wl_err_prefix(err, "rank %d, from rank %d", c->rank, r);
	}
	if (head.kind == COMM_BYE && kind != COMM_BYE)
		return lost(c, r, "it has ended", kind, err);
	if (kind == COMM_BYE && head.kind != COMM_BYE)
		return lost(c, r, "it goes on", kind, err);
	if (head.kind == kind && head.number == m->number && head.bytes == f->in)
		return 0;
	m->failed = true;
	return wl_err_set(err, WL_EFAIL, "rank %d is at %s (number %llu, %zu bytes), and rank %d "
		"at %s (number %llu, %llu bytes): start all ranks with the same program and the "
		"same settings",
		c->rank, comm_kind_name(kind), (unsigned long long)m->number, f->in, r,
		comm_kind_name(head.kind), (unsigned long long)head.number,
		(unsigned long long)head.bytes);
}

static int pull(struct wl_comm *c, int r, enum comm_kind kind, struct wl_err *err)
{
	struct mesh *m = c->state;
	struct flow *f = &m->flow[r];

	while (taking(f)) {
		bool head = f->got < COMM_FRAME_BYTES;
		void *to = head ? (void *)(f->head_in + f->got)
				: f->dst + (f->got - COMM_FRAME_BYTES);
		size_t n = head ? COMM_FRAME_BYTES - f->got : COMM_FRAME_BYTES + f->in - f->got;
		ssize_t k = recv(m->fd[r], to, n, 0);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (k <= 0)
			return lost(c, r, k ? strerror(errno) : "its connection was closed", kind,
				err);
		f->got += (size_t)k;
		if (head && f->got == COMM_FRAME_BYTES)
			WL_TRY(check_head(c, r, kind, err));
	}
	return 0;
}

/* A rank of which nothing is wanted now has hung up: lost, unless it said that it ends, or is ahead
 * with what belongs to a later round. */
static int hung_up(struct wl_comm *c, int r, enum comm_kind kind, struct wl_err *err)
{
	struct mesh *m = c->state;
	uint8_t head[COMM_FRAME_BYTES];
	ssize_t k = recv(m->fd[r], head, sizeof head, MSG_PEEK);

	if (k <= 0)
		return lost(c, r, k ? strerror(errno) : "its connection was closed", kind, err);
	m->ended[r] = true;
	return 0;
}

/* What to wait for; false: the round is done. */
static bool interests(struct wl_comm *c)
{
	struct mesh *m = c->state;
	bool any = false;

	for (int r = 0; r < c->size; r++) {
		const struct flow *f = &m->flow[r];
		bool idle = !sending(f) && !taking(f);

		m->poll[r].fd = r == c->rank || (idle && m->ended[r]) ? -1 : m->fd[r];
		m->poll[r].events = (short)((sending(f) ? POLLOUT : 0) | (taking(f) ? POLLIN : 0) |
			(idle ? POLLRDHUP : 0));
		m->poll[r].revents = 0;
		any = any || !idle;
	}
	return any;
}

static int late(struct wl_comm *c, double waited, enum comm_kind kind, struct wl_err *err)
{
	struct mesh *m = c->state;
	int r = 0;

	while (r < c->size - 1 && !taking(&m->flow[r]))
		r++;
	m->failed = true;
	return wl_err_set(err, WL_ERETRY, "rank %d has waited %.0f s for rank %d in %s: it is "
		"lost, or far slower; the same command goes on from the last checkpoint", c->rank,
		waited, r, comm_kind_name(kind));
}

/* One round with the flows that are set. */
static int run(struct wl_comm *c, enum comm_kind kind, double limit, struct wl_err *err)
{
	struct mesh *m = c->state;
	double since = comm_now_s();

	if (m->failed)
		return wl_err_set(err, WL_ERETRY, "rank %d has lost another one.", c->rank);
	for (int r = 0; r < c->size; r++) {
		struct comm_frame head = {kind, m->number, m->flow[r].out};

		comm_frame_write(&head, m->flow[r].head_out);
		WL_TRY(push(c, r, kind, err)); /* most messages fit into the socket */
	}
	while (interests(c)) {
		double waited = comm_now_s() - since;
		int n;

		if (limit > 0 && waited > limit)
			return late(c, waited, kind, err);
		n = poll(m->poll, (nfds_t)c->size,
			limit > 0 && limit - waited < 1 ? (int)(1e3 * (limit - waited)) + 1 : 1000);
		if (n < 0 && errno != EINTR)
			return wl_err_errno(err, "rank %d cannot wait for the others", c->rank);
		for (int r = 0; n > 0 && r < c->size; r++) {
			short got = m->poll[r].revents;

			if (got && !(m->poll[r].events & (POLLIN | POLLOUT)))
				WL_TRY(hung_up(c, r, kind, err));
			else if (got) {
				WL_TRY(pull(c, r, kind, err));
				WL_TRY(push(c, r, kind, err));
			}
		}
		if (n > 0)
			since = comm_now_s();
	}
	return 0;
}

static struct flow *fresh(struct wl_comm *c)
{
	struct mesh *m = c->state;

	memset(m->flow, 0, (size_t)c->size * sizeof *m->flow);
	return m->flow;
}

static void sends(struct flow *f, const void *src, size_t n)
{
	f->sends = true;
	f->src = src;
	f->out = n;
}

static void takes(struct flow *f, void *dst, size_t n)
{
	f->takes = true;
	f->dst = dst;
	f->in = n;
}

static char *room(struct wl_comm *c, struct wl_err *err)
{
	struct mesh *m = c->state;

	if (!m->room)
		m->room = malloc((size_t)c->size * BLOCK);
	if (!m->room)
		wl_err_nomem(err, "a reduction", (size_t)c->size * BLOCK);
	return m->room;
}

/* --- the collectives --- */

/* In rounds of powers of two (Hensgen, Finkel and Manber 1988): log2(size) of them. */
static int mesh_barrier(struct wl_comm *c, struct wl_err *err)
{
	((struct mesh *)c->state)->number++;
	for (int step = 1; step < c->size; step *= 2) {
		struct flow *f = fresh(c);

		sends(&f[(c->rank + step) % c->size], NULL, 0);
		takes(&f[(c->rank - step + c->size) % c->size], NULL, 0);
		WL_TRY(run(c, COMM_BARRIER, c->timeout_s, err));
	}
	return 0;
}

/* all[size][n] of bytes `width` each, in the order of ranks, into out. */
static void combine(const struct wl_comm *c, const char *all, void *out, size_t n,
	enum wl_comm_type t, enum wl_comm_op op)
{
	size_t bytes = n * wl_comm_type_bytes(t);

	if (bytes)
		memcpy(out, all, bytes);
	for (int r = 1; r < c->size; r++)
		comm_combine(out, all + (size_t)r * bytes, n, t, op);
}

/* n elements from each of the ranks, of which in[r] go to rank r and this rank's come together. */
static int to_owners(struct wl_comm *c, const char *const *in, const size_t *count, void *out,
	enum wl_comm_type t, enum wl_comm_op op, struct wl_err *err)
{
	size_t width = wl_comm_type_bytes(t), mine = count[c->rank] * width;
	struct flow *f = fresh(c);
	char *all = room(c, err);

	if (!all)
		return -1;
	for (int r = 0; r < c->size; r++) {
		if (r == c->rank) {
			if (mine)
				memcpy(all + (size_t)r * mine, in[r], mine);
			continue;
		}
		sends(&f[r], in[r], count[r] * width);
		takes(&f[r], all + (size_t)r * mine, mine);
	}
	WL_TRY(run(c, COMM_SCATTER, c->timeout_s, err));
	combine(c, all, out, count[c->rank], t, op);
	return 0;
}

/* Each rank's `count` elements at `at` become known to all. */
static int to_all(struct wl_comm *c, char *const *at, const size_t *bytes, enum comm_kind kind,
	struct wl_err *err)
{
	struct flow *f = fresh(c);

	for (int r = 0; r < c->size; r++)
		if (r != c->rank) {
			sends(&f[r], at[c->rank], bytes[c->rank]);
			takes(&f[r], at[r], bytes[r]);
		}
	return run(c, kind, c->timeout_s, err);
}

static int reduce_small(struct wl_comm *c, void *v, size_t n, enum wl_comm_type t,
	enum wl_comm_op op, struct wl_err *err)
{
	size_t bytes = n * wl_comm_type_bytes(t);
	char *all = room(c, err);
	struct flow *f;

	if (!all)
		return -1;
	f = fresh(c);
	for (int r = 0; r < c->size; r++)
		if (r != c->rank) {
			sends(&f[r], v, bytes);
			takes(&f[r], all + (size_t)r * bytes, bytes);
		}
	if (bytes)
		memcpy(all + (size_t)c->rank * bytes, v, bytes);
	WL_TRY(run(c, COMM_REDUCE, c->timeout_s, err));
	combine(c, all, v, n, t, op);
	return 0;
}

/* Pointers and counts of a call, a pair for each rank. */
static int shares(const struct wl_comm *c, char ***at, size_t **count, struct wl_err *err)
{
	*at = calloc((size_t)c->size, sizeof **at);
	*count = calloc((size_t)c->size, sizeof **count);
	return *at && *count ? 0 : wl_err_nomem(err, "a reduction", (size_t)c->size * 16);
}

/* v[n], no more than a block a rank: each rank sums its share, then all get all shares. */
static int reduce_block(struct wl_comm *c, char *v, size_t n, enum wl_comm_type t,
	enum wl_comm_op op, char **at, size_t *count, struct wl_err *err)
{
	size_t width = wl_comm_type_bytes(t), world = (size_t)c->size;
	size_t each = (n + world - 1) / world;

	for (size_t r = 0; r < world; r++) {
		size_t from = r * each < n ? r * each : n, to = from + each < n ? from + each : n;

		at[r] = v + from * width;
		count[r] = to - from;
	}
	WL_TRY(to_owners(c, (const char *const *)at, count, at[c->rank], t, op, err));
	for (size_t r = 0; r < world; r++)
		count[r] *= width;
	return to_all(c, at, count, COMM_REDUCE, err);
}

static int mesh_all_reduce(struct wl_comm *c, void *v, size_t n, enum wl_comm_type t,
	enum wl_comm_op op, struct wl_err *err)
{
	size_t width = wl_comm_type_bytes(t), most = BLOCK / width * (size_t)c->size;
	size_t *count = NULL;
	char **at = NULL;
	int ret = -1;

	((struct mesh *)c->state)->number++;
	if (n * width <= SMALL)
		return reduce_small(c, v, n, t, op, err);
	WL_TRY_OUT(shares(c, &at, &count, err));
	for (size_t i = 0; i < n; i += most)
		WL_TRY_OUT(reduce_block(c, (char *)v + i * width, n - i < most ? n - i : most, t,
			op, at, count, err));
	ret = 0;
out:
	free(at);
	free(count);
	return ret;
}

static int mesh_reduce_scatter(struct wl_comm *c, const void *in, void *out, size_t n,
	enum wl_comm_type t, struct wl_err *err)
{
	size_t width = wl_comm_type_bytes(t), most = BLOCK / width, *count = NULL;
	char **at = NULL;
	int ret = -1;

	((struct mesh *)c->state)->number++;
	WL_TRY_OUT(shares(c, &at, &count, err));
	for (size_t i = 0; i < n || i == 0; i += most) {
		size_t m = n - i < most ? n - i : most;

		for (int r = 0; r < c->size; r++) {
			at[r] = (char *)(uintptr_t)in + ((size_t)r * n + i) * width;
			count[r] = m;
		}
		WL_TRY_OUT(to_owners(c, (const char *const *)at, count, (char *)out + i * width, t,
			WL_COMM_SUM, err));
	}
	ret = 0;
out:
	free(at);
	free(count);
	return ret;
}

/* Down a binomial tree whose root is `root`. */
static int mesh_broadcast(
	struct wl_comm *c, void *v, size_t bytes, int root, struct wl_err *err)
{
	int at = (c->rank - root + c->size) % c->size, step = 1;
	struct flow *f;

	((struct mesh *)c->state)->number++;
	while (step < c->size && !(at & step))
		step *= 2;
	if (at) {
		f = fresh(c);
		takes(&f[(at - step + root) % c->size], v, bytes);
		WL_TRY(run(c, COMM_BROADCAST, c->timeout_s, err));
	}
	f = fresh(c);
	for (step /= 2; step > 0; step /= 2)
		if (at + step < c->size)
			sends(&f[(at + step + root) % c->size], v, bytes);
	return run(c, COMM_BROADCAST, c->timeout_s, err);
}

static int mesh_gather_in_place(struct wl_comm *c, void *v, size_t bytes, struct wl_err *err)
{
	struct flow *f = fresh(c);

	((struct mesh *)c->state)->number++;
	for (int r = 0; r < c->size; r++)
		if (r != c->rank) {
			sends(&f[r], (char *)v + (size_t)c->rank * bytes, bytes);
			takes(&f[r], (char *)v + (size_t)r * bytes, bytes);
		}
	return run(c, COMM_GATHER, c->timeout_s, err);
}

static int mesh_exchange(struct wl_comm *c, const void *in, const size_t *send, void *out,
	const size_t *recv, struct wl_err *err)
{
	struct flow *f = fresh(c);
	const char *src = in;
	char *dst = out;

	((struct mesh *)c->state)->number++;
	for (int r = 0; r < c->size; src += send[r], dst += recv[r], r++) {
		if (r != c->rank) {
			sends(&f[r], src, send[r]);
			takes(&f[r], dst, recv[r]);
		} else if (send[r]) {
			memcpy(dst, src, send[r]);
		}
	}
	return run(c, COMM_EXCHANGE, c->timeout_s, err);
}

/* A connection that was closed, with nothing unread in it: a last word would be. */
static bool mesh_lost(const struct wl_comm *c, int *rank)
{
	const struct mesh *m = c->state;

	for (int r = 0; r < c->size; r++) {
		char byte;
		ssize_t k = m->fd[r] < 0 ? 1 : recv(m->fd[r], &byte, 1, MSG_PEEK | MSG_DONTWAIT);

		if (k > 0 || (k < 0 && (errno == EAGAIN || errno == EINTR)))
			continue;
		*rank = r;
		return true;
	}
	return false;
}

/* The others see the connections close. */
static void mesh_leave(struct wl_comm *c)
{
	struct mesh *m = c->state;

	m->failed = true;
	for (int r = 0; r < c->size; r++)
		if (m->fd[r] >= 0)
			shutdown(m->fd[r], SHUT_RDWR);
}

/* All say that they end and hear it of all, so that nobody's last word is lost with its
 * connection. */
static void mesh_close(struct wl_comm *c)
{
	struct mesh *m = c->state;
	struct flow *f = fresh(c);

	for (int r = 0; r < c->size && !m->failed; r++)
		if (r != c->rank) {
			sends(&f[r], NULL, 0);
			takes(&f[r], NULL, 0);
		}
	if (!m->failed && run(c, COMM_BYE, 1e-3 * BYE_MS, NULL) < 0)
		m->failed = true;
	for (int r = 0; r < c->size; r++)
		if (m->fd[r] >= 0)
			close(m->fd[r]);
	free(m->fd);
	free(m->flow);
	free(m->poll);
	free(m->ended);
	free(m->room);
	free(m);
}

static const struct comm_ops mesh_ops = {mesh_barrier, mesh_all_reduce, mesh_reduce_scatter,
	mesh_broadcast, mesh_gather_in_place, mesh_exchange, mesh_leave, mesh_close, false,
	mesh_lost};

int comm_mesh_start(struct wl_comm *c, int *fd, struct wl_err *err)
{
	size_t n = (size_t)c->size;
	struct mesh *m = calloc(1, sizeof *m);

	if (m) {
		m->flow = calloc(n, sizeof *m->flow);
		m->poll = calloc(n, sizeof *m->poll);
		m->ended = calloc(n, sizeof *m->ended);
	}
	if (m && m->flow && m->poll && m->ended) {
		m->fd = fd;
		c->state = m;
		c->ops = &mesh_ops;
		return 0;
	}
	if (m) {
		free(m->flow);
		free(m->poll);
		free(m->ended);
		free(m);
	}
	for (size_t r = 0; r < n; r++)
		if (fd[r] >= 0)
			close(fd[r]);
	free(fd);
	return wl_err_nomem(err, "the connections between ranks", n * sizeof *m->flow);
}
