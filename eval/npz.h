/*
 * NumPy's .npz, which is a zip of .npy files, stored or deflated (numpy.savez and
 * savez_compressed).  Read with libarchive, member by member.
 */
#ifndef WL_EVAL_NPZ_H
#define WL_EVAL_NPZ_H

#include "ops/buf.h"

/* The bytes of the member NAME.npy into out (whose max bounds them); name NULL: the only member,
 * WL_EDATA when there are several.  WL_EDATA, with the names that are there, when it is missing. */
WL_MUST_CHECK int wl_npz_read(const char *path, const char *name, struct wl_buf *out,
	struct wl_err *err);
/* The same over a zip file in memory; `path` is for messages. */
WL_MUST_CHECK int wl_npz_read_memory(const void *bytes, size_t n, const char *path,
	const char *name, struct wl_buf *out, struct wl_err *err);

#endif
