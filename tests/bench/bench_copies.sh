#!/bin/sh
# Recall and precision of dedup over changed copies of photos: by whole hashes, by windows too, by
# embeddings alone, and by all together.  WL_CKPT names the checkpoint of a model (a run of
# ops/plans/flickr8k-cn.yaml, say); PHOTOS how many photos, each with 15 copies.
set -eu

build=${WL_BUILD:-build/release}
bin=$build/bin
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"$build/tests/bench/bench_copies" make "$dir/files" "${PHOTOS:-60}" || { [ $? -eq 2 ] && exit 0; }
"$bin/wenlan-ingest" --corpus "$dir/corpus" --quiet "dir:$dir/files"
row() {
	name=$1
	shift
	"$bin/wenlan-dedup" --corpus "$dir/corpus" --quiet "$@"
	echo "$name: $("$build/tests/bench/bench_copies" check "$dir/corpus")"
}
row "whole hashes" --window-radius 0
row "hashes and windows"
if [ ! -d "${WL_CKPT:-}" ]; then
	echo "SKIPPED the embeddings: WL_CKPT names no checkpoint"
	exit 0
fi
"$bin/wenlan-embed" --ckpt "$WL_CKPT" --corpus "$dir/corpus" --vectors --out "$dir/vectors" --quiet
for t in ${COSINES:-0.99 0.98 0.97 0.95 0.9}; do
	row "embeddings of $t alone" --image-radius -1 --embeddings "$dir/vectors" \
		--embedding-cosine "$t"
	row "hashes, windows and embeddings of $t" --embeddings "$dir/vectors" \
		--embedding-cosine "$t"
done
