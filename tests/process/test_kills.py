"""Real workers that are killed, or whose disk is full, at points chosen over their life: nothing is lost or damaged.

The long version, with 200 kills and every write, is `tests/bench/bench_kills.py`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("killing.py")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the harness forks and reads /proc")


@LINUX
@pytest.mark.slow
def test_whatever_ends_a_run_nothing_is_lost() -> None:
    """In a process of its own: it forks, which threads of torch do not survive."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HARNESS), "10", "5", "7", "3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    kills, full = found["kills"], found["full"]
    assert kills["kills"] >= 10
    assert (kills["lost"], kills["damaged_files"]) == (0, 0)
    assert kills["bit_identical"] == kills["curve_complete"] == kills["lives"]
    assert kills["most_steps_repeated"] <= 3  # a checkpoint is due every three steps
    assert len(full) == 3
    for run in full:
        assert run["ends_well"], run
        assert run["same"], run
        assert run["curve"], run
        assert not run["damaged"], run
        assert run["waited"] or run["told"] == "disk.full", run
