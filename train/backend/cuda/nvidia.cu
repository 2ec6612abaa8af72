/*
 * cuBLAS and cuBLASLt, loaded when a GPU is first used: they weigh hundreds of megabytes, which
 * programs on machines without one should neither need nor map.  They stay until the process ends:
 * a library that the runtime knows kernels of is not made to be unloaded.
 */
#include "train/backend/cuda/cuda.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <dlfcn.h>
#include <stdio.h>

typedef cublasStatus_t gemm_fn(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n,
	int k, const void *alpha, const void *a, cudaDataType a_type, int lda, const void *b,
	cudaDataType b_type, int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,
	cublasComputeType_t, cublasGemmAlgo_t);

/* What is used of cuBLASLt: X(member, function). */
#define LT_FUNCTIONS(X)                                                                            \
	X(create, cublasLtCreate)                                                                  \
	X(destroy, cublasLtDestroy)                                                                \
	X(matmul, cublasLtMatmul)                                                                  \
	X(heuristic, cublasLtMatmulAlgoGetHeuristic)                                               \
	X(desc_create, cublasLtMatmulDescCreate)                                                   \
	X(desc_destroy, cublasLtMatmulDescDestroy)                                                 \
	X(desc_set, cublasLtMatmulDescSetAttribute)                                                \
	X(layout_create, cublasLtMatrixLayoutCreate)                                               \
	X(layout_destroy, cublasLtMatrixLayoutDestroy)                                             \
	X(pref_create, cublasLtMatmulPreferenceCreate)                                             \
	X(pref_destroy, cublasLtMatmulPreferenceDestroy)                                           \
	X(pref_set, cublasLtMatmulPreferenceSetAttribute)                                          \
	X(text, cublasLtGetStatusString)

struct lt {
	void *library;
	cublasLtHandle_t handle;
#define MEMBER(member, function) decltype(&function) member;
	LT_FUNCTIONS(MEMBER)
#undef MEMBER
};

struct blas {
	struct lt lt;
	void *library;
	cublasHandle_t handle;
	void *workspace; /* of handle: its own would be allocated while a graph is captured */
	bool tf32;
	decltype(&cublasSetWorkspace) set_workspace;
	decltype(&cublasCreate) create;
	decltype(&cublasDestroy) destroy;
	decltype(&cublasSetStream) set_stream;
	gemm_fn *gemm;
};

