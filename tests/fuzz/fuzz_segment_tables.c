/* Any bytes as a dictionary, a user's dictionary, or a table of the model: an error, or words. */
#include "clean/segment_priv.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void dictionaries(const struct wl_buf *b, bool user)
{
	static const char good[] = "我们 10 r\n大海 3\n";
	struct wl_buf first = {.data = (char *)good, .len = sizeof(good) - 1};
	struct dict d;

	if (dict_init(&d, NULL) < 0)
		return;
	if (user) {
		if (dict_read(&d, &first, "good", NULL) == 0 &&
			dict_read_user(&d, b, "bytes", NULL) == 0 && dict_freeze(&d, NULL) == 0)
			WL_ASSERT(d.total >= 13);
	} else if (dict_read(&d, b, "bytes", NULL) == 0 && dict_freeze(&d, NULL) == 0) {
		WL_ASSERT(d.total > 0);
	}
	dict_release(&d);
}

/* The first byte chooses the reader. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const tables[] = {"start", "trans", "emit"};
	struct hmm h = {0};
	struct wl_buf b;

	if (size < 2)
		return 0;
	wl_buf_init(&b, size);
	if (wl_buf_add(&b, data + 1, size - 1, NULL) == 0) {
		if (data[0] % 5 < 3) {
			if (hmm_read(&h, tables[data[0] % 5], &b, "bytes", NULL) < 0)
				hmm_release(&h);
			hmm_release(&h);
		} else {
			dictionaries(&b, data[0] % 5 == 3);
		}
	}
	wl_buf_release(&b);
	return 0;
}
