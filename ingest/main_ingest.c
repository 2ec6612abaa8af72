/* wenlan-ingest: reads sources into a corpus. */
#include "ingest/fetch_opt.h"
#include "ingest/furniture.h"
#include "ingest/ingest.h"
#include "ingest/report.h"
#include "ops/file.h"
#include "ops/json.h"
#include "ops/log.h"
#include "ops/opt.h"
#include "ops/signals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args {
	const char *corpus, *source_name, *report, *check;
	int64_t max_records, workers, partitions, commit_every;
	double max_error_rate;
	int64_t stall, patience;
	struct wl_strs kafka_conf;
	bool fetch, until_end, retry;
	struct wl_fetch_opts net;
};

static json_t *counts_json(const struct wl_ingest_counts *n, const struct wl_fetch_counts *net,
	const struct wl_corpus_counts *all)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O?, s:O?, s:o?,"
			 " s:{s:I, s:I, s:I, s:I, s:I, s:I}}",
		"records", n->records, "opened", n->opened, "yielded", n->yielded, "kept", n->kept,
		"known", n->known, "quarantined", n->quarantined, "pending", n->pending,
		"image_bytes", n->image_bytes, "origins", n->origins, "reasons", n->reasons,
		"passed", n->passed, "fetch", wl_fetch_counts_json(net), "corpus", "pairs",
		all->pairs, "quarantined", all->quarantined, "segments", all->segments, "bytes",
		all->bytes, "pending", all->pending, "left_out", all->left_out);
}

/* The result, on a failed run too: what was committed stays, and is said. */
static int report(const struct wl_opts *o, struct wl_corpus *c, const struct wl_ingest_counts *n,
	const struct wl_fetch_counts *net, struct wl_err *err)
{
	struct wl_corpus_counts all;
	const char *reason;
	json_t *v;
	WL_TRY(wl_corpus_count(c, &all, err));
	if (n->opened)
		wl_info("%lld pages or archive records held %lld items", (long long)n->opened,
			(long long)n->yielded);
	wl_info("%lld records: %lld new pairs, %lld known already, %lld quarantined, %lld to fetch",
		(long long)n->records, (long long)n->kept, (long long)n->known,
		(long long)n->quarantined, (long long)n->pending);
	json_object_foreach(n->reasons, reason, v)
		wl_info("  quarantined, %s: %lld", reason, (long long)json_integer_value(v));
	json_object_foreach(n->passed, reason, v)
		wl_info("  passed over, %s: %lld", reason, (long long)json_integer_value(v));
	wl_fetch_say(net);
	wl_info("the corpus now has %lld pairs, %lld that wait for their picture, %lld records in "
		"quarantine, %.1f MB of images",
		(long long)all.pairs, (long long)all.pending, (long long)all.quarantined,
		(double)all.bytes / 1e6);
	if (!o->common.json)
		return 0;
	v = counts_json(n, net, &all);
	int ret = v ? wl_json_print(v, err) : wl_err_nomem(err, "the result", 0);
	json_decref(v);
	return ret;
}

/* After a good end: the wrong directory, or the wrong kind for it, else looks like success. */
static int say_nothing_found(struct wl_corpus *c, struct wl_err *err)
{
	struct wl_corpus_counts all;

	WL_TRY(wl_corpus_count(c, &all, err));
	if (!all.pairs && !all.pending && !all.quarantined)
		wl_warn("not one record was found; see in --help what each kind of source reads");
	return 0;
}

/* Pictures can be fetched without any source, if there is a corpus that waits for some. */
static bool is_corpus(const char *dir)
{
	char *path = wl_path_join(dir, "corpus.json", NULL);
	bool there = path && wl_exists(path);
	free(path);
	return there;
}

static int level_of(const char *name, enum wl_image_level *out, struct wl_err *err)
{
	static const char *const names[] = {[WL_IMAGE_STRUCTURE] = "structure",
		[WL_IMAGE_HEADER] = "header",
		[WL_IMAGE_DECODE] = "decode"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		*out = (enum wl_image_level)i;
		if (strcmp(name, names[i]) == 0)
			return 0;
	}
	return wl_err_set(
		err, WL_EUSAGE, "--check %s: there are header, structure and decode", name);
}

