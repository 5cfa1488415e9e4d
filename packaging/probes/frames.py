"""Short passages with a question, in English and Chinese; names in braces are filled in, choices "
"stand in the passage."""

Frame = tuple[str, str, str, str]
"""Passage and question in English, passage and question in Chinese."""

READING: tuple[tuple[Frame, str], ...] = (
    (
        (
            "{a} and {b} went to the market on {day}. {a} bought a {x}, and {b} bought a {y}. They gave the {x} "
            "to {c}, who "
            "was ill at home.",
            "Who bought the {y}?",
            "{day}，{a}和{b}去了集市。{a}买了一个{x}，{b}买了一个{y}。他们把{x}送给了在家生病的{c}。",
            "谁买了{y}？",
        ),
        "b a c",
    ),
    (
        (
            "In the {p} there was a {x}. {a} moved it to the {q} because it was in the way. Later {b} looked for "
            "it in the {r}.",
            "Where was the {x} at the end?",
            "{p}里有一个{x}。因为碍事，{a}把它搬到了{q}。后来{b}到{r}去找它。",
            "{x}最后在哪里？",
        ),
        "q p r",
    ),
    (
        (
            "{a} is older than {b}, and {b} is older than {c}. All three live near the {p}.",
            "Who is the youngest?",
            "{a}比{b}年长，{b}比{c}年长。三个人都住在{p}附近。",
            "谁最年轻？",
        ),
        "c a b",
    ),
    (
        (
            "First {a} cleaned the {p}. Then {a} fed the {x_animal}, and last of all painted the {y}. {b} only "
            "watched.",
            "What did {a} paint?",
            "{a}先打扫了{p}，然后喂了{x_animal}，最后给{y}刷了漆。{b}只是在一旁看。",
            "{a}给什么刷了漆？",
        ),
        "y p x_animal",
    ),
    (
        (
            "The shop opens on {day} and closes on {day2}. {a} wanted to buy a {x} there, but came on {day3} and "
            "found it shut.",
            "When did {a} come?",
            "商店{day}开门，{day2}关门。{a}想去那里买一个{x}，但{day3}才来，发现门已经关了。",
            "{a}是哪天来的？",
        ),
        "day3 day day2",
    ),
    (
        (
            "{a} lent a {x} to {b}. {b} lost it in the {p} and bought a {y} for {a} instead. {a} would rather "
            "have had a {z}.",
            "What did {b} buy?",
            "{a}把一个{x}借给了{b}。{b}在{p}弄丢了它，于是买了一个{y}赔给{a}。其实{a}更想要一个{z}。",
            "{b}买了什么？",
        ),
        "y x z",
    ),
    (
        (
            "Three friends met in the {p}. {a} came by train, {b} came on foot, and {c} came by car. It rained "
            "all day.",
            "Who came on foot?",
            "三个朋友在{p}见面。{a}坐火车来，{b}走路来，{c}开车来。那天一直在下雨。",
            "谁是走路来的？",
        ),
        "b a c",
    ),
    (
        (
            "{a} hid a {x} in the {p}, a {y} in the {q} and a {z} in the {r}. {b} found only what was in the {q}.",
            "What did {b} find?",
            "{a}把{x}藏在{p}，把{y}藏在{q}，把{z}藏在{r}。{b}只找到了{q}里的东西。",
            "{b}找到了什么？",
        ),
        "y x z",
    ),
)
"""The right choice first, then the wrong ones, each by its name in the passage."""

PEOPLE = (
    ("Tom", "小明"),
    ("Anna", "小红"),
    ("Ben", "大伟"),
    ("Mia", "美玲"),
    ("Paul", "建国"),
    ("Rosa", "丽娜"),
    ("Leo", "阿强"),
    ("Ida", "秀英"),
)
THINGS = (
    ("lamp", "台灯"),
    ("basket", "篮子"),
    ("kettle", "水壶"),
    ("chair", "椅子"),
    ("drum", "鼓"),
    ("mirror", "镜子"),
    ("ladder", "梯子"),
    ("clock", "闹钟"),
)
PLACES = (
    ("kitchen", "厨房"),
    ("garden", "花园"),
    ("garage", "车库"),
    ("library", "图书馆"),
    ("cellar", "地下室"),
    ("school", "学校"),
)
DAYS = (
    ("Monday", "星期一"),
    ("Tuesday", "星期二"),
    ("Wednesday", "星期三"),
    ("Thursday", "星期四"),
    ("Friday", "星期五"),
    ("Saturday", "星期六"),
)
ANIMALS = (("cat", "猫"), ("dog", "狗"), ("horse", "马"), ("goose", "鹅"))

