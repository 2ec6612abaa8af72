"""Reads a shard set with the public webdataset package (and its wids half where present) and
compares every sample with the databases.  Run by tests/test_pack.c; exit 0 when all agree."""
import glob
import hashlib
import json
import os
import sqlite3
import sys

import webdataset as wds


def main(root):
    manifest = sqlite3.connect(os.path.join(root, "manifest.db"))
    total = 0
    for name, split, count in manifest.execute("SELECT name, split, samples FROM shard"):
        tar = os.path.join(root, name + ".tar")
        rows = sqlite3.connect(os.path.join(root, name + ".db")).execute(
            "SELECT key, pair_id, jpg_offset, jpg_length, sha256 FROM sample ORDER BY idx").fetchall()
        samples = list(wds.WebDataset(tar, shardshuffle=False))
        assert len(samples) == count == len(rows), (name, len(samples), count)
        with open(os.path.join(root, name + ".idx")) as f:
            head, *lines = f.read().splitlines()
        assert head == "v1.2 %d" % count, head
        for sample, row, line in zip(samples, rows, lines):
            key, pair_id, offset, length, digest = row
            assert sample["__key__"] == key
            assert set(sample) >= {"jpg", "txt", "json"}
            assert hashlib.sha256(sample["jpg"]).digest() == digest
            facts = json.loads(sample["json"])
            assert facts["pair_id"] == pair_id
            assert sample["txt"].decode() == facts["captions"][0]
            ext, at, size, member = line.split()[:4]
            assert (ext, int(at), int(size), member) == ("jpg", offset, length, key + ".jpg")
        total += count
    for path in glob.glob(os.path.join(root, "wids-*.json")):
        index = json.load(open(path))
        assert index["wids_version"] == 1
        for shard in index["shardlist"]:
            assert os.path.getsize(os.path.join(root, shard["url"])) == shard["filesize"]
        try:
            import wids
        except ImportError:
            continue
        dataset = wids.ShardListDataset(path)
        assert len(dataset) == sum(s["nsamples"] for s in index["shardlist"])
    assert total > 0
    print("%d samples agree" % total)


main(sys.argv[1])
