/* wenlan-ingest as people run it, and the corpora that it leaves, for tests of sources. */
#ifndef WL_TESTS_INGEST_RUN_H
#define WL_TESTS_INGEST_RUN_H

#include "tests/support/tmp.h"

#include <jansson.h>
#include <stdint.h>

/* Runs `wenlan-ingest OPTIONS --json --corpus DIR/CORPUS ARGS` to its end and fails the running
 * test when it does not exit with want_code.  The result's JSON, NULL when there is none (never
 * where want_code is 0).  All that was said in *said (to be freed) unless said is NULL. */
json_t *ingest_run(const struct tmp_dir *dir, const char *options, const char *corpus,
	const char *args, int want_code, char **said);

/* "kept", "fetch.ok": a number of the result; fails the running test when it is not there. */
int64_t ingest_count(const json_t *v, const char *key);

/* corpus_dump of DIR/CORPUS. */
char *ingest_dump(const struct tmp_dir *dir, const char *corpus);
/* Fails the running test, with the first rows that differ, unless two dumps are equal. */
void dumps_equal(const char *want, const char *got, const char *what);
/* The same of DIR/CORPUS and a dump. */
void corpus_is(const struct tmp_dir *dir, const char *corpus, const char *want, const char *what);

/* Starts the shell command `cmd` (which execs) and kills it, after base_us and a random part of
 * spread_us, until it once ends by itself; later rounds wait longer, so that it ends in time on
 * any machine and is killed often on a fast one.  Fails the running test when the command fails,
 * or was killed fewer than `least` times.  Prints how often it was killed. */
void kill_until_done(
	const char *cmd, uint64_t seed, int64_t base_us, int64_t spread_us, int least);

#endif
