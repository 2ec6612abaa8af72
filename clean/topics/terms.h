/*
 * Terms: the words of which topics are made, numbered, with how often they occur; and which words
 * of a text may be one.
 */
#ifndef WL_CLEAN_TOPICS_TERMS_H
#define WL_CLEAN_TOPICS_TERMS_H

#include "clean/segment.h"
#include "ops/comm.h"
#include "ops/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wl_term_count {
	uint64_t occurrences, docs; /* docs: documents that have it */
};

struct wl_terms {
	char *bytes;		   /* the words, a 0 byte behind each */
	size_t *at;		   /* [n] where word i starts */
	struct wl_term_count *count; /* [n] */
	size_t n, cap, len, cap_bytes;
	uint32_t *slot; /* hash table of i + 1 */
	size_t slots;
};

void wl_terms_release(struct wl_terms *t);
/* The i-th word, 0-terminated; valid until a word is added. */
static inline const char *wl_terms_word(const struct wl_terms *t, size_t i)
{
	return t->bytes + t->at[i];
}
/* The word's number, -1: it is none. */
int64_t wl_terms_find(const struct wl_terms *t, const char *word, size_t n);
/* The word's number, made when it is new (with counts of 0). t zeroed at first. */
WL_MUST_CHECK int wl_terms_add(struct wl_terms *t, const char *word, size_t n, uint32_t *id,
	struct wl_err *err);

/* ---- the words of a text ---- */

enum { WL_TERM_MAX_BYTES = 60 };

/* What a term may be: at least min_chars characters, one of them a letter; not longer than
 * WL_TERM_MAX_BYTES; ASCII in small letters; not among the stop words (NULL: none). */
struct wl_term_rules {
	int64_t min_chars;
	const struct wl_terms *stop;
};

/* Cuts a normalised text and calls fn for each word that may be a term; cuts is scratch.  A
 * negative result of fn stops. */
WL_MUST_CHECK int wl_terms_of_text(const struct wl_segment *s, const struct wl_term_rules *r,
	const char *text, size_t len, struct wl_cuts *cuts,
	int (*fn)(void *user, const char *word, size_t n, struct wl_err *err), void *user,
	struct wl_err *err);

/* A list of words, one a line; what follows # and spaces around do not count. */
WL_MUST_CHECK int wl_terms_read_list(struct wl_terms *t, const char *path, struct wl_err *err);

/* ---- vocabularies ---- */

struct wl_term_bounds {
	int64_t min_docs;  /* documents that must have it */
	double max_share;  /* of the documents that may have it */
	int64_t max_words; /* the most frequent are taken */
};

/* Adds up the terms of all ranks and takes those within bounds, the most frequent first (of equal
 * ones by bytes), into out; map[t->n] gives their new numbers, UINT32_MAX: left out.  docs: on all
 * ranks.  The same for any division of the documents among ranks; comm NULL: one. */
WL_MUST_CHECK int wl_terms_choose(const struct wl_terms *t, const struct wl_term_bounds *bounds,
	uint64_t docs, struct wl_comm *comm, struct wl_terms *out, uint32_t *map,
	struct wl_err *err);

/* "word<TAB>occurrences<TAB>documents" a line, in order. */
WL_MUST_CHECK int wl_terms_save(const struct wl_terms *t, const char *path, struct wl_err *err);
WL_MUST_CHECK int wl_terms_load(struct wl_terms *t, const char *path, struct wl_err *err);

#endif
