"""The whole path by command line, as a person types it: real model, real data, real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK = """
[model]
source = {model}
[data]
files = [{data}]
max_length = 256
held_out = 0.05
[method]
name = "{method}"
{fields}
[train]
max_steps = 12
batch_size = 4
accumulation = 1
learning_rate = 1e-3
evaluate_every = 6
[evaluate]
rows = 6
max_new_tokens = 24
probe_items = 5
"""


def lorimer(*arguments: str | Path, folder: Path | None = None, seconds: float = 240) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON document of one command."""
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli", *map(str, arguments), "--json"],
        cwd=folder or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def recipe(path: Path, *, model: str, data: Path, method: str = "qlora", fields: str = "rank = 8") -> Path:
    path.write_text(
        QUICK.format(model=json.dumps(model), data=json.dumps(str(data)), method=method, fields=fields),
        encoding="utf-8",
    )
    return path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dataset", ["llama-factory/alpaca_en_demo.json", "gsm8k/train.jsonl"])
def test_a_real_base_model_on_real_data(tmp_path: Path, shared_data: Path, dataset: str) -> None:
    model, data = str(shared_data / "models" / "stories260K"), shared_data / "datasets" / dataset

    code, checked = lorimer("data", "check", data, "--model", model)
    assert code == 0
    assert checked["rows"] == checked["trainable"] + sum(checked["set_aside"].values())
    assert checked["template"]["reason"], "the template that is chosen for a base model is announced"

    code, plan = lorimer("plan", "--model", model, "--data", data, "--out", tmp_path / "plan.toml")
    assert (code, plan["fits"]) == (0, True)
    parts = {name: value for name, value in plan["memory_gib"].items() if name != "total"}
    assert plan["memory_gib"]["total"] == pytest.approx(sum(parts.values()), abs=0.01)
    assert (tmp_path / "plan.toml").exists()

    recipe(tmp_path / "r.toml", model=model, data=data)
    code, trained = lorimer("run", tmp_path / "r.toml", folder=tmp_path)
    assert (code, trained["status"], trained["steps"]) == (0, "done", 12)
    run = Path(trained["run"])
    assert run.parent.parent == tmp_path / "lorimer-project"

    code, measured = lorimer("evaluate", run)
    assert code == 0
    assert measured["tuned"]["loss"] < measured["base"]["loss"]
    assert set(measured["base"]) >= {"loss", "perplexity", "token_accuracy", "exact_match", "rouge_l"}

    code, _ = lorimer("merge", run, "--out", tmp_path / "merged")
    assert code == 0
    assert (tmp_path / "merged" / "model.safetensors").exists()

    code, exported = lorimer("export", run, "--to", "gguf", "--quantize", "f16", "--out", tmp_path / "m.gguf")
    assert (code, exported["file"], exported["bytes"]) == (
        0,
        str(tmp_path / "m.gguf"),
        (tmp_path / "m.gguf").stat().st_size,
    )
    assert exported["parity"]["passed"], exported["parity"]

    code, exported = lorimer("export", run, "--to", "gguf-adapter", "--out", tmp_path / "a.gguf")
    assert (code, exported["file"], exported["parity"]["passed"]) == (0, str(tmp_path / "a.gguf"), True)

    code, answers = lorimer("chat", run, "--prompt", "Tell me a story.")
    assert code == 0
    assert [side["name"] for side in answers["sides"]] == ["base", "tuned"]
    assert answers["base"] != answers["tuned"]


def test_a_preference_run(tmp_path: Path, shared_data: Path) -> None:
    data = shared_data / "datasets" / "llama-factory" / "dpo_en_demo.json"
    path = recipe(tmp_path / "r.toml", model="starter", data=data, method="lora")
    text = path.read_text().replace("max_steps = 12", "max_steps = 2").replace("batch_size = 4", "batch_size = 1")
    path.write_text('[objective]\nname = "dpo"\n' + text, encoding="utf-8")
    code, trained = lorimer("run", path, "--project", tmp_path / "p")
    assert (code, trained["status"]) == (0, "done"), trained
    code, measured = lorimer("evaluate", trained["run"], "--rows", "3")
    assert code == 0, measured
    assert 0 <= measured["tuned"]["preference_accuracy"] <= 1


def test_interrupted_by_the_keyboard_it_saves_and_can_go_on(tmp_path: Path, starter: Path) -> None:
    data = ROOT / "resources" / "samples" / "orders_en.jsonl"
    path = recipe(tmp_path / "r.toml", model="starter", data=data, method="lora")
    path.write_text(
        path.read_text()
        .replace("max_steps = 12", "max_steps = 20000")
        .replace("evaluate_every = 6", "evaluate_every = 20000")
    )
    # Tests started in the background of a shell ignore Ctrl+C, and what they start would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", "run", str(path), "--project", str(tmp_path / "p"), "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    events = tmp_path / "p" / "runs"
    deadline = time.monotonic() + 90
    while not any('"type": "step"' in file.read_text() for file in events.glob("*/events.jsonl")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    document = json.loads(process.communicate(timeout=90)[0])
    assert process.returncode == 130
    assert document["status"] == "stopped"
    assert document["error"]["code"] == "interrupted"
    assert "lorimer resume" in document["error"]["hint"]
    assert 0 < document["steps"] < 400
    run = Path(document["run"])
    assert list((run / "checkpoints").glob("step-*/manifest.json"))
    assert (run / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["plan"], 2),
        (["teleport"], 2),
        (["run", "gone.toml"], 2),
        (["resume", "gone"], 2),
        (["evaluate", "."], 2),
        (["data", "check", "gone.json"], 2),
        (["data", "check", "README.md", "--model", "gone-model-folder/"], 2),
        (["chat", "gone", "--prompt", "x"], 2),
    ],
)
def test_bad_input_is_a_sentence(arguments: list[str], code: int) -> None:
    exit_code, document = lorimer(*arguments)
    assert exit_code == code
    error = document["error"]
    assert error["code"]
    assert len(error["message"]) > 10
    assert error["hint"] or error["problems"]


def test_a_recipe_with_a_typo_names_every_problem(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[train]\nepoch = 2\n[method]\nname = "qlora"\nrank = -8\n', encoding="utf-8")
    code, document = lorimer("run", tmp_path / "r.toml", "--project", tmp_path / "p")
    assert code == 2
    found = {problem["where"]: problem for problem in document["error"]["problems"]}
    assert set(found) == {"train.epoch", "method.rank"}
    assert found["train.epoch"]["hint"] == 'Did you mean "epochs"?'
    assert not (tmp_path / "p").exists()


def test_doctor_speaks_of_this_machine() -> None:
    code, report = lorimer("doctor")
    assert code == 0
    assert "problems" in report
