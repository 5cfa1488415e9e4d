"""Merging: equal to PEFT's own, shard by shard, complete or absent, and never over what is not ours."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from engine.export.ledger import listed
from engine.merge.adapter import merge, merge_folders
from engine.merge.changes import LowRank
from engine.merge.delta import Adapter
from engine.merge.place import MARK, check_space
from engine.merge.weights import INDEX
from engine.project.atomic import read_json, write_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import STOP, Command, Note, Progress, Stage
from tests.unit.merge.made import ATTENTION, CHATML, hold_out, ia3, lora, random_llama, trained_run

PAIRS = (("What is blue?", "The sky is blue."), ("你好", "你好，很高兴见到你。"))


@pytest.fixture(scope="module")
def tokenizer(repository: Path) -> Path:
    return repository / "resources" / "starter"


@pytest.fixture(scope="module")
def made(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and a run on it, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    made_run(folder / "run", random_llama(folder / "base", tokenizer), lora())
    return folder


@pytest.fixture
def base(tmp_path: Path, made: Path) -> Path:
    return Path(shutil.copytree(made / "base", tmp_path / "base"))


@pytest.fixture
def run(tmp_path: Path, made: Path, base: Path) -> RunFolder:
    copy = RunFolder(Path(shutil.copytree(made / "run", tmp_path / "run")))
    copy.write_facts({**copy.read_facts(), "model_folder": str(base)})
    return copy


def made_run(folder: Path, base: Path, config: Any) -> RunFolder:
    run = trained_run(folder, base, config, stops=(3,))
    hold_out(run, PAIRS)
    return run


def by_peft(base: Path, run: RunFolder) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    merged = PeftModel.from_pretrained(model, str(run.adapter)).merge_and_unload()
    weights: dict[str, torch.Tensor] = merged.state_dict()
    return weights


def ulps(ours: torch.Tensor, theirs: torch.Tensor) -> int:
    """Greatest distance in steps of a 16-bit float format (neighbours differ by one in their integer order)."""

    def order(values: torch.Tensor) -> torch.Tensor:
        bits = values.contiguous().view(torch.int16).to(torch.int32)
        return torch.where(bits < 0, -32768 - bits, bits)

    return int((order(ours) - order(theirs)).abs().max())


@pytest.mark.parametrize(
    "config",
    [
        lora(),
        lora(use_rslora=False, target_modules=ATTENTION),
        lora(rank_pattern={"q_proj": 2}, alpha_pattern={"layers.1.self_attn.v_proj": 3}, use_rslora=False),
        ia3(),
    ],
    ids=["rslora", "attention", "patterns", "ia3"],
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_equal_to_peft_within_one_ulp(tmp_path: Path, tokenizer: Path, config: Any, dtype: str) -> None:
    base = random_llama(tmp_path / "base", tokenizer, dtype=dtype, attention_bias=True)
    run = made_run(tmp_path / "run", base, config)
    merge(run, tmp_path / "out", Recorder())
    ours, theirs = load_file(tmp_path / "out" / "model.safetensors"), by_peft(base, run)
    changed = 0
    before = load_file(base / "model.safetensors")
    for name, weight in ours.items():
        assert weight.dtype == getattr(torch, dtype)
        assert ulps(weight, theirs[name]) <= 1, name
        changed += not torch.equal(weight, before[name])
    assert changed == len(Adapter.open(run.adapter).parts) + (4 if config.peft_type == "IA3" else 0)


def test_the_merge_is_a_complete_model_that_agrees(tmp_path: Path, tokenizer: Path) -> None:
    # Random weights choose by narrow margins; fp16 rounds eight times finer than bf16, so rounding decides nothing.
    base = random_llama(tmp_path / "base", tokenizer, dtype="float16")
    run = made_run(tmp_path / "run", base, lora())
    (run.adapter / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    channel = Recorder()
    result = merge(run, tmp_path / "out", channel)
    out = Path(result["folder"])
    assert out.is_absolute()
    assert {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    } <= set(result["files"])
    assert (out / "chat_template.jinja").read_text(encoding="utf-8") == CHATML
    assert read_json(out / "generation_config.json")["eos_token_id"] == [3]
    assert result["bytes"] == sum(path.stat().st_size for path in out.iterdir())
    assert result["parity"]["passed"] is True
    assert result["parity"]["prompts"] == len(PAIRS)
    assert result["parity"]["agreement"] >= 0.99
    assert [event.name for event in channel.events if isinstance(event, Stage)] == ["merge", "check"]
    last = [event for event in channel.events if isinstance(event, Progress)][-1]
    assert last.done == last.total > 0
    assert [(export.kind, export.file, export.passed) for export in listed(run)] == [("merged", str(out), True)]


def test_shards_stay_shards(tmp_path: Path, tokenizer: Path) -> None:
    base = random_llama(tmp_path / "base", tokenizer, shards="150KB")
    files = {path.name for path in base.glob("*.safetensors")}
    assert len(files) > 2
    run = made_run(tmp_path / "run", base, lora())
    merge(run, tmp_path / "out", Recorder())
    assert {path.name for path in (tmp_path / "out").glob("*.safetensors")} == files
    index = read_json(tmp_path / "out" / INDEX)
    assert index["weight_map"] == read_json(base / INDEX)["weight_map"]
    theirs = by_peft(base, run)
    for name, file in index["weight_map"].items():
        ours = load_file(tmp_path / "out" / file)[name]
        assert torch.allclose(ours.float(), theirs[name].float(), rtol=2**-7, atol=2e-3), name


def test_rows_are_merged_a_few_at_a_time(
    tmp_path: Path, base: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    original = LowRank.rows
    monkeypatch.setattr("engine.merge.changes.CHUNK", 64 * 8)

    def rows(self: LowRank, start: int, values: torch.Tensor) -> torch.Tensor:
        taken.append(values.numel())
        return original(self, start, values)

    monkeypatch.setattr(LowRank, "rows", rows)
    merge(run, tmp_path / "out", Recorder())
    assert max(taken) == 64 * 8
    ours, theirs = load_file(tmp_path / "out" / "model.safetensors"), by_peft(base, run)
    assert all(ulps(weight, theirs[name]) <= 1 for name, weight in ours.items())


def test_wrong_weights_are_told(tmp_path: Path, base: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Adapter, "scaling", lambda self, name: 0.5)
    channel = Recorder()
    result = merge(run, tmp_path / "out", channel)
    assert result["parity"]["passed"] is False
    assert [event.code for event in channel.events if isinstance(event, Note)] == ["merge.differs"]
    assert listed(run)[0].passed is False


def test_without_memory_it_says_that_nothing_was_checked(
    tmp_path: Path, base: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.merge.verify.place_that_fits", lambda base: None)
    channel = Recorder()
    result = merge(run, tmp_path / "out", channel)
    assert result["parity"]["passed"] is None
    assert "GiB" in result["parity"]["reason"]["en"]
    assert [event.code for event in channel.events if isinstance(event, Note)] == ["merge.unchecked"]
    assert listed(run)[0].passed is None


def test_files_of_the_user_are_not_touched(tmp_path: Path, base: Path, run: RunFolder) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError) as caught:
        merge(run, out, Recorder())
    assert caught.value.problem.code == "export.occupied"
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UserError, match="already holds"):
        merge(run, file, Recorder())
    assert file.read_text() == "mine"


def test_an_earlier_export_is_replaced_and_nothing_is_left_beside_it(
    tmp_path: Path, base: Path, run: RunFolder
) -> None:
    out = tmp_path / "place" / "out"
    merge(run, out, Recorder())
    (out / "config.json").write_text("damaged")
    merge(run, out, Recorder())
    assert read_json(out / MARK)["run"] == "run"
    assert read_json(out / "config.json")["model_type"] == "llama"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("change", ["a note of the user", "another kind", "another run"])
def test_only_the_very_same_export_is_replaced(tmp_path: Path, base: Path, run: RunFolder, change: str) -> None:
    out = tmp_path / "out"
    merge(run, out, Recorder())
    mark = read_json(out / MARK)
    if change == "a note of the user":
        (out / "note.txt").write_text("mine")
    elif change == "another kind":
        write_json(out / MARK, {**mark, "kind": "adapter"})
    else:
        write_json(out / MARK, {**mark, "run": "0007-other"})
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(UserError) as caught:
        merge(run, out, Recorder())
    assert caught.value.problem.code == "export.occupied"
    assert sorted(path.name for path in out.iterdir()) == before


def test_others_may_read_the_weights(tmp_path: Path, base: Path, run: RunFolder) -> None:
    merge(run, tmp_path / "out", Recorder())
    plain = tmp_path / "plain"
    plain.touch()
    assert {path.stat().st_mode for path in (tmp_path / "out").iterdir()} == {plain.stat().st_mode}


def test_other_base_weights_can_be_named(tmp_path: Path, base: Path, run: RunFolder) -> None:
    """As after training on quantised ones, or when they were moved."""
    moved = Path(shutil.copytree(base, tmp_path / "moved"))
    shutil.rmtree(base)
    with pytest.raises(UserError, match="not in"):
        merge(run, tmp_path / "out", Recorder())
    result = merge(run, tmp_path / "out", Recorder(), base_folder=moved)
    assert result["parity"]["passed"] is True
    (run.adapter / "adapter_config.json").unlink()
    with pytest.raises(UserError):
        merge(run, tmp_path / "other", Recorder(), base_folder=moved)


def test_an_adapter_is_merged_without_a_run(tmp_path: Path, base: Path, run: RunFolder) -> None:
    adapter = Path(shutil.copytree(run.adapter, tmp_path / "adapter"))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (adapter / name).unlink(missing_ok=True)
    out = tmp_path / "out"
    result = merge_folders(adapter, base, out, Recorder())
    assert result["parity"]["prompts"]
    assert not result["parity"]["held_out"]
    assert (out / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    ours, theirs = load_file(out / "model.safetensors"), by_peft(base, run)
    assert all(ulps(weight, theirs[name]) <= 1 for name, weight in ours.items())
    assert str(tmp_path) not in (out / MARK).read_text()
    with pytest.raises(UserError) as caught:
        merge_folders(run.adapter, base, out, Recorder())
    assert caught.value.problem.code == "export.occupied"


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_words_that_were_added_are_merged_and_compared(tmp_path: Path, tokenizer: Path) -> None:
    base = random_llama(tmp_path / "base", tokenizer, dtype="float16", tie_word_embeddings=True)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    words = model.config.vocab_size
    model.resize_token_embeddings(words + 1, pad_to_multiple_of=64, mean_resizing=False)
    get_peft_model(model, lora()).save_pretrained(str(tmp_path / "adapter"))
    result = merge_folders(tmp_path / "adapter", base, tmp_path / "out", Recorder())
    config = read_json(tmp_path / "out" / "config.json")
    assert (
        words
        < config["vocab_size"]
        == len(load_file(tmp_path / "out" / "model.safetensors")["model.embed_tokens.weight"])
    )
    assert config["tie_word_embeddings"] is True
    assert result["parity"]["agreement"] == result["parity"]["greedy_equal"] == 1


@pytest.mark.filterwarnings("ignore::UserWarning:peft")  # of how this adapter is made
def test_a_head_that_was_untied_stands_in_the_configuration(tmp_path: Path, tokenizer: Path) -> None:
    base = random_llama(tmp_path / "base", tokenizer, dtype="float16", tie_word_embeddings=True)
    run = made_run(tmp_path / "run", base, lora(target_modules=[*ATTENTION, "embed_tokens"], use_rslora=False))
    result = merge(run, tmp_path / "out", Recorder())
    assert result["parity"]["passed"] is True
    before, after = read_json(base / "config.json"), read_json(tmp_path / "out" / "config.json")
    assert before.pop("tie_word_embeddings") is True
    assert after.pop("tie_word_embeddings") is False
    assert after == before
    assert "lm_head.weight" in load_file(tmp_path / "out" / "model.safetensors")


def test_a_run_without_an_adapter_says_so(tmp_path: Path, base: Path, run: RunFolder) -> None:
    (run.adapter / "adapter_config.json").unlink()
    run.write_facts({"id": "run", "title": "run", "created": 0})
    with pytest.raises(UserError) as caught:
        merge(run, tmp_path / "out", Recorder())
    assert caught.value.problem.code == "run.no_adapter"


def test_a_stop_leaves_nothing(tmp_path: Path, base: Path, run: RunFolder) -> None:
    channel = Recorder()
    channel.pending = [Command(name=STOP)]
    with pytest.raises(Stopped):
        merge(run, tmp_path / "place" / "out", channel)
    assert list((tmp_path / "place").iterdir()) == []
    assert listed(run) == ()


def test_a_quantised_base_is_refused(tmp_path: Path, base: Path, run: RunFolder) -> None:
    config = read_json(base / "config.json")
    write_json(base / "config.json", {**config, "quantization_config": {"quant_method": "bitsandbytes"}})
    with pytest.raises(UserError) as caught:
        merge(run, tmp_path / "out", Recorder())
    assert caught.value.problem.code == "base.quantised"
    write_json(base / "config.json", config)
    weights = load_file(base / "model.safetensors")
    save_file({**weights, "model.norm.weight": torch.ones(64, dtype=torch.uint8)}, base / "model.safetensors")
    with pytest.raises(UserError, match="quantised"):
        merge(run, tmp_path / "out", Recorder())
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, base: Path, run: RunFolder, tokenizer: Path) -> None:
    deeper = random_llama(tmp_path / "wider", tokenizer, hidden_size=32)
    run.write_facts({**run.read_facts(), "model_folder": str(deeper)})
    with pytest.raises(UserError) as caught:
        merge(run, tmp_path / "out", Recorder())
    assert caught.value.problem.code == "adapter.other_base"
    shallow = random_llama(tmp_path / "shallow", tokenizer, num_hidden_layers=1)
    run.write_facts({**run.read_facts(), "model_folder": str(shallow)})
    with pytest.raises(UserError, match="does not have"):
        merge(run, tmp_path / "out", Recorder())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (lambda run, base: (base / "model.safetensors").unlink(), "base.no_weights"),
        (lambda run, base: (base / "model.safetensors").write_bytes(b"\0" * 4), "base.damaged"),
        (lambda run, base: (base / "model.safetensors").write_bytes(cut(base)), "base.damaged"),
        (lambda run, base: (base / "config.json").unlink(), "run.no_base"),
        (lambda run, base: shutil.rmtree(run.adapter), "run.no_adapter"),
        (lambda run, base: (run.adapter / "adapter_model.safetensors").unlink(), "adapter.damaged"),
        (lambda run, base: (run.adapter / "adapter_model.safetensors").write_bytes(b"half"), "adapter.damaged"),
        (lambda run, base: change(run, use_qalora=True), "adapter.kind"),
        (lambda run, base: run.held_out.write_text('{"messages": 1'), "file.damaged"),
    ],
    ids=[
        "no weights",
        "empty",
        "half",
        "no config",
        "no adapter",
        "no adapter weights",
        "half adapter",
        "another kind",
        "rows",
    ],
)
def test_damage_is_told_in_a_sentence(tmp_path: Path, base: Path, run: RunFolder, break_it: Any, code: str) -> None:
    break_it(run, base)
    with pytest.raises(UserError) as caught:
        merge(run, tmp_path / "out", Recorder())
    assert caught.value.problem.code == code
    assert caught.value.problem.message.zh
    assert caught.value.problem.where


def cut(base: Path) -> bytes:
    content = (base / "model.safetensors").read_bytes()
    return content[: len(content) // 2]


def change(run: RunFolder, **settings: Any) -> None:
    path = run.adapter / "adapter_config.json"
    write_json(path, {**read_json(path), **settings})


def test_a_disk_without_room_is_told_before_a_byte_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        check_space(tmp_path / "a" / "b", 10**18)
    assert caught.value.problem.code == "disk.full"
    assert caught.value.exit_code == 1


def test_a_disk_that_fills_up_leaves_nothing(
    tmp_path: Path, base: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.merge.shards._put", full)
    with pytest.raises(UserError) as caught:
        merge(run, tmp_path / "place" / "out", Recorder())
    assert caught.value.problem.code == "disk.full"
    assert list((tmp_path / "place").iterdir()) == []
