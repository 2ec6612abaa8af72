/*
 * The corpus: a workspace of pairs as they were received.
 *
 *   corpus/corpus.json            {"version":1,"partitions":P,"seed":S,
 *                                  "stages":{NAME:{generation,..}}}
 *   corpus/part-NNNNN/catalog.db  what was ingested (this header)
 *   corpus/part-NNNNN/raw-NNNNNN.tar  image bytes as received
 *   corpus/part-NNNNN/STAGE-G.db  what a later stage says of the pairs (generation G)
 *
 * A partition is a lane with one writer at a time (flock on part-NNNNN/lock).  Raw bytes are
 * synced before the rows that point at them commit; offset, segment length, pairs and
 * quarantine of one batch commit in one transaction.  On opening for writing, a segment is
 * truncated to its committed length.  So after a kill at any moment the same command goes on
 * with nothing lost and nothing doubled.
 *
 * Later stages never write catalog.db.  A stage opens its own STAGE-G.db files, G one more than
 * the published one, writes them in any number of runs, and publishes all of them at once by
 * wl_corpus_publish (corpus.json is replaced atomically).  Readers see only published
 * generations; verdicts and cleaned texts are read from there.
 *
 * A pair's identity: pair_id = 63 bits of SHA-256(source, page_url, image origin, ordinal), so
 * it is the same whatever the number of partitions or workers.  Two corpora are identical when
 * they are equal after sorting by pair_id.
 *
 * A record whose picture is only a URL is a pending pair: a row of `pending` in the same catalog,
 * with the pair_id that it will have.  What came of fetching a URL is a row of `fetch`; it and the
 * pairs that it completes (or the quarantine of those that it cannot) commit in one transaction.
 * So input items = pairs + quarantined + pending, at any moment.
 *
 * A pair is kept iff dedup AND filter have examined it and neither left a verdict.
 */
#ifndef WL_INGEST_CORPUS_H
#define WL_INGEST_CORPUS_H

#include "ops/buf.h"
#include "ops/db.h"
#include "ops/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { WL_CORPUS_VERSION = 1 };

struct wl_corpus; /* an open workspace: paths, partition count, published generations */

/* Opens; create: makes it with `partitions` lanes when corpus.json is missing (0: 1).
 * NULL on failure (WL_EDATA for a version we do not know). */
struct wl_corpus *wl_corpus_open(const char *dir, bool create, int partitions, struct wl_err *err);
void wl_corpus_close(struct wl_corpus *c);
const char *wl_corpus_dir(const struct wl_corpus *c);
int wl_corpus_partitions(const struct wl_corpus *c);
uint64_t wl_corpus_seed(const struct wl_corpus *c);
/* The lane to which an origin (a file's name, a Kafka partition) always belongs. */
int wl_corpus_lane(const struct wl_corpus *c, const char *origin);

/* ---- pairs ---- */

/* One image with its texts, raw.  Strings are borrowed from whoever filled it in. */
struct wl_pair {
	int64_t id; /* 63 bits, see above */
	int partition;
	const char *source;     /* "news", "baike", "weibo", "stamps", ... */
	const char *url;        /* of the image; "" unknown */
	const char *page_url;   /* "" unknown */
	const char *texts;      /* JSON: [[kind, text], ...], raw */
	const char *split_hint; /* "train", "val", "test" or "": the split the input asks for */
	uint8_t image_sha256[32];
	int segment;            /* raw-SEGMENT.tar of its partition */
	int64_t offset, length; /* of the image's bytes inside the segment */
	const char *format;     /* "jpeg", "png", "webp", ...: by content, never by name */
	int width, height;      /* upright pixels (EXIF orientation applied) */
	const char *boxes;      /* JSON: [[x1,y1,x2,y2],...] in upright pixels, or NULL */
	int64_t fetched_at;     /* Unix seconds; 0 unknown */
	const char *meta;       /* JSON object; "{}" when there is none */
};

/* pair_id from its parts (each may be ""). */
int64_t wl_pair_id(const char *source, const char *page_url, const char *image_origin,
	int64_t ordinal);

/* "PPPPP-ID", the pair's name everywhere people read it. */
enum { WL_PAIR_NAME = 32 };
void wl_pair_name(int partition, int64_t id, char out[WL_PAIR_NAME]);

/* ---- writing: one lane ---- */

struct wl_lane; /* an open, locked partition */

