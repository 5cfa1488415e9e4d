"""All the logits of a text in one go, by llama.cpp's C interface inside the xllamacpp wheel.

The wheel's server gives the probabilities of tokens that it writes, one at a time; reading a text that is given at once
is far faster. The C functions are there where the wheel exports them, which a wheel for Windows may not. Structures
differ between versions of llama.cpp, so this is used only where the defaults that the library itself gives lie at
every place where they are expected (`_as_expected`); else `available` is False and the server is asked.

Source of names and layout: llama.cpp, ``include/llama.h``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.export.llama_cpp import failed
from engine.export.llama_parameters import threads
from engine.merge.reference import Choice

_SPARE = 1024
_F16, _F32 = 1, 0
_INTEGERS = (
    "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max", "n_outputs_max_per_seq", "n_threads",
    "n_threads_batch", "context_type", "rope_scaling", "pooling", "attention", "flash_attention",
)  # fmt: skip
_FLOATS = ("rope_base", "rope_scale", "yarn_ext", "yarn_attn", "yarn_fast", "yarn_slow")
_DEFAULTS = (512, 2048, 512, 1, 0, 0, 1, 4, 4, 0, -1, -1, -1, -1, 0.0, 0.0, -1.0, -1.0, -1.0, -1.0, 0, -1.0, None, None)


class _ModelParameters(ctypes.Structure):
    """The beginning; longer than any version's, which the calling conventions of 64-bit systems allow: a structure of
    this size lies in memory, and the callee reads the part that it knows."""

    _fields_ = (
        ("devices", ctypes.c_void_p),
        ("overrides", ctypes.c_void_p),
        ("n_gpu_layers", ctypes.c_int32),
        ("split_mode", ctypes.c_int32),
        ("rest", ctypes.c_uint64 * (_SPARE // 8)),
    )


class _ContextParameters(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in _INTEGERS),
        *((name, ctypes.c_float) for name in _FLOATS),
        ("yarn_context", ctypes.c_uint32),
        ("defragment", ctypes.c_float),
        ("callback", ctypes.c_void_p),
        ("callback_data", ctypes.c_void_p),
        ("type_k", ctypes.c_int32),
        ("type_v", ctypes.c_int32),
        ("rest", ctypes.c_uint64 * (_SPARE // 8)),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_P, _I = ctypes.c_void_p, ctypes.c_int32
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_log_get": (None, (_P, _P)),
    "llama_log_set": (None, (_P, _P)),
    "llama_model_default_params": (_ModelParameters, ()),
    "llama_context_default_params": (_ContextParameters, ()),
    "llama_model_load_from_file": (_P, (ctypes.c_char_p, _ModelParameters)),
    "llama_init_from_model": (_P, (_P, _ContextParameters)),
    "llama_adapter_lora_init": (_P, (_P, ctypes.c_char_p)),
    "llama_set_adapters_lora": (_I, (_P, ctypes.POINTER(_P), ctypes.c_size_t, ctypes.POINTER(ctypes.c_float))),
    "llama_batch_init": (_Batch, (_I, _I, _I)),
    "llama_batch_free": (None, (_Batch,)),
    "llama_decode": (_I, (_P, _Batch)),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), (_P, _I)),
    "llama_get_memory": (_P, (_P,)),
    "llama_memory_clear": (None, (_P, ctypes.c_bool)),
    "llama_model_get_vocab": (_P, (_P,)),
    "llama_vocab_n_tokens": (_I, (_P,)),
    "llama_n_ctx": (ctypes.c_uint32, (_P,)),
    "llama_n_threads": (_I, (_P,)),
    "llama_free": (None, (_P,)),
    "llama_model_free": (None, (_P,)),
}


_quiet = _LOG(lambda _level, _text, _data: None)
"""Instead of lines on the standard error."""


@cache
def _library() -> Any | None:
    """The wheel's library with the functions declared; None where it lacks one or its structures are others."""
    # Imported here: it maps 100 MB of library, which only a check needs.
    from xllamacpp import xllamacpp as wheel

    try:
        library = ctypes.CDLL(wheel.__file__)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    known = _as_expected(library.llama_model_default_params(), library.llama_context_default_params())
    return library if known else None


def _as_expected(model: _ModelParameters, defaults: _ContextParameters) -> bool:
    """Whether each default of llama.cpp lies where this module would write another value."""
    if (model.devices, model.overrides, model.n_gpu_layers, model.split_mode) != (None, None, -1, 1):
        return False
    names = [name for name, *_ in _ContextParameters._fields_[:-3]]
    same = all(getattr(defaults, name) == value for name, value in zip(names, _DEFAULTS, strict=True))
    return same and defaults.type_k == defaults.type_v == _F16


