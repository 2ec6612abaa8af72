/* Any bytes as a Kafka message's value: a pair, pages' pairs, or a reason; never an error. */
#include "ingest/page_message.h"
#include "ingest/url.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct wl_profile *profile(void)
{
	static struct wl_profile *p;
	struct wl_err err = WL_ERR_INIT;

	if (!p)
		p = wl_profile_load("news", &err);
	if (!p)
		abort();
	return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_image_ref ref = {0};
	struct wl_record r;
	json_t *o;

	wl_record_init(&r);
	r.place = "offset 1";
	if (wl_record_parse(&r, (const char *)data, n, &o, &err) < 0)
		abort();
	if (wl_is_page_message(o)) {
		if (wl_page_message(profile(), &r, o, "kafka:fuzz/0", &err) < 0)
			abort();
		for (size_t i = 0; i < r.n_yield; i++)
			if (!r.yield[i]->reason && !r.yield[i]->has_image && !r.yield[i]->image_url)
				abort();
		if (!r.n_yield && !r.reason && !r.many)
			abort();
	} else if (o && wl_record_object(&r, o, &ref, &err) < 0) {
		abort();
	}
	json_decref(o);
	wl_record_release(&r);
	return 0;
}
