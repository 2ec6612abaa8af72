/*
 * The driver's virtual memory management: addresses apart from memory.  vmm.cu, or the tests' own.
 * Each returns NULL, or what went wrong in words.
 */
#ifndef WL_TRAIN_BACKEND_CUDA_VMM_H
#define WL_TRAIN_BACKEND_CUDA_VMM_H

#include <stddef.h>
#include <stdint.h>

extern "C" {
/* Pieces of memory, and where they are mapped, are multiples of so many bytes. */
const char *wl_cuda_vmm_open(int device, size_t *granularity);
const char *wl_cuda_vmm_reserve(void **base, size_t bytes);
void wl_cuda_vmm_unreserve(void *base, size_t bytes);
const char *wl_cuda_vmm_create(uint64_t *memory, size_t bytes);
void wl_cuda_vmm_release(uint64_t memory);
/* All of a piece of memory at so many addresses from `at`, for the device to read and write; the
 * same piece may be mapped at several places. */
const char *wl_cuda_vmm_map(void *at, size_t bytes, uint64_t memory);
void wl_cuda_vmm_unmap(void *at, size_t bytes);
}

#endif
