#!/bin/sh
# What a GPU proves, on a machine that has a driver, CUDA's libraries and nothing else of ours.
#
#   make gpu-pack            here: builds, and puts programs and the libraries that they need into
#                            build/gpu (no CUDA library is copied, cuBLAS, cuDNN and NCCL are the
#                            GPU machine's own)
#   sh tests/gpu.sh run      there, in the repository with build/gpu in it: tests, a sanitizer run,
#                            benchmarks, each with a time limit; nine minutes at most
#
# Prints RESULTS rows as JSON; ends with "gpu: N passed, N failed".
set -u

build=${WL_BUILD:-build/release}
to=build/gpu

pack() {
	rm -rf $to
	mkdir -p $to/bin $to/lib
	for f in "$@" "$build"/tests/bench/bench_gpu "$build"/bin/wenlan-train; do
		cp "$f" $to/bin/ && strip $to/bin/"$(basename "$f")"
	done
	# The loader and the C library are the system's there too.
	for f in $to/bin/*; do ldd "$f"; done | awk '$3 ~ /^\// {print $3}' | sort -u |
		grep -Ev '/(libc|libm|libpthread|libdl|librt|ld-linux[^/]*|libcuda|libnv[^/]*)\.so' |
		while read -r lib; do cp -L "$lib" $to/lib/; done
	du -sh $to
}

# name, seconds, command
one() {
	name=$1 limit=$2
	shift 2
	echo "== $name"
	if timeout "$limit" "$@"; then
		passed=$((passed + 1))
	else
		echo "FAILED $name: exit code $?"
		failed=$((failed + 1))
	fi
}

run() {
	passed=0 failed=0
	if ! command -v nvidia-smi >/dev/null; then
		echo "SKIPPED: there is no GPU here (nvidia-smi is missing)"
		exit 0
	fi
	nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
	export LD_LIBRARY_PATH="$PWD/$to/lib:${LD_LIBRARY_PATH:-}"
	export WL_BIN="$PWD/$to/bin"
	for t in $to/bin/test_*; do # tests write and read tensors in place
		WL_CUDA_MANAGED=1 one "$(basename "$t")" 60 "$t"
	done
	sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
	if [ -x "$sanitizer" ] && [ -x $to/bin/test_gpu_train ]; then
		one "memcheck" 90 "$sanitizer" --tool memcheck --error-exitcode 9 --leak-check no \
			$to/bin/test_gpu_train
		one "racecheck" 90 "$sanitizer" --tool racecheck --error-exitcode 9 \
			$to/bin/test_gpu_train
	else
		echo "SKIPPED: compute-sanitizer is not here"
	fi
	one "bench small" 60 $to/bin/bench_gpu cuda small 64 128 20 100000000
	one "bench paper" 150 $to/bin/bench_gpu cuda paper "${BATCH:-32}" "${PX:-600}" 10
	echo "gpu: $passed passed, $failed failed"
	[ $failed -eq 0 ]
}

case ${1:-} in
pack) shift; pack "$@" ;;
run) run ;;
*) sed -n '2,12p' "$0"; exit 2 ;;
esac
