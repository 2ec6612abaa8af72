/* Between comm.c (what callers see, and the world of one), comm_mpi.c and comm_sim.c. */
#ifndef WL_OPS_COMM_PRIV_H
#define WL_OPS_COMM_PRIV_H

#include "ops/comm.h"

/* One way of exchanging.  Every entry is collective; bytes may be 0. */
struct comm_ops {
	int (*barrier)(struct wl_comm *c, struct wl_err *err);
	int (*all_reduce)(struct wl_comm *c, void *v, size_t n, enum wl_comm_type t,
		enum wl_comm_op op, struct wl_err *err);
	/* out[r * n ..] of every rank, summed, to rank r. */
	int (*reduce_scatter)(struct wl_comm *c, const void *in, void *out, size_t n,
		enum wl_comm_type t, struct wl_err *err);
	int (*broadcast)(struct wl_comm *c, void *v, size_t bytes, int root, struct wl_err *err);
	int (*gather_in_place)(struct wl_comm *c, void *v, size_t bytes, struct wl_err *err);
	/* send and recv are known on both sides; out is large enough. */
	int (*exchange)(struct wl_comm *c, const void *in, const size_t *send, void *out,
		const size_t *recv, struct wl_err *err);
	void (*leave)(struct wl_comm *c);
	void (*close)(struct wl_comm *c);
	bool watched; /* its calls never return when a rank is lost */
	/* See wl_comm_lost; NULL: not known. */
	bool (*lost)(const struct wl_comm *c, int *rank);
};

struct wl_comm {
	const struct comm_ops *ops; /* NULL: a world of one */
	int rank, size, local_size, local_rank;
	void *state;
	double timeout_s;          /* 0: none */
	struct comm_watch *watch;  /* NULL: none, or the kind of world has its own way */
};

/* The thread that ends the process when an exchange lasts too long: comm_watch.c. */
struct comm_watch *comm_watch_open(int rank, double seconds, struct wl_err *err);
void comm_watch_close(struct comm_watch *w);
/* An exchange begins, and is over; w NULL: nothing. */
void comm_watch_enter(struct comm_watch *w, const char *what);
void comm_watch_leave(struct comm_watch *w);

/* dst[i] = dst[i] op src[i]. */
void comm_combine(
	void *dst, const void *src, size_t n, enum wl_comm_type t, enum wl_comm_op op);

WL_MUST_CHECK int comm_mpi_open(struct wl_comm *c, struct wl_err *err);

#endif
