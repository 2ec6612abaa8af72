/* wenlan-eval retrieval: R@K of embeddings, beside chance. */
#include "eval/commands.h"
#include "eval/vectors.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args {
	const char *embeddings, *images, *texts, *pairs, *out, *score;
	int64_t threads;
};

static json_t *direction(const struct wl_recall *r)
{
	return json_pack("{s:f,s:f,s:f,s:f,s:f}", "r1", r->r1, "r5", r->r5, "r10", r->r10,
		"median_rank", r->median_rank, "mean_rank", r->mean_rank);
}

json_t *wl_retrieval_to_json(const struct wl_retrieval *r)
{
	return json_pack("{s:o,s:o,s:f,s:I,s:I}", "i2t", direction(&r->i2t), "t2i",
		direction(&r->t2i), "mean_recall", r->mean_recall, "images", (json_int_t)r->images,
		"texts", (json_int_t)r->texts);
}

static void print_row(const char *name, const struct wl_recall *r)
{
	printf("%-15s %7.2f %7.2f %7.2f %12.1f %10.1f\n", name, r->r1, r->r5, r->r10, r->median_rank,
		r->mean_rank);
}

static void print_table(const struct wl_vectors *v, const struct wl_retrieval *r,
	const struct wl_retrieval *chance)
{
	printf("%lld images, %lld texts, %lld dimensions\n\n", (long long)v->n_images,
		(long long)v->n_texts, (long long)v->dim);
	printf("%-15s %7s %7s %7s %12s %10s\n", "", "R@1 %", "R@5 %", "R@10 %", "median rank",
		"mean rank");
	print_row("image to text", &r->i2t);
	print_row("  by chance", &chance->i2t);
	print_row("text to image", &r->t2i);
	print_row("  by chance", &chance->t2i);
	printf("\nmean recall %.2f %% (by chance %.2f %%)\n", r->mean_recall, chance->mean_recall);
}

static int load(const struct args *a, struct wl_vectors *v, struct wl_err *err)
{
	if (strcmp(a->score, "cosine") && strcmp(a->score, "dot"))
		return wl_err_set(err, WL_EUSAGE, "--score %s is unknown: use cosine or dot", a->score);
	if (a->embeddings && (a->images || a->texts || a->pairs))
		return wl_err_set(err, WL_EUSAGE,
			"--embeddings excludes --images, --texts and --pairs: the file has both sides");
	if (a->embeddings)
		return wl_vectors_load(v, a->embeddings, err);
	if (!a->images || !a->texts)
		return wl_err_set(err, WL_EUSAGE,
			"either --embeddings FILE or both --images A.npy and --texts B.npy are needed");
	return wl_vectors_load_npy(v, a->images, a->texts, a->pairs, err);
}

static int show(const struct wl_opts *o, const struct args *a, const struct wl_vectors *v,
	const struct wl_retrieval *r, const struct wl_retrieval *chance, struct wl_err *err)
{
	json_t *json = wl_retrieval_to_json(r);
	int ret = 0;

	if (!json || json_object_set_new(json, "chance", wl_retrieval_to_json(chance))) {
		json_decref(json);
		return wl_err_nomem(err, "the result", 0);
	}
	if (a->out)
		ret = wl_json_save(a->out, json, err);
	if (!ret && o->common.json) {
		json_dumpf(json, stdout, JSON_INDENT(1));
		putchar('\n');
	} else if (!ret) {
		print_table(v, r, chance);
	}
	json_decref(json);
	return ret;
}

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	const struct args *a = user;
	struct wl_retrieval_in in;
	struct wl_retrieval r, chance;
	struct wl_vectors v = {0};
	int ret = -1;

	WL_TRY(load(a, &v, err));
	if (!strcmp(a->score, "cosine")) {
		wl_retrieval_normalize(v.images, v.n_images, v.dim);
		wl_retrieval_normalize(v.texts, v.n_texts, v.dim);
	}
	in = wl_vectors_in(&v);
	in.threads = a->threads > 0 && a->threads < 4096 ? (int)a->threads : 0;
	WL_TRY_OUT(wl_retrieval_measure(&in, &r, err));
	WL_TRY_OUT(wl_retrieval_chance(&in, &chance, err));
	if (r.i2t.queries < v.n_images || r.t2i.queries < v.n_texts)
		wl_warn("%lld images and %lld texts have no right answer and are left out",
			(long long)(v.n_images - r.i2t.queries), (long long)(v.n_texts - r.t2i.queries));
	ret = show(o, a, &v, &r, &chance, err);
out:
	wl_vectors_release(&v);
	return ret;
}

int wl_cmd_retrieval(int argc, char **argv)
{
	struct args a = {.score = "cosine"};
	const struct wl_opt table[] = {
		{"embeddings", WL_OPT_STR, &a.embeddings, "FILE", "safetensors of wenlan-embed", false},
		{"images", WL_OPT_STR, &a.images, "A.npy", "foreign features of images [N,D]", false},
		{"texts", WL_OPT_STR, &a.texts, "B.npy", "foreign features of texts [M,D]", false},
		{"pairs", WL_OPT_STR, &a.pairs, "FILE",
			".npy [M] or [P,2], or lines 'IMAGE TEXT', from 0; without: in order", false},
		{"score", WL_OPT_STR, &a.score, "NAME", "cosine or dot", false},
		{"out", WL_OPT_STR, &a.out, "FILE.json", "keep the result there", false},
		{"threads", WL_OPT_INT, &a.threads, "N", "0: one per core", false},
		{0},
	};
	struct wl_opts o = {
		.program = "wenlan-eval",
		.usage = "retrieval (--embeddings FILE | --images A.npy --texts B.npy [--pairs FILE])",
		.about = "R@1, R@5 and R@10 in both directions, any hit, over all candidates;\n"
			 "rank = 1 + #(higher score) + #(same score and smaller index).",
		.example = "wenlan-eval retrieval --embeddings demo/test.safetensors",
		.table = table,
	};

	return wl_main(&o, argc, argv, run, &a);
}
