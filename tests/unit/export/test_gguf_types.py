"""Which type each tensor gets, as llama.cpp chooses, and what quantising does to values."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize, quantize

from engine.export import gguf_quantise
from engine.export.gguf_quantise import quantise
from engine.export.gguf_types import BLOCKS, Mix, tensor_bytes, tensor_type, uses_more_bits
from engine.export.targets import QUANTISATIONS, quantisation
from engine.protocol.errors import UserError

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
    ],
)
def test_types(name: str, shape: tuple[int, ...], quantize_as: str, kind: str) -> None:
    assert tensor_type(name, shape, quantize_as, EIGHT) == kind


def test_a_tied_embedding_is_the_output() -> None:
    tied = Mix(layers=8, tied=True, heads=8, kv_heads=8)
    assert tensor_type("token_embd.weight", (3000, 256), "Q4_K_M", tied) == "Q6_K"


def test_the_70b_model_gets_more_bits_for_its_values() -> None:
    large = Mix(layers=80, tied=False, heads=64, kv_heads=8)
    assert tensor_type("blk.11.attn_v.weight", (1024, 8192), "Q4_K_M", large) == "Q5_K"
    assert tensor_type("blk.0.attn_v.weight", (1024, 8192), "Q4_K_M", large) == "Q6_K"


@pytest.mark.parametrize(
    ("kind", "error"),
    [("F32", 0.0), ("F16", 3e-4), ("Q8_0", 0.006), ("Q6_K", 0.02), ("Q5_0", 0.05), ("Q5_K", 0.04), ("Q4_K", 0.08)],
)
def test_values_survive_quantising(kind: str, error: float) -> None:
    values = np.random.default_rng(0).standard_normal((9, 512), dtype=np.float32)
    packed = quantise(values, kind)
    assert packed.nbytes == tensor_bytes(values.shape, kind)
    back = dequantize(packed.reshape(9, -1), GGMLQuantizationType[kind])
    assert np.linalg.norm(back - values) / np.linalg.norm(values) <= error


def test_many_threads_write_what_one_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).standard_normal((37, 256), dtype=np.float32)
    whole = quantise(values, "Q4_K")
    monkeypatch.setattr(gguf_quantise, "_CHUNK", 1024)
    assert np.array_equal(quantise(values, "Q4_K"), whole)


def test_eight_bits_are_those_of_the_gguf_package() -> None:
    values = np.random.default_rng(0).standard_normal((5, 64), dtype=np.float32)
    theirs = quantize(values, GGMLQuantizationType.Q8_0).reshape(-1)
    # Both round to nearest; they part only where a value lies in the middle.
    assert (quantise(values, "Q8_0") != theirs).mean() < 0.01


def test_a_value_beyond_sixteen_bits_is_told() -> None:
    with pytest.raises(UserError, match="too large"):
        quantise(np.full((1, 32), 1e6, dtype=np.float32), "F16")


def test_a_library_that_cannot_quantise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    gguf_quantise.routine.cache_clear()

    class Library:
        def __init__(self, path: str) -> None:
            self.path = path

    monkeypatch.setattr("engine.export.gguf_quantise.ctypes.CDLL", Library)
    with pytest.raises(UserError) as caught:
        gguf_quantise.routine()
    assert caught.value.problem.code == "export.no_quantiser"
    assert caught.value.exit_code == 1


def test_types_are_found_by_name_in_any_case() -> None:
    assert quantisation("q4_k_m") is QUANTISATIONS["Q4_K_M"]
    with pytest.raises(UserError, match="Q9"):
        quantisation("Q9")
    assert all(kind.label.zh and kind.summary.zh for kind in QUANTISATIONS.values())
    assert {values for values, _ in BLOCKS.values()} == {1, 32, 256}
