"""R@1/5/10 both ways as one writes it with PyTorch: chunks of the score matrix, top-k, any hit.

  peer_retrieval.py IMAGES TEXTS DIM     random features, the best of two runs
  peer_retrieval.py FOLDER               images.npy, texts.npy, pairs.npy, once, reading included"""
import sys
import time

import torch

start = time.time()
if len(sys.argv) == 2:
    import numpy
    images, texts, image_of = (torch.from_numpy(numpy.load(f"{sys.argv[1]}/{name}.npy"))
                               for name in ("images", "texts", "pairs"))
else:
    n, m, d = map(int, sys.argv[1:4])
    torch.manual_seed(1)
    images = torch.nn.functional.normalize(torch.rand(n, d) - 0.5)
    texts = torch.nn.functional.normalize(torch.rand(m, d) - 0.5)
    image_of = torch.arange(m) % n


def recalls(queries, candidates, right, chunk=1024):
    hits = torch.zeros(3)
    for i in range(0, len(queries), chunk):
        top = (queries[i:i + chunk] @ candidates.T).topk(10, dim=1).indices
        ok = right(top, torch.arange(i, min(i + chunk, len(queries))))
        for k, cut in enumerate((1, 5, 10)):
            hits[k] += ok[:, :cut].any(1).sum()
    return hits / len(queries)


def both_ways():
    recalls(images, texts, lambda top, q: image_of[top] == q[:, None])
    recalls(texts, images, lambda top, q: top == image_of[q][:, None])


if len(sys.argv) == 2:
    both_ways()
    best = time.time() - start
else:
    best = 1e9
    for _ in range(2):
        start = time.time()
        both_ways()
        best = min(best, time.time() - start)
print(f"{best:.3f}")
