/*
 * The figures of issue 7 on a GPU: towers, the whole step, kernels bound by memory, the optimiser.
 * One JSON object a row; "of" is the share of what the device could do (its peak of products with
 * WL_PEAK_TFLOPS, of memory with WL_PEAK_GBPS; 989 and 4800, an H200's, where not said).
 *
 * usage: bench_gpu [cuda|cpu [PRESET [BATCH [PX [STEPS [PARAMETERS]]]]]]
 */
#include "tests/bench/bench.h"
#include "train/towers.h"
#include "train/trainer.h"

#include <string.h>

struct setup {
	struct wl_backend *be;
	struct wl_model_config model;
	struct wl_towers towers;
	enum wl_dtype compute;
	int64_t batch, parameters;
	int steps;
	double peak_flops, peak_bytes;
};

static struct wl_err err;

static double peak(const char *name, double otherwise)
{
	const char *v = getenv(name);

	return v ? atof(v) : otherwise;
}

static void sync_all(struct setup *s)
{
	must(s->be->sync(s->be, &err), &err);
}

/* Fills a graph's leaf with small numbers, or with ones. */
static void fill(struct setup *s, struct wl_graph *g, const char *name, bool ones)
{
	wl_tid t = wl_graph_find(g, name);
	struct wl_shape shape = wl_g_shape(g, t);
	size_t n = (size_t)wl_shape_count(&shape);
	float *v = malloc(n * sizeof *v);

	must(v ? 0 : wl_err_nomem(&err, "an input", n * sizeof *v), &err);
	for (size_t i = 0; i < n; i++)
		v[i] = ones ? 1 : (float)(wl_rand64(1, 2, i) % 2001) * 1e-3f - 1;
	s->be->upload(s->be, wl_graph_data(g, t), v, n * sizeof *v);
	free(v);
}

/* Seconds of one run, the median of `steps` after three to warm up (and to record). */
static double time_graph(struct setup *s, struct wl_graph *g)
{
	double best = 0, begin;

	for (int i = 0; i < 3; i++)
		must(wl_graph_run(g, 1, (uint64_t)i, &err), &err);
	sync_all(s);
	begin = wl_now_s();
	for (int i = 0; i < s->steps; i++)
		must(wl_graph_run(g, 1, (uint64_t)i, &err), &err);
	sync_all(s);
	best = (wl_now_s() - begin) / s->steps;
	return best;
}

static struct wl_graph *new_graph(struct setup *s, const char *name, struct wl_params *p)
{
	struct wl_graph_options o = {.train = true, .compute_dtype = s->compute, .no_wait = true};
	struct wl_graph *g = wl_graph_new(name, p, &o, &err);

	must(g ? 0 : -1, &err);
	wl_graph_record(g, true);
	wl_graph_store_for(g, s->be);
	return g;
}

static void finish_graph(struct setup *s, struct wl_graph *g, struct wl_params *p)
{
	must(wl_params_seal(p, s->be, true, &err), &err);
	must(wl_graph_compile(g, s->be, &err), &err);
}

/* --- towers --- */

static wl_tid image_tower(struct setup *s, struct wl_graph *g)
{
	const struct wl_towers *t = &s->towers;
	wl_tid x = wl_g_input(g, "images", WL_F32,
		WL_SHAPE(s->batch, t->image_px, t->image_px, 3));
	wl_tid boxes = wl_g_input(g, "boxes", WL_F32, WL_SHAPE(s->batch, t->regions, 4));
	wl_tid mask = wl_g_input(g, "mask", WL_F32, WL_SHAPE(s->batch, t->regions));

	return t->image(g, t->model, x, boxes, mask);
}

static wl_tid text_tower(struct setup *s, struct wl_graph *g)
{
	const struct wl_towers *t = &s->towers;
	wl_tid ids = wl_g_input(g, "ids", WL_I32, WL_SHAPE(s->batch, t->text_len));
	wl_tid mask = wl_g_input(g, "mask", WL_F32, WL_SHAPE(s->batch, t->text_len));

	return t->text(g, t->model, ids, mask);
}

