#!/bin/sh
# Packing against cp + fsync, verifying against SHA-256 alone (bench_shard), and packing against
# webdataset's writer on the same pictures, all in one run, at three sizes of picture: Flickr8k-CN's
# photos (7 KB), mosaics of six of them (480 x 320, about 60 KB, as common on the web) and drawn ones
# (195 KB).  PICTURES names a folder of JPEGs, or a tar of them, to be measured instead; MB how large
# the corpora are; PEER a Python that has webdataset.
#
# Ours reads the corpus's segments, checks every picture against its hash, hashes the tars, and syncs
# tars and databases.  webdataset's writer has its pictures in memory, checks and hashes nothing, and
# its files are synced when it is done, since ours are.
set -eu

build=${WL_BUILD:-build/release} python=${PEER:-python3}
photos=${PICTURES:-../shared/data/flickr8kcn/train.tar}
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
mkdir "$dir/drawn" "$dir/photos" "$dir/mosaics"
code=0

# measure FOLDER MB SAMPLES [FROM]: of the pictures in FROM, or of drawn ones, left in FOLDER.
measure() {
	"$build/tests/bench/bench_shard" "$2" "$1" ${4:+"$4"} >"$dir/out" || code=$?
	cat "$dir/out"
	"$python" -c 'import webdataset' 2>/dev/null || {
		echo "SKIPPED webdataset writer: $python lacks it (set PEER)"
		return 0
	}
	ours=$(sed -n 's/.* \([0-9]*\) samples\/s; cp would make \([0-9]*\).*/\1 \2/p' "$dir/out")
	cpu=$(sed -n 's/.* \([0-9.]*\) us a sample.*/\1/p' "$dir/out")
	"$python" -W ignore tests/bench/peer_shard.py "${4:-$1}" "$3" >"$dir/peer"
	peer=$(sed 's/.*"samples_per_s": *\([0-9]*\).*"cpu_us": *\([0-9]*\).*/\1 \2/' "$dir/peer")
	echo "$ours $cpu $peer" | awk '{
		printf "shard: %d samples/s, %.1f times the webdataset writer (%d; bar 5; cp would be ",
			$1, $1 / $4, $4
		printf "%.1f) %s; processor time %.1f us a sample, its %d\n",
			$2 / $4, ($1 >= 5 * $4 ? "ok" : "BELOW"), $3, $5 }'
}

if [ -d "$photos" ]; then
	measure "$dir/photos" "${MB:-600}" 6000 "$photos"
elif [ -f "$photos" ]; then
	tar xf "$photos" -C "$dir/photos"
	measure "$dir/photos" "${MB:-400}" 20000 "$dir/photos"
else
	echo "SKIPPED photos: $photos is absent"
fi
[ -z "${PICTURES:-}" ] || exit $code
if [ -f "$photos" ]; then
	"$build/tests/bench/bench_loader" "$dir/set" "$dir/photos"
	tar xf "$dir/set/train-000000.tar" -C "$dir/mosaics" --wildcards '*.jpg'
	measure "$dir/mosaics" "${MB:-1200}" 12000 "$dir/mosaics"
fi
measure "$dir/drawn" "${MB:-1200}" 6000
exit $code
