#!/bin/sh
# WARC archives, MB of page bytes a second of CPU time on one core: reading (heads and HTTP heads
# parsed, bodies copied out) against FastWARC on the same .gz (the bar: 1.5) and plain file (1),
# and archives into pairs against FastWARC + Resiliparse taking the plain text (1).  In turn, five
# rounds, the best of each.  The peer does less: it parses and writes a page's text and alt texts out
# (on lexbor), with no pairs, no charset doubts, no addresses, no catalog; its start is not counted,
# ours is.  WL_PYTHON names a Python that has fastwarc and resiliparse.
set -eu

build=${WL_BUILD:-build/release} python=${WL_PYTHON:-python3} rounds=${ROUNDS:-5} mb=${MB:-360}
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
mkdir "$dir/small"
"$build/tests/bench/bench_warc" make "$dir" "$mb"
"$build/tests/bench/bench_warc" make "$dir/small" "${PAGES_MB:-100}"
pin=$(command -v taskset >/dev/null && echo "taskset -c 0" || true)
field() { sed "s/.*\"$1\": *\([0-9.]*\).*/\1/"; }
best() { sort -g | tail -n 1; }
peer=yes
"$python" -c 'import fastwarc, resiliparse' 2>/dev/null || {
	peer=
	echo "SKIPPED FastWARC: $python lacks it or resiliparse (set WL_PYTHON)"
}
say() { # say WHAT BAR OURS THEIRS
	echo "$3 ${4:-0}" | awk -v what="$1" -v bar="$2" '{
		printf "warc: %s: %.0f MB a CPU second", what, $1
		if ($2) printf ", peer %.0f, ratio %.2f (bar %.1f) %s", $2, $1 / $2, bar,
			($1 / $2 >= bar ? "ok" : "BELOW")
		print "" }'
}

for file in pages.warc.gz pages.warc; do
	: >"$dir/ours" && : >"$dir/peer"
	i=0
	while [ $i -lt "$rounds" ]; do
		i=$((i + 1))
		$pin "$build/tests/bench/bench_warc" read "$dir/$file" >"$dir/a"
		field mb_per_cpu_s <"$dir/a" >>"$dir/ours"
		[ "$peer" ] || continue
		$pin "$python" tests/bench/peer_warc.py read "$dir/$file" >"$dir/b"
		field mb_per_cpu_s <"$dir/b" >>"$dir/peer"
		for f in records bytes; do # both must have read the same
			[ "$(field $f <"$dir/a")" = "$(field $f <"$dir/b")" ] || {
				echo "warc: $file: the $f differ: $(cat "$dir/a" "$dir/b")"
				exit 1
			}
		done
	done
	bar=1.5
	[ $file = pages.warc ] && bar=1
	say "reading $file" $bar "$(best <"$dir/ours")" "$(best <"$dir/peer")"
done

: >"$dir/ours" && : >"$dir/peer"
i=0
while [ $i -lt 3 ]; do
	i=$((i + 1))
	rm -rf "$dir/corpus"
	# User and system time of the run, as the shell counts it for its children.
	$pin sh -c "$build/bin/wenlan-ingest --quiet --no-fetch --workers 1 --corpus $dir/corpus \
		warc:$dir/small/pages.warc.gz && times" | tail -n 1 | tr 'ms' '  ' |
		awk -v bytes="$(wc -c <"$dir/small/pages.warc")" \
			'{ print bytes / 1e6 / ($1 * 60 + $2 + $3 * 60 + $4) }' >>"$dir/ours"
	[ "$peer" ] && $pin "$python" tests/bench/peer_warc.py text "$dir/small/pages.warc.gz" |
		field mb_per_cpu_s >>"$dir/peer"
done
say "pages.warc.gz into pairs, the peer into plain text" 1 \
	"$(best <"$dir/ours")" "$(best <"$dir/peer")"
