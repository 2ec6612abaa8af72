#!/usr/bin/env python3
"""Writes tests/golden/objective.json: what PyTorch computes for tests/test_objective.c: ten whole
training steps of cross-modal MoCo on two shrunken models (`public` and `paper`), the same with
extra positives, plain CLIP, the ViT tower, RoIAlign.

Run from the repository root with torch 2.x, torchvision, timm 0.4.12 and transformers 4.40:
    python3 tests/golden/objective.py
Weights and inputs come from names as in model.py; all is computed in double precision.
"""
import collections
import fnmatch
import functools
import json
import math
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torchvision.ops import roi_align

import model as base
from model import fill, flat, num, probe

OUT = os.path.join(os.path.dirname(__file__), "objective.json")
BATCH, REGIONS, LENGTH = 4, 6, 10
FREEZE = ["imgencoder.backbone.conv_stem.*", "imgencoder.backbone.bn1.*",
          "imgencoder.backbone.blocks.[0-2].*", "imgencoder.backbone.conv_head.*",
          "imgencoder.backbone.bn2.*", "textencoder.backbone.bert.embeddings.*",
          "textencoder.backbone.bert.encoder.layer.0.*"]
PUBLIC = dict(base.TINY, width=0.3, depth=0.6, pad_mask=False)
PAPER = dict(base.TINY, width=0.35, depth=0.75, bert_layers=3)


def batch(step, size, vocab):
    """Another batch each step; boxes and lengths stay."""
    x = fill("input.image.%d" % step, BATCH, size, size, 3).permute(0, 3, 1, 2).double()
    boxes, bmask = base.box_input(BATCH, REGIONS, size)
    ids = base.tokens("input.ids.%d" % step, vocab, BATCH, LENGTH)
    tmask = torch.ones(BATCH, LENGTH)
    for i in range(BATCH):
        tmask[i, LENGTH - i % 4 * 2:] = 0
        ids[i, LENGTH - i % 4 * 2:] = 0
    return x, boxes.double(), bmask.double(), ids, tmask.double()


def towers(c):
    image, text = base.ImageTower(c), base.TextTower(c)
    base.load(image, "imgencoder.").double().train()
    base.load(text, "textencoder.").double().train()
    return image, text


def named(image, text):
    out = {"imgencoder." + n: p for n, p in image.named_parameters()}
    out.update({"textencoder." + n: p for n, p in text.named_parameters()})
    return out


def optimiser(online, scale, freeze, lr, decay):
    moving = {n: p for n, p in online.items() if not any(fnmatch.fnmatch(n, f) for f in freeze)}
    for n, p in online.items():
        p.requires_grad_(n in moving)
    groups = [{"params": [p for p in moving.values() if p.ndim > 1], "weight_decay": decay},
              {"params": [p for p in moving.values() if p.ndim == 1], "weight_decay": 0.0}]
    if scale is not None:
        groups[1]["params"].append(scale)
    return moving, torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6)


def state_probes(tensors):
    """A norm and a probe of every tensor, by name."""
    return {n: probe(n, t) for n, t in sorted(tensors.items())}


def moco_case(c, steps, k, tau, learn, freeze, top=0, clip=0.0, lr=2e-4, decay=0.05, m=0.99,
              states=True):
    image, text = towers(c)
    image_k, text_k = towers(c)
    online, keys = named(image, text), named(image_k, text_k)
    scale = nn.Parameter(torch.tensor([-math.log(tau)], dtype=torch.float64),
                         requires_grad=learn)
    moving, opt = optimiser(online, scale if learn else None, freeze, lr, decay)
    img_queue = F.normalize(fill("img_queue", k, c["dim"]).double(), dim=-1)
    text_queue = F.normalize(fill("text_queue", k, c["dim"]).double(), dim=-1)
    ptr, out = 0, []
    for step in range(steps):
        x, boxes, bmask, ids, tmask = batch(step, c["size"], c["vocab"])
        with torch.no_grad():
            for n, p in keys.items():
                p.mul_(m).add_(online[n], alpha=1 - m)
            ki, kt = image_k(x, boxes, bmask), text_k(ids, tmask)
        qi, qt = image(x, boxes, bmask), text(ids, tmask)
        mask = torch.zeros(BATCH, k)
        if top:
            near = [torch.zeros(BATCH, k).scatter_(1, (a @ q.t()).topk(top, 1).indices, 1.0)
                    for a, q in ((kt, text_queue), (ki, img_queue))]
            mask = near[0] * near[1]
        mask = torch.cat([torch.ones(BATCH, 1), mask], 1)

        def nce(q, key, queue):
            logits = torch.cat([(q * key).sum(1, keepdim=True), q @ queue.t()], 1) * scale.exp()
            return -(F.log_softmax(logits, 1) * mask).sum() / BATCH

        i2t, t2i = nce(qi, kt, text_queue), nce(qt, ki, img_queue)
        opt.zero_grad()
        (i2t + t2i).backward()
        every = list(moving.values()) + ([scale] if learn else [])
        norm = torch.nn.utils.clip_grad_norm_(every, clip if clip else float("inf"))
        opt.step()
        with torch.no_grad():
            scale.clamp_(max=-math.log(0.01))
        at = [(ptr + i) % k for i in range(BATCH)]
        img_queue[at], text_queue[at] = ki, kt
        ptr = (ptr + BATCH) % k
        out.append({"i2t": num(i2t), "t2i": num(t2i), "norm": num(norm),
                    "tau": num((-scale).exp()), "extra": int(mask.sum()) - BATCH})
    result = {"config": c, "steps": out, "queue": k, "momentum": m, "tau": tau, "learn_tau": learn,
              "lr": lr, "weight_decay": decay, "clip": clip, "freeze": freeze, "top": top,
              "img_queue": probe("img_queue", img_queue),
              "text_queue": probe("text_queue", text_queue), "ptr": ptr}
    if states:
        result["online"] = state_probes(online)
        result["keys"] = state_probes(keys)
        result["exp_avg"] = state_probes({n: opt.state[p]["exp_avg"] for n, p in moving.items()})
        result["exp_avg_sq"] = state_probes({n: opt.state[p]["exp_avg_sq"]
                                             for n, p in moving.items()})
    return result


