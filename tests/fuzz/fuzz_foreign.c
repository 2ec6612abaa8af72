/* Any bytes as a tar of another writer: indexed and every sample read, or refused with a
 * sentence.  Each input is tried as it is and with the sums of its headers made right, since a
 * fuzzer hardly ever guesses those. */
#include "ops/file.h"
#include "shards/foreign.h"
#include "shards/tar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum { MAX_BYTES = 1 << 20 };

static void mend_sums(uint8_t *p, size_t n)
{
	for (size_t at = 0; at + WL_TAR_BLOCK <= n; at += WL_TAR_BLOCK) {
		unsigned sum = 8 * ' ';

		for (size_t i = 0; i < WL_TAR_BLOCK; i++)
			sum += i >= 148 && i < 156 ? 0 : p[at + i];
		snprintf((char *)p + at + 148, 8, "%06o", sum & 0777777);
	}
}

static void try(const char *dir, const char *tar, const uint8_t *bytes, size_t n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_buf jpg, txt, json;
	struct wl_foreign *f;

	if (wl_write_file(tar, bytes, n, &err) < 0)
		abort();
	f = wl_foreign_open(dir, "train", &err);
	if (!f && !err.msg[0])
		abort();
	wl_buf_init(&jpg, MAX_BYTES);
	wl_buf_init(&txt, MAX_BYTES);
	wl_buf_init(&json, MAX_BYTES);
	for (int64_t i = 0; f && i < wl_foreign_size(f); i++) {
		err = (struct wl_err)WL_ERR_INIT;
		if (wl_foreign_read(f, i, &jpg, &txt, &json, &err) < 0 && !err.msg[0])
			abort();
	}
	wl_foreign_close(f);
	wl_buf_release(&jpg);
	wl_buf_release(&txt);
	wl_buf_release(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static char dir[] = "/tmp/wl-fuzz-XXXXXX", tar[64];
	uint8_t *copy;

	if (!tar[0]) {
		if (!mkdtemp(dir))
			abort();
		snprintf(tar, sizeof(tar), "%s/a.tar", dir);
	}
	if (n > MAX_BYTES)
		return 0;
	try(dir, tar, bytes, n);
	copy = malloc(n + 1);
	if (!copy)
		return 0;
	memcpy(copy, bytes, n);
	mend_sums(copy, n);
	try(dir, tar, copy, n);
	free(copy);
	return 0;
}
