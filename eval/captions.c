/* Tokens, sets and scores: see captions.h.  Reading is in captions_load.c. */
#include "eval/captions.h"
#include "clean/utf8.h"
#include "eval/metrics/meteor.h"
#include "eval/metrics/ptb.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>

enum { LINE_MAX_BYTES = 1 << 24 };

const char *const wl_caption_metric_names[WL_CAPTION_METRICS] = {
	"Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr", "METEOR_word"};

int wl_caption_level_parse(const char *name, enum wl_caption_level *level, struct wl_err *err)
{
	static const char *const names[] = {"word", "char", "aic", "ptb", "space"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i])) {
			*level = (enum wl_caption_level)i;
			return 0;
		}
	return wl_err_set(
		err, WL_EUSAGE, "--level %s is unknown: use word, char, aic, ptb or space", name);
}

/* --- tokens ------------------------------------------------------------------------- */

static int blank_before(struct wl_buf *out, size_t start, struct wl_err *err)
{
	return out->len > start ? wl_buf_putc(out, ' ', err) : 0;
}

static bool is_ascii_alnum(uint32_t c)
{
	return c < 0x80 && isalnum((int)c);
}

static bool is_sign(uint32_t c)
{
	int8_t type = u_charType((UChar32)c);

	return ((U_GC_P_MASK | U_GC_S_MASK | U_GC_Z_MASK | U_GC_C_MASK) >> type) & 1;
}

static int put_lower(struct wl_buf *out, const char *s, size_t n, struct wl_err *err)
{
	for (size_t i = 0; i < n; i++)
		WL_TRY(wl_buf_putc(
			out, (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] + 32 : s[i]), err));
	return 0;
}

static int char_tokens(const char *s, size_t n, struct wl_buf *out, struct wl_err *err)
{
	size_t start = out->len, at = 0;
	bool open = false;

	while (at < n) {
		size_t from = at;
		uint32_t c = wl_utf8_next(s, n, &at, NULL);
		bool ascii = is_ascii_alnum(c);

		if (is_sign(c)) {
			open = false;
			continue;
		}
		if (!ascii || !open)
			WL_TRY(blank_before(out, start, err));
		WL_TRY(put_lower(out, s + from, at - from, err));
		open = ascii;
	}
	return 0;
}

/* Words that hold a letter or a digit, in lower case. */
static int plain_words(const char *s, struct wl_buf *out, struct wl_err *err)
{
	size_t start = out->len;

	while (*s) {
		size_t n = strcspn(s, " "), at = 0;
		bool plain = false;

		while (at < n)
			plain |= !is_sign(wl_utf8_next(s, n, &at, NULL));
		if (plain) {
			WL_TRY(blank_before(out, start, err));
			WL_TRY(put_lower(out, s, n, err));
		}
		s += n + (s[n] == ' ');
	}
	return 0;
}

static int cut_words(const struct wl_cutter *cutter, const char *s, size_t n, struct wl_buf *out,
	struct wl_err *err)
{
	if (!cutter || !cutter->cut)
		return wl_err_set(
			err, WL_EUSAGE, "this level needs the word segmenter's dictionary");
	return cutter->cut(cutter->ctx, s, n, out, err);
}

/* strip() and every 。 deleted, as AI Challenger's evaluator does before it segments. */
static int aic_clean(const char *s, struct wl_buf *out, struct wl_err *err)
{
	static const char stop[] = "\xe3\x80\x82";
	size_t n;

	s += strspn(s, " \t\r\n\v\f");
	for (n = strlen(s); n && strchr(" \t\r\n\v\f", s[n - 1]); n--)
		;
	for (size_t i = 0; i < n;) {
		if (n - i >= 3 && !memcmp(s + i, stop, 3))
			i += 3;
		else
			WL_TRY(wl_buf_putc(out, s[i++], err));
	}
	return 0;
}

