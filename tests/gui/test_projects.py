"""The project switcher: runs of this and other projects are opened and removed, and what cannot be opened is told."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QFile
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QAbstractButton, QApplication, QFileDialog, QMenu, QMessageBox
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.host import launch, platform
from engine.project import moving
from engine.project import recent as recent_file
from engine.project.atomic import write_json
from engine.project.project import Project, is_busy, new_job
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.codec import encode_event
from engine.protocol.errors import UserError
from engine.protocol.events import Event, Finished, JobStarted, Launched
from engine.protocol.text import say
from engine.recipe.file import loads
from gui.context import AppContext
from gui.i18n.language import speak
from gui.main_window import MainWindow
from gui.operations import plan as plans
from gui.operations import project as projects
from gui.state.settings import AppSettings
from gui.widgets.project_card import MOST_RUNS, ProjectCard

PATIENCE = 60_000


def write(folder: JobFolder, *events: Event) -> None:
    with folder.events.open("a", encoding="utf-8") as file:
        file.writelines(encode_event(event) + "\n" for event in events)


def work_on(folder: JobFolder) -> None:
    """This very process works on the folder, as far as anybody can see."""
    pid = os.getpid()
    write_json(launch.process_file(folder), {"pid": pid, "mark": platform.process_mark(pid)})
    write(folder, Launched(kind="train"), JobStarted(kind="train", pid=pid, time=1.0))


def end(folder: JobFolder) -> None:
    launch.process_file(folder).unlink()
    write(folder, Finished(status="done", time=2.0))


def make(path: Path, *titles: str) -> list[RunFolder]:
    """A project with finished runs, oldest first."""
    project = Project.open_or_create(path)
    runs = [project.new_run(loads("", CATALOGUE), title=title) for title in titles]
    for run in runs:
        write(run, Launched(kind="train"), Finished(status="done", time=2.0))
    return runs


@pytest.fixture
def runs(tmp_project: Path) -> list[RunFolder]:
    return make(tmp_project, "one", "two")


@pytest.fixture
def card(qtbot: QtBot, window: MainWindow, context: AppContext, runs: list[RunFolder]) -> ProjectCard:
    with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
        projects.open_project(context, context.project.path)
    found = window.findChild(ProjectCard)
    assert found is not None
    return found


def lines(menu: QMenu) -> dict[str, QAction]:
    """The lines of a menu by the first part of their words."""
    return {action.text().split(" · ")[0]: action for action in menu.actions()}


def inner(menu: QMenu, words: str) -> QMenu:
    found = lines(menu)[words].menu()
    assert isinstance(found, QMenu)
    return found


def answer(card: ProjectCard, words: str) -> None:
    """Answer the question that stands before the window."""
    QApplication.processEvents()
    box = card.findChild(QMessageBox)
    assert box is not None
    next(b for b in box.findChildren(QAbstractButton) if b.text() == words).click()


# -------------------------------------------------------------------------------------------------------- the menu
def test_the_run_that_is_looked_at_is_marked(card: ProjectCard, context: AppContext, runs: list[RunFolder]) -> None:
    menu = card.menu_now()
    assert next(iter(lines(menu))) == "Runs of this project"
    assert [a.text().split(" · ")[0] for a in menu.actions() if a.isChecked()] == ["0002 two"]
    lines(menu)["0001 one"].trigger()
    assert context.runs.run == runs[0]
    assert [a.text().split(" · ")[0] for a in card.menu_now().actions() if a.isChecked()] == ["0001 one"]


def test_every_run_can_be_reached(qtbot: QtBot, card: ProjectCard, context: AppContext, tmp_project: Path) -> None:
    make(tmp_project, *(f"more {i}" for i in range(MOST_RUNS)))
    projects.refresh_lists(context)
    qtbot.waitUntil(lambda: len(context.project.runs) == MOST_RUNS + 2, timeout=PATIENCE)
    menu = card.menu_now()
    earlier = inner(menu, "2 earlier runs")
    assert list(lines(earlier)) == ["0002 two", "0001 one"]
    lines(earlier)["0001 one"].trigger()
    assert context.runs.run is not None
    assert context.runs.run.read_facts()["title"] == "one"


def test_runs_of_another_project_are_listed_and_opened(
    qtbot: QtBot, card: ProjectCard, context: AppContext, tmp_path: Path
) -> None:
    old, _new = make(tmp_path / "other", "older", "newer")
    recent_file.remember(tmp_path / "other")
    with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
        projects.open_project(context, context.project.path)
    qtbot.waitUntil(lambda: bool(context.project.others), timeout=PATIENCE)
    other = inner(card.menu_now(), "other")
    assert list(lines(other))[:3] == ["Open", "0002 newer", "0001 older"]
    lines(other)["0001 older"].trigger()
    qtbot.waitUntil(lambda: context.runs.run == old, timeout=PATIENCE)
    assert context.project.name == "other"
    qtbot.waitUntil(lambda: context.wizard.current == "train", timeout=PATIENCE)


# ---------------------------------------------------------------------------------------------------------- removing
def test_a_run_goes_to_the_trash_after_a_question(
    qtbot: QtBot, card: ProjectCard, context: AppContext, runs: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []

    def trash(path: str) -> tuple[bool, str]:
        moved.append(path)
        Path(path).rename(Path(path).parent.parent / "trash")
        return True, "trash"

    monkeypatch.setattr(QFile, "moveToTrash", trash)
    lines(inner(card.menu_now(), "Remove a run"))["0002 two"].trigger()
    answer(card, "Keep it")
    assert moved == []
    lines(inner(card.menu_now(), "Remove a run"))["0002 two"].trigger()
    answer(card, "Move to the trash")
    assert moved == [str(runs[1].path)]
    qtbot.waitUntil(lambda: [run.title for run in context.project.runs] == ["one"], timeout=PATIENCE)
    qtbot.waitUntil(lambda: context.runs.run == runs[0], timeout=PATIENCE)


def test_a_run_stays_where_there_is_no_trash(
    card: ProjectCard, context: AppContext, runs: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFile, "moveToTrash", lambda path: (False, ""))
    projects.remove_run(context, runs[1])
    assert "could not be moved" in context.notices.open[-1].message.en
    assert str(runs[1].path) in context.notices.open[-1].hint.en
    assert context.runs.run == runs[1]
    assert runs[1].path.exists()


def test_a_run_that_is_worked_on_is_never_removed(
    qtbot: QtBot, card: ProjectCard, context: AppContext, runs: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFile, "moveToTrash", lambda path: pytest.fail("it was moved"))
    job = new_job(runs[0], "evaluate")
    work_on(job)
    assert is_busy(runs[0])
    projects.remove_run(context, runs[0])
    assert "still works on this run" in context.notices.open[-1].message.en
    work_on(runs[1])
    projects.refresh_lists(context)
    qtbot.waitUntil(lambda: context.project.runs[0].status == "working", timeout=PATIENCE)
    assert not lines(inner(card.menu_now(), "Remove a run"))["0002 two"].isEnabled()
    end(runs[1])


# --------------------------------------------------------------------------------------------- runs that are under way
def test_the_end_of_a_run_that_nobody_looks_at_is_noticed(
    qtbot: QtBot, card: ProjectCard, context: AppContext, runs: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projects, "WATCH_MS", 50)
    work_on(runs[1])
    context.runs.select(runs[0])
    projects.refresh_lists(context)
    qtbot.waitUntil(lambda: context.project.trains(context.runs), timeout=PATIENCE)
    end(runs[1])
    qtbot.waitUntil(lambda: not context.project.trains(context.runs), timeout=PATIENCE)


def test_a_run_that_never_came_to_a_process_holds_up_nobody(card: ProjectCard, context: AppContext) -> None:
    assert context.project.project is not None
    context.runs.select(context.project.project.new_run(loads("", CATALOGUE)))
    assert not context.project.trains(context.runs)


# ------------------------------------------------------------------------------------------------------ not opened
@pytest.fixture
def refused(qtbot: QtBot, tmp_path: Path) -> Iterator[AppContext]:
    """A window that was to open a folder of something else."""
    speak("en")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"no")
    made = AppContext(AppSettings(language="en", theme="light"), tmp_path / "photos")
    window = MainWindow(made)
    qtbot.addWidget(window)
    window.show()
    projects.open_project(made, tmp_path / "photos")
    qtbot.waitUntil(lambda: bool(made.notices.open), timeout=PATIENCE)
    yield made
    made.close()


def test_a_refused_folder_is_not_shown_as_open(refused: AppContext, qtbot: QtBot) -> None:
    window = next(w for w in QApplication.topLevelWidgets() if isinstance(w, MainWindow) and w._context is refused)
    card = window.findChild(ProjectCard)
    assert card is not None
    assert (card._name.text(), card._words.text()) == ("No project", "choose a folder ▾")
    assert "photos" not in card.toolTip()


def test_training_without_a_project_says_what_to_do(refused: AppContext) -> None:
    plans.start_training(refused)
    assert "No project is open" in refused.notices.open[-1].message.en
    assert "Ctrl+Shift+P" in refused.notices.open[-1].hint.en


def test_a_project_opens_although_it_cannot_be_remembered(
    qtbot: QtBot, context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise UserError("disk.read_only", say("The settings folder is read-only.", "设置文件夹为只读。"))

    monkeypatch.setattr(recent_file, "remember", refuse)
    with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
        projects.open_project(context, context.project.path)
    assert context.project.project is not None
    assert "read-only" in context.notices.open[-1].message.en


# ------------------------------------------------------------------------------------------------- another place
def test_a_project_is_moved_and_stays_open(
    qtbot: QtBot, card: ProjectCard, context: AppContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "archive"), raising=True)
    old = context.project.path
    context.draft.set({"train.epochs": 5.0})
    with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
        lines(card.menu_now())["Move this project…"].trigger()
    new = tmp_path / "archive" / "project"
    assert (context.project.path, context.draft.path) == (new, new / "draft.toml")
    assert context.draft.recipe.train.epochs == 5.0
    assert [run.folder.path.parent for run in context.project.runs] == [new / "runs"] * 2
    assert recent_file.recent() == [new]
    assert not old.exists()


def test_a_copy_to_another_disk_tells_how_far_it_is_and_can_be_stopped(
    qtbot: QtBot, card: ProjectCard, context: AppContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def slow(source: Path, target: Path, *, progress: Callable[[int, int], None]) -> bool:
        for number in range(2000):
            progress(400 + number // 100, 1000)
            time.sleep(0.01)
        return True

    monkeypatch.setattr(moving, "move_project", slow)
    context.project.changed.connect(lambda: told.append(card._words.text()))
    projects.move_project(context, tmp_path / "disk")
    qtbot.waitUntil(lambda: any("moving… 4" in words for words in told), timeout=PATIENCE)
    with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
        lines(card.menu_now())["Stop moving the project"].trigger()
    assert context.project.path.name == "project"
    assert context.project.moving is None


def test_a_project_that_is_worked_on_is_not_moved(
    qtbot: QtBot, card: ProjectCard, context: AppContext, runs: list[RunFolder], tmp_path: Path
) -> None:
    work_on(runs[0])
    with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
        projects.move_project(context, tmp_path / "archive")
    assert "still works" in context.notices.open[-1].message.en
    assert context.project.path == runs[0].path.parents[1]
    end(runs[0])


def test_an_imported_project_says_what_is_not_here(
    qtbot: QtBot, card: ProjectCard, context: AppContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = make(tmp_path / "elsewhere", "theirs")
    run.write_facts({**run.read_facts(), "model_folder": "/theirs/model"})
    monkeypatch.setattr(launch, "start_job", lambda *_: pytest.fail("opening a project starts nothing"))
    with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
        projects.open_project(context, tmp_path / "elsewhere")
    notice = context.notices.open[-1]
    assert "1 could not be found" in notice.message.en
    assert notice.problems[0].en == "0001-theirs: /theirs/model"
    context.notices.close(notice)
    with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
        projects.open_project(context, tmp_path / "elsewhere")
    assert context.notices.open == [], "it is known now"
