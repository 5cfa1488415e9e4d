"""The Evaluate page's third question: does the adapter do anything at all, and where."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from engine.project.effect import Effect, Part
from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import count, figure, percent
from gui.widgets.basic import column, label, set_role
from gui.widgets.facts import Facts
from gui.widgets.figures import Cell, Figures
from gui.widgets.scroll import Sheet, read_by_scrolling

NOT_YET = say("Not measured yet: measure again.", "尚未测量：请重新评估。")
ROLES = {"good": "strong", "warn": "warn", "bad": "bad"}


class EffectPanel(QWidget):
    """Renders how far the adapter moves the weights and what the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.sentence = label("", "strong", wrap=True)
        self.facts = Facts()
        self.kinds = Figures(
            say("Kind of module", "模块类型"), say("Modules", "模块数"), say("‖ΔW‖ / ‖W‖", "‖ΔW‖ / ‖W‖")
        )
        self.layers = Figures(say("Layer", "层"), say("Modules", "模块数"), say("‖ΔW‖ / ‖W‖", "‖ΔW‖ / ‖W‖"))
        self._missing = label("", "small", wrap=True)
        inner = column(
            self.sentence, self.facts, self.kinds, self.layers, self._missing, None, spacing=12, margins=(0, 0, 8, 0)
        )
        self.setLayout(column(read_by_scrolling(Sheet(inner))))

    def put(self, found: Effect | None) -> None:
        """Show these figures."""
        self.sentence.setText(tr(found.sentence if found is not None else NOT_YET))
        set_role(self.sentence, ROLES[found.tone] if found is not None else "muted")
        for widget in (self.facts, self.kinds, self.layers):
            widget.setVisible(found is not None)
        self._missing.setVisible(found is not None and bool(found.unmeasured))
        if found is None:
            return
        self.facts.put(facts_of(found))
        self.kinds.put([_part(part) for part in found.kinds])
        self.layers.put([_part(part) for part in found.layers])
        self._missing.setText(
            tr(
                say(
                    "Of {n} more modules the change has no closed form.",
                    "另有 {n} 个模块的变化无法直接计算。",
                    n=count(len(found.unmeasured)),
                )
            )
        )


def facts_of(found: Effect) -> list[tuple[Text | str, Text | str]]:
    """How much changes, in figures."""
    facts: list[tuple[Text | str, Text | str]] = []
    if found.other_token is not None:
        facts.append((say("Likeliest next token is another", "最可能的下一词元改变"), percent(found.other_token, 1)))
    if found.kl is not None:
        nats = say("{n} nats", "{n} 奈特", n=figure(found.kl, 3))
        facts.append((say("KL divergence from the base", "与基础模型的 KL 散度"), nats))
    if found.variation is not None:
        name = say("Probability that moved (total variation)", "移动的概率（总变差）")
        facts.append((name, percent(found.variation, 1)))
    if found.changed_answers is not None:
        facts.append((say("Answers that changed", "有变化的回答"), percent(found.changed_answers)))
    if found.positions:
        where = say(
            "{n} positions of {rows} rows",
            "{rows} 行的 {n} 个位置",
            n=count(found.positions),
            rows=count(found.rows),
        )
        facts.append((say("Compared at", "比较位置"), where))
    return facts


def _part(part: Part) -> tuple[Cell, ...]:
    share = "—" if part.share is None else f"{part.share:.2%}"
    return part.name, count(part.modules), (share, "strong")
