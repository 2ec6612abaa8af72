/* Runs of wenlan-train (and others) on a tiny set of shards, for tests through the executables. */
#ifndef WL_TESTS_TRAINRIG_H
#define WL_TESTS_TRAINRIG_H

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

enum { RIG_SAMPLES = 40 };

struct train_rig {
	char root[64], shards[96], vocab[96];
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
/* What it said; valid until the next call. */
const char *rig_log(const struct train_rig *r);

/* Lines of RUN/metrics.jsonl as an array, without the timings. */
json_t *rig_metrics(const struct train_rig *r, const char *run);
/* Files and hashes of RUN's newest checkpoint, which must be of this step. */
json_t *rig_files(const struct train_rig *r, const char *run, int64_t step);

#endif
