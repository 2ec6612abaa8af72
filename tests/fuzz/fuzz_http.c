/* Any bytes as an archived HTTP response: a body within its limit, or a sentence. */
#include "ingest/http_message.h"
#include "ops/hash.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	enum { MAX = 1 << 20 };
	struct wl_err err = WL_ERR_INIT;
	struct wl_http_body b;
	struct wl_http *h = malloc(sizeof *h);
	char *copy = malloc(n ? n : 1); /* its end is where the sanitizer watches */

	if (!h || !copy)
		abort();
	memcpy(copy, bytes, n);
	wl_http_body_init(&b, MAX);
	if (wl_http_parse(h, copy, n, &err) < 0 || wl_http_body_decode(&b, h, &err) < 0) {
		if (err.code != WL_EDATA || !err.msg[0])
			abort();
	} else {
		if (b.n > MAX && b.n > n)
			abort();
		uint64_t sum = wl_hash64(b.p, b.n, 0);
		for (size_t i = 0; i < h->fields.n; i++)
			sum ^= wl_hash64(h->fields.v[i].value.p, h->fields.v[i].value.n, sum);
		(void)*(volatile uint64_t *)&sum;
		(void)wl_http_forbids_use(h);
	}
	wl_http_body_release(&b);
	free(copy);
	free(h);
	return 0;
}
