/*
 * jieba's hidden Markov model over the states Begin, End, Middle of a word and Single: its tables,
 * which are Python files that hold one dictionary of numbers, and its Viterbi search.
 */
#include "clean/segment_priv.h"

#include "clean/utf8.h"

#include <stdlib.h>
#include <string.h>

/* finalseg's MIN_FLOAT: what has never been seen. */
static const double never = -3.14e100;

/* ---- a Python dictionary of numbers, as data ---- */

struct py {
	const char *s; /* ends with a 0 byte */
	size_t n, at;
	const char *what;
};

static int bad(const struct py *p, const char *expected, struct wl_err *err)
{
	size_t line = 1;

	for (size_t i = 0; i < p->at && i < p->n; i++)
		line += p->s[i] == '\n';
	return wl_err_set(err, WL_EDATA, "%s, line %zu: expected %s; is this jieba's table?",
		p->what, line, expected);
}

static char peek(struct py *p)
{
	while (p->at < p->n && strchr(" \t\r\n", p->s[p->at]))
		p->at++;
	return p->at < p->n ? p->s[p->at] : 0;
}

static int expect(struct py *p, char c, struct wl_err *err)
{
	const char what[] = {'"', c, '"', 0};

	if (peek(p) != c)
		return bad(p, what, err);
	p->at++;
	return 0;
}

/* A key of one character, 'B' or '\u4e00' or the character itself. */
static int key(struct py *p, uint32_t *c, struct wl_err *err)
{
	bool ok = true;

	WL_TRY(expect(p, '\'', err));
	if (p->n - p->at >= 6 && memcmp(p->s + p->at, "\\u", 2) == 0) {
		char hex[5] = {0}, *end;
		memcpy(hex, p->s + p->at + 2, 4);
		*c = (uint32_t)strtoul(hex, &end, 16);
		ok = end == hex + 4;
		p->at += 6;
	} else if (p->at < p->n) {
		*c = wl_utf8_next(p->s, p->n, &p->at, &ok);
	}
	if (!ok || p->at >= p->n || p->s[p->at] != '\'')
		return bad(p, "a character in quotes", err);
	p->at++;
	return expect(p, ':', err);
}

static int number(struct py *p, double *v, struct wl_err *err)
{
	char *end;

	peek(p);
	*v = strtod(p->s + p->at, &end);
	if (end == p->s + p->at)
		return bad(p, "a number", err);
	p->at = (size_t)(end - p->s);
	return 0;
}

/* Behind an entry: 1 when another follows, 0 at the closing brace. */
static int more(struct py *p, struct wl_err *err)
{
	if (peek(p) == ',')
		p->at++;
	if (peek(p) != '}')
		return peek(p) == '\'' ? 1 : bad(p, "a key or \"}\"", err);
	p->at++;
	return 0;
}

static int state_of(struct py *p, int *state, struct wl_err *err)
{
	static const char names[] = "BEMS"; /* in this order a larger number is a larger letter */
	uint32_t c;

	WL_TRY(key(p, &c, err));
	if (c > 0x7f || !c || !strchr(names, (char)c))
		return bad(p, "the state B, E, M or S", err);
	*state = (int)(strchr(names, (char)c) - names);
	return 0;
}

/* {character: number, ...} into the table's column. */
static int read_emit(struct hmm *h, int state, struct py *p, struct wl_err *err)
{
	int ret = 1;
	uint32_t c;
	double v;

	WL_TRY(expect(p, '{', err));
	while (ret) {
		WL_TRY(key(p, &c, err));
		WL_TRY(number(p, &v, err));
		if (seg_is_han(c))
			h->emit[c - 0x4e00][state] = v;
		WL_TRY(ret = more(p, err));
	}
	return 0;
}

static int read_trans(struct hmm *h, int state, struct py *p, struct wl_err *err)
{
	int to = 0, ret = 1;

	WL_TRY(expect(p, '{', err));
	while (ret) {
		WL_TRY(state_of(p, &to, err));
		WL_TRY(number(p, &h->trans[state][to], err));
		WL_TRY(ret = more(p, err));
	}
	return 0;
}

static int prepare(struct hmm *h, const char *which, struct wl_err *err)
{
	for (int i = 0; i < HMM_STATES; i++) {
		if (*which == 's')
			h->start[i] = never;
		for (int j = 0; *which == 't' && j < HMM_STATES; j++)
			h->trans[i][j] = never;
	}
	if (*which != 'e')
		return 0;
	h->emit = malloc(HMM_CHARS * sizeof(*h->emit));
	if (!h->emit)
		return wl_err_nomem(err, "the segmentation model", HMM_CHARS * sizeof(*h->emit));
	for (int i = 0; i < HMM_CHARS; i++)
		for (int j = 0; j < HMM_STATES; j++)
			h->emit[i][j] = never;
	return 0;
}

int hmm_read(struct hmm *h, const char *which, const struct wl_buf *text, const char *what,
	struct wl_err *err)
{
	struct py p = {.s = wl_buf_str(text), .n = text->len, .what = what};
	const char *start = strstr(p.s, "P={");
	int state = 0, ret = 1;

	WL_TRY(prepare(h, which, err));
	if (!start)
		return bad(&p, "\"P={\"", err);
	p.at = (size_t)(start - p.s) + 3;
	while (ret) {
		WL_TRY(state_of(&p, &state, err));
		if (*which == 's')
			WL_TRY(number(&p, &h->start[state], err));
		else if (*which == 't')
			WL_TRY(read_trans(h, state, &p, err));
		else
			WL_TRY(read_emit(h, state, &p, err));
		WL_TRY(ret = more(&p, err));
	}
	return 0;
}

void hmm_release(struct hmm *h)
{
	free(h->emit);
	h->emit = NULL;
}

/* ---- Viterbi ---- */

/* Which two states may stand before each (finalseg's PrevStatus); of equal sums the larger letter
 * wins, as in Python's max over (sum, letter). */
static const uint8_t before[HMM_STATES][2] = {
	[HMM_B] = {HMM_E, HMM_S},
	[HMM_E] = {HMM_B, HMM_M},
	[HMM_M] = {HMM_B, HMM_M},
	[HMM_S] = {HMM_E, HMM_S},
};

void hmm_states(const struct hmm *h, const uint32_t *c, size_t n, uint8_t *from, uint8_t *state)
{
	double v[HMM_STATES], w[HMM_STATES];
	const double *em = h->emit[c[0] - 0x4e00];
	uint8_t s;

	for (int y = 0; y < HMM_STATES; y++)
		v[y] = h->start[y] + em[y];
	for (size_t t = 1; t < n; t++) {
		uint8_t back = 0;
		em = h->emit[c[t] - 0x4e00];
		for (int y = 0; y < HMM_STATES; y++) {
			double a = v[before[y][0]] + h->trans[before[y][0]][y] + em[y];
			double b = v[before[y][1]] + h->trans[before[y][1]][y] + em[y];
			back |= (uint8_t)((b >= a) << y);
			w[y] = b >= a ? b : a;
		}
		from[t] = back;
		memcpy(v, w, sizeof(v));
	}
	s = v[HMM_S] >= v[HMM_E] ? HMM_S : HMM_E;
	for (size_t t = n; t-- > 0;) {
		state[t] = s;
		if (t)
			s = before[s][from[t] >> s & 1];
	}
}
