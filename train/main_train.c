/* wenlan-train: shards to checkpoints. */
#include "train/backend/backend.h"
#include "train/loop.h"

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	struct wl_train_config *config = user;
	struct wl_train_job job;
	int ret;

	(void)o;
	WL_TRY(wl_train_job_open(&job, config, err));
	ret = config->dry_run ? wl_train_plan(&job, err) : wl_train_run(&job, err);
	wl_train_job_close(&job);
	return ret;
}

int main(int argc, char **argv)
{
	struct wl_train_config config;
	struct wl_opt table[WL_TRAIN_OPTIONS];
	struct wl_opts opts = {
		.program = "wenlan-train",
		.usage = "--config FILE --shards DIR --run DIR [OPTION]...",
		.about =
			"Trains the two towers by cross-modal MoCo. The same command again goes on "
			"from the newest checkpoint of the run.",
		.example = "wenlan-train --config train/presets/small.yaml --shards shards "
			   "--data.vocab vocab.txt --run runs/first",
		.table = table,
	};

	wl_backend_cpu_prepare(argv);
	wl_train_config_init(&config, table);
	return wl_main(&opts, argc, argv, run, &config);
}
