/* The sections of a rules file.  Every key has a default that lets everything pass, so that a
 * file says what it drops; a source's section begins with what the file itself says. */
#include "clean/rules_priv.h"

#include "ops/json.h"

#include <math.h>
#include <string.h>

/* ---- values ---- */

static int one_of(const json_t *o, const char *key, const char *where, const char *const *names,
	int *out, struct wl_err *err)
{
	const char *s;

	WL_TRY(wl_json_str_or(o, key, where, names[*out], &s, err));
	for (int i = 0; names[i]; i++)
		if (strcmp(names[i], s) == 0) {
			*out = i;
			return 0;
		}
	return wl_err_set(err, WL_EUSAGE, "%s: \"%s\" is \"%s\", expected %s, %s or %s.", where,
		key, s, names[0], names[1], names[2]);
}

static int number(const json_t *o, const char *key, const char *where, double low, double high,
	double *out, struct wl_err *err)
{
	WL_TRY(wl_json_num_or(o, key, where, *out, out, err));
	if (json_object_get(o, key) && !(*out >= low && *out <= high))
		return wl_err_set(err, WL_EUSAGE, "%s: \"%s\" is %g, expected %s from %g to %g.",
			where, key, *out, high == 1 ? "a share" : "a number", low, high);
	return 0;
}

static int share(
	const json_t *o, const char *key, const char *where, double *out, struct wl_err *err)
{
	return number(o, key, where, 0, 1, out, err);
}

static int count(
	const json_t *o, const char *key, const char *where, int64_t *out, struct wl_err *err)
{
	WL_TRY(wl_json_int_or(o, key, where, *out, out, err));
	if (*out < 0)
		return wl_err_set(err, WL_EUSAGE, "%s: \"%s\" is %lld, expected 0 or more.", where,
			key, (long long)*out);
	return 0;
}

/* Two bounds that nothing can keep. */
static int in_order(const char *where, const char *low_key, double low, const char *high_key,
	double high, struct wl_err *err)
{
	if (low <= high)
		return 0;
	return wl_err_set(err, WL_EUSAGE,
		"%s: \"%s\" is %g and \"%s\" is %g, so nothing would pass; exchange them.", where,
		low_key, low, high_key, high);
}

/* ---- text ---- */

/* One word for all kinds, or a mapping from kinds to words. */
static int read_pii(struct text_rules *t, const json_t *o, const char *where, struct wl_err *err)
{
	static const char *const names[] = {"mask", "drop", "keep", NULL};
	const json_t *v = json_object_get(o, "pii");
	char below[600];
	int p;

	if (!v || json_is_null(v))
		return 0;
	if (!json_is_object(v)) {
		p = t->pii[0];
		WL_TRY(one_of(o, "pii", where, names, &p, err));
		for (int k = 0; k < WL_PERSONAL_KINDS; k++)
			t->pii[k] = (enum pii_policy)p;
		return 0;
	}
	snprintf(below, sizeof(below), "%s, pii", where);
	WL_TRY(wl_json_only_keys(v, wl_personal_names, below, err));
	for (int k = 0; k < WL_PERSONAL_KINDS; k++) {
		p = t->pii[k];
		WL_TRY(one_of(v, wl_personal_names[k], below, names, &p, err));
		t->pii[k] = (enum pii_policy)p;
	}
	return 0;
}

int wl_read_text_rules(struct text_rules *t, const json_t *o, const char *where, struct wl_err *err)
{
	static const char *const known[] = {"min_letters", "min_chars", "max_chars", "min_words",
		"max_words", "min_han", "max_run", "min_chinese", "max_foreign", "min_common",
		"max_symbols", "max_repeat", "garbled", "file_names", "pii", "traditional",
		"max_ad", NULL};
	static const char *const traditional[] = {"convert", "keep", "drop", NULL};
	int tr = t->traditional;

	WL_TRY(wl_json_only_keys(o, known, where, err));
	WL_TRY(count(o, "min_letters", where, &t->min_letters, err));
	WL_TRY(count(o, "min_chars", where, &t->min_chars, err));
	WL_TRY(count(o, "max_chars", where, &t->max_chars, err));
	WL_TRY(count(o, "min_words", where, &t->min_words, err));
	WL_TRY(count(o, "max_words", where, &t->max_words, err));
	WL_TRY(count(o, "min_han", where, &t->min_han, err));
	WL_TRY(count(o, "max_run", where, &t->max_run, err));
	WL_TRY(share(o, "min_chinese", where, &t->min_chinese, err));
	WL_TRY(share(o, "max_foreign", where, &t->max_foreign, err));
	WL_TRY(share(o, "min_common", where, &t->min_common, err));
	WL_TRY(share(o, "max_symbols", where, &t->max_symbols, err));
	WL_TRY(share(o, "max_repeat", where, &t->max_repeat, err));
	WL_TRY(wl_json_bool_or(o, "garbled", where, t->garbled, &t->garbled, err));
	WL_TRY(wl_json_bool_or(o, "file_names", where, t->file_names, &t->file_names, err));
	WL_TRY(number(o, "max_ad", where, 0, 1e6, &t->max_ad, err));
	WL_TRY(read_pii(t, o, where, err));
	WL_TRY(one_of(o, "traditional", where, traditional, &tr, err));
	t->traditional = (enum traditional_policy)tr;
	WL_TRY(in_order(where, "min_letters", (double)t->min_letters, "max_chars",
		(double)t->max_chars, err));
	WL_TRY(in_order(
		where, "min_han", (double)t->min_han, "max_chars", (double)t->max_chars, err));
	WL_TRY(in_order(
		where, "min_words", (double)t->min_words, "max_words", (double)t->max_words, err));
	return in_order(
		where, "min_chars", (double)t->min_chars, "max_chars", (double)t->max_chars, err);
}

