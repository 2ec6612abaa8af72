/* Pictures stand in rows of at most COLUMNS with a thin gap; a page shows each by itself. */
#include "loader/sheet.h"

#include "ingest/image.h"
#include "ops/file.h"
#include "ops/html.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	COLUMNS = 8,
	GAP_PX = 4,
	QUALITY = 92,
	MAX_PICTURES = 1024,
	MAX_JPEG_BYTES = 256 * 1024 * 1024,
	PAGE_WIDTH_PX = 224, /* a picture on the page */
};

struct wl_sheet {
	char *path;
	bool page;
	int side, n, added, columns;
	struct wl_image all; /* the sheet, or one picture of the page */
	struct wl_html html;
	bool html_open;
};

static bool ends_with(const char *s, const char *end)
{
	size_t a = strlen(s), b = strlen(end);

	return a >= b && !strcmp(s + a - b, end);
}

static int open_sheet(struct wl_sheet *s, const char *path, struct wl_err *err)
{
	int rows = (s->n + s->columns - 1) / s->columns;
	size_t bytes;

	s->path = wl_strf(err, "%s", path);
	if (!s->path)
		return -1;
	s->all.channels = 3;
	s->all.width = s->page ? s->side : s->columns * (s->side + GAP_PX) + GAP_PX;
	s->all.height = s->page ? s->side : rows * (s->side + GAP_PX) + GAP_PX;
	bytes = (size_t)s->all.width * (size_t)s->all.height * 3;
	s->all.data = malloc(bytes);
	if (!s->all.data)
		return wl_err_nomem(err, "the contact sheet", bytes);
	memset(s->all.data, 255, bytes);
	if (s->page) {
		WL_TRY(wl_html_init(&s->html, "Contact sheet", err));
		s->html_open = true;
	}
	return 0;
}

struct wl_sheet *wl_sheet_new(const char *path, int side, int n, struct wl_err *err)
{
	bool page = ends_with(path, ".html");
	struct wl_sheet *s;

	if (!page && !ends_with(path, ".jpg") && !ends_with(path, ".jpeg")) {
		wl_err_set(err, WL_EUSAGE,
			"contact sheet \"%s\": the name must end in .jpg or .html", path);
		return NULL;
	}
	if (n < 1 || n > MAX_PICTURES) {
		wl_err_set(err, WL_EUSAGE, "a contact sheet holds 1 to %d pictures, not %d",
			(int)MAX_PICTURES, n);
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		wl_err_nomem(err, "the contact sheet", sizeof(*s));
		return NULL;
	}
	s->page = page;
	s->side = side;
	s->n = n;
	s->columns = n < COLUMNS ? n : COLUMNS;
	if (open_sheet(s, path, err) < 0) {
		wl_sheet_free(s);
		return NULL;
	}
	return s;
}

void wl_sheet_free(struct wl_sheet *s)
{
	if (!s)
		return;
	if (s->html_open)
		wl_html_release(&s->html);
	wl_image_release(&s->all);
	free(s->path);
	free(s);
}

/* A dot of a box's outline, inside the picture at (left, top). */
static void dot(struct wl_sheet *s, int left, int top, int x, int y, const uint8_t colour[3])
{
	if (x < 0 || y < 0 || x >= s->side || y >= s->side)
		return;
	memcpy(s->all.data + ((size_t)(top + y) * (size_t)s->all.width + (size_t)(left + x)) * 3,
		colour, 3);
}

static void draw_box(struct wl_sheet *s, int left, int top, const float box[4], int number)
{
	static const uint8_t colours[][3] = {{230, 40, 40}, {30, 160, 60}, {40, 80, 230},
		{230, 160, 20}, {160, 40, 200}, {20, 170, 190}};
	const uint8_t *colour = colours[number % (int)(sizeof(colours) / sizeof(colours[0]))];
	int x1 = (int)box[0], y1 = (int)box[1];
	int x2 = (int)ceilf(box[2]) - 1, y2 = (int)ceilf(box[3]) - 1, i;

	for (i = x1; i <= x2; i++) {
		dot(s, left, top, i, y1, colour);
		dot(s, left, top, i, y2, colour);
	}
	for (i = y1; i <= y2; i++) {
		dot(s, left, top, x1, i, colour);
		dot(s, left, top, x2, i, colour);
	}
}

static void draw_picture(struct wl_sheet *s, int left, int top, const float *pixels)
{
	int x, y, c;

	for (y = 0; y < s->side; y++) {
		uint8_t *row = s->all.data +
			((size_t)(top + y) * (size_t)s->all.width + (size_t)left) * 3;

		for (x = 0; x < s->side; x++)
			for (c = 0; c < 3; c++) {
				float v = *pixels++;

				v = v < 0 ? 0 : v > 1 ? 1 : v;
				row[3 * x + c] = (uint8_t)(v * 255.0f + 0.5f);
			}
	}
}

static int add_to_page(struct wl_sheet *s, const char *text, struct wl_err *err)
{
	struct wl_buf jpg;
	int rc = -1;

	wl_buf_init(&jpg, MAX_JPEG_BYTES);
	WL_TRY_OUT(wl_image_encode_jpeg(&s->all, QUALITY, &jpg, err));
	WL_TRY_OUT(wl_html_image(&s->html, jpg.data, jpg.len, "image/jpeg", text, PAGE_WIDTH_PX,
		err));
	WL_TRY_OUT(wl_html_para(&s->html, text, err));
	rc = 0;
out:
	wl_buf_release(&jpg);
	return rc;
}

int wl_sheet_add(struct wl_sheet *s, const float *pixels, const float *boxes, const float *mask,
	int regions, const char *text, struct wl_err *err)
{
	int at = s->added++, real = 0, i;
	int left = s->page ? 0 : GAP_PX + at % s->columns * (s->side + GAP_PX);
	int top = s->page ? 0 : GAP_PX + at / s->columns * (s->side + GAP_PX);

	WL_ASSERT(at < s->n);
	draw_picture(s, left, top, pixels);
	while (real < regions && mask[real] > 0)
		real++;
	for (i = 0; i < real - 1; i++)
		draw_box(s, left, top, boxes + 4 * i, i);
	return s->page ? add_to_page(s, text, err) : 0;
}

int wl_sheet_save(struct wl_sheet *s, struct wl_err *err)
{
	struct wl_buf jpg;
	int rc = -1;

	if (s->page)
		return wl_html_save(&s->html, s->path, err);
	wl_buf_init(&jpg, MAX_JPEG_BYTES);
	WL_TRY_OUT(wl_image_encode_jpeg(&s->all, QUALITY, &jpg, err));
	WL_TRY_OUT(wl_write_file(s->path, jpg.data, jpg.len, err));
	rc = 0;
out:
	wl_buf_release(&jpg);
	return rc;
}
