"""Numbers as people read them: with a unit, in the window's language, never a bare float."""

from __future__ import annotations

import time

from engine.protocol.text import say
from gui.i18n.language import tr

NONE = "—"
_GIB = 2**30


def count(value: float) -> str:
    """Whole number with thousands marked: 4,812."""
    return f"{round(value):,}"


def parameters(value: float) -> str:
    """Number of weights: 7.6 B, 40.4 M, 260 k."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.1f} {unit}" if scaled < 100 else f"{scaled:.0f} {unit}"
    return count(value)


def gib(value: float | None) -> str:
    """Memory given in GiB: "15.6 GiB", below a tenth in MiB."""
    if value is None:
        return NONE
    return f"{value:.1f} GiB" if value >= 0.1 else f"{value * 1024:.0f} MiB"


def size(value: float) -> str:
    """Size of files given in bytes, in binary units."""
    for power, unit in ((_GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= power * 1000 / 1024:  # never "1010 KiB" beside "1.2 MiB"
            scaled = value / power
            return f"{scaled:.1f} {unit}" if scaled < 10 else f"{scaled:.0f} {unit}"
    return tr(say("{n} bytes", "{n} 字节", n=count(value)))


def duration(seconds: float | None) -> str:
    """A span of time: "42 s", "24 min", "1 h 05 min", "2 d 3 h"."""
    if seconds is None:
        return NONE
    if seconds < 90:
        return tr(say("{n} s", "{n} 秒", n=max(1, round(seconds))))
    minutes = round(seconds / 60)
    if minutes < 60:
        return tr(say("{n} min", "{n} 分钟", n=minutes))
    if minutes < 48 * 60:
        return tr(say("{h} h {m:02d} min", "{h} 小时 {m:02d} 分", h=minutes // 60, m=minutes % 60))
    hours = round(seconds / 3600)
    return tr(say("{d} d {h} h", "{d} 天 {h} 小时", d=hours // 24, h=hours % 24))


def percent(fraction: float | None, digits: int = 0) -> str:
    """A fraction 0 to 1 as per cent: 62%."""
    return NONE if fraction is None else f"{fraction * 100:.{digits}f}%"


def figure(value: float | None, digits: int = 2) -> str:
    """A measured figure such as a loss, with a fixed number of decimals."""
    return NONE if value is None else f"{value:,.{digits}f}"


def short(value: float | None) -> str:
    """A figure of any magnitude, such as a learning rate: 1.1e-4, 0.42, 3."""
    if value is None:
        return NONE
    if value != 0 and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.3g}"


def length(tokens: float) -> str:
    """A context or row length: 512, 32 k."""
    return f"{tokens / 1024:.0f} k" if tokens >= 8192 else count(tokens)


def clock(moment: float) -> str:
    """Time of day of an epoch second: 10:41."""
    return time.strftime("%H:%M", time.localtime(moment))


def day(moment: float) -> str:
    """Date and time of day of an epoch second: 2026-03-08 10:41."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
