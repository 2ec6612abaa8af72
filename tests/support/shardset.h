/* Small shard sets of drawn pictures, for tests of what reads shards. */
#ifndef WL_TESTS_SUPPORT_SHARDSET_H
#define WL_TESTS_SUPPORT_SHARDSET_H

#include "clean/wordpiece.h"
#include "ingest/image.h"
#include "loader/loader.h"

struct wl_toy_set {
	const char *dir, *split;
	int samples, per_shard;
	int captions;        /* a sample has 1 + i % captions of them */
	int bad_jpeg;        /* sample whose JPEG is cut in half; -1: none */
	int bad_text;        /* sample whose captions are not strings; -1: none */
	bool boxes;          /* every third sample has boxes */
	int64_t dead;        /* pair id taken down; 0: none */
	bool two_sources;    /* every third sample is of "baike", the others of "news" */
};

/* Sample i is a picture of toy_width(i) x toy_height(i): smooth waves and a bright rectangle.
 * Its pair id is 1000 + i, its captions are "图片 i，说法 k". */
int wl_toy_width(int i);
int wl_toy_height(int i);
void wl_toy_picture(int i, struct wl_image *out);
/* Writes the set, or fails the test. */
void wl_toy_set_write(const struct wl_toy_set *s);

/* A vocabulary, one word a line, that has the words of the captions. */
extern const char wl_toy_words[];
/* A directory of a test's own, and that vocabulary. */
struct wl_toy_home {
	char dir[64]; /* /tmp/wl-NAME-XXXXXX */
	struct wl_vocab *vocab;
};
/* Makes it, or fails the test; to be removed. */
void wl_toy_home_make(struct wl_toy_home *h, const char *name);
void wl_toy_home_remove(struct wl_toy_home *h);
/* Of a test whose *state, from malloc, begins with a home. */
int wl_toy_teardown(void **state);

/* A loader with these options, and its next batch, NULL at the end; what fails fails the test. */
struct wl_loader *wl_toy_open(const struct wl_loader_opts *o);
const struct wl_batch *wl_toy_next(struct wl_loader *l);

#endif
