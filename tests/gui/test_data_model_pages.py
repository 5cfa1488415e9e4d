"""The Data and Model pages, the notices and the stop of a job, on sessions whose answers the test gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QApplication, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from engine.project.run_folder import JobFolder
from engine.protocol.errors import Failure, Problem
from engine.protocol.events import Finished, JobStarted, Progress, Stage
from engine.protocol.state import JobState
from engine.protocol.text import say
from gui.context import AppContext
from gui.operations import data as data_operations
from gui.operations import jobs
from gui.operations import models as model_operations
from gui.pages.data import DataPage
from gui.pages.model import ModelPage
from gui.pages.train import TrainPage
from gui.state.job import STOPPING
from gui.state.notices import INFO, Notices
from gui.widgets.notice_strip import NoticeStrip
from tests.gui.sessions import Session, buttons, read, shown, texts

LENGTHS = {"counts": [20], "edges": [0, 9], "p50": 5, "p95": 8, "longest": 9}
FACTS: dict[str, Any] = {
    "name": "orders.jsonl",
    "format": "jsonl",
    "encoding": "utf-8",
    "shape": "messages",
    "mapping": {"messages": "messages"},
    "columns": ["messages"],
    "rows": 20,
    "total": 20,
    "train": 18,
    "held_out": 2,
    "in_training": 0,
    "set_aside": {},
    "cut": 0,
    "limit": 512,
    "problems": [],
    "lengths": LENGTHS,
    "template": None,
}
STARTER = {"source": "starter", "name": "starter", "where": "starter", "parameters": 3e6, "context": 2048, "bytes": 7e6}
BINARY = say("It is not text but binary data.", "这不是文本，而是二进制数据。")


@pytest.fixture
def data(context: AppContext) -> Session:
    made = context.bridge.__dict__["data"] = Session()
    return made


@pytest.fixture
def hub(context: AppContext, data: Session) -> Session:
    made = context.bridge.__dict__["hub"] = Session()
    return made


@pytest.fixture
def data_page(qtbot: QtBot, context: AppContext, data: Session) -> DataPage:
    """The Data page with one good file read."""
    data_operations.import_files(context, [Path("/d/orders.jsonl")])
    read(context, data, FACTS)
    return shown(qtbot, DataPage(context))


@pytest.fixture
def model_page(qtbot: QtBot, context: AppContext, hub: Session) -> ModelPage:
    """The Model page with the starter listed and chosen."""
    context.models.models = [dict(STARTER)]
    context.models.status.ready()
    model_operations.inspect_chosen(context)
    return shown(qtbot, ModelPage(context))


# -------------------------------------------------------------------------------------------- a file that is not good
def test_a_bad_file_that_was_added_is_left_out(context: AppContext, data: Session, data_page: DataPage) -> None:
    data_operations.add_files(context, [Path("/d/bad.jsonl")])
    read(context, data, Failure("data.binary", BINARY, where="bad.jsonl:1"))
    assert [b.text() for b in data_page.banner.buttons] == [
        "Leave bad.jsonl out",
        "Go back to orders.jsonl",
        "Import data…",
        "Copy details",
    ]
    card = data_page.banner._card
    QApplication.processEvents()
    for item in data_page.banner.buttons:
        assert item.mapTo(card, item.rect().bottomRight()).x() < card.width()
    data_page.banner.buttons[0].click()
    assert [Path(name).name for name in context.draft.recipe.data.files] == ["orders.jsonl"]


def test_going_back_restores_files_columns_and_encoding(
    context: AppContext, data: Session, data_page: DataPage
) -> None:
    data_operations.choose_columns(context, "alpaca", {"instruction": "a", "output": "b"}, "gb18030")
    read(context, data, FACTS)
    before = data_operations.how_read(context)
    data_operations.import_files(context, [Path("/d/bad.jsonl")])
    read(context, data, Failure("data.binary", BINARY, where="bad.jsonl:1"))
    assert "Leave bad.jsonl out" not in buttons(data_page)
    buttons(data_page)["Go back to orders.jsonl"].click()
    assert data_operations.how_read(context) == before
    assert not context.data.is_new


def test_nothing_of_another_project_is_gone_back_to(
    context: AppContext, data: Session, data_page: DataPage, tmp_path: Path
) -> None:
    context.draft.begin(context.draft.recipe, tmp_path / "draft.toml")
    data_operations.import_files(context, [Path("/d/bad.jsonl")])
    read(context, data, Failure("data.binary", BINARY, where="bad.jsonl:1"))
    assert [b.text() for b in data_page.banner.buttons] == ["Import data…", "Copy details"]


def test_the_file_at_fault_is_the_new_one_where_the_failure_names_none(
    context: AppContext, data: Session, data_page: DataPage
) -> None:
    data_operations.add_files(context, [Path("/e/orders.jsonl")])
    for where in ("", "data.mapping", "orders.jsonl:3"):
        assert data_operations.file_at_fault(context, Failure("x", BINARY, where=where)) == str(Path("/e/orders.jsonl"))
    first = str(Path("/d/orders.jsonl"))
    assert data_operations.file_at_fault(context, Failure("x", BINARY, where=first)) == first


def test_each_of_several_files_can_be_left_out(context: AppContext, data: Session, data_page: DataPage) -> None:
    assert "Files…" in buttons(data_page)
    data_operations.add_files(context, [Path("/d/more.jsonl")])
    read(context, data, FACTS)
    assert buttons(data_page)["and 1 more…"].shortcut() == QKeySequence("Ctrl+Shift+L")
    assert data_page._rows.filter.shortcut() == QKeySequence("Ctrl+L")
    data_operations.leave_out(context, str(Path("/d/orders.jsonl")))
    assert [Path(name).name for name in context.draft.recipe.data.files] == ["more.jsonl"]


# ------------------------------------------------------------------------------------------------------------ reading
def test_reading_is_cancelled_and_can_be_begun_again(context: AppContext, data: Session, data_page: DataPage) -> None:
    data_operations.import_files(context, [Path("/d/other.jsonl")])
    data_operations.open_data(context)
    assert "Reading other.jsonl…" in data_page.banner.sentence
    late = data.last("open_data")
    buttons(data_page)["Cancel"].click()
    assert data.cancelled == [late]
    assert late.dropped
    assert data_page.banner.sentence == "Reading was stopped."
    assert list(buttons(data_page)) == ["Read again", "Go back to orders.jsonl", "Import data…"]
    buttons(data_page)["Read again"].click()
    data.last("open_data").done(FACTS)
    assert data_page.is_ready


def test_the_same_files_are_read_again_beside_their_rows(
    context: AppContext, data: Session, data_page: DataPage
) -> None:
    assert "18 rows train · 2 held out" in texts(data_page)
    assert "Cancel" not in buttons(data_page)
    data_operations.open_data(context)
    told = data.last("open_data").told
    assert told is not None
    told(Progress(done=5, total=20, unit="rows"))
    assert data_page.is_ready
    assert "being read again…" in texts(data_page)
    assert "Reading orders.jsonl… 5 of 20 rows" in texts(data_page)
    assert not [words for words in texts(data_page) if words.startswith("Ready")]
    assert data_page._bar.value() == 250
    assert "Cancel" in buttons(data_page)
    data.last("open_data").done(FACTS)
    assert "18 rows train · 2 held out" in texts(data_page)
    assert "Cancel" not in buttons(data_page)


def test_rows_of_other_files_do_not_stay_while_new_ones_are_read(
    context: AppContext, data: Session, data_page: DataPage
) -> None:
    data_operations.add_files(context, [Path("/d/more.jsonl")])
    data_operations.open_data(context)
    assert not data_page.is_ready
    assert "Cancel" in buttons(data_page)


# ------------------------------------------------------------------------------------------------------- the held-out
def test_held_out_rows_that_are_trained_on_are_warned_of(
    context: AppContext, data: Session, data_page: DataPage
) -> None:
    side = data_page._side
    assert "Held-out rows also in training" in texts(side)  # a check that found nothing is no link
    read(context, data, {**FACTS, "in_training": 2})
    assert "⚠ 2" in texts(side)
    assert any("flatters the model" in words for words in texts(side))
    buttons(side)["Held-out rows also in training"].click()
    assert data.last("rows").arguments["status"] == "in_training"
    assert data_page._rows.table.paged.rowCount() == 2


# ---------------------------------------------------------------------------------------------------------- shortcuts
def without_keys(widget: QWidget) -> list[str]:
    """Push buttons that no key presses."""
    QApplication.processEvents()
    return [b.text() for b in widget.findChildren(QPushButton) if b.isVisible() and b.shortcut().isEmpty()]


def test_every_button_of_the_pages_has_a_key(
    context: AppContext, data: Session, hub: Session, data_page: DataPage, model_page: ModelPage
) -> None:
    assert without_keys(data_page) == []
    assert without_keys(model_page) == []
    model_operations.look_up(context, "some/model")
    assert without_keys(model_page) == []
    hub.last("hub_info").done({"id": "some/model", "bytes": 10, "free_bytes": 20})
    assert without_keys(model_page) == []
    keys = [b.shortcut().toString() for b in buttons(model_page).values()]
    assert len(set(keys)) == len(keys)
    data_operations.add_files(context, [Path("/d/bad.jsonl")])
    read(context, data, Failure("data.binary", BINARY, where="bad.jsonl:1"))
    assert without_keys(data_page) == []


# ------------------------------------------------------------------------------------------------------------ notices
def test_a_notice_lists_everything_that_is_wrong(qtbot: QtBot) -> None:
    notices = Notices()
    strip = NoticeStrip(notices)
    qtbot.addWidget(strip)
    strip.show()
    problems = tuple(
        Problem("recipe.wrong", say("Wrong {n}.", "错误 {n}。", n=n), say("Mend it.", "请改正。"), f"train.{n}")
        for n in range(7)
    )
    notices.failure(Failure("recipe.wrong", say("7 settings are wrong.", "7 项设置有误。"), problems=problems))
    words = "\n".join(texts(strip))
    assert "• train.0: Wrong 0. Mend it.\n• train.1: Wrong 1. Mend it." in words
    assert "and 2 more, in the details" in words


def test_hidden_notices_are_counted_and_come_forward(qtbot: QtBot) -> None:
    notices = Notices()
    strip = NoticeStrip(notices)
    qtbot.addWidget(strip)
    strip.show()
    for number in range(5):
        notices.tell(INFO, say("Notice {n}.", "提示 {n}。", n=number))
    assert "2 more notices" in texts(strip)
    closers = [b for b in strip.findChildren(QPushButton) if b.isVisible() and b.text() == "Close"]
    assert [b.shortcut().toString() for b in closers] == ["Ctrl+W", "", ""]
    buttons(strip)["Close these, show the next"].click()
    assert [notice.message.en for notice in notices.open] == ["Notice 0.", "Notice 1."]
    assert [words for words in texts(strip) if words.startswith("Notice")] == ["Notice 1.", "Notice 0."]


# --------------------------------------------------------------------------------------------------------------- jobs
class Ladder:
    """A stop ladder whose process goes when the test says so."""

    is_gone = False

    def __init__(self, folder: JobFolder, **_: Any) -> None:
        self.folder = folder

    def poll(self) -> bool:
        return Ladder.is_gone


def test_a_job_says_that_it_is_stopping(
    qtbot: QtBot, context: AppContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(jobs, "StopLadder", Ladder)
    monkeypatch.setattr(Ladder, "is_gone", False)
    monkeypatch.setattr(context.runs.evaluate, "_watch", lambda folder: None)
    view, folder = context.runs.evaluate, JobFolder(tmp_path / "evaluate-1")
    view.follow(folder)
    view._take(folder.path, [JobStarted(kind="evaluate", pid=1), Stage(name="rows", text=say("Answering…", "回答中…"))])
    assert view.state.stage.en == "Answering…"
    for _ in range(2):  # pressing twice asks once
        jobs.stop_job(context, view)
    assert len(context.findChildren(jobs.Stopping)) == 1
    assert view.state.stage == STOPPING
    assert view.is_running
    for followed in (None, folder):
        view.follow(followed)
        assert view.is_stopping == (followed is folder)
    view._take(folder.path, [Finished(status="stopped")])
    assert view.state.status == "stopped"
    monkeypatch.setattr(Ladder, "is_gone", True)
    qtbot.waitUntil(lambda: not view.is_stopping)


def test_the_buttons_of_a_run_say_that_it_is_stopping(qtbot: QtBot, context: AppContext, tmp_path: Path) -> None:
    page, view, folder = shown(qtbot, TrainPage(context)), context.runs.train, JobFolder(tmp_path / "0001-run")
    assert page._pause.shortcut().toString() == "Ctrl+P"  # also after the words on it have changed
    view.folder = folder
    view._state = JobState(status="waiting")
    page._show_actions(view.state)
    assert (page._pause.text(), page._pause.shortcut().toString()) == ("Continue", "Ctrl+P")
    view.stopping.add(folder.path)
    page._show_actions(view.state)
    assert (page._stop.text(), page._stop.isEnabled(), page._pause.isEnabled()) == ("Stopping…", False, False)
    view.stopping.clear()
    page._show_actions(view.state)
    assert (page._stop.text(), page._stop.isEnabled()) == ("Stop and keep", True)
    assert page._stop.shortcut().toString() == "Ctrl+."