static void *open_library(char *path, size_t size)
{
	snprintf(path, size, "libcublas.so.%d", CUBLAS_VER_MAJOR);
	return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static int load(struct blas *b, struct wl_err *err)
{
	char path[64];

	b->library = open_library(path, sizeof path);
	if (!b->library)
		return wl_err_set(err, WL_EUSAGE,
			"%s could not be loaded: %s; install cuBLAS %d or "
			"use --device cpu",
			path, dlerror(), CUBLAS_VER_MAJOR);
	*(void **)&b->create = dlsym(b->library, "cublasCreate_v2");
	*(void **)&b->destroy = dlsym(b->library, "cublasDestroy_v2");
	*(void **)&b->set_stream = dlsym(b->library, "cublasSetStream_v2");
	*(void **)&b->gemm = dlsym(b->library, "cublasGemmEx");
	*(void **)&b->set_workspace = dlsym(b->library, "cublasSetWorkspace_v2");
	if (!b->create || !b->destroy || !b->set_stream || !b->gemm || !b->set_workspace)
		return wl_err_set(err, WL_EUSAGE, "%s lacks a function of cuBLAS: %s", path,
			dlerror());
	return 0;
}

static int load_lt(struct lt *lt, struct wl_err *err)
{
	char path[64];
	const char *missing = NULL;

	snprintf(path, sizeof path, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
	lt->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lt->library)
		return wl_err_set(err, WL_EUSAGE, "%s could not be loaded: %s; install cuBLAS %d "
			"or use --device cpu", path, dlerror(), CUBLAS_VER_MAJOR);
#define FIND(member, function)                                                                     \
	*(void **)&lt->member = dlsym(lt->library, #function);                                     \
	missing = lt->member ? missing : #function;
	LT_FUNCTIONS(FIND)
#undef FIND
	if (missing)
		return wl_err_set(err, WL_EUSAGE, "%s lacks the function %s: expected cuBLAS %d",
			path, missing, CUBLAS_VER_MAJOR);
	return lt->create(&lt->handle) == CUBLAS_STATUS_SUCCESS
		       ? 0
		       : wl_err_set(err, WL_EFAIL, "cuBLASLt did not start");
}

extern "C" int wl_cuda_blas_open(struct cuda *c, struct wl_err *err)
{
	struct blas *b = (struct blas *)calloc(1, sizeof *b);
	cublasStatus_t code;

	if (!b)
		return wl_err_nomem(err, "cuBLAS", sizeof *b);
	c->blas = b;
	WL_TRY(load(b, err));
	WL_TRY(load_lt(&b->lt, err));
	/* f32 products in TF32 are eight times as fast and off by 2^-11: asked for, not given. */
	b->tf32 = getenv("WL_CUDA_TF32") != NULL;
	if (cudaMalloc(&b->workspace, CUDA_WORKSPACE) != cudaSuccess)
		return wl_err_set(err, WL_EFAIL, "the GPU has no %d bytes of memory for cuBLAS",
			(int)CUDA_WORKSPACE);
	code = b->create(&b->handle);
	if (code == CUBLAS_STATUS_SUCCESS)
		code = b->set_stream(b->handle, c->stream);
	if (code == CUBLAS_STATUS_SUCCESS)
		code = b->set_workspace(b->handle, b->workspace, CUDA_WORKSPACE);
	return code == CUBLAS_STATUS_SUCCESS
		       ? 0
		       : wl_err_set(err, WL_EFAIL, "cuBLAS did not start: status %d", (int)code);
}

extern "C" void wl_cuda_blas_close(struct cuda *c)
{
	struct blas *b = (struct blas *)c->blas;

	if (b && b->handle)
		b->destroy(b->handle);
	if (b && b->lt.handle)
		b->lt.destroy(b->lt.handle);
	if (b)
		cudaFree(b->workspace);
	free(b);
	c->blas = NULL;
}

static cublasOperation_t op_of(struct cuda_lies v)
{
	return v.turned ? CUBLAS_OP_T : CUBLAS_OP_N;
}

/* cuBLAS is column-major: it computes c^T = b^T a^T, where each operand's rows are our columns. */
extern "C" int wl_cuda_blas(struct cuda *c, const struct cuda_gemm *g, const void *a, const void *b,
	struct wl_err *err)
{
	struct blas *lib = (struct blas *)c->blas;
	const float one = 1, add = g->add ? 1 : 0;
	cudaDataType_t type = g->bf16 ? CUDA_R_16BF : CUDA_R_32F;
	struct cuda_lies la = cuda_lies_of(g->m, g->k, g->a_row, g->a_col);
	struct cuda_lies lb = cuda_lies_of(g->k, g->n, g->b_row, g->b_col);
	cublasStatus_t code = lib->gemm(lib->handle, op_of(lb), op_of(la), (int)g->n, (int)g->m,
		(int)g->k, &one, b, type, (int)lb.ld, a, type, (int)la.ld, &add, g->c, CUDA_R_32F,
		(int)(g->ldc > g->n ? g->ldc : g->n), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);

	return code == CUBLAS_STATUS_SUCCESS
		       ? 0
		       : wl_err_set(err, WL_EFAIL,
				 "cuBLAS failed in a product of %lld x %lld x %lld: status %d",
				 (long long)g->m, (long long)g->n, (long long)g->k, (int)code);
}

/* --- planned products: see struct cuda_product --- */

struct product {
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t a, b, c; /* in the library's order: its a is our b */
	cublasLtMatmulAlgo_t algo;
	bool sums;
	/* What the algorithm was chosen for: it may load as many bytes at a time. */
	uint32_t align_a, align_b, align_c, align_vector;
};

static cudaDataType_t type_of(struct cuda_act a)
{
	return a.type == WL_F16 ? CUDA_R_16F : is_half(a.type) ? CUDA_R_16BF : CUDA_R_32F;
}

/* The largest power of two, up to 256, that an address is a multiple of; what is not known yet (an
 * external) counts as aligned to an element. */
static uint32_t alignment(struct cuda_act a)
{
	uintptr_t p = (uintptr_t)a.p;
	uint32_t n = 256;

	if (!a.p)
		return is_half(a.type) ? 2 : 4;
	while (p % n)
		n /= 2;
	return n;
}

static cublasLtEpilogue_t epilogue(const struct cuda_product *p, bool sums)
{
	if (sums)
		return CUBLASLT_EPILOGUE_BGRADB;
	if (p->bias.p)
		return p->relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
	return p->relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
}

/* What goes with the epilogue: the bias, or where the bias' gradient goes, which is of the output's
 * type (f32: the product of gradients). */
static struct cuda_act vector_of(const struct cuda_product *p, bool sums)
{
	struct cuda_act sum = {p->rowsum, WL_F32};

	return sums ? sum : p->bias;
}

static cublasStatus_t set_epilogue(
	const struct lt *lt, struct product *x, const struct cuda_product *p, bool sums)
{
	cublasLtEpilogue_t e = epilogue(p, sums);
	struct cuda_act v = vector_of(p, sums);
	void *vector = v.p; /* the heuristic sees its alignment, so it is set there too */
	int32_t type = type_of(v);
	cublasStatus_t code =
		lt->desc_set(x->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &e, sizeof e);

	if (code == CUBLAS_STATUS_SUCCESS)
		code = lt->desc_set(
			x->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &vector, sizeof vector);
	if (code == CUBLAS_STATUS_SUCCESS && vector)
		code = lt->desc_set(
			x->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type);
	return code;
}

/* As in wl_cuda_blas: a matrix of ours is its transpose there. */
static cublasStatus_t describe(
	const struct blas *lib, struct product *x, const struct cuda_product *p)
{
	const struct lt *lt = &lib->lt;
	struct cuda_lies a = cuda_lies_of(p->m, p->k, p->a_row, p->a_col);
	struct cuda_lies b = cuda_lies_of(p->k, p->n, p->b_row, p->b_col);
	struct cuda_lies out = cuda_lies_of(p->m, p->n, p->ldc, 1);
	cublasComputeType_t compute = lib->tf32 && !is_half(p->a.type)
					      ? CUBLAS_COMPUTE_32F_FAST_TF32
					      : CUBLAS_COMPUTE_32F;
	cublasOperation_t of_a = op_of(a), of_b = op_of(b);
	cublasStatus_t code = lt->desc_create(&x->desc, compute, CUDA_R_32F);

	if (code == CUBLAS_STATUS_SUCCESS)
		code = lt->desc_set(
			x->desc, CUBLASLT_MATMUL_DESC_TRANSA, &of_b, sizeof of_b);
	if (code == CUBLAS_STATUS_SUCCESS)
		code = lt->desc_set(
			x->desc, CUBLASLT_MATMUL_DESC_TRANSB, &of_a, sizeof of_a);
	if (code == CUBLAS_STATUS_SUCCESS)
		code = lt->layout_create(
			&x->a, type_of(p->b), (uint64_t)b.len, (uint64_t)b.columns, b.ld);
	if (code == CUBLAS_STATUS_SUCCESS)
		code = lt->layout_create(
			&x->b, type_of(p->a), (uint64_t)a.len, (uint64_t)a.columns, a.ld);
	if (code == CUBLAS_STATUS_SUCCESS)
		code = lt->layout_create(
			&x->c, type_of(p->c), (uint64_t)out.len, (uint64_t)out.columns, out.ld);
	return code;
}

/*
 * What the heuristic may choose among: no more workspace than there is, and partial sums only by
 * a reduction in the type of the sum, in a fixed order (the same bits in every run).
 */
static cublasStatus_t prefer(
	const struct lt *lt, cublasLtMatmulPreference_t pref, const struct cuda_product *p)
{
	const struct {
		cublasLtMatmulPreferenceAttributes_t name;
		uint32_t value;
	} set[] = {
		{CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
			CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p->b)},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p->a)},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p->c)},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p->c)},
	};
	size_t workspace = CUDA_WORKSPACE;
	cublasStatus_t code = lt->pref_set(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
		&workspace, sizeof workspace);

	for (size_t i = 0; i < sizeof set / sizeof *set && code == CUBLAS_STATUS_SUCCESS; i++)
		code = lt->pref_set(pref, set[i].name, &set[i].value, sizeof set[i].value);
	return code;
}

