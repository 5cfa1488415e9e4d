"""What the checks of the Data page found: each with how many rows it is about, which it opens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QToolButton, QVBoxLayout, QWidget

from engine.protocol.text import NOTHING, Text, as_text, say
from engine.recipe.quality import ACTIONS
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, percent
from gui.operations import rows as operations
from gui.pages.words import STATUSES, capital, reason_label
from gui.state.phase import Phase
from gui.theme.apply import text_font
from gui.widgets.basic import button, clear, column, holder, label, plain_tip, row, rule, tool
from gui.widgets.facts import Facts
from gui.widgets.mix import Mix
from gui.widgets.scroll import scrolled

FLATTERS = say(
    "Their questions are trained on too: what is measured on them flatters the model.",
    "其提问也用于训练，据此评估会高估模型。",
)
MEASURE_FAIRLY = say(
    "Name a held-out file with other questions on the Plan page to measure fairly.",
    "请在“计划”页指定提问不同的留出文件，以便公正评估。",
)
PRIVATE = ("secret", "id_number", "bank", "email", "phone")
LEARNS_THEM = say(
    "A model can repeat what it learned, so nobody should read there what is not meant for them.",
    "模型可能会复述学到的内容，请确认其中没有不应外传的信息。",
)
WHAT_IS_CHECKED = say(
    "Looks for near duplicates, personal data and keys, placeholders, short or broken texts, and tells languages and "
    "tasks.",
    "查找近似重复、个人信息与密钥、占位符、过短或损坏的文本，并统计语言与任务。",
)
WHAT_WAITS = say(
    "Every row is being read: its columns, its length, and whether it is there twice. Then the rows to hold out are "
    "chosen, filters and changes of cells work, and the texts can be checked. Shown here are the first rows.",
    "正在读取每一行：各列、长度以及是否重复。之后会选出留出的行，可筛选、修改单元格并检查文本。此处显示的是开头的行。",
)
CHECK = say("Check the texts", "检查文本")
AGAIN = say("Check again", "重新检查")
SHOWS = say("Show these rows", "显示这些行")
ALWAYS = ("duplicate", "empty_answer")
"""Reasons that are told also where no row is set aside for them."""
FIRST = ("near_duplicate", "leak")
TOLD = ("set_aside", "in_training", "held_out", "problems", "quality", "template", "reasons")
"""Facts that are told here: lines are made anew for others only."""
MOST_SHARES, LEAST_SHARE = 4, 0.01
LINE, INDENT = 22, 3
"""Height of a check's line, and where a link's words begin."""
ROOM, ROOM_BESIDE_ACTION = 200, 132
"""Pixels for a check's name."""


