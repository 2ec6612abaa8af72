/* What the checker's files share: racecheck.cu, which finds, racecheck_found.cu, which says it, and
 * racecheck_operation.cu, which knows what is whose. */
#ifndef WL_TESTS_SUPPORT_RACECHECK_PARTS_H
#define WL_TESTS_SUPPORT_RACECHECK_PARTS_H

#include "tests/support/racecheck.h"

struct range {
	uintptr_t begin, end;
};

static inline bool in(struct range r, uintptr_t a)
{
	return a - r.begin < r.end - r.begin;
}

static inline struct range range_of(const void *p, size_t bytes)
{
	struct range r = {(uintptr_t)p, (uintptr_t)p + bytes};

	return r;
}

struct race_finding {
	enum race_kind kind;
	const char *what;   /* the running thread did */
	const char *memory; /* "shared", "global" */
	size_t byte;	    /* of all such memory */
	uint32_t here;	    /* instruction, from the start of the program */
	const char *before; /* what another thread had done; NULL: none is to blame */
	unsigned other;	    /* that thread, of this block or another one */
	bool other_block;
	uint32_t there; /* its instruction, 0 where nobody knows */
};

/* Counts it once for two instructions, and says it once for two lines. */
void race_found(const struct race_finding *f);
/* The last line of a program, and its exit code 66 if something was found. */
void race_end(uint64_t launches, uint64_t accesses);

/* The allocation of device memory in which an address lies, or begins before it. */
struct range race_home(uintptr_t a);
/* From here on nothing has written it. */
void race_forget(struct range r);
/* Whether the operation whose work runs, if any, has to do with [a, a + n), of the allocation. */
bool race_permits(uintptr_t a, size_t n, struct range allocation);

#endif
