/* The part of the report that looks at pairs one by one: sizes, texts, languages, pictures. */
#include "ingest/report_priv.h"

#include "ingest/image.h"
#include "ops/file.h"

#include <stdlib.h>
#include <string.h>
#include <unicode/uscript.h>

enum {
	LOOKED_AT = 50000, /* pairs, over all lanes */
	SHOWN = 24,
	THUMB_PX = 144,
	SAID_BYTES = 400, /* of a refused record's text */
};

static const char *const SIDE_NAMES[] = {"under 64", "64-127", "128-223", "224-319", "320-479",
	"480-639", "640-1023", "1024-2047", "2048 and more"};
static const int64_t SIDE_FROM[] = {0, 64, 128, 224, 320, 480, 640, 1024, 2048};
static const char *const BYTE_NAMES[] = {"under 2 KB", "2-5 KB", "5-10 KB", "10-30 KB", "30-100 KB",
	"100-300 KB", "300 KB-1 MB", "1 MB and more"};
static const int64_t BYTE_FROM[] = {0, 2000, 5000, 10000, 30000, 100000, 300000, 1000000};
static const char *const TEXT_NAMES[] = {
	"1-4", "5-9", "10-19", "20-39", "40-79", "80-159", "160 and more"};
static const int64_t TEXT_FROM[] = {0, 5, 10, 20, 40, 80, 160};
enum { SIDES = 9, BYTES = 8, TEXTS = 7 };

struct shown {
	int64_t id;
	int partition;
};
struct report_sample {
	int64_t pairs, side[SIDES], bytes[BYTES], text[TEXTS], script[WL_SCRIPT_COUNT];
	struct shown shown[SHOWN];
	size_t n_shown;
};

/* The next code point of s[*i..n), or -1 for a byte that is no UTF-8; moves *i. */
static int32_t next_char(const char *s, size_t n, size_t *i)
{
	static const int32_t least[] = {0, 0x80, 0x800, 0x10000};
	unsigned char lead = (unsigned char)s[(*i)++];
	int more = lead < 0x80	 ? 0
		   : lead < 0xc2 ? -1
		   : lead < 0xe0 ? 1
		   : lead < 0xf0 ? 2
		   : lead < 0xf5 ? 3
				 : -1;
	int32_t c = more <= 0 ? lead : lead & (0x3f >> more);
	if (more < 0 || (size_t)more > n - *i)
		return -1;
	for (int k = 0; k < more; k++) {
		if (((unsigned char)s[*i + (size_t)k] & 0xc0) != 0x80)
			return -1;
		c = c << 6 | (s[*i + (size_t)k] & 0x3f);
	}
	if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return -1;
	*i += (size_t)more;
	return c;
}

const char *wl_script_name(enum wl_script s)
{
	static const char *const names[] = {
		"Chinese", "Japanese", "Korean", "Latin letters", "other letters", "no letters"};
	return names[s];
}

enum wl_script wl_script_of(const char *utf8)
{
	size_t n = strnlen(utf8, 1 << 20), i = 0;
	int64_t han = 0, kana = 0, hangul = 0, latin = 0, other = 0;
	while (i < n) {
		UErrorCode rc = U_ZERO_ERROR;
		int32_t c = next_char(utf8, n, &i);
		if (c < 0)
			continue;
		switch (uscript_getScript(c, &rc)) {
		case USCRIPT_HAN:
			han++;
			break;
		case USCRIPT_HIRAGANA:
		case USCRIPT_KATAKANA:
			kana++;
			break;
		case USCRIPT_HANGUL:
			hangul++;
			break;
		case USCRIPT_LATIN:
			latin++;
			break;
		case USCRIPT_COMMON:
		case USCRIPT_INHERITED:
		case USCRIPT_UNKNOWN:
			break;
		default:
			other++;
		}
	}
	if (kana && kana >= han / 20)
		return WL_SCRIPT_JAPANESE;
	if (hangul > han)
		return WL_SCRIPT_KOREAN;
	/* A Chinese sentence may hold a long Latin name: a character says as much as a word. */
	if (han && 4 * han >= latin)
		return WL_SCRIPT_CHINESE;
	if (latin + other == 0)
		return WL_SCRIPT_NONE;
	return latin >= other ? WL_SCRIPT_LATIN : WL_SCRIPT_OTHER;
}

static size_t bucket(const int64_t *from, size_t n, int64_t v)
{
	size_t i = n - 1;
	while (i && v < from[i])
		i--;
	return i;
}

