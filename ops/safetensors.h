/*
 * The safetensors format: a u64 length N, N bytes of JSON that give name,
 * dtype, shape and byte range of each tensor, then the bytes.  Our checkpoints
 * and embedding files have this form, so that PyTorch opens them.
 *
 * The reader maps the file and trusts nothing: header length, JSON, duplicate
 * keys, products that overflow, ranges with holes or overlaps, a file longer
 * or shorter than its header says are each refused with WL_ECKPT and a
 * sentence.  (Rules: the format's README and its Rust reader, tensor.rs.)
 *
 * The writer lays tensors out as the reference one does (larger element types
 * first, then by name), lets the caller fill them in any order and in pieces,
 * and puts the file in place only when complete: temporary name, sync, rename.
 */
#ifndef WL_OPS_SAFETENSORS_H
#define WL_OPS_SAFETENSORS_H

#include "ops/saved.h"

struct wl_safetensors;

/* Opens and validates the file; NULL on failure. Tensors stay valid until close. */
struct wl_safetensors *wl_safetensors_open(const char *path, struct wl_err *err);
/* The same over bytes in memory, which must outlive the object; `path` is for messages. */
struct wl_safetensors *wl_safetensors_parse(const void *bytes, size_t n, const char *path,
	struct wl_err *err);
void wl_safetensors_close(struct wl_safetensors *st); /* accepts NULL */

/* All tensors, sorted by name. */
const struct wl_saved_list *wl_safetensors_list(const struct wl_safetensors *st);
/* The tensor; NULL and a WL_ECKPT sentence that lists near names when it is missing. */
const struct wl_saved_tensor *wl_safetensors_get(const struct wl_safetensors *st,
	const char *name, struct wl_err *err);
/* A string of the file's metadata, or NULL. */
const char *wl_safetensors_meta(const struct wl_safetensors *st, const char *key);

struct wl_safetensors_writer;

/* Starts a file that will appear at `path` on finish; NULL on failure. */
struct wl_safetensors_writer *wl_safetensors_create(const char *path, struct wl_err *err);
/* Declares a tensor; returns its handle (0, 1, ... in order of declaration). */
WL_MUST_CHECK int wl_safetensors_declare(struct wl_safetensors_writer *w, const char *name,
	enum wl_saved_dtype dtype, int rank, const int64_t *shape, struct wl_err *err);
WL_MUST_CHECK int wl_safetensors_add_meta(struct wl_safetensors_writer *w, const char *key,
	const char *value, struct wl_err *err);
/* Ends the declarations and writes the header. */
WL_MUST_CHECK int wl_safetensors_begin(struct wl_safetensors_writer *w, struct wl_err *err);
/* Appends n bytes to tensor `handle`; pieces of one tensor come in order, tensors in any. */
WL_MUST_CHECK int wl_safetensors_write(struct wl_safetensors_writer *w, int handle,
	const void *bytes, size_t n, struct wl_err *err);
/* Requires every tensor to be complete; syncs, renames, syncs the directory, frees w whether
 * it succeeds or not. On failure no file appears. */
WL_MUST_CHECK int wl_safetensors_finish(struct wl_safetensors_writer *w, struct wl_err *err);
/* Abandons the file; accepts NULL. */
void wl_safetensors_abort(struct wl_safetensors_writer *w);

#endif
