/*
 * A store's values in the host's memory, for a checkpoint that is written while training goes on.
 *
 * One rank writes a store's file, and has the whole of it.  Where the store lies in pieces over the
 * ranks (dist.h), every rank copies its own to the host, beside its next step, and no exchange
 * between ranks is needed, on whose turn steps would wait; in the thread that writes, ranks put
 * their pieces into files of the checkpoint's directory (share), and once all have, the one that
 * writes the store reads and removes them (gather).
 */
#ifndef WL_TRAIN_TAKEN_H
#define WL_TRAIN_TAKEN_H

#include "train/dist/dist.h"

struct wl_taken {
	const char *name;	 /* of the store in names of files: "model" */
	struct wl_params *store; /* borrowed; NULL: there is none */
	struct wl_dist *dist;	 /* borrowed; NULL: alone */
	bool mine;		 /* this rank writes it */
	/* Laid out as the store on the rank that writes it; elsewhere NULL or, of a store in
	 * pieces, this rank's, one behind the other. */
	float *value;
	size_t bytes; /* of value, which is of the backend's alloc_host; 0: it is the store's own */
};

/* What is to be taken; nothing is allocated. */
void wl_taken_init(struct wl_taken *s, const char *name, struct wl_params *store,
	struct wl_dist *dist, int writer);
/* The memory of copies now, in place of at the first take. */
WL_MUST_CHECK int wl_taken_reserve(struct wl_taken *s, struct wl_err *err);
/* Copies the values as they stand after the work given so far; every rank calls it.  Weights are
 * under way until wl_backend.fetched, beside the next step's work up to its update. */
WL_MUST_CHECK int wl_taken_copy(struct wl_taken *s, struct wl_err *err);
/* In place of a copy: the values stay where they are, in memory that the host reaches. */
void wl_taken_borrow(struct wl_taken *s);

/* Once the copy is here: writes this rank's pieces into dir if another rank writes the store. */
WL_MUST_CHECK int wl_taken_share(const struct wl_taken *s, const char *dir, struct wl_err *err);
/* After all ranks' share: value is whole where this rank writes it, and the files are gone. */
WL_MUST_CHECK int wl_taken_gather(const struct wl_taken *s, const char *dir, struct wl_err *err);

/* Gives back the memory of a copy that is used up, where the next one can have it anew. */
void wl_taken_drop(struct wl_taken *s);
void wl_taken_release(struct wl_taken *s);

#endif
