#!/usr/bin/env python3
"""Writes tests/golden/model.json: what PyTorch computes for small models, for tests/test_model.c.

Run from the repository root with torch 2.x, timm 0.4.12 and transformers 4.40:
    python3 tests/golden/model.py
All is computed in double precision, so that the differences seen are those of the C side.
Nothing random is stored: every weight and input is a function of its name and index (fill()),
which tests/support/fill.c repeats.  Outputs are kept as they are; gradients as two numbers a
parameter: the norm, and the dot product with fill("probe." + name).
The towers are written from the description of the public BriVL code (layers, names, defaults).
"""
import collections
import json
import math
import os
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import timm
from timm.models import efficientnet as te
from transformers import BertConfig, BertModel

OUT = os.path.join(os.path.dirname(__file__), "model.json")
MASK = (1 << 64) - 1


# ---- values from names ----

def fnv1a(name):
    h = 0xcbf29ce484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001b3) & MASK
    return h


def mix64(x):
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9e3779b97f4a7c15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
        return x ^ (x >> np.uint64(31))


def bits(name, n):
    with np.errstate(over="ignore"):
        return mix64(np.uint64(fnv1a(name)) + np.arange(n, dtype=np.uint64)) >> np.uint64(40)


def fill(name, *shape):
    """Uniform in [-1, 1), exact in float32."""
    n = int(np.prod(shape)) if shape else 1
    v = bits(name, n).astype(np.float64) * 2.0 ** -23 - 1.0
    return torch.from_numpy(v.astype(np.float32).reshape(shape))


def weight(name, shape):
    x = fill(name, *shape)
    if len(shape) == 1:
        if name.endswith("running_var"):
            return 1 + 0.5 * x
        if name.endswith("weight"):
            return 1 + np.float32(0.1) * x
        return np.float32(0.1) * x
    fan_in = int(np.prod(shape[1:]))
    return np.float32(1.5 * math.sqrt(3.0 / fan_in)) * x


def load(module, prefix=""):
    state = collections.OrderedDict()
    for k, v in module.state_dict().items():
        state[k] = weight(prefix + k, tuple(v.shape)) if v.dtype.is_floating_point else v
    module.load_state_dict(state)
    return module


def tokens(name, vocab, *shape):
    return torch.from_numpy((bits(name, int(np.prod(shape))) % np.uint64(vocab)).astype(np.int64)
                            .reshape(shape))


# ---- the towers ----

def efficientnet(kind="b", width=1.0, depth=1.0, head=None):
    kw = dict(pad_type="same", bn_eps=1e-3)
    if kind == "lite":
        m = te._gen_efficientnet_lite("tf_efficientnet_lite0", width, depth, **kw)
    else:
        m = te._gen_efficientnet("tf_efficientnet_b0", width, depth, **kw)
    if head:
        last = m.conv_head.in_channels
        m.conv_head = nn.Conv2d(last, head, 1, bias=False)
        m.bn2 = nn.BatchNorm2d(head, eps=1e-3)
    m.classifier = nn.Identity()
    return m


class MLP(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(i, o), nn.Linear(o, o)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


def attention(d, heads, layers, ffn):
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(d, heads, ffn, dropout=0.0), layers)


def masked_mean(x, mask):
    return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


