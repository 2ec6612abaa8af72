/*
 * The loader's second half as kernels: see train/backend/pictures.h.
 *
 * A thread makes a pixel.  The resize reads the taps of all planes where they lie: at 600 px some
 * 30 bytes a pixel, neighbours sharing them in the first-level cache, so that neither shared memory
 * nor a separate pass per axis would save time worth having: the pass writes 12 bytes a pixel, and
 * everything together moves 12 (most pictures) to 84 bytes a pixel (contrast and blur), 4 to 30 MB
 * a picture of 600 px, a hundredth of what the training step moves for it.
 *
 * A picture passes a kernel only where it must: contrast needs the mean of the whole picture, blur
 * its neighbours; the others come out of the first one finished.  Blocks of pictures that have
 * nothing to do return at once.
 */
#include "train/backend/cuda/cuda.h"
#include "train/backend/cuda/room.h"

#include "loader/augment_formula.h"
#define noreturn __attribute__((noreturn))
extern "C" {
#include "train/backend/pictures.h"
}
#undef noreturn

enum {
	TOGETHER = 16,	 /* pictures that share the scratch memory */
	LUMA_BLOCKS = 32, /* of a picture's sum of luma */
	BEGUN = 2,	 /* batches begun and not taken, or in use */
};

/* What the kernels of a group of pictures are given. */
struct group {
	const struct wl_planes *table; /* [pictures] */
	const uint8_t *areas;	       /* [pictures][area_bytes] */
	const uint8_t *decoded;	       /* the same of what nvJPEG decoded; NULL: nothing */
	int64_t area_bytes;
	int side;
	float scale[3], shift[3]; /* normalised = v * scale - shift */
	float *work, *blurred;	  /* [pictures,S,S,3] */
	double *luma;		  /* [pictures,LUMA_BLOCKS] */
	struct cuda_act out;	  /* [pictures,S,S,3] */
};

/* --- device --- */

static __device__ inline const int32_t *ints(const uint8_t *area, uint32_t at)
{
	return (const int32_t *)(const void *)(area + at);
}

static __device__ inline const float *floats(const uint8_t *area, uint32_t at)
{
	return (const float *)(const void *)(area + at);
}

/* Down the columns, then along the row: the resizer's order of sums. */
static __device__ float resize(
	const uint8_t *area, const uint8_t *samples, const struct wl_stored_plane *s, int x, int y)
{
	const struct wl_axis *ax = &s->across, *ay = &s->down;
	const uint8_t *from = samples + s->data + (int64_t)ints(area, ay->start)[y] * s->pitch +
			      ints(area, ax->start)[x];
	const float *wx = floats(area, ax->weight) + (int64_t)x * ax->taps;
	const float *wy = floats(area, ay->weight) + (int64_t)y * ay->taps;
	float sum = 0;

	for (int j = 0; j < ax->taps; j++) {
		float down = 0;

		for (int k = 0; k < ay->taps; k++)
			down += (float)from[(int64_t)k * s->pitch + j] * wy[k];
		sum += down * wx[j];
	}
	return sum;
}

static __device__ void fetch(
	const struct group *g, const struct wl_planes *p, int64_t picture, int x, int y, float v[3])
{
	const uint8_t *area = g->areas + picture * g->area_bytes, *samples = area;
	int64_t side = g->side;

	if (p->planes == 0) {
		const float *at = floats(area, p->plane[0].data) + y * side + x;

		for (int k = 0; k < 3; k++)
			v[k] = at[k * side * side];
		return;
	}
	if (p->jpeg_bytes)
		samples = g->decoded + picture * g->area_bytes;
	for (int k = 0; k < p->planes; k++)
		v[k] = resize(area, samples, &p->plane[k], x, y);
	if (p->planes == 1)
		v[1] = v[2] = v[0];
	else if (p->ycc)
		wl_aug_ycc(&v[0], &v[1], &v[2]);
}

static __device__ inline int contrast_at(const struct wl_augment_params *a)
{
	for (int i = 0; i < WL_JITTER_PARTS; i++)
		if (a->order[i] == WL_CONTRAST)
			return i;
	return -1;
}

