/*
 * Ranks that work on one thing together, and what they exchange.
 *
 * A world is made by MPI when the program was started by mpirun or srun; over TCP, without MPI,
 * when a rendezvous is given (WL_RENDEZVOUS, or torchrun's variables); by threads of one process
 * in tests (the simulator); and is a world of one rank otherwise: then every operation is a copy,
 * and MPI is not even initialised.
 *
 * All functions but wl_comm_rank and wl_comm_size are collective: every rank calls them in the
 * same order with sizes that fit together, from one thread at a time.  Counts may be as large
 * as memory (MPI's own stop at 2^31).  Integer results do not depend on the number of ranks;
 * sums of floating-point numbers are the same for the same number of ranks, and the same on
 * every rank.
 *
 * A rank that fails takes the others with it: under MPI by ending with its exit code (mpirun
 * ends the rest), over TCP by ending at all and in the simulator by wl_comm_leave, after which the
 * others' calls fail with WL_ERETRY.  One that is lost without a word (a machine, a cable) is
 * found by wl_comm_timeout.
 */
#ifndef WL_OPS_COMM_H
#define WL_OPS_COMM_H

#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_comm;

enum wl_comm_type { WL_COMM_U8, WL_COMM_I32, WL_COMM_I64, WL_COMM_U64, WL_COMM_F32, WL_COMM_F64 };
enum wl_comm_op { WL_COMM_SUM, WL_COMM_MIN, WL_COMM_MAX };

size_t wl_comm_type_bytes(enum wl_comm_type t);

/* The world that this process was launched in; once a process.  NULL on failure. */
struct wl_comm *wl_comm_open(struct wl_err *err);
/*
 * The same where ranks meet at `where`: "tcp://HOST:PORT", where rank 0 listens ("tcp://[::1]:4711"
 * for IPv6), or "file:DIR", a directory that all can read, empty or not.  NULL or "": where the
 * environment says, as wl_comm_open.  Which rank this is comes from WL_RANK and WL_WORLD_SIZE, or
 * from torchrun, srun or mpirun; WL_RUN_ID tells runs at one place apart (torchrun's and Slurm's
 * own ids count too).  WL_ERETRY when not all have come within so many seconds (0: for ever),
 * WL_EUSAGE when this one is not expected.
 */
struct wl_comm *wl_comm_open_at(const char *where, double seconds, struct wl_err *err);
/* NULL: nothing.  Over TCP it waits a little for the others to close too. */
void wl_comm_close(struct wl_comm *c);
/* True when the process was started as one of several ranks. */
bool wl_comm_launched(void);

/* n ranks as threads: runs fn(comm, user, err) on each and waits for all.  -1 with the error of
 * the first rank, by number, that failed of itself.  For tests, and at most 64 ranks. */
WL_MUST_CHECK int wl_comm_simulate(int n,
	int (*fn)(struct wl_comm *c, void *user, struct wl_err *err), void *user,
	struct wl_err *err);
/* This rank has failed and calls nothing any more. */
void wl_comm_leave(struct wl_comm *c);

/* What may go wrong in the simulator; a function of the seed, each rank and the number of its
 * exchange alone. */
struct wl_comm_faults {
	uint64_t seed;
	int delay_us;  /* every exchange is late by up to this */
	int kill_rank; /* this rank says nothing any more from exchange kill_at on; -1: none */
	int64_t kill_at;
	int drop_rank; /* what this rank sends in exchange drop_at is lost; -1: none */
	int64_t drop_at;
	double timeout_s; /* wl_comm_timeout's; over at once when nobody can come any more */
};
/* As wl_comm_simulate with faults.  A killed rank fails with WL_EFAIL, the others, within the
 * timeout, with WL_ERETRY. */
WL_MUST_CHECK int wl_comm_simulate_faults(int n,
	int (*fn)(struct wl_comm *c, void *user, struct wl_err *err), void *user,
	const struct wl_comm_faults *faults, struct wl_err *err);

/* Nobody waits longer for another rank than this (0: for ever): in the simulator and over TCP the
 * call fails with WL_ERETRY; under MPI, whose calls cannot be given up, the process says so and
 * ends with exit code 75, and the launcher ends the others. */
WL_MUST_CHECK int wl_comm_timeout(struct wl_comm *c, double seconds, struct wl_err *err);

/* Whether a rank is known to be gone without having said that it ends, and which; it waits for
 * nothing, and any thread may ask.  Over TCP only: else a loss shows in an exchange. */
bool wl_comm_lost(const struct wl_comm *c, int *rank);

/* Ranks on this machine (c NULL: 1). */
int wl_comm_local_size(const struct wl_comm *c);
/* This rank's number among them. */
int wl_comm_local_rank(const struct wl_comm *c);
/* Threads of one kind on this rank: what was asked for; else, where several ranks share the machine
 * and the launcher has not given each its cores, this rank's share of them; 0: all. */
int wl_comm_share_of_cores(const struct wl_comm *c, int64_t asked);
/* c NULL: the only rank. */
int wl_comm_rank(const struct wl_comm *c);
int wl_comm_size(const struct wl_comm *c);

WL_MUST_CHECK int wl_comm_barrier(struct wl_comm *c, struct wl_err *err);
/* In place over n elements. */
WL_MUST_CHECK int wl_comm_all_reduce(struct wl_comm *c, void *v, size_t n, enum wl_comm_type t,
	enum wl_comm_op op, struct wl_err *err);
/* Sums in[size * n] over the ranks; rank r gets elements [r * n, (r + 1) * n) in out[n]. */
WL_MUST_CHECK int wl_comm_reduce_scatter(struct wl_comm *c, const void *in, void *out, size_t n,
	enum wl_comm_type t, struct wl_err *err);
/* bytes from each rank, by rank, into out[size * bytes]; in must not overlap out. */
WL_MUST_CHECK int wl_comm_all_gather(
	struct wl_comm *c, const void *in, size_t bytes, void *out, struct wl_err *err);
/* The same where rank r's bytes stand at v + r * bytes already. */
WL_MUST_CHECK int wl_comm_all_gather_in_place(
	struct wl_comm *c, void *v, size_t bytes, struct wl_err *err);
/* As many bytes from each as it gives: bytes_of[size] is filled in, *out is fresh memory (to be
 * freed) with all of it by rank. */
WL_MUST_CHECK int wl_comm_all_gatherv(struct wl_comm *c, const void *in, size_t bytes, void **out,
	size_t *bytes_of, struct wl_err *err);
/* root's bytes to all. */
WL_MUST_CHECK int wl_comm_broadcast(
	struct wl_comm *c, void *v, size_t bytes, int root, struct wl_err *err);
/* in: send[0] bytes for rank 0, then send[1] for rank 1, ...; *out is fresh memory (to be freed)
 * with what came, by rank; recv[size] is filled in. */
WL_MUST_CHECK int wl_comm_alltoallv(struct wl_comm *c, const void *in, const size_t *send,
	void **out, size_t *recv, struct wl_err *err);

#endif
