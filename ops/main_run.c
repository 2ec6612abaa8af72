/* wenlan-run PLAN.yaml: runs the stages of a plan; see run.h. */
#include "ops/file.h"
#include "ops/log.h"
#include "ops/run.h"

#include <stdlib.h>

struct args {
	const char *workdir, *from, *only, *report;
	struct wl_strs sets;
	bool status, dry_run;
};

static int write_report(struct wl_plan *plan, const char *path, struct wl_err *err)
{
	WL_TRY(wl_plan_report(plan, path, err));
	wl_info("report: %s", path);
	return 0;
}

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	const struct args *a = user;
	struct wl_run_how how = {a->from, a->only, a->dry_run, o->common.quiet};
	struct wl_plan plan = {0};
	int ret;

	if (o->positional.n != 1)
		return wl_err_set(err, WL_EUSAGE,
			"one plan file is expected, as in wenlan-run ops/plans/demo.yaml (see "
			"--help); %zu arguments were given", o->positional.n);
	if (a->from && a->only)
		return wl_err_set(err, WL_EUSAGE, "--from and --only exclude each other");
	ret = wl_plan_load(&plan, o->positional.v[0], a->workdir, &a->sets, err);
	if (!ret && a->status)
		ret = wl_plan_status(&plan, o->common.json, err);
	else if (!ret && !(a->report && !a->dry_run && !a->from && !a->only))
		ret = wl_plan_run(&plan, &how, err);
	if (!ret && a->report)
		ret = write_report(&plan, a->report, err);
	wl_plan_release(&plan);
	return ret;
}

static const struct wl_path_rule paths[] = {
	{"workdir", WL_PATH_OUTPUT_DIR, NULL},
	{"", WL_PATH_FILE, "a plan is YAML with name and stages; ops/plans/demo.yaml is one"},
	{"report", WL_PATH_OUTPUT, NULL},
	{0},
};

int main(int argc, char **argv)
{
	struct args a = {0};
	const struct wl_opt table[] = {
		{"workdir", WL_OPT_STR, &a.workdir, "DIR", "where state, logs and results go",
			false},
		{"set", WL_OPT_LIST, &a.sets, "VAR=VALUE", "another value of a variable", false},
		{"status", WL_OPT_BOOL, &a.status, NULL, "print what is done and what would run",
			false},
		{"from", WL_OPT_STR, &a.from, "STAGE", "run this stage and all after it", false},
		{"only", WL_OPT_STR, &a.only, "STAGE", "run this stage alone", false},
		{"dry-run", WL_OPT_BOOL, &a.dry_run, NULL, "print what would run, and why", false},
		{"report", WL_OPT_STR, &a.report, "FILE.html",
			"write a page about the run so far (alone: run nothing)", false},
		{0},
	};
	struct wl_opts o = {
		.program = "wenlan-run",
		.usage = "PLAN.yaml [OPTION]...",
		.about = "Runs the stages of a plan in order, skipping those whose command, "
			 "program,\n"
			 "inputs and earlier stages are unchanged.  After a kill, run it again.",
		.example = "wenlan-run ops/plans/demo.yaml --set epochs=3",
		.table = table,
		.paths = paths,
		.allow_positional = true,
	};

	return wl_main(&o, argc, argv, run, &a);
}
