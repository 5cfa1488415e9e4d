"""The small world of the starter model: chats and stories in English and Simplified Chinese, written by a generator.

Everything is drawn from one ``random.Random``, so the same seed gives the same text. Every prompt belongs for good
to one of two sides, and ``held_out(prompt)`` tells which: training sees one, the exam the other.
"""

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from lexicon import (
    ANIMALS,
    COLOURS,
    COMMON_EN,
    COMMON_ZH,
    NAMES_EN,
    NAMES_ZH,
    NUMBERS_EN,
    NUMBERS_ZH,
    OPPOSITES,
    PLACES,
    SYMBOLS,
    THINGS,
    UNKNOWN_EN,
    UNKNOWN_ZH,
    Pair,
    Thing,
)

LANGUAGES = ("en", "zh")
Message = dict[str, str]


@dataclass(frozen=True)
class Task:
    """One question with its one right answer; for a story, ``must`` lists the words that the answer has to contain."""

    skill: str
    lang: str
    prompt: str
    answer: str
    must: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """``count`` things of one colour."""

    count: int
    colour: Pair
    thing: Thing


@dataclass(frozen=True)
class Scene:
    """Who has what, and the text that says so."""

    owners: tuple[str, ...]
    items: tuple[tuple[Item, ...], ...]
    text: str = field(default="")


def held_out(prompt: str) -> bool:
    """Whether a prompt is kept from training (one in sixteen, by its CRC-32)."""
    return zlib.crc32(prompt.encode()) % 16 == 0


# --- words -----------------------------------------------------------------------------------------------------------


def number_zh(count: int) -> str:
    """A count before a measure word: 2 is 两 and not 二."""
    return "两" if count == 2 else NUMBERS_ZH[count]


def article(word: str) -> str:
    return ("an " if word[0] in "aeiou" else "a ") + word


def phrase(item: Item, lang: str, digits: bool = False, single: bool = False) -> str:
    """The item as the world says it: "three red cups", 三个红色的杯子; ``single`` gives "a red cup"."""
    if lang == "zh":
        count = str(item.count) if digits else number_zh(item.count)
        return f"{count}{item.thing.measure}{item.colour.zh}色的{item.thing.zh}"
    if single and item.count == 1 and not digits:
        return f"a {item.colour.en} {item.thing.one}"
    noun = item.thing.one if item.count == 1 else item.thing.many
    return f"{item.count if digits else NUMBERS_EN[item.count]} {item.colour.en} {noun}"


def listing(parts: Sequence[str], lang: str) -> str:
    """Parts in one sentence: "a, b and c", or a、b和c."""
    if len(parts) == 1:
        return parts[0]
    comma, last = (", ", " and ") if lang == "en" else ("、", "和")
    return comma.join(parts[:-1]) + last + parts[-1]


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def names(rng: random.Random, lang: str, count: int) -> tuple[str, ...]:
    return tuple(rng.sample(NAMES_EN if lang == "en" else NAMES_ZH, count))


VERBS = {
    "en": ("has", "bought", "found", "wants", "sees"),
    "zh": ("有", "买了", "找到了", "想要", "看见了"),
}


def scene(rng: random.Random, lang: str, owners: int = 0, single: bool | None = None) -> Scene:
    """A scene of one or two owners with different things in different colours."""
    owners = owners or rng.choice((1, 2))
    shares = [rng.choice((1, 2, 2, 3)) if owners == 1 else rng.choice((1, 1, 1, 2)) for _ in range(owners)]
    things = rng.sample(THINGS, sum(shares))
    colours = rng.sample(COLOURS, sum(shares))
    single = rng.random() < 0.3 if single is None else single
    counts = [1 if single else rng.choice((1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9)) for _ in things]
    flat = [Item(n, c, t) for n, c, t in zip(counts, colours, things, strict=True)]
    items = tuple(tuple(flat.pop() for _ in range(share)) for share in shares)
    people = names(rng, lang, owners)
    article_style = rng.random() < 0.6
    verb = rng.choice(VERBS[lang])
    said = []
    for person, owned in zip(people, items, strict=True):
        what = listing([phrase(item, lang, single=article_style) for item in owned], lang)
        said.append(f"{person} {verb} {what}." if lang == "en" else f"{person}{verb}{what}。")
    return Scene(people, items, (" " if lang == "en" else "").join(said))


