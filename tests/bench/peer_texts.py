"""datasketch's MinHashLSH, and text-dedup's own embedding and clustering steps, on a file of texts.

    peer_texts.py datasketch|text-dedup FILE BANDS ROWS

The same shingles (runs of three characters), 128 permutations, bands and rows as ours.  Prints
processor seconds.
"""
import sys
import time

which, path, bands, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
lines = open(path, encoding="utf-8").read().split("\n")[:-1]
pairs = 0

if which == "datasketch":
    from datasketch import MinHash, MinHashLSH

    start = time.process_time()
    lsh = MinHashLSH(num_perm=128, params=(bands, rows))
    base = MinHash(num_perm=128)
    for i, s in enumerate(lines):
        m = base.copy()
        m.update_batch([s[k : k + 3].encode() for k in range(len(s) - 2)])
        pairs += len(lsh.query(m))
        lsh.insert(i, m, check_duplication=False)
else:
    from collections import defaultdict

    import numpy as np
    from text_dedup import minhash
    from text_dedup.utils import UnionFind, xxh3_32hash

    # ngrams() of text-dedup cuts at spaces and signs; a text with a space after every character
    # gives it our shingles.
    lines = [" ".join(s) for s in lines]
    start = time.process_time()
    prime = np.uint64((1 << 61) - 1)
    rng = np.random.RandomState(42)
    permutations = (
        rng.randint(1, prime, size=128, dtype=np.uint64),
        rng.randint(0, prime, size=128, dtype=np.uint64),
    )
    ranges = [(i * rows, (i + 1) * rows) for i in range(bands)]
    tables = [defaultdict(set) for _ in range(bands)]
    for i, s in enumerate(lines):
        got = minhash.embed_func(
            s, i, num_perm=128, ngram_size=3, min_length=1, hashranges=ranges,
            permutations=permutations, hash_func=xxh3_32hash, dtype=np.uint64,
            max_hash=np.uint64((1 << 32) - 1), modulo_prime=prime,
        )
        for key, table in zip(got["__signatures__"], tables):
            table[key].add(i)
    uf = UnionFind()
    for table in tables:
        for cluster in table.values():
            if len(cluster) > 1:
                first = min(cluster)
                for x in cluster:
                    uf.union(x, first)
                    pairs += x != first
print(time.process_time() - start, pairs)
