"""A stranger's project and model in real processes: nothing of them runs, and every end is told."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path

import pytest

from engine.host.follow import replay
from engine.host.launch import is_alive, start_job
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A project in which all that is read when it is opened is hostile."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("private.txt", "bashrc"):
        (outside / name).write_text('{"type": "launched", "kind": "train", "time": 1.0}\n', encoding="utf-8")
    marker = f"open({str(tmp_path / 'ran')!r}, 'w')"
    place = tmp_path / "project"
    runs = place / "runs"
    runs.mkdir(parents=True)
    (place / "project.json").write_text(json.dumps({"version": 1, "name": "\x1b]0;x\x07<b>", "created": 1}), "utf-8")
    (place / "draft.toml").write_text(f'[model]\nsource = "{place}/evil"\n[data]\nfiles = ["/dev/zero"]\n', "utf-8")
    (place / "sitecustomize.py").write_text(marker, encoding="utf-8")
    (place / "evil").mkdir()
    (place / "evil" / "modeling_evil.py").write_text(marker, encoding="utf-8")
    for number, name in enumerate(("linked", "piped", "forged", "deep", "plain"), 1):
        run = RunFolder(runs / f"{number:04d}-{name}")
        run.path.mkdir()
        run.write_facts({"id": run.id, "title": "<img src=x>", "created": 1.0, "model_folder": str(place / "evil")})
        run.events.write_text('{"type": "launched", "kind": "train", "time": 1.0}\n', encoding="utf-8")
        run.job.write_text(json.dumps({"kind": "train", "arguments": {"run": str(run.path)}}), encoding="utf-8")
        run.log.write_text(f"$(touch {tmp_path / 'ran'})\n", encoding="utf-8")
        run.recipe.write_text('[data]\nfiles = ["/dev/zero", "/dev/stdin"]\n', encoding="utf-8")
        run.adapter.mkdir()
        (run.adapter / "adapter_model.bin").write_bytes(pickle.dumps(print))
        (run.adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    linked, piped, forged, deep = (RunFolder(path) for path in sorted(runs.iterdir())[:4])
    for path in (linked.log, linked.set_aside, linked.held_out, linked.path / "notes.json", linked.evaluation):
        path.unlink(missing_ok=True)
        path.symlink_to(outside / "private.txt")
    (linked.path / "checkpoints").symlink_to(outside)
    (linked.path / "jobs").symlink_to(outside)
    for path in (piped.log, piped.evaluation, piped.path / "notes.json", piped.path / "environment.json"):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    known = {"pid": os.getppid(), "mark": "x", "memory_kills": {"file": str(outside / "private.txt"), "count": 0}}
    (forged.path / "process.json").write_text(json.dumps(known), encoding="utf-8")
    (forged.path / "stop.json").write_text('{"rung": "killed"}', encoding="utf-8")
    for name in ("notes.json", "evaluation.json", "exports.json", "environment.json", "recipe.run.toml"):
        (deep.path / name).write_text("a = " * name.endswith("toml") + "[" * 100_000, encoding="utf-8")
    return place


def test_a_model_with_code_and_pickles_ends_a_run_with_a_sentence(stranger: Path, tmp_path: Path) -> None:
    """The real worker, told by a stranger's recipe to train such a model."""
    run = RunFolder(sorted((stranger / "runs").iterdir())[4])
    evil = stranger / "evil"
    auto = {"AutoConfig": "modeling_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
    (evil / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto}), encoding="utf-8")
    (evil / "pytorch_model.bin").write_bytes(pickle.dumps(print))
    rows = stranger / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n', encoding="utf-8")
    run.recipe.write_text(f'[model]\nsource = "{evil}"\n[data]\nfiles = ["{rows}"]\n', encoding="utf-8")
    start_job(run, "train", {"run": str(run.path)})
    deadline = time.monotonic() + 60
    while is_alive(run):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    state = replay(run)
    assert state.status == "failed"
    assert state.failure is not None
    assert {"model.pickled", "model.unsupported"} & {problem.code for problem in state.failure.problems}
    assert not (tmp_path / "ran").exists()


def test_a_recipe_of_a_stranger_names_no_data_that_is_waited_for(tmp_path: Path) -> None:
    from engine.data.files import Bytes

    os.mkfifo(tmp_path / "rows.jsonl")
    for path in (tmp_path / "rows.jsonl", Path("/dev/zero")):
        with pytest.raises(UserError) as caught:
            Bytes(path)
        assert caught.value.problem.code == "data.no_file"
