"""The counter-based numbers of ops/hash.h (wl_rand_unit) for the scripts beside this one, so that
tests need not store what they can compute."""
import torch

M = (1 << 64) - 1


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & M
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M
    return x ^ (x >> 31)


def unit(seed, stream, index):
    return (mix(mix(mix(seed) ^ stream) ^ index) >> 11) * 2.0**-53


def fill(seed, stream, n, scale):
    """n floats in [-scale / 2, scale / 2)."""
    v = [(unit(seed, stream, i) - 0.5) * scale for i in range(n)]
    return torch.tensor(v, dtype=torch.float64).float()