/* order[from..to) on one pixel; mean: of the picture's luma, for contrast. */
static __device__ void jitter(
	const struct wl_augment_params *a, int from, int to, float mean, float v[3])
{
	for (int i = from; i < to; i++) {
		int part = a->order[i];
		float base = part == WL_CONTRAST ? mean : 0.0f;

		if (part == WL_BRIGHTNESS || part == WL_CONTRAST)
			for (int k = 0; k < 3; k++)
				v[k] = wl_aug_blend(v[k], base, a->factor[part]);
		else if (part == WL_SATURATION)
			wl_aug_saturate(&v[0], &v[1], &v[2], a->factor[part]);
		else if (part == WL_HUE)
			wl_aug_hue(&v[0], &v[1], &v[2], a->factor[part]);
	}
}

static __device__ void emit(const struct group *g, int64_t pixel, const float v[3])
{
	for (int k = 0; k < 3; k++)
		act_store(g->out, 3 * pixel + k, v[k] * g->scale[k] - g->shift[k]);
}

static __device__ void put(float *to, int64_t pixel, const float v[3])
{
	for (int k = 0; k < 3; k++)
		to[3 * pixel + k] = v[k];
}

static __device__ void get(const float *from, int64_t pixel, float v[3])
{
	for (int k = 0; k < 3; k++)
		v[k] = from[3 * pixel + k];
}

/* The colours are final: graying, then out or on to the blur. */
static __device__ void colours_done(
	const struct group *g, const struct wl_planes *p, int64_t pixel, float v[3])
{
	if (p->params.grey)
		v[0] = v[1] = v[2] = wl_aug_luma(v[0], v[1], v[2]);
	if (p->radius < 0)
		emit(g, pixel, v);
	else
		put(g->work, pixel, v);
}

/* --- kernels; n: pixels of all pictures --- */

static __global__ void resize_kernel(int64_t n, struct group g)
{
	int64_t px = (int64_t)g.side * g.side;

	EACH(i, n)
	{
		int64_t picture = i / px;
		int at = (int)(i % px);
		const struct wl_planes *p = &g.table[picture];
		int contrast = contrast_at(&p->params);
		float v[3];

		fetch(&g, p, picture, at % g.side, at / g.side, v);
		jitter(&p->params, 0, contrast < 0 ? WL_JITTER_PARTS : contrast, 0, v);
		if (contrast < 0)
			colours_done(&g, p, i, v);
		else
			put(g.work, i, v);
	}
}

/* A block: part of one picture's sum of luma. */
static __global__ void luma_kernel(struct group g)
{
	int64_t px = (int64_t)g.side * g.side, picture = blockIdx.x / LUMA_BLOCKS;
	int64_t first = (int64_t)(blockIdx.x % LUMA_BLOCKS) * CUDA_THREADS + threadIdx.x;
	double sum = 0;

	if (contrast_at(&g.table[picture].params) < 0)
		return;
	for (int64_t i = first; i < px; i += LUMA_BLOCKS * CUDA_THREADS) {
		float v[3];

		get(g.work, picture * px + i, v);
		sum += (double)wl_aug_luma(v[0], v[1], v[2]);
	}
	sum = block_sum(sum);
	if (threadIdx.x == 0)
		g.luma[blockIdx.x] = sum;
}

/* Contrast and the colours after it. */
static __global__ void contrast_kernel(int64_t n, struct group g)
{
	int64_t px = (int64_t)g.side * g.side;

	EACH(i, n)
	{
		int64_t picture = i / px;
		const struct wl_planes *p = &g.table[picture];
		int contrast = contrast_at(&p->params);
		double sum = 0;
		float v[3];

		if (contrast < 0)
			continue;
		for (int b = 0; b < LUMA_BLOCKS; b++)
			sum += g.luma[picture * LUMA_BLOCKS + b];
		get(g.work, i, v);
		jitter(&p->params, contrast, WL_JITTER_PARTS, (float)(sum / (double)px), v);
		colours_done(&g, p, i, v);
	}
}

/* Half of a blur of one pixel: along the row (step 3) or down the columns (step 3 S); `at`: the
 * pixel's place on that line. */
static __device__ void blur(const struct wl_planes *p, const uint8_t *area, const float *line,
	int64_t step, int at, int side, float v[3])
{
	const float *kernel = floats(area, p->kernel);

	for (int c = 0; c < 3; c++)
		v[c] = line[at * step + c] * kernel[0];
	for (int k = 1; k <= p->radius; k++) {
		int64_t a = wl_aug_reflect(at - k, side) * step;
		int64_t b = wl_aug_reflect(at + k, side) * step;

		for (int c = 0; c < 3; c++)
			v[c] += (line[a + c] + line[b + c]) * kernel[k];
	}
}

