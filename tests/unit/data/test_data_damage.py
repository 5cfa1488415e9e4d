"""2,000 damaged files: none crashes or hangs, and every problem says where it is and what to do."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.data.check import CheckFailed, check
from tests.unit.data.damage import WHOLE, damaged

COUNT = 2000
PARTS = 8
LONGEST_SECONDS = 10.0


def report_of(path: Path) -> dict[str, Any]:
    try:
        return check(path)
    except CheckFailed as error:
        failed = error
    assert failed.exit_code == 2, failed
    assert failed.problem.hint, failed
    return failed.report


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE[name])
    report = report_of(path)
    assert report["trainable"] == report["rows"] >= 12, report["problems"]


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_files(tmp_path: Path, part: int) -> None:
    seen: Counter[str] = Counter()
    for number, (name, content) in enumerate(damaged(COUNT)):
        if number % PARTS != part:
            continue
        path = tmp_path / name
        path.write_bytes(content)
        began = time.monotonic()
        report = report_of(path)
        assert time.monotonic() - began < LONGEST_SECONDS, name
        for problem in report["problems"]:
            assert problem["message"], (name, problem)
            assert name in problem["where"] or problem["where"].startswith("data."), (name, problem)
        assert report["trainable"] or report["problems"], name
        assert report["trainable"] + sum(report["set_aside"].values()) == report["rows"], name
        seen[report["problems"][0]["code"] if report["problems"] else "none"] += 1
        path.unlink()
    assert len(seen) > 5, seen


def test_memory_is_bounded(tmp_path: Path) -> None:
    nested = tmp_path / "deep.json"
    nested.write_text('[{"instruction": "Q", "output": ' + "[" * 200_000)
    long = tmp_path / "long.csv"
    long.write_text('prompt,completion\n"' + "x" * 3_000_000)
    for path in (nested, long):
        tracemalloc.start()
        report_of(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 30 * path.stat().st_size + 20_000_000
