"""DALI's CPU pipeline on one core: peer_dali.py TAR IMAGES PX
Reads the tar, decodes a random crop, resizes, flips and normalises to floats."""
import json, sys, time
from nvidia.dali import fn, pipeline_def, types

tar, images, px = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
BATCH = 8


@pipeline_def(batch_size=BATCH, num_threads=1, device_id=None, seed=1)
def augment():
    jpg = fn.readers.webdataset(paths=[tar], ext=["jpg"], random_shuffle=True, initial_fill=64,
                                missing_component_behavior="error")
    rgb = fn.decoders.image_random_crop(jpg, device="cpu", random_area=[0.2, 1.0],
                                        random_aspect_ratio=[3 / 4, 4 / 3])
    rgb = fn.resize(rgb, size=[px, px], interp_type=types.INTERP_LINEAR, antialias=True)
    return fn.crop_mirror_normalize(
        rgb, mirror=fn.random.coin_flip(), dtype=types.FLOAT, output_layout="HWC",
        mean=[0.485 * 255, 0.456 * 255, 0.406 * 255],
        std=[0.229 * 255, 0.224 * 255, 0.225 * 255])


pipe = augment()
pipe.build()
for _ in range(5):
    pipe.run()
n, start = 0, time.process_time()
while n < images:
    out, = pipe.run()
    n += BATCH
assert out.as_array().shape == (BATCH, px, px, 3)
print(json.dumps({"images_per_cpu_s": n / (time.process_time() - start)}))
