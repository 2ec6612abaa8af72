/* See report.h. */
#include "train/report.h"

#include "ops/clock.h"
#include "ops/file.h"
#include "ops/html.h"
#include "ops/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Points kept: when there are more, every second one goes and further lines count half. */
enum { POINTS = 1024, VALS = 512 };

static const double pause_s = 10;

/* What is kept of a line, in this order. */
static const char *const keys[] = {"step", "loss", "acc_i2t", "acc_t2i", "tau", "grad_norm", "lr",
	"pairs_per_s", "data_wait_s", "step_s", "mfu_image", "mfu_text", "rss_gib",
	"exchange_wait_s"};
enum { STEP, LOSS, ACC_I2T, ACC_T2I, TAU, NORM, LR, PAIRS, WAIT, SECONDS, MFU_IMAGE, MFU_TEXT, RSS,
	EXCHANGE, KEYS };

enum { VAL_STEP, VAL_I2T, VAL_T2I, VAL_MEAN, VAL_KEYS };

struct wl_train_report {
	char *html, *prom, *about; /* owned */
	int64_t total_steps;
	double at[KEYS][POINTS];
	int n;
	int64_t each, seen; /* of so many lines one is kept; lines so far */
	double val[VAL_KEYS][VALS];
	int n_val;
	double last[KEYS];
	int64_t skipped;
	double written; /* when */
};

struct wl_train_report *wl_train_report_open(const char *run_dir, const char *about,
	int64_t total_steps, struct wl_err *err)
{
	struct wl_train_report *r = calloc(1, sizeof *r);

	if (!r) {
		wl_err_nomem(err, "the report", sizeof *r);
		return NULL;
	}
	r->each = 1;
	r->total_steps = total_steps;
	r->html = wl_path_join(run_dir, "report.html", err);
	r->prom = wl_path_join(run_dir, "metrics.prom", err);
	r->about = wl_strf(err, "%s", about);
	if (r->html && r->prom && r->about)
		return r;
	wl_train_report_close(r);
	return NULL;
}

void wl_train_report_close(struct wl_train_report *r)
{
	if (!r)
		return;
	free(r->html);
	free(r->prom);
	free(r->about);
	free(r);
}

static void halve(struct wl_train_report *r)
{
	for (int i = 0; i < POINTS / 2; i++)
		for (int k = 0; k < KEYS; k++)
			r->at[k][i] = r->at[k][2 * i];
	r->n = POINTS / 2;
	r->each *= 2;
}

static double number(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_number(v) ? json_number_value(v) : NAN;
}

static void add_validation(struct wl_train_report *r, const json_t *line)
{
	const json_t *val = json_object_get(line, "val");

	if (!val)
		return;
	if (r->n_val == VALS) {
		for (int i = 0; i < VALS / 2; i++)
			for (int k = 0; k < VAL_KEYS; k++)
				r->val[k][i] = r->val[k][2 * i + 1];
		r->n_val = VALS / 2;
	}
	r->val[VAL_STEP][r->n_val] = number(line, "step");
	r->val[VAL_I2T][r->n_val] = number(json_object_get(val, "i2t"), "r1");
	r->val[VAL_T2I][r->n_val] = number(json_object_get(val, "t2i"), "r1");
	r->val[VAL_MEAN][r->n_val++] = number(val, "mean_recall");
}

void wl_train_report_add(struct wl_train_report *r, const json_t *line)
{
	for (int k = 0; k < KEYS; k++)
		r->last[k] = number(line, keys[k]);
	r->skipped += json_object_get(line, "skipped") != NULL;
	add_validation(r, line);
	if (r->seen++ % r->each)
		return;
	if (r->n == POINTS)
		halve(r);
	for (int k = 0; k < KEYS; k++)
		r->at[k][r->n] = r->last[k];
	r->n++;
}

static int add_line(json_t *o, size_t line, void *user, struct wl_err *err)
{
	(void)line;
	(void)err;
	wl_train_report_add(user, o);
	return 0;
}

int wl_train_report_read(struct wl_train_report *r, const char *path, struct wl_err *err)
{
	return wl_exists(path) ? wl_jsonl_read(path, add_line, r, err) : 0;
}

/* --- the page --- */

struct curve {
	const char *name;
	int key;
	double times; /* a fraction as a percentage: 100 */
};

