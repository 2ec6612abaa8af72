/*
 * One line that says how far a run is: see progress.h.
 *
 * Adding is an atomic addition; whoever adds looks at the clock now and then and draws
 * if the last drawing is old.  At most one bar is on the terminal (the newest), and log
 * lines clear and redraw it through log.h's hook.
 */
#include "ops/clock.h"
#include "ops/progress.h"
#include "ops/log.h"

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum mode { MODE_BAR, MODE_PLAIN, MODE_NONE };
enum { BAR_EVERY_MS = 100, PLAIN_EVERY_MS = 5000 };

struct wl_progress {
	const char *title, *what;
	uint64_t total;
	_Atomic uint64_t done;
	_Atomic int64_t due_ms; /* when to draw next */
	int64_t started_ms;
	uint64_t first; /* done when the first set came: a resumed run is not credited for it */
	bool seen;
	char note[80];
	struct wl_progress *below; /* the bar that this one covers */
};

static struct {
	enum mode mode;
	bool mode_set;
	struct wl_progress *top;
} screen;

static enum mode auto_mode(void)
{
	return isatty(STDERR_FILENO) ? MODE_BAR : MODE_PLAIN;
}

static enum mode current_mode(void)
{
	return screen.mode_set ? screen.mode : auto_mode();
}

/* "1:02:03" or "2:03" */
static void format_seconds(double s, char *out, size_t size)
{
	long t = isfinite(s) && s >= 0 && s < 1e8 ? lround(s) : 0;

	if (t >= 3600)
		snprintf(out, size, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
	else
		snprintf(out, size, "%ld:%02ld", t / 60, t % 60);
}

/* The state in words; with the lock of the log held, since note is shared. */
static void describe(const struct wl_progress *p, char *out, size_t size)
{
	uint64_t done = atomic_load(&p->done);
	double seconds = (double)(wl_now_ms() - p->started_ms) * 1e-3;
	double rate = seconds > 0 ? (double)(done - p->first) / seconds : 0;
	char elapsed[32], left[48] = "";
	size_t used;

	format_seconds(seconds, elapsed, sizeof elapsed);
	if (p->total && rate > 0 && done < p->total) {
		char t[32];

		format_seconds((double)(p->total - done) / rate, t, sizeof t);
		snprintf(left, sizeof left, ", %s left", t);
	}
	used = (size_t)snprintf(out, size, "%s: %llu", p->title, (unsigned long long)done);
	if (p->total)
		used += (size_t)snprintf(out + used, size - used, "/%llu",
			(unsigned long long)p->total);
	snprintf(out + used, size - used, " %s, %.*f/s, %s%s%s%s", p->what, rate < 10 ? 2 : 0, rate,
		elapsed, left, *p->note ? ", " : "", p->note);
}

static void clear_bar(void)
{
	if (screen.top)
		fputs("\r\033[K", stderr);
}

static void draw_bar(void)
{
	enum { BAR = 20 };
	struct winsize ws;
	char text[512], bar[BAR + 1] = "";
	const struct wl_progress *p = screen.top;
	int columns = 80;

	if (!p)
		return;
	if (!ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) && ws.ws_col)
		columns = ws.ws_col;
	describe(p, text, sizeof text);
	if (p->total) {
		uint64_t done = atomic_load(&p->done);
		double part = (double)(done < p->total ? done : p->total) / (double)p->total;

		memset(bar, '-', BAR);
		memset(bar, '#', (size_t)(part * BAR));
		fprintf(stderr, "\r\033[K[%s] %.*s", bar, columns > 28 ? columns - 25 : 4, text);
	} else {
		fprintf(stderr, "\r\033[K%.*s", columns > 8 ? columns - 1 : 8, text);
	}
	fflush(stderr);
}

int wl_progress_mode(const char *mode, struct wl_err *err)
{
	if (!strcmp(mode, "auto"))
		screen.mode = auto_mode();
	else if (!strcmp(mode, "plain"))
		screen.mode = MODE_PLAIN;
	else if (!strcmp(mode, "none"))
		screen.mode = MODE_NONE;
	else
		return wl_err_set(err, WL_EUSAGE,
			"progress mode '%s' is unknown: use auto, plain or none", mode);
	screen.mode_set = true;
	return 0;
}

struct wl_progress *wl_progress_new(const char *title, const char *what, uint64_t total)
{
	struct wl_progress *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->title = title;
	p->what = what;
	p->total = total;
	p->started_ms = wl_now_ms();
	atomic_store(&p->due_ms,
		p->started_ms + (current_mode() == MODE_BAR ? BAR_EVERY_MS : PLAIN_EVERY_MS));
	if (current_mode() == MODE_BAR) {
		wl_log_lock();
		p->below = screen.top;
		screen.top = p;
		wl_log_unlock();
		wl_log_set_redraw(clear_bar, draw_bar);
	}
	return p;
}

/* Draws if it is time; the exchange lets one of several threads through. */
static void draw_if_due(struct wl_progress *p)
{
	int64_t now = wl_now_ms(), due = atomic_load(&p->due_ms);
	enum mode mode = current_mode();
	char text[512];

	if (mode == MODE_NONE || now < due)
		return;
	if (!atomic_compare_exchange_strong(&p->due_ms, &due,
		    now + (mode == MODE_BAR ? BAR_EVERY_MS : PLAIN_EVERY_MS)))
		return;
	wl_log_lock();
	if (mode == MODE_BAR)
		draw_bar();
	else
		describe(p, text, sizeof text);
	wl_log_unlock();
	if (mode == MODE_PLAIN)
		wl_info("%s", text);
}

void wl_progress_add(struct wl_progress *p, uint64_t n)
{
	if (!p)
		return;
	atomic_fetch_add(&p->done, n);
	draw_if_due(p);
}

void wl_progress_set(struct wl_progress *p, uint64_t done, const char *note)
{
	if (!p)
		return;
	wl_log_lock();
	if (!p->seen) {
		p->seen = true;
		p->first = atomic_load(&p->done) ? 0 : done;
	}
	if (note)
		snprintf(p->note, sizeof p->note, "%s", note);
	wl_log_unlock();
	atomic_store(&p->done, done);
	draw_if_due(p);
}

void wl_progress_note(struct wl_progress *p, const char *note)
{
	if (!p)
		return;
	wl_log_lock();
	snprintf(p->note, sizeof p->note, "%s", note);
	wl_log_unlock();
	draw_if_due(p);
}

void wl_progress_free(struct wl_progress *p)
{
	char text[512];

	if (!p)
		return;
	wl_log_lock();
	describe(p, text, sizeof text);
	if (screen.top) {
		struct wl_progress **at = &screen.top;

		clear_bar();
		while (*at && *at != p)
			at = &(*at)->below;
		if (*at)
			*at = p->below;
	}
	wl_log_unlock();
	if (current_mode() != MODE_NONE)
		wl_info("%s", text);
	free(p);
}
