/*
 * Dense convolution as a matrix product: directly for 1x1 with stride 1 (nearly
 * all of an EfficientNet), else over patches gathered block by block (im2col of a
 * few rows at a time, in a thread's own buffer). A stem's forward is done as it lies.
 */
#include "train/backend/cpu/cpu.h"
#include "train/backend/cpu/vec.h"

#include <omp.h>

enum { PATCH_FLOATS = 65536, GW_CHUNKS = 16 };

struct conv {
	int64_t n, h, w, i, oh, ow, o;
	int64_t patch; /* kh * kw * i */
	int64_t rows;  /* n * oh * ow */
	int64_t block; /* rows gathered at a time */
	int kh, kw, stride, pt, pl;
	enum wl_dtype operands;
};

static struct conv conv_of(
	const struct wl_op *op, const struct wl_tensor *x, const struct wl_tensor *y)
{
	const struct wl_op_attr *a = &op->attr;
	struct conv v = {.n = x->shape.dim[0],
		.h = x->shape.dim[1],
		.w = x->shape.dim[2],
		.i = x->shape.dim[3],
		.oh = y->shape.dim[1],
		.ow = y->shape.dim[2],
		.o = y->shape.dim[3],
		.kh = a->kh,
		.kw = a->kw,
		.stride = a->stride,
		.pt = a->pad_top,
		.pl = a->pad_left};
	v.patch = v.i * v.kh * v.kw;
	v.rows = v.n * v.oh * v.ow;
	v.block = cpu_max(16, PATCH_FLOATS / v.patch);
	return v;
}

static bool is_product(const struct conv *v)
{
	return v->kh == 1 && v->kw == 1 && v->stride == 1;
}

/* n floats, which are few. */
WL_INLINE void copy_run(float *to, const float *from, int64_t n)
{
	for (; n > VL; n -= VL, from += VL, to += VL)
		vstore(to, vload(from));
	vput(to, vget(from, (int)n), (int)n);
}

/* Patches of output rows [r0, r1) -> out [r1-r0, patch]; zeros outside the image. A row of a patch
 * is one run of the picture's memory. */
static void gather(const struct conv *v, const float *x, int64_t r0, int64_t r1, float *out)
{
	const int64_t run = v->kw * v->i;
	int64_t ow = r0 % v->ow, oh = r0 / v->ow % v->oh, n = r0 / (v->ow * v->oh);
	for (int64_t r = r0; r < r1; r++) {
		int64_t iw = ow * v->stride - v->pl;
		bool columns = iw >= 0 && iw + v->kw <= v->w;
		for (int kh = 0; kh < v->kh; kh++, out += run) {
			int64_t ih = oh * v->stride - v->pt + kh;
			bool row = ih >= 0 && ih < v->h;
			const float *from = x + ((n * v->h + ih) * v->w + iw) * v->i;
			if (row && columns) {
				copy_run(out, from, run);
				continue;
			}
			for (int64_t kw = 0; kw < v->kw; kw++)
				for (int64_t c = 0; c < v->i; c++)
					out[kw * v->i + c] = row && iw + kw >= 0 && iw + kw < v->w
								     ? from[kw * v->i + c]
								     : 0;
		}
		if (++ow == v->ow) {
			ow = 0;
			n += ++oh == v->oh;
			oh %= v->oh;
		}
	}
}

/* The reverse: adds patches [r1-r0, patch] into gx. */
static void scatter(const struct conv *v, const float *in, int64_t r0, int64_t r1, float *gx)
{
	for (int64_t r = r0; r < r1; r++) {
		int64_t ow = r % v->ow, oh = r / v->ow % v->oh, n = r / (v->ow * v->oh);
		for (int kh = 0; kh < v->kh; kh++) {
			int64_t ih = oh * v->stride - v->pt + kh;
			for (int kw = 0; kw < v->kw; kw++, in += v->i) {
				int64_t iw = ow * v->stride - v->pl + kw;
				if (ih < 0 || ih >= v->h || iw < 0 || iw >= v->w)
					continue;
				float *restrict to = gx + ((n * v->h + ih) * v->w + iw) * v->i;
				for (int64_t c = 0; c < v->i; c++)
					to[c] += in[c];
			}
		}
	}
}

