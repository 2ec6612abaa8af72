/* wenlan-eval classify: zero-shot classification and tags from label names as prompts. */
#include "eval/commands.h"
#include "eval/embed.h"
#include "eval/labels.h"
#include "eval/matrix.h"
#include "eval/metrics/classify.h"
#include "eval/vectors.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct args {
	const char *images, *labels, *truth, *ckpt, *label_features, *out, *device;
	struct wl_strs templates;
	int64_t tags, threads;
};

static const char *const default_template = "\xe4\xb8\x80\xe5\xbc\xa0{}\xe7\x9a\x84"
					    "\xe5\x9b\xbe\xe7\x89\x87"; /* a picture of {} */

/* A label's prompts, one a line: {} is replaced by its name. */
static int add_prompts(struct wl_buf *b, const struct args *a, const char *name, struct wl_err *err)
{
	size_t n = a->templates.n ? a->templates.n : 1;

	for (size_t i = 0; i < n; i++) {
		const char *t = a->templates.n ? a->templates.v[i] : default_template;
		const char *hole = strstr(t, "{}");

		if (!hole)
			return wl_err_set(err, WL_EUSAGE,
				"--template '%s' has no {} for the label's name", t);
		WL_TRY(wl_buf_add(b, t, (size_t)(hole - t), err));
		WL_TRY(wl_buf_puts(b, name, err));
		WL_TRY(wl_buf_puts(b, hole + 2, err));
		WL_TRY(wl_buf_putc(b, '\n', err));
	}
	return 0;
}

/* Prompts through the checkpoint's text tower; the files in between are gone afterwards. */
static int embed_prompts(const struct args *a, const struct wl_labels *l, float **out,
	int64_t *rows, int64_t *dim, struct wl_err *err)
{
	const char *tmp = getenv("TMPDIR");
	char *base = wl_strf(err, "%s/wenlan-eval-%ld", tmp ? tmp : "/tmp", (long)getpid());
	char *texts = base ? wl_strf(err, "%s.txt", base) : NULL;
	char *vectors = texts ? wl_strf(err, "%s.safetensors", base) : NULL;
	char *spec = vectors ? wl_strf(err, "%s:text_embeddings", vectors) : NULL;
	struct wl_embed_opts o = {.ckpt = a->ckpt,
		.texts = texts,
		.out = vectors,
		.split = "test",
		.precision = "fp32",
		.device = a->device,
		.store = "fp32",
		.batch = 64,
		.threads = a->threads};
	struct wl_buf b;
	int ret = -1;

	wl_buf_init(&b, 1 << 28);
	if (!spec)
		goto out;
	for (uint32_t i = 0; i < l->names.n; i++)
		WL_TRY_OUT(add_prompts(&b, a, l->names.name[i], err));
	WL_TRY_OUT(wl_write_file(texts, b.data, b.len, err));
	WL_TRY_OUT(wl_embed_run(&o, err));
	ret = wl_matrix_load(spec, out, rows, dim, err);
out:
	if (vectors) {
		unlink(texts);
		unlink(vectors);
	}
	wl_buf_release(&b);
	free(base);
	free(texts);
	free(vectors);
	free(spec);
	return ret;
}

/* v->texts: one row a label. */
static int load_labels(
	const struct args *a, const struct wl_labels *l, struct wl_vectors *v, struct wl_err *err)
{
	int64_t rows, dim, n = l->names.n;
	float *prompts;

	if (!a->ckpt == !a->label_features)
		return wl_err_set(err, WL_EUSAGE,
			"either --ckpt DIR, whose text tower embeds the prompts, or "
			"--label-features FILE");
	WL_TRY(a->ckpt ? embed_prompts(a, l, &prompts, &rows, &dim, err)
		       : wl_matrix_load(a->label_features, &prompts, &rows, &dim, err));
	if (dim != v->dim || rows % n || !rows) {
		free(prompts);
		return wl_err_set(err, WL_EDATA,
			"the labels' features are [%lld, %lld]; expected are %lld columns, as the "
			"images have,"
			" and a multiple of %lld rows, the number of labels",
			(long long)rows, (long long)dim, (long long)v->dim, (long long)n);
	}
	v->texts = malloc((size_t)(n * dim) * sizeof *v->texts);
	v->n_texts = n;
	if (v->texts)
		wl_classify_average(prompts, n, rows / n, dim, v->texts);
	free(prompts);
	return v->texts ? 0 : wl_err_nomem(err, "labels", (size_t)(n * dim) * sizeof *v->texts);
}

static json_t *to_json(const struct wl_classified *c)
{
	return json_pack("{s:f,s:f,s:f,s:f,s:{s:I,s:f,s:f,s:f,s:f},s:I,s:I}", "top1", c->top1,
		"top5", c->top5, "class_accuracy", c->class_accuracy, "map", c->map, "tags", "k",
		(json_int_t)c->k, "precision", c->precision, "recall", c->recall, "f1", c->f1,
		"macro_f1", c->macro_f1, "images", (json_int_t)c->images, "labels",
		(json_int_t)c->labels);
}

