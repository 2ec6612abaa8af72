/*
 * The workspace itself: corpus.json, names of files, pair ids, and which generation of each
 * later stage is the published one.  corpus_lane.c writes pairs, corpus_read.c reads them.
 */
#include "ingest/corpus_priv.h"

#include "ops/file.h"
#include "ops/hash.h"
#include "ops/json.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PARTITIONS = 99999, DEFAULT_SEED = 1 };

static char *config_path(const struct wl_corpus *c, struct wl_err *err)
{
	return wl_path_join(c->dir, "corpus.json", err);
}

/* Takes over `root` when it is a corpus.json that we understand. */
static int adopt(struct wl_corpus *c, json_t *root, const char *path, struct wl_err *err)
{
	int64_t version, partitions, seed;
	const json_t *stages;
	if (!root)
		return -1;
	if (wl_json_int(root, "version", path, &version, err) < 0 ||
		wl_json_int(root, "partitions", path, &partitions, err) < 0 ||
		wl_json_int_or(root, "seed", path, DEFAULT_SEED, &seed, err) < 0)
		goto fail;
	if (version != WL_CORPUS_VERSION) {
		wl_err_set(err, WL_EDATA,
			"%s has version %lld, this program knows version %d; use the release that "
			"wrote it",
			path, (long long)version, WL_CORPUS_VERSION);
		goto fail;
	}
	if (partitions < 1 || partitions > MAX_PARTITIONS) {
		wl_err_set(err, WL_EDATA, "%s says %lld partitions, expected 1 to %d", path,
			(long long)partitions, MAX_PARTITIONS);
		goto fail;
	}
	stages = json_object_get(root, "stages");
	if (stages && !json_is_object(stages)) {
		wl_err_set(err, WL_EDATA, "%s: \"stages\" is not an object", path);
		goto fail;
	}
	json_decref(c->root);
	c->root = root;
	c->partitions = (int)partitions;
	c->seed = (uint64_t)seed;
	return 0;
fail:
	json_decref(root);
	return -1;
}

/* Several processes that start at once all want it, for a moment. */
static int lock_patiently(const char *path, struct wl_err *err)
{
	enum { TRIES = 500, PAUSE_NS = 20000000 };
	for (int i = 0; i < TRIES; i++) {
		int fd = wl_lock_try(path, false, err);
		if (fd != WL_LOCK_BUSY)
			return fd;
		nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
	}
	return wl_lock_file(path, err);
}

/* Writes a fresh corpus.json unless another process was quicker. */
static int create_config(struct wl_corpus *c, const char *path, int partitions, struct wl_err *err)
{
	char *lock_path = NULL;
	int lock = -1, ret = -1;
	json_t *root = NULL;
	if (partitions < 0 || partitions > MAX_PARTITIONS)
		return wl_err_set(err, WL_EUSAGE, "a corpus has 1 to %d partitions, not %d",
			MAX_PARTITIONS, partitions);
	WL_TRY_OUT(wl_mkdir_p(c->dir, err));
	lock_path = wl_path_join(c->dir, "lock", err);
	if (!lock_path)
		goto out;
	lock = lock_patiently(lock_path, err);
	if (lock < 0)
		goto out;
	if (!wl_exists(path)) {
		root = json_pack("{s:i, s:i, s:i, s:{}}", "version", WL_CORPUS_VERSION,
			"partitions", partitions ? partitions : 1, "seed", DEFAULT_SEED, "stages");
		if (!root) {
			wl_err_nomem(err, "corpus.json", 0);
			goto out;
		}
		WL_TRY_OUT(wl_json_save(path, root, err));
	}
	ret = 0;
out:
	if (lock >= 0)
		close(lock);
	free(lock_path);
	json_decref(root);
	return ret;
}

/* A stage that has been through has left its database in every partition, empty or not: one that
 * is not there any more was lost, with its pairs. */
static int check_partitions(const struct wl_corpus *c, struct wl_err *err)
{
	bool ran = json_object_size(json_object_get(c->root, "stages")) > 0;
	int ret = 0;

	for (int p = 0; ran && ret == 0 && p < c->partitions; p++) {
		char *dir = wl_corpus_part_dir(c, p, err);

		if (!dir)
			return -1;
		if (!wl_exists(dir))
			ret = wl_err_set(err, WL_EDATA,
				"%s is missing, which stages have been through: the corpus is not "
				"whole; copy that partition there again",
				dir);
		free(dir);
	}
	return ret;
}

