"""The words of the starter's small world, English and Simplified Chinese side by side."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thing:
    """A thing that can be owned, coloured and counted; ``measure`` is the Chinese measure word."""

    one: str
    many: str
    zh: str
    measure: str


@dataclass(frozen=True)
class Pair:
    """One notion in both languages."""

    en: str
    zh: str


def _words(table: str) -> tuple[str, ...]:
    return tuple(table.split())


def _lines(table: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in table.strip().splitlines())


def _things(table: str) -> tuple[Thing, ...]:
    return tuple(Thing(*row.split()) for row in table.strip().splitlines())


def _pairs(table: str) -> tuple[Pair, ...]:
    rows = (item.strip().rsplit(" ", 1) for item in table.replace("\n", ",").split(",") if item.strip())
    return tuple(Pair(en, zh) for en, zh in rows)


THINGS = _things("""
cup cups 杯子 个
ball balls 皮球 个
book books 书 本
hat hats 帽子 顶
pen pens 钢笔 支
box boxes 盒子 个
chair chairs 椅子 把
lamp lamps 台灯 盏
kite kites 风筝 只
bag bags 书包 个
apple apples 苹果 个
shirt shirts 衬衫 件
coat coats 大衣 件
shoe shoes 鞋子 只
car cars 汽车 辆
bike bikes 自行车 辆
bell bells 铃铛 个
key keys 钥匙 把
clock clocks 时钟 个
plate plates 盘子 个
spoon spoons 勺子 把
bottle bottles 瓶子 个
towel towels 毛巾 条
basket baskets 篮子 个
candle candles 蜡烛 支
doll dolls 娃娃 个
flag flags 旗子 面
umbrella umbrellas 雨伞 把
notebook notebooks 笔记本 本
pencil pencils 铅笔 支
sock socks 袜子 只
train trains 火车 列
truck trucks 卡车 辆
vase vases 花瓶 个
balloon balloons 气球 个
sofa sofas 沙发 张
skirt skirts 裙子 条
belt belts 腰带 条
robot robots 机器人 个
ladder ladders 梯子 架
""")

ANIMALS = _things("""
cat cats 猫 只
dog dogs 狗 只
bird birds 小鸟 只
rabbit rabbits 兔子 只
duck ducks 鸭子 只
cow cows 牛 头
pig pigs 猪 头
horse horses 马 匹
bear bears 熊 头
frog frogs 青蛙 只
lion lions 狮子 头
monkey monkeys 猴子 只
""")

COLOURS = _pairs("""
red 红, blue 蓝, green 绿, yellow 黄, black 黑, white 白, pink 粉, purple 紫, brown 棕, grey 灰, golden 金
silver 银
""")

PLACES = _pairs("""
park 公园, school 学校, kitchen 厨房, garden 花园, library 图书馆, shop 商店, forest 森林
 market 市场, cave 山洞, field 田野, bedroom 卧室, yard 院子, museum 博物馆

""")

NAMES_EN = _words("""
Mia Tom Anna Ben Lily Sam Emma Jack Nora Leo Ella Max Ruby Adam Ivy Oscar Paul Jane Peter
Alice Bob Kate Mark Sara Amy Grace Henry John Kim Lucy Nick Tina

""")

NAMES_ZH = _words("""
小明 小红 小华 小丽 小刚 小芳 小军 小雨 小林 小梅 小东 小雪 小强 阿强 阿美 阿福
李雷 王芳 张伟 刘洋 陈静 杨帆 赵敏 周杰 吴昊 马超 朱琳 胡军 郭靖 林娜 梁田
韩冰
""")

OPPOSITES = tuple(
    _words(row)
    for row in _lines("""
big small 大 小
hot cold 热 冷
high low 高 低
fast slow 快 慢
happy sad 高兴 难过
old new 旧 新
full empty 满 空
hard soft 硬 软
heavy light 重 轻
open closed 开 关
wet dry 湿 干
clean dirty 干净 肮脏
good bad 好 坏
strong weak 强 弱
early late 早 晚
near far 近 远
up down 上 下
left right 左 右
in out 里 外
day night 白天 黑夜
long short 长 短
loud quiet 吵闹 安静
bright dark 明亮 黑暗
first last 最先 最后
buy sell 买 卖
push pull 推 拉
laugh cry 笑 哭
come go 来 去
win lose 赢 输
same different 相同 不同
""")
)

NUMBERS_EN = _words("""
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty
""")
NUMBERS_ZH = _words("零 一 二 三 四 五 六 七 八 九 十 十一 十二 十三 十四 十五 十六 十七 十八 十九 二十")

SYMBOLS = _words("| / ; : = + * # @ & % ~ ^ > < [ ] ( ) { } _ - ! ? $ x")

UNKNOWN_EN = _lines("""
What is the capital of France?
Who wrote this book?
What will the weather be tomorrow?
How far away is the moon?
Who won the game last night?
What is the price of gold?
How do I fix my computer?
Which river is the longest?
When did the war end?
How old is the king?
What is the best film?
Can you write a program for me?
What time is it now?
Who is the president?
How do planes fly?
What is the law about this?
Can you book a flight for me?
What does this word mean in Latin?
How many people live in the city?
Why is the sky blue?
""")
UNKNOWN_ZH = _lines("""
法国的首都是哪里？
这本书是谁写的？
明天天气怎么样？
月亮离我们有多远？
昨晚谁赢了比赛？
黄金现在多少钱？
我的电脑怎么修？
哪条河最长？
战争是哪一年结束的？
国王今年多大年纪？
最好看的电影是哪部？
你能帮我写程序吗？
现在几点了？
总统是谁？
飞机为什么会飞？
法律是怎么规定的？
你能帮我订机票吗？
这个词用拉丁语怎么说？
这座城市有多少人？
天空为什么是蓝色的？
""")

# Words that the world only ever copies, so that they are not strange to the model: shops, letters, days, small talk.
COMMON_EN = _words("""
send order deliver ship bring need want pack post mail get buy from for with and the please could would should
them him her his our your their this that these those today tomorrow monday tuesday friday week month home street
road city door letter parcel packet address customer client name number price cost money pay total goods stock
colour size item items note record form line list table row text word answer question help friend mother father
sister brother teacher child children people man woman boy girl water milk bread tea rice food morning evening
summer winter spring rain snow sun moon star tree grass sea land house room wall work play read write speak hear
see look think know like love make take find keep hold show tell ask call start stop turn move live feel very more
less most many much some any all none each every also only never always often now then here there again back about
over under into between because when while after before
""")
COMMON_ZH = _words("""
寄给 送到 订购 需要 购买 发货 收货 快递 包裹 地址 客户 姓名 数量 价格 多少钱 付款 总共 商品 颜色 大小 清单 记录
表格 今天 明天 星期 月份 街道 城市 信件 妈妈 爸爸 姐姐 哥哥 老师 孩子 人们 朋友 水 牛奶 面包 茶 米饭 早上 晚上
夏天 冬天 春天 下雨 下雪 太阳 月亮 星星 大树 草地 大海 房子 房间 工作 学习 读书 写字 说话 听见 看见 思考 知道 喜欢
制作 寻找 保持 告诉 开始 停止 移动 生活 感觉 非常 更多 许多 一些 全部 每个 总是 经常 现在 然后 这里 那里 再次 关于
因为 时候 之后 之前 麻烦 帮忙 尽快 谢谢 能否 可以 我们 他们 您的 本店 另外 还要 一共
""")
