/* wenlan-weights: what is in a file of weights, and weights under other projects' names. */
#include "ops/log.h"
#include "ops/opt.h"
#include "train/checkpoint/export.h"

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	const struct wl_export_opts *e = user;
	int n;

	(void)o;
	if (!e->to)
		return wl_weights_print(e->from, err);
	n = wl_export(e, err);
	if (n < 0)
		return -1;
	wl_info("%s: %d tensors of the part %s", e->to, n, e->part);
	return 0;
}

static const struct wl_path_rule paths[] = {
	{"from", WL_PATH_ANY, "wenlan-train --run writes checkpoints"},
	{"out", WL_PATH_OUTPUT, NULL},
	{0},
};

int main(int argc, char **argv)
{
	struct wl_export_opts e = {.part = "towers"};
	const struct wl_opt table[] = {
		{"from", WL_OPT_STR, &e.from, "PATH",
			"a checkpoint, a run (its newest one), or a file (safetensors or .pth)",
			true},
		{"out", WL_OPT_STR, &e.to, "FILE",
			"the safetensors file to write; without it, tensors are listed", false},
		{"part", WL_OPT_STR, &e.part, "NAME",
			"image (timm's names), text (Hugging Face's) or towers (BriVL's)", false},
		{"momentum", WL_OPT_BOOL, &e.momentum, NULL, "the momentum towers of a checkpoint",
			false},
		{NULL, WL_OPT_BOOL, NULL, NULL, NULL, false},
	};
	struct wl_opts opts = {
		.program = "wenlan-weights",
		.usage = "--from PATH [--part NAME --out FILE]",
		.about = "Lists weights, or writes them under the names that PyTorch's libraries "
			 "use.",
		.example = "wenlan-weights --from runs/first --part text --out bert.safetensors",
		.table = table,
		.paths = paths,
	};

	return wl_main(&opts, argc, argv, run, &e);
}
