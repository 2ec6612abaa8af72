#!/bin/sh
# Topic models: tokens sampled in a CPU second on one core, and the time to the same perplexity of
# held-out documents, against tomotopy (PEER names a Python that has it) and WarpLDA (WARPLDA names
# the folder of its programs `format` and `warplda`).  DOCS of about 50 words from 100 topics.
set -eu

build=${WL_BUILD:-build/release} docs=${DOCS:-20000} topics=100 alpha=0.1 beta=0.01
bench=$build/tests/bench/bench_lda
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
"$bench" make "$docs" $topics "$dir/train" "$dir/held"

# The perplexity after each number of iterations, and the speed.
for i in 30 45 60 80; do
	speed=$("$bench" train "$dir/train" $topics $alpha $beta $i 1 "$dir/phi")
	echo "$i $speed $("$bench" perplexity "$dir/phi" $alpha "$dir/held")"
done >"$dir/ours"
tokens=$(wc -w <"$dir/train")
awk -v t="$tokens" '{ printf "topics, %d iterations: %.1f M tokens/s, perplexity %s\n", $1, $2 / 1e6, $3 }' \
	"$dir/ours"

# compare NAME ITERATIONS TOKENS_PER_S PERPLEXITY
compare() {
	awk -v name="$1" -v it="$2" -v speed="$3" -v p="$4" '
		{ if ($2 > best) best = $2; if (!n && $3 <= p) { n = $1; s = $2 } }
		END {
			printf "%s, %d iterations: %.1f M tokens/s, perplexity %s; ours: %.2f times the speed",
				name, it, speed / 1e6, p, best / speed
			if (n) printf ", as good after %d iterations, %.2f times as fast", n, it / speed / (n / s)
			else printf ", not as good after 80 iterations"
			print "" }' "$dir/ours"
}

if "${PEER:-python3}" -c 'import tomotopy' 2>/dev/null; then
	speed=$("${PEER:-python3}" -W ignore tests/bench/peer_lda.py tomotopy "$dir/train" $topics \
		$alpha $beta 30 "$dir/phi")
	compare tomotopy 30 "$speed" "$("$bench" perplexity "$dir/phi" $alpha "$dir/held")"
else
	echo "SKIPPED tomotopy: ${PEER:-python3} lacks it (set PEER)"
fi
if [ -x "${WARPLDA:-}/warplda" ]; then
	speed=$(python3 tests/bench/peer_lda.py warplda "$dir/train" $topics $alpha $beta 60 \
		"$dir/phi" "$WARPLDA")
	compare WarpLDA 60 "$speed" "$("$bench" perplexity "$dir/phi" $alpha "$dir/held")"
else
	echo "SKIPPED WarpLDA: set WARPLDA to the folder of its programs"
fi
