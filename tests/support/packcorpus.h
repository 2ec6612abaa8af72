/* A corpus with what dedup and filter would have said of it, for tests of packing. */
#ifndef WL_TESTS_SUPPORT_PACKCORPUS_H
#define WL_TESTS_SUPPORT_PACKCORPUS_H

#include "ops/buf.h"
#include "ops/db.h"
#include "shards/pack.h"

#include <stdbool.h>
#include <stdint.h>

/* Pairs 0..PACK_N-1; a pair's role is a function of its number. */
enum { PACK_N = 240 };
bool pack_is_dup(int i);      /* dedup has a verdict on it */
bool pack_is_filtered(int i); /* filter has one */
bool pack_is_png(int i);      /* its picture is no JPEG */
bool pack_is_broken(int i);   /* its picture cannot be decoded */
/* Pairs 100..139 come in groups of four near-duplicates, all others are alone. */
int pack_group_of(int i);
int64_t pack_id_of(int i);
/* The picture as received. */
void pack_make_image(int i, struct wl_buf *out);

/* Makes the corpus in dir, or fails the test.  hinted: pairs 0..2 are named test by the input, 3
 * and 4 train.  stages: 0 none has run, 1 dedup, 2 dedup and filter. */
void pack_make_corpus(const char *dir, int partitions, bool hinted, int stages);
/* Runs SQL made by printf (up to 511 bytes), or fails the test. */
void pack_exec(struct wl_db *db, const char *fmt, ...) WL_PRINTF(2, 3);

/* A fixture: a fresh directory for one test; and DIR/name, good until the program ends. */
int pack_setup(void **state);
int pack_teardown(void **state);
const char *pack_in(const char *name);

/* Small shards by two threads, 20 test pairs and 10 val ones. */
struct wl_pack_opts pack_options(const char *corpus, const char *out);
/* wl_pack, or fails the test. */
void pack_run(const struct wl_pack_opts *o, struct wl_pack_result *r);
/* SHA-256 of a set: names and bytes of every file but the manifest, which has times, and locks. */
void pack_digest(const char *path, char hex[65]);

#endif
