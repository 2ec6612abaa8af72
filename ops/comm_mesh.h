/* Ranks over TCP: comm_meet.c brings them together, comm_mesh.c exchanges. */
#ifndef WL_OPS_COMM_MESH_H
#define WL_OPS_COMM_MESH_H

#include "ops/comm_priv.h"
#include "ops/comm_wire.h"

/* Makes c a rank of a world whose ranks fd[r] lead to (-1 at its own place); takes fd, which was
 * malloc'ed, and closes what is in it even on failure.  rank and size are set already. */
WL_MUST_CHECK int comm_mesh_start(struct wl_comm *c, int *fd, struct wl_err *err);

/* Meets at `where` (NULL: where the environment says) within so many seconds (0: for ever) and
 * starts the mesh.  0 without a mesh where the environment says that the world is of one rank. */
WL_MUST_CHECK int comm_meet(struct wl_comm *c, const char *where, double seconds,
	struct wl_err *err);
/* Where ranks meet by the environment, into text; NULL: nowhere. */
const char *comm_meet_place(char text[COMM_NAME_MAX + 16]);

/* Sets rank and size of c by WL_RANK and WL_WORLD_SIZE, or torchrun's, Slurm's or Open MPI's
 * variables; *local: the number on this machine, -1 where they do not say. */
WL_MUST_CHECK int comm_who(struct wl_comm *c, int *local, struct wl_err *err);
/* What tells this run from others, the same on all its ranks; and this machine from others. */
void comm_name_run(uint8_t key[COMM_KEY]);
void comm_name_host(uint8_t host[COMM_HOST]);

double comm_now_s(void); /* of a clock that is never set */

#endif
