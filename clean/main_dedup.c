/* wenlan-dedup: exact and near duplicates, and what is near an evaluation pair. */
#include "clean/dedup.h"
#include "clean/near.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "ops/signals.h"

#include <stdio.h>

struct options {
	const char *corpus, *policy;
	int64_t image_radius, threads;
};

static int report(const struct wl_opts *opts, const struct wl_dedup_counts *n, struct wl_err *err)
{
	json_t *counts;

	if (n->cut)
		wl_warn("%lld pictures have more than %d near hashes; some were not compared",
			(long long)n->cut, WL_NEAR_MAX);
	wl_info("%lld pairs: %lld kept, %lld duplicates, %lld near val or test, %lld bad images",
		(long long)n->pairs, (long long)n->kept, (long long)n->duplicates,
		(long long)n->near_eval, (long long)n->bad_images);
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

static int run(struct wl_opts *opts, void *user, struct wl_err *err)
{
	struct options *o = user;
	struct wl_dedup_options d = {0};
	struct wl_dedup_counts counts;
	struct wl_corpus *c;
	int ret;

	WL_TRY(wl_dedup_policy_parse(o->policy, &d.policy, err));
	if (o->image_radius < -1 || o->image_radius > WL_NEAR_RADIUS_MAX)
		return wl_err_set(err, WL_EUSAGE,
			"--image-radius is %lld, expected -1 (equal "
			"pixels only) to %d bits.",
			(long long)o->image_radius, WL_NEAR_RADIUS_MAX);
	if (o->threads < 0 || o->threads > 1024)
		return wl_err_set(err, WL_EUSAGE,
			"--threads is %lld, expected 0 (one per core) "
			"to 1024.",
			(long long)o->threads);
	d.image_radius = (int)o->image_radius;
	d.threads = (int)o->threads;
	c = wl_corpus_open(o->corpus, false, 0, err);
	if (!c)
		return -1;
	ret = wl_dedup(c, &d, &counts, err);
	if (ret > 0)
		wl_info("nothing to do: neither the corpus nor the options have changed");
	if (ret >= 0 && !wl_stop_requested())
		ret = report(opts, &counts, err);
	wl_corpus_close(c);
	return ret < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct options o = {.policy = "image", .image_radius = 6};
	const struct wl_opt table[] = {
		{"corpus", WL_OPT_STR, &o.corpus, "DIR", "the corpus to look through", true},
		{"policy", WL_OPT_STR, &o.policy, "P",
			"what makes a duplicate: the same image, text, or pair of both", false},
		{"image-radius", WL_OPT_INT, &o.image_radius, "BITS",
			"how far perceptual hashes may differ, of 64 bits (-1: equal pixels only)",
			false},
		{"threads", WL_OPT_INT, &o.threads, "N", "threads (0: one per core)", false},
		{0},
	};
	struct wl_opts opts = {
		.program = "wenlan-dedup",
		.usage = "--corpus DIR [OPTION]...",
		.about = "Finds pairs that repeat others, and training pairs near val or test "
			 "ones;\n"
			 "keeps the best of each and writes a verdict for the rest.",
		.example = "wenlan-dedup --corpus corpus --policy image --image-radius 6",
		.table = table,
	};

	return wl_main(&opts, argc, argv, run, &o);
}
