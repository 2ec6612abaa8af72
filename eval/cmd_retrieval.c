/* wenlan-eval retrieval: R@K of embeddings, beside chance. */
#include "eval/commands.h"
#include "eval/embed.h"
#include "eval/metrics/bootstrap.h"
#include "eval/predictions.h"
#include "eval/protocol.h"
#include "eval/vectors.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "ops/saved.h"
#include "train/backend/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct args {
	const char *embeddings, *images, *texts, *pairs, *out, *score, *precision, *protocol;
	const char *answers, *predictions, *ckpt, *shards, *split, *device;
	int64_t threads, bootstrap, seed;
};

/* All that is measured. */
struct results {
	struct wl_retrieval r, chance;
	struct wl_boot boot;
	const struct wl_protocol *protocol;
	int64_t rounds;
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

/* {"i2t": {"r1": [lo, hi], ...}, "t2i": ..., "mean_recall": [lo, hi], "rounds", "level"} */
static json_t *intervals(const struct results *s)
{
	const double *lo = s->boot.lo, *hi = s->boot.hi;

	return json_pack("{s:{s:[ff],s:[ff],s:[ff]},s:{s:[ff],s:[ff],s:[ff]},s:[ff],s:I,s:f}",
		"i2t", "r1", lo[0], hi[0], "r5", lo[1], hi[1], "r10", lo[2], hi[2], "t2i", "r1",
		lo[3], hi[3], "r5", lo[4], hi[4], "r10", lo[5], hi[5], "mean_recall", lo[6], hi[6],
		"rounds", (json_int_t)s->rounds, "level", 0.95);
}

static void print_row(const char *name, const struct wl_recall *r)
{
	printf("%-15s %7.2f %7.2f %7.2f %12.1f %10.1f\n", name, r->r1, r->r5, r->r10,
		r->median_rank, r->mean_rank);
}

static void print_interval(const struct results *s, int first)
{
	printf("%-15s", "  95 %");
	for (int k = first; k < first + 3; k++)
		printf(" %.1f-%.1f%s", s->boot.lo[k], s->boot.hi[k], k < first + 2 ? "," : "\n");
}

static void print_table(const struct wl_vectors *v, const struct results *s)
{
	bool both = !s->protocol || !s->protocol->t2i_only;

	if (s->protocol)
		printf("%s\n", s->protocol->title);
	printf("%lld images, %lld texts, %lld dimensions\n\n", (long long)v->n_images,
		(long long)v->n_texts, (long long)v->dim);
	printf("%-15s %7s %7s %7s %12s %10s\n", "", "R@1 %", "R@5 %", "R@10 %", "median rank",
		"mean rank");
	if (both) {
		print_row("image to text", &s->r.i2t);
		if (s->rounds)
			print_interval(s, 0);
		print_row("  by chance", &s->chance.i2t);
	}
	print_row("text to image", &s->r.t2i);
	if (s->rounds)
		print_interval(s, 3);
	print_row("  by chance", &s->chance.t2i);
	printf("\nmean recall %.2f %%", s->r.mean_recall);
	if (s->rounds)
		printf(" (95 %%: %.2f to %.2f)", s->boot.lo[6], s->boot.hi[6]);
	printf(", by chance %.2f %%\n", s->chance.mean_recall);
	if (s->protocol)
		printf("Protocol: %s.\n", s->protocol->line);
}

/* --- what is measured --------------------------------------------------------------- */

/* A checkpoint and shards: embedded into a file that is gone afterwards. */
static int embed(const struct args *a, struct wl_vectors *v, struct wl_err *err)
{
	const char *tmp = getenv("TMPDIR");
	char *path =
		wl_strf(err, "%s/wenlan-eval-%ld.safetensors", tmp ? tmp : "/tmp", (long)getpid());
	struct wl_embed_opts o = {.ckpt = a->ckpt,
		.shards = a->shards,
		.split = a->split,
		.out = path,
		.precision = a->precision,
		.device = a->device,
		.store = "fp32",
		.batch = 32,
		.threads = a->threads};
	int ret = -1;

	if (!path)
		return -1;
	if (!wl_embed_run(&o, err))
		ret = wl_vectors_load(v, path, err);
	unlink(path);
	free(path);
	return ret;
}

static int load(const struct args *a, struct wl_vectors *v, struct wl_err *err)
{
	int ways = !!a->embeddings + (a->images || a->texts || a->pairs) + (a->ckpt || a->shards);

	if (strcmp(a->score, "cosine") && strcmp(a->score, "dot"))
		return wl_err_set(
			err, WL_EUSAGE, "--score %s is unknown: use cosine or dot", a->score);
	if (strcmp(a->precision, "fp32") && strcmp(a->precision, "bf16"))
		return wl_err_set(err, WL_EUSAGE, "--precision %s is unknown: use fp32 or bf16",
			a->precision);
	if (a->embeddings && ways > 1)
		return wl_err_set(err, WL_EUSAGE,
			"--embeddings excludes --images, --texts and --pairs: the file has both "
			"sides");
	if (ways > 1)
		return wl_err_set(err, WL_EUSAGE,
			"--ckpt and --shards exclude --images, --texts and --pairs");
	if (a->embeddings)
		return wl_vectors_load(v, a->embeddings, err);
	if (a->ckpt || a->shards) {
		if (!a->ckpt || !a->shards)
			return wl_err_set(err, WL_EUSAGE, "--ckpt and --shards go together");
		return embed(a, v, err);
	}
	if (!a->images || !a->texts)
		return wl_err_set(err, WL_EUSAGE,
			"either --embeddings FILE or both --images A.npy and --texts B.npy are "
			"needed");
	return wl_vectors_load_npy(v, a->images, a->texts, a->pairs, err);
}

static void round_bf16(float *v, int64_t n)
{
#pragma omp parallel for schedule(static)
	for (int64_t i = 0; i < n; i++)
		v[i] = wl_f32_from_bf16(wl_bf16_from_f32(v[i]));
}

static void prepare(const struct args *a, struct wl_vectors *v)
{
	if (!strcmp(a->score, "cosine")) {
		wl_retrieval_normalize(v->images, v->n_images, v->dim);
		wl_retrieval_normalize(v->texts, v->n_texts, v->dim);
	}
	if (!strcmp(a->precision, "bf16")) {
		round_bf16(v->images, v->n_images * v->dim);
		round_bf16(v->texts, v->n_texts * v->dim);
	}
}

static int measure(const struct args *a, const struct wl_retrieval_in *in, struct results *s,
	struct wl_err *err)
{
	int64_t *ranks = malloc((size_t)(in->n_images + in->n_texts + 1) * sizeof *ranks);
	bool t2i_only = s->protocol && s->protocol->t2i_only;
	int ret = -1;

