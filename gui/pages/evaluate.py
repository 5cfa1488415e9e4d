"""The Evaluate page: was it worth it, what was forgotten, does the adapter do anything."""

from __future__ import annotations

from PySide6.QtWidgets import QPushButton, QWidget

from engine.project.evaluation import Evaluation
from engine.project.verdict import verdict_of
from engine.protocol.errors import Failure
from engine.protocol.text import Text, say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.operations.jobs import start_later_job, stop_job
from gui.operations.proof import look_at_proof
from gui.operations.report import save_report
from gui.pages.evaluate_effect import EffectPanel
from gui.pages.evaluate_forgetting import ForgettingPanel, chip_of
from gui.pages.evaluate_judge import JudgePanel
from gui.pages.evaluate_rows import RowsPanel
from gui.pages.evaluate_task import TaskCard
from gui.pages.evaluate_words import EARLIER, OLD, footing, how_measured
from gui.pages.page import Page
from gui.state.proof import Proof
from gui.widgets.basic import button, column, holder, label, row, set_role
from gui.widgets.card import Card
from gui.widgets.chip import WARN, Chip
from gui.widgets.failure_strip import FailureStrip
from gui.widgets.footer import Footer
from gui.widgets.tabs import Tabs

FORGOTTEN, ROWS, EFFECT, JUDGE = "forgotten", "rows", "effect", "judge"


