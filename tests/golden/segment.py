"""Makes segment.json: what jieba 0.42.1 says of tricky texts.

Run: python3 tests/golden/segment.py   (Debian's python3-jieba, or pip install jieba==0.42.1)
"""
import json, logging, os, random, tempfile

import jieba

assert jieba.__version__ == "0.42.1"
jieba.setLogLevel(logging.ERROR)

HAND = [
    "", " ", "\r\n", "a", "我", "我来到北京清华大学", "他来到了网易杭研大厦", "小明硕士毕业于中国科学院计算所，后在日本京都大学深造",
    "一个面对着蓝天大海的女人坐在海边的沙滩椅子上", "大海边的沙滩上有3个光着上身的小男孩在玩球",
    "C++和c#是什么关系？11+122=133，是吗？PI=3.14159", "iPhone6s 4.7寸 -5.5% 50%off 3.1.2 1.2%a .5 5. a.5b%", "AT&T B超 γ射线 T恤 卡拉OK",
    "你\r\n好\r\r\n\n世\t界\u3000全角\xa0空格\u2028行\x85\x1c末", "１２３ＡＢＣ①②③㊣〇○零", "龥龦龻鿕鿖㐀㐁𠀀𠮷野家", "程序员(祝)海林和朱会震是在孙健的左面和右面",
    "日本語のテキスト한국어text", "😀👍🏽emoji表情👨‍👩‍👧", "http://www.baidu.com/s?wd=测试&a=1#x user_name@mail.com", "2021年11月28日10:30-12:00 pm2.5 a_b-c+d",
    "----....____%%%%####&&&&++++", "人民币￥100元£5€6", "。。。！！！？？", "在在在在的的的的是是是", "工信处女干事每月经过下属科室都要亲口交代24口交换机等技术性器件的安装工作",
    "李小福是创新办主任也是云计算方面的专家", "結婚的和尚未結婚的都應該參加", "随便写一些没有意义的字龘靐齉爩鱻麤龗灪吁龖", "\ufeff开头有BOM", "a\u0301é组合", "１．２％", "٣٤ 阿拉伯数字٣.٤%",
    "韩冰是个好人", "乒乓球拍卖完了", "中华人民共和国万岁" * 3, "𝒜数学字母", "a" * 30 + "1" * 30, "例如我输入一个带“韩玉赏鉴”的标题，在自定义词库中也增加了此词为N类", "「台中」正確應該不會被切開。mac上可分出「石墨烯」；此時又可以分出來凱特琳了。",
    "python 的正则表达式是好用的，easy_install is great", "八一双鹿更名为八一南昌篮球队！李小福和王五六", "Edu Trust认证 a b c 前后空格", "女干事们和干事长", "C++编程与24口交换机", "大海与大海边玩球", "买1送1包邮~【正品】2件8.5折",
]
USER = """\ufeff云计算 5
李小福 2 nr
创新办 3 i
easy_install 3 eng
好用 300
韩玉赏鉴 3 nz
八一双鹿 3 nz
台中
凱特琳 nz
Edu Trust认证 2000
女干事 0
干事 0 n
沙滩椅子
24口交换机
C++编程
a b c

  前后空格  7 n  
玩球 12345 x
大海 0
王五六
"""


def mixed(rng):
    pools = ["的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处队南给色光门即保治北造百规热领七海口东导器压志世金增争济阶油思术极交受联什认六共权收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走积示议声报斗完类八离华名确才科张信马节话米整空元况今集温传土许步群广石记需段研界拉林律叫且究观越织装影算低持音众书布复容儿须际商非验连断深难近矿千周委素技备半办青省列习响约支般史感劳便团往酸历市克何除消构府称太准精值号率族维划选标写存候毛亲快效斯院查江型眼王按格养易置派层片始却专状育厂京识适属圆包火住调满县局照参红细引听该铁价严",
             "abcXYZ019+#&._%-", " \t\r\n，。！？、「」()~@/:;'\"", "龘㐀𠀀éγ①３Ａ😀\u3000\xa0"]
    return "".join(rng.choice(pools[rng.choices(range(4), (12, 5, 2, 1))[0]]) for _ in range(rng.randint(1, 60)))


def main():
    rng = random.Random(7)
    texts = HAND + [mixed(rng) for _ in range(240)]
    out = {"version": jieba.__version__, "user": USER, "cases": []}
    cut = {t: [jieba.lcut(t), jieba.lcut(t, HMM=False)] for t in texts}
    with tempfile.NamedTemporaryFile("wb", delete=False) as f:
        f.write(USER.encode())
    jieba.load_userdict(f.name)
    os.unlink(f.name)
    for t in texts:
        # "same": the user's words change nothing; keeps the file small.
        user = [jieba.lcut(t), jieba.lcut(t, HMM=False)]
        case = {"text": t, "hmm": cut[t][0], "plain": cut[t][1]}
        if user != cut[t]:
            case["user"] = user
        out["cases"].append(case)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "segment.json")
    with open(path, "w") as g:
        json.dump(out, g, ensure_ascii=False, separators=(",", ":"))
        g.write("\n")


if __name__ == "__main__":
    main()
