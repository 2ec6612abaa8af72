"""Small pictures in formats that need a reference, with Pillow's pixels: image_formats.json.

    python3 tests/golden/image_formats.py > tests/golden/image_formats.json

Needs Pillow with WebP and AVIF (13.0).  Each case: name, the file (base64), its upright size, the
RGB pixels that it shows on white (base64) and by how many grey levels a decoder may differ.
"""
import base64
import io
import json

from PIL import Image

W, H = 20, 14

def picture(seed, mode="RGB", size=(W, H)):
    im = Image.new(mode, size)
    w, h = size
    for y in range(h):
        for x in range(w):
            v = ((x * 11 + seed * 40) % 256, (y * 17 + seed * 90) % 256, (x * y + seed) % 256)
            im.putpixel((x, y), v if mode == "RGB" else v + (0 if x < 5 and y < 4 else 255,))
    return im

def on_white(im):
    im = im.convert("RGBA")
    white = Image.new("RGBA", im.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, im).convert("RGB")

def case(name, data, tolerance, shown=None, turn=None):
    if shown is None:
        shown = on_white(Image.open(io.BytesIO(data)))
    if turn is not None:
        shown = shown.transpose(turn)
    return {
        "name": name,
        "file": base64.b64encode(data).decode(),
        "width": shown.width,
        "height": shown.height,
        "rgb": base64.b64encode(shown.tobytes()).decode(),
        "tolerance": tolerance,
    }

def save(im, fmt, **more):
    out = io.BytesIO()
    im.save(out, fmt, **more)
    return out.getvalue()

def main():
    frames = [picture(s) for s in range(3)]
    alpha = [picture(s, "RGBA") for s in range(3)]
    out = []
    pal = [f.quantize(64) for f in frames]
    out.append(case("gif", save(pal[0], "GIF"), 0))
    out.append(case("gif interlaced", save(pal[0], "GIF", interlace=1), 0))
    out.append(case("gif animated",
                    save(pal[0], "GIF", save_all=True, append_images=pal[1:], duration=50), 0))
    trans = Image.new("P", (W, H), 0)
    trans.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for x in range(W):
        trans.putpixel((x, x % H), 1)
        trans.putpixel((x, (x + 3) % H), 2)
    out.append(case("gif transparent", save(trans, "GIF", transparency=0), 0))
    out.append(case("webp animated", save(frames[0], "WEBP", save_all=True,
                                          append_images=frames[1:], lossless=True), 0))
    out.append(case("webp animated alpha", save(alpha[0], "WEBP", save_all=True, exact=True,
                                                append_images=alpha[1:], lossless=True), 1))
    big = picture(1, size=(34, 26))
    out.append(case("avif", save(big, "AVIF", quality=100, subsampling="4:4:4"), 3))
    out.append(case("avif 4:2:0", save(big, "AVIF", quality=90), 24))
    out.append(case("avif alpha", save(picture(2, "RGBA", (34, 26)), "AVIF", quality=100,
                                       subsampling="4:4:4"), 4))
    out.append(case("avif sequence", save(picture(0, size=(34, 26)), "AVIF", save_all=True,
                                          append_images=[big], quality=100,
                                          subsampling="4:4:4"), 3))
    # Pillow writes an EXIF orientation as irot and imir, and shows it applied.
    for o in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = o
        data = save(big, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
        turns = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
                 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
                 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
                 8: Image.Transpose.ROTATE_90}
        out.append(case("avif orientation %d" % o, data, 12, on_white(big), turns[o]))
    cmyk = big.convert("CMYK")
    jpeg = save(cmyk, "JPEG", quality=95)
    out.append(case("jpeg cmyk adobe", jpeg, 4))
    at = jpeg.index(b"\xff\xee")
    bare = jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2:at + 4], "big"):]
    out.append(case("jpeg cmyk without a marker", bare, 4))
    out.append(case("jpeg progressive grey", save(big.convert("L"), "JPEG", progressive=True), 2))
    print(json.dumps(out, indent=0))

main()
