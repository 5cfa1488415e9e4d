"""What is looked for in the rows, and what happens to the rows where it is found."""

from __future__ import annotations

from typing import Literal

from engine.protocol.text import say
from engine.recipe.fields import Section, setting

Action = Literal["off", "flag", "set_aside"]
ACTIONS = {
    "off": say("not looked for", "不检查"),
    "flag": say("shown", "仅标出"),
    "set_aside": say("set aside", "搁置"),
}
COMMON = "common practice"


class QualitySettings(Section):
    """Quality of the rows. Nothing is deleted: rows are shown, or set aside with a reason."""

    min_question: int = setting(
        5,
        label=say("Shortest question", "最短提问"),
        term="minimum instruction length",
        unit=say("characters", "字符"),
        help=say(
            "Shorter ones are found by the checks. A Chinese, Japanese or Korean character counts as three.",
            "更短的会被检查出来。一个中日韩字符按三个字符计算。",
        ),
        ge=0,
        le=10_000,
        source=COMMON,
    )
    min_answer: int = setting(
        10,
        label=say("Shortest answer", "最短回答"),
        term="minimum output length",
        unit=say("characters", "字符"),
        help=say(
            "Shorter ones are found by the checks, except labels, numbers, yes and no.",
            "更短的会被检查出来，分类标签、数字和是否回答除外。",
        ),
        ge=0,
        le=10_000,
        source=COMMON,
    )
    near_duplicate: float = setting(
        0.8,
        label=say("Near duplicates from", "近似重复的相似度"),
        term="Jaccard similarity",
        help=say(
            "Share of word triples (in Chinese: runs of five characters) that two rows share. Lower finds more.",
            "两行共有的三词组占比（中文为五字组）。越低找到的越多。",
        ),
        ge=0.5,
        le=1.0,
        source="Lee et al. 2022 (Deduplicating training data)",
    )
    actions: dict[str, Action] = setting(
        {},
        label=say("What happens", "处理方式"),
        term="actions",
        help=say(
            "Check → off, flag or set_aside, where the usual is not right.",
            "检查项 → off（不检查）、flag（仅标出）或 set_aside（搁置），用于更改默认处理。",
        ),
    )
