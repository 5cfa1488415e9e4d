"""Every kind of adapter on several architectures: equal to PEFT's own merge within one unit in the last place.

PEFT's merge is taken twice: in float32, rounded once at the end, which is what is meant; and as PEFT does it in 16 bit,
where it rounds some kinds twice, compared at the size of the numbers that were added.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    TrainableTokensConfig,
    VeraConfig,
    get_peft_model,
)
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from engine.merge.delta import Adapter
from engine.merge.shards import write_weights
from engine.merge.weights import INDEX, BaseWeights
from engine.project.atomic import read_json, write_json

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

WORDS = 40
SMALL: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "initializer_range": 0.1,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION = LINEAR[:4]
FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
CONV = ["c_attn", "c_proj", "c_fc"]
STACKED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def small(kind: type, **changes: Any) -> Any:
    return kind(**{**SMALL, **changes})


MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: small(LlamaConfig, tie_word_embeddings=False),
    "llama-tied": lambda: small(LlamaConfig, tie_word_embeddings=True),
    "llama-biased": lambda: small(LlamaConfig, tie_word_embeddings=False, attention_bias=True, mlp_bias=True),
    "qwen2": lambda: small(Qwen2Config, tie_word_embeddings=True),
    "qwen3": lambda: small(Qwen3Config, tie_word_embeddings=False),
    "gemma2": lambda: small(Gemma2Config, query_pre_attn_scalar=8),
    "gemma3": lambda: small(Gemma3TextConfig, query_pre_attn_scalar=8),
    "phi3": lambda: small(Phi3Config, tie_word_embeddings=False),
    "gpt2": lambda: GPT2Config(
        vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.1, bos_token_id=1,
        eos_token_id=2,
    ),
    "mixtral": lambda: small(MixtralConfig, num_local_experts=3, num_experts_per_tok=2),
    "qwen3-moe": lambda: small(
        Qwen3MoeConfig, num_experts=3, num_experts_per_tok=2, moe_intermediate_size=24, decoder_sparse_step=1
    ),
}  # fmt: skip


def lora(targets: Any = ATTENTION, **changes: Any) -> LoraConfig:
    return LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 8, "target_modules": targets, **changes})


CASES: dict[str, tuple[str, Any]] = {
    "lora": ("llama", lora(LINEAR)),
    "rank stabilised": ("llama", lora(LINEAR, use_rslora=True)),
    "patterns": (
        "llama",
        lora(rank_pattern={"q_proj": 2, "1.self_attn.k_proj": 6}, alpha_pattern={"v_proj": 3, r".*1.*o_proj": 5}),
    ),
    "some layers": ("llama", lora(LINEAR, layers_to_transform=[1])),
    "tied, linear": ("llama-tied", lora(LINEAR)),
    "qwen2": ("qwen2", lora(LINEAR)),
    "qwen3": ("qwen3", lora(LINEAR)),
    "gemma2": ("gemma2", lora(LINEAR)),
    "gemma3": ("gemma3", lora(LINEAR, use_dora=True)),
    "fused": ("phi3", lora(FUSED)),
    "fused, dora": ("phi3", lora(FUSED, use_dora=True)),
    "conv1d": ("gpt2", lora(CONV, fan_in_fan_out=True)),
    "conv1d and head": ("gpt2", lora([*CONV, "lm_head"])),
    "conv1d, dora": ("gpt2", lora(CONV, fan_in_fan_out=True, use_dora=True)),
    "embeddings": ("llama", lora([*ATTENTION, "embed_tokens", "lm_head"])),
    "embeddings, dora": ("llama", lora([*ATTENTION, "embed_tokens"], use_dora=True)),
    "embeddings, tied": ("llama-tied", lora([*ATTENTION, "embed_tokens"])),
    "head, tied": ("llama-tied", lora([*ATTENTION, "lm_head"])),
    "both, tied": ("qwen2", lora([*ATTENTION, "embed_tokens", "lm_head"])),
    "conv1d, embeddings": ("gpt2", lora([*CONV, "wte"], fan_in_fan_out=True)),
    "dora": ("llama", lora(LINEAR, use_dora=True)),
    "dora, rank stabilised": ("qwen2", lora(LINEAR, use_dora=True, use_rslora=True)),
    "saved modules": ("llama", lora(modules_to_save=["embed_tokens", "lm_head"])),
    "saved norm": ("llama", lora(modules_to_save=["input_layernorm", "norm"])),
    "saved embeddings, tied": ("llama-tied", lora(modules_to_save=["embed_tokens"])),
    "saved head, tied": ("llama-tied", lora(modules_to_save=["lm_head"])),
    "saved both, tied": ("gemma2", lora(modules_to_save=["embed_tokens", "lm_head"])),
    "saved, kept tied": ("llama-tied", lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True)),
    "tokens": ("llama", lora(trainable_token_indices=[3, 39, 7])),
    "tokens, tied": ("llama-tied", lora(trainable_token_indices=[3, 39, 7])),
    "tokens of both": ("llama", lora(trainable_token_indices={"embed_tokens": [3, 7], "lm_head": [5]})),
    "tokens alone": ("llama", TrainableTokensConfig(task_type="CAUSAL_LM", token_indices=[4, 9])),
    "all biases": ("llama-biased", lora(LINEAR, bias="all")),
    "biases of layers": ("qwen2", lora(["q_proj", "v_proj"], bias="lora_only")),
    "biases of conv1d": ("gpt2", lora(["c_attn"], fan_in_fan_out=True, bias="all")),
    "bias of B": ("llama-biased", lora(LINEAR, lora_bias=True)),
    "pissa": ("llama", lora(ATTENTION, init_lora_weights="pissa")),
    "pissa, conv1d": ("gpt2", lora(["c_attn", "c_fc"], fan_in_fan_out=True, init_lora_weights="pissa")),
    "olora": ("llama", lora(ATTENTION, init_lora_weights="olora")),
    "mica": ("llama", lora(ATTENTION, init_lora_weights="mica")),
    "experts": ("mixtral", lora(ATTENTION, target_parameters=STACKED)),
    "experts, one": ("mixtral", lora(ATTENTION, target_parameters=STACKED[1:], rank_pattern={"experts.down_proj": 2})),
    "experts and router": ("mixtral", lora(ATTENTION, target_parameters=[*STACKED, "gate.weight"])),
    "experts, qwen3": ("qwen3-moe", lora(ATTENTION, target_parameters=STACKED, use_rslora=True)),
    "experts, saved": ("qwen3-moe", lora(ATTENTION, modules_to_save=["gate"])),
    "adalora": (
        "llama",
        AdaLoraConfig(
            task_type="CAUSAL_LM", init_r=6, target_r=2, lora_alpha=16, target_modules=LINEAR, total_step=100, tinit=5,
            tfinal=5,
        ),
    ),
    "vera": ("llama", VeraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj", "up_proj"])),
    "vera, not saved": (
        "llama",
        lambda: VeraConfig(
            task_type="CAUSAL_LM", r=8, target_modules=["k_proj", "down_proj"], save_projection=False,
            projection_prng_key=11,
        ),
    ),
    "vera, conv1d": (
        "gpt2",
        lambda: VeraConfig(
            task_type="CAUSAL_LM", r=8, target_modules=["c_attn", "c_fc"], save_projection=False, fan_in_fan_out=True
        ),
    ),
    "ia3": (
        "llama-biased",
        IA3Config(
            task_type="CAUSAL_LM", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
        ),
    ),
    "ia3, conv1d": (
        "gpt2",
        IA3Config(
            task_type="CAUSAL_LM", target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"],
            fan_in_fan_out=True,
        ),
    ),
    "ia3, by pattern": (
        "llama",
        IA3Config(
            task_type="CAUSAL_LM", target_modules=r".*\.(k_proj|down_proj)", feedforward_modules=r".*down_proj"
        ),
    ),
    "loha": ("llama", LoHaConfig(r=4, alpha=6, target_modules=LINEAR)),
    "lokr": ("llama", LoKrConfig(r=2, alpha=6, target_modules=LINEAR, decompose_factor=4)),
    "lokr, both": (
        "llama",
        LoKrConfig(r=2, alpha=6, target_modules=LINEAR, decompose_both=True, rank_pattern={"q_proj": 1}),
    ),
    "oft": ("llama", OFTConfig(oft_block_size=8, target_modules=LINEAR, use_cayley_neumann=True)),
    "oft, exact": (
        "llama",
        OFTConfig(task_type="CAUSAL_LM", oft_block_size=8, target_modules=ATTENTION, use_cayley_neumann=False),
    ),
    "oft, constrained": (
        "llama",
        OFTConfig(
            task_type="CAUSAL_LM", oft_block_size=8, target_modules=ATTENTION, coft=True, eps=0.5, block_share=True
        ),
    ),
}  # fmt: skip
# Here numbers are rounded to the base's dtype on the way, which a merge in float32 does not.
ROUNDED_BETWEEN = {"pissa", "pissa, conv1d", "olora", "vera, not saved", "vera, conv1d"}
# These replace PEFT's own merge of the base by that of a copy with a head of its own: what it computes before merging.
UNTIED = {"embeddings, tied", "head, tied", "both, tied", "conv1d and head", "conv1d, embeddings"}


@dataclass(frozen=True)
class Made:
    """A base and an adapter beside it."""

    base: Path
    adapter: Path


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each model is made once, in bfloat16, in several files."""
    folder = tmp_path_factory.mktemp("bases")

    def base(name: str) -> Path:
        if not (folder / name).is_dir():
            torch.manual_seed(3)
            model = AutoModelForCausalLM.from_config(MODELS[name](), dtype=torch.bfloat16)
            with torch.no_grad():
                for key, value in model.named_parameters():
                    if value.ndim == 1:
                        value.copy_(torch.randn_like(value) * 0.2 + (0 if key.endswith("bias") else 1))
            model.save_pretrained(folder / name, max_shard_size="30KB")
        return folder / name

    return base


