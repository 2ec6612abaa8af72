#!/bin/sh
# Runs the benchmarks: a script NAME.sh where there is one (it runs our program and the
# public peer alternately and prints the ratio), else the program bench_NAME itself.
set -u

build=${WL_BUILD:-build/release}
code=0
for program in "$build"/tests/bench/bench_*; do
	case $program in *.o | *.d) continue ;; esac
	[ -x "$program" ] || continue
	name=$(basename "$program")
	echo "== $name"
	if [ -f "tests/bench/$name.sh" ]; then
		sh "tests/bench/$name.sh"
	else
		"$program"
	fi || {
		echo "$name: exit code $?"
		code=1
	}
done
for script in tests/bench/*.sh; do
	name=$(basename "$script" .sh)
	[ "$name" = run ] && continue
	[ -f "tests/bench/$name.c" ] && continue
	echo "== $name"
	sh "$script" || code=1
done
exit $code
