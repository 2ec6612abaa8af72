"""webdataset + torchvision on one core: peer_loader.py TAR IMAGES PX rrc|jitter|paper
The same augmentation as ours (MoCo-v2's transforms as their authors wrote them, on PIL)."""
import json, random, sys, time
import torch
import webdataset as wds
from PIL import Image, ImageFilter
from torchvision import transforms as T

tar, images, px, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)


class Blur:
    def __call__(self, im):
        return im.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


steps = [T.RandomResizedCrop(px, scale=(0.2, 1.0), interpolation=Image.BILINEAR)]
if mode == "jitter":
    steps += [T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)]
if mode == "paper":
    steps += [T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
              T.RandomGrayscale(p=0.2), T.RandomApply([Blur()], p=0.5)]
steps += [T.RandomHorizontalFlip(), T.ToTensor(),
          T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
transform = T.Compose(steps)
data = (wds.WebDataset(tar, shardshuffle=False, empty_check=False).shuffle(100)
        .decode("pil").to_tuple("jpg", "txt").map_tuple(transform, lambda t: t).batched(16))
n, start = 0, 0.0
while n < images:
    for batch in data:
        if start == 0.0:  # the first batch warms up
            start = time.process_time()
            continue
        n += len(batch[0])
        if n >= images:
            break
print(json.dumps({"images_per_cpu_s": n / (time.process_time() - start)}))
