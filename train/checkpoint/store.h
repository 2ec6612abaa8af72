/*
 * A parameter store to and from a safetensors file, in PyTorch's names, shapes
 * and element order, f32 bit for bit; and the arrays that go with a store
 * (Adam's moments) under the same names behind a prefix.
 */
#ifndef WL_TRAIN_CHECKPOINT_STORE_H
#define WL_TRAIN_CHECKPOINT_STORE_H

#include "train/dist/cut.h"
#include "train/nn/params.h"

/* One array of params->floats floats laid out as the store's values (backend memory), saved
 * under prefix + name for the entries that have all bits of `flags`, and none of `without`. */
struct wl_store_array {
	const char *prefix; /* "", "exp_avg." */
	float *data;
	unsigned flags, without;
	/* Loading keeps of the weights only what this rank owns; NULL: all. */
	const struct wl_cut *cut;
	bool host; /* data is a copy in the host's memory, to be saved */
};

/* Writes the arrays into one file (temporary name, sync, rename). */
WL_MUST_CHECK int wl_store_save(const char *path, const struct wl_params *params,
	const struct wl_store_array *arrays, size_t n, struct wl_err *err);

/* Reads what wl_store_save wrote.  Every expected tensor must be there in its shape, and no
 * other: WL_ECKPT names the first that is not. */
WL_MUST_CHECK int wl_store_load(const char *path, const struct wl_params *params,
	const struct wl_store_array *arrays, size_t n, struct wl_err *err);

#endif
