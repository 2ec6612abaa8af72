/* See signature.h. */
#include "clean/signature.h"

#include "clean/utf8.h"
#include "ops/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t count_chars(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

/* The key of one caption in fresh memory; "" when it has none. */
static int caption_key(const struct wl_text *tx, const char *source, const struct wl_caption *c,
	char **key, struct wl_err *err)
{
	struct wl_buf norm, k;
	int ret = -1;

	/* Normalising can make a text longer (NFC of a few marks: three times at most). */
	wl_buf_init(&norm, 4 * (size_t)WL_TEXT_MAX_BYTES);
	wl_buf_init(&k, 20 * (size_t)WL_TEXT_MAX_BYTES);
	WL_TRY_OUT(wl_text_normalise(tx, source, c->text, c->len, 0, &norm, NULL, err));
	WL_TRY_OUT(wl_text_key(tx, wl_buf_str(&norm), norm.len, &k, err));
	*key = strdup(wl_buf_str(&k));
	ret = *key ? 0 : wl_err_nomem(err, "a text key", k.len);
out:
	wl_buf_release(&norm);
	wl_buf_release(&k);
	return ret;
}

/* Hash over the distinct keys in order, each with its closing 0; and all of them as one. */
static int hash_keys(struct wl_signature *s, char **keys, size_t n, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	struct wl_sha256 h;
	size_t bytes = 1;

	for (size_t i = 0; i < n; i++)
		bytes += strlen(keys[i]) + 1;
	s->key = malloc(bytes);
	if (!s->key)
		return wl_err_nomem(err, "a text key", bytes);
	WL_TRY(wl_sha256_init(&h, err));
	for (size_t i = 0; i < n; i++) {
		size_t chars = count_chars(keys[i]);
		if (!chars || (i && strcmp(keys[i], keys[i - 1]) == 0))
			continue;
		s->has_text = true;
		if (chars > (size_t)s->words)
			s->words = (int)chars;
		wl_sha256_add(&h, keys[i], strlen(keys[i]) + 1);
		if (s->key_len)
			s->key[s->key_len++] = '\n';
		memcpy(s->key + s->key_len, keys[i], strlen(keys[i]));
		s->key_len += strlen(keys[i]);
	}
	s->key[s->key_len] = 0;
	if (s->key_len > WL_TEXT_KEY_MAX)
		s->key_len = WL_TEXT_KEY_MAX;
	wl_sha256_final(&h, digest);
	wl_sha256_release(&h);
	memcpy(s->text_hash, digest, sizeof(s->text_hash));
	return 0;
}

void wl_signature_release(struct wl_signature *s)
{
	if (!s)
		return;
	free(s->key);
	memset(s, 0, sizeof(*s));
}

int wl_signature_text(struct wl_signature *s, const struct wl_text *tx, const char *source,
	const char *texts, const char *pair, struct wl_err *err)
{
	struct wl_pairtext p;
	char **keys = NULL;
	int ret = -1;

	s->has_text = s->has_minhash = false;
	s->words = 0;
	s->key = NULL;
	s->key_len = 0;
	WL_TRY(wl_pairtext_parse(&p, texts, pair, err));
	keys = calloc(p.first_kind + 1, sizeof(*keys));
	if (!keys) {
		wl_err_nomem(err, "text keys", p.first_kind * sizeof(*keys));
		goto out;
	}
	for (size_t i = 0; i < p.first_kind; i++)
		WL_TRY_OUT(caption_key(tx, source, &p.v[i], &keys[i], err));
	qsort(keys, p.first_kind, sizeof(*keys), by_text);
	WL_TRY_OUT(hash_keys(s, keys, p.first_kind, err));
	s->has_minhash = s->key_len && !wl_key_is_short(s->key, s->key_len);
	ret = s->has_minhash ? wl_minhash(s->key, s->key_len, s->minhash, err) : 0;
out:
	for (size_t i = 0; keys && i < p.first_kind; i++)
		free(keys[i]);
	free(keys);
	wl_pairtext_release(&p);
	return ret;
}

static int hash_pixels(struct wl_signature *s, const struct wl_image *im, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	struct wl_sha256 h;
	char size[32];

	snprintf(size, sizeof(size), "%dx%d", im->width, im->height);
	WL_TRY(wl_sha256_init(&h, err));
	wl_sha256_add(&h, size, strlen(size));
	wl_sha256_add(&h, im->data, (size_t)im->width * (size_t)im->height * 3);
	wl_sha256_final(&h, digest);
	wl_sha256_release(&h);
	memcpy(s->pixel_hash, digest, sizeof(s->pixel_hash));
	return 0;
}

/* The bytes, under a name that no size of a picture has. */
static int hash_bytes(struct wl_signature *s, const void *bytes, size_t n, struct wl_err *err)
{
	uint8_t digest[WL_SHA256_BYTES];
	struct wl_sha256 h;

	WL_TRY(wl_sha256_init(&h, err));
	wl_sha256_add(&h, "bytes", 5);
	wl_sha256_add(&h, bytes, n);
	wl_sha256_final(&h, digest);
	wl_sha256_release(&h);
	memcpy(s->pixel_hash, digest, sizeof(s->pixel_hash));
	return 0;
}

/* 1 done, 0 it takes the library. */
static int sign_low(struct wl_signature *s, const void *bytes, size_t n, struct wl_err *err)
{
	struct wl_image_low low;
	int width, height, by, ret = -1;

	if (!wl_image_low_size(bytes, n, &width, &height))
		return 0;
	by = wl_windows_scale(width, height);
	if (by < 4)
		return 0;
	ret = wl_image_low(bytes, n, by, &low, err);
	if (ret <= 0)
		return ret;
	ret = hash_bytes(s, bytes, n, err) < 0 || wl_view_make_low(&low, &s->picture, err) < 0 ? -1
											       : 1;
	wl_image_low_release(&low);
	return ret;
}

static int sign_small(struct wl_signature *s, const void *bytes, size_t n, struct wl_err *err)
{
	struct wl_image_info info;
	struct wl_image im = {0};
	int got, ret = sign_low(s, bytes, n, err);

	if (ret != 0)
		return ret < 0 ? -1 : 0;
	WL_TRY(wl_image_probe(bytes, n, &info, err));
	ret = -1;
	WL_TRY(wl_image_decode_by(bytes, n, wl_windows_scale(info.width, info.height), &info, &im,
		&got, err));
	WL_TRY_OUT(got > 1 ? hash_bytes(s, bytes, n, err) : hash_pixels(s, &im, err));
	ret = wl_view_make_by(&im, got, info.width, info.height, &s->picture, err);
out:
	wl_image_release(&im);
	return ret;
}

int wl_signature_image(
	struct wl_signature *s, const void *bytes, size_t n, bool small, struct wl_err *err)
{
	struct wl_image im = {0};
	int ret = -1;

	if (small)
		return sign_small(s, bytes, n, err);
	WL_TRY(wl_image_decode(bytes, n, &im, err));
	WL_TRY_OUT(hash_pixels(s, &im, err));
	ret = wl_view_make(&im, &s->picture, err);
out:
	wl_image_release(&im);
	return ret;
}