static int check(const struct wl_opts *o, const struct args *a, struct wl_err *err)
{
	if (!o->positional.n && !((a->fetch || a->report) && is_corpus(a->corpus)))
		return wl_err_set(
			err, WL_EUSAGE, "no SOURCE is given, for instance jsonl:FILE or dir:DIR");
	if (!(a->max_error_rate > 0 && a->max_error_rate <= 1) || a->stall < 0 || a->patience < 1)
		return wl_err_set(err, WL_EUSAGE,
			"--max-error-rate must be above 0 and at most 1, --stall-seconds >= 0, "
			"--kafka-patience >= 1");
	if (a->max_records < 0 || a->commit_every < 1 || a->workers < 0 || a->workers > 4096 ||
		a->partitions < 0 || a->partitions > 99999)
		return wl_err_set(err, WL_EUSAGE,
			"--max-records must be >= 0, --commit-every >= 1, --workers 0 to 4096, "
			"--partitions 0 to 99999");
	return 0;
}

static struct wl_fetch_opts net_of(const struct args *a)
{
	struct wl_fetch_opts net = a->net;
	net.workers = (size_t)a->workers;
	net.commit_every = a->commit_every < 1000 ? a->commit_every : 1000;
	return net;
}

/* Once all is read, and before anything is fetched: what the rule says hangs on nothing else. */
static int leave_out(struct wl_corpus *c, struct wl_ingest_counts *n, struct wl_err *err)
{
	int64_t pairs;
	WL_TRY(wl_furniture_pass(c, &pairs, err));
	if (pairs && json_object_set_new(n->passed, WL_FURNITURE_REASON, json_integer(pairs)) < 0)
		return wl_err_nomem(err, "counts", 0);
	return 0;
}

static int run(struct wl_opts *o, void *user, struct wl_err *err)
{
	const struct args *a = user;
	struct wl_origins origins = {0};
	struct wl_ingest_counts counts = {0};
	struct wl_fetch_counts net = {0}, meanwhile = {0};
	struct wl_fetch_opts web = net_of(a);
	struct wl_corpus *c = NULL;
	enum wl_image_level level;
	int ret = -1;
	WL_TRY(check(o, a, err));
	WL_TRY(level_of(a->check, &level, err));
	WL_TRY_OUT(
		wl_origins_parse(&origins, o->positional.v, o->positional.n, a->source_name, err));
	c = wl_corpus_open(a->corpus, true, (int)a->partitions, err);
	if (!c)
		goto out;
	struct wl_ingest in = {.corpus = c,
		.origins = &origins,
		.workers = (size_t)a->workers,
		.max_records = a->max_records,
		.commit_every = a->commit_every,
		.max_error_rate = a->max_error_rate,
		.stall_s = a->stall ? a->stall : -1,
		.until_end = a->until_end,
		.check = level,
		.retry_quarantine = a->retry,
		.fetch = a->fetch ? &web : NULL,
		.fetched = &meanwhile,
		.kafka = {.set = &a->kafka_conf, .patience_s = a->patience}};
	ret = wl_ingest_run(&in, &counts, err);
	/* A source that is damaged does not keep pictures from being fetched. */
	struct wl_err ignored = WL_ERR_INIT;
	if (!wl_stop_requested() && leave_out(c, &counts, ret < 0 ? &ignored : err) < 0)
		ret = -1;
	bool after = a->fetch && !wl_stop_requested();
	if (after && wl_fetch_corpus(&web, c, &net, ret < 0 ? &ignored : err) < 0)
		ret = -1;
	if (report(o, c, &counts, after ? &net : &meanwhile, ret < 0 ? &ignored : err) < 0)
		ret = -1;
	if (ret >= 0 && !wl_stop_requested())
		ret = say_nothing_found(c, err);
	if (a->report && wl_ingest_report(c, a->report, ret < 0 ? &ignored : err) < 0)
		ret = -1;
out:
	wl_ingest_counts_release(&counts);
	wl_fetch_counts_release(&net);
	wl_fetch_counts_release(&meanwhile);
	wl_origins_release(&origins);
	wl_corpus_close(c);
	return ret;
}