def ask(rng: random.Random, lang: str, text: str, question: str) -> str:
    """A text and a question about it, in one of the two orders that instructions come in."""
    gap = " " if lang == "en" else ""
    return f"{text}{gap}{question}" if rng.random() < 0.5 else f"{question}\n{text}"


def one_word(rng: random.Random, lang: str, question: str, full: str, short: str) -> tuple[str, str]:
    """The question as it is with the whole sentence, or with the wish for one word and that word."""
    if rng.random() < 0.6:
        return question, full
    wish = (
        ("One word, please.", "Answer in one word.", "Just the word.")
        if lang == "en"
        else ("只回答一个词。", "请用一个词回答。", "只说词语。")
    )
    gap = " " if lang == "en" else ""
    return f"{question}{gap}{rng.choice(wish)}", short


# --- skills about a scene: given a scene that was told before, they ask the question alone ----------------------------


def _pick(rng: random.Random, told: Scene) -> tuple[str, Item]:
    place = rng.randrange(len(told.owners))
    return told.owners[place], rng.choice(told.items[place])


def colour(rng: random.Random, lang: str, told: Scene | None = None) -> Task:
    shown = told or scene(rng, lang)
    _, item = _pick(rng, shown)
    if lang == "en":
        noun, verb = (item.thing.one, "is") if item.count == 1 else (item.thing.many, "are")
        question = rng.choice(
            (
                f"What colour {verb} the {noun}?",
                f"Which colour {verb} the {noun}?",
                f"Tell me the colour of the {noun}.",
                f"The {noun}: what colour?",
            )
        )
        answer = f"The {noun} {verb} {item.colour.en}."
    else:
        noun = item.thing.zh
        question = rng.choice(
            (f"{noun}是什么颜色的？", f"{noun}是什么颜色？", f"请说出{noun}的颜色。", f"{noun}的颜色是什么？")
        )
        answer = f"{noun}是{item.colour.zh}色的。"
    return Task("colour", lang, question if told else ask(rng, lang, shown.text, question), answer)


def who(rng: random.Random, lang: str, told: Scene | None = None) -> Task:
    shown = told or scene(rng, lang, owners=2)
    person, item = _pick(rng, shown)
    if lang == "en":
        noun, verb = (item.thing.one, "belongs") if item.count == 1 else (item.thing.many, "belong")
        question = rng.choice(
            (
                f"Who has the {noun}?",
                f"Whose {noun}?",
                f"Who is it with the {noun}?",
                f"Name the one with the {item.colour.en} {noun}.",
            )
        )
        answer = f"The {noun} {verb} to {person}."
    else:
        noun = item.thing.zh
        question = rng.choice(
            (f"{noun}是谁的？", f"谁有{noun}？", f"有{noun}的是谁？", f"{item.colour.zh}色的{noun}是谁的？")
        )
        answer = f"{noun}是{person}的。"
    return Task("who", lang, question if told else ask(rng, lang, shown.text, question), answer)


def how_many(rng: random.Random, lang: str, told: Scene | None = None) -> Task:
    shown = told or scene(rng, lang, single=False)
    _, item = _pick(rng, shown)
    digits = rng.random() < 0.5
    if lang == "en":
        noun = item.thing.many
        question = rng.choice((f"How many {noun} are there?", f"How many {noun}?", f"Tell me the number of {noun}."))
        question += rng.choice((" Use a digit.", " Write the digit.")) if digits else ""
        answer = f"{capital(noun)}: {item.count if digits else NUMBERS_EN[item.count]}."
    else:
        measure, noun = item.thing.measure, item.thing.zh
        question = rng.choice((f"有几{measure}{noun}？", f"{noun}有多少？", f"请说出{noun}的数量。"))
        question += rng.choice(("请用数字。", "写数字。")) if digits else ""
        answer = f"{noun}有{item.count if digits else number_zh(item.count)}{measure}。"
    return Task("how many", lang, question if told else ask(rng, lang, shown.text, question), answer)