class ImageTower(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.backbone = efficientnet(c["kind"], c["width"], c["depth"], c["head"])
        self.size = c["size"]
        self.learnable = nn.ModuleDict(collections.OrderedDict(
            imgFC=MLP(c["region"], c["dim"]),
            imgAtt=attention(c["region"], c["heads"], c["layers"], c["ffn"]),
            max_pool=nn.Sequential(nn.Conv2d(c["head"], c["region"], 1), nn.AvgPool2d(4, 4))))

    def roi(self, feature, boxes):
        """Affine grid of 4x4 points, written for aligned corners, run without them."""
        h, w = feature.shape[2:]
        n, r = boxes.shape[:2]
        b = boxes.reshape(-1, 4) / (self.size / h)
        zero = torch.zeros_like(b[:, 0])
        theta = torch.stack([(b[:, 2] - b[:, 0]) / (w - 1), zero,
                             (b[:, 0] + b[:, 2] - w + 1) / (w - 1), zero,
                             (b[:, 3] - b[:, 1]) / (h - 1),
                             (b[:, 1] + b[:, 3] - h + 1) / (h - 1)], 1).view(-1, 2, 3)
        grid = F.affine_grid(theta, (theta.shape[0], 1, 4, 4), align_corners=False)
        f = feature[:, None].expand(n, r, *feature.shape[1:]).reshape(-1, *feature.shape[1:])
        return F.grid_sample(f, grid, align_corners=False)

    def forward(self, image, boxes, mask):
        n, r = mask.shape
        feature = self.backbone.forward_features(image)
        regions = self.learnable["max_pool"](self.roi(feature, boxes)).view(n, r, -1)
        regions = F.normalize(regions, dim=-1)
        x = self.learnable["imgAtt"](regions.transpose(0, 1),
                                     src_key_padding_mask=(mask == 0)).transpose(0, 1)
        return F.normalize(self.learnable["imgFC"](masked_mean(x, mask)), dim=-1)


class TextTower(nn.Module):
    def __init__(self, c):
        super().__init__()
        cfg = BertConfig(vocab_size=c["vocab"], hidden_size=c["hidden"],
                         num_hidden_layers=c["bert_layers"], num_attention_heads=c["bert_heads"],
                         intermediate_size=c["bert_ffn"], max_position_embeddings=c["positions"],
                         hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        self.backbone = nn.Module()
        self.backbone.bert = BertModel(cfg, add_pooling_layer=False)
        # HF never updates the row of [PAD]; behind a mask its gradient is 0 anyway.
        self.backbone.bert.embeddings.word_embeddings.padding_idx = None
        self.pad_mask = c["pad_mask"]
        self.learnable = nn.ModuleDict(collections.OrderedDict(
            textFC=MLP(c["hidden"], c["dim"]),
            textAtt=attention(c["hidden"], c["heads"], c["layers"], c["ffn"])))

    def forward(self, ids, mask):
        x = self.backbone.bert(ids, attention_mask=mask if self.pad_mask
                               else torch.ones_like(mask))[0]
        x = F.normalize(x, dim=-1)
        x = self.learnable["textAtt"](x.transpose(0, 1),
                                      src_key_padding_mask=(mask == 0)).transpose(0, 1)
        return F.normalize(self.learnable["textFC"](masked_mean(x, mask)), dim=-1)


TINY = dict(kind="b", width=0.25, depth=0.5, head=48, region=32, dim=24, size=96, heads=4,
            layers=2, ffn=40, vocab=100, hidden=32, bert_layers=2, bert_heads=4, bert_ffn=64,
            positions=16, pad_mask=True)


# ---- inputs ----

def image_input(n, size):
    """fill() in the order N,H,W,C, as the C side keeps it; given to torch as N,C,H,W."""
    return fill("input.image", n, size, size, 3).permute(0, 3, 1, 2).contiguous()


def box_input(n, regions, size):
    a = (fill("input.boxes", n, regions, 2, 2) + 1) / 2
    lo, hi = a.min(2).values, a.max(2).values
    boxes = torch.cat([lo, hi], -1) * size
    mask = torch.ones(n, regions)
    for i in range(n):
        used = regions - 1 - i % 3          # the rest is padding: zero boxes, masked out
        boxes[i, used] = torch.tensor([0., 0., size, size])
        boxes[i, used + 1:] = 0
        mask[i, used + 1:] = 0
    return boxes, mask


def text_input(n, length, vocab):
    ids = tokens("input.ids", vocab, n, length)
    mask = torch.ones(n, length)
    for i in range(n):
        mask[i, length - i % 4 * 2:] = 0
        ids[i, length - i % 4 * 2:] = 0
    return ids, mask


# ---- summaries ----

def num(x):
    return float("%.9g" % float(x))


def flat(t):
    return [num(v) for v in t.detach().reshape(-1)]


def sampled(t):
    """Norm and probe of a large output."""
    t = t.detach().double()
    return [num(t.norm()), num((t * fill("probe.output", *t.shape).double()).sum())]


def grads(module, prefix=""):
    out = {}
    for k, p in module.named_parameters():
        g = torch.zeros_like(p) if p.grad is None else p.grad
        g = g.double()
        out[prefix + k] = [num(g.norm()),
                           num((g * fill("probe." + prefix + k, *p.shape).double()).sum())]
    return out


def probe(name, t):
    t = t.detach().double()
    return [num(t.norm()), num((t * fill("probe." + name, *t.shape).double()).sum())]


def tower_case(tower, prefix, inputs):
    load(tower, prefix)
    tower.double().train() # dropout is 0 everywhere; batch norm takes the batch's statistics
    inputs = [v.double() if v.dtype.is_floating_point else v for v in inputs]
    y = tower(*inputs)
    loss = (y * fill("probe.embedding", *y.shape)).sum()
    loss.backward()
    out = {"train": flat(y), "loss": num(loss), "grad": grads(tower, prefix)}
    out["buffers"] = {prefix + k: probe(prefix + k, v) for k, v in tower.named_buffers()
                      if v.dtype.is_floating_point}
    tower.eval()
    with torch.no_grad():
        out["eval"] = flat(tower(*inputs))   # with the running statistics as just updated
    return out


def names_hash(module):
    """Names and shapes of the weights, classifier and counters left out."""
    h, count, params = 0xcbf29ce484222325, 0, 0
    for k, v in sorted(module.state_dict().items()):
        if not v.dtype.is_floating_point:
            continue
        line = "%s %s\n" % (k, "x".join(str(d) for d in v.shape))
        for b in line.encode():
            h = ((h ^ b) * 0x100000001b3) & MASK
        count += 1
    for p in module.parameters():
        params += p.numel()
    return {"hash": "%016x" % h, "tensors": count, "params": params}


STRUCTURES = {"b0": ("b", 1.0, 1.0), "b1": ("b", 1.0, 1.1), "b2": ("b", 1.1, 1.2),
              "b3": ("b", 1.2, 1.4), "b4": ("b", 1.4, 1.8), "b5": ("b", 1.6, 2.2),
              "b6": ("b", 1.8, 2.6), "b7": ("b", 2.0, 3.1), "lite0": ("lite", 1.0, 1.0),
              "lite1": ("lite", 1.0, 1.1), "lite2": ("lite", 1.1, 1.2),
              "lite3": ("lite", 1.2, 1.4), "lite4": ("lite", 1.4, 1.8)}


def lite0_features(path):
    """The published ImageNet weights of Lite0 on a made-up picture, if the file is here."""
    m = timm.create_model("tf_efficientnet_lite0")
    old = torch.load(path, map_location="cpu")
    # The file's names are of another implementation; its order is the same as timm's.
    new = collections.OrderedDict(zip(m.state_dict().keys(), old.values()))
    m.load_state_dict(new)
    m.double().eval()
    with torch.no_grad():
        x = image_input(2, 128).double()
        return sampled(m.forward_features(x).permute(0, 2, 3, 1))


# ---- MoCo ----

def moco_case(steps):
    """Five steps of the whole training rule on one repeated batch (see the comment in C)."""
    c, k, m, tau, lr, wd = TINY, 16, 0.9, 0.07, 1e-3, 0.05
    image, text = ImageTower(c), TextTower(c)
    image_k, text_k = ImageTower(c), TextTower(c)
    for q, kk, p in ((image, image_k, "imgencoder."), (text, text_k, "textencoder.")):
        load(q, p).double().train()
        load(kk, p).double().train()
    boxes, bmask = box_input(4, 6, c["size"])
    ids, tmask = text_input(4, 10, c["vocab"])
    x, boxes, bmask = image_input(4, c["size"]).double(), boxes.double(), bmask.double()
    tmask = tmask.double()
    img_queue = F.normalize(fill("img_queue", k, c["dim"]).double(), dim=-1)
    text_queue = F.normalize(fill("text_queue", k, c["dim"]).double(), dim=-1)
    ptr = 0
    both = list(image.named_parameters()) + list(text.named_parameters())
    opt = torch.optim.AdamW(
        [{"params": [p for _, p in both if p.ndim > 1], "weight_decay": wd},
         {"params": [p for _, p in both if p.ndim == 1], "weight_decay": 0.0}],
        lr=lr, betas=(0.9, 0.98), eps=1e-6)
    out = []
    for _ in range(steps):
        with torch.no_grad():
            for q, kk in ((image, image_k), (text, text_k)):
                for a, b in zip(q.parameters(), kk.parameters()):
                    b.mul_(m).add_(a, alpha=1 - m)
            ki, kt = image_k(x, boxes, bmask), text_k(ids, tmask)
        qi, qt = image(x, boxes, bmask), text(ids, tmask)

        def nce(q, key, queue):
            logits = torch.cat([(q * key).sum(1, keepdim=True), q @ queue.t()], 1) / tau
            return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))

        i2t, t2i = nce(qi, kt, text_queue), nce(qt, ki, img_queue)
        opt.zero_grad()
        (i2t + t2i).backward()
        opt.step()
        img_queue[ptr:ptr + 4], text_queue[ptr:ptr + 4] = ki, kt
        ptr = (ptr + 4) % k
        out.append({"i2t": num(i2t), "t2i": num(t2i)})
    watched = ["imgencoder.backbone.conv_stem.weight", "imgencoder.learnable.imgFC.fc2.weight",
               "textencoder.learnable.textAtt.layers.0.self_attn.in_proj_weight",
               "textencoder.backbone.bert.embeddings.word_embeddings.weight"]
    online = {"imgencoder." + n: p for n, p in image.named_parameters()}
    online.update({"textencoder." + n: p for n, p in text.named_parameters()})
    keys = {"imgencoder." + n: p for n, p in image_k.named_parameters()}
    keys.update({"textencoder." + n: p for n, p in text_k.named_parameters()})
    return {"steps": out, "queue": k, "momentum": m, "tau": tau, "lr": lr, "weight_decay": wd,
            "img_queue": flat(img_queue[:8, :4]), "text_queue": flat(text_queue[:8, :4]),
            "online": {n: probe(n, online[n]) for n in watched},
            "momentum_tower": {n: probe(n, keys[n]) for n in watched}}


