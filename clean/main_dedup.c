/* wenlan-dedup: exact and near duplicates, and what is near an evaluation pair. */
#include "clean/dedup.h"
#include "clean/near.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "ops/signals.h"

#include <stdio.h>
#include <string.h>

struct options {
	const char *corpus, *policy, *against_by, *decode, *search;
	struct wl_strs against, prefer, embeddings, against_embeddings;
	int64_t image_radius, window_radius, threads, memory, template_images, banner_texts;
	double jaccard, cosine, cosine_text;
	struct wl_comm *comm;
};

static int report(const struct wl_opts *opts, const struct wl_dedup_counts *n, struct wl_err *err)
{
	json_t *counts;

	if (n->cut)
		wl_warn("%lld hashes are in groups of over %d; there only neighbours were compared",
			(long long)n->cut, WL_NEAR_GROUP);
	wl_info("%lld pairs: %lld kept, %lld duplicates, %lld near val or test, %lld bad images",
		(long long)n->pairs, (long long)n->kept, (long long)n->duplicates,
		(long long)n->near_eval, (long long)n->bad_images);
	if (n->against)
		wl_info("%lld pairs are near one of %lld evaluation items (verdict near-eval)",
			(long long)n->near_against, (long long)n->against);
	if (n->embedded)
		wl_info("%lld pairs have embeddings, by which %lld pairs of pictures and %lld of "
			"texts are near",
			(long long)n->embedded, (long long)n->embedded_images,
			(long long)n->embedded_texts);
	if (n->templates || n->banners)
		wl_info("%lld pairs have a template for a text, %lld a banner for a picture",
			(long long)n->templates, (long long)n->banners);
	if (!opts->common.json)
		return 0;
	counts = wl_dedup_counts_json(n);
	if (!counts)
		return wl_err_nomem(err, "counts", 0);
	json_dumpf(counts, stdout, JSON_COMPACT | JSON_SORT_KEYS);
	putchar('\n');
	json_decref(counts);
	return 0;
}

static int in_range(const char *name, int64_t v, int64_t low, int64_t high, const char *what,
	struct wl_err *err)
{
	if (v >= low && v <= high)
		return 0;
	return wl_err_set(err, WL_EUSAGE, "%s is %lld, expected %lld%s to %lld.", name,
		(long long)v, (long long)low, what, (long long)high);
}

static int options_of(const struct options *o, struct wl_dedup_options *d, struct wl_err *err)
{
	WL_TRY(wl_dedup_policy_parse(o->policy, &d->policy, err));
	WL_TRY(wl_against_by_parse(o->against_by, &d->against_by, err));
	WL_TRY(in_range("--image-radius", o->image_radius, -1, WL_NEAR_RADIUS_MAX,
		" (equal pixels only)", err));
	WL_TRY(in_range("--window-radius", o->window_radius, 0, 8, " (no windows)", err));
	WL_TRY(in_range("--threads", o->threads, 0, 1024, " (one per core)", err));
	WL_TRY(in_range("--memory", o->memory, 0, INT64_MAX, " (200 bytes a pair)", err));
	WL_TRY(in_range("--template-images", o->template_images, 0, UINT32_MAX, " (off)", err));
	WL_TRY(in_range("--banner-texts", o->banner_texts, 0, UINT32_MAX, " (off)", err));
	if (!(o->jaccard >= 0 && o->jaccard <= 1))
		return wl_err_set(err, WL_EUSAGE,
			"--text-jaccard is %g, expected 0 (equal texts only) to 1.", o->jaccard);
	if (strcmp(o->decode, "full") != 0 && strcmp(o->decode, "small") != 0)
		return wl_err_set(
			err, WL_EUSAGE, "--decode is \"%s\", expected full or small.", o->decode);
	d->small_decode = strcmp(o->decode, "small") == 0;
	d->image_radius = (int)o->image_radius;
	d->window_radius = o->window_radius > 0 ? (int)o->window_radius : -1;
	d->text_jaccard = o->jaccard > 0 ? o->jaccard : -1;
	d->threads = (int)o->threads;
	d->memory_bytes = o->memory;
	d->template_images = o->template_images;
	d->banner_texts = o->banner_texts;
	d->against = o->against.v;
	d->n_against = o->against.n;
	d->prefer = o->prefer.v;
	d->n_prefer = o->prefer.n;
	return 0;
}

static int embeddings_of(
	const struct options *o, struct wl_dedup_options *d, struct wl_err *err)
{
	static const char *const names[] = {"--embedding-cosine", "--embedding-text"};
	const double v[] = {o->cosine, o->cosine_text};

	WL_TRY(wl_embedding_search_parse(o->search, &d->embedding_search, err));
	for (int i = 0; i < 2; i++)
		if (!(v[i] >= WL_DEDUP_COSINE_LEAST && v[i] <= 1) && (i == 0 || v[i] != 0))
			return wl_err_set(err, WL_EUSAGE, "%s is %g, expected %s%g to 1.", names[i],
				v[i], i ? "0 (texts' embeddings are not compared), or " : "",
				WL_DEDUP_COSINE_LEAST);
	if (!o->embeddings.n && (o->against_embeddings.n || o->cosine_text != 0))
		return wl_err_set(err, WL_EUSAGE,
			"%s is given without --embeddings; give the corpus' embeddings too, or "
			"take it out.",
			o->against_embeddings.n ? "--against-embeddings" : "--embedding-text");
	if (o->against_embeddings.n && !o->against.n)
		return wl_err_set(err, WL_EUSAGE,
			"--against-embeddings is given without --against; name the evaluation set "
			"too.");
	if (o->cosine_text != 0 && d->policy == WL_DEDUP_IMAGE &&
		d->against_by == WL_AGAINST_IMAGE)
		return wl_err_set(err, WL_EUSAGE,
			"--embedding-text is given, but texts decide nothing with --policy image; "
			"give --policy pair or text, or take it out.");
	d->embeddings = o->embeddings.v;
	d->n_embeddings = o->embeddings.n;
	d->against_embeddings = o->against_embeddings.v;
	d->n_against_embeddings = o->against_embeddings.n;
	d->embedding_cosine = o->cosine;
	d->embedding_text = o->cosine_text;
	return 0;
}

