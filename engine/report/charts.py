"""Charts as SVG inside the page: no picture to fetch, no script, sharp on paper, coloured by the style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.report.markup import NONE, Html, escaped, joined, tag

WIDTH = 960
_ROW, _BAR = 46, 11
_LEFT, _RIGHT = 250, 90
_HEIGHT, _EDGE_LEFT, _EDGE_BOTTOM, _EDGE_TOP = 260, 58, 30, 12
_MOST_POINTS = 600


@dataclass(frozen=True, slots=True)
class Bar:
    """A value from 0 to 1 with its interval and how it is written; None where it has none."""

    value: float | None
    text: str
    low: float | None = None
    high: float | None = None


def pair_bars(rows: Sequence[tuple[str, str, Bar, Bar]], label: str) -> Html:
    """Base above, tuned below, for each (name, what stands below it, base, tuned).

    Args:
        label: what a screen reader says.
    """
    parts: list[str] = []
    for number, (name, about, base, tuned) in enumerate(rows):
        top = number * (_ROW + 8)
        parts.append(tag("text", _short(name, 34), x=0, y=top + 16, cls="name"))
        parts.append(tag("text", _short(about, 40), x=0, y=top + 33))
        for bar, kind, y in ((base, "base", top + 5), (tuned, "tuned", top + 21)):
            parts += _bar(bar, kind, y)
    return _svg(max(1, len(rows)) * (_ROW + 8), label, *parts)


def _bar(bar: Bar, kind: str, y: int) -> list[str]:
    room = WIDTH - _LEFT - _RIGHT
    parts: list[str] = [tag("rect", x=_LEFT, y=y, width=room, height=_BAR, rx=3, cls="fill-track")]
    if bar.value is not None:
        parts.append(tag("rect", x=_LEFT, y=y, width=room * _inside(bar.value), height=_BAR, rx=3, cls=f"fill-{kind}"))
    if bar.low is not None and bar.high is not None:
        ends = [_LEFT + room * _inside(end) for end in (bar.low, bar.high)]
        middle = y + _BAR / 2
        parts.append(tag("line", x1=ends[0], x2=ends[1], y1=middle, y2=middle, cls="whisker"))
    parts.append(tag("text", bar.text, x=_LEFT + room + 10, y=y + _BAR - 1))
    return parts


def share_bar(shares: Sequence[tuple[float, str]], label: str) -> Html:
    """One bar of parts that sum to 1, each with the class that colours it."""
    parts: list[str] = []
    at = 0.0
    for share, kind in shares:
        parts.append(tag("rect", x=at * WIDTH, y=0, width=max(0.0, share) * WIDTH, height=18, cls=kind))
        at += share
    return _svg(18, label, *parts)


def curve(
    steps: Sequence[tuple[float, float]], held: Sequence[tuple[float, float]], label: str, across: str, up: str
) -> Html:
    """Losses by step: the raw line, a smoothed one over it, and what was measured on held-out rows.

    Args:
        steps, held: (step, loss); losses that are no numbers are left out.
        across, up: what stands along the axes.
    """
    steps = _thinned([point for point in steps if math.isfinite(point[1])])
    held = _thinned([point for point in held if math.isfinite(point[1])])
    if not steps and not held:
        return NONE
    high = _top([loss for _, loss in (*steps, *held)])
    last = max(step for step, _ in (*steps, *held)) or 1.0

    def at(point: tuple[float, float]) -> tuple[float, float]:
        x = _EDGE_LEFT + (WIDTH - _EDGE_LEFT - 8) * point[0] / last
        return x, _EDGE_TOP + (_HEIGHT - _EDGE_TOP - _EDGE_BOTTOM) * (1 - min(1.0, max(0.0, point[1] / high)))

    parts: list[str] = _axes(high, last, across, up)
    parts.append(tag("polyline", points=_path(map(at, steps)), cls="curve raw"))
    parts.append(tag("polyline", points=_path(map(at, _smoothed(steps))), cls="curve"))
    parts.append(tag("polyline", points=_path(map(at, held)), cls="curve held-line"))
    parts += [tag("circle", cx=x, cy=y, r=3, cls="held") for x, y in map(at, held[:100])]
    return _svg(_HEIGHT, label, *parts)


def _axes(high: float, last: float, across: str, up: str) -> list[str]:
    parts: list[str] = []
    for number in range(5):
        y = _EDGE_TOP + (_HEIGHT - _EDGE_TOP - _EDGE_BOTTOM) * number / 4
        parts.append(tag("line", x1=_EDGE_LEFT, x2=WIDTH - 8, y1=y, y2=y, cls="grid"))
        value = high * (4 - number) / 4
        parts.append(tag("text", f"{value:.3g}", x=_EDGE_LEFT - 8, y=y + 4, text_anchor="end"))
    parts.append(tag("text", f"{across} {last:,.0f}", x=WIDTH - 8, y=_HEIGHT - 8, text_anchor="end"))
    parts.append(tag("text", up, x=_EDGE_LEFT, y=_HEIGHT - 8))
    return parts


def _top(losses: Sequence[float]) -> float:
    """The highest loss shown: a few wild ones at the beginning do not press the rest flat."""
    ordered = sorted(losses)
    most = ordered[min(len(ordered) - 1, int(0.98 * len(ordered)))]
    return max(most * 1.05, 1e-9)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most so many points as a screen shows; the last one is among them."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    step = math.ceil(len(points) / _MOST_POINTS)
    kept = list(points[::step])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean of each point and its neighbours, a fortieth of all points on either side; fewer near the ends."""
    most = len(points) // 40
    found = []
    for place, (step, _) in enumerate(points):
        reach = min(most, place, len(points) - 1 - place)
        near = [loss for _, loss in points[place - reach : place + reach + 1]]
        found.append((step, math.fsum(near) / len(near)))
    return found


def _path(points: object) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)  # type: ignore[attr-defined]


def _svg(height: int, label: str, *parts: str) -> Html:
    opened = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escaped(label)}">'
    return Html(f"{opened}{joined(*parts)}</svg>")


def _inside(value: float) -> float:
    return min(1.0, max(0.0, value))


def _short(text: str, most: int) -> str:
    """A name that fits: a Chinese character is as wide as two letters."""
    width, kept = 0, ""
    for letter in text:
        width += 2 if ord(letter) > 0x2E80 else 1
        if width > most:
            return f"{kept.rstrip()}…"
        kept += letter
    return kept
