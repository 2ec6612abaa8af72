/* TREC's qrels and run files: see rankfile.h. */
#include "eval/metrics/intern.h"
#include "eval/rankfile.h"
#include "ops/file.h"
#include "ops/hash.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A line of either file; doc points into its text. */
struct entry {
	const char *doc;
	uint32_t hash, query;
	int32_t grade;
	float score;
};

struct trec_file {
	const char *path;
	struct entry *v;
	size_t n;
	size_t *first; /* [queries + 1]: v is grouped by query */
};

/* A judged document of the query at hand; stamp: query + 1, and whether the run had it. */
struct judged {
	const char *doc;
	uint32_t hash, stamp;
	int32_t grade;
	bool ranked;
};

struct trec {
	struct wl_intern queries;
	const char *last; /* the query of the line before, which mostly is this one's too */
	uint32_t last_query;
	struct trec_file qrels, run;
	struct judged *slot; /* [slots], a power of two */
	size_t slots;
};

/* The next field of a line: [*p, end of field), *p past it; false at the end. */
static bool field(char **p, char **start, size_t *n)
{
	char *s = *p;

	while (*s == ' ' || *s == '\t' || *s == '\r')
		s++;
	*start = s;
	while (*s && *s != ' ' && *s != '\t' && *s != '\r')
		s++;
	*n = (size_t)(s - *start);
	*p = s;
	return *n > 0;
}

static int bad_line(const struct trec_file *f, size_t line, const char *what, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA, "%s, line %zu: %s", f->path, line, what);
}

/* A number in plain decimal of up to 15 digits is a division of two exact doubles, hence rounded
 * as strtod rounds (Clinger 1990); all else is strtod's. */
