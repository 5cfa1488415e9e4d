"""What a run is computed with, and what of it is other later."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.machine.detect import Machine
from engine.machine.gpu import Gpu
from engine.project import environment as module
from engine.project.environment import commit, differences, environment

CARD = Gpu(0, "NVIDIA GeForce RTX 4090", total_gib=24.0, capability=(8, 9), driver="580.1", cuda="13.0")
MACHINE = Machine(
    gpus=(),
    cpu="AMD Ryzen 9",
    cores=8,
    ram_total_gib=32.0,
    ram_free_gib=20.0,
    container_limit_gib=None,
    disk_path="/",
    disk_free_gib=100.0,
    platform="Linux-6.1-x86_64",
    python="3.11.9",
)


def test_all_that_counts_is_written_down_as_plain_json() -> None:
    found = environment("cuda", machine=replace(MACHINE, gpus=(CARD,)))
    assert json.loads(json.dumps(found)) == found
    assert all(found["versions"][name] for name in ("numpy", "transformers", "torch"))
    assert (found["cpu"], found["cores"], found["device"]) == ("AMD Ryzen 9", 8, "cuda")
    assert found["gpus"][0]["driver"] == "580.1"
    assert found["threads"] >= 1


def test_no_variable_but_the_listed_ones_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "MY_PASSWORD", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "https://user:secret-value@host")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = environment(machine=MACHINE)
    assert "secret-value" not in json.dumps(found)
    assert found["variables"]["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(("told", "expected"), [("3", 3), ("4,2", 4), ("many", 8), ("0", 8), ("", 8)])
def test_threads_without_torch(monkeypatch: pytest.MonkeyPatch, told: str, expected: int) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(module, "usable_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert module.threads() == expected


def test_the_same_differs_in_nothing() -> None:
    found = environment("cpu", machine=MACHINE)
    assert differences(found, json.loads(json.dumps(found))) == []


def changed(kept: dict[str, Any], **values: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(kept))
    for name, value in values.items():
        copy[name] = {**copy[name], **value} if isinstance(value, dict) else value
    return copy


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"versions": {"torch": "2.14.1"}}, "torch NOW instead of 2.14.1"),
        ({"versions": {"bitsandbytes": "0.1"}}, "bitsandbytes NOW instead of 0.1"),
        ({"python": "3.12.1"}, "Python 3.11.9 instead of 3.12.1"),
        ({"cpu": "Intel Xeon"}, "processor AMD Ryzen 9 instead of Intel Xeon"),
        ({"threads": 99}, "threads NOW instead of 99"),
        ({"device": "cuda"}, "device cpu instead of cuda"),
        ({"variables": {"MKL_CBWR": "AVX2"}}, "MKL_CBWR – instead of AVX2"),
    ],
)
def test_what_may_change_figures_is_told(values: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKL_CBWR", raising=False)
    now = environment("cpu", machine=MACHINE)
    name = next(iter(values))
    inner = next(iter(values[name])) if isinstance(values[name], dict) else None
    present = now[name].get(inner) if inner else now[name]
    assert [str(text) for text in differences(changed(now, **values), now)] == [told.replace("NOW", str(present))]


@pytest.mark.parametrize(
    "values", [{"ram_gib": 1.0}, {"commit": "abc"}, {"lorimer": "9"}, {"variables": {"LANG": "zh"}}, {"gpus": []}]
)
def test_what_changes_no_figure_is_not_told(values: dict[str, Any]) -> None:
    now = environment("cpu", machine=replace(MACHINE, gpus=(CARD,)))
    assert differences(changed(now, **values), now) == []


def test_on_a_gpu_the_card_and_its_driver_count_and_the_processor_does_not() -> None:
    now = environment("cuda", machine=replace(MACHINE, gpus=(CARD,)))
    other = replace(MACHINE, cpu="Intel Xeon", gpus=(replace(CARD, name="NVIDIA H200", driver="590.2"),))
    told = differences(environment("cuda", machine=other), now)
    assert [text.zh for text in told] == [
        "GPU 为 NVIDIA GeForce RTX 4090（原为 NVIDIA H200）",
        "驱动 为 580.1（原为 590.2）",
    ]


@pytest.mark.parametrize(
    "before",
    [
        {},
        {"versions": 3, "gpus": "none", "variables": [], "cpu": ["x"], "threads": {}},
        {"versions": {"torch": None}, "gpus": [1, None, {"name": 3}], "variables": None},
    ],
)
def test_what_was_kept_by_an_older_version_or_is_damaged_is_passed_over(before: dict[str, Any]) -> None:
    now = environment("cpu", machine=MACHINE)
    assert differences(before, now) == []


def test_the_commit_of_a_checkout_is_read_without_git(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit(tmp_path) is None
    (git / "packed-refs").write_text("# pack-refs\n1111 refs/heads/other\n2222 refs/heads/main\n")
    assert commit(tmp_path) == "2222"
    (git / "refs" / "heads" / "main").write_text("3333\n")
    assert commit(tmp_path) == "3333"
    (git / "HEAD").write_text("4444\n")
    assert commit(tmp_path) == "4444"
