"""When something measured no longer holds: the recipe, a data file or the model is another."""

from pathlib import Path
from typing import Any

import pytest

from engine.project.fingerprint import fingerprint


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "more.jsonl").write_text("{}\n")
    (tmp_path / "rows.jsonl").write_text("{}\n")
    return {
        "version": 1,
        "data": {"files": [str(tmp_path / "rows.jsonl"), str(folder), "hub:some/data"], "max_length": 512},
        "train": {"batch_size": 4, "learning_rate": 2e-4, "seed": 42},
        "evaluate": {"rows": 200, "batch_size": 16},
    }


def test_settings_that_cost_nothing_do_not_count(plain: dict[str, Any], model: Path) -> None:
    now = fingerprint(plain, model)
    for part, name, value in (("train", "learning_rate", 1e-3), ("train", "seed", 1), ("evaluate", "rows", 5)):
        assert fingerprint({**plain, part: {**plain[part], name: value}}, model) == now
    for part, name, value in (("train", "batch_size", 8), ("data", "max_length", 64), ("evaluate", "batch_size", 1)):
        assert fingerprint({**plain, part: {**plain[part], name: value}}, model) != now


def test_files_count(plain: dict[str, Any], model: Path, tmp_path: Path) -> None:
    seen = {fingerprint(plain, model)}
    for path in (tmp_path / "rows.jsonl", tmp_path / "rows" / "more.jsonl", model / "model.safetensors"):
        path.write_bytes(path.read_bytes() + b"more")
        seen.add(fingerprint(plain, model))
    (tmp_path / "rows" / "new.jsonl").write_text("{}\n")
    seen.add(fingerprint(plain, model))
    (tmp_path / "rows.jsonl").unlink()
    seen.add(fingerprint(plain, model))
    assert len(seen) == 6