/* Waits for nobody: NULL with a sentence where another process has the partition. */
struct wl_lane *wl_lane_open(struct wl_corpus *c, int partition, struct wl_err *err);
/* The same where another process may have it: 1 opened; 0 it is held, *out is NULL; -1. */
WL_MUST_CHECK int wl_lane_try_open(struct wl_corpus *c, int partition, struct wl_lane **out,
	struct wl_err *err);
/* Says that this process waits for the lane, until the descriptor that it gives is closed. */
WL_MUST_CHECK int wl_lane_want(struct wl_corpus *c, int partition, struct wl_err *err);
/* Whether some process has said so: whoever holds a lane for long gives it up then. */
bool wl_lane_is_wanted(struct wl_lane *l);
/* Rolls back what was not committed. */
void wl_lane_close(struct wl_lane *l);
/* The committed position of an origin, "" when it was never seen.  Borrowed until the next
 * call. */
WL_MUST_CHECK int wl_lane_position(struct wl_lane *l, const char *origin, const char **position,
	struct wl_err *err);
/* Appends the image's bytes to the raw segment and the row to the open batch; fills in segment,
 * offset, length and sha256.  1: added; 0: this id is in the catalog already (counted, no
 * error). */
WL_MUST_CHECK int wl_lane_add(struct wl_lane *l, struct wl_pair *p, const void *image, size_t n,
	struct wl_err *err);
/* The same where p->image_sha256 is filled in already. */
WL_MUST_CHECK int wl_lane_add_hashed(struct wl_lane *l, struct wl_pair *p, const void *image,
	size_t n, struct wl_err *err);
/* Input that cannot be a pair: bytes (at most 1 MiB kept) with the place and the reason. */
WL_MUST_CHECK int wl_lane_quarantine(struct wl_lane *l, const char *origin, const char *position,
	const char *reason, const void *bytes, size_t n, struct wl_err *err);
/* Everything up to `position` of `origin` is in this batch: syncs the segment, then commits
 * rows and position in one transaction. */
WL_MUST_CHECK int wl_lane_commit(struct wl_lane *l, const char *origin, const char *position,
	struct wl_err *err);

/* The same for one of several origins that share the batch: its position goes in, and commits
 * with the next wl_lane_commit (of any origin). */
WL_MUST_CHECK int wl_lane_put_position(struct wl_lane *l, const char *origin,
	const char *position, struct wl_err *err);

/* 1: the catalog has this id (the open batch counts), 0: not. */
WL_MUST_CHECK int wl_lane_has(struct wl_lane *l, int64_t id, struct wl_err *err);
/* Adds n to how much of an origin was passed over on purpose, by class; in the open batch. */
WL_MUST_CHECK int wl_lane_tally(struct wl_lane *l, const char *origin, const char *class,
	int64_t n, struct wl_err *err);
/* Takes an item out of quarantine: its origin was mended and it became a pair after all. */
WL_MUST_CHECK int wl_lane_unquarantine(struct wl_lane *l, const char *origin,
	const char *position, struct wl_err *err);
/* The origin's next row of quarantine whose place sorts after `after` ("" the first): 1 with its
 * place (to be freed) and bytes; 0: no more.  *whole: all of its bytes were kept. */
WL_MUST_CHECK int wl_lane_next_refused(struct wl_lane *l, const char *origin, const char *after,
	char **place, struct wl_buf *bytes, bool *whole, struct wl_err *err);
/* Segments are sealed before they would pass this size (1 GiB). */
void wl_lane_segment_bytes(struct wl_lane *l, int64_t bytes);
/* After any failure of a lane's function only wl_lane_close may follow. */

/* ---- pictures that are only a URL so far (table `pending`, table `fetch`) ---- */

/* A pair without its picture: format, size, hash and place are filled in by the fetch.  The URL
 * is normalised (wl_url_parse); origin and place go into the quarantine row should it fail.
 * 1: added; 0: known already (as a pair, waiting, or given up). */
WL_MUST_CHECK int wl_lane_pend(struct wl_lane *l, const struct wl_pair *p, const char *image_url,
	const char *origin, const char *place, struct wl_err *err);

