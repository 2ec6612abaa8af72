/*
 * Is a stage up to date?  See run.h.
 *
 * What a stage depends on is kept as one digest a kind (command, program, inputs, stages
 * before), so that the reason for a new run can be told.  Files up to 1 MiB count by their
 * content, larger ones and those in directories by size and time of change.
 */
#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"
#include "ops/run.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CONTENT_MAX = 1 << 20, MAX_DEPTH = 64 };

static void add_text(struct wl_sha256 *h, const char *s)
{
	wl_sha256_add(h, s, strlen(s) + 1); /* the 0 separates */
}

static int add_file(struct wl_sha256 *h, const char *path, bool content, int depth,
	struct wl_err *err);

static int add_directory(struct wl_sha256 *h, const char *path, int depth, struct wl_err *err)
{
	struct wl_names names;
	int ret = 0;

	if (depth > MAX_DEPTH)
		return wl_err_set(err, WL_EUSAGE, "input %s is nested too deep", path);
	WL_TRY(wl_list_dir(path, "*", &names, err));
	for (size_t i = 0; i < names.n && !ret; i++) {
		char *child = wl_path_join(path, names.v[i], err);

		add_text(h, names.v[i]);
		ret = child ? add_file(h, child, false, depth + 1, err) : -1;
		free(child);
	}
	wl_names_release(&names);
	return ret;
}

static int add_file(struct wl_sha256 *h, const char *path, bool content, int depth,
	struct wl_err *err)
{
	struct stat st;
	char text[80];
	uint8_t digest[WL_SHA256_BYTES];

