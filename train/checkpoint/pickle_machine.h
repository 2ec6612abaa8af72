/* Inside of the pickle machine: pickle.c has the opcodes of plain values,
 * pickle_torch.c those that name functions and storages. */
#ifndef WL_TRAIN_CHECKPOINT_PICKLE_MACHINE_H
#define WL_TRAIN_CHECKPOINT_PICKLE_MACHINE_H

#include "train/checkpoint/pickle.h"

struct wl_pk_machine {
	const uint8_t *p, *start, *end;
	const char *where;
	struct wl_arena *arena;
	struct wl_err *err;
	struct wl_pk_value **stack, **memo;
	size_t depth, stack_cap, memo_cap, memo_next;
};

/* Fails with a sentence that names the file and the byte; always -1. */
int wl_pk_bad(struct wl_pk_machine *m, const char *what);

/* The text up to a newline, which is consumed. */
WL_MUST_CHECK int wl_pk_take_line(struct wl_pk_machine *m, const char **line, size_t *len);

/* A zeroed value; NULL without memory. */
struct wl_pk_value *wl_pk_new_value(struct wl_pk_machine *m, enum wl_pk_kind kind);
/* Accepts NULL (what wl_pk_new_value gave), which fails. */
WL_MUST_CHECK int wl_pk_push(struct wl_pk_machine *m, struct wl_pk_value *v);
WL_MUST_CHECK int wl_pk_push_text(struct wl_pk_machine *m, enum wl_pk_kind kind, const void *text,
	size_t len);
/* The top value, removed; NULL with a message when there is none above a mark. */
struct wl_pk_value *wl_pk_pop(struct wl_pk_machine *m);
WL_MUST_CHECK int wl_pk_append(struct wl_pk_machine *m, struct wl_pk_value *list,
	struct wl_pk_value *item);

/* The opcodes GLOBAL, STACK_GLOBAL, BINPERSID, and REDUCE with NEWOBJ. */
WL_MUST_CHECK int wl_pk_op_global(struct wl_pk_machine *m);
WL_MUST_CHECK int wl_pk_op_stack_global(struct wl_pk_machine *m);
WL_MUST_CHECK int wl_pk_op_persid(struct wl_pk_machine *m);
WL_MUST_CHECK int wl_pk_op_reduce(struct wl_pk_machine *m);

#endif
