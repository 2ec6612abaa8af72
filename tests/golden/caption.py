"""Prints the scores in tests/test_caption.c's small set: pycocoevalcap 1.2."""
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

SETS = [
    ["一 只 猫 坐 在 垫子 上", "猫 在 垫子 上", "一 只 猫 在 垫子 上 坐 着"],
    ["狗 狗 狗 狗", "一 条 狗 跑", "狗 在 草地 上 跑"],
    ["海", "大海 和 蓝天", "海 边 的 人"],
    ["两 个 人 在 打 球", "两 个 人 在 打 球", "有 人 打 篮球"],
]
refs = {i: t[1:] for i, t in enumerate(SETS)}
hyps = {i: [t[0]] for i, t in enumerate(SETS)}
show = lambda name, v: print(name, ["%.15g" % x for x in v])
corpus, images = Bleu(4).compute_score(refs, hyps, verbose=0)
show("bleu", corpus)
for i in range(len(SETS)):
    show(f"bleu of {i}", [images[k][i] for k in range(4)])
show("rouge", Rouge().compute_score(refs, hyps)[1])
show("cider", Cider().compute_score(refs, hyps)[1])
