/* Any bytes as a page: refused with a sentence, or pairs that are well formed and add up. */
#include "ingest/page.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int check(void *ctx, const struct wl_page_pair *p)
{
	json_t *texts = json_loads(p->texts, 0, NULL), *meta = json_loads(p->meta, 0, NULL);

	if (json_array_size(texts) < 1 || !json_is_object(meta))
		abort();
	if (strncmp(p->image_url, "http://", 7) != 0 && strncmp(p->image_url, "https://", 8) != 0)
		abort();
	if (p->ordinal < *(int64_t *)ctx)
		abort();
	*(int64_t *)ctx = p->ordinal + 1;
	json_decref(texts);
	json_decref(meta);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const names[] = {"news", "baike", "weibo"};
	static struct wl_profile *profiles[3]; /* read once: YAML is not what is tested */
	struct wl_err err = WL_ERR_INIT;
	struct wl_page_counts counts = {0};
	int64_t next = 0, sum;
	size_t which = n ? data[0] % 3 : 0;
	struct wl_page page = {.url = n && data[0] & 0x40 ? "http://a.cn/b/c?d" : NULL,
		.bytes = data,
		.n = n};

	if (!profiles[which])
		profiles[which] = wl_profile_load(names[which], &err);
	if (!profiles[which])
		abort();
	if (wl_page_pairs(profiles[which], &page, check, &next, &counts, &err) < 0) {
		if (err.code != WL_EDATA || !err.msg[0])
			abort();
		return 0;
	}
	sum = counts.pairs;
	for (int i = 0; i < WL_SKIP_COUNT; i++)
		sum += counts.skipped[i];
	if (sum != counts.images)
		abort();
	return 0;
}
