"""imagehash.phash on the JPEGs of a directory: photos a second of processor time."""
import glob
import io
import sys
import time

import imagehash
from PIL import Image

photos = [open(p, "rb").read() for p in sorted(glob.glob(sys.argv[1] + "/*.jpg"))]
best = 1e30
for _ in range(4):
    start = time.process_time()
    for b in photos:
        imagehash.phash(Image.open(io.BytesIO(b)))
    best = min(best, time.process_time() - start)
print(len(photos) / best)
