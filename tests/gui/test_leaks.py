"""Twenty times every page opened, a run started and stopped: nothing is left. `bench_leaks.py` does it 500 times."""

from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from engine.host import launch
from gui.context import AppContext
from gui.main_window import MainWindow
from gui.operations.project import open_project
from tests.gui.rounds import begin_fake, look, play, start_fake

WARM_UP, ROUNDS = 4, 16


def test_nothing_is_left_of_a_round(
    qtbot: QtBot, window: MainWindow, context: AppContext, monkeypatch: pytest.MonkeyPatch, tmp_project: Path
) -> None:
    monkeypatch.setattr(launch, "_start", start_fake)
    with qtbot.waitSignal(context.project.opened):
        open_project(context, tmp_project)
    for _ in range(WARM_UP):
        play(context, window, begin_fake)
    before = look(context, window)
    for _ in range(ROUNDS):
        play(context, window, begin_fake)
    after = look(context, window)
    assert after.processes <= before.processes  # an earlier test's process may only now take its leave
    assert after.threads <= before.threads
    assert after.files <= before.files
    assert after.timers <= before.timers
    assert after.kinds - before.kinds == {}, f"{ROUNDS} rounds left objects behind"
