"""The most memory that this process holds during parts of its work."""

from __future__ import annotations

import gc
import threading
from types import TracebackType

import psutil
import torch

from engine.host.platform import peak_memory
from engine.machine.detect import gpus
from engine.machine.memory import CUDA_CONTEXT_GIB, GIB

SAMPLE_SECONDS = 0.05
"""Looked at so often where the system does not keep the peak. Each look makes Python's other threads wait a moment."""


class Peak:
    """Watches while its block runs; each `begin` starts another part.

    On a GPU it is what torch reserved, and the CUDA context beside it. On the CPU it is the resident memory, which is
    what the system ends a process for: the system's own peak on Linux, elsewhere looked at now and then. (torch's
    profiler would know what its allocator gave out, but slows the steps that are timed.)

    Attributes:
        gib: of the part that runs, or ran last.

    Args:
        on: "cuda", "mps" or "cpu"; made before anything is on a GPU.
    """

    def __init__(self, on: str) -> None:
        self._on_gpu = on == "cuda"
        self._before = _used_gib() if self._on_gpu else None
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._sampled = 0

    def __enter__(self) -> Peak:
        if not self._on_gpu and peak_memory(forget=True) is None:
            self._thread = threading.Thread(target=self._sample, name="memory-peak", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def begin(self) -> None:
        """Forget what was held by parts before, and give back what is only kept for later."""
        gc.collect()
        if self._on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        elif self._thread is None:
            peak_memory(forget=True)
        self._sampled = int(self._process.memory_info().rss)

    @property
    def gib(self) -> float:
        if self._on_gpu:
            return torch.cuda.max_memory_reserved() / GIB + self._context_gib()
        kept = peak_memory() if self._thread is None else None
        return (self._sampled if kept is None else kept) / GIB

    def _context_gib(self) -> float:
        """What the device has less of because of this process, beside what torch reserved."""
        if self._before is None:
            return CUDA_CONTEXT_GIB
        free, whole = torch.cuda.mem_get_info()
        return float(max(0.0, (whole - free - torch.cuda.memory_reserved()) / GIB - self._before))

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._sampled = max(self._sampled, int(self._process.memory_info().rss))


def _used_gib() -> float | None:
    """What others hold of the GPU; None where several GPUs leave open which one torch takes."""
    found = gpus()
    if len(found) != 1 or found[0].total_gib is None or found[0].free_gib is None:
        return None
    return found[0].total_gib - found[0].free_gib
