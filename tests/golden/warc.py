"""What warcio reads in the archives of ../shared/data/web/warc: warc.py > warc.json
A list by file of [offset of the member, type, URI, SHA-256 of the block, SHA-256 of the HTTP body
with its codings undone, or ""].  What warcio cannot read, or mends in its own way, is left out."""
import hashlib, io, json, os, sys
from warcio.archiveiterator import ArchiveIterator

folder = sys.argv[1] if len(sys.argv) > 1 else "../shared/data/web/warc"
skip = {"resiliparse_clipped.warc.gz", "warcio_example-trunc.warc",
        "warcio_example-wrong-chunks.warc.gz", "warcio_example-bad-non-chunked.warc.gz"}


def sha(b):
    return hashlib.sha256(b).hexdigest()[:16]


def records(path, http):
    out = []
    with open(path, "rb") as f:
        it = ArchiveIterator(f, no_record_parse=not http)
        for r in it:
            body = r.content_stream().read() if http else r.raw_stream.read()
            out.append((it.get_record_offset(), r.rec_type,
                        r.rec_headers.get_header("WARC-Target-URI") or "", sha(body),
                        http and r.http_headers is not None))
    return out


result = {}
for name in sorted(os.listdir(folder)):
    if name in skip:
        continue
    path = os.path.join(folder, name)
    raw, http = records(path, False), records(path, True)
    result[name] = [[a[0], a[1], a[2], a[3], b[3] if b[4] and a[1] == "response" else ""]
                    for a, b in zip(raw, http)]
json.dump(result, sys.stdout, indent=None, separators=(",", ":"))