static int run(struct wl_opts *opts, void *user, struct wl_err *err)
{
	struct options *o = user;
	struct wl_dedup_options d = {0};
	struct wl_dedup_counts counts;
	struct wl_corpus *c;
	int ret;

	WL_TRY(options_of(o, &d, err));
	WL_TRY(embeddings_of(o, &d, err));
	c = wl_corpus_open(o->corpus, false, 0, err);
	if (!c)
		return -1;
	o->comm = wl_comm_open(err);
	ret = o->comm ? wl_dedup_on(o->comm, c, &d, &counts, err) : -1;
	if (wl_comm_rank(o->comm) == 0 && ret > 0)
		wl_info("nothing to do: neither the corpus nor the options have changed");
	if (wl_comm_rank(o->comm) == 0 && ret >= 0 && !wl_stop_requested())
		ret = report(opts, &counts, err);
	wl_corpus_close(c);
	/* A rank that failed does not wait for the others: it ends with its code, and the launcher
	 * ends them. */
	if (ret >= 0 || !wl_comm_launched())
		wl_comm_close(o->comm);
	return ret < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct options o = {.policy = "image",
		.against_by = "image",
		.decode = "full",
		.image_radius = 6,
		.window_radius = WL_DEDUP_WINDOW_RADIUS,
		.jaccard = WL_DEDUP_JACCARD,
		.cosine = WL_DEDUP_COSINE,
		.search = "auto"};
	const struct wl_opt table[] = {
		{"corpus", WL_OPT_STR, &o.corpus, "DIR", "the corpus to look through", true},
		{"policy", WL_OPT_STR, &o.policy, "P",
			"what makes a duplicate: a like image, text, or pair of both", false},
		{"image-radius", WL_OPT_INT, &o.image_radius, "BITS",
			"how far perceptual hashes may differ, of 64 bits (-1: equal pixels only)",
			false},
		{"window-radius", WL_OPT_INT, &o.window_radius, "BITS",
			"the same for hashes of windows, which find crops, frames, mirrored and "
			"overprinted copies (0: no windows)",
			false},
		{"text-jaccard", WL_OPT_DOUBLE, &o.jaccard, "J",
			"how alike near texts are, by their runs of three characters (0: equal "
			"only)",
			false},
		{"template-images", WL_OPT_INT, &o.template_images, "N",
			"a text with more than N different pictures is a template (0: never)",
			false},
		{"banner-texts", WL_OPT_INT, &o.banner_texts, "N",
			"a picture with more than N different texts is a banner (0: never)", false},
		{"against", WL_OPT_LIST, &o.against, "DIR",
			"drop what is near this evaluation set: a corpus, shards, or pictures with "
			".txt",
			false},
		{"against-by", WL_OPT_STR, &o.against_by, "B",
			"by what it is near: image, text or either", false},
		{"embeddings", WL_OPT_LIST, &o.embeddings, "PATH",
			"near are also pictures with near embeddings: of wenlan-embed --corpus "
			"--vectors",
			false},
		{"embedding-cosine", WL_OPT_DOUBLE, &o.cosine, "T",
			"how near: the least cosine, 0.5 to 1", false},
		{"embedding-text", WL_OPT_DOUBLE, &o.cosine_text, "T",
			"the same of embeddings of texts (0: they are not compared)", false},
		{"embedding-search", WL_OPT_STR, &o.search, "S",
			"exact: all with all; near: by random hashes, 99 % at T; auto: exact where "
			"affordable",
			false},
		{"against-embeddings", WL_OPT_LIST, &o.against_embeddings, "PATH",
			"embeddings of those sets of --against that are corpora", false},
		{"prefer", WL_OPT_LIST, &o.prefer, "SOURCE",
			"of equal pairs keep that of the source named first", false},
		{"decode", WL_OPT_STR, &o.decode, "D",
			"full, or small: JPEGs at a quarter of their size, three times as fast, "
			"equal pixels only by equal bytes",
			false},
		{"memory", WL_OPT_INT, &o.memory, "BYTES",
			"what to use, about; more is on disk (0: 200 bytes a pair)", false},
		{"threads", WL_OPT_INT, &o.threads, "N", "threads a rank (0: one per core)", false},
		{0},
	};
	struct wl_opts opts = {
		.program = "wenlan-dedup",
		.usage = "--corpus DIR [OPTION]...",
		.about = "Finds pairs that repeat others, and training pairs near val or test "
			 "ones;\n"
			 "keeps the best of each and writes a verdict for the rest.\n"
			 "Under mpirun every rank takes its partitions.",
		.example = "wenlan-dedup --corpus corpus --policy image --against aic-icc\n"
			   "  mpirun -np 4 wenlan-dedup --corpus corpus --threads 2",
		.table = table,
	};

	return wl_main(&opts, argc, argv, run, &o);
}
