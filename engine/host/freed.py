"""What a process group holds of the machine's memory, and whether it is given back when the group is gone."""

from __future__ import annotations

from dataclasses import dataclass, field

import psutil

from engine.host import platform
from engine.host.memory import GIB, resident_bytes
from engine.protocol.text import NOTHING, Text, say

LITTLE_GIB = 0.05


@dataclass(frozen=True, slots=True)
class Held:
    """What a group held when somebody looked.

    Attributes:
        ram_gib: resident memory of its processes.
        gpu_gib: memory that they had on GPUs; None where no driver tells.
        pids: its processes.
    """

    ram_gib: float = 0.0
    gpu_gib: float | None = None
    pids: frozenset[int] = field(default_factory=frozenset)


def held_by(group: int) -> Held:
    """What the process group ``group`` holds now; its head's children count, whatever group they are in."""
    pids = set(platform.group_members(group))
    for pid in list(pids | {group}):
        try:
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.Error:
            continue
        pids.update(process.pid for process in family)
    return Held(resident_bytes(pids) / GIB, _on_gpus(pids), frozenset(pids))


def _on_gpus(pids: set[int] | frozenset[int]) -> float | None:
    """GiB that these processes have on GPUs; None where there is no GPU, or its driver does not say."""
    from engine.machine.detect import gpus  # here: starting a job needs no driver

    users = [user for gpu in gpus() for user in gpu.users or ()]
    known = [user.memory_gib for user in users if user.pid in pids]
    if not users or any(memory is None for memory in known):
        return None
    return sum(memory for memory in known if memory is not None)


def left_of(before: Held) -> Held:
    """What of a group that ended is still there: processes that live on, and memory that the driver has not let go."""
    alive = frozenset(pid for pid in before.pids if platform.process_mark(pid) is not None)
    return Held(resident_bytes(alive) / GIB, _on_gpus(before.pids) if before.gpu_gib else before.gpu_gib, alive)


def given_back(before: Held, after: Held) -> Text:
    """What was given back, and what was not; NOTHING where there was nothing to speak of."""
    if after.pids or (after.gpu_gib or 0.0) > LITTLE_GIB:
        return say(
            "Not all memory was given back: {gib:.1f} GiB are still held by process {pids}.",
            "内存未全部释放：进程 {pids} 仍占用 {gib:.1f} GiB。",
            gib=(after.gpu_gib or 0.0) + after.ram_gib,
            pids=", ".join(str(pid) for pid in sorted(after.pids or before.pids)),
        )
    if before.gpu_gib:
        return say(
            "{gpu:.1f} GiB of the GPU's memory was given back.", "已释放 {gpu:.1f} GiB 显存。", gpu=before.gpu_gib
        )
    if before.ram_gib < LITTLE_GIB:
        return NOTHING
    return say("{ram:.1f} GiB of memory was given back.", "已释放 {ram:.1f} GiB 内存。", ram=before.ram_gib)
