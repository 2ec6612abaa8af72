/* state.json of a checkpoint: arbitrary bytes are refused with a sentence or read, and what is read
 * and well hashed is restored or refused, never more. */
#include "ops/json.h"
#include "train/checkpoint/ckpt.h"
#include "train/optim/guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[] = "/tmp/wl-fuzz-state-XXXXXX", path[64];

static void sweep(void)
{
	unlink(path);
	rmdir(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_guard guard = {0};
	json_t *state;
	char *found;
	FILE *f;

	if (!path[0]) {
		if (!mkdtemp(dir))
			abort();
		snprintf(path, sizeof path, "%s/state.json", dir);
		atexit(sweep);
	}
	f = fopen(path, "wb");
	if (!f || fwrite(bytes, 1, n, f) != n || fclose(f))
		abort();
	if (wl_ckpt_load(dir, &found, &state, &err) == 0) {
		json_decref(state);
		free(found);
	} else if (err.code == WL_OK || !err.msg[0]) {
		abort(); /* refused without a reason */
	}
	/* The same bytes as the guard's state, which the hash protects in a checkpoint. */
	state = wl_json_parse((const char *)bytes, n, "fuzz", &err);
	if (state && wl_guard_restore(&guard, state, &err) < 0 && err.code != WL_ECKPT)
		abort();
	json_decref(state);
	return 0;
}
