"""FastWARC reading an archive, and Resiliparse taking the text out of its pages, on one core:
peer_warc.py read|text FILE.  Prints {"records", "bytes", "mb_per_cpu_s"}."""
import json, sys, time
from fastwarc.warc import ArchiveIterator, WarcRecordType

mode, path = sys.argv[1], sys.argv[2]
if mode == "text":
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import detect_encoding
    from resiliparse.parse.html import HTMLTree
start = time.process_time()
records = size = 0
with open(path, "rb") as f:
    for r in ArchiveIterator(f, parse_http=True, record_types=WarcRecordType.any_type
                             if mode == "read" else WarcRecordType.response):
        body = r.reader.read()
        records += 1
        size += len(body)
        if mode == "text":
            extract_plain_text(HTMLTree.parse_from_bytes(body, detect_encoding(body)),
                               alt_texts=True)
spent = time.process_time() - start
print(json.dumps({"records": records, "bytes": size, "mb_per_cpu_s": size / 1e6 / spent}))