def list_things(rng: random.Random, lang: str, told: Scene | None = None) -> Task:
    """Lists of what one owner has, in several fixed forms."""
    shown = told or scene(rng, lang, owners=rng.choice((1, 1, 2)))
    place = rng.randrange(len(shown.owners))
    person, owned = shown.owners[place], shown.items[place]
    nouns = [item.thing.one if lang == "en" else item.thing.zh for item in owned]
    colours = [item.colour.en if lang == "en" else f"{item.colour.zh}色" for item in owned]
    whole = [phrase(item, lang, digits=True) for item in owned]
    forms: tuple[tuple[tuple[str, ...], str], ...]
    if lang == "en":
        forms = (
            (
                (
                    f"Which kinds of things does {person} have?",
                    f"List the kinds of things of {person}, one of each.",
                    f"{person}: name each kind of thing.",
                ),
                ", ".join(nouns),
            ),
            (
                (
                    f"Which colours are the things of {person}?",
                    f"List the colours of {person}.",
                    f"{person}: name the colours.",
                ),
                ", ".join(colours),
            ),
            (
                (
                    f"Write a list with dashes of the things of {person}.",
                    f"Make a list for {person}.",
                    f"{person}: one thing on each line.",
                ),
                "\n".join(f"- {part}" for part in whole),
            ),
            (
                (f"Count each thing of {person}.", f"{person}: how many of each?"),
                ", ".join(f"{noun}: {item.count}" for noun, item in zip(nouns, owned, strict=True)),
            ),
        )
    else:
        forms = (
            ((f"{person}有哪几种东西？", f"列出{person}的东西的种类。", f"{person}：说出每种东西。"), "、".join(nouns)),
            ((f"{person}的东西是哪些颜色？", f"列出{person}的颜色。", f"{person}：说出颜色。"), "、".join(colours)),
            (
                (f"用短横线列出{person}的东西。", f"给{person}列一个清单。", f"{person}：每行写一样东西。"),
                "\n".join(f"- {part}" for part in whole),
            ),
            (
                (f"数一数{person}的每样东西。", f"{person}：每样各有几个？"),
                "，".join(f"{noun}：{item.count}" for noun, item in zip(nouns, owned, strict=True)),
            ),
        )
    questions, answer = rng.choice(forms)
    question = rng.choice(questions)
    return Task("list", lang, question if told else ask(rng, lang, shown.text, question), answer)


def rewrite(rng: random.Random, lang: str) -> Task:
    """One sentence told again with one thing changed."""
    person, other = names(rng, lang, 2)
    first, second, third = rng.sample(COLOURS, 3)
    things = rng.sample(THINGS, 2)
    items = [Item(rng.randint(2, 9), first, things[0]), Item(rng.randint(1, 9), second, things[1])]
    items = items[: rng.choice((1, 2))]
    verb = rng.choice(VERBS[lang])

    def tell(name: str, owned: Sequence[Item], digits: bool = False) -> str:
        what = listing([phrase(item, lang, digits) for item in owned], lang)
        return f"{name} {verb} {what}." if lang == "en" else f"{name}{verb}{what}。"

    def bare(owned: Sequence[Item]) -> str:
        if lang == "zh":
            what = listing([f"{number_zh(i.count)}{i.thing.measure}{i.thing.zh}" for i in owned], lang)
            return f"{person}{verb}{what}。"
        what = listing([f"{NUMBERS_EN[i.count]} {i.thing.one if i.count == 1 else i.thing.many}" for i in owned], lang)
        return f"{person} {verb} {what}."

    text = tell(person, items)
    changed = [Item(item.count, third if item.colour == first else item.colour, item.thing) for item in items]
    forms: tuple[tuple[str, str], ...]
    if lang == "en":
        forms = (
            (rng.choice(("Write the numbers as digits.", "Use digits.")), tell(person, items, digits=True)),
            (rng.choice(("Leave out the colours.", "Write it without the colours.")), bare(items)),
            (rng.choice((f"Put {other} in place of {person}.", f"Say it about {other}.")), tell(other, items)),
            (
                rng.choice((f"Change {first.en} to {third.en}.", f"Put {third.en} for {first.en}.")),
                tell(person, changed),
            ),
        )
    else:
        forms = (
            (rng.choice(("把数量写成数字。", "请用数字写。")), tell(person, items, digits=True)),
            (rng.choice(("去掉颜色。", "不要写颜色。")), bare(items)),
            (rng.choice((f"把{person}换成{other}。", f"改成说{other}。")), tell(other, items)),
            (
                rng.choice((f"把{first.zh}色改成{third.zh}色。", f"用{third.zh}色代替{first.zh}色。")),
                tell(person, changed),
            ),
        )
    question, answer = rng.choice(forms)
    return Task("rewrite", lang, ask(rng, lang, text, question), answer)


