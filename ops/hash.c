/* Hashes and counter-based random numbers: see hash.h. */
/* The low-level calls: those that replaced them look the algorithm up by name each time, which
 * takes longer than a short message. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "ops/hash.h"
#include "ops/path.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <unistd.h>

void wl_sha256(const void *bytes, size_t n, uint8_t out[WL_SHA256_BYTES])
{
	SHA256_CTX c;

	SHA256_Init(&c);
	SHA256_Update(&c, bytes, n);
	SHA256_Final(out, &c);
}

int wl_sha256_init(struct wl_sha256 *h, struct wl_err *err)
{
	h->ctx = malloc(sizeof(SHA256_CTX));
	if (!h->ctx)
		return wl_err_nomem(err, "a SHA-256 state", sizeof(SHA256_CTX));
	SHA256_Init(h->ctx);
	return 0;
}

void wl_sha256_add(struct wl_sha256 *h, const void *bytes, size_t n)
{
	SHA256_Update(h->ctx, bytes, n);
}

void wl_sha256_final(struct wl_sha256 *h, uint8_t out[WL_SHA256_BYTES])
{
	SHA256_Final(out, h->ctx);
}

void wl_sha256_release(struct wl_sha256 *h)
{
	if (!h)
		return;
	free(h->ctx);
	h->ctx = NULL;
}

int wl_sha256_file(const char *path, uint8_t out[WL_SHA256_BYTES], struct wl_err *err)
{
	enum { CHUNK = 1 << 18 };
	struct wl_sha256 h = {0};
	char *chunk = malloc(CHUNK);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret = -1;

	if (fd < 0) {
		wl_path_failed(path, "opened", NULL, err);
		goto out;
	}
	if (!chunk) {
		wl_err_nomem(err, "a read buffer", CHUNK);
		goto out;
	}
	WL_TRY_OUT(wl_sha256_init(&h, err));
	for (;;) {
		ssize_t n = read(fd, chunk, CHUNK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			wl_err_errno(err, "%s cannot be read", path);
			goto out;
		}
		if (!n)
			break;
		wl_sha256_add(&h, chunk, (size_t)n);
	}
	wl_sha256_final(&h, out);
	ret = 0;
out:
	wl_sha256_release(&h);
	free(chunk);
	if (fd >= 0)
		close(fd);
	return ret;
}

void wl_hex(const uint8_t *bytes, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++) {
		*out++ = "0123456789abcdef"[bytes[i] >> 4];
		*out++ = "0123456789abcdef"[bytes[i] & 15];
	}
	*out = 0;
}

uint64_t wl_hash64(const void *bytes, size_t n, uint64_t seed)
{
	/* FNV-1a, 64 bits: offset basis and prime of its authors. */
	const unsigned char *p = bytes;
	uint64_t h = 0xcbf29ce484222325u ^ wl_mix64(seed);

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return wl_mix64(h);
}

double wl_rand_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
	/* 1 - u is in (0, 1], so the logarithm is finite. */
	double u = 1.0 - wl_rand_unit(seed, stream, 2 * index);
	double v = wl_rand_unit(seed, stream, 2 * index + 1);

	return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

uint64_t wl_shuffle(uint64_t i, uint64_t n, uint64_t seed)
{
	enum { ROUNDS = 6 }; /* four make a strong pseudo-random permutation (Luby, Rackoff) */
	unsigned half = 1;
	uint64_t mask;

	WL_ASSERT(i < n);
	if (n == 1)
		return 0;
	/* The smallest 4^half >= n, so that walking back into [0, n) takes < 4 steps on average. */
	while (half < 32 && ((n - 1) >> (2 * half)))
		half++;
	mask = half == 32 ? 0xffffffffu : ((uint64_t)1 << half) - 1;
	do {
		uint64_t left = i >> half, right = i & mask;

		for (unsigned round = 0; round < ROUNDS; round++) {
			uint64_t next = left ^ (wl_rand64(seed, round, right) & mask);

			left = right;
			right = next;
		}
		i = left << half | right;
	} while (i >= n);
	return i;
}