class Checks(QWidget):
    """Renders the facts' counts and the quality report.

    Args:
        show_only: shows only the rows of a status, a reason or a check.
    """

    def __init__(self, context: AppContext, show_only: Callable[[str], object]) -> None:
        super().__init__()
        self._context, self._show_only = context, show_only
        self._facts: dict[str, Any] = {}
        self._told: list[Any] = []
        self._state = label("", "facts")
        self.button = button(CHECK, lambda: operations.check_texts(context), "small", shortcut="Ctrl+Shift+I")
        self._about = label("", "facts", wrap=True)
        self._lines = QVBoxLayout()
        self._lines.setSpacing(4)
        self._template = Facts()
        self._reason = label("", "facts", wrap=True)
        head = row(label(say("Checks", "检查"), "card"), None, self._state, self.button)
        inner = column(self._about, self._lines, rule(), self._template, self._reason, None, margins=(0, 0, 8, 0))
        scroll = scrolled(holder(inner))
        scroll.setMinimumHeight(60)
        self.setLayout(column(head, scroll, spacing=8))

    # ----------------------------------------------------------------------------------------------------- four states
    def fill(self, facts: dict[str, Any]) -> None:
        """Other facts are there."""
        told = [facts.get(name) for name in TOLD] + [self._context.data.is_scanned]
        is_other = told != self._told
        self._facts, self._told = facts, told
        if is_other:
            self._fill_lines()
            self._fill_template()
        self.show_work()

    def show_work(self) -> None:
        """Where the check of the texts stands: not asked for, going on, wrong, or done."""
        status = self._context.data.checking.status
        is_working, is_wrong = status.phase is Phase.WORKING, status.phase is Phase.WRONG
        quality = self._facts.get("quality")
        self._state.setText(_stands(quality, status) if is_working or quality else "")
        can = self._context.data.is_scanned and not is_working and (not quality or is_wrong)
        self.button.setVisible(can and "quality" in self._facts)
        self.button.setText(tr(AGAIN if is_wrong else CHECK))
        self.button.setShortcut("Ctrl+Shift+I")
        failure = status.failure
        words = "" if failure is None else f"{tr(failure.message)} {tr(failure.hint)}".strip()
        waits = bool(self._facts) and not self._context.data.is_scanned
        self._about.setText(words or (tr(WHAT_WAITS) if waits else tr(WHAT_IS_CHECKED) if can else ""))
        self._about.setVisible(bool(self._about.text()) and "quality" in self._facts)

    # ------------------------------------------------------------------------------------------------------------ lines
    def _fill_lines(self) -> None:
        clear(self._lines)
        facts, quality = self._facts, dict(self._facts.get("quality") or {})
        checks = dict(quality.get("checks", {}))
        aside = dict(facts.get("set_aside", {}))
        for reason, rows in aside.items():
            if reason not in checks and reason != "too_long":
                self._line(reason_label(reason, facts.get("reasons")), int(rows), reason)
        self._held_out()
        self._private(checks)
        for name in sorted(checks, key=lambda name: name not in FIRST):
            if checks[name]["rows"] and name not in PRIVATE:
                self._check(name, checks[name])
        for problem in facts.get("problems", []):
            self._remark(problem, aside)
        if facts.get("held_out") and not facts.get("in_training"):
            self._fine(STATUSES["in_training"])
        for reason in ALWAYS if self._context.data.is_scanned else ():
            if reason not in aside:
                self._fine(reason_label(reason))
        self._quiet(checks)
        self._made_of(quality)

    def _held_out(self) -> None:
        asked = int(self._facts.get("in_training", 0))
        if asked:
            self._line(STATUSES["in_training"], asked, "in_training", warns=True)
            self._warning(FLATTERS, MEASURE_FAIRLY)

    def _private(self, checks: dict[str, Any]) -> None:
        """Personal data and keys: a warning, since the model learns them too."""
        found = [name for name in PRIVATE if checks.get(name, {}).get("rows")]
        for name in found:
            self._check(name, checks[name], warns=checks[name]["action"] != "set_aside")
        if any(checks[name]["action"] != "set_aside" for name in found):
            self._warning(LEARNS_THEM)

    def _check(self, name: str, found: dict[str, Any], *, warns: bool = False) -> None:
        """A check that found rows, with what happens to them."""
        explain, hint = as_text(found.get("explain", "")), as_text(found.get("hint", ""))
        tip = "\n".join(filter(None, (tr(explain), tr(hint))))
        words, rows = as_text(found["label"]), int(found["rows"])
        line = self._line(words, rows, f"check:{name}", warns=warns, tip=tip, room=ROOM_BESIDE_ACTION)
        line.addWidget(self._action(name, str(found["action"]), as_text(found["label"])))

    def _action(self, name: str, action: str, words: Text) -> QToolButton:
        made = tool(tr(ACTIONS[action]) + " ▾")
        made.setFixedHeight(LINE)
        made.clicked.connect(partial(self._show_actions, made, name, action))
        made.setToolTip(tr(say("What happens to these rows", "如何处理这些行")))
        made.setAccessibleName(f"{tr(words)}: {tr(ACTIONS[action])}")
        return made

    def _show_actions(self, at: QToolButton, name: str, action: str) -> None:
        self._actions(name, action).popup(at.mapToGlobal(at.rect().bottomLeft()))

    def _actions(self, name: str, action: str) -> QMenu:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for other, words in ACTIONS.items():
            item = menu.addAction(tr(words), partial(operations.choose_action, self._context, name, other))
            item.setCheckable(True)
            item.setChecked(other == action)
        return menu

    def _line(
        self, words: Text, rows: int, status: str, *, warns: bool = False, tip: str = "", room: int = 0
    ) -> QHBoxLayout:
        """One line with how many rows it is about; pressing it shows them."""
        name = capital(words)
        link = button(name, partial(self._show_only, status), "link")
        shown = QFontMetrics(text_font()).elidedText(name, Qt.TextElideMode.ElideRight, room or ROOM)
        link.setText(shown)
        link.setToolTip(plain_tip(tip or tr(SHOWS) if shown == name else f"{name}\n{tip or tr(SHOWS)}"))
        number = label(f"⚠ {count(rows)}" if warns else count(rows), "warn" if warns else "strong")
        made = row(link, None, number, spacing=4)
        self._lines.addLayout(made)
        return made

    def _warning(self, words: Text, tip: Text = NOTHING) -> None:
        made = label(words, "facts", wrap=True)
        made.setContentsMargins(INDENT, 0, 0, 2)
        made.setToolTip(plain_tip(tr(tip)))
        self._lines.addWidget(made)

    def _fine(self, words: Text) -> None:
        """A check that found nothing."""
        self._lines.addLayout(row(_quiet(capital(words)), None, label("✓ 0", "good")))

    def _remark(self, problem: dict[str, Any], aside: dict[str, int]) -> None:
        """What the checks say of the data as a whole; rows set aside are counted above."""
        code = str(problem.get("code", "")).removeprefix("data.")
        if code in aside or code == "cut":
            return
        text = label(as_text(problem.get("message", "")), "facts", wrap=True)
        text.setContentsMargins(INDENT, 0, 0, 2)
        text.setToolTip(plain_tip(tr(as_text(problem.get("hint", "")))))
        self._lines.addWidget(text)

    def _quiet(self, checks: dict[str, Any]) -> None:
        """The checks that found nothing, and those that are switched off, in a line each."""
        nothing = [name for name, found in checks.items() if found["action"] != "off" and not found["rows"]]
        off = [name for name, found in checks.items() if found["action"] == "off"]
        if nothing:
            made = _quiet(say("{n} more checks", "另外 {n} 项检查", n=len(nothing)))
            made.setToolTip("\n".join(capital(as_text(checks[name]["label"])) for name in nothing))
            self._lines.addLayout(row(made, None, label("✓ 0", "good")))
        for name in off:
            words = as_text(checks[name]["label"])
            line = row(_quiet(capital(words)), None, self._action(name, "off", words), spacing=4)
            self._lines.addLayout(line)

    # ----------------------------------------------------------------------------------------------- what it is made of
    def _made_of(self, quality: dict[str, Any]) -> None:
        names = dict(quality.get("names", {}))
        self._mix(say("Languages", "语言"), "language", dict(quality.get("languages", {})), names.get("languages", {}))
        self._mix(say("Task mix", "任务构成"), "task", dict(quality.get("tasks", {})), names.get("tasks", {}))
        for habits in quality.get("uneven", []):
            found = {habit: int(quality["styles"][habit]) for habit in habits}
            self._mix(say("Uneven style", "风格不一"), "style", found, names.get("styles", {}))

    def _mix(self, title: Text, kind: str, rows: dict[str, int], names: dict[str, Any]) -> None:
        total = sum(rows.values())
        found = sorted(((number, name) for name, number in rows.items() if number), reverse=True)
        if not found:
            return
        found = [found[0], *(item for item in found[1:] if item[0] >= LEAST_SHARE * total)]
        shares = [
            (f"{kind}:{name}", f"{tr(as_text(names.get(name, name)))} {percent(number / total)}")
            for number, name in found[:MOST_SHARES]
        ]
        mix = Mix(title, shares, self._show_only)
        name = _quiet(title)
        name.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        line = row(name, mix, spacing=12)
        line.setStretch(1, 1)
        self._lines.addLayout(line)

    def _fill_template(self) -> None:
        template = self._facts.get("template")
        if not template:
            self._template.put([])
            self._reason.setText("")
            return
        name = str(template["name"])
        is_own = name == "model"
        self._template.put([(say("Chat template", "对话模板"), say("the model's own", "模型自带") if is_own else name)])
        self._reason.setText("" if is_own else tr(as_text(template.get("reason", ""))))
        self._reason.setVisible(not is_own)


def _quiet(words: Text | str) -> QLabel:
    """Words of a line that opens nothing, where those of a link would stand."""
    made = label(words, "muted")
    made.setContentsMargins(INDENT, 0, 0, 0)
    return made


def _stands(quality: Any, status: Any) -> str:
    """How far the check is, or how many rows it looked at."""
    if status.phase is Phase.WORKING:
        known = status.progress is not None and status.progress.total > 0
        share = percent(status.progress.done / status.progress.total) if known else ""
        return f"{tr(say('checking…', '检查中…'))} {share}".strip()
    return tr(say("{n} rows checked", "已检查 {n} 行", n=count(quality.get("rows", 0))))
