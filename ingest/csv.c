/* CSV: see csv.h. */
#include "ingest/csv.h"

#include <string.h>
#include <strings.h>

bool wl_csv_is_open(const char *line, size_t n, bool open)
{
	for (size_t i = 0; i < n; i++)
		open ^= line[i] == '"';
	return open;
}

/* One field from s[*at..n) into a copy; *at is put behind its separator.  Doubled quotes inside
 * quotes are one. */
static char *take_field(const char *s, size_t n, size_t *at, char separator, struct wl_arena *mem,
	struct wl_err *err)
{
	bool quoted = separator == ',' && *at < n && s[*at] == '"';
	size_t i = *at + quoted, w = 0;
	char *out = wl_arena_strndup(mem, s + *at, n - *at, err);
	if (!out)
		return NULL;
	for (; i < n; i++) {
		if (quoted && s[i] == '"') {
			if (i + 1 < n && s[i + 1] == '"')
				i++;
			else
				quoted = false;
			if (!quoted)
				continue;
		} else if (!quoted && s[i] == separator) {
			break;
		}
		out[w++] = s[i];
	}
	out[w] = '\0';
	*at = i + 1;
	return out;
}

int wl_csv_split(struct wl_csv_row *row, const char *line, size_t n, char separator,
	struct wl_arena *mem, struct wl_err *err)
{
	size_t most = 1, at = 0;
	if (n && line[n - 1] == '\r')
		n--;
	for (size_t i = 0; i < n; i++)
		most += line[i] == separator;
	row->n = 0;
	row->v = wl_arena_calloc(mem, most, sizeof *row->v, err);
	if (!row->v)
		return -1;
	while (at <= n) {
		char *field = take_field(line, n, &at, separator, mem, err);
		if (!field)
			return -1;
		row->v[row->n++] = field;
	}
	return 0;
}

int wl_csv_column(const struct wl_csv_row *header, const char *const *names)
{
	for (; *names; names++)
		for (size_t i = 0; i < header->n; i++)
			if (strcasecmp(header->v[i], *names) == 0)
				return (int)i;
	return -1;
}
