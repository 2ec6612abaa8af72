/* Small corpora for tests of the stages behind ingest: drawn pictures, planted repeats. */
#ifndef WL_TESTS_CORPUS_MAKE_H
#define WL_TESTS_CORPUS_MAKE_H

#include "ingest/corpus.h"
#include "ingest/image.h"

/* A textured picture that is a function of seed: blobs of colour on a gradient.  The caller
 * releases it.  Fails the running test when something goes wrong, as all here do. */
void draw_picture(uint64_t seed, int width, int height, struct wl_image *out);

/* The pixels times percent / 100, clipped. */
void scale_brightness(struct wl_image *im, int percent);

struct corpus_maker {
	struct wl_corpus *c;
	struct wl_lane *lanes[8];
	int64_t added;
};

void corpus_make_open(struct corpus_maker *m, const char *dir, int partitions);
/* Adds to lane added % partitions; texts: JSON; gives the pair's id. */
int64_t corpus_make_bytes(struct corpus_maker *m, const char *source, const char *texts,
	const char *split, const void *bytes, size_t n, int width, int height);
/* As JPEG of that quality. */
int64_t corpus_make_jpeg(struct corpus_maker *m, const char *source, const char *texts,
	const char *split, const struct wl_image *im, int quality);
/* Commits, closes lanes and corpus. */
void corpus_make_close(struct corpus_maker *m);
/* Pairs [from, to) of pictures and texts that are not alike, number `test` of the test split; their
 * ids into id[from ..). */
void corpus_make_different(
	const char *dir, int partitions, int from, int to, int test, int64_t *id);

/* All rows of the query over a stage's published databases, partition by partition, a line a
 * row, columns by '|' (blobs as hex); to be freed. */
char *stage_dump(const char *dir, const char *stage, const char *sql);

#endif