enum wl_fetch_outcome {
	WL_FETCH_LATER, /* failed so far; may be tried again from next_try on */
	WL_FETCH_OK,	/* its bytes are in the lane */
	WL_FETCH_FAILED /* for good: its pairs are in quarantine with the reason */
};
struct wl_fetch {
	const char *url;
	enum wl_fetch_outcome outcome;
	int status;	    /* HTTP status of the last answer; 0: there was none */
	int64_t tries;	    /* over all runs */
	int64_t next_try;   /* Unix seconds; 0: at once */
	int64_t fetched_at; /* Unix seconds of the last try */
	const char *etag, *last_modified; /* for conditional requests; "" none */
	const char *reason;		  /* why not; "" when OK */
	/* when OK, or OK before a refresh: what was received and where it lies */
	uint8_t sha256[32];
	int segment;
	int64_t offset, length;
	const char *format;
	int width, height;
};
/* What is known of a URL: 1, strings valid until the next call for this lane; 0: nothing. */
WL_MUST_CHECK int wl_lane_fetch_get(struct wl_lane *l, const char *url, struct wl_fetch *out,
	struct wl_err *err);
WL_MUST_CHECK int wl_lane_fetch_put(struct wl_lane *l, const struct wl_fetch *f,
	struct wl_err *err);

/* The same from the other lanes' catalogs, as they are committed: a URL that is in several lanes
 * is fetched once.  1: *partition has it, as OK (a picture) or FAILED.  Of a corpus of more than
 * 64 lanes none are looked into (each would cost every URL a search): 0. */
WL_MUST_CHECK int wl_lane_fetch_elsewhere(struct wl_lane *l, const char *url,
	struct wl_fetch *out, int *partition, struct wl_err *err);

/* The next pair, in order of id, that waits for a URL: 1 with its id and URL (valid until the
 * next call); 0: there is none after `after` (start with -1).  Ids are hashes, so hosts come
 * mixed. */
WL_MUST_CHECK int wl_lane_waiting(struct wl_lane *l, int64_t after, int64_t *id,
	const char **url, const char **page_url, struct wl_err *err);
/* The next URL, in byte order after `after` ("" first), that was fetched (OK) before `cutoff`: 1,
 * *out as from wl_lane_fetch_get; 0: there is none. */
WL_MUST_CHECK int wl_lane_stale(struct wl_lane *l, const char *after, int64_t cutoff,
	struct wl_fetch *out, struct wl_err *err);
/* The fetch succeeded: writes the bytes once, fills in hash and place of *f, puts *f, and turns
 * every pair that waits for the URL into a pair.  image NULL: *f says where the bytes lie already
 * (a URL of an earlier run).  Gives the number of pairs; *bare: of those that have no text, and
 * so went into quarantine. */
WL_MUST_CHECK int64_t wl_lane_complete(struct wl_lane *l, struct wl_fetch *f, const void *image,
	size_t n, int64_t *bare, struct wl_err *err);
/* The first row after `after` (-1: the first) that waits for the URL and has no text, so that the
 * URL may be a page's: 1, strings valid until the next call; 0: there is none. */
struct wl_page_row {
	int64_t id, fetched_at;
	const char *origin, *place, *source, *meta;
};
WL_MUST_CHECK int wl_lane_page_row(struct wl_lane *l, const char *url, int64_t after,
	struct wl_page_row *out, struct wl_err *err);
/* The row waits no more: its page's pictures have taken its place. */
WL_MUST_CHECK int wl_lane_drop_pending(struct wl_lane *l, int64_t id, struct wl_err *err);
/* A URL that was OK has other bytes now: each pair that has the old ones gets a sibling with the
 * new (its id is made of the old id and the new hash), since pairs never change.  Puts *f, whose
 * sha256 is the old hash and becomes the new one.  Gives the number of pairs. */
WL_MUST_CHECK int64_t wl_lane_changed(struct wl_lane *l, struct wl_fetch *f, const void *image,
	size_t n, struct wl_err *err);
/* The fetch failed for good: puts *f and quarantines every pair that waits for the URL, with
 * f->reason and what was known of it.  They are remembered for wl_lane_retry_failed.  Gives the
 * number of pairs. */
WL_MUST_CHECK int64_t wl_lane_give_up(struct wl_lane *l, struct wl_fetch *f, struct wl_err *err);
/* Lets every pair that was given up wait again and forgets what its URL's failure was: back out
 * of quarantine.  Gives the number of pairs. */
WL_MUST_CHECK int64_t wl_lane_retry_failed(struct wl_lane *l, struct wl_err *err);
/* The pair waits no more, and is no pair: its picture is furniture (ingest/furniture.h).  It stays
 * known. */
