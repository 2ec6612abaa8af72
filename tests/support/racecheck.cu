/*
 * See racecheck.h.
 *
 * Time is a number that every barrier, block and launch makes larger, so an access is a time and a
 * thread, and two numbers say what is ordered before now: the launch's begin, the block's last
 * barrier.  Within a warp each lane knows until when it has heard of the others (a vector clock).
 * Each byte has the last write and the last read, or what several reads come to; that is enough to
 * find a conflict if there is any (FastTrack, Flanagan and Freund 2009).
 */
#include "tests/support/emulated.h"

#include <map>
#include <vector>

#include <stdio.h>
#include <sys/mman.h>

#include "tests/support/racecheck_parts.h"
#include "train/backend/cuda/cuda.h"

/* Threads that read since: one; several of a warp; of a block; of several blocks. */
enum readers { ONE, OF_WARP, OF_BLOCK, OF_GRID };

/* time << 16 | thread << 4 | kind of readers, or flags of a write. */
typedef uint64_t stamp;
enum { ATOMIC = 1, UNDER_WAY = 2, FLAGS = 15, LANES = 32 };

struct cell {
	stamp w, r;
	uint32_t w_at, r_at; /* instructions, from the start of the program */
};

struct copy {
	void *to;
	const void *from;
	size_t bytes;
	unsigned group;
	uint32_t at;
};

static thread_local bool running; /* other threads are the host's */
static uint64_t now = 1, launch_began, block_began, last_barrier;
static uint64_t began; /* of the launch, or for shared memory the block: before it nothing counts */
static uint64_t heard[CUDA_THREADS][LANES]; /* of each lane of the warp: all before this */
static uint64_t all_heard[CUDA_THREADS / LANES];
static struct range space, shared, image, stacks, instructions, host_stack;
static struct cell *space_cells, *shared_cells;
static std::map<uintptr_t, uintptr_t> memory, pinned;
static struct range known; /* of memory, found last */
static std::vector<struct range> arguments;
static std::vector<struct copy> under_way[CUDA_THREADS];
static unsigned groups[CUDA_THREADS];
static uint64_t launches, accesses;

/* Runs of bytes that the launch wrote first, for the digest. */
static std::vector<struct range> written;
static bool digests;
static uint64_t digest;

extern "C" char __start_emulated_shared[], __stop_emulated_shared[];
extern "C" __attribute__((weak)) char __start_emulated_own[], __stop_emulated_own[];
extern "C" char __executable_start[], end[];

enum { UNWRITTEN = 0xcb };

/* --- what was found --- */

static uint32_t place_of(const void *pc)
{
	return (uint32_t)((uintptr_t)pc - (uintptr_t)__executable_start - 1);
}

static void found(enum race_kind kind, const char *what, uintptr_t a, uint32_t here,
	const char *before, stamp other, uint32_t there)
{
	bool of_block = in(shared, a);
	struct race_finding f = {kind, what, of_block ? "shared" : "global",
		(size_t)(a - (of_block ? shared.begin : space.begin)), here, before,
		(unsigned)(other >> 4 & 0xfff), other >> 16 < block_began, there};

	race_found(&f);
}

__attribute__((constructor)) static void race_begin(void)
{
	shared = range_of(__start_emulated_shared,
		(size_t)(__stop_emulated_shared - __start_emulated_shared));
	instructions = range_of(
		__start_emulated_own, (size_t)(__stop_emulated_own - __start_emulated_own));
	image = range_of(__executable_start, (size_t)(end - __executable_start));
	shared_cells = (struct cell *)calloc(shared.end - shared.begin + 1, sizeof *shared_cells);
	digests = getenv("WL_RACE_DIGEST") != NULL;
}

__attribute__((destructor)) static void race_finish(void)
{
	if (digests)
		fprintf(stderr, "race: digest %016llx\n", (unsigned long long)digest);
	race_end(launches, accesses);
}

/* --- memory --- */

