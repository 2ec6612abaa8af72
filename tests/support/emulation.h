/* The emulation of a GPU (tests/support/emulated_runtime.h) as tests in C see it: each function is
 * NULL where the backend is a GPU's own, or where none was built. */
#ifndef WL_TESTS_EMULATION_H
#define WL_TESTS_EMULATION_H

#include <stdbool.h>
#include <stdint.h>

#define EMULATION __attribute__((weak))

void emulated_apart(bool yes) EMULATION;
void emulated_stuck(bool yes) EMULATION;
void emulated_late(bool yes) EMULATION;
/* A stream that has copies alone does them when the host or another stream waits for it. */
void emulated_idle(bool yes) EMULATION;
int64_t emulated_waits(void) EMULATION;
int64_t emulated_replayed(void) EMULATION;
int64_t emulated_parts(void) EMULATION;
void emulated_nccl_fails(int code) EMULATION;
int64_t emulated_nccl_asked(void) EMULATION;

#endif
