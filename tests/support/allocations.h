/* Counts the allocations of the process, for the one .c file of a program that includes this.  Only
 * where COUNT_ALLOCATIONS is defined afterwards: the sanitizers have allocators of their own. */
#ifndef WL_TESTS_ALLOCATIONS_H
#define WL_TESTS_ALLOCATIONS_H

#include <stdlib.h>

/* The C library's own functions do the work. */
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNT_ALLOCATIONS 1
static long allocations;
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void *malloc(size_t n)
{
	__atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
	return __libc_malloc(n);
}
void *calloc(size_t n, size_t size)
{
	__atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
	return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n)
{
	__atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
	return __libc_realloc(p, n);
}
void *aligned_alloc(size_t align, size_t n)
{
	__atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
	return __libc_memalign(align, n);
}
#endif

#endif
