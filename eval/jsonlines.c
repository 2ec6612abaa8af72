/* See jsonlines.h. */
#include "eval/jsonlines.h"
#include "ops/file.h"
#include "ops/json.h"

#include <stdio.h>
#include <string.h>

static int one_line(const char *path, char *text, size_t n, size_t line,
	int (*fn)(json_t *, size_t, void *, struct wl_err *), void *user, struct wl_err *err)
{
	char what[400];
	json_t *o;
	int ret;

	snprintf(what, sizeof what, "%.300s, line %zu", path, line);
	o = wl_json_parse(text, n, what, err);
	if (!o)
		return -1;
	if (json_is_object(o))
		ret = fn(o, line, user, err);
	else
		ret = wl_err_set(err, WL_EDATA, "%s is not a JSON object", what);
	json_decref(o);
	return ret;
}

int wl_json_lines_read(const char *path,
	int (*fn)(json_t *o, size_t line, void *user, struct wl_err *err), void *user,
	struct wl_err *err)
{
	struct wl_buf b;
	size_t line = 0;
	int ret = -1;

	wl_buf_init(&b, (size_t)16 << 30);
	WL_TRY_OUT(wl_read_file(path, &b, err));
	for (size_t at = 0; at < b.len;) {
		char *text = b.data + at, *end = memchr(text, '\n', b.len - at);
		size_t n = end ? (size_t)(end - text) : b.len - at;

		line++;
		at += n + 1;
		while (n && strchr(" \t\r", text[n - 1]))
			n--;
		if (n)
			WL_TRY_OUT(one_line(path, text, n, line, fn, user, err));
	}
	ret = 0;
out:
	wl_buf_release(&b);
	return ret;
}
