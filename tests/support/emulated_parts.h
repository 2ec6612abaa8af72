/*
 * What the files of the emulation's runtime know of each other: emulated_memory.cu, which has the
 * memory and who may touch it, and emulated_runtime.cu, which has what is given to streams.
 */
#ifndef WL_TESTS_SUPPORT_EMULATED_PARTS_H
#define WL_TESTS_SUPPORT_EMULATED_PARTS_H

#include <mutex>

#include <stdio.h>

#include "tests/support/emulated_runtime.h"

/* What no program may do, whatever CUDA answers. */
#define FORBID(bad, ...)                                                                           \
	do {                                                                                       \
		if (bad) {                                                                         \
			fprintf(stderr, "emulated: " __VA_ARGS__);                                 \
			fputc('\n', stderr);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* --- emulated_memory.cu --- */

/* Whoever holds it is alone: kernels, copies and all that the runtime keeps. */
extern std::recursive_mutex emulated_device;
/* Times that this thread has entered (emulated_enter) and not left. */
int emulated_entered(void);
/* Host memory that is neither pinned nor the device's. */
bool emulated_pageable(const void *p);

/* --- emulated_runtime.cu --- */

/* Keeps an error for cudaGetLastError; the code. */
cudaError_t emulated_say(cudaError_t code);
/* Calls that CUDA forbids a thread that captures (cudaStreamCaptureModeThreadLocal): they end the
 * capture. */
bool emulated_unsafe(void);
/* Everything that was given is done. */
void emulated_finish(void);
/* For tests: from now on a stream that has copies alone does them when somebody waits for them, the
 * host or another stream: what changes what they read, and does not wait, shows. */
extern "C" void emulated_idle(bool yes);

#endif
