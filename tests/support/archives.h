/* Archives for tests of sources, made by libarchive. */
#ifndef WL_TESTS_ARCHIVES_H
#define WL_TESTS_ARCHIVES_H

#include <stdbool.h>
#include <stddef.h>

struct archive;

/* A tar (pax where ustar has no room), or a zip of stored or deflated members, to be written. */
struct archive *archives_tar(const char *path, bool gzip);
struct archive *archives_zip(const char *path, bool deflate);
void archives_add(struct archive *a, const char *name, const void *bytes, size_t n);
/* Ends it; every failure of these fails the running test. */
void archives_close(struct archive *a);
/* The file `from`, compressed by gzip or zstd. */
void archives_compress(const char *from, const char *to, bool zstd);

#endif
