/* Errors as values: see err.h.  Nothing here allocates, so an out-of-memory
 * error can always be reported. */
#include "ops/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int wl_err_setv(struct wl_err *err, enum wl_code code, const char *fmt, va_list ap)
{
	char text[WL_ERR_MAX]; /* an argument may be err->msg itself */

	if (!err)
		return -1;
	vsnprintf(text, sizeof text, fmt, ap);
	err->code = code;
	memcpy(err->msg, text, sizeof text);
	return -1;
}

int wl_err_set(struct wl_err *err, enum wl_code code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	wl_err_setv(err, code, fmt, ap);
	va_end(ap);
	return -1;
}

/* What to do about errors that are nobody's mistake; "" for others. */
static const char *mend_of(int code)
{
	switch (code) {
	case ENOSPC:
	case EDQUOT:
		return "; free some space or name another place, and run the same command again";
	case EMFILE:
		return "; allow more open files (ulimit -n), or use fewer threads";
	default:
		return "";
	}
}

int wl_err_errno(struct wl_err *err, const char *fmt, ...)
{
	int saved = errno;
	size_t used;
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	wl_err_setv(err, WL_EFAIL, fmt, ap);
	va_end(ap);
	used = strlen(err->msg);
	snprintf(err->msg + used, sizeof err->msg - used, ": %s%s", strerror(saved),
		mend_of(saved));
	return -1;
}

int wl_err_prefix(struct wl_err *err, const char *fmt, ...)
{
	char old[WL_ERR_MAX];
	va_list ap;
	size_t used;

	if (!err)
		return -1;
	memcpy(old, err->msg, sizeof old);
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof err->msg, fmt, ap);
	va_end(ap);
	used = strlen(err->msg);
	snprintf(err->msg + used, sizeof err->msg - used, ": %s", old);
	return -1;
}

int wl_err_nomem(struct wl_err *err, const char *what, size_t bytes)
{
	return wl_err_set(err, WL_EFAIL, "out of memory: %zu bytes for %s could not be allocated",
		bytes, what);
}

noreturn void wl_bug_at(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "BUG at %s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}
