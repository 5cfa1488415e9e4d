"""``lorimer models get`` as a process: Ctrl+C ends it at once, and the same command goes on within the file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.played_hub import FILES, ID, playing

LARGE = b"w" * 20_000_000
PATIENCE = 60.0


def started(environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "engine.cli", "models", "get", ID, "--json"]
    return subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to another process")
def test_ctrl_c_ends_a_download_that_goes_on_later(tmp_path: Path, repository: Path) -> None:
    with playing() as hub:
        hub.files, hub.pause = FILES | {"model.safetensors": LARGE}, 0.02
        environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf")}
        first = started(environment, repository)
        until = time.monotonic() + PATIENCE
        while hub.sent < 6_000_000 and time.monotonic() < until:
            time.sleep(0.02)
        first.send_signal(signal.SIGINT)
        out, told = first.communicate(timeout=PATIENCE)
        assert (first.returncode, '"interrupted"' in out) == (130, True), told
        assert "Traceback" not in told
        assert hub.sent < len(LARGE)
        hub.pause = 0.0
        hub.starts.clear()
        again = started(environment, repository)
        out, told = again.communicate(timeout=PATIENCE)
        assert again.returncode == 0, told
        (start,) = hub.starts["model.safetensors"]
        assert start >= 3_000_000
    (kept,) = (tmp_path / "hf" / "hub").glob("models--someone--tiny/snapshots/*/model.safetensors")
    assert kept.read_bytes() == LARGE
