/* The constants that hash_many.c and hash_streams.c share; for these two only. */
#ifndef WL_OPS_HASH_ROUNDS_H
#define WL_OPS_HASH_ROUNDS_H

#include <stdint.h>

/* What each round of SHA-256 adds (FIPS 180-4, 4.2.2); on x86 only, where it is used.  Aligned,
 * so that the SHA instructions take four at a time. */
extern const uint32_t wl_sha256_k[64] __attribute__((aligned(16)));

#endif
