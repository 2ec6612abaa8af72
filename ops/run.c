/* Driving a plan: see run.h. */
#include "ops/run.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/signals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The arguments as one line that a shell would understand. */
static char *command_line(const struct wl_strs *argv, struct wl_err *err)
{
	struct wl_buf b;

	wl_buf_init(&b, 1 << 20);
	for (size_t i = 0; i < argv->n; i++) {
		const char *s = argv->v[i];
		bool plain = *s && !s[strcspn(s, " \t\n'\"\\$`*?[]{}()<>|&;#~!")];

		if ((i && wl_buf_putc(&b, ' ', err) < 0) ||
			wl_buf_printf(&b, err, plain ? "%s" : "'%s'", s) < 0) {
			wl_buf_release(&b);
			return NULL;
		}
	}
	return b.data;
}

static char *log_path(const struct wl_plan *p, size_t stage, struct wl_err *err)
{
	return wl_strf(err, "%s/logs/%s.log", p->workdir, p->stages[stage].name);
}

static int check_outputs(struct wl_plan *p, size_t stage, struct wl_err *err)
{
	struct wl_strs outputs;

	WL_TRY(wl_stage_paths(p, stage, "outputs", &outputs, err));
	for (size_t i = 0; i < outputs.n; i++) {
		struct wl_names names;

		if (wl_glob(outputs.v[i], &names, NULL) < 0)
			return wl_err_set(err, WL_EFAIL,
				"stage %s ended well but did not make %s: mend its outputs in %s "
				"or the command",
				p->stages[stage].name, outputs.v[i], p->path);
		wl_names_release(&names);
	}
	return 0;
}

/* The command under mpirun.  The program is named by its path: ranks look for it themselves. */
static int launched(struct wl_plan *p, size_t stage, struct wl_strs *argv, const char **program,
	struct wl_err *err)
{
	const char *launch[8];
	size_t n = 0, i;
	const char **v;
	char *np = wl_arena_alloc(&p->arena, 16, err);

	if (!np)
		return -1;
	snprintf(np, 16, "%lld", (long long)p->stages[stage].ranks);
	launch[n++] = "mpirun";
	if (geteuid() == 0)
		launch[n++] = "--allow-run-as-root";
	launch[n++] = "--oversubscribe";
	launch[n++] = "-np";
	launch[n++] = np;
	launch[n++] = *program;
	v = wl_arena_calloc(&p->arena, n + argv->n, sizeof *v, err);
	*program = v ? wl_stage_program(p, "mpirun", err) : NULL;
	if (!*program)
		return v ? wl_err_prefix(err, "stage %s asks for %s ranks", p->stages[stage].name,
			np) : -1;
	memcpy(v, launch, n * sizeof *v);
	for (i = 1; i < argv->n; i++)
		v[n++] = argv->v[i];
	v[n] = NULL;
	argv->v = v;
	argv->n = n;
	return 0;
}

/* mpirun ends with 128 + signal when a rank was killed: for want of memory, with its machine, by
 * hand.  To run it again is right, as for a rank that noticed itself. */
static void count_lost_ranks(const struct wl_stage *s, struct wl_child *c)
{
	if (s->ranks > 0 && !c->signal && (c->code == 128 + 9 || c->code == 128 + 15)) {
		wl_warn("stage %s has lost a rank", s->name);
		c->code = WL_ERETRY;
	}
}

static int stage_failed(struct wl_plan *p, size_t stage, const struct wl_child *c, const char *log,
	struct wl_err *err)
{
	const char *name = p->stages[stage].name;

	if (wl_stop_requested())
		return wl_err_set(err, WL_ERETRY,
			"stage %s was stopped; run the same command again to go on from there",
			name);
	if (c->signal)
		return wl_err_set(err, (enum wl_code)c->code,
			"stage %s was killed by signal %d (%s)%s; its log is %s; run the same "
			"command again"
			" to go on",
			name, c->signal, strsignal(c->signal),
			c->signal == 9 ? ", perhaps for lack of memory" : "", log);
	return wl_err_set(err, (enum wl_code)c->code,
		"stage %s failed with exit code %d; the end of its log %s says why", name, c->code,
		log);
}

/* Runs the stage's program, again as often as retries say when it asks for that. */
static int run_program(struct wl_plan *p, size_t stage, const struct wl_run_how *how,
	const char *log, struct wl_child *c, struct wl_err *err)
{
	const struct wl_stage *s = &p->stages[stage];
	struct wl_strs argv;
	const char *program;
	char *line;

	WL_TRY(wl_stage_argv(p, stage, &argv, err));
	program = wl_stage_program(p, argv.v[0], err);
	if (program && s->ranks > 0)
		WL_TRY(launched(p, stage, &argv, &program, err));
	line = program ? command_line(&argv, err) : NULL;
	if (!line)
		return -1;
	for (int64_t attempt = 0;; attempt++) {
		FILE *f = fopen(log, attempt ? "ae" : "we");

		if (f) {
			fprintf(f, "$ %s\n", line);
			fclose(f);
		}
		if (wl_child_run(program, &argv, log, how->quiet, c, err) < 0) {
			free(line);
			return -1;
		}
		count_lost_ranks(s, c);
		if (c->code != WL_ERETRY || attempt >= s->retries || wl_stop_requested())
			break;
		wl_warn("stage %s asks to be run again (%lld of %lld)", s->name,
			(long long)attempt + 1, (long long)s->retries);
		sleep(1);
	}
	free(line);
	return 0;
}

