#!/bin/bash
# Runs test programs and scripts and adds up what they say.
#
#   tests/run.sh PROGRAM|SCRIPT.sh ...      (from the repository's root; see the Makefile)
#   WL_TEST_JOBS=1 tests/run.sh ...         one after the other
#
# Programs run side by side, two more than there are cores, since many wait for clocks and sockets;
# the longest begin first, so that none is left alone at the end.  Each one's output comes whole
# when it ends.  Scripts follow one after the other: they run whole stages, which take all cores.
# A cmocka program counts its own tests.  A script is one test: exit code 0 passed, 77
# skipped, all else failed.  A program that ends without cmocka's summary, or with a failing
# exit code although no test failed (a crash, a leak), counts as one more failure.
# The last line is "N passed, N failed" (", N skipped"); the exit code is 0 only without failures.
set -u

# Seconds; one that hangs ends with 124 and its name, and the others have their turn.
limit="timeout --foreground -k 10 ${WL_TEST_LIMIT:-2400}"
jobs=${WL_TEST_JOBS:-$(($(nproc) + 2))}
# Where the others are quick; a name that is not there any more does no harm.
longest='kafka kafka_group dist remote topics dist_sim train_run gpu_train rank_ckpt fetch dedup_same
dedup_vectors dedup_embed dedup ckpt_crash pack warc_source'
# Ranks that run beside other tests are not bound to the first cores, and do not spin while they wait.
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM

# The number in cmocka's summary line "[  WORD  ] N test(s)", 0 when there is none.
summary() {
	sed -n "s/^\[ *$1 *\] \([0-9][0-9]*\) test(s).*/\1/p" "$2" | awk '{n += $1} END {print n + 0}'
}

# What a program's log and exit code come to: "passed failed skipped".
count_program() {
	local bad
	bad=$(summary FAILED "$2")
	if ! grep -q '^\[==========\] [0-9]* test(s) run' "$2"; then
		echo "$1: ended with exit code $3 before its summary" >>"$2"
		bad=$((bad + 1))
	elif [ "$3" != 0 ] && [ "$bad" = 0 ]; then
		echo "$1: exit code $3 although no test failed" >>"$2"
		bad=1
	fi
	echo "$(summary PASSED "$2") $bad $(summary SKIPPED "$2")"
}

took() {
	[ $(($(date +%s) - $2)) -lt 10 ] || echo "== $1 took $(($(date +%s) - $2)) s"
}

# Test $1, number $2; the number keeps the files of tests apart.
run_program() {
	local log=$work/$2.log start
	start=$(date +%s)
	$limit "$1" >"$log" 2>&1
	count_program "$1" "$log" $? >"$work/$2.counts"
	took "$1" "$start" >>"$log"
	flock "$work" sh -c 'echo "== $1"; cat "$2"' sh "$1" "$log"
}

run_script() {
	local start code
	start=$(date +%s)
	echo "== $1"
	$limit "$1" 2>&1
	code=$?
	case $code in
	0) echo "1 0 0" ;;
	77) echo "0 0 1" ;;
	*) echo "0 1 0" ;;
	esac >"$work/$2.counts"
	[ $code = 0 ] || echo "$1: exit code $code"
	took "$1" "$start"
}

# The arguments, the longest first.
ordered=()
for name in $longest; do
	for t in "$@"; do
		[ "${t##*/}" != "test_$name" ] || ordered+=("$t")
	done
done
for t in "$@"; do
	case " ${ordered[*]} " in *" $t "*) ;; *) ordered+=("$t") ;; esac
done
set -- "${ordered[@]}"

n=0
for t in "$@"; do
	n=$((n + 1))
	case $t in
	*.sh)
		wait
		run_script "$t" "$n"
		;;
	*)
		while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do
			wait -n
		done
		run_program "$t" "$n" &
		;;
	esac
done
wait

passed=0 failed=0 skipped=0 n=0
echo
for t in "$@"; do
	n=$((n + 1))
	p=0 f=1 s=0 # of a test whose counts are missing: it counts as failed
	[ -s "$work/$n.counts" ] && read -r p f s <"$work/$n.counts"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	[ "$f" = 0 ] || echo "FAILED: $t"
done
if [ "$skipped" != 0 ]; then
	echo "$passed passed, $failed failed, $skipped skipped"
else
	echo "$passed passed, $failed failed"
fi
[ "$failed" = 0 ] && [ "$passed" != 0 ]
