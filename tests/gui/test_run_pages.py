"""The pages that look at a run, on runs whose record is written by hand: every state, every button."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QFileDialog, QLabel, QPushButton, QScrollArea, QWidget
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.export.ledger import Export, remember
from engine.host import follow
from engine.project.atomic import disk_error
from engine.project.curve import Reading
from engine.project.effect import Effect, Part, write_effect
from engine.project.evaluation import (
    Comparison,
    EvaluatedRow,
    Evaluation,
    Scores,
    SideOfRow,
    Verdict,
    write_evaluation,
)
from engine.project.forgetting import Forgetting, SkillChange, TextDrift, write_forgetting
from engine.project.measures import Estimate, Group, Measure, Overlap
from engine.project.project import Project
from engine.project.queue import Entry
from engine.project.run_folder import JobFolder, RunFolder
from engine.project.verdict import verdict_of
from engine.protocol.codec import encode_event
from engine.protocol.errors import Failure
from engine.protocol.events import (
    CheckpointSaved,
    Continued,
    Event,
    Finished,
    Gauge,
    HeldOut,
    JobStarted,
    Launched,
    Note,
    RolledBack,
    RunPlanned,
    Stage,
    StepDone,
    Waiting,
)
from engine.protocol.state import JobState, apply_all
from engine.protocol.text import Text, say
from engine.recipe.file import loads
from engine.recipe.recipe import Recipe
from gui.bridge import stopping
from gui.context import AppContext
from gui.i18n.numbers import day
from gui.operations import jobs
from gui.operations import talk as talking
from gui.operations import train as training
from gui.pages import export_stamp, train_reading
from gui.pages.compare import ComparePage
from gui.pages.evaluate import EvaluatePage
from gui.pages.evaluate_words import footing, how_measured
from gui.pages.export import ExportPage
from gui.pages.page import Page
from gui.pages.train import TrainPage
from gui.state.proof import gain_of
from gui.state.run import ending
from gui.state.settings import AppSettings
from gui.widgets.plots import NUMBER_HIGH, LinePlot, UprightAxis

Opened = Callable[[type[Page]], Page]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that has only its recipe."""
    return Project.open_or_create(tmp_path / "p").new_run(loads("", CATALOGUE), title="clinic replies")


@pytest.fixture
def context(qtbot: QtBot, run: RunFolder) -> Iterator[AppContext]:
    """A window's states, looking at the run."""
    made = AppContext(AppSettings(language="en", theme="light"), run.path.parent.parent)
    yield made
    made.close()


@pytest.fixture
def opened(qtbot: QtBot, context: AppContext, run: RunFolder) -> Opened:
    """Opens a page on the run."""

    def open_page(kind: type[Page]) -> Page:
        page = kind(context)
        qtbot.addWidget(page)
        page.resize(1050, 750)
        page.show()
        context.runs.select(run)
        page.refresh()
        return page

    return open_page


def write(run: RunFolder, *events: Event) -> None:
    with run.events.open("a", encoding="utf-8") as file:
        file.writelines(encode_event(event) + "\n" for event in events)


def begun() -> list[Event]:
    return [
        Launched(kind="train"),
        JobStarted(kind="train", pid=1, time=1000.0),
        RunPlanned(
            steps=40,
            epochs=2,
            rows=90,
            held_out=10,
            trained_parameters=5,
            all_parameters=1000,
            device="cpu",
            predicted_memory_gib=1.0,
        ),
    ]


def step(number: int) -> StepDone:
    return StepDone(
        step=number,
        steps=40,
        epoch=number / 20,
        loss=2 * math.exp(-number / 10),
        learning_rate=1e-4,
        tokens=number * 100,
        tokens_per_second=500.0,
        memory_gib=0.8,
        seconds_left=60.0,
        time=1000.0 + number,
    )


def trained(run: RunFolder) -> None:
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text("{}")


def visible(page: QWidget) -> dict[str, QPushButton]:
    """Buttons that can be seen, by their words; what was just put in a layout is shown by the event loop."""
    QApplication.processEvents()
    return {item.text(): item for item in page.findChildren(QPushButton) if item.isVisible()}


# ------------------------------------------------------------------------------------------------------------- train
def test_train_has_nothing_yet(context: AppContext, qtbot: QtBot) -> None:
    page = TrainPage(context)
    qtbot.addWidget(page)
    page.show()
    page.refresh()
    assert "No run" in page.banner.sentence
    assert "Pause" not in visible(page)
    visible(page)["Go to the plan"].click()
    assert context.wizard.current == "plan"


def test_train_gets_ready_then_moves_then_ends(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    write(run, *begun()[:2], Stage(name="model", text=say("Loading the model", "加载模型")))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.banner.sentence == "Loading the model")
    write(run, begun()[2], *[step(n) for n in range(1, 21)], HeldOut(step=20, loss=0.4, best=True))
    write(run, CheckpointSaved(step=20, path="checkpoints/step-000020"), Note(text=say("a note", "一条说明")))
    qtbot.waitUntil(lambda: page.is_ready)
    assert page._step.text() == "Step 20 of 40"
    assert page._left.text() == "60 s left"
    assert len(page._loss._series["train"].xs) == 20
    assert "held out 0.40, best at 20" in page._held.text()
    assert {"Pause", "Save checkpoint", "Stop and keep"} <= set(visible(page))
    told = [page._notes.item(i).text() for i in range(page._notes.count())]
    assert any("a note" in line for line in told)
    assert any("Checkpoint 20" in line for line in told)
    write(run, Waiting(step=20))
    qtbot.waitUntil(lambda: "Continue" in visible(page))
    trained(run)
    write(run, Finished(status="done", time=1100.0))
    qtbot.waitUntil(lambda: "See whether it helped →" in visible(page))
    assert "Pause" not in visible(page)
    assert "Continue the run" not in visible(page)


def test_train_explains_a_killed_worker_and_offers_to_continue(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    write(run, *begun(), *[step(n) for n in range(1, 6)])
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready and page._failure.isVisible())
    assert "ended from outside" in page._failure.sentence
    assert {"Copy details", "Continue the run"} <= set(visible(page))


def test_train_says_what_was_wrong_before_the_first_step(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    wrong = Failure(
        "data.missing", say("rows.json does not exist.", "rows.json 不存在。"), say("Choose it again.", "请重选。")
    )
    write(run, *begun()[:2], Finished(status="failed", failure=wrong))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.banner.sentence == "rows.json does not exist.")
    assert {"Try again", "Change the plan", "Copy details"} <= set(visible(page))
    run.log.write_text("Traceback: the whole truth")
    visible(page)["Show the log"].click()
    assert "the whole truth" in page._alone_log.toPlainText()
    visible(page)["← Back"].click()
    assert page.banner.isVisible()