static void bench_tower(struct setup *s, const char *what, bool image, bool backward)
{
	struct wl_params p;
	struct wl_graph *g;
	struct wl_graph_stats stats;
	double seconds, flops;
	wl_tid out;

	wl_params_init(&p);
	g = new_graph(s, what, &p);
	out = image ? image_tower(s, g) : text_tower(s, g);
	wl_g_output(g, out, "out");
	if (backward)
		wl_g_seed(g, out, wl_g_input(g, "grad", WL_F32, wl_g_shape(g, out)));
	finish_graph(s, g, &p);
	must(s->towers.init(&p, s->towers.model, 1, &err), &err);
	fill(s, g, "mask", true);
	if (image) {
		fill(s, g, "images", false);
		fill(s, g, "boxes", true);
	}
	if (backward)
		fill(s, g, "grad", false);
	seconds = time_graph(s, g);
	wl_graph_stats(g, &stats);
	flops = stats.flops_forward + stats.flops_backward;
	printf("{\"row\":\"%s\",\"batch\":%lld,\"ms\":%.2f,\"per_s\":%.1f,\"tflops\":%.1f,"
	       "\"of\":%.3f,\"arena_gib\":%.2f}\n",
		what, (long long)s->batch, 1e3 * seconds, (double)s->batch / seconds,
		1e-12 * flops / seconds, flops / seconds / s->peak_flops,
		(double)stats.arena_bytes / 1073741824);
	fflush(stdout);
	wl_graph_free(g);
	wl_params_release(&p);
}

/* --- kernels that memory bounds --- */

struct kernel {
	const char *name;
	/* One operation on x; reads and writes of an array of x's size, forward and backward, at
	 * the least. */
	wl_tid (*op)(struct wl_graph *g, wl_tid x);
	double passes;
	int64_t n, px, c;
};

static wl_tid gain(struct wl_graph *g, const char *name, int64_t c)
{
	return wl_g_param(g, name, WL_LAYOUT_PLAIN, WL_SHAPE(c), WL_PARAM_GAIN);
}

static wl_tid op_act(struct wl_graph *g, wl_tid x)
{
	return wl_g_act(g, x, WL_ACT_SILU);
}

static wl_tid op_ln(struct wl_graph *g, wl_tid x)
{
	int64_t c = wl_g_shape(g, x).dim[3];
	struct wl_ln ln = {.gamma = gain(g, "w", c), .beta = gain(g, "b", c), .eps = 1e-5f};

	return wl_g_layer_norm(g, x, &ln);
}

static wl_tid op_bn(struct wl_graph *g, wl_tid x)
{
	int64_t c = wl_g_shape(g, x).dim[3];
	struct wl_bn bn = {.gamma = gain(g, "w", c), .beta = gain(g, "b", c),
		.mean = wl_g_param(g, "m", WL_LAYOUT_PLAIN, WL_SHAPE(c), WL_PARAM_BUFFER),
		.var = wl_g_param(g, "v", WL_LAYOUT_PLAIN, WL_SHAPE(c), WL_PARAM_BUFFER),
		.eps = 1e-3f, .momentum = 0.1f, .act = WL_ACT_SILU};

	return wl_g_batch_norm(g, x, &bn);
}

static wl_tid depthwise(struct wl_graph *g, wl_tid x, int64_t k)
{
	return wl_g_depthwise(g, x, wl_g_param(g, "w", WL_LAYOUT_DEPTHWISE,
		WL_SHAPE(wl_g_shape(g, x).dim[3], 1, k, k), WL_PARAM_WEIGHT), 1);
}

static wl_tid op_depthwise3(struct wl_graph *g, wl_tid x)
{
	return depthwise(g, x, 3);
}

static wl_tid op_depthwise5(struct wl_graph *g, wl_tid x)
{
	return depthwise(g, x, 5);
}

static wl_tid op_gate(struct wl_graph *g, wl_tid x)
{
	return wl_g_channel_scale(g, x, wl_g_mean_hw(g, x));
}

