/* A flag set by the first SIGINT or SIGTERM: see signals.h. */
#include "ops/signals.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The one piece of state that a signal handler can reach. */
static volatile sig_atomic_t stop_requested;

static void on_signal(int sig)
{
	static const char note[] =
		"\nstopping at the next safe point; once more ends it at once\n";

	if (stop_requested) {
		/* The default action, so that the parent sees the signal as the cause. */
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	stop_requested = 1;
	if (write(STDERR_FILENO, note, sizeof note - 1) < 0)
		return; /* nobody to tell */
}

void wl_signals_install(void)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof sa);
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = on_signal;
	/* Libraries that do not expect EINTR keep working; sleeps and polls still wake. */
	sa.sa_flags = SA_RESTART;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sa.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &sa, NULL);
}

bool wl_stop_requested(void)
{
	return stop_requested != 0;
}

void wl_stop_request(void)
{
	stop_requested = 1;
}