def clip_case(c, steps, tau, lr=2e-4, decay=0.05):
    image, text = towers(c)
    online = named(image, text)
    scale = nn.Parameter(torch.tensor([-math.log(tau)], dtype=torch.float64))
    moving, opt = optimiser(online, scale, [], lr, decay)
    out = []
    for step in range(steps):
        x, boxes, bmask, ids, tmask = batch(step, c["size"], c["vocab"])
        logits = scale.exp() * image(x, boxes, bmask) @ text(ids, tmask).t()
        labels = torch.arange(BATCH)
        i2t, t2i = F.cross_entropy(logits, labels), F.cross_entropy(logits.t(), labels)
        opt.zero_grad()
        ((i2t + t2i) / 2).backward()
        opt.step()
        out.append({"i2t": num(i2t), "t2i": num(t2i), "tau": num((-scale).exp())})
    watched = [n for i, n in enumerate(sorted(online)) if i % 8 == 0]
    return {"steps": out, "tau": tau, "lr": lr, "weight_decay": decay,
            "online": {n: probe(n, online[n]) for n in watched}}


class ViTTower(base.ImageTower):
    """The image tower over ViT's patch tokens as a feature map."""

    def __init__(self, c):
        nn.Module.__init__(self)
        self.backbone = VisionTransformer(
            img_size=c["size"], patch_size=16, embed_dim=c["vit"], depth=2, num_heads=4,
            num_classes=0, norm_layer=functools.partial(nn.LayerNorm, eps=1e-6))
        self.backbone.forward_features = self.map
        self.size = c["size"]
        self.learnable = nn.ModuleDict(collections.OrderedDict(
            imgFC=base.MLP(c["region"], c["dim"]),
            imgAtt=base.attention(c["region"], c["heads"], c["layers"], c["ffn"]),
            max_pool=nn.Sequential(nn.Conv2d(c["vit"], c["region"], 1), nn.AvgPool2d(4, 4))))

    def map(self, x):
        v = self.backbone
        side = self.size // 16
        x = v.patch_embed(x)
        x = torch.cat([v.cls_token.expand(len(x), -1, -1), x], 1) + v.pos_embed
        x = v.norm(v.blocks(x))[:, 1:]
        return x.transpose(1, 2).reshape(len(x), -1, side, side)


def roi_case():
    """torchvision's roi_align, averaged over its 4x4 bins; boxes inside, outside, empty."""
    size = 128.0
    m = fill("roi.map", 2, 4, 5, 7).double().permute(0, 3, 1, 2).contiguous().requires_grad_()
    boxes = torch.tensor([[0, 0, 128, 128], [10, 20, 60, 50], [0, 0, 0, 0], [100, 100, 128, 128],
                          [3, 90, 5, 127], [64, 0, 128, 64], [-20, -30, 150, 170],
                          [120, 5, 127, 9]], dtype=torch.float64)
    # Maps need not be square: scale each axis to the map and hand over feature pixels.
    feature = boxes * torch.tensor([5 / size, 4 / size, 5 / size, 4 / size], dtype=torch.float64)
    index = torch.tensor([[0.0]] * 4 + [[1.0]] * 4, dtype=torch.float64)
    y = roi_align(m, torch.cat([index, feature], 1), (4, 4), 1.0, 2, True).mean((2, 3))
    y.backward(fill("roi.probe", 8, 7).double())
    return {"boxes": flat(boxes), "y": flat(y), "grad": flat(m.grad.permute(0, 2, 3, 1))}


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    c = dict(base.TINY, vit=32)
    boxes, bmask = base.box_input(4, 6, c["size"])
    out = {
        "public": moco_case(PUBLIC, 10, 16, 0.07, False, FREEZE),
        "paper": moco_case(PAPER, 10, 24, 0.05, True, [], clip=1.0),
        "extra": moco_case(PUBLIC, 4, 12, 0.07, False, FREEZE, top=4, states=False),
        "clip": clip_case(base.TINY, 5, 0.07),
        "vit": base.tower_case(ViTTower(c), "imgencoder.",
                               (base.image_input(4, c["size"]), boxes, bmask)),
        "roi_align": roi_case(),
    }
    with open(OUT, "w") as f:
        json.dump(out, f, indent=0, separators=(",", ":"))


if __name__ == "__main__":
    main()
