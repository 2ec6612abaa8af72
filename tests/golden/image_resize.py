"""Makes image_resize.json: Pillow's LANCZOS resize of pseudo-random pictures, as SHA-256.

Needs Pillow before 12 (made with 9.4: newer ones do the vertical pass first where only the
width grows, which rounds otherwise); run as `python3 tests/golden/image_resize.py` from the repository root.  The
pictures come from a 32-bit linear congruential generator (Numerical Recipes' constants) that
test_image.c has too; half of them are smooth, since noise alone hides rounding at the ends.
"""
import hashlib
import json
import os

from PIL import Image

LANCZOS = getattr(Image, "Resampling", Image).LANCZOS
CASES = [  # width, height, channels, new width, new height
    (64, 48, 3, 32, 24), (100, 75, 3, 32, 32), (31, 57, 1, 32, 32), (257, 129, 1, 32, 32),
    (500, 333, 3, 224, 149), (8, 8, 1, 64, 64), (3, 200, 3, 32, 32), (640, 480, 1, 32, 32),
    (33, 33, 3, 33, 11), (33, 33, 3, 11, 33), (1, 1, 3, 7, 5), (50, 40, 3, 50, 40),
    (1200, 40, 1, 9, 8), (90, 91, 3, 91, 90),
]


def picture(w, h, ch, seed, smooth):
    x, out = seed, bytearray()
    for y in range(h):
        for i in range(w * ch):
            x = (1664525 * x + 1013904223) & 0xFFFFFFFF
            v = x >> 24
            if smooth:
                v = (i * 5 + y * 3 + (v & 7)) & 0xFF
            out.append(v)
    return bytes(out)


def main():
    cases = []
    for n, (w, h, ch, ow, oh) in enumerate(CASES):
        for smooth in (0, 1):
            raw = picture(w, h, ch, 1000 + n, smooth)
            im = Image.frombytes("RGB" if ch == 3 else "L", (w, h), raw)
            out = im.resize((ow, oh), LANCZOS)
            case = dict(width=w, height=h, channels=ch, seed=1000 + n, smooth=smooth,
                        out_width=ow, out_height=oh,
                        sha256=hashlib.sha256(out.tobytes()).hexdigest())
            if ch == 3:
                case["grey_sha256"] = hashlib.sha256(im.convert("L").tobytes()).hexdigest()
            cases.append(case)
    path = os.path.join(os.path.dirname(__file__), "image_resize.json")
    with open(path, "w") as f:
        json.dump(cases, f, indent=0)
        f.write("\n")


main()
