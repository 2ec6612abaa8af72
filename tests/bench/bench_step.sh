#!/bin/sh
# One training step of the small preset: ours and PyTorch's in turn, the same threads, batch and
# precision.  PEER names a Python that has torch, timm 0.4.12 and transformers; without one only
# our figure is printed.
set -eu

build=${WL_BUILD:-build/release}
python=${PEER:-python3}
batch=${BATCH:-16} px=${PX:-128} threads=${THREADS:-2} steps=${STEPS:-5}
export OMP_NUM_THREADS="$threads"
# The same for both: threads that wait sleep soon (see train/backend/cpu/wait.c).
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"

ours=$("$build/tests/bench/bench_step" "$batch" "$px" "$threads" "$steps" fp32)
echo "$ours"
if ! "$python" -c 'import torch, timm, transformers' 2>/dev/null; then
	echo "SKIPPED the PyTorch side: $python has no torch, timm and transformers (set PEER)"
	exit 0
fi
peer=$("$python" -W ignore tests/bench/peer_step.py "$batch" "$px" "$threads" "$steps")
echo "$peer"
again=$("$build/tests/bench/bench_step" "$batch" "$px" "$threads" "$steps" fp32)
echo "$again"
ms() { echo "$1" | sed 's/.*"ms_median": *\([0-9.]*\).*/\1/'; }
echo "$(ms "$ours") $(ms "$again") $(ms "$peer")" |
	awk '{m = $1 < $2 ? $1 : $2; printf "training step: %.0f ms, PyTorch %.0f ms: ratio %.2f\n", m, $3, $3 / m}'
