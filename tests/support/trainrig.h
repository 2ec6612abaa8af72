/* Runs of wenlan-train (and others) on a tiny set of shards, for tests through the executables. */
#ifndef WL_TESTS_TRAINRIG_H
#define WL_TESTS_TRAINRIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { RIG_SAMPLES = 40 };

struct halt_page;

struct train_rig {
	char root[64], shards[96], vocab[96];
	struct halt_page *halt; /* shared with runs */
};

/* A directory of its own with shards of RIG_SAMPLES pairs and a vocabulary; -1: not made. */
int rig_make(struct train_rig *r);
int rig_remove(struct train_rig *r);

/* The `--model` of a network that trains in milliseconds, dropout included. */
extern const char rig_model[];

/* Starts a program of the build (or, when it holds a slash or is mpirun, that one) in a process
 * group of its own with these arguments (argv[0] included, NULL at the end), its output in
 * ROOT/log. */
pid_t rig_start(const struct train_rig *r, const char *program, const char *const *argv);
/* Waits; the exit code, or -signal. */
int rig_finish(pid_t pid);

/* The runs that are started from here on stop (SIGSTOP) when so many lines of metrics have
 * been written, once (0: none does).  By tests/preload/halt.c, which the Makefile makes for
 * such tests. */
void rig_halt_after(struct train_rig *r, int lines);
/* Waits for that, while the program (a run, or what has started its ranks) lives; the pid of the
 * process that stands, which goes on at SIGCONT.  0: the program has ended before. */
pid_t rig_halted(struct train_rig *r, pid_t program);
/* The steady clock of the runs that were started halting becomes a thousand times as fast, or as it
 * was: what waits for somebody in vain finds out soon. */
void rig_hurry(struct train_rig *r, bool yes);

/* What it said; valid until the next call. */
const char *rig_log(const struct train_rig *r);

/* Lines of RUN/metrics.jsonl as an array, without the timings. */
json_t *rig_metrics(const struct train_rig *r, const char *run);
/* Files and hashes of RUN's newest checkpoint, which must be of this step. */
json_t *rig_files(const struct train_rig *r, const char *run, int64_t step);

#endif
