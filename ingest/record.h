/*
 * A record: one input item on its way to be a pair or to be quarantined.
 *
 * A source's next() reads what identifies it (cheap, in order); prepare() turns it into a pair
 * on any thread: parses, loads the image, sees that it is whole.  A record
 * that cannot be a pair gets a reason; only failures that are not the record's fault (no memory,
 * a disk that cannot be read) are errors.
 *
 * An item that holds any number of pairs (a page, a WARC response) yields them: prepare() calls
 * wl_record_yield for each.  Then the item itself is no pair; all that it yields is settled in
 * order, and its position commits after the last of them, so a kill in between repeats the whole
 * item and doubles nothing (pairs go by id).
 */
#ifndef WL_INGEST_RECORD_H
#define WL_INGEST_RECORD_H

#include "ingest/corpus.h"
#include "ingest/image.h"
#include "ops/arena.h"
#include "ops/buf.h"

#include <jansson.h>

/* No line of JSON and no sidecar is longer. */
enum { WL_RECORD_MAX_TEXT = 64 * 1024 * 1024 };

struct wl_record {
	struct wl_arena mem; /* strings below that are not literals live here */
	/* from next(): */
	const char *place;    /* where in its origin, for people: "line 12", "a/b.png" */
	const char *position; /* to be committed once this record and all before it are in */
	const char *file;     /* dir, stamps: the image's path in the source; else NULL */
	int64_t ordinal;      /* part of the pair's id */
	struct wl_buf json;   /* a line of JSON, or the .json beside an image */
	struct wl_buf text;   /* the .txt beside an image */
	struct wl_buf image;  /* the image's bytes as received */
	bool has_json, has_text, has_image;
	/* Where the image's bytes are in the source, for prepare() to read; size 0: they are in
	 * `image` already. */
	int64_t image_start, image_size;
	bool hashed; /* pair.image_sha256 is of image: then it need not be made again */
	enum wl_image_level check; /* how thoroughly wl_record_finish looks at the picture */
	/* Where the picture is when it did not come with the record; then has_image is false, and
	 * the pair waits for the fetch.  NULL: there is no such place. */
	const char *image_url;
	/* from prepare(): */
	const char *reason;       /* not NULL: to be quarantined */
	const char *image_origin; /* part of the pair's id */
	struct wl_pair pair;      /* all but segment, offset, length, sha256; id once known */
	bool many;                /* no pair itself: the n_yield records of yield are settled; a
				   * reason of its own still quarantines it besides */
	struct wl_record **yield; /* [cap_yield], of them n_yield in use; owned */
	size_t n_yield, cap_yield;
	struct wl_tally *tallies; /* [n_tallies]; in the arena */
	size_t n_tallies;
};

/* How much of an item was passed over on purpose, for the totals: "request records", "icons". */
struct wl_tally {
	const char *class;
	int64_t n;
};

/* An empty record; no memory is taken yet. */
void wl_record_init(struct wl_record *r);
/* Empty again, memory kept. */
void wl_record_clear(struct wl_record *r);
void wl_record_release(struct wl_record *r);

/* Says why it is no pair; the first reason stands.  "class: detail": counts are by class. */
WL_MUST_CHECK int wl_record_reject(struct wl_record *r, struct wl_err *err, const char *fmt, ...)
	WL_PRINTF(3, 4);

/* One more record that comes out of item r, empty but for the item's source label and a place of
 * its own ("PLACE, item K": the quarantine is keyed by place).  Give it image_origin, ordinal
 * (together they must be unique in the origin) and pair, then wl_record_finish it.  It belongs
 * to r, as long as r is not cleared.  NULL: no memory. */
struct wl_record *wl_record_yield(struct wl_record *r, struct wl_err *err);
/* Says that r is neither a pair nor bad, and holds nothing: passed over and counted. */
WL_MUST_CHECK int wl_record_pass(struct wl_record *r, const char *class, struct wl_err *err);
/* Counts n under class, a string that outlives r (or in its arena); added to the origin's totals
 * in the transaction that commits r. */
WL_MUST_CHECK int wl_record_tally(struct wl_record *r, const char *class, int64_t n,
	struct wl_err *err);

/* Where a JSON record says its image is, unless it came with it; in the record's arena. */
struct wl_image_ref {
	const char *path; /* "image" or "image_id" */
	const char *url;  /* "image_url" */
};

/*
 * Takes one JSON object (ARCHITECTURE "Command lines": source, url, page_url, title, text,
 * captions, image | image_b64 | image_url, boxes, split, fetched_at, meta; or the public BriVL
 * form: image_id, sentences, bbox) into the pair.  image_b64 is decoded into r->image, unless
 * the record has an image already.  Members that have no meaning here are kept in meta.  What is
 * not of this form rejects the record.  Source is left as it was when the object names none.
 */
WL_MUST_CHECK int wl_record_json(struct wl_record *r, const char *text, size_t n,
	struct wl_image_ref *ref, struct wl_err *err);

/* The two halves of it, for who looks into the object first: *out is NULL when the text rejects the
 * record; the object is used up (members are taken out), but stays the caller's. */
WL_MUST_CHECK int wl_record_parse(struct wl_record *r, const char *text, size_t n, json_t **out,
	struct wl_err *err);
WL_MUST_CHECK int wl_record_object(struct wl_record *r, json_t *o, struct wl_image_ref *ref,
	struct wl_err *err);
/* Base64 (either alphabet, line breaks and a "data:...;base64," prefix allowed) into out, reset
 * first; what is none rejects the record, naming `what`. */
WL_MUST_CHECK int wl_record_base64(struct wl_record *r, const char *s, const char *what,
	struct wl_buf *out, struct wl_err *err);

/* A .txt: each line that is not blank is a caption.  UTF-8, UTF-16 with a byte-order mark, or
 * GB18030; anything else rejects the record. */
WL_MUST_CHECK int wl_record_captions(struct wl_record *r, const char *text, size_t n,
	struct wl_err *err);
/* A Tux Paint .txt: the caption of the zh_CN.utf8= line; none rejects the record. */
WL_MUST_CHECK int wl_record_stamp(struct wl_record *r, const char *text, size_t n,
	struct wl_err *err);
/* meta {"file": path}, unless the record has a meta already. */
WL_MUST_CHECK int wl_record_meta_file(struct wl_record *r, const char *path, struct wl_err *err);

/* Says that the picture is to be fetched from url: sets image_url (normalised) and pair.url.  One
 * that is no http or https URL rejects the record. */
WL_MUST_CHECK int wl_record_image_url(struct wl_record *r, const char *url, struct wl_err *err);

/* The end of every prepare(): checks that there are texts and that the image decodes whole
 * (or that it can be fetched: image_url), fills in format and size, computes the id. */
WL_MUST_CHECK int wl_record_finish(struct wl_record *r, struct wl_err *err);

/* Reads a regular file into `out`; one that is missing, is no file or is larger than `out` may
 * be rejects the record.  what: "image", for the reason. */
WL_MUST_CHECK int wl_record_load(struct wl_record *r, const char *path, const char *what,
	struct wl_buf *out, struct wl_err *err);

/* Whether a name ends as pictures do (jpg, png, webp, gif, ...): such a file is an item. */
bool wl_is_image_name(const char *name);

#endif
