"""jieba's words of every line of a file, the character U+0001 behind each word; prints MB/s.

Usage: peer_segment.py IN OUT 1|0 (with the model or without)
"""
import logging
import sys
import time

import jieba

jieba.setLogLevel(logging.ERROR)
jieba.initialize()
with open(sys.argv[1], "rb") as f:
    lines = f.read().split(b"\n")
lines.pop()
hmm, size, spent = sys.argv[3] == "1", 0, 0.0
with open(sys.argv[2], "wb") as out:
    for raw in lines:
        text = raw.decode()
        start = time.process_time()
        words = jieba.lcut(text, HMM=hmm)
        spent += time.process_time() - start
        size += len(raw)
        out.write("".join(w + "\x01" for w in words).encode() + b"\n")
print("%.3f" % (size / spent / 1e6))
