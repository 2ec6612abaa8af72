/* NCCL, loaded when several ranks first compute on GPUs; see nccl.h. */
#include "train/backend/cuda/nccl.h"

#include <dlfcn.h>

#if defined(__has_include)
#if __has_include(<nccl.h>)
#include <nccl.h>
/* Where the library's own header is at hand, it must agree. */
static_assert(sizeof(ncclUniqueId) == WL_WIRE_ID && (int)ncclUint8 == NCCL_U8 &&
		      (int)ncclFloat32 == NCCL_F32 && (int)ncclFloat64 == NCCL_F64 &&
		      (int)ncclSum == NCCL_SUM && (int)ncclAvg == NCCL_AVG &&
		      (int)ncclInProgress == NCCL_IN_PROGRESS,
	"nccl.h has other numbers than train/backend/cuda/nccl.h");
#endif
#endif

extern "C" int wl_cuda_nccl_load(struct nccl_library *lib, struct wl_err *err)
{
	static const char name[] = "libnccl.so.2";
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL); /* stays until the process ends */
	const struct {
		void *to;
		const char *name;
	} want[] = {
		{&lib->get_id, "ncclGetUniqueId"},
		{&lib->init, "ncclCommInitRank"},
		{&lib->destroy, "ncclCommDestroy"},
		{&lib->abort, "ncclCommAbort"},
		{&lib->async_error, "ncclCommGetAsyncError"},
		{&lib->text, "ncclGetErrorString"},
		{&lib->all_reduce, "ncclAllReduce"},
		{&lib->reduce_scatter, "ncclReduceScatter"},
		{&lib->all_gather, "ncclAllGather"},
	};

	if (!library)
		return wl_err_set(err, WL_EUSAGE, "%s could not be loaded: %s; install NCCL 2, or "
			"train with --device cpu, or on one rank", name, dlerror());
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		void *f = dlsym(library, want[i].name);

		if (!f)
			return wl_err_set(err, WL_EUSAGE, "%s lacks %s; install NCCL 2.10 or later",
				name, want[i].name);
		memcpy(want[i].to, &f, sizeof f);
	}
	return 0;
}
