/* See vmm.h.  The driver's library is there wherever a GPU is; it is not linked, so that programs
 * start where there is none. */
#include "train/backend/cuda/vmm.h"

#include <cuda.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

static struct {
	CUresult (*granularity)(size_t *, const CUmemAllocationProp *,
		CUmemAllocationGranularity_flags);
	CUresult (*reserve)(CUdeviceptr *, size_t, size_t, CUdeviceptr, unsigned long long);
	CUresult (*unreserve)(CUdeviceptr, size_t);
	CUresult (*create)(CUmemGenericAllocationHandle *, size_t, const CUmemAllocationProp *,
		unsigned long long);
	CUresult (*release)(CUmemGenericAllocationHandle);
	CUresult (*map)(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle,
		unsigned long long);
	CUresult (*access)(CUdeviceptr, size_t, const CUmemAccessDesc *, size_t);
	CUresult (*unmap)(CUdeviceptr, size_t);
	CUresult (*text)(CUresult, const char **);
} driver; /* filled in once, before any other call here */
static int of_device;
static bool shareable; /* this GPU's memory can be given to other processes */

static const char *said(CUresult code)
{
	const char *text = NULL;

	if (code == CUDA_SUCCESS)
		return NULL;
	driver.text(code, &text);
	return text ? text : "an unknown error";
}

static CUmemAllocationProp properties(void)
{
	CUmemAllocationProp p;

	memset(&p, 0, sizeof p);
	p.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	p.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	p.location.id = of_device;
	/* NCCL registers what recorded exchanges touch with the other ranks' processes, for which
	 * it exports the memory; ncclMemAlloc asks for the same. */
	if (shareable)
		p.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
	return p;
}

/* Whether a piece can be made so (containers may forbid it). */
static bool can_share(void)
{
	CUmemAllocationProp p;
	CUmemGenericAllocationHandle memory = 0;
	size_t unit = 0;
	bool can;

	shareable = true;
	p = properties();
	can = driver.granularity(&unit, &p, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED) == CUDA_SUCCESS &&
	      driver.create(&memory, unit, &p, 0) == CUDA_SUCCESS;
	if (can)
		driver.release(memory);
	return can;
}

extern "C" const char *wl_cuda_vmm_open(int device, size_t *granularity)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	const struct {
		void *to;
		const char *name;
	} want[] = {
		{&driver.granularity, "cuMemGetAllocationGranularity"},
		{&driver.reserve, "cuMemAddressReserve"},
		{&driver.unreserve, "cuMemAddressFree"},
		{&driver.create, "cuMemCreate"},
		{&driver.release, "cuMemRelease"},
		{&driver.map, "cuMemMap"},
		{&driver.access, "cuMemSetAccess"},
		{&driver.unmap, "cuMemUnmap"},
		{&driver.text, "cuGetErrorString"},
	};
	CUmemAllocationProp p;

	if (!library)
		return "the driver's library (libcuda.so.1) cannot be loaded";
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		void *f = dlsym(library, want[i].name);

		if (!f)
			return "the driver is too old for virtual memory management";
		memcpy(want[i].to, &f, sizeof f);
	}
	of_device = device;
	shareable = can_share();
	p = properties();
	return said(driver.granularity(granularity, &p, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
}

extern "C" const char *wl_cuda_vmm_reserve(void **base, size_t bytes)
{
	CUdeviceptr at = 0;
	const char *why = said(driver.reserve(&at, bytes, 0, 0, 0));

	*base = (void *)at;
	return why;
}

extern "C" void wl_cuda_vmm_unreserve(void *base, size_t bytes)
{
	driver.unreserve((CUdeviceptr)base, bytes);
}

extern "C" const char *wl_cuda_vmm_create(uint64_t *memory, size_t bytes)
{
	CUmemAllocationProp p = properties();
	CUmemGenericAllocationHandle handle = 0;
	const char *why = said(driver.create(&handle, bytes, &p, 0));

	*memory = handle;
	return why;
}

extern "C" void wl_cuda_vmm_release(uint64_t memory)
{
	driver.release(memory);
}

extern "C" const char *wl_cuda_vmm_map(void *at, size_t bytes, uint64_t memory)
{
	CUmemAccessDesc access;
	const char *why = said(driver.map((CUdeviceptr)at, bytes, 0, memory, 0));

	if (why)
		return why;
	memset(&access, 0, sizeof access);
	access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	access.location.id = of_device;
	access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	return said(driver.access((CUdeviceptr)at, bytes, &access, 1));
}

extern "C" void wl_cuda_vmm_unmap(void *at, size_t bytes)
{
	driver.unmap((CUdeviceptr)at, bytes);
}
