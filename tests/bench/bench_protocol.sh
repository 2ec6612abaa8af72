#!/bin/sh
# `wenlan-eval retrieval` from feature files, files read and memory included, on planted ranks:
# 3,000 images with five texts each of 2,560 numbers; with WL_BENCH_FULL=1 AI Challenger's whole pool,
# 30,000 and 150,000 (1.8 GB of files in $TMPDIR, minutes), where PyTorch with top-k on the same files
# ($WL_PEER_PYTHON) takes longer still.
set -u

build=${WL_BUILD:-build/release}
python=${WL_PEER_PYTHON:-python3}
n=3000 protocol=
[ "${WL_BENCH_FULL:-0}" = 0 ] || { n=30000 protocol='--protocol aic-icc'; }
command -v jq >/dev/null && [ -x /usr/bin/time ] || {
	echo "SKIPPED: needs jq and GNU time"
	exit 0
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
expected=$("$build/tests/bench/bench_protocol" $n 5 2560 "$tmp") || exit 1
# shellcheck disable=SC2086  # $protocol is no word or two
/usr/bin/time -f '%e %M' -o "$tmp/time" "$build/bin/wenlan-eval" retrieval --quiet --score dot $protocol \
	--images "$tmp/images.npy" --texts "$tmp/texts.npy" --pairs "$tmp/pairs.npy" --out "$tmp/out.json" \
	>/dev/null || exit 1
found=$(jq -r '[.i2t, .t2i] | map([.r1, .r5, .r10, .median_rank, .mean_rank]) | add | map(tostring) | join(" ")' \
	"$tmp/out.json") || exit 1
echo "$expected $found" | awk '{ for (i = 1; i <= 10; i++) { d = $i - $(i + 10)
	if (d > 1e-5 || d < -1e-5) { print "planted " $i ", found " $(i + 10); bad = 1 } } exit bad }' || exit 1
read -r seconds kib <"$tmp/time"
echo "wenlan-eval retrieval $n x $((5 * n)) x 2560, planted ranks found: $seconds s, $((kib / 1024)) MiB (bar 4,000)"
if ! "$python" -c 'import torch' 2>/dev/null; then
	echo "SKIPPED: PyTorch is not installed (WL_PEER_PYTHON names a Python that has it)"
	exit 0
fi
peer=$("$python" tests/bench/peer_retrieval.py "$tmp") || exit 1
echo "$peer $seconds" | awk '{ printf "PyTorch with top-k, the same files: %.2f s, ratio %.2f (bar 1.5)\n", $1, $1 / $2 }'