static int run_stage(
	struct wl_plan *p, size_t stage, const struct wl_run_how *how, struct wl_err *err)
{
	const struct wl_stage *s = &p->stages[stage];
	char *log = log_path(p, stage, err);
	json_t *parts = log ? wl_stage_parts(p, stage, err) : NULL;
	struct wl_child c = {0};
	int ret = -1;

	if (!parts)
		goto out;
	/* The parts as they are before the run: what changes during it counts as changed. */
	WL_TRY_OUT(wl_stage_save(p, stage,
		json_pack("{s:s,s:I,s:O}", "status", "running", "started", (json_int_t)time(NULL),
			"parts", parts),
		err));
	WL_TRY_OUT(run_program(p, stage, how, log, &c, err));
	if (!c.code && wl_stop_requested())
		c.code = WL_ERETRY; /* it may have stopped early: its next run will tell */
	ret = c.code ? stage_failed(p, stage, &c, log, err) : check_outputs(p, stage, err);
	struct wl_err save_err = WL_ERR_INIT;
	if (wl_stage_save(p, stage,
		    json_pack("{s:s,s:i,s:f,s:f,s:I}", "status",
			    !ret		  ? "done"
			    : wl_stop_requested() ? "stopped"
						  : "failed",
			    "exit_code", c.code, "seconds", c.seconds, "cpu_seconds", c.cpu_seconds,
			    "max_rss_bytes", (json_int_t)c.max_rss_bytes),
		    &save_err) < 0 &&
		!ret)
		ret = wl_err_set(err, save_err.code, "%s", save_err.msg);
	if (!ret)
		wl_info("stage %s done in %.1f s", s->name, c.seconds);
out:
	json_decref(parts);
	free(log);
	return ret;
}

static int show_stage(struct wl_plan *p, size_t stage, const char *reason, struct wl_err *err)
{
	struct wl_strs argv;
	char *line;

	WL_TRY(wl_stage_argv(p, stage, &argv, err));
	line = command_line(&argv, err);
	if (!line)
		return -1;
	printf("%s (%s): %s\n", p->stages[stage].name, reason, line);
	free(line);
	return 0;
}

/* --from and --only start in the middle: what comes before must have been done. */
static int check_before(struct wl_plan *p, size_t first, struct wl_err *err)
{
	for (size_t i = 0; i < first; i++) {
		const char *status =
			json_string_value(json_object_get(wl_stage_record(p, i), "status"));

		if (!status || strcmp(status, "done"))
			return wl_err_set(err, WL_EUSAGE,
				"stage %s cannot be the first to run: stage %s before it is not "
				"done",
				p->stages[first].name, p->stages[i].name);
	}
	return 0;
}

static int drive(struct wl_plan *p, const struct wl_run_how *how, size_t first, size_t last,
	bool force, struct wl_err *err)
{
	/* In a dry run, and only there, a stage before may be stale while this is judged. */
	bool *stale = wl_arena_calloc(&p->arena, p->n, sizeof *stale, err);

	if (!stale)
		return -1;
	for (size_t i = first; i < last; i++) {
		const struct wl_stage *s = &p->stages[i];
		const char *reason = force ? "asked for" : wl_stage_reason(p, i, err);

		if (!reason)
			return -1;
		for (size_t k = 0; k < s->n_needs && !*reason; k++)
			if (stale[s->needs[k]])
				reason = "a stage before it changed";
		if (!*reason) {
			wl_info("stage %s is up to date", s->name);
			continue;
		}
		if (how->dry_run) {
			stale[i] = true;
			WL_TRY(show_stage(p, i, reason, err));
			continue;
		}
		wl_info("stage %s (%zu of %zu) starts: %s%s%s", s->name, i + 1, p->n, reason,
			s->about ? "; " : "", s->about ? s->about : "");
		WL_TRY(run_stage(p, i, how, err));
	}
	return 0;
}

int wl_plan_run(struct wl_plan *p, const struct wl_run_how *how, struct wl_err *err)
{
	size_t first = 0, last = p->n;
	char *dir, *lock;
	int fd = -1, ret = -1;

	if (how->from || how->only) {
		int64_t i = wl_plan_find(p, how->only ? how->only : how->from, err);

		WL_TRY((int)i);
		first = (size_t)i;
		last = how->only ? first + 1 : p->n;
		WL_TRY(check_before(p, first, err));
	}
	if (how->dry_run)
		return drive(p, how, first, last, how->from || how->only, err);
	dir = wl_path_join(p->workdir, "logs", err);
	lock = wl_path_join(p->workdir, "run.lock", err);
	if (!dir || !lock)
		goto out;
	WL_TRY_OUT(wl_mkdir_p(dir, err));
	fd = wl_lock_file(lock, err);
	if (fd < 0)
		goto out;
	ret = drive(p, how, first, last, how->from || how->only, err);
out:
	if (fd >= 0)
		close(fd);
	free(dir);
	free(lock);
	return ret;
}
