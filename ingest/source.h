/*
 * Sources: where records come from, behind one interface.
 *
 * On the command line a source is KIND:PATH, with ?key=value&... after it where the kind takes
 * parameters; PATH may be a glob.  Each path is one origin: it has a name that does not depend on
 * where the corpus is, belongs to one lane, and keeps its position there.
 *
 * A new kind is one file source_KIND.c and one line in source.c.
 */
#ifndef WL_INGEST_SOURCE_H
#define WL_INGEST_SOURCE_H

#include "ingest/record.h"

struct wl_source_ops;

/* One path of one source, before it is opened. */
struct wl_origin {
	const struct wl_source_ops *ops;
	char *path;         /* as given, tidied: "data/a.jsonl" */
	char *name;         /* "KIND:PATH": names it in the catalog */
	char *images;       /* ?images=TAR: where relative image paths are looked up; or NULL */
	char *root;         /* ?root=DIR: what they are relative to; NULL: the file's directory */
	char *profile;      /* ?profile=NAME: how pages are read (ingest/page.h); or NULL */
	char *split;        /* ?split=NAME: of all its records; or NULL */
	char *index;        /* ?index=FILE: where saved pages came from; or NULL */
	const char *source; /* the label of records that bring none; borrowed */
};

/* An open source; each kind embeds this as its first member. */
struct wl_source {
	const struct wl_source_ops *ops;
	const struct wl_origin *origin;
};

/* Zeroed memory of `bytes` for a source of the origin's kind, whose first member is a struct
 * wl_source; its close() frees it. */
void *wl_source_new(const struct wl_origin *o, size_t bytes, struct wl_err *err);

struct wl_source_ops {
	const char *kind;
	const char *about; /* one line for --help */
	const char *params; /* the ?key= that it takes: "images root"; NULL: none */
	/* Opens right after `position` ("" = the start).  NULL with the reason: WL_EDATA when the
	 * file is damaged, or is not the one that `position` was taken from.  A kind without open,
	 * next and close is a topic, whose partitions come and go: see ingest_kafka.c. */
	struct wl_source *(*open)(const struct wl_origin *o, const char *position,
		struct wl_err *err);
	/* 1: *r (cleared) has place, position, ordinal and what prepare needs; 0: the end; -1: the
	 * source is damaged from here on.  One thread only. */
	int (*next)(struct wl_source *s, struct wl_record *r, struct wl_err *err);
	/* Makes a pair of *r, or a reason.  -1 only for what is not the record's fault.  Any
	 * thread, several at once. */
	int (*prepare)(struct wl_source *s, struct wl_record *r, struct wl_err *err);
	/* Everything up to position is durable (a broker may be told).  NULL: nothing to do. */
	int (*ack)(struct wl_source *s, const char *position, struct wl_err *err);
	/* What to commit once next() said 0.  NULL: the last record's position. */
	const char *(*end)(struct wl_source *s);
	void (*close)(struct wl_source *s);
	/* The ordinal of the record at a place that next() gave, when what the quarantine keeps of
	 * it (its JSON) is all that prepare() needs: then --retry-quarantine can take it up again.
	 * -1: it is not such a place.  NULL: never. */
	int64_t (*recall)(const char *place);
	/* A finished origin that has changed is walked from its start again, and only what is
	 * new is taken: records may be in the catalog already. */
	bool walks_again;
};

/* "line 12" -> 12 for word "line"; -1: it is not of this form.  For recall. */
int64_t wl_place_number(const char *place, const char *word);

/* The kinds that this build has; n of them. */
const struct wl_source_ops *const *wl_source_kinds(size_t *n);

struct wl_origins {
	struct wl_origin *v; /* sorted by name, each once */
	size_t n;
};
/* Turns specs into origins; label: --source-name or NULL (then the kind's name).  WL_EUSAGE
 * names an unknown kind with the nearest valid one, or a path that is not there. */
WL_MUST_CHECK int wl_origins_parse(struct wl_origins *out, const char *const *specs, size_t n,
	const char *label, struct wl_err *err);
void wl_origins_release(struct wl_origins *o);

extern const struct wl_source_ops wl_source_aic, wl_source_coco, wl_source_dir, wl_source_stamps,
	wl_source_jsonl, wl_source_kafka, wl_source_html, wl_source_tar, wl_source_urls,
	wl_source_warc, wl_source_zip;

#endif
