"""Words of the Compare page: who answers, how long an answer took, and what a blind test says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.project.votes import BlindTest, Contender
from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import count, figure
from gui.state.talk import ADAPTER, BASE, GGUF, TUNED

ENDS: dict[str, Text] = {
    "limit": say("cut at the longest answer", "到达最长回答处截断"),
    "context": say("the model's context is full", "模型上下文已满"),
    "cancelled": say("stopped", "已停止"),
}
INVITATIONS = {
    BASE: say("Answers as the model was before training. Ask below.", "按训练前的模型回答。请在下方提问。"),
    TUNED: say(
        "Answers with what the run has learned, with the same seed.", "按训练后学到的内容回答，使用相同的种子。"
    ),
    ADAPTER: say("Another adapter on the same weights.", "同一份权重上的另一个适配器。"),
    GGUF: say(
        "The exported file, through llama.cpp. Its random numbers are llama.cpp's own.",
        "已导出的文件，由 llama.cpp 运行，随机数由 llama.cpp 自行生成。",
    ),
}
SETTINGS: tuple[tuple[str, Text, Text, float, float, float], ...] = (
    (
        "seed",
        say("Seed", "种子"),
        say("Start of the random numbers; the same for all (seed)", "随机数的起点，各栏相同（seed）"),
        0,
        2**31 - 1,
        1,
    ),
    (
        "temperature",
        say("Temperature", "温度"),
        say(
            "0 always takes the likeliest token; higher is more varied (temperature)",
            "0 总取最可能的词元，越高越多样（temperature）",
        ),
        0.0,
        2.0,
        0.1,
    ),
    (
        "top_p",
        say("Top-p", "Top-p"),
        say(
            "Only among the likeliest tokens that together reach this share (nucleus sampling)",
            "只在累计概率达到此值的词元中选取（nucleus sampling）",
        ),
        0.05,
        1.0,
        0.05,
    ),
    (
        "top_k",
        say("Top-k", "Top-k"),
        say("Only among so many likeliest tokens; 0 for all (top-k)", "只在最可能的若干词元中选取，0 为全部（top-k）"),
        0,
        1000,
        10,
    ),
    (
        "min_p",
        say("Min-p", "Min-p"),
        say("Nothing below this share of the likeliest token (min-p)", "不取低于最可能词元此比例的词元（min-p）"),
        0.0,
        0.95,
        0.05,
    ),
    (
        "repetition_penalty",
        say("Repetition", "重复惩罚"),
        say(
            "Above 1, words that were used already come less often (repetition penalty)",
            "大于 1 时，已出现的词更少重复（repetition penalty）",
        ),
        1.0,
        2.0,
        0.05,
    ),
    (
        "max_new_tokens",
        say("Longest answer", "最长回答"),
        say("An answer is cut after so many tokens (max new tokens)", "回答在这么多词元后截断（max new tokens）"),
        1,
        8192,
        16,
    ),
)
"""Name, label, what it does with its standard term, least, most, step."""
LETTERS = ("A", "B")
QUICK = 0.1
"""Seconds below which a time is told in milliseconds."""


def answer_words(facts: dict[str, Any]) -> str:
    """How many tokens an answer took, and why it ended when not by itself."""
    words = [tr(say("{n} tokens", "{n} 词元", n=count(facts.get("tokens", 0))))]
    end = ENDS.get(str(facts.get("end", "")))
    if end is not None:
        words.append(tr(end))
    if facts.get("dropped"):
        words.append(tr(say("{n} oldest turns left out", "已省去最早的 {n} 轮", n=count(facts["dropped"]))))
    return " · ".join(words)


def speed_words(facts: dict[str, Any]) -> str:
    """How fast it came."""
    words = []
    if facts.get("tokens_per_second") is not None:
        words.append(tr(say("{n} tokens/s", "{n} 词元/秒", n=count(facts["tokens_per_second"]))))
    if facts.get("first_token_seconds") is not None:
        first = facts["first_token_seconds"]
        quick = say("{n} ms to first", "首词 {n} 毫秒", n=max(1, round(first * 1000)))
        words.append(tr(quick if first < QUICK else say("{n} s to first", "首词 {n} 秒", n=figure(first))))
    return " · ".join(words)


def summary_words(sampling: dict[str, float], system: str | None) -> str:
    """How answers are drawn, in a line."""
    words = [tr(say("Same seed {n}", "相同种子 {n}", n=int(sampling["seed"])))]
    temperature = sampling["temperature"]
    greedy = say("likeliest token each time", "每次取最可能的词元")
    words.append(tr(greedy if not temperature else say("temperature {n:g}", "温度 {n:g}", n=temperature)))
    for name, off in (("top_p", 1), ("top_k", 0), ("min_p", 0)):
        if temperature and sampling[name] != off:
            words.append(f"{name.replace('_', '-')} {sampling[name]:g}")
    if sampling["repetition_penalty"] != 1:
        words.append(tr(say("repetition {n:g}", "重复惩罚 {n:g}", n=sampling["repetition_penalty"])))
    words.append(tr(say("{n} tokens", "{n} 词元", n=count(sampling["max_new_tokens"]))))
    if system is not None:
        words.append(tr(say("own system prompt", "自定系统提示") if system else say("no system prompt", "无系统提示")))
    return " · ".join(words)


# ---------------------------------------------------------------------------------------------------------------- blind
def sides_of(test: BlindTest) -> tuple[Contender, Contender]:
    """The two models under their titles in the window's language."""
    first, second = (
        replace(side, title=tr(say("Base", "基础模型"))) if side.kind == BASE else side for side in test.sides
    )
    return first, second


