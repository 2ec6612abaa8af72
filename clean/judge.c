/* What the rules say of one pair. */
#include "clean/agreement.h"
#include "clean/rules_priv.h"

#include "clean/measure.h"
#include "clean/pairtext.h"
#include "clean/utf8.h"

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

enum { MIN_HAN = 6 }; /* fewer characters say nothing of how common they are */

struct judged {
	struct wl_buf norm;
	struct wl_text_facts facts;
	struct wl_measure m;
	size_t words; /* 0 when no rule counts them */
};

static double symbols_of(const struct wl_measure *m)
{
	return m->chars ? (double)(m->chars - m->letters) / (double)m->chars : 0;
}

static double chinese_of(const struct wl_measure *m)
{
	return m->letters ? (double)m->han / (double)m->letters : 0;
}

/* Words that have a letter or digit, as jieba cuts. */
static int count_words(const struct wl_rules *r, struct judged *j, struct wl_err *err)
{
	const char *s = wl_buf_str(&j->norm);
	struct wl_cuts cuts = {0};
	size_t at = 0;
	int ret;

	j->words = 0;
	if (!r->segment)
		return 0;
	ret = wl_segment_cut(r->segment, s, j->norm.len, 0, &cuts, err);
	for (size_t i = 0; ret == 0 && i < cuts.n; i++) {
		bool word = false;
		while (at < cuts.end[i]) {
			uint32_t f = wl_fold_at(r->fold, wl_utf8_next(s, cuts.end[i], &at, NULL));
			word |= f != WL_FOLD_SOFT && f != WL_FOLD_HARD;
		}
		j->words += word;
	}
	wl_cuts_release(&cuts);
	return ret;
}

static double foreign_of(const struct wl_measure *m)
{
	return m->letters ? (double)m->foreign / (double)m->letters : 0;
}

static double common_of(const struct wl_measure *m)
{
	return m->han ? (double)m->common / (double)m->han : 1;
}

