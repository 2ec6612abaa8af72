"""Makes phash.json: hashes by imagehash 4.3.2 on Debian 12 (Pillow 9.4, scipy 1.10) of pictures
drawn here (PNG bytes inside, base64), and of Tux Paint stamps and Flickr8k-CN photos by name.

Pillow 13 resizes tall, narrow pictures by the other axis first, so that their last bits differ
(1 of 89 stamps); up to there every version agrees.

Run: python3 tests/golden/phash.py > tests/golden/phash.json
"""
import base64
import glob
import io
import json
import os
import tarfile

import imagehash
import numpy as np
from PIL import Image, ImageDraw

rng = np.random.default_rng(7)
drawn, stamps, photos = [], {}, {}


def on_white(im):
    """Alpha laid on white, rounded as ingest/image.c rounds."""
    if im.mode == "P" or "transparency" in im.info or im.mode == "LA":
        im = im.convert("RGBA")
    if im.mode != "RGBA":
        return im.convert("RGB")
    a = np.asarray(im).astype(np.uint32)
    t = a[..., :3] * a[..., 3:] + 255 * (255 - a[..., 3:])
    return Image.fromarray(((t + 127) // 255).astype(np.uint8), "RGB")


def add(im):
    b = io.BytesIO()
    im.save(b, "PNG", optimize=True)
    drawn.append([base64.b64encode(b.getvalue()).decode(), str(imagehash.phash(on_white(im)))])


for v in (0, 1, 127, 128, 254, 255):
    add(Image.new("RGB", (40, 30), (v, v, v)))
for size in ((32, 32), (64, 64), (33, 47), (7, 5), (1, 1), (200, 3), (150, 100)):
    im = Image.new("RGB", size, "white")
    d = ImageDraw.Draw(im)
    w, h = size
    d.ellipse((w // 4, h // 4, 3 * w // 4, 3 * h // 4), fill=(200, 30, 30))
    add(im)
    d.rectangle((0, 0, w // 2, h // 2), fill=(20, 90, 220))
    add(im)
for n in (16, 32, 50):
    add(Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8), "RGB"))
    half = rng.integers(0, 256, (n, n, 3), dtype=np.uint8)
    add(Image.fromarray(np.minimum(half, half[:, ::-1]), "RGB"))
ramp = np.tile(np.arange(96, dtype=np.uint8), (64, 1))
add(Image.fromarray(ramp, "L"))
add(Image.fromarray(np.dstack([ramp, ramp.copy(), 255 - ramp, ramp * 2]), "RGBA"))

for path in sorted(glob.glob("/usr/share/tuxpaint/stamps/**/*.png", recursive=True))[::9]:
    name = os.path.relpath(path, "/usr/share/tuxpaint/stamps")
    stamps[name] = str(imagehash.phash(on_white(Image.open(path))))
tar = tarfile.open("../shared/data/flickr8kcn/val.tar")
for m in [m for m in tar if m.name.endswith(".jpg")][::20]:
    photos[m.name] = str(imagehash.phash(Image.open(tar.extractfile(m)).convert("RGB")))
print(json.dumps({"drawn": drawn, "stamps": stamps, "photos": photos}, indent=0))