TEXTS: dict[str, tuple[str, ...]] = {
    "en": (
        "The old bridge was built of grey stone. For two hundred years carts had rolled over it, then "
        "lorries, and now only "
        "people who walk their dogs in the evening. When the river is high, the water touches the lowest arch.",
        "To make bread you need flour, water, salt and time. Mix them in a bowl, cover it with a cloth and "
        "leave it overnight. "
        "In the morning the dough has doubled; shape it, let it rest once more, and bake it in a very hot oven.",
        "My sister repairs bicycles in a small shop behind the station. She says that most of them are not "
        "broken, only dirty. "
        "A little oil on the chain and some air in the tyres are often all that it takes.",
        "The train to the coast leaves at seven. Passengers should be on the platform ten minutes before, "
        "with their tickets "
        "ready. Dogs travel free, but large boxes have to be paid for at the counter.",
        "A good letter says at the beginning what it is about. The reasons follow, the most important first. "
        "At the end the "
        "reader should know what is asked of him, and by when.",
        "Cats sleep for most of the day. They hunt at dawn and at dusk, when mice come out of their holes, and rest in "
        "between. That is why a cat in the house wakes its owner so early.",
        "In spring the snow in the mountains melts and the streams fill up. Farmers in the valley lead the "
        "water through "
        "narrow channels to their fields, each for some hours, by a rule that is older than the village church.",
        "The committee met on Thursday to talk about the new playground. Some members wanted more trees, "
        "others a larger "
        "football field. In the end they agreed to ask the children themselves.",
        "Sound needs something to travel through. It moves through air, faster through water, and faster still through "
        "steel. In empty space there is nothing to carry it, and so it is silent there.",
        "He opened the window and listened. Somewhere a door was closed, a car drove off, then it was quiet "
        "again. Only the "
        "clock in the hall went on counting as it had done all night.",
    ),
    "zh": (
        "那座老桥是用灰色的石头砌成的。两百年来，先是马车从桥上驶过，后来是卡车，如今只有傍晚遛狗的人。河水上涨的时候，"
        "水面会碰到最低的桥拱。",
        "做面包需要面粉、水、盐和时间。把它们放在碗里拌匀，盖上一块布，放一个晚上。早上面团会胀到两倍大，整好形，再醒一会儿，"
        "放进很热的烤箱里烤熟。",
        "我姐姐在车站后面的小店里修自行车。她说大多数车并没有坏，只是太脏了。给链条上点油，给轮胎打点气，往往就够了。",
        "开往海边的火车七点出发。乘客应提前十分钟到站台，并准备好车票。狗可以免费乘车，但大件箱子需要在柜台付费。",
        "一封好的信，开头就会说明写信的目的，接着说明理由，最重要的放在最前面。到了结尾，读信的人应该清楚自己要做什么，什么时候完成。",
        "猫一天中的大部分时间都在睡觉。清晨和黄昏老鼠出洞的时候，它们去捕猎，其余时间休息。所以家里的猫总是很早就把主人叫醒。",
        "春天，山上的雪融化，溪水涨满。山谷里的农民用窄窄的水渠把水引到自己的田里，每家几个小时，这个规矩比村里的庙还要古老。",
        "委员会星期四开会讨论新的游乐场。有些委员希望多种树，有些希望把足球场建得大一些。最后大家同意去问问孩子们自己的意见。",
        "声音的传播需要介质。它在空气中传播，在水里更快，在钢铁中还要快。太空里没有东西可以传播声音，所以那里一片寂静。",
        "他打开窗户，仔细听着。远处有人关上了门，一辆汽车开走了，然后又安静下来。只有大厅里的钟还在走，就像整夜一样。",
    ),
}
"""Ordinary text, on which the loss of base and tuned model is compared."""
