"""The Evaluate page's second question: what the model forgot of what it knew before."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from engine.project.forgetting import FORGOT, KEPT, NOT_MEASURABLE, SKILLS, Forgetting, SkillChange, TextDrift
from engine.project.harness_record import HarnessResult
from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, figure, percent
from gui.pages.evaluate_harness import HarnessBox
from gui.widgets.basic import ElidedLabel, button, column, holder, label, plain_tip, row, set_role
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN, Chip
from gui.widgets.figures import Cell, Figures
from gui.widgets.scroll import Sheet, read_by_scrolling

TONES = {FORGOT: BAD, KEPT: GOOD, NOT_MEASURABLE: PLAIN}
NOT_YET = say(
    "Not measured yet: measure again, with “Look for forgetting” switched on in the plan's settings.",
    "尚未测量：请在计划的设置中打开“检查遗忘”后重新评估。",
)


class ForgettingPanel(QWidget):
    """Renders what was forgotten, skill by skill, and what to do about it."""

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self.sentence, self._advice = label("", "strong", wrap=True), label("", "muted", wrap=True)
        heads = (say("Base", "基础"), say("Tuned", "微调"), say("Forgotten", "遗忘"))
        self.skills = Figures(say("Skill", "能力"), *heads)
        self.texts = Figures(
            say("Ordinary text", "普通文本"), say("Base", "基础"), say("Tuned", "微调"), say("Loss rose", "损失上升")
        )
        self.harness = HarnessBox(context)
        self._against = button(
            say("Add general data…", "添加通用数据…"), lambda: context.wizard.go("data"), "small", shortcut="Ctrl+G"
        )
        self._todo = holder(column(self._advice, row(self._against, None), spacing=6))
        self._how = label("", "small", wrap=True)
        found = (self.sentence, self.skills, self.texts, self._todo, self._how)
        inner = column(*found, 4, self.harness, None, spacing=12, margins=(0, 0, 8, 0))
        made = column(read_by_scrolling(Sheet(inner)))
        self.setLayout(made)

    def put(self, found: Forgetting | None, harness: HarnessResult | None) -> None:
        """Show these figures."""
        self.sentence.setText(tr(found.sentence if found is not None else NOT_YET))
        set_role(self.sentence, "strong" if found is not None else "muted")
        self.skills.put(_skills(found) if found is not None else [])
        self.skills.setVisible(found is not None and bool(found.skills))
        drift = [each for each in found.drift if each.before is not None] if found is not None else []
        self.texts.put([_text(each, found.limit) for each in drift] if found is not None else [])
        self.texts.setVisible(bool(drift))
        self.harness.put(harness)
        self._todo.setVisible(found is not None and bool(found.advice))
        if found is not None:
            self._advice.setText(tr(found.advice))
            self._against.setVisible(bool(found.changes))
            self._how.setText(tr(_how(found)))
        self._how.setVisible(found is not None)


def chip_of(found: Forgetting | None) -> tuple[Text, str] | None:
    """What a person should know of it at first sight; None where it was not measured, or cannot be."""
    if found is None or not (found.measurable or found.drifted):
        return None
    if found.forgotten:
        return say("it forgot", "有遗忘"), BAD
    if found.unsure or found.drifted:
        return say("may have forgotten", "可能有遗忘"), WARN
    return say("nothing forgotten", "没有遗忘"), GOOD


def _how(found: Forgetting) -> Text:
    asked = sum(skill.items for skill in found.skills)
    return say(
        "{n} questions of our own, the same for both models, seed {seed}. Forgotten: (before − after) / before; "
        "warned of above {limit}.",
        "{n} 道自编题目，两个模型相同，种子 {seed}。遗忘率 =（训练前 − 训练后）/ 训练前；超过 {limit} 时警告。",
        n=count(asked),
        seed=found.seed,
        limit=percent(found.limit),
    )


def _skills(found: Forgetting) -> list[tuple[Cell, ...]]:
    """A line for each skill; the language stands beside it where there are several."""
    several = len({skill.language for skill in found.skills}) > 1
    return [_skill(skill, found.limit, named=several) for skill in found.skills]


def _skill(skill: SkillChange, limit: float, *, named: bool) -> tuple[Cell, ...]:
    verdict = skill.verdict(limit)
    if skill.rate is None:
        chip = Chip(say("not measurable", "无法测量"), PLAIN)
        chip.setToolTip(plain_tip(tr(skill.reason)))
    else:
        chip = Chip(percent(skill.rate), TONES.get(verdict, WARN))
        chip.setToolTip(plain_tip(_between(skill.rate, skill.low, skill.high, skill.items)))
    name = ElidedLabel(skill.name if named else SKILLS.get(skill.skill, skill.name))
    name.setAccessibleName(name.text())
    return name, percent(skill.before), (percent(skill.after), "strong"), chip


def _text(drift: TextDrift, limit: float) -> tuple[Cell, ...]:
    from engine.project.forgetting import LANGUAGES

    name = LANGUAGES.get(drift.language, say("{name}", "{name}", name=drift.language))
    before, after = figure(drift.before), (figure(drift.after), "strong")
    if drift.rise is None:
        return name, before, after, Chip(say("not measurable", "无法测量"), PLAIN)
    tone = GOOD if drift.rise <= limit else BAD if (drift.low or 0.0) > 0 else WARN
    chip = Chip(f"{drift.rise:+.0%}", tone)
    chip.setToolTip(plain_tip(_between(drift.rise, drift.low, drift.high, drift.texts)))
    return name, before, after, chip


def _between(rate: float, low: float | None, high: float | None, items: int) -> str:
    if low is None or high is None:
        return tr(say("{rate:.0%}, of {n}", "{rate:.0%}，共 {n} 项", rate=rate, n=items))
    return tr(
        say(
            "{rate:.0%}, with 95% confidence between {low:.0%} and {high:.0%}, of {n}",
            "{rate:.0%}，95% 置信区间 {low:.0%} 至 {high:.0%}，共 {n} 项",
            rate=rate,
            low=low,
            high=high,
            n=items,
        )
    )
