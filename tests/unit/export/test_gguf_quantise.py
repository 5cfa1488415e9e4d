"""Quantised bytes are llama.cpp's own, however many threads make them, and what cannot be made is told."""

from __future__ import annotations

import ctypes
import hashlib
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize

from engine.export import gguf_quantise
from engine.export.gguf_quantise import BY_NUMPY, check_types, quantise, routines
from engine.export.gguf_types import BLOCKS, FALLBACK, TABLES, tensor_bytes
from engine.protocol.errors import UserError
from tests.mixes import RANDOM_ROWS, weights

RECORDED: dict[str, str] = json.loads((Path(__file__).parent / "quantised.json").read_text(encoding="utf-8"))["sha256"]


@pytest.fixture
def without_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An extension module that exports nothing, as on Windows."""
    routines.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda path: SimpleNamespace())
    yield
    routines.cache_clear()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="recorded on x86-64")
@pytest.mark.parametrize("recorded", RECORDED)
def test_bytes_are_those_of_llama_cpps_quantize(recorded: str) -> None:
    kind, _, width = recorded.partition(" ")
    made = quantise(weights((RANDOM_ROWS, int(width))), kind)
    assert hashlib.sha256(made.tobytes()).hexdigest() == RECORDED[recorded]


def test_every_type_that_a_file_may_hold_was_recorded() -> None:
    wanted = {kind for kind in BLOCKS if BLOCKS[kind][0] == 256}
    assert {f"{kind} 512" for kind in wanted} <= set(RECORDED)
    assert {f"{kind} 288" for kind in FALLBACK.values()} <= set(RECORDED)
    assert {name for name in TABLES if name[0] != "Q"} <= {key.partition(" ")[0] for key in RECORDED}


@pytest.mark.parametrize("kind", BLOCKS)
def test_many_threads_write_what_one_writes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).standard_normal((37, 256), dtype=np.float32)
    monkeypatch.setattr(gguf_quantise, "_CHUNK", 1 << 30)
    whole = quantise(values, kind)
    monkeypatch.setattr(gguf_quantise, "_CHUNK", 512)
    assert np.array_equal(quantise(values, kind), whole)
    assert whole.nbytes == tensor_bytes(values.shape, kind)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("F32", 0.0), ("F16", 3e-4), ("BF16", 3e-3), ("Q8_0", 0.006), ("Q6_K", 0.02), ("Q5_0", 0.05), ("Q5_1", 0.05),
        ("Q5_K", 0.04), ("Q4_0", 0.1), ("Q4_K", 0.08), ("IQ4_NL", 0.09), ("IQ4_XS", 0.09), ("Q3_K", 0.16),
        ("Q2_K", 0.32),
    ],
)  # fmt: skip
def test_values_survive_quantising(kind: str, error: float) -> None:
    values = np.random.default_rng(0).standard_normal((9, 512), dtype=np.float32)
    back = dequantize(quantise(values, kind).reshape(9, -1), GGMLQuantizationType[kind])
    assert np.linalg.norm(back - values) / np.linalg.norm(values) <= error


def test_experts_and_vectors_keep_their_order() -> None:
    experts = np.random.default_rng(0).standard_normal((3, 4, 256), dtype=np.float32)
    parts = [quantise(expert, "Q4_K") for expert in experts]
    assert np.array_equal(quantise(experts, "Q4_K"), np.concatenate(parts))
    assert quantise(np.arange(3, dtype=np.float32), "F32").view(np.float32).tolist() == [0, 1, 2]
    assert quantise(np.zeros((0, 256), np.float32), "Q8_0").nbytes == 0


def test_half_precision_is_read_as_it_lies() -> None:
    values = np.random.default_rng(0).standard_normal((4, 256)).astype(np.float16)
    assert np.array_equal(quantise(values, "Q4_K"), quantise(values.astype(np.float32), "Q4_K"))
    assert np.array_equal(quantise(values, "F16"), values.reshape(-1).view(np.uint8))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_K", "IQ4_XS"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_value_that_does_not_fit_is_told(kind: str, bad: float) -> None:
    if kind == "BF16" and np.isfinite(bad):
        return  # as wide a range as 32-bit floats
    values = np.ones((2, 256), dtype=np.float32)
    values[1, 7] = bad
    with pytest.raises(UserError, match="too large") as caught:
        quantise(values, kind)
    assert caught.value.problem.code == "export.range"


@pytest.mark.usefixtures("without_llama_cpp")
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", *BY_NUMPY])
def test_without_the_routine_the_gguf_package_writes_the_same(kind: str) -> None:
    values = weights((RANDOM_ROWS, 288))
    by_numpy = quantise(values, kind)
    assert routines() is None
    assert hashlib.sha256(by_numpy.tobytes()).hexdigest() == RECORDED.get(f"{kind} 288", RECORDED.get(f"{kind} 512"))


@pytest.mark.usefixtures("without_llama_cpp")
def test_without_the_routine_too_large_a_value_is_told() -> None:
    with pytest.raises(UserError, match="too large"):
        quantise(np.full((1, 32), 1e30, dtype=np.float32), "Q8_0")


@pytest.mark.usefixtures("without_llama_cpp")
def test_without_the_routine_it_is_told_which_types_remain() -> None:
    check_types({"F32", "Q8_0", "F16"})
    with pytest.raises(UserError) as caught:
        check_types({"Q4_K", "Q6_K", "F32"})
    problem = caught.value.problem
    assert problem.code == "export.no_quantiser"
    assert caught.value.exit_code == 1
    assert "Q8_0, F16, BF16" in problem.hint.en
    assert caught.value.details == "Q4_K, Q6_K"
    with pytest.raises(UserError, match="cannot quantise"):
        quantise(np.zeros((1, 256), np.float32), "Q4_K")


def test_a_library_that_is_not_there_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    routines.cache_clear()
    monkeypatch.setattr(gguf_quantise.importlib.util, "find_spec", lambda name: None)
    assert routines() is None
    routines.cache_clear()
