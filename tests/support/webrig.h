/* A scratch directory and a web server beside it, for tests of what wenlan-ingest fetches. */
#ifndef WL_TESTS_WEBRIG_H
#define WL_TESTS_WEBRIG_H

#include "tests/support/httpd.h"
#include "tests/support/ingest_run.h"
#include "tests/support/tmp.h"

struct web_rig {
	struct tmp_dir tmp;
	struct httpd web;
};

/* Group set-up and tear-down of cmocka; *state becomes the rig, one a program. */
int web_rig_start(void **state);
int web_rig_stop(void **state);

/* `wenlan-ingest --corpus DIR/CORPUS` with arguments as by printf, quick and allowed to fetch from
 * 127.0.0.1 (HTTPD_QUICK); see ingest_runf. */
#define web_ingest(rig, corpus, want_code, ...)                                                    \
	ingest_runf(&(rig)->tmp, "--log-level error " HTTPD_QUICK, corpus, want_code, __VA_ARGS__)

/* Writes the list DIR/NAME: each line of `lines` begins with a path, before which comes the
 * address of 127.0.0.1 at that port. */
void web_list(const struct web_rig *rig, const char *name, int port, const char *lines);

#endif