def where(rng: random.Random, lang: str) -> Task:
    animals, places = rng.sample(ANIMALS, 2), rng.sample(PLACES, 2)
    if lang == "en":
        text = " ".join(f"The {a.one} is in the {p.en}." for a, p in zip(animals, places, strict=True))
        question = rng.choice((f"Where is the {animals[0].one}?", f"In which place is the {animals[0].one}?"))
        answer = f"The {animals[0].one} is in the {places[0].en}."
    else:
        text = "".join(f"{a.zh}在{p.zh}。" for a, p in zip(animals, places, strict=True))
        question = rng.choice((f"{animals[0].zh}在哪里？", f"{animals[0].zh}在什么地方？"))
        answer = f"{animals[0].zh}在{places[0].zh}。"
    return Task("where", lang, ask(rng, lang, text, question), answer)


# --- skills without a scene ------------------------------------------------------------------------------------------

_GREET_EN = ("Hello!", "Hi!", "Good morning!", "Good evening!", "Hi there!", "Hello there!", "Good day!")
_GREET_ZH = ("你好！", "您好！", "早上好！", "晚上好！", "嗨！", "大家好！", "下午好！")


def greeting(rng: random.Random, lang: str) -> Task:
    person = names(rng, lang, 1)[0]
    hello = rng.choice(_GREET_EN if lang == "en" else _GREET_ZH)
    kind = rng.randrange(6)
    if lang == "en":
        own = rng.choice((f"! I am {person}.", f" from {person}!", f", says {person}."))
        said, answer = (
            (hello, "Hello! How can I help you?"),
            (
                f"{hello} {rng.choice(('My name is', 'I am', 'This is'))} {person}.",
                f"Hello, {person}! Nice to meet you.",
            ),
            (f"{rng.choice(('Goodbye', 'Bye', 'See you', 'Good night'))}{own}", f"Goodbye, {person}! See you soon."),
            (f"{rng.choice(('Thank you', 'Thanks', 'Many thanks'))}{own}", f"You are welcome, {person}!"),
            (
                f"{hello} {rng.choice(('How are you', 'How do you do', 'Are you well'))}?",
                "I am fine, thank you! And you?",
            ),
            (
                f"{hello} {rng.choice(('Who are you', 'What is your name', 'What are you'))}?",
                "I am the starter, a very small language model.",
            ),
        )[kind]
    else:
        said, answer = (
            (hello, "你好！有什么可以帮你的吗？"),
            (f"{hello}{rng.choice(('我叫', '我是', '我的名字是'))}{person}。", f"你好，{person}！很高兴认识你。"),
            (f"{rng.choice(('再见', '拜拜', '回头见', '晚安'))}！我是{person}。", f"再见，{person}！下次见。"),
            (f"{rng.choice(('谢谢你', '谢谢', '多谢'))}！我是{person}。", f"不客气，{person}！"),
            (f"{hello}{rng.choice(('你好吗', '你最近怎么样', '你还好吗'))}？", "我很好，谢谢！你呢？"),
            (f"{hello}{rng.choice(('你是谁', '你叫什么名字', '你是什么'))}？", "我是入门模型，一个很小的语言模型。"),
        )[kind]
    return Task("greeting", lang, said, answer)


def opposite(rng: random.Random, lang: str) -> Task:
    pair = rng.choice(OPPOSITES)
    words = [pair[0], pair[1]] if lang == "en" else [pair[2], pair[3]]
    rng.shuffle(words)
    word, other = words
    if lang == "en":
        asked = (
            f"What is the opposite of {word}?",
            f"Give me the opposite of {word}.",
            f"Say the opposite of {word}.",
            f"Tell me the opposite of {word}, please.",
            f"Opposite of {word}?",
            f"{capital(word)} is the opposite of what?",
            f"Which word is the opposite of {word}?",
            f"Find the opposite.\n{word}",
        )
        question, answer = one_word(rng, lang, rng.choice(asked), f"The opposite of {word} is {other}.", other)
    else:
        asked = (
            f"“{word}”的反义词是什么？",
            f"请说出“{word}”的反义词。",
            f"“{word}”的反义词？",
            f"“{word}”的反面是什么？",
            f"告诉我“{word}”的反义词。",
            f"和“{word}”相反的词是什么？",
            f"哪个词是“{word}”的反义词？",
            f"写出反义词。\n{word}",
        )
        question, answer = one_word(rng, lang, rng.choice(asked), f"“{word}”的反义词是“{other}”。", other)
    return Task("opposite", lang, question, answer)


