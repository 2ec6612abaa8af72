/* What the rules say of one pair. */
#include "clean/rules_priv.h"

#include "clean/measure.h"
#include "clean/pairtext.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add_verdict(struct wl_outcome *o, const char *reason, const char *fmt, ...)
	WL_PRINTF(3, 4);

/* A reason stands once in a pair's verdicts; the first detail stays. */
static void add_verdict(struct wl_outcome *o, const char *reason, const char *fmt, ...)
{
	struct wl_verdict *v = &o->v[o->n];
	va_list ap;
	size_t n;

	for (size_t i = 0; i < o->n; i++)
		if (strcmp(o->v[i].reason, reason) == 0)
			return;
	if (o->n == WL_VERDICTS_MAX)
		return;
	snprintf(v->reason, sizeof(v->reason), "%s", reason);
	va_start(ap, fmt);
	vsnprintf(v->detail, sizeof(v->detail), fmt, ap);
	va_end(ap);
	/* Cut between characters. */
	n = strlen(v->detail);
	while (n > 0 && ((unsigned char)v->detail[n - 1] & 0xc0) == 0x80)
		n--;
	if (n > 0 && (unsigned char)v->detail[n - 1] >= 0xc0) {
		unsigned char lead = (unsigned char)v->detail[n - 1];
		size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
		if (strlen(v->detail) - (n - 1) < need)
			v->detail[n - 1] = 0;
	}
	o->n++;
}

/* ---- one text ---- */

struct judged {
	struct wl_buf norm;
	struct wl_text_facts facts;
	struct wl_measure m;
};

static double symbols_of(const struct wl_measure *m)
{
	return m->chars ? (double)(m->chars - m->letters) / (double)m->chars : 0;
}

static double chinese_of(const struct wl_measure *m)
{
	return m->letters ? (double)m->han / (double)m->letters : 0;
}

static void judge_form(const struct text_rules *t, const struct judged *j, struct wl_outcome *o)
{
	const struct wl_measure *m = &j->m;
	const char *s = wl_buf_str(&j->norm);

	if (!j->norm.len)
		add_verdict(o, "text-empty", "nothing is left after cleaning");
	else if (m->letters < (size_t)t->min_letters)
		add_verdict(o, "text-short", "%zu letters, at least %lld are asked for: %.120s",
			m->letters, (long long)t->min_letters, s);
	else if (m->chars < (size_t)t->min_chars)
		add_verdict(o, "text-short", "%zu characters, at least %lld are asked for: %.120s",
			m->chars, (long long)t->min_chars, s);
	if (m->chars > (size_t)t->max_chars)
		add_verdict(o, "text-long", "%zu characters, at most %lld are asked for: %.120s",
			m->chars, (long long)t->max_chars, s);
	if (m->letters && chinese_of(m) < t->min_chinese)
		add_verdict(o, "text-not-chinese", "%.0f %% Chinese, at least %.0f %%: %.120s",
			100 * chinese_of(m), 100 * t->min_chinese, s);
	if (symbols_of(m) > t->max_symbols)
		add_verdict(o, "text-symbols", "%.0f %% signs, at most %.0f %%: %.120s",
			100 * symbols_of(m), 100 * t->max_symbols, s);
	if (m->run > (size_t)t->max_run)
		add_verdict(o, "text-repetition",
			"a letter %zu times in a row, at most %lld: %.120s", m->run,
			(long long)t->max_run, s);
	if (m->repeat > t->max_repeat)
		add_verdict(o, "text-repetition", "%.0f %% repeats itself, at most %.0f %%: %.120s",
			100 * m->repeat, 100 * t->max_repeat, s);
}

static void judge_content(const struct text_rules *t, const struct judged *j, struct wl_outcome *o)
{
	const struct wl_text_facts *f = &j->facts;
	const char *s = wl_buf_str(&j->norm);

	if (t->garbled && j->m.garbled)
		add_verdict(o, "text-garbled", "decoded under a wrong charset: %.120s", s);
	if (t->pii == PII_DROP && f->mobiles + f->id_cards + f->emails > 0)
		add_verdict(o, "text-personal", "%d mobile numbers, %d identity cards, %d e-mails",
			f->mobiles, f->id_cards, f->emails);
	if (t->traditional == TRADITIONAL_DROP && f->traditional)
		add_verdict(o, "text-traditional", "Traditional characters: %.120s", s);
}

/* ---- sensitive words, over all texts ---- */

static int judge_words(const struct wl_rules *r, const struct wl_caption *c, const struct judged *j,
	struct wl_outcome *o, struct wl_err *err)
{
	struct wl_buf b;
	struct wl_match m;
	char reason[WL_REASON_MAX];
	int ret = -1;

	wl_buf_init(&b, 20 * (size_t)WL_TEXT_MAX_BYTES);
	if (wl_words_count(r->keys)) {
		WL_TRY_OUT(wl_text_key(r->tx, wl_buf_str(&j->norm), j->norm.len, &b, err));
		if (wl_words_find(r->keys, wl_buf_str(&b), b.len, false, &m)) {
			snprintf(reason, sizeof(reason), "sensitive-%s", r->lists[m.tag].name);
			add_verdict(o, reason, "%.*s", (int)m.len, b.data + m.at);
		}
	}
	if (wl_words_count(r->ascii)) {
		WL_TRY_OUT(wl_text_fold(r->tx, c->text, c->len, &b, err));
		if (wl_words_find(r->ascii, wl_buf_str(&b), b.len, true, &m)) {
			snprintf(reason, sizeof(reason), "sensitive-%s", r->lists[m.tag].name);
			add_verdict(o, reason, "%.*s", (int)m.len, b.data + m.at);
		}
	}
	ret = 0;
out:
	wl_buf_release(&b);
	return ret;
}

