/*
 * The optimiser's moments to and from files of a checkpoint.  One rank writes
 * whole tensors under torch's names, exp_avg.NAME and exp_avg_sq.NAME; of several
 * ranks each writes what it owns, as flat slices exp_avg.NAME[begin:end] in the
 * order of the store (for a convolution [O,kh,kw,I], not torch's).  A slice says
 * itself where it belongs, so any number of ranks, at any stage, reads what any
 * other number wrote.  Moments in bf16 are written as slices of BF16 always.
 */
#ifndef WL_TRAIN_OPTIM_STATE_H
#define WL_TRAIN_OPTIM_STATE_H

#include "ops/file.h"
#include "train/dist/cut.h"
#include "train/nn/params.h"

#include <jansson.h>

/* Adam's m and v.  Saved from the host's memory, where what this rank owns stands one behind the
 * other (wl_cut_owned); loaded into the backend's, laid out as the store's values. */
struct wl_moments {
	const struct wl_params *params;
	void *m, *v;
	enum wl_dtype dtype; /* of both: WL_F32 or WL_BF16, in memory and in the files */
	const struct wl_cut *cut; /* NULL: alone; writes and reads what this rank owns */
	bool whole;               /* every rank holds all of it (stage 0): reads all */
};

/* optim-RRRRR-of-WWWWW.safetensors in dir; its name is added to names. */
WL_MUST_CHECK int wl_moments_save(const struct wl_moments *s, const char *dir,
	struct wl_names *names, struct wl_err *err);
/* All such files of a checkpoint; files: the object of that name in state.json.  WL_ECKPT when
 * they do not hold every trainable parameter exactly once. */
WL_MUST_CHECK int wl_moments_load(const struct wl_moments *s, const char *dir,
	const json_t *files, struct wl_err *err);

#endif
