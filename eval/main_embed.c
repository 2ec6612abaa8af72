/* wenlan-embed: a checkpoint and pictures or texts to unit vectors. */
#include "eval/embed.h"
#include "train/backend/backend.h"

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	(void)o;
	return wl_embed_run(user, err);
}

static const struct wl_path_rule paths[] = {
	{"texts", WL_PATH_FILE, "write the texts into it, one a line, as UTF-8"},
	{0},
};

int main(int argc, char **argv)
{
	struct wl_embed_opts e = {.split = "test", .precision = "fp32", .device = "auto",
		.store = "fp32",
		.batch = 64};
	const struct wl_opt table[] = {
		{"ckpt", WL_OPT_STR, &e.ckpt, "DIR", "a checkpoint, or a run (its newest one)",
			true},
		{"shards", WL_OPT_STR, &e.shards, "DIR|URL", "embed a split of these shards",
			false},
		{"cache", WL_OPT_STR, &e.cache, "DIR",
			"of a URL: whole shards are kept here (else in ~/.cache/wenlan)", false},
		{"cache-size", WL_OPT_INT, &e.cache_size, "BYTES",
			"the most that the cache may hold (20G)", false},
		{"split", WL_OPT_STR, &e.split, "NAME", "train, val or test", false},
		{"images", WL_OPT_LIST, &e.images, "PATH", "embed files, directories, globs",
			false},
		{"texts", WL_OPT_STR, &e.texts, "FILE",
			"embed its lines; a file without any is refused", false},
		{"corpus", WL_OPT_STR, &e.corpus, "DIR",
			"score how picture and text of each pair agree: lines PAIR,COSINE", false},
		{"vectors", WL_OPT_BOOL, &e.vectors, NULL,
			"of --corpus: the embeddings themselves, for wenlan-dedup --embeddings",
			false},
		{"store", WL_OPT_STR, &e.store, "NAME",
			"of --vectors: fp32, fp16 or bf16 in the files", false},
		{"replace", WL_OPT_BOOL, &e.replace, NULL,
			"of --corpus: an --out of another model is begun anew", false},
		{"out", WL_OPT_STR, &e.out, "FILE",
			"the safetensors file to write (of --corpus: a CSV, or with --vectors a "
			"directory of safetensors files, which is gone on with)",
			true},
		{"batch", WL_OPT_INT, &e.batch, "N", "rows computed at once", false},
		{"threads", WL_OPT_INT, &e.threads, "N", "compute threads, 0: all cores", false},
		{"device", WL_OPT_STR, &e.device, "NAME", "auto, cpu or cuda", false},
		{"precision", WL_OPT_STR, &e.precision, "NAME", "fp32 or bf16", false},
		{"limit", WL_OPT_INT, &e.limit, "N", "the first N samples of the split, 0: all",
			false},
		{NULL, WL_OPT_BOOL, NULL, NULL, NULL, false},
	};
	struct wl_opts opts = {
		.program = "wenlan-embed",
		.usage = "--ckpt DIR (--shards DIR --split S | --images PATH... | --texts FILE | "
			 "--corpus DIR [--vectors]) "
			 "--out FILE",
		.about = "Writes the unit-length embeddings of pictures and texts as safetensors.",
		.example = "wenlan-embed --ckpt runs/first --shards shards --split test "
			   "--out test.safetensors",
		.table = table,
		.paths = paths,
	};

	wl_backend_cpu_prepare(argv);
	return wl_main(&opts, argc, argv, run, &e);
}
