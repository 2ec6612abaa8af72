/*
 * A checker of what kernels do with memory, for programs whose kernels are emulated
 * (emulated.h) and compiled with -fsanitize=thread, whose calls it answers in place of that
 * sanitizer's own runtime.  It knows the programming model of Volta and later and nothing of what
 * hardware happens to do:
 *
 *   races        two threads of a launch touch the same byte, one of them writes, not both by
 *                atomics, and nothing orders them.  __syncthreads orders the threads of a block,
 *                __syncwarp those lanes of its mask; a shuffle, the lock step of a warp and the
 *                order of blocks order nothing.
 *   first reads  of shared memory that its block has not written, of device memory that nothing
 *                has written since it was allocated, and of an operation's scratch and result that
 *                it has not written itself.
 *   bounds       device memory that is not allocated, or freed; the host's memory; while an
 *                operation runs, of the allocations in which its operands lie (all tensors of a
 *                graph share one) whatever is none of them.
 *   alignment    of every access, as its type wants it.
 *   copies       (image.h's ahead_copy) happen when a wait covers them and not before; whoever
 *                touches their target until then is reported.
 *
 * It is exact by byte, and its answer does not depend on the order in which threads are run.  What
 * is found is said once for each pair of places, with their lines, on the standard error; a program
 * with findings ends with exit code 66.
 *
 * Without WL_RACE all of it is nothing.
 */
#ifndef WL_TESTS_SUPPORT_RACECHECK_H
#define WL_TESTS_SUPPORT_RACECHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum race_kind { RACE_SHARED, RACE_GLOBAL, RACE_FIRST_READ, RACE_BOUNDS, RACE_ALIGNMENT, RACE_COPY,
	RACE_KINDS };

/* Findings of each kind so far, which from now on do not count; they are not printed while quiet
 * (for tests of the checker). */
void race_take(int found[RACE_KINDS]);
void race_quiet(bool yes);

struct wl_op;
struct wl_run;

#ifdef WL_RACE

/* What is given from now on by this thread is work of the operation; NULL: of none. */
void race_operation(const struct wl_op *op, const struct wl_run *run);

/* From emulated.cu: a launch, each of its blocks, the barriers that threads passed.  `stack`: what
 * lies between it and the hook's own frame is the running thread's own. */
void race_launch(const void *stack);
void race_launched(void);
void race_block(void);
void race_barrier(void);
void race_warp(unsigned warp, uint32_t lanes, bool all);
/* Memory that is every thread's own: the fibers' stacks. */
void race_private(const void *p, size_t bytes);
/* An argument of the kernel, which lies in the host's memory; until race_launched. */
void race_argument(const void *p, size_t bytes);

/* From emulated_memory.cu: where device memory will be, what of it is allocated and what freed;
 * pinned memory, which kernels may touch too. */
void race_space(const void *base, size_t bytes);
void race_memory(void *p, size_t bytes, bool fill);
void race_freed(const void *p);
void race_pinned(const void *p, size_t bytes);

/* What is not instrumented: as one access of the running thread. */
void *race_memcpy(void *to, const void *from, size_t bytes);
void *race_memset(void *p, int value, size_t bytes);
void race_atomic(const void *p, size_t bytes);
void race_ahead_copy(void *to, const void *from, size_t bytes);
void race_ahead_commit(void);
void race_ahead_wait(int groups);

#else

static inline void race_operation(const struct wl_op *op, const struct wl_run *run)
{
	(void)op, (void)run;
}
static inline void race_launch(const void *stack)
{
	(void)stack;
}
static inline void race_launched(void)
{
}
static inline void race_block(void)
{
}
static inline void race_barrier(void)
{
}
static inline void race_warp(unsigned warp, uint32_t lanes, bool all)
{
	(void)warp, (void)lanes, (void)all;
}
static inline void race_private(const void *p, size_t bytes)
{
	(void)p, (void)bytes;
}
static inline void race_space(const void *base, size_t bytes)
{
	(void)base, (void)bytes;
}
static inline void race_memory(void *p, size_t bytes, bool fill)
{
	(void)p, (void)bytes, (void)fill;
}
static inline void race_freed(const void *p)
{
	(void)p;
}
static inline void race_pinned(const void *p, size_t bytes)
{
	(void)p, (void)bytes;
}

#endif

#ifdef __cplusplus
}
#endif

#if defined(WL_RACE) && defined(__cplusplus)
#include <functional>
/* Work as it is given, with what the operation may touch while it is done. */
std::function<void()> race_work(std::function<void()> work);
#endif

#endif
