/*
 * cuBLAS, loaded when a GPU is first used: it weighs hundreds of megabytes, which programs on
 * machines without one should neither need nor map.
 */
#include "train/backend/cuda/cuda.h"

#include <cublas_v2.h>
#include <dlfcn.h>
#include <stdio.h>

typedef cublasStatus_t gemm_fn(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n,
	int k, const void *alpha, const void *a, cudaDataType a_type, int lda, const void *b,
	cudaDataType b_type, int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,
	cublasComputeType_t, cublasGemmAlgo_t);

struct blas {
	void *library;
	cublasHandle_t handle;
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
	if (!b->create || !b->destroy || !b->set_stream || !b->gemm)
		return wl_err_set(err, WL_EUSAGE, "%s lacks a function of cuBLAS: %s", path,
			dlerror());
	return 0;
}

extern "C" int wl_cuda_blas_open(struct cuda *c, struct wl_err *err)
{
	struct blas *b = (struct blas *)calloc(1, sizeof *b);
	cublasStatus_t code;

	if (!b)
		return wl_err_nomem(err, "cuBLAS", sizeof *b);
	c->blas = b;
	WL_TRY(load(b, err));
	code = b->create(&b->handle);
	if (code == CUBLAS_STATUS_SUCCESS)
		code = b->set_stream(b->handle, c->stream);
	return code == CUBLAS_STATUS_SUCCESS
		       ? 0
		       : wl_err_set(err, WL_EFAIL, "cuBLAS did not start: status %d", (int)code);
}

extern "C" void wl_cuda_blas_close(struct cuda *c)
{
	struct blas *b = (struct blas *)c->blas;

	if (b && b->handle)
		b->destroy(b->handle);
	if (b && b->library)
		dlclose(b->library);
	free(b);
	c->blas = NULL;
}

/* cuBLAS is column-major: it computes c^T = b^T a^T, where each operand's rows are our columns. */
extern "C" int wl_cuda_blas(struct cuda *c, const struct cuda_gemm *g, const void *a, const void *b,
	struct wl_err *err)
{
	struct blas *lib = (struct blas *)c->blas;
	const float one = 1, add = g->add ? 1 : 0;
	cudaDataType_t type = g->bf16 ? CUDA_R_16BF : CUDA_R_32F;
	bool plain_a = g->a_col == 1, plain_b = g->b_col == 1;
	cublasStatus_t code = lib->gemm(lib->handle, plain_b ? CUBLAS_OP_N : CUBLAS_OP_T,
		plain_a ? CUBLAS_OP_N : CUBLAS_OP_T, (int)g->n, (int)g->m, (int)g->k, &one, b, type,
		(int)(plain_b ? g->b_row : g->b_col), a, type,
		(int)(plain_a ? g->a_row : g->a_col), &add, g->c, CUDA_R_32F, (int)g->ldc,
		CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);

	return code == CUBLAS_STATUS_SUCCESS
		       ? 0
		       : wl_err_set(err, WL_EFAIL,
				 "cuBLAS failed in a product of %lld x %lld x %lld: status %d",
				 (long long)g->m, (long long)g->n, (long long)g->k, (int)code);
}