static int64_t characters(const char *s)
{
	int64_t n = 0;
	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

/* The first text of a pair, "" if there is none; to be freed. */
static char *first_text(const char *texts)
{
	json_t *v = json_loads(texts, 0, NULL);
	const char *s = json_string_value(json_array_get(json_array_get(v, 0), 1));
	char *copy = strdup(s ? s : "");
	json_decref(v);
	return copy;
}

static int look_at(struct report_sample *s, const struct wl_pair *p, struct wl_err *err)
{
	int64_t side = p->width < p->height ? p->width : p->height;
	char *text = first_text(p->texts);
	if (!text)
		return wl_err_nomem(err, "a text", strlen(p->texts));
	s->pairs++;
	s->side[bucket(SIDE_FROM, SIDES, side)]++;
	s->bytes[bucket(BYTE_FROM, BYTES, p->length)]++;
	s->text[bucket(TEXT_FROM, TEXTS, characters(text))]++;
	s->script[wl_script_of(text)]++;
	free(text);
	return 0;
}

static int take_lane(
	struct report_sample *s, struct wl_corpus *c, int partition, struct wl_err *err)
{
	struct wl_pair_cursor *cur = wl_pairs_open(c, partition, err);
	int64_t most = LOOKED_AT / wl_corpus_partitions(c) + 1;
	size_t show = SHOWN / (size_t)wl_corpus_partitions(c) + 1;
	struct wl_pair p;
	int more = cur ? 1 : -1;
	while (more > 0 && most-- > 0 && (more = wl_pairs_next(cur, &p, err)) > 0) {
		if (look_at(s, &p, err) < 0) {
			more = -1;
		} else if (show && s->n_shown < SHOWN) {
			s->shown[s->n_shown++] = (struct shown){p.id, partition};
			show--;
		}
	}
	wl_pairs_close(cur);
	return more < 0 ? -1 : 0;
}

struct report_sample *report_sample_take(struct wl_corpus *c, struct wl_err *err)
{
	struct report_sample *s = calloc(1, sizeof *s);
	if (!s) {
		wl_err_nomem(err, "the report's sample", sizeof *s);
		return NULL;
	}
	for (int p = 0; p < wl_corpus_partitions(c); p++) {
		if (take_lane(s, c, p, err) < 0) {
			report_sample_free(s);
			return NULL;
		}
	}
	return s;
}

void report_sample_free(struct report_sample *s)
{
	free(s);
}

int report_sample_charts(const struct report_sample *s, struct wl_html *h, struct wl_err *err)
{
	const char *scripts[WL_SCRIPT_COUNT];
	char text[128];
	if (!s->pairs)
		return 0;
	for (int i = 0; i < WL_SCRIPT_COUNT; i++)
		scripts[i] = wl_script_name((enum wl_script)i);
	WL_TRY(wl_html_heading(h, 2, "What the pairs are like", err));
	snprintf(text, sizeof text, "Of %lld pairs; of several texts the first.",
		(long long)s->pairs);
	WL_TRY(wl_html_para(h, text, err));
	WL_TRY(report_bars(h, "Shorter side, pixels", SIDE_NAMES, s->side, SIDES, err));
	WL_TRY(report_bars(h, "Bytes of the picture", BYTE_NAMES, s->bytes, BYTES, err));
	WL_TRY(report_bars(h, "Length of the text, characters", TEXT_NAMES, s->text, TEXTS, err));
	return report_bars(h, "Language of the text, by its letters", scripts, s->script,
		WL_SCRIPT_COUNT, err);
}

/* ---- samples ---- */

int wl_report_thumbnail(
	struct wl_html *h, const void *bytes, size_t n, const char *alt, struct wl_err *err)
{
	struct wl_image im = {0}, small = {0};
	struct wl_err why = WL_ERR_INIT;
	struct wl_buf jpeg;
	int ret = -1, w = THUMB_PX, hgt = THUMB_PX;
	wl_buf_init(&jpeg, 1 << 20);
	if (wl_image_decode(bytes, n, &im, &why) < 0)
		return why.code == WL_EDATA ? 0 : wl_err_set(err, why.code, "%s", why.msg);
	if (im.width > im.height)
		hgt = im.height * w / im.width;
	else
		w = im.width * hgt / im.height;
	if (im.width <= THUMB_PX && im.height <= THUMB_PX) {
		w = im.width;
		hgt = im.height;
	}
	WL_TRY_OUT(wl_image_resize_lanczos(&im, w ? w : 1, hgt ? hgt : 1, &small, err));
	WL_TRY_OUT(wl_image_encode_jpeg(&small, 80, &jpeg, err));
	ret = wl_html_image(h, jpeg.data, jpeg.len, "image/jpeg", alt, 0, err);
out:
	wl_image_release(&im);
	wl_image_release(&small);
	wl_buf_release(&jpeg);
	return ret;
}

static int caption(struct wl_html *h, const char *strong, const char *text, struct wl_err *err)
{
	WL_TRY(wl_html_raw(h, "<figcaption><b>", err));
	WL_TRY(wl_html_text(h, strong, err));
	WL_TRY(wl_html_raw(h, "</b> ", err));
	WL_TRY(wl_html_text(h, text, err));
	return wl_html_raw(h, "</figcaption></figure>\n", err);
}

static int show_pair(
	struct wl_corpus *c, const struct wl_pair *p, struct wl_html *h, struct wl_err *err)
{
	struct wl_buf bytes;
	char *text = first_text(p->texts);
	int ret = -1;
	wl_buf_init(&bytes, WL_IMAGE_MAX_BYTES);
	if (!text)
		return wl_err_nomem(err, "a text", 0);
	WL_TRY_OUT(wl_corpus_image(c, p, &bytes, err));
	WL_TRY_OUT(wl_html_raw(h, "<figure>", err));
	WL_TRY_OUT(wl_report_thumbnail(h, bytes.data, bytes.len, text, err));
	ret = caption(h, p->source, text, err);
out:
	wl_buf_release(&bytes);
	free(text);
	return ret;
}

int report_sample_kept(
	const struct report_sample *s, struct wl_corpus *c, struct wl_html *h, struct wl_err *err)
{
	if (!s->n_shown)
		return 0;
	WL_TRY(wl_html_heading(h, 2, "Some pairs", err));
	WL_TRY(wl_html_raw(h, "<div class=\"k\">\n", err));
	for (size_t i = 0; i < s->n_shown; i++) {
		struct wl_pair_cursor *cur = wl_pairs_open(c, s->shown[i].partition, err);
		struct wl_pair p;
		int ret = cur ? wl_pairs_find(cur, s->shown[i].id, &p, err) : -1;
		if (ret > 0)
			ret = show_pair(c, &p, h, err);
		wl_pairs_close(cur);
		WL_TRY(ret);
	}
	return wl_html_raw(h, "</div>\n", err);
}

/* The start of a record's bytes as text; what is no UTF-8 or no printable ASCII shows as '.'. */
static void excerpt(const char *bytes, size_t n, char out[SAID_BYTES + 8])
{
	size_t len = n < SAID_BYTES ? n : SAID_BYTES, i = 0, w = 0;
	while (i < len) {
		size_t from = i;
		int32_t c = next_char(bytes, len, &i);
		if (c >= 0x20 && c != 0x7f) {
			memcpy(out + w, bytes + from, i - from);
			w += i - from;
		} else {
			out[w++] = '.';
		}
	}
	out[w] = '\0';
}

static int show_refused(struct wl_html *h, sqlite3_stmt *s, struct wl_err *err)
{
	const char *origin = (const char *)sqlite3_column_text(s, 0);
	const char *place = (const char *)sqlite3_column_text(s, 1);
	const char *reason = (const char *)sqlite3_column_text(s, 2);
	const void *bytes = sqlite3_column_blob(s, 3);
	size_t n = (size_t)sqlite3_column_bytes(s, 3), before;
	char said[SAID_BYTES + 8] = "";
	char *where = wl_strf(err, "%s, %s:", origin ? origin : "", place ? place : "");
	int ret = -1;
	if (!where)
		return -1;
	WL_TRY_OUT(wl_html_raw(h, "<figure>", err));
	before = h->b.len;
	if (n)
		WL_TRY_OUT(wl_report_thumbnail(h, bytes, n, "refused", err));
	if (n && h->b.len == before) {
		excerpt(bytes, n, said);
		WL_TRY_OUT(wl_html_raw(h,
			"<div style=\"font:11px monospace;overflow:hidden;"
			"max-height:9rem;overflow-wrap:anywhere\">",
			err));
		WL_TRY_OUT(wl_html_text(h, said, err));
		WL_TRY_OUT(wl_html_raw(h, "</div>", err));
	}
	ret = caption(h, where, reason ? reason : "", err);
out:
	free(where);
	return ret;
}

/* A few of every reason, so that the rare ones are seen too. */
static int refused_lane(struct wl_db *db, size_t *room, struct wl_html *h, struct wl_err *err)
{
	static const char sql[] =
		"SELECT origin, position, reason, bytes FROM (SELECT *, row_number() OVER"
		" (PARTITION BY substr(reason, 1, instr(reason || ':', ':')) ORDER BY origin, "
		"position)"
		" AS k FROM quarantine) WHERE k <= 3 ORDER BY k, reason LIMIT ?";
	sqlite3_stmt *s = NULL;
	int row = wl_db_prepare(db, &s, sql, err);
	if (row == 0)
		row = wl_db_bind(db, s, err, "i", (int64_t)*room);
	while (row >= 0 && *room && (row = wl_db_step(db, s, err)) > 0) {
		(*room)--;
		if (show_refused(h, s, err) < 0)
			row = -1;
	}
	sqlite3_finalize(s);
	return row < 0 ? -1 : 0;
}

int report_sample_refused(struct wl_corpus *c, struct wl_html *h, struct wl_err *err)
{
	size_t room = SHOWN;
	int ret = 0;
	WL_TRY(wl_html_heading(h, 2, "Some of what was refused", err));
	WL_TRY(wl_html_raw(h, "<div class=\"k\">\n", err));
	for (int p = 0; p < wl_corpus_partitions(c) && ret == 0 && room; p++) {
		struct wl_db db;
		ret = wl_catalog_open(c, p, &db, err);
		if (ret == 0 && db.h)
			ret = refused_lane(&db, &room, h, err);
		wl_db_close(&db);
	}
	return ret < 0 ? -1 : wl_html_raw(h, "</div>\n", err);
}
