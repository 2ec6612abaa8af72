/* `wenlan-filter topics ...`: train, select, show, report. */
#ifndef WL_CLEAN_TOPICS_COMMANDS_H
#define WL_CLEAN_TOPICS_COMMANDS_H

/* A main for wl_main_commands. */
int wl_topics_main(int argc, char **argv);

#endif
