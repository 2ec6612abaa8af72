"""pycocoevalcap on the captions that bench_captions wrote: CPU seconds a metric, METEOR's wall clock
without the start of its JVM.  Last line: the corpus scores in the order of ours."""
import json
import sys
import time

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge

sets = json.load(open(sys.argv[1], encoding="utf-8"))
res = {i: [s[0]] for i, s in enumerate(sets)}
gts = {i: s[1:] for i, s in enumerate(sets)}


def timed(f, clock=time.process_time):
    t = clock()
    r = f()
    return r, clock() - t


bleu, tb = timed(lambda: Bleu(4).compute_score(gts, res, verbose=0)[0])
cider, tc = timed(lambda: Cider().compute_score(gts, res)[0])
rouge, tr = timed(lambda: Rouge().compute_score(gts, res)[0])
meteor, tm = float("nan"), float("nan")
try:
    m = Meteor()
    m.compute_score({0: gts[0]}, {0: res[0]})  # the JVM and its tables are up
    meteor, tm = timed(lambda: m.compute_score(gts, res)[0], time.time)
except OSError:
    pass  # no Java
print(f"pycocoevalcap: BLEU and CIDEr {tb + tc:.3f} s, ROUGE-L {tr:.3f} s, METEOR {tm:.3f} s")
print("scores", *["%.12f" % x for x in list(bleu) + [meteor, rouge, cider]])
