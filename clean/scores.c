/* See scores.h: an array sorted by pair, and one of the scores alone for quantiles. */
#include "clean/scores.h"

#include "ops/grow.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

struct entry {
	int64_t id;
	double score;
};

struct wl_scores {
	struct entry *v; /* by id */
	double *sorted;
	size_t n, cap;
	char hash[WL_SHA256_HEX];
};

/* "00001-123" or "123" exactly; false for anything else. */
static bool parse_pair(const char *s, size_t n, int64_t *id)
{
	char text[40], *end, *digits = text;

	while (n && (*s == ' ' || *s == '"'))
		s++, n--;
	while (n && (s[n - 1] == ' ' || s[n - 1] == '"'))
		n--;
	if (!n || n >= sizeof(text))
		return false;
	memcpy(text, s, n);
	text[n] = 0;
	if (strspn(text, "0123456789") == 5 && text[5] == '-')
		digits = text + 6;
	if (*digits < '0' || *digits > '9')
		return false;
	errno = 0;
	*id = strtoll(digits, &end, 10);
	return !*end && errno == 0;
}

static bool parse_score(const char *s, double *score)
{
	char *end;

	*score = strtod(s, &end);
	while (*end == ' ' || *end == '\r' || *end == '"')
		end++;
	return end != s && !*end && isfinite(*score);
}

static bool parse_json(const char *line, struct entry *e)
{
	json_t *o = json_loads(line, 0, NULL), *pair = json_object_get(o, "pair_id");
	const json_t *score = json_object_get(o, "score");
	bool ok;

	if (!pair)
		pair = json_object_get(o, "name");
	ok = json_is_number(score) && isfinite(json_number_value(score));
	if (json_is_integer(pair))
		e->id = json_integer_value(pair);
	else
		ok = ok && json_is_string(pair) &&
		     parse_pair(json_string_value(pair), json_string_length(pair), &e->id);
	e->score = json_number_value(score);
	json_decref(o);
	return ok;
}

/* 1 an entry, 0 the line of names, -1 neither. */
static int parse_line(char *line, bool first, struct entry *e)
{
	char *cut;
	bool pair;

	if (*line == '{')
		return parse_json(line, e) ? 1 : -1;
	cut = strpbrk(line, "\t,");
	if (!cut)
		return -1;
	*cut = 0;
	pair = parse_pair(line, (size_t)(cut - line), &e->id);
	if (parse_score(cut + 1, &e->score))
		return pair ? 1 : -1;
	return first && !pair && (*line < '0' || *line > '9') ? 0 : -1;
}

static int push(struct wl_scores *s, const struct entry *e, struct wl_err *err)
{
	WL_TRY(WL_GROW(s->v, s->n, s->cap, "scores", err));
	s->v[s->n++] = *e;
	return 0;
}

static int read_lines(struct wl_scores *s, FILE *f, const char *path, struct wl_err *err)
{
	char *line = NULL;
	size_t cap = 0, no = 0;
	bool first = true; /* of the lines that say something */
	ssize_t len;
	int ret = -1;

	while ((len = getline(&line, &cap, f)) >= 0) {
		struct entry e;
		int got;
		no++;
		while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
			line[--len] = 0;
		if (!len || *line == '#')
			continue;
		got = parse_line(line, first, &e);
		first = false;
		if (got < 0) {
			wl_err_set(err, WL_EDATA,
				"%s, line %zu: expected PAIR,SCORE or {\"pair_id\": .., "
				"\"score\": ..} with a finite score, found \"%.60s\".",
				path, no, line);
			goto out;
		}
		if (got && push(s, &e, err) < 0)
			goto out;
	}
	if (ferror(f))
		wl_err_errno(err, "%s cannot be read to its end", path);
	else
		ret = 0;
out:
	free(line);
	return ret;
}

static int by_id(const void *p, const void *q)
{
	const struct entry *a = p, *b = q;

	return a->id != b->id ? (a->id < b->id ? -1 : 1)
			      : (a->score > b->score) - (a->score < b->score);
}

static int by_score(const void *p, const void *q)
{
	double a = *(const double *)p, b = *(const double *)q;

	return (a > b) - (a < b);
}

/* Sorts, and drops lines that say the same again. */
static int settle(struct wl_scores *s, const char *path, struct wl_err *err)
{
	size_t n = 0;

	if (!s->n)
		return wl_err_set(
			err, WL_EDATA, "%s has no scores; expected lines of PAIR,SCORE.", path);
	qsort(s->v, s->n, sizeof(*s->v), by_id);
	for (size_t i = 0; i < s->n; i++) {
		if (n && s->v[n - 1].id == s->v[i].id && s->v[n - 1].score == s->v[i].score)
			continue;
		if (n && s->v[n - 1].id == s->v[i].id)
			return wl_err_set(err, WL_EDATA,
				"%s gives pair %lld two scores, %g and %g; remove one of them.",
				path, (long long)s->v[i].id, s->v[n - 1].score, s->v[i].score);
		s->v[n++] = s->v[i];
	}
	s->n = n;
	s->sorted = malloc(n * sizeof(*s->sorted));
	if (!s->sorted)
		return wl_err_nomem(err, "scores", n * sizeof(*s->sorted));
	for (size_t i = 0; i < n; i++)
		s->sorted[i] = s->v[i].score;
	qsort(s->sorted, n, sizeof(*s->sorted), by_score);
	return 0;
}

struct wl_scores *wl_scores_load(const char *path, struct wl_err *err)
{
	struct wl_scores *s = calloc(1, sizeof(*s));
	FILE *f = s ? fopen(path, "re") : NULL;
	uint8_t digest[WL_SHA256_BYTES];
	int ret = -1;

	if (!s)
		wl_err_nomem(err, "scores", sizeof(*s));
	else if (!f)
		wl_err_errno(err, "The scores %s cannot be opened", path);
	else if (read_lines(s, f, path, err) == 0 && settle(s, path, err) == 0) {
		wl_sha256(s->v, s->n * sizeof(*s->v), digest);
		ret = 0;
	}
	if (f)
		fclose(f);
	if (ret == 0) {
		wl_hex(digest, sizeof(digest), s->hash);
		return s;
	}
	wl_scores_free(s);
	return NULL;
}

void wl_scores_free(struct wl_scores *s)
{
	if (!s)
		return;
	free(s->v);
	free(s->sorted);
	free(s);
}

size_t wl_scores_count(const struct wl_scores *s)
{
	return s->n;
}

const char *wl_scores_hash(const struct wl_scores *s)
{
	return s->hash;
}

bool wl_scores_get(const struct wl_scores *s, int64_t id, double *score)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (s->v[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == s->n || s->v[lo].id != id)
		return false;
	*score = s->v[lo].score;
	return true;
}

double wl_quantile(const double *sorted, size_t n, double q)
{
	size_t k = (size_t)(q * (double)n);

	return sorted[k < n ? k : n - 1];
}

double wl_scores_quantile(const struct wl_scores *s, double q)
{
	return wl_quantile(s->sorted, s->n, q);
}
