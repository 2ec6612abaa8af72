#!/bin/bash
# Coloured shapes with Chinese captions (tests/e2e/shapes.c) through every stage, from the
# installed programs: planted duplicates, broken files, personal data and junk must be found to
# the last one, and training from nothing must reach R@1 >= 60 % in both directions among the 84
# held-out pairs, whose combinations of colour, shape and place no training pair shows (chance is
# about 1 %).
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/common.inc

data=$work/data corpus=$work/corpus shards=$work/shards run=$work/run
must "$E2E/shapes" "$data" 2000 7
want() { json "$data/expected.json" "$1"; }

# --- ingest: every record is a pair or in quarantine -----------------------------------------
# From inside: ids are made of the place that a picture came from, and the order of training of
# ids, so that every run of this script trains the same model.
cd "$work" || exit 1
must "$BIN/wenlan-ingest" --corpus "$corpus" --partitions 3 jsonl:data/pairs.jsonl
cd "$OLDPWD" || exit 1
parts=("$corpus"/part-*/catalog.db)
pairs=$(sum_sql "select count(*) from pair" "${parts[@]}")
is "quarantined records" "$(sum_sql "select count(*) from quarantine" "${parts[@]}")" "$(want quarantined)"
is "records in all" "$((pairs + $(want quarantined)))" "$(wc -l <"$data/pairs.jsonl" | tr -d ' ')"

# --- dedup and filter: the planted ones and no others ----------------------------------------
must "$BIN/wenlan-dedup" --corpus "$corpus"
must "$BIN/wenlan-filter" --corpus "$corpus" --rules tests/e2e/shapes-rules.yaml
dedup=("$corpus"/part-*/dedup-1.db)
filter=("$corpus"/part-*/filter-1.db)
is "duplicates" "$(sum_sql "select count(*) from verdict" "${dedup[@]}")" "$(want duplicate-image)"
for reason in text-short text-not-chinese text-repetition sensitive-test text-personal \
	image-blank image-aspect image-small; do
	is "$reason" "$(sum_sql "select count(*) from verdict where reason = '$reason'" "${filter[@]}")" \
		"$(want $reason)"
done

# --- shards ----------------------------------------------------------------------------------
must "$BIN/wenlan-shard" --corpus "$corpus" --out "$shards"
must "$BIN/wenlan-shard" verify --shards "$shards"
ok "wenlan-shard verify"
must "$BIN/wenlan-shard" audit --corpus "$corpus" --shards "$shards"
ok "wenlan-shard audit: the totals balance"
for split in train val test; do
	is "$split samples" "$(sql "$shards/manifest.db" \
		"select sum(samples) from shard where split = '$split'")" "$(want $split)"
done
is "tar lists the test members" "$(tar tf "$shards/test-000000.tar" | wc -l | tr -d ' ')" \
	"$((3 * $(want test)))"

# --- vocabulary, training, embedding, evaluation ---------------------------------------------
must "$BIN/wenlan-vocab" --corpus "$corpus" --out "$work/vocab.txt"
start=$(date +%s)
must "$BIN/wenlan-train" --config tests/e2e/shapes.yaml --shards "$shards" \
	--data.vocab "$work/vocab.txt" --run "$run" --progress plain
ok "trained in $(($(date +%s) - start)) s"
must "$BIN/wenlan-embed" --ckpt "$run" --shards "$shards" --split test --out "$work/test.safetensors"
must "$BIN/wenlan-eval" retrieval --embeddings "$work/test.safetensors" --out "$work/retrieval.json"
is "test images" "$(json "$work/retrieval.json" images)" "$(want test)"
at_least "R@1 image to text" "$(json "$work/retrieval.json" i2t r1)" 60
at_least "R@1 text to image" "$(json "$work/retrieval.json" t2i r1)" 60

# --- what a user gets wrong ------------------------------------------------------------------
exits 2 "$BIN/wenlan-train" --config tests/e2e/shapes.yaml --shard "$shards"
exits 3 "$BIN/wenlan-shard" verify --shards "$work/no-such-shards"
cp -r "$shards" "$work/damaged"
printf 'X' | dd of="$work/damaged/test-000000.tar" bs=1 seek=2000 conv=notrunc 2>/dev/null
exits 3 "$BIN/wenlan-shard" verify --shards "$work/damaged"
ckpt=$(ls -d "$run"/ckpt-* | sort | tail -n 1)
cp -r "$ckpt" "$work/ckpt-bad"
truncate -s -100 "$work/ckpt-bad/model.safetensors"
exits 4 "$BIN/wenlan-embed" --ckpt "$work/ckpt-bad" --shards "$shards" --split test --out "$work/x"
finish
