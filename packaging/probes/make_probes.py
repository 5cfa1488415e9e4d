"""Write ``resources/probes``: questions in five skills, English and Chinese, and ordinary text. All is our own.

    python packaging/probes/make_probes.py

Same seed, same files. Each line is ``{"id", "question", "choices", "answer"}`` (the place of the right choice), or
``{"id", "question", "accept"}`` (a regular expression that the whole answer has to match), or ``{"id", "text"}``.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from facts import FACTS, PROGRAMS  # noqa: E402  (its folder is put on the path first)
from frames import ANIMALS, DAYS, PEOPLE, PLACES, READING, TEXTS, THINGS  # noqa: E402

OUT = HERE.parent.parent / "resources" / "probes"
SEED = 7
PER_SKILL = 40
LANGUAGES = ("en", "zh")

Item = dict[str, Any]


def choice(question: str, right: str, wrong: Sequence[str], chance: random.Random) -> Item:
    """A question with its choices in an order that says nothing."""
    choices = [right, *wrong]
    assert len(set(choices)) == len(choices), (question, choices)
    chance.shuffle(choices)
    return {"question": question, "choices": choices, "answer": choices.index(right)}


# ---------------------------------------------------------------------------------------------------- arithmetic
def arithmetic(language: str) -> Iterator[Item]:
    """Sums of one and two digits, and small problems in words."""
    chance = random.Random(SEED)
    for number in range(PER_SKILL):
        question, right = SUMS[number % len(SUMS)](chance, language)
        offsets = chance.sample([o for o in (-10, -3, -2, -1, 1, 2, 3, 10) if right + o > 0], 3)
        yield choice(question, str(right), [str(right + offset) for offset in offsets], chance)


def _plain(chance: random.Random, language: str, sign: str, left: int, right: int) -> str:
    return f"What is {left} {sign} {right}?" if language == "en" else f"{left} {sign} {right} 等于多少？"


def _add(chance: random.Random, language: str) -> tuple[str, int]:
    a, b = chance.randint(11, 59), chance.randint(11, 40)
    return _plain(chance, language, "+", a, b), a + b


def _subtract(chance: random.Random, language: str) -> tuple[str, int]:
    a, b = chance.randint(50, 99), chance.randint(11, 38)
    return _plain(chance, language, "-", a, b), a - b


def _multiply(chance: random.Random, language: str) -> tuple[str, int]:
    a, b = chance.randint(4, 9), chance.randint(4, 9)
    return _plain(chance, language, "×", a, b), a * b


def _divide(chance: random.Random, language: str) -> tuple[str, int]:
    a, b = chance.randint(12, 19), chance.randint(3, 9)
    return _plain(chance, language, "÷", a * b, b), a


def _in_words(chance: random.Random, language: str) -> tuple[str, int]:
    boxes, each, gone = chance.randint(3, 8), chance.randint(5, 9), chance.randint(2, 9)
    if language == "en":
        told = f"There are {boxes} boxes with {each} pens each. {gone} pens are taken away. How many pens are left?"
    else:
        told = f"有 {boxes} 个盒子，每个装 {each} 支笔，拿走 {gone} 支后还剩多少支？"
    return told, boxes * each - gone


SUMS = (_add, _subtract, _multiply, _divide, _in_words)


# ---------------------------------------------------------------------------------------------- knowledge and code
def knowledge(language: str) -> Iterator[Item]:
    """What most people know."""
    chance = random.Random(SEED)
    for english, in_english, chinese, in_chinese in FACTS:
        question, choices = (english, in_english) if language == "en" else (chinese, in_chinese)
        right, *wrong = choices.split(" | ")
        yield choice(question, right, wrong, chance)


def code(language: str) -> Iterator[Item]:
    """What a small program prints: found out by running it."""
    chance = random.Random(SEED)
    ask = "What does this Python program print?" if language == "en" else "这段 Python 程序输出什么？"
    for program, wrong in PROGRAMS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(program, {})
        yield choice(f"{ask}\n\n{program}", printed.getvalue().strip(), wrong.split(" | "), chance)


# -------------------------------------------------------------------------------------------------------- reading
def reading(language: str) -> Iterator[Item]:
    """Passages of a few sentences, whose names and things change."""
    chance = random.Random(SEED)
    column = LANGUAGES.index(language)
    for number in range(PER_SKILL):
        frame, names = READING[number % len(READING)]
        filled = {name: word[column] for name, word in _words(chance).items()}
        passage, question = (text.format(**filled) for text in frame[2 * column : 2 * column + 2])
        right, *wrong = (filled[name] for name in names.split())
        yield choice(f"{passage}\n\n{question}", right, wrong, chance)


def _words(chance: random.Random) -> dict[str, tuple[str, str]]:
    kinds = (("abc", PEOPLE), ("xyz", THINGS), ("pqr", PLACES))
    found = {name: word for names, words in kinds for name, word in zip(names, chance.sample(words, 3), strict=True)}
    days = dict(zip(("day", "day2", "day3"), chance.sample(DAYS, 3), strict=True))
    return {**found, **days, "x_animal": chance.choice(ANIMALS)}


# --------------------------------------------------------------------------------------------------------- format
WORDS = {"en": ("river", "table", "stone", "green"), "zh": ("河流", "桌子", "石头", "绿色")}
MONTHS = ("January", "March", "June", "October")


def form(language: str) -> Iterator[Item]:
    """Answers that have to have a form; what is in them is easy."""
    for number, word in enumerate(WORDS[language]):
        for question, accept in (_english if language == "en" else _chinese)(number, word):
            assert re.compile(accept)
            yield {"question": question, "accept": accept}


def _counted(number: int) -> tuple[int, int, str]:
    low, high = number + 2, number + 6
    return low, high, " ".join(str(n) for n in range(low, high + 1))


def _english(number: int, word: str) -> Iterator[tuple[str, str]]:
    low, high, counted = _counted(number)
    latin = WORDS["en"][number]
    month, day = MONTHS[number], 5 + number
    yield f"Write the word {word} in capital letters. Answer with the word only.", rf"{word.upper()}\.?"
    yield f"Write the word {word} three times, separated by hyphens, and nothing else.", rf"{word}-{word}-{word}"
    yield f"Put the word {word} in square brackets. Answer with that only.", rf"\[{word}\]"
    yield f"Count from {low} to {high} with a blank between the numbers. Write nothing else.", counted
    yield f'Give a JSON object with the key "word" and the value "{latin}", and nothing else.', _json("word", latin)
    yield f"Write {day} {month} {2019 + number} in the form YYYY-MM-DD. Answer with the date only.", _date(number)
    yield f"Answer with yes or no only: is {word} an English word?", r"(?i)yes\.?"
    yield f"Repeat this exactly, without quotation marks: “the {word} is here”", rf"[Tt]he {word} is here\.?"
    yield f"Name {2 + number} colours, separated by commas, on one line. Write nothing else.", _listed(2 + number)
    yield (
        f"Answer in exactly this form, with your answer in place of the dots: Result: ... What is {low} + 1?",
        (rf"Result: {low + 1}\.?"),
    )


def _chinese(number: int, word: str) -> Iterator[tuple[str, str]]:
    low, high, counted = _counted(number)
    latin = WORDS["en"][number]
    yield f"把单词 {latin} 写成大写字母，只回答这个单词。", rf"{latin.upper()}[。.]?"
    yield f"把“{word}”写三遍，用连字符 - 连接，不要写别的内容。", rf"{word}-{word}-{word}"
    yield f"把“{word}”放在方括号 [] 里，只回答这一项。", rf"\[{word}\]"
    yield f"从 {low} 数到 {high}，数字之间用空格隔开，不要写别的内容。", counted
    yield f'给出一个 JSON 对象，键为 "word"，值为 "{word}"，不要写别的内容。', _json("word", word)
    yield (
        f"把 {2019 + number} 年 {(1, 3, 6, 10)[number]} 月 {5 + number} 日写成 YYYY-MM-DD 的形式，只回答日期。",
        _date(number),
    )
    yield f"只回答“是”或“否”：“{word}”是中文词语吗？", r"是[。.]?"
    yield f"原样重复，不加引号：“{word}在这里”", rf"{word}在这里[。.]?"
    yield (
        f"写出 {2 + number} 种颜色，用顿号隔开，写在一行，不要写别的内容。",
        rf"[^、\n]{{1,8}}(、[^、\n]{{1,8}}){{{1 + number}}}",
    )
    yield f"严格按照“结果：…”的形式回答，用答案代替省略号：{low} 加 1 等于多少？", rf"结果：\s?{low + 1}[。.]?"


def _json(key: str, value: str) -> str:
    return rf'(?:```(?:json)?\s*)?\{{\s*"{key}"\s*:\s*"{value}"\s*\}}(?:\s*```)?'


def _date(number: int) -> str:
    return f"{2019 + number}-{(1, 3, 6, 10)[number]:02d}-{5 + number:02d}"


def _listed(count: int) -> str:
    return rf"[A-Za-z ]{{3,16}}(, ?[A-Za-z ]{{3,16}}){{{count - 1}}}\.?"


SKILLS = {"arithmetic": arithmetic, "knowledge": knowledge, "format": form, "code": code, "reading": reading}


def files() -> dict[str, str]:
    """Name → content of every file."""
    found: dict[str, str] = {}
    for language in LANGUAGES:
        for skill, items in SKILLS.items():
            found[f"{skill}.{language}.jsonl"] = _lines(f"{skill}-{language}", list(items(language)))
        found[f"text.{language}.jsonl"] = _lines(f"text-{language}", [{"text": text} for text in TEXTS[language]])
    return found


def _lines(name: str, items: Sequence[Item]) -> str:
    numbered = ({"id": f"{name}-{number:02d}", **item} for number, item in enumerate(items, start=1))
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in numbered)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (OUT / name).write_text(content, encoding="utf-8")
    print(f"{len(files())} files in {OUT}")
