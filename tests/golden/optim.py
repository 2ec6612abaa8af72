"""Makes optim.json: PyTorch's AdamW (two parameter groups), gradient clipping and learning-rate
schedule, for tests/test_optim.c.  Values and gradients come from a counter-based generator that
both sides implement (ops/hash.h: wl_rand_unit), so only results are stored.

Run: python3 tests/golden/optim.py > tests/golden/optim.json
"""
import json

import torch

from counter import fill

LR, FLOOR, WARMUP, TOTAL = 2e-2, 1e-3, 4, 16
w = torch.nn.Parameter(fill(1, 0, 24, 2.0).reshape(4, 6))  # decayed
b = torch.nn.Parameter(fill(1, 1, 6, 2.0))                 # a bias: not decayed
opt = torch.optim.AdamW(
    [{"params": [w], "weight_decay": 0.1}, {"params": [b], "weight_decay": 0.0}],
    lr=LR, betas=(0.9, 0.98), eps=1e-6)
warm = torch.optim.lr_scheduler.LinearLR(opt, 1.0 / WARMUP, total_iters=WARMUP - 1)
cos = torch.optim.lr_scheduler.CosineAnnealingLR(opt, TOTAL - WARMUP, eta_min=FLOOR)
lrs, norms, track = [], [], []
for step in range(TOTAL):
    if step == WARMUP:  # the cosine takes over at the base rate
        for g in opt.param_groups:
            g["lr"] = LR
    lrs.append(opt.param_groups[0]["lr"])
    w.grad = fill(2, 2 * step, 24, 3.0).reshape(4, 6)
    b.grad = fill(2, 2 * step + 1, 6, 3.0)
    norms.append(float(torch.nn.utils.clip_grad_norm_([w, b], 4.0)))
    opt.step()
    (warm if step < WARMUP - 1 else cos).step() if step != WARMUP - 1 else None
    track.append([float(w[0, 0]), float(b[5])])
print(json.dumps({"lr": lrs, "norm": norms, "track": track, "w": w.flatten().tolist(),
                  "b": b.tolist()}))
