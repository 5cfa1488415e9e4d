"""Merged weights to disk: the base's files, each tensor written as it is merged, no whole one of them in memory.

Where everything goes is known before a number is computed, for a safetensors file begins with its table. So rows can be
merged by several threads and written to their places in any order, while files that are done go to the disk.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from engine.merge.changes import CHUNK, Change, rows_at_once
from engine.merge.delta import Adapter
from engine.merge.mapped import DTYPES
from engine.merge.targets import Target
from engine.merge.weights import INDEX, SIZES, BaseWeights
from engine.project.atomic import flush, read_json, write_json
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

WORKERS = 4
_AHEAD = 2 * WORKERS
_COPIED = 16 * 1024**2
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor goes: its file, the first byte there, and how many."""

    path: Path
    start: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Task:
    """A part of the work that one thread does: writes ``bytes`` to ``path``."""

    run: Callable[[], None]
    path: Path
    bytes: int


def write_weights(
    base: BaseWeights, adapter: Adapter, folder: Path, watch: Callable[[int, int], None], device: str = "cpu"
) -> None:
    """Write the merged weights to ``folder``, in the files the base has, with its index where it has one.

    Args:
        watch: told the bytes done and the bytes of all; what it raises ends the work.
        device: "cpu" or "cuda".

    Raises:
        UserError: the adapter does not fit the base.
        OSError: the disk does not take it.
    """
    places = {file: _lay_out(file, base, adapter, folder) for file in base.files}
    total = sum(place.bytes for each in places.values() for place in each.values())
    threads = torch.get_num_threads()
    done = 0
    try:
        with ThreadPoolExecutor(WORKERS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for size in _in_order(pool, _tasks(base, adapter, places, device)):
                done += size
                watch(done, total)
    finally:
        torch.set_num_threads(threads)
    if (base.folder / INDEX).is_file():
        _write_index(base, adapter, folder)


def bytes_of(target: Target) -> int:
    """Size of a tensor on disk."""
    count = SIZES[target.dtype]
    for width in target.shape:
        count *= width
    return count


def check_memory(base: BaseWeights, adapter: Adapter, device: str = "cpu") -> None:
    """See that the free memory holds what merging needs at a time. Raises `UserError`, with both numbers."""
    needed, free = memory_needed(base, adapter), psutil.virtual_memory().available
    if device == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                "merge.no_gpu",
                say("There is no GPU to merge on.", "没有可用于合并的 GPU。"),
                say("Use --device cpu; it gives the same weights.", "请使用 --device cpu；得到的权重相同。"),
                exit_code=EXIT_MACHINE,
            )
        free = min(free, torch.cuda.mem_get_info()[0])
    if free < needed:
        raise UserError(
            "memory.short",
            say(
                "Merging needs {needed:.1f} GiB of memory, {free:.1f} GiB are free.",
                "合并需要 {needed:.1f} GiB 内存，目前空闲 {free:.1f} GiB。",
                needed=needed / _GIB,
                free=free / _GIB,
            ),
            say("Close other programs, then try again.", "请关闭其他程序后重试。"),
            exit_code=EXIT_MACHINE,
        )


def memory_needed(base: BaseWeights, adapter: Adapter) -> int:
    """Bytes that merging holds at a time: rows being merged, and the adapter's tensors for a few weights in float32."""
    parts = max((adapter.bytes_of(key) for key in adapter.parts), default=0)
    largest = max((target.shape for target in adapter.targets.values() if target.key), key=_count, default=())
    first = str(adapter.config.get("init_lora_weights", "")).lower()
    again = 16 * _count(largest) if first in ("pissa", "olora") else 0  # decomposed as a whole
    return 4 * parts + again + (WORKERS + 1) * 4 * 4 * max(CHUNK, _count(largest[1:])) + 64 * 1024**2


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for width in shape:
        count *= width
    return count


def _in_order(pool: ThreadPoolExecutor, tasks: Iterator[Task]) -> Iterator[int]:
    """Do the tasks, a few at a time; gives the bytes of each as it is done. A file that is done goes to the disk."""
    waiting: deque[tuple[Future[None], Task]] = deque()
    left: Counter[Path] = Counter()
    syncing: list[Future[None]] = []
    last: Path | None = None

    def finish() -> int:
        future, task = waiting.popleft()
        future.result()
        left[task.path] -= 1
        if not left[task.path] and task.path != last:
            syncing.append(pool.submit(flush, task.path))
        return task.bytes

    try:
        for task in tasks:
            last = task.path
            left[task.path] += 1
            waiting.append((pool.submit(task.run), task))
            if len(waiting) > _AHEAD:
                yield finish()
        while waiting:
            yield finish()
        for future in syncing:
            future.result()
    finally:
        for future, _ in waiting:
            future.cancel()