	if (!ranks)
		return wl_err_nomem(
			err, "ranks", (size_t)(in->n_images + in->n_texts) * sizeof *ranks);
	WL_TRY_OUT(wl_retrieval_ranks(in, ranks, ranks + in->n_images, err));
	WL_TRY_OUT(wl_retrieval_from_ranks(in, ranks, ranks + in->n_images, &s->r, err));
	WL_TRY_OUT(wl_retrieval_chance(in, &s->chance, err));
	if (t2i_only) {
		s->r.mean_recall = (s->r.t2i.r1 + s->r.t2i.r5 + s->r.t2i.r10) / 3;
		s->chance.mean_recall =
			(s->chance.t2i.r1 + s->chance.t2i.r5 + s->chance.t2i.r10) / 3;
	}
	s->rounds = a->bootstrap;
	if (a->bootstrap)
		WL_TRY_OUT(wl_retrieval_bootstrap(in, t2i_only ? NULL : ranks, ranks + in->n_images,
			(int)a->bootstrap, (uint64_t)a->seed, &s->boot, err));
	ret = 0;
out:
	free(ranks);
	return ret;
}

static json_t *to_json(const struct results *s)
{
	json_t *json = wl_retrieval_to_json(&s->r);

	if (!json || json_object_set_new(json, "chance", wl_retrieval_to_json(&s->chance)))
		goto fail;
	if (s->rounds && json_object_set_new(json, "intervals", intervals(s)))
		goto fail;
	if (s->protocol &&
		(json_object_set_new(json, "protocol", json_string(s->protocol->name)) ||
			json_object_set_new(json, "protocol_line", json_string(s->protocol->line))))
		goto fail;
	if (s->protocol && s->protocol->t2i_only)
		json_object_del(json, "i2t");
	return json;
fail:
	json_decref(json);
	return NULL;
}

static int keep_and_print(
	const struct wl_opts *o, const char *out, json_t *json, struct wl_err *err)
{
	int ret = 0;

	if (!json)
		return wl_err_nomem(err, "the result", 0);
	if (out)
		ret = wl_json_save(out, json, err);
	if (!ret && o->common.json) {
		json_dumpf(json, stdout, JSON_INDENT(1));
		putchar('\n');
	}
	json_decref(json);
	return ret;
}

/* The GPU that is to count, NULL for the processor, which needs no backend. */
static int open_device(const struct args *a, struct wl_backend **be, struct wl_err *err)
{
	*be = NULL;
	if (strcmp(a->device, "auto") && strcmp(a->device, "cpu") && strcmp(a->device, "cuda"))
		return wl_err_set(err, WL_EUSAGE, "--device is \"%s\": expected auto, cpu or cuda",
			a->device);
	if (!strcmp(a->device, "cpu") ||
		(!strcmp(a->device, "auto") && wl_backend_cuda_count() == 0))
		return 0;
	*be = wl_backend_open(a->device, 0, 0, err);
	return *be ? 0 : -1;
}

static int run_vectors(const struct wl_opts *o, const struct args *a, struct wl_err *err)
{
	struct wl_retrieval_in in;
	struct results s = {0};
	struct wl_vectors v = {0};
	int ret = -1;

	if (a->protocol && !(s.protocol = wl_protocol_find(a->protocol, err)))
		return -1;
	WL_TRY(load(a, &v, err));
	in = wl_vectors_in(&v);
	in.threads = a->threads > 0 && a->threads < 4096 ? (int)a->threads : 0;
	WL_TRY_OUT(open_device(a, &in.backend, err));
	if (s.protocol)
		WL_TRY_OUT(wl_protocol_check(s.protocol, &in, err));
	prepare(a, &v);
	WL_TRY_OUT(measure(a, &in, &s, err));
	if ((!s.protocol || !s.protocol->t2i_only) &&
		(s.r.i2t.queries < v.n_images || s.r.t2i.queries < v.n_texts))
		wl_warn("%lld images and %lld texts have no right answer and are left out",
			(long long)(v.n_images - s.r.i2t.queries),
			(long long)(v.n_texts - s.r.t2i.queries));
	WL_TRY_OUT(keep_and_print(o, a->out, to_json(&s), err));
	if (!o->common.json)
		print_table(&v, &s);
	ret = 0;
out:
	wl_backend_close(in.backend);
	wl_vectors_release(&v);
	return ret;
}

static int run_predictions(const struct wl_opts *o, const struct args *a, struct wl_err *err)
{
	struct wl_predicted p;
	const char *name;

	if (!a->answers || !a->predictions)
		return wl_err_set(err, WL_EUSAGE, "--answers and --predictions go together");
	WL_TRY(wl_predictions_measure(a->answers, a->predictions, &p, err));
	name = p.image_to_text ? "i2t" : "t2i";
	WL_TRY(keep_and_print(o, a->out,
		json_pack("{s:{s:f,s:f,s:f},s:f,s:I}", name, "r1", p.r1, "r5", p.r5, "r10", p.r10,
			"mean_recall", p.mean_recall, "queries", (json_int_t)p.queries),
		err));
	if (!o->common.json)
		printf("%s: %lld queries, R@1 %.2f, R@5 %.2f, R@10 %.2f, mean recall %.2f\n",
			p.image_to_text ? "image to text" : "text to image", (long long)p.queries,
			p.r1, p.r5, p.r10, p.mean_recall);
	return 0;
}

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	const struct args *a = user;

