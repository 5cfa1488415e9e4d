"""Which type each tensor gets, as llama.cpp chooses, and how large a file becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.export.gguf_types import BLOCKS, TABLES, Mix, tensor_type, uses_more_bits
from engine.export.targets import QUANTISATIONS, RECOMMENDED, quantisation
from engine.protocol.errors import UserError
from tests.mixes import Model

EIGHT = Mix(layers=8, tied=False, heads=8, kv_heads=8)


def test_half_of_the_layers_get_more_bits() -> None:
    assert [layer for layer in range(32) if uses_more_bits(layer, 32)] == [
        0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31
    ]  # fmt: skip
    assert [layer for layer in range(4) if uses_more_bits(layer, 4)] == [2, 3]


@pytest.mark.parametrize(
    ("name", "shape", "quantize_as", "kind"),
    [
        ("blk.0.attn_norm.weight", (256,), "Q4_K_M", "F32"),
        ("blk.0.attn_q.bias", (256,), "F16", "F32"),
        ("output_norm.weight", (256,), "F16", "F32"),
        ("blk.0.attn_q.weight", (256, 256), "F16", "F16"),
        ("blk.0.attn_q.weight", (256, 256), "Q8_0", "Q8_0"),
        ("blk.0.ffn_down.weight", (64, 172), "Q8_0", "F16"),
        ("blk.0.attn_q.weight", (256, 256), "Q4_K_M", "Q4_K"),
        ("blk.0.attn_v.weight", (256, 256), "Q4_K_M", "Q6_K"),
        ("blk.1.attn_v.weight", (256, 256), "Q4_K_M", "Q4_K"),
        ("blk.7.ffn_down.weight", (256, 768), "Q4_K_M", "Q6_K"),
        ("blk.2.ffn_down.weight", (256, 768), "Q4_K_M", "Q4_K"),
        ("token_embd.weight", (3000, 256), "Q4_K_M", "Q4_K"),
        ("output.weight", (3000, 256), "Q4_K_M", "Q6_K"),
        ("output.weight", (3000, 64), "Q4_K_M", "Q8_0"),
        ("blk.0.attn_v.weight", (64, 64), "Q4_K_M", "Q8_0"),
        ("blk.1.attn_v.weight", (64, 64), "Q4_K_M", "Q5_0"),
        ("blk.1.ffn_down.weight", (64, 172), "Q4_K_M", "F16"),
        ("blk.1.ffn_down.weight", (64, 172), "F32", "F32"),
        ("blk.1.ffn_down.weight", (64, 172), "BF16", "BF16"),
        ("blk.1.ffn_up_exps.weight", (4, 64, 256), "BF16", "BF16"),
        ("blk.1.ffn_gate_inp.weight", (4, 256), "F16", "F32"),
        ("blk.1.ffn_gate_inp_shexp.weight", (1, 256), "Q8_0", "F32"),
        ("rope_freqs.weight", (64,), "Q4_K_M", "F32"),
    ],
)
def test_types(name: str, shape: tuple[int, ...], quantize_as: str, kind: str) -> None:
    assert tensor_type(name, shape, quantize_as, EIGHT) == kind


def test_files_of_floats_hold_matrices_in_them() -> None:
    for kind in ("F32", "F16", "BF16"):
        assert TABLES[kind].main == kind
        assert tensor_type("output.weight", (32, 100), kind, EIGHT) == kind


def test_a_tied_embedding_is_the_output() -> None:
    tied = Mix(layers=8, tied=True, heads=8, kv_heads=8)
    assert tensor_type("token_embd.weight", (3000, 256), "Q4_K_M", tied) == "Q6_K"


def test_the_70b_model_gets_more_bits_for_its_values() -> None:
    large = Mix(layers=80, tied=False, heads=64, kv_heads=8)
    assert tensor_type("blk.11.attn_v.weight", (1024, 8192), "Q4_K_M", large) == "Q5_K"
    assert tensor_type("blk.0.attn_v.weight", (1024, 8192), "Q4_K_M", large) == "Q6_K"


MIXES = json.loads((Path(__file__).parent / "mixes.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("recorded", MIXES["models"], ids=[entry["model"]["name"] for entry in MIXES["models"]])
def test_every_tensor_gets_the_type_that_llama_cpp_chooses(recorded: dict[str, Any]) -> None:
    """What ``llama_model_quantize`` chose, as tests/bench/record_mixes.py recorded it."""
    model = Model(**recorded["model"])
    assert set(recorded["types"]) == {name for name in TABLES if name not in ("F32", "F16", "BF16")}
    shapes = dict(model.tensors(MIXES["rows"]))
    for quantize_as, groups in recorded["types"].items():
        theirs = unpacked(groups)
        ours = {name: tensor_type(name, shape, quantize_as, model.mix) for name, shape in shapes.items()}
        assert ours == theirs, quantize_as


def unpacked(groups: dict[str, str]) -> dict[str, str]:
    """Tensor → type, of lines such as {"Q6_K*2 Q4_K": "blk.*.attn_v.weight …"}."""
    kinds: dict[str, str] = {}
    for runs, lines in groups.items():
        each: list[str] = []
        for run in runs.split():
            kind, _, count = run.partition("*")
            each += [kind] * int(count or 1)
        for line in lines.split():
            kinds.update({line.replace("*", str(layer)): kind for layer, kind in enumerate(each)})
    return kinds


def test_types_are_found_by_name_in_any_case() -> None:
    assert quantisation("q4_k_m") is QUANTISATIONS["Q4_K_M"]
    with pytest.raises(UserError, match="Q9"):
        quantisation("Q9")
    assert all(kind.label.zh and kind.summary.zh for kind in QUANTISATIONS.values())
    assert {values for values, _ in BLOCKS.values()} == {1, 32, 256}
    assert list(QUANTISATIONS) == sorted(QUANTISATIONS, key=lambda name: QUANTISATIONS[name].bits)
    assert set(QUANTISATIONS) == set(TABLES)
    assert RECOMMENDED in QUANTISATIONS


def test_the_user_guide_tells_of_every_type(repository: Path) -> None:
    guide = (repository / "docs" / "user-guide.md").read_text(encoding="utf-8")
    for name, kind in QUANTISATIONS.items():
        line = next(line for line in guide.splitlines() if line.startswith("|") and name in line and "GiB" in line)
        assert f"{kind.bits:.1f}".removesuffix(".0") in line, name