/*
 * A stem: so few channels come in that gathering patches costs more than the products. Outputs of
 * P pixels side by side and NV vectors of channels stay in registers while taps are broadcast from
 * the picture itself; always in f32.
 */
enum { STEM_PATCH = 80, STEM_PIXELS = 6, STEM_VECTORS = 3 };

static bool is_stem(const struct conv *v)
{
	return v->patch <= STEM_PATCH && !is_product(v);
}

static int64_t stem_vectors(const struct conv *v)
{
	return cpu_ceil_div(v->o, VL);
}

/* w [o, patch] -> [vectors, patch, VL], zeros behind the last channel. */
static void stem_pack(const struct conv *v, const float *w, float *out)
{
	for (int64_t o = 0; o < stem_vectors(v) * VL; o++)
		for (int64_t t = 0; t < v->patch; t++)
			out[(o / VL * v->patch + t) * VL + o % VL] =
				o < v->o ? w[o * v->patch + t] : 0;
}

/* What of a patch lies inside: rows of the kernel and floats of their runs. */
struct stem_span {
	int kh0, kh1;
	int64_t t0, t1;
};

WL_INLINE void stem_block(const struct conv *v, const float *x, const float *w, const float *bias,
	float *y, struct stem_span in, const int P, const int NV, int lanes)
{
	const int64_t step = v->stride * v->i, run = v->kw * v->i;
	vf s[STEM_PIXELS][STEM_VECTORS];
#pragma GCC unroll 6
	for (int p = 0; p < P; p++)
#pragma GCC unroll 3
		for (int k = 0; k < NV; k++)
			s[p][k] = vset(0);
	for (int kh = in.kh0; kh < in.kh1; kh++) {
		const float *from = x + kh * v->w * v->i, *taps = w + kh * run * VL;
		for (int64_t t = in.t0; t < in.t1; t++)
#pragma GCC unroll 3
			for (int k = 0; k < NV; k++) {
				vf tap = vload(taps + (k * v->patch + t) * VL);
#pragma GCC unroll 6
				for (int p = 0; p < P; p++)
					s[p][k] += vset(from[p * step + t]) * tap;
			}
	}
#pragma GCC unroll 6
	for (int p = 0; p < P; p++)
#pragma GCC unroll 3
		for (int k = 0; k < NV; k++) {
			int n = k + 1 < NV ? VL : lanes;
			vf b = bias ? vget(bias + k * VL, n) : vset(0);
			vput(y + p * v->o + k * VL, s[p][k] + b, n);
		}
}

/* All channels of P pixels. */
WL_INLINE void stem_pixels(const struct conv *v, const float *x, const float *w, const float *bias,
	float *y, struct stem_span in, const int P)
{
	for (int64_t o = 0; o < v->o; o += STEM_VECTORS * VL) {
		const float *taps = w + o * v->patch, *b = bias ? bias + o : NULL;
		int64_t left = v->o - o;
		if (left > 2 * VL)
			stem_block(v, x, taps, b, y + o, in, P, 3, (int)cpu_min(VL, left - 2 * VL));
		else if (left > VL)
			stem_block(v, x, taps, b, y + o, in, P, 2, (int)(left - VL));
		else
			stem_block(v, x, taps, b, y + o, in, P, 1, (int)left);
	}
}