static cublasStatus_t choose(const struct lt *lt, struct product *x, const struct cuda_product *p,
	bool sums)
{
	cublasLtMatmulHeuristicResult_t best;
	cublasLtMatmulPreference_t pref = NULL;
	int found = 0;
	cublasStatus_t code = set_epilogue(lt, x, p, sums);

	if (code == CUBLAS_STATUS_SUCCESS)
		code = lt->pref_create(&pref);
	if (code == CUBLAS_STATUS_SUCCESS)
		code = prefer(lt, pref, p);
	if (code == CUBLAS_STATUS_SUCCESS)
		code = lt->heuristic(
			lt->handle, x->desc, x->a, x->b, x->c, x->c, pref, 1, &best, &found);
	if (pref)
		lt->pref_destroy(pref);
	if (code == CUBLAS_STATUS_SUCCESS)
		code = found ? best.state : CUBLAS_STATUS_NOT_SUPPORTED;
	if (code == CUBLAS_STATUS_SUCCESS) {
		x->algo = best.algo;
		x->sums = sums;
		x->align_a = alignment(p->a);
		x->align_b = alignment(p->b);
		x->align_c = alignment(p->c);
		x->align_vector = alignment(vector_of(p, sums));
	}
	return code;
}

static bool stands(struct cuda_act a, uint32_t align)
{
	return (uintptr_t)a.p % align == 0;
}

