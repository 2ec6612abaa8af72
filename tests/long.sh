#!/bin/sh
# What is too slow for `make test`: fuzzing, the thread sanitizer, the e2e-long scripts.
#
#   tests/long.sh      FUZZ_SECONDS=30 a target; needs clang for the fuzzing
#
# Ends with "N passed, N failed" like tests/run.sh.
set -u

seconds=${FUZZ_SECONDS:-30}
jobs=$(nproc)
failed=0
passed=0
note() { # note CODE NAME
	if [ "$1" = 0 ]; then
		passed=$((passed + 1))
		echo "ok: $2"
	else
		failed=$((failed + 1))
		echo "FAILED: $2"
	fi
}

if command -v clang >/dev/null 2>&1; then
	make --no-print-directory -j"$jobs" VARIANT=fuzz fuzz-build
	note $? "building the fuzz targets"
	for target in build/fuzz/tests/fuzz/fuzz_*; do
		case $target in *.o | *.d) continue ;; esac
		[ -x "$target" ] || continue
		name=$(basename "$target")
		corpus=build/fuzz/corpus/$name
		mkdir -p "$corpus"
		seeds=
		[ -d "tests/fuzz/seeds/$name" ] && seeds=tests/fuzz/seeds/$name
		# shellcheck disable=SC2086  # seeds is empty or one word
		"$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
			-artifact_prefix="build/fuzz/$name-" "$corpus" $seeds >"build/fuzz/$name.log" 2>&1
		code=$?
		[ "$code" = 0 ] || tail -30 "build/fuzz/$name.log"
		note "$code" "$name for $seconds s"
	done
else
	echo "SKIPPED: fuzzing needs clang"
fi

# Pools, queues and the log under the thread sanitizer; OpenMP is not instrumented, so only
# the programs that start threads by themselves.
make --no-print-directory -j"$jobs" VARIANT=tsan build/tsan/tests/test_ops_base
note $? "building for the thread sanitizer"
TSAN_OPTIONS=halt_on_error=1 build/tsan/tests/test_ops_base
note $? "test_ops_base under the thread sanitizer"

for script in tests/e2e-long/*.sh; do
	[ -f "$script" ] || continue
	sh "$script"
	note $? "$script"
done

echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
