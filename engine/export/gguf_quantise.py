"""Quantise tensors with llama.cpp's own routine, out of the library that xllamacpp ships; nothing is compiled.

Where that library does not export the routine (an extension module of Windows shows Python's entry point only), the
``gguf`` package's own quantisers make the types that they know, byte for byte the same, only slower; for the others
`check_types` says which types remain.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from gguf import quantize as quantize_by_numpy
from numpy.typing import NDArray

from engine.export.gguf_types import BF16, BLOCKS, F16, F32, Q4_0, Q5_0, Q5_1, Q8_0
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

FLOATS = (F32, F16, BF16)
BY_NUMPY = (Q8_0, Q5_1, Q5_0, Q4_0)
"""Types that the ``gguf`` package can make as well."""

# Values that a thread takes at a time: 1 MiB in 32-bit floats, which stays in the processor's cache.
_CHUNK = 1 << 18
# What rounds to infinity as a 16-bit float; the scales of every quantised type are such floats.
_HALF_LIMIT, _BFLOAT_LIMIT = 65520.0, 3.3961775e38

Array = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Routines:
    """What is used of llama.cpp's library.

    Attributes:
        quantise: ``ggml_quantize_chunk``: type, source, target, first value, rows, width, importance → bytes written.
        validate: ``ggml_validate_row_data``: type, data, bytes → whether every scale is a number.
    """

    quantise: Callable[..., int]
    validate: Callable[..., bool]


def quantise(values: NDArray[Any], kind: str) -> Bytes:
    """``values`` (…, width; 16- or 32-bit floats, in memory or mapped) as bytes of GGML type ``kind``: (total bytes,).

    The work is divided by rows over all cores; the bytes are those of one thread. Beside the result only one chunk for
    each core is held in 32-bit floats.

    Raises:
        UserError: this machine cannot make the type, or a value is no number or does not fit.
    """
    rows = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(1, -1)
    count, width = rows.shape
    per_row = width // BLOCKS[kind][0] * BLOCKS[kind][1]
    target = np.empty(count * per_row, dtype=np.uint8)
    make = maker(kind)
    step = max(1, _CHUNK // width) if width else count

    def work(first: int) -> None:
        source = np.ascontiguousarray(rows[first : first + step], dtype=np.float32)
        if kind != F32 and not _fits(source, kind):
            raise _out_of_range()
        make(source, target[first * per_row : (first + len(source)) * per_row])

    parts = range(0, count, step)
    if len(parts) <= 1:
        for first in parts:
            work(first)
        return target
    # ctypes and numpy release the interpreter's lock during the work, so threads do run side by side.
    with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1)) as pool:
        for _ in pool.map(work, parts):
            pass
    return target


def _fits(values: Array, kind: str) -> bool:
    """Whether all are numbers that the type holds; llama.cpp writes zeros for some that are far too large."""
    limit = _BFLOAT_LIMIT if kind == BF16 else _HALF_LIMIT
    # Comparisons with what is no number are false.
    return not values.size or bool(values.min() > -limit and values.max() < limit)


def maker(kind: str) -> Callable[[Array, Bytes], None]:
    """What writes rows of 32-bit floats as ``kind`` into a slice of the result.

    Raises:
        UserError: this machine cannot make the type.
    """
    if kind in FLOATS:
        return _MAKERS[kind]
    found = routines()
    if found is None:
        check_types((kind,))
        return lambda values, out: _by_numpy(values, kind, out)
    return lambda values, out: _by_llama_cpp(found, values, kind, out)


def check_types(kinds: Iterable[str]) -> None:
    """See that every GGML type of ``kinds`` can be made on this machine.

    Raises:
        UserError: one cannot; the hint says which types of file remain.
    """
    if routines() is not None:
        return
    missing = sorted(set(kinds) - {*FLOATS, *BY_NUMPY})
    if missing:
        raise _no_routine(", ".join(missing))


@cache
def routines() -> Routines | None:
    """llama.cpp's routines in the installed xllamacpp; None where it is not installed or does not export them."""
    path = _library()
    if path is None:
        return None
    try:
        library = ctypes.CDLL(str(path))
        quantising, validating = library.ggml_quantize_chunk, library.ggml_validate_row_data
    except (OSError, AttributeError):
        return None
    quantising.restype, validating.restype = ctypes.c_size_t, ctypes.c_bool
    quantising.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
    ]  # fmt: skip
    validating.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    return Routines(quantising, validating)


def _library() -> Path | None:
    """The extension module of xllamacpp, which llama.cpp is linked into."""
    spec = importlib.util.find_spec("xllamacpp")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        for pattern in ("xllamacpp*.so", "xllamacpp*.pyd", "xllamacpp*.dylib"):
            for path in sorted(Path(folder).glob(pattern)):
                return path
    return None


def _by_llama_cpp(found: Routines, values: Array, kind: str, out: Bytes) -> None:
    rows, width = values.shape
    number = GGMLQuantizationType[kind].value
    written = found.quantise(number, values.ctypes.data, out.ctypes.data, 0, rows, width, None)
    if written != out.nbytes:
        raise _no_routine(f"{kind}: {written} bytes written, {out.nbytes} expected")
    if not found.validate(number, out.ctypes.data, out.nbytes):
        raise _out_of_range()


def _by_numpy(values: Array, kind: str, out: Bytes) -> None:
    out[:] = quantize_by_numpy(values, GGMLQuantizationType[kind]).reshape(-1)


def _as_single(values: Array, out: Bytes) -> None:
    out.view(np.float32)[:] = values.reshape(-1)


def _as_half(values: Array, out: Bytes) -> None:
    out.view(np.float16)[:] = values.reshape(-1)


def _as_bfloat(values: Array, out: Bytes) -> None:
    """Rounded to the nearest, to even where two are as near."""
    bits = values.reshape(-1).view(np.uint32)
    out.view(np.uint16)[:] = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16


_MAKERS = {F32: _as_single, F16: _as_half, BF16: _as_bfloat}


def _out_of_range() -> UserError:
    return UserError(
        "export.range",
        say(
            "A weight is too large for 16-bit floats, or is not a number.",
            "某个权重超出 16 位浮点数的范围，或不是数值。",
        ),
        say("Export as F32, or merge into safetensors instead.", "请改为导出 F32，或合并为 safetensors。"),
    )


def _no_routine(details: str) -> UserError:
    return UserError(
        "export.no_quantiser",
        say(
            "The installed llama.cpp library cannot quantise to this type on this machine.",
            "本机安装的 llama.cpp 库无法量化为此类型。",
        ),
        say("What works here: Q8_0, F16, BF16 and F32.", "此处可用：Q8_0、F16、BF16 和 F32。"),
        exit_code=EXIT_MACHINE,
        details=details,
    )