int wl_read_style(struct source_rules *s, const json_t *o, const char *where, struct wl_err *err)
{
	static const char *const known[] = {"mentions", "codes", "emoji", "short_urls", "reposts",
		"references", "bylines", "topics", NULL};
	static const char *const topics[] = {"keep", "words", "cut", NULL};
	struct wl_text_style *y = &s->style;
	int t = y->topics;

	if (!o)
		return 0;
	WL_TRY(wl_json_only_keys(o, known, where, err));
	WL_TRY(wl_json_bool_or(o, "mentions", where, y->mentions, &y->mentions, err));
	WL_TRY(wl_json_bool_or(o, "codes", where, y->codes, &y->codes, err));
	WL_TRY(wl_json_bool_or(o, "emoji", where, y->emoji, &y->emoji, err));
	WL_TRY(wl_json_bool_or(o, "short_urls", where, y->short_urls, &y->short_urls, err));
	WL_TRY(wl_json_bool_or(o, "reposts", where, y->reposts, &y->reposts, err));
	WL_TRY(wl_json_bool_or(o, "references", where, y->references, &y->references, err));
	WL_TRY(wl_json_bool_or(o, "bylines", where, y->bylines, &y->bylines, err));
	WL_TRY(one_of(o, "topics", where, topics, &t, err));
	y->topics = t == 0 ? WL_TOPICS_KEEP : t == 1 ? WL_TOPICS_WORDS : WL_TOPICS_CUT;
	s->has_style = true;
	return 0;
}

/* ---- image ---- */

int wl_read_image_rules(
	struct image_rules *im, const json_t *o, const char *where, struct wl_err *err)
{
	static const char *const known[] = {"min_side", "max_aspect", "min_spread", "min_bytes",
		"max_bytes", "min_sharpness", "min_entropy", "max_text", "max_qr", NULL};

	WL_TRY(wl_json_only_keys(o, known, where, err));
	WL_TRY(count(o, "min_side", where, &im->min_side, err));
	WL_TRY(count(o, "min_bytes", where, &im->min_bytes, err));
	WL_TRY(count(o, "max_bytes", where, &im->max_bytes, err));
	WL_TRY(number(o, "max_aspect", where, 1, 1e9, &im->max_aspect, err));
	/* Grey values cannot spread further than half of 255. */
	WL_TRY(number(o, "min_spread", where, 0, 127.5, &im->min_spread, err));
	WL_TRY(number(o, "min_sharpness", where, 0, 1e6, &im->min_sharpness, err));
	WL_TRY(number(o, "min_entropy", where, 0, 8, &im->min_entropy, err));
	WL_TRY(share(o, "max_text", where, &im->max_text, err));
	WL_TRY(share(o, "max_qr", where, &im->max_qr, err));
	if (im->min_side > WL_IMAGE_MAX_SIDE_PX)
		return wl_err_set(err, WL_EUSAGE,
			"%s: \"min_side\" is %lld, but no picture over %d pixels is read.", where,
			(long long)im->min_side, WL_IMAGE_MAX_SIDE_PX);
	return in_order(
		where, "min_bytes", (double)im->min_bytes, "max_bytes", (double)im->max_bytes, err);
}

/* ---- agreement ---- */

int wl_read_agreement(
	struct agreement_rules *a, const json_t *o, const char *where, struct wl_err *err)
{
	static const char *const known[] = {"drop_lowest", "by", "min", "max", "missing", NULL};
	static const char *const missing[] = {"keep", "drop", "", NULL};
	static const char *const by[] = {"source", "all", "", NULL};
	int m = a->missing_drops, b = a->by_all;

	WL_TRY(wl_json_only_keys(o, known, where, err));
	WL_TRY(share(o, "drop_lowest", where, &a->quantile, err));
	WL_TRY(number(o, "min", where, -1e300, 1e300, &a->min, err));
	WL_TRY(number(o, "max", where, -1e300, 1e300, &a->max, err));
	WL_TRY(one_of(o, "missing", where, missing, &m, err));
	WL_TRY(one_of(o, "by", where, by, &b, err));
	a->missing_drops = m == 1;
	a->by_all = b == 1;
	a->on = true;
	if (a->quantile >= 1)
		return wl_err_set(err, WL_EUSAGE,
			"%s: \"drop_lowest\" is %g, which would drop every pair; expected a share "
			"below 1.",
			where, a->quantile);
	return in_order(where, "min", a->min, "max", a->max, err);
}