static int open_config(struct wl_corpus *c, bool create, int partitions, struct wl_err *err)
{
	char *path = config_path(c, err);
	int ret = -1;
	if (!path)
		return -1;
	if (!wl_exists(path)) {
		if (!create) {
			wl_err_set(err, WL_EDATA,
				"%s is no corpus: it has no corpus.json; make one with "
				"wenlan-ingest",
				c->dir);
			goto out;
		}
		WL_TRY_OUT(create_config(c, path, partitions, err));
	}
	WL_TRY_OUT(adopt(c, wl_json_load(path, err), path, err));
	WL_TRY_OUT(check_partitions(c, err));
	if (create && partitions && partitions != c->partitions) {
		wl_err_set(err, WL_EUSAGE,
			"%s has %d partitions and that cannot change (asked for: %d); leave it out",
			c->dir, c->partitions, partitions);
		goto out;
	}
	ret = 0;
out:
	free(path);
	return ret;
}

struct wl_corpus *wl_corpus_open(const char *dir, bool create, int partitions, struct wl_err *err)
{
	struct wl_corpus *c = calloc(1, sizeof *c);
	if (!c) {
		wl_err_nomem(err, "a corpus", sizeof *c);
		return NULL;
	}
	for (int i = 0; i < WL_CORPUS_FDS; i++)
		c->fds[i].fd = -1;
	pthread_mutex_init(&c->lock, NULL);
	c->dir = wl_strf(err, "%s", dir);
	if (!c->dir || open_config(c, create, partitions, err) < 0) {
		wl_corpus_close(c);
		return NULL;
	}
	return c;
}

void wl_corpus_close(struct wl_corpus *c)
{
	if (!c)
		return;
	for (int i = 0; i < WL_CORPUS_FDS; i++)
		if (c->fds[i].fd >= 0)
			close(c->fds[i].fd);
	pthread_mutex_destroy(&c->lock);
	json_decref(c->root);
	free(c->dir);
	free(c);
}

const char *wl_corpus_dir(const struct wl_corpus *c)
{
	return c->dir;
}

int wl_corpus_partitions(const struct wl_corpus *c)
{
	return c->partitions;
}

uint64_t wl_corpus_seed(const struct wl_corpus *c)
{
	return c->seed;
}

int wl_corpus_lane(const struct wl_corpus *c, const char *origin)
{
	return (int)(wl_hash64(origin, strlen(origin), 0) % (uint64_t)c->partitions);
}

void wl_corpus_check_lane(const struct wl_corpus *c, int partition)
{
	if (partition < 0 || partition >= c->partitions)
		WL_BUG("partition %d of %d", partition, c->partitions);
}

char *wl_corpus_part_dir(const struct wl_corpus *c, int partition, struct wl_err *err)
{
	wl_corpus_check_lane(c, partition);
	return wl_strf(err, "%s/part-%05d", c->dir, partition);
}

char *wl_corpus_part_file(
	const struct wl_corpus *c, int partition, const char *name, struct wl_err *err)
{
	wl_corpus_check_lane(c, partition);
	return wl_strf(err, "%s/part-%05d/%s", c->dir, partition, name);
}

char *wl_corpus_segment_path(
	const struct wl_corpus *c, int partition, int segment, struct wl_err *err)
{
	wl_corpus_check_lane(c, partition);
	return wl_strf(err, "%s/part-%05d/raw-%06d.tar", c->dir, partition, segment);
}

/* ---- pair ids ---- */

/* Each part with its closing 0, so that no two lists of parts hash the same bytes; then the
 * ordinal, big end first. */
static void hash_identity(
	const char *const part[3], const size_t len[3], int64_t ordinal, uint8_t digest[32])
{
	enum { HERE = 2048 };
	size_t n = len[0] + len[1] + len[2] + 8, at = 0;
	uint8_t here[HERE], *all = n > HERE ? malloc(n) : here;
	if (!all) {
		WL_BUG("%zu bytes of memory are missing", n);
		return; /* not reached, which cppcheck cannot see */
	}
	for (int i = 0; i < 3; at += len[i++])
		memcpy(all + at, part[i], len[i]);
	for (int i = 0; i < 8; i++)
		all[at + (size_t)i] = (uint8_t)((uint64_t)ordinal >> (56 - 8 * i));
	wl_sha256(all, n, digest);
	if (all != here)
		free(all);
}

int64_t wl_pair_id(
	const char *source, const char *page_url, const char *image_origin, int64_t ordinal)
{
	const char *const part[3] = {source, page_url, image_origin};
	const size_t len[3] = {strlen(source) + 1, strlen(page_url) + 1, strlen(image_origin) + 1};
	uint8_t digest[WL_SHA256_BYTES];
	uint64_t id = 0;
	hash_identity(part, len, ordinal, digest);
	for (int i = 0; i < 8; i++)
		id = id << 8 | digest[i];
	return (int64_t)(id >> 1);
}

