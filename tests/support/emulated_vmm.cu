/*
 * The driver's virtual memory for tests: memory is a file without a name, which may be mapped at
 * several addresses, and addresses without memory lead beyond the end of an empty one, so that a
 * touch is a SIGBUS.  What is created is counted.
 */
#include "train/backend/cuda/vmm.h"

#include <mutex>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { UNIT = 4096 };

static std::mutex lock;
static int64_t now, most;

extern "C" int64_t emulated_parts(void)
{
	return now;
}

extern "C" int64_t emulated_parts_most(bool again)
{
	int64_t was = most;

	if (again)
		most = now;
	return was;
}

extern "C" const char *wl_cuda_vmm_open(int, size_t *granularity)
{
	*granularity = UNIT;
	return NULL;
}

static int hole(void)
{
	static const int fd = memfd_create("hole", MFD_CLOEXEC); /* once, whoever comes first */

	return fd;
}

/* Addresses of the device's, so that they are taken from the host with the others. */
extern "C" const char *wl_cuda_vmm_reserve(void **base, size_t bytes)
{
	if (cudaMalloc(base, bytes) != cudaSuccess)
		return "no memory";
	emulated_enter();
	mmap(*base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, hole(), 0);
	emulated_leave();
	return NULL;
}

extern "C" void wl_cuda_vmm_unreserve(void *base, size_t)
{
	cudaFree(base);
}

extern "C" const char *wl_cuda_vmm_create(uint64_t *memory, size_t bytes)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		return "no memory";
	*memory = (uint64_t)fd;
	std::lock_guard<std::mutex> hold(lock);
	now += (int64_t)bytes;
	most = now > most ? now : most;
	return NULL;
}

extern "C" void wl_cuda_vmm_release(uint64_t memory)
{
	struct stat s;

	fstat((int)memory, &s);
	close((int)memory);
	std::lock_guard<std::mutex> hold(lock);
	now -= s.st_size;
}

extern "C" const char *wl_cuda_vmm_map(void *at, size_t bytes, uint64_t memory)
{
	void *p;

	emulated_enter();
	p = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, (int)memory, 0);
	emulated_leave();
	return p == at ? NULL : "no addresses";
}

extern "C" void wl_cuda_vmm_unmap(void *at, size_t bytes)
{
	emulated_enter();
	mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, hole(), 0);
	emulated_leave();
}
