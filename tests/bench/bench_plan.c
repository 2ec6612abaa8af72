/*
 * The plan of a large set: seconds, and the peak of memory.  Bar: 30 M pairs under 1 GB.
 *
 * Usage: bench_plan [MILLIONS]   (default 1; the catalog takes 150 MB a million in $TMPDIR)
 *
 * The catalog is written straight into its tables (the planner reads no picture): short texts,
 * one split group in ten is of three pairs.  The planner runs in a process of its own.
 */
#include "ops/clock.h"
#include "ops/file.h"
#include "ops/hash.h"
#include "shards/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int rc, const struct wl_err *err)
{
	if (rc < 0) {
		fprintf(stderr, "bench_plan: %s\n", err->msg);
		exit(1);
	}
}

static void fill(const char *path, const char *sql, long long n)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_db db = {0};
	sqlite3_stmt *st;

	must(wl_db_open(&db, path, WL_DB_WRITE, &err), &err);
	must(wl_db_exec(&db,
		     "PRAGMA synchronous=OFF;"
		     "CREATE TABLE IF NOT EXISTS examined(pair_id INTEGER PRIMARY KEY);"
		     "CREATE TABLE IF NOT EXISTS verdict(pair_id, reason TEXT, detail TEXT,"
		     " PRIMARY KEY(pair_id, reason)) WITHOUT ROWID;"
		     "CREATE TABLE IF NOT EXISTS cluster(pair_id INTEGER PRIMARY KEY, split_group);"
		     "CREATE TABLE IF NOT EXISTS clean(pair_id INTEGER PRIMARY KEY, texts TEXT,"
		     " topic INTEGER, category TEXT, scores TEXT)",
		     &err),
		&err);
	must(wl_db_begin(&db, &err), &err);
	must(wl_db_prepare(&db, &st, sql, &err), &err);
	must(wl_db_run(&db, st, &err, "i", (int64_t)n), &err);
	sqlite3_finalize(st);
	must(wl_db_commit(&db, &err), &err);
	must(wl_db_exec(&db, "PRAGMA journal_mode=DELETE", &err), &err);
	wl_db_close(&db);
}

/* Ids as hashes lie: spread over 63 bits, of which only the order is not theirs. */
#define COUNT "WITH RECURSIVE k(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM k WHERE i+1<?1) "
#define ID "(i*137438953447+i*7919%131071)"

static void make_corpus(const char *dir, long long n)
{
	static const char *const stages[] = {"dedup", "filter"};
	struct wl_err err = WL_ERR_INIT;
	struct wl_corpus *c = wl_corpus_open(dir, true, 1, &err);
	struct wl_lane *l = c ? wl_lane_open(c, 0, &err) : NULL; /* makes the tables */
	json_t *facts = json_pack("{s:s}", "params_hash", "bench");
	char path[512];

	must(l ? 0 : -1, &err);
	wl_lane_close(l);
	snprintf(path, sizeof path, "%s/part-00000/catalog.db", dir);
	fill(path,
		COUNT "INSERT INTO pair SELECT " ID ",'news','http://a/'||i,'','[[\"caption\","
		      "\"x\"]]','',zeroblob(32),0,i*1024,100000,'jpeg',500,375,NULL,0,'{}' FROM k",
		n);
	for (int s = 0; s < 2; s++) {
		char *stage = wl_corpus_stage_path(c, stages[s], 1, 0, &err);

		must(stage ? 0 : -1, &err);
		fill(stage, COUNT "INSERT INTO examined SELECT " ID " FROM k", n);
		if (!s)
			fill(stage,
				COUNT "INSERT INTO cluster SELECT i*137438953447+i*7919%131071,"
				      "(i-i%30)*137438953447+(i-i%30)*7919%131071 FROM k"
				      " WHERE i%30<3",
				n);
		free(stage);
		must(wl_corpus_publish(c, stages[s], 1, facts, &err), &err);
	}
	json_decref(facts);
	wl_corpus_close(c);
}

static long long peak_kb(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_maxrss;
}

static void plan(const char *dir, long long n)
{
	struct wl_shard_plan_opts o = {
		.test = 11000, .val = 1000, .shard_bytes = 256000000, .seed = 1, .quality = 95};
	struct wl_err err = WL_ERR_INIT;
	struct wl_corpus *c = wl_corpus_open(dir, false, 0, &err);
	struct wl_shard_plan p;
	long long before = peak_kb();
	double s;

	must(c ? 0 : -1, &err);
	s = wl_now_s();
	must(wl_shard_plan_make(&p, c, &o, &err), &err);
	s = wl_now_s() - s;
	printf("plan, %.1f M pairs, 12,000 drawn: %.1f s, peak %lld MB (%.1f bytes a pair above "
	       "the %lld MB at the start; 30 M: %.0f MB), %zu shards, plan %.16s\n",
		(double)n / 1e6, s, peak_kb() / 1000,
		(double)(peak_kb() - before) * 1024 / (double)n, before / 1000,
		(double)(peak_kb() - before) * 1.024e-3 * 30e6 / (double)n, p.n_shards, p.hash);
	wl_shard_plan_release(&p);
	wl_corpus_close(c);
}

int main(int argc, char **argv)
{
	long long n = (long long)(1e6 * (argc > 1 ? atof(argv[1]) : 1));
	const char *tmp = getenv("TMPDIR");
	struct wl_err err = WL_ERR_INIT;
	char dir[256];
	int status;
	pid_t pid;

	snprintf(dir, sizeof dir, "%s/wl-bench-plan-XXXXXX", tmp ? tmp : "/tmp");
	if (n < 100000 || !mkdtemp(dir)) {
		fprintf(stderr, "usage: bench_plan [MILLIONS, 0.1 at least]\n");
		return 2;
	}
	make_corpus(dir, n);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		plan(dir, n);
		fflush(stdout);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = 1;
	must(wl_remove_tree(dir, &err), &err);
	return status != 0;
}
