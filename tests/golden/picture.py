#!/usr/bin/env python3
"""Pages of text and QR codes for tests/test_picture.c, drawn with Pillow, a Chinese font
(WenQuanYi Micro Hei) and qrencode:  picture.py OUT_DIR"""
import os
import random
import subprocess
import sys

from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"
TEXT = ("在人类文明的发展过程中图像与文字一直是传递信息的两种重要方式计算机视觉和自然语言处理的结合"
        "使机器能够同时理解图片和句子从而完成检索问答生成等任务本文介绍一个大规模中文图文预训练模型"
        "并说明数据收集清洗与训练的全过程希望对后来者有所帮助。")


def page(size, fg, bg, px, rng, gap=1.5):
    im = Image.new("RGB", size, bg)
    d = ImageDraw.Draw(im)
    font = ImageFont.truetype(FONT, px)
    y = px
    while y < size[1] - 2 * px:
        n = rng.randint(int(size[0] / px * 0.5), int(size[0] / px) - 2)
        start = rng.randrange(len(TEXT))
        d.text((px, y), (TEXT + TEXT)[start:start + n], fill=fg, font=font)
        y += int(px * gap)
    return im


def qr(text, module):
    path = "/tmp/picture-qr.png"
    subprocess.check_call(["qrencode", "-s", str(module), "-m", "2", "-o", path, text])
    im = Image.open(path).convert("RGB")
    os.remove(path)
    return im


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    rng = random.Random(1)
    pages = {
        "text-article": page((400, 480), (20, 20, 20), (255, 255, 255), 18, rng),
        "text-small": page((400, 400), (60, 60, 60), (250, 250, 245), 13, rng),
        "text-dark": page((480, 480), (220, 220, 220), (25, 28, 33), 20, rng),
        "text-colour": page((500, 400), (180, 30, 30), (250, 230, 160), 24, rng),
        "text-big": page((720, 900), (0, 0, 0), (255, 255, 255), 32, rng),
    }
    # A poster: a code below a gradient with a headline.
    poster = Image.new("RGB", (400, 520))
    for y in range(520):
        for x in range(400):
            poster.putpixel((x, y), (200 - y // 4, 120 + x // 8, 180))
    ImageDraw.Draw(poster).text((40, 30), "扫码关注", fill=(255, 255, 255),
                                font=ImageFont.truetype(FONT, 64))
    code = qr("https://example.com/wenlan/poster", 7)
    poster.paste(code, (80, 180))
    turned = Image.new("RGB", (400, 400), (240, 240, 240))
    turned.paste(qr("WIFI:S:example;T:WPA;P:example;;", 8).rotate(12, expand=True,
                                                                fillcolor=(240, 240, 240)), (40, 40))
    codes = {"qr-plain": qr("https://example.com/", 8), "qr-poster": poster, "qr-turned": turned}
    for name, im in {**pages, **codes}.items():
        im.save(os.path.join(out, name + ".jpg"), quality=50)


main()
