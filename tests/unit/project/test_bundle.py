"""The bundle for a report: complete enough to help, and without data, weights, secrets or names."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from engine.machine.detect import Machine
from engine.machine.gpu import Gpu, GpuUser
from engine.project import withheld
from engine.project.bundle import Bundle, make_bundle, write_bundle
from engine.project.run_folder import RunFolder
from engine.project.secrets import Scrubber
from engine.project.withheld import LEFT_OUT, Withheld

TOKEN = "hf_" + "QwErTyUiOpAsDfGhJkLzXcVbNm123456"
ROWS = (
    "The patient in room fourteen asked for her medication twice last night",
    "昨天晚上十四号病房的病人两次要求服药，护士没有记录",
    "Account 4417-1234-5678 belongs to nobody you know",
)
MACHINE = Machine(
    gpus=(Gpu(0, "NVIDIA RTX 4090", total_gib=24.0, users=(GpuUser(7, "secret-game", 20.0),)),),
    cpu="AMD",
    cores=8,
    ram_total_gib=32.0,
    ram_free_gib=20.0,
    container_limit_gib=None,
    disk_path="/",
    disk_free_gib=100.0,
    platform="Linux-6.1-x86_64",
    python="3.11.9",
)
TRACE = """Traceback (most recent call last):
  File "/opt/lorimer/engine/train/run.py", line 99, in train
    prepared = prepare(recipe)
ValueError: cannot use row: {row}
2026-01-01 10:00:00,123 transformers.trainer WARNING about {row}
step 12 went on
"""


def write(path: Path, *records: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def lines(path: Path) -> None:
    """All rows, as data files have them."""
    write(path, *({"instruction": row[:20], "output": row} for row in ROWS))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with a row and a secret in every file, name and field that could hold one."""
    made = RunFolder(tmp_path / "project" / "runs" / "0001-run")
    data = tmp_path / "rows.jsonl"
    lines(data)
    both = f"{ROWS[0]} {TOKEN} {ROWS[1]} {ROWS[2]}"
    text = {"en": both, "zh": ROWS[1]}
    made.path.mkdir(parents=True)
    recipe = f"""[model]\nsource = "starter"\n[data]\nfiles = ["{data}"]\nsystem = "{both}"\n[train]\nseed = 7\n"""
    made.recipe.write_text(recipe, encoding="utf-8")
    made.recipe_as_run.write_text(recipe, encoding="utf-8")
    write(made.facts, {"id": "0001-run", "title": both, "created": 1.5, "model_folder": str(Path.home() / "models")})
    write(made.path / "environment.json", [{"versions": {"torch": "2.0.0"}, "python": "3.11.9", both: both}])
    write(made.path / "exports.json", [{"file": both, "bytes": 7}])
    write(made.path / "notes.json", {"note": both})
    for job in (made.path, made.jobs / "001-evaluate"):
        write(job / "job.json", {"kind": "train", "arguments": {"run": both, both: 1}})
        write(job / "process.json", {"pid": 1, "mark": both})
        write(
            job / "events.jsonl",
            {"type": "launched", "kind": "train", "time": 1.0},
            {"type": "step", "step": 1, "steps": 2, "loss": 1.25, "epoch": 0.5, "learning_rate": 0.1, "time": 2.0},
            {"type": "note", "text": text, "code": "train.spike", "level": "warning", "step": 1},
            {"type": "result", "value": {"rows": [{"text": both}], both: both, "figure": 0.5}},
            {"type": "finished", "status": "failed", "failure": {
                "code": "train.spike", "message": text, "hint": text, "where": both, "exit_code": 1,
                "problems": [{"code": "train.row", "message": text, "where": "rows.jsonl:1"}],
                "details": TRACE.format(row=both),
            }},
        )  # fmt: skip
        with (job / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"{both}\n" + "[" * 50_000 + "\n")
        write(job / "commands.jsonl", {"name": "stop", "time": 3.0, "more": both})
        (job / "log.txt").write_text(TRACE.format(row=both) + f"Authorization: Bearer {TOKEN}\n", encoding="utf-8")
    for path in (made.held_out, made.set_aside, made.decisions, made.examples):
        lines(path)
    write(made.evaluation, {"base": {"loss": 1.5, "words": both}, "answers": [{"tuned": both}], "rows": 3})
    for name in ("adapter/adapter_model.safetensors", "checkpoints/step-000002/optimizer.pt", "scores.npy", "own.txt"):
        path = made.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(both, encoding="utf-8")
    return made


def contents(bundle: Bundle, out: Path) -> dict[str, str]:
    """Name → text of each file of the written ZIP."""
    write_bundle(bundle, out)
    with zipfile.ZipFile(out) as packed:
        assert packed.testzip() is None
        return {name: packed.read(name).decode("utf-8") for name in packed.namelist()}