extern "C" void race_space(const void *base, size_t bytes)
{
	void *m = mmap(NULL, bytes * sizeof *space_cells, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (m == MAP_FAILED) {
		fprintf(stderr, "race: no addresses for the checker's notes\n");
		abort();
	}
	space_cells = (struct cell *)m;
	space = range_of(base, bytes);
}

extern "C" void race_memory(void *p, size_t bytes, bool fill)
{
	memory[(uintptr_t)p] = (uintptr_t)p + bytes;
	if (fill)
		memset(p, UNWRITTEN, bytes);
}

extern "C" void race_freed(const void *p)
{
	auto m = memory.find((uintptr_t)p);

	if (m == memory.end())
		return;
	/* Whole pages of notes: addresses are not used again. */
	uintptr_t a = (uintptr_t)(space_cells + (m->first - space.begin) + 4095) & ~(uintptr_t)4095;
	uintptr_t b = (uintptr_t)(space_cells + (m->second - space.begin)) & ~(uintptr_t)4095;
	if (a < b)
		madvise((void *)a, b - a, MADV_DONTNEED);
	memory.erase(m);
	known = range_of(NULL, 0);
}

extern "C" void race_pinned(const void *p, size_t bytes)
{
	emulated_enter(); /* a kernel may be running */
	if (bytes)
		pinned[(uintptr_t)p] = (uintptr_t)p + bytes;
	else
		pinned.erase((uintptr_t)p);
	emulated_leave();
}

extern "C" void race_private(const void *p, size_t bytes)
{
	stacks = range_of(p, bytes);
}

extern "C" void race_argument(const void *p, size_t bytes)
{
	arguments.push_back(range_of(p, bytes));
}

static struct range piece_of(const std::map<uintptr_t, uintptr_t> &of, uintptr_t a)
{
	auto m = of.upper_bound(a);

	if (m == of.begin())
		return range_of(NULL, 0);
	--m;
	struct range r = {m->first, m->second};
	return r;
}

/* Whether all of [a, a + n) may be touched, in device memory. */
static bool allocated(uintptr_t a, size_t n)
{
	if (!in(known, a))
		known = piece_of(memory, a);
	return in(known, a) && in(known, a + n - 1);
}

/* Memory of the host that a kernel may touch. */
static bool hosts(uintptr_t a, bool write)
{
	for (const struct range &r : arguments)
		if (!write && in(r, a))
			return true;
	return (!write && in(image, a)) || in(piece_of(pinned, a), a);
}

/* From here on nothing has written it. */
void race_forget(struct range r)
{
	memset((void *)r.begin, UNWRITTEN, r.end - r.begin);
	memset(space_cells + (r.begin - space.begin), 0,
		(r.end - r.begin) * sizeof *space_cells);
}

struct range race_home(uintptr_t a)
{
	return piece_of(memory, a);
}

/* --- order --- */

static stamp stamp_now(unsigned flags)
{
	return now << 16 | (uint64_t)threadIdx.x << 4 | flags;
}

static bool by_barrier(uint64_t t)
{
	return t < began || (t >= block_began && t < last_barrier);
}

static unsigned thread_of(stamp s)
{
	return (unsigned)(s >> 4 & 0xfff);
}

/* Whether what the stamp says is ordered before what the running thread does now. */
static bool ordered(stamp s)
{
	uint64_t t = s >> 16;
	unsigned me = threadIdx.x, other = thread_of(s);

	if (by_barrier(t))
		return true;
	if (t < block_began)
		return false;
	return other == me || (other / LANES == me / LANES && heard[me][other % LANES] > t);
}

static bool reads_ordered(stamp s)
{
	uint64_t t = s >> 16;
	unsigned me = threadIdx.x;

	switch ((enum readers)(s & FLAGS)) {
	case ONE:
		return ordered(s);
	case OF_WARP:
		return by_barrier(t) || (t >= block_began && thread_of(s) / LANES == me / LANES &&
						all_heard[me / LANES] > t);
	case OF_BLOCK:
		return by_barrier(t);
	case OF_GRID:
		break;
	}
	return t < began;
}

/* What the reads come to with one more, by the running thread. */
static stamp with_read(stamp s)
{
	uint64_t t = s >> 16;
	unsigned me = threadIdx.x, other = thread_of(s);
	enum readers k = (enum readers)(s & FLAGS);

	if (t < began)
		return stamp_now(ONE);
	if (k == OF_GRID || t < block_began)
		return stamp_now(OF_GRID);
	if (t < last_barrier || (k == ONE && ordered(s)))
		return stamp_now(ONE);
	if (k == OF_BLOCK || other / LANES != me / LANES)
		return stamp_now(OF_BLOCK);
	return stamp_now(OF_WARP);
}

static void begin_block(void)
{
	block_began = last_barrier = ++now;
	for (int t = 0; t < CUDA_THREADS; t++) {
		under_way[t].clear();
		groups[t] = 0;
	}
}

extern "C" void race_launch(const void *stack)
{
	running = true;
	launches++;
	launch_began = ++now;
	host_stack.end = (uintptr_t)stack;
}

static uint64_t mixed(uint64_t x)
{
	x = (x ^ x >> 31) * 0x9e3779b97f4a7c15u;
	return x ^ x >> 29;
}

extern "C" void race_launched(void)
{
	uint64_t sum = 0;

	running = false;
	arguments.clear();
	for (const struct range &r : written) {
		uintptr_t begin = piece_of(memory, r.begin).begin;

		for (uintptr_t a = r.begin; a < r.end; a++)
			sum += mixed((a - begin) << 8 | *(unsigned char *)a);
	}
	digest += mixed(sum);
	written.clear();
}

extern "C" void race_block(void)
{
	begin_block();
}

extern "C" void race_barrier(void)
{
	last_barrier = ++now;
}

extern "C" void race_warp(unsigned warp, uint32_t lanes, bool all)
{
	uint64_t union_of[LANES] = {0}, t = ++now;

	for (unsigned l = 0; l < LANES; l++)
		for (unsigned m = 0; m < LANES && lanes >> l & 1; m++) {
			uint64_t h = heard[warp * LANES + l][m];
			union_of[m] = h > union_of[m] ? h : union_of[m];
		}
	for (unsigned l = 0; l < LANES; l++)
		union_of[l] = lanes >> l & 1 ? t : union_of[l];
	for (unsigned l = 0; l < LANES; l++)
		if (lanes >> l & 1)
			memcpy(heard[warp * LANES + l], union_of, sizeof union_of);
	if (all)
		all_heard[warp] = t;
}

/* --- accesses --- */

static void check_write(struct cell *c, uintptr_t a, unsigned flags, uint32_t at)
{
	enum race_kind kind = in(shared, a) ? RACE_SHARED : RACE_GLOBAL;

	if (!ordered(c->w) && !(flags & c->w & ATOMIC))
		found(kind, "writes", a, at, "written in no order with it by", c->w, c->w_at);
	if (!reads_ordered(c->r))
		found(kind, "writes", a, at, "read in no order with it by", c->r, c->r_at);
	c->w = stamp_now(flags);
	c->w_at = at;
	c->r = 0;
}

static void check_read(struct cell *c, uintptr_t a, uint32_t at)
{
	if (!ordered(c->w))
		found(in(shared, a) ? RACE_SHARED : RACE_GLOBAL, "reads", a, at,
			"written in no order with it by", c->w, c->w_at);
	c->r = with_read(c->r);
	c->r_at = at;
}

/* Nobody has written what is read. */
static void check_first(const struct cell *c, uintptr_t a, size_t n, uint32_t at)
{
	bool same = n >= 4;

	if (in(shared, a)) {
		if (c->w >> 16 < block_began)
			found(RACE_FIRST_READ, "reads before any write", a, at, NULL, 0, 0);
		return;
	}
	/* The host may have written it, in place: then it is hardly this. */
	for (size_t i = 0; same && i < n; i++)
		same = !c[i].w && *(unsigned char *)(a + i) == UNWRITTEN;
	if (same)
		found(RACE_FIRST_READ, "reads before any write", a, at, NULL, 0, 0);
}

static void note_written(const struct cell *c, uintptr_t a, size_t n)
{
	if (!digests || in(shared, a))
		return;
	for (size_t i = 0; i < n; i++) {
		if (c[i].w >> 16 >= launch_began)
			continue;
		if (!written.empty() && written.back().end == a + i)
			written.back().end++;
		else
			written.push_back(range_of((void *)(a + i), 1));
	}
}

static void access(uintptr_t a, size_t n, bool write, unsigned flags, uint32_t at)
{
	struct cell *c;

	if (!n || in(stacks, a) || in(instructions, a) ||
		(a < host_stack.end && a >= (uintptr_t)__builtin_frame_address(0)))
		return;
	accesses++;
	began = in(shared, a) ? block_began : launch_began;
	if (in(shared, a)) {
		c = shared_cells + (a - shared.begin);
	} else if (in(space, a)) {
		c = space_cells + (a - space.begin);
		if (!allocated(a, n))
			found(RACE_BOUNDS, write ? "writes unallocated" : "reads unallocated",
				a, at, NULL, 0, 0);
		else if (!race_permits(a, n, known))
			found(RACE_BOUNDS, write ? "writes, no operand's," : "reads, no operand's,",
				a, at, NULL, 0, 0);
	} else {
		if (!hosts(a, write))
			found(RACE_BOUNDS, write ? "writes the host's" : "reads the host's", a, at,
				NULL, 0, 0);
		return;
	}
	if ((c->w & UNDER_WAY) && c->w >> 16 >= block_began)
		found(RACE_COPY,
			write ? "writes over a copy under way," : "reads a copy under way,", a, at,
			"begun by", c->w, c->w_at);
	if (write)
		note_written(c, a, n);
	else
		check_first(c, a, n, at);
	const struct cell first = *c;
	for (size_t i = 0; i < n; i++)
		if (i && !memcmp(c + i, &first, sizeof first))
			c[i] = *c; /* what holds of the first byte holds of this */
		else if (write)
			check_write(c + i, a + i, flags, at);
		else
			check_read(c + i, a + i, at);
}

static void aligned(uintptr_t a, size_t to, uint32_t at)
{
	if (a % to)
		found(RACE_ALIGNMENT, "touches, misaligned,", a, at, NULL, 0, 0);
}

#define HERE place_of(__builtin_return_address(0))
#define HOOKS(n)                                                                                   \
	extern "C" void __tsan_read##n(void *p)                                                    \
	{                                                                                          \
		if (!running)                                                                      \
			return;                                                                    \
		access((uintptr_t)p, n, false, 0, HERE);                                           \
	}                                                                                          \
	extern "C" void __tsan_write##n(void *p)                                                   \
	{                                                                                          \
		if (!running)                                                                      \
			return;                                                                    \
		access((uintptr_t)p, n, true, 0, HERE);                                            \
	}                                                                                          \
	extern "C" void __tsan_unaligned_read##n(void *p)                                          \
	{                                                                                          \
		if (running)                                                                       \
			access((uintptr_t)p, n, false, 0, HERE);                                   \
	}                                                                                          \
	extern "C" void __tsan_unaligned_write##n(void *p)                                         \
	{                                                                                          \
		if (running)                                                                       \
			access((uintptr_t)p, n, true, 0, HERE);                                    \
	}
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

extern "C" void __tsan_read_range(void *p, unsigned long n)
{
	if (running)
		access((uintptr_t)p, n, false, 0, HERE);
}

extern "C" void __tsan_write_range(void *p, unsigned long n)
{
	if (running)
		access((uintptr_t)p, n, true, 0, HERE);
}

extern "C" void __tsan_init(void)
{
}
extern "C" void __tsan_func_entry(void *)
{
}
extern "C" void __tsan_func_exit(void)
{
}
extern "C" void __tsan_vptr_update(void **, void *)
{
}
extern "C" void __tsan_vptr_read(void **)
{
}

/* -fsanitize=alignment: what the type of the access wants. */
extern "C" void __ubsan_handle_type_mismatch_v1(void *, void *p)
{
	if (running)
		found(RACE_ALIGNMENT, "touches, misaligned,", (uintptr_t)p, HERE, NULL, 0, 0);
}

extern "C" void *race_memcpy(void *to, const void *from, size_t bytes)
{
	if (running) {
		access((uintptr_t)from, bytes, false, 0, HERE);
		access((uintptr_t)to, bytes, true, 0, HERE);
	}
	return memcpy(to, from, bytes);
}

extern "C" void *race_memset(void *p, int value, size_t bytes)
{
	if (running)
		access((uintptr_t)p, bytes, true, 0, HERE);
	return memset(p, value, bytes);
}

extern "C" void race_atomic(const void *p, size_t bytes)
{
	if (!running)
		return;
	aligned((uintptr_t)p, bytes, HERE);
	if (in(shared, (uintptr_t)p))
		check_first(
			shared_cells + ((uintptr_t)p - shared.begin), (uintptr_t)p, bytes, HERE);
	access((uintptr_t)p, bytes, true, ATOMIC, HERE);
}

/* --- copies --- */

static void mark(const struct copy *m, unsigned flags)
{
	struct cell *c = shared_cells + ((uintptr_t)m->to - shared.begin);

	for (size_t i = 0; i < m->bytes; i++) {
		c[i].w = stamp_now(flags);
		c[i].w_at = m->at;
	}
}

extern "C" void race_ahead_copy(void *to, const void *from, size_t bytes)
{
	struct copy m = {to, from, bytes, groups[threadIdx.x], HERE};

	aligned((uintptr_t)to, bytes, m.at);
	aligned((uintptr_t)from, bytes, m.at);
	if (!in(shared, (uintptr_t)to)) {
		found(RACE_BOUNDS, "copies ahead to other than shared memory,", (uintptr_t)to, m.at,
			NULL, 0, 0);
		return;
	}
	access((uintptr_t)from, bytes, false, 0, m.at);
	access((uintptr_t)to, bytes, true, 0, m.at);
	memset(to, 0xff, bytes);
	mark(&m, UNDER_WAY);
	under_way[threadIdx.x].push_back(m);
}

extern "C" void race_ahead_commit(void)
{
	groups[threadIdx.x]++;
}

extern "C" void race_ahead_wait(int left)
{
	std::vector<struct copy> &mine = under_way[threadIdx.x];
	size_t n = 0;

	while (n < mine.size() && (int)(groups[threadIdx.x] - mine[n].group) > left) {
		const struct copy *m = &mine[n++];

		access((uintptr_t)m->from, m->bytes, false, 0, m->at);
		memcpy(m->to, m->from, m->bytes);
		mark(m, 0);
	}
	mine.erase(mine.begin(), mine.begin() + (ptrdiff_t)n);
}
