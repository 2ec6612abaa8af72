#!/bin/sh
# Decoded and augmented images a second of CPU time on one core: ours, libjpeg-turbo decoding the
# same regions and doing nothing else, and webdataset + torchvision, in turn, ROUNDS rounds, the
# best of each; "bytes" is ours without the float colours, what FFCV and a GPU get.  PEER names a
# Python that has torch, torchvision and webdataset.
set -eu

build=${WL_BUILD:-build/release} python=${PEER:-python3} rounds=${ROUNDS:-3}
photos=../shared/data/flickr8kcn/val.tar
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
mkdir "$dir/photos"
if [ -f "$photos" ]; then
	tar xf "$photos" -C "$dir/photos"
	"$build/tests/bench/bench_loader" "$dir/shards" "$dir/photos"
else
	echo "$photos is absent: drawn pictures instead of photos"
	"$build/tests/bench/bench_loader" "$dir/shards"
fi
pin=$(command -v taskset >/dev/null && echo "taskset -c 0" || true)
field() { sed "s/.*\"$1\": *\([0-9.]*\).*/\1/"; }
best() { sort -g | tail -n 1; }

for case in rrc-224 jitter-224 paper-224 rrc-600; do
	mode=${case%-*} px=${case#*-}
	rrc='crop_scale_min: 0.2, flip: 0.5'
	case $mode in
	rrc) augment="{$rrc}" ;;
	jitter) augment="{$rrc, jitter: 0.8}" ;;
	paper) augment=paper ;;
	esac
	: >"$dir/ours" && : >"$dir/bare" && : >"$dir/peer" && : >"$dir/bytes"
	i=0
	while [ $i -lt "$rounds" ]; do
		i=$((i + 1))
		line=$($pin "$build/bin/wenlan-load" --shards "$dir/shards" --bench --json \
			--samples 800 --batch 8 --threads 1 --size "$px" --augment "$augment")
		echo "$line" | field images_per_cpu_s >>"$dir/ours"
		echo "$line" | field crop_decode_per_cpu_s >>"$dir/bare"
		$pin "$build/bin/wenlan-load" --shards "$dir/shards" --bench --json --crops \
			--samples 800 --batch 8 --threads 1 --size "$px" --augment "$augment" |
			field images_per_cpu_s >>"$dir/bytes"
		"$python" -c 'import webdataset, torchvision' 2>/dev/null || continue
		$pin "$python" -W ignore tests/bench/peer_loader.py "$dir/shards/train-000000.tar" \
			300 "$px" $mode | field images_per_cpu_s >>"$dir/peer"
	done
	ours=$(best <"$dir/ours") bare=$(best <"$dir/bare") peer=$(best <"$dir/peer")
	bytes=$(best <"$dir/bytes")
	[ -n "$peer" ] || echo "SKIPPED webdataset: $python lacks it or torchvision (set PEER)"
	echo "$ours $bare ${peer:-0} $bytes" | awk -v mode=$mode -v px="$px" '{
		printf "loader %s %d px: %.0f images a CPU second, %.2f of libjpeg-turbo crop-decode (%.0f)",
			mode, px, $1, $1 / $2, $2
		printf "; as bytes %.0f", $4
		if ($3) printf ", %.1f times webdataset + torchvision (%.0f)", $1 / $3, $3
		print "" }'
done