static bool take_score(const char *s, size_t n, double *out)
{
	static const double power[] = {
		1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
	size_t digits = 0, fraction = 0, i = n && s[0] == '-';
	int64_t v = 0;
	bool dot = false;
	char *end;

	for (; i < n && digits < 16; i++) {
		if (s[i] >= '0' && s[i] <= '9') {
			v = 10 * v + (s[i] - '0');
			digits++;
			fraction += dot;
		} else if (s[i] == '.' && !dot) {
			dot = true;
		} else {
			break;
		}
	}
	if (i == n && digits && digits < 16) {
		*out = (double)(s[0] == '-' ? -v : v) / power[fraction];
		return true;
	}
	*out = strtod(s, &end);
	return end == s + n && isfinite(*out);
}

static int take_query(struct trec *t, const char *s, size_t n, uint32_t *out, struct wl_err *err)
{
	if (!t->last || strlen(t->last) != n || memcmp(t->last, s, n)) {
		int64_t q = wl_intern_str(&t->queries, s, n, err);

		if (q < 0)
			return -1;
		t->last_query = (uint32_t)q;
		t->last = t->queries.name[q];
	}
	*out = t->last_query;
	return 0;
}

static uint32_t hash_of(const char *s, size_t n)
{
	return (uint32_t)(wl_hash64(s, n, 0) >> 32);
}

static int parse_line(
	struct trec *t, struct trec_file *f, char *s, size_t line, bool is_run, struct wl_err *err)
{
	struct entry *e = &f->v[f->n];
	char *w[6], *end;
	size_t len[6];
	int want = is_run ? 6 : 4, n = 0;

	while (n < want && field(&s, &w[n], &len[n]))
		n++;
	if (n < want - is_run) /* the run's tag may be missing */
		return bad_line(f, line,
			is_run ? "'query Q0 document rank score tag' is expected"
			       : "'query 0 document grade' is expected",
			err);
	*e = (struct entry){.doc = w[2], .hash = hash_of(w[2], len[2])};
	WL_TRY(take_query(t, w[0], len[0], &e->query, err));
	w[2][len[2]] = 0;
	errno = 0;
	if (is_run) {
		double v;

		w[4][len[4]] = 0;
		if (!take_score(w[4], len[4], &v))
			return bad_line(f, line, "the score is not a finite number", err);
		e->score = (float)v;
	} else {
		long v = strtol(w[3], &end, 10);

		if (end != w[3] + len[3] || errno || v > 500 || v < -500)
			return bad_line(f, line, "the grade is not a whole number up to 500", err);
		e->grade = (int32_t)v;
	}
	f->n++;
	return 0;
}

static int parse_file(
	struct trec *t, struct trec_file *f, char *text, bool is_run, struct wl_err *err)
{
	size_t lines = 1, line = 0;

	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	f->v = malloc(lines * sizeof *f->v);
	if (!f->v)
		return wl_err_nomem(err, f->path, lines * sizeof *f->v);
	for (char *end; *text; text = end) {
		end = strchr(text, '\n');
		if (end)
			*end++ = 0;
		else
			end = text + strlen(text);
		line++;
		if (text[strspn(text, " \t\r")])
			WL_TRY(parse_line(t, f, text, line, is_run, err));
	}
	return f->n ? 0 : wl_err_set(err, WL_EDATA, "%s is empty; a line for each judged "
		"or ranked document is expected", f->path);
}

/* Groups v by query, in the order of the file within each. */
static int group(struct trec *t, struct trec_file *f, struct wl_err *err)
{
	struct entry *sorted = malloc((f->n + 1) * sizeof *sorted);
	size_t *at = calloc((size_t)t->queries.n + 2, sizeof *at);

	f->first = calloc((size_t)t->queries.n + 2, sizeof *f->first);
	if (!sorted || !at || !f->first) {
		free(sorted);
		free(at);
		return wl_err_nomem(err, f->path, f->n * sizeof *sorted);
	}
	for (size_t i = 0; i < f->n; i++)
		f->first[f->v[i].query + 1]++;
	for (uint32_t q = 0; q < t->queries.n; q++)
		f->first[q + 1] += f->first[q];
	memcpy(at, f->first, ((size_t)t->queries.n + 1) * sizeof *at);
	for (size_t i = 0; i < f->n; i++)
		sorted[at[f->v[i].query]++] = f->v[i];
	free(f->v);
	free(at);
	f->v = sorted;
	return 0;
}

/* Queries that only one file has: counted, the first three named. */
static int check_queries(const struct trec *t, bool allow_missing, struct wl_err *err)
{
	char names[2][200] = {"", ""};
	int64_t n[2] = {0, 0};

	for (uint32_t q = 0; q < t->queries.n; q++) {
		bool judged = t->qrels.first[q + 1] > t->qrels.first[q];
		bool ranked = t->run.first[q + 1] > t->run.first[q];
		size_t len = strlen(names[judged]);

		if (judged == ranked)
			continue;
		if (n[judged]++ < 3)
			snprintf(names[judged] + len, sizeof *names - len, "%s%.60s",
				len ? ", " : "", t->queries.name[q]);
	}
	if (allow_missing || !(n[0] + n[1]))
		return 0;
	return wl_err_set(err, WL_EDATA,
		"%s and %s differ: %lld queries are not judged (%s) and %lld have no results (%s);"
		" --allow-missing leaves them out, as trec_eval does",
		t->qrels.path, t->run.path, (long long)n[0], names[0], (long long)n[1], names[1]);
}

struct scored {
	float score;
	int32_t grade;
	const char *name;
};

/* Higher scores first, then larger names (trec_eval, form_res_rels.c). */
static int by_score(const void *a, const void *b)
{
	const struct scored *x = a, *y = b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return strcmp(y->name, x->name);
}

static int descending(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return (x < y) - (x > y);
}

static int twice(
	const struct trec *t, const struct trec_file *f, const struct entry *e, struct wl_err *err)
{
	return wl_err_set(err, WL_EDATA, "%s: the query %.80s has the document %.80s twice",
		f->path, t->queries.name[e->query], e->doc);
}

/* The slot of a document of this query: its own (stamp is set), or the free one where it goes. */
static struct judged *find(struct trec *t, const struct entry *e)
{
	size_t k = e->hash & (t->slots - 1);

	while (t->slot[k].stamp == e->query + 1 &&
		(t->slot[k].hash != e->hash || strcmp(t->slot[k].doc, e->doc)))
		k = (k + 1) & (t->slots - 1);
	return &t->slot[k];
}

static struct judged *add(struct trec *t, const struct entry *e)
{
	struct judged *j = find(t, e);

	if (j->stamp == e->query + 1)
		return NULL;
	*j = (struct judged){e->doc, e->hash, e->query + 1, e->grade, false};
	return j;
}

static int judge(struct trec *t, struct wl_rankings *r, struct wl_ranked *q, uint32_t query,
	struct wl_err *err)
{
	const struct entry *e = t->qrels.v + t->qrels.first[query];

	q->n_ideal = t->qrels.first[query + 1] - t->qrels.first[query];
	q->ideal = wl_arena_calloc(&r->arena, q->n_ideal, sizeof *q->ideal, err);
	if (!q->ideal)
		return -1;
	for (size_t i = 0; i < q->n_ideal; i++) {
		if (!add(t, &e[i]))
			return twice(t, &t->qrels, &e[i], err);
		q->ideal[i] = e[i].grade;
	}
	qsort(q->ideal, q->n_ideal, sizeof *q->ideal, descending);
	return 0;
}

/* The query's results in order, judged documents with their grades, all others with 0. */
static int rank(struct trec *t, struct wl_rankings *r, uint32_t query, struct scored *room,
	struct wl_err *err)
{
	const struct entry *e = t->run.v + t->run.first[query];
	struct wl_ranked *q = wl_rankings_add(r, t->queries.name[query], err);

	if (!q || judge(t, r, q, query, err) < 0)
		return -1;
	q->n = t->run.first[query + 1] - t->run.first[query];
	q->grade = wl_arena_calloc(&r->arena, q->n, sizeof *q->grade, err);
	if (!q->grade)
		return -1;
	for (size_t i = 0; i < q->n; i++) {
		struct judged *j = find(t, &e[i]);

		if (j->stamp != query + 1)
			j = add(t, &e[i]); /* not judged: its grade is 0 */
		else if (j->ranked)
			return twice(t, &t->run, &e[i], err);
		j->ranked = true;
		room[i] = (struct scored){e[i].score, j->grade, e[i].doc};
	}
	qsort(room, q->n, sizeof *room, by_score);
	for (size_t i = 0; i < q->n; i++)
		q->grade[i] = room[i].grade;
	return 0;
}

/* Room for the documents of the largest query, at most half full. */
static int reserve(struct trec *t, struct wl_err *err)
{
	size_t most = 0;

	for (uint32_t q = 0; q < t->queries.n; q++) {
		size_t n = t->qrels.first[q + 1] - t->qrels.first[q] + t->run.first[q + 1] -
			   t->run.first[q];

		most = n > most ? n : most;
	}
	for (t->slots = 64; t->slots < 2 * most + 2;)
		t->slots *= 2;
	t->slot = calloc(t->slots, sizeof *t->slot);
	return t->slot ? 0 : wl_err_nomem(err, "documents", t->slots * sizeof *t->slot);
}

static int join(struct trec *t, struct wl_rankings *r, struct wl_err *err)
{
	struct scored *room = malloc((t->run.n + 1) * sizeof *room);
	int ret = -1;

	if (!room) {
		wl_err_nomem(err, "documents", t->run.n * sizeof *room);
		goto out;
	}
	WL_TRY_OUT(reserve(t, err));
	for (uint32_t q = 0; q < t->queries.n; q++)
		if (t->qrels.first[q + 1] > t->qrels.first[q] &&
			t->run.first[q + 1] > t->run.first[q])
			WL_TRY_OUT(rank(t, r, q, room, err));
	ret = r->n ? 0
		   : wl_err_set(err, WL_EDATA, "%s and %s have no query in common", t->qrels.path,
			     t->run.path);
out:
	free(room);
	return ret;
}

int wl_rankings_parse_trec(struct wl_rankings *r, char *qrels, char *run, const char *qrels_path,
	const char *run_path, bool allow_missing, struct wl_err *err)
{
	struct trec t = {.qrels.path = qrels_path, .run.path = run_path};
	int ret = -1;

	*r = (struct wl_rankings){0};
	WL_TRY_OUT(parse_file(&t, &t.qrels, qrels, false, err));
	WL_TRY_OUT(parse_file(&t, &t.run, run, true, err));
	WL_TRY_OUT(group(&t, &t.qrels, err));
	WL_TRY_OUT(group(&t, &t.run, err));
	WL_TRY_OUT(check_queries(&t, allow_missing, err));
	ret = join(&t, r, err);
out:
	wl_intern_release(&t.queries);
	free(t.qrels.v);
	free(t.qrels.first);
	free(t.run.v);
	free(t.run.first);
	free(t.slot);
	if (ret)
		wl_rankings_release(r);
	return ret;
}

int wl_rankings_load_trec(struct wl_rankings *r, const char *qrels, const char *run,
	bool allow_missing, struct wl_err *err)
{
	struct wl_buf a, b;
	int ret = -1;

	*r = (struct wl_rankings){0};
	wl_buf_init(&a, (size_t)8 << 30);
	wl_buf_init(&b, (size_t)8 << 30);
	WL_TRY_OUT(wl_read_file(qrels, &a, err));
	WL_TRY_OUT(wl_read_file(run, &b, err));
	WL_TRY_OUT(wl_buf_putc(&a, 0, err));
	WL_TRY_OUT(wl_buf_putc(&b, 0, err));
	ret = wl_rankings_parse_trec(r, a.data, b.data, qrels, run, allow_missing, err);
out:
	wl_buf_release(&a);
	wl_buf_release(&b);
	return ret;
}
