/*
 * Embeddings of a corpus' pairs that a model gave (wenlan-embed --corpus --vectors, or anybody's):
 * safetensors files with
 *
 *   image_embeddings F32, F16 or BF16 [N,D], image_ids I64 [N]
 *   text_embeddings the same [M,D], text_ids I64 [M]
 *
 * where ids are pair ids, and the metadata key "partition" may say of which partition's pairs (else
 * of whichever has that id).  Rows need not be of unit length.  Files are mapped, never read as a
 * whole: 16 bytes a row are in memory while pairs are looked up, nothing after that.
 */
#ifndef WL_CLEAN_PAIRVECTORS_H
#define WL_CLEAN_PAIRVECTORS_H

#include "ops/err.h"

#include <stddef.h>
#include <stdint.h>

struct wl_pair_vectors; /* immutable but for the index: any thread may read rows */

enum wl_vector_side { WL_VECTORS_IMAGE, WL_VECTORS_TEXT };
/* Of the corpus, and of the items of --against: ids of the one say nothing of the other. */
enum { WL_VECTORS_OWN, WL_VECTORS_AGAINST, WL_VECTORS_SETS };
enum { WL_VECTORS_DIM_MAX = 1 << 16 };
#define WL_NO_VECTOR UINT32_MAX

struct wl_vector_paths {
	const char *const *v; /* n files, or directories: all *.safetensors in them */
	size_t n;
};

/* Opens and indexes the files of both sets (the second may be empty).  WL_EUSAGE for a path that is
 * not there; WL_EDATA naming file and tensor for what is damaged, of another kind, of different
 * dimensions, or where a pair has two different vectors (of several texts of a pair the first one
 * counts).  NULL on failure. */
struct wl_pair_vectors *wl_pair_vectors_open(
	const struct wl_vector_paths sets[WL_VECTORS_SETS], enum wl_vector_side side,
	struct wl_err *err);
void wl_pair_vectors_close(struct wl_pair_vectors *v);

int64_t wl_pair_vectors_dim(const struct wl_pair_vectors *v);
/* Different pairs of the set. */
size_t wl_pair_vectors_count(const struct wl_pair_vectors *v, int set);
/* The pair's row in all files; WL_NO_VECTOR: there is none. */
uint32_t wl_pair_vectors_find(
	const struct wl_pair_vectors *v, int set, int partition, int64_t pair_id);
/* The index is not needed any more: find, count and id_at may not be called after this. */
void wl_pair_vectors_forget(struct wl_pair_vectors *v);

/* The row as fp32 [dim], as the file has it, and *hash of these numbers and never 0 (NULL: not
 * wanted).  WL_EDATA naming file, tensor and row when one is not finite or all are 0. */
WL_MUST_CHECK int wl_pair_vectors_read(const struct wl_pair_vectors *v, uint32_t row, float *out,
	uint64_t *hash, struct wl_err *err);
/* The same without looking at it: of rows that were read before. */
void wl_pair_vectors_row(const struct wl_pair_vectors *v, uint32_t row, float *out);
/* That divided by its length; 0 where it has none. */
void wl_pair_vectors_unit(const struct wl_pair_vectors *v, uint32_t row, float *out);

/* Cosine of two fp32 vectors, in double and in an order that does not depend on the machine. */
double wl_cosine(const float *a, const float *b, int64_t dim);

/* SHA-256 of all files, as they come: what verdicts depend on.  One over no files is "". */
WL_MUST_CHECK int wl_vector_paths_hash(
	const struct wl_vector_paths sets[WL_VECTORS_SETS], char hex[65], struct wl_err *err);

#endif
