/* A corpus as text, so that two of them can be compared in a test. */
#ifndef WL_TESTS_CORPUS_DUMP_H
#define WL_TESTS_CORPUS_DUMP_H

#include <stddef.h>

/* Everything in a corpus (pairs, image hashes, quarantine, tallies, what waits), a row a line,
 * sorted: two corpora are equal when this is.  Each image is read and checked.  To be freed; n_rows
 * may be NULL. Fails the running test when the corpus cannot be read. */
char *corpus_dump(const char *dir, size_t *n_rows);

#endif