/* In which script the text is written, and whether with words that people use. */
static void judge_language(const struct text_rules *t, const struct judged *j, struct wl_outcome *o)
{
	const struct wl_measure *m = &j->m;
	const char *s = wl_buf_str(&j->norm);

	if (m->letters && chinese_of(m) < t->min_chinese)
		add_verdict(o, "text-not-chinese", "%.0f %% Chinese, at least %.0f %%: %.120s",
			100 * chinese_of(m), 100 * t->min_chinese, s);
	if (m->letters && m->han < (size_t)t->min_han)
		add_verdict(o, "text-not-chinese",
			"%zu Chinese characters, at least %lld are asked for: %.120s", m->han,
			(long long)t->min_han, s);
	if (foreign_of(m) > t->max_foreign)
		add_verdict(o, "text-foreign",
			"%.0f %% letters of other languages, at most %.0f %%: %.120s",
			100 * foreign_of(m), 100 * t->max_foreign, s);
	if (m->han >= MIN_HAN && common_of(m) < t->min_common)
		add_verdict(o, "text-rare",
			"%.0f %% of its characters are in common use, at least %.0f %%: %.120s",
			100 * common_of(m), 100 * t->min_common, s);
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
	if (j->norm.len && j->words < (size_t)t->min_words)
		add_verdict(o, "text-short", "%zu words, at least %lld are asked for: %.120s",
			j->words, (long long)t->min_words, s);
	if (j->words > (size_t)t->max_words)
		add_verdict(o, "text-long", "%zu words, at most %lld are asked for: %.120s",
			j->words, (long long)t->max_words, s);
	if (m->chars > (size_t)t->max_chars)
		add_verdict(o, "text-long", "%zu characters, at most %lld are asked for: %.120s",
			m->chars, (long long)t->max_chars, s);
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

/* The kinds found whose policy is to drop: "2 mobile, 1 email". */
static void judge_personal(const struct text_rules *t, const struct judged *j, struct wl_outcome *o)
{
	char found[WL_DETAIL_MAX] = "";
	size_t n = 0;

	for (int k = 0; k < WL_PERSONAL_KINDS; k++)
		if (t->pii[k] == PII_DROP && j->facts.personal[k] && n < sizeof(found))
			n += (size_t)snprintf(found + n, sizeof(found) - n, "%s%d %s",
				n ? ", " : "", j->facts.personal[k], wl_personal_names[k]);
	if (n)
		add_verdict(o, "text-personal", "%s", found);
}

static void judge_content(const struct text_rules *t, const struct judged *j, struct wl_outcome *o)
{
	const char *s = wl_buf_str(&j->norm);

	if (t->garbled && j->m.garbled)
		add_verdict(o, "text-garbled", "decoded under a wrong charset: %.120s", s);
	if (t->file_names && wl_is_file_name(s, j->norm.len))
		add_verdict(o, "text-file-name", "the name of a file: %.120s", s);
	if (t->traditional == TRADITIONAL_DROP && j->facts.traditional)
		add_verdict(o, "text-traditional", "Traditional characters: %.120s", s);
	judge_personal(t, j, o);
}

/* ---- advertisements ---- */

enum { ADS_SEEN = 32 };

struct ads_seen {
	const struct wl_rules *r;
	double score;
	int32_t tags[ADS_SEEN];
	int n;
};

/* A phrase counts once. */
static bool count_ad(void *ctx, const struct wl_match *m)
{
	struct ads_seen *a = ctx;

	for (int i = 0; i < a->n; i++)
		if (a->tags[i] == m->tag)
			return true;
	a->score += a->r->ad_weights[m->tag];
	a->tags[a->n++] = m->tag;
	return a->n < ADS_SEEN;
}

/* The weights of the phrases, and one for each kind of contact that the text offers. */
static double ad_score(const struct wl_rules *r, const struct wl_caption *c, const struct judged *j)
{
	static const enum wl_personal contacts[] = {WL_MOBILE, WL_LANDLINE, WL_QQ, WL_WECHAT};
	struct ads_seen a = {.r = r};

	wl_words_scan(r->ads, c->text, c->len, 0, count_ad, &a);
	for (size_t i = 0; i < sizeof(contacts) / sizeof(*contacts); i++)
		a.score += j->facts.personal[contacts[i]] > 0;
	return a.score;
}

/* ---- sensitive words, over all texts ---- */

struct hits {
	const struct wl_rules *r;
	const char *text;
	struct wl_outcome *o;
};

static bool hit(void *ctx, const struct wl_match *m)
{
	struct hits *h = ctx;
	char reason[WL_REASON_MAX];

	snprintf(reason, sizeof(reason), "sensitive-%s", h->r->lists[m->tag].name);
	add_verdict(h->o, reason, "%.*s", (int)m->len, h->text + m->at);
	return h->o->n < WL_VERDICTS_MAX;
}

/* All words in the cleaned text; in the raw one those that need boundaries, for a domain is
 * looked for in the URLs that cleaning cuts. */
static void judge_words(const struct wl_rules *r, const struct wl_caption *c,
	const struct judged *j, struct wl_outcome *o)
{
	struct hits h = {r, wl_buf_str(&j->norm), o};

	wl_words_scan(r->words, h.text, j->norm.len, 0, hit, &h);
	h.text = c->text;
	if (c->len != j->norm.len || memcmp(c->text, wl_buf_str(&j->norm), c->len) != 0)
		wl_words_scan(r->words, h.text, c->len, WL_WORDS_SPACED, hit, &h);
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

static void judge_picture(
	const struct image_rules *im, const struct wl_picture *p, struct wl_outcome *o)
{
	if (p->sharpness < im->min_sharpness)
		add_verdict(o, "image-blurred",
			"its Laplacian varies by %.0f, at least %.0f is asked for", p->sharpness,
			im->min_sharpness);
	if (p->entropy < im->min_entropy)
		add_verdict(o, "image-plain",
			"its grey values hold %.2f bits, at least %.2f are asked for", p->entropy,
			im->min_entropy);
	if (p->text > im->max_text)
		add_verdict(o, "image-text",
			"%.0f %% of what is in it looks written, at most %.0f %%", 100 * p->text,
			100 * im->max_text);
	if (p->qr > im->max_qr)
		add_verdict(o, "image-qr", "a QR code takes %.0f %% of it, at most %.0f %%",
			100 * p->qr, 100 * im->max_qr);
}

static int note_picture(const struct wl_picture *p, json_t *scores, struct wl_err *err)
{
	json_t *o = json_pack("{s:f, s:f, s:f, s:f}", "sharpness", p->sharpness, "entropy",
		p->entropy, "text", p->text, "qr", p->qr);

	if (!o || json_object_set_new(scores, "picture", o) < 0)
		return wl_err_nomem(err, "a pair's scores", 0);
	return 0;
}

/* ---- the pair ---- */

static json_t *numbers_of(const int *v, const char *const *names, int n)
{
	json_t *o = json_object();

	for (int i = 0; i < n; i++)
		if (v[i] && json_object_set_new(o, names[i], json_integer(v[i])) < 0) {
			json_decref(o);
			return NULL;
		}
	return o;
}

static json_t *scores_of(const struct judged *j, double ad)
{
	const struct wl_measure *m = &j->m;
	json_t *cut = numbers_of(j->facts.cut, wl_cut_names, WL_CUTS);
	json_t *personal = numbers_of(j->facts.personal, wl_personal_names, WL_PERSONAL_KINDS);
	json_t *o = NULL;

	if (cut && personal)
		o = json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:O, s:O}", "chars",
			(json_int_t)m->chars, "letters", (json_int_t)m->letters, "chinese",
			chinese_of(m), "foreign", foreign_of(m), "common", common_of(m), "symbols",
			symbols_of(m), "repeat", m->repeat, "ad", ad, "traditional",
			j->facts.traditional, "cut", cut, "personal", personal);
	json_decref(cut);
	json_decref(personal);
	return o;
}

