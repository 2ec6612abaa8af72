/* The commands of wenlan-shard, each the body of a main; argv[0] is the program's name. */
#ifndef WL_SHARDS_COMMANDS_H
#define WL_SHARDS_COMMANDS_H

int wl_cmd_pack(int argc, char **argv);
int wl_cmd_verify(int argc, char **argv);
int wl_cmd_repair(int argc, char **argv);
int wl_cmd_audit(int argc, char **argv);
int wl_cmd_ls(int argc, char **argv);
int wl_cmd_get(int argc, char **argv);
int wl_cmd_stats(int argc, char **argv);
int wl_cmd_tombstone(int argc, char **argv);
int wl_cmd_lint(int argc, char **argv);
int wl_cmd_diff(int argc, char **argv);
int wl_cmd_merge(int argc, char **argv);

#endif
