/*
 * A pickle machine that executes nothing: it builds a tree of plain values and
 * leaves tensors as descriptions.  Used by pth.c only.
 */
#ifndef WL_TRAIN_CHECKPOINT_PICKLE_H
#define WL_TRAIN_CHECKPOINT_PICKLE_H

#include "ops/arena.h"
#include "ops/saved.h"

enum wl_pk_kind {
	WL_PK_NONE,
	WL_PK_BOOL,   /* i */
	WL_PK_INT,    /* i; wider than 64 bits: text holds the little-endian bytes */
	WL_PK_FLOAT,  /* skipped by all users, so the value is not kept */
	WL_PK_STR,    /* text, len */
	WL_PK_TUPLE,  /* items */
	WL_PK_LIST,   /* items */
	WL_PK_DICT,   /* items: key, value, key, value, ... */
	WL_PK_GLOBAL, /* text: "module name", one of the allow-list */
	WL_PK_STORAGE,
	WL_PK_TENSOR,
	WL_PK_OPAQUE, /* a torch.device, a torch.Size, ...: allowed and ignored */
	WL_PK_MARK,   /* internal */
};

/* A storage that the pickle mentions: its bytes lie elsewhere in the file. */
struct wl_pk_storage {
	const char *key;
	enum wl_saved_dtype dtype;
	int64_t numel;       /* elements, as the pickle says */
	int64_t view_offset; /* legacy views: elements into the root storage; else 0 */
};

struct wl_pk_value {
	enum wl_pk_kind kind;
	int64_t i;
	const char *text; /* followed by a 0 byte; may hold others */
	size_t len;
	struct wl_pk_value **items;
	size_t count, cap;
	struct wl_pk_storage *storage; /* STORAGE, TENSOR */
	struct wl_saved_tensor *tensor; /* TENSOR: dtype, rank, shape, strides, count; no data */
	int64_t offset;                 /* TENSOR: first element within the storage */
	int visited;                    /* for walks over the graph, which may have cycles */
};

/* Runs the pickle at bytes; *used receives its length up to and including STOP. Values live in
 * `arena`. where: names the file and the part, for messages. NULL on failure (WL_ECKPT). */
struct wl_pk_value *wl_pickle_load(const uint8_t *bytes, size_t n, size_t *used,
	const char *where, struct wl_arena *arena, struct wl_err *err);

#endif
