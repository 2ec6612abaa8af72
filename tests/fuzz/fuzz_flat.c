/* A record's JSON by the quick way and by the tree: what the quick way takes must be the same. */
#include "ingest/record.h"
#include "ingest/record_priv.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const char *a, const char *b)
{
	if ((a == NULL) != (b == NULL) || (a && strcmp(a, b) != 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_record a, b;
	struct wl_image_ref ra = {0}, rb = {0};
	json_t *o = NULL;
	/* Of exactly this size, so that one byte too far is seen. */
	char *text = malloc(size ? size : 1);

	if (!text)
		return 0;
	if (size)
		memcpy(text, data, size);
	wl_record_init(&a);
	wl_record_init(&b);
	int flat = wl_record_flat(&a, text, size, &ra, &err);
	if (flat < 0)
		abort();
	if (flat) {
		if (wl_record_parse(&b, text, size, &o, &err) < 0 || !o ||
			wl_record_object(&b, o, &rb, &err) < 0 || b.reason || a.reason)
			abort();
		same(a.pair.source, b.pair.source);
		same(a.pair.url, b.pair.url);
		same(a.pair.page_url, b.pair.page_url);
		same(a.pair.texts, b.pair.texts);
		same(a.pair.split_hint, b.pair.split_hint);
		same(a.pair.boxes, b.pair.boxes);
		same(a.pair.meta, b.pair.meta);
		same(ra.path, rb.path);
		same(ra.url, rb.url);
		if (a.pair.fetched_at != b.pair.fetched_at || a.has_image != b.has_image ||
			a.image.len != b.image.len ||
			(a.image.len && memcmp(a.image.data, b.image.data, a.image.len) != 0))
			abort();
	} else if (a.has_image || ra.path || ra.url || strcmp(a.pair.texts, "[]") != 0) {
		abort();
	}
	json_decref(o);
	wl_record_release(&a);
	wl_record_release(&b);
	free(text);
	return 0;
}
