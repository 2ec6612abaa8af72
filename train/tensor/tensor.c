#include "train/tensor/tensor.h"

#include <inttypes.h>
#include <stdio.h>

const char *wl_dtype_name(enum wl_dtype t)
{
	static const char *const names[] = {"f32", "bf16", "f16", "i32", "i64", "u8"};
	return names[t];
}

const char *wl_shape_text(const struct wl_shape *s, char text[WL_SHAPE_TEXT])
{
	int at = snprintf(text, WL_SHAPE_TEXT, "[");
	for (int i = 0; i < s->rank; i++)
		at += snprintf(text + at, (size_t)(WL_SHAPE_TEXT - at), "%s%" PRId64, i ? "," : "",
			s->dim[i]);
	snprintf(text + at, (size_t)(WL_SHAPE_TEXT - at), "]");
	return text;
}
