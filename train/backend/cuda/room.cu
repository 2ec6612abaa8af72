/* Where the GPU's memory is too small: see room.h. */
#include "train/backend/cuda/room.h"

#include <stdio.h>

int wl_cuda_no_room(
	const char *what, size_t bytes, const char *why, const char *also, struct wl_err *err)
{
	const double gib = 1024.0 * 1024 * 1024;
	size_t left = 0, all = 0;
	char there[80] = "", asked[40] = "";

	if (cudaMemGetInfo(&left, &all) == cudaSuccess)
		snprintf(there, sizeof there, ", and %.2f of its %.2f GiB are free",
			(double)left / gib, (double)all / gib);
	else
		cudaGetLastError(); /* it was asked for a figure only */
	if (bytes)
		snprintf(asked, sizeof asked, "%.2f GiB of ", (double)bytes / gib);
	return wl_err_set(err, WL_EFAIL,
		"the GPU has no room for %s%s (%s)%s: lower the batch (--data.batch of "
		"wenlan-train, --batch of the others), or, in training, take a step in parts "
		"(--data.accumulate), --recompute, --optim.state bf16, or share it out over more "
		"ranks (--dist.zero 3)%s; wenlan-train --dry-run says what takes how much",
		asked, what, why, there, also);
}
