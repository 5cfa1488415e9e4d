"""`lorimer data score` as a person types it: its document, what it leaves behind, and Ctrl+C in its middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import make_model, write_rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(lorimer_home: Path) -> Path:
    return lorimer_home


def command(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "engine.cli", "data", *map(str, arguments), "--json"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def document(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    printed, said = process.communicate(timeout=120)
    assert "Traceback" not in said, said
    return process.returncode, json.loads(printed)


def recipe(folder: Path, *, model: str | Path, data: Path, more: str = "") -> Path:
    path = folder / "recipe.toml"
    head = f"[model]\nsource = {json.dumps(str(model))}\n[data]\nfiles = [{json.dumps(str(data))}]\n{more}\n"
    path.write_text(head + '[method]\nname = "lora"\n', encoding="utf-8")
    return path


@pytest.mark.slow
def test_its_document_and_its_file(tmp_path: Path, home: Path) -> None:
    model, data = make_model(tmp_path / "model"), write_rows(tmp_path / "rows.jsonl")
    path = recipe(tmp_path, model=model, data=data, more='choice = "hardest"\nchoice_share = 0.25')
    code, found = document(command("score", path, "--out", tmp_path / "scores.jsonl"))
    assert code == 0, found
    assert set(found) == {
        *("rows", "new", "chosen", "loss", "uncertainty", "easiest", "hardest", "uncertain"),
        *("model", "scored_by", "out", "scores"),
    }
    assert (found["rows"], found["new"], found["chosen"]) == (36, 36, 9)
    assert found["hardest"][0]["where"].startswith("rows.jsonl:")
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["index"] for line in lines] == sorted(line["index"] for line in lines)
    assert sum(line["chosen"] for line in lines) == 9
    assert not list((home / "cache" / "jobs").iterdir()), "a job that went well leaves no folder"
    assert not (ROOT / "lorimer-project").exists()

    # What a run would train on is written out by the same scores.
    code, written = document(command("prepare", path, "--out", tmp_path / "out"))
    assert (code, written["train"], written["set_aside"]) == (0, 9, {"not_chosen": 27})
    trained = (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["where"] for line in trained} == {line["where"] for line in lines if line["chosen"]}


def test_what_is_wrong_is_a_sentence(tmp_path: Path, home: Path) -> None:
    model, data = make_model(tmp_path / "model"), write_rows(tmp_path / "rows.jsonl")
    path = recipe(tmp_path, model=model, data=data, more='order = "easiest"')
    code, found = document(command("score", path, "--run", tmp_path / "no run"))
    assert code == 2
    assert [problem["where"] for problem in found["error"]["problems"]] == ["data.scored_by"]
    (model / "model.safetensors").write_bytes(b"no weights")
    code, found = document(command("score", path))
    assert code in (1, 2)
    assert found["error"]["message"]


def test_ctrl_c_keeps_what_was_scored(tmp_path: Path, home: Path) -> None:
    # Tests started in the background of a shell ignore Ctrl+C, and what they start would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    data = ROOT / "resources" / "samples" / "orders_en.jsonl"
    path = recipe(tmp_path, model="starter", data=data)
    process = command("score", path)
    deadline = time.monotonic() + 120
    while not scored(home):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, found = document(process)
    assert (code, found["error"]["code"]) == (130, "interrupted")
    assert not list((home / "cache" / "jobs").iterdir())
    kept = list((home / "cache" / "scores").glob("*.npy"))
    assert len(kept) == 1
    assert kept[0].stat().st_size > 16 * 16


def scored(home: Path) -> bool:
    """Whether the job has told that some rows are scored."""
    for file in (home / "cache" / "jobs").glob("*/events.jsonl"):
        events = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        names = [event["name"] for event in events if event["type"] == "stage"]
        if names[-1:] == ["score"] and events[-1]["type"] == "progress":
            return True
    return False
