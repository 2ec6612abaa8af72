#!/bin/sh
# What a GPU proves, on a machine that has a driver, CUDA's libraries and nothing else of ours.
#
#   make gpu-pack       here: programs, and the libraries that they need but for CUDA's, for any
#                       x86-64 of this decade, as build/gpu/programs.tar.xz; timm too, for
#                       PyTorch's side, from the Python that PEER names
#   sh tests/gpu.sh run [tests] [sanitize] [bench]
#                       there, in the repository with build/gpu in it: those parts, else all;
#                       nine minutes each at most, a line a test, and what fails said
#   sh tests/gpu.sh build
#                       there, where those programs do not start: kernels and their tests from their
#                       sources, by nvcc, cc and cmocka alone (no benchmark); run does so by itself
#
# Logs and rows.json go to WL_GPU_OUT (build/gpu/out).  BATCH=32 PX=600 are the benchmark's.
# Ends with "gpu: N passed, N failed".
set -u

build=${WL_BUILD:-build/portable}
to=build/gpu
out=${WL_GPU_OUT:-$to/out}
system='/(libc|libm|libpthread|libdl|librt|libresolv|ld-linux[^/]*|libcuda|libnv[^/]*)\.so'
# Tensors written and read in place: in memory that both sides reach.
kernels="test_ops_text test_ops_image test_ops_update test_ops_loss test_graph test_fuse \
	test_cuda_image test_pointwise"
training="test_gpu_train test_gpu_step test_gpu_scale test_retrieval test_pictures"

# --- here ---

pack() {
	stage=$to/stage
	rm -rf $to
	mkdir -p $stage/bin $stage/lib $stage/libc
	for f in $kernels $training; do
		cp "$build/tests/$f" $stage/bin/ || exit 1
	done
	cp "$build"/tests/bench/bench_gpu $stage/bin/ || exit 1
	strip $stage/bin/*
	for f in $stage/bin/*; do ldd "$f"; done | awk '$3 ~ /^\// {print $3}' | sort -u > $to/needs
	grep -Ev "$system" $to/needs | while read -r lib; do cp -L "$lib" $stage/lib/; done
	# For a machine whose C library is older than this one's.
	grep -E '/(libc|libm)\.so' $to/needs | while read -r lib; do cp -L "$lib" $stage/libc/; done
	cp -L /lib64/ld-linux-x86-64.so.2 $stage/libc/
	cp -L /usr/include/cmocka*.h $stage/lib/
	timm=$("${PEER:-python3}" -c 'import os, timm; print(os.path.dirname(timm.__file__))' 2>/dev/null)
	if [ -n "$timm" ]; then
		mkdir $stage/python
		(cd "$timm/.." && find timm -name '*.py' | tar cf - -T -) | tar xf - -C $stage/python
	fi
	# The programs have most of their bytes in common, which a large dictionary finds.
	(cd $stage && tar cf - .) | xz -2 --lzma2=preset=2,dict=64MiB > $to/programs.tar.xz
	rm -rf $stage $to/needs
	echo "$to/programs.tar.xz: $(($(wc -c < $to/programs.tar.xz) >> 10)) KiB"
}

# --- there ---

say() { echo "$*"; }

# Folders that have CUDA's libraries: the linker's, the toolkit's, those of Python's packages.
cuda_libraries() {
	for d in /usr/local/cuda/lib64 "${CUDA_HOME:-/nowhere}/lib64"; do
		[ -d "$d" ] && printf ':%s' "$d"
	done
	python3 - <<'EOF' 2>/dev/null
import glob, sysconfig
at = sysconfig.get_paths()["purelib"] + "/nvidia/*/lib"
print("".join(":" + d for d in glob.glob(at)), end="")
EOF
}

# Names what the program lacks; false where it starts.
lacks() { LD_TRACE_LOADED_OBJECTS=1 "$1" 2>&1 | grep -E "not found|cannot|No such"; }