/* down: false, work to blurred; true, blurred to out. */
static __global__ void blur_kernel(int64_t n, bool down, struct group g)
{
	int64_t px = (int64_t)g.side * g.side;

	EACH(i, n)
	{
		int64_t picture = i / px;
		int x = (int)(i % px) % g.side, y = (int)(i % px) / g.side;
		const struct wl_planes *p = &g.table[picture];
		const uint8_t *area = g.areas + picture * g.area_bytes;
		const float *from = (down ? g.blurred : g.work) + 3 * picture * px;
		float v[3];

		if (p->radius < 0)
			continue;
		if (down) {
			blur(p, area, from + 3 * x, 3 * (int64_t)g.side, y, g.side, v);
			emit(&g, i, v);
		} else {
			blur(p, area, from + 3 * (int64_t)y * g.side, 3, x, g.side, v);
			put(g.blurred, i, v);
		}
	}
}

/* --- host --- */

struct wl_pictures {
	struct cuda *main; /* the backend: its stream uses the results */
	struct cuda side;  /* a copy with a stream of its own */
	struct wl_pictures_opts o;
	size_t area_bytes;
	uint8_t *areas;		      /* device [batch][area_bytes] */
	uint8_t *decoded;	      /* the same for nvJPEG; NULL: JPEGs do not come */
	struct cuda_jpegs *jpegs;
	struct cuda_jpeg *list; /* [batch] */
	struct wl_planes *table;      /* device [batch] */
	struct wl_planes *sent[BEGUN]; /* pinned [batch]: what is uploaded into table */
	void *out[BEGUN];	      /* device [batch,S,S,3] */
	float *work, *blurred;	      /* device [TOGETHER,S,S,3] */
	double *luma;
	cudaEvent_t uploaded[BEGUN], made[BEGUN], used[BEGUN];
	int64_t begun, taken; /* batches so far */
};

static int gpu_failed(cudaError_t code, const char *what, struct wl_err *err)
{
	return wl_err_set(
		err, WL_EFAIL, "the GPU failed in %s: %s", what, cudaGetErrorString(code));
}

static int device_of(void *be)
{
	return ((struct cuda *)((struct wl_backend *)be)->impl)->device;
}

static void *pictures_alloc_host(void *be, size_t bytes, struct wl_err *err)
{
	void *p = NULL;
	/* Perhaps of the loader's threads, whose first call on another GPU would make a context. */
	cudaError_t code = be ? cudaSetDevice(device_of(be)) : cudaSuccess;

	if (code == cudaSuccess)
		code = cudaMallocHost(&p, bytes ? bytes : 1);
	if (code == cudaSuccess)
		return p;
	cudaGetLastError(); /* it is told here */
	wl_err_set(err, WL_EFAIL, "no %zu bytes of memory that the GPU can fetch from (%s); lower "
		"data.prefetch or data.batch, or say data.gpu-augment: off", bytes,
		cudaGetErrorString(code));
	return NULL;
}

static void pictures_free_host(void *be, void *p)
{
	if (p && be)
		cudaSetDevice(device_of(be));
	if (p)
		cudaFreeHost(p);
}

static void pictures_close(struct wl_pictures *p)
{
	if (!p)
		return;
	if (p->side.stream) {
		cudaStreamSynchronize(p->side.stream);
		cudaStreamDestroy(p->side.stream);
	}
	for (int k = 0; k < BEGUN; k++) {
		cudaFree(p->out[k]);
		pictures_free_host(NULL, p->sent[k]);
		if (p->uploaded[k])
			cudaEventDestroy(p->uploaded[k]);
		if (p->made[k])
			cudaEventDestroy(p->made[k]);
		if (p->used[k])
			cudaEventDestroy(p->used[k]);
	}
	wl_cuda_jpegs_close(p->jpegs);
	free(p->list);
	cudaFree(p->decoded);
	cudaFree(p->areas);
	cudaFree(p->table);
	cudaFree(p->work);
	cudaFree(p->blurred);
	cudaFree(p->luma);
	free(p);
}

/* How many of n pictures go through the kernels together. */
static int64_t group_of(int64_t n)
{
	return n < (int64_t)TOGETHER ? n : (int64_t)TOGETHER;
}

