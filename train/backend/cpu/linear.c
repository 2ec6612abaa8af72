/* Linear layers: a matrix product with bias and activation in its epilogue. */
#include "train/backend/cpu/cpu.h"

size_t wl_cpu_linear_scratch(const struct cpu *c, const struct wl_op *op)
{
	(void)c;
	const struct wl_shape *x = &op->in[0]->shape, *y = &op->out[0]->shape;
	return wl_gemm_scratch(wl_shape_rows(x), wl_shape_last(y), wl_shape_last(x));
}

void wl_cpu_linear(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	const struct wl_shape *x = &op->in[0]->shape, *y = &op->out[0]->shape;
	int64_t i = wl_shape_last(x), o = wl_shape_last(y);
	struct gemm g = {.operands = cpu_operands(c, op),
		.m = wl_shape_rows(x),
		.n = o,
		.k = i,
		.a = cpu_f32(op->in[0]),
		.a_row = i,
		.a_col = 1,
		.b = cpu_f32(op->in[1]),
		.b_row = 1,
		.b_col = i,
		.c = cpu_f32(op->out[0]),
		.ldc = o,
		.bias = cpu_f32(op->in[2]),
		.act = op->attr.act,
		.z = cpu_f32(op->out[1])};
	wl_gemm(c, &g, run->scratch);
}

/* Scratch: gz [rows,O] where there is an activation, then what the largest step needs. */
static size_t gz_bytes(const struct wl_op *op)
{
	size_t bytes = wl_tensor_bytes(op->in[4]);
	return op->attr.act == WL_ACT_NONE ? 0 : (bytes + 63) / 64 * 64;
}

size_t wl_cpu_linear_bwd_scratch(const struct cpu *c, const struct wl_op *op)
{
	(void)c;
	int64_t rows = wl_shape_rows(&op->in[0]->shape), i = wl_shape_last(&op->in[0]->shape);
	int64_t o = wl_shape_last(&op->in[4]->shape);
	size_t most = cpu_max(wl_gemm_scratch(rows, i, o), wl_gemm_scratch(o, i, rows));
	return gz_bytes(op) + (size_t)cpu_max(most, wl_cpu_colsum_scratch(rows, o));
}

void wl_cpu_linear_bwd(struct cpu *c, const struct wl_op *op, const struct wl_run *run)
{
	int64_t rows = wl_shape_rows(&op->in[0]->shape), i = wl_shape_last(&op->in[0]->shape);
	int64_t o = wl_shape_last(&op->in[4]->shape);
	const float *x = cpu_f32(op->in[0]), *w = cpu_f32(op->in[1]), *gz = cpu_f32(op->in[4]);
	float *gx = cpu_f32(op->out[0]), *gw = cpu_f32(op->out[1]), *gb = cpu_f32(op->out[2]);
	void *scratch = (char *)run->scratch + gz_bytes(op);
	if (op->attr.act != WL_ACT_NONE) {
		float *own = run->scratch;
		wl_cpu_act_grad(
			c, op->attr.act, cpu_f32(op->in[2]), cpu_f32(op->in[3]), gz, own, rows * o);
		gz = own;
	}
	if (gw)
		wl_gemm_weights_bwd(c, cpu_operands(c, op), rows, i, o, x, gz, gw, scratch);
	if (gb)
		wl_cpu_colsum(c, gz, rows, o, gb, scratch);
	if (gx)
		wl_gemm_data_bwd(c, cpu_operands(c, op), rows, i, o, w, gz, gx, cpu_acc(op, 0),
			scratch);
}
