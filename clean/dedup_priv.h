/* Between dedup.c (the decisions) and dedup_store.c (the databases). */
#ifndef WL_CLEAN_DEDUP_PRIV_H
#define WL_CLEAN_DEDUP_PRIV_H

#include "clean/dedup.h"
#include "clean/signature.h"
#include "clean/stage.h"
#include "ops/pool.h"
#include "ops/progress.h"

enum { EVAL_NONE, EVAL_VAL, EVAL_TEST };
enum { REASON_NONE, REASON_BAD_IMAGE, REASON_NEAR_TEST, REASON_NEAR_VAL, REASON_DUPLICATE };

/* A pair in memory, 64 bytes.  Hashes are the first 64 bits: among 30 M pairs two different
 * ones agree with a chance of 1 in 40,000. */
struct member {
	int64_t id, area, fetched_at;
	uint64_t phash, pixels, text;
	int32_t partition, words;
	uint32_t kept; /* index of the pair that stands for this one, for the verdict */
	uint8_t eval, reason;
	bool has_image, has_text;
};

struct members {
	struct member *v; /* by (id, partition) */
	size_t n, cap;
};

/* Computes the signatures that are missing in partition p.  Returns 0, also when stopped. */
WL_MUST_CHECK int dedup_sign(struct wl_stage *s, const struct wl_text *tx, struct wl_pool *pool,
	int p, struct wl_progress *progress, struct wl_err *err);
/* Appends the pairs of partition p. */
WL_MUST_CHECK int dedup_load(struct wl_stage *s, int p, struct members *m, struct wl_err *err);
/* Fills looks[i] of those members of partition p that are wanted (slot[i] != UINT32_MAX is
 * where). */
WL_MUST_CHECK int dedup_looks(struct wl_stage *s, int p, const struct members *m,
	const uint32_t *slot, struct wl_look *looks, struct wl_err *err);
/* Writes verdicts, split groups and the examined list of partition p in one transaction.
 * group[i]: index of the first member of i's split group. */
WL_MUST_CHECK int dedup_write(struct wl_stage *s, int p, const struct members *m,
	const uint32_t *group, const char *duplicate_reason, struct wl_err *err);

#endif
