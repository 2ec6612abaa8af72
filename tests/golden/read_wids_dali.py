"""Opens a shard set with the public `wids` and NVIDIA DALI (CPU pipeline), by the index files that
are there, and prints what each finds: wids|dali SPLIT SAMPLES BYTES, BYTES being those of all
pictures.  Run by tests/test_shard_set.c: read_wids_dali.py wids|dali SHARDS SPLIT..."""
import glob
import sys

kind, shards, splits = sys.argv[1], sys.argv[2], sys.argv[3:]
for split in splits:
    samples = size = 0
    if kind == "wids":
        import wids

        dataset = wids.ShardListDataset(
            f"{shards}/wids-{split}.json", base=shards, keep=True, transformations=[])
        for sample in dataset:
            samples += 1
            size += len(sample[".jpg"].getvalue() if hasattr(sample[".jpg"], "getvalue")
                        else sample[".jpg"].read())
    else:
        from nvidia.dali import fn, pipeline_def

        tars = sorted(glob.glob(f"{shards}/{split}-*.tar"))

        @pipeline_def(batch_size=1, num_threads=1, device_id=None)
        def read():
            return tuple(fn.readers.webdataset(
                paths=tars, index_paths=[t[:-4] + ".idx" for t in tars], ext=["jpg", "txt"],
                missing_component_behavior="error", name="reader"))

        pipe = read()
        pipe.build()
        for _ in range(pipe.epoch_size("reader")):
            jpg, txt = pipe.run()
            samples += 1
            size += len(jpg.at(0).tobytes())
            assert txt.at(0).tobytes().decode()
    print(kind, split, samples, size)