static cudaError_t allocate(struct wl_pictures *p)
{
	size_t n = (size_t)p->o.batch, together = (size_t)group_of(p->o.batch);
	size_t picture = 3 * (size_t)p->o.px * (size_t)p->o.px;
	size_t element = p->o.dtype == WL_BF16 ? 2 : 4;
	cudaError_t code = cudaStreamCreateWithFlags(&p->side.stream, cudaStreamNonBlocking);

#define GET(call)                                                                                  \
	code = code == cudaSuccess ? call : code
	GET(cudaMalloc((void **)&p->areas, n * p->area_bytes));
	if (p->o.jpegs)
		GET(cudaMalloc((void **)&p->decoded, n * p->area_bytes));
	GET(cudaMalloc((void **)&p->table, n * sizeof *p->table));
	GET(cudaMalloc((void **)&p->work, together * picture * sizeof(float)));
	GET(cudaMalloc((void **)&p->blurred, together * picture * sizeof(float)));
	GET(cudaMalloc((void **)&p->luma, together * LUMA_BLOCKS * sizeof *p->luma));
	for (int k = 0; k < BEGUN; k++) {
		GET(cudaMalloc(&p->out[k], n * picture * element));
		GET(cudaEventCreateWithFlags(&p->uploaded[k], cudaEventDisableTiming));
		GET(cudaEventCreateWithFlags(&p->made[k], cudaEventDisableTiming));
		GET(cudaEventCreateWithFlags(&p->used[k], cudaEventDisableTiming));
	}
#undef GET
	return code;
}

static struct wl_pictures *pictures_open(
	struct wl_backend *be, const struct wl_pictures_opts *o, struct wl_err *err)
{
	struct wl_pictures *p = (struct wl_pictures *)calloc(1, sizeof *p);
	cudaError_t code;

	if (!p) {
		wl_err_nomem(err, "pictures on the GPU", sizeof *p);
		return NULL;
	}
	p->main = (struct cuda *)be->impl;
	p->side = *p->main;
	p->side.stream = NULL;
	p->o = *o;
	p->area_bytes = wl_planes_area(o->px);
	code = allocate(p);
	if (code != cudaSuccess) {
		wl_cuda_no_room("the making of pictures", 0, cudaGetErrorString(code),
			", or leave it to the processor (--no-data.gpu-augment)", err);
		pictures_close(p);
		return NULL;
	}
	if (o->jpegs) {
		p->list = (struct cuda_jpeg *)calloc((size_t)o->batch, sizeof *p->list);
		if (!p->list)
			wl_err_nomem(err, "JPEGs on the GPU", (size_t)o->batch * sizeof *p->list);
		if (!p->list || wl_cuda_jpegs_open(&p->jpegs, o->batch, err) < 0) {
			pictures_close(p);
			return NULL;
		}
	}
	for (int k = 0; k < BEGUN; k++) {
		p->sent[k] = (struct wl_planes *)pictures_alloc_host(
			NULL, (size_t)o->batch * sizeof *p->sent[k], err);
		if (!p->sent[k]) {
			pictures_close(p);
			return NULL;
		}
	}
	return p;
}

/* The kernels of pictures first .. first + n of the batch. */
static void make(struct wl_pictures *p, void *out, int64_t first, int64_t n)
{
	int64_t pixels = n * p->o.px * p->o.px;
	size_t picture = 3 * (size_t)p->o.px * (size_t)p->o.px;
	bool half = is_half(p->o.dtype);
	struct group g;

	memset(&g, 0, sizeof g);
	g.table = p->table + first;
	g.areas = p->areas + (size_t)first * p->area_bytes;
	g.decoded = p->decoded ? p->decoded + (size_t)first * p->area_bytes : NULL;
	g.area_bytes = (int64_t)p->area_bytes;
	g.side = p->o.px;
	for (int k = 0; k < 3; k++) {
		g.scale[k] = 1.0f / p->o.std[k];
		g.shift[k] = p->o.mean[k] / p->o.std[k];
	}
	g.work = p->work;
	g.blurred = p->blurred;
	g.luma = p->luma;
	g.out.p = (char *)out + (size_t)first * picture * (half ? 2 : 4);
	g.out.type = p->o.dtype;
	CUDA_EACH(&p->side, pixels, resize_kernel, g);
	CUDA_BLOCKS(&p->side, n * LUMA_BLOCKS, luma_kernel, g);
	CUDA_EACH(&p->side, pixels, contrast_kernel, g);
	CUDA_EACH(&p->side, pixels, blur_kernel, false, g);
	CUDA_EACH(&p->side, pixels, blur_kernel, true, g);
}

