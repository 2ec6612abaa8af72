/* Any bytes as a caption of any source: normalising ends, gives valid UTF-8, and key,
 * fold and measures take it. */
#include "clean/measure.h"
#include "clean/pairtext.h"
#include "clean/text.h"
#include "clean/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(int ret)
{
	if (ret < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct wl_text *tx;
	const char *source = n && data[0] & 1 ? "weibo" : "news";
	struct wl_pairtext p;
	struct wl_measure m;
	struct wl_buf once, key;
	bool ok = true;

	if (!tx)
		tx = wl_text_open(NULL);
	wl_buf_init(&once, 1 << 24);
	wl_buf_init(&key, 1 << 24);
	must(wl_text_normalise(tx, source, (const char *)data, n, 0, &once, NULL, NULL));
	for (size_t i = 0; i < once.len;)
		if (!wl_utf8_next(once.data, once.len, &i, &ok) || !ok)
			abort();
	must(wl_text_key(tx, wl_buf_str(&once), once.len, &key, NULL));
	must(wl_text_fold(tx, wl_buf_str(&once), once.len, &key, NULL));
	must(wl_measure(tx, wl_buf_str(&once), once.len, &m, NULL));
	if (m.letters > m.chars || m.han > m.letters || !(m.repeat >= 0 && m.repeat <= 1))
		abort();
	wl_buf_reset(&key);
	must(wl_buf_add(&key, data, n, NULL));
	if (wl_pairtext_parse(&p, wl_buf_str(&key), "fuzz", NULL) == 0)
		wl_pairtext_release(&p);
	wl_buf_release(&once);
	wl_buf_release(&key);
	return 0;
}
