#!/bin/sh
# Fuzzes targets that are built (make VARIANT=fuzz fuzz-build), one after the other.
#
#   tests/fuzz/run.sh SECONDS [NAME]...   NAME is html for fuzz_html; without one, all
#
# A line for each; inputs that were found to matter stay in build/fuzz/corpus, failures go to
# build/fuzz/NAME-*.  Exit code 1 when one failed.
set -u

export WENLAN_SHARE="${WENLAN_SHARE:-$PWD}" # profiles and tables, wherever the target lies
seconds=$1 failed=0
shift
for name in ${*:-$(cd tests/fuzz && ls fuzz_*.c | sed 's/^fuzz_//; s/\.c$//')}; do
	target=build/fuzz/tests/fuzz/fuzz_$name
	corpus=build/fuzz/corpus/fuzz_$name
	log=build/fuzz/fuzz_$name.log
	[ -x "$target" ] || {
		echo "FAILED: $target is not built"
		failed=1
		continue
	}
	mkdir -p "$corpus"
	seeds=
	[ -d "tests/fuzz/seeds/fuzz_$name" ] && seeds=tests/fuzz/seeds/fuzz_$name
	# shellcheck disable=SC2086  # seeds is empty or one word
	if "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
		-artifact_prefix="build/fuzz/fuzz_$name-" "$corpus" $seeds >"$log" 2>&1; then
		echo "ok: fuzz_$name for $seconds s, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs"
	else
		tail -30 "$log"
		echo "FAILED: fuzz_$name for $seconds s"
		failed=1
	fi
done
exit $failed
