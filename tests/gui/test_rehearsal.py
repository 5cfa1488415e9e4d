"""The Plan page's card of the rehearsal, with the real worker on the starter, and each of its states."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from PySide6.QtWidgets import QPushButton
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.host import follow
from engine.host.launch import running_pid
from engine.machine.dims import ModelDims
from engine.machine.forecast import DataFacts, Lengths, Room, forecast
from engine.machine.time import cpu_speed
from engine.project.fingerprint import fingerprint
from engine.project.project import Project
from engine.project.run_folder import JobFolder
from engine.protocol.codec import encode_event
from engine.protocol.errors import Failure
from engine.protocol.events import Event, Finished, JobStarted, Launched, Progress, Rehearsed, Stage
from engine.protocol.text import say
from engine.recipe.file import changed, from_plain, to_plain
from gui.context import AppContext
from gui.main_window import SMALLEST, MainWindow
from gui.operations import rehearse as operations
from gui.operations.rehearse import Standing
from gui.pages.plan_rehearsal import RehearsalCard
from gui.widgets.sidebar import WIDTH
from tests.gui.sessions import buttons, texts

PATIENCE = 90_000
SMALLER = {"train.batch_size": 2, "train.accumulation": 8}
OUT = Failure("memory.gpu", say("The GPU ran out of memory.", "显存不足。"), details="CUDA out of memory")


@pytest.fixture
def planned(context: AppContext, tmp_project: Path, starter: Path) -> AppContext:
    """Data, model and machine are known, without anybody having read them."""
    context.project.set_project(Project.open_or_create(tmp_project), [], [])
    context.draft.begin(from_plain({}, CATALOGUE), context.project.path / "draft.toml")
    dims = ModelDims.from_config(json.loads((starter / "config.json").read_text(encoding="utf-8")))
    data, where = DataFacts(2000, Lengths(50.0, 50, 60, 65, 68, 70)), Room("cpu", "CPU", 20.0, 24.0, cpu_speed(2))
    context.plan.forecast = forecast(context.draft.recipe, dims, data, where)
    context.data.status.ready()
    context.models.chosen = {"name": "starter", "path": str(starter)}
    return context


@pytest.fixture
def card(qtbot: QtBot, planned: AppContext) -> RehearsalCard:
    made = RehearsalCard(planned)
    qtbot.addWidget(made)
    made.setFixedWidth(SMALLEST[0] - WIDTH - 48)
    made.show()
    return made


@pytest.fixture
def happened(qtbot: QtBot, planned: AppContext, starter: Path) -> Callable[..., JobFolder]:
    """A rehearsal of the draft in which these events happened; ``about`` is filled in."""

    def make(*events: Event, over: bool = True) -> JobFolder:
        project = planned.project.project
        assert project is not None
        folder = project.new_data_job("rehearse")
        told: list[Event] = [Launched(kind="rehearse"), JobStarted(kind="rehearse", pid=1), *events]
        if over:
            told.append(Finished(status="done", time=2.0))
        folder.events.write_text("".join(encode_event(event) + "\n" for event in told), encoding="utf-8")
        operations.find(planned)
        wanted = sum(isinstance(event, Rehearsed) for event in events)
        qtbot.waitUntil(lambda: len(planned.rehearsal.state.rehearsed) == wanted, timeout=PATIENCE)
        qtbot.waitUntil(lambda: planned.rehearsal.state.is_over or not over, timeout=PATIENCE)
        return folder

    return make


def of(
    context: AppContext, starter: Path, verdict: str, values: dict[str, Any] | None = None, **more: Any
) -> Rehearsed:
    """What came of the draft, or of the draft with other values."""
    plain = to_plain(changed(context.draft.recipe, values or {}, CATALOGUE))
    figures: dict[str, Any] = {"free_gib": 6.0, "usable_gib": 5.1, "predicted_gib": 4.0, "predicted_seconds": 600.0}
    if verdict in ("holds", "close"):
        figures |= {
            "peak_gib": 4.2,
            "seconds": 720.0,
            "step_seconds": 0.42,
            "longest_step_seconds": 1.3,
            "longest": 512,
        }
        figures |= {"checkpoint_bytes": 3 << 20, "checkpoint_seconds": 0.2, "disk_bytes_per_second": 2.0**28}
    else:
        figures["failure"] = OUT
    return Rehearsed(verdict=verdict, recipe=plain, about=fingerprint(plain, starter), **{**figures, **more})


def lower(context: AppContext, values: dict[str, Any]) -> dict[str, Any]:
    """The next recipe down, as a failure proposes it."""
    plain = to_plain(changed(context.draft.recipe, values, CATALOGUE))
    change = say("Rows at once 4 → 2", "每批行数 4 → 2")
    return {"next_recipe": plain, "next_change": change, "next_gib": 3.0, "next_seconds": 700.0}


# ----------------------------------------------------------------------------------------------------------- each state
def test_it_offers_itself(card: RehearsalCard, planned: AppContext) -> None:
    assert operations.standing(planned) is Standing.NONE
    assert card.sentence.startswith("Runs the longest rows")
    assert list(buttons(card)) == ["Rehearse"]
    assert card.begin.isEnabled()
    planned.data.status.clear()
    planned.plan.changed.emit()
    assert not card.begin.isEnabled(), "there is nothing to rehearse"


def test_it_shows_how_far_it_is(
    qtbot: QtBot, card: RehearsalCard, happened: Callable[..., JobFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    stage = Stage(name="train", text=say("Rehearsing: the longest rows", "排练：最长的行"))
    happened(stage, Progress(done=5.0, total=20.0, unit="s"), over=False)
    qtbot.waitUntil(lambda: "5 of 20 s" in texts(card), timeout=PATIENCE)
    assert list(buttons(card)) == ["Cancel"]
    assert "Rehearsing: the longest rows" in texts(card)


def test_it_tells_measured_beside_predicted(
    card: RehearsalCard, planned: AppContext, happened: Callable[..., JobFolder], starter: Path
) -> None:
    happened(of(planned, starter, "holds"))
    assert operations.standing(planned) is Standing.HELD
    shown = texts(card)
    assert "The run will take about 12 min (the plan said 10 min)." in shown
    assert {"4.0 GiB", "4.2 GiB"} <= set(shown)
    assert any("0.42 s a step, 1.3 s on the longest rows (512 tokens)" in words for words in shown)
    assert any("checkpoint 3.0 MiB in 0.2 s · disk 256 MiB/s" in words for words in shown)
    assert list(buttons(card)) == ["Rehearse again"]


def test_it_says_that_it_is_outdated(
    card: RehearsalCard, planned: AppContext, happened: Callable[..., JobFolder], starter: Path
) -> None:
    happened(of(planned, starter, "holds"))
    planned.draft.set({"train.learning_rate": 1e-5})
    assert operations.standing(planned) is Standing.HELD, "that costs nothing"
    planned.draft.set({"train.batch_size": 16})
    assert operations.standing(planned) is Standing.STALE
    assert "others now" in card.sentence
    assert "4.2 GiB" in texts(card)
    planned.draft.set({"train.batch_size": 4})
    assert "others now" not in card.sentence


def test_a_failure_says_what_to_change_and_one_press_does(
    card: RehearsalCard, planned: AppContext, happened: Callable[..., JobFolder], starter: Path
) -> None:
    happened(of(planned, starter, "out_of_memory", **lower(planned, SMALLER)))
    assert operations.standing(planned) is Standing.FAILED
    assert card.sentence == "It did not fit in 6.0 GiB. Next: Rows at once 4 → 2 (about 3.0 GiB, 12 min)."
    assert list(buttons(card)) == ["Find one that holds", "Change the plan"]
    card.take.click()
    assert planned.draft.recipe.train.batch_size == 2
    assert operations.standing(planned) is Standing.STALE
    assert list(buttons(card)) == ["Rehearse again"]


def test_what_was_settled_on_is_one_press_away(
    card: RehearsalCard, planned: AppContext, happened: Callable[..., JobFolder], starter: Path
) -> None:
    failed = of(planned, starter, "killed", **lower(planned, SMALLER))
    happened(failed, of(planned, starter, "holds", SMALLER))
    assert operations.standing(planned) is Standing.SETTLED
    assert card.sentence == "Your plan ran out of memory; this holds: Rows at once 4 → 2."
    card.take.click()
    assert planned.draft.recipe.train.batch_size == 2
    assert operations.standing(planned) is Standing.HELD


def test_nothing_left_to_save_is_said(
    card: RehearsalCard, planned: AppContext, happened: Callable[..., JobFolder], starter: Path
) -> None:
    happened(of(planned, starter, "out_of_memory"))
    assert "no setting saves more" in card.sentence
    assert set(buttons(card)) == {"Copy details", "Rehearse again"}


def test_another_failure_is_told(
    qtbot: QtBot, card: RehearsalCard, planned: AppContext, happened: Callable[..., JobFolder]
) -> None:
    failure = Failure("disk.full", say("The disk is full.", "磁盘已满。"), say("Free some space.", "请腾出空间。"))
    happened(Finished(status="failed", failure=failure, time=2.0), over=False)
    qtbot.waitUntil(lambda: operations.standing(planned) is Standing.BROKEN, timeout=PATIENCE)
    assert card.sentence == "The disk is full. Free some space."
    assert set(buttons(card)) == {"Copy details", "Rehearse again"}


def test_a_run_that_starts_ends_it(
    card: RehearsalCard, planned: AppContext, happened: Callable[..., JobFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "is_alive", lambda folder: True)
    stopped: list[Any] = []
    monkeypatch.setattr(operations, "stop_job", lambda context, view: stopped.append(view))
    happened(Stage(name="model", text=say("Loading the model", "加载模型")), over=False)
    project = planned.project.project
    assert project is not None
    run = project.new_run(planned.draft.recipe)
    planned.runs.select(run)
    assert stopped == [], "a run of before takes nothing away"
    monkeypatch.setattr(operations, "is_alive", lambda folder: True)
    planned.runs.select(run)
    assert stopped == [planned.rehearsal]
    assert not card.begin.isEnabled()


def test_every_button_has_a_key_of_its_own(card: RehearsalCard) -> None:
    keys = [each.shortcut().toString() for each in card.findChildren(QPushButton)]
    assert all(keys)
    assert len(set(keys)) == len(keys)


# ------------------------------------------------------------------------------------------------------ the real worker
@pytest.mark.slow
def test_the_starter_is_rehearsed_killed_and_cancelled(qtbot: QtBot, window: MainWindow, with_data: AppContext) -> None:
    context = with_data
    context.wizard.go("plan")
    page = window.page("plan")
    assert page is not None
    (card,) = page.findChildren(RehearsalCard)
    qtbot.waitUntil(card.begin.isEnabled, timeout=PATIENCE)
    before = context.plan.forecast

    card.begin.click()
    assert operations.standing(context) is Standing.WORKING
    qtbot.waitUntil(lambda: not context.rehearsal.is_running, timeout=PATIENCE)
    assert operations.standing(context) is Standing.HELD
    assert "Measured" in texts(card)
    after = context.plan.forecast
    assert before is not None
    assert after is not None
    assert after.room.calibration.cases == 1, "the plan is made anew with what was measured"

    # The system ends the trial: an answer, with the next recipe down.
    context.draft.set({"train.batch_size": 8, "train.accumulation": 2})
    qtbot.waitUntil(lambda: operations.standing(context) is Standing.STALE, timeout=PATIENCE)
    qtbot.waitUntil(card.begin.isEnabled, timeout=PATIENCE)
    card.begin.click()
    os.kill(trial_pid(qtbot, context, told=b'"model"'), signal.SIGKILL)
    qtbot.waitUntil(lambda: not context.rehearsal.is_running, timeout=PATIENCE)
    assert operations.standing(context) is Standing.FAILED
    assert "Rows at once 8 → " in card.sentence
    card.take.click()
    assert context.draft.recipe.train.batch_size < 8
    assert context.draft.recipe.effective_batch == 16

    # Cancelled, nothing is left of it.
    qtbot.waitUntil(lambda: card.begin.isVisible() and card.begin.isEnabled(), timeout=PATIENCE)
    card.begin.click()
    pid = trial_pid(qtbot, context)
    card.cancel.click()
    qtbot.waitUntil(lambda: not context.rehearsal.is_running and not context.rehearsal.is_stopping, timeout=PATIENCE)
    assert operations.standing(context) is Standing.NONE
    assert not _runs(pid)


def trial_pid(qtbot: QtBot, context: AppContext, told: bytes = b"") -> int:
    """The process of the trial, once it has told so much."""
    assert context.rehearsal.folder is not None
    trial = JobFolder(context.rehearsal.folder.path / "trials" / "01")
    qtbot.waitUntil(
        lambda: running_pid(trial) is not None and told in trial.events.read_bytes(),
        timeout=PATIENCE,
    )
    pid = running_pid(trial)
    assert pid is not None
    return pid


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
