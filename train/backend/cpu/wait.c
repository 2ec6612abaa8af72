/*
 * How threads wait for each other.  GCC's OpenMP spins for milliseconds at the end
 * of every parallel loop; where the loader's threads or another program want the
 * processor too, the spinning holds back the very thread that it waits for
 * (measured: a training step five times slower on a busy machine of two cores).
 * The library reads its setting before main(), so the program sets it and starts
 * itself anew, once.
 */
#include "train/backend/backend.h"

#include <stdlib.h>
#include <unistd.h>

void wl_backend_cpu_prepare(char **argv)
{
	/* Rounds of spinning: a few microseconds, then sleep. The user's own setting wins. */
	static const char name[] = "GOMP_SPINCOUNT";
	if (getenv(name) || getenv("OMP_WAIT_POLICY"))
		return;
	if (setenv(name, "1000", 1) == 0)
		execv("/proc/self/exe", argv);
	/* Where that is not possible, everything still works. */
}
