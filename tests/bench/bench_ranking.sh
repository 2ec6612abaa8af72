#!/bin/sh
# NDCG and MAP of 100,000 queries against pytrec_eval ($WL_TREC_PYTHON) in one run, query by query.
set -u

bin=${WL_BUILD:-build/release}/tests/bench/bench_ranking
python=${WL_TREC_PYTHON:-${WL_PEER_PYTHON:-python3}}
if ! "$python" -c 'import pytrec_eval' 2>/dev/null; then
	echo "SKIPPED: pytrec_eval is not installed (WL_TREC_PYTHON names a Python that has it)"
	exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$python" tests/bench/peer_ranking.py make "$tmp" "${WL_BENCH_QUERIES:-100000}" || exit 1
"$bin" "$tmp/qrels" "$tmp/run" "$tmp/ours" >"$tmp/log" || exit 1
"$python" tests/bench/peer_ranking.py run "$tmp" >>"$tmp/log"
code=$?
cat "$tmp/log"
awk '/^ours/ { o = $4; s = $10; if (s == 0) s = 1e-9 } /^pytrec/ { r = $4; p = $8 }
END { printf "ratio: reading and scoring %.1f (bar 3)\n", (r + p) / (o + s) }' "$tmp/log"
exit $code
