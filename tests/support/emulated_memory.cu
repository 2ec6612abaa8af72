/* The emulation's memory; see emulated_runtime.h. */
#include "tests/support/emulated_parts.h"

#include <map>
#include <new>

#include <sys/mman.h>

/* Device memory is taken from one stretch of addresses, so that one call opens and closes all. */
enum { BLOCK = 4096 };
#ifdef WL_RACE
static const size_t SPACE = (size_t)1 << 34; /* the checker wants 24 times as many addresses */
#else
static const size_t SPACE = (size_t)1 << 36;
#endif

std::recursive_mutex emulated_device;
static char *base;
static size_t used;
static int depth;
/* WL_EMULATED_APART in the environment: emulated_apart from the start. */
static bool apart = getenv("WL_EMULATED_APART") != NULL;
static std::map<const char *, size_t> pinned, blocks; /* what is allocated, and its bytes */
static thread_local int held; /* times that this thread has entered */

bool emulated_pageable(const void *p)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);
	auto at = pinned.upper_bound((const char *)p);

	if (base && (const char *)p >= base && (const char *)p < base + SPACE)
		return false;
	if (at == pinned.begin())
		return true;
	--at;
	return (const char *)p >= at->first + at->second;
}

static void open_memory(bool yes)
{
	if (apart && base && used)
		mprotect(base, used, yes ? PROT_READ | PROT_WRITE : PROT_NONE);
}

extern "C" void emulated_enter(void)
{
	emulated_device.lock();
	held++;
	if (depth++ == 0)
		open_memory(true);
}

extern "C" void emulated_leave(void)
{
	if (--depth == 0)
		open_memory(false);
	held--;
	emulated_device.unlock();
}

extern "C" void emulated_apart(bool yes)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);

	if (apart && !yes)
		open_memory(true);
	apart = yes;
	open_memory(false);
}

int emulated_entered(void)
{
	return held;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p)
{
	bool there = base && (const char *)p >= base && (const char *)p < base + SPACE;

	a->type = there			 ? cudaMemoryTypeDevice
		  : emulated_pageable(p) ? cudaMemoryTypeUnregistered
					 : cudaMemoryTypeHost;
	return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *all)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);

	*left = SPACE - used;
	*all = SPACE;
	return cudaSuccess;
}

/* Addresses are used once, so that a touch after free is found too. */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);
	size_t whole = (bytes + 2 * BLOCK - 1) / BLOCK * BLOCK;

	if (emulated_unsafe())
		return emulated_say(cudaErrorStreamCaptureUnsupported);
	if (!base) {
		void *m = mmap(NULL, SPACE, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		base = m == MAP_FAILED ? NULL : (char *)m;
		race_space(base, SPACE);
	}
	if (!base || used + whole > SPACE)
		return emulated_say(cudaErrorMemoryAllocation);
	*p = base + used + BLOCK;
	used += whole + BLOCK;
	mprotect(base, used, PROT_READ | PROT_WRITE);
	blocks[(char *)*p] = whole;
	race_memory(*p, bytes, true);
	if (!depth)
		open_memory(false);
	return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);
	auto at = blocks.find((char *)p);

	if (!p)
		return cudaSuccess;
	FORBID(at == blocks.end(), "cudaFree of what is not allocated, or freed already");
	if (emulated_unsafe())
		return emulated_say(cudaErrorStreamCaptureUnsupported);
	emulated_enter();
	emulated_finish(); /* as the driver waits */
	madvise((char *)p, at->second, MADV_DONTNEED);
	race_freed(p);
	emulated_leave();
	blocks.erase(at);
	return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);

	if (emulated_unsafe())
		return emulated_say(cudaErrorStreamCaptureUnsupported);
	*p = malloc(bytes);
	if (!*p)
		return emulated_say(cudaErrorMemoryAllocation);
	pinned[(char *)*p] = bytes;
	race_pinned(*p, bytes);
	return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
	std::lock_guard<std::recursive_mutex> hold(emulated_device);

	if (!p)
		return cudaSuccess;
	FORBID(!pinned.erase((char *)p), "cudaFreeHost of what is not pinned, or freed already");
	if (emulated_unsafe())
		return emulated_say(cudaErrorStreamCaptureUnsupported);
	emulated_finish();
	race_pinned(p, 0);
	free(p);
	return cudaSuccess;
}
