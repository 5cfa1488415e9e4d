"""The whole wizard, offscreen, with the real sessions and the real worker: from sample data to a checked GGUF."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QFileDialog, QPushButton
from pytestqt.qtbot import QtBot

from engine.host.follow import replay
from engine.host.launch import is_alive, running_pid
from engine.project.evaluation import read_evaluation
from engine.project.run_folder import RunFolder
from gui.context import AppContext
from gui.main_window import MainWindow
from gui.operations.project import open_project
from gui.pages.compare import ComparePage
from gui.pages.evaluate import EvaluatePage
from gui.pages.export import ExportPage
from gui.pages.page import Page
from gui.pages.train import TrainPage

LONG = 240_000
QUICK = {
    "train.max_steps": 12,
    "train.evaluate_every": 6,
    "train.batch_size": 8,
    "train.accumulation": 1,
    "method": {"name": "qlora", "rank": 8},
    "evaluate.rows": 8,
    "evaluate.max_new_tokens": 24,
    "evaluate.probe_items": 5,
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def page_of(window: MainWindow) -> Page:
    page = window._stack.currentWidget()
    assert isinstance(page, Page)
    return page


def press(qtbot: QtBot, window: MainWindow, words: str) -> None:
    """Press the button that says so on the page in front, as soon as it can be pressed."""

    def found() -> QPushButton | None:
        QApplication.processEvents()
        buttons = page_of(window).findChildren(QPushButton)
        return next((b for b in buttons if b.text() == words and b.isVisible() and b.isEnabled()), None)

    qtbot.waitUntil(lambda: found() is not None, timeout=LONG)
    button = found()
    assert button is not None
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def wait(qtbot: QtBot, done: Callable[[], bool]) -> None:
    qtbot.waitUntil(done, timeout=LONG)


def plan_a_quick_run(qtbot: QtBot, window: MainWindow, context: AppContext) -> None:
    """Sample, starter, plan, and settings that end soon."""
    press(qtbot, window, "Use the sample")
    press(qtbot, window, "Choose a model →")
    press(qtbot, window, "See the plan →")
    wait(qtbot, lambda: context.plan.forecast is not None)
    context.draft.set(QUICK)
    wait(qtbot, lambda: context.plan.forecast is not None and context.plan.forecast.steps == 12)


def test_from_sample_data_to_a_checked_gguf(
    qtbot: QtBot, opened: AppContext, window: MainWindow, tmp_project: Path, starter: Path
) -> None:
    plan_a_quick_run(qtbot, window, opened)
    press(qtbot, window, "Start training")
    train = page_of(window)
    assert isinstance(train, TrainPage)
    wait(qtbot, lambda: opened.runs.train.state.status == "done")
    assert opened.runs.train.state.step == 12
    assert len(opened.runs.train.state.held_out) == 2
    run = opened.runs.run
    assert isinstance(run, RunFolder)
    assert run.path.parent.parent == tmp_project

    press(qtbot, window, "See whether it helped →")
    press(qtbot, window, "Measure")
    evaluate = page_of(window)
    assert isinstance(evaluate, EvaluatePage)
    wait(qtbot, lambda: evaluate.is_ready)
    found = read_evaluation(run)
    assert found is not None
    assert len(found.rows) == 8
    assert found.tuned.loss is not None
    assert found.base.loss is not None
    assert found.tuned.loss < found.base.loss

    compare_by_hand(qtbot, window, opened, "What colour is the sky?")
    assert opened.talk.turns[0].texts["base"]
    assert 0 < opened.talk.turns[0].facts["tuned"]["tokens"] <= 16

    opened.wizard.go("export")
    export = page_of(window)
    assert isinstance(export, ExportPage)
    wait(qtbot, lambda: export.is_ready)
    for name in ("F16", "Q4_K_M"):  # one instead of the other
        qtbot.mouseClick(export.choices.types.boxes[name], Qt.MouseButton.LeftButton)
    press(qtbot, window, "Export and check")
    wait(qtbot, lambda: bool(opened.takeaway.exports))
    written = opened.takeaway.exports[0]
    assert written.passed is True, written.parity
    assert Path(written.file).read_bytes()[:4] == b"GGUF"
    assert export.stamp.chip.text == "✓ is what you trained"


def test_a_pretrained_model_and_real_data(
    qtbot: QtBot, opened: AppContext, window: MainWindow, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base model without a chat template, and a dataset that people really use: nothing of ours but the window."""
    data = shared_data / "datasets" / "llama-factory" / "alpaca_en_demo.json"
    model = shared_data / "models" / "stories260K"
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *args: ([str(data)], ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args: str(model))
    press(qtbot, window, "Import data…")
    wait(qtbot, lambda: opened.data.facts.get("shape") == "alpaca")
    assert opened.data.facts["rows"] > 900
    press(qtbot, window, "Choose a model →")
    press(qtbot, window, "Open a folder…")
    wait(qtbot, lambda: opened.models.chosen.get("source") == str(model))
    press(qtbot, window, "See the plan →")
    wait(qtbot, lambda: opened.plan.forecast is not None)
    opened.draft.set({**QUICK, "method": {"name": "lora", "rank": 8}, "data.max_length": 256})
    wait(qtbot, lambda: opened.plan.forecast is not None and opened.plan.forecast.steps == 12)

    press(qtbot, window, "Start training")
    wait(qtbot, lambda: opened.runs.train.state.is_over)
    assert opened.runs.train.state.status == "done", opened.runs.train.state.failure
    assert any("template" in note.text.en for note in opened.runs.train.state.notes), "the choice of one is told"

    press(qtbot, window, "See whether it helped →")
    press(qtbot, window, "Measure")
    evaluate = page_of(window)
    assert isinstance(evaluate, EvaluatePage)
    wait(qtbot, lambda: evaluate.is_ready)

    compare_by_hand(qtbot, window, opened, "Name three fruits.")

    opened.wizard.go("export")
    for number, (name, kind) in enumerate((("merged", "merged"), ("gguf", "gguf")), 1):
        export_as(qtbot, window, name)
        wait(qtbot, lambda number=number: len(opened.takeaway.exports) == number)  # type: ignore[misc]
        written = opened.takeaway.exports[0]
        assert (written.kind, written.passed) == (kind, True), written


