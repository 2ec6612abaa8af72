/* A run that is killed, as if by SIGKILL, again and again until it once comes to its end, for tests
 * of what a kill leaves behind.
 *
 * Moments are parts of the time that the same run needs undisturbed on this machine, measured just
 * before: on a slow machine kills do not all come before anything was done, on a fast one not after
 * the end.  Where chance (or a machine that became less busy) spares the run all the same,
 * everything begins anew with earlier moments, so that `least` kills are certain. */
#ifndef WL_TESTS_KILLS_H
#define WL_TESTS_KILLS_H

struct killed {
	/* Puts everything back to before the first run, in the test's process. */
	void (*begin)(void *ctx);
	/* The run, in a process of its own, which it may replace (exec); the exit code. */
	int (*run)(void *ctx);
	void *ctx;
	int least; /* kills that there must be, at least */
};

/* Ends with a run that came to its end by itself.  Fails the running test when a run fails. */
void killed_until_done(const struct killed *k);

/* The same of the shell command `cmd` (which execs its program), and `begin`, the command that
 * puts everything back ("rm -rf DIR"). */
void kill_until_done(const char *begin, const char *cmd, int least);

#endif