/* Row r of outputs, of all pictures. */
static void stem_row(const struct conv *v, const float *x, const float *w, const float *bias,
	float *y, int64_t r)
{
	int64_t ih = r % v->oh * v->stride - v->pt, run = v->kw * v->i;
	struct stem_span in = {.kh0 = ih < 0 ? (int)cpu_min(v->kh, -ih) : 0};
	in.kh1 = (int)cpu_max(in.kh0, cpu_min(v->kh, v->h - ih));
	x += (r / v->oh * v->h + ih) * v->w * v->i;
	y += r * v->ow * v->o;
	for (int64_t ow = 0; ow < v->ow;) {
		int64_t iw = ow * v->stride - v->pl;
		int64_t last = iw + (STEM_PIXELS - 1) * v->stride + v->kw;
		const float *from = x + iw * v->i;
		in.t0 = cpu_max(0, cpu_min(run, -iw * v->i));
		in.t1 = cpu_max(in.t0, cpu_min(run, (v->w - iw) * v->i));
		if (iw >= 0 && last <= v->w && ow + STEM_PIXELS <= v->ow) {
			stem_pixels(v, from, w, bias, y + ow * v->o, in, STEM_PIXELS);
			ow += STEM_PIXELS;
		} else {
			stem_pixels(v, from, w, bias, y + ow * v->o, in, 1);
			ow++;
		}
	}
}

static void stem(struct cpu *c, const struct conv *v, const float *x, const float *w,
	const float *bias, float *y, float *packed)
{
	stem_pack(v, w, packed);
	CPU_FOR(c)
	for (int64_t r = 0; r < v->n * v->oh; r++)
		stem_row(v, x, packed, bias, y, r);
}

static size_t patch_bytes(const struct cpu *c, const struct conv *v)
{
	return (size_t)(c->threads * v->block * v->patch) * sizeof(float);
}

size_t wl_cpu_conv_scratch(const struct cpu *c, const struct wl_op *op)
{
	struct conv v = conv_of(op, op->in[0], op->out[0]);
	if (is_stem(&v))
		return (size_t)(stem_vectors(&v) * v.patch * VL) * sizeof(float);
	return is_product(&v) ? wl_gemm_scratch(v.rows, v.o, v.i) : patch_bytes(c, &v);
}

void wl_cpu_conv(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	struct conv v = conv_of(op, op->in[0], op->out[0]);
	const float *x = cpu_f32(op->in[0]), *w = cpu_f32(op->in[1]);
	v.operands = cpu_operands(c, op);
	struct gemm g = {.operands = v.operands,
		.m = v.rows,
		.n = v.o,
		.k = v.patch,
		.a = x,
		.a_row = v.patch,
		.a_col = 1,
		.b = w,
		.b_row = 1,
		.b_col = v.patch,
		.c = cpu_f32(op->out[0]),
		.ldc = v.o,
		.bias = cpu_f32(op->in[2])};
	if (is_product(&v)) {
		wl_gemm(c, &g, run->scratch);
		return;
	}
	if (is_stem(&v)) {
		stem(c, &v, x, w, g.bias, g.c, run->scratch);
		return;
	}
	int64_t blocks = cpu_ceil_div(v.rows, v.block);
	CPU_FOR(c)
	for (int64_t b = 0; b < blocks; b++) {
		int t = omp_get_thread_num();
		float *patches = (float *)run->scratch + t * v.block * v.patch;
		int64_t r0 = b * v.block, r1 = cpu_min(v.rows, r0 + v.block);
		gather(&v, x, r0, r1, patches);
		struct gemm part = g;
		part.m = r1 - r0;
		part.a = patches;
		part.c += r0 * v.o;
		wl_gemm_serial(&part, c->pack[t]);
	}
}

/* Chunks of rows whose weight gradients are summed apart, and rows of a chunk. */
static int64_t gw_chunks(const struct conv *v)
{
	return cpu_min(GW_CHUNKS, cpu_ceil_div(v->rows, v->block));
}

size_t wl_cpu_conv_bwd_scratch(const struct cpu *c, const struct wl_op *op)
{
	struct conv v = conv_of(op, op->in[0], op->in[2]);
	size_t product =
		cpu_max(wl_gemm_scratch(v.rows, v.i, v.o), wl_gemm_scratch(v.o, v.i, v.rows));
	if (!is_product(&v))
		product = patch_bytes(c, &v) +
			  (size_t)(gw_chunks(&v) * v.o * v.patch) * sizeof(float);
	return cpu_max(product, wl_cpu_colsum_scratch(v.rows, v.o));
}

