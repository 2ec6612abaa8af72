#!/usr/bin/env python3
"""The PyTorch side of bench_step.c: one training step of the `small` or `public` preset on the CPU, in
fp32 or under autocast to bf16, nothing frozen.

The same towers as the golden tests' (timm's B0 with a 256-wide head, Hugging Face's BERT with four
layers, torch.nn.TransformerEncoder), dropout 0.1 as in the preset, the RoI samples taken per
picture instead of from 37 copies of its feature map (kinder to PyTorch than the published code),
the averaged region before the 1x1 convolution, MoCo and AdamW with foreach updates.
Both memory layouts are timed and the faster one is reported.

With `compile` the four towers go through torch.compile (inductor); its minutes of compiling are in
the first two steps, which are not timed.

usage: peer_step.py [batch [px [threads [steps [fp32|bf16 [small|public [eager|compile]]]]]]]
"""
import json
import os
import resource
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import model as golden  # noqa: E402

BATCH, PX, THREADS, STEPS = (int(sys.argv[i]) if len(sys.argv) > i else d
                             for i, d in ((1, 16), (2, 128), (3, 2), (4, 5)))
PRECISION = sys.argv[5] if len(sys.argv) > 5 else "fp32"
MODEL = sys.argv[6] if len(sys.argv) > 6 else "small"
COMPILE = len(sys.argv) > 7 and sys.argv[7] == "compile"
LEN, VOCAB, K, DIM = (32, 8000, 1024, 256) if MODEL == "small" else (80, 21128, 9600, 2048)
CONFIG = dict(kind="b", width=1.0, depth=1.0, head=256, region=256, dim=DIM, size=PX, heads=4,
              layers=2, ffn=512, vocab=VOCAB, hidden=256, bert_layers=4, bert_heads=4,
              bert_ffn=1024, positions=128, pad_mask=True)
if MODEL == "public":
    CONFIG.update(width=1.6, depth=2.2, head=2048, region=2048, layers=4, ffn=2048, hidden=768,
                  bert_layers=12, bert_heads=12, bert_ffn=3072, positions=512, pad_mask=False)


class Image(golden.ImageTower):
    def forward(self, image, boxes, mask):
        f = self.backbone.forward_features(image)
        h, w = f.shape[2:]
        b = boxes / (self.size / h)
        t = (torch.arange(4) * 2 + 1) / 4 - 1
        x = ((b[..., 2:3] - b[..., 0:1]) * t + b[..., 0:1] + b[..., 2:3]) / (w - 1) - 1
        y = ((b[..., 3:4] - b[..., 1:2]) * t + b[..., 1:2] + b[..., 3:4]) / (h - 1) - 1
        n, r = mask.shape
        grid = torch.stack([x[:, :, None, :].expand(n, r, 4, 4),
                            y[:, :, :, None].expand(n, r, 4, 4)], -1).reshape(n, r, 16, 2)
        pooled = F.grid_sample(f, grid, align_corners=False).mean(3).transpose(1, 2)
        conv = self.learnable["max_pool"][0]
        regions = F.linear(pooled, conv.weight.flatten(1), conv.bias)
        regions = F.normalize(regions, dim=-1)
        x = self.learnable["imgAtt"](regions.transpose(0, 1),
                                     src_key_padding_mask=(mask == 0)).transpose(0, 1)
        return F.normalize(self.learnable["imgFC"](golden.masked_mean(x, mask)), dim=-1)


def with_dropout(module):
    for m in module.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.1
        if isinstance(m, nn.MultiheadAttention):
            m.dropout = 0.1
    return module.train()


def towers(layout):
    image, text = with_dropout(Image(CONFIG)), with_dropout(golden.TextTower(CONFIG))
    return image.to(memory_format=layout), text


def run(layout):
    torch.manual_seed(1)
    online, momentum = towers(layout), towers(layout)
    q = [p for m in online for p in m.parameters()]
    k = [p for m in momentum for p in m.parameters()]
    if COMPILE:
        online, momentum = ([torch.compile(m) for m in two] for two in (online, momentum))
    scale = nn.Parameter(torch.tensor(3.0))
    opt = torch.optim.AdamW(
        [{"params": [p for p in q if p.ndim > 1], "weight_decay": 0.05},
         {"params": [p for p in q if p.ndim <= 1] + [scale], "weight_decay": 0.0}],
        lr=5e-4, betas=(0.9, 0.98), eps=1e-6, foreach=True)
    queues = [F.normalize(torch.randn(K, DIM), dim=-1) for _ in range(2)]
    image = (torch.rand(BATCH, 3, PX, PX) * 4 - 2).to(memory_format=layout)
    cell = PX / 6
    boxes = torch.tensor([[[i % 6 * cell, i // 6 * cell, (i % 6 + 1) * cell, (i // 6 + 1) * cell]
                           for i in range(37)]]).repeat(BATCH, 1, 1)
    mask = torch.ones(BATCH, 37)
    ids = torch.randint(0, VOCAB, (BATCH, LEN))
    tmask = (torch.arange(LEN) < LEN // 2).float().repeat(BATCH, 1)
    zeros, at, times = torch.zeros(BATCH, dtype=torch.long), 0, []
    half = torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == "bf16")
    for step in range(STEPS + 2):
        begin = time.perf_counter()
        with torch.no_grad(), half:
            torch._foreach_mul_(k, 0.99)
            torch._foreach_add_(k, q, alpha=0.01)
            ki, kt = momentum[0](image, boxes, mask), momentum[1](ids, tmask)
        with half:
            qi, qt = online[0](image, boxes, mask), online[1](ids, tmask)
        ki, kt, qi, qt = ki.float(), kt.float(), qi.float(), qt.float()

        def nce(a, key, queue):
            logits = torch.cat([(a * key).sum(1, keepdim=True), a @ queue.t()], 1) * scale.exp()
            return F.cross_entropy(logits, zeros)

        loss = nce(qi, kt, queues[1]) + nce(qt, ki, queues[0])
        opt.zero_grad(set_to_none=False)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(q, 1.0, foreach=True)
        opt.step()
        queues[0][at:at + BATCH], queues[1][at:at + BATCH] = ki, kt
        at = (at + BATCH) % K
        if step >= 2:
            times.append(1000 * (time.perf_counter() - begin))
    return times


torch.set_num_threads(THREADS)
layouts = (torch.contiguous_format, torch.channels_last)
if MODEL != "small" or COMPILE:  # minutes a layout, and the second one is faster there
    layouts = layouts[1:]
results = {str(l).split(".")[-1]: run(l) for l in layouts}
best = min(results, key=lambda l: statistics.median(results[l]))
ms = results[best]
print(json.dumps({"system": "torch " + torch.__version__ + (" compiled" if COMPILE else ""),
                  "model": MODEL, "layout": best,
                  "precision": PRECISION,
                  "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                  "batch": BATCH, "px": PX, "threads": THREADS,
                  "ms_median": round(statistics.median(ms), 1), "ms_best": round(min(ms), 1),
                  "pairs_per_s": round(1000 * BATCH / statistics.median(ms), 2)}))
