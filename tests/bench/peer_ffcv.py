"""FFCV on one core: peer_ffcv.py TAR IMAGES PX BETON
Random resized crop and flip to bytes, from FFCV's own container of the same pictures at its
default quality of 90, which is written to BETON when that file is not there yet."""
import json, os, sys, time
import numpy as np
import webdataset as wds
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import RandomHorizontalFlip
from ffcv.writer import DatasetWriter

tar, images, px, beton = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


class Pictures:
    def __init__(self):
        self.rgb = [np.asarray(s["jpg"].convert("RGB")) for s in
                    wds.WebDataset(tar, shardshuffle=False, empty_check=False).decode("pil")]

    def __len__(self):
        return len(self.rgb)

    def __getitem__(self, i):
        return self.rgb[i], i


if not os.path.exists(beton):
    DatasetWriter(beton, {"image": RGBImageField(write_mode="jpg", jpeg_quality=90),
                          "label": IntField()}, num_workers=1).from_indexed_dataset(Pictures())
loader = Loader(beton, batch_size=8, num_workers=1, order=OrderOption.RANDOM, os_cache=True,
                drop_last=True, pipelines={"label": None, "image": [
                    RandomResizedCropRGBImageDecoder((px, px), scale=(0.2, 1.0)),
                    RandomHorizontalFlip()]})
for batch in loader:  # compiles
    pass
n, start = 0, time.process_time()
while n < images:
    for batch in loader:
        n += len(batch[0])
        assert batch[0].shape[1:] == (px, px, 3) and batch[0].dtype == np.uint8
        if n >= images:
            break
print(json.dumps({"images_per_cpu_s": n / (time.process_time() - start)}))
sys.stdout.flush()
os._exit(0)  # its threads keep the interpreter from ending