int wl_caption_tokens(const char *text, enum wl_caption_level level, bool is_cut,
	const struct wl_cutter *cutter, struct wl_buf *out, struct wl_err *err)
{
	struct wl_buf clean, words;
	size_t n = strlen(text);
	int ret = -1;

	if (level == WL_LEVEL_CHAR)
		return char_tokens(text, n, out, err);
	if (level == WL_LEVEL_SPACE)
		return wl_buf_add(out, text, n, err);
	if (level == WL_LEVEL_PTB || (level == WL_LEVEL_AIC && is_cut))
		return wl_ptb_tokens(text, n, out, err);
	wl_buf_init(&clean, LINE_MAX_BYTES);
	wl_buf_init(&words, LINE_MAX_BYTES);
	if (level == WL_LEVEL_AIC) {
		WL_TRY_OUT(aic_clean(text, &clean, err));
		WL_TRY_OUT(cut_words(cutter, wl_buf_str(&clean), clean.len, &words, err));
		ret = wl_ptb_tokens(wl_buf_str(&words), words.len, out, err);
	} else {
		/* Lower case before the cut, as ../shared's expected scores have it. */
		WL_TRY_OUT(put_lower(&clean, text, n, err));
		if (!is_cut)
			WL_TRY_OUT(cut_words(cutter, wl_buf_str(&clean), n, &words, err));
		ret = plain_words(is_cut ? text : wl_buf_str(&words), out, err);
	}
out:
	wl_buf_release(&clean);
	wl_buf_release(&words);
	return ret;
}

/* --- numbers ------------------------------------------------------------------------- */

/* The blanks-divided words of a line as numbers. */
static int number_line(struct wl_caption_set *s, struct wl_intern *t, const char *line,
	struct wl_caption *out, struct wl_err *err)
{
	size_t n = strlen(line), words = 0;
	uint32_t *id;

	for (size_t i = 0; i < n; i++)
		words += line[i] == ' ';
	id = wl_arena_calloc(&s->arena, words + 1, sizeof *id, err);
	if (!id)
		return -1;
	out->token = id;
	out->n = 0;
	for (size_t i = 0; i < n;) {
		size_t k = strcspn(line + i, " \t\r\n");

		if (k) {
			int64_t number = wl_intern_str(t, line + i, k, err);

			if (number < 0)
				return -1;
			WL_ASSERT(out->n <= words);
			id[out->n++] = (uint32_t)number;
		}
		i += k + 1;
	}
	return 0;
}

struct maker {
	struct wl_caption_set *set;
	const struct wl_caption_files *files;
	enum wl_caption_level level;
	const struct wl_cutter *cutter;
	struct wl_buf line, meteor;
};

static int make_caption(struct maker *m, const char *text, bool is_ref, struct wl_caption *out,
	struct wl_caption *meteor, struct wl_err *err)
{
	bool is_cut = is_ref && m->files->refs_segmented;

	wl_buf_reset(&m->line);
	wl_buf_reset(&m->meteor);
	WL_TRY(wl_caption_tokens(text, m->level, is_cut, m->cutter, &m->line, err));
	WL_TRY(number_line(m->set, &m->set->tokens, wl_buf_str(&m->line), out, err));
	WL_TRY(wl_meteor_normalize(wl_buf_str(&m->line), m->line.len, &m->meteor, err));
	return number_line(m->set, &m->set->meteor_tokens, wl_buf_str(&m->meteor), meteor, err);
}

