"""What was measured on this machine, beside what the formulas told: kept per device, and the correction that follows.

The formulas count what the allocator hands out. What a process holds on top (libraries, a CUDA context, fragments)
differs from machine to machine; so does the speed. Each measurement adds one line to the device's file, and the next
forecast there is corrected by them.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from engine.host.platform import config_folder
from engine.project.atomic import read_json, write_json
from engine.protocol.errors import UserError

# Older measurements are forgotten: drivers and libraries change.
KEPT = 40
# The overhead is set so high that the next case stays below the forecast with this chance.
COVERED = 0.95
# Fields of `Measured` that are no amounts.
_WORDS = ("torch", "method")
# A time factor beyond this is a machine that did something else meanwhile.
SLOWEST, FASTEST = 20.0, 0.05


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement and what had been told, uncorrected; `engine.machine.forecast.measured` makes one.

    Attributes:
        counted_gib: memory by the formulas, the reserve left out; passing_gib: the part of it that comes and goes.
        held_gib: what the device had less of at the peak because of the run: on the CPU the process's resident memory,
            on a GPU what torch reserved and the CUDA context.
        told_seconds, seconds: of a step; 0 when it was not measured.
        torch: version that it ran with.
        method: the recipe's ``method.name``; the speed of one says little of another's.
        told_checkpoint_bytes, checkpoint_bytes: size of one checkpoint; 0 when none was written.
        write_bytes_per_second: how fast that checkpoint was on the disk, flushed; 0 when none was written.
    """

    counted_gib: float
    passing_gib: float
    held_gib: float
    told_seconds: float = 0.0
    seconds: float = 0.0
    torch: str = ""
    method: str = ""
    told_checkpoint_bytes: int = 0
    checkpoint_bytes: int = 0
    write_bytes_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """How forecasts are corrected on one device.

    Attributes:
        fixed_gib: what is held before anything is counted; None for the formulas' own figure.
        share: held on top, as a share of what comes and goes; None likewise.
        time: measured seconds for each told one, all methods together.
        times: the same by method, where it was measured.
        checkpoint: measured bytes of a checkpoint for each told one.
        write_bytes_per_second: of the disk; None where it was not measured.
        cases: measurements behind it; 0 when there is none.
    """

    fixed_gib: float | None = None
    share: float | None = None
    time: float = 1.0
    times: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    checkpoint: float = 1.0
    write_bytes_per_second: float | None = None
    cases: int = 0

    def time_of(self, method: str) -> float:
        """Measured seconds for each told one, of this method where it was measured."""
        return self.times.get(method, self.time)


UNCALIBRATED = Calibration()


def calibrate(measured: Sequence[Measured], fixed_gib: float, share: float) -> Calibration:
    """The correction that follows from measurements, the newest last.

    Only those of the newest one's version of torch count. What is held beside what is counted keeps its assumed shape
    and is scaled until it covers them: few measurements cannot tell its two parts from one another.

    Args:
        fixed_gib, share: what the formulas take for it, as in `Calibration`.
    """
    if not measured:
        return UNCALIBRATED
    measured = [each for each in measured if each.torch == measured[-1].torch]
    scale = _covering(
        [(each.held_gib - each.counted_gib) / (fixed_gib + share * each.passing_gib) for each in measured]
    )
    methods = {each.method for each in measured}
    by_method = {name: _slower(each for each in measured if each.method == name) for name in methods}
    sizes = [each.checkpoint_bytes / each.told_checkpoint_bytes for each in measured if each.told_checkpoint_bytes]
    speeds = [each.write_bytes_per_second for each in measured if each.write_bytes_per_second]
    return Calibration(
        fixed_gib=max(0.0, scale) * fixed_gib,
        share=max(0.0, scale) * share,
        time=_slower(measured) or 1.0,
        times=MappingProxyType({name: factor for name, factor in by_method.items() if factor and name}),
        checkpoint=statistics.median(sizes) if sizes else 1.0,
        write_bytes_per_second=statistics.median(speeds) if speeds else None,
        cases=len(measured),
    )


def _slower(measured: Iterable[Measured]) -> float | None:
    """Measured seconds for each told one, in the middle; None where none were measured."""
    factors = [each.seconds / each.told_seconds for each in measured if each.seconds > 0 and each.told_seconds > 0]
    believed = [factor for factor in factors if FASTEST <= factor <= SLOWEST]
    return statistics.median(believed) if believed else None


def _covering(values: list[float]) -> float:
    """The smallest of the values that the next one exceeds with a chance of at most 1 - `COVERED`, when it is of their
    kind; the largest where they are too few (Vovk et al. 2005, conformal prediction)."""
    ordered = sorted(values)
    return ordered[min(len(ordered), math.ceil(COVERED * (len(ordered) + 1))) - 1]


# ------------------------------------------------------------------------------------------------------------ the file
def known(device: Literal["cuda", "cpu"], name: str, whole_gib: float) -> tuple[Measured, ...]:
    """What was measured on a device, the newest last; nothing where nothing was, or where the file is damaged."""
    try:
        lines = read_json(_file(device, name, whole_gib))["measured"]
        return tuple(_line(line) for line in lines[-KEPT:])
    except (UserError, KeyError, TypeError, ValueError):
        return ()


def record(device: Literal["cuda", "cpu"], name: str, whole_gib: float, measured: Measured) -> None:
    """Keep one more measurement. Raises `UserError` when the disk does not take it."""
    lines = [*known(device, name, whole_gib), measured][-KEPT:]
    write_json(
        _file(device, name, whole_gib), {"device": device, "name": name, "measured": [asdict(line) for line in lines]}
    )


def _line(plain: dict[str, Any]) -> Measured:
    """A kept line; fields that this version does not know are left out. Raises `ValueError` for what is no number."""
    line = Measured(**{field.name: plain[field.name] for field in fields(Measured) if field.name in plain})
    numbers = [value for name, value in asdict(line).items() if name not in _WORDS]
    if not all(type(number) in (int, float) and math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError(plain)
    if not all(isinstance(getattr(line, name), str) for name in _WORDS):
        raise ValueError(plain)
    return line


def _file(device: str, name: str, whole_gib: float) -> Path:
    """One file for each kind of device: the same card with another amount of memory is another kind."""
    plain = re.sub(r"[^a-z0-9]+", "-", f"{device} {name} {whole_gib:.0f}".lower()).strip("-")
    return config_folder() / "measured" / f"{plain}.json"
