/* Records: captions from text files, loading, the final check.  JSON is in record_json.c. */
#include "ingest/record.h"

#include "ingest/url.h"
#include "ops/file.h"
#include "ops/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unicode/ucnv.h>
#include <unicode/ustring.h>
#include <unistd.h>

void wl_record_init(struct wl_record *r)
{
	*r = (struct wl_record){.mem = {.block_bytes = 4096}};
	wl_buf_init(&r->json, WL_RECORD_MAX_TEXT);
	wl_buf_init(&r->text, WL_RECORD_MAX_TEXT);
	wl_buf_init(&r->image, WL_IMAGE_MAX_BYTES);
	wl_record_clear(r);
}

/* Of a page with a thousand pictures not all records are kept for the next page. */
static void clear_yield(struct wl_record *r, size_t keep)
{
	size_t kept = 0;
	for (size_t i = 0; i < r->cap_yield; i++) {
		struct wl_record *y = r->yield[i];
		if (!y)
			continue;
		if (kept == keep) {
			wl_record_release(y);
			free(y);
			r->yield[i] = NULL;
			continue;
		}
		wl_record_clear(y);
		r->yield[i] = NULL;
		r->yield[kept++] = y;
	}
	r->n_yield = 0;
}

void wl_record_clear(struct wl_record *r)
{
	/* One giant record must not keep its memory for the rest of the run. */
	enum { KEEP = 64 << 10, KEEP_YIELD = 4 };
	struct wl_buf *bufs[] = {&r->json, &r->text, &r->image};
	for (size_t i = 0; i < 3; i++) {
		if (bufs[i]->cap > KEEP)
			wl_buf_release(bufs[i]);
		wl_buf_reset(bufs[i]);
	}
	clear_yield(r, KEEP_YIELD);
	wl_arena_reset(&r->mem);
	r->many = false;
	r->tallies = NULL;
	r->n_tallies = 0;
	r->place = r->position = r->image_origin = "";
	r->file = r->reason = r->image_url = NULL;
	r->ordinal = r->image_start = r->image_size = 0;
	r->check = WL_IMAGE_STRUCTURE;
	r->has_json = r->has_text = r->has_image = r->hashed = false;
	r->pair = (struct wl_pair){.source = "",
		.url = "",
		.page_url = "",
		.texts = "[]",
		.split_hint = "",
		.format = "",
		.meta = "{}"};
}

void wl_record_release(struct wl_record *r)
{
	clear_yield(r, 0);
	free(r->yield);
	r->yield = NULL;
	r->cap_yield = 0;
	wl_buf_release(&r->json);
	wl_buf_release(&r->text);
	wl_buf_release(&r->image);
	wl_arena_release(&r->mem);
}

int wl_record_reject(struct wl_record *r, struct wl_err *err, const char *fmt, ...)
{
	struct wl_err text = WL_ERR_INIT;
	va_list ap;
	if (r->reason)
		return 0;
	va_start(ap, fmt);
	wl_err_setv(&text, WL_EDATA, fmt, ap);
	va_end(ap);
	r->reason = wl_arena_strdup(&r->mem, text.msg, err);
	return r->reason ? 0 : -1;
}

/* ---- one item, many pairs ---- */

/* Room for one more: the next record of an earlier item, or a fresh one. */
static struct wl_record *next_yield(struct wl_record *r, struct wl_err *err)
{
	if (r->n_yield == r->cap_yield) {
		size_t cap = r->cap_yield ? 2 * r->cap_yield : 4;
		struct wl_record **grown = realloc(r->yield, cap * sizeof(struct wl_record *));
		if (!grown) {
			wl_err_nomem(err, "records", cap * sizeof(struct wl_record *));
			return NULL;
		}
		for (size_t i = r->cap_yield; i < cap; i++)
			grown[i] = NULL;
		r->yield = grown;
		r->cap_yield = cap;
	}
	struct wl_record *y = r->yield[r->n_yield];
	if (y)
		return y;
	y = malloc(sizeof *y);
	if (!y) {
		wl_err_nomem(err, "a record", sizeof *y);
		return NULL;
	}
	wl_record_init(y);
	r->yield[r->n_yield] = y;
	return y;
}

struct wl_record *wl_record_yield(struct wl_record *r, struct wl_err *err)
{
	struct wl_record *y = next_yield(r, err);
	if (!y)
		return NULL;
	char *place = wl_strf(err, "%s, item %zu", r->place, r->n_yield + 1);
	y->place = place ? wl_arena_strdup(&y->mem, place, err) : NULL;
	free(place);
	if (!y->place)
		return NULL;
	y->position = r->position;
	y->check = r->check;
	y->pair.source = r->pair.source;
	r->n_yield++;
	r->many = true;
	return y;
}