class EvaluatePage(Page):
    """Base against tuned on the held-out rows: figures, verdict, and what lies behind them."""

    title = say("Evaluate", "评估")
    subtitle = say(
        "Was it worth it? Base against tuned, on rows that were never trained on",
        "值得吗？在从未训练过的行上比较基础模型与微调模型",
    )

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._shown: Proof | None = None
        runs = context.runs
        for signal in (runs.evaluate.changed, runs.selected, runs.proven):
            signal.connect(self._show)
        runs.train.finished.connect(self._show)  # `Prover` reads anew what jobs have written

    # ------------------------------------------------------------------------------------------------------ states
    def refresh(self) -> None:
        """Show what is known, and read in the background whether more was found out since."""
        self._show()
        look_at_proof(self.context)

    def _show(self) -> None:
        """Show nothing yet, working, wrong, or the figures."""
        job = self.context.runs.evaluate
        if not self.context.runs.is_trained:
            self._show_nothing_to_measure()
        elif job.is_running:
            stage = job.state.stage or say("Starting…", "启动中……")
            self.show_banner().working(stage, job.state.progress, self._cancel)
        else:
            self._show_proof(self.context.runs.proof, job.state.failure)

    def _show_nothing_to_measure(self) -> None:
        plan = button(
            say("Go to the plan", "前往计划"), lambda: self.context.wizard.go("plan"), "primary", shortcut="Ctrl+Return"
        )
        sentence = say("There is no tuned model to measure yet.", "还没有可评估的微调模型。")
        hint = say("Train one first; its held-out rows are measured here.", "请先训练；其留出的行会在这里评估。")
        self.show_banner().empty(sentence, hint, plan)

    def _show_proof(self, proof: Proof, failure: Failure | None) -> None:
        if proof.failure is not None:
            self.show_banner().wrong(proof.failure, self._measure_button(say("Measure again", "重新评估")))
        elif proof.evaluation is not None:
            self.show_body()
            self._failure.put(failure)
            self._fill(proof, proof.evaluation)
        elif failure is not None:
            self.show_banner().wrong(failure, self._way_on(failure))
        else:
            self._show_not_measured()

    def _way_on(self, failure: Failure) -> QPushButton:
        """Without held-out rows trying again is of no use: another run is."""
        if failure.code != "evaluate.no_rows":
            return self._measure_button(say("Try again", "重试"))
        return button(say("Go to the data", "前往数据"), lambda: self.context.wizard.go("data"), "primary")

    def _show_not_measured(self) -> None:
        sentence = say("Base and tuned model have not been compared yet.", "尚未比较基础模型与微调模型。")
        hint = say(
            "Both answer the held-out rows, and general questions that show what was forgotten. A few minutes, as a "
            "rule.",
            "两者都会回答留出的行，以及用于检查遗忘的通用题目，通常只需几分钟。",
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
        """Verdict above, figures on the left, what lies behind them on the right."""
        self._failure = FailureStrip()
        self._task, self._behind = TaskCard(), self._behind_card()
        body = row(self._task, self._behind, spacing=14)
        body.setStretch(0, 1)
        body.setStretch(1, 1)
        made = column(self._failure, self._verdict_card(), body, self._footer_bar(), spacing=14)
        made.setStretch(2, 1)
        self._shown = None
        return holder(made)

    def _verdict_card(self) -> QWidget:
        self._sentence, self._how = label("", "heading", wrap=True), label("", "muted", wrap=True)
        self._chip, self._forgot = Chip(), Chip()
        words = row(column(self._sentence, self._how, spacing=4), self._forgot, self._chip, spacing=8)
        words.setStretch(0, 1)
        return Card("", "", words)

    def _behind_card(self) -> QWidget:
        self._tabs = Tabs()
        self._forgetting, self._rows, self._effect = ForgettingPanel(self.context), RowsPanel(), EffectPanel()
        self._tabs.add(FORGOTTEN, say("What it forgot", "遗忘了什么"), self._forgetting, shortcut="Ctrl+Alt+1")
        self._tabs.add(ROWS, say("Rows", "行"), self._rows, shortcut="Ctrl+Alt+2")
        self._tabs.add(EFFECT, say("Adapter", "适配器"), self._effect, shortcut="Ctrl+Alt+3")
        self._judge = JudgePanel(self.context)
        self._tabs.add(JUDGE, say("Judge", "评审模型"), self._judge, shortcut="Ctrl+Alt+4")
        self._tabs.bar.addStretch(1)
        return Card("", "", self._tabs.bar, self._tabs)

    def _footer_bar(self) -> QWidget:
        self._again = button(say("Measure again", "重新评估"), self._measure, shortcut="Ctrl+R")
        by_hand = button(
            say("Compare by hand →", "动手对比 →"),
            lambda: self.context.wizard.go("compare"),
            "primary",
            shortcut="Ctrl+Right",
        )
        report = button(
            say("Save report…", "保存报告…"),
            lambda: save_report(self.context),
            shortcut="Ctrl+S",
            tip=say("One HTML file with everything found here, to send or to print", "单个 HTML 文件，可发送或打印"),
        )
        self._footer = Footer(self._again, report, by_hand)
        return self._footer

    # -------------------------------------------------------------------------------------------------------- fill
    def _fill(self, proof: Proof, found: Evaluation) -> None:
        self._put_verdict(proof, found)
        self._footer.say(footing(found))
        if proof is self._shown:
            return  # a row may be read just now
        self._shown = proof
        self._task.put(found)
        self._rows.put(found)
        self._forgetting.put(proof.forgetting, proof.harness)
        self._effect.put(proof.effect)
        self._judge.put(proof.judgement)

    def _put_verdict(self, proof: Proof, found: Evaluation) -> None:
        sentence, chip, tone = verdict_of(found, proof.effect)
        earlier = self.context.runs.has_learned_since(found.created)
        again = EARLIER if earlier else OLD if found.is_old else None
        self._sentence.setText(tr(sentence))
        self._how.setText(tr(again or how_measured(found)))
        self._chip.put(*((say("of an earlier state", "属于较早的状态"), WARN) if earlier else (chip, tone)))
        set_role(self._again, "primary" if again else "")
        forgot = chip_of(proof.forgetting)
        self._forgot.setVisible(forgot is not None)
        if forgot is not None:
            self._forgot.put(*forgot)
