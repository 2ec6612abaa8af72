/*
 * The figures of issue 7 on a GPU: towers, the whole step, kernels bound by memory, the optimiser.
 * One JSON object a row, with the bar that it is held against; rows go to the file WL_BENCH_ROWS
 * where that is set, with a line for people on standard output.  "of" is the share of what the
 * device could do (its peak of products with WL_PEAK_TFLOPS, of memory with WL_PEAK_GBPS; 989 and
 * 4800, an H200's, where not said).  Bars are judged at their own setting: a GPU, the preset
 * "paper", 600 px.
 *
 * usage: bench_gpu [cuda|cpu [PRESET [BATCH [PX [STEPS [PARAMETERS [rows|profile]]]]]]]
 * profile: the operations of a training step that cost most, by kind and shape, in place of rows:
 * their time between two waits for the device (less what an empty wait takes), bytes and
 * operations a second, and the share of the roofline.
 */
#include "tests/bench/bench.h"
#include "tests/bench/spenders.h"
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
	bool judged; /* the bars' own setting */
	FILE *rows;  /* NULL: rows on standard output */
};

static struct wl_err err;

static double peak(const char *name, double otherwise)
{
	const char *v = getenv(name);

	return v ? atof(v) : otherwise;
}

/* A figure and its bar, 0 for none; less: the bar is a most. */
struct figure {
	const char *row, *unit;
	double value, bar;
	bool less;
};

