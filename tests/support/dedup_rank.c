/* See dedup_rank.h. */
#include "tests/support/dedup_rank.h"

int dedup_rank(struct wl_comm *comm, void *user, struct wl_err *e)
{
	struct on_ranks *r = user;
	struct wl_dedup_counts n;
	struct wl_corpus *c = wl_corpus_open(r->dir, false, 0, e);
	int ret = c ? wl_dedup_on(comm, c, &r->o, &n, e) : -1;

	wl_corpus_close(c);
	if (ret >= 0 && wl_comm_rank(comm) == 0)
		r->n = n;
	return ret;
}
