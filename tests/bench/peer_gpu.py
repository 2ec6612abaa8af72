#!/usr/bin/env python3
"""The PyTorch side of bench_gpu.c: EfficientNet-B7 and a BERT of RoBERTa-large's size, forward and
backward under autocast to bf16, channels last, eager and compiled.  timm and transformers where they
are there, else torchvision and torch.nn.

usage: peer_gpu.py [batch [px [steps]]]
"""
import json
import sys
import time

import torch
import torch.nn as nn

BATCH, PX, STEPS = (int(sys.argv[i]) if len(sys.argv) > i else d
                    for i, d in ((1, 32), (2, 600), (3, 10)))
torch.backends.cudnn.benchmark = True


def image_tower():
    try:
        import timm
        return timm.create_model("tf_efficientnet_b7", num_classes=0)
    except ImportError:
        import torchvision
        return torchvision.models.efficientnet_b7()


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(1024, 16, 4096, 0.1, "gelu", batch_first=True)
        self.words = nn.Embedding(21128, 1024)
        self.layers = nn.TransformerEncoder(layer, 24, enable_nested_tensor=False)

    def forward(self, ids):
        return self.layers(self.words(ids))


def seconds(model, x, backward, step=None):
    def once():
        with torch.autocast("cuda", torch.bfloat16):
            y = model(x)
        if backward:
            model.zero_grad(set_to_none=True)
            y.float().sum().backward()

    with torch.enable_grad() if backward else torch.no_grad():
        for _ in range(3):
            once()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(STEPS):
            once()
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / STEPS


def rows(name, model, x):
    for how in ("eager", "compiled"):
        try:
            m = model if how == "eager" else torch.compile(model)
            for backward in (True, False):
                s = seconds(m, x, backward)
                print(json.dumps({"row": name + (", forward and backward" if backward
                                                 else ", forward"),
                                  "system": "torch " + torch.__version__, "how": how,
                                  "batch": BATCH, "ms": round(1e3 * s, 2),
                                  "per_s": round(BATCH / s, 1)}), flush=True)
        except Exception as e:  # a peer that cannot is said, not hidden
            print(f"SKIPPED {name} {how}: {type(e).__name__}: {e}", flush=True)


images = torch.rand(BATCH, 3, PX, PX, device="cuda").to(memory_format=torch.channels_last)
rows("image tower", image_tower().cuda().to(memory_format=torch.channels_last).train(), images)
rows("text tower", Text().cuda().train(), torch.randint(0, 21128, (BATCH, 80), device="cuda"))
