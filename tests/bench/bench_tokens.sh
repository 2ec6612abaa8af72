#!/bin/sh
# Tokenising against Hugging Face's fast tokenizer (the package tokenizers, one thread), on real
# captions, news, posts and articles: Chinese characters a second of CPU time, and that all ids
# are the same.  PEER names a Python that has tokenizers; STEP=1 takes every line.
set -eu

build=${WL_BUILD:-build/release} python=${PEER:-python3} step=${STEP:-8}
texts=../shared/data/text vocab=../shared/data/vocab/vocab.txt
[ -d "$texts" ] && [ -f "$vocab" ] || { echo "SKIPPED: $texts or $vocab is absent" && exit 0; }
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
cat "$texts"/*.txt "$texts"/*.tsv "$texts"/*.jsonl | awk "NR % $step == 0" >"$dir/in"
field() { sed "s/.*\"$1\": *\([0-9.]*\).*/\1/"; }
ours=$("$build/tests/bench/bench_tokens" "$vocab" "$dir/ids" "$dir/in" |
	field characters_per_cpu_s)
if ! "$python" -c 'import tokenizers' 2>/dev/null; then
	echo "SKIPPED tokenizers: $python lacks it (set PEER)"
	echo "$ours" | awk '{ printf "tokenising: %.1f M characters/s a core\n", $1 / 1e6 }'
	exit 0
fi
line=$("$python" tests/bench/peer_tokens.py "$vocab" "$dir/ids" "$dir/in")
differ=$(echo "$line" | field differ)
echo "$ours $(echo "$line" | field characters_per_cpu_s) $differ $(echo "$line" | field lines)" |
	awk '{ printf "tokenising: %.1f M characters/s a core, %.0f times tokenizers (%.2f M), " \
		"%d of %d lines with other ids\n", $1 / 1e6, $1 / $2, $2 / 1e6, $3, $4 }'
[ "$differ" = 0 ]