def train(base: Path, config: Any, folder: Path, grow: int = 0, seed: int = 7) -> Path:
    """An adapter with numbers of noticeable size in all that it trains."""
    config = config() if isinstance(config, FunctionType) else config  # some warn as they are made
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if grow:
        model.resize_token_embeddings(grow, pad_to_multiple_of=8, mean_resizing=False)
    tuned = get_peft_model(model, copy.deepcopy(config))
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in tuned.parameters():
            if value.requires_grad:
                value.add_(torch.randn_like(value) * 0.1)
    tuned.save_pretrained(folder)
    return folder


def by_peft(base: Path, adapter: Path, dtype: torch.dtype, grow: int = 0, untie: bool = False) -> dict[str, Any]:
    changes = {"tie_word_embeddings": False} if untie else {}
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, **changes)
    if untie:
        model.get_output_embeddings().weight.data = model.get_input_embeddings().weight.data.clone()
    if grow:
        model.resize_token_embeddings(grow, pad_to_multiple_of=8, mean_resizing=False)
    merged: Any = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return {name: value.to(dtype) for name, value in merged.state_dict().items()}


def ours(base: Path, adapter: Path, out: Path) -> dict[str, torch.Tensor]:
    """Our merge, as transformers loads it."""
    out.mkdir()
    weights = BaseWeights.open(base)
    opened = Adapter.open(adapter, weights)
    write_weights(weights, opened, out, lambda done, total: None)
    write_json(out / "config.json", {**read_json(base / "config.json"), **opened.changed_config})
    model: Any = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    return dict(model.state_dict())


