"""How much memory this process and all its children hold, sampled from outside."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType

import psutil

GIB = 1024**3


def tree_bytes(pid: int | None = None) -> int:
    """Resident bytes of a process and all its descendants; pages that several share are counted in each."""
    try:
        head = psutil.Process(pid)
        family = [head, *head.children(recursive=True)]
    except psutil.Error:
        return 0
    return resident_bytes(process.pid for process in family)


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident bytes of some processes; one that has ended has none."""
    return sum(map(_resident, pids))


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


class MemoryWatch:
    """Samples `tree_bytes` while its block runs.

    Attributes:
        peak_gib: the largest sample.
    """

    def __init__(self, *, seconds: float = 0.2) -> None:
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory-watch")
        self.peak_gib = 0.0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.peak_gib = max(self.peak_gib, tree_bytes() / GIB)
            if self._ended.wait(self._seconds):
                return
