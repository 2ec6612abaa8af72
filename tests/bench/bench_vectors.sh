#!/bin/sh
# Near vectors on one core, all with all beside PyTorch ($WL_PEER_PYTHON) on as many of the same size.
set -u

bin=${WL_BUILD:-build/release}/tests/bench/bench_vectors
python=${WL_PEER_PYTHON:-python3}
n=${VECTORS:-12000} dim=${DIM:-256}
ours=$(OMP_NUM_THREADS=1 "$bin" "$n" "$dim") || exit 1
echo "$ours"
if ! "$python" -c 'import torch' 2>/dev/null; then
	echo "SKIPPED: PyTorch is not installed (WL_PEER_PYTHON names a Python that has it)"
	exit 0
fi
peer=$("$python" tests/bench/peer_vectors.py "$n" "$dim") || exit 1
echo "$ours" | awk -v peer="$peer" '/^all/ { for (i = 1; i <= NF; i++) if ($i == "s,") { t = $(i - 1); break }
	printf "PyTorch: %.2f s, ratio %.2f\n", peer, peer / t }'