def available() -> bool:
    """Whether texts can be read in one go here."""
    return _library() is not None


class LlamaLogits:
    """A loaded model that reads texts whole; on the CPU, with a cache in 32-bit floats."""

    def __init__(self, library: Any, model: int, context: int) -> None:
        self._library, self._context = library, context
        self._width = int(library.llama_vocab_n_tokens(library.llama_model_get_vocab(model)))

    def forced(self, ids: Sequence[int], start: int) -> list[Choice]:
        """What it would say at each place from ``start`` on, given the true tokens before: len(ids) - start choices.

        Raises:
            UserError: llama.cpp fails on the text.
        """
        library = self._library
        library.llama_memory_clear(library.llama_get_memory(self._context), True)
        batch = library.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for at, token in enumerate(ids):
                batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.seq_id[at][0] = token, at, 1, 0
                batch.logits[at] = start - 1 <= at < len(ids) - 1
            code = library.llama_decode(self._context, batch)
            if code != 0:
                raise failed("llama_decode", f"code {code}")
            return [self._choice(at, ids[at + 1]) for at in range(start - 1, len(ids) - 1)]
        finally:
            library.llama_batch_free(batch)

    def _choice(self, at: int, given: int) -> Choice:
        row = self._library.llama_get_logits_ith(self._context, at)
        if not row:
            raise failed("llama_get_logits_ith", f"no logits at {at}")
        values = np.ctypeslib.as_array(row, shape=(self._width,)).astype(np.float64)
        second, first = np.argpartition(values, -2)[-2:]
        first, second = (first, second) if values[first] >= values[second] else (second, first)
        top = float(values[first])
        total = top + float(np.log(np.exp(values - top).sum()))
        return Choice(int(first), top - float(values[second]), float(values[given]) - total)


@contextmanager
def reading(path: Path, context: int, places: int, *, lora: Path | None = None) -> Iterator[LlamaLogits]:
    """The GGUF at ``path`` for texts of up to ``context`` tokens; freed when the block ends. Needs `available`.

    Args:
        places: how many of a text's tokens are asked about at most; for each all logits are kept.
        lora: GGUF of an adapter to put on it.

    Raises:
        UserError: llama.cpp does not load it.
    """
    library = _library()
    if library is None:
        raise failed(path.name, "the wheel exports no C interface that is known")
    with _silence(library), _freed(library.llama_model_free) as keep_model:
        library.llama_backend_init()
        values: _ModelParameters = library.llama_model_default_params()
        values.n_gpu_layers = 0
        model = keep_model(library.llama_model_load_from_file(str(path).encode(), values))
        if not model:
            raise failed(path.name, "it does not load")
        with _freed(library.llama_free) as keep_context:
            used = keep_context(library.llama_init_from_model(model, _wanted(library, path, context, places)))
            if not used or library.llama_n_threads(used) != threads(path) or library.llama_n_ctx(used) < context:
                raise failed(path.name, "it cannot be set up")
            if lora is not None:
                _put_on(library, model, used, lora)
            yield LlamaLogits(library, model, used)


def _wanted(library: Any, path: Path, context: int, places: int) -> _ContextParameters:
    values: _ContextParameters = library.llama_context_default_params()
    values.n_ctx = values.n_batch = values.n_ubatch = context
    values.n_outputs_max = values.n_outputs_max_per_seq = min(places, context)
    values.n_threads = values.n_threads_batch = threads(path)
    values.flash_attention = 0
    values.type_k = values.type_v = _F32
    return values


def _put_on(library: Any, model: int, context: int, lora: Path) -> None:
    adapter = library.llama_adapter_lora_init(model, str(lora).encode())
    if not adapter:
        raise failed(lora.name, "the adapter does not load")
    # The model frees it.
    if library.llama_set_adapters_lora(context, (_P * 1)(adapter), 1, (ctypes.c_float * 1)(1.0)) != 0:
        raise failed(lora.name, "the adapter does not fit")


@contextmanager
def _freed(free: Callable[[int], None]) -> Iterator[Callable[[int | None], int | None]]:
    """Frees what it is given to keep when the block ends."""
    kept: list[int | None] = []

    def keep(pointer: int | None) -> int | None:
        kept.append(pointer)
        return pointer

    try:
        yield keep
    finally:
        for pointer in kept:
            if pointer:
                free(pointer)


@contextmanager
def _silence(library: Any) -> Iterator[None]:
    """Without the library's lines on the standard error; afterwards they go where they went before."""
    before, data = _P(), _P()
    library.llama_log_get(ctypes.byref(before), ctypes.byref(data))
    library.llama_log_set(ctypes.cast(_quiet, _P), None)
    try:
        yield
    finally:
        library.llama_log_set(before, data)
