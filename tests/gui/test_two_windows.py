"""Two windows on one project: one controls it, the other watches, and they change places when asked."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QPushButton
from pytestqt.qtbot import QtBot

from engine.project.project import Project
from engine.project.run_folder import JobFolder
from gui.context import AppContext
from gui.main_window import MainWindow
from gui.operations import jobs, plan, score, train
from gui.operations.operation import Operation
from gui.operations.project import open_project, remove_run
from gui.operations.start import Watching
from gui.state.control import TAKEN, WATCHES
from gui.state.settings import AppSettings
from gui.widgets.watch_strip import WatchStrip
from tests.gui.sessions import Session
from tests.gui.test_bridge import write_job

ROOT = Path(__file__).resolve().parents[2]
OTHER_PROCESS = """
import sys
from pathlib import Path
from engine.project.lease import Lease
lease = Lease(Path(sys.argv[1]))
print(lease.look() is None, flush=True)
for line in sys.stdin:
    print((lease.take() if line.strip() == "take" else lease.look()) is None, flush=True)
"""


@pytest.fixture
def other(qtbot: QtBot, tmp_project: Path) -> Iterator[AppContext]:
    """A second window's states on the same project."""
    made = AppContext(AppSettings(language="en", theme="light"), tmp_project)
    yield made
    made.close()
    made.deleteLater()


def opened(qtbot: QtBot, context: AppContext) -> None:
    Watching(context)
    with qtbot.waitSignal(context.project.opened):
        open_project(context, context.project.path)
    qtbot.waitUntil(lambda: context.control._has_answer)


def told(context: AppContext) -> list[str]:
    return [notice.message.en for notice in context.notices.open]


def test_one_controls_and_the_other_watches(qtbot: QtBot, context: AppContext, other: AppContext) -> None:
    opened(qtbot, context)
    opened(qtbot, other)
    assert context.control.controls
    assert not other.control.controls
    other.control.take_over()
    qtbot.waitUntil(lambda: other.control.controls and not context.control.controls, timeout=3000)
    assert context.control.sentence == TAKEN
    assert other.may_change()
    assert not context.may_change()
    other.close()  # gives it back
    qtbot.waitUntil(lambda: context.control.controls, timeout=3000)


def test_what_the_other_changed_is_read_when_it_is_gone(qtbot: QtBot, context: AppContext, other: AppContext) -> None:
    opened(qtbot, other)
    opened(qtbot, context)
    context.draft.set({"train.epochs": 9.0})  # tried out while watching
    other.draft.set({"train.epochs": 4.0})
    other.close()
    with qtbot.waitSignal(context.project.opened, timeout=4000):
        pass
    qtbot.waitUntil(lambda: context.draft.recipe.train.epochs == 4.0)
    context.draft.keep()
    context.draft.set({"train.epochs": 5.0})
    context.draft.keep()
    assert "epochs = 5.0" in context.draft.path.read_text()  # type: ignore[union-attr]


def test_another_process_controls_until_it_is_killed(qtbot: QtBot, window: MainWindow, context: AppContext) -> None:
    Project.open_or_create(context.project.path)
    command = [sys.executable, "-c", OTHER_PROCESS, str(context.project.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "True\n"
        opened(qtbot, context)
        strip = window.findChild(WatchStrip)
        assert strip is not None
        assert strip.isVisible()
        assert context.control.sentence == WATCHES
        assert getattr(context.control.other, "pid", 0) == process.pid
        strip.findChild(QPushButton).click()  # type: ignore[union-attr]
        qtbot.waitUntil(lambda: context.control.controls, timeout=3000)
        assert not strip.isVisible()
        process.stdin.write("look\n")
        process.stdin.flush()
        assert process.stdout.readline() == "False\n"
        process.stdin.write("take\n")
        process.stdin.flush()
        qtbot.waitUntil(lambda: strip.isVisible() and context.control.sentence == TAKEN, timeout=3000)
        process.kill()
    qtbot.waitUntil(lambda: context.control.controls, timeout=3000)


def test_what_changes_the_project_is_refused_with_the_sentence(
    qtbot: QtBot, context: AppContext, other: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(qtbot, context)
    opened(qtbot, other)
    run = Project(other.project.path).new_run(other.draft.recipe)
    write_job(run.path / "jobs" / "x", 1)
    other.runs.select(run)
    started: list[Any] = []
    for name in ("gui.operations.jobs.start_job", "gui.operations.train.start_job", "gui.operations.score.start_job"):
        monkeypatch.setattr(name, lambda *_: started.append(1))
    monkeypatch.setattr("engine.host.launch.start_job", lambda *_: started.append(1))
    session = Session()
    monkeypatch.setattr(other.bridge, "data", session)
    runs_before = len(Project(other.project.path).runs())
    failures: list[str] = []
    for action in (
        lambda: plan.start_training(other),
        lambda: train.continue_run(other),
        lambda: train.pause_run(other),
        lambda: train.stop_run(other),
        lambda: score.begin(other),
        lambda: jobs.start_later_job(other, other.runs.evaluate, "evaluate", {}),
        lambda: remove_run(other, run),
        lambda: Operation(other).in_background(lambda: started.append(1), changes=True),
        lambda: Operation(other).in_session(session, "decide", index=1).on_failure(lambda f: failures.append(f.code)),  # type: ignore[arg-type]
    ):
        other.notices.open = []
        action()
        assert told(other) == [WATCHES.en]
    qtbot.waitUntil(lambda: failures == ["cancelled"])
    assert started == []
    assert session.all("decide") == []
    assert len(Project(other.project.path).runs()) == runs_before
    assert not run.commands.exists()
    kept = other.draft.path.read_text() if other.draft.path.exists() else ""  # type: ignore[union-attr]
    other.notices.open = []
    other.draft.set({"train.epochs": 7.0})
    other.draft.keep()
    assert told(other) == [WATCHES.en]
    assert (other.draft.path.read_text() if other.draft.path.exists() else "") == kept  # type: ignore[union-attr]
    assert other.runs.train.folder == run  # looking goes on


def test_both_windows_show_one_run(qtbot: QtBot, context: AppContext, other: AppContext) -> None:
    opened(qtbot, context)
    opened(qtbot, other)
    folder = write_job(context.project.path / "runs" / "0001-a", 20)
    for each in (context, other):
        each.runs.train.follow(JobFolder(folder.path))
    qtbot.waitUntil(lambda: context.runs.train.state.is_over and other.runs.train.state.is_over)
    assert context.runs.train.state == other.runs.train.state


def test_a_project_that_was_moved_is_still_controlled(qtbot: QtBot, context: AppContext) -> None:
    """The lease goes with the folder, and is this window's own."""
    opened(qtbot, context)
    moved = context.project.path.with_name("moved")
    context.project.path.rename(moved)
    with qtbot.waitSignal(context.project.opened):
        open_project(context, moved)
    qtbot.waitUntil(lambda: context.control._has_answer)
    assert context.control.controls
    assert [path.name for path in moved.glob("control.*")] == ["control.1.json"]
