#!/bin/sh
# One training step: ours and PyTorch's in turn, the same threads, batch and precision.
#   MODEL=small (B0 + four layers of text) or public (B5 + RoBERTa-base; PX=380 BATCH=4),
#   PRECISION=fp32 or bf16; COMPILE=1 times torch.compile as well (minutes of compiling).  PEER names a Python that has torch, timm 0.4.12 and transformers; without one only
# our figure is printed.
set -eu

build=${WL_BUILD:-build/release}
python=${PEER:-python3}
batch=${BATCH:-16} px=${PX:-128} threads=${THREADS:-2} steps=${STEPS:-5}
model=${MODEL:-small} precision=${PRECISION:-fp32}
export OMP_NUM_THREADS="$threads"
# The same for both: threads that wait sleep soon (see train/backend/cpu/wait.c).
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-1000}"

ours=$("$build/tests/bench/bench_step" "$batch" "$px" "$threads" "$steps" "$precision" \
	"$model")
echo "$ours"
if ! "$python" -c 'import torch, timm, transformers' 2>/dev/null; then
	echo "SKIPPED the PyTorch side: $python has no torch, timm and transformers (set PEER)"
	exit 0
fi
peer=$("$python" -W ignore tests/bench/peer_step.py "$batch" "$px" "$threads" "$steps" "$precision" \
	"$model")
echo "$peer"
again=$("$build/tests/bench/bench_step" "$batch" "$px" "$threads" "$steps" "$precision" \
	"$model")
echo "$again"
ms() { echo "$1" | sed 's/.*"ms_median": *\([0-9.]*\).*/\1/'; }
echo "$(ms "$ours") $(ms "$again") $(ms "$peer")" |
	awk -v w="$model @$px, batch $batch, $precision" '{m = $1 < $2 ? $1 : $2
		printf "training step (%s): %.0f ms, PyTorch %.0f ms: ratio %.2f\n", w, m, $3, $3 / m}'
mb() { echo "$1" | sed 's/.*"peak_mb": *\([0-9.]*\).*/\1/'; }
echo "$(mb "$ours") $(mb "$peer")" | awk '{printf "peak memory: %d MB, PyTorch %d MB: ratio %.3f\n", $1, $2, $1 / $2}'
[ "${COMPILE:-0}" = 1 ] || exit 0
compiled=$("$python" -W ignore tests/bench/peer_step.py "$batch" "$px" "$threads" "$steps" \
	"$precision" "$model" compile)
echo "$compiled"
echo "$(ms "$ours") $(ms "$again") $(ms "$compiled")" |
	awk '{m = $1 < $2 ? $1 : $2
		printf "against torch.compile: %.0f ms, PyTorch %.0f ms: ratio %.2f\n", m, $3, $3 / m}'
