/* See racecheck_parts.h: findings as lines of source, by addr2line. */
#include "tests/support/emulated.h"

#include <map>
#include <set>
#include <string>
#include <tuple>

#include <stdio.h>
#include <unistd.h>

#include "tests/support/racecheck_parts.h"

static bool quiet;
static std::set<std::tuple<int, uint32_t, uint32_t>> findings;
static std::set<std::string> said;
static int counts[RACE_KINDS];

/* The lines of an instruction, innermost first. */
static std::string find_lines(uint32_t at)
{
	char cmd[200], line[400];
	std::string s;

	snprintf(cmd, sizeof cmd, "addr2line -Cfipse /proc/%d/exe 0x%x 2>/dev/null", (int)getpid(),
		at);
	FILE *f = popen(cmd, "r");
	while (f && fgets(line, sizeof line, f)) {
		const char *by = strstr(line, "by)");

		line[strcspn(line, "\n")] = 0;
		s += s.empty() ? line : std::string(" <") + (by ? by + 3 : line);
	}
	if (f)
		pclose(f);
	snprintf(cmd, sizeof cmd, "instruction 0x%x", at);
	return s.empty() ? cmd : s;
}

static const std::string &lines_of(uint32_t at)
{
	static std::map<uint32_t, std::string> lines;

	if (!lines.count(at))
		lines[at] = find_lines(at);
	return lines[at];
}

/* The innermost line alone. */
static std::string line_of(uint32_t at)
{
	const std::string &s = lines_of(at);
	size_t from = s.find(" at ");

	return from == std::string::npos ? s : s.substr(from, s.find(" <", from) - from);
}

static void say(const struct race_finding *f)
{
	fprintf(stderr, "race: thread %u of block %u %s byte %zu of %s memory: %s\n", threadIdx.x,
		blockIdx.x, f->what, f->byte, f->memory, lines_of(f->here).c_str());
	if (f->before)
		fprintf(stderr, "race:   %s thread %u of %s: %s\n", f->before, f->other,
			f->other_block ? "another block" : "this block",
			lines_of(f->there).c_str());
}

void race_found(const struct race_finding *f)
{
	if (!findings.insert(std::make_tuple((int)f->kind, f->here, f->there)).second)
		return;
	if (quiet) {
		counts[f->kind]++;
	} else if (said.insert(std::to_string(f->kind) + line_of(f->here) +
			       (f->before ? line_of(f->there) : ""))
			   .second) {
		counts[f->kind]++;
		say(f);
	}
}

extern "C" void race_take(int of[RACE_KINDS])
{
	memcpy(of, counts, sizeof counts);
	memset(counts, 0, sizeof counts);
	findings.clear();
}

extern "C" void race_quiet(bool yes)
{
	quiet = yes && !getenv("WL_RACE_LOUD");
}

void race_end(uint64_t launches, uint64_t accesses)
{
	int n = 0;

	for (int k = 0; k < RACE_KINDS; k++)
		n += counts[k];
	fprintf(stderr, "race: %llu launches, %llu accesses, %d findings\n",
		(unsigned long long)launches, (unsigned long long)accesses, n);
	fflush(NULL);
	if (n)
		_exit(66);
}