/* more: further members, or "". */
static void report(const struct setup *s, const struct figure *f, const char *more)
{
	bool good = f->less ? f->value <= f->bar : f->value >= f->bar;
	const char *verdict = !f->bar ? "none" : !s->judged ? "elsewhere" : good ? "pass" : "fail";
	FILE *to = s->rows ? s->rows : stdout;

	fprintf(to, "{\"row\":\"%s\",\"value\":%.6g,\"unit\":\"%s\"", f->row, f->value, f->unit);
	if (f->bar)
		fprintf(to, ",\"bar\":%g,\"verdict\":\"%s\"", f->bar, verdict);
	fprintf(to, "%s%s}\n", *more ? "," : "", more);
	fflush(to);
	if (!s->rows)
		return;
	printf("%-44s %11.5g %-9s", f->row, f->value, f->unit);
	if (f->bar)
		printf(" bar %s %g: %s", f->less ? "at most" : "at least", f->bar, verdict);
	printf("\n");
	fflush(stdout);
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

/* Seconds of one run of many, after three to warm up (and to record). */
static double time_graph(struct setup *s, struct wl_graph *g)
{
	double begin;

	for (int i = 0; i < 3; i++)
		must(wl_graph_run(g, 1, (uint64_t)i, &err), &err);
	sync_all(s);
	begin = wl_now_s();
	for (int i = 0; i < s->steps; i++)
		must(wl_graph_run(g, 1, (uint64_t)i, &err), &err);
	sync_all(s);
	return (wl_now_s() - begin) / s->steps;
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

/* images a second, or (of texts) the share of the peak. */
static void report_tower(struct setup *s, const char *what, bool image, double bar, double seconds,
	const struct wl_graph_stats *stats)
{
	double flops = (stats->flops_forward + stats->flops_backward) / seconds;
	struct figure f = {what, image ? "images/s" : "MFU",
		image ? (double)s->batch / seconds : flops / s->peak_flops, bar, false};
	char more[256];

	snprintf(more, sizeof more, "\"batch\":%lld,\"px\":%lld,\"tokens\":%lld,\"ms\":%.3f,"
		"\"tflops\":%.1f,\"of\":%.3f,\"arena_gib\":%.2f", (long long)s->batch,
		(long long)s->towers.image_px, (long long)s->towers.text_len, 1e3 * seconds,
		1e-12 * flops, flops / s->peak_flops, (double)stats->arena_bytes / 1073741824);
	report(s, &f, more);
}

static void bench_tower(struct setup *s, const char *what, bool image, bool backward, double bar)
{
	struct wl_params p;
	struct wl_graph *g;
	struct wl_graph_stats stats;
	double seconds;
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
	report_tower(s, what, image, bar, seconds, &stats);
	wl_graph_free(g);
	wl_params_release(&p);
}

/* --- kernels that memory bounds --- */

struct kernel {
	const char *name;
	wl_tid (*op)(struct wl_graph *g, wl_tid x);
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

/* What all operations of a graph read and write at the least. */
static double bytes_of(const struct wl_graph *g)
{
	struct wl_graph_cost c;
	double sum = 0;
	int forward, n = wl_graph_ops(g, &forward);

	for (int i = 0; i < n; i++) {
		wl_graph_cost(g, i, &c);
		sum += c.bytes;
	}
	return sum;
}

static void bench_kernel(struct setup *s, const struct kernel *k)
{
	struct wl_params p;
	struct wl_graph *g;
	wl_tid x, y;
	double seconds, bytes;
	char row[96], more[192];

	wl_params_init(&p);
	g = new_graph(s, k->name, &p);
	x = wl_g_input(g, "x", WL_F32, WL_SHAPE(k->n, k->px, k->px, k->c));
	/* Behind another operation, so that it reads what a network would store. */
	x = wl_g_act(g, x, WL_ACT_RELU);
	y = k->op(g, x);
	wl_g_output(g, y, "y");
	wl_g_want_grad(g, x);
	wl_g_seed(g, y, wl_g_input(g, "grad", WL_F32, wl_g_shape(g, y)));
	finish_graph(s, g, &p);
	fill(s, g, "x", false);
	fill(s, g, "grad", false);
	seconds = time_graph(s, g);
	bytes = bytes_of(g);
	snprintf(row, sizeof row, "%s, forward and backward", k->name);
	snprintf(more, sizeof more, "\"shape\":\"%lldx%lldx%lldx%lld\",\"ms\":%.3f,"
		"\"mib\":%.1f,\"of\":%.3f", (long long)k->n, (long long)k->px,
		(long long)k->px, (long long)k->c, 1e3 * seconds, bytes / 1048576,
		bytes / seconds / s->peak_bytes);
	report(s, &(struct figure){row, "TB/s", 1e-12 * bytes / seconds, 3.4, false}, more);
	wl_graph_free(g);
	wl_params_release(&p);
}

static void bench_kernels(struct setup *s)
{
	int64_t n = s->batch, px = s->towers.image_px / 4;
	const struct kernel v[] = {
		{"silu", op_act, n, px, 288},
		{"layer norm", op_ln, n, px, 1024},
		{"batch norm + silu", op_bn, n, px, 288},
		{"depthwise 3x3", op_depthwise3, n, px, 288},
		{"depthwise 5x5", op_depthwise5, n, px / 2, 480},
		{"squeeze and gate", op_gate, n, px, 288},
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
		.grad_scale = 1, .momentum = 0.99f};
	struct wl_adamw_range all = {0, s->parameters, 1e-4f, 0.05f};
	float *a[ARRAYS];
	double begin = 0, seconds;
	char more[128];

	for (int i = 0; i < ARRAYS; i++) {
		a[i] = s->be->alloc(s->be, bytes, &err);
		must(a[i] ? 0 : -1, &err);
	}
	how.k = a[4]; /* in the same pass: 24 bytes read and 16 written */
	for (int i = -2; i < s->steps; i++) {
		if (i == 0) {
			sync_all(s);
			begin = wl_now_s();
		}
		s->be->adamw(s->be, a[0], a[1], a[2], a[3], &all, 1, &how);
		how.step++;
	}
	sync_all(s);
	seconds = (wl_now_s() - begin) / s->steps;
	snprintf(more, sizeof more, "\"parameters\":%lld,\"ms\":%.3f,\"tb_per_s\":%.2f",
		(long long)s->parameters, 1e3 * seconds, 40e-12 * (double)n / seconds);
	report(s, &(struct figure){"AdamW and momentum update of 1 B parameters", "ms",
		1e12 * seconds / (double)s->parameters, 12, true}, more);
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

struct batch {
	struct wl_moco_batch b;
	float *images, *boxes, *mask, *text_mask;
	int32_t *ids;
	int64_t *pairs;
	uint64_t *hash;
};

static void batch_make(const struct setup *s, struct batch *v)
{
	const struct wl_towers *w = &s->towers;
	int64_t n = s->batch, pixels = n * w->image_px * w->image_px * 3;

	v->images = room(pixels, sizeof *v->images);
	v->boxes = room(n * w->regions, 4 * sizeof *v->boxes);
	v->mask = room(n * w->regions, sizeof *v->mask);
	v->text_mask = room(n * w->text_len, sizeof *v->text_mask);
	v->ids = room(n * w->text_len, sizeof *v->ids);
	v->pairs = room(n, sizeof *v->pairs);
	v->hash = room(n, sizeof *v->hash);
	for (int64_t i = 0; i < pixels; i++)
		v->images[i] = (float)(wl_rand64(1, 0, (uint64_t)i) % 2001) * 1e-3f - 1;
	for (int64_t i = 0; i < n * w->regions; i++) {
		v->mask[i] = 1;
		v->boxes[4 * i + 2] = v->boxes[4 * i + 3] = (float)w->image_px / 3;
	}
	for (int64_t i = 0; i < n * w->text_len; i++) {
		v->text_mask[i] = 1;
		v->ids[i] = (int32_t)(wl_rand64(2, 0, (uint64_t)i) % 21128);
	}
	for (int64_t i = 0; i < n; i++) {
		v->pairs[i] = i + 1;
		v->hash[i] = (uint64_t)i + 1;
	}
	v->b = (struct wl_moco_batch){v->images, v->boxes, v->mask, v->ids, v->text_mask, v->pairs,
		v->hash};
}

static void batch_release(struct batch *v)
{
	free(v->images);
	free(v->boxes);
	free(v->mask);
	free(v->text_mask);
	free(v->ids);
	free(v->pairs);
	free(v->hash);
}

static void trainer_open(struct setup *s, const struct wl_train_config *c, struct wl_trainer *t)
{
	must(wl_trainer_init(t, c, &s->towers, s->be, NULL, 1000, 100000, &err), &err);
	must(s->towers.init(&t->params, s->towers.model, 1, &err), &err);
	wl_trainer_start(t);
}

static void bench_step(struct setup *s, const struct wl_train_config *c)
{
	struct batch v;
	struct wl_step_report last = {0};
	struct wl_trainer t;
	double begin = 0, seconds;
	char more[128];

	batch_make(s, &v);
	trainer_open(s, c, &t);
	for (int i = -3; i < s->steps; i++) {
		if (i == 0) {
			sync_all(s);
			begin = wl_now_s();
		}
		must(wl_trainer_give(&t, &v.b, &err), &err);
		while (wl_trainer_untaken(&t) > (i + 1 < s->steps ? wl_trainer_late(&t) : 0))
			must(wl_trainer_take(&t, &last, &err), &err);
	}
	sync_all(s);
	seconds = (wl_now_s() - begin) / s->steps;
	snprintf(more, sizeof more, "\"batch\":%lld,\"ms\":%.2f,\"loss\":%.4f",
		(long long)s->batch, 1e3 * seconds, last.moco.loss);
	report(s, &(struct figure){"training step, everything", "pairs/s",
		(double)s->batch / seconds, 200, false}, more);
	wl_trainer_release(&t);
	batch_release(&v);
}

/* --- where a step's time goes --- */

/* What a wait takes that has nothing to wait for but one small piece of work. */
static double empty_ms(struct setup *s)
{
	void *p = s->be->alloc(s->be, 256, &err);
	double begin;

	must(p ? 0 : -1, &err);
	sync_all(s);
	begin = wl_now_s();
	for (int i = 0; i < 100; i++) {
		s->be->zero(s->be, p, 256);
		sync_all(s);
	}
	begin = wl_now_s() - begin;
	s->be->free_mem(s->be, p);
	return 10 * begin;
}

/* Both graphs of a step run once to warm up and once timed, with an operation at a time. */
static void profile(struct setup *s, const struct wl_train_config *c)
{
	static struct spender list[SPENDERS];
	static struct spender kind[WL_OP_KINDS];
	struct wl_step_report last;
	struct wl_trainer t;
	struct batch v;
	double total = 0, empty = empty_ms(s);
	int n = 0;

	batch_make(s, &v);
	trainer_open(s, c, &t);
	must(wl_trainer_step(&t, &v.b, &last, &err), &err);
	for (int i = 0; i < 2; i++) {
		struct wl_graph *g = i ? t.moco.query : t.moco.key;

		must(wl_graph_profile(g, 1, 1, &err), &err);
		spenders_add(list, &n, g, empty);
	}
	for (int i = 0; i < n; i++) {
		struct wl_graph_cost *k = &kind[list[i].all.kind].all;

		total += list[i].all.ms;
		k->kind = list[i].all.kind;
		k->label = "";
		k->flops += list[i].all.flops;
		k->bytes += list[i].all.bytes;
		k->ms += list[i].all.ms;
		kind[list[i].all.kind].n += list[i].n;
	}
	qsort(list, (size_t)n, sizeof *list, spender_by_time);
	qsort(kind, WL_OP_KINDS, sizeof *kind, spender_by_time);
	printf("a step's operations, %.1f ms one by one (%.3f ms of an empty wait taken off "
	       "each)\n",
		total, empty);
	for (int i = 0; i < COSTLIEST && i < n; i++)
		spender_print(&list[i], total, s->peak_flops, s->peak_bytes);
	printf("by kind\n");
	for (int i = 0; i < WL_OP_KINDS && kind[i].n; i++)
		spender_print(&kind[i], total, s->peak_flops, s->peak_bytes);
	wl_trainer_release(&t);
	batch_release(&v);
}

/* The same with all 1x1 convolutions the library's: what our own products save. */
static void bench_library(struct setup *s)
{
	if (!s->be->pointwise || getenv("WL_CUDA_OWN_GEMM"))
		return;
	setenv("WL_CUDA_OWN_GEMM", "0", 1);
	bench_tower(s, "image tower, forward and backward, library's 1x1", true, true, 0);
	bench_tower(s, "image tower, forward (momentum), library's 1x1", true, false, 0);
	unsetenv("WL_CUDA_OWN_GEMM");
}

static void rows(struct setup *s, const struct wl_train_config *c)
{
	bench_tower(s, "image tower, forward and backward", true, true, 300);
	bench_tower(s, "image tower, forward (momentum)", true, false, 1200);
	bench_library(s);
	bench_tower(s, "text tower, forward and backward", false, true, 0.5);
	bench_step(s, c);
	bench_kernels(s);
	bench_optimiser(s);
}

/* The run's configuration and the model of a preset, with the sides of its pictures. */
static void configure(struct setup *s, struct wl_train_config *c, const char *device,
	const char *preset, int px)
{
	static struct wl_opt table[WL_TRAIN_OPTIONS];

	wl_train_config_init(c, table);
	c->batch = s->batch;
	c->precision = "bf16";
	c->device = device;
	c->moco.queue = s->batch * (9600 / s->batch > 0 ? 9600 / s->batch : 1);
	must(wl_train_config_check(c, &err), &err);
	s->compute = c->moco.compute_dtype;
	must(wl_model_preset(preset, &s->model, &err), &err);
	if (px)
		s->model.image.px = px;
	if (!s->model.text.bert.vocab)
		s->model.text.bert.vocab = 21128;
	s->model.n_freeze = 0;
	must(wl_model_check(&s->model, &err), &err);
	wl_brivl_towers(&s->towers, &s->model);
}

int main(int argc, char **argv)
{
	const char *device = argc > 1 ? argv[1] : "cuda", *preset = argc > 2 ? argv[2] : "paper";
	const char *to = getenv("WL_BENCH_ROWS");
	struct wl_train_config c;
	struct setup s = {.batch = argc > 3 ? atoll(argv[3]) : 32,
		.steps = argc > 5 ? atoi(argv[5]) : 10,
		.parameters = argc > 6 ? atoll(argv[6]) : 1000000000,
		.peak_flops = 1e12 * peak("WL_PEAK_TFLOPS", 989),
		.peak_bytes = 1e9 * peak("WL_PEAK_GBPS", 4800)};
	bool gpu = !strcmp(device, "cuda");

	if (gpu && !wl_backend_cuda_count()) {
		printf("SKIPPED: there is no GPU here\n");
		return 0;
	}
	configure(&s, &c, device, preset, argc > 4 ? atoi(argv[4]) : 0);
	s.judged = gpu && !strcmp(preset, "paper") && s.towers.image_px == 600;
	s.rows = to ? fopen(to, "a") : NULL;
	s.be = wl_backend_open(device, 0, 0, &err);
	must(s.be ? 0 : -1, &err);
	if (argc > 7 && !strcmp(argv[7], "profile"))
		profile(&s, &c);
	else
		rows(&s, &c);
	wl_backend_close(s.be);
	if (s.rows)
		fclose(s.rows);
	return 0;
}