def compare_by_hand(qtbot: QtBot, window: MainWindow, opened: AppContext, question: str) -> None:
    """From the Evaluate page load both models, ask them, and wait for both answers."""
    press(qtbot, window, "Compare by hand →")
    press(qtbot, window, "Load the models")
    compare = page_of(window)
    assert isinstance(compare, ComparePage)
    wait(qtbot, lambda: compare.is_ready)
    opened.talk.sampling["max_new_tokens"] = 16
    qtbot.keyClicks(compare.ask.question, question)
    qtbot.keyClick(compare.ask.question, Qt.Key.Key_Return)
    wait(qtbot, lambda: bool(opened.talk.turns) and opened.talk.turns[0].is_over)
    assert not opened.talk.turns[0].failures


def opened_work(export: ExportPage) -> bool:
    """Whether something is being written."""
    return export.context.runs.export.is_running


def export_as(qtbot: QtBot, window: MainWindow, name: str) -> None:
    """Choose the card and press the button."""
    export = page_of(window)
    assert isinstance(export, ExportPage)
    wait(qtbot, lambda: export.is_ready and not opened_work(export))
    qtbot.mouseClick(export.choices.targets.cards[name], Qt.MouseButton.LeftButton)
    press(qtbot, window, "Export and check")


def test_a_killed_worker_is_explained_and_the_run_goes_on(
    qtbot: QtBot, opened: AppContext, window: MainWindow, starter: Path
) -> None:
    plan_a_quick_run(qtbot, window, opened)
    opened.draft.set({"train.max_steps": 200, "train.evaluate_every": 100})
    press(qtbot, window, "Start training")
    train = page_of(window)
    assert isinstance(train, TrainPage)
    wait(qtbot, lambda: opened.runs.train.state.step >= 2)
    press(qtbot, window, "Save checkpoint")
    wait(qtbot, lambda: bool(opened.runs.train.state.checkpoints))
    saved = opened.runs.train.state.checkpoints[-1].step
    run = opened.runs.run
    assert run is not None
    pid = running_pid(run)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait(qtbot, lambda: train._failure.isVisible())
    assert "ended from outside" in train._failure.sentence
    press(qtbot, window, "Continue the run")
    wait(qtbot, lambda: opened.runs.train.state.status == "working" and opened.runs.train.state.step > saved)
    assert opened.runs.train.state.steps[0].step == 1, "the curve is whole"
    press(qtbot, window, "Stop and keep")
    wait(qtbot, lambda: opened.runs.train.state.status == "stopped")
    wait(qtbot, lambda: not is_alive(run))


def test_the_run_outlives_the_window(
    qtbot: QtBot, opened: AppContext, window: MainWindow, tmp_project: Path, starter: Path
) -> None:
    plan_a_quick_run(qtbot, window, opened)
    opened.draft.set({"train.max_steps": 200, "train.evaluate_every": 100})
    press(qtbot, window, "Start training")
    wait(qtbot, lambda: opened.runs.train.state.step >= 2)
    run = opened.runs.run
    assert run is not None
    opened.runs.select(None)
    before = replay(run).step
    wait(qtbot, lambda: replay(run).step > before)
    open_project(opened, tmp_project)
    wait(qtbot, lambda: opened.runs.run == run and opened.runs.train.state.step > before)
    assert opened.runs.train.state.steps[0].step == 1
    opened.wizard.go("train")
    press(qtbot, window, "Stop and keep")
    wait(qtbot, lambda: opened.runs.train.state.status == "stopped")
    wait(qtbot, lambda: not is_alive(run))
