"""Makes trec/{qrels,run} and trec/expected.json: random judgements and results with pytrec_eval's
(pytrec_eval-terrier 0.5.11) NDCG and MAP.  Scores are rounded, so that there are ties; some results
are not judged, some judged documents are not found, one query has no relevant document."""
import json
import os
import random

import pytrec_eval

rng = random.Random(3)
out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "trec")
os.makedirs(out, exist_ok=True)
qrel, run = {}, {}
for q in range(30):
    docs = [f"d{rng.randint(0, 10 ** 6)}" for _ in range(40)]
    qrel[f"q{q}"] = {d: (0 if q == 7 else rng.choice([0, 0, 0, 1, 2, 3])) for d in rng.sample(docs, 25)}
    run[f"q{q}"] = {d: round(rng.random(), 1 if q % 2 else 6) for d in rng.sample(docs, 30)}
with open(f"{out}/qrels", "w") as f:
    for q, v in qrel.items():
        for d, g in v.items():
            f.write(f"{q} 0 {d} {g}\n")
with open(f"{out}/run", "w") as f:
    for q, v in run.items():
        for d, s in v.items():
            f.write(f"{q}\tQ0 {d} 0 {s} tag\n")
ev = pytrec_eval.RelevanceEvaluator(qrel, {"ndcg", "ndcg_cut.5,10,20", "map"})
with open(f"{out}/expected.json", "w") as f:
    json.dump({q: dict(ndcg=v["ndcg"], ndcg_cut=[v["ndcg_cut_%d" % k] for k in (5, 10, 20)], map=v["map"])
               for q, v in ev.evaluate(run).items()}, f, indent=0)
