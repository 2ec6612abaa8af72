#!/bin/sh
# `wenlan-eval caption --level aic` against the public tools (jieba, PTBTokenizer, pycocoevalcap, the
# METEOR jar; $WL_PEER_PYTHON, Java), image by image over 12,000 captions.
set -u

bin=${WL_BIN:-build/release/bin}
python=${WL_PEER_PYTHON:-python3}
if ! "$python" -c 'import pycocoevalcap, jieba' 2>/dev/null || ! command -v java >/dev/null; then
	echo "SKIPPED: pycocoevalcap, jieba or Java is not installed (WL_PEER_PYTHON names a Python)"
	exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$python" tests/bench/peer_aic.py make "$tmp" "${WL_BENCH_IMAGES:-2000}" || exit 1
"$bin/wenlan-eval" caption --level aic --refs "$tmp/refs.json" --hyps "$tmp/hyps.json" \
	--out "$tmp/ours.json" || exit 1
"$python" tests/bench/peer_aic.py check "$tmp" 2>"$tmp/log" || {
	tail -3 "$tmp/log"
	exit 1
}
