"""img2dataset over the same list: pictures a second of its own timing (without its start).

Usage: peer_fetch.py LIST.tsv OUT_DIR ENCODE   (ENCODE 0: bytes as they came, 1: its default)
"""
import glob
import json
import logging
import sys

logging.disable(logging.CRITICAL)
from img2dataset import download


def main():
    url_list, out, encode = sys.argv[1], sys.argv[2], sys.argv[3] == "1"
    download(
        url_list=url_list, input_format="tsv", url_col="url", caption_col="caption",
        output_folder=out, output_format="webdataset", resize_mode="no",
        disable_all_reencoding=not encode, processes_count=1, thread_count=64,
        number_sample_per_shard=10000, enable_wandb=False,
    )
    done = seconds = 0
    for name in glob.glob(out + "/*_stats.json"):
        with open(name) as f:
            s = json.load(f)
        done += s["successes"]
        seconds += s["end_time"] - s["start_time"]
    print("RESULT", done, seconds)


if __name__ == "__main__":
    main()