/* One chart of up to three curves; those without a number are left out. */
static int chart(struct wl_train_report *r, struct wl_html *h, const char *title, const char *unit,
	const struct curve *curves, int n, bool log_y, struct wl_err *err)
{
	static const int most = 3;
	struct wl_series series[3];
	double *scaled = malloc(3 * POINTS * sizeof *scaled);
	size_t used = 0;
	int ret;

	if (!scaled)
		return wl_err_nomem(err, "a chart", 3 * POINTS * sizeof *scaled);
	for (int c = 0; c < n && c < most; c++) {
		double *y = scaled + (size_t)c * POINTS;
		bool any = false;

		for (int i = 0; i < r->n; i++) {
			y[i] = r->at[curves[c].key][i] * curves[c].times;
			any = any || isfinite(y[i]);
		}
		if (any)
			series[used++] = (struct wl_series){curves[c].name, r->at[STEP], y,
				(size_t)r->n};
	}
	ret = used ? wl_html_chart(h, title, "step", unit, series, used, log_y, err) : 0;
	free(scaled);
	return ret;
}

static int charts(struct wl_train_report *r, struct wl_html *h, struct wl_err *err)
{
	static const struct {
		const char *title, *unit;
		struct curve curves[3];
		int n;
		bool log_y;
	} all[] = {
		{"Loss", "nats", {{"loss", LOSS, 1}}, 1, false},
		{"Recall in the batch", "% of queries whose positive beat every negative",
			{{"image to text", ACC_I2T, 100}, {"text to image", ACC_T2I, 100}}, 2,
			false},
		{"Temperature", "tau", {{"tau", TAU, 1}}, 1, false},
		{"Gradient norm before clipping", "L2", {{"norm", NORM, 1}}, 1, true},
		{"Learning rate", "rate", {{"rate", LR, 1}}, 1, false},
		{"Speed", "pairs a second", {{"pairs/s", PAIRS, 1}}, 1, false},
		{"Where a step's time goes", "s",
			{{"step", SECONDS, 1}, {"waiting for data", WAIT, 1},
				{"waiting for ranks", EXCHANGE, 1}}, 3, false},
		{"Use of the processor's peak (matrix products of each tower)", "%",
			{{"image tower", MFU_IMAGE, 100}, {"text tower", MFU_TEXT, 100}}, 2, false},
		{"Memory of rank 0", "GiB", {{"resident", RSS, 1}}, 1, false},
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		WL_TRY(chart(r, h, all[i].title, all[i].unit, all[i].curves, all[i].n,
			all[i].log_y, err));
	return 0;
}

static int validation(struct wl_train_report *r, struct wl_html *h, struct wl_err *err)
{
	const struct wl_series series[3] = {
		{"R@1 image to text", r->val[VAL_STEP], r->val[VAL_I2T], (size_t)r->n_val},
		{"R@1 text to image", r->val[VAL_STEP], r->val[VAL_T2I], (size_t)r->n_val},
		{"mean recall", r->val[VAL_STEP], r->val[VAL_MEAN], (size_t)r->n_val},
	};

	if (!r->n_val)
		return 0;
	return wl_html_chart(h, "Validation", "step", "%", series, 3, false, err);
}

static int head(struct wl_train_report *r, struct wl_html *h, struct wl_err *err)
{
	char text[512], when[32];
	time_t t = time(NULL);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
	/* The page is read while it changes. */
	WL_TRY(wl_html_raw(h, "<meta http-equiv=\"refresh\" content=\"20\">", err));
	WL_TRY(wl_html_heading(h, 1, "Training", err));
	WL_TRY(wl_html_para(h, r->about, err));
	snprintf(text, sizeof text, "Step %.0f of %lld at %s UTC: loss %.4f, recall in the batch "
		"%.1f %% and %.1f %%, tau %.4f, %.1f pairs a second; %lld steps skipped.",
		r->last[STEP], (long long)r->total_steps, when, r->last[LOSS],
		100 * r->last[ACC_I2T], 100 * r->last[ACC_T2I], r->last[TAU], r->last[PAIRS],
		(long long)r->skipped);
	return wl_html_para(h, text, err);
}

static int write_page(struct wl_train_report *r, struct wl_err *err)
{
	struct wl_html h;
	int ret;

	WL_TRY(wl_html_init(&h, "Training", err));
	ret = head(r, &h, err);
	if (ret == 0 && r->n)
		ret = charts(r, &h, err);
	if (ret == 0)
		ret = validation(r, &h, err);
	if (ret == 0)
		ret = wl_html_save(&h, r->html, err);
	wl_html_release(&h);
	return ret;
}

static int write_prom(const struct wl_train_report *r, struct wl_err *err)
{
	struct wl_buf text;
	int ret;

	wl_buf_init(&text, 1 << 20);
	ret = wl_metrics_text(&text, err);
	if (ret == 0)
		ret = wl_write_file(r->prom, text.data ? text.data : "", text.len, err);
	wl_buf_release(&text);
	return ret;
}

int wl_train_report_write(struct wl_train_report *r, bool now, struct wl_err *err)
{
	double t = wl_now_s();

	if (!now && t - r->written < pause_s)
		return 0;
	r->written = t;
	WL_TRY(write_page(r, err));
	return write_prom(r, err);
}