static void bench_kernel(struct setup *s, const struct kernel *k)
{
	struct wl_params p;
	struct wl_graph *g;
	wl_tid x, y;
	double seconds, bytes;

	wl_params_init(&p);
	g = new_graph(s, k->name, &p);
	x = wl_g_input(g, "x", WL_F32, WL_SHAPE(k->n, k->px, k->px, k->c));
	/* Between two additions, so that it reads and writes what a network would store. */
	x = wl_g_act(g, x, WL_ACT_RELU);
	y = k->op(g, x);
	wl_g_output(g, y, "y");
	wl_g_want_grad(g, x);
	wl_g_seed(g, y, wl_g_input(g, "grad", WL_F32, wl_g_shape(g, y)));
	finish_graph(s, g, &p);
	fill(s, g, "x", false);
	fill(s, g, "grad", false);
	seconds = time_graph(s, g);
	/* Two more for the activation before it, in f32 at the graph's ends. */
	bytes = (k->passes + 2) * 4 * (double)(k->n * k->px * k->px * k->c);
	printf("{\"row\":\"%s, forward and backward\",\"shape\":\"%lldx%lldx%lldx%lld\","
	       "\"ms\":%.3f,\"gbps\":%.0f,\"of\":%.3f}\n",
		k->name, (long long)k->n, (long long)k->px, (long long)k->px, (long long)k->c,
		1e3 * seconds, 1e-9 * bytes / seconds, bytes / seconds / s->peak_bytes);
	fflush(stdout);
	wl_graph_free(g);
	wl_params_release(&p);
}

static void bench_kernels(struct setup *s)
{
	int64_t n = s->batch, px = s->towers.image_px / 4;
	const struct kernel v[] = {
		{"silu", op_act, 5, n, px, 288},
		{"layer norm", op_ln, 5, n, px, 1024},
		{"batch norm + silu", op_bn, 8, n, px, 288},
		{"depthwise 3x3", op_depthwise3, 6, n, px, 288},
		{"depthwise 5x5", op_depthwise5, 6, n, px / 2, 480},
		{"squeeze and gate", op_gate, 8, n, px, 288},
	};

	for (size_t i = 0; i < sizeof v / sizeof *v; i++)
		bench_kernel(s, &v[i]);
}

/* --- the optimiser --- */

static void bench_optimiser(struct setup *s)
{
	enum { ARRAYS = 5 };
	size_t n = (size_t)s->parameters, bytes = n * sizeof(float);
	struct wl_adamw how = {.beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f, .step = 1,
		.grad_scale = 1};
	struct wl_adamw_range all = {0, s->parameters, 1e-4f, 0.05f};
	float *a[ARRAYS];
	double begin = 0, seconds;

	for (int i = 0; i < ARRAYS; i++) {
		a[i] = s->be->alloc(s->be, bytes, &err);
		must(a[i] ? 0 : -1, &err);
	}
	for (int i = -2; i < s->steps; i++) {
		if (i == 0) {
			sync_all(s);
			begin = wl_now_s();
		}
		s->be->adamw(s->be, a[0], a[1], a[2], a[3], &all, 1, &how);
		s->be->ema(s->be, a[4], a[0], s->parameters, 0.99f);
		how.step++;
	}
	sync_all(s);
	seconds = (wl_now_s() - begin) / s->steps;
	printf("{\"row\":\"AdamW and momentum update\",\"parameters\":%lld,\"ms\":%.2f,"
	       "\"ms_per_billion\":%.2f}\n",
		(long long)s->parameters, 1e3 * seconds, 1e12 * seconds / (double)s->parameters);
	fflush(stdout);
	for (int i = 0; i < ARRAYS; i++)
		s->be->free_mem(s->be, a[i]);
}

/* --- the step --- */

static void *room(int64_t n, size_t each)
{
	void *p = calloc((size_t)n, each);

	must(p ? 0 : wl_err_nomem(&err, "a batch", (size_t)n * each), &err);
	return p;
}

