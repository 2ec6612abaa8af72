/* Between dedup.c (the stage), dedup_store.c, dedup_load.c and dedup_write.c (databases),
 * dedup_find.c (which pairs are alike), dedup_judge.c (what follows from it) and dedup_against.c
 * (evaluation sets). */
#ifndef WL_CLEAN_DEDUP_PRIV_H
#define WL_CLEAN_DEDUP_PRIV_H

#include "clean/bygroup.h"
#include "clean/dedup.h"
#include "clean/pairvectors.h"
#include "clean/rows.h"
#include "clean/signature.h"
#include "clean/stage.h"
#include "ops/pool.h"
#include "ops/progress.h"

enum { EVAL_NONE, EVAL_AGAINST, EVAL_VAL, EVAL_TEST };
enum {
	REASON_NONE,
	REASON_BAD_IMAGE,
	REASON_NEAR_TEST,
	REASON_NEAR_VAL,
	REASON_NEAR_AGAINST,
	REASON_BANNER,
	REASON_TEMPLATE,
	REASON_DUPLICATE,
};
enum { NOBODY = UINT32_MAX };

/* A pair in memory, 64 bytes.  Hashes are the first 64 bits: among 30 M pairs two different
 * ones agree with a chance of 1 in 40,000. */
struct member {
	int64_t id, area, fetched_at;
	uint64_t phash, pixels, text;
	int32_t partition, words;
	uint32_t kept; /* index of the pair that stands for this one, for the verdict; for banners
			* and templates: how many others */
	uint8_t eval, reason, prefer; /* prefer: place of the source in --prefer */
	bool has_image : 1, has_text : 1;
	bool old : 1; /* its alikes among the old ones are known */
};

/* What a row of texts holds: the keys under which texts that may be near meet. */
struct text_row {
	uint32_t n;
	uint64_t key[];
};

enum dedup_kind { KIND_PICTURE, KIND_TEXT };
/* In the table edge, those of embeddings follow. */
enum { EDGE_VECTORS = 2 };

/* Embeddings of pictures, or of texts. */
struct dedup_vectors {
	struct wl_pair_vectors *v; /* NULL: not used */
	double cosine;
	bool exact;	/* how near ones are found */
	size_t n;	/* pairs that have one */
	uint32_t *row;	/* [pairs] of v, or WL_NO_VECTOR; on every rank */
	uint64_t *hash; /* [n_own] of the vector; 0: none */
	struct wl_values edges;
};

/* A pair's picture or key as other ranks get it; one after the other. */
struct blobs {
	char *data;
	size_t *at; /* [n + 1] */
};
void blobs_release(struct blobs *b);

struct dedup {
	struct wl_stage stage;
	const struct wl_dedup_options *o;
	struct wl_comm *comm;
	struct wl_pool *pool;
	struct wl_dedup_counts *counts;
	/* All pairs, on every rank: by partition, then id.  The pairs of --against come last, as
	 * partition `partitions`. */
	struct member *m;
	size_t n, cap;
	int partitions;
	size_t *base; /* [partitions + 2] where a partition's pairs begin */
	/* This rank's pairs, in order: their indices, and what is looked through again and again.
	 */
	uint32_t *own;
	size_t n_own;
	struct wl_rows windows; /* struct wl_windows */
	struct wl_rows texts;	/* struct text_row with text_slots keys */
	int text_slots;
	struct wl_bands bands;
	/* What was found: roots of equal pixels and texts, and near ones between the roots. */
	uint32_t *pixels, *text;
	struct wl_values image_edges, text_edges; /* smaller index << 32 | larger */
	uint32_t *image; /* roots of pixels and edges together, transitively */
	uint32_t *group; /* and of equal texts: what a split must not cut through */
	struct dedup_vectors vectors[2]; /* by enum wl_vector_side, which is enum dedup_kind */
	char vectors_hash[65];		 /* of the files */
	bool vectors_changed; /* since the last run, of pairs that it knew */
	/* --against */
	char **names; /* [n_names] of the items, by id; in one block */
	size_t n_names;
	char *names_block;
	char against_hash[65];
	struct wl_db *db;   /* [partitions + 1] open for reading back */
	sqlite3_stmt **get; /* [2 * (partitions + 1)] by partition and kind */
};

