"""Makes caption_cases.json: random captions with the scores of pycocoevalcap 1.2 (its METEOR and
PTBTokenizer are the public jars; Java is needed).

  python tests/golden/caption_cases.py > tests/golden/caption_cases.json

Three sets: Chinese words, single repeated characters (which try METEOR's beam), and words mixed
with numbers, signs and Latin letters.  `raw` is what was tokenised, `tokens` what the PTB pass made
of it."""
import json
import random
import sys

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

WORDS = "一个 两个 男人 女人 孩子 在 的 着 海边 沙滩 上 里 草地 球场 打球 跑步 穿着 红色 白色 衣服 站 坐 前面 旁边 有 和".split()
MIXED = WORDS + "T恤 3 12 3.5 NBA 100% 2017 - , . ， 。 ！ “ ” （ ） 、 《 》 ... ' \" : ; ? ! K歌 iPhone6 1.5 U型 90后 # & + Wi-Fi t-shirt a.b 1,000 10:30 … —— ～".split()
CHARS = "男女在的一"


def caption(rng, words, lo, hi):
    return " ".join(rng.choice(words) for _ in range(rng.randint(lo, hi)))


def one_set(rng, words, n, lo, hi):
    images = []
    for _ in range(n):
        base = caption(rng, words, lo, hi).split()
        refs = []
        for _ in range(5):
            t = [w for w in base if rng.random() < 0.7]
            rng.shuffle(t) if rng.random() < 0.3 else None
            refs.append(" ".join(t + [rng.choice(words)]))
        images.append((" ".join(base), refs))
    return images


def score(images):
    gts = {i: [{"caption": r} for r in im[1]] for i, im in enumerate(images)}
    res = {i: [{"caption": im[0]}] for i, im in enumerate(images)}
    tok = PTBTokenizer()
    gts, res = tok.tokenize(gts), tok.tokenize(res)
    out = [dict(raw=[im[0]] + im[1], tokens=res[i] + gts[i]) for i, im in enumerate(images)]
    bleu = Bleu(4).compute_score(gts, res, verbose=0)
    meteor = Meteor().compute_score(gts, res)
    rouge = Rouge().compute_score(gts, res)
    cider = Cider().compute_score(gts, res)
    for i, o in enumerate(out):
        o["scores"] = [bleu[1][k][i] for k in range(4)] + [meteor[1][i], float(rouge[1][i]), float(cider[1][i])]
    return dict(images=out, corpus=list(bleu[0]) + [meteor[0], float(rouge[0]), float(cider[0])])


if __name__ == "__main__":
    rng = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    sets = dict(words=score(one_set(rng, WORDS, n, 4, 14)),
                beam=score(one_set(rng, list(CHARS), n, 6, 30)),
                mixed=score(one_set(rng, MIXED, n, 5, 16)))
    json.dump(sets, sys.stdout, ensure_ascii=False, indent=0)
    print()
