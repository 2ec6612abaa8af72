/* wenlan-ingest as people run it, and the corpora that it leaves, for tests of sources. */
#ifndef WL_TESTS_INGEST_RUN_H
#define WL_TESTS_INGEST_RUN_H

#include "tests/support/tmp.h"

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

/* Runs `wenlan-ingest OPTIONS --json --corpus DIR/CORPUS ARGS` to its end and fails the running
 * test when it does not exit with want_code.  The result's JSON, NULL when there is none (never
 * where want_code is 0).  All that was said in *said (to be freed) unless said is NULL. */
json_t *ingest_run(const struct tmp_dir *dir, const char *options, const char *corpus,
	const char *args, int want_code, char **said);

/* The same with arguments made as by printf. */
json_t *ingest_runf(const struct tmp_dir *dir, const char *options, const char *corpus,
	int want_code, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* "kept", "fetch.ok": a number of the result; fails the running test when it is not there. */
int64_t ingest_count(const json_t *v, const char *key);

/* Fails the running test, with all of the result, unless that number is `want`. */
#define INGEST_IS(v, key, want)                                                                    \
	do {                                                                                       \
		if (ingest_count(v, key) != (want))                                                \
			fail_msg("%s is %lld, expected %lld: %s", key,                             \
				(long long)ingest_count(v, key), (long long)(want),                \
				json_dumps(v, JSON_SORT_KEYS));                                    \
	} while (0)

/* corpus_dump of DIR/CORPUS. */
char *ingest_dump(const struct tmp_dir *dir, const char *corpus);
/* Fails the running test, with the first rows that differ, unless two dumps are equal. */
void dumps_equal(const char *want, const char *got, const char *what);
/* The same of DIR/CORPUS and a dump. */
void corpus_is(const struct tmp_dir *dir, const char *corpus, const char *want, const char *what);

/* Starts `wenlan-ingest --quiet OPTIONS --corpus DIR/CORPUS ARGS` and goes on. */
pid_t ingest_start(const struct tmp_dir *dir, const char *options, const char *corpus,
	const char *args);
/* Asks it by SIGTERM to stop, once it has come so far that it listens to that. */
void ingest_stop(pid_t pid);
/* Its exit code, or -signal; waits at most `seconds`, then kills it and gives -1000. */
int ingest_reap(pid_t pid, int seconds);
/* Pairs and quarantined records of DIR/CORPUS by now; 0 while there is no corpus. */
int64_t ingest_rows(const struct tmp_dir *dir, const char *corpus);
/* Waits until there are so many.  Fails the test when a minute brings none: on a slow machine,
 * where a group of Kafka's may lose members that live and begin anew, they come, but not soon. */
void ingest_wait_for_rows(const struct tmp_dir *dir, const char *corpus, int64_t want);

#endif