def test_commands_go_to_the_run(opened: Opened, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    write(run, *begun(), step(1))
    page = opened(TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)
    for name in ("Save checkpoint", "Pause"):
        qtbot.mouseClick(visible(page)[name], Qt.MouseButton.LeftButton)
    write(run, Waiting(step=1))
    qtbot.waitUntil(lambda: "Continue" in visible(page))
    visible(page)["Continue"].click()

    def sent() -> list[str]:
        return [json.loads(line)["name"] for line in run.commands.read_text().splitlines()]

    qtbot.waitUntil(lambda: sent() == ["save", "pause", "continue"])


def test_the_log_is_one_click_away(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    write(run, *begun(), step(1))
    run.log.write_text("Traceback: the whole truth")
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)
    page._log_switch.click()
    assert "the whole truth" in page._log.toPlainText()


def another_run(run: RunFolder) -> RunFolder:
    project = Project.open_or_create(run.path.parent.parent)
    return project.new_run(loads('[method]\nname = "ia3"\n', CATALOGUE), title="another")


def test_the_log_and_the_subtitle_are_those_of_the_run_looked_at(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot
) -> None:
    write(run, *begun(), step(1))
    run.log.write_text("first log")
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)
    assert "LoRA" in page._subtitle.text()
    page._log_switch.click()
    other = another_run(run)
    write(other, *begun(), step(1), step(2))
    other.log.write_text("second log")
    context.runs.select(other)
    qtbot.waitUntil(lambda: "second log" in page._log.toPlainText())
    assert "LoRA" not in page._subtitle.text()
    context.runs.select(another_run(run))
    assert "IA" in page._subtitle.text()


def test_every_checkpoint_and_every_recovery_is_marked(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    saved = [CheckpointSaved(step=n, path=f"checkpoints/step-{n:06}") for n in (10, 20)]
    recovered = Note(level="recovery", text=say("Went back.", "已恢复。"), time=1005.5)
    told = Note(text=say("Just so.", "仅供参考。"), time=1006.0)
    write(run, *begun(), *[step(n) for n in range(1, 21)], *saved, recovered, told)
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready and bool(page._loss._marks))
    assert {words: line.value() for words, line in page._loss._marks.items()} == {
        "checkpoint 10": 10,
        "checkpoint 20": 20,
        "recovered 5": 5,
    }
    assert page._loss._marks["checkpoint 20"].label.format == "checkpoint 20"
    assert "checkpoint 10" in page._loss.reading(10.0)
    curves = (page._loss._series["train"], page._memory._series["held"], page._speed._series["speed"])
    qtbot.waitUntil(lambda: all(curve.raw.getOriginalDataset()[0] is not None for curve in curves), timeout=60_000)
    qtbot.waitUntil(lambda: not any(plot._timer.isActive() for plot in (page._loss, page._memory, page._speed)))


