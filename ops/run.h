/*
 * Plans: stages run one after the other, each skipped when nothing that it depends on has
 * changed, resumed after any kill by running the same plan again (the stages themselves
 * resume where they stopped).
 *
 *	name: demo
 *	workdir: demo                     # state, logs and whatever the stages write
 *	vars: {corpus: "${workdir}/corpus"}
 *	stages:
 *	  - name: ingest
 *	    run: wenlan-ingest --corpus ${corpus} dir:photos      # or a list of arguments
 *	    inputs: [photos]              # globs; a directory counts with all that is in it
 *	    outputs: ["${corpus}/corpus.json"]                    # must exist afterwards
 *	  - name: train
 *	    run: [wenlan-train, --run, "${workdir}/run", {if-exists: w.pth, then: [--init, w.pth]}]
 *	    needs: [ingest]               # default: the stage before; [] for none
 *
 * A command line is split at spaces (quotes and backslash as in a shell, but no shell runs)
 * and variables are put in after that, so a value with spaces stays one argument.  ${name}
 * is a variable of the plan, workdir, share (the files that come with the programs), cores,
 * or env:NAME; $$ is a dollar sign.  Programs are looked up beside wenlan-run, then in PATH.
 * Other keys of a stage: about (a line for people), retries (for exit code 75; default 0),
 * always (true: never skipped), ranks (N: started by mpirun on N processes; one that is lost
 * counts as exit code 75).
 *
 * A stage is up to date when its last run ended with 0 and its command, its program's
 * bytes, its inputs and all this of the stages that it needs are unchanged, and its outputs
 * exist.  State is kept in WORKDIR/run-state.json, output in WORKDIR/logs/STAGE.log.
 */
#ifndef WL_OPS_RUN_H
#define WL_OPS_RUN_H

#include "ops/arena.h"
#include "ops/child.h"
#include "ops/err.h"
#include "ops/opt.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct wl_stage {
	const char *name, *about; /* about may be NULL */
	json_t *json;             /* borrowed from the plan's tree */
	size_t *needs, n_needs;   /* indices of earlier stages */
	int64_t retries, ranks; /* ranks 0: no launcher */
	bool always;
};

struct wl_plan {
	const char *path, *name, *workdir;
	struct wl_stage *stages;
	size_t n;
	json_t *tree;
	json_t *vars;  /* name -> value, expanded */
	json_t *state; /* WORKDIR/run-state.json */
	struct wl_arena arena;
};

/* Reads plan and state.  workdir: overrides the plan's, NULL for that; sets: "name=value".
 * WL_EUSAGE or WL_EDATA with the place for what is wrong. */
WL_MUST_CHECK int wl_plan_load(struct wl_plan *p, const char *path, const char *workdir,
	const struct wl_strs *sets, struct wl_err *err);
void wl_plan_release(struct wl_plan *p);
/* The index of a stage, or -1 with the nearest name. */
WL_MUST_CHECK int64_t wl_plan_find(const struct wl_plan *p, const char *stage,
	struct wl_err *err);

/* A NULL-terminated list of strings in the plan's arena, with variables put in: the
 * arguments of a stage as they are now (if-exists looks at the disk), its inputs, outputs. */
WL_MUST_CHECK int wl_stage_argv(struct wl_plan *p, size_t stage, struct wl_strs *out,
	struct wl_err *err);
WL_MUST_CHECK int wl_stage_paths(struct wl_plan *p, size_t stage, const char *key,
	struct wl_strs *out, struct wl_err *err);
/* The path of the program that argv[0] names, in the plan's arena. */
const char *wl_stage_program(struct wl_plan *p, const char *name, struct wl_err *err);

/* What a stage depends on, as digests that can be compared one by one. */
json_t *wl_stage_parts(struct wl_plan *p, size_t stage, struct wl_err *err);
/* Why the stage must run ("command changed", "never ran", ...), or "" when it is up to date;
 * static text.  NULL when that cannot be told. */
const char *wl_stage_reason(struct wl_plan *p, size_t stage, struct wl_err *err);
/* The recorded facts of a stage ({"status","seconds",...}), or NULL. */
json_t *wl_stage_record(const struct wl_plan *p, size_t stage);
/* Merges `facts` (stolen) into the stage's record and saves the state. */
WL_MUST_CHECK int wl_stage_save(struct wl_plan *p, size_t stage, json_t *facts,
	struct wl_err *err);

struct wl_run_how {
	const char *from; /* run this stage and all after it, changed or not; or NULL */
	const char *only; /* run this stage alone; or NULL */
	bool dry_run, quiet;
};
/* Runs what must run.  A failing stage's exit code becomes the error's code. */
WL_MUST_CHECK int wl_plan_run(struct wl_plan *p, const struct wl_run_how *how,
	struct wl_err *err);

/* The table of stages on standard output, as JSON when json. */
WL_MUST_CHECK int wl_plan_status(struct wl_plan *p, bool json, struct wl_err *err);
/* A page with stages, times, commands and the ends of the logs. */
WL_MUST_CHECK int wl_plan_report(struct wl_plan *p, const char *out, struct wl_err *err);

#endif