static json_t *label_list(const struct wl_labels *l, const double *ap)
{
	json_t *list = json_object();

	for (uint32_t i = 0; list && i < l->names.n; i++)
		if (ap[i] >= 0)
			json_object_set_new(list, l->names.name[i], json_real(ap[i]));
	return list;
}

static int show(const struct wl_opts *o, const struct args *a, const struct wl_labels *l,
	const struct wl_classified *c, const double *ap, struct wl_err *err)
{
	json_t *json = to_json(c);
	int ret = 0;

	if (!json)
		return wl_err_nomem(err, "the result", 0);
	if (o->common.json) {
		json_dumpf(json, stdout, JSON_INDENT(1));
		putchar('\n');
	} else {
		printf("%lld images, %u labels (%lld occur)\n\n", (long long)c->images, l->names.n,
			(long long)c->labels);
		printf("top-1 %.2f %%, top-5 %.2f %%, mean over labels of top-1 %.2f %%\n", c->top1,
			c->top5, c->class_accuracy);
		printf("mAP %.2f %%\ntags (%lld an image): precision %.2f %%, recall %.2f %%, F1 "
		       "%.2f %%,"
		       " macro F1 %.2f %%\n",
			c->map, (long long)c->k, c->precision, c->recall, c->f1, c->macro_f1);
	}
	if (a->out && !json_object_set_new(json, "label_ap", label_list(l, ap)))
		ret = wl_json_save(a->out, json, err);
	json_decref(json);
	return ret;
}

static int measure(const struct wl_opts *o, const struct args *a, const struct wl_labels *l,
	struct wl_vectors *v, struct wl_err *err)
{
	struct wl_retrieval_in in;
	struct wl_classified c;
	double *ap = NULL;
	int ret = -1;

	WL_TRY(load_labels(a, l, v, err));
	WL_TRY(wl_labels_truth(l, a->truth, v->image_ids, v->n_images, &v->pair_image,
		&v->pair_text, &v->n_pairs, err));
	wl_retrieval_normalize(v->images, v->n_images, v->dim);
	in = wl_vectors_in(v);
	ap = malloc((size_t)v->n_texts * sizeof *ap);
	if (!ap)
		return wl_err_nomem(err, "labels", (size_t)v->n_texts * sizeof *ap);
	ret = wl_classify(&in, a->tags < v->n_texts ? a->tags : v->n_texts, &c, ap, err);
	if (!ret)
		ret = show(o, a, l, &c, ap, err);
	free(ap);
	return ret;
}

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	const struct args *a = user;
	struct wl_vectors v = {0};
	struct wl_labels l;
	int ret;

	WL_TRY(wl_labels_load(&l, a->labels, err));
	ret = wl_vectors_load_images(&v, a->images, err);
	if (!ret)
		ret = measure(o, a, &l, &v, err);
	wl_vectors_release(&v);
	wl_labels_release(&l);
	return ret;
}

static const struct wl_path_rule paths[] = {
	{"labels", WL_PATH_FILE, "write the names of the labels into it, one a line"},
	{"truth", WL_PATH_FILE, "it is lines of JSON with image_id and labels of each picture"},
	{"out", WL_PATH_OUTPUT, NULL},
	{0},
};

int wl_cmd_classify(int argc, char **argv)
{
	struct args a = {.tags = 5, .device = "auto"};
	const struct wl_opt table[] = {
		{"images", WL_OPT_STR, &a.images, "FILE",
			"safetensors of wenlan-embed, or .npy, .npz[:NAME]", true},
		{"labels", WL_OPT_STR, &a.labels, "FILE", "label names, one a line", true},
		{"truth", WL_OPT_STR, &a.truth, "FILE",
			"JSON lines {\"image_id\", \"labels\": [...]}; ids of the embeddings, else "
			"rows",
			true},
		{"ckpt", WL_OPT_STR, &a.ckpt, "DIR", "whose text tower embeds the prompts", false},
		{"template", WL_OPT_LIST, &a.templates, "TEXT",
			"a prompt with {} for the name; several are averaged", false},
		{"label-features", WL_OPT_STR, &a.label_features, "FILE",
			"instead of --ckpt: one row a label and prompt, label by label", false},
		{"tags", WL_OPT_INT, &a.tags, "K", "labels predicted for every image", false},
		{"out", WL_OPT_STR, &a.out, "FILE.json",
			"keep the result there, label by label too", false},
		{"threads", WL_OPT_INT, &a.threads, "N", "0: one per core", false},
		{"device", WL_OPT_STR, &a.device, "NAME",
			"auto, cpu or cuda: where --ckpt embeds the prompts", false},
		{0},
	};
	struct wl_opts o = {
		.program = "wenlan-eval",
		.usage = "classify --images FILE --labels FILE --truth FILE (--ckpt DIR |"
			 " --label-features FILE)",
		.about = "Zero-shot classification (top-1, top-5) and tags (mAP, F1) with label "
			 "names as texts.",
		.example = "wenlan-eval classify --images test.safetensors --labels labels.txt "
			   "--truth truth.jsonl --ckpt runs/first",
		.table = table,
		.paths = paths,
	};

	return wl_main(&o, argc, argv, run, &a);
}
