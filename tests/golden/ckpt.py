#!/usr/bin/env python3
"""Writes tests/golden/ckpt/: small checkpoint files as PyTorch and safetensors write them.

Run from the repository root with torch >= 2.0 and safetensors installed:
    python3 tests/golden/ckpt.py
tests/test_pth.c and tests/test_safetensors.c read the files and know the values:
element i of every tensor named in fill() is (i - 3) / 4, exact in every type.
"""
import collections
import os

import torch
from safetensors.torch import save_file

OUT = os.path.join(os.path.dirname(__file__), "ckpt")


def fill(*shape, dtype=torch.float32):
    n = 1
    for s in shape:
        n *= s
    v = (torch.arange(n, dtype=torch.float64) - 3) / 4
    if not dtype.is_floating_point:
        v = torch.arange(n) - 3
    return v.reshape(shape).to(dtype)


def state():
    base = fill(4, 6)
    tower = collections.OrderedDict()
    tower["conv.weight"] = fill(2, 3, 2, 2)
    tower["conv.bias"] = torch.nn.Parameter(fill(2))
    tower["transposed"] = base.t()          # strides (1, 6)
    tower["part"] = base[1:3, 2:5]          # an offset into a shared storage
    tower["whole"] = base
    tower["bn.num_batches_tracked"] = torch.tensor(-3)
    tower["half"] = fill(5, dtype=torch.float16)
    tower["brain"] = fill(5, dtype=torch.bfloat16)
    tower["double"] = fill(5, dtype=torch.float64)
    tower["bytes"] = (torch.arange(5) + 250).to(torch.uint8)
    tower["empty"] = torch.zeros(0, 7)
    return {"learnable": tower, "epoch": 3, "lr": 1e-3, "name": "demo",
            "betas": (0.9, 0.999), "size": torch.Size([1, 2])}


def main():
    os.makedirs(OUT, exist_ok=True)
    torch.save(state(), os.path.join(OUT, "zip.pth"))
    torch.save(state(), os.path.join(OUT, "legacy.pth"), _use_new_zipfile_serialization=False)
    torch.save({"model": torch.nn.Linear(2, 2)}, os.path.join(OUT, "module.pth"))
    flat = {k: v.detach().contiguous().clone() for k, v in state()["learnable"].items()}
    save_file(flat, os.path.join(OUT, "plain.safetensors"), metadata={"format": "pt"})


main()
