#!/bin/sh
# Near-duplicate texts: ours, datasketch and text-dedup on the same made-up file, processor time of
# one thread each.  PEER names a Python with datasketch and text-dedup.
set -eu

build=${WL_BUILD:-build/release}
python=${PEER:-python3}
n=${TEXTS:-6000}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

program=$build/tests/bench/bench_texts
"$program" make "$dir/texts" "$n"
ours=$("$program" "$dir/texts")
echo "$ours"
field() { echo "$ours" | sed "s/.*\"$1\": \([0-9.]*\).*/\1/"; }
for peer in datasketch text-dedup; do
	module=$(echo "$peer" | tr - _)
	if ! "$python" -c "import $module" 2>/dev/null; then
		echo "SKIPPED $peer: $python has no $module (set PEER)"
		continue
	fi
	theirs=$("$python" -W ignore tests/bench/peer_texts.py "$peer" "$dir/texts" \
		"$(field bands)" "$(field rows)" 2>/dev/null | tail -1)
	[ -n "$theirs" ] || { echo "SKIPPED $peer: it does not run here"; continue; }
	again=$("$program" "$dir/texts")
	echo "$(field seconds) $(echo "$again" | sed 's/.*"seconds": \([0-9.]*\).*/\1/') $theirs $n" |
		awk -v p="$peer" '{m = $1 < $2 ? $1 : $2
			printf "near texts: %.0f a second, %s %.0f: ratio %.0f\n", $5 / m, p, $5 / $3, $3 / m}'
done
