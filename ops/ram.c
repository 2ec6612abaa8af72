/* Memory of the machine and of the control group: see ram.h. */
#include "ops/ram.h"
#include "ops/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a line "NAME:   123 kB" of /proc/meminfo; 0 without it. */
static double line_of(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtod(at + strlen(name), NULL) * 1024 : 0;
}

/* A small file of the kernel's as text, "" when it is not there. */
static void read_text(const char *path, char *out, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(out, 1, size - 1, f) : 0;

	out[n] = 0;
	if (f)
		fclose(f);
}

/* A number in one of a control group's files; 0: none, or "max". */
static double number_in(const char *path)
{
	char text[64];

	read_text(path, text, sizeof text);
	return strtod(text, NULL);
}

/* Inside a container the group is mounted as the root of all groups (version 2, then 1).  What the
 * group uses is no measure of what is left, as caches count too. */
static void heed_group(struct wl_ram *r)
{
	static const char *const files[] = {
		"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};

	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		double most = number_in(files[i]);

		if (most > 0 && most < r->all)
			r->all = most;
	}
	if (r->unused > r->all)
		r->unused = r->all;
}

struct wl_ram wl_ram_there(void)
{
	struct wl_ram r;
	char text[4096];

	read_text("/proc/meminfo", text, sizeof text);
	r.all = line_of(text, "MemTotal:") + line_of(text, "SwapTotal:");
	r.unused = line_of(text, "MemAvailable:") + line_of(text, "SwapFree:");
	if (r.all > 0)
		heed_group(&r);
	return r;
}

int wl_ram_check(double need, struct wl_ram there, const char *what, const char *mend,
	struct wl_err *err)
{
	const double gib = 1024.0 * 1024 * 1024;

	if (!(there.all > 0))
		return 0;
	if (need > there.all)
		return wl_err_set(err, WL_EFAIL, "%s needs about %.1f GiB of memory, and there are "
			"%.1f GiB: %s", what, need / gib, there.all / gib, mend);
	if (need > there.unused)
		wl_warn("%s needs about %.1f GiB of memory, and %.1f of %.1f GiB are unused: end "
			"what else uses it, or %s", what, need / gib, there.unused / gib,
			there.all / gib, mend);
	return 0;
}