	if (a->bootstrap && (a->bootstrap < 100 || a->bootstrap > 1000000))
		return wl_err_set(err, WL_EUSAGE, "--bootstrap is 0 or 100 to 1000000, found %lld",
			(long long)a->bootstrap);
	return a->answers || a->predictions ? run_predictions(o, a, err) : run_vectors(o, a, err);
}

static const struct wl_path_rule paths[] = {
	{"embeddings", WL_PATH_FILE,
		"wenlan-embed --ckpt RUN --shards DIR --out FILE writes them"},
	{"pairs", WL_PATH_FILE,
		"it has a line IMAGE TEXT for each pair, or is .npy; without it: in order"},
	{"answers", WL_PATH_FILE, "it is the texts.jsonl of Chinese-CLIP"},
	{"predictions", WL_PATH_FILE, "Chinese-CLIP's make_topk_predictions writes them"},
	{"out", WL_PATH_OUTPUT, NULL},
	{0},
};

int wl_cmd_retrieval(int argc, char **argv)
{
	struct args a = {.score = "cosine", .precision = "fp32", .split = "test", .seed = 1,
		.device = "auto"};
	const struct wl_opt table[] = {
		{"embeddings", WL_OPT_STR, &a.embeddings, "FILE", "safetensors of wenlan-embed",
			false},
		{"images", WL_OPT_STR, &a.images, "A.npy",
			"foreign features of images [N,D]; also A.npz[:NAME], A.safetensors[:NAME]",
			false},
		{"texts", WL_OPT_STR, &a.texts, "B.npy", "foreign features of texts [M,D]", false},
		{"pairs", WL_OPT_STR, &a.pairs, "FILE",
			".npy [M] or [P,2], or lines 'IMAGE TEXT', from 0; without: in order",
			false},
		{"ckpt", WL_OPT_STR, &a.ckpt, "DIR", "embed --shards with this checkpoint first",
			false},
		{"shards", WL_OPT_STR, &a.shards, "DIR", "with --ckpt: the shard set", false},
		{"split", WL_OPT_STR, &a.split, "NAME", "with --shards", false},
		{"answers", WL_OPT_STR, &a.answers, "FILE", "Chinese-CLIP's texts.jsonl", false},
		{"predictions", WL_OPT_STR, &a.predictions, "FILE", "Chinese-CLIP's top-10 lists",
			false},
		{"protocol", WL_OPT_STR, &a.protocol, "NAME",
			"aic-icc, wenlan, flickr30k-cn, flickr8k-cn, coco-cn, muge: refuses other "
			"pools",
			false},
		{"score", WL_OPT_STR, &a.score, "NAME", "cosine or dot", false},
		{"precision", WL_OPT_STR, &a.precision, "NAME",
			"fp32, or bf16: features rounded, sums in fp32", false},
		{"bootstrap", WL_OPT_INT, &a.bootstrap, "N", "rounds for 95 % intervals; 0: none",
			false},
		{"seed", WL_OPT_INT, &a.seed, "N", "of the bootstrap", false},
		{"out", WL_OPT_STR, &a.out, "FILE.json", "keep the result there", false},
		{"threads", WL_OPT_INT, &a.threads, "N", "0: one per core", false},
		{"device", WL_OPT_STR, &a.device, "NAME",
			"auto, cpu or cuda: where pairs are scored and counted", false},
		{0},
	};
	struct wl_opts o = {
		.program = "wenlan-eval",
		.usage = "retrieval (--embeddings FILE | --images A.npy --texts B.npy [--pairs "
			 "FILE])",
		.about = "R@1, R@5 and R@10 in both directions, any hit, over all candidates;\n"
			 "rank = 1 + #(higher score) + #(same score and smaller index).",
		.example =
			"wenlan-eval retrieval --embeddings demo/test.safetensors --bootstrap 2000",
		.table = table,
		.paths = paths,
	};

	return wl_main(&o, argc, argv, run, &a);
}
