/* See comm.h.  The gathers and the all-to-all are made of one primitive, the exchange. */
#include "ops/comm_mesh.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MEETING_S = 300 };

size_t wl_comm_type_bytes(enum wl_comm_type t)
{
	switch (t) {
	case WL_COMM_U8:
		return 1;
	case WL_COMM_I32:
	case WL_COMM_F32:
		return 4;
	case WL_COMM_I64:
	case WL_COMM_U64:
	case WL_COMM_F64:
		return 8;
	}
	WL_BUG("type %d of a collective", (int)t);
}

#define COMBINE(T) \
	do { \
		T *d = dst; \
		const T *s = src; \
		for (size_t i = 0; i < n; i++) { \
			if (op == WL_COMM_SUM) \
				d[i] = (T)(d[i] + s[i]); \
			else if ((op == WL_COMM_MIN) == (s[i] < d[i])) \
				d[i] = s[i]; \
		} \
	} while (0)

void comm_combine(void *dst, const void *src, size_t n, enum wl_comm_type t, enum wl_comm_op op)
{
	switch (t) {
	case WL_COMM_U8:
		COMBINE(uint8_t);
		break;
	case WL_COMM_I32:
		COMBINE(int32_t);
		break;
	case WL_COMM_I64:
		COMBINE(int64_t);
		break;
	case WL_COMM_U64:
		COMBINE(uint64_t);
		break;
	case WL_COMM_F32:
		COMBINE(float);
		break;
	case WL_COMM_F64:
		COMBINE(double);
		break;
	}
}

static bool by_mpi(void)
{
	/* Open MPI, MPICH and Intel (hydra), PMIx (srun, prrte). */
	static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (getenv(names[i]))
			return true;
	return false;
}

bool wl_comm_launched(void)
{
	char text[COMM_NAME_MAX + 16];

	return by_mpi() || comm_meet_place(text);
}

struct wl_comm *wl_comm_open(struct wl_err *err)
{
	return wl_comm_open_at(NULL, MEETING_S, err);
}

struct wl_comm *wl_comm_open_at(const char *where, double seconds, struct wl_err *err)
{
	bool given = (where && *where) || getenv("WL_RENDEZVOUS");
	struct wl_comm *c = calloc(1, sizeof(*c));
	int ret = 0;

	if (!c) {
		wl_err_nomem(err, "a world of ranks", sizeof(*c));
		return NULL;
	}
	c->size = c->local_size = 1;
	if (!given && by_mpi())
		ret = comm_mpi_open(c, err);
	else if (given || wl_comm_launched())
		ret = comm_meet(c, where, seconds, err);
	if (ret < 0) {
		free(c);
		return NULL;
	}
	return c;
}

void wl_comm_close(struct wl_comm *c)
{
	if (!c)
		return;
	comm_watch_close(c->watch);
	if (c->ops)
		c->ops->close(c);
	free(c);
}

void wl_comm_leave(struct wl_comm *c)
{
	if (c && c->ops)
		c->ops->leave(c);
}

int wl_comm_rank(const struct wl_comm *c)
{
	return c ? c->rank : 0;
}

int wl_comm_size(const struct wl_comm *c)
{
	return c ? c->size : 1;
}

static bool alone(const struct wl_comm *c)
{
	return !c || !c->ops;
}

int wl_comm_local_size(const struct wl_comm *c)
{
	return alone(c) ? 1 : c->local_size;
}

int wl_comm_local_rank(const struct wl_comm *c)
{
	return alone(c) ? 0 : c->local_rank;
}

int wl_comm_share_of_cores(const struct wl_comm *c, int64_t asked)
{
	int local = wl_comm_local_size(c), cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t mine;

	if (asked || local == 1)
		return (int)asked;
	CPU_ZERO(&mine);
	if (sched_getaffinity(0, sizeof mine, &mine) == 0 && CPU_COUNT(&mine) < cores)
		return 0;
	return cores / local > 1 ? cores / local : 1;
}

int wl_comm_timeout(struct wl_comm *c, double seconds, struct wl_err *err)
{
	if (alone(c))
		return 0;
	c->timeout_s = seconds;
	comm_watch_close(c->watch);
	c->watch = NULL;
	if (!c->ops->watched || seconds <= 0)
		return 0;
	c->watch = comm_watch_open(c->rank, seconds, err);
	return c->watch ? 0 : -1;
}

bool wl_comm_lost(const struct wl_comm *c, int *rank)
{
	return !alone(c) && c->ops->lost && c->ops->lost(c, rank);
}

/* One exchange under the eye of the watch. */
#define WATCHED(c, what, call)             \
	do {                               \
		comm_watch_enter((c)->watch, what); \
		int ret_ = call;           \
		comm_watch_leave((c)->watch); \
		return ret_;               \
	} while (0)

static int exchange(struct wl_comm *c, const void *in, const size_t *send, void *out,
	const size_t *recv, struct wl_err *err)
{
	WATCHED(c, "an exchange", c->ops->exchange(c, in, send, out, recv, err));
}

static int broadcast(struct wl_comm *c, void *v, size_t bytes, int root, struct wl_err *err)
{
	WATCHED(c, "a broadcast", c->ops->broadcast(c, v, bytes, root, err));
}

int wl_comm_barrier(struct wl_comm *c, struct wl_err *err)
{
	if (alone(c))
		return 0;
	WATCHED(c, "a barrier", c->ops->barrier(c, err));
}

