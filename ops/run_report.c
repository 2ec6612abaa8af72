/* The status table and the HTML report of a plan: see run.h. */
#include "ops/file.h"
#include "ops/html.h"
#include "ops/json.h"
#include "ops/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct row {
	const char *status, *reason;
	char when[32], seconds[24], memory[24];
};

/* Whether a run of this plan is going on: it holds the lock. */
static bool is_running(const struct wl_plan *p)
{
	char *path = wl_path_join(p->workdir, "run.lock", NULL);
	int fd = path && wl_exists(path) ? wl_lock_file(path, NULL) : 0;

	free(path);
	if (fd > 0)
		close(fd);
	return fd < 0;
}

/* What is known of a stage, in words. */
static void describe(struct wl_plan *p, size_t i, bool stale_before, bool running, struct row *r)
{
	struct wl_err why = WL_ERR_INIT;
	const json_t *record = wl_stage_record(p, i);
	time_t started = (time_t)json_integer_value(json_object_get(record, "started"));
	struct tm tm;

	*r = (struct row){.status = "pending"};
	r->reason = wl_stage_reason(p, i, &why);
	if (!r->reason)
		r->reason = "its inputs are not there yet";
	if (record)
		r->status = json_string_value(json_object_get(record, "status"));
	if (!r->status || (!strcmp(r->status, "running") && !running))
		r->status = "interrupted";
	if (!strcmp(r->status, "running"))
		r->reason = "";
	if (!strcmp(r->status, "done") && !*r->reason && stale_before)
		r->reason = "a stage before it changed";
	if (!strcmp(r->status, "done") && *r->reason && strcmp(r->reason, "always runs"))
		r->status = "outdated";
	if (!record)
		return;
	localtime_r(&started, &tm);
	strftime(r->when, sizeof r->when, "%Y-%m-%d %H:%M", &tm);
	if (json_object_get(record, "seconds")) {
		snprintf(r->seconds, sizeof r->seconds, "%.1f",
			json_number_value(json_object_get(record, "seconds")));
		snprintf(r->memory, sizeof r->memory, "%.0f",
			(double)json_integer_value(json_object_get(record, "max_rss_bytes")) /
				1048576);
	}
}

static struct row *describe_all(struct wl_plan *p, struct wl_err *err)
{
	struct row *rows = wl_arena_calloc(&p->arena, p->n, sizeof *rows, err);
	bool running = is_running(p);

	for (size_t i = 0; rows && i < p->n; i++) {
		bool stale = false;

		for (size_t k = 0; k < p->stages[i].n_needs; k++)
			stale |= strcmp(rows[p->stages[i].needs[k]].status, "done") != 0;
		describe(p, i, stale, running, &rows[i]);
	}
	return rows;
}

static int status_json(struct wl_plan *p, const struct row *rows, struct wl_err *err)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->n; i++) {
		json_t *record = wl_stage_record(p, i);
		json_t *o = json_pack("{s:s,s:s,s:s}", "stage", p->stages[i].name, "status",
			rows[i].status, "reason", rows[i].reason);

		if (record && o) {
			json_object_update_missing(o, record);
			json_object_del(o, "parts");
		}
		json_array_append_new(list, o);
	}
	json_dumpf(list, stdout, JSON_INDENT(1));
	json_decref(list);
	return putchar('\n') == EOF ? wl_err_errno(err, "the status cannot be printed") : 0;
}

int wl_plan_status(struct wl_plan *p, bool json, struct wl_err *err)
{
	struct row *rows = describe_all(p, err);
	int width = 5;

	if (!rows)
		return -1;
	if (json)
		return status_json(p, rows, err);
	for (size_t i = 0; i < p->n; i++)
		if ((int)strlen(p->stages[i].name) > width)
			width = (int)strlen(p->stages[i].name);
	printf("%-*s  %-11s  %-16s  %9s  %8s  %s\n", width, "stage", "status", "started", "seconds",
		"MiB", "why it would run");
	for (size_t i = 0; i < p->n; i++)
		printf("%-*s  %-11s  %-16s  %9s  %8s  %s\n", width, p->stages[i].name,
			rows[i].status, rows[i].when, rows[i].seconds, rows[i].memory,
			rows[i].reason);
	return 0;
}

/* The last bytes of a log, from the start of a line on. */
static int log_tail(struct wl_html *h, const char *path, struct wl_err *err)
{
	enum { TAIL = 3000 };
	struct wl_buf b;
	const char *text;
	int ret;

	if (!wl_exists(path))
		return 0;
	wl_buf_init(&b, 1 << 28);
	ret = wl_read_file(path, &b, err);
	if (!ret) {
		text = wl_buf_str(&b);
		if (b.len > TAIL) {
			text += b.len - TAIL;
			if (strchr(text, '\n'))
				text = strchr(text, '\n') + 1;
		}
		ret = wl_html_raw(h, "<details><summary>end of the log</summary><pre>", err);
		if (!ret)
			ret = wl_html_text(h, text, err);
		if (!ret)
			ret = wl_html_raw(h, "</pre></details>\n", err);
	}
	wl_buf_release(&b);
	return ret;
}

static int report_stage(struct wl_plan *p, size_t i, struct wl_html *h, struct wl_err *err)
{
	struct wl_strs argv;
	char *log;
	int ret;

	WL_TRY(wl_html_heading(h, 2, p->stages[i].name, err));
	if (p->stages[i].about)
		WL_TRY(wl_html_para(h, p->stages[i].about, err));
	WL_TRY(wl_stage_argv(p, i, &argv, err));
	WL_TRY(wl_html_raw(h, "<pre>", err));
	for (size_t k = 0; k < argv.n; k++) {
		WL_TRY(wl_html_raw(h, k ? " " : "", err));
		WL_TRY(wl_html_text(h, argv.v[k], err));
	}
	WL_TRY(wl_html_raw(h, "</pre>\n", err));
	log = wl_strf(err, "%s/logs/%s.log", p->workdir, p->stages[i].name);
	ret = log ? log_tail(h, log, err) : -1;
	free(log);
	return ret;
}

int wl_plan_report(struct wl_plan *p, const char *out, struct wl_err *err)
{
	enum { COLS = 6 };
	struct row *rows = describe_all(p, err);
	const char **cells = wl_arena_calloc(&p->arena, (p->n + 1) * COLS, sizeof *cells, err);
	const char *const head[COLS] = {
		"stage", "status", "started", "seconds", "MiB", "why it would run"};
	struct wl_html h = {0};
	int ret = -1;

	if (!rows || !cells)
		return -1;
	memcpy(cells, head, sizeof head);
	for (size_t i = 0; i < p->n; i++) {
		const char *line[COLS] = {p->stages[i].name, rows[i].status, rows[i].when,
			rows[i].seconds, rows[i].memory, rows[i].reason};

		memcpy(cells + (i + 1) * COLS, line, sizeof line);
	}
	WL_TRY_OUT(wl_html_init(&h, p->name, err));
	WL_TRY_OUT(wl_html_table(&h, p->n + 1, COLS, cells, p->path, err));
	for (size_t i = 0; i < p->n; i++)
		WL_TRY_OUT(report_stage(p, i, &h, err));
	ret = wl_html_save(&h, out, err);
out:
	wl_html_release(&h);
	return ret;
}
