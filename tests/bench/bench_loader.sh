#!/bin/sh
# Decoded and augmented images a second of CPU time on one core: ours, libjpeg-turbo decoding the
# same regions and doing nothing else, and webdataset + torchvision, in turn, ROUNDS rounds, the
# best of each; "bytes" is ours without the float colours, what FFCV and a GPU get.  PEER names a
# Python that has torch, torchvision and webdataset; where it has ffcv or nvidia.dali too, these run
# on the crop-and-flip cases, FFCV from its own container (quality 90), DALI's CPU pipeline from the
# tar.  FFCV compiles for some 20 seconds first, which is not counted.
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
has() { "$python" -c "import $(echo "$1" | sed s/dali/nvidia.dali/)" >/dev/null 2>&1; }

for case in rrc-224 jitter-224 paper-224 rrc-600; do
	mode=${case%-*} px=${case#*-}
	rrc='crop_scale_min: 0.2, flip: 0.5'
	case $mode in
	rrc) augment="{$rrc}" ;;
	jitter) augment="{$rrc, jitter: 0.8}" ;;
	paper) augment=paper ;;
	esac
	for who in ours bare peer bytes ffcv dali; do : >"$dir/$who"; done
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
		for who in ffcv dali; do
			[ $mode = rrc ] && has $who || continue
			$pin "$python" -W ignore tests/bench/peer_$who.py \
				"$dir/shards/train-000000.tar" 800 "$px" "$dir/beton" 2>/dev/null |
				field images_per_cpu_s >>"$dir/$who"
		done
		"$python" -c 'import webdataset, torchvision' 2>/dev/null || continue
		$pin "$python" -W ignore tests/bench/peer_loader.py "$dir/shards/train-000000.tar" \
			300 "$px" $mode | field images_per_cpu_s >>"$dir/peer"
	done
	ours=$(best <"$dir/ours") bare=$(best <"$dir/bare") peer=$(best <"$dir/peer")
	bytes=$(best <"$dir/bytes")
	[ -n "$peer" ] || echo "SKIPPED webdataset: $python lacks it or torchvision (set PEER)"
	ffcv=$(best <"$dir/ffcv") dali=$(best <"$dir/dali")
	[ $mode != rrc ] || [ -n "$ffcv" ] || echo "SKIPPED FFCV: $python lacks it (set PEER)"
	[ $mode != rrc ] || [ -n "$dali" ] || echo "SKIPPED DALI: $python lacks it (set PEER)"
	echo "$ours $bare ${peer:-0} $bytes ${ffcv:-0} ${dali:-0}" | awk -v mode=$mode -v px="$px" '{
		printf "loader %s %d px: %.0f images a CPU second, %.2f of libjpeg-turbo crop-decode (%.0f)",
			mode, px, $1, $1 / $2, $2
		printf "; as bytes %.0f", $4
		if ($3) printf ", %.1f times webdataset + torchvision (%.0f)", $1 / $3, $3
		if ($5) printf ", as bytes %.2f times FFCV (%.0f)", $4 / $5, $5
		if ($6) printf ", %.2f times DALI on the CPU (%.0f)", $1 / $6, $6
		print "" }'
done