void wl_pair_name(int partition, int64_t id, char out[WL_PAIR_NAME])
{
	char digits[20];
	size_t n = 0;
	if (id < 0 || partition > 99999) { /* of a damaged catalog */
		snprintf(out, WL_PAIR_NAME, "%05d-%lld", partition, (long long)id);
		return;
	}
	for (int i = 4; i >= 0; i--, partition /= 10)
		out[i] = (char)('0' + partition % 10);
	out[5] = '-';
	do
		digits[n++] = (char)('0' + id % 10);
	while (id /= 10);
	for (out += 6; n; out++)
		*out = digits[--n];
	*out = '\0';
}

/* ---- stages ---- */

static const json_t *stage_entry(const struct wl_corpus *c, const char *stage)
{
	return json_object_get(json_object_get(c->root, "stages"), stage);
}

int wl_corpus_generation(const struct wl_corpus *c, const char *stage)
{
	return (int)json_integer_value(json_object_get(stage_entry(c, stage), "generation"));
}

const json_t *wl_corpus_stage_facts(const struct wl_corpus *c, const char *stage)
{
	return json_object_get(stage_entry(c, stage), "facts");
}

char *wl_corpus_stage_path(const struct wl_corpus *c, const char *stage, int generation,
	int partition, struct wl_err *err)
{
	wl_corpus_check_lane(c, partition);
	return wl_strf(err, "%s/part-%05d/%s-%d.db", c->dir, partition, stage, generation);
}

/* Removes STAGE-G.db (and what SQLite keeps beside it) of generations before `keep`. */
static int remove_older(
	struct wl_corpus *c, const char *stage, int keep, int partition, struct wl_err *err)
{
	char *dir = wl_corpus_part_dir(c, partition, err),
	     *pattern = wl_strf(err, "%s-*.db*", stage);
	struct wl_names names = {0};
	int ret = -1;
	if (!dir || !pattern)
		goto out;
	if (!wl_exists(dir)) {
		ret = 0;
		goto out;
	}
	WL_TRY_OUT(wl_list_dir(dir, pattern, &names, err));
	for (size_t i = 0; i < names.n; i++) {
		char *end, *path;
		long g = strtol(names.v[i] + strlen(stage) + 1, &end, 10);
		if (strncmp(end, ".db", 3) != 0 || g >= keep)
			continue;
		path = wl_path_join(dir, names.v[i], err);
		int failed = !path || wl_remove_tree(path, err) < 0;
		free(path);
		if (failed)
			goto out;
	}
	ret = 0;
out:
	wl_names_release(&names);
	free(pattern);
	free(dir);
	return ret;
}

/* Reads corpus.json again (another stage may have published meanwhile), changes, saves. */
static int publish_locked(struct wl_corpus *c, const char *stage, int generation,
	const json_t *facts, struct wl_err *err)
{
	char *path = config_path(c, err);
	json_t *stages;
	int ret = -1;
	if (!path)
		return -1;
	WL_TRY_OUT(adopt(c, wl_json_load(path, err), path, err));
	if (generation <= wl_corpus_generation(c, stage)) {
		wl_err_set(err, WL_EFAIL,
			"stage %s has published generation %d already, so %d is out of date; run "
			"it again",
			stage, wl_corpus_generation(c, stage), generation);
		goto out;
	}
	stages = json_object_get(c->root, "stages");
	if (!stages) {
		stages = json_object();
		if (json_object_set_new(c->root, "stages", stages) < 0)
			goto nomem;
	}
	json_t *entry = json_pack("{s:i, s:o}", "generation", generation, "facts",
		facts ? json_deep_copy(facts) : json_object());
	if (!entry || json_object_set_new(stages, stage, entry) < 0)
		goto nomem;
	ret = wl_json_save(path, c->root, err);
out:
	free(path);
	return ret;
nomem:
	wl_err_nomem(err, "corpus.json", 0);
	goto out;
}

int wl_corpus_publish(struct wl_corpus *c, const char *stage, int generation, const json_t *facts,
	struct wl_err *err)
{
	char *lock_path = wl_path_join(c->dir, "lock", err);
	int lock = -1, ret = -1;
	if (!lock_path)
		return -1;
	lock = wl_lock_file(lock_path, err);
	if (lock < 0)
		goto out;
	WL_TRY_OUT(publish_locked(c, stage, generation, facts, err));
	for (int p = 0; p < c->partitions; p++)
		WL_TRY_OUT(remove_older(c, stage, generation, p, err));
	ret = 0;
out:
	if (lock >= 0)
		close(lock);
	free(lock_path);
	return ret;
}
