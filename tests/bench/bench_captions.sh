#!/bin/sh
# Caption metrics against pycocoevalcap ($WL_PEER_PYTHON, METEOR needs Java) in one run: time as a
# ratio, and the corpus scores digit by digit.
set -u

bin=${WL_BUILD:-build/release}/tests/bench/bench_captions
python=${WL_PEER_PYTHON:-python3}
export OMP_NUM_THREADS=1
"$bin" 30000
if ! "$python" -c 'import pycocoevalcap' 2>/dev/null; then
	echo "SKIPPED: pycocoevalcap is not installed (WL_PEER_PYTHON names a Python that has it)"
	exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n=${WL_BENCH_IMAGES:-2000}
"$bin" "$n" "$tmp/captions.json" || exit 1
"$bin" "$n" >"$tmp/ours" || exit 1
"$python" tests/bench/peer_captions.py "$tmp/captions.json" >"$tmp/peer" 2>"$tmp/log" || {
	tail -3 "$tmp/log"
	exit 1
}
cat "$tmp/ours" "$tmp/peer"
awk '
function num(line, name,   s) { s = line; sub(".*" name " ", "", s); return s + 0 }
/CIDEr .* s,/ { k++; b[k] = num($0, "CIDEr"); r[k] = num($0, "ROUGE-L"); m[k] = num($0, "METEOR") }
/^scores/ { j++; for (i = 2; i <= NF; i++) v[j, i] = $i; nf = NF }
END {
	printf "ratio: BLEU and CIDEr %.0f, ROUGE-L %.0f, the three %.0f (bar 60), METEOR %.1f (bar 5)\n",
		b[2] / b[1], r[2] / r[1], (b[2] + r[2]) / (b[1] + r[1]), m[2] / m[1]
	for (i = 2; i <= nf; i++) {
		d = v[1, i] - v[2, i]
		if (d < 0) d = -d
		if (d > (i == 6 ? 1e-6 : 1e-9)) { bad++; print "score " i - 1 " differs by " d }
	}
	print bad ? "DISAGREES" : "scores agree"
	exit bad > 0
}' "$tmp/ours" "$tmp/peer"