def newest_words(test: BlindTest) -> str:
    """The last result in a line, as it stands below the conversations."""
    result = test.result
    ahead, wins = (0, result.first) if result.first > result.second else (1, result.second)
    return tr(
        say(
            "Blind test: {n} of {all} for {title} (p = {p:.2g})",
            "盲测：{all} 票中 {n} 票投给 {title}（p = {p:.2g}）",
            n=count(wins),
            all=count(result.decided),
            title=sides_of(test)[ahead].title,
            p=result.p_value,
        )
    )


def test_words(test: BlindTest) -> str:
    """A test in a line of a list; which of the two leads is told when it was revealed only."""
    pair = " / ".join(side.title for side in sides_of(test))
    votes = votes_words(test.result.votes)
    return f"{pair} · {votes}" + (f" · {wins_words(test)}" if test.revealed else "")


def votes_words(votes: int) -> str:
    """How many were cast."""
    return tr(say("1 vote", "1 票") if votes == 1 else say("{n} votes", "{n} 票", n=count(votes)))


def wins_words(test: BlindTest) -> str:
    """Who was preferred how often."""
    first, second = (side.title for side in sides_of(test))
    result = test.result
    return tr(
        say(
            "{first} {a} : {b} {second}",
            "{first} {a} : {b} {second}",
            first=first,
            second=second,
            a=result.first,
            b=result.second,
        )
    )


def result_words(test: BlindTest) -> str:
    """Ties, the exact test and the interval, with what they leave out."""
    result = test.result
    low, high = result.interval
    words = [
        say(
            "{ties} equally good, {bad} both bad: not counted by the test.",
            "{ties} 次一样好，{bad} 次都不好：检验中不计。",
            ties=result.ties,
            bad=result.bad,
        )
    ]
    if result.decided:
        words.append(
            say(
                "Of {n} decided votes {share:.0%} are for {title} (95% interval {low:.0%} to {high:.0%}); "
                "exact two-sided binomial test: p = {p:.2g}.",
                "在 {n} 张有胜负的票中，{share:.0%} 投给 {title}（95% 区间 {low:.0%} 至 {high:.0%}）；"
                "精确双侧二项检验：p = {p:.2g}。",
                n=result.decided,
                title=sides_of(test)[1].title,
                share=result.share or 0.0,
                low=low,
                high=high,
                p=result.p_value,
            )
        )
    return tr(say(" ", "")).join(tr(text) for text in words)


def whose_words(test: BlindTest, shown: tuple[str, str]) -> str:
    """Whose answers were A and B."""
    titles = {side.name: side.title for side in sides_of(test)}
    first, second = (titles.get(name, name) for name in shown)
    return tr(say("A was {first}, B was {second}.", "A 是 {first}，B 是 {second}。", first=first, second=second))
