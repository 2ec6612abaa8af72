#!/usr/bin/env python3
"""The PyTorch side of bench_gpu.c, on the same GPU: EfficientNet-B7 at 600 px with BriVL's head over
37 regions, a BERT of RoBERTa-large's size at 80 tokens, and the whole MoCo step of both (two
momentum towers, two queues, fused AdamW, clipping), under autocast to bf16, channels last, eager or
compiled.

timm's B7 where it can be imported, else torchvision's; the BERT is Hugging Face's where there is
one, else torch.nn's, both with the fused attention.  Rows have the names of bench_gpu's.

usage: peer_gpu.py [--batch 32] [--px 600] [--steps 10] [--how eager|compiled] [--what step|towers]
                   [--rows FILE] [--device cpu --tiny]
       peer_gpu.py --ratio FILE    what bench_gpu and this wrote there: ratios, and a table
"""
import argparse
import json
import sys
import time

ap = argparse.ArgumentParser(usage=__doc__)
ap.add_argument("--batch", type=int, default=32)
ap.add_argument("--px", type=int, default=600)
ap.add_argument("--steps", type=int, default=10)
ap.add_argument("--how", default="eager", choices=("eager", "compiled"))
ap.add_argument("--what", default="step", choices=("step", "towers"))
ap.add_argument("--device", default="cuda")
ap.add_argument("--tiny", action="store_true")
ap.add_argument("--rows")
ap.add_argument("--ratio")
A = ap.parse_args()
BAR = 1.5  # issue 7: against PyTorch, on the step


def ratios(path):
    ours, peers = {}, []
    for line in open(path):
        try:
            r = json.loads(line)
        except ValueError:
            continue
        if "system" in r:
            peers.append(r)
        elif "ms" in r:
            ours[r["row"]] = r
    for p in peers:
        o = ours.get(p["row"])
        if not o or o.get("batch") != p["batch"]:
            print(f"{p['row']}: no row of ours with batch {p['batch']}")
            continue
        ratio = p["ms"] / o["ms"]
        row = {"row": f"{p['row']}, against {p['system']} {p['how']}", "value": round(ratio, 3),
               "unit": "times"}
        if "step" in p["row"] and p["device"] == "cuda":
            row.update(bar=BAR, verdict="pass" if ratio >= BAR else "fail")
        print(json.dumps(row))
        print(f"  ours {o['ms']:.1f} ms, {p['how']} {p['ms']:.1f} ms")


if A.ratio:
    ratios(A.ratio)
    sys.exit(0)

import torch  # noqa: E402
import torch.nn as nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402

DEV, REGIONS, LAYERS = torch.device(A.device), 37, 4
WIDE, DEEP, HEADS, VOCAB, LEN = (64, 2, 4, 1000, 16) if A.tiny else (1024, 24, 16, 21128, 80)
DIM, K = (64, 64) if A.tiny else (2560, 9600)
BATCH = A.batch
K = K // BATCH * BATCH or BATCH
torch.backends.cudnn.benchmark = True


def backbone():
    """The convolutional part, its channels and where it comes from."""
    name = "b0" if A.tiny else "b7"
    try:
        import timm
        m = timm.create_model("tf_efficientnet_" + name, num_classes=0)
        return m.forward_features, m, m.num_features, "timm " + timm.__version__
    except Exception as why:  # not there, or not for this torch
        print(f"timm is not used: {type(why).__name__}: {why}", file=sys.stderr)
        import torchvision
        m = getattr(torchvision.models, "efficientnet_" + name)()
        return m.features, m, m.classifier[1].in_features, "torchvision"


class Image(nn.Module):
    def __init__(self):
        super().__init__()
        self.features, self.net, c, self.of = backbone()
        layer = nn.TransformerEncoderLayer(DIM, HEADS if A.tiny else 32, DIM, 0.1, batch_first=True)
        self.project = nn.Linear(c, DIM)
        self.mix = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.out = nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, DIM))

    def forward(self, x, grid):
        f = F.grid_sample(self.features(x).float(), grid, align_corners=False)  # [B,C,R,16]
        regions = F.normalize(self.project(f.mean(3).transpose(1, 2)), dim=-1)
        return F.normalize(self.out(self.mix(regions).mean(1)), dim=-1)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDE, HEADS, 4 * WIDE, 0.1, "gelu", batch_first=True)
        self.words = nn.Embedding(VOCAB, WIDE)
        self.layers = nn.TransformerEncoder(layer, DEEP, enable_nested_tensor=False)

    def forward(self, ids):
        return self.layers(self.words(ids))


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        try:
            from transformers import BertConfig, BertModel
            self.bert = BertModel(BertConfig(VOCAB, WIDE, DEEP, HEADS, 4 * WIDE),
                                  add_pooling_layer=False)
            self.of = "transformers"
        except Exception as why:
            print(f"transformers is not used: {type(why).__name__}: {why}", file=sys.stderr)
            self.bert, self.of = Plain(), "torch.nn"
        self.out = nn.Sequential(nn.Linear(WIDE, DIM), nn.ReLU(), nn.Linear(DIM, DIM))

    def forward(self, ids):
        h = self.bert(ids)
        h = h if torch.is_tensor(h) else h.last_hidden_state
        return F.normalize(self.out(h.mean(1)), dim=-1)


