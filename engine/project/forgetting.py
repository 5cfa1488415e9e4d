"""What a run forgot of what its base model knew, as it is kept: ``forgetting.json`` in the run's folder.

Light: the window and the command line read it from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.project.records import read_record, write_record
from engine.project.run_folder import RunFolder
from engine.protocol.text import NOTHING, Text, say

FORGETTING_VERSION = 1
LIMIT = 0.3
"""Forgetting above this is warned of, as long as the recipe says nothing else."""

SKILLS: dict[str, Text] = {
    "arithmetic": say("Arithmetic", "算术"),
    "knowledge": say("Common knowledge", "常识"),
    "format": say("Following a format", "遵循格式"),
    "code": say("Code", "代码"),
    "reading": say("Reading", "阅读"),
}
"""Skill → what people read; the order is that of the table."""
LANGUAGES: dict[str, Text] = {"en": say("English", "英文"), "zh": say("Chinese", "中文")}
ALL = "all"
"""The skill of the line that counts all measurable ones together."""

KEPT, UNSURE, FORGOT, NOT_MEASURABLE = "kept", "unsure", "forgot", "not_measurable"


@dataclass(frozen=True, slots=True)
class SkillChange:
    """One skill in one language, before and after training, on the same questions.

    Attributes:
        skill: a key of `SKILLS`, or `ALL`.
        language: "en" or "zh"; empty for `ALL`.
        items: questions asked.
        chance: share that guessing gets right.
        before, after: share that base and tuned model get right.
        rate: (before − after) / before; None where it cannot be measured; below 0 the tuned model is better.
        low, high: its 95% interval (paired bootstrap over the questions).
        lost, gained: questions right before and wrong after, and the other way round.
        p_value: of the exact sign test of lost against gained (McNemar); None when none changed.
        reason: why there is no rate; empty where there is one.
    """

    skill: str
    language: str
    items: int
    chance: float
    before: float
    after: float
    rate: float | None
    low: float | None
    high: float | None
    lost: int
    gained: int
    p_value: float | None
    reason: Text = NOTHING

    @property
    def name(self) -> Text:
        """What people read: "Arithmetic (English)"."""
        if self.skill == ALL:
            return say("All together", "合计")
        about = SKILLS.get(self.skill, Text(self.skill, self.skill))
        language = LANGUAGES.get(self.language, Text(self.language, self.language))
        return say("{skill} ({language})", "{skill}（{language}）", skill=about, language=language)

    @property
    def of_the_learned(self) -> float | None:
        """Share of what lay above guessing that is gone: (before − after) / (before − chance); None without a rate.

        A model that forgot all still guesses, so that `rate` of four choices stays below 1; this one reaches it.
        """
        return None if self.rate is None or self.before <= self.chance else self._gone

    @property
    def _gone(self) -> float:
        return (self.before - self.after) / (self.before - self.chance)

    def verdict(self, limit: float) -> str:
        """`KEPT`, `FORGOT` (above the limit, and more than chance), `UNSURE` (above the limit, but so few questions
        that it may be chance), or `NOT_MEASURABLE`."""
        if self.rate is None:
            return NOT_MEASURABLE
        if self.rate <= limit:
            return KEPT
        return FORGOT if self.low is not None and self.low > 0 else UNSURE


@dataclass(frozen=True, slots=True)
class TextDrift:
    """How much worse the tuned model predicts ordinary text: a measure for models that answer no question.

    Attributes:
        language: of the texts.
        texts, tokens: how many.
        before, after: loss, nats per token; None where it is not a finite number, and so for what follows of it.
        rise: (after − before) / before; below 0 the tuned model is better.
        low, high: its 95% interval (paired bootstrap over the texts).
    """

    language: str
    texts: int
    tokens: int
    before: float | None
    after: float | None
    rise: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What was forgotten.

    Attributes:
        skills: skill by skill, in the order of `SKILLS`; per skill English first.
        overall: all measurable ones together; None when none is.
        drift: ordinary text, by language.
        limit: the rate above which it is warned.
        own_template: the questions were asked in the model's own chat template; else as plain text.
        general_share: general data that was mixed in, 0 to 1.
        seed: of questions and intervals.
        seconds, created: how long it took; epoch seconds.
    """

    skills: tuple[SkillChange, ...]
    overall: SkillChange | None
    drift: tuple[TextDrift, ...]
    limit: float = LIMIT
    own_template: bool = False
    general_share: float = 0.0
    seed: int = 0
    seconds: float = 0.0
    created: float = 0.0
    version: int = FORGETTING_VERSION

    @property
    def forgotten(self) -> tuple[SkillChange, ...]:
        """Skills that were forgotten beyond the limit, and more than chance; the worst first."""
        found = [skill for skill in self.skills if skill.verdict(self.limit) == FORGOT]
        return tuple(sorted(found, key=lambda skill: -(skill.rate or 0.0)))

    @property
    def unsure(self) -> tuple[SkillChange, ...]:
        """Skills beyond the limit that may be so by chance."""
        return tuple(skill for skill in self.skills if skill.verdict(self.limit) == UNSURE)

    @property
    def measurable(self) -> bool:
        """Whether the base model knew enough of any skill for something to be forgotten."""
        return any(skill.rate is not None for skill in self.skills)

    @property
    def tone(self) -> str:
        """How it is to be shown: "good", "warn", "bad" or "plain"."""
        if self.forgotten:
            return "bad"
        if self.unsure or self.drifted:
            return "warn"
        return "good" if self.measurable else "plain"

    @property
    def drifted(self) -> tuple[TextDrift, ...]:
        """Languages whose ordinary text is predicted worse by more than the limit, and more than chance."""
        return tuple(d for d in self.drift if d.rise is not None and d.rise > self.limit and (d.low or 0.0) > 0)

    @property
    def sentence(self) -> Text:
        """The verdict in one sentence."""
        limit = f"{self.limit:.0%}"
        if self.forgotten:
            worst = self.forgotten[0]
            return say(
                "It forgot {rate:.0%} of {skill} (between {low:.0%} and {high:.0%}): more than {limit}.",
                "“{skill}”遗忘了 {rate:.0%}（区间 {low:.0%} 至 {high:.0%}），超过 {limit}。",
                rate=worst.rate,
                skill=_lower(worst.name),
                low=worst.low,
                high=worst.high,
                limit=limit,
            )
        if self.unsure:
            return say(
                "It may have forgotten some of {skill}: above {limit}, but with so few questions that may be chance.",
                "“{skill}”可能有所遗忘：超过 {limit}，但题目较少，也可能出于偶然。",
                skill=_lower(self.unsure[0].name),
                limit=limit,
            )
        if self.drifted and (worst_text := self._worst_text) is not None:
            return say(
                "It predicts ordinary {language} text worse: its loss rose by {rise:.0%}.",
                "对普通{language}文本的预测变差：损失上升 {rise:.0%}。",
                language=LANGUAGES.get(worst_text.language, Text(worst_text.language, worst_text.language)),
                rise=worst_text.rise,
            )
        if self.measurable:
            return say(
                "It kept what it knew: nothing fell by more than {limit}.",
                "原有能力得以保留：降幅均未超过 {limit}。",
                limit=limit,
            )
        if (told := self._worst_text) is not None:
            return say(
                "The base model answers no better than by guessing; its loss on ordinary text changed by {rise:+.0%}.",
                "基础模型的回答不优于随机猜测；在普通文本上的损失变化 {rise:+.0%}。",
                rise=told.rise,
            )
        return say(
            "The base model answers no better than by guessing: nothing is there to forget that could be measured.",
            "基础模型的回答不优于随机猜测，因此没有可测量的遗忘。",
        )

    @property
    def _worst_text(self) -> TextDrift | None:
        return max((d for d in self.drift if d.rise is not None), key=lambda d: d.rise or 0.0, default=None)

    @property
    def advice(self) -> Text:
        """What to do about it; empty where there is nothing to do."""
        if not (self.forgotten or self.unsure or self.drifted):
            return NOTHING
        if self.general_share < 0.3:
            return say(
                "Mix general conversations in (about 30% of the rows), or train for fewer passes or with a lower "
                "learning rate. A lower rank helps, too.",
                "混入通用对话数据（约占 30%），或减少训练轮数、降低学习率；降低秩也有帮助。",
            )
        return say(
            "General data is mixed in already: train for fewer passes, with a lower learning rate or a lower rank.",
            "已混入通用数据：可减少训练轮数、降低学习率或降低秩。",
        )

    @property
    def changes(self) -> dict[str, Any]:
        """Settings of the recipe that would help, name → value; ``data.general`` needs files that the user names."""
        if not (self.forgotten or self.unsure or self.drifted) or self.general_share >= 0.3:
            return {}
        return {"data.general_share": 0.3}


def write_forgetting(run: RunFolder, forgetting: Forgetting) -> None:
    """Keep it. Raises `UserError` when the disk does not take it."""
    write_record(run.forgetting, forgetting)


def read_forgetting(run: RunFolder) -> Forgetting | None:
    """What the run forgot, or None when that was not measured yet. Raises `UserError` when the file is damaged."""
    return read_record(run.forgetting, Forgetting, again=say("Evaluate the run again.", "请重新评估这次训练。"))


def _lower(text: Text) -> Text:
    """A name inside an English sentence."""
    return Text(text.en[:1].lower() + text.en[1:], text.zh)