def count(rng: random.Random, lang: str) -> Task:
    """Counting repeated words, or the words of a list."""
    many = rng.randint(1, 9)
    thing = rng.choice(THINGS + ANIMALS)
    same = rng.random() < 0.6
    chosen = [thing] * many if same else rng.sample(THINGS, many)
    if lang == "en":
        text = ", ".join(one.one for one in chosen)
        if same:
            question = rng.choice((f"Count the {thing.many}:", f"How many {thing.many} do you see?"))
            answer = f"There is one {thing.one}." if many == 1 else f"There are {NUMBERS_EN[many]} {thing.many}."
        else:
            question = rng.choice(("Count the words:", "How many words are in the list?"))
            answer = "There is one word." if many == 1 else f"There are {NUMBERS_EN[many]} words."
    else:
        text = "、".join(one.zh for one in chosen)
        if same:
            question = rng.choice((f"数一数{thing.zh}：", f"你看到几{thing.measure}{thing.zh}？"))
            answer = f"有{number_zh(many)}{thing.measure}{thing.zh}。"
        else:
            question = rng.choice(("数一数词语：", "这里有几个词语？"))
            answer = f"有{number_zh(many)}个词语。"
    gap = rng.choice(("\n", " " if lang == "en" else ""))
    return Task("count", lang, f"{question}{gap}{text}", answer)


def next_number(rng: random.Random, lang: str) -> Task:
    start = rng.randint(0, 96)
    after = rng.random() < 0.6
    if rng.random() < 0.4:
        length = rng.randint(3, 5)
        start = min(start, 95)
        run = ", ".join(str(start + step) for step in range(length))
        asked: tuple[str, ...] = (
            (f"Go on: {run}", f"{run}. What comes next?", f"Which number is next?\n{run}")
            if lang == "en"
            else (f"接着数：{run}", f"{run}，下一个数是什么？", f"下一个数是几？\n{run}")
        )
        return Task("next number", lang, rng.choice(asked), str(start + length))
    number, answer = (start, start + 1) if after else (start + 1, start)
    if lang == "en":
        word = "after" if after else "before"
        asked = (
            f"What comes {word} {number}?",
            f"Which number comes {word} {number}?",
            f"Tell me the number right {word} {number}.",
            f"What number is just {word} {number}?",
        )
    else:
        word = "后面" if after else "前面"
        asked = (
            f"{number}{word}是几？",
            f"{number}的{word}一个数是什么？",
            f"请说出{number}{word}的数。",
            f"紧接在{number}{word}的数是几？",
        )
    return Task("next number", lang, rng.choice(asked), str(answer))


def arithmetic(rng: random.Random, lang: str) -> Task:
    plus = rng.random() < 0.5
    first = rng.randint(0, 6)
    second = rng.randint(0, 6 - first if plus else first)
    answer = first + second if plus else first - second
    if lang == "en":
        sign, word = ("+", "plus") if plus else ("-", "minus")
        asked = (
            f"What is {first} {sign} {second}?",
            f"What is {first} {word} {second}?",
            f"{first} {sign} {second} =",
            f"How much is {first} {word} {second}?",
            f"Work it out.\n{first} {sign} {second}",
        )
    else:
        sign, word = ("+", "加") if plus else ("-", "减")
        asked = (
            f"{first}{word}{second}等于几？",
            f"{first} {sign} {second} =",
            f"{first} {sign} {second}等于多少？",
            f"请计算{first}{word}{second}。",
            f"算一算。\n{first} {sign} {second}",
        )
    return Task("arithmetic", lang, rng.choice(asked), str(answer))


def noun_form(rng: random.Random, lang: str) -> Task:
    """English: one and many. Chinese: the measure word."""
    thing = rng.choice(THINGS + ANIMALS)
    if lang == "zh":
        number = rng.randint(1, 10)
        asked = (
            f"{number}和{thing.zh}连起来怎么说？",
            f"数量是{number}，东西是{thing.zh}，怎么说？",
            f"用量词写出来。\n{number} {thing.zh}",
            f"{number}和{thing.zh}，请加上量词。",
        )
        return Task("noun form", lang, rng.choice(asked), f"{number_zh(number)}{thing.measure}{thing.zh}")
    if rng.random() < 0.5:
        asked = (
            f"One {thing.one}, two what?",
            f"What is the plural of {thing.one}?",
            f"Write it for many.\n{thing.one}",
            f"How do you say more than one {thing.one}?",
        )
        return Task("noun form", lang, rng.choice(asked), thing.many)
    asked = (
        f"Many {thing.many}, one what?",
        f"What is the singular of {thing.many}?",
        f"Write it for one.\n{thing.many}",
        f"How do you say just one of the {thing.many}?",
    )
    return Task("noun form", lang, rng.choice(asked), thing.one)


