"""A run that trains elsewhere: looked at, told, stopped, by the command line and without a window."""

import argparse
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.follow_command import stop, tell, watch
from engine.host.follow import replay
from engine.host.launch import is_alive, start_job
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.terminal import Terminal
from tests.process.fake_worker import end, start_fakes


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    start_fakes(monkeypatch, tmp_path)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_facts({"id": "run", "title": "run"})
    yield folder
    end(folder)


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.load(io.StringIO(capsys.readouterr().out))
    return found


def until(done: Any) -> None:
    deadline = time.monotonic() + 15
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def options(run: RunFolder, **more: Any) -> argparse.Namespace:
    return argparse.Namespace(run=run.path, **more)


def test_stop_says_how_far_it_had_to_go(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    start_job(run, "train", {"end": "hang", "ignore": ["asked"]})
    until(lambda: replay(run).step == 3)
    assert stop(options(run, patience=0.1), Terminal(as_json=True, language="en")) == 0
    assert document(capsys)["rung"] == "terminated"
    assert not is_alive(run)
    assert replay(run).status == "stopped"
    with pytest.raises(UserError) as raised:
        tell(options(run, what="pause"), Terminal(as_json=True, language="en"))
    assert raised.value.problem.code == "job.not_running"


def test_what_it_is_told_is_written_for_it(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    start_job(run, "train", {"end": "hang", "ignore": ["asked"]})
    until(lambda: is_alive(run))
    assert tell(options(run, what="free"), Terminal(as_json=True, language="en")) == 0
    assert document(capsys)["told"] == "free"
    assert json.loads(run.commands.read_text())["name"] == "free"


def test_a_run_is_shown_to_its_end_whatever_ended_before(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    start_job(run, "train", {"end": "silent"})
    until(lambda: replay(run).is_over)
    start_job(run, "resume", {"end": "hang"})
    until(lambda: replay(run).step == 3)
    ended = threading.Timer(0.3, run.commands.write_text, ["x"])
    ended.start()
    assert watch(options(run), Terminal(as_json=True, language="en")) == 0
    ended.join()
    found = document(capsys)
    assert (found["status"], found["steps"]) == ("stopped", 3)


def test_leaving_a_run_leaves_it_alone(
    run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_job(run, "train", {"end": "hang"})
    until(lambda: replay(run).step == 3)

    def press(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.terminal.time.sleep", press)
    assert watch(options(run), Terminal(as_json=True, language="en")) == 130
    monkeypatch.undo()
    assert is_alive(run)
    assert not run.commands.exists()
    assert document(capsys)["error"]["code"] == "interrupted"