/* gw += gy^T patches(x) */
static void weights_bwd(struct cpu *c, const struct conv *v, const float *x, const float *gy,
	float *gw, float *scratch)
{
	int64_t chunks = gw_chunks(v), size = v->o * v->patch;
	float *partial = scratch + c->threads * v->block * v->patch;
	int64_t per = cpu_ceil_div(cpu_ceil_div(v->rows, v->block), chunks) * v->block;
	CPU_FOR(c)
	for (int64_t i = 0; i < chunks; i++) {
		int t = omp_get_thread_num();
		float *patches = scratch + t * v->block * v->patch;
		int64_t end = cpu_min(v->rows, (i + 1) * per);
		memset(partial + i * size, 0, (size_t)size * sizeof(float));
		for (int64_t r0 = i * per; r0 < end; r0 += v->block) {
			int64_t r1 = cpu_min(end, r0 + v->block);
			gather(v, x, r0, r1, patches);
			struct gemm g = {.operands = v->operands,
				.m = v->o,
				.n = v->patch,
				.k = r1 - r0,
				.a = gy + r0 * v->o,
				.a_row = 1,
				.a_col = v->o,
				.b = patches,
				.b_row = v->patch,
				.b_col = 1,
				.c = partial + i * size,
				.ldc = v->patch,
				.add = true};
			wl_gemm_serial(&g, c->pack[t]);
		}
	}
	for (int64_t i = 0; i < chunks; i++)
		for (int64_t j = 0; j < size; j++)
			gw[j] += partial[i * size + j];
}

/* gx [+]= scatter(gy w), image by image. */
static void data_bwd(struct cpu *c, const struct conv *v, const float *w, const float *gy,
	float *gx, bool acc, float *scratch)
{
	int64_t image = v->h * v->w * v->i, out_rows = v->oh * v->ow;
	CPU_FOR(c)
	for (int64_t n = 0; n < v->n; n++) {
		int t = omp_get_thread_num();
		float *patches = scratch + t * v->block * v->patch;
		if (!acc)
			memset(gx + n * image, 0, (size_t)image * sizeof(float));
		for (int64_t r0 = n * out_rows; r0 < (n + 1) * out_rows; r0 += v->block) {
			int64_t r1 = cpu_min((n + 1) * out_rows, r0 + v->block);
			struct gemm g = {.operands = v->operands,
				.m = r1 - r0,
				.n = v->patch,
				.k = v->o,
				.a = gy + r0 * v->o,
				.a_row = v->o,
				.a_col = 1,
				.b = w,
				.b_row = v->patch,
				.b_col = 1,
				.c = patches,
				.ldc = v->patch};
			wl_gemm_serial(&g, c->pack[t]);
			scatter(v, patches, r0, r1, gx);
		}
	}
}

void wl_cpu_conv_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	struct conv v = conv_of(op, op->in[0], op->in[2]);
	const float *x = cpu_f32(op->in[0]), *w = cpu_f32(op->in[1]), *gy = cpu_f32(op->in[2]);
	float *gx = cpu_f32(op->out[0]), *gw = cpu_f32(op->out[1]), *gb = cpu_f32(op->out[2]);
	v.operands = cpu_operands(c, op);
	if (gw && is_product(&v))
		wl_gemm_weights_bwd(c, v.operands, v.rows, v.i, v.o, x, gy, gw, run->scratch);
	else if (gw)
		weights_bwd(c, &v, x, gy, gw, run->scratch);
	if (gx && is_product(&v))
		wl_gemm_data_bwd(c, v.operands, v.rows, v.i, v.o, w, gy, gx, cpu_acc(op, 0),
			run->scratch);
	else if (gx)
		data_bwd(c, &v, w, gy, gx, cpu_acc(op, 0), run->scratch);
	if (gb)
		wl_cpu_colsum(c, gy, v.rows, v.o, gb, run->scratch);
}
