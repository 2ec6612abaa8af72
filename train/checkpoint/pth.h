/*
 * Reader of PyTorch's .pth files, both forms: the ZIP archive written since
 * torch 1.6 (data.pkl and one stored member for each storage) and the bare
 * pickle stream before it (magic number, protocol, system, object, storages).
 *
 * A pickle is a program.  Ours is a machine that runs none of it: it knows the
 * opcodes that build plain containers, and a short list of names (OrderedDict,
 * torch's tensor rebuilders and storages) that it interprets itself; any other
 * name is refused with a sentence.  Every tensor's reach (offset, shape,
 * stride) is checked against its storage before the tensor is handed out.
 *
 * Nested dictionaries are flattened with dots: {"learnable": {"a.weight": T}}
 * gives "learnable.a.weight".  Values that are not tensors (an epoch number,
 * an optimiser's options) are skipped.
 */
#ifndef WL_TRAIN_CHECKPOINT_PTH_H
#define WL_TRAIN_CHECKPOINT_PTH_H

#include "ops/saved.h"

struct wl_pth;

/* Opens, validates and lists the file; NULL and WL_ECKPT (WL_EFAIL when it cannot be read) on
 * failure. Tensors stay valid until close. */
struct wl_pth *wl_pth_open(const char *path, struct wl_err *err);
/* The same over bytes in memory, which must outlive the object; `path` is for messages. */
struct wl_pth *wl_pth_parse(const void *bytes, size_t n, const char *path, struct wl_err *err);
void wl_pth_close(struct wl_pth *p); /* accepts NULL */

/* All tensors, sorted by name. */
const struct wl_saved_list *wl_pth_list(const struct wl_pth *p);

#endif
