/* cmocka with what it wants to have included before it. */
#ifndef WL_TESTS_CM_H
#define WL_TESTS_CM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Skips the running test and says why, so that a log shows what was not tested. */
#define SKIP(...)                                                                                  \
	do {                                                                                       \
		print_message("SKIPPED: " __VA_ARGS__);                                            \
		print_message("\n");                                                               \
		skip();                                                                            \
	} while (0)

/* A call that must succeed; prints the error's sentence when it does not. */
#define OK(call)                                                                                   \
	do {                                                                                       \
		struct wl_err *ok_err_ = &err;                                                     \
		ok_err_->msg[0] = 0;                                                               \
		if ((call) < 0)                                                                    \
			fail_msg("%s failed: %s", #call, ok_err_->msg);                            \
	} while (0)

/* A call that must fail with this code, with a sentence that contains `part`. */
#define FAILS(code_, part, call)                                                                   \
	do {                                                                                       \
		err = (struct wl_err)WL_ERR_INIT;                                                  \
		if ((call) >= 0)                                                                   \
			fail_msg("%s succeeded", #call);                                           \
		if (err.code != (code_))                                                           \
			fail_msg("%s: code %d, expected %d: %s", #call, (int)err.code,             \
				(int)(code_), err.msg);                                            \
		if (!strstr(err.msg, (part)))                                                      \
			fail_msg("%s: \"%s\" does not contain \"%s\"", #call, err.msg, (part));    \
	} while (0)

#endif
