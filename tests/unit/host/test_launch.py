"""One process a folder, whoever started it; what it leaves behind is found by when it began."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.host import launch, platform
from engine.host.launch import about_process, claim_work, process_file, running_pid, sweep
from engine.project.run_folder import JobFolder

CLAIM = """
import sys, time
from pathlib import Path
from engine.host.launch import claim_work
from engine.project.run_folder import JobFolder
print(claim_work(JobFolder(Path(sys.argv[1]))), flush=True)
time.sleep(60)
"""


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "job")
    folder.path.mkdir()
    folder.events.touch()
    return folder


@pytest.fixture
def first(job: JobFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that works on the folder."""
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(job.path)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_process_leaves_the_folder_to_the_first(job: JobFolder, first: subprocess.Popen[str]) -> None:
    assert running_pid(job) == first.pid
    # A host that knows nothing of the first one has started a second, and written so.
    process_file(job).write_text(json.dumps(about_process(os.getpid())))
    assert not claim_work(job)
    assert running_pid(job) == first.pid


def test_a_lock_ends_with_its_process(job: JobFolder, first: subprocess.Popen[str]) -> None:
    first.kill()
    first.wait()
    assert claim_work(job)
    assert running_pid(job) == os.getpid()


def test_a_process_is_told_from_a_later_one_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = platform.process_mark(os.getpid())
    assert mark is not None
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert platform.process_mark(os.getpid()) == mark
    assert platform.process_mark(2**22 + 1) is None


@pytest.fixture
def orphan(job: JobFolder) -> Iterator[int]:
    """A process in a group whose head has ended."""
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    head = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    process_file(job).write_text(json.dumps({"pid": head.pid, "mark": platform.process_mark(os.getpid())}))
    job.events.touch()
    assert head.stdout is not None
    child = int(head.stdout.readline())
    head.stdout.close()
    head.wait()
    yield child
    if platform.process_mark(child) is not None:
        os.kill(child, 9)


def test_children_that_outlived_their_job_are_ended(job: JobFolder, orphan: int) -> None:
    assert platform.process_mark(orphan) is not None
    sweep(job)
    deadline = time.monotonic() + 5
    while platform.process_mark(orphan) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_group_of_another_time_is_somebody_elses(job: JobFolder, orphan: int, hours: int) -> None:
    then = time.time() + hours * 3600
    for path in (process_file(job), job.events):
        os.utime(path, (then, then))
    sweep(job)
    time.sleep(0.05)
    assert platform.process_mark(orphan) is not None


def test_a_number_that_somebody_else_has_now_is_let_be(job: JobFolder, first: subprocess.Popen[str]) -> None:
    process_file(job).write_text(json.dumps({"pid": first.pid, "mark": "another boot:1"}))
    sweep(job)
    assert first.poll() is None
    for strange in ('{"pid": 1, "mark": "x"}', '{"pid": -1}', '{"pid": "a"}', "[]", ""):
        process_file(job).write_text(strange)
        sweep(job)
        assert launch.running_pid(job) is None
