#!/bin/bash
# Kafka, a WARC archive and a list of URLs in one command, killed (-9) again and again at random
# moments: every corpus that is finished after its kills is, byte for byte in what it holds, that of
# a run which nobody disturbed.   WL_KILLS (200) kills in all, WL_SEED.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/common.inc

want=${WL_KILLS:-200}
RANDOM=${WL_SEED:-3}
"$E2E/crawl" serve "$work" &
server=$!
trap 'kill -9 $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$work"' EXIT
for ((i = 0; i < 600; i++)); do [ -s "$work/brokers" ] && break; sleep 0.1; done
brokers=$(cat "$work/brokers") || exit 1

ingest() { # ingest CORPUS ARGUMENT...
	local corpus=$1
	shift
	exec "$BIN/wenlan-ingest" --quiet --corpus "$corpus" --until-end --kafka-patience 120 \
		--allow-net 127.0.0.1/32 --fetch-retry-seconds 0.01 --fetch-timeout 20 \
		--fetch-retries 5 "$@" "kafka://$brokers/pages?profile=news" \
		"urls:$work/list.tsv" "warc:$work/crawl.warc.gz?profile=news"
}
where() { # where CORPUS: what the kill fell into
	local f
	for f in "$1"/part-*/catalog.db; do
		[ -f "$f" ] && sqlite3 -readonly "$f" \
			'select origin from "offset" union all select "fetch" from fetch limit 100' 2>/dev/null
	done | sed 's/:.*//' | sort -u | tr '\n' ' '
}

(ingest "$work/reference" --workers 2) >"$work/log" 2>&1 || {
	bad "the undisturbed run failed"
	tail -n 20 "$work/log"
	finish
}
must "$E2E/crawl" dump "$work/reference"
"$E2E/crawl" dump "$work/reference" >"$work/want"
ok "undisturbed: $(wc -l <"$work/want") rows, $(grep -c '^Q|' "$work/want") of them in quarantine"
at_least "rows" "$(wc -l <"$work/want")" 400

kills=0 lives=0
declare -A struck
while [ "$kills" -lt "$want" ]; do
	lives=$((lives + 1)) round=0 code=137
	corpus=$work/killed-$lives
	# Another number of lanes and threads each time; the dump does not show them.
	args=(--partitions $((1 + lives % 4)) --workers $((1 + lives % 3)) --commit-every $((1 + lives * 7 % 40)))
	while [ "$code" != 0 ]; do
		round=$((round + 1))
		(ingest "$corpus" "${args[@]}") >"$work/log" 2>&1 &
		pid=$!
		# Longer and longer, so that it comes to its end; once there are enough, undisturbed.
		if [ "$kills" -lt "$want" ]; then
			sleep "$(awk -v r=$RANDOM -v n=$round 'BEGIN { printf "%.3f", r / 32768 * (150 + 40 * n) / 1000 + 0.005 }')"
			kill -9 $pid 2>/dev/null
		fi
		wait $pid 2>/dev/null
		code=$?
		if [ "$code" = 137 ]; then
			kills=$((kills + 1))
			for s in $(where "$corpus"); do struck[$s]=$((${struck[$s]:-0} + 1)); done
		elif [ "$code" != 0 ]; then
			bad "exit code $code after $kills kills"
			tail -n 20 "$work/log"
			finish
		fi
	done
	"$E2E/crawl" dump "$corpus" >"$work/got"
	if cmp -s "$work/want" "$work/got"; then
		ok "corpus $lives after $((round - 1)) kills is that of an undisturbed run"
	else
		bad "corpus $lives differs after $((round - 1)) kills:"
		diff "$work/want" "$work/got" | cut -c1-300 | head -n 10
	fi
	rm -rf "$corpus"
done
for s in kafka urls warc fetch; do
	at_least "kills after something of $s was committed" "${struck[$s]:-0}" $((want / 40))
done
at_least "kills" "$kills" "$want"
finish
