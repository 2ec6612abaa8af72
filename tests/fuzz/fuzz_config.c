/* Any bytes as the trainer's YAML config: it is refused with a sentence, or names settings and a
 * model that are within their bounds and read back from their own JSON as the same. */
#include "train/config.h"
#include "train/model/config.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* What wenlan-train does with its config before it opens anything. */
static void read_config(char *path, struct wl_opts *o, struct wl_train_config *c,
	struct wl_err *err)
{
	struct wl_model_config model, again;
	json_t *json;
	char *argv[] = {"fuzz", "--config", path, "--metrics-port=0", "--log-level=error",
		"--shards=s", "--run=r", "--data.vocab=v", NULL};

	if (wl_opts_parse(o, (int)(sizeof argv / sizeof *argv) - 1, argv, err) ||
		wl_train_config_check(c, err) < 0 || wl_model_parse(c->model, &model, err) < 0) {
		must(err->code != WL_OK && err->msg[0]);
		return;
	}
	json = wl_model_to_json(&model);
	must(json && wl_model_parse(json, &again, err) == 0);
	json_decref(json);
	json = wl_model_to_json(&again);
	must(json && wl_model_parse(json, &model, err) == 0);
	must(again.dim == model.dim && again.n_freeze == model.n_freeze);
	json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct wl_train_config c;
	struct wl_opt table[WL_TRAIN_OPTIONS];
	struct wl_opts o = {.program = "fuzz", .usage = "", .about = "", .example = "",
		.table = table};
	struct wl_err err = WL_ERR_INIT;
	char path[64];
	int fd;

	if (n > 4096)
		return 0;
	fd = memfd_create("config", MFD_CLOEXEC);
	must(fd >= 0 && write(fd, data, n) == (ssize_t)n);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	wl_train_config_init(&c, table);
	read_config(path, &o, &c, &err);
	wl_opts_release(&o);
	close(fd);
	return 0;
}