static inline int dedup_owner(const struct dedup *d, int partition)
{
	return partition % wl_comm_size(d->comm);
}
static inline bool dedup_is_mine(const struct dedup *d, int partition)
{
	return dedup_owner(d, partition) == wl_comm_rank(d->comm);
}
/* Whether it matters which texts are near. */
static inline bool dedup_text_counts(const struct dedup *d)
{
	return d->o->policy != WL_DEDUP_IMAGE || d->o->against_by != WL_AGAINST_IMAGE;
}
static inline bool dedup_text_near(const struct dedup *d)
{
	return d->o->text_jaccard > 0 && dedup_text_counts(d);
}
/* Bytes for one of the things that memory is shared by: percent of what pairs leave. */
size_t dedup_memory(const struct dedup *d, int percent);

/* ---- dedup_store.c ---- */

/* A batch of pairs, or of items of --against, on its way to be signed. */
struct signer;
struct signer *signer_open(
	struct wl_db *db, const struct wl_text *tx, const struct dedup *d, struct wl_err *err);
void signer_close(struct signer *w);
/* Takes over what is given (copied); corpus NULL: the picture's bytes are in `image`. */
WL_MUST_CHECK int signer_add(struct signer *w, struct wl_corpus *corpus, const struct wl_pair *pair,
	const struct wl_buf *image, struct wl_progress *progress, struct wl_err *err);
WL_MUST_CHECK int signer_flush(struct signer *w, struct wl_progress *progress, struct wl_err *err);
extern const char dedup_schema[];

/* Opens the database of a partition; partition `partitions`: of --against. */
WL_MUST_CHECK int dedup_db(struct dedup *d, int partition, struct wl_db *db, struct wl_err *err);
/* Computes the signatures that are missing in partition p.  Returns 0, also when stopped. */
WL_MUST_CHECK int dedup_sign(struct dedup *d, const struct wl_text *tx, int p,
	struct wl_progress *progress, struct wl_err *err);
/* ---- dedup_load.c ---- */

/* Appends the pairs of partition p to m, own, windows and texts. */
WL_MUST_CHECK int dedup_load(struct dedup *d, int p, struct wl_err *err);
/* Which pairs of partition p the published generation has settled under the same options: sets
 * old, and adds the edges between them. */
WL_MUST_CHECK int dedup_load_old(struct dedup *d, int p, struct wl_err *err);
/* Appends the picture or key of a pair of this rank. */
WL_MUST_CHECK int dedup_read(
	struct dedup *d, uint32_t i, enum dedup_kind kind, struct wl_buf *out, struct wl_err *err);
void dedup_close_dbs(struct dedup *d);
/* ---- dedup_write.c ---- */

/* Writes verdicts, split groups, edges and the examined list of partition p in one
 * transaction. */
WL_MUST_CHECK int dedup_write(struct dedup *d, int p, struct wl_err *err);
const char *dedup_reason(const struct dedup *d, const struct member *x);
/* Under which options edges hold; to be freed. */
char *dedup_edges_key(const struct dedup *d, struct wl_err *err);
struct member *dedup_add_member(struct dedup *d, struct wl_err *err);

/* ---- dedup_find.c ---- */

/* Fills pixels, text and the edges, the same on every rank.  Collective. */
WL_MUST_CHECK int dedup_find(struct dedup *d, struct wl_err *err);

/* ---- dedup_vectors.c ---- */

/* Opens --embeddings, finds each pair's row, reads and checks those of this rank's pairs. */
WL_MUST_CHECK int dedup_vectors_open(struct dedup *d, struct wl_err *err);
void dedup_vectors_close(struct dedup *d);
/* Of a pair of this rank; 0: it has none. */
uint64_t dedup_vector_hash(const struct dedup *d, enum wl_vector_side side, uint32_t i);
/* Adds the near ones to the side's edges, the same on every rank.  Collective. */
WL_MUST_CHECK int dedup_find_vectors(
	struct dedup *d, enum wl_vector_side side, const uint32_t *roots, struct wl_err *err);

/* ---- dedup_judge.c ---- */

/* Fills image, group, reasons and counts from what was found; the same on every rank. */
WL_MUST_CHECK int dedup_judge(struct dedup *d, struct wl_err *err);

/* ---- dedup_against.c ---- */

/* Signs the items of --against (rank 0), and tells all ranks their names.  Collective. */
WL_MUST_CHECK int dedup_against_sign(struct dedup *d, const struct wl_text *tx, struct wl_err *err);
/* What the sets are, by names and sizes of their files, for the stage's parameters. */
WL_MUST_CHECK int dedup_against_hash(
	const struct wl_dedup_options *o, char hex[65], struct wl_err *err);
char *dedup_against_path(const struct dedup *d, struct wl_err *err);

#endif
