/* One lock and one stream: see log.h.  Whole lines only, so that the output of
 * several threads and of the progress bar never interleaves. */
#include "ops/log.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static struct {
	pthread_mutex_t lock;
	const char *program;
	enum wl_log_level level;
	void (*clear)(void);
	void (*redraw)(void);
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER, .program = "wenlan", .level = WL_LOG_INFO};

static const char *const level_name[] = {"error", "warn", "info", "debug"};

void wl_log_init(const char *program, enum wl_log_level level)
{
	log_state.program = program;
	log_state.level = level;
}

enum wl_log_level wl_log_level(void)
{
	return log_state.level;
}

int wl_log_level_parse(const char *name, enum wl_log_level *level, struct wl_err *err)
{
	for (size_t i = 0; i < sizeof level_name / sizeof *level_name; i++)
		if (!strcmp(name, level_name[i])) {
			*level = (enum wl_log_level)i;
			return 0;
		}
	return wl_err_set(err, WL_EUSAGE,
		"log level '%s' is unknown: use error, warn, info or debug", name);
}

void wl_log_lock(void)
{
	pthread_mutex_lock(&log_state.lock);
}

void wl_log_unlock(void)
{
	pthread_mutex_unlock(&log_state.lock);
}

void wl_log_set_redraw(void (*clear)(void), void (*redraw)(void))
{
	wl_log_lock();
	log_state.clear = clear;
	log_state.redraw = redraw;
	wl_log_unlock();
}

void wl_log(enum wl_log_level level, const char *fmt, ...)
{
	char line[2048];
	struct tm tm;
	time_t now = time(NULL);
	size_t used;
	va_list ap;

	if (level > log_state.level)
		return;
	localtime_r(&now, &tm);
	used = strftime(line, sizeof line, "%H:%M:%S ", &tm);
	used += (size_t)snprintf(line + used, sizeof line - used, "%s: %s%s", log_state.program,
		level == WL_LOG_INFO ? "" : level_name[level], level == WL_LOG_INFO ? "" : ": ");
	va_start(ap, fmt);
	vsnprintf(line + used, sizeof line - used, fmt, ap);
	va_end(ap);
	wl_log_lock();
	if (log_state.clear)
		log_state.clear();
	fprintf(stderr, "%s\n", line);
	if (log_state.redraw)
		log_state.redraw();
	wl_log_unlock();
}
