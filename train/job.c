/* From a configuration to a model that the loop can train: see loop.h. */
#include "train/loop.h"

#include "ops/file.h"
#include "ops/path.h"
#include "train/checkpoint/import.h"

#include <stdlib.h>
#include <string.h>

int wl_train_job_open(struct wl_train_job *job, struct wl_train_config *config,
	struct wl_err *err)
{
	int vocab;

	*job = (struct wl_train_job){.config = config};
	WL_TRY(wl_train_config_check(config, err));
	WL_TRY(wl_model_parse(config->model, &job->model, err));
	job->vocab = wl_vocab_load(config->vocab, err);
	if (!job->vocab)
		return -1;
	vocab = (int)wl_vocab_size(job->vocab);
	if (job->model.text.bert.vocab == 0)
		job->model.text.bert.vocab = vocab;
	if (vocab > job->model.text.bert.vocab) {
		wl_err_set(err, WL_EUSAGE, "%s holds %d tokens, and model.text.bert.vocab says "
			"%d: give the vocabulary of that model, or raise the number", config->vocab,
			vocab,
			job->model.text.bert.vocab);
		goto fail;
	}
	if (wl_model_check(&job->model, err) < 0)
		goto fail;
	wl_brivl_towers(&job->towers, &job->model);
	job->model_json = wl_model_to_json(&job->model);
	job->preprocess = wl_preprocess_json(&job->model, config->use_boxes);
	if (!job->model_json || !job->preprocess) {
		wl_err_nomem(err, "the model's settings", 0);
		goto fail;
	}
	config->model = job->model_json;
	return 0;
fail:
	wl_train_job_close(job);
	return -1;
}

void wl_train_job_close(struct wl_train_job *job)
{
	if (!job)
		return;
	wl_vocab_free(job->vocab);
	json_decref(job->model_json);
	json_decref(job->preprocess);
	*job = (struct wl_train_job){0};
}

int wl_train_import(struct wl_params *params, const struct wl_strs *files, struct wl_err *err)
{
	struct wl_import_report report;
	size_t i;

	for (i = 0; i < files->n; i++) {
		const char *eq = strchr(files->v[i], '='), *path = files->v[i];
		const char *mend = "weights are a .safetensors or .pth file; a checkpoint's are "
			"CKPT/model.safetensors";
		char *prefix = NULL;
		int ret;

		/* A path may hold '=' itself: what is before it must look like a tower's name. */
		if (eq && (!strncmp(path, "imgencoder.", 11) || !strncmp(path, "textencoder.",
			12))) {
			prefix = wl_strf(err, "%.*s", (int)(eq - path), path);
			if (!prefix)
				return -1;
			path = eq + 1;
		} else if (eq && !wl_exists(path)) {
			mend = "a PREFIX= is imgencoder. or textencoder., or the beginning of one "
				"of their parameters' names";
		}
		ret = wl_path_check(path, WL_PATH_FILE, mend, err);
		if (ret == 0)
			ret = wl_import(params, path, prefix, &report, err);
		else
			wl_err_prefix(err, "--init");
		free(prefix);
		WL_TRY(ret);
		wl_import_log(path, &report);
		wl_import_report_release(&report);
	}
	return 0;
}
