"""The Compare page against its real session on the starter model: columns, a killed process, a blind vote."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from engine.project.project import Project
from engine.project.run_folder import RunFolder
from engine.project.votes import read_tests
from engine.protocol.text import Text
from gui.context import AppContext
from gui.i18n.language import speak
from gui.operations import blind as judging
from gui.operations import talk as talking
from gui.pages.compare import ComparePage
from gui.state.phase import Phase
from gui.state.settings import AppSettings
from tests.gui.conftest import PATIENCE
from tests.unit.tuned_run import conversation, make_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, starter: Path) -> Path:
    """A project with two runs on the starter, and a checkpoint."""
    project = tmp_path_factory.mktemp("compare") / "p"
    Project.open_or_create(project)
    rows = [conversation(i, f"Question {i}?", f"answer {i}") for i in range(4)]
    run = make_run(project / "runs" / "0001-first", starter, rows, method="lora")
    make_run(project / "runs" / "0002-second", starter, rows, method="ia3")
    checkpoint = run.checkpoints / "step-000010"
    checkpoint.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(run.adapter / name, checkpoint / name)
    return project


@pytest.fixture
def run(trained: Path) -> RunFolder:
    return RunFolder(trained / "runs" / "0001-first")


@pytest.fixture
def page(qtbot: QtBot, trained: Path, run: RunFolder) -> Iterator[ComparePage]:
    """The page with the models loaded."""
    speak("en")
    context = AppContext(AppSettings(language="en", theme="light"), trained)
    context.runs.select(run)
    made = ComparePage(context)
    qtbot.addWidget(made)
    made.resize(864, 700)
    made.show()
    context.talk.sampling["max_new_tokens"] = 12
    talking.load_models(context)
    until(qtbot, lambda: context.talk.status.phase is Phase.READY and bool(context.talk.prompts))
    yield made
    context.close()


def until(qtbot: QtBot, done: Callable[[], bool]) -> None:
    qtbot.waitUntil(done, timeout=PATIENCE)


def test_columns_a_killed_session_and_a_vote(qtbot: QtBot, page: ComparePage, run: RunFolder, tmp_path: Path) -> None:
    context, talk = page.context, page.context.talk
    assert talk.facts["isolated"] is True
    assert "bit for bit" in page._subtitle.text()
    talking.find_candidates(context)
    until(qtbot, lambda: talk.candidates is not None)
    assert [item.title.en for item in talk.candidates or ()] == ["Checkpoint 10", "0002 made"]
    for item in talk.candidates or ():
        talking.add_column(context, item.kind, item.title, item.path)
        until(qtbot, lambda: talk.loading is None)
    assert [column.facts.get("method") for column in talk.columns] == ["", "LORA", "LORA", "IA3"]

    talking.ask_all(context, "Hello there")
    until(qtbot, lambda: not talk.is_speaking)
    turn = talk.turns[0]
    assert set(turn.facts) == {"base", "tuned", "adapter1", "adapter2"}
    assert all(facts["tokens"] > 0 for facts in turn.facts.values())
    assert turn.texts["adapter1"] == turn.texts["tuned"]  # the checkpoint holds the same weights
    before = dict(turn.texts)

    # The process dies in the middle of long answers: said, nothing lost, and all is there again on request.
    talk.sampling["max_new_tokens"] = 8000
    talk.sampling["temperature"] = 2.0
    talking.ask_all(context, "And now a long story")
    until(qtbot, lambda: any(talk.turns[-1].texts.values()))
    process = context.bridge.chat._process._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    until(qtbot, lambda: not talk.is_speaking)
    assert talk.turns[-1].failures
    assert talk.turns[0].texts == before
    talk.sampling.update({"max_new_tokens": 12, "temperature": 0.0})
    talking.ask_again(context)
    until(qtbot, lambda: not talk.is_speaking)
    assert not talk.turns[-1].failures
    assert set(talk.turns[-1].facts) == {"base", "tuned", "adapter1", "adapter2"}
    talking.begin_anew(context)
    talking.ask_all(context, "Hello there")
    until(qtbot, lambda: not talk.is_speaking)
    assert talk.turns[0].texts == before  # the base included: nothing of the adapters stayed in it

    talking.add_column(context, "adapter", Text("x", "x"), str(tmp_path))  # there is no room for a fifth
    assert len(talk.columns) == 4
    path = tmp_path / "t.json"
    talking.save_transcript(context, path)
    until(qtbot, path.is_file)
    assert [side["kind"] for side in json.loads(path.read_text())["sides"]] == ["base", "tuned", "adapter", "adapter"]

    judging.open_blind(context)
    until(qtbot, lambda: context.blind.status.phase is Phase.READY)
    judging.begin_blind(context, talk.columns[0], talk.columns[3], source="held_out", seed=4)
    until(qtbot, lambda: context.blind.stage == "judge")
    judging.vote(context, "first")
    until(qtbot, lambda: context.blind.stage == "judge" and context.blind.test.result.votes == 1)  # type: ignore[union-attr]
    judging.reveal(context)
    until(qtbot, lambda: context.blind.stage == "result")
    (test,) = read_tests(run)
    assert test.revealed
    assert [side.kind for side in test.sides] == ["base", "adapter"]
    assert test.votes[0].question in {f"Question {n}?" for n in range(4)}
    assert set(test.votes[0].answers) == {side.name for side in test.sides}
    judging.close_blind(context)
    assert page.ask.send_button.isVisible() or not page.isVisible()