def assert_clean(found: dict[str, str]) -> None:
    for name, text in found.items():
        told = f"{name} {text} {text.encode().decode('unicode_escape', 'replace')}"
        assert TOKEN not in told, name
        assert "secret-game" not in told, name
        for row in ROWS:
            for start in range(0, len(row) - 16, 4):
                assert row[start : start + 16] not in told, (name, row[start : start + 16])
        assert str(Path.home()) + "/" not in told, name


def test_it_holds_what_helps_and_neither_rows_nor_secrets(run: RunFolder, tmp_path: Path) -> None:
    bundle = make_bundle(run, machine=MACHINE)
    found = contents(bundle, tmp_path / "bundle.zip")
    assert_clean(found)
    assert not bundle.by_shape
    assert set(found) == {
        *("commands.jsonl", "doctor.json", "environment-now.json", "environment.json", "evaluation-figures.json"),
        *("events.jsonl", "exports.json", "files.json", "job.json", "log.txt", "manifest.json", "process.json"),
        *("recipe.run.toml", "recipe.toml", "run.json"),
        *(f"jobs/001-evaluate/{name}" for name in ("commands.jsonl", "events.jsonl", "job.json", "log.txt")),
        "jobs/001-evaluate/process.json",
    }
    events = [json.loads(line) for line in found["events.jsonl"].splitlines()]
    assert events[1]["loss"] == 1.25
    assert (events[2]["code"], events[2]["text"]["en"]) == ("train.spike", LEFT_OUT)
    assert events[3]["value"]["figure"] == 0.5
    assert [event["type"] for event in events[-2:]] == ["damaged", "damaged"]
    assert "ValueError" in events[4]["failure"]["details"]
    assert 'File "/opt/lorimer/engine/train/run.py", line 99, in train' in found["log.txt"]
    assert "2026-01-01 10:00:00,123 transformers.trainer WARNING" in found["log.txt"]
    assert "step 12 went on" in found["log.txt"]
    assert "seed = 7" in found["recipe.toml"]
    assert json.loads(found["evaluation-figures.json"]) == {"base": {"loss": 1.5}, "rows": 3}
    assert "torch" in json.loads(found["environment-now.json"])["versions"]
    assert json.loads(found["doctor.json"])["machine"]["gpus"][0]["users"] == 1


def test_the_list_of_files_has_sizes_and_hashes_of_small_ones_without_rows(run: RunFolder, tmp_path: Path) -> None:
    listed = json.loads(contents(make_bundle(run, machine=MACHINE), tmp_path / "b.zip")["files.json"])
    by_name = {item["name"]: item for item in listed}
    assert by_name["checkpoints/step-000002/optimizer.pt"]["bytes"] > 0
    assert len(by_name["adapter/adapter_model.safetensors"]["sha256"]) == 64
    assert "sha256" not in by_name["held_out.jsonl"]


def test_the_manifest_says_what_is_in_it_and_what_is_not(run: RunFolder, tmp_path: Path) -> None:
    bundle = make_bundle(run, machine=MACHINE)
    manifest = json.loads(contents(bundle, tmp_path / "b.zip")["manifest.json"])
    others = {entry.name: len(entry.content) for entry in bundle.entries if entry.name != "manifest.json"}
    assert {item["name"]: item["bytes"] for item in manifest["entries"]} == others
    assert all(item["about"] for item in manifest["entries"])
    assert any("held_out" in item["what"] for item in manifest["left_out"])
    assert manifest["texts"] == "compared_with_the_rows"


