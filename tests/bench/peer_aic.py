"""AI Challenger's evaluator with the public parts (jieba, PTBTokenizer, pycocoevalcap), to be compared
with `wenlan-eval caption --level aic` image by image.

  peer_aic.py make DIR N     N images of six captions: real ones of ../shared where they are, pieces of
                             them shuffled, words mixed with Latin letters, numbers and signs
  peer_aic.py check DIR      scores DIR/{refs,hyps}.json and compares with DIR/ours.json"""
import json
import random
import sys

what, d = sys.argv[1], sys.argv[2]
REAL = "../shared/data/caption-eval/flickr8kcn-test-baidu/references.jsonl"
BITS = "T恤 3D NBA 100% 2017年 ，。 ！ “ ” （ ） 《 》 、 iPhone6 1.5米 U型 90后 # K歌 ... - , . : 3 12 Wi-Fi".split()

if what == "make":
    rng = random.Random(11)
    try:
        texts = [t for line in open(REAL, encoding="utf-8") for t in json.loads(line)["references"]]
    except OSError:
        texts = ["一个穿着红色衣服的男人在海边的沙滩上跑步。", "两个孩子在草地上打球。", "一只狗站在水里。"]

    def caption():
        t = rng.choice(texts)
        if rng.random() < 0.5:
            u = rng.choice(texts)
            t = t[:rng.randint(2, len(t))] + rng.choice(BITS) + u[rng.randint(0, len(u) - 1):]
        return t if t.strip(" 。") else "人"

    n = int(sys.argv[3])
    json.dump([dict(url="", image_id="%040x.jpg" % rng.getrandbits(160), caption=[caption() for _ in range(5)])
               for _ in range(n)], open(f"{d}/refs.json", "w"), ensure_ascii=False)
    refs = json.load(open(f"{d}/refs.json"))
    json.dump([dict(image_id=r["image_id"][:-4], caption=caption() if rng.random() < 0.3 else
                    rng.choice(r["caption"])[:rng.randint(4, 30)].strip(" 。") or "人") for r in refs],
              open(f"{d}/hyps.json", "w"), ensure_ascii=False)
    sys.exit(0)

import jieba
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

jieba.setLogLevel(60)


def words(t):
    return {"caption": " ".join(jieba.cut(t.strip().replace("。", "")))}


refs = {r["image_id"][:-4]: [words(t) for t in r["caption"]] for r in json.load(open(f"{d}/refs.json"))}
hyps = {h["image_id"]: [words(h["caption"])] for h in json.load(open(f"{d}/hyps.json"))}
gts, res = PTBTokenizer().tokenize(refs), PTBTokenizer().tokenize({k: hyps[k] for k in refs})
want = dict(zip(["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"], Bleu(4).compute_score(gts, res, verbose=0)[1]))
want["METEOR"] = Meteor().compute_score(gts, res)[1]
want["ROUGE_L"] = Rouge().compute_score(gts, res)[1]
want["CIDEr"] = Cider().compute_score(gts, res)[1]
ours = {o["image_id"]: o for o in json.load(open(f"{d}/ours.json"))["per_image"]}
bad = 0
for i, k in enumerate(gts):
    for m, v in want.items():
        if abs(ours[k][m] - float(v[i])) > (1e-6 if m == "METEOR" else 1e-9) * max(1, abs(v[i])):
            bad += 1
            if bad <= 5:
                print(f"{k} {m}: ours {ours[k][m]:.9f}, public tools {v[i]:.9f}; {res[k]} {gts[k]}")
print(f"{len(gts)} images, {6 * len(gts)} captions: {bad} of {7 * len(gts)} scores differ")
sys.exit(bad > 0)
