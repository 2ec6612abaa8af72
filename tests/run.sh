#!/bin/sh
# Runs test programs and scripts one after the other and adds up what they say.
#
#   tests/run.sh PROGRAM|SCRIPT.sh ...      (from the repository's root; see the Makefile)
#
# A cmocka program counts its own tests.  A script is one test: exit code 0 passed, 77
# skipped, all else failed.  A program that ends without cmocka's summary, or with a failing
# exit code although no test failed (a crash, a leak), counts as one more failure.
# The last line is "N passed, N failed" (", N skipped"); the exit code is 0 only without failures.
set -u

passed=0
failed=0
skipped=0
failures=
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# The number in cmocka's summary line "[  WORD  ] N test(s)", 0 when there is none.
summary() {
	sed -n "s/^\[ *$1 *\] \([0-9][0-9]*\) test(s).*/\1/p" "$log" | awk '{n += $1} END {print n + 0}'
}

run_program() {
	"$1" >"$log" 2>&1
	code=$?
	cat "$log"
	bad=$(summary FAILED)
	if ! grep -q '^\[==========\] [0-9]* test(s) run' "$log"; then
		echo "$1: ended with exit code $code before its summary"
		bad=$((bad + 1))
	elif [ "$code" != 0 ] && [ "$bad" = 0 ]; then
		echo "$1: exit code $code although no test failed"
		bad=1
	fi
	passed=$((passed + $(summary PASSED)))
	skipped=$((skipped + $(summary SKIPPED)))
}

run_script() {
	"$1" 2>&1
	code=$?
	bad=0
	case $code in
	0) passed=$((passed + 1)) ;;
	77) skipped=$((skipped + 1)) ;;
	*)
		bad=1
		echo "$1: exit code $code"
		;;
	esac
}

for t in "$@"; do
	echo "== $t"
	start=$(date +%s)
	case $t in
	*.sh) run_script "$t" ;;
	*) run_program "$t" ;;
	esac
	took=$(($(date +%s) - start))
	[ "$took" -ge 10 ] && echo "== $t took $took s"
	if [ "$bad" != 0 ]; then
		failed=$((failed + bad))
		failures="$failures $t"
	fi
done

echo
for t in $failures; do
	echo "FAILED: $t"
done
if [ "$skipped" != 0 ]; then
	echo "$passed passed, $failed failed, $skipped skipped"
else
	echo "$passed passed, $failed failed"
fi
[ "$failed" = 0 ] && [ "$passed" != 0 ]
