"""Quantise one tensor with llama.cpp's own routine, out of the library that xllamacpp ships; nothing is compiled."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.export.gguf_types import BLOCKS, F16, F32
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

# enum ggml_type (ggml.h); numbers are part of the file format and never change.
_NUMBERS = {"F32": 0, "F16": 1, "Q5_0": 6, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}
# Below this many values a second thread costs more than it saves.
_CHUNK = 1 << 20

Array = NDArray[np.float32]


def quantise(values: Array, kind: str) -> NDArray[np.uint8]:
    """``values`` (rows × width, float32) as bytes of GGML type ``kind``: shape (total bytes,).

    Raises:
        UserError: this machine's llama.cpp library cannot quantise, or a value does not fit float16.
    """
    if kind == F32:
        return np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint8)
    if kind == F16:
        return _half(values)
    rows, width = values.shape
    per_row = width // BLOCKS[kind][0] * BLOCKS[kind][1]
    source = np.ascontiguousarray(values, dtype=np.float32)
    target = np.empty(rows * per_row, dtype=np.uint8)
    function = routine()

    def work(first: int, count: int) -> int:
        return function(_NUMBERS[kind], source.ctypes.data, target.ctypes.data, first * width, count, width, None)

    step = max(1, _CHUNK // width)
    parts = [(first, min(step, rows - first)) for first in range(0, rows, step)]
    # ctypes releases the interpreter's lock during the call, so threads do run side by side.
    with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1)) as pool:
        written = sum(pool.map(lambda part: work(*part), parts))
    if written != target.nbytes:
        raise _no_routine(f"{kind}: {written} bytes written, {target.nbytes} expected")
    return target


@cache
def routine() -> Callable[..., int]:
    """``ggml_quantize_chunk`` of the installed xllamacpp.

    Raises:
        UserError: it is not installed, or its library does not export the routine.
    """
    path = _library()
    try:
        function = ctypes.CDLL(str(path)).ggml_quantize_chunk
    except (OSError, AttributeError) as error:
        raise _no_routine(str(error)) from error
    function.restype = ctypes.c_size_t
    function.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
    ]  # fmt: skip
    found: Callable[..., int] = function
    return found


def _library() -> Path:
    """The extension module of xllamacpp, which llama.cpp is linked into."""
    spec = importlib.util.find_spec("xllamacpp")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        for pattern in ("xllamacpp*.so", "xllamacpp*.pyd", "xllamacpp*.dylib"):
            for path in sorted(Path(folder).glob(pattern)):
                return path
    raise _no_routine("xllamacpp")


def _half(values: Array) -> NDArray[np.uint8]:
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(values, dtype=np.float16)
    if not np.isfinite(half).all():
        raise UserError(
            "export.range",
            say("A weight is too large for 16-bit floats.", "某个权重超出 16 位浮点数的范围。"),
            say("Export as Q8_0, or merge into safetensors instead.", "请改为导出 Q8_0，或合并为 safetensors。"),
        )
    return half.reshape(-1).view(np.uint8)


def _no_routine(details: str) -> UserError:
    return UserError(
        "export.no_quantiser",
        say(
            "The installed llama.cpp library cannot quantise on this machine.",
            "本机安装的 llama.cpp 库无法进行量化。",
        ),
        say("Export as F16, or reinstall Lorimer.", "请导出为 F16，或重新安装 Lorimer。"),
        exit_code=EXIT_MACHINE,
        details=details,
    )