@pytest.mark.parametrize("why", ["packed", "moved", "other encoding", "too many", "damaged recipe", "hub", "deep"])
def test_where_rows_cannot_be_looked_through_only_the_shape_of_texts_is_kept(
    run: RunFolder, tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "rows.jsonl"
    for path in (run.held_out, run.set_aside, run.decisions, run.examples, run.evaluation):
        path.unlink()
    match why:
        case "packed" | "hub":
            name = "rows.parquet" if why == "packed" else "hub:owner/name"
            data.rename(tmp_path / "rows.parquet")
            for path in (run.recipe, run.recipe_as_run):
                path.write_text(path.read_text("utf-8").replace(str(data), str(tmp_path / name)), "utf-8")
        case "moved":
            data.unlink()
        case "other encoding":
            data.write_bytes(data.read_text("utf-8").encode("gb18030"))
        case "too many":
            monkeypatch.setattr(withheld, "MOST_BYTES", 10)
        case "deep":
            run.evaluation.write_text("[" * 100_000, "utf-8")
        case "damaged recipe":
            run.recipe.write_text(run.recipe.read_text("utf-8") + "\n[", "utf-8")
    bundle = make_bundle(run, machine=MACHINE)
    found = contents(bundle, tmp_path / "b.zip")
    assert bundle.by_shape
    assert_clean(found)
    events = [json.loads(line) for line in found["events.jsonl"].splitlines()]
    assert events[1]["loss"] == 1.25
    assert events[2] == {"type": "note", "text": {"en": LEFT_OUT, "zh": LEFT_OUT}, "code": "train.spike",
                         "level": "warning", "step": 1}  # fmt: skip
    assert events[4]["failure"]["code"] == "train.spike"
    assert 'File "/opt/lorimer/engine/train/run.py", line 99, in train' in found["log.txt"]
    assert "ValueError" in found["log.txt"]
    assert "went on" not in found["log.txt"]
    assert "seed = 7" in found["recipe.run.toml"]
    assert "2.0.0" in found["environment.json"]
    assert json.loads(found["manifest.json"])["texts"] == "by_shape"


def test_links_pipes_and_devices_of_a_strangers_run_are_not_read(run: RunFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "private.txt").write_text("only mine, and nobody else's", encoding="utf-8")
    (outside / "log.txt").write_text("only mine, and nobody else's", encoding="utf-8")
    run.log.unlink()
    run.log.symlink_to(outside / "private.txt")
    run.facts.unlink()
    os.mkfifo(run.facts)
    (run.path / "exports.json").unlink()
    (run.path / "exports.json").symlink_to("/dev/zero")
    run.recipe.write_text('[data]\nfiles = ["/dev/zero"]\n', encoding="utf-8")
    (run.jobs / "002-linked").symlink_to(outside)
    (run.path / "adapter" / "away").symlink_to(outside)
    bundle = make_bundle(run, machine=MACHINE)
    found = contents(bundle, tmp_path / "b.zip")
    assert not any("only mine" in text for text in found.values())
    assert not {"log.txt", "run.json", "exports.json", "jobs/002-linked/log.txt"} & set(found)
    listed = {item["name"]: item["kind"] for item in json.loads(found["files.json"])}
    assert (listed["log.txt"], listed["run.json"], listed["adapter/away"]) == ("link", "other", "link")
    assert "adapter/away/private.txt" not in listed


def test_a_very_long_record_is_cut_in_the_middle(run: RunFolder, tmp_path: Path) -> None:
    step = {"type": "step", "step": 1, "steps": 9, "loss": 1.0, "epoch": 0.5, "learning_rate": 0.1, "time": 2.0}
    write(run.events, *({**step, "step": number} for number in range(20_000)))
    found = contents(make_bundle(run, machine=MACHINE), tmp_path / "b.zip")
    events = [json.loads(line) for line in found["events.jsonl"].splitlines()]
    gap = next(number for number, event in enumerate(events) if event["type"] == "left_out")
    assert events[gap]["bytes"] > 0
    assert (events[0]["step"], events[-1]["step"]) == (0, 19_999)
    assert len(found["events.jsonl"]) < 2.5 * 2**20


def test_an_empty_folder_gives_what_there_is(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    bundle = make_bundle(run, machine=MACHINE, scrubber=Scrubber(()))
    found = contents(bundle, tmp_path / "b.zip")
    assert bundle.by_shape  # what it was trained on is not known
    assert set(found) == {"doctor.json", "environment-now.json", "files.json", "manifest.json"}


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("it says: patient in room fourteen asked", True),
        ("PATIENT-IN-ROOM-FOURTEEN-ASKED", True),
        ("错误：十四号病房的病人两次", True),
        ("id 4417 1234 5678", True),
        ("2026-11-30 10:00:00 went on", False),
        ("phone 555-1234 rang", True),
        ("the patient asked", False),
        ("loss 1.25 at step 12", False),
        ("", False),
    ],
)
def test_what_is_shared_with_a_row_is_found(tmp_path: Path, text: str, quoted: bool) -> None:
    write(
        tmp_path / "rows.jsonl",
        *({"a": row} for row in ROWS),
        {"a": "555-1234", "b": "yes", "c": [True, None, 3], "d": "on 2026-11-30"},
    )
    looked = Withheld([text], [tmp_path / "absent.jsonl"], [tmp_path])
    assert not looked.by_shape
    assert looked.quotes(text) is quoted


@pytest.mark.parametrize("name", ["rows.csv", "rows.txt", "rows.json"])
def test_other_plain_files_are_looked_through_too(tmp_path: Path, name: str) -> None:
    text = json.dumps([{"a": ROWS[0]}]) if name.endswith("json") else f'1,"{ROWS[0]}"\n'
    (tmp_path / name).write_text(text, encoding="utf-8")
    looked = Withheld([ROWS[0]], [], [tmp_path / name])
    assert not looked.by_shape
    assert looked.line(f"ValueError: {ROWS[0]}") == f"ValueError {LEFT_OUT}"
    assert looked.lines(f"{ROWS[0]}\n{ROWS[0]}\nfine\n") == f"{LEFT_OUT}\nfine\n"
