/* See score_model.h. */
#include "clean/score_model.h"

#include "ops/child.h"
#include "ops/file.h"
#include "ops/signals.h"

#include <stdio.h>
#include <stdlib.h>

/* The codes of exit that say what is wrong; everything else is a plain failure. */
static enum wl_code code_of(int exit_code)
{
	switch (exit_code) {
	case WL_EUSAGE:
	case WL_EDATA:
	case WL_ECKPT:
	case WL_ENUMERIC:
	case WL_ERETRY:
		return (enum wl_code)exit_code;
	default:
		return WL_EFAIL;
	}
}

static int run(const char *corpus, const char *ckpt, int64_t threads, const char *out,
	const char *log, struct wl_err *err)
{
	char *program = wl_program_path("wenlan-embed", err), number[24];
	const char *v[] = {"wenlan-embed", "--ckpt", ckpt, "--corpus", corpus, "--out", out,
		"--replace", "--threads", number, NULL};
	struct wl_strs argv = {.v = v, .n = sizeof(v) / sizeof(*v) - 1};
	struct wl_child child;
	int ret;

	snprintf(number, sizeof(number), "%lld", (long long)threads);
	ret = program ? wl_child_run(program, &argv, log, false, &child, err) : -1;
	free(program);
	if (ret < 0)
		return -1;
	if (wl_stop_requested())
		return 1;
	if (child.code == 0)
		return 0;
	return wl_err_set(err, code_of(child.code),
		"--score-model %s: wenlan-embed ended with code %d and has said why (also in %s); "
		"mend "
		"that, or take the option out.",
		ckpt, child.code, log);
}

int wl_score_by_model(
	const char *corpus, const char *ckpt, int64_t threads, char **path, struct wl_err *err)
{
	char *out = wl_path_join(corpus, "agreement.csv", err);
	char *log = out ? wl_path_join(corpus, "agreement.log", err) : NULL;
	int ret = log ? run(corpus, ckpt, threads, out, log, err) : -1;

	free(log);
	if (ret == 0) {
		*path = out;
		return 0;
	}
	free(out);
	return ret;
}
