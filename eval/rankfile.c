/* Lists of grades as CSV and JSON lines: see rankfile.h. */
#include "eval/rankfile.h"
#include "eval/metrics/intern.h"
#include "ops/file.h"
#include "ops/grow.h"
#include "ops/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* 2^500 is far from the largest double, even summed over a list. */
enum { COLUMNS_MAX = 64, GRADE_MAX = 500 };

void wl_rankings_release(struct wl_rankings *r)
{
	if (!r)
		return;
	wl_arena_release(&r->arena);
	free(r->v);
	free(r->grades);
	*r = (struct wl_rankings){0};
}

struct wl_ranked *wl_rankings_add(struct wl_rankings *r, const char *query, struct wl_err *err)
{
	struct wl_ranked *q;

	if (WL_GROW(r->v, r->n, r->cap, "rankings", err) < 0)
		return NULL;
	q = &r->v[r->n];
	*q = (struct wl_ranked){.query = wl_arena_strdup(&r->arena, query, err)};
	if (!q->query)
		return NULL;
	r->n++;
	return q;
}

static int add_single(struct wl_rankings *r, const int32_t *grades, size_t raters, size_t line,
	const char *path, struct wl_err *err)
{
	int64_t sum = 0;

	for (size_t i = 0; i < raters; i++)
		sum += grades[i];
	if (sum > GRADE_MAX)
		return wl_err_set(err, WL_EDATA,
			"%s, line %zu: the grades' sum is %lld, the largest possible"
			" is %d",
			path, line, (long long)sum, GRADE_MAX);
	if (!r->raters)
		r->raters = raters;
	if (raters != r->raters)
		return wl_err_set(err, WL_EDATA,
			"%s, line %zu: %zu annotators where %zu are expected", path, line, raters,
			r->raters);
	if ((r->items + 1) * raters > r->cap_grades) {
		size_t cap = 2 * (r->items + 1) * raters;
		int32_t *p = realloc(r->grades, cap * sizeof *p);

		if (!p)
			return wl_err_nomem(err, "grades", cap * sizeof *p);
		r->grades = p;
		r->cap_grades = cap;
	}
	memcpy(r->grades + r->items++ * raters, grades, raters * sizeof *grades);
	return 0;
}

static int descending(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return (x < y) - (x > y);
}

static int set_ideal(struct wl_rankings *r, struct wl_ranked *q, struct wl_err *err)
{
	q->ideal = wl_arena_calloc(&r->arena, q->n, sizeof *q->ideal, err);
	if (!q->ideal)
		return -1;
	q->n_ideal = q->n;
	if (q->n) {
		memcpy(q->ideal, q->grade, q->n * sizeof *q->grade);
		qsort(q->ideal, q->n, sizeof *q->ideal, descending);
	}
	return 0;
}

/* --- JSON lines --------------------------------------------------------------------- */

/* A grade: a number, or one an annotator.  Gives the sum. */
static int json_grade(struct wl_rankings *r, const json_t *v, size_t line, const char *path,
	int32_t *sum, struct wl_err *err)
{
	int32_t grade[COLUMNS_MAX];
	size_t n = json_is_array(v) ? json_array_size(v) : 1;

	*sum = 0;
	for (size_t i = 0; i < n && i < COLUMNS_MAX; i++) {
		const json_t *one = json_is_array(v) ? json_array_get(v, i) : v;

		if (!json_is_integer(one) || json_integer_value(one) < 0 ||
			json_integer_value(one) > GRADE_MAX)
			return wl_err_set(err, WL_EDATA,
				"%s, line %zu: a grade is not a whole number from 0 to %d", path,
				line, GRADE_MAX);
		grade[i] = (int32_t)json_integer_value(one);
		*sum += grade[i];
	}
	if (!n || n > COLUMNS_MAX)
		return wl_err_set(err, WL_EDATA,
			"%s, line %zu: %zu annotators; 1 to %d are possible", path, line, n,
			COLUMNS_MAX);
	return add_single(r, grade, n, line, path, err);
}