def within_one_step(mine: torch.Tensor, theirs: torch.Tensor, size: torch.Tensor) -> bool:
    """Whether each value is at most the next one of bfloat16 from the other (neighbours differ by one in their integer
    order), or, where large numbers cancelled, no further than float32 rounds numbers of this ``size``."""

    def order(values: torch.Tensor) -> torch.Tensor:
        bits = values.contiguous().view(torch.int16).to(torch.int32)
        return torch.where(bits < 0, -32768 - bits, bits)

    near = (order(mine) - order(theirs)).abs() <= 1
    return bool((near | ((mine.float() - theirs.float()).abs() <= size * 2**-20)).all())


def test_cases_name_models() -> None:
    assert {model for model, _ in CASES.values()} == set(MODELS)


@pytest.mark.parametrize("name", CASES)
def test_equal_to_peft_within_one_step(name: str, tmp_path: Path, bases: Callable[[str], Path]) -> None:
    model, config = CASES[name]
    base = bases(model)
    adapter = train(base, config, tmp_path / "adapter")
    mine = ours(base, adapter, tmp_path / "out")
    exact = by_peft(base, adapter, torch.float32, untie=name in UNTIED)
    rounded = by_peft(base, adapter, torch.bfloat16, untie=name in UNTIED)
    before = AutoModelForCausalLM.from_pretrained(base, dtype="auto").state_dict()
    assert mine.keys() == exact.keys()
    changed = 0
    for key, value in mine.items():
        assert value.dtype == torch.bfloat16
        old, new = before[key].float(), rounded[key].float()
        size = torch.maximum(torch.maximum(old.abs(), new.abs()), (new - old).abs())
        if name not in ROUNDED_BETWEEN:
            assert within_one_step(value, exact[key].to(torch.bfloat16), size), key
        assert bool(((value.float() - new).abs() <= size * 2**-7).all()), key
        changed += not torch.equal(value, before[key])
    assert changed


