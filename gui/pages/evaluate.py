"""The Evaluate page: was it worth it."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QComboBox, QLayout, QPushButton, QScrollArea, QWidget

from engine.project.evaluation import EvaluatedRow, Evaluation, SideOfRow
from engine.protocol.errors import Failure, UserError
from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import count, duration, figure, percent
from gui.operations.jobs import start_later_job, stop_job
from gui.pages.page import Page
from gui.state.measured import evaluation_of, points
from gui.widgets.basic import button, column, holder, label, row, set_role
from gui.widgets.card import Card
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN, Chip
from gui.widgets.facts import Facts
from gui.widgets.failure_strip import FailureStrip
from gui.widgets.figures import Cell, Figures
from gui.widgets.footer import Footer
from gui.widgets.pair_bars import PairBars
from gui.widgets.row_list import RowList
from gui.widgets.scroll import scrolled

CLEAR = 0.05
"""p-value below which a difference is called clear."""
WORST, BEST, CHANGED = "worst", "best", "changed"
CHOICES = (
    (CHANGED, say("Answers that changed", "有变化的回答")),
    (WORST, say("Worst answers", "最差的回答")),
    (BEST, say("Gained most", "提升最多")),
)
SHOWN = 200
EARLIER = say(
    "The run has learned on since these figures were made: measure again.", "得出这些数字之后训练又有进展：请重新评估。"
)


class EvaluatePage(Page):
    """Base against tuned on the held-out rows: figures, verdict, and the rows behind them."""

    title = say("Evaluate", "评估")
    subtitle = say(
        "Was it worth it? Base against tuned, on rows that were never trained on",
        "值得吗？在从未训练过的行上比较基础模型与微调模型",
    )

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._evaluation: Evaluation | None = None
        self._rows: tuple[EvaluatedRow, ...] = ()
        context.runs.evaluate.changed.connect(self.refresh)
        context.runs.selected.connect(self.refresh)
        context.runs.train.finished.connect(self.refresh)

    # ------------------------------------------------------------------------------------------------------ states
    def refresh(self) -> None:
        """Show nothing yet, working, wrong, or the figures."""
        job = self.context.runs.evaluate
        if not self.context.runs.is_trained:
            self._show_nothing_to_measure()
        elif job.is_running:
            stage = job.state.stage or say("Starting…", "启动中……")
            self.show_banner().working(stage, job.state.progress, self._cancel)
        else:
            self._show_evaluation(job.state.failure)

    def _show_nothing_to_measure(self) -> None:
        plan = button(
            say("Go to the plan", "前往计划"), lambda: self.context.wizard.go("plan"), "primary", shortcut="Ctrl+Return"
        )
        sentence = say("There is no tuned model to measure yet.", "还没有可评估的微调模型。")
        hint = say("Train one first; its held-out rows are measured here.", "请先训练；其留出的行会在这里评估。")
        self.show_banner().empty(sentence, hint, plan)

    def _show_evaluation(self, failure: Failure | None) -> None:
        run = self.context.runs.run
        assert run is not None
        try:
            self._evaluation = evaluation_of(run)
        except UserError as error:
            self.show_banner().wrong(Failure.of(error), self._measure_button(say("Measure again", "重新评估")))
            return
        if self._evaluation is not None:
            self.show_body()
            self._failure.put(failure)
            self._fill(self._evaluation)
        elif failure is not None:
            self.show_banner().wrong(failure, self._measure_button(say("Try again", "重试")))
        else:
            self._show_not_measured()

    def _show_not_measured(self) -> None:
        sentence = say("Base and tuned model have not been compared yet.", "尚未比较基础模型与微调模型。")
        hint = say(
            "Both answer the held-out rows; it takes about as long as a few training steps per row.",
            "两者都会回答留出的行，通常只需几分钟。",
        )
        self.show_banner().empty(sentence, hint, self._measure_button(say("Measure", "开始评估")))

    def _measure_button(self, text: Text) -> QPushButton:
        return button(text, self._measure, "primary", shortcut="Ctrl+Return")

    def _measure(self) -> None:
        start_later_job(self.context, self.context.runs.evaluate, "evaluate", {"rows": None})

    def _cancel(self) -> None:
        stop_job(self.context, self.context.runs.evaluate)

    # -------------------------------------------------------------------------------------------------------- body
    def build(self) -> QWidget:
        """Verdict above, figures on the left, rows on the right."""
        self._sentence, self._how = label("", "heading", wrap=True), label("", "muted", wrap=True)
        self._chip = Chip()
        words = row(column(self._sentence, self._how, spacing=4), self._chip, spacing=16)
        words.setStretch(0, 1)
        verdict = Card("", "", words)
        body = row(self._figures_card(), self._rows_card(), spacing=14)
        body.setStretch(0, 5)
        body.setStretch(1, 6)
        self._failure = FailureStrip()
        made = column(self._failure, verdict, body, self._footer_bar(), spacing=14)
        made.setStretch(2, 1)
        return holder(made)

    def _footer_bar(self) -> QWidget:
        self._again = button(say("Measure again", "重新评估"), self._measure, shortcut="Ctrl+R")
        by_hand = button(
            say("Compare by hand →", "动手对比 →"),
            lambda: self.context.wizard.go("compare"),
            "primary",
            shortcut="Ctrl+Right",
        )
        self._footer = Footer(self._again, by_hand)
        return self._footer

    def _figures_card(self) -> QWidget:
        self._figures = Figures(
            say("Measure", "指标"), say("Base", "基础"), say("Tuned", "微调"), say("Change", "变化")
        )
        self._count = Facts()
        self._notes = label("", "small", wrap=True, selectable=True)
        self._bars = PairBars()
        heading = label(say("How many rows", "行数统计"), "card")
        glance = label(say("At a glance: base above, tuned below", "一览：上为基础模型，下为微调模型"), "card")
        parts = column(self._figures, glance, self._bars, heading, self._count, self._notes, None, spacing=7)
        return Card(say("Your task", "你的任务"), say("base → tuned", "基础 → 微调"), read_by_scrolling(parts))

    def _rows_card(self) -> QWidget:
        self._which = QComboBox()
        self._which.setAccessibleName(tr(say("Which rows", "哪些行")))
        for name, text in CHOICES:
            self._which.addItem(tr(text), name)
        self._which.currentIndexChanged.connect(self._list_rows)
        self._list = RowList(say("Rows", "行"), self._show_row)
        self._detail = {
            name: label("", "", wrap=True, selectable=True) for name in ("where", "question", "right", "base", "tuned")
        }
        self._row = read_by_scrolling(column(*self._detail_items(), None))
        self._row.setAccessibleName(tr(say("The row that is chosen", "所选的行")))
        card = Card(say("Rows to look at", "值得看的行"), "", self._list, self._row)
        card.body.setStretch(0, 4)
        card.body.setStretch(1, 5)
        card.corner(self._which)
        return card

    def _detail_items(self) -> list[QWidget]:
        names = {
            "question": say("Question", "提问"),
            "right": say("Right answer", "参考答案"),
            "base": say("Base answered", "基础模型的回答"),
            "tuned": say("Tuned answered", "微调模型的回答"),
        }
        set_role(self._detail["where"], "small")
        items: list[QWidget] = []
        for name, text in names.items():
            items += [holder(column(label(text, "small"), self._detail[name], spacing=1))]
        return [*items, self._detail["where"]]

    # -------------------------------------------------------------------------------------------------------- fill
    def _fill(self, found: Evaluation) -> None:
        sentence, chip, tone = verdict_of(found)
        earlier = self.context.runs.has_learned_since(found.created)
        self._sentence.setText(tr(sentence))
        self._how.setText(tr(EARLIER if earlier else how_measured(found)))
        self._chip.put(*((say("of an earlier state", "属于较早的状态"), WARN) if earlier else (chip, tone)))
        set_role(self._again, "primary" if earlier else "")
        self._figures.put(figure_rows(found))
        self._bars.put(shares(found))
        self._count.put(counts(found))
        self._notes.setText("\n".join(dict.fromkeys(tr(text) for text in found.notes.values())))
        self._notes.setVisible(bool(found.notes))
        self._footer.say(
            say(
                "{n} of {all} held-out rows in {time}. None of them was trained on.",
                "{all} 个留出行中的 {n} 行，用时 {time}。均未参与训练。",
                n=count(len(found.rows)),
                all=count(found.held_out),
                time=duration(found.seconds),
            )
        )
        self._list_rows()

    def _list_rows(self) -> None:
        found = self._evaluation
        if found is None:
            return
        which = self._which.currentData()
        chosen = {WORST: found.worst(SHOWN), BEST: found.best(SHOWN)}
        self._rows = chosen.get(which, found.changed()[:SHOWN])
        self._list.put([_line(item) for item in self._rows])
        if not self._rows:
            self._show_row(-1)

    def _show_row(self, number: int) -> None:
        item = self._rows[number] if 0 <= number < len(self._rows) else None
        texts = {"question": "", "right": "", "base": "", "tuned": "", "where": ""}
        if item is not None:
            texts = {
                "question": item.prompt,
                "right": item.reference,
                "base": _answer(item.base),
                "tuned": _answer(item.tuned),
                "where": item.where,
            }
        else:
            texts["question"] = tr(say("No such rows.", "没有这样的行。"))
        for name, text in texts.items():
            self._detail[name].setText(text)
        self._row.verticalScrollBar().setValue(0)


class AsHighAsNeeded(QWidget):
    """What lies in a scroll area and wraps: a layout's own least height is that of texts wrapped as narrow as can be,
    which would leave an empty end to scroll to."""

    def minimumSizeHint(self) -> QSize:
        """What the texts need at the present width."""
        return QSize(0, max(0, self.heightForWidth(self.width())))


def read_by_scrolling(layout: QLayout) -> QScrollArea:
    """A part of a card that scrolls where it is higher than its place, also by keyboard."""
    inner = AsHighAsNeeded()
    layout.setContentsMargins(0, 0, 8, 0)
    inner.setLayout(layout)
    made = scrolled(inner)
    made.setProperty("role", "read")
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    return made


def verdict_of(found: Evaluation) -> tuple[Text, Text, str]:
    """The sentence, the judgement and its tone: by the answers where they were asked, else by the losses."""
    compared = found.verdict.answers
    if compared.better + compared.worse + compared.same == 0:
        compared = found.verdict.losses
    total = compared.better + compared.worse + compared.same
    sentence = say(
        "Better on {better} of {total} held-out rows, worse on {worse}",
        "{total} 个留出行中，{better} 行变好，{worse} 行变差",
        better=compared.better,
        total=total,
        worse=compared.worse,
    )
    clear = compared.p_value is not None and compared.p_value < CLEAR
    if not clear:
        return sentence, say("no clear difference", "没有明显差别"), WARN
    if compared.better > compared.worse:
        return sentence, say("worth keeping", "值得保留"), GOOD
    return sentence, say("worse than the base", "不如基础模型"), BAD


def how_measured(found: Evaluation) -> Text:
    """Which test, how much the adapter changes, how answers were made."""
    p_value = found.verdict.answers.p_value if found.verdict.changed is not None else found.verdict.losses.p_value
    shown = "—" if p_value is None else ("p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}")
    if found.verdict.changed is None:
        return say("paired sign test {p} · answers were not asked for", "配对符号检验 {p} · 未要求回答", p=shown)
    return say(
        "paired sign test {p} · the adapter changes {share} of answers · greedy answers",
        "配对符号检验 {p} · 适配器改变了 {share} 的回答 · 贪心解码",
        p=shown,
        share=percent(found.verdict.changed),
    )


def figure_rows(found: Evaluation) -> list[tuple[Cell, ...]]:
    """Each measure that applies: base, tuned, change with its judgement."""
    measures = (
        (say("Exact match", "完全匹配"), "exact_match", True, True),
        (say("ROUGE-L", "ROUGE-L"), "rouge_l", False, True),
        (say("Token accuracy", "词元准确率"), "token_accuracy", True, True),
        (say("Perplexity", "困惑度"), "perplexity", False, False),
        (say("Loss", "损失"), "loss", False, False),
        (say("Prefers the better answer", "偏好更好的回答"), "preference_accuracy", True, True),
    )
    rows: list[tuple[Cell, ...]] = []
    for name, field, as_percent, more_is_better in measures:
        base, tuned = getattr(found.base, field), getattr(found.tuned, field)
        if base is None and tuned is None:
            continue
        rows.append(
            (
                name,
                _shown(base, as_percent),
                (_shown(tuned, as_percent), "strong"),
                _change(base, tuned, as_percent, more_is_better),
            )
        )
    return rows


def _shown(value: float | None, as_percent: bool) -> str:
    return percent(value, 1) if as_percent else figure(value)


def _change(base: float | None, tuned: float | None, as_percent: bool, more_is_better: bool) -> Cell:
    if base is None or tuned is None:
        return "—"
    change = tuned - base
    words = points(change, 1) if as_percent else f"{change:+,.2f}"
    if change == 0:
        return (words, "muted")
    return (words, "good" if (change > 0) == more_is_better else "bad")


def shares(found: Evaluation) -> list[tuple[Text | str, float, float]]:
    """The measures that are shares, of base and tuned model."""
    named = (
        (say("Exact match", "完全匹配"), found.base.exact_match, found.tuned.exact_match),
        (say("ROUGE-L", "ROUGE-L"), found.base.rouge_l, found.tuned.rouge_l),
        (say("Token accuracy", "词元准确率"), found.base.token_accuracy, found.tuned.token_accuracy),
    )
    return [(name, base, tuned) for name, base, tuned in named if base is not None and tuned is not None]


def counts(found: Evaluation) -> list[tuple[Text | str, Text | str]]:
    """How many rows are exact, better, worse."""
    exact = sum(bool(item.tuned.exact) for item in found.rows)
    facts: list[tuple[Text | str, Text | str]] = []
    if found.verdict.changed is not None:
        facts.append((say("Answered exactly by the tuned model", "微调模型完全答对"), f"{exact} / {len(found.rows)}"))
        facts.append((say("Answers that changed", "有变化的回答"), f"{len(found.changed())} / {len(found.rows)}"))
    losses = found.verdict.losses
    facts.append((say("Loss lower", "损失更低"), f"{losses.better} / {losses.better + losses.worse + losses.same}"))
    return facts


def _line(item: EvaluatedRow) -> tuple[str, str, str]:
    if item.tuned.exact:
        return tr(say("exact", "完全正确")), GOOD, item.prompt
    if item.gain > 0:
        return tr(say("better", "变好")), GOOD, item.prompt
    if item.gain < 0:
        return tr(say("worse", "变差")), BAD, item.prompt
    return tr(say("not exact", "未全对")), PLAIN, item.prompt


def _answer(side: SideOfRow) -> str:
    if side.answer is None:
        return tr(say("not asked: the row is too long", "未提问：该行过长"))
    cut = tr(say(" … (cut there)", " …（在此截断）")) if side.cut else ""
    return (side.answer or tr(say("(nothing)", "（空）"))) + cut
