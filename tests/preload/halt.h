/* What a test and the programs that it starts with halt.so preloaded share: a page of a file whose
 * path is in WL_HALT.  A test that kills or stops a run at a known moment must not depend on how
 * fast the run is; here the run itself waits at that moment. */
#ifndef WL_TESTS_HALT_H
#define WL_TESTS_HALT_H

#include <stdatomic.h>
#include <stdint.h>

struct halt_page {
	/* Lines of any metrics.jsonl to be written until the process that writes the last of them
	 * stops itself (SIGSTOP) right behind it; 0: none does. */
	_Atomic int lines;
	_Atomic int pid; /* who has stopped itself so, or is about to */
	/* When the steady clock became a thousand times as fast, in its nanoseconds; 0: it
	 * has not. */
	_Atomic int64_t fast_since;
};

#endif
