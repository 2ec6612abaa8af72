/* Any bytes as a record's JSON, as a text file and as a stamp's: a reason, or a whole pair. */
#include "ingest/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* texts must be a list of [kind, text], boxes a list, meta an object. */
static void check(const struct wl_record *r)
{
	json_error_t e;
	json_t *texts = json_loads(r->pair.texts, 0, &e), *v;
	json_t *meta = json_loads(r->pair.meta, 0, &e);
	size_t i;

	if (!json_is_array(texts) || !json_is_object(meta))
		abort();
	json_array_foreach(texts, i,
		v) if (json_array_size(v) != 2 || !json_is_string(json_array_get(v, 1))) abort();
	json_decref(texts);
	json_decref(meta);
	if (r->pair.boxes) {
		json_t *boxes = json_loads(r->pair.boxes, 0, &e);
		if (!json_is_array(boxes))
			abort();
		json_decref(boxes);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_image_ref ref;
	struct wl_record r;

	wl_record_init(&r);
	if (wl_record_json(&r, (const char *)data, n, &ref, &err) < 0)
		abort();
	if (!r.reason)
		check(&r);
	wl_record_clear(&r);
	if (wl_record_captions(&r, (const char *)data, n, &err) < 0)
		abort();
	if (!r.reason)
		check(&r);
	wl_record_clear(&r);
	if (wl_record_stamp(&r, (const char *)data, n, &err) < 0)
		abort();
	if (!r.reason)
		check(&r);
	wl_record_release(&r);
	return 0;
}
