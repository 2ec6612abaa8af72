"""Goldens for loader/: torchvision's colour operations, blur and antialiased resized crops on
small float pictures.  Usage: python3 augment.py  (writes augment.json and augment.bin here).
Made with torch 2.3.1, torchvision 0.18.1."""
import json, os
import numpy as np
import torch
import torchvision.transforms.functional as F

S = 24
HERE = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(7)
blob, cases = bytearray(), []


def put(a):
    blob.extend(b"\0" * (-len(blob) % 4))
    at = len(blob)
    blob.extend(np.ascontiguousarray(a).tobytes())
    return at


def picture(h, w):
    """Smooth shapes plus noise, some saturated and some grey pixels: uint8 [h, w, 3]."""
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([127 + 120 * np.sin(x / 5 + c) * np.cos(y / 7 - c) for c in range(3)], -1)
    a = a + rng.normal(0, 25, a.shape)
    a[: h // 5, : w // 5] = a[: h // 5, : w // 5, :1]  # grey: hue undefined
    return np.clip(np.rint(a), 0, 255).astype(np.uint8)


src = picture(S, S)
img = torch.from_numpy(src).permute(2, 0, 1).float() / 255
src_at = put(src)
OPS = {0: F.adjust_brightness, 1: F.adjust_contrast, 2: F.adjust_saturation, 3: F.adjust_hue}


def colour(name, order, factor, grey=0, sigma=0.0):
    out = img
    for part in order:
        if part >= 0:
            out = OPS[part](out, factor[part])
    if grey:
        out = F.rgb_to_grayscale(out, 3)
    if sigma:
        k = 2 * int(np.ceil(3 * sigma)) + 1
        out = F.gaussian_blur(out, [k, k], [sigma, sigma])
    cases.append(dict(name=name, kind="colour", order=order, factor=factor, grey=grey,
                      sigma=sigma, at=put(out.permute(1, 2, 0).numpy().astype("<f4"))))


NONE = [1.0, 1.0, 1.0, 0.0]
for f in (0.6, 1.4):
    colour(f"brightness {f}", [0, -1, -1, -1], [f, 1, 1, 0])
    colour(f"contrast {f}", [1, -1, -1, -1], [1, f, 1, 0])
    colour(f"saturation {f}", [2, -1, -1, -1], [1, 1, f, 0])
for f in (-0.5, -0.1, 0.1, 0.37):
    colour(f"hue {f}", [3, -1, -1, -1], [1, 1, 1, f])
colour("grey", [-1] * 4, NONE, grey=1)
for s in (0.3, 1.3, 2.0):
    colour(f"blur {s}", [-1] * 4, NONE, sigma=s)
colour("chain 2013 grey", [2, 0, 1, 3], [1.3, 0.7, 1.2, -0.08], grey=1)
colour("chain 3120 blur", [3, 1, 2, 0], [0.8, 1.35, 0.65, 0.1], sigma=1.1)
colour("chain 1203", [1, 2, 0, 3], [1.25, 0.6, 1.4, 0.05])


def resize(name, h, w, crop, flip=0):
    a = picture(h, w)
    x, y, cw, ch = crop
    t = torch.from_numpy(a).permute(2, 0, 1).float() / 255
    out = F.resized_crop(t, y, x, ch, cw, [S, S], antialias=True)
    if flip:
        out = F.hflip(out)
    cases.append(dict(name=name, kind="resize", width=w, height=h, crop=list(crop), flip=flip,
                      src=put(a), at=put(out.permute(1, 2, 0).numpy().astype("<f4"))))


resize("down whole", 61, 87, (0, 0, 87, 61))
resize("down crop flip", 61, 87, (11, 7, 53, 40), 1)
resize("up", 9, 13, (2, 1, 10, 7))
resize("same size", S, S, (0, 0, S, S))
resize("down and up", 15, 90, (3, 2, 80, 12))
resize("one pixel", 10, 10, (4, 4, 1, 1))

with open(os.path.join(HERE, "augment.bin"), "wb") as f:
    f.write(blob)
with open(os.path.join(HERE, "augment.json"), "w") as f:
    json.dump(dict(side=S, src=src_at, cases=cases), f, indent=0)
    f.write("\n")