static cudaError_t upload(struct wl_pictures *p, int k, const uint8_t *areas, int64_t n)
{
	cudaStream_t stream = p->side.stream;
	cudaError_t code = cudaMemcpyAsync(p->table, p->sent[k], (size_t)n * sizeof *p->table,
		cudaMemcpyDefault, stream);

	for (int64_t i = 0; i < n && code == cudaSuccess; i++)
		code = cudaMemcpyAsync(p->areas + (size_t)i * p->area_bytes,
			areas + (size_t)p->sent[k][i].area * p->area_bytes, p->sent[k][i].bytes,
			cudaMemcpyDefault, stream);
	return code;
}

/* Those of n pictures that came as JPEGs. */
static int decode(struct wl_pictures *p, int k, const uint8_t *areas, int64_t n, struct wl_err *err)
{
	int64_t count = 0;

	for (int64_t i = 0; i < n; i++) {
		const struct wl_planes *s = &p->sent[k][i];
		struct cuda_jpeg *j = &p->list[count];

		if (!s->jpeg_bytes)
			continue;
		j->bytes = areas + (size_t)s->area * p->area_bytes + s->jpeg;
		j->n = s->jpeg_bytes;
		j->planes = s->planes;
		for (int c = 0; c < s->planes; c++) {
			j->plane[c] = p->decoded + (size_t)i * p->area_bytes + s->plane[c].data;
			j->pitch[c] = (size_t)s->plane[c].pitch;
		}
		count++;
	}
	return count ? wl_cuda_jpegs_decode(p->jpegs, p->list, count, p->side.stream, err) : 0;
}

static int pictures_start(struct wl_pictures *p, const uint8_t *areas, size_t area_bytes,
	const struct wl_planes *planes, int64_t n, struct wl_err *err)
{
	int k = (int)(p->begun % BEGUN);
	cudaError_t code = cudaSuccess;
	int64_t i;

	WL_ASSERT(n <= p->o.batch && area_bytes == p->area_bytes &&
		  p->begun - p->taken < BEGUN - (p->taken > 0));
	/* What lay in out[k] has been used by now, or will be: then this waits on the device.  take
	 * of the batch between has marked it. */
	if (p->begun >= BEGUN)
		code = cudaStreamWaitEvent(p->side.stream, p->used[k], 0);
	memcpy(p->sent[k], planes, (size_t)n * sizeof *planes);
	if (code == cudaSuccess)
		code = upload(p, k, areas, n);
	if (code == cudaSuccess && p->jpegs)
		WL_TRY(decode(p, k, areas, n, err));
	/* Decoders may read the host's bytes until they are done, and have one state. */
	if (code == cudaSuccess)
		code = cudaEventRecord(p->uploaded[k], p->side.stream);
	for (i = 0; i < n && code == cudaSuccess; i += TOGETHER) {
		make(p, p->out[k], i, group_of(n - i));
		code = cudaGetLastError();
	}
	if (code == cudaSuccess)
		code = cudaEventRecord(p->made[k], p->side.stream);
	p->begun++;
	return code == cudaSuccess ? 0 : gpu_failed(code, "the making of pictures", err);
}

static int pictures_take(struct wl_pictures *p, void **data, struct wl_err *err)
{
	int k = (int)(p->taken % BEGUN), before = (int)((p->taken + BEGUN - 1) % BEGUN);
	cudaError_t code = cudaSuccess;

	WL_ASSERT(p->taken < p->begun);
	if (p->taken > 0) /* all work on the batch before was given by now */
		code = cudaEventRecord(p->used[before], p->main->stream);
	if (code == cudaSuccess)
		code = cudaEventSynchronize(p->uploaded[k]);
	if (code == cudaSuccess)
		code = cudaStreamWaitEvent(p->main->stream, p->made[k], 0);
	p->taken++;
	*data = p->out[k];
	return code == cudaSuccess ? 0 : gpu_failed(code, "the making of pictures", err);
}

extern "C" const struct wl_picture_ops *wl_cuda_pictures(void)
{
	static const struct wl_picture_ops ops = {pictures_open, pictures_start, pictures_take,
		pictures_close, pictures_alloc_host, pictures_free_host};

	return &ops;
}
