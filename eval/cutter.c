/* Words between single blanks: see cutter.h. */
#include "eval/cutter.h"
#include "clean/segment.h"

#include <stdlib.h>
#include <string.h>

struct cutter {
	struct wl_segment *segment;
	struct wl_cuts cuts;
};

static int cut(void *ctx, const char *text, size_t n, struct wl_buf *out, struct wl_err *err)
{
	struct cutter *c = ctx;
	size_t start = out->len, from = 0;

	WL_TRY(wl_segment_cut(c->segment, text, n, 0, &c->cuts, err));
	for (size_t i = 0; i < c->cuts.n; i++) {
		/* A word of blanks alone adds nothing but the blank that is there anyway. */
		size_t end = c->cuts.end[i];

		if (end - from > 1 || !strchr(" \t\r\n\v\f", text[from])) {
			if (out->len > start)
				WL_TRY(wl_buf_putc(out, ' ', err));
			WL_TRY(wl_buf_add(out, text + from, end - from, err));
		}
		from = end;
	}
	return 0;
}

int wl_cutter_open(struct wl_cutter *c, const char *dictionary, struct wl_err *err)
{
	struct cutter *mine = calloc(1, sizeof *mine);

	if (!mine)
		return wl_err_nomem(err, "the word segmenter", sizeof *mine);
	mine->segment = wl_segment_open(dictionary, NULL, 0, err);
	if (!mine->segment) {
		free(mine);
		return -1;
	}
	*c = (struct wl_cutter){cut, mine};
	return 0;
}

void wl_cutter_close(struct wl_cutter *c)
{
	struct cutter *mine = c->ctx;

	if (!mine)
		return;
	wl_segment_close(mine->segment);
	wl_cuts_release(&mine->cuts);
	free(mine);
	*c = (struct wl_cutter){0};
}