static void bench_step(struct setup *s, struct wl_train_config *c)
{
	const struct wl_towers *w = &s->towers;
	int64_t n = s->batch, pixels = n * w->image_px * w->image_px * 3;
	float *images = room(pixels, 4), *boxes = room(n * w->regions, 16);
	float *mask = room(n * w->regions, 4), *text_mask = room(n * w->text_len, 4);
	int64_t *pairs = room(n, 8);
	struct wl_moco_batch b = {images, boxes, mask, room(n * w->text_len, 4), text_mask, pairs,
		room(n, 8)};
	struct wl_step_report report = {0};
	struct wl_trainer t;
	double begin = 0, seconds;

	for (int64_t i = 0; i < pixels; i++)
		images[i] = (float)(wl_rand64(1, 0, (uint64_t)i) % 2001) * 1e-3f - 1;
	for (int64_t i = 0; i < n * w->regions; i++) {
		mask[i] = 1;
		boxes[4 * i + 2] = boxes[4 * i + 3] = (float)w->image_px / 3;
	}
	for (int64_t i = 0; i < n * w->text_len; i++)
		text_mask[i] = 1;
	for (int64_t i = 0; i < n; i++)
		pairs[i] = i + 1;
	must(wl_trainer_init(&t, c, w, s->be, NULL, 1000, 100000, &err), &err);
	must(w->init(&t.params, w->model, 1, &err), &err);
	wl_trainer_start(&t);
	for (int i = -3; i < s->steps; i++) {
		if (i == 0) {
			sync_all(s);
			begin = wl_now_s();
		}
		must(wl_trainer_give(&t, &b, &err), &err);
		while (wl_trainer_untaken(&t) > (i + 1 < s->steps ? wl_trainer_late(&t) : 0))
			must(wl_trainer_take(&t, &report, &err), &err);
	}
	sync_all(s);
	seconds = (wl_now_s() - begin) / s->steps;
	printf("{\"row\":\"training step, everything\",\"batch\":%lld,\"ms\":%.2f,"
	       "\"pairs_per_s\":%.1f,\"loss\":%.4f}\n",
		(long long)n, 1e3 * seconds, (double)n / seconds, report.moco.loss);
	wl_trainer_release(&t);
	free(images);
	free(boxes);
	free(mask);
	free(text_mask);
	free(pairs);
	free((void *)(uintptr_t)b.ids);
	free((void *)(uintptr_t)b.text_hash);
}

int main(int argc, char **argv)
{
	const char *device = argc > 1 ? argv[1] : "cuda", *preset = argc > 2 ? argv[2] : "paper";
	struct wl_opt table[WL_TRAIN_OPTIONS];
	struct wl_train_config c;
	struct setup s = {.batch = argc > 3 ? atoll(argv[3]) : 32,
		.steps = argc > 5 ? atoi(argv[5]) : 10,
		.parameters = argc > 6 ? atoll(argv[6]) : 1000000000,
		.peak_flops = 1e12 * peak("WL_PEAK_TFLOPS", 989),
		.peak_bytes = 1e9 * peak("WL_PEAK_GBPS", 4800)};

	if (!strcmp(device, "cuda") && !wl_backend_cuda_count()) {
		printf("SKIPPED: there is no GPU here\n");
		return 0;
	}
	wl_train_config_init(&c, table);
	c.batch = s.batch;
	c.precision = "bf16";
	c.device = device;
	c.moco.queue = 9600;
	must(wl_train_config_check(&c, &err), &err);
	s.compute = c.moco.compute_dtype;
	must(wl_model_preset(preset, &s.model, &err), &err);
	if (argc > 4)
		s.model.image.px = atoi(argv[4]);
	if (!s.model.text.bert.vocab)
		s.model.text.bert.vocab = 21128;
	s.model.n_freeze = 0;
	must(wl_model_check(&s.model, &err), &err);
	wl_brivl_towers(&s.towers, &s.model);
	s.be = wl_backend_open(device, 0, 0, &err);
	must(s.be ? 0 : -1, &err);
	bench_optimiser(&s);
	bench_kernels(&s);
	bench_tower(&s, "image tower, forward and backward", true, true);
	bench_tower(&s, "image tower, forward", true, false);
	bench_tower(&s, "text tower, forward and backward", false, true);
	bench_step(&s, &c);
	wl_backend_close(s.be);
	return 0;
}
