/*
 * Errors, as values.
 *
 * A fallible function returns int (0, or negative on failure; some return a
 * count), is marked WL_MUST_CHECK and takes `struct wl_err *err` last.  On
 * failure it writes one complete sentence there: the path, the place in it,
 * what was expected, what was found, and what the reader can do about it.  On
 * success the object is untouched, so calls chain.  Every function here
 * accepts err == NULL: the caller then knows only that something failed.
 */
#ifndef WL_OPS_ERR_H
#define WL_OPS_ERR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdnoreturn.h>

/* The exit codes of every program here; also the class of an error. */
enum wl_code {
	WL_OK = 0,
	WL_EFAIL = 1,    /* the operation failed: disk full, missing file, a defect elsewhere */
	WL_EUSAGE = 2,   /* the command line or configuration is wrong */
	WL_EDATA = 3,    /* an input file or record is damaged or of the wrong form */
	WL_ECKPT = 4,    /* a checkpoint is damaged, incomplete or does not fit the model */
	WL_ENUMERIC = 5, /* training diverged: NaN or infinity, several steps in a row */
	WL_ERETRY = 75,  /* a peer or broker was lost; the same command may succeed later */
};

enum { WL_ERR_MAX = 1024 };

struct wl_err {
	enum wl_code code;
	char msg[WL_ERR_MAX]; /* one sentence, UTF-8, no newline at the end */
};

#define WL_ERR_INIT {WL_OK, ""}

#define WL_MUST_CHECK __attribute__((warn_unused_result))
#define WL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Sets *err and returns -1, so that `return wl_err_set(err, ...)` reads well. */
int wl_err_set(struct wl_err *err, enum wl_code code, const char *fmt, ...) WL_PRINTF(3, 4);
int wl_err_setv(struct wl_err *err, enum wl_code code, const char *fmt, va_list ap);

/* As wl_err_set with WL_EFAIL, followed by ": ", errno's text, and the mend of a full disk. */
int wl_err_errno(struct wl_err *err, const char *fmt, ...) WL_PRINTF(2, 3);

/* Puts "context: " before the message that is already there; returns -1. */
int wl_err_prefix(struct wl_err *err, const char *fmt, ...) WL_PRINTF(2, 3);

/* Out of memory: WL_EFAIL, naming what could not be allocated. Returns -1. */
int wl_err_nomem(struct wl_err *err, const char *what, size_t bytes);

/* Forwards a failure (any negative result) to the caller. */
#define WL_TRY(expr) \
	do { \
		if ((expr) < 0) \
			return -1; \
	} while (0)

/* As WL_TRY inside a function that cleans up under the label `out` and returns `ret`,
 * which must be -1 until success. */
#define WL_TRY_OUT(expr) \
	do { \
		if ((expr) < 0) \
			goto out; \
	} while (0)

/* Our own defect, never bad input: prints where and aborts. */
noreturn void wl_bug_at(const char *file, int line, const char *fmt, ...) WL_PRINTF(3, 4);
#define WL_BUG(...) wl_bug_at(__FILE__, __LINE__, __VA_ARGS__)
#define WL_ASSERT(cond) \
	do { \
		if (!(cond)) \
			WL_BUG("%s does not hold", #cond); \
	} while (0)

#endif