def _lay_out(file: str, base: BaseWeights, adapter: Adapter, folder: Path) -> dict[str, Place]:
    """Make a file of the right size with its table; gives where its tensors go, in order."""
    targets = [target for target in adapter.targets.values() if target.file == file]
    # Wide numbers first, as safetensors does it, so that each lies at a multiple of its width.
    targets.sort(key=lambda target: -SIZES[target.dtype])
    table: dict[str, Any] = {"__metadata__": {"format": "pt", **base.metadata.get(file, {})}}
    places, at = {}, 0
    for target in targets:
        size = bytes_of(target)
        table[target.name] = {"dtype": target.dtype, "shape": target.shape, "data_offsets": [at, at + size]}
        places[target.name] = Place(folder / file, at, size)
        at += size
    head = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with (folder / file).open("xb") as out:
        out.write(len(head).to_bytes(8, "little") + head)
        out.truncate(8 + len(head) + at)
    begin = 8 + len(head)
    return {name: Place(place.path, begin + place.start, place.bytes) for name, place in places.items()}


def _tasks(base: BaseWeights, adapter: Adapter, places: dict[str, dict[str, Place]], device: str) -> Iterator[Task]:
    """All the work, file by file; what one weight needs of the adapter is read when its turn comes."""
    for file, each in places.items():
        for name, place in each.items():
            target = adapter.targets[name]
            weight = adapter.source(name)
            dtype = DTYPES[target.dtype]
            if not adapter.changes(name) or (not target.key and weight.dtype == dtype):
                yield from _copies(weight, place)
                continue
            with adapter.fitting(name):
                change = adapter.change(name, weight, device)
                if change is not None and change.whole:
                    change.begin(weight)
            yield from _merges(adapter, name, weight, change, place, dtype, device)
        base.close(file)


def _copies(weight: Tensor, place: Place) -> Iterator[Task]:
    """A tensor as it lies in the base."""
    raw = weight.contiguous().reshape(-1).view(torch.uint8)
    for start in range(0, len(raw), _COPIED):
        piece = raw[start : start + _COPIED]

        def run(piece: Tensor = piece, at: int = place.start + start) -> None:
            _put(place.path, at, piece)

        yield Task(run, place.path, len(piece))


def _merges(
    adapter: Adapter, name: str, weight: Tensor, change: Change | None, place: Place, dtype: torch.dtype, device: str
) -> Iterator[Task]:
    """A tensor with the adapter in it, some rows at a time: added in float32, rounded once."""
    step = rows_at_once(weight)
    row = place.bytes // max(1, len(weight))
    for start in range(0, len(weight), step):
        count = min(step, len(weight) - start)

        def run(start: int = start, count: int = count) -> None:
            values = weight[start : start + count].to(device, torch.float32, copy=True)
            if change is not None:
                with adapter.fitting(name):
                    values = change.rows(start, values)
            _put(place.path, place.start + start * row, values.to(dtype).contiguous().cpu())

        yield Task(run, place.path, count * row)


def _put(path: Path, at: int, values: Tensor) -> None:
    """Write a tensor's bytes to a place in a file."""
    rest = memoryview(values.reshape(-1).view(torch.uint8).numpy().data)
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        while rest:
            rest = rest[file.write(rest) :]


def _write_index(base: BaseWeights, adapter: Adapter, folder: Path) -> None:
    """The base's index with what changed in it."""
    index = read_json(base.folder / INDEX)
    targets = adapter.targets.values()
    about = dict(index.get("metadata") or {}, total_size=sum(bytes_of(target) for target in targets))
    if "total_parameters" in about:
        about["total_parameters"] = sum(_count(target.shape) for target in targets)
    known = {target.name: target.file for target in targets}
    order = [name for name in index["weight_map"] if name in known] + [
        name for name in known if name not in index["weight_map"]
    ]
    write_json(folder / INDEX, {"metadata": about, "weight_map": {name: known[name] for name in order}})
