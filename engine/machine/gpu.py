"""One GPU, whoever made it, and who uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GIB = 2**30

Throttle = Literal["heat", "power", "hardware"]


@dataclass(frozen=True, slots=True)
class GpuUser:
    """A process that holds memory on a GPU.

    Attributes:
        pid: its process.
        name: the program's name, empty when the system does not say.
        memory_gib: what it holds, None when the driver does not say (Windows' does not).
    """

    pid: int
    name: str
    memory_gib: float | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; None where nobody says.

    Attributes:
        index: its maker's number.
        name: such as "NVIDIA GeForce RTX 4090".
        vendor: "nvidia", "amd", "apple" or "intel".
        total_gib, free_gib: device memory.
        capability: CUDA compute capability, such as (8, 9).
        architecture: what others have in its place, such as "gfx1100" or "metal3".
        driver: driver version; cuda: newest CUDA version that the driver supports.
        power_w, power_limit_w: drawn, and allowed.
        busy: share of the last sampling period in which a kernel ran, 0 to 1.
        users: processes that hold memory on it.
        throttled: why its clocks are held down now; empty when they are not.
    """

    index: int
    name: str
    total_gib: float | None = None
    free_gib: float | None = None
    capability: tuple[int, int] | None = None
    driver: str | None = None
    cuda: str | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    busy: float | None = None
    users: tuple[GpuUser, ...] | None = None
    throttled: tuple[Throttle, ...] | None = None
    power_limit_w: float | None = None
    vendor: Literal["nvidia", "amd", "apple", "intel"] = "nvidia"
    architecture: str | None = None

    @property
    def bf16(self) -> bool | None:
        """Whether it computes in bfloat16: from compute capability 8.0 on (NVIDIA, CUDA C programming guide)."""
        return None if self.capability is None else self.capability >= (8, 0)

    @property
    def processes(self) -> int | None:
        """How many processes hold memory on it."""
        return None if self.users is None else len(self.users)
