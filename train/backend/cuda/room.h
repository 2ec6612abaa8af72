/* Where the GPU's memory is too small. */
#ifndef WL_TRAIN_BACKEND_CUDA_ROOM_H
#define WL_TRAIN_BACKEND_CUDA_ROOM_H

#include "train/backend/cuda/cuda.h"

/* WL_EFAIL: how many bytes were asked for (0: many pieces) and for what, why they are not there,
 * how many are free, and how to need less. also: more of that, "; or ...", or "". */
int wl_cuda_no_room(
	const char *what, size_t bytes, const char *why, const char *also, struct wl_err *err);

#endif
