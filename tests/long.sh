#!/bin/sh
# What is too slow for `make test`: fuzzing, the thread sanitizer, kernels under the checker of
# races, the e2e-long scripts.
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
	for source in tests/fuzz/fuzz_*.c; do
		name=$(basename "$source" .c)
		sh tests/fuzz/run.sh "$seconds" "${name#fuzz_}"
		note $? "$name"
	done
else
	echo "SKIPPED: fuzzing needs clang"
fi

make --no-print-directory test-tsan
note $? "threads under the thread sanitizer"

make --no-print-directory test-race
note $? "kernels under the checker of races"

for script in tests/e2e-long/*.sh; do
	[ -f "$script" ] || continue
	bash "$script"
	note $? "$script"
done

echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
