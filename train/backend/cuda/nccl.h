/*
 * The part of NCCL that nccl.cu calls, by its published binary interface (unchanged since 2.10), so
 * that a build needs no header of it: the library is loaded when several ranks compute on GPUs.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_NCCL_H
#define WL_TRAIN_BACKEND_CUDA_NCCL_H

#include "train/backend/cuda/cuda.h"

struct nccl_id {
	char internal[WL_WIRE_ID];
};
enum { NCCL_OK = 0, NCCL_IN_PROGRESS = 7 };		/* ncclResult_t */
enum { NCCL_U8 = 1, NCCL_F32 = 7, NCCL_F64 = 8 };	/* ncclDataType_t */
enum { NCCL_SUM = 0, NCCL_AVG = 4 };			/* ncclRedOp_t */

struct nccl_library {
	int (*get_id)(struct nccl_id *id);
	int (*init)(void **comm, int world, struct nccl_id id, int rank);
	int (*destroy)(void *comm);
	int (*abort)(void *comm);
	int (*async_error)(void *comm, int *code);
	const char *(*text)(int code);
	int (*all_reduce)(const void *in, void *out, size_t n, int type, int op, void *comm,
		cudaStream_t stream);
	int (*reduce_scatter)(const void *in, void *out, size_t n, int type, int op, void *comm,
		cudaStream_t stream);
	int (*all_gather)(const void *in, void *out, size_t n, int type, void *comm,
		cudaStream_t stream);
};

/* The library's functions: nccl_load.cu, or the tests' own.  WL_EUSAGE where there is none. */
extern "C" int wl_cuda_nccl_load(struct nccl_library *lib, struct wl_err *err);

#endif
