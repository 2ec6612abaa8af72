#!/bin/sh
# A list of URLs from a local server into a corpus, against img2dataset on the same list and
# server with no resizing.  Two rows: ours decodes every picture to know that it is whole, the peer
# with its default decodes and encodes again; then neither decodes.  Rates are per CPU second, its
# own start left out for the peer and counted for ours.  PEER names a Python that has img2dataset;
# N the number of URLs.
set -eu

build=${WL_BUILD:-build/release} n=${N:-4000}
dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill $server; rm -rf "$dir"' EXIT
"$build/tests/bench/bench_fetch" "$dir/port" &
server=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	[ -s "$dir/port" ] && break
	sleep 0.5
done
port=$(cat "$dir/port")
awk -v n="$n" -v p="$port" 'BEGIN { print "url\tcaption"
	for (i = 0; i < n; i++) printf "http://127.0.0.1:%d/%d/%d.jpg\tpicture %d\n", p, i, i, i }' \
	>"$dir/list.tsv"
export OMP_NUM_THREADS=1
ours() { # OPTIONS...
	best=0
	for round in 1 2; do
		"$build/tests/bench/bench_fetch" cpu "$build/bin/wenlan-ingest" --log-level error \
			--progress none --json --workers 1 --allow-private --fetch-per-host 64 \
			"$@" --corpus "$dir/c$round" "urls:$dir/list.tsv" >"$dir/out"
		grep -q "\"ok\":$n," "$dir/out" || { cat "$dir/out" && exit 1; }
		best=$(awk -v n="$n" -v best="$best" '/^CPU/ { r = n / $2
			print (r > best ? r : best) }' "$dir/out")
		rm -rf "$dir/c$round"
	done
}
python=
for p in ${PEER:-} python3 /usr/bin/python3; do
	"$p" -c 'import img2dataset' 2>/dev/null && python=$p && break
done
[ -n "$python" ] || echo "SKIPPED img2dataset: no Python has it (set PEER)"
row() { # OUR_NAME PEER_NAME PEER_ENCODES OPTIONS...
	name=$1 peer_name=$2 encode=$3 && shift 3
	ours "$@"
	echo "URL list to pairs, $name: $(printf %.0f "$best") pictures per CPU second"
	[ -n "$python" ] || return 0
	"$python" tests/bench/peer_fetch.py "$dir/list.tsv" "$dir/p$encode" "$encode" \
		>"$dir/out" 2>"$dir/log" || { tail -5 "$dir/log" && exit 1; }
	grep RESULT "$dir/out" | awk -v ours="$best" -v name="$peer_name" -v n="$n" '{
		if ($2 != n) { print "img2dataset got", $2, "of", n; exit 1 }
		printf "  img2dataset, %s: %.0f; ours is %.1f times that (bar: 3)\n", \
			name, $2 / $3, ours * $3 / $2 }'
}
row "decoded to see that they are whole" "resize_mode=no (decodes and encodes)" 1
row "--fetch-quick" "bytes passed through" 0 --fetch-quick