@pytest.mark.parametrize("name", ["lora", "experts", "experts, qwen3", "saved norm", "conv1d", "tokens, tied"])
def test_files_and_names_are_those_of_the_base(name: str, tmp_path: Path, bases: Callable[[str], Path]) -> None:
    model, config = CASES[name]
    base = bases(model)
    ours(base, train(base, config, tmp_path / "adapter"), tmp_path / "out")
    files = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(files) > 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*.safetensors")) == files
    assert read_json(tmp_path / "out" / INDEX) == read_json(base / INDEX)
    for file in files:
        theirs, mine = load_file(base / file), load_file(tmp_path / "out" / file)
        assert {key: value.shape for key, value in mine.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize(
    ("model", "config", "tied"),
    [
        ("llama-tied", lora(["q_proj", "embed_tokens"]), False),
        ("llama-tied", lora(["q_proj", "lm_head"]), False),
        ("gemma2", lora(["q_proj", "embed_tokens", "lm_head"]), False),
        ("llama-tied", lora(["q_proj", "embed_tokens"], ensure_weight_tying=True), True),
        ("llama-tied", lora(["q_proj", "embed_tokens"], use_dora=True), False),
        ("qwen2", lora(modules_to_save=["embed_tokens"]), False),
        ("gemma2", lora(modules_to_save=["lm_head"]), False),
        ("gemma3", lora(trainable_token_indices=[3, 4]), True),
        ("gpt2", lora(["c_attn", "wte"], fan_in_fan_out=True), False),
    ],
)
def test_a_tied_model_says_what_base_and_adapter_say(
    model: str, config: Any, tied: bool, tmp_path: Path, bases: Callable[[str], Path]
) -> None:
    """PEFT's own merge adds to the one tensor what only one of its two uses was trained with, or adds it twice."""
    base = bases(model)
    adapter = train(base, config, tmp_path / "adapter")
    ids = torch.arange(4, 34)[None]
    beside: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    weights = BaseWeights.open(base)
    opened = Adapter.open(adapter, weights)
    settings = AutoConfig.from_pretrained(base, **opened.changed_config)
    merged: Any = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    state = {name: opened.whole(name) for name in opened.names_and_shapes()}
    absent, odd = merged.load_state_dict(state, strict=False)
    assert not odd
    assert set(absent) <= ({"lm_head.weight"} if tied else set())
    assert ("lm_head.weight" in state) == (not tied)
    assert settings.tie_word_embeddings == tied
    with torch.inference_mode():
        expected, found = beside.eval()(ids).logits, merged.eval()(ids).logits
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", ["llama", "llama-tied"])
@pytest.mark.parametrize("targets", [ATTENTION, ["embed_tokens", "q_proj"]])
def test_added_words_make_the_vocabulary_longer(
    model: str, targets: Any, tmp_path: Path, bases: Callable[[str], Path]
) -> None:
    base = bases(model)
    saved = {} if "embed_tokens" not in targets else {"modules_to_save": ["lm_head"]}
    adapter = train(base, lora(targets, **saved), tmp_path / "adapter", grow=WORDS + 3)
    rows = 48  # the next multiple of 8
    mine = ours(base, adapter, tmp_path / "out")
    exact = by_peft(base, adapter, torch.float32, grow=WORDS + 3)
    assert read_json(tmp_path / "out" / "config.json")["vocab_size"] == rows
    for name, value in mine.items():
        theirs = exact[name].to(torch.bfloat16)
        assert value.shape == theirs.shape
        assert within_one_step(value, theirs, theirs.float().abs() + 1), name
    assert mine["model.embed_tokens.weight"].shape == mine["lm_head.weight"].shape == (rows, 32)
