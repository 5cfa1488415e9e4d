"""What a stopped job gave back, in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine.host import freed
from engine.host.freed import Held, given_back, held_by, left_of
from engine.machine import detect
from engine.machine.gpu import Gpu, GpuUser


def test_a_group_that_ended_holds_nothing() -> None:
    code = "data = b'x' * (80 * 2**20); print(len(data), flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    before = held_by(process.pid)
    assert before.ram_gib > 0.05
    assert process.pid in before.pids
    assert "still held" in given_back(before, left_of(before)).en
    process.communicate(b"\n")
    after = left_of(before)
    assert after == Held(0.0, before.gpu_gib)
    assert "was given back" in given_back(before, after).en


@pytest.mark.parametrize(
    ("gpu", "said"), [(0.0, "6.0 GiB of the GPU's memory was given back."), (5.5, "Not all memory was given back")]
)
def test_what_a_driver_says_counts(monkeypatch: pytest.MonkeyPatch, gpu: float, said: str) -> None:
    users = [(GpuUser(pid=os.getpid(), name="python", memory_gib=6.0),), (GpuUser(1, "x", 1.0),)]
    if gpu:
        users[1] = (GpuUser(pid=os.getpid(), name="python", memory_gib=gpu),)
    monkeypatch.setattr(detect, "gpus", lambda: (Gpu(0, "card", users=users.pop(0)),))
    before = held_by(os.getpgid(0))
    assert before.gpu_gib == 6.0
    after = left_of(before)
    assert said in given_back(Held(1.0, before.gpu_gib, before.pids), Held(0.0, after.gpu_gib)).en


def test_nothing_to_speak_of_is_not_spoken_of() -> None:
    assert not given_back(Held(), Held())
    assert freed.LITTLE_GIB > 0
