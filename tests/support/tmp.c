/* Scratch directories and child processes for tests: see tmp.h. */
#include "tests/support/tmp.h"

#include "ops/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

static void die(const char *what, const char *path)
{
	fprintf(stderr, "test set-up: %s %s: ", what, path);
	perror("");
	exit(1);
}

struct tmp_dir tmp_make(void)
{
	const char *base = getenv("TMPDIR");
	struct tmp_dir t;

	snprintf(t.path, sizeof t.path, "%s/wl-test-XXXXXX", base && *base ? base : "/tmp");
	if (!mkdtemp(t.path))
		die("mkdtemp", t.path);
	return t;
}

void tmp_remove(const struct tmp_dir *t)
{
	if (tmp_run(NULL, "chmod -R u+rwx '%s'; rm -rf '%s'", t->path, t->path))
		die("rm", t->path);
}

const char *tmp_path(const struct tmp_dir *t, const char *name, char out[512])
{
	snprintf(out, 512, "%s/%s", t->path, name);
	return out;
}

void tmp_write_bytes(const char *path, const void *bytes, size_t n)
{
	FILE *f = fopen(path, "wb");

	if (!f || fwrite(bytes, 1, n, f) != n || fclose(f))
		die("write", path);
}

void tmp_write(const char *path, const char *text)
{
	tmp_write_bytes(path, text, strlen(text));
}

/* All that a stream gives. */
static char *slurp(FILE *f, size_t *n)
{
	size_t cap = 4096, len = 0, got;
	char *text = malloc(cap);

	while (text && (got = fread(text + len, 1, cap - len - 1, f)) > 0) {
		len += got;
		if (cap - len < 2)
			text = realloc(text, cap *= 2);
	}
	if (!text)
		die("read", "a stream");
	text[len] = 0;
	if (n)
		*n = len;
	return text;
}

char *tmp_read(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	char *text;

	if (!f)
		die("read", path);
	text = slurp(f, n);
	fclose(f);
	return text;
}

const char *tmp_bin(void)
{
	static char whole[4096]; /* tests change directories, so the path must not be relative */
	const char *dir = getenv("WL_BIN");

	if (!realpath(dir && *dir ? dir : "build/release/bin", whole))
		die("the programs' directory", dir ? dir : "build/release/bin");
	return whole;
}

int tmp_run(char **out, const char *fmt, ...)
{
	char *command, *all, *text;
	va_list ap;
	FILE *f;
	int rc;

	va_start(ap, fmt);
	if (vasprintf(&command, fmt, ap) < 0)
		die("format", fmt);
	va_end(ap);
	if (asprintf(&all, "{ %s\n} 2>&1", command) < 0)
		die("format", fmt);
	f = popen(all, "r");
	if (!f)
		die("popen", command);
	text = slurp(f, NULL);
	rc = pclose(f);
	if (out)
		*out = text;
	else
		free(text);
	free(command);
	free(all);
	return WIFEXITED(rc) ? WEXITSTATUS(rc) : 128 + WTERMSIG(rc);
}

const char *tmp_mpirun(const struct tmp_dir *t, char out[512])
{
	snprintf(out, 512,
		"ASAN_OPTIONS=detect_leaks=0 OMPI_MCA_hwloc_base_binding_policy=none "
		"OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_orte_tmpdir_base='%s' "
		"mpirun --allow-run-as-root --oversubscribe",
		t->path);
	return out;
}

void tmp_nap_ms(int64_t ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

bool tmp_wait(int64_t *since)
{
	if (!*since)
		*since = wl_now_ms();
	tmp_nap_ms(5);
	return wl_now_ms() - *since < 60000;
}