static int json_line(struct wl_rankings *r, struct wl_intern *names, const json_t *o, size_t line,
	const char *path, struct wl_err *err)
{
	const json_t *list = json_object_get(o, "grades");
	const char *name = json_string_value(json_object_get(o, "query"));
	size_t n = json_array_size(list);
	struct wl_ranked *q;

	if (!name || !json_is_array(list) || !n)
		return wl_err_set(err, WL_EDATA,
			"%s, line %zu: a string \"query\" and a list \"grades\" that is not empty "
			"are expected",
			path, line);
	if (wl_intern_str(names, name, strlen(name), err) != (int64_t)r->n)
		return wl_err_set(err, WL_EDATA, "%s, line %zu: the query %.80s comes twice", path,
			line, name);
	if (!(q = wl_rankings_add(r, name, err)))
		return -1;
	q->grade = wl_arena_calloc(&r->arena, n, sizeof *q->grade, err);
	if (!q->grade)
		return -1;
	q->n = n;
	for (size_t i = 0; i < n; i++)
		WL_TRY(json_grade(r, json_array_get(list, i), line, path, &q->grade[i], err));
	return set_ideal(r, q, err);
}

static int parse_lines(struct wl_rankings *r, struct wl_intern *names, char *text, const char *path,
	struct wl_err *err)
{
	size_t line = 0;

	for (char *end; *text; text = end) {
		json_t *o;
		int ret;

		line++;
		end = text + strcspn(text, "\n");
		if (*end)
			*end++ = 0;
		if (!text[strspn(text, " \t\r")])
			continue;
		o = json_loads(text, 0, NULL);
		ret = json_line(r, names, o, line, path, err);
		json_decref(o);
		WL_TRY(ret);
	}
	return 0;
}

/* --- CSV ----------------------------------------------------------------------------- */

enum column { COL_GRADE, COL_QUERY, COL_RANK, COL_ITEM };

struct csv {
	enum column column[COLUMNS_MAX];
	size_t columns, graders;
	bool has_rank;
	const char *path;
	size_t line;
	struct wl_intern names;
};

struct csv_row {
	int32_t query, grade;
	int64_t rank; /* or the line when there is no such column */
};

/* Splits in place at commas or tabs, quotes taken off; the number of fields, or -1 when there
 * are more than COLUMNS_MAX. */
static int split(char *line, char *field[COLUMNS_MAX])
{
	int n = 0;

	for (char *p = line, *w;;) {
		if (n == COLUMNS_MAX)
			return -1;
		p += strspn(p, " ");
		field[n++] = w = p;
		if (*p == '"') {
			for (p++; *p && !(*p == '"' && p[1] != '"'); p++) {
				p += *p == '"';
				*w++ = *p;
			}
			p += *p == '"';
			p += strcspn(p, ",\t");
		} else {
			p += strcspn(p, ",\t");
			w = p;
			while (w > field[n - 1] && (w[-1] == ' ' || w[-1] == '\r'))
				w--;
		}
		if (!*p) {
			*w = 0;
			return n;
		}
		p++;
		*w = 0;
	}
}

static int header(struct csv *c, char *line, struct wl_err *err)
{
	char *field[COLUMNS_MAX];
	int n = split(line, field), queries = 0;

	for (int i = 0; i < n; i++) {
		c->column[i] = !strcmp(field[i], "query")  ? COL_QUERY
			       : !strcmp(field[i], "rank") ? COL_RANK
			       : !strcmp(field[i], "item") ? COL_ITEM
							   : COL_GRADE;
		queries += c->column[i] == COL_QUERY;
		c->has_rank |= c->column[i] == COL_RANK;
		c->graders += c->column[i] == COL_GRADE;
	}
	if (n < 2 || queries != 1 || !c->graders)
		return wl_err_set(err, WL_EDATA,
			"%s: the first line must name the columns: query, perhaps rank and item, "
			"and one for"
			" each annotator's grades",
			c->path);
	c->columns = (size_t)n;
	return 0;
}

static int take_number(
	const struct csv *c, const char *s, int64_t max, int64_t *out, struct wl_err *err)
{
	char *end;

	errno = 0;
	*out = strtoll(s, &end, 10);
	if (end == s || *end || errno || *out < 0 || *out > max)
		return wl_err_set(err, WL_EDATA,
			"%s, line %zu: '%.40s' is not a whole number from 0 to %lld", c->path,
			c->line, s, (long long)max);
	return 0;
}

static int csv_line(
	struct wl_rankings *r, struct csv *c, char *line, struct csv_row *row, struct wl_err *err)
{
	char *field[COLUMNS_MAX];
	int n = split(line, field);
	int32_t grade[COLUMNS_MAX];
	size_t graders = 0;
	int64_t v;