# How programs are started: as they are, by the C library that came along, or built here.
ready() {
	mkdir -p "$out"
	all=$to/programs.tar.xz
	[ -d $to/bin ] || python3 -c "import tarfile; tarfile.open('$all').extractall('$to')" ||
		tar xJf $all -C $to || say "no programs in $to: make gpu-pack makes them"
	LD_LIBRARY_PATH="$PWD/$to/lib:${LD_LIBRARY_PATH:-}$(cuda_libraries)"
	export LD_LIBRARY_PATH
	by=
	[ -x $to/bin/test_graph ] && ! lacks $to/bin/test_graph && return
	by="$to/libc/ld-linux-x86-64.so.2 --library-path $PWD/$to/libc:$LD_LIBRARY_PATH"
	[ -x $to/bin/test_graph ] && $by $to/bin/test_graph > "$out/start.log" 2>&1 &&
		say "started by the C library that came along" && return
	by=
	say "the programs that came along do not start here; building the kernels' tests"
	build_here
}

# The processor's backend, the graph, three files of ops, every kernel: no package but cmocka.
build_here() {
	made=$PWD/$to/here
	mkdir -p "$made" $to/bin
	tests=$(for t in $kernels; do echo "tests/$t.c"; done)
	CFLAGS="-std=c11 -O3 -march=native -fopenmp -ffp-contract=fast -fno-math-errno -I. -I$to/lib \
-D_GNU_SOURCE -DWL_HAVE_CUDA"
	NVFLAGS=${NVFLAGS:--O3 -std=c++17 -arch=native}
	nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
	export CFLAGS NVFLAGS made nvcc
	ls ops/err.c ops/log.c ops/arena.c tests/support/opcheck.c train/tensor/*.c train/nn/*.c \
		train/backend/*.c train/backend/cpu/*.c $tests train/backend/cuda/*.cu |
		xargs -P "$(nproc)" -I{} sh -c 'o=$made/$(echo {} | tr / _).o
			[ "$o" -nt {} ] && exit 0
			case {} in
			*.cu) $nvcc -I. $NVFLAGS -c -o "$o" {} ;;
			*) ${CC:-cc} $CFLAGS -c -o "$o" {} ;;
			esac' || return 1
	lib=$(dirname "$nvcc")/../lib64
	cmocka=$(find $to/lib -name 'libcmocka.so*' 2>/dev/null | head -1)
	for t in $kernels; do
		objects=$(find "$made" -name '*.o' ! -name 'tests_test_*')
		${CC:-cc} -fopenmp -o "$to/bin/$t" "$made/tests_$t.c.o" $objects \
			"${cmocka:--lcmocka}" -L"$lib" \
			-lcudart_static -ldl -lrt -lpthread -lm -lstdc++ || return 1
	done
}

# name, seconds, command: a line; what it said where it failed
one() {
	name=$1 limit=$2
	shift 2
	begin=$(date +%s)
	left=$((part_begin + 500 - begin)) # of the part
	if [ $left -lt 5 ]; then
		failed=$((failed + 1))
		echo "FAILED  $name: left out, the part's time is over"
		return 1
	fi
	[ $limit -le $left ] || limit=$left
	timeout -k 5 "$limit" "$@" > "$out/$name.log" 2>&1
	code=$?
	took=$(($(date +%s) - begin))
	if [ $code -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok      $name, $took s, $(grep -c '^\[       OK' "$out/$name.log") tests, $(
			grep -ci skipped "$out/$name.log") skipped"
		return 0
	fi
	failed=$((failed + 1))
	echo "FAILED  $name, $took s: exit code $code$([ $code -ge 124 ] && echo ' (time, or a signal)')"
	grep -E 'ERROR|LINE|FAILED|=========|the GPU|failed|error' "$out/$name.log" | cut -c1-300 |
		grep -v 'FAILED TEST' | head -12
	return 1
}

# Tests skip what needs a GPU where they find none: that there is one, and its libraries, is one too.
found() {
	if [ -x $to/bin/bench_gpu ]; then
		WL_BENCH_ROWS='' one start 60 $by $to/bin/bench_gpu cuda small 8 64 2 1000000
	else
		one start 60 $to/bin/test_graph
	fi
	grep -q SKIPPED "$out/start.log" || return
	echo "FAILED  start: the programs find no GPU: $(
		grep -h -m1 SKIPPED "$out/start.log" | cut -c1-200)"
	failed=$((failed + 1))
}

part_tests() {
	for t in $kernels; do
		[ -x "$to/bin/$t" ] && WL_CUDA_MANAGED=1 one "$t" 60 $by "$to/bin/$t"
	done
	for t in $training; do
		[ -x "$to/bin/$t" ] || continue
		one "$t" 60 $by "$to/bin/$t" || WL_CUDA_MANAGED=1 one "$t-managed" 40 $by "$to/bin/$t"
	done
}

part_sanitize() {
	sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
	[ -x "$sanitizer" ] || { say "SKIPPED: compute-sanitizer is not here"; return; }
	for t in test_gpu_train test_ops_text test_fuse test_ops_loss test_ops_image; do
		managed=$([ $t = test_gpu_train ] || echo WL_CUDA_MANAGED=1)
		[ -x $to/bin/$t ] && one "memcheck-$t" 70 env $managed "$sanitizer" --tool memcheck \
			--error-exitcode 9 --leak-check no --print-limit 5 $by $to/bin/$t
	done
	for t in test_fuse test_ops_loss test_ops_text; do
		[ -x $to/bin/$t ] && one "racecheck-$t" 55 env WL_CUDA_MANAGED=1 "$sanitizer" \
			--tool racecheck --error-exitcode 9 --print-limit 5 $by $to/bin/$t
	done
}

# PyTorch's side: seconds, what, how
peer() {
	timeout -k 5 "$1" "$python" -W ignore tests/bench/peer_gpu.py --batch "$batch" --px "$px" \
		--steps 10 --what "$2" --how "$3" --rows "$rows" > "$out/peer-$2-$3.log" 2>&1 ||
		echo "SKIPPED PyTorch's $2, $3: no row within $1 s; $(
			tail -1 "$out/peer-$2-$3.log" | cut -c1-200)"
	grep SKIPPED "$out/peer-$2-$3.log" | cut -c1-200
}

part_bench() {
	batch=${BATCH:-32} px=${PX:-600} rows=$out/rows.json
	[ -x $to/bin/bench_gpu ] || { say "SKIPPED: the benchmark was not built here"; return; }
	: > "$rows"
	export WL_BENCH_ROWS="$rows"
	one rows 140 $by $to/bin/bench_gpu cuda paper "$batch" "$px" 10
	grep -v skipped "$out/rows.log"
	WL_BENCH_ROWS='' one profile 45 $by $to/bin/bench_gpu cuda paper "$batch" "$px" 1 1000000 profile
	grep -A60 '^a step' "$out/profile.log" | cut -c1-160 | head -40
	python=${WL_PEER_PYTHON:-python3}
	[ -d $to/python ] && ! "$python" -c 'import timm' 2>/dev/null &&
		export PYTHONPATH="$PWD/$to/python"
	if "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
		peer 50 step eager
		peer 45 towers eager
		peer 190 step compiled
		"$python" tests/bench/peer_gpu.py --ratio "$rows" | tee -a "$out/ratios.log"
	else
		say "SKIPPED the PyTorch side: $python has no torch with CUDA (set WL_PEER_PYTHON)"
	fi
}

run() {
	passed=0 failed=0
	if ! command -v nvidia-smi >/dev/null; then
		echo "SKIPPED: there is no GPU here (nvidia-smi is missing)"
		exit 0
	fi
	nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
	part_begin=$(date +%s)
	ready
	found
	for part in ${*:-tests sanitize bench}; do
		echo "== $part"
		part_begin=$(date +%s)
		"part_$part"
	done
	echo "gpu: $passed passed, $failed failed"
	[ $failed -eq 0 ]
}

case ${1:-} in
pack) pack ;;
build) build_here ;;
run)
	shift
	for part in "$@"; do
		case $part in
		tests | sanitize | bench) ;;
		*)
			echo "gpu: no part \"$part\": expected tests, sanitize or bench"
			exit 2 ;;
		esac
	done
	run "$@" ;;
*) sed -n '2,18p' "$0"; exit 2 ;;
esac
