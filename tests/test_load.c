/*
 * wenlan-load as a person meets it: sets of other writers, sets that are broken in each way that
 * the format allows, mixes, ranks.  Every complaint names the file and the mend.
 */
#include "ops/file.h"
#include "ops/json.h"
#include "tests/support/cm.h"
#include "tests/support/shardset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 40, PER = 20, OUT_BYTES = 1 << 20 };

struct fixture {
	char dir[64], set[96], other[96];
	char *out; /* what the last command printed */
	int code;
};

static void run(struct fixture *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Runs wenlan-load with these arguments, or a whole command that begins with '!'. */
static void run(struct fixture *f, const char *fmt, ...)
{
	const char *bin = getenv("WL_BIN") ? getenv("WL_BIN") : "build/release/bin";
	char args[2048], command[4096];
	size_t n;
	FILE *p;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	if (args[0] == '!')
		snprintf(command, sizeof(command), "( %s ) 2>&1", args + 1);
	else
		snprintf(command, sizeof(command), "%s/wenlan-load %s 2>&1", bin, args);
	p = popen(command, "r");
	assert_non_null(p);
	n = fread(f->out, 1, OUT_BYTES - 1, p);
	f->out[n] = 0;
	f->code = WEXITSTATUS(pclose(p));
}

static void expect(const struct fixture *f, int code, const char *what)
{
	if (f->code != code || !strstr(f->out, what))
		fail_msg("exit code %d, expected %d with \"%s\" in: %s", f->code, code, what,
			f->out);
}

static void make_set(const char *dir, int samples, int bad, bool two)
{
	struct wl_err err = WL_ERR_INIT;
	struct wl_toy_set set = {dir, "train", samples, PER, 2, bad, -1, false, 0, two};

	OK(wl_mkdir_p(dir, &err));
	wl_toy_set_write(&set);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->out = malloc(OUT_BYTES);
	assert_non_null(f->out);
	snprintf(f->dir, sizeof(f->dir), "/tmp/wl-load-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->set, sizeof(f->set), "%s/set", f->dir);
	snprintf(f->other, sizeof(f->other), "%s/other", f->dir);
	make_set(f->set, N, -1, false);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct wl_err err = WL_ERR_INIT;

	assert_int_equal(0, wl_remove_tree(f->dir, &err));
	free(f->out);
	free(f);
	return 0;
}

/* A fresh copy of the set, to be broken. */
static void copy_set(struct fixture *f)
{
	run(f, "!rm -rf %s && cp -r %s %s", f->other, f->set, f->other);
	assert_int_equal(f->code, 0);
}

static void shows_and_measures(void **state)
{
	struct fixture *f = *state;

	run(f, "--shards %s --size 32 --samples 3", f->set);
	expect(f, 0, "40 samples");
	run(f, "--shards %s --size 32 --samples 32 --batch 8 --bench --json", f->set);
	expect(f, 0, "\"crop_decode_per_cpu_s\"");
	run(f, "--shards %s --size 32 --samples 12 --contact-sheet %s/s.jpg", f->set, f->dir);
	expect(f, 0, "40 samples");
	run(f, "!head -c 2 %s/s.jpg | od -An -tx1", f->dir);
	expect(f, 0, "ff d8");
}

/* A set without manifest and databases, and one with odd names and orders, show the same. */
static void foreign_sets_are_read(void **state)
{
	struct fixture *f = *state;

	copy_set(f);
	run(f, "!cd %s && rm -f *.db *.idx *.json", f->other);
	run(f, "--shards %s --size 32 --samples 3 --no-shuffle --json", f->other);
	expect(f, 0, "\"samples\":40");
	expect(f, 0, "图片 0");
	expect(f, 0, "train-000000.tar train-000000_000000");
	/* Another writer: folders, upper case, text only, a caption in JSON, long names, no split
	 * in the tars' names. */
	run(f,
		"!cd %s && rm -f *.db *.idx *.json && mkdir x && tar xf train-000000.tar -C x && "
		"rm *.tar && cd x && mkdir -p a/b && i=0; for k in $(ls *.jpg | head -6); do "
		"k=${k%%.jpg}; i=$((i + 1)); "
		"mv $k.jpg a/b/pic$i.JPG; rm $k.json; mv $k.txt a/b/pic$i.TXT; done; rm -f train*; "
		"rm a/b/pic2.TXT; echo '{\"caption\": \"一只猫\", \"boxes\": [[0,0,9,9]]}' > "
		"a/b/pic2.json; "
		"long=$(printf 'n%%.0s' $(seq 150)); mv a/b/pic3.JPG a/b/$long.jpg; "
		"mv a/b/pic3.TXT a/b/$long.txt; "
		"tar cf ../news-0.tar --sort=name a && tar --format=pax -cf ../baike-0.tar a/b/n*; "
		"cd .. && rm -r x",
		f->other);
	assert_int_equal(f->code, 0);
	run(f, "--shards %s --size 32 --batch 2 --samples 7 --no-shuffle --json", f->other);
	expect(f, 0, "\"samples\":7");
	expect(f, 0, "一只猫");
	run(f, "--shards %s --size 32 --batch 2 --samples 7 --mix '{news: 1, baike: 3}'", f->other);
	expect(f, 0, "7 samples");
	run(f, "--shards %s --size 32 --split val", f->other);
	expect(f, 3, "all of them are \"train\"");
}

static void foreign_damage_is_named(void **state)
{
	struct fixture *f = *state;

	copy_set(f);
	run(f, "!cd %s && rm -f *.db *.idx *.json && truncate -s 30000 train-000001.tar", f->other);
	run(f, "--shards %s --size 32", f->other);
	expect(f, 3, "train-000001.tar, byte ");
	expect(f, 3, "torn");
	copy_set(f);
	run(f, "!cd %s && rm -f *.db *.idx *.json && for t in 0 1; do mkdir x && "
		"tar xf train-00000$t.tar -C x && rm -f x/train-000001_000003.jpg "
		"x/train-000000_000007.txt x/train-000000_000007.json && "
		"tar cf train-00000$t.tar --sort=name -C x . && rm -r x; done", f->other);
	assert_int_equal(f->code, 0);
	run(f, "--shards %s --size 32 --samples 40 --batch 20 --max-bad-rate 0.2", f->other);
	expect(f, 0, "train-000001_000003");
	expect(f, 0, "there is no picture");
	run(f, "--shards %s --size 32 --samples 40 --batch 20", f->other);
	expect(f, 3, "run wenlan-shard verify, or raise max_bad_rate");
	run(f, "!head -c 5000 /dev/urandom > %s/train-000001.tar", f->other);
	run(f, "--shards %s --size 32", f->other);
	expect(f, 3, "expected a tar header");
}

static void broken_sets_are_named(void **state)
{
	struct fixture *f = *state;
	char third[128];

	copy_set(f);
	run(f, "!truncate -s 20000 %s/train-000001.tar", f->other);
	run(f, "--shards %s --size 32", f->other);
	expect(f, 3, "train-000001.tar has 20000 bytes, the manifest says");
	expect(f, 3, "the shard is damaged");
	copy_set(f);
	run(f, "!rm %s/train-000001.tar", f->other);
	run(f, "--shards %s --size 32", f->other);
	expect(f, 3, "train-000001.tar");
	/* A manifest of another corpus: the sizes or the samples do not fit. */
	snprintf(third, sizeof(third), "%s/third", f->dir);
	make_set(third, N - 3, -1, false);
	copy_set(f);
	run(f, "!cp %s/manifest.db %s/manifest.db", third, f->other);
	run(f, "--shards %s --size 32", f->other);
	expect(f, 3, "manifest.db is another set's");
	/* Packing was killed before the end: there is a plan, and no manifest. */
	copy_set(f);
	run(f, "!echo '{}' > %s/plan.json && rm %s/manifest.db", f->other, f->other);
	run(f, "--shards %s --size 32", f->other);
	expect(f, 3, "holds no finished shard set");
	/* A member that is not there, and everything after it in its place. */
	copy_set(f);
	run(f, "!cd %s && mkdir x && tar xf train-000001.tar -C x && tar tf train-000001.tar | "
		"grep -v 000003.txt > list && tar --format=ustar -cf train-000001.tar -C x "
		"-T list && rm -r x manifest.db", f->other);
	assert_int_equal(f->code, 0);
	run(f, "!${WL_BIN:-build/release/bin}/wenlan-shard repair --shards %s", f->other);
	expect(f, 3, "expected member train-000001_000003.txt, found train-000001_000003.json; a "
		     "member is missing");
	/* One byte of a picture: the loader may not notice, verify says which. */
	copy_set(f);
	run(f, "!printf '\\377' | dd of=%s/train-000001.tar bs=1 seek=1500 conv=notrunc && "
		"${WL_BIN:-build/release/bin}/wenlan-shard verify --shards %s", f->other, f->other);
	assert_int_not_equal(f->code, 0);
	expect(f, f->code, "train-000001");
	/* A member that goes by another name. */
	copy_set(f);
	run(f, "!sed -i 's/train-000001_000002.jpg/train-000001_000002.jpx/' %s/train-000001.tar",
		f->other);
	run(f, "--shards %s --size 32 --samples 40 --batch 20 --max-bad-rate 0.001", f->other);
	expect(f, 3, "train-000001_000002");
}

static void bad_rate_ends_with_three(void **state)
{
	struct fixture *f = *state;

	run(f, "!rm -rf %s", f->other);
	make_set(f->other, N, 11, false);
	run(f, "--shards %s --size 32 --samples 40 --batch 20 --max-bad-rate 0.001", f->other);
	expect(f, 3, "1 of 40 samples");
	expect(f, 3, "train-000000_000011");
	run(f, "--shards %s --size 32 --samples 40 --batch 20 --max-bad-rate 0.05", f->other);
	expect(f, 0, "train-000000_000011");
}

static void mixes_and_refuses(void **state)
{
	struct fixture *f = *state;

	run(f, "!rm -rf %s", f->other);
	make_set(f->other, N, -1, true);
	run(f, "--shards %s --size 32 --mix '{news: 2, baike: 1}'", f->other);
	expect(f, 0, "40 samples");
	run(f, "--shards %s --size 32 --mix '{baike: 1}' --batch 4", f->other);
	expect(f, 0, "14 samples");
	run(f, "--shards %s --size 32 --mix '{news: 2, weibo: 1}'", f->other);
	expect(f, 2, "no samples of the source \"weibo\"; it also has: baike");
	run(f, "--shards %s --size 32 --mix '{news: -2}'", f->other);
	expect(f, 2, "greater than 0");
	run(f, "--shards %s --size 32 --mix '{news: 2}' --no-shuffle", f->other);
	expect(f, 2, "turn shuffle on");
	run(f, "--shards %s --size 32 --rank 2 --world 2", f->other);
	expect(f, 2, "rank must lie between");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_and_measures),
		cmocka_unit_test(foreign_sets_are_read),
		cmocka_unit_test(foreign_damage_is_named),
		cmocka_unit_test(broken_sets_are_named),
		cmocka_unit_test(bad_rate_ends_with_three),
		cmocka_unit_test(mixes_and_refuses),
	};
	const char *bin = getenv("WL_BIN") ? getenv("WL_BIN") : "build/release/bin";
	char load[512];

	snprintf(load, sizeof(load), "%s/wenlan-load", bin);
	if (!wl_exists(load)) {
		print_message("SKIPPED: %s is not built\n", load);
		return 0;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