	if (n != (int)c->columns)
		return wl_err_set(err, WL_EDATA, "%s, line %zu: %d columns where %zu are expected",
			c->path, c->line, n, c->columns);
	*row = (struct csv_row){.rank = (int64_t)c->line};
	for (int i = 0; i < n; i++) {
		if (c->column[i] == COL_QUERY) {
			v = wl_intern_str(&c->names, field[i], strlen(field[i]), err);
			if (v < 0 || (v == (int64_t)r->n && !wl_rankings_add(r, field[i], err)))
				return -1;
			row->query = (int32_t)v;
		} else if (c->column[i] == COL_RANK) {
			WL_TRY(take_number(c, field[i], INT32_MAX, &row->rank, err));
		} else if (c->column[i] == COL_GRADE) {
			WL_TRY(take_number(c, field[i], GRADE_MAX, &v, err));
			grade[graders++] = (int32_t)v;
			row->grade += (int32_t)v;
		}
	}
	return add_single(r, grade, graders, c->line, c->path, err);
}

static int by_query_and_rank(const void *a, const void *b)
{
	const struct csv_row *x = a, *y = b;

	if (x->query != y->query)
		return x->query < y->query ? -1 : 1;
	return (x->rank > y->rank) - (x->rank < y->rank);
}

static int csv_gather(struct wl_rankings *r, const struct csv *c, struct csv_row *row, size_t n,
	struct wl_err *err)
{
	if (n)
		qsort(row, n, sizeof *row, by_query_and_rank);
	for (size_t i = 0, k; i < n; i = k) {
		struct wl_ranked *q = &r->v[row[i].query];

		for (k = i; k < n && row[k].query == row[i].query; k++)
			if (k > i && row[k].rank == row[k - 1].rank)
				return wl_err_set(err, WL_EDATA,
					"%s: the query %.80s has the rank %lld twice", c->path,
					q->query, (long long)row[k].rank);
		q->n = k - i;
		q->grade = wl_arena_calloc(&r->arena, q->n, sizeof *q->grade, err);
		if (!q->grade)
			return -1;
		for (size_t j = i; j < k; j++)
			q->grade[j - i] = row[j].grade;
		WL_TRY(set_ideal(r, q, err));
	}
	return 0;
}

static int parse_csv(struct wl_rankings *r, struct csv *c, char *text, struct wl_err *err)
{
	size_t lines = 1, n = 0;
	struct csv_row *row;
	int ret = -1;

	for (const char *p = text; *p; p++)
		lines += *p == '\n';
	row = malloc(lines * sizeof *row);
	if (!row)
		return wl_err_nomem(err, "grades", lines * sizeof *row);
	for (char *end; *text; text = end) {
		end = text + strcspn(text, "\n");
		if (*end)
			*end++ = 0;
		c->line++;
		if (!text[strspn(text, " \t\r")])
			continue;
		if (!c->columns)
			WL_TRY_OUT(header(c, text, err));
		else
			WL_TRY_OUT(csv_line(r, c, text, &row[n++], err));
	}
	ret = csv_gather(r, c, row, n, err);
out:
	free(row);
	return ret;
}

int wl_rankings_parse(struct wl_rankings *r, char *text, const char *path, struct wl_err *err)
{
	struct csv c = {.path = path};
	int ret;

	*r = (struct wl_rankings){0};
	if (!strncmp(text, "\xef\xbb\xbf", 3)) /* what spreadsheets put first */
		text += 3;
	if (text[strspn(text, " \t\r\n")] == '{')
		ret = parse_lines(r, &c.names, text, path, err);
	else
		ret = parse_csv(r, &c, text, err);
	if (!ret && !r->n)
		ret = wl_err_set(err, WL_EDATA, "%s holds no rankings; a header and "
			"a line for each item, or JSON lines, are expected", path);
	wl_intern_release(&c.names);
	if (ret)
		wl_rankings_release(r);
	return ret;
}

int wl_rankings_load(struct wl_rankings *r, const char *path, struct wl_err *err)
{
	struct wl_buf b;
	int ret = -1;

	*r = (struct wl_rankings){0};
	wl_buf_init(&b, INT32_MAX);
	WL_TRY_OUT(wl_read_file(path, &b, err));
	WL_TRY_OUT(wl_buf_putc(&b, 0, err));
	ret = wl_rankings_parse(r, b.data, path, err);
out:
	wl_buf_release(&b);
	return ret;
}
