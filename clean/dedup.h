/*
 * The dedup stage: which pairs say what another one says already.
 *
 *   signatures   of every pair, kept per partition as they are computed (an interrupted run
 *                goes on; a later generation takes over what the last one knew)
 *   alike        pictures with equal pixels, or that match (clean/match.h: perceptual hashes
 *                of the whole and of windows find candidates, comparing the pictures confirms
 *                them); texts with the same key, or near ones (clean/minhash.h)
 *                With --embeddings also those whose vectors have a cosine of so much: they count as
 *                near pictures, or near texts, in all that follows
 *   policy       what is a duplicate: image (the pictures are alike), text, or pair (both).  The
 *                best pair stands first: most pixels, then longest caption, then the source
 *                named first by --prefer, then fetched first, then smallest id.  A pair is a
 *                duplicate of a better one only when it is alike to that one itself: likeness is
 *                not transitive, and chains would join what has nothing in common.  It gets
 *                `duplicate-image`, `duplicate-text` or `duplicate-pair`, with the kept pair's
 *                name as detail.
 *   evaluation   pairs whose input says val or test are never dropped; whose picture is like
 *                one of theirs is (`near-test`, `near-val`), whatever the policy; and so is what
 *                is like an item of an evaluation set given by --against (`near-eval`).
 *   templates    one text with more than so many different pictures (`template-text`), and
 *   banners      one picture with more than so many different texts (`banner-image`).
 *   split groups pairs whose pictures are alike or whose texts are equal, transitively: a split
 *                must not cut through them.
 *
 * A picture that cannot be decoded gets `bad-image`; its text still counts for split groups.
 * The result is a function of the corpus and the options alone: not of threads, ranks, memory,
 * kills, nor of whether pairs came in one go or later.
 *
 * Under mpirun each rank signs, searches and writes its partitions; all ranks know all pairs by
 * 64 bytes.
 */
#ifndef WL_CLEAN_DEDUP_H
#define WL_CLEAN_DEDUP_H

#include "clean/phash.h"
#include "ingest/corpus.h"
#include "ops/comm.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

enum wl_dedup_policy { WL_DEDUP_IMAGE, WL_DEDUP_TEXT, WL_DEDUP_PAIR };
/* "image", "text" or "pair"; WL_EUSAGE otherwise. */
WL_MUST_CHECK int wl_dedup_policy_parse(
	const char *s, enum wl_dedup_policy *out, struct wl_err *err);
/* By what a pair is near an item of --against. */
enum wl_against_by { WL_AGAINST_IMAGE, WL_AGAINST_TEXT, WL_AGAINST_EITHER };
WL_MUST_CHECK int wl_against_by_parse(const char *s, enum wl_against_by *out, struct wl_err *err);

#define WL_DEDUP_JACCARD 0.8
enum { WL_DEDUP_WINDOW_RADIUS = 4 };
#define WL_DEDUP_COSINE 0.95
#define WL_DEDUP_COSINE_LEAST 0.5
/* How near embeddings are found (clean/vector_pairs.h); auto: exactly where that is affordable. */
enum wl_embedding_search { WL_SEARCH_AUTO, WL_SEARCH_EXACT, WL_SEARCH_NEAR };
WL_MUST_CHECK int wl_embedding_search_parse(
	const char *s, enum wl_embedding_search *out, struct wl_err *err);

struct wl_dedup_options {
	enum wl_dedup_policy policy;
	int image_radius;  /* bits of 64, 0..WL_NEAR_RADIUS_MAX; -1: equal pixels only */
	int threads;	   /* 0: one per core */
	int window_radius; /* bits of 63, 1..8; 0: WL_DEDUP_WINDOW_RADIUS; -1: no windows */
	double text_jaccard;	/* in (0, 1]; 0: WL_DEDUP_JACCARD; -1: equal keys only */
	int64_t template_images; /* 0: no text is a template */
	int64_t banner_texts;	 /* 0: no picture is a banner */
	bool small_decode; /* JPEGs at a quarter of their size (clean/signature.h) */
	int64_t memory_bytes;	 /* 0: 200 bytes a pair, 256 MB at least */
	enum wl_against_by against_by;
	const char *const *against; /* n_against directories */
	size_t n_against;
	const char *const *prefer; /* n_prefer sources, the best first */
	size_t n_prefer;
	/* Files or directories (clean/pairvectors.h) of the corpus, and of the sets of --against
	 * that are corpora; none: likeness is by hashes alone. */
	const char *const *embeddings, *const *against_embeddings;
	size_t n_embeddings, n_against_embeddings;
	double embedding_cosine; /* [WL_DEDUP_COSINE_LEAST, 1]; 0: WL_DEDUP_COSINE */
	double embedding_text;	 /* the same of texts; 0: their vectors are not looked at */
	enum wl_embedding_search embedding_search;
};

struct wl_dedup_counts {
	int64_t pairs, bad_images, duplicates, near_eval, kept;
	int64_t near_against, templates, banners;
	int64_t image_sets;	     /* with two members or more, transitively */
	int64_t alike_images, alike_texts; /* pairs of different pictures or texts, confirmed */
	int64_t cut;	 /* hashes in groups too large to be compared all with all */
	int64_t against; /* items of --against */
	int64_t embedded; /* pairs with an embedding of their picture */
	int64_t embedded_images, embedded_texts; /* of the alike ones: those that embeddings say */
};

/* Runs the stage.  comm NULL: alone.  1: nothing to do, the published generation is of the same
 * corpus and options (counts as then); 0: done and published, or stopped on request with the
 * work so far kept (wl_stop_requested says which). */
WL_MUST_CHECK int wl_dedup_on(struct wl_comm *comm, struct wl_corpus *c,
	const struct wl_dedup_options *o, struct wl_dedup_counts *counts, struct wl_err *err);
WL_MUST_CHECK int wl_dedup(struct wl_corpus *c, const struct wl_dedup_options *o,
	struct wl_dedup_counts *counts, struct wl_err *err);

/* What dedup has seen of the pictures of a partition, so that the filter need not decode them
 * again: the same as decoding them gives.  For one thread. */
struct wl_known_looks;
/* One that knows nothing where dedup has not run.  NULL on failure. */
struct wl_known_looks *wl_known_looks_open(struct wl_corpus *c, int partition, struct wl_err *err);
void wl_known_looks_close(struct wl_known_looks *k);
/* 1: *look is filled, or *broken says why the picture cannot be decoded (to be freed); 0: not
 * known. */
WL_MUST_CHECK int wl_known_look(struct wl_known_looks *k, int64_t pair_id, struct wl_look *look,
	char **broken, struct wl_err *err);

/* As JSON, a new reference; NULL when out of memory. */
json_t *wl_dedup_counts_json(const struct wl_dedup_counts *c);

#endif
