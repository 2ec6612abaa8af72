/* What libraries compute: matrix products and dense convolutions (nvidia.cu, cudnn.cu, or the
 * tests' own).  Included by cuda.h. */
#ifndef WL_TRAIN_BACKEND_CUDA_PRODUCT_H
#define WL_TRAIN_BACKEND_CUDA_PRODUCT_H

/* c(i,j) [+]= sum_p a(i,p) b(p,j), as in the CPU backend. */
struct cuda_gemm {
	int64_t m, n, k;
	const float *a;
	int64_t a_row, a_col; /* a(i,p) is a[i * a_row + p * a_col]; one of them is 1 */
	const float *b;
	int64_t b_row, b_col;
	float *c;
	int64_t ldc;
	bool add;
	bool bf16; /* operands rounded to bf16, which needs cuda_gemm_scratch bytes */
};
int wl_cuda_gemm(struct cuda *c, const struct cuda_gemm *g, void *scratch, struct wl_err *err);
static inline size_t wl_cuda_gemm_scratch(int64_t m, int64_t n, int64_t k)
{
	return cuda_round((size_t)(m * k) * 2) + cuda_round((size_t)(k * n) * 2);
}

/* The library: row-major c [m,n], operands of `bf16` or f32. nvidia.cu, or the tests' own. */
extern "C" {
int wl_cuda_blas_open(struct cuda *c, struct wl_err *err);
void wl_cuda_blas_close(struct cuda *c);
int wl_cuda_blas(struct cuda *c, const struct cuda_gemm *g, const void *a, const void *b,
	struct wl_err *err);
}

/*
 * Products planned once, of operands as they lie (of one type; summed in f32), with what
 * the library can do on the way out: c [+]= a b, then + bias, then ReLU; rowsum[i] = sum of a(i,p)
 * over p.  plan: shapes, types and alignments of p count, its memory is not touched.
 */
struct cuda_product {
	int64_t m, n, k;
	struct cuda_act a;
	int64_t a_row, a_col; /* as in struct cuda_gemm */
	struct cuda_act b;
	int64_t b_row, b_col;
	struct cuda_act c;
	int64_t ldc;
	bool add;
	struct cuda_act bias; /* [n], of c's type; absent: none */
	bool relu;
	float *rowsum; /* [m], or NULL */
};
/*
 * A matrix [rows, cols] of ours, element (i,j) at i * row + j * col, as cuBLAS wants it, which is
 * column-major: its transpose as it lies, or (turned) itself.  len: of a column there; ld: to the
 * next column, never less than one, also where there is only one and our step says nothing (a
 * vector's two steps may both be 1).
 */
struct cuda_lies {
	int64_t len, columns, ld;
	bool turned;
};

static inline struct cuda_lies cuda_lies_of(int64_t rows, int64_t cols, int64_t row, int64_t col)
{
	bool plain = col == 1 && (row >= cols || rows == 1);
	int64_t len = plain ? cols : rows, step = plain ? row : col;
	struct cuda_lies v = {len, plain ? rows : cols, step > len ? step : len, !plain};

	WL_ASSERT(plain || row == 1 || rows == 1);
	WL_ASSERT(v.columns == 1 || step >= len);
	return v;
}

#ifdef WL_CUDA_EMULATED
enum { CUDA_WORKSPACE = 256 };
#else
enum { CUDA_WORKSPACE = 32 << 20 }; /* bytes that a product may need */
#endif
extern "C" {
int wl_cuda_product_plan(
	struct cuda *c, const struct cuda_product *p, void **plan, struct wl_err *err);
int wl_cuda_product(struct cuda *c, const void *plan, const struct cuda_product *p,
	void *workspace, struct wl_err *err);
/* Whether the library does rowsum; the caller sums where not. */
bool wl_cuda_product_sums(const void *plan);
void wl_cuda_product_release(struct cuda *c, void *plan); /* accepts NULL */
}

/*
 * Dense convolutions by cuDNN where it is installed (cudnn.cu): x [n,h,w,i], w [o,kh,kw,i],
 * y [n,oh,ow,o], all of one type, with as many rows of zeros after the image as before it.
 * plan: *plan stays NULL where there is no cuDNN, or none of its algorithms will do; *bytes: of
 * workspace.  run: writes the one of x, w, y that `what` says, from the two others.
 */
struct cuda_conv {
	int64_t n, h, w, i, oh, ow, o;
	int kh, kw, stride, pad_h, pad_w;
	enum wl_dtype type; /* type of all three */
};
enum cuda_conv_what { CUDA_CONV_Y, CUDA_CONV_X, CUDA_CONV_W };
enum { CUDA_CONV_WORKSPACE = 256 << 20 };
extern "C" {
int wl_cuda_conv_plan(struct cuda *c, const struct cuda_conv *v, enum cuda_conv_what what,
	void **plan, size_t *bytes, struct wl_err *err);
int wl_cuda_conv_run(struct cuda *c, const void *plan, const void *x, const void *w, const void *y,
	void *workspace, struct wl_err *err);
void wl_cuda_conv_release(struct cuda *c, void *plan); /* accepts NULL */
void wl_cuda_dnn_close(struct cuda *c);
}

#endif
