/* Between record_json.c and record_flat.c; not for others. */
#ifndef WL_INGEST_RECORD_PRIV_H
#define WL_INGEST_RECORD_PRIV_H

#include "ingest/record.h"

/* The quick way for a plain flat object, with the same outcome as wl_record_json: 1: taken; 0: it
 * is not of that kind, *r is as it was; -1: no memory. */
WL_MUST_CHECK int wl_record_flat(struct wl_record *r, const char *text, size_t n,
	struct wl_image_ref *ref, struct wl_err *err);
/* What the n bytes of "split" mean, a literal; NULL: nothing that we know. */
const char *wl_record_split(const char *s, size_t n);
/* Decodes n characters of base64 (either alphabet) into out, reset first.  False when anything
 * but full groups and padding is among them, or memory or out's maximum do not suffice. */
bool wl_base64_plain(const char *s, size_t n, struct wl_buf *out, struct wl_err *err);

#endif
