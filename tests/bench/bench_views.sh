#!/bin/sh
# Picture hashes a second on one core: ours and imagehash's on the same JPEGs.  PEER names a
# Python with imagehash.
set -eu

build=${WL_BUILD:-build/release}
python=${PEER:-python3}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

program=$build/tests/bench/bench_views
"$program" make "$dir" "${PHOTOS:-300}"
ours=$("$program" "$dir")
echo "$ours"
if ! "$python" -c 'import imagehash' 2>/dev/null; then
	echo "SKIPPED the imagehash side: $python has no imagehash (set PEER)"
	exit 0
fi
theirs=$(OMP_NUM_THREADS=1 "$python" tests/bench/peer_views.py "$dir")
rate() { echo "$ours" | sed "s/.*\"$1\": \([0-9.]*\).*/\1/"; }
echo "$(rate phash_full) $(rate phash_small) $(rate all_small) $theirs" |
	awk '{printf "phash: %.0f photos/s (same bits), %.0f small, %.0f with 27 hashes; imagehash %.0f: ratios %.1f, %.1f, %.1f (bar 8, and 900 photos/s)\n", $1, $2, $3, $4, $1/$4, $2/$4, $3/$4}'
