/* See watch.h. */
#include "train/watch.h"

#include "ops/clock.h"
#include "ops/metrics.h"

#include <stdio.h>
#include <unistd.h>

double wl_watch_peak(struct wl_backend *be, enum wl_dtype compute)
{
	enum { N = 1024, RUNS = 6 };
	struct wl_graph_options opts = {.compute_dtype = compute};
	struct wl_params params;
	struct wl_graph *g;
	double best = 0, start, took;
	wl_tid x;

	wl_params_init(&params);
	g = wl_graph_new("peak", &params, &opts, NULL);
	if (g) {
		x = wl_g_input(g, "x", WL_F32, WL_SHAPE(N, N));
		wl_g_output(g, wl_g_linear(g, x, wl_g_param(g, "w", WL_LAYOUT_PLAIN, WL_SHAPE(N, N),
			0), WL_NONE, WL_ACT_NONE), "y");
	}
	if (g && wl_params_seal(&params, be, false, NULL) == 0 &&
		wl_graph_compile(g, be, NULL) == 0)
		for (int i = 0; i < RUNS; i++) {
			start = wl_now_s();
			if (wl_graph_run(g, 0, 0, NULL) < 0)
				break;
			took = wl_now_s() - start;
			if (i && took > 0 && 2.0 * N * N * N / took > best)
				best = 2.0 * N * N * N / took;
		}
	wl_graph_free(g);
	wl_params_release(&params);
	return best;
}

/* Seconds and work of one tower in all graphs so far. */
static void spent(const struct wl_trainer *t, enum wl_section s, double *seconds, double *flops)
{
	const struct wl_graph *g[2] = {t->moco.query, t->moco.key};
	double sec, work;

	*seconds = *flops = 0;
	for (int i = 0; i < 2 && g[i]; i++) {
		wl_graph_spent(g[i], s, &sec, &work);
		*seconds += sec;
		*flops += work;
	}
}

void wl_watch_start(struct wl_watch *w, const struct wl_trainer *t, double gflops)
{
	*w = (struct wl_watch){.t = t, .peak_flops = 1e9 * gflops};
}

double wl_resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long pages = 0;

	if (f) {
		if (fscanf(f, "%*s %ld", &pages) != 1)
			pages = 0;
		fclose(f);
	}
	return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

/* The share of the peak that the work since the last look reached in its own time. */
static void put_use(struct wl_watch *w, json_t *line, enum wl_section s, const char *key,
	const char *metric, double *last_s, double *last_flops)
{
	double seconds, flops, use;

	spent(w->t, s, &seconds, &flops);
	if (w->peak_flops > 0 && seconds > *last_s) {
		use = (flops - *last_flops) / (seconds - *last_s) / w->peak_flops;
		json_object_set_new(line, key, json_real(use));
		wl_metric_set(metric, "share of the processor's peak in this tower", use);
	}
	*last_s = seconds;
	*last_flops = flops;
}

void wl_watch_look(struct wl_watch *w, json_t *line)
{
	double rss = wl_resident_bytes();
	struct wl_dist_stats d;

	put_use(w, line, WL_SECTION_IMAGE, "mfu_image", "wenlan_train_mfu_image", &w->image_s,
		&w->image_flops);
	put_use(w, line, WL_SECTION_TEXT, "mfu_text", "wenlan_train_mfu_text", &w->text_s,
		&w->text_flops);
	if (rss > 0) {
		json_object_set_new(line, "rss_gib", json_real(rss / (1 << 30)));
		wl_metric_set("wenlan_train_resident_bytes", "memory of rank 0", rss);
	}
	if (!w->t->dist)
		return;
	wl_dist_stats(w->t->dist, &d);
	json_object_set_new(line, "exchange_wait_s", json_real(d.waited_s - w->exchange_s));
	wl_metric_set("wenlan_train_exchange_wait_seconds_total", "waiting for other ranks",
		d.waited_s);
	wl_metric_set("wenlan_train_sent_bytes_total", "weights and gradients sent by rank 0",
		d.sent_bytes);
	w->exchange_s = d.waited_s;
}
