"""``lorimer export``, ``serve``, ``servers`` and ``upload``: real processes on a small run, one export for all."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.export.ledger import Export, listed, remember
from engine.export.serve import running
from engine.host.platform import current
from engine.project.run_folder import RunFolder
from tests.played_hub import playing
from tests.unit.export.moved import moved
from tests.unit.merge.made import hold_out, lora, trained_run

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_of_ada_who_may_write"


@pytest.fixture(scope="module")
def made(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on the starter, with a recipe, whose folder for Ollama was exported by the command."""
    run = trained_run(tmp_path_factory.mktemp("made") / "runs" / "0001-made", starter, lora(), stops=(3,), size=0.02)
    run.recipe.write_text('[model]\nsource = "starter"\n', encoding="utf-8")
    hold_out(run, (("Hello!", "Hi!"), ("Where is the ball?", "It is in the park.")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORIMER_HOME", str(tmp_path_factory.mktemp("home")))
        assert main(["export", str(run.path), "--to", "ollama", "--quantize", "f16", "--json"]) == 0
    return run


@pytest.fixture
def run(made: RunFolder, tmp_path: Path) -> RunFolder:
    return moved(made, tmp_path / "runs" / "0001-made")


def call(capsys: Capture, *arguments: object, code: int = 0) -> Any:
    """The document of a command."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_without_a_place_it_goes_into_the_runs_own_folder(run: RunFolder) -> None:
    folder = run.exports / "made-ollama"
    assert {path.name for path in folder.iterdir()} == {"Modelfile", "made.gguf", "made.md"}
    assert [(known.kind, known.type, known.passed) for known in listed(run)] == [("gguf", "F16", True)]


def test_lm_studio(run: RunFolder, tmp_path: Path, capsys: Capture) -> None:
    remember(run, Export("gguf", "F16", str(run.exports / "made-f16.gguf"), 1, 1.0))
    told = call(
        capsys, "export", run.path, "--to", "lmstudio", "--quantize", "f16", "--models-folder", tmp_path / "models",
        "--name", "clinic",
    )  # fmt: skip
    assert Path(told["file"]) == tmp_path / "models" / "lorimer" / "clinic" / "made-f16.gguf"
    assert told["way"] == "linked"
    assert told["parity"]["passed"] is True


def test_another_architecture_is_told_before_its_weights_are_looked_at(
    run: RunFolder, tmp_path: Path, capsys: Capture
) -> None:
    config = json.loads((Path(run.read_facts()["model_folder"]) / "config.json").read_text())
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({**config, "architectures": ["OtherForCausalLM"]}))
    run.write_facts({**run.read_facts(), "model_folder": str(base)})
    told = call(capsys, "export", run.path, code=2)["error"]
    assert told["code"] == "export.architecture"
    assert "--llama-cpp" in told["hint"]


# --------------------------------------------------------------------------------------------------------------- serve
def models_of(address: str, key: str) -> list[str]:
    connection = http.client.HTTPConnection(address.removeprefix("http://").removesuffix("/v1"), timeout=30)
    connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
    reply = json.loads(connection.getresponse().read())
    connection.close()
    return [model["id"] for model in reply["data"]]


def test_a_server_that_stays_is_listed_and_stopped(run: RunFolder, capsys: Capture) -> None:
    told = call(capsys, "serve", run.path, "--stay", "--context", "256", "--name", "clinic")
    try:
        assert models_of(told["address"], told["key"]) == ["clinic"]
        assert (told["context"], told["stays"]) == (256, True)
        assert told["file"] == str(run.exports / "made-ollama" / "made.gguf")
        assert [each["address"] for each in call(capsys, "servers")["servers"]] == [told["address"]]
        port = told["address"].rsplit(":", 1)[1].removesuffix("/v1")
        assert call(capsys, "serve", run.path, "--port", port, code=1)["error"]["code"] == "serve.port"
        assert call(capsys, "servers", "stop", "http://127.0.0.1:1", code=2)["error"]["code"] == "serve.none"
    finally:
        stopped = call(capsys, "servers", "stop")["stopped"]
    assert stopped == [told["address"]]
    assert running() == ()
    assert call(capsys, "servers", "list")["servers"] == []


@pytest.mark.skipif(current() == "windows", reason="Ctrl+C is sent otherwise there")
def _hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_is_how_it_ends(run: RunFolder, lorimer_home: Path) -> None:
    file = run.exports / "made-ollama" / "made.gguf"
    command = [sys.executable, "-m", "engine.cli", "serve", str(file), "--key", "ask"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # Whoever runs the tests in the background has them ignore Ctrl+C, and their children with them.
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=_hear_ctrl_c, **pipes)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("my-own-key\n")
    process.stdin.close()
    try:
        first = process.stdout.readline()
        assert first.startswith("Listening on http://127.0.0.1:")
        assert models_of(first.split()[2], "my-own-key") == ["made"]
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(20) == 0
        assert "my-own-key" in rest
        assert "Ctrl+C" in rest
    finally:
        process.stdout.close()
        process.kill()
        process.wait()
    end = time.monotonic() + 10
    while running() and time.monotonic() < end:
        time.sleep(0.05)
    assert running() == ()


def test_a_key_that_is_none(run: RunFolder, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("short", "with a blank in it\n", "密钥密钥密钥密钥密钥"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        assert call(capsys, "serve", run.path, "--key", "ask", code=2)["error"]["code"] in ("serve.key",)
    assert running() == ()


# -------------------------------------------------------------------------------------------------------------- upload
def test_an_upload_tells_its_files_first(run: RunFolder, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    file = run.exports / "made-ollama" / "made.gguf"
    with playing() as hub:
        hub.token = TOKEN
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        capsys.readouterr()
        assert main(["upload", str(file), "--repo", "ada/clinic", "--json"]) == 0
        out, err = capsys.readouterr()
        told = json.loads(out)
        assert err.index("To ada/clinic (private)") < err.index("made.gguf") < err.index("Sending")
        assert [each["name"] for each in told["files"]] == ["README.md", "made.gguf"]
        assert hub.private == {"ada/clinic": True}
        assert set(hub.repositories["ada/clinic"]) == {"README.md", "made.gguf"}
        assert call(capsys, "upload", file, "--repo", "no name", code=2)["error"]["code"] == "upload.repo"
        assert call(capsys, "upload", file, "--repo", "ada/clinic2", "--public")["private"] is False
        log = "".join(path.read_text(errors="replace") for path in run.jobs.rglob("*") if path.is_file())
        assert TOKEN not in log + err + out


def test_the_environment_of_jobs_is_left_alone() -> None:
    assert os.environ.get("HF_HUB_DISABLE_XET") is None
