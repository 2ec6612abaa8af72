"""img2dataset over a list: pictures got, and CPU seconds without those of its start.

Usage: peer_fetch.py LIST.tsv OUT_DIR ENCODE   (ENCODE 0: bytes as they came, 1: its default)
"""
import glob
import json
import logging
import resource
import sys

logging.disable(logging.CRITICAL)
from img2dataset import download


def run(url_list, out, encode):
    download(
        url_list=url_list, input_format="tsv", url_col="url", caption_col="caption",
        output_folder=out, output_format="webdataset", resize_mode="no",
        disable_all_reencoding=not encode, processes_count=1, thread_count=64,
        number_sample_per_shard=10000, enable_wandb=False,
    )


def cpu():
    total = 0
    for who in resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN:
        u = resource.getrusage(who)
        total += u.ru_utime + u.ru_stime
    return total


def main():
    url_list, out, encode = sys.argv[1], sys.argv[2], sys.argv[3] == "1"
    with open(url_list) as f, open(out + ".one", "w") as one:
        one.writelines([f.readline(), f.readline()])
    t0 = cpu()
    run(out + ".one", out + "-one", encode)
    t1 = cpu()
    run(url_list, out, encode)
    t2 = cpu()
    done = 0
    for name in glob.glob(out + "/*_stats.json"):
        with open(name) as f:
            done += json.load(f)["successes"]
    print("RESULT", done, (t2 - t1) - (t1 - t0))


if __name__ == "__main__":
    main()
