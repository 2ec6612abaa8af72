/* wenlan-eval: measures embeddings and writes reports; a subcommand each. */
#include "eval/commands.h"
#include "ops/opt.h"

int main(int argc, char **argv)
{
	static const struct wl_command commands[] = {
		{"retrieval", "R@K of embeddings in both directions, beside chance",
			wl_cmd_retrieval},
		{"caption", "BLEU, METEOR, ROUGE-L and CIDEr of captions", wl_cmd_caption},
		{"ranking", "NDCG and MAP of graded results", wl_cmd_ranking},
		{"classify", "zero-shot classes and tags from label names", wl_cmd_classify},
		{"report", "a page about a run: curves, R@K, retrieved examples", wl_cmd_report},
		{0},
	};

	return wl_main_commands("wenlan-eval", commands, argc, argv);
}