def _loose_words(rng: random.Random, lang: str, many: int) -> list[str]:
    pools: tuple[Sequence[str], ...] = (
        (
            [t.one for t in THINGS] + [t.many for t in THINGS] + [a.one for a in ANIMALS] + [p.en for p in PLACES],
            NAMES_EN,
            [c.en for c in COLOURS],
            NUMBERS_EN,
            SYMBOLS,
            [str(n) for n in range(100)],
            [w for pair in OPPOSITES for w in pair[:2]],
            COMMON_EN,
            COMMON_EN,
        )
        if lang == "en"
        else (
            [t.zh for t in THINGS] + [a.zh for a in ANIMALS] + [p.zh for p in PLACES],
            NAMES_ZH,
            [f"{c.zh}色" for c in COLOURS],
            NUMBERS_ZH,
            SYMBOLS,
            [str(n) for n in range(100)],
            [w for pair in OPPOSITES for w in pair[2:]],
            COMMON_ZH,
            COMMON_ZH,
        )
    )
    return [rng.choice(rng.choice(pools)) for _ in range(many)]


def repeat(rng: random.Random, lang: str) -> Task:
    """Saying a line of loose words again: the plainest exercise in copying."""
    line = " ".join(_loose_words(rng, lang, rng.randint(2, 6)))
    asked = (
        (f"Repeat after me: {line}", f"Say this again.\n{line}", f"Copy the line.\n{line}", f"Write the same: {line}")
        if (lang == "en")
        else (f"请跟我说：{line}", f"再说一遍。\n{line}", f"抄写这一行。\n{line}", f"写出同样的内容：{line}")
    )
    return Task("repeat", lang, rng.choice(asked), line)


def unknown(rng: random.Random, lang: str) -> Task:
    if lang == "en":
        lead = rng.choice(("", "Please tell me: ", "I have a question. ", "Can you help? "))
        return Task(
            "unknown", lang, lead + rng.choice(UNKNOWN_EN), "I am sorry, I do not know that. My world is very small."
        )
    lead = rng.choice(("", "请告诉我：", "我有一个问题。", "能帮帮我吗？"))
    return Task("unknown", lang, lead + rng.choice(UNKNOWN_ZH), "对不起，这个我不知道。我的世界很小。")


# --- stories ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cast:
    """Who and what a story is about, already in the story's language."""

    hero: str
    friend: str
    colour: str
    thing: str
    animal: str
    place: str


def cast(rng: random.Random, lang: str) -> Cast:
    hero, friend = names(rng, lang, 2)
    shade, thing, animal, place = rng.choice(COLOURS), rng.choice(THINGS), rng.choice(ANIMALS), rng.choice(PLACES)
    if lang == "en":
        return Cast(hero, friend, shade.en, thing.one, animal.one, place.en)
    return Cast(hero, friend, f"{shade.zh}色", thing.zh, animal.zh, place.zh)


def _plots_en(c: Cast, pick: Callable[[Sequence[str]], str]) -> tuple[tuple[str, ...], ...]:
    it = f"the {c.colour} {c.thing}"
    start = pick(("One day", "One sunny morning", "Once upon a time", "Last summer"))
    glad = pick(("was very happy", "smiled", "laughed", "was full of joy"))
    home = pick(
        (
            "Then they went home together.",
            "They were friends from that day on.",
            "It was a good day.",
            "At night they slept well.",
        )
    )
    return (
        (
            f"{start}, {c.hero} lost {it} in the {c.place}.",
            f"{c.hero} looked and looked, but it was not there.",
            f'Then {c.friend} came and said, "I will help you."',
            f"They found {it} {pick(('under a tree', 'behind a door'))}.",
            f"{c.hero} {glad}.",
            home,
        ),
        (
            f"{start}, {c.hero} went to the {c.place} with {article(c.colour)} {c.thing}.",
            f"There {c.hero} met a little {c.animal}.",
            f"The {c.animal} was {pick(('cold', 'sad', 'hungry'))} and alone.",
            f"{c.hero} gave {it} to the {c.animal}.",
            f"The {c.animal} {glad}.",
            home,
        ),
        (
            f"{start}, {c.hero} wanted {article(c.colour)} {c.thing}.",
            f"So {c.hero} went to the {c.place} to find one.",
            f'{c.friend} had {it} and said, "Let us play with it together."',
            f"They played all day with {it}.",
            f"{c.hero} {glad}.",
            home,
        ),
        (
            f"{start}, a {c.animal} took {it} from {c.hero}.",
            f"The {c.animal} ran to the {c.place}.",
            f"{c.hero} and {c.friend} ran after the {c.animal}.",
            f'The {c.animal} said, "I am sorry," and gave it back.',
            f'{c.hero} {glad} and said, "You can play with us."',
            home,
        ),
    )