int wl_record_tally(struct wl_record *r, const char *class, int64_t n, struct wl_err *err)
{
	enum { STEP = 8 };
	for (size_t i = 0; i < r->n_tallies; i++) {
		if (strcmp(r->tallies[i].class, class) == 0) {
			r->tallies[i].n += n;
			return 0;
		}
	}
	if (r->n_tallies % STEP == 0) {
		struct wl_tally *grown =
			wl_arena_calloc(&r->mem, r->n_tallies + STEP, sizeof *grown, err);
		if (!grown)
			return -1;
		if (r->n_tallies)
			memcpy(grown, r->tallies, r->n_tallies * sizeof *grown);
		r->tallies = grown;
	}
	r->tallies[r->n_tallies++] = (struct wl_tally){class, n};
	return 0;
}

int wl_record_pass(struct wl_record *r, const char *class, struct wl_err *err)
{
	r->many = true;
	return wl_record_tally(r, class, 1, err);
}

/* ---- text files ---- */

/* Converts with ICU, refusing what the encoding does not define; NULL: it does not fit. */
static char *to_utf8(const char *text, size_t n, const char *encoding, size_t *len)
{
	UErrorCode rc = U_ZERO_ERROR;
	UConverter *cnv = ucnv_open(encoding, &rc);
	UChar *wide = malloc((n + 1) * sizeof *wide);
	char *out = malloc(3 * n + 1);
	int32_t wide_n = 0, out_n = 0;
	if (wide && out && n < INT32_MAX / 4) {
		ucnv_setToUCallBack(cnv, UCNV_TO_U_CALLBACK_STOP, NULL, NULL, NULL, &rc);
		wide_n = ucnv_toUChars(cnv, wide, (int32_t)n + 1, text, (int32_t)n, &rc);
		u_strToUTF8(out, (int32_t)(3 * n + 1), &out_n, wide, wide_n, &rc);
	} else {
		rc = U_MEMORY_ALLOCATION_ERROR;
	}
	ucnv_close(cnv);
	free(wide);
	if (U_FAILURE(rc)) {
		free(out);
		return NULL;
	}
	*len = (size_t)out_n;
	return out;
}

/* UTF-8 without NUL, which neither JSON readers nor C strings would carry on. */
static bool is_utf8(const char *text, size_t n)
{
	json_t *s = memchr(text, '\0', n) ? NULL : json_stringn(text, n);
	json_decref(s);
	return s != NULL;
}

/* The file as UTF-8 in fresh memory; NULL: no encoding that we know fits. */
static char *decode_text(const char *text, size_t n, size_t *len)
{
	if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		n -= 3;
	}
	if (n >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
		return to_utf8(text, n, "UTF-16", len);
	if (!is_utf8(text, n))
		return to_utf8(text, n, "gb18030", len);
	char *copy = malloc(n + 1);
	if (copy) {
		memcpy(copy, text, n);
		*len = n;
	}
	return copy;
}

static bool is_blank(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strchr(" \t\r\n\v\f", s[i]) || !s[i])
			return false;
	return true;
}

static int set_texts(struct wl_record *r, json_t *texts, struct wl_err *err)
{
	char *s = wl_json_text(texts, err);
	if (!s)
		return -1;
	r->pair.texts = wl_arena_strdup(&r->mem, s, err);
	free(s);
	return r->pair.texts ? 0 : -1;
}

static int add_caption(json_t *texts, const char *s, size_t n, struct wl_err *err)
{
	json_t *pair = json_pack("[s, s%]", "caption", s, n);
	if (!pair || json_array_append_new(texts, pair) < 0)
		return wl_err_nomem(err, "a caption", n);
	return 0;
}

static int lines_to_texts(struct wl_record *r, const char *s, size_t n, struct wl_err *err)
{
	json_t *texts = json_array();
	int ret = -1;
	for (size_t at = 0; at < n;) {
		const char *nl = memchr(s + at, '\n', n - at);
		size_t end = nl ? (size_t)(nl - s) : n, len = end - at;
		while (len && (s[at + len - 1] == '\r'))
			len--;
		if (!is_blank(s + at, len))
			WL_TRY_OUT(add_caption(texts, s + at, len, err));
		at = end + 1;
	}
	ret = set_texts(r, texts, err);
out:
	json_decref(texts);
	return ret;
}

int wl_record_captions(struct wl_record *r, const char *text, size_t n, struct wl_err *err)
{
	size_t len = 0;
	char *s = decode_text(text, n, &len);
	if (!s || memchr(s, '\0', len)) {
		free(s);
		return wl_record_reject(r, err, "the text is neither UTF-8 nor GB18030");
	}
	int ret = lines_to_texts(r, s, len, err);
	free(s);
	return ret;
}

