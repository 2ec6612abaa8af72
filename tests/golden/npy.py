#!/usr/bin/env python3
"""Small arrays as NumPy writes them, for tests/test_npy.c.  Usage: npy.py OUT_DIR"""
import os
import sys

import numpy as np

out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "npy")
os.makedirs(out, exist_ok=True)
a = (np.arange(12).reshape(3, 4) - 5) * 0.25
for name, value in {
    "f2": a.astype("<f2"),
    "f4": a.astype("<f4"),
    "f8": a.astype("<f8"),
    "f4_fortran": np.asfortranarray(a.astype("<f4")),
    "f4_big_endian": a.astype(">f4"),
    "i8": np.array([3, -1, 2**40], dtype="<i8"),
    "i4_pairs": np.array([[0, 1], [2, 0]], dtype="<i4"),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 4), dtype="<f4"),
}.items():
    np.save(os.path.join(out, name + ".npy"), value)
for version in (2, 3):
    with open(os.path.join(out, f"v{version}.npy"), "wb") as f:
        np.lib.format.write_array(f, a.astype("<f4"), version=(version, 0))
