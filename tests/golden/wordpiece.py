"""Makes wordpiece.json: a small vocabulary and the ids that Hugging Face's BertTokenizer
(transformers 4.40.2, the slow Python one) gives for ordinary and hostile texts.

Run: python3 tests/golden/wordpiece.py > tests/golden/wordpiece.json
"""
import json
import random
import sys
import tempfile
import unicodedata

from transformers import BertTokenizer

vocab = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
vocab += [chr(c) for c in range(33, 127) if not chr(c).isupper()]
vocab += ["##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789"]
vocab += list("北京的秋天是真凉爽生日快乐，。！？、（）【】豈更")
vocab += ["##的", "##天", "hello", "##llo", "un", "##aff", "##able", "cafe", "full", "width",
          "##ing", "1990", "##年", "σ", "##σ", "##ς", "##οδο", "οδο", "μ", "к", "##ни", "тест",
          "テ", "##ス", "##ト", "ᄒ", "##ᅡ", "##ᆫ", "２", "##０", "ß", "ı", "ǆ", "😂", "##😂",
          "～", "＋", "×", "·", "Ω", "ω", "å", "k", "##", "####"]
vocab = list(dict.fromkeys(vocab))

texts = [
    "", " ", "北京的秋天是真的凉爽。", "Hello BriVL café ２０２１年 unaffable!", "a\u0300\u0301b",
    "ΟΔΟΣ", "ΟΔΟΣ ΟΔΟΣ.", "Σ", "ΑΣ", "ΑΣΑ", "Α'Σ'", "Α\u0301Σ\u0301", "Α\u200dΣ\u200d!",
    "Α\x01Σ\x01Α", "中Σ", "ΑΣ中", "\u2126\u212a\u212b", "İstanbul I ı", "ﬁn ǅ ẞ", "한국어 テスト 𠀀",
    "ｆｕｌｌ　ｗｉｄｔｈ “引号” — …", "生日快乐！Make a wish～😂", "x" * 100, "x" * 101, "é" * 100,
    "é" * 101, "한" * 34, "tab\tnew\nline\rcr", "nb\u00a0sp zl\u2028zp\u2029 nel\u0085x",
    "zero\u200bwidth\u200dj\ufeffbom", "priv\ue000ate un\uffffas", "\u037e\u1fef\u2000",
    "豈\U0002f800更", "$a+b<c>=d^e`f|g~h", "C++ #1 ##ing [MASKS] a_b", "1990年代",
    "\u0915\u093f\u0902\u0901", "\u0e01\u0e33", "\U0001f1e8\U0001f1f3\U0001f468\u200d\U0001f469",
    "的" * 90, "hello" * 20, "hello" * 21, "\u302e\u302f", "\u0345\u1f88", "⒈①½㎏",
]
rng = random.Random(20210311)


def known(c):
    """Assigned in this Python's Unicode, so that a newer ICU agrees."""
    return unicodedata.category(chr(c)) not in ("Cn", "Cs")


pools = [
    lambda: rng.choice("北京的秋天是真凉爽生日快乐，。！？"),
    lambda: rng.choice("abcdefgHELLOxyz0189 .,-#"),
    lambda: rng.choice("ΑΣΟΔσς'.\u0301 \u00ad"),
    lambda: chr(rng.randrange(0x20, 0x500)),
    lambda: chr(rng.randrange(0x20, 0x3100)),
    lambda: chr(rng.randrange(0x20, 0x10000)),
    lambda: chr(rng.randrange(0x10000, 0x20000)),
    lambda: chr(rng.randrange(0x1e00, 0x2000)),
]
for _ in range(400):
    few = [rng.choice(pools) for _ in range(2)]
    s = "".join(rng.choice(few)() for _ in range(rng.randrange(1, 25)))
    texts.append("".join(c for c in s if known(ord(c))))

with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as f:
    f.write("\n".join(vocab) + "\n")
    f.flush()
    tok = BertTokenizer(f.name)
cases = []
for t in texts:
    ids = tok.convert_tokens_to_ids(tok.tokenize(t))
    cases.append([t, [tok.cls_token_id] + ids + [tok.sep_token_id]])
json.dump({"vocab": vocab, "cases": cases}, sys.stdout, ensure_ascii=True,
          separators=(",", ":"))
print()