int wl_comm_all_reduce(struct wl_comm *c, void *v, size_t n, enum wl_comm_type t,
	enum wl_comm_op op, struct wl_err *err)
{
	if (alone(c))
		return 0;
	WATCHED(c, "an all-reduce", c->ops->all_reduce(c, v, n, t, op, err));
}

int wl_comm_reduce_scatter(struct wl_comm *c, const void *in, void *out, size_t n,
	enum wl_comm_type t, struct wl_err *err)
{
	if (alone(c)) {
		memcpy(out, in, n * wl_comm_type_bytes(t));
		return 0;
	}
	WATCHED(c, "a reduce-scatter", c->ops->reduce_scatter(c, in, out, n, t, err));
}

int wl_comm_broadcast(struct wl_comm *c, void *v, size_t bytes, int root, struct wl_err *err)
{
	WL_ASSERT(root >= 0 && root < wl_comm_size(c));
	return alone(c) ? 0 : broadcast(c, v, bytes, root, err);
}

/* The same bytes to every rank: an exchange whose parts are copies of one. */
static int gather(struct wl_comm *c, const void *in, size_t bytes, void *out,
	const size_t *recv, struct wl_err *err)
{
	size_t *send = malloc((size_t)c->size * sizeof(*send));
	char *copies = malloc(bytes * (size_t)c->size + 1);
	int ret = -1;

	if (!send || !copies) {
		wl_err_nomem(err, "a gathering", bytes * (size_t)c->size);
		goto out;
	}
	for (int r = 0; r < c->size; r++) {
		send[r] = bytes;
		if (bytes)
			memcpy(copies + bytes * (size_t)r, in, bytes);
	}
	ret = exchange(c, copies, send, out, recv, err);
out:
	free(send);
	free(copies);
	return ret;
}

/* Large parts go rank by rank, so that nobody holds copies of them. */
enum { GATHER_BYTES = 1 << 16 };

static int gather_by_broadcast(struct wl_comm *c, const void *in, void *out, const size_t *recv,
	struct wl_err *err)
{
	char *at = out;

	for (int r = 0; r < c->size; at += recv[r++]) {
		if (r == c->rank && recv[r])
			memcpy(at, in, recv[r]);
		WL_TRY(broadcast(c, at, recv[r], r, err));
	}
	return 0;
}

int wl_comm_all_gather(
	struct wl_comm *c, const void *in, size_t bytes, void *out, struct wl_err *err)
{
	size_t *recv;
	int ret;

	if (alone(c)) {
		if (bytes)
			memcpy(out, in, bytes);
		return 0;
	}
	recv = malloc((size_t)c->size * sizeof(*recv));
	if (!recv)
		return wl_err_nomem(err, "a gathering", (size_t)c->size * sizeof(*recv));
	for (int r = 0; r < c->size; r++)
		recv[r] = bytes;
	ret = bytes <= GATHER_BYTES ? gather(c, in, bytes, out, recv, err)
				    : gather_by_broadcast(c, in, out, recv, err);
	free(recv);
	return ret;
}

int wl_comm_all_gather_in_place(struct wl_comm *c, void *v, size_t bytes, struct wl_err *err)
{
	if (alone(c))
		return 0;
	WATCHED(c, "an all-gather", c->ops->gather_in_place(c, v, bytes, err));
}

static size_t sum(const size_t *v, int n)
{
	size_t s = 0;

	for (int i = 0; i < n; i++)
		s += v[i];
	return s;
}

int wl_comm_all_gatherv(struct wl_comm *c, const void *in, size_t bytes, void **out,
	size_t *bytes_of, struct wl_err *err)
{
	size_t total;

	WL_TRY(wl_comm_all_gather(c, &bytes, sizeof(bytes), bytes_of, err));
	total = sum(bytes_of, wl_comm_size(c));
	*out = malloc(total + 1);
	if (!*out)
		return wl_err_nomem(err, "what all ranks gave", total);
	if (alone(c)) {
		if (bytes)
			memcpy(*out, in, bytes);
		return 0;
	}
	if (gather_by_broadcast(c, in, *out, bytes_of, err) < 0) {
		free(*out);
		*out = NULL;
		return -1;
	}
	return 0;
}

int wl_comm_alltoallv(struct wl_comm *c, const void *in, const size_t *send, void **out,
	size_t *recv, struct wl_err *err)
{
	size_t one = sizeof(*send), total;
	size_t *ones;

	*out = NULL;
	if (alone(c)) {
		recv[0] = send[0];
	} else {
		ones = malloc((size_t)c->size * sizeof(*ones));
		if (!ones)
			return wl_err_nomem(err, "an exchange", (size_t)c->size * one);
		for (int r = 0; r < c->size; r++)
			ones[r] = one;
		int ret = exchange(c, send, ones, recv, ones, err);
		free(ones);
		WL_TRY(ret);
	}
	total = sum(recv, wl_comm_size(c));
	*out = malloc(total + 1);
	if (!*out)
		return wl_err_nomem(err, "what other ranks sent", total);
	if (alone(c)) {
		if (total)
			memcpy(*out, in, total);
		return 0;
	}
	if (exchange(c, in, send, *out, recv, err) < 0) {
		free(*out);
		*out = NULL;
		return -1;
	}
	return 0;
}
