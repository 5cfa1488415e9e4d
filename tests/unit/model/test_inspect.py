"""What is said of a model's folder: a sound one, and each way in which one can be unusable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.model.inspect import CONFIG, INDEX, SINGLE, inspect, licence, model_name
from engine.model.weights_header import Damaged, read_header
from engine.protocol.codec import to_plain
from engine.protocol.errors import UserError


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    """A copy of a very small model, to be broken."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def problems(folder: Path) -> dict[str, str]:
    """Code → sentence of all that is wrong."""
    with pytest.raises(UserError) as caught:
        inspect(folder)
    assert caught.value.exit_code == 2
    found = caught.value.problems or (caught.value.problem,)
    assert all(problem.message.zh and problem.hint for problem in found)
    return {problem.code: problem.message.en for problem in found}


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    plain = json.loads(path.read_text(encoding="utf-8"))
    edit(plain)
    path.write_text(json.dumps(plain), encoding="utf-8")


def split(folder: Path) -> list[str]:
    """The single weights file as two shards with an index."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / SINGLE)
    names = sorted(tensors)
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    for shard, half in zip(shards, halves, strict=True):
        save_file({name: tensors[name] for name in half}, folder / shard)
    weight_map = {name: shard for shard, half in zip(shards, halves, strict=True) for name in half}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / SINGLE).unlink()
    return shards


# ----------------------------------------------------------------------------------------------------------- sound
def test_a_real_model(shared_data: Path) -> None:
    info = inspect(shared_data / "models" / "stories260K")
    assert (info.name, info.family, info.family_label) == ("stories260K", "llama", "Llama")
    assert (info.parameters, info.bytes, info.dtype) == (260_032, 1_044_992, "fp32")
    assert (info.context, info.layers, info.hidden, info.vocab, info.has_template) == (512, 5, 64, 512, False)
    assert info.dims.parameters() == info.parameters


def test_a_sound_model_in_plain_form(model: Path) -> None:
    info = inspect(model)
    plain = info.to_plain()
    assert to_plain(plain) == plain
    assert plain["path"] == str(model)
    assert "dims" not in plain
    assert info.dims.parameters() == info.parameters


def test_shards_count_as_one_model(model: Path) -> None:
    whole = inspect(model)
    split(model)
    sharded = inspect(model)
    assert (sharded.parameters, sharded.files) == (whole.parameters, 2)


def test_a_relative_path_and_the_home_folder_are_made_absolute(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert inspect(Path("model")).path == model
    monkeypatch.setenv("HOME", str(model.parent))
    assert inspect(Path("~/model")).path == model


def test_the_name_of_a_model_in_the_hub_cache() -> None:
    assert model_name(Path("/cache/models--Qwen--Qwen3-0.6B/snapshots/0123abc")) == "Qwen/Qwen3-0.6B"
    assert model_name(Path("/models/mine")) == "mine"


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- x\n---\n# Model", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: llama3.1\n---\n", "llama3.1"),
        ('---\nlicense: "mit"\n---\n', "mit"),
        ("# A card without a head\nlicense: mit", ""),
        (None, ""),
    ],
)
def test_the_licence_of_the_card(tmp_path: Path, card: str | None, expected: str) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert licence(tmp_path) == expected


def test_a_licence_file_is_better_than_nothing(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("MIT")
    assert licence(tmp_path) == "LICENSE"


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_template_is_found_in_either_place(model: Path, where: str) -> None:
    (model / "chat_template.jinja").unlink(missing_ok=True)
    change(model / "tokenizer_config.json", lambda plain: plain.pop("chat_template", None))
    assert not inspect(model).has_template
    if where.endswith(".jinja"):
        (model / where).write_text("{{ messages }}")
    else:
        change(model / where, lambda plain: plain.update(chat_template="{{ messages }}"))
    assert inspect(model).has_template


# --------------------------------------------------------------------------------------------------------- weights
def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        inspect(tmp_path / "nowhere")


def test_no_weights(model: Path) -> None:
    (model / SINGLE).unlink()
    assert "no safetensors" in problems(model)["model.no_weights"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_pickled_weights_are_refused_and_never_opened(model: Path, name: str) -> None:
    (model / SINGLE).unlink()
    (model / name).write_bytes(b"this would run")
    sentence = problems(model)["model.pickled"]
    assert name in sentence
    assert "any program" in sentence


def test_safetensors_beside_pickles_are_taken(model: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"never looked at")
    assert inspect(model).files == 1


def test_a_gguf_is_not_for_training(model: Path) -> None:
    (model / SINGLE).unlink()
    (model / "model.gguf").write_bytes(b"GGUF")
    assert "model.gguf" in problems(model)


def test_a_missing_shard_is_named(model: Path) -> None:
    shards = split(model)
    (model / shards[1]).unlink()
    assert shards[1] in problems(model)["model.missing_shard"]


def test_shards_without_their_index(model: Path) -> None:
    split(model)
    (model / INDEX).unlink()
    assert INDEX in problems(model)["model.no_index"]


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_a_damaged_index(model: Path, content: str) -> None:
    split(model)
    (model / INDEX).write_text(content)
    assert INDEX in problems(model)["model.damaged"]


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_a_file_that_was_not_copied_to_the_end(model: Path, kept: int) -> None:
    whole = (model / SINGLE).read_bytes()
    (model / SINGLE).write_bytes(whole[:kept])
    assert SINGLE in problems(model)["model.damaged"]


@pytest.mark.parametrize(
    "start",
    [
        b"\xff" * 8,
        (5).to_bytes(8, "little") + b"[1,2]",
        (2).to_bytes(8, "little") + b"{]",
        (17).to_bytes(8, "little") + b'{"a":{"dtype":1}}',
        b"<html>",
    ],
)
def test_a_damaged_header(model: Path, start: bytes) -> None:
    (model / SINGLE).write_bytes(start + b"\0" * 100)
    assert SINGLE in problems(model)["model.damaged"]


def test_a_file_with_more_than_its_header_tells(model: Path) -> None:
    (model / SINGLE).write_bytes((model / SINGLE).read_bytes() + b"more")
    with pytest.raises(Damaged, match="more than"):
        read_header(model / SINGLE)


def test_weights_of_another_model(model: Path) -> None:
    change(model / CONFIG, lambda plain: plain.update(num_hidden_layers=plain["num_hidden_layers"] + 1))
    assert "do not match" in problems(model)["model.mismatch"]


def test_an_embedding_of_another_size(model: Path) -> None:
    change(model / CONFIG, lambda plain: plain.update(vocab_size=plain["vocab_size"] + 1))
    assert "do not match" in problems(model)["model.mismatch"]


def test_quantised_weights_are_refused(model: Path) -> None:
    change(model / CONFIG, lambda plain: plain.update(quantization_config={"quant_method": "gptq"}))
    assert "already quantised" in problems(model)["model.quantised"]


def test_quantised_weights_without_a_word_in_the_config(model: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    tensors = load_file(model / SINGLE)
    name = next(name for name in tensors if "q_proj" in name)
    tensors[name] = np.zeros((4, 4), dtype=np.uint8)
    save_file(tensors, model / SINGLE)
    assert list(problems(model)) == ["model.quantised"]


# -------------------------------------------------------------------------------------------------- config, tokenizer
def test_no_config(model: Path) -> None:
    (model / CONFIG).unlink()
    assert "config.json" in problems(model)["model.no_config"]


@pytest.mark.parametrize("content", ["{", "[1]", "\x00"])
def test_a_damaged_config(model: Path, content: str) -> None:
    (model / CONFIG).write_text(content)
    assert "config.json" in problems(model)["model.config"]


def test_a_family_that_cannot_be_trained(model: Path) -> None:
    change(model / CONFIG, lambda plain: plain.update(model_type="whisper"))
    assert "whisper" in problems(model)["model.family"]


def test_a_tokenizer_that_does_not_load(model: Path, shared_data: Path) -> None:
    shutil.copy(shared_data / "broken" / "llama2-odd-merges.tokenizer.json", model / "tokenizer.json")
    (code,) = problems(model)
    assert code.startswith("tokenizer.")


def test_no_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    assert "tokenizer.json" in problems(model)["tokenizer.missing"]


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "is an adapter" in problems(tmp_path)["model.adapter"]


def test_everything_that_is_wrong_is_told_at_once(model: Path) -> None:
    (model / SINGLE).unlink()
    (model / "tokenizer.json").unlink()
    change(model / CONFIG, lambda plain: plain.pop("hidden_size"))
    assert set(problems(model)) == {"model.config", "model.no_weights", "tokenizer.missing"}
    with pytest.raises(UserError, match="3 things are wrong"):
        inspect(model)


def test_an_empty_folder(tmp_path: Path) -> None:
    assert set(problems(tmp_path)) == {"model.no_config", "model.no_weights", "tokenizer.missing"}
