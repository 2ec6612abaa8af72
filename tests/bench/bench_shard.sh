#!/bin/sh
# Packing against cp + fsync, verifying against SHA-256 alone (bench_shard), and packing against
# webdataset's writer on the same pictures, all in one run.  PEER names a Python that has webdataset.
set -eu

build=${WL_BUILD:-build/release} python=${PEER:-python3}
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
code=0
"$build/tests/bench/bench_shard" "${MB:-1200}" "$dir" >"$dir/out" || code=$?
cat "$dir/out"
if "$python" -c 'import webdataset' 2>/dev/null; then
	ours=$(sed -n 's/.* \([0-9]*\) samples\/s.*/\1/p' "$dir/out")
	peer=$("$python" -W ignore tests/bench/peer_shard.py "$dir" 6000 |
		sed 's/.*: *\([0-9]*\).*/\1/')
	echo "$ours $peer" | awk '{
		printf "shard: %d samples/s, %.1f times the webdataset writer (%d; bar 5) %s\n",
			$1, $1 / $2, $2, ($1 >= 5 * $2 ? "ok" : "BELOW") }'
else
	echo "SKIPPED webdataset writer: $python lacks it (set PEER)"
fi
exit $code