def main():
    torch.manual_seed(0)
    torch.set_num_threads(2)
    out = {"config": TINY, "structures": {}}
    for name, (kind, w, d) in STRUCTURES.items():
        out["structures"][name] = names_hash(efficientnet(kind, w, d))
    c = dict(TINY)
    boxes, bmask = box_input(4, 6, c["size"])
    ids, tmask = text_input(4, 10, c["vocab"])
    x = image_input(4, c["size"])
    out["image"] = tower_case(ImageTower(c), "imgencoder.", (x, boxes, bmask))
    # Shallow: ReLU6 has kinks, and the deeper the net, the likelier that rounding moves a value
    # across one and changes gradients by a percent.
    lite = dict(c, kind="lite", width=0.3, depth=0.5)
    out["image_lite"] = tower_case(ImageTower(lite), "imgencoder.", (x, boxes, bmask))
    out["text"] = tower_case(TextTower(c), "textencoder.", (ids, tmask))
    out["text_unmasked"] = tower_case(TextTower(dict(c, pad_mask=False)), "textencoder.",
                                      (ids, tmask))
    out["moco"] = moco_case(5)
    if len(sys.argv) > 1:
        out["lite0"] = lite0_features(sys.argv[1])
    with open(OUT, "w") as f:
        json.dump(out, f, indent=0, separators=(",", ":"))


if __name__ == "__main__":
    main()
