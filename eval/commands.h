/* The subcommands of wenlan-eval: mains of their own (ops/opt.h, wl_main_commands). */
#ifndef WL_EVAL_COMMANDS_H
#define WL_EVAL_COMMANDS_H

#include "eval/metrics/retrieval.h"

#include <jansson.h>

/* The mains of the subcommands: arguments as of main, argv[0] the program; an exit code. */
int wl_cmd_retrieval(int argc, char **argv);
int wl_cmd_caption(int argc, char **argv);
int wl_cmd_ranking(int argc, char **argv);
int wl_cmd_classify(int argc, char **argv);
int wl_cmd_report(int argc, char **argv);

/* {"i2t":{"r1","r5","r10","median_rank","mean_rank"},"t2i":{...},"mean_recall","images",
 * "texts"}: the form in which results are kept. */
json_t *wl_retrieval_to_json(const struct wl_retrieval *r);

#endif