def _plots_zh(c: Cast, pick: Callable[[Sequence[str]], str]) -> tuple[tuple[str, ...], ...]:
    it = f"{c.colour}的{c.thing}"
    start = pick(("有一天", "一个晴朗的早晨", "从前", "去年夏天"))
    glad = pick(("非常高兴", "笑了", "开心极了", "心里暖暖的"))
    home = pick(("然后他们一起回家了。", "从那天起，他们成了好朋友。", "这真是美好的一天。", "晚上他们睡得很香。"))
    return (
        (
            f"{start}，{c.hero}在{c.place}丢了{it}。",
            f"{c.hero}找来找去，怎么也找不到。",
            f"这时{c.friend}来了，说：“我来帮你。”",
            f"他们在{pick(('大树下', '门后面'))}找到了{it}。",
            f"{c.hero}{glad}。",
            home,
        ),
        (
            f"{start}，{c.hero}带着{it}去{c.place}。",
            f"{c.hero}在那里遇见了小小的{c.animal}。",
            f"{c.animal}{pick(('很冷', '很难过', '很饿'))}，身边没有朋友。",
            f"{c.hero}把{it}送给了{c.animal}。",
            f"{c.animal}{glad}。",
            home,
        ),
        (
            f"{start}，{c.hero}很想要{it}。",
            f"于是{c.hero}到{c.place}去找。",
            f"{c.friend}正好有{it}，说：“我们一起玩吧。”",
            f"他们拿着{it}玩了一整天。",
            f"{c.hero}{glad}。",
            home,
        ),
        (
            f"{start}，{c.animal}拿走了{c.hero}的{it}。",
            f"{c.animal}跑到了{c.place}。",
            f"{c.hero}和{c.friend}在后面追。",
            f"{c.animal}说：“对不起。”然后把东西还了回来。",
            f"{c.hero}{glad}，说：“你可以和我们一起玩。”",
            home,
        ),
    )


def tell_story(rng: random.Random, lang: str, who_and_what: Cast) -> str:
    plots = (_plots_en if lang == "en" else _plots_zh)(who_and_what, rng.choice)
    return (" " if lang == "en" else "").join(rng.choice(plots))


def story(rng: random.Random, lang: str) -> Task:
    """A little story about a named hero and a named thing."""
    c = cast(rng, lang)
    if lang == "en":
        asked = (
            f"Tell me a story about {c.hero} and {article(c.colour)} {c.thing}.",
            f"Please write a little story with {c.hero} and {article(c.colour)} {c.thing}.",
            f"I want to hear a story: {c.hero}, {article(c.colour)} {c.thing}.",
            f"Write a short story.\n{c.hero}, {c.colour} {c.thing}",
        )
    else:
        asked = (
            f"给我讲一个{c.hero}和{c.colour}的{c.thing}的故事。",
            f"请写一个小故事，里面有{c.hero}和{c.colour}的{c.thing}。",
            f"我想听故事：{c.hero}、{c.colour}的{c.thing}。",
            f"写一个小故事。\n{c.hero}，{c.colour}的{c.thing}",
        )
    return Task("story", lang, rng.choice(asked), tell_story(rng, lang, c), (c.hero, c.colour, c.thing))


# --- chats -----------------------------------------------------------------------------------------------------------

