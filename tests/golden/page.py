"""Counts <img> elements of the saved pages with Python's own HTML parser: tests/golden/page.json.

    python3 tests/golden/page.py ../shared/data/web/html > tests/golden/page.json

test_page.c compares our counts with these (an independent tokeniser: scripts and comments hold
no elements), and the titles with those that index.jsonl has from GeneralNewsExtractor.
"""
import html.parser
import json
import os
import sys


class Counter(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.images = 0

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img"


def main():
    out = {}
    folder = sys.argv[1]
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".html"):
            continue
        with open(os.path.join(folder, name), "rb") as f:
            counter = Counter()
            counter.feed(f.read().decode("utf-8", "replace"))
            out[name] = counter.images
    print(json.dumps(out, indent=0, sort_keys=True))


main()
