/* wenlan-eval caption: BLEU, METEOR, ROUGE-L and CIDEr of captions. */
#include "eval/captions.h"
#include "eval/commands.h"
#include "eval/cutter.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args {
	const char *refs, *hyps, *level, *out, *dictionary;
	bool allow_empty;
};

static json_t *scores(const double *v)
{
	json_t *o = json_object();

	for (size_t k = 0; o && k < WL_CAPTION_METRICS; k++)
		if (json_object_set_new(o, wl_caption_metric_names[k], json_real(v[k])))
			return json_decref(o), NULL;
	return o;
}

/* {"Bleu_1": ..., "images": N, "level": ..., "per_image": [{"image_id", "Bleu_1", ...}]} */
static json_t *result(const struct args *a, const struct wl_caption_files *f, const double *corpus,
	const double *per_image)
{
	json_t *o = scores(corpus), *list = per_image ? json_array() : NULL;

	if (!o || json_object_set_new(o, "images", json_integer((json_int_t)f->n)) ||
		json_object_set_new(o, "level", json_string(a->level)) ||
		json_object_set_new(o, "error", json_integer(0)))
		goto fail;
	for (size_t i = 0; per_image && i < f->n; i++) {
		json_t *one = scores(per_image + i * WL_CAPTION_METRICS);

		if (!one || json_object_set_new(one, "image_id", json_string(f->image[i].id)) ||
			json_array_append_new(list, one))
			goto fail;
	}
	if (!list || !json_object_set_new(o, "per_image", list))
		return o;
	list = NULL;
fail:
	json_decref(o);
	json_decref(list);
	return NULL;
}

static void print_table(
	const struct args *a, const struct wl_caption_files *f, const double *corpus)
{
	printf("%zu images, level %s\n\n", f->n, a->level);
	for (size_t k = 0; k < WL_CAPTION_METRICS; k++)
		printf("%-12s %.3f\n", wl_caption_metric_names[k], corpus[k]);
	printf("\nMETEOR takes Chinese character by character, as the official evaluators do; "
	       "METEOR_word\ntakes the level's tokens. CIDEr is CIDEr-D (papers print it times"
	       " 100).\n");
}

static int show(const struct wl_opts *o, const struct args *a, const struct wl_caption_files *f,
	const double *corpus, const double *per_image, struct wl_err *err)
{
	json_t *full = result(a, f, corpus, a->out ? per_image : NULL);
	int ret;

	if (!full)
		return wl_err_nomem(err, "the scores", f->n * 64);
	ret = a->out ? wl_json_save(a->out, full, err) : 0;
	if (!ret && o->common.json) {
		json_object_del(full, "per_image");
		json_dumpf(full, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
		putchar('\n');
	} else if (!ret) {
		print_table(a, f, corpus);
	}
	json_decref(full);
	return ret;
}

static int score(const struct wl_opts *o, const struct args *a, enum wl_caption_level level,
	const struct wl_caption_files *f, struct wl_err *err)
{
	double corpus[WL_CAPTION_METRICS], *per_image = NULL;
	struct wl_cutter cutter = {0};
	struct wl_caption_set set = {0};
	int ret = -1;

	if (level == WL_LEVEL_WORD || level == WL_LEVEL_AIC)
		WL_TRY(wl_cutter_open(&cutter, a->dictionary, err));
	WL_TRY_OUT(wl_caption_set_make(&set, f, level, &cutter, err));
	if (set.empty)
		wl_warn("%lld of %zu captions have no token left", (long long)set.empty, f->n);
	per_image = malloc((f->n + 1) * WL_CAPTION_METRICS * sizeof *per_image);
	if (!per_image) {
		wl_err_nomem(err, "scores", f->n * WL_CAPTION_METRICS * sizeof *per_image);
		goto out;
	}
	WL_TRY_OUT(wl_caption_score(&set, corpus, per_image, err));
	ret = show(o, a, f, corpus, per_image, err);
out:
	free(per_image);
	wl_caption_set_release(&set);
	wl_cutter_close(&cutter);
	return ret;
}

/* AI Challenger's evaluator answers a bad submission with an error flag. */
static void print_flag(const struct wl_opts *o, const char *out, const struct wl_err *err)
{
	json_t *v = json_pack("{s:i,s:s}", "error", 1, "message", err ? err->msg : "");
	struct wl_err ignored = WL_ERR_INIT;

	if (v && out && wl_json_save(out, v, &ignored) < 0)
		wl_warn("%s", ignored.msg);
	if (v && o->common.json) {
		json_dumpf(v, stdout, JSON_INDENT(1));
		putchar('\n');
	}
	json_decref(v);
}

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	const struct args *a = user;
	struct wl_caption_files f = {0};
	enum wl_caption_level level;
	int ret;

	WL_TRY(wl_caption_level_parse(a->level, &level, err));
	ret = wl_caption_files_load(&f, a->refs, a->hyps, level, a->allow_empty, err);
	if (!ret)
		ret = score(o, a, level, &f, err);
	wl_caption_files_release(&f);
	if (ret && level == WL_LEVEL_AIC && err->code == WL_EDATA)
		print_flag(o, a->out, err);
	return ret;
}

static const struct wl_path_rule paths[] = {
	{"refs", WL_PATH_FILE, "references are JSON of COCO or AI Challenger, or JSON lines"},
	{"hyps", WL_PATH_FILE, "captions are COCO's list of results, or JSON lines"},
	{"dictionary", WL_PATH_DIR, "it holds jieba's tables; leave it out to have them found"},
	{"out", WL_PATH_OUTPUT, NULL},
	{0},
};

int wl_cmd_caption(int argc, char **argv)
{
	struct args a = {.level = "word"};
	const struct wl_opt table[] = {
		{"refs", WL_OPT_STR, &a.refs, "FILE",
			"references: COCO, AI Challenger or JSON lines", true},
		{"hyps", WL_OPT_STR, &a.hyps, "FILE",
			"captions to score: COCO's list or JSON lines", true},
		{"level", WL_OPT_STR, &a.level, "NAME",
			"word (jieba), char, aic (the official pipeline), ptb (pycocoevalcap's), "
			"space",
			false},
		{"out", WL_OPT_STR, &a.out, "FILE.json",
			"keep the scores there, image by image too", false},
		{"dictionary", WL_OPT_STR, &a.dictionary, "DIR",
			"jieba's tables; found if not given", false},
		{"allow-empty", WL_OPT_BOOL, &a.allow_empty, NULL, "score empty captions as such",
			false},
		{0},
	};
	struct wl_opts o = {
		.program = "wenlan-eval",
		.usage = "caption --refs FILE --hyps FILE [--level word|char|aic|ptb|space]",
		.about = "BLEU-1..4, METEOR, ROUGE-L and CIDEr as pycocoevalcap and AI "
			 "Challenger's\n"
			 "evaluator compute them, as fractions, under the same names.",
		.example = "wenlan-eval caption --refs id_to_words.json --hyps submission.json "
			   "--level aic --out scores.json",
		.table = table,
		.paths = paths,
	};

	return wl_main(&o, argc, argv, run, &a);
}