static const char about[] =
	"Reads image-text pairs into a corpus, exactly once: run it again after a stop "
	"or for new input.\nA SOURCE is (PATH may be a glob)\n"
	"  dir:DIR       pictures, each beside a .txt (a caption a line) or .json\n"
	"  html:DIR|FILE saved pages; ?profile=news|baike|weibo, ?index=FILE "
	"(where from)\n"
	"  jsonl:FILE    a JSON record a line, also .gz and .zst; ?images=TAR or "
	"?root=DIR\n"
	"  stamps:DIR    Tux Paint stamps\n"
	"  kafka://BROKERS/TOPIC?group=G  a topic: JSON records or pages; several "
	"processes\n"
	"                of a group share it; ?offset=latest, ?gap=skip, "
	"?partitions=0-3\n"
	"  tar:FILE      KEY.jpg beside KEY.txt or KEY.json, or images beside one "
	".jsonl\n"
	"  urls:FILE     URLs of pictures with captions (after a tab, CSV, JSONL), or "
	"of pages; ?profile=news|baike|weibo\n"
	"  warc:FILE     web archives: the pages' pictures with their texts; "
	"?profile=news|baike|weibo\n"
	"  zip:FILE      KEY.jpg beside KEY.txt or KEY.json\n"
	"Without a SOURCE, what a corpus still waits for is fetched.";

static const struct wl_path_rule paths[] = {
	{"corpus", WL_PATH_OUTPUT_DIR, NULL},
	{"report", WL_PATH_OUTPUT, NULL},
	{0},
};

int main(int argc, char **argv)
{
	struct args a = {.commit_every = 10000,
		.fetch = true,
		.max_error_rate = 1,
		.check = "structure",
		.stall = 60,
		.patience = 60,
		.net = WL_FETCH_DEFAULTS};
	const struct wl_opt table[] = {
		{"corpus", WL_OPT_STR, &a.corpus, "DIR", "the workspace; made when it is not there",
			true},
		{"source-name", WL_OPT_STR, &a.source_name, "NAME",
			"label of records that bring none (default: the kind)", false},
		{"max-records", WL_OPT_INT, &a.max_records, "N",
			"read at most N records now; 0: all", false},
		{"workers", WL_OPT_INT, &a.workers, "N", "decoding threads; 0: one per core",
			false},
		{"partitions", WL_OPT_INT, &a.partitions, "P",
			"lanes of a new corpus (0: one, or as it is)", false},
		{"commit-every", WL_OPT_INT, &a.commit_every, "N", "records in one transaction",
			false},
		{"check", WL_OPT_STR, &a.check, "HOW",
			"how a picture that comes with its record is examined: header, structure "
			"(is the file whole?), or decode; dedup decodes all and drops what is "
			"broken inside by name",
			false},
		{"fetch", WL_OPT_BOOL, &a.fetch, NULL,
			"fetch pictures that are only a URL; --no-fetch leaves them waiting",
			false},
		WL_FETCH_OPTIONS(a.net),
		{"retry-quarantine", WL_OPT_BOOL, &a.retry, NULL,
			"take up again what the quarantine keeps of these sources, and only that "
			"besides what is new",
			false},
		{"report", WL_OPT_STR, &a.report, "FILE.html",
			"write a page for people: counts, reasons, sizes, languages, samples",
			false},
		{"max-error-rate", WL_OPT_DOUBLE, &a.max_error_rate, "R",
			"give a source up (exit 3) when more than this part of its records, after "
			"100, is unusable; 1: never",
			false},
		{"stall-seconds", WL_OPT_INT, &a.stall, "N",
			"say what a run hangs at after so long a silence; 0: never", false},
		{"until-end", WL_OPT_BOOL, &a.until_end, NULL,
			"leave a Kafka topic at its end instead of waiting for more", false},
		{"kafka-conf", WL_OPT_LIST, &a.kafka_conf, "KEY=VALUE",
			"any property of librdkafka, for instance security.protocol=ssl; may be "
			"repeated",
			false},
		{"kafka-patience", WL_OPT_INT, &a.patience, "N",
			"seconds without any reachable broker before giving up (exit 75)", false},
		{0},
	};
	struct wl_opts o = {
		.program = "wenlan-ingest",
		.usage = "--corpus DIR [OPTION]... SOURCE...",
		.about = about,
		.example = "wenlan-ingest --corpus corpus 'jsonl:train.jsonl?images=train.tar'",
		.table = table,
		.paths = paths,
		.allow_positional = true,
	};
	return wl_main(&o, argc, argv, run, &a);
}