	if (stat(path, &st))
		return wl_err_errno(err, "input %s cannot be examined", path);
	if (S_ISDIR(st.st_mode))
		return add_directory(h, path, depth, err);
	if (content && S_ISREG(st.st_mode) && st.st_size <= CONTENT_MAX) {
		WL_TRY(wl_sha256_file(path, digest, err));
		wl_sha256_add(h, digest, sizeof digest);
		return 0;
	}
	snprintf(text, sizeof text, "%lld %lld.%09ld", (long long)st.st_size,
		(long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	add_text(h, text);
	return 0;
}

static json_t *finish(struct wl_sha256 *h)
{
	uint8_t digest[WL_SHA256_BYTES];
	char hex[WL_SHA256_HEX];

	wl_sha256_final(h, digest);
	wl_hex(digest, sizeof digest, hex);
	return json_string(hex);
}

static int hash_inputs(struct wl_plan *p, size_t stage, struct wl_sha256 *h, struct wl_err *err)
{
	struct wl_strs inputs;

	WL_TRY(wl_stage_paths(p, stage, "inputs", &inputs, err));
	for (size_t i = 0; i < inputs.n; i++) {
		struct wl_names names;
		int ret = 0;

		if (wl_glob(inputs.v[i], &names, err) < 0)
			return wl_err_prefix(err, "stage %s: inputs", p->stages[stage].name);
		for (size_t k = 0; k < names.n && !ret; k++) {
			add_text(h, names.v[k]);
			ret = add_file(h, names.v[k], true, 0, err);
		}
		wl_names_release(&names);
		WL_TRY(ret);
	}
	return 0;
}

/* The bytes of the program, and of the script when the program is an interpreter. */
static int hash_program(struct wl_plan *p, const struct wl_strs *argv, struct wl_sha256 *h,
	struct wl_err *err)
{
	const char *program = wl_stage_program(p, argv->v[0], err), *base;
	uint8_t digest[WL_SHA256_BYTES];

	if (!program)
		return -1;
	WL_TRY(wl_sha256_file(program, digest, err));
	wl_sha256_add(h, digest, sizeof digest);
	base = strrchr(program, '/') ? strrchr(program, '/') + 1 : program;
	if (argv->n > 1 && wl_exists(argv->v[1]) &&
		(!strcmp(base, "sh") || !strcmp(base, "bash") || !fnmatch("python*", base, 0)))
		WL_TRY(add_file(h, argv->v[1], true, 0, err));
	return 0;
}

/* One kind of dependency as a member of `parts`. */
static int add_part(struct wl_plan *p, size_t stage, const char *kind, json_t *parts,
	struct wl_err *err)
{
	struct wl_sha256 h = {0};
	struct wl_strs argv;
	int ret = -1;

	WL_TRY(wl_sha256_init(&h, err));
	WL_TRY_OUT(wl_stage_argv(p, stage, &argv, err));
	if (!strcmp(kind, "command")) {
		for (size_t i = 0; i < argv.n; i++)
			add_text(&h, argv.v[i]);
	} else if (!strcmp(kind, "program")) {
		WL_TRY_OUT(hash_program(p, &argv, &h, err));
	} else if (!strcmp(kind, "inputs")) {
		WL_TRY_OUT(hash_inputs(p, stage, &h, err));
	} else {
		for (size_t i = 0; i < p->stages[stage].n_needs; i++) {
			json_t *before = wl_stage_record(p, p->stages[stage].needs[i]);
			char *text = before ? wl_json_text(json_object_get(before, "parts"), err)
				: wl_strf(err, "none");

			if (!text)
				goto out;
			add_text(&h, text);
			free(text);
		}
	}
	ret = json_object_set_new(parts, kind, finish(&h)) ? wl_err_nomem(err, "a digest", 0) : 0;
out:
	wl_sha256_release(&h);
	return ret;
}

static const char *const kinds[] = {"command", "program", "inputs", "before", NULL};

json_t *wl_stage_parts(struct wl_plan *p, size_t stage, struct wl_err *err)
{
	json_t *parts = json_object();

	for (size_t i = 0; kinds[i]; i++)
		if (add_part(p, stage, kinds[i], parts, err) < 0) {
			json_decref(parts);
			return NULL;
		}
	return parts;
}

json_t *wl_stage_record(const struct wl_plan *p, size_t stage)
{
	return json_object_get(json_object_get(p->state, "stages"), p->stages[stage].name);
}

/* 1: all outputs are there, 0: one is not. */
static int outputs_exist(struct wl_plan *p, size_t stage, struct wl_err *err)
{
	struct wl_strs outputs;

	WL_TRY(wl_stage_paths(p, stage, "outputs", &outputs, err));
	for (size_t i = 0; i < outputs.n; i++) {
		struct wl_names names;

		if (wl_glob(outputs.v[i], &names, NULL) < 0)
			return 0;
		wl_names_release(&names);
	}
	return 1;
}

static const char *changed_part(const json_t *record, const json_t *parts)
{
	static const char *const texts[] = {"command changed", "program changed", "inputs changed",
		"a stage before it changed"};
	const json_t *old = json_object_get(record, "parts");

	for (size_t i = 0; kinds[i]; i++)
		if (!json_equal(json_object_get(old, kinds[i]), json_object_get(parts, kinds[i])))
			return texts[i];
	return "";
}

const char *wl_stage_reason(struct wl_plan *p, size_t stage, struct wl_err *err)
{
	const json_t *record = wl_stage_record(p, stage);
	const char *status = json_string_value(json_object_get(record, "status")), *reason;
	json_t *parts;
	int there;

	if (!status)
		return "never ran";
	if (!strcmp(status, "running") || !strcmp(status, "stopped"))
		return "was interrupted";
	if (strcmp(status, "done"))
		return "failed";
	parts = wl_stage_parts(p, stage, err);
	if (!parts)
		return NULL;
	reason = changed_part(record, parts);
	json_decref(parts);
	if (*reason)
		return reason;
	there = outputs_exist(p, stage, err);
	if (there < 0)
		return NULL;
	if (!there)
		return "an output is missing";
	return p->stages[stage].always ? "always runs" : "";
}

int wl_stage_save(struct wl_plan *p, size_t stage, json_t *facts, struct wl_err *err)
{
	json_t *stages = json_object_get(p->state, "stages");
	json_t *record = wl_stage_record(p, stage);
	char *path;
	int ret;

	if (!facts)
		return wl_err_nomem(err, "the state", 0);
	if (record) {
		json_object_update(record, facts);
		json_decref(facts);
	} else {
		json_object_set_new(stages, p->stages[stage].name, facts);
	}
	path = wl_path_join(p->workdir, "run-state.json", err);
	if (!path)
		return -1;
	ret = wl_json_save(path, p->state, err);
	free(path);
	return ret;
}
