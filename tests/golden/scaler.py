"""Makes scaler.json: the loss scale of torch.amp.GradScaler over steps of which some overflow, and
what AdamW with clipping makes of the unscaled gradients, for tests/test_optim.c.  Gradients come
from the generator of optim.py.

Run: python3 tests/golden/scaler.py > tests/golden/scaler.json
"""
import json

import torch

from counter import fill, unit

STEPS = 48


def run(init, interval):
    w = torch.nn.Parameter(fill(1, 0, 24, 2.0))
    opt = torch.optim.AdamW([w], lr=1e-2, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=init, growth_interval=interval)
    out = {"init": init, "interval": interval, "bad": [], "scale": [], "good": [], "w0": []}
    for step in range(STEPS):
        scaler.scale(torch.zeros(1))  # makes the scale's tensor
        bad = unit(7, 0, step) < 0.2
        w.grad = fill(2, step, 24, 1e-3) * scaler.get_scale()
        if bad:
            w.grad[step % 24] = float("inf") if step % 2 else float("nan")
        scaler.unscale_(opt)
        torch.nn.utils.clip_grad_norm_([w], 1e-3, error_if_nonfinite=False)
        scaler.step(opt)
        scaler.update()
        out["bad"].append(bad)
        out["scale"].append(scaler.get_scale())
        out["good"].append(scaler._get_growth_tracker())
        out["w0"].append(float(w[0]))
    out["w"] = w.tolist()
    return out


print(json.dumps([run(65536.0, 3), run(2.0**126, 2), run(1.0, 2000)]))
