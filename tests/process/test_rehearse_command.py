"""`lorimer rehearse` as a person types it, with real trials: they hold, run out of memory, are stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.catalogue import CATALOGUE
from engine.host.launch import running_pid
from engine.project.run_folder import JobFolder
from engine.recipe.file import load
from tests.tiny_model import make_model, write_rows

ROOT = Path(__file__).resolve().parents[2]
SHORT_OF_MEMORY = Path(__file__).parent / "short_of_memory"
RECIPE = """
[model]
source = {model}
[data]
files = [{data}]
[method]
name = "lora"
rank = 4
[train]
batch_size = 4
accumulation = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    model, data = make_model(tmp_path / "model"), write_rows(tmp_path / "rows.jsonl")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(model=json.dumps(str(model)), data=json.dumps(str(data))), encoding="utf-8")
    return path


def command(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "engine.cli", "rehearse", *map(str, arguments), "--json"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def document(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    printed, said = process.communicate(timeout=180)
    assert "Traceback" not in said, said
    return process.returncode, json.loads(printed), said


def until(done: Any, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


@pytest.mark.slow
def test_its_document_and_what_it_leaves(recipe: Path, tmp_path: Path, lorimer_home: Path) -> None:
    code, found, said = document(command(recipe, "--out", tmp_path / "held.toml"))
    assert code == 0, (found, said)
    assert found["verdict"] in ("holds", "close")
    assert found["peak_gib"] > 0.1
    assert found["predicted_gib"] > 0.1
    assert found["seconds"] > found["step_seconds"] > 0
    assert found["next"] is None
    assert found["tried"] == [{"verdict": found["verdict"], "change": ""}]
    assert load(tmp_path / "held.toml", CATALOGUE) == load(recipe, CATALOGUE)
    assert "Rehearsing: the longest rows" in said
    assert not list((lorimer_home / "cache" / "jobs").iterdir()), "a job that went well leaves no folder"
    assert len(list((lorimer_home / "measured").glob("cpu*.json"))) == 1
    assert sorted(path.name for path in recipe.parent.iterdir()) == ["held.toml", "model", "recipe.toml", "rows.jsonl"]


@pytest.mark.slow
def test_memory_that_runs_out_is_an_answer(recipe: Path, tmp_path: Path) -> None:
    """Injected: more than two rows at once are too much. --settle changes what has to be changed."""
    process = command(recipe, "--settle", "--out", tmp_path / "held.toml", PYTHONPATH=str(SHORT_OF_MEMORY))
    code, found, said = document(process)
    assert (code, found["verdict"]) == (0, "holds"), said
    assert [each["verdict"] for each in found["tried"]] == ["out_of_memory", "holds"]
    assert found["tried"][1]["change"] == "Rows at once 4 → 2, Batches per step 1 → 2"
    held = load(tmp_path / "held.toml", CATALOGUE).train
    assert (held.batch_size, held.accumulation) == (2, 2)


def test_what_is_wrong_is_a_sentence(recipe: Path) -> None:
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("rows.jsonl", "gone.jsonl"), encoding="utf-8")
    code, found, _ = document(command(recipe))
    assert (code, found["error"]["code"]) == (2, "recipe.invalid")
    assert [problem["where"] for problem in found["error"]["problems"]] == ["data.files"]


def test_ctrl_c_ends_the_trial_too(recipe: Path, lorimer_home: Path) -> None:
    # Tests started in the background of a shell ignore Ctrl+C, and what they start would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = command(recipe)
    trials = lorimer_home / "cache" / "jobs"
    until(lambda: any(map(running_pid, map(JobFolder, trials.glob("*/trials/01")))) or process.poll() is not None)
    trial = JobFolder(next(trials.glob("*/trials/01")))
    pid = running_pid(trial)
    assert pid is not None
    process.send_signal(signal.SIGINT)
    code, found, _ = document(process)
    assert (code, found["error"]["code"]) == (130, "interrupted")
    until(lambda: not _runs(pid), 10)


def _runs(pid: int) -> bool:
    """Whether the process works on; one that nobody has asked for its end yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
