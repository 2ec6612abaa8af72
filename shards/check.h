/*
 * After packing: is every byte what it was (verify), can the databases be made again from the
 * tars (repair), and is every pair of the corpus accounted for (audit).
 */
#ifndef WL_SHARDS_CHECK_H
#define WL_SHARDS_CHECK_H

#include "ops/err.h"

#include <stdbool.h>
#include <stdint.h>

struct wl_verify_result {
	int64_t shards, samples, bytes;
	int64_t bad_shards; /* the error names the first, in the order of names */
};

/* Reads every byte: each tar's SHA-256 against NAME.db and the manifest, every header, offset,
 * length and picture hash against NAME.db, KEY.txt against KEY.json; with `deep`, decodes every
 * picture and compares its size.  Shards are checked on `threads` threads (0: one per core).
 * WL_EDATA names the first bad shard and key; *out is filled in either way. */
WL_MUST_CHECK int wl_shards_verify(const char *dir, bool deep, int64_t threads,
	struct wl_verify_result *out, struct wl_err *err);

struct wl_repair_result {
	int64_t shards, samples;
	bool tombstones_lost; /* the old manifest could not be read; it is kept as *.damaged */
};

/* Makes NAME.db of every tar again, then the manifest (meta from the old one, else from
 * plan.json) and the public indices.  A tar that is damaged itself is an error that names it, and
 * the manifest is left alone; so is one whose SHA-256 neither its NAME.db nor the old manifest
 * knows, where one of them is left (unless trust_tars). */
WL_MUST_CHECK int wl_shards_repair(
	const char *dir, bool trust_tars, struct wl_repair_result *out, struct wl_err *err);

struct wl_audit_result {
	int64_t read;			       /* input items: pairs + quarantined + pending */
	int64_t pending;		       /* their pictures are still to be fetched */
	int64_t quarantined;		       /* could not become a pair */
	int64_t dropped_dedup, dropped_filter; /* the first stage with a verdict */
	int64_t rejected;		       /* kept, but the picture could not be packed */
	int64_t packed;
	int64_t tombstoned; /* of packed: taken down since */
};

/* The accounting identity: read = pending + quarantined + dropped + rejected + packed, each pair in
 * exactly one of them and in one shard only.  WL_EDATA names the first pair that is not (by
 * partition, then id), or the first sample without a pair; *out is filled in as far as it got.
 * Memory: 8 bytes a sample. */
WL_MUST_CHECK int wl_shards_audit(
	const char *corpus, const char *dir, struct wl_audit_result *out, struct wl_err *err);

#endif
