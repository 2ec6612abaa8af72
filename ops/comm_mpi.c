/*
 * Ranks over MPI.  Messages are cut into pieces, because MPI counts in int.
 */
#include "ops/comm_priv.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 28, TAG = 7 };

static int failed(int code, const char *what, struct wl_err *err)
{
	char text[MPI_MAX_ERROR_STRING] = "";
	int n = 0;

	if (code == MPI_SUCCESS)
		return 0;
	MPI_Error_string(code, text, &n);
	return wl_err_set(err, WL_ERETRY, "MPI's %s failed: %.*s; run the same command again.",
		what, n, text);
}

static MPI_Datatype type_of(enum wl_comm_type t)
{
	switch (t) {
	case WL_COMM_U8:
		return MPI_UINT8_T;
	case WL_COMM_I32:
		return MPI_INT32_T;
	case WL_COMM_I64:
		return MPI_INT64_T;
	case WL_COMM_U64:
		return MPI_UINT64_T;
	case WL_COMM_F32:
		return MPI_FLOAT;
	case WL_COMM_F64:
		return MPI_DOUBLE;
	}
	WL_BUG("type %d of a collective", (int)t);
}

static int mpi_barrier(struct wl_comm *c, struct wl_err *err)
{
	(void)c;
	return failed(MPI_Barrier(MPI_COMM_WORLD), "barrier", err);
}

static int mpi_all_reduce(struct wl_comm *c, void *v, size_t n, enum wl_comm_type t,
	enum wl_comm_op op, struct wl_err *err)
{
	MPI_Op o = op == WL_COMM_SUM ? MPI_SUM : op == WL_COMM_MIN ? MPI_MIN : MPI_MAX;
	size_t width = wl_comm_type_bytes(t), piece = PIECE / width;

	(void)c;
	for (size_t at = 0; at < n; at += piece) {
		size_t m = n - at < piece ? n - at : piece;
		WL_TRY(failed(MPI_Allreduce(MPI_IN_PLACE, (char *)v + at * width, (int)m,
				      type_of(t), o, MPI_COMM_WORLD),
			"all-reduce", err));
	}
	return 0;
}

/* Part by part to its rank: pieces of a part are contiguous, those of all parts are not. */
static int mpi_reduce_scatter(struct wl_comm *c, const void *in, void *out, size_t n,
	enum wl_comm_type t, struct wl_err *err)
{
	size_t width = wl_comm_type_bytes(t), piece = PIECE / width;

	if (n * (size_t)c->size < (size_t)1 << 31)
		return failed(MPI_Reduce_scatter_block(
				      in, out, (int)n, type_of(t), MPI_SUM, MPI_COMM_WORLD),
			"reduce-scatter", err);
	for (int r = 0; r < c->size; r++)
		for (size_t at = 0; at < n; at += piece) {
			size_t m = n - at < piece ? n - at : piece;
			const char *from = (const char *)in + ((size_t)r * n + at) * width;
			WL_TRY(failed(MPI_Reduce(from, (char *)out + at * width, (int)m, type_of(t),
					      MPI_SUM, r, MPI_COMM_WORLD),
				"reduce", err));
		}
	return 0;
}

static int mpi_broadcast(struct wl_comm *c, void *v, size_t bytes, int root, struct wl_err *err)
{
	(void)c;
	for (size_t at = 0; at < bytes; at += PIECE) {
		size_t m = bytes - at < PIECE ? bytes - at : PIECE;
		WL_TRY(failed(MPI_Bcast((char *)v + at, (int)m, MPI_BYTE, root, MPI_COMM_WORLD),
			"broadcast", err));
	}
	return 0;
}

static int mpi_gather_in_place(struct wl_comm *c, void *v, size_t bytes, struct wl_err *err)
{
	if (bytes <= PIECE)
		return failed(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, v, (int)bytes,
				      MPI_BYTE, MPI_COMM_WORLD),
			"all-gather", err);
	for (int r = 0; r < c->size; r++)
		WL_TRY(mpi_broadcast(c, (char *)v + (size_t)r * bytes, bytes, r, err));
	return 0;
}

/* With one partner at a time (rank + step sends, rank - step receives): no rank is flooded. */
static int mpi_exchange(struct wl_comm *c, const void *in, const size_t *send, void *out,
	const size_t *recv, struct wl_err *err)
{
	for (int step = 0; step < c->size; step++) {
		int to = (c->rank + step) % c->size, from = (c->rank - step + c->size) % c->size;
		const char *src = in;
		char *dst = out;
		for (int r = 0; r < to; r++)
			src += send[r];
		for (int r = 0; r < from; r++)
			dst += recv[r];
		if (step == 0) {
			if (send[to])
				memcpy(dst, src, send[to]);
			continue;
		}
		for (size_t at = 0; at < send[to] || at < recv[from]; at += PIECE) {
			MPI_Request q[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
			if (at < recv[from]) {
				size_t m = recv[from] - at < PIECE ? recv[from] - at : PIECE;
				WL_TRY(failed(MPI_Irecv(dst + at, (int)m, MPI_BYTE, from, TAG,
						      MPI_COMM_WORLD, &q[0]),
					"receive", err));
			}
			if (at < send[to]) {
				size_t m = send[to] - at < PIECE ? send[to] - at : PIECE;
				WL_TRY(failed(MPI_Isend(src + at, (int)m, MPI_BYTE, to, TAG,
						      MPI_COMM_WORLD, &q[1]),
					"send", err));
			}
			WL_TRY(failed(MPI_Waitall(2, q, MPI_STATUSES_IGNORE), "wait", err));
		}
	}
	return 0;
}

static void mpi_leave(struct wl_comm *c)
{
	(void)c; /* the process ends with its code, and the launcher ends the others */
}

static void mpi_close(struct wl_comm *c)
{
	(void)c;
	MPI_Finalize();
}

static const struct comm_ops mpi_ops = {mpi_barrier, mpi_all_reduce, mpi_reduce_scatter,
	mpi_broadcast, mpi_gather_in_place, mpi_exchange, mpi_leave, mpi_close, true, NULL};

/* Ranks that share this machine's memory. */
static int count_local(struct wl_comm *c, struct wl_err *err)
{
	MPI_Comm local;

	WL_TRY(failed(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL,
			      &local),
		"grouping by machine", err));
	MPI_Comm_size(local, &c->local_size);
	MPI_Comm_rank(local, &c->local_rank);
	MPI_Comm_free(&local);
	return 0;
}

int comm_mpi_open(struct wl_comm *c, struct wl_err *err)
{
	int provided;

	WL_TRY(failed(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided),
		"initialisation", err));
	MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
	if (provided < MPI_THREAD_SERIALIZED) {
		MPI_Finalize();
		return wl_err_set(err, WL_EFAIL,
			"this MPI allows no threads (level %d, needed %d); use another build of "
			"it.",
			provided, MPI_THREAD_SERIALIZED);
	}
	MPI_Comm_rank(MPI_COMM_WORLD, &c->rank);
	MPI_Comm_size(MPI_COMM_WORLD, &c->size);
	c->ops = &mpi_ops;
	return count_local(c, err);
}
