"""All pairs of a cosine of 0.95 among N random vectors by PyTorch on one core: blocked product,
threshold, indices.  Prints processor seconds."""
import sys
import time

import torch

torch.set_num_threads(1)
n, dim = int(sys.argv[1]), int(sys.argv[2])
v = torch.nn.functional.normalize(torch.randn(n, dim), dim=1)
start = time.process_time()
pairs = 0
for i in range(0, n, 2048):
    for j in range(i, n, 2048):
        pairs += len(torch.nonzero(v[i : i + 2048] @ v[j : j + 2048].T >= 0.95))
print("%.2f" % (time.process_time() - start))