static int make_image(struct maker *m, size_t i, struct wl_err *err)
{
	const struct wl_caption_image *from = &m->files->image[i];
	struct wl_captioned *im = &m->set->im[i], *mt = &m->set->meteor[i];
	struct wl_caption *refs = wl_arena_calloc(&m->set->arena, from->n_refs, sizeof *refs, err);
	struct wl_caption *mrefs = wl_arena_calloc(&m->set->arena, from->n_refs, sizeof *refs, err);

	if (!refs || !mrefs)
		return -1;
	WL_TRY(make_caption(m, from->hyp, false, &im->hyp, &mt->hyp, err));
	for (size_t r = 0; r < from->n_refs; r++)
		WL_TRY(make_caption(m, from->refs[r], true, &refs[r], &mrefs[r], err));
	im->refs = refs;
	mt->refs = mrefs;
	im->n_refs = mt->n_refs = from->n_refs;
	m->set->empty += im->hyp.n == 0;
	return 0;
}

static int mark_function_words(struct wl_caption_set *s, struct wl_err *err)
{
	const struct wl_intern *t = &s->meteor_tokens;

	s->function = calloc((size_t)t->n + 1, sizeof *s->function);
	if (!s->function)
		return wl_err_nomem(err, "function words", t->n);
	for (uint32_t i = 0; i < t->n; i++)
		s->function[i] = wl_meteor_is_function(t->name[i], t->len[i]);
	return 0;
}

int wl_caption_set_make(struct wl_caption_set *s, const struct wl_caption_files *f,
	enum wl_caption_level level, const struct wl_cutter *cutter, struct wl_err *err)
{
	struct maker m = {.set = s, .files = f, .level = level, .cutter = cutter};
	int ret = -1;

	*s = (struct wl_caption_set){.n = f->n};
	wl_buf_init(&m.line, LINE_MAX_BYTES);
	wl_buf_init(&m.meteor, LINE_MAX_BYTES);
	s->im = calloc(f->n + 1, sizeof *s->im);
	s->meteor = calloc(f->n + 1, sizeof *s->meteor);
	if (!s->im || !s->meteor) {
		wl_err_nomem(err, "captions", f->n * sizeof *s->im);
		goto out;
	}
	for (size_t i = 0; i < f->n; i++)
		if (make_image(&m, i, err) < 0) {
			wl_err_prefix(err, "image %.80s", f->image[i].id);
			goto out;
		}
	ret = mark_function_words(s, err);
out:
	wl_buf_release(&m.line);
	wl_buf_release(&m.meteor);
	if (ret)
		wl_caption_set_release(s);
	return ret;
}

void wl_caption_set_release(struct wl_caption_set *s)
{
	if (!s)
		return;
	wl_arena_release(&s->arena);
	wl_intern_release(&s->tokens);
	wl_intern_release(&s->meteor_tokens);
	free(s->im);
	free(s->meteor);
	free(s->function);
	*s = (struct wl_caption_set){0};
}

int wl_caption_score(const struct wl_caption_set *s, double corpus[WL_CAPTION_METRICS],
	double *per_image, struct wl_err *err)
{
	const struct wl_meteor_params english = wl_meteor_english();
	double *one = malloc((s->n * 8 + 1) * sizeof *one), *bleu = one ? one + 4 * s->n : NULL;
	int ret = -1;

	if (!one)
		return wl_err_nomem(err, "scores", s->n * 8 * sizeof *one);
	WL_TRY_OUT(wl_bleu_cider(s->im, s->n, corpus, bleu, &corpus[6], one + 2 * s->n, err));
	WL_TRY_OUT(wl_meteor(s->meteor, s->n, &english, s->function, &corpus[4], one, err));
	WL_TRY_OUT(wl_rouge_l(s->im, s->n, &corpus[5], one + s->n, err));
	WL_TRY_OUT(wl_meteor(s->im, s->n, &english, NULL, &corpus[7], one + 3 * s->n, err));
	for (size_t i = 0; per_image && i < s->n; i++) {
		memcpy(per_image + i * WL_CAPTION_METRICS, bleu + 4 * i, 4 * sizeof *bleu);
		for (size_t k = 0; k < 4; k++)
			per_image[i * WL_CAPTION_METRICS + 4 + k] = one[k * s->n + i];
	}
	ret = 0;
out:
	free(one);
	return ret;
}