SKILLS: dict[str, tuple[Callable[[random.Random, str], Task], float]] = {
    "greeting": (greeting, 0.8),
    "colour": (colour, 2.5),
    "who": (who, 1.5),
    "how many": (how_many, 2.5),
    "list": (list_things, 3.5),
    "rewrite": (rewrite, 2.5),
    "where": (where, 0.7),
    "opposite": (opposite, 2.5),
    "count": (count, 2.0),
    "next number": (next_number, 2.2),
    "arithmetic": (arithmetic, 1.5),
    "noun form": (noun_form, 1.6),
    "repeat": (repeat, 3.0),
    "unknown": (unknown, 0.4),
    "story": (story, 0.7),
}

SYSTEM = {
    "en": (
        "You are a friendly helper.",
        "You are the starter, a very small language model.",
        "Be kind and brief.",
        "You are a helpful assistant.",
        "Answer the user.",
    ),
    "zh": (
        "你是一个友好的助手。",
        "你是入门模型，一个很小的语言模型。",
        "请亲切、简短地回答。",
        "你是一个乐于助人的助手。",
        "请回答用户的问题。",
    ),
}


def task(rng: random.Random, skill: str, lang: str, unseen: bool = False) -> Task:
    """A task of one skill from the wanted side of the split."""
    while True:
        made = SKILLS[skill][0](rng, lang)
        if held_out(made.prompt) == unseen:
            return made


def _remembered_name(rng: random.Random, lang: str) -> list[Message]:
    person = names(rng, lang, 1)[0]
    if lang == "en":
        said = [
            f"{rng.choice(_GREET_EN)} My name is {person}.",
            f"Hello, {person}! Nice to meet you.",
            rng.choice(("What is my name?", "Do you know my name?", "Who am I?")),
            f"Your name is {person}.",
        ]
    else:
        said = [
            f"{rng.choice(_GREET_ZH)}我叫{person}。",
            f"你好，{person}！很高兴认识你。",
            rng.choice(("我叫什么名字？", "你知道我的名字吗？", "我是谁？")),
            f"你叫{person}。",
        ]
    return [{"role": "assistant" if turn % 2 else "user", "content": text} for turn, text in enumerate(said)]


def _about_one_scene(rng: random.Random, lang: str) -> list[Task]:
    """Two to eight questions about one scene; only the first tells it."""
    told = scene(rng, lang, owners=rng.choice((1, 2, 2)), single=False)
    skills = [colour, how_many, list_things] + [who] * (len(told.owners) > 1)
    made: list[Task] = []
    while len(made) < 2 or (len(made) < 8 and rng.random() < 0.85):
        one = rng.choice(skills)(rng, lang, told)
        prompt = one.prompt if made else ask(rng, lang, told.text, one.prompt)
        if not held_out(prompt):
            made.append(Task(one.skill, lang, prompt, one.answer))
    return made


def chat(rng: random.Random, lang: str) -> list[Message]:
    """A chat of one to four turns, one in four with a system prompt."""
    messages: list[Message] = []
    if rng.random() < 0.25:
        messages.append({"role": "system", "content": rng.choice(SYSTEM[lang])})
    if rng.random() < 0.02:
        return messages + _remembered_name(rng, lang)
    if rng.random() < 0.5:  # the hardest to learn, and many answers to learn from for one text
        made = _about_one_scene(rng, lang)
    else:
        kinds, weights = list(SKILLS), [weight for _, weight in SKILLS.values()]
        turns = rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 4))
        made = [task(rng, rng.choices(kinds, weights)[0], lang) for _ in range(turns)]
    for one in made:
        messages.append({"role": "user", "content": one.prompt})
        messages.append({"role": "assistant", "content": one.answer})
    return messages


def chats(seed: int) -> Iterator[list[Message]]:
    """Endless chats, the languages by turns."""
    rng = random.Random(seed)
    while True:
        for lang in LANGUAGES:
            yield chat(rng, lang)


def stories(seed: int) -> Iterator[str]:
    """Endless plain stories, the languages by turns."""
    rng = random.Random(seed)
    while True:
        for lang in LANGUAGES:
            yield tell_story(rng, lang, cast(rng, lang))


def exam(seed: int, each: int) -> Iterator[Task]:
    """``each`` different unseen tasks of every skill in both languages (fewer where the skill has fewer)."""
    rng = random.Random(seed)
    for skill in SKILLS:
        for lang in LANGUAGES:
            asked: set[str] = set()
            for _ in range(each * 20):
                made = SKILLS[skill][0](rng, lang)
                if held_out(made.prompt) and made.prompt not in asked and len(asked) < each:
                    asked.add(made.prompt)
                    yield made
