"""pytrec_eval on 100,000 queries: `make DIR N` writes qrels and run, `run DIR` reads and scores them
and compares every query with ours (DIR/ours)."""
import random
import sys
import time

what, d = sys.argv[1], sys.argv[2]
if what == "make":
    rng = random.Random(1)
    with open(f"{d}/qrels", "w") as q, open(f"{d}/run", "w") as r:
        for i in range(int(sys.argv[3])):
            docs = rng.sample(range(10 ** 6), 40)
            q.writelines(f"q{i} 0 d{x} {rng.choice((0, 0, 1, 2, 3))}\n" for x in docs[:30])
            r.writelines(f"q{i} Q0 d{x} 0 {rng.random():.3f} t\n" for x in docs[10:])
    sys.exit(0)

import pytrec_eval

t = time.process_time()
with open(f"{d}/qrels") as f:
    qrel = pytrec_eval.parse_qrel(f)
with open(f"{d}/run") as f:
    run = pytrec_eval.parse_run(f)
read = time.process_time() - t
t = time.process_time()
names = ["ndcg_cut_5", "ndcg_cut_10", "ndcg_cut_20", "ndcg", "map"]
got = pytrec_eval.RelevanceEvaluator(qrel, {"ndcg", "ndcg_cut.5,10,20", "map"}).evaluate(run)
score = time.process_time() - t
print(f"pytrec_eval {len(got)} queries: {read:.3f} s to read, {score:.3f} s to order and score")
bad = 0
for line in open(f"{d}/ours"):
    f = line.split()
    bad += any(abs(got[f[0]][n] - float(x)) > 1e-9 for n, x in zip(names, f[1:]))
print(f"{bad} of {len(got)} queries differ")
sys.exit(bad > 0)
