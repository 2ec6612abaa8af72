"""JPEGs with 12 bits a sample and libjpeg-turbo's own reading of them: image_jpeg12.json.

    python3 tests/golden/image_jpeg12.py > tests/golden/image_jpeg12.json

Needs imagecodecs, whose wheel has libjpeg-turbo's 12-bit interface.  The form is that of
image_formats.json: the pixels are scaled to 8 bits.
"""
import base64
import json

import imagecodecs
import numpy


def case(name, data):
    shown = imagecodecs.jpeg_decode(data)
    if shown.ndim == 2:
        shown = numpy.repeat(shown[:, :, None], 3, axis=2)
    shown = numpy.rint(shown.astype(float) * 255 / 4095).astype(numpy.uint8)
    return {
        "name": name,
        "file": base64.b64encode(data).decode(),
        "width": shown.shape[1],
        "height": shown.shape[0],
        "rgb": base64.b64encode(shown.tobytes()).decode(),
        "tolerance": 1,
    }


def main():
    y, x = numpy.mgrid[0:29, 0:45]
    rgb = numpy.stack([(x * 91) % 4096, (y * 141) % 4096, (x * y * 3) % 4096], axis=2)
    rgb = rgb.astype(numpy.uint16)
    grey = rgb[:, :, 2].copy()
    out = [case("jpeg 12 bits grey", imagecodecs.jpeg_encode(grey, level=95, bitspersample=12))]
    for sub in "444", "422", "420":
        data = imagecodecs.jpeg_encode(rgb, level=95, subsampling=sub, bitspersample=12)
        out.append(case("jpeg 12 bits " + sub, data))
    print(json.dumps(out, indent=0))


main()
