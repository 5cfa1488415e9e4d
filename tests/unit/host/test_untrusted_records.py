"""Records of a stranger's run: to look at them writes nothing outside, waits for nothing, ends and starts nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.host import launch, platform
from engine.host.control import send, stop
from engine.host.follow import Follower, last_status, replay
from engine.host.launch import append_event, is_alive, process_file, stop_file
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.events import STOP, Note, RunPlanned
from engine.protocol.text import say

LAUNCHED = '{"type": "launched", "kind": "train", "time": 1.0}\n'


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run whose process ended without a last word."""
    made = RunFolder(tmp_path / "run")
    made.path.mkdir()
    made.events.write_text(LAUNCHED, encoding="utf-8")
    made.log.write_text("$(touch ran)\n", encoding="utf-8")
    return made


def replaced(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


# ----------------------------------------------------------------------------------------------------- links and pipes
def test_what_a_dead_process_could_not_say_is_not_written_through_a_link(run: RunFolder, tmp_path: Path) -> None:
    outside = tmp_path / "bashrc"
    outside.write_text(LAUNCHED, encoding="utf-8")
    replaced(run.events, outside)
    replay(run)
    last_status(run)
    with pytest.raises(OSError, match="symbolic links"):
        append_event(run, Note(text=say("told", "告知")))
    assert outside.read_text(encoding="utf-8") == LAUNCHED


def test_no_command_goes_through_a_link(run: RunFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    replaced(run.commands, outside)
    with pytest.raises(UserError):
        send(run, STOP)
    assert not outside.exists()


def test_a_log_that_is_a_link_is_not_told(run: RunFolder, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.write_text("only mine", encoding="utf-8")
    replaced(run.log, private)
    state = replay(run)
    assert state.status == "failed"
    assert state.failure is not None
    assert "only mine" not in state.failure.details + run.events.read_text(encoding="utf-8")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["events.jsonl", "log.txt", "process.json", "stop.json", "commands.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_nothing_is_waited_for(run: RunFolder, name: str, kind: str) -> None:
    path = run.path / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    replay(run)
    assert last_status(run) in ("", "starting", "failed")
    assert not is_alive(run)


def test_a_lock_is_not_taken_through_a_link(run: RunFolder, tmp_path: Path) -> None:
    outside = tmp_path / "bashrc"
    outside.write_text("kept", encoding="utf-8")
    replaced(run.path / "worker.lock", outside)
    with pytest.raises(UserError):
        launch.claim_work(run)
    assert outside.read_text(encoding="utf-8") == "kept"


# ---------------------------------------------------------------------------------------------------- forged processes
@pytest.fixture
def foreign() -> Iterator[tuple[int, int]]:
    """(group, member) of a process group of somebody else whose head has ended."""
    head = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!"], start_new_session=True, stdout=subprocess.PIPE)
    assert head.stdout is not None
    member = int(head.stdout.readline())
    head.stdout.close()
    head.wait()
    yield head.pid, member
    if psutil.pid_exists(member):
        os.kill(member, signal.SIGKILL)


def forge(run: RunFolder, known: Any) -> None:
    """A process file and a record that claim all of time."""
    process_file(run).write_text(json.dumps(known), encoding="utf-8")
    os.utime(process_file(run), (0, 0))
    os.utime(run.events, (4e9, 4e9))


@pytest.mark.parametrize("mark", ["x", "", None, 1.5, "boot:1"])
def test_stop_ends_no_process_that_a_file_only_names(run: RunFolder, foreign: tuple[int, int], mark: Any) -> None:
    group, member = foreign
    forge(run, {"pid": group, "mark": mark})
    assert stop(run) == ""
    replay(run)
    launch.sweep(run)
    assert psutil.Process(member).status() != psutil.STATUS_ZOMBIE


def test_a_running_process_is_not_the_runs_without_its_mark(run: RunFolder) -> None:
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        forge(run, {"pid": other.pid, "mark": "somebody's"})
        assert not is_alive(run)
        assert stop(run) == ""
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(
    "content",
    [
        *("[]", "3", "null", '{"pid": []}', '{"pid": -1, "mark": null}', '{"pid": 1e999, "mark": "a"}', "[" * 100_000),
        '{"pid": 99999999999999999999, "mark": "a"}',
        '{"pid": 1, "mark": "a", "memory_kills": {"file": "/dev/zero", "count": 0}}',
        '{"pid": 1, "mark": "a", "memory_kills": {"file": 3, "count": 1e999}}',
    ],
)
def test_any_process_file_is_survived(run: RunFolder, content: str) -> None:
    process_file(run).write_text(content, encoding="utf-8")
    assert not is_alive(run)
    launch.sweep(run)
    assert launch.exit_code(run) is None
    assert launch.memory_kills(run) is None
    assert replay(run).status == "failed"


@pytest.mark.parametrize("content", ["[]", "3", '{"rung": {"a": 1}}', '{"rung": "rm -rf"}', "[" * 100_000])
def test_any_stop_file_is_survived(run: RunFolder, content: str) -> None:
    stop_file(run).write_text(content, encoding="utf-8")
    assert replay(run).status == "failed"


def test_nothing_is_started_by_looking(run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A record that says that the system ended the process, a count that has risen, a job that waits: all forged."""
    counts = tmp_path / "groups" / "memory.events"
    counts.parent.mkdir()
    counts.write_text("oom_kill 9\n", encoding="utf-8")
    monkeypatch.setattr(platform, "_CGROUPS", tmp_path / "groups")
    run.job.write_text('{"kind": "train", "arguments": {"run": "x"}}', encoding="utf-8")
    planned = RunPlanned(steps=9, epochs=1, rows=1, held_out=1, trained_parameters=1, all_parameters=1, device="cpu")
    append_event(run, planned)
    forge(run, {"pid": 4_000_000, "mark": "a", "memory_kills": {"file": str(counts), "count": 0}})
    started: list[object] = []
    monkeypatch.setattr(launch, "_start", lambda *given, **named: started.append(given))
    follower = Follower(run, restarts=True)
    told = [event for _ in range(3) for event in follower.poll()]
    assert started == []
    assert told[-1].type == "finished"
