"""A run as a GGUF: runs in llama.cpp, agrees, stops; and what is wrong is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from engine.data.template import choose_template
from engine.export import gguf_arch, gguf_work
from engine.export.gguf_work import export_gguf
from engine.export.ledger import listed
from engine.export.llama_cpp import loaded
from engine.project.atomic import read_json, write_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import STOP, Command, Note, Progress, Stage


def text(reader: GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    return None if field is None else field.contents()


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_K_M"])
def test_a_real_model_agrees(run: RunFolder, tmp_path: Path, kind: str) -> None:
    channel = Recorder()
    result = export_gguf(run, tmp_path / "out" / "model.gguf", kind.lower(), channel)
    path = Path(result["file"])
    assert path.is_absolute()
    assert result["bytes"] == path.stat().st_size
    parity = result["parity"]
    assert parity["passed"] is True
    assert parity["prompts"] == 4
    assert parity["tokenizer_equal"]
    assert parity["template_equal"]
    assert parity["stops_equal"]
    assert parity["agreement"] >= parity["limit"]
    if kind == "F16":
        assert parity["greedy_equal"] == 1.0
    assert [event.name for event in channel.events if isinstance(event, Stage)] == ["gguf", "check"]
    last = [event for event in channel.events if isinstance(event, Progress)][-1]
    assert last.done == last.total > 0
    assert not [event for event in channel.events if isinstance(event, Note)]
    assert [(export.kind, export.type, export.passed) for export in listed(run)] == [("gguf", kind, True)]
    assert [entry.name for entry in path.parent.iterdir()] == ["model.gguf"]


def test_what_the_file_says_of_itself(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    export_gguf(run, path, "Q4_K_M", Recorder())
    reader = GGUFReader(path)
    expected = {
        "general.architecture": "llama", "llama.context_length": 512, "llama.embedding_length": 64,
        "llama.block_count": 5, "llama.feed_forward_length": 172, "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 4, "llama.attention.key_length": 8, "llama.vocab_size": 512,
        "llama.rope.dimension_count": 8, "general.file_type": 15, "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": None, "general.quantization_version": 2,
    }  # fmt: skip
    assert {name: text(reader, name) for name in expected} == expected
    assert text(reader, "llama.attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    assert text(reader, "llama.rope.freq_base") == 10000.0
    template = text(reader, "tokenizer.chat_template")
    assert template == choose_template(run.adapter).source_without_marks
    assert "generation" not in template.replace("add_generation_prompt", "")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    # Widths of 64 and 172 fit no K-quant; llama.cpp falls back to the same types.
    assert kinds["token_embd.weight"] == "Q8_0"
    assert kinds["blk.0.attn_q.weight"] == "Q5_0"
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert "output.weight" not in kinds


def test_without_held_out_rows_general_prompts_are_asked(run: RunFolder, tmp_path: Path) -> None:
    run.held_out.unlink()
    parity = export_gguf(run, tmp_path / "model.gguf", "F16", Recorder())["parity"]
    assert parity["passed"] is True
    assert parity["prompts"] >= 5
    assert parity["tokens"] > 25


def test_wrong_weights_are_kept_but_marked(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_arch, "permuted", lambda values, heads: values)
    channel = Recorder()
    result = export_gguf(run, tmp_path / "model.gguf", "F16", channel)
    assert result["parity"]["passed"] is False
    assert result["parity"]["agreement"] < 0.9
    assert Path(result["file"]).is_file()
    notes = [event for event in channel.events if isinstance(event, Note)]
    assert [note.code for note in notes] == ["export.differs"]
    assert "Do not use" in notes[0].text.en
    assert "请勿使用" in notes[0].text.zh
    assert listed(run)[0].passed is False


def test_a_wrong_tokenizer_is_noticed(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.export.gguf_tokenizer.Pieces.of", lambda *folders: None)
    monkeypatch.setattr("engine.export.gguf_tokenizer._scores", lambda tokens, types, merges: [0.0] * len(tokens))
    channel = Recorder()
    parity = export_gguf(run, tmp_path / "model.gguf", "F16", channel)["parity"]
    assert parity["tokenizer_equal"] is False
    assert parity["passed"] is False
    assert "tokens" in next(event for event in channel.events if isinstance(event, Note)).text.en


def test_a_file_llama_cpp_does_not_load_is_marked(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = gguf_work.write

    def cut(path: Path, *rest: Any) -> None:
        write(path, *rest)
        path.write_bytes(path.read_bytes()[:-50000])

    monkeypatch.setattr(gguf_work, "write", cut)
    channel = Recorder()
    parity = export_gguf(run, tmp_path / "model.gguf", "F16", channel)["parity"]
    assert parity["passed"] is False
    assert [item["kind"] for item in parity["differs"]] == ["file"]
    assert "llama.cpp cannot run the GGUF" in parity["differs"][0]["text"]["en"]
    assert [event.code for event in channel.events if isinstance(event, Note)] == ["export.differs"]
    assert listed(run)[0].passed is False


def test_without_memory_it_says_that_nothing_was_checked(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.export.gguf_check.place_that_fits", lambda base: None)
    channel = Recorder()
    parity = export_gguf(run, tmp_path / "model.gguf", "F16", channel)["parity"]
    assert parity["passed"] is None
    assert [event.code for event in channel.events if isinstance(event, Note)] == ["export.unchecked"]


def test_files_of_the_user_are_not_touched(run: RunFolder, tmp_path: Path) -> None:
    mine = tmp_path / "model.gguf"
    mine.write_bytes(b"GGUF of somebody else")
    with pytest.raises(UserError) as caught:
        export_gguf(run, mine, "F16", Recorder())
    assert caught.value.problem.code == "export.occupied"
    assert mine.read_bytes() == b"GGUF of somebody else"
    folder = tmp_path / "folder.gguf"
    folder.mkdir()
    with pytest.raises(UserError, match="already holds"):
        export_gguf(run, folder, "F16", Recorder())


def test_an_earlier_export_is_replaced(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "out" / "model.gguf"
    first = export_gguf(run, path, "F16", Recorder())
    second = export_gguf(run, path, "Q8_0", Recorder())
    assert second["bytes"] < first["bytes"]
    assert [entry.name for entry in path.parent.iterdir()] == ["model.gguf"]
    assert [export.type for export in listed(run)] == ["Q8_0"]


def test_a_stop_leaves_nothing(run: RunFolder, tmp_path: Path) -> None:
    channel = Recorder()
    channel.pending = [Command(name=STOP)]
    with pytest.raises(Stopped):
        export_gguf(run, tmp_path / "out" / "model.gguf", "F16", channel)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.export.gguf_write.put", full)
    with pytest.raises(UserError) as caught:
        export_gguf(run, tmp_path / "out" / "model.gguf", "F16", Recorder())
    assert caught.value.problem.code == "disk.full"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("quantize", ["Q3_K", ""])
def test_an_unknown_type_is_told(run: RunFolder, tmp_path: Path, quantize: str) -> None:
    with pytest.raises(UserError) as caught:
        export_gguf(run, tmp_path / "model.gguf", quantize, Recorder())
    assert caught.value.problem.code == "export.unknown_type"
    assert "Q4_K_M" in caught.value.problem.hint.en


def test_another_architecture_is_told_before_anything_is_written(run: RunFolder, stories: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(stories, tmp_path / "base", copy_function=shutil.copyfile))
    base.chmod(0o755)
    config = read_json(base / "config.json")
    write_json(base / "config.json", {**config, "architectures": ["GPT2LMHeadModel"]})
    run.write_facts({**run.read_facts(), "model_folder": str(base)})
    with pytest.raises(UserError) as caught:
        export_gguf(run, tmp_path / "model.gguf", "F16", Recorder())
    assert caught.value.problem.code == "export.architecture"
    assert not (tmp_path / "model.gguf").exists()


def test_a_corrupt_gguf_is_an_error_and_no_crash(shared_data: Path) -> None:
    broken = sorted((shared_data / "broken").glob("*.gguf"))
    assert broken
    for path in broken:
        with pytest.raises(UserError, match="cannot run"), loaded(path, 64):
            pass
