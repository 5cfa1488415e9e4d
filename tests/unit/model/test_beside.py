"""The base beside adapters of every kind that peft makes: its logits stay those of the untouched model, bit for bit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as library_log

from engine.methods.registry import METHODS
from engine.model import beside
from engine.model import tuned as tuned_model
from engine.model.beside import Untouched, put_beside, read_adapter
from engine.model.load import load_base
from engine.model.tuned import load_tuned
from engine.protocol.errors import Stopped, UserError
from tests.tiny_model import make_model
from tests.unit.tuned_run import make_run, words

IDS = torch.tensor([[5, 9, 40, 77, 100, 111]])
QV = ["q_proj", "v_proj"]
Make = Callable[[], Any]


def _made(name: str, **settings: Any) -> Make:
    return lambda: getattr(peft, f"{name}Config")(task_type="CAUSAL_LM", **settings)


def _lora(**settings: Any) -> Make:
    return _made("Lora", r=4, **{"target_modules": QV, **settings})


KINDS: dict[str, Make] = {
    "lora": _lora(),
    "lora everywhere": _lora(target_modules="all-linear"),
    "rslora": _lora(use_rslora=True),
    "dora": _lora(use_dora=True),
    "pissa": _lora(init_lora_weights="pissa"),
    "olora": _lora(init_lora_weights="olora"),
    "orthogonal": _lora(init_lora_weights="orthogonal"),
    "mica": _lora(init_lora_weights="mica"),
    "bias all": _lora(bias="all"),
    "bias lora_only": _lora(bias="lora_only"),
    "lora bias": _lora(lora_bias=True),
    "head saved": _lora(modules_to_save=["lm_head"]),
    "embeddings and head saved": _lora(modules_to_save=["embed_tokens", "lm_head"]),
    "norms saved": _lora(modules_to_save=["norm", "input_layernorm"]),
    "tokens trained": _lora(trainable_token_indices=[3, 5]),
    "embeddings adapted": _lora(target_modules=["embed_tokens", "q_proj"]),
    "layers repeated": _lora(layer_replication=[[0, 2], [1, 2]]),
    "adalora": _made("AdaLora", target_modules=QV, total_step=10, init_r=4, target_r=2),
    "vera": _made("Vera", r=4, target_modules=QV),
    "pvera": _made("Pvera", r=4, target_modules=QV),
    "ia3": _made("IA3", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "loha": _made("LoHa", r=4, target_modules=QV),
    "lokr": _made("LoKr", r=4, target_modules=QV),
    "oft": _made("OFT", r=0, oft_block_size=8, target_modules=["q_proj"]),
    "boft": _made("BOFT", boft_block_size=8, target_modules=["q_proj"]),
    "prefix": _made("PrefixTuning", num_virtual_tokens=5),
    "prefix projected": _made("PrefixTuning", num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=16),
    "prompt": _made("PromptTuning", num_virtual_tokens=5),
    "p-tuning": _made("PromptEncoder", num_virtual_tokens=5, encoder_hidden_size=16),
    "cpt": _made("CPT", cpt_token_ids=[5, 6, 7], cpt_mask=[1, 1, 1], cpt_tokens_type_mask=[1, 2, 3]),
    "cartridge": _made("Cartridge", num_virtual_tokens=4),
    "ln": _made("LNTuning", target_modules=["input_layernorm", "norm"]),
    "fourierft": _made("FourierFT", n_frequency=20, target_modules=QV),
    "vblora": _made("VBLoRA", r=4, num_vectors=16, vector_length=16, target_modules=["q_proj", "o_proj"]),
    "hra": _made("HRA", r=4, target_modules=QV),
    "miss": _made("Miss", r=4, target_modules=QV),
    "bone": _made("Miss", r=4, init_weights="bat", target_modules=["q_proj"]),
    "adaption prompt": _made("AdaptionPrompt", adapter_len=4, adapter_layers=2),
    "randlora": _made("RandLora", r=4, target_modules=QV),
    "road": _made("Road", target_modules=QV, group_size=16),
    "trainable tokens": _made("TrainableTokens", token_indices=[3, 4], target_modules=["embed_tokens"]),
    "shira": _made("Shira", r=4, target_modules=QV),
    "c3a": _made("C3A", block_size=16, target_modules=QV),
    "waveft": _made("WaveFT", n_frequency=20, target_modules=QV),
    "osf": _made("OSF", target_modules=QV, effective_rank=8),
    "delora": _made("Delora", r=4, target_modules=QV),
    "gralora": _made("Gralora", r=4, target_modules=["q_proj"]),
    "beft": _made("Beft", target_modules=["v_proj"]),
    "lily": _made("Lily", r=4, target_modules=QV),
    "glora": _made("Glora", r=4, target_modules=QV),
    "hira": _made("Hira", r=4, target_modules=QV),
    "tinylora": _made("TinyLora", r=2, target_modules=QV),
    "psoft": _made("Psoft", r=4, target_modules=QV),
    "peanut": _made("Peanut", r=4, target_modules=QV),
    "deft": _made("Deft", r=4, target_modules=QV),
    "unilora": _made("UniLora", r=4, target_modules=QV),
    "shadow": _made("Shadow"),
}


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    library_log.set_verbosity_error()
    library_log.disable_progress_bar()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def peft_warns() -> Iterator[None]:
    """What peft says while the test makes adapters and loads them its own way is not about Lorimer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def base(*, tied: bool = True, vocabulary: int = 120) -> Any:
    """A Llama with biases, the same weights each time."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=128,
            tie_word_embeddings=tied,
            attention_bias=True,
            mlp_bias=True,
        )
    )
    return model.requires_grad_(False).eval()


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=IDS).logits
    return found


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)


def trained(model: Any, folder: Path, **saved: Any) -> Path:
    """The adapter of a peft model as if it had been trained, written to a folder."""
    torch.manual_seed(1)
    for weight in model.parameters():
        if weight.requires_grad and weight.is_floating_point():
            weight.data += 0.1 * torch.randn_like(weight)
    model.eval().save_pretrained(folder, **saved)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """One of each kind; each is made once."""
    root = tmp_path_factory.mktemp("adapters")

    def make(kind: str) -> Path:
        folder = root / kind.replace(" ", "-")
        if not folder.exists():
            model = get_peft_model(base(), KINDS[kind]())
            if kind == "embeddings adapted":  # peft saves the base's own embeddings with it; somebody changed them
                model.get_input_embeddings().base_layer.weight.data += 0.5
            trained(model, folder)
        return folder

    return make


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_base_says_the_same_beside_an_adapter_and_the_adapter_what_peft_says(
    kind: str, adapters: Callable[[str], Path]
) -> None:
    folder = adapters(kind)
    fresh = PeftModel.from_pretrained(base(), folder).eval()
    model = base()
    untouched = Untouched(model)
    before = logits(model)
    tuned = put_beside(model, read_adapter(folder))
    assert untouched.repeatable
    assert untouched.holds()
    assert same(before, logits(base()))
    assert same(logits(model), before)
    assert same(logits(tuned), logits(fresh))
    assert not same(logits(tuned)[:, -1], before[:, -1])
    # Both ways round, many times, and with both sides' keys and values alive.
    kept = model(input_ids=IDS, use_cache=True).past_key_values
    for _ in range(3):
        assert same(logits(model), before)
        assert same(logits(tuned), logits(fresh))
    step = torch.tensor([[7]])
    with torch.inference_mode():
        assert torch.allclose(
            model(input_ids=step, past_key_values=kept).logits[:, -1],
            model(input_ids=torch.cat([IDS, step], 1)).logits[:, -1],
            atol=1e-5,
        )


@pytest.mark.parametrize(
    "kind", ["pissa", "olora", "bias all", "bias lora_only", "layers repeated", "embeddings adapted"]
)
def test_peft_does_not_bring_the_base_back_by_itself(kind: str, adapters: Callable[[str], Path]) -> None:
    """The reason for `engine.model.beside`; where peft mends it, this test says so."""
    fresh = PeftModel.from_pretrained(base(), adapters(kind)).eval()
    with fresh.disable_adapter():
        assert not same(logits(fresh), logits(base()))


def test_all_of_them_stand_beside_each_other_on_one_set_of_weights(adapters: Callable[[str], Path]) -> None:
    model = base()
    before = logits(model)
    kinds = ["pissa", "lora", "olora", "bias all", "prefix", "ia3", "embeddings adapted", "ln", "oft"]
    models = {kind: put_beside(model, read_adapter(adapters(kind))) for kind in kinds}
    wanted = {kind: logits(PeftModel.from_pretrained(base(), adapters(kind)).eval()) for kind in kinds}
    for kind in [*kinds, *reversed(kinds)]:
        assert same(logits(models[kind]), wanted[kind])
        assert same(logits(model), before)
    weights = {id(p): p.data_ptr() for p in model.parameters()}
    shared = {p.data_ptr() for p in models["lora"].parameters()}
    assert set(weights.values()) <= shared  # one set of weights in memory
    del models["pissa"]
    assert same(logits(model), before)


@pytest.mark.parametrize("tied", [True, False])
def test_added_tokens_are_the_adapters_own(tmp_path: Path, tied: bool) -> None:
    grown = base(tied=tied)
    grown.resize_token_embeddings(125, mean_resizing=False)
    grown.get_input_embeddings().weight.data += 0.3
    folder = trained(get_peft_model(grown, KINDS["lora"]()), tmp_path / "a", save_embedding_layers=True)
    assert any("embed_tokens" in name for name in read_adapter(folder).header.tensors)
    model = base(tied=tied)
    before = logits(model)
    tuned = put_beside(model, read_adapter(folder))
    assert same(logits(model), before)
    assert logits(tuned).shape[-1] == 125
    again = base(tied=tied)
    again.resize_token_embeddings(125, mean_resizing=False)
    assert same(logits(tuned), logits(PeftModel.from_pretrained(again, folder).eval()))


# --------------------------------------------------------------------------------------------------------- refusals
def _changed(folder: Path, tmp_path: Path, **settings: Any) -> Path:
    made = tmp_path / "changed"
    made.mkdir()
    plain = json.loads((folder / "adapter_config.json").read_text()) | settings
    (made / "adapter_config.json").write_text(json.dumps(plain))
    (made / "adapter_model.safetensors").write_bytes((folder / "adapter_model.safetensors").read_bytes())
    return made


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"peft_type": "XLORA"}, "adapter.unsupported"),
        ({"peft_type": "POLY"}, "adapter.unsupported"),
        ({"peft_type": "NO_SUCH"}, "adapter.none"),
        ({"peft_type": ["LORA"]}, "adapter.none"),
        ({"task_type": "SEQ_CLS"}, "adapter.unsupported"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "adapter.unsupported"),
        ({"alora_invocation_tokens": [1]}, "adapter.unsupported"),
        ({"init_lora_weights": "pissa_niter_4"}, "adapter.unsupported"),
        ({"r": "many"}, "adapter.does_not_fit"),
    ],
)
def test_what_cannot_answer_is_refused_with_a_sentence(
    adapters: Callable[[str], Path], tmp_path: Path, settings: dict[str, Any], code: str
) -> None:
    folder = _changed(adapters("lora"), tmp_path, **settings)
    model = base()
    before = logits(model)
    with pytest.raises(UserError) as caught:
        put_beside(model, read_adapter(folder))
    assert caught.value.problem.code == code
    assert caught.value.problem.message.zh
    assert same(logits(model), before)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    deep = LlamaForCausalLM(LlamaConfig(**{**base().config.to_dict(), "num_hidden_layers": 4}))
    folder = trained(get_peft_model(deep, KINDS["lora"]()), tmp_path / "deep")
    with pytest.raises(UserError, match="does not fit") as caught:
        put_beside(base(), read_adapter(folder))
    assert "no place for" in caught.value.details
    shallow = LlamaForCausalLM(LlamaConfig(**{**base().config.to_dict(), "num_hidden_layers": 1}))
    folder = trained(get_peft_model(shallow, KINDS["lora"]()), tmp_path / "shallow")
    with pytest.raises(UserError, match="does not fit"):
        put_beside(base(), read_adapter(folder))
    wide = LlamaForCausalLM(LlamaConfig(**{**base().config.to_dict(), "hidden_size": 32}))
    folder = trained(get_peft_model(wide, KINDS["lora"]()), tmp_path / "wide")
    with pytest.raises(UserError, match="does not fit"):
        put_beside(base(), read_adapter(folder))


def test_folders_that_are_no_adapters(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_adapter(tmp_path / "absent")
    assert caught.value.problem.code == "adapter.none"
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(UserError, match="no adapter"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(UserError):
        read_adapter(tmp_path)


def test_a_base_that_was_changed_is_noticed() -> None:
    model = base()
    untouched = Untouched(model)
    untouched.check(Path("a"))
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] += 0.01
    with pytest.raises(UserError) as caught:
        untouched.check(Path("a"))
    assert caught.value.problem.code == "adapter.changes_base"


def test_memory_for_copies_is_asked_for_first(adapters: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = base()
    before = logits(model)
    monkeypatch.setattr(beside, "_SHARE_OF_FREE_MEMORY", 0.0)
    with pytest.raises(UserError) as caught:
        put_beside(model, read_adapter(adapters("pissa")))
    assert caught.value.problem.code == "adapter.memory"
    put_beside(model, read_adapter(adapters("lora")))  # shares everything: needs no copy
    assert same(logits(model), before)


# ------------------------------------------------------------------------------------------------------ of real runs
@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("base") / "model")


@pytest.mark.parametrize("whole", [True, False], ids=["expanded", "as stored"])
@pytest.mark.parametrize("method", list(METHODS))
def test_every_registered_method_leaves_the_base_alone(
    method: str, whole: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", folder, words(), method=method)
    if not whole:
        monkeypatch.setattr(tuned_model, "_SHARE_OF_FREE_MEMORY", 0.0)
    tuned = load_tuned(run)
    quantised = METHODS[method].quantised
    alone = load_base(folder, quantised=quantised)
    alone = tuned_model.expanded(alone)
    wanted = logits(PeftModel.from_pretrained(load_base(folder, quantised=quantised), run.adapter).eval())
    assert any(type(module).__name__ == "Linear4bit" for module in alone.modules()) == (quantised and not whole)
    for _ in range(2):
        with tuned.as_side("base"):
            assert same(logits(tuned.model), logits(alone))
        assert same(logits(tuned.model), wanted)
    tuned.add("again", run.adapter)
    assert same(logits(tuned.speakers["again"].model), wanted)
    tuned.remove("again")
    assert list(tuned.speakers) == ["base", "tuned"]


def test_reading_weights_is_told_and_can_be_ended(folder: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", folder, words(), method="lora")
    told: list[tuple[int, int]] = []
    load_tuned(run, told=lambda done, total: told.append((done, total)))
    assert told == [(n, told[0][1]) for n in range(len(told))]
    assert len(told) == told[0][1] > 10

    def end(done: int, _: int) -> None:
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        load_tuned(run, told=end)
    assert library_log.set_tqdm_hook(None) is None
