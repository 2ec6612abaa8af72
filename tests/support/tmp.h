/* A scratch directory for a test, and files in it. */
#ifndef WL_TESTS_TMP_H
#define WL_TESTS_TMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A fresh directory under $TMPDIR or /tmp; the path lives in a static buffer of the
 * returned struct.  Ends the program with a message when it cannot be made. */
struct tmp_dir {
	char path[256];
};
struct tmp_dir tmp_make(void);
/* Removes it with all that is in it. */
void tmp_remove(const struct tmp_dir *t);

/* "PATH/NAME" in out[512]; returns out. */
const char *tmp_path(const struct tmp_dir *t, const char *name, char out[512]);
/* Writes a text file, plainly (not by the code under test). */
void tmp_write(const char *path, const char *text);
void tmp_write_bytes(const char *path, const void *bytes, size_t n);
/* The file's bytes with a 0 after them, to be freed; n may be NULL. */
char *tmp_read(const char *path, size_t *n);

/* The directory of the built executables: $WL_BIN or build/release/bin. */
const char *tmp_bin(void);
/* Runs a shell command; its exit code, or 128 + signal; standard output and error
 * together in *out (to be freed) when out is not NULL. */
int tmp_run(char **out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* How a command on ranks begins, "... mpirun ...": not bound to the first cores, where those of
 * other tests are too, and with its own files in t, not in a directory that all runs on the machine
 * share and the last one removes. */
const char *tmp_mpirun(const struct tmp_dir *t, char out[512]);

/* Sleeps. */
void tmp_nap_ms(int64_t ms);
/* For what must come, whenever that is on this machine:
 *	for (int64_t since = 0; !it_is_there() && tmp_wait(&since);)
 *		;
 * Naps for a moment; false once it has lasted for a minute. */
bool tmp_wait(int64_t *since);

#endif
