#!/bin/sh
# Segmentation against jieba on real captions, news, posts and articles, one core: MB of CPU time
# a second, and that the words are the same.  PEER names a Python that has jieba 0.42.1; STEP=1
# takes every line (a minute of jieba).
set -eu

build=${WL_BUILD:-build/release} python=${PEER:-} step=${STEP:-8}
texts=../shared/data/text
[ -d "$texts" ] || { echo "SKIPPED: $texts is absent" && exit 0; }
for p in $python python3 /usr/bin/python3; do
	"$p" -c 'import jieba' 2>/dev/null && python=$p && break
	python=
done
[ -n "$python" ] || echo "SKIPPED jieba: no Python has it (set PEER)"
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
cat "$texts"/*.txt "$texts"/*.tsv "$texts"/*.jsonl | awk "NR % $step == 0" >"$dir/in"
for model in 1 0; do
	ours=$("$build/tests/bench/bench_segment" "$dir/in" "$dir/ours" $model)
	peer=0 same=
	if [ -n "$python" ]; then
		peer=$("$python" tests/bench/peer_segment.py "$dir/in" "$dir/peer" $model)
		cmp -s "$dir/ours" "$dir/peer" && same="same words" || same="OTHER WORDS"
	fi
	echo "$ours $peer" | awk -v model=$model -v same="$same" '{
		printf "segmentation, HMM=%s: %.1f MB/s", model ? "True" : "False", $1
		if ($2) printf ", %.0f times jieba (%.2f), %s", $1 / $2, $2, same
		print "" }'
	[ "$same" != "OTHER WORDS" ] || exit 1
done
