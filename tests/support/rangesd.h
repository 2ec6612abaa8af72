/* A web server of files that knows ranges, and misbehaves on purpose, in a process of its own. */
#ifndef WL_TESTS_RANGESD_H
#define WL_TESTS_RANGESD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What tests and server share.  All is counted before a byte of the answer goes, so who has read of
 * an answer finds it counted; for answers that nobody read to the end: rangesd_settle. */
enum { RANGESD_COUNTERS = 1 << 16 };
struct rangesd_shared {
	_Atomic uint32_t counter[RANGESD_COUNTERS]; /* of requests, by hash of what is asked for */
	atomic_int open, unchanged;		    /* connections now; answers of 304 */
	atomic_llong bytes;			    /* sent of files */
	/* Of these, requests for a tar up to its last byte, which no sample has: somebody fetches
	 * the whole (or what is missing). */
	atomic_int to_end;
	atomic_llong to_end_bytes;
	atomic_int broken;	  /* answers that were cut, hung or refused on purpose */
	char authorization[1024]; /* of the last request */
	char date[64], token[256], content[128], host[128]; /* x-amz-date and its like */
};

struct rangesd {
	pid_t pid;
	int port;
	struct rangesd_shared *shared;
};

/*
 * Serves the files of dir on 127.0.0.1, with ETag and If-None-Match:
 *   /ok/NAME        as it should be
 *   /busy/NAME      503 to the first two requests for a file
 *   /cut/NAME       of every answer over 1000 bytes only the half, then the connection ends
 *   /hang/NAME      the first answer that should reach that byte of NAME stops after 100 bytes and
 *                   says no more
 *   /slow/NAME      in small pieces with pauses
 *   /whole/NAME     never ranges: 200 with the whole file
 *   /longer/NAME    tars: claims one byte more in Content-Range
 *   /flipped/NAME   tars: with their last picture's bytes inverted
 *   /secret/NAME    403
 */
struct rangesd rangesd_start(const char *dir);
void rangesd_stop(struct rangesd *d);
/* Returns once every request that was made is dealt with: the clients must have gone.  False when
 * that takes a minute. */
bool rangesd_settle(struct rangesd *d);

#endif
