/* wenlan-shard: packs a corpus; its subcommands look after what was packed. */
#include "shards/commands.h"

#include "ops/opt.h"

int main(int argc, char **argv)
{
	static const struct wl_command commands[] = {
		{"", "pack the kept pairs of a corpus (needs no command word)", wl_cmd_pack},
		{"verify", "check every byte of a shard set", wl_cmd_verify},
		{"repair", "databases and manifest from the tars, or damaged tars from the corpus",
			wl_cmd_repair},
		{"audit", "account for every pair of the corpus", wl_cmd_audit},
		{"ls", "list shards, or samples", wl_cmd_ls},
		{"get", "print one sample", wl_cmd_get},
		{"stats", "counts by split, source and topic, and sizes", wl_cmd_stats},
		{"lint", "find leaks between splits, doubles, missing captions", wl_cmd_lint},
		{"diff", "compare two shard sets pair by pair", wl_cmd_diff},
		{"merge", "make one set of several", wl_cmd_merge},
		{"tombstone", "take samples down without packing again", wl_cmd_tombstone},
		{0},
	};

	return wl_main_commands("wenlan-shard", commands, argc, argv);
}
