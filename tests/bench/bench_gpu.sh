#!/bin/sh
# The figures of a GPU, where a step's time goes, and (where WL_PEER_PYTHON names a Python that has
# torch for it) PyTorch's step in the same run, with the ratio.  PRESET=paper BATCH=32 PX=600
# STEPS=10; COMPILE=1: torch.compile's too, which takes minutes.
set -eu

build=${WL_BUILD:-build/release}
preset=${PRESET:-paper} batch=${BATCH:-32} px=${PX:-600} steps=${STEPS:-10}
if ! command -v nvidia-smi >/dev/null; then
	echo "SKIPPED: there is no GPU here (nvidia-smi is missing)"
	exit 0
fi
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.mem --format=csv,noheader
rows=$(mktemp)
trap 'rm -f "$rows"' EXIT
WL_BENCH_ROWS=$rows "$build/tests/bench/bench_gpu" cuda "$preset" "$batch" "$px" "$steps"
"$build/tests/bench/bench_gpu" cuda "$preset" "$batch" "$px" 1 1000000 profile 2>/dev/null
python=${WL_PEER_PYTHON:-python3}
if "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
	peer() {
		"$python" -W ignore tests/bench/peer_gpu.py --batch "$batch" --px "$px" \
			--steps "$steps" --rows "$rows" "$@"
	}
	peer --what step
	peer --what towers
	[ "${COMPILE:-0}" = 0 ] || peer --what step --how compiled
	"$python" tests/bench/peer_gpu.py --ratio "$rows"
else
	echo "SKIPPED the PyTorch side: $python has no torch with CUDA (set WL_PEER_PYTHON)"
fi
