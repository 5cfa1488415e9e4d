"""Has the misbehaving worker started in the real one's place, and ends what is left of it."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.host import launch, platform
from engine.host.launch import is_alive, running_pid
from engine.project.run_folder import JobFolder

FAKE = Path(__file__).parent / "misbehaving.py"
SECONDS = 15.0


def start_fakes(monkeypatch: pytest.MonkeyPatch, folder: Path, *flags: str) -> None:
    """From now on `start_job` starts the misbehaving worker, in ``folder``; ``flags`` are the interpreter's."""

    def start(arguments: list[str], stdin: Any, stdout: Any, stderr: Any, *, detached: bool) -> Any:
        return platform.start(
            [sys.executable, *flags, str(FAKE), *arguments],
            folder=folder,
            environment={},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            detached=detached,
        )

    monkeypatch.setattr(launch, "_start", start)


def end(folder: JobFolder) -> None:
    """End the job's process with all that it started."""
    pid = running_pid(folder)
    if pid is not None:
        platform.end_group(pid, force=True)
    deadline = time.monotonic() + SECONDS
    while is_alive(folder):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.005)
