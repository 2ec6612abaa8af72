#!/bin/sh
# R@K against the matrix product alone, and against PyTorch with top-k ($WL_PEER_PYTHON), same sizes
# and threads.
set -u

bin=${WL_BUILD:-build/release}/tests/bench/bench_retrieval
python=${WL_PEER_PYTHON:-python3}
n=${WL_BENCH_IMAGES:-4000} m=${WL_BENCH_TEXTS:-20000} d=2560
ours=$("$bin" "$n" "$m" "$d") || exit 1
echo "$ours"
if ! "$python" -c 'import torch' 2>/dev/null; then
	echo "SKIPPED: PyTorch is not installed (WL_PEER_PYTHON names a Python that has it)"
	exit 0
fi
peer=$("$python" tests/bench/peer_retrieval.py "$n" "$m" "$d") || exit 1
echo "$ours" | awk -v peer="$peer" '{ for (i = 1; i <= NF; i++) if ($i == "threads:") t = $(i + 1) }
END { printf "PyTorch with top-k, both ways: %.2f s, ratio %.2f (bar 1.5)\n", peer, peer / t }'
