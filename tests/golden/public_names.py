#!/usr/bin/env python3
"""Writes tests/golden/public_names.json: a hash of the 2,320 names and shapes of the public
BriVL-1.0 file, built from the real modules (timm's tf_efficientnet_b5_ns with its classifier,
Hugging Face's base BertModel with pooler, torch.nn.TransformerEncoder); see FACTS of the layout:
imgencoder, imgencoder_mom, textencoder, textencoder_mom under the key "learnable".

Run from the repository root with torch 2.x, timm 0.4.12 and transformers 4.40:
    python3 tests/golden/public_names.py
"""
import json
import os

import timm
import torch
import torch.nn as nn
from transformers import BertConfig, BertModel

OUT = os.path.join(os.path.dirname(__file__), "public_names.json")


def tower(backbone, width, dim, key, image):
    m = nn.Module()
    m.backbone = backbone
    fc = nn.Module()
    fc.fc1, fc.fc2 = nn.Linear(width, dim), nn.Linear(dim, dim)
    m.learnable = nn.ModuleDict({key + "FC": fc, key + "Att": nn.TransformerEncoder(
        nn.TransformerEncoderLayer(width, 4), 4)})
    if image:
        m.learnable["max_pool"] = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.AvgPool2d(4, 1))
    return m


def main():
    with torch.device("meta"):
        bert = nn.Module()
        bert.bert = BertModel(BertConfig(vocab_size=21128))
        image = tower(timm.create_model("tf_efficientnet_b5_ns"), 2048, 2048, "img", True)
        text = tower(bert, 768, 2048, "text", False)
    names = {}
    for prefix, m in (("imgencoder", image), ("textencoder", text)):
        state = {k: tuple(v.shape) for k, v in m.state_dict().items()}
        if prefix == "textencoder":  # a buffer that the transformers of 2021 saved
            state["backbone.bert.embeddings.position_ids"] = (1, 512)
        for k, s in state.items():
            for mom in ("", "_mom"):
                names["learnable.%s%s.%s" % (prefix, mom, k)] = s
    h, mask = 0xcbf29ce484222325, (1 << 64) - 1
    for k in sorted(names):
        for b in ("%s %s\n" % (k, "x".join(map(str, names[k])))).encode():
            h = ((h ^ b) * 0x100000001b3) & mask
    with open(OUT, "w") as f:
        json.dump({"tensors": len(names), "hash": "%016x" % h}, f)
        f.write("\n")


main()
