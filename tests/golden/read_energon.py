"""Opens a shard set with the public megatron-energon package, by the index files that are there,
and counts what it yields of each split.  Run by tests/test_pack.c: prints SPLIT COUNT lines."""
import sys

from megatron.energon import WorkerConfig, get_loader, get_val_dataset

for split in sys.argv[2:]:
    config = WorkerConfig(rank=0, world_size=1, num_workers=0)
    dataset = get_val_dataset(sys.argv[1], split_part=split, worker_config=config, batch_size=1)
    count = 0
    for batch in get_loader(dataset):
        assert batch.image.shape[0] == 1 and len(batch.caption[0]) > 0
        count += 1
    print(split, count)