/* What is to be done with the texts of this source. */
static struct wl_text_work work_of(const struct source_rules *rules, const char *source)
{
	struct wl_text_work w = {
		.style = rules->has_style ? rules->style : wl_text_style_of(source),
		.look = WL_PERSONAL_ALL,
		.keep_traditional = rules->text.traditional != TRADITIONAL_CONVERT};

	for (int k = 0; k < WL_PERSONAL_KINDS; k++)
		if (rules->text.pii[k] != PII_KEEP)
			w.mask |= WL_PERSONAL_BIT(k);
	return w;
}

/* One text of a pair on its way through the rules. */
struct text_job {
	const struct wl_rules *r;
	const struct wl_subject *s;
	const struct source_rules *rules;
	struct wl_text_work work;
	struct wl_outcome *out, *fail;
};

/* Cleans and judges a text; appends it to out->texts when it may stay. */
static int judge_text(
	const struct text_job *t, const struct wl_caption *c, bool first, struct wl_err *err)
{
	struct wl_outcome one = {0};
	struct judged j;
	double ad = 0;
	int ret = -1;

	wl_buf_init(&j.norm, 4 * (size_t)WL_TEXT_MAX_BYTES);
	WL_TRY_OUT(wl_text_clean(t->r->tx, &t->work, c->text, c->len, &j.norm, &j.facts, err));
	WL_TRY_OUT(wl_measure(t->r->tx, wl_buf_str(&j.norm), j.norm.len, &j.m, err));
	WL_TRY_OUT(count_words(t->r, &j, err));
	judge_form(&t->rules->text, &j, &one);
	judge_language(&t->rules->text, &j, &one);
	judge_content(&t->rules->text, &j, &one);
	if (wl_words_count(t->r->ads))
		ad = ad_score(t->r, c, &j);
	if (ad > t->rules->text.max_ad)
		add_verdict(&one, "text-ad", "advertises with a score of %g, at most %g: %.120s",
			ad, t->rules->text.max_ad, wl_buf_str(&j.norm));
	if (!t->s->eval)
		judge_words(t->r, c, &j, t->out);
	if (first) {
		*t->fail = one;
		t->out->scores = scores_of(&j, ad);
		if (!t->out->scores) {
			wl_err_nomem(err, "a pair's scores", 0);
			goto out;
		}
	}
	ret = 0;
	if (j.norm.len && (one.n == 0 || t->s->eval)) {
		json_t *pair = json_pack("[s, s%]", c->kind, j.norm.data, j.norm.len);
		if (!pair || json_array_append_new(t->out->texts, pair) < 0)
			ret = wl_err_nomem(err, "a pair's texts", j.norm.len);
	}
out:
	wl_buf_release(&j.norm);
	return ret;
}

