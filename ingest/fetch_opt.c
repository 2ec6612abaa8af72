/* What a fetch did, for people and for programs. */
#include "ingest/fetch_opt.h"

#include "ops/log.h"

void wl_fetch_say(const struct wl_fetch_counts *n)
{
	const char *reason;
	json_t *v;
	if (!n->requests && !n->pairs && !n->quarantined && !n->waiting)
		return;
	wl_info("fetched %lld pictures (%.1f MB, %lld requests) for %lld pairs; %lld URLs failed "
		"(%lld pairs), %lld are left for a later run",
		(long long)n->ok, (double)n->bytes / 1e6, (long long)n->requests,
		(long long)n->pairs, (long long)n->failed, (long long)n->quarantined,
		(long long)n->later);
	if (n->pages)
		wl_info("%lld of the URLs were pages, which name %lld pictures",
			(long long)n->pages, (long long)n->found);
	if (n->unchanged || n->changed)
		wl_info("asked again: %lld unchanged, %lld changed", (long long)n->unchanged,
			(long long)n->changed);
	json_object_foreach(n->reasons, reason, v)
		wl_info("  not fetched, %s: %lld", reason, (long long)json_integer_value(v));
	if (n->waiting)
		wl_info("%lld pairs still wait for their picture: run the same command again",
			(long long)n->waiting);
}

json_t *wl_fetch_counts_json(const struct wl_fetch_counts *n)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O?}",
		"requests", n->requests, "pages", n->pages, "found", n->found, "ok", n->ok,
		"failed", n->failed, "later", n->later, "unchanged", n->unchanged, "changed",
		n->changed, "pairs", n->pairs, "quarantined", n->quarantined, "waiting", n->waiting,
		"bytes", n->bytes, "reasons", n->reasons);
}
