#!/bin/sh
# The figures of a GPU, ours and (where WL_PEER_PYTHON names a Python that has torch for it)
# PyTorch's in the same run.  PRESET=paper BATCH=32 PX=600 STEPS=10.
set -eu

build=${WL_BUILD:-build/release}
preset=${PRESET:-paper} batch=${BATCH:-32} px=${PX:-600} steps=${STEPS:-10}
if ! command -v nvidia-smi >/dev/null; then
	echo "SKIPPED: there is no GPU here (nvidia-smi is missing)"
	exit 0
fi
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.mem --format=csv,noheader
"$build/tests/bench/bench_gpu" cuda "$preset" "$batch" "$px" "$steps"
python=${WL_PEER_PYTHON:-python3}
if "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
	"$python" -W ignore tests/bench/peer_gpu.py "$batch" "$px" "$steps"
else
	echo "SKIPPED the PyTorch side: $python has no torch with CUDA (set WL_PEER_PYTHON)"
fi
