/* WARC archives of every form, and what wl_warc_next says of an archive, for tests. */
#ifndef WL_TESTS_WARC_SEEN_H
#define WL_TESTS_WARC_SEEN_H

#include "ingest/warc.h"

/* ---- reading all ---- */

struct warc_seen {
	int64_t member, inside, next_member, next_inside, length;
	enum wl_warc_type type;
	uint64_t hash;
	size_t n;
	bool damaged, mended;
	char uri[64], why[256];
};
struct warc_seens {
	struct warc_seen v[600];
	size_t n;
};
/* At most `most` records from a place on.  Fails the running test when reading does not end
 * well. */
void warc_read_from(const char *path, struct warc_seens *out, int64_t member, int64_t inside,
	size_t most);
/* From the place after any record on, the rest comes out the same. */
void warc_check_places(const char *path, const struct warc_seens *all, const char *what);

/* ---- archives ---- */

enum warc_form {
	WARC_PLAIN,
	WARC_LF,
	WARC_GZ,
	WARC_GZ_ONE,
	WARC_ZST,
	WARC_ZST_DICT,
	WARC_ZST_DICT_Z,
	WARC_FORMS
};
extern const char *const WARC_FORM_NAMES[WARC_FORMS];

/* Records of an archive: sizes by seed; record i of type response at http://x/<i>. */
struct warc_archive {
	struct wl_buf file;
	size_t n;
	size_t at[600]; /* where record i begins in the file, for forms of one member a record */
	size_t body[600];
};
/* n records with blocks of fewer than `most` bytes; the file is the caller's to release. */
void warc_archive_make(
	struct warc_archive *a, enum warc_form form, int seed, int n, size_t most);
/* A block of n bytes: text, with blank lines and what looks like heads in it. */
void warc_block(struct wl_buf *b, int seed, size_t n);

#endif