int wl_record_stamp(struct wl_record *r, const char *text, size_t n, struct wl_err *err)
{
	static const char key[] = "zh_CN.utf8=";
	json_t *texts = json_array();
	int ret = -1;
	for (size_t at = 0; at < n;) {
		const char *nl = memchr(text + at, '\n', n - at);
		size_t end = nl ? (size_t)(nl - text) : n, len = end - at, skip = sizeof key - 1;
		while (len && text[at + len - 1] == '\r')
			len--;
		if (len > skip && memcmp(text + at, key, skip) == 0 &&
			!is_blank(text + at + skip, len - skip) &&
			is_utf8(text + at + skip, len - skip)) {
			WL_TRY_OUT(add_caption(texts, text + at + skip, len - skip, err));
			break;
		}
		at = end + 1;
	}
	if (json_array_size(texts))
		ret = set_texts(r, texts, err);
	else
		ret = wl_record_reject(r, err, "no zh_CN caption");
out:
	json_decref(texts);
	return ret;
}

int wl_record_meta_file(struct wl_record *r, const char *path, struct wl_err *err)
{
	if (strcmp(r->pair.meta, "{}") != 0)
		return 0;
	json_t *meta = json_pack("{s:s}", "file", path);
	if (!meta)
		return 0; /* a name that is not UTF-8 cannot be said in JSON */
	char *s = wl_json_text(meta, err);
	json_decref(meta);
	if (!s)
		return -1;
	r->pair.meta = wl_arena_strdup(&r->mem, s, err);
	free(s);
	return r->pair.meta ? 0 : -1;
}

/* ---- files ---- */

bool wl_is_image_name(const char *name)
{
	static const char *const ext[] = {"jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp",
		"svg", "tif", "tiff", "avif", "heic", "jxl"};
	const char *dot = strrchr(name, '.');
	for (size_t i = 0; dot && i < sizeof ext / sizeof *ext; i++)
		if (strcasecmp(dot + 1, ext[i]) == 0)
			return true;
	return false;
}

/* Faults of this one path, as opposed to faults of the machine. */
static bool is_the_paths_fault(int e)
{
	return e == ENOENT || e == ENOTDIR || e == ENAMETOOLONG || e == ELOOP || e == EACCES ||
	       e == EISDIR || e == ENXIO || e == ENODEV || e == EINVAL;
}

int wl_record_load(struct wl_record *r, const char *path, const char *what, struct wl_buf *out,
	struct wl_err *err)
{
	struct stat st;
	int ret = -1;
	/* O_NONBLOCK: a hostile path may name a FIFO. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		if (is_the_paths_fault(errno))
			return wl_record_reject(r, err, "the %s file cannot be read: %s: %s", what,
				path, strerror(errno));
		return wl_err_errno(err, "%s cannot be opened", path);
	}
	if (fstat(fd, &st)) {
		wl_err_errno(err, "%s cannot be examined", path);
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		ret = wl_record_reject(
			r, err, "the %s file cannot be read: %s is not a plain file", what, path);
		goto out;
	}
	if ((uint64_t)st.st_size > out->max) {
		ret = wl_record_reject(r, err, "the %s file is too large: %lld bytes, at most %zu",
			what, (long long)st.st_size, out->max);
		goto out;
	}
	wl_buf_reset(out);
	WL_TRY_OUT(wl_buf_reserve(out, (size_t)st.st_size, err));
	WL_TRY_OUT(wl_pread_full(fd, out->data, (size_t)st.st_size, 0, path, err));
	out->len = (size_t)st.st_size;
	out->data[out->len] = '\0';
	ret = 0;
out:
	close(fd);
	return ret;
}

/* ---- the end of every prepare ---- */

int wl_record_image_url(struct wl_record *r, const char *url, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_url u;
	if (wl_url_is_plain(url)) {
		r->image_url = r->pair.url = wl_arena_strdup(&r->mem, url, err);
		return r->image_url ? 0 : -1;
	}
	if (wl_url_parse(&u, url, &why) < 0)
		return why.code == WL_EDATA ? wl_record_reject(r, err, "%s", why.msg)
					    : wl_err_set(err, why.code, "%s", why.msg);
	r->image_url = r->pair.url = wl_arena_strdup(&r->mem, u.text, err);
	wl_url_release(&u);
	return r->image_url ? 0 : -1;
}

static int check_image(struct wl_record *r, struct wl_err *err)
{
	struct wl_err why = WL_ERR_INIT;
	struct wl_image_info info;
	if (!r->has_image)
		return wl_record_reject(r, err, "no image");
	if (wl_image_check_by(r->image.data, r->image.len, r->check, &info, &why) < 0) {
		if (why.code == WL_EDATA)
			return wl_record_reject(r, err, "%s", why.msg);
		return wl_err_set(err, why.code, "%s", why.msg);
	}
	r->pair.format = wl_image_format_name(info.format);
	r->pair.width = info.width;
	r->pair.height = info.height;
	return 0;
}

int wl_record_finish(struct wl_record *r, struct wl_err *err)
{
	r->pair.id = wl_pair_id(r->pair.source, r->pair.page_url, r->image_origin, r->ordinal);
	if (r->reason)
		return 0;
	if (strcmp(r->pair.texts, "[]") == 0)
		return wl_record_reject(r, err, "no text");
	if (!r->has_image && r->image_url)
		return 0;
	return check_image(r, err);
}
