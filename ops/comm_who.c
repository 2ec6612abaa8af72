/* Which rank this is, of which run and on which machine, by what launchers leave in the
 * environment. */
#include "ops/comm_mesh.h"

#include "ops/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *rank, *world, *local;
} names[] = {
	{"WL_RANK", "WL_WORLD_SIZE", "WL_LOCAL_RANK"},
	{"RANK", "WORLD_SIZE", "LOCAL_RANK"}, /* torchrun */
	{"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"},
	{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
};

static int number_of(const char *name, long least, long most, int *to, struct wl_err *err)
{
	const char *s = getenv(name);
	char *end;
	long v;

	errno = 0;
	v = s && *s ? strtol(s, &end, 10) : -1;
	if (!s || !*s || *end || errno || v < least || v > most)
		return wl_err_set(err, WL_EUSAGE, "%s is \"%s\": expected a number from %ld to "
			"%ld", name, s ? s : "", least, most);
	*to = (int)v;
	return 0;
}

int comm_who(struct wl_comm *c, int *local, struct wl_err *err)
{
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (!getenv(names[i].rank) && !getenv(names[i].world))
			continue;
		WL_TRY(number_of(names[i].world, 1, COMM_RANKS, &c->size, err));
		WL_TRY(number_of(names[i].rank, 0, c->size - 1, &c->rank, err));
		*local = -1;
		return getenv(names[i].local)
			       ? number_of(names[i].local, 0, c->size - 1, local, err)
			       : 0;
	}
	return wl_err_set(err, WL_EUSAGE, "a rendezvous is given, but not which rank this is: set "
		"WL_RANK and WL_WORLD_SIZE, or start by torchrun or srun");
}

/* Under torchrun the port itself is its own store's. */
static bool of_torchrun(char text[COMM_NAME_MAX + 16])
{
	const char *host = getenv("MASTER_ADDR"), *port = getenv("MASTER_PORT");
	const char *store = getenv("TORCHELASTIC_USE_AGENT_STORE"), *world = getenv("WORLD_SIZE");
	bool v6 = host && strchr(host, ':');
	int at;

	if (!host || !port || !getenv("RANK") || !world || !strcmp(world, "1"))
		return false;
	at = atoi(port) + (store && !strcmp(store, "True"));
	snprintf(text, COMM_NAME_MAX + 16, "tcp://%s%.200s%s:%d", v6 ? "[" : "", host,
		v6 ? "]" : "", at);
	return true;
}

const char *comm_meet_place(char text[COMM_NAME_MAX + 16])
{
	const char *s = getenv("WL_RENDEZVOUS");

	if (s && *s) {
		snprintf(text, COMM_NAME_MAX + 16, "%s", s);
		return text;
	}
	return of_torchrun(text) ? text : NULL;
}

void comm_name_run(uint8_t key[COMM_KEY])
{
	static const char *const ids[] = {"WL_RUN_ID", "TORCHELASTIC_RUN_ID",
		"TORCHELASTIC_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_STEP_ID",
		"SLURM_RESTART_COUNT"};
	char text[1024] = "wenlan run";

	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
		size_t at = strlen(text);
		const char *v = getenv(ids[i]);

		if (v && at < sizeof text - 1)
			snprintf(text + at, sizeof text - at, " %.120s", v);
		if (v && i == 0)
			break; /* the user's own is enough */
	}
	wl_sha256(text, strlen(text), key);
}

void comm_name_host(uint8_t host[COMM_HOST])
{
	char text[320] = "";
	uint8_t sum[WL_SHA256_BYTES];
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");

	gethostname(text, 255);
	if (f && !fgets(text + strlen(text), 64, f))
		text[255] = 0;
	if (f)
		fclose(f);
	wl_sha256(text, strlen(text), sum);
	memcpy(host, sum, COMM_HOST);
}