def test_a_recovery_is_told_and_marked_on_every_time_axis(
    opened: Opened, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own step: it is told before that step is done; and what was rolled back is not shown any more."""
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    halved = Note(level="recovery", text=say("Rows at once 4 → 2.", "每批行数 4 → 2。"), time=1008.5, step=9)
    back = Note(level="recovery", text=say("Went back to step 15.", "已回到第 15 步。"), time=1020.5, step=18)
    write(run, *begun(), *[step(n) for n in range(1, 9)], halved, *[step(n) for n in range(9, 21)])
    write(run, RolledBack(step=15), back, step(16))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready and len(page._loss._marks) == 2)
    for plot in (page._loss, page._memory, page._speed):
        marks = {words: line.value() for words, line in plot._marks.items() if line.angle == 90}
        assert marks == {"recovered 9": 9, "recovered 18": 18}
    told = [page._notes.item(i).text() for i in range(page._notes.count())]
    assert "Went back to step 15." in told[0]
    assert "Rows at once 4 → 2." in told[1]
    assert page._step.text() == "Step 16 of 40"
    assert len(page._loss._series["train"].xs) == 16
    qtbot.waitUntil(lambda: not any(plot._timer.isActive() for plot in (page._loss, page._memory, page._speed)))


def test_a_run_is_not_continued_beside_another(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(run, *begun(), *[step(n) for n in range(1, 6)])
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: "Continue the run" in visible(page))
    other, started = another_run(run), []
    monkeypatch.setattr(training, "is_alive", lambda folder: folder == other)
    monkeypatch.setattr(training, "start_job", lambda *arguments: started.append(arguments))
    context.project.set_lists(Project(run.path.parent.parent).runs(), [])
    qtbot.waitUntil(lambda: "Continue the run" not in visible(page))
    assert "another" in page._footer.words.text()
    training.continue_run(context)
    assert started == []


def on_a_card() -> list[Event]:
    return [*begun()[:2], replace(begun()[2], device="NVIDIA RTX 4090", predicted_memory_gib=16.0)]  # type: ignore[type-var]


def test_what_a_pause_holds_and_the_way_to_free_it(
    opened: Opened, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    write(run, *on_a_card(), *[step(n) for n in range(1, 6)])
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)
    assert page._strip.isHidden()
    visible(page)["Pause"].click()
    assert not visible(page)["Pausing…"].isEnabled()
    write(run, Waiting(step=5, until=time.time() + 300))
    qtbot.waitUntil(page._strip.isVisible)
    words = page._strip.sentence.text()
    assert words.startswith("Saved at step 5. It holds 0.8 GiB on the card until ")
    assert "5 min more" in words
    visible(page)["Pause and free the card"].click()
    assert not page._strip.free.isEnabled()
    qtbot.waitUntil(lambda: run.commands.is_file() and '"free"' in run.commands.read_text())
    resumed: list[str] = []
    monkeypatch.setattr(training, "start_job", lambda folder, kind, arguments: resumed.append(kind))
    write(run, Finished(status="paused", time=1100.0))
    qtbot.waitUntil(lambda: "Continue the run" in visible(page))
    assert "holds no memory" in page._strip.sentence.text()
    monkeypatch.setattr(follow, "is_alive", lambda folder: False)
    visible(page)["Continue the run"].click()
    assert resumed == ["resume"]


def test_a_pause_on_the_cpu_frees_the_memory_and_may_last_for_ever(
    opened: Opened, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    write(run, *begun(), step(1), Waiting(step=1))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: "Pause and free the memory" in visible(page))
    assert page._strip.sentence.text() == "Saved at step 1. It holds 0.8 GiB of memory until you continue."
    assert not page._strip._timer.isActive()  # nothing to count down


def test_a_run_that_waits_for_the_disk_says_so_and_can_be_stopped(
    opened: Opened, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    room = say("Free 160 MiB on D:.", "请在 D: 腾出 160 MiB。")
    saved = CheckpointSaved(step=1, path="checkpoints/step-000001")
    write(run, *begun(), step(1), saved, step(2), step(3))
    write(run, Waiting(step=3, reason="disk", code="disk.full", text=room))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready and page._strip.isVisible())
    words = page._strip.sentence.text()
    assert words == (
        "Free 160 MiB on D:. Until then it holds 0.8 GiB of memory. "
        "A stop now keeps the checkpoint of step 1; steps 2 to 3 are in memory only."
    )
    assert page._strip._chip.text == "disk full"
    assert "Continue" not in visible(page)
    assert visible(page)["Stop and keep"].isEnabled()
    assert not visible(page)["Save checkpoint"].isEnabled()
    visible(page)["Try now"].click()
    visible(page)["Free the memory"].click()
    qtbot.waitUntil(lambda: run.commands.is_file() and '"free"' in run.commands.read_text())
    assert '"continue"' in run.commands.read_text()
    write(run, Continued(step=3))
    qtbot.waitUntil(page._strip.isHidden)


def test_a_drive_that_is_gone_is_not_called_full(
    opened: Opened, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    write(run, *begun(), step(1), Waiting(step=1, reason="disk", code="disk.gone", text=say("It is gone.", "不在了。")))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready and page._strip.isVisible())
    assert page._strip._chip.text == "disk gone"
    assert page._strip.sentence.text().endswith("A stop now keeps nothing: step 1 is in memory only.")


@pytest.mark.parametrize(
    ("saved", "rung", "en", "zh"),
    [
        (93, "asked", "Stopped, as you asked. What was learned is kept.", "已按你的要求停止。学到的内容已保存。"),
        (
            93,
            "killed",
            "Stopped by force at step 93. What was learned is kept.",
            "已在第 93 步被强制停止。学到的内容已保存。",
        ),
        (
            50,
            "killed",
            "Stopped by force at step 93. Steps 51 to 93 were not saved; the checkpoint of step 50 is kept.",
            "已在第 93 步被强制停止。第 51 至 93 步没有保存；第 50 步的检查点仍在。",
        ),
        (
            92,
            "terminated",
            "It did not answer and was ended at step 93. Step 93 was not saved; the checkpoint of step 92 is kept.",
            "没有响应，已在第 93 步被结束。第 93 步没有保存；第 92 步的检查点仍在。",
        ),
        (
            0,
            "asked",
            "Stopped at step 93. Steps 1 to 93 were not saved; there is no checkpoint.",
            "已在第 93 步停止。第 1 至 93 步没有保存，也没有检查点。",
        ),
    ],
)
def test_what_is_said_to_be_kept_is(saved: int, rung: str, en: str, zh: str) -> None:
    checkpoints = [CheckpointSaved(step=saved, path="x")] if saved else []
    events = [*begun(), *checkpoints, step(93), Finished(status="stopped", rung=rung)]
    assert ending(apply_all(JobState(), events)) == Text(en, zh)


def test_who_only_watches_cannot_press_what_changes_the_run(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    write(run, *begun(), step(1), Waiting(step=1, until=time.time() + 300))
    page = opened(TrainPage)
    qtbot.waitUntil(lambda: "Pause and free the memory" in visible(page))
    assert visible(page)["Stop and keep"].isEnabled()
    monkeypatch.setattr(type(context.control), "controls", property(lambda control: False))
    context.control.changed.emit()
    for words in ("Stop and keep", "Continue", "Pause and free the memory"):
        assert not visible(page)[words].isEnabled()


def test_a_page_that_is_made_later_knows_what_the_run_has(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot
) -> None:
    trained(run)
    write(run, *begun(), step(1), Finished(status="done"))
    context.runs.select(run)
    qtbot.waitUntil(lambda: context.runs.train.state.is_over)
    page = TrainPage(context)
    qtbot.addWidget(page)
    page.show()
    page.refresh()
    qtbot.waitUntil(lambda: "See whether it helped →" in visible(page))


def test_a_run_that_waits_in_the_queue_says_so(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot
) -> None:
    page = opened(TrainPage)
    qtbot.waitUntil(lambda: page.banner.sentence.startswith("No run has been started"))
    context.project.listed.put(queue=(Entry(id="a", run=str(run.path), title="x"),))
    qtbot.waitUntil(lambda: page.banner.sentence == "This run waits in the queue.")
    context.project.listed.put(queue=(Entry(id="a", run=str(run.path), title="x", state="ended"),))
    qtbot.waitUntil(lambda: page.banner.sentence.startswith("No run has been started"))


def test_a_run_that_goes_on_from_another_took_what_it_took_itself(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    facts = run.read_facts()
    run.write_facts({**facts, "created": 50_000.0})
    write(run, *begun(), step(1), Launched(kind="resume", time=50_001.0))
    write(run, JobStarted(kind="resume", pid=2, time=50_002.0, resumed_from=1), replace(step(2), time=50_040.0))
    write(run, Finished(status="done", time=50_044.0))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready and page._left.text() == "took 42 s")
    assert page._since.text() == f"· started {day(50_002.0)[5:]}"


class Ladder:
    """A stop ladder that climbs by the clock it was given, and is over when the test says so."""

    made: ClassVar[list["Ladder"]] = []
    is_gone = False

    def __init__(self, folder: JobFolder, *, now: Callable[[], float], save_seconds: float, **_: Any) -> None:
        self._now, self._patience, self.rung = now, save_seconds, "asked"
        self._since, self.freed = now(), say("15.4 GiB of the card are free again.", "显卡已释放 15.4 GiB。")
        Ladder.made.append(self)

    def poll(self) -> bool:
        if self._now() - self._since >= self._patience:
            self._since, self.rung = self._now(), {"asked": "terminated", "terminated": "killed"}[self.rung]
        return Ladder.is_gone


@pytest.fixture
def ladder(monkeypatch: pytest.MonkeyPatch) -> type[Ladder]:
    """Stands for the engine's."""
    monkeypatch.setattr(jobs, "StopLadder", Ladder)
    monkeypatch.setattr(Ladder, "made", [])
    monkeypatch.setattr(Ladder, "is_gone", False)
    return Ladder


def test_the_rung_is_shown_and_its_patience_can_be_skipped(
    opened: Opened, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, ladder: type[Ladder]
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    write(run, *on_a_card(), step(1))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)
    visible(page)["Stop and keep"].click()
    says = page._strip.sentence.text
    qtbot.waitUntil(lambda: says().startswith("Asked it to save and stop… The next step comes in "))
    assert not visible(page)["Stopping…"].isEnabled()
    visible(page)["End now"].click()
    qtbot.waitUntil(lambda: says().startswith("It does not answer: ending it… The next step comes in "))
    visible(page)["End now"].click()
    qtbot.waitUntil(lambda: says() == "Ending it by force…")
    ladder.is_gone = True
    write(run, Finished(status="stopped", rung="killed", derived=True, time=1100.0))
    qtbot.waitUntil(lambda: says().endswith("15.4 GiB of the card are free again."))
    assert says().startswith("Ended by force: it did not answer.")
    assert len(ladder.made) == 1
    assert not page._strip._timer.isActive()


def test_a_run_whose_steps_are_long_is_given_longer_to_save(
    opened: Opened, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, ladder: type[Ladder]
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    write(run, *begun(), *[replace(step(n), time=1000.0 + 100 * n) for n in range(1, 4)])
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)
    visible(page)["Stop and keep"].click()
    qtbot.waitUntil(lambda: page._strip.sentence.text().endswith("The next step comes in 5 min."))
    ladder.is_gone = True
    qtbot.waitUntil(lambda: not page.context.runs.train.is_stopping)


@pytest.mark.parametrize(
    "error", [PermissionError("the process is another's"), disk_error(OSError(28, "full"), Path("x"))]
)
def test_a_ladder_that_is_refused_is_told_once_and_climbs_on(
    opened: Opened,
    run: RunFolder,
    context: AppContext,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    ladder: type[Ladder],
    error: Exception,
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    write(run, *begun(), step(1))
    page = opened(TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)

    def fails(self: Ladder) -> bool:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ladder, "poll", fails)
        visible(page)["Stop and keep"].click()
        qtbot.waitUntil(lambda: len(context.notices.open) == 1)
        qtbot.wait(300)  # some looks more
        assert context.runs.train.is_stopping
        assert len(context.notices.open) == 1
    ladder.is_gone = True
    qtbot.waitUntil(lambda: not context.runs.train.is_stopping)
    assert len(ladder.made) == 1


def test_a_ladder_that_is_refused_for_long_is_given_up_and_the_next_one_climbs(
    opened: Opened,
    run: RunFolder,
    context: AppContext,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    ladder: type[Ladder],
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    monkeypatch.setattr(stopping, "GIVE_UP_SECONDS", 0.2)
    write(run, *begun(), step(1))
    page = opened(TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)

    def fails(self: Ladder) -> bool:
        raise PermissionError("the process is another's")

    with monkeypatch.context() as patch:
        patch.setattr(ladder, "poll", fails)
        visible(page)["Stop and keep"].click()
        qtbot.waitUntil(lambda: len(context.notices.open) == 1)
        qtbot.waitUntil(lambda: not context.runs.train.is_stopping)
    visible(page)["Stop and keep"].click()
    qtbot.waitUntil(lambda: context.runs.train.rung == "asked")
    ladder.is_gone = True
    qtbot.waitUntil(lambda: not context.runs.train.is_stopping)


def test_a_stop_before_the_first_step_can_be_hurried_too(
    opened: Opened, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, ladder: type[Ladder]
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    write(run, *begun()[:2], Stage(name="model", text=say("Loading the model", "加载模型")))
    page = opened(TrainPage)
    qtbot.waitUntil(lambda: page.banner.sentence == "Loading the model")
    visible(page)["Cancel"].click()
    qtbot.waitUntil(lambda: page.banner.sentence == "Asked it to save and stop…")
    visible(page)["End now"].click()
    qtbot.waitUntil(lambda: page.banner.sentence == "It does not answer: ending it…")
    ladder.is_gone = True
    write(run, Finished(status="stopped", time=1100.0))
    qtbot.waitUntil(lambda: "Stopped" in page.banner.sentence)


def test_a_drive_that_stalls_does_not_hold_the_window_up(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    stalled, sent = threading.Event(), []

    def slow(folder: JobFolder, name: str) -> None:
        stalled.wait(30)
        sent.append(name)

    monkeypatch.setattr(stopping, "send", slow)
    write(run, *begun(), step(1))
    page = opened(TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)
    visible(page)["Save checkpoint"].click()
    visible(page)["Pause"].click()
    write(run, step(2))
    qtbot.waitUntil(lambda: context.runs.train.state.step == 2)  # the window goes on meanwhile
    assert sent == []
    stalled.set()
    qtbot.waitUntil(lambda: sent == ["save", "pause"])


def test_a_disk_that_refuses_a_command_is_told(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    run.commands.mkdir()
    write(run, *begun(), step(1))
    page = opened(TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)
    visible(page)["Pause"].click()
    qtbot.waitUntil(lambda: len(context.notices.open) == 1)
    assert context.notices.open[0].level == "error"
    assert visible(page)["Pause"].isEnabled()  # it may be tried again


def test_rate_and_gradient_are_curves_too(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    write(run, *begun(), *[replace(step(n), grad_norm=0.4 + n / 100) for n in range(1, 21)], Finished(status="done"))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)
    page._curves.switch.buttons["norm"].click()
    norm = page._curves._plots["norm"]
    assert norm.isVisible()
    assert not page._loss.isVisible()
    assert list(norm._series["norm"].ys) == [0.4 + n / 100 for n in range(1, 21)]
    assert norm._marks["limit"].value() == 0.3
    assert "now 0.6" in page._trained.text()
    page._curves.switch.buttons["rate"].click()
    assert set(page._curves._plots["rate"]._series["rate"].ys) == {1e-4}
    page._curves.switch.buttons["loss"].click()
    assert page._loss.isVisible()
    assert page._held.isVisible() == page._curves.held.isVisible()


def test_memory_stands_beside_what_was_predicted_and_what_there_is(
    opened: Opened, run: RunFolder, qtbot: QtBot
) -> None:
    gauge = Gauge(memory_total_gib=24.0, busy=0.97, temperature_c=68.0, power_w=402.0)
    write(run, *on_a_card(), replace(step(1), memory_gib=15.0), replace(step(2), memory_gib=15.4), gauge)
    write(run, Finished(status="done"))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready and "all" in page._memory._marks)
    levels = {line.label.format: line.value() for line in page._memory._marks.values()}
    assert levels == {"predicted 16.0 GiB": 16.0, "24.0 GiB on the card": 24.0}
    assert page._memory_card.note.text() == "peak 15.4 GiB of 24.0 GiB"
    assert page._speed_card.title.text() == "500 tokens/s"
    assert page._speed_card.note.text() == "97% busy · 68 °C · 402 W"


def test_where_a_plot_is_low_the_words_of_levels_are_read_at_the_mouse(qtbot: QtBot) -> None:
    plot = LinePlot(say("Memory", "内存"), x_label=say("step", "步"), from_zero=True)
    qtbot.addWidget(plot)
    plot.add("held", say("held", "占用"))
    plot.put("held", [1.0, 2.0], [15.0, 15.4])
    plot.level("all", 24.0, "24.0 GiB on the card", "bad")
    plot.show()
    for height, speaks in ((200, True), (70, False), (200, True)):
        plot.resize(300, height)
        QApplication.processEvents()
        plot.redraw()
        assert plot._marks["all"].label.isVisible() == speaks
        assert ("24.0 GiB on the card" in plot.reading(1.0)) != speaks
        low, high = plot._plot.getViewBox().viewRange()[1]
        assert low <= 0 < 24.0 < high
    qtbot.waitUntil(lambda: not plot._timer.isActive())


def test_the_words_of_what_was_predicted_do_not_cover_the_curve(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    write(run, *begun(), step(1))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)
    words = page._memory._marks["predicted"].label
    assert words.anchors == [(1, 1), (1, 1)]  # above the line, the curve is below
    write(run, replace(step(2), memory_gib=1.01))
    qtbot.waitUntil(lambda: words.anchors == [(1, 0), (1, 0)])


def test_numbers_of_an_axis_do_not_touch(qtbot: QtBot) -> None:
    for pixels in (30.0, 60.0, 300.0):
        for highest in (0.7, 2100.0, 16.0):
            axis = UprightAxis("left")
            axis.setStyle(maxTickLevel=0)
            spacing = axis.tickSpacing(0.0, highest, pixels)[0][0]
            assert spacing * pixels / highest >= NUMBER_HIGH
            assert spacing <= highest or pixels < 40  # at least one number where there is room


def test_a_narrow_card_leaves_out_words_whole(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    write(run, *begun(), step(1), HeldOut(step=1, loss=0.5, best=True), step(2))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    page.resize(1400, 750)
    qtbot.waitUntil(lambda: page.is_ready and page._held.text() == "● held out 0.50, best at 1")
    page.resize(800, 750)
    qtbot.waitUntil(lambda: page._held.text() == "● held out 0.50")


def test_a_machine_with_much_more_memory_does_not_flatten_the_curve(
    opened: Opened, run: RunFolder, qtbot: QtBot
) -> None:
    write(run, *begun(), step(1), Gauge(memory_total_gib=64.0), Finished(status="done"))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready and page._memory_card.note.text().endswith("of 64.0 GiB"))
    assert list(page._memory._marks) == ["predicted"]


def test_best_safety_saves_and_an_early_end_are_marked(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    held = [HeldOut(step=10, loss=0.5, best=True), HeldOut(step=20, loss=0.7), HeldOut(step=30, loss=0.8)]
    saved = [
        CheckpointSaved(step=10, path="checkpoints/step-000010", best=True, reason="best"),
        CheckpointSaved(step=15, path="checkpoints/step-000015", reason="safety"),
        CheckpointSaved(step=29, path="checkpoints/step-000029", reason="asked", bytes=2**20, seconds=0.4),
    ]
    early = Note(code="train.early_stop", text=say("It ends early.", "提前结束。"))
    write(run, *begun(), *[step(n) for n in range(1, 31)], *held, *saved, early, Finished(status="done"))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready and len(page._loss._marks) == 4)
    shown = {words: (line.value(), bool(line.label.format)) for words, line in page._loss._marks.items()}
    assert shown == {
        "best 10": (10, True),
        "safety save 15": (15, False),
        "saved on request 29": (29, False),  # the early end beside it says more
        "ended early 30": (30, True),
    }
    told = [page._notes.item(i).text() for i in range(page._notes.count())]
    assert "Checkpoint 29 saved, as you asked. 1.0 MiB, 0.4 s" in told
    assert told[-1].startswith("Started: 90 rows train, 10 are held out; 5 of 1.0 k weights learn (0.50%), on CPU.")


def test_what_happened_stands_as_it_was_told_whatever_the_clock_said(
    opened: Opened, run: RunFolder, qtbot: QtBot
) -> None:
    first = Note(text=say("first", "第一"), time=9000.0)
    second = Note(text=say("second", "第二"), time=2000.0)
    write(run, *begun(), step(1), first, second, Finished(status="done"))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready and page._notes.count() == 3)
    assert [page._notes.item(i).text() for i in range(2)] == ["second", "first"]


def test_the_curve_is_read_and_not_at_each_event(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    read: list[int] = []
    real = train_reading.reading_of

    def counted(state: JobState, recipe: Recipe | None) -> Reading:
        read.append(state.step)
        return real(state, recipe)

    monkeypatch.setattr(train_reading, "reading_of", counted)
    write(run, *begun(), step(1))
    page = opened(TrainPage)
    assert isinstance(page, TrainPage)
    qtbot.waitUntil(lambda: page.is_ready)
    assert page._reading.reading is not None
    assert page._reading.reading.verdict == "too_early"
    for number in range(2, 6):
        write(run, *[step(n) for n in range(6 * number - 10, 6 * number - 4)])
        qtbot.waitUntil(lambda number=number: context.runs.train.state.step == 6 * number - 5)
    assert read == [1]  # less than two seconds have passed
    held = [HeldOut(step=10 * n, loss=loss) for n, loss in ((1, 0.5), (2, 0.9), (3, 1.4))]
    write(run, *held, Finished(status="done"))
    qtbot.waitUntil(lambda: page._reading._chip.text == "overfitting")
    assert page._reading.sentence.text().startswith("The held-out loss was lowest at step 10 (0.50)")
    assert "The checkpoint of step 10 is kept" in page._reading.advice.text()
    assert read == [1, 25]


# ---------------------------------------------------------------------------------------------------------- evaluate
def measure(name: str, base: float | None, tuned: float | None, p_value: float | None = 0.01) -> Measure:
    change = None if base is None or tuned is None else tuned - base
    around = (None, None) if change is None else (change - 0.06, change + 0.06)
    return Measure(
        name, Estimate(base), Estimate(tuned), Estimate(change, *around), p_value, 10, "permutation", "bootstrap"
    )


def evaluation(better: int = 9, worse: int = 1, p_value: float | None = 0.01, **other: Any) -> Evaluation:
    def row(number: int) -> EvaluatedRow:
        base = SideOfRow("I do not know.", False, 0.1, 3.0, 0.3)
        tuned = SideOfRow(f"answer {number}", number % 2 == 0, 0.9, 0.5, 0.9, cut=number == 1)
        return EvaluatedRow(f"rows.jsonl:{number}", f"question {number}", f"answer {number}", base, tuned)

    compared = Comparison(better, worse, 0, p_value)
    made = Evaluation(
        base=Scores(3.0, 20.1, 0.3, 0.0, 0.1),
        tuned=Scores(0.5, 1.6, 0.9, 0.5, 0.9),
        verdict=Verdict(compared, compared, 1.0),
        rows=tuple(row(number) for number in range(10)),
        notes={"rouge_l": say("by words", "按词")},
        held_out=10,
        max_new_tokens=64,
        seconds=12.0,
        created=time.time(),
        measures=(
            measure("exact_match", 0.0, 0.5),
            measure("rouge_l", 0.1, 0.9, 0.4),
            measure("chrf", 12.0, 60.9),
            measure("perplexity", 20.1, 1.6),
        ),
        headline="exact_match",
        groups=(
            Group("qa", say("Q&A", "问答"), 6, measure("exact_match", 0.0, 0.5)),
            Group("summary", say("Summary", "摘要"), 4, measure("rouge_l", 0.1, 0.7)),
        ),
        overlap=Overlap(0, 0, 10),
    )
    return replace(made, **other)


def test_evaluate_waits_for_a_run_then_offers_to_measure(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    page = opened(EvaluatePage)
    assert "no tuned model" in page.banner.sentence
    trained(run)
    page.refresh()
    qtbot.waitUntil(lambda: "Measure" in visible(page))


def measured(opened: Opened, run: RunFolder, qtbot: QtBot, found: Evaluation) -> EvaluatePage:
    """The page with these figures, which it reads in the background."""
    trained(run)
    write_evaluation(run, found)
    page = opened(EvaluatePage)
    assert isinstance(page, EvaluatePage)
    qtbot.waitUntil(lambda: page.is_ready)
    return page


def test_evaluate_shows_figures_and_rows(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    page = measured(opened, run, qtbot, evaluation())
    assert page._sentence.text() == "Better on 9 of 10 held-out rows, worse on 1"
    assert page._chip.text == "worth keeping"
    assert page._task.figures.texts == [
        ["Exact match", "0.0%", "50.0%", "+50.0", "± 6.0"],
        ["ROUGE-L", "0.10", "0.90", "+0.80", "± 0.06"],
        ["chrF", "12.0", "60.9", "+48.9", "± 0.1"],
        ["Perplexity", "20.10", "1.60", "−18.50", "± 0.06"],
    ]
    assert page._task.bars.accessibleName() == "Q&A · 6 · Exact match: 0% → 50%; Summary · 4 · ROUGE-L: 10% → 70%"
    rows = page._rows
    assert rows.list.count() == 10
    rows.list.setCurrentRow(1)
    assert rows.detail["question"].text() == "question 1"
    assert rows.detail["tuned"].text().startswith("answer 1")
    assert "cut there" in rows.detail["tuned"].text()
    rows.which.setCurrentIndex(rows.which.findData("worst"))
    assert rows.list.count() == 5
    rows.which.setCurrentIndex(rows.which.findData("worse"))
    assert rows.list.count() == 0
    assert rows.nothing.text() == "No such rows."


def test_a_difference_that_may_be_chance_is_not_coloured(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    page = measured(opened, run, qtbot, evaluation())
    roles = {
        label.text(): label.property("role")
        for label in page._task.figures.findChildren(QLabel)
        if label.text() in ("+50.0", "+0.80", "−18.50")
    }
    assert roles == {"+50.0": "good", "+0.80": "muted", "−18.50": "good"}


def test_rows_that_were_trained_on_are_told(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    page = measured(opened, run, qtbot, evaluation(overlap=Overlap(3, 3, 10)))
    assert "3 of them also occur in the training data" in page._footer.words.text()
    assert "0 of them" in footing(evaluation()).en


def test_what_was_forgotten_and_what_the_adapter_does(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    code = SkillChange("code", "en", 50, 0.25, 0.62, 0.41, 0.34, 0.12, 0.5, 12, 2, 0.01)
    kept = SkillChange("arithmetic", "en", 50, 0.25, 0.81, 0.79, 0.02, -0.1, 0.1, 3, 2, 1.0)
    guess = SkillChange("reading", "zh", 50, 0.25, 0.2, 0.2, None, None, None, 0, 0, None, say("guessing", "猜测"))
    drift = TextDrift("en", 20, 900, 3.0, 3.3, 0.1, 0.05, 0.15)
    write_forgetting(run, Forgetting((kept, guess, code), None, (drift,)))
    whole = Part("all", 14, 1.0, 50.0)
    write_effect(run, Effect(whole, (Part("q_proj", 14, 1.0, 50.0),), (), kl=0.4, variation=0.2, other_token=0.3))
    page = measured(opened, run, qtbot, evaluation())
    assert page._forgot.text == "it forgot"
    shown = page._forgetting
    assert "It forgot 34% of code (English)" in shown.sentence.text()
    assert shown.skills.texts[0][:3] == ["Arithmetic (English)", "81%", "79%"]
    assert shown.texts.texts[0][:3] == ["English", "3.00", "3.30"]
    assert "general" in shown._advice.text()
    assert not shown._against.isHidden()
    assert "2.00%" in page._effect.sentence.text()
    assert page._effect.kinds.texts == [["q_proj", "14", "2.00%"]]


def test_what_was_forgotten_is_whole_in_a_small_window(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    guess = say("guessing", "猜测")
    names = ("arithmetic", "knowledge", "format", "code", "reading")
    skills = tuple(SkillChange(name, "en", 40, 0.25, 0.2, 0.2, None, None, None, 0, 0, None, guess) for name in names)
    page = measured(opened, run, qtbot, evaluation())
    page._forgetting.put(Forgetting(skills, None, (TextDrift("en", 20, 900, 3.0, 3.3, 0.1, 0.05, 0.15),)), None)
    page.resize(888, 700)
    area = page._forgetting.findChild(QScrollArea)
    assert area is not None
    qtbot.waitUntil(lambda: area.widget().minimumSizeHint().width() <= area.viewport().width())
    assert page._forgetting.skills.texts[1][0] == "Common knowledge"


def test_an_adapter_without_effect_is_told(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    reason = say("the learning rate was 0", "学习率为 0")
    write_effect(run, Effect(Part("all", 14, 0.0, 50.0), (), (), variation=0.0, reasons=(reason,)))
    page = measured(opened, run, qtbot, evaluation())
    assert page._effect.sentence.text() == "The adapter changes nothing: the learning rate was 0."
    assert page._effect.sentence.property("role") == "bad"
    assert page._chip.text == "it does nothing"


@pytest.mark.parametrize(
    ("better", "worse", "p_value", "chip"),
    [
        (9, 1, 0.01, "worth keeping"),
        (1, 9, 0.01, "worse than the base"),
        (5, 5, 1.0, "no clear difference"),
        (2, 1, 1.0, "too few rows to tell"),
        (0, 0, None, "too few rows to tell"),
    ],
)
def test_verdicts(better: int, worse: int, p_value: float | None, chip: str) -> None:
    assert verdict_of(evaluation(better, worse, p_value))[1].en == chip


def test_a_damaged_evaluation_can_be_made_again(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    trained(run)
    run.evaluation.write_text('{"base": 3}')
    page = opened(EvaluatePage)
    qtbot.waitUntil(lambda: "not an evaluation" in page.banner.sentence)
    assert {"Measure again", "Copy details"} <= set(visible(page))


def test_figures_and_long_answers_are_whole(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    found = evaluation()
    long = " ".join(f"word{i}" for i in range(900))
    first = EvaluatedRow("rows.jsonl:0", long, long, *(SideOfRow(long, False, r, 1.0, 0.5) for r in (0.1, 0.2)))
    page = measured(opened, run, qtbot, replace(found, rows=(first, *found.rows)))
    page.resize(860, 600)
    page._tabs.show_view("rows")
    rows = page._rows
    rows.which.setCurrentIndex(rows.which.findData("worst"))
    rows.list.setCurrentItem(rows.list.findItems("word0", Qt.MatchFlag.MatchContains)[0])
    QApplication.processEvents()
    lines = [line for line in page._task.figures.findChildren(QLabel) if line.isVisible()]
    assert lines
    qtbot.waitUntil(lambda: all(line.height() >= line.sizeHint().height() for line in lines))
    assert rows.detail["tuned"].text() == long
    assert rows.read.verticalScrollBar().maximum() > 0
    answer = rows.detail["tuned"]
    qtbot.waitUntil(lambda: answer.height() >= answer.heightForWidth(answer.width()))
    page.resize(1050, 900)
    rows.which.setCurrentIndex(rows.which.findData("best"))
    assert rows.detail["question"].text().startswith("question")
    qtbot.waitUntil(lambda: rows.read.verticalScrollBar().maximum() == 0)


def test_figures_of_an_earlier_state_are_told_apart(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot
) -> None:
    write(run, *begun(), *[step(n) for n in range(1, 21)], Finished(status="stopped", time=1100.0))
    page = measured(opened, run, qtbot, evaluation(created=1200.0))
    qtbot.waitUntil(lambda: context.runs.train.state.is_over)
    page.refresh()
    assert page._chip.text == "worth keeping"
    assert context.wizard.step("evaluate").done
    assert context.wizard.step("evaluate").word.en == "+50 pt"
    went_on = replace(step(21), time=1300.0)
    write(run, JobStarted(kind="train", pid=1, resumed_from=20), went_on, Finished(status="done", time=1301.0))
    with qtbot.waitSignal(context.runs.train.finished):
        context.runs.train.follow(run)
    assert page._chip.text == "of an earlier state"
    assert "measure again" in page._how.text()
    assert not context.wizard.step("evaluate").done


def test_a_failed_measurement_leaves_the_figures_in_view(opened: Opened, run: RunFolder, qtbot: QtBot) -> None:
    failed_job(run, "001-evaluate")
    page = measured(opened, run, qtbot, evaluation())
    qtbot.waitUntil(lambda: page._failure.isVisible())
    assert page._failure.sentence == "The disk is full."
    assert page._sentence.text().startswith("Better on 9")
    assert {"Measure again", "Copy details"} <= set(visible(page))


def failed_job(run: RunFolder, name: str) -> None:
    job = JobFolder(run.jobs / name)
    job.path.mkdir(parents=True)
    failure = Failure("disk.full", say("The disk is full.", "磁盘已满。"), say("Free some.", "请腾出空间。"))
    lines = [JobStarted(kind="evaluate", pid=1), Finished(status="failed", failure=failure)]
    job.events.write_text("".join(encode_event(event) + "\n" for event in lines), encoding="utf-8")


def test_words_of_the_figures() -> None:
    found = evaluation()
    assert "greedy" in how_measured(found).en
    unasked = replace(found, verdict=Verdict(found.verdict.answers, found.verdict.losses, None))
    assert "not asked" in how_measured(unasked).en
    assert "greedy" not in how_measured(unasked).en
    assert gain_of(found).zh == "+50 个百分点"
    assert gain_of(replace(found, headline="chrf")).en == "+48.9"
    assert gain_of(replace(found, headline="perplexity")).en == "-18.50"
    assert gain_of(replace(found, headline="")).en == ""


# ----------------------------------------------------------------------------------------------------------- compare
def test_compare_grows_two_answers_and_keeps_the_transcript(
    qtbot: QtBot, opened: Opened, run: RunFolder, context: AppContext, tmp_path: Path
) -> None:
    page = opened(ComparePage)
    assert isinstance(page, ComparePage)
    assert "no tuned model" in page.banner.sentence
    trained(run)
    page.refresh()
    assert "Load the models" in visible(page)
    talk = context.talk
    talk.status.ready()
    talk.facts = {"model": "Qwen/Qwen2.5-0.5B"}
    turn = talk.begin("Hello?")
    assert visible(page)["Stop"]
    talk.grow(turn, "base", "Hi ")
    talk.grow(turn, "base", "there")
    talk.grow(turn, "tuned", "Hello & welcome <b>!</b>")
    growing = page.columns.cards["base"].open
    assert growing is not None
    assert growing.text == "Hi there"
    facts = {"tokens": 3, "tokens_per_second": 60.0, "first_token_seconds": 0.2, "end": "ended"}
    talk.end(
        turn,
        {"base": {**facts, "text": "Hi there"}, "tuned": {**facts, "text": "Hello & welcome <b>!</b>", "end": "limit"}},
    )
    assert "Send" in visible(page)
    assert "60 tokens/s" in page.columns.cards["base"].note.text()
    for name in ("t.md", "t.json"):
        talking.save_transcript(context, tmp_path / name)
    qtbot.waitUntil(lambda: (tmp_path / "t.json").is_file())
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "### Tuned\n\nHello & welcome" in text
    assert "60 tokens/s" in text
    plain = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert plain["turns"][0]["answers"]["base"]["text"] == "Hi there"
    assert plain["turns"][0]["sampling"]["seed"] == 42
    assert talk.history("base") == [{"role": "user", "content": "Hello?"}]
    visible(page)["New"].click()
    assert talk.turns == []
    assert page.columns.shown == []


def test_compare_says_why_there_is_no_answer(opened: Opened, run: RunFolder, context: AppContext) -> None:
    trained(run)
    page = opened(ComparePage)
    assert isinstance(page, ComparePage)
    context.talk.status.ready()
    turn = context.talk.begin("Hello?")
    bubble = page.columns.cards["base"].open
    assert bubble is not None
    context.talk.fail(turn, Failure("chat.too_long", say("Too long.", "过长。"), say("Shorten it.", "请缩短。")))
    assert bubble.text == "Too long.\nShorten it."
    assert "Send" in visible(page)


# ------------------------------------------------------------------------------------------------------------ export
def test_facts_are_those_of_the_finished_run(
    context: AppContext, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    write(run, *begun(), step(1))
    context.runs.select(run)
    qtbot.waitUntil(lambda: context.runs.train.state.step == 1)
    run.write_facts({**run.read_facts(), "model_folder": "/a/base"})
    with qtbot.waitSignal(context.runs.train.finished):
        write(run, Finished(status="done"))
    assert context.runs.facts["model_folder"] == "/a/base"


def test_a_failed_export_offers_its_details_and_hides_nothing(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot
) -> None:
    trained(run)
    file = run.path / "m.gguf"
    file.write_bytes(b"x")
    remember(run, Export("gguf", "Q8_0", str(file), 1, time.time(), {"passed": True}))
    failed_job(run, "002-merge")
    page = opened(ExportPage)
    assert isinstance(page, ExportPage)
    qtbot.waitUntil(lambda: page.is_ready and page._failure.isVisible())
    assert "Copy details" in visible(page)
    assert len(page._earlier.texts) == 1
    assert page.stamp.isVisible()
    step = context.wizard.step("export")
    assert step.done
    assert step.word.en == "1 taken away"


def test_the_newest_of_exports_and_merges_is_followed(run: RunFolder, context: AppContext, qtbot: QtBot) -> None:
    for name in ("001-export", "002-merge", "003-evaluate"):
        failed_job(run, name)
    context.runs.select(run)
    assert context.runs.export.folder is not None
    assert context.runs.export.folder.path.name == "002-merge"
    qtbot.waitUntil(lambda: context.runs.export.state.is_over)


def test_every_export_is_listed_and_can_be_shown(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Path] = []
    monkeypatch.setattr(export_stamp, "show_in_folder", shown.append)
    trained(run)
    file = run.path / "m7.gguf"
    file.write_bytes(b"x")
    for number in range(8):
        remember(run, Export("gguf", "Q8_0", str(run.path / f"m{number}.gguf"), 1, 1000.0 + number, {"passed": True}))
    page = opened(ExportPage)
    assert isinstance(page, ExportPage)
    qtbot.waitUntil(lambda: page.is_ready)
    assert len(page._earlier.texts) == 8
    visible(page)["Show in folder"].click()
    assert shown == [file]


def test_the_chosen_folder_is_not_kept_for_another_run(
    opened: Opened, run: RunFolder, context: AppContext, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args: str(tmp_path))
    trained(run)
    page = opened(ExportPage)
    assert isinstance(page, ExportPage)
    qtbot.waitUntil(lambda: page.is_ready)
    assert "The run's own folder" not in visible(page)
    visible(page)["Choose a folder…"].click()
    qtbot.waitUntil(lambda: f"{tmp_path} ·" in page._footer.words.text())
    visible(page)["The run's own folder"].click()
    assert context.takeaway.folder is None
    visible(page)["Choose a folder…"].click()
    other = another_run(run)
    context.runs.select(other)
    assert context.takeaway.folder is None


def test_an_export_of_an_earlier_state_is_not_called_what_was_trained(
    opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot
) -> None:
    trained(run)
    file = run.path / "m.gguf"
    file.write_bytes(b"x")
    remember(run, Export("gguf", "Q8_0", str(file), 1, 1005.0, {"passed": True}))
    write(run, *begun(), *[step(n) for n in range(1, 21)], Finished(status="done", time=1100.0))
    page = opened(ExportPage)
    assert isinstance(page, ExportPage)
    qtbot.waitUntil(lambda: page.is_ready and page.stamp.chip.text == "of an earlier state")
    assert context.wizard.step("export").word.en == "export again"


@pytest.mark.parametrize("kind", [TrainPage, EvaluatePage, ExportPage])
def test_every_button_has_a_key(opened: Opened, run: RunFolder, context: AppContext, qtbot: QtBot, kind: type) -> None:
    trained(run)
    write(run, *begun(), *[step(n) for n in range(1, 6)])
    write_evaluation(run, evaluation())
    file = run.path / "m.gguf"
    file.write_bytes(b"x")
    remember(run, Export("gguf", "Q8_0", str(file), 1, time.time(), {"passed": True}))
    page = opened(kind)
    qtbot.waitUntil(lambda: page.is_ready and context.runs.train.state.is_over)
    found = visible(page)
    keys = [item.shortcut().toString() for item in found.values()]
    assert all(keys), [name for name, item in found.items() if item.shortcut().isEmpty()]
    assert len(set(keys)) == len(keys)
