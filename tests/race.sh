#!/bin/bash
# Runs programs whose kernels are checked (tests/support/racecheck.h) in several orders of their
# threads and blocks.
#
#   tests/race.sh PROGRAM ...      (from the repository's root; `make test-race`)
#   WL_RACE_ORDERS="forward random:5" tests/race.sh ...
#
# What kernels leave in memory must have the same bits in every order; each program's checker says
# a digest of it.  The last line is "race: N programs, M findings"; a program that fails, and a
# digest that differs, is a finding too.
set -u

orders=${WL_RACE_ORDERS:-forward reverse random:1}
jobs=${WL_TEST_JOBS:-$(nproc)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM

# The number of findings in a log; a program that failed otherwise counts as one.
findings() {
	local n code
	n=$(sed -n 's/^race: .* accesses, \([0-9]*\) findings$/\1/p' "$1" | tail -1)
	code=$(sed -n 's/^exit code //p' "$1" | tail -1)
	[ "${n:-0}" != 0 ] || [ "$code" = 0 ] && echo "${n:-1}" || echo 1
}

digest() {
	sed -n 's/^race: digest //p' "$1" | tail -1
}

check() { # check PROGRAM ORDER
	local log=$work/$(basename "$1").$2 n
	WL_EMULATED_ORDER=$2 WL_RACE_DIGEST=1 "$1" >"$log" 2>&1
	echo "exit code $?" >>"$log"
	n=$(findings "$log")
	flock "$work" echo "== $(basename "$1"), $2: $(grep -a '^race: .* accesses' "$log" | tail -1)"
	[ "$n" = 0 ] || flock "$work" grep -a '^race:\|FAILED\|ERROR\|Error\|emulated:' "$log" | head -40
}

for program in "$@"; do
	for order in $orders; do
		while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do
			wait -n
		done
		check "$program" "$order" &
	done
done
wait

total=0
for program in "$@"; do
	name=$(basename "$program")
	first=
	for order in $orders; do
		log=$work/$name.$order
		n=$(findings "$log")
		: "${first:=$(digest "$log")}"
		if [ "$(digest "$log")" != "$first" ]; then
			echo "race: $name leaves other bits in the order $order"
			n=$((n + 1))
		fi
		total=$((total + n))
	done
done
echo "race: $# programs, $total findings"
[ "$total" = 0 ]
