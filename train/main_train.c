/* wenlan-train: shards to checkpoints. */
#include "train/backend/backend.h"
#include "train/loop.h"

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	static struct wl_train_job job; /* stays where a run fails: see wl_train_run */
	struct wl_train_config *config = user;

	(void)o;
	WL_TRY(wl_train_job_open(&job, config, err));
	WL_TRY(config->dry_run ? wl_train_plan(&job, err) : wl_train_run(&job, err));
	wl_train_job_close(&job);
	return 0;
}

static const struct wl_path_rule paths[] = {
	{"data.vocab", WL_PATH_FILE,
		"wenlan-vocab --corpus DIR --out FILE writes one, or take BERT's vocab.txt"},
	{"cache", WL_PATH_OUTPUT_DIR, NULL},
	{0},
};

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
		.paths = paths,
	};

	wl_backend_cpu_prepare(argv);
	wl_train_config_init(&config, table);
	return wl_main(&opts, argc, argv, run, &config);
}