WL_MUST_CHECK int wl_lane_leave_out(struct wl_lane *l, int64_t id, struct wl_err *err);
/* As wl_lane_commit, for outcomes, which belong to no origin's position. */
WL_MUST_CHECK int wl_lane_commit_fetches(struct wl_lane *l, struct wl_err *err);
/* The number of pairs of this lane that wait. */
WL_MUST_CHECK int wl_lane_count_waiting(struct wl_lane *l, int64_t *out, struct wl_err *err);

/* ---- reading ---- */

/* Walks the pairs of one partition in order of id.  For one thread at a time. */
struct wl_pair_cursor;
struct wl_pair_cursor *wl_pairs_open(struct wl_corpus *c, int partition, struct wl_err *err);
/* 1: *p filled in (valid until the next call); 0: no more; -1. */
WL_MUST_CHECK int wl_pairs_next(struct wl_pair_cursor *cur, struct wl_pair *p,
	struct wl_err *err);
/* One pair by id; 1 found, 0 not.  Valid until the cursor is used again or closed. */
WL_MUST_CHECK int wl_pairs_find(struct wl_pair_cursor *cur, int64_t id, struct wl_pair *p,
	struct wl_err *err);
/* From its next use on the cursor sees one state of the catalog, until it is closed: for many
 * wl_pairs_find, which otherwise lock and unlock the file each. */
WL_MUST_CHECK int wl_pairs_hold(struct wl_pair_cursor *cur, struct wl_err *err);
void wl_pairs_close(struct wl_pair_cursor *cur);
/* The image's bytes as received; checked against image_sha256 (WL_EDATA when they differ).
 * Thread-safe. */
WL_MUST_CHECK int wl_corpus_image(struct wl_corpus *c, const struct wl_pair *p,
	struct wl_buf *out, struct wl_err *err);

/* The same in two halves, for who hashes the bytes anyway: not checked yet; and the check, of
 * their SHA-256. */
WL_MUST_CHECK int wl_corpus_image_bytes(struct wl_corpus *c, const struct wl_pair *p,
	struct wl_buf *out, struct wl_err *err);
WL_MUST_CHECK int wl_corpus_image_check(struct wl_corpus *c, const struct wl_pair *p,
	const uint8_t digest[32], struct wl_err *err);

struct wl_corpus_counts {
	int64_t pairs, quarantined, segments, bytes;
	int64_t pending;  /* records whose picture is still to be fetched */
	int64_t left_out; /* records whose picture stands on many pages */
};
/* Over all partitions. */
WL_MUST_CHECK int wl_corpus_count(struct wl_corpus *c, struct wl_corpus_counts *out,
	struct wl_err *err);
/* SHA-256 over the sorted pair ids, image hashes and texts: names the corpus's content. */
WL_MUST_CHECK int wl_corpus_fingerprint(struct wl_corpus *c, char hex[65], struct wl_err *err);

/* ---- what later stages say ---- */

/* The published generation of a stage ("dedup", "filter"); 0: it never ran to its end. */
int wl_corpus_generation(const struct wl_corpus *c, const char *stage);
/* Path of part-P/STAGE-G.db, to be freed; for writing, G = wl_corpus_generation() + 1. */
char *wl_corpus_stage_path(const struct wl_corpus *c, const char *stage, int generation,
	int partition, struct wl_err *err);
/* Makes generation `generation` the one that readers see; facts (an object: params_hash, corpus
 * fingerprint, counts) are kept beside it; files of older generations are removed. */
WL_MUST_CHECK int wl_corpus_publish(struct wl_corpus *c, const char *stage, int generation,
	const json_t *facts, struct wl_err *err);
/* The facts of the last publish (borrowed; NULL: none).  A stage whose params_hash and corpus
 * fingerprint are unchanged has nothing to do. */
const json_t *wl_corpus_stage_facts(const struct wl_corpus *c, const char *stage);

/*
 * Tables in a STAGE-G.db:
 *   every stage:
 *     examined(pair_id INTEGER PRIMARY KEY)   every pair that the stage looked at
 *     verdict(pair_id, reason TEXT, detail TEXT, PRIMARY KEY(pair_id, reason)) WITHOUT ROWID
 *   dedup:
 *     signature(pair_id PRIMARY KEY, phash INTEGER, text_hash BLOB, pixel_hash BLOB, minhash BLOB)
 *     cluster(pair_id PRIMARY KEY, split_group INTEGER)   smallest pair_id of its split group
 *   filter:
 *     clean(pair_id PRIMARY KEY, texts TEXT, topic INTEGER, category TEXT, scores TEXT)
 *       texts: JSON [[kind, text],...], normalised, the caption first
 */

#endif