/* Whether everything lies as aligned as the algorithm was chosen for. */
static bool as_planned(const struct product *x, const struct cuda_product *p)
{
	return stands(p->a, x->align_a) && stands(p->b, x->align_b) && stands(p->c, x->align_c) &&
	       stands(vector_of(p, x->sums), x->align_vector);
}

static int product_failed(const struct lt *lt, const struct cuda_product *p, const char *what,
	cublasStatus_t code, struct wl_err *err)
{
	return wl_err_set(err, WL_EFAIL, "cuBLASLt failed to %s a product of %lld x %lld x %lld in "
		"%s: %s", what, (long long)p->m, (long long)p->n, (long long)p->k,
		p->a.type == WL_F16 ? "fp16" : is_half(p->a.type) ? "bf16" : "f32", lt->text(code));
}

extern "C" int wl_cuda_product_plan(
	struct cuda *c, const struct cuda_product *p, void **plan, struct wl_err *err)
{
	struct blas *lib = (struct blas *)c->blas;
	struct product *x;
	cublasStatus_t code;

	*plan = NULL;
	if (!p->m || !p->n)
		return 0;
	x = (struct product *)calloc(1, sizeof *x);
	if (!x)
		return wl_err_nomem(err, "the plan of a product", sizeof *x);
	*plan = x;
	code = describe(lib, x, p);
	if (code == CUBLAS_STATUS_SUCCESS) {
		code = choose(&lib->lt, x, p, p->rowsum != NULL);
		if (code != CUBLAS_STATUS_SUCCESS && p->rowsum)
			code = choose(&lib->lt, x, p, false); /* the caller sums */
	}
	return code == CUBLAS_STATUS_SUCCESS ? 0 : product_failed(&lib->lt, p, "plan", code, err);
}

extern "C" int wl_cuda_product(struct cuda *c, const void *plan, const struct cuda_product *p,
	void *workspace, struct wl_err *err)
{
	struct blas *lib = (struct blas *)c->blas;
	struct product x = *(const struct product *)plan;
	const float one = 1, add = p->add ? 1 : 0;
	/* The vector's place is the scratch's, known only now. */
	cublasStatus_t code = set_epilogue(&lib->lt, &x, p, x.sums);

	if (!as_planned(&x, p))
		return wl_err_set(err, WL_EFAIL,
			"an operand of a product of %lld x %lld x %lld lies less aligned than when "
			"it was planned: bind externals before compiling, or at multiples of 256 "
			"bytes",
			(long long)p->m, (long long)p->n, (long long)p->k);
	if (code == CUBLAS_STATUS_SUCCESS)
		code = lib->lt.matmul(lib->lt.handle, x.desc, &one, p->b.p, x.a, p->a.p, x.b, &add,
			p->c.p, x.c, p->c.p, x.c, &x.algo, workspace, CUDA_WORKSPACE, c->stream);
	return code == CUBLAS_STATUS_SUCCESS ? 0
					     : product_failed(&lib->lt, p, "compute", code, err);
}

extern "C" bool wl_cuda_product_sums(const void *plan)
{
	return plan && ((const struct product *)plan)->sums;
}

extern "C" void wl_cuda_product_release(struct cuda *c, void *plan)
{
	const struct lt *lt = &((struct blas *)c->blas)->lt;
	struct product *x = (struct product *)plan;

	if (!x)
		return;
	if (x->a)
		lt->layout_destroy(x->a);
	if (x->b)
		lt->layout_destroy(x->b);
	if (x->c)
		lt->layout_destroy(x->c);
	if (x->desc)
		lt->desc_destroy(x->desc);
	free(x);
}