/* ---- agreement of picture and text ---- */

static int judge_agreement(const struct wl_rules *r, const struct wl_subject *s,
	struct wl_outcome *o, struct wl_err *err)
{
	struct wl_agreement a = wl_agreement_of(r, s->source, s->id);

	if (a.missed && !s->eval)
		add_verdict(o, "agreement-missing", "the scores do not name this pair");
	if (!a.known)
		return 0;
	if (json_object_set_new(o->scores, "agreement", json_real(a.score)) < 0)
		return wl_err_nomem(err, "a pair's scores", 0);
	if (s->eval)
		return 0;
	if (a.score < a.least)
		add_verdict(o, "agreement-low", "picture and text agree to %g, at least %g",
			a.score, a.least);
	if (a.score > a.most)
		add_verdict(o, "agreement-high", "picture and text agree to %g, at most %g",
			a.score, a.most);
	return 0;
}

/* ---- topics ---- */

/* Topic and category of the texts that stay, for the shards; a verdict when they are unwanted. */
static int judge_topics(const struct wl_rules *r, const struct wl_subject *s, struct wl_outcome *o,
	struct wl_err *err)
{
	struct wl_topic_of t;
	json_t *note;

	o->topic = -1;
	if (!r->topics.topics)
		return 0;
	WL_TRY(wl_topics_of(r->topics.topics, s->source, o->texts, &t, err));
	if (t.topic < 0)
		return 0;
	o->topic = t.topic;
	o->category = t.category;
	note = json_pack(
		"{s:i, s:f, s:f}", "topic", t.topic, "share", t.share, "unwanted", t.unwanted);
	if (!note || json_object_set_new(o->scores, "topic", note) < 0)
		return wl_err_nomem(err, "a pair's scores", 0);
	if (!s->eval && t.unwanted > r->topics.max_unwanted)
		add_verdict(o, "topic-unwanted",
			"%.0f %% of it is of unwanted topics, at most %.0f %%; topic %d: %.120s",
			100 * t.unwanted, 100 * r->topics.max_unwanted, t.topic,
			t.words ? t.words : "");
	return 0;
}

int wl_rules_judge(const struct wl_rules *r, const struct wl_subject *s, struct wl_outcome *out,
	struct wl_err *err)
{
	const struct source_rules *rules = wl_rules_of_source(r, s->source);
	struct wl_outcome fail = {0};
	struct text_job job = {r, s, rules, work_of(rules, s->source), out, &fail};
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
		WL_TRY_OUT(judge_text(&job, &p.v[i], i == 0, err));
	if (!json_array_size(out->texts)) {
		if (!p.n || s->eval)
			add_verdict(out, "text-empty", "the pair has no text");
		for (size_t i = 0; i < fail.n && !s->eval; i++)
			add_verdict(out, fail.v[i].reason, "%s", fail.v[i].detail);
	}
	if (!s->eval)
		judge_image(&rules->image, s, out);
	if (!out->scores)
		out->scores = json_object();
	if (s->picture) {
		judge_picture(&rules->image, s->picture, out);
		WL_TRY_OUT(note_picture(s->picture, out->scores, err));
	}
	WL_TRY_OUT(judge_agreement(r, s, out, err));
	ret = judge_topics(r, s, out, err);
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
