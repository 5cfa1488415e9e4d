"""Any export checked again: a GGUF, a folder, what is not one; as a job and as a command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine import commands
from engine.export.adapter_work import export_adapter
from engine.export.check_work import check_export, kind_of
from engine.export.gguf_adapter_work import export_gguf_adapter
from engine.export.gguf_head import head, is_adapter, type_of
from engine.export.gguf_work import export_gguf
from engine.export.ledger import listed
from engine.export.parity import Parity
from engine.merge.adapter import merge
from engine.project.atomic import read_json, write_json, write_text
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import UserError
from engine.protocol.events import Note, Progress, Stage
from tests.unit.export.broken import set_number


def checked(run: RunFolder, path: Path) -> Parity:
    return Parity.of(check_export(run, path, Recorder())["parity"])


@pytest.fixture(scope="module")
def merged(stories_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's merged weights."""
    folder = tmp_path_factory.mktemp("merged")
    run = RunFolder(Path(shutil.copytree(stories_run.path, folder / "run")))
    return Path(merge(run, folder / "model", Recorder())["folder"])


def test_a_gguf_that_is_spoiled_later(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "model.gguf"
    export_gguf(run, path, "Q8_0", Recorder())
    channel = Recorder()
    found = check_export(run, path.parent, channel)  # the folder holds just one
    assert (found["file"], found["kind"], found["type"]) == (str(path), "gguf", "Q8_0")
    assert found["parity"]["passed"] is True
    assert [event.name for event in channel.events if isinstance(event, Stage)] == ["check"]
    shares = [event.done / event.total for event in channel.events if isinstance(event, Progress)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    set_number(path, "llama.rope.freq_base", 500.0)
    channel = Recorder()
    assert check_export(run, path, channel)["parity"]["passed"] is False
    assert [event.code for event in channel.events if isinstance(event, Note)] == ["export.differs"]
    assert listed(run)[0].checked.kinds == ("weights",)
    assert path.with_name("model.gguf.DO-NOT-USE.txt").is_file()


def test_what_is_no_export_of_the_run_is_checked_but_not_listed(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    export_gguf(run, path, "F16", Recorder())
    set_number(path, "llama.rope.freq_base", 500.0)
    copied = Path(shutil.copyfile(path, tmp_path / "copied.gguf"))
    assert checked(run, copied).passed is False
    assert [item.file for item in listed(run)] == [str(path)]
    assert not copied.with_name("copied.gguf.DO-NOT-USE.txt").exists()


def test_merged_weights(run: RunFolder, merged: Path, tmp_path: Path) -> None:
    assert checked(run, merged).passed is True
    other = Path(shutil.copytree(merged, tmp_path / "other"))
    weights = load_file(other / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= 1.3
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    parity = checked(run, other)
    assert (parity.passed, parity.kinds) == (False, ("weights",))
    assert parity.runtime.startswith("transformers 5")


@pytest.mark.parametrize("kind", ["template", "stop", "tokenizer", "file"])
def test_what_a_folder_can_have_wrong(run: RunFolder, merged: Path, tmp_path: Path, kind: str) -> None:
    other = Path(shutil.copytree(merged, tmp_path / "other"))
    if kind == "template":
        write_text(other / "chat_template.jinja", "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    elif kind == "stop":
        write_json(other / "generation_config.json", {"eos_token_id": 77})
    elif kind == "tokenizer":
        tokenizer = read_json(other / "tokenizer.json")
        tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-60]
        write_json(other / "tokenizer.json", tokenizer)
    else:
        whole = (other / "model.safetensors").read_bytes()
        (other / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    parity = checked(run, other)
    assert (parity.passed, parity.kinds) == (False, (kind,))
    assert parity.differs[0].text
    assert parity.differs[0].hint


def test_an_adapter(run: RunFolder, tmp_path: Path) -> None:
    folder = Path(export_adapter(run, tmp_path / "adapter", Recorder())["folder"])
    assert checked(run, folder).passed is True
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: torch.zeros_like(value) for name, value in weights.items()}, folder / "adapter_model.safetensors")
    parity = checked(run, folder)
    assert (parity.passed, parity.kinds, parity.type) == (False, ("weights",), "adapter")
    assert (folder / "DO-NOT-USE.txt").is_file()
    # It may be exported again over the one that is marked.
    assert export_adapter(run, folder, Recorder())["parity"]["passed"] is True
    assert not (folder / "DO-NOT-USE.txt").exists()


def test_a_gguf_of_an_adapter(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "adapter.gguf"
    assert export_gguf_adapter(run, path, Recorder())["parity"]["passed"] is True
    assert kind_of(path) == ("gguf-adapter", "")
    found = check_export(run, path, Recorder())
    assert (found["kind"], found["parity"]["passed"]) == ("gguf-adapter", True)
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix == ".base"] == []


def test_what_cannot_be_checked_is_told(run: RunFolder, tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "text.gguf").write_text("not one", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for name in ("text.gguf", "empty", "absent"):
        with pytest.raises(UserError) as caught:
            check_export(run, tmp_path / name, Recorder())
        assert caught.value.problem.code == "check.nothing"
    for path in sorted((shared_data / "broken").glob("*.gguf")):
        assert checked(run, path).kinds == ("file",)


def test_the_head_of_a_file_that_lies(tmp_path: Path, run: RunFolder) -> None:
    path = tmp_path / "model.gguf"
    export_gguf(run, path, "F16", Recorder())
    facts = head(path) or {}
    assert (type_of(facts), is_adapter(facts)) == ("F16", False)
    whole = path.read_bytes()
    for length in (0, 3, 4, 8, 20, 24, 40, 100, 900):
        path.write_bytes(whole[:length])
        assert head(path) is None or isinstance(head(path), dict)
    huge = (2**63).to_bytes(8, "little")
    path.write_bytes(whole[:16] + huge + huge + b"x" * 100)
    assert head(path) == {}
    nested = b"\x01" + b"\0" * 7 + b"k" + (9).to_bytes(4, "little") + (9).to_bytes(4, "little") + huge
    path.write_bytes(whole[:16] + (1).to_bytes(8, "little") + nested)
    assert head(path) == {}


def test_the_command_says_it_by_its_exit_code(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIMER_HOME", str(tmp_path / "home"))
    path = tmp_path / "model.gguf"
    export_gguf(run, path, "F16", Recorder())
    given = ["check", str(path), "--run", str(run.path), "--json"]
    set_number(path, "tokenizer.ggml.eos_token_id", 300)
    set_number(path, "llama.rope.freq_base", 500.0)
    assert commands.run(given) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["parity"]["passed"] is False
    assert "weights" in [item["kind"] for item in document["parity"]["differs"]]
    assert document["parity"]["differs"][0]["text"].endswith(".")
    assert document["error"]["code"] == "export.differs"
    assert document["error"]["message"].startswith("Do not use it: ")