/* ---- the picture ---- */

static double spread_of(const struct wl_look *l)
{
	int64_t s = 0, ss = 0;

	for (int i = 0; i < WL_PHASH_PIXELS; i++) {
		s += l->grey[i];
		ss += l->grey[i] * l->grey[i];
	}
	return sqrt((double)(ss * WL_PHASH_PIXELS - s * s)) / WL_PHASH_PIXELS;
}

static void judge_image(
	const struct image_rules *im, const struct wl_subject *s, struct wl_outcome *o)
{
	int low = s->width < s->height ? s->width : s->height;
	int high = s->width < s->height ? s->height : s->width;
	double aspect = low > 0 ? (double)high / low : 1e9;

	if (low < im->min_side)
		add_verdict(o, "image-small", "%dx%d pixels, at least %lld a side are asked for",
			s->width, s->height, (long long)im->min_side);
	if (aspect > im->max_aspect)
		add_verdict(o, "image-aspect",
			"%dx%d pixels, one side %.2f times the other, at most "
			"%.2f",
			s->width, s->height, aspect, im->max_aspect);
	if (s->bytes < im->min_bytes || s->bytes > im->max_bytes)
		add_verdict(o, "image-bytes", "%lld bytes, expected %lld to %lld",
			(long long)s->bytes, (long long)im->min_bytes, (long long)im->max_bytes);
	if (s->look && spread_of(s->look) < im->min_spread)
		add_verdict(o, "image-blank",
			"grey values spread by %.2f, at least %.2f are asked for",
			spread_of(s->look), im->min_spread);
}

/* ---- the pair ---- */

static json_t *scores_of(const struct judged *j)
{
	return json_pack("{s:I, s:I, s:f, s:f, s:f, s:I, s:b}", "chars", (json_int_t)j->m.chars,
		"letters", (json_int_t)j->m.letters, "chinese", chinese_of(&j->m), "symbols",
		symbols_of(&j->m), "repeat", j->m.repeat, "personal",
		(json_int_t)(j->facts.mobiles + j->facts.id_cards + j->facts.emails), "traditional",
		j->facts.traditional);
}

/* Normalises and judges text i; appends it to out->texts when it may stay. */
static int judge_text(const struct wl_rules *r, const struct wl_subject *s,
	const struct wl_caption *c, bool first, struct wl_outcome *out, struct wl_outcome *fail,
	struct wl_err *err)
{
	struct wl_outcome one = {0};
	struct judged j;
	unsigned flags =
		(r->text.pii == PII_KEEP ? WL_TEXT_KEEP_PII : 0) |
		(r->text.traditional != TRADITIONAL_CONVERT ? WL_TEXT_KEEP_TRADITIONAL : 0);
	int ret = -1;

	wl_buf_init(&j.norm, 4 * (size_t)WL_TEXT_MAX_BYTES);
	WL_TRY_OUT(wl_text_normalise(
		r->tx, s->source, c->text, c->len, flags, &j.norm, &j.facts, err));
	WL_TRY_OUT(wl_measure(wl_buf_str(&j.norm), j.norm.len, &j.m, err));
	judge_form(&r->text, &j, &one);
	judge_content(&r->text, &j, &one);
	if (!s->eval)
		WL_TRY_OUT(judge_words(r, c, &j, out, err));
	if (first)
		out->scores = scores_of(&j);
	if (first)
		*fail = one;
	ret = 0;
	if (j.norm.len && (one.n == 0 || s->eval)) {
		json_t *pair = json_pack("[s, s%]", c->kind, j.norm.data, j.norm.len);
		if (!pair || json_array_append_new(out->texts, pair) < 0)
			ret = wl_err_nomem(err, "a pair's texts", j.norm.len);
	}
out:
	wl_buf_release(&j.norm);
	return ret;
}

int wl_rules_judge(const struct wl_rules *r, const struct wl_subject *s, struct wl_outcome *out,
	struct wl_err *err)
{
	struct wl_outcome fail = {0};
	struct wl_pairtext p;
	int ret = -1;

	memset(out, 0, sizeof(*out));
	WL_TRY(wl_pairtext_parse(&p, s->texts, s->name, err));
	out->texts = json_array();
	if (!out->texts) {
		wl_err_nomem(err, "a pair's texts", 0);
		goto out;
	}
	if (s->broken)
		add_verdict(out, "bad-image", "%s", s->broken);
	for (size_t i = 0; i < p.n; i++)
		WL_TRY_OUT(judge_text(r, s, &p.v[i], i == 0, out, &fail, err));
	if (!json_array_size(out->texts)) {
		if (!p.n || s->eval)
			add_verdict(out, "text-empty", "the pair has no text");
		for (size_t i = 0; i < fail.n && !s->eval; i++)
			add_verdict(out, fail.v[i].reason, "%s", fail.v[i].detail);
	}
	if (!s->eval)
		judge_image(&r->image, s, out);
	if (!out->scores)
		out->scores = json_object();
	ret = 0;
out:
	wl_pairtext_release(&p);
	if (ret < 0)
		wl_outcome_release(out);
	return ret;
}

void wl_outcome_release(struct wl_outcome *o)
{
	json_decref(o->texts);
	json_decref(o->scores);
	memset(o, 0, sizeof(*o));
}
