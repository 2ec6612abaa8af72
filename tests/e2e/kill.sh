#!/bin/bash
# kill -9 at random moments in every stage, then the same command again: the corpus, the
# verdicts, the shards, the vocabulary, the weights and the final numbers must be those of a run
# that nobody disturbed.   WL_KILLS: kills a stage (default 3; make test-long takes more).
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/common.inc

kills=${WL_KILLS:-3}
RANDOM=${WL_SEED:-20211103}
data=$work/data
must "$E2E/shapes" "$data" 420 11

# undisturbed COMMAND...: how long each stage takes on this machine is what kills go by.
# disturbed COMMAND...: killed $kills times within that, the first time early, then run to its end.
ms() { date +%s%3N; }
took=()
undisturbed() {
	local start
	start=$(ms)
	must "$@"
	took+=($(($(ms) - start)))
}
disturbed() {
	local i pid
	for ((i = 0; i < kills; i++)); do
		"$@" >"$work/log" 2>&1 &
		pid=$!
		sleep "$(awk -v r=$RANDOM -v t="${took[stage]}" -v part=$((8 >> (i % 4))) \
			'BEGIN { printf "%.4f", r / 32768 * t / part / 1000 }')"
		kill -9 $pid 2>/dev/null
		wait $pid 2>/dev/null
		[ $? != 137 ] || hits=$((hits + 1))
	done
	stage=$((stage + 1))
	must "$@"
}

pipeline() { # pipeline HOW DIR; HOW: undisturbed or disturbed
	local how=$1 d=$2 stage=0
	$how "$BIN/wenlan-ingest" --corpus "$d/corpus" --partitions 2 --commit-every 25 \
		"jsonl:$data/pairs.jsonl"
	$how "$BIN/wenlan-dedup" --corpus "$d/corpus"
	$how "$BIN/wenlan-filter" --corpus "$d/corpus" --rules tests/e2e/shapes-rules.yaml
	$how "$BIN/wenlan-shard" --corpus "$d/corpus" --out "$d/shards" --shard-samples 100
	$how "$BIN/wenlan-vocab" --corpus "$d/corpus" --out "$d/vocab.txt"
	$how "$BIN/wenlan-train" --config tests/e2e/kill.yaml --shards "$d/shards" \
		--data.vocab "$d/vocab.txt" --run "$d/run"
	$how "$BIN/wenlan-embed" --ckpt "$d/run" --shards "$d/shards" --split test \
		--out "$d/test.safetensors"
	$how "$BIN/wenlan-eval" retrieval --embeddings "$d/test.safetensors" --out "$d/retrieval.json"
}

dump() { # dump DIR STAGE QUERY: rows of all partitions, sorted
	local f
	for f in "$1"/corpus/part-*/"$2"; do sqlite3 -readonly "$f" "$3"; done | sort | sha256sum
}
same() { is "$1" "$2" "$3"; }

hits=0
pipeline undisturbed "$work/a"
pipeline disturbed "$work/b"
at_least "kills that hit a running program" "$hits" 3

for d in a b; do
	declare "pairs_$d=$(dump "$work/$d" catalog.db \
		"select id, source, page_url, texts, split_hint, hex(image_sha256), width, height from pair")"
	declare "quarantine_$d=$(dump "$work/$d" catalog.db "select position, reason from quarantine")"
	declare "dedup_$d=$(dump "$work/$d" 'dedup-1.db' "select * from verdict")"
	declare "filter_$d=$(dump "$work/$d" 'filter-1.db' "select * from verdict")"
	declare "clean_$d=$(dump "$work/$d" 'filter-1.db' "select pair_id, texts from clean")"
	declare "shards_$d=$(sql "$work/$d/shards/manifest.db" \
		"select name, samples, sha256 from shard order by name" | sha256sum)"
	declare "vocab_$d=$(sha256sum <"$work/$d/vocab.txt")"
	last=$(ls -d "$work/$d"/run/ckpt-* | sort | tail -n 1)
	declare "weights_$d=$(cat "$last/model.safetensors" "$last/momentum.safetensors" \
		"$last/queues.safetensors" | sha256sum)"
	declare "losses_$d=$(grep -o '"step":[0-9]*,\|"loss":[-0-9.e]*' "$work/$d/run/metrics.jsonl" | sha256sum)"
	declare "numbers_$d=$(cat "$work/$d/retrieval.json")"
done
same pairs "$pairs_b" "$pairs_a"
same quarantine "$quarantine_b" "$quarantine_a"
same "dedup's verdicts" "$dedup_b" "$dedup_a"
same "filter's verdicts" "$filter_b" "$filter_a"
same "cleaned texts" "$clean_b" "$clean_a"
same "shards" "$shards_b" "$shards_a"
same "vocabulary" "$vocab_b" "$vocab_a"
same "weights and queues" "$weights_b" "$weights_a"
same "losses" "$losses_b" "$losses_a"
same "final numbers" "$numbers_b" "$numbers_a"
must "$BIN/wenlan-shard" verify --shards "$work/b/shards"
ok "the shards of the disturbed run verify"
finish
