"""Makes positions.json: timm's resample_abs_pos_embed of grids of position embeddings (the rows after
the class token's through F.interpolate, bicubic with anti-aliasing), for tests/test_import.c.
Element i of a grid is sin(i * i).

Run: python3 tests/golden/positions.py > tests/golden/positions.json
"""
import json

import torch

D = 3


def one(side, to):
    n = 1 + side * side
    i = torch.arange(n * D, dtype=torch.float64)
    v = torch.sin(i * i).float().reshape(1, n, D)
    cls, grid = v[:, :1], v[:, 1:]
    grid = grid.reshape(1, side, side, D).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(to, to), mode="bicubic", antialias=True)
    grid = grid.permute(0, 2, 3, 1).reshape(1, to * to, D)
    out = torch.cat([cls, grid], dim=1)
    return {"side": side, "to": to, "out": [round(x, 7) for x in out.flatten().tolist()]}


print(json.dumps([one(2, 3), one(3, 2), one(7, 12), one(14, 8), one(4, 4), one(1, 5), one(9, 2)]))
