#!/usr/bin/env python3
"""Loads what wenlan-weights exported into the real modules of timm and transformers, strictly, and
compares their features with ours; run by tests/e2e/export.sh.

usage: load_export.py DIR    image.safetensors, text.safetensors and features.json lie in DIR
"""
import json
import os
import sys

import torch
import timm
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import model as golden  # noqa: E402

d = sys.argv[1]
want = json.load(open(os.path.join(d, "features.json")))
torch.set_num_threads(1)
image = timm.create_model("tf_efficientnet_b0_ns", num_classes=0)
image.load_state_dict(load_file(os.path.join(d, "image.safetensors")), strict=True)
image.double().eval()
text = BertModel(BertConfig(vocab_size=want["vocab"], hidden_size=64, num_hidden_layers=2,
                            num_attention_heads=4, intermediate_size=128,
                            max_position_embeddings=32), add_pooling_layer=False)
text.load_state_dict(load_file(os.path.join(d, "text.safetensors")), strict=True)
text.double().eval()
with torch.no_grad():
    x = golden.image_input(2, 96).double()
    f = golden.sampled(image.forward_features(x).permute(0, 2, 3, 1))
    ids = golden.tokens("input.ids", want["vocab"], 2, 8)
    t = golden.sampled(text(ids)[0])
bad = 0
for name, ours, theirs in (("image", want["image"], f), ("text", want["text"], t)):
    error = max(abs(a - b) for a, b in zip(ours, theirs)) / theirs[0]
    print("%s features: relative difference %.2g" % (name, error))
    bad += not error < 1e-4
sys.exit(1 if bad else 0)
