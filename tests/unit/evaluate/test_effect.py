"""What an adapter does: norms against the merged weights, for many kinds; a zero, a tiny and a normal adapter."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from engine.evaluate.effect import effect, norms, product_square
from engine.evaluate.questions import prepare_questions, read_rows
from engine.evaluate.watch import Watch
from engine.model.tuned import load_tuned
from engine.project.effect import Effect, read_effect
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped
from engine.protocol.events import STOP, Command
from tests.tiny_model import make_model
from tests.unit.tuned_run import make_run, words


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ----------------------------------------------------------------------------------------------------------- weights
def _llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=60, num_hidden_layers=2, **sizes)).eval()


TARGETS = ["q_proj", "down_proj"]
KINDS: dict[str, Any] = {
    "lora": peft.LoraConfig(r=4, target_modules=TARGETS, init_lora_weights=False),
    "rslora": peft.LoraConfig(r=4, use_rslora=True, lora_alpha=3, target_modules=TARGETS, init_lora_weights=False),
    "dora": peft.LoraConfig(r=4, use_dora=True, target_modules=TARGETS, init_lora_weights=False),
    "embedding": peft.LoraConfig(r=4, target_modules=["embed_tokens", "q_proj"], init_lora_weights=False),
    "ia3": peft.IA3Config(target_modules=TARGETS, feedforward_modules=["down_proj"], init_ia3_weights=False),
    "vera": peft.VeraConfig(r=4, target_modules=["q_proj", "o_proj"], init_weights=False),
    "loha": peft.LoHaConfig(r=4, target_modules=TARGETS, init_weights=False),
    "lokr": peft.LoKrConfig(r=4, target_modules=TARGETS, init_weights=False),
    "oft": peft.OFTConfig(r=0, oft_block_size=4, target_modules=TARGETS, init_weights=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_those_of_the_merged_weights(kind: str) -> None:
    base = _llama()
    model = peft.get_peft_model(copy.deepcopy(base), KINDS[kind])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    found = {name: norms(module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())

    merged = {name: weight.detach() for name, weight in model.merge_and_unload().named_parameters()}
    checked = 0
    for name, pair in found.items():
        weight = f"{name.removeprefix('base_model.model.')}.weight"
        if weight not in merged:  # a dropout of the adapter
            continue
        original = dict(base.named_parameters())[weight].detach()
        assert pair is not None
        assert pair[0] == pytest.approx(float((merged[weight] - original).square().sum()), rel=2e-3)
        assert pair[1] == pytest.approx(float(original.square().sum()), rel=1e-5)
        assert pair[0] > 0
        checked += 1
    assert checked >= 2


def test_a_module_that_was_trained_whole_counts() -> None:
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = peft.get_peft_model(_llama(), config)
    head = model.base_model.model.lm_head
    head.modules_to_save["default"].weight.data += 0.5
    found = norms(head)
    assert found is not None
    assert found[0] == pytest.approx(0.25 * head.original_module.weight.numel(), rel=1e-5)


def test_square_of_a_product_without_the_product() -> None:
    up, down = torch.randn(30, 3), torch.randn(3, 20)
    assert product_square(up, down) == pytest.approx(float((up @ down).square().sum()), rel=1e-5)
    assert product_square(torch.zeros(30, 3), down) == 0.0


# --------------------------------------------------------------------------------------------------------- a whole run
@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of a tiny model whose adapter has random weights."""
    base = make_model(tmp_path_factory.mktemp("base"))
    return make_run(tmp_path_factory.mktemp("run"), base, words(), method="lora")


def _with_weights(run: RunFolder, folder: Path, factor: float, **recipe: Any) -> RunFolder:
    """The run with its adapter's B times a factor."""
    made = RunFolder(Path(shutil.copytree(run.path, folder)))
    path = made.adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: t * factor if "lora_B" in name else t for name, t in tensors.items()}, path)
    for old, new in recipe.items():
        text = made.recipe_as_run.read_text(encoding="utf-8")
        made.recipe_as_run.write_text(text.replace(*new), encoding="utf-8")
        assert new[1] in made.recipe_as_run.read_text(encoding="utf-8"), old
    return made


def _effect(run: RunFolder, recorder: Recorder | None = None) -> Effect:
    tuned = load_tuned(run)
    texts = [question.texts[0] for question in prepare_questions(tuned, read_rows(run))]
    return effect(run, tuned, texts, Watch(recorder or Recorder()), changed_answers=0.5)


def test_normal_adapter_is_described_and_kept(run: RunFolder) -> None:
    found = _effect(run)
    assert found.whole is not None
    assert found.whole.share is not None
    assert found.whole.share > 0.01
    assert sum(part.modules for part in found.kinds) == found.whole.modules
    assert sum(part.delta**2 for part in found.layers) == pytest.approx(found.whole.delta**2)
    assert found.positions > 0
    assert 0 < (found.variation or 0) <= 1
    assert (found.kl or 0) > 0
    assert not found.nothing
    assert found.tone == "good"
    assert "50% of the answers" in found.sentence.en
    assert read_effect(run) == found


def test_zero_adapter_is_told(run: RunFolder, tmp_path: Path) -> None:
    found = _effect(_with_weights(run, tmp_path / "run", 0.0))
    assert found.nothing
    assert found.kl == found.variation == found.other_token == 0.0
    assert found.sentence.en.startswith("The adapter changes nothing: it is as it was before the first step")
    assert found.sentence.zh.startswith("适配器没有任何作用：")
    assert found.tone == "bad"


def test_zero_adapter_with_a_reason(run: RunFolder, tmp_path: Path) -> None:
    low = ("learning_rate = 0.0002", "learning_rate = 1e-12")
    found = _effect(_with_weights(run, tmp_path / "run", 0.0, rate=low))
    assert "learning rate was 1e-12" in found.sentence.en
    assert "no step" not in found.sentence.en


def test_tiny_adapter_is_next_to_nothing(run: RunFolder, tmp_path: Path) -> None:
    found = _effect(_with_weights(run, tmp_path / "run", 1e-5))
    assert not found.nothing
    assert found.next_to_nothing
    assert found.tone == "warn"
    assert "next to nothing" in found.sentence.en


def test_stop_leaves_what_was_kept(run: RunFolder) -> None:
    kept = _effect(run)
    recorder = Recorder()
    recorder.pending = [Command(name=STOP)]
    with pytest.raises(Stopped):
        _effect(run, recorder)
    assert read_effect(run) == kept