def wait():
    if DEV.type == "cuda":
        torch.cuda.synchronize()


def row(name, seconds, of):
    r = {"row": name, "system": "torch " + torch.__version__, "how": A.how, "of": of,
         "device": DEV.type, "batch": BATCH, "ms": round(1e3 * seconds, 3), "value": round(BATCH / seconds, 2),
         "unit": "a second"}
    text = json.dumps(r)
    print(text, flush=True)
    if A.rows:
        with open(A.rows, "a") as f:
            f.write(text + "\n")


def timed(once):
    for _ in range(3):  # compiling is in the first two
        once()
    wait()
    begin = time.perf_counter()
    for _ in range(A.steps):
        once()
    wait()
    return (time.perf_counter() - begin) / A.steps


def half():
    return torch.autocast(DEV.type, torch.bfloat16)


def inputs():
    image = (torch.rand(BATCH, 3, A.px, A.px, device=DEV) * 4 - 2).to(
        memory_format=torch.channels_last)
    grid = torch.rand(BATCH, REGIONS, 16, 2, device=DEV) * 2 - 1
    return image, grid, torch.randint(0, VOCAB, (BATCH, LEN), device=DEV)


def towers():
    two = Image().to(DEV, memory_format=torch.channels_last).train(), Text().to(DEV).train()
    return list(two), [torch.compile(m) if A.how == "compiled" else m for m in two]


def bench_towers():
    image, grid, ids = inputs()
    plain, run = towers()

    def both(m, args, backward):
        def once():
            with half(), torch.set_grad_enabled(backward):
                y = m(*args)
            if backward:
                plain_of.zero_grad(set_to_none=True)
                y.float().sum().backward()
        return once

    for name, plain_of, m, args in (("image tower", plain[0], run[0], (image, grid)),
                                    ("text tower", plain[1], run[1], (ids,))):
        row(name + ", forward and backward", timed(both(m, args, True)), plain_of.of)
        if name == "image tower":
            row(name + ", forward (momentum)", timed(both(m, args, False)), plain_of.of)


def bench_step():
    image, grid, ids = inputs()
    (plain, online), (other, momentum) = towers(), towers()
    q = [p for m in plain for p in m.parameters()]
    k = [p for m in other for p in m.parameters()]
    scale = nn.Parameter(torch.tensor(3.0, device=DEV))
    opt = torch.optim.AdamW(
        [{"params": [p for p in q if p.ndim > 1], "weight_decay": 0.05},
         {"params": [p for p in q if p.ndim <= 1] + [scale], "weight_decay": 0.0}],
        lr=1e-4, betas=(0.9, 0.98), eps=1e-6, fused=DEV.type == "cuda" or None)
    queues = [F.normalize(torch.randn(K, DIM, device=DEV), dim=-1) for _ in range(2)]
    zeros = torch.zeros(BATCH, dtype=torch.long, device=DEV)
    at = 0

    def nce(a, key, queue):
        logits = torch.cat([(a * key).sum(1, keepdim=True), a @ queue.t()], 1) * scale.exp()
        return F.cross_entropy(logits.float(), zeros)

    def once():
        nonlocal at
        with torch.no_grad(), half():
            torch._foreach_lerp_(k, q, 0.01)
            ki, kt = momentum[0](image, grid), momentum[1](ids)
        with half():
            qi, qt = online[0](image, grid), online[1](ids)
            loss = nce(qi, kt, queues[1]) + nce(qt, ki, queues[0])
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(q, 1.0, foreach=True)
        opt.step()
        queues[0][at:at + BATCH], queues[1][at:at + BATCH] = ki.float(), kt.float()
        at = (at + BATCH) % K

    row("training step, everything", timed(once), plain[0].of + ", " + plain[1].of)


try:
    bench_step() if A.what == "step" else bench_towers()
except Exception as why:  # a peer that cannot is said, not hidden
    print(f"SKIPPED PyTorch's {A.what}, {A.how}: {type(why).__name__}: {why}", flush=True)
