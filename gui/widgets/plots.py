"""Curves that grow while one watches: zoom, pan, reset, read a value, save. Imported when the first plot is shown.

Knows nothing of runs: it is given names, numbers and marks.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from pyqtgraph.exporters import ImageExporter
from PySide6.QtCore import QBuffer, QEvent, QPointF, QRectF, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QEnterEvent,
    QFocusEvent,
    QHideEvent,
    QKeyEvent,
    QKeySequence,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QShortcut,
    QShowEvent,
)
from PySide6.QtWidgets import QFileDialog, QFrame, QVBoxLayout, QWidget

from engine.project.atomic import write_bytes, write_text
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import short
from gui.theme.apply import colour, palette, text_font
from gui.widgets.basic import label, row, tool

T = TypeVar("T")
REDRAW_MS = 100
AXIS_WIDTH = 44
APART_SECONDS = 0.033
"""Plots draw one after the other, each in a frame of its own, however late their timers are."""
NUMBER_HIGH = 12
"""Pixels from one number of the upright axis to the next at least."""
SPEAKS = 70
"""Pixels of height from which levels have words."""
WORDS_HIGH = 24
"""Pixels above the highest line of a plot that begins at zero."""
NEAR = 0.015
"""Share of the axis within which a mark is read."""
STEP = 0.12
ZOOMS = {Qt.Key.Key_Plus: 0.8, Qt.Key.Key_Equal: 0.8, Qt.Key.Key_Minus: 1.25}
PANS = {
    Qt.Key.Key_Left: (-STEP, 0.0),
    Qt.Key.Key_Right: (STEP, 0.0),
    Qt.Key.Key_Down: (0.0, -STEP),
    Qt.Key.Key_Up: (0.0, STEP),
}
KEYS = say(
    "Wheel or + −: zoom · drag or arrows: pan · double click or R: all · Ctrl+S: save as PNG or CSV",
    "滚轮或 + −：缩放 · 拖动或方向键：平移 · 双击或 R：显示全部 · Ctrl+S：保存为 PNG 或 CSV",
)
# Words stand left of an upright line and above a level one, whichever side of the plot it is on.
_ANCHORS = {90: [(1, 0), (1, 0)], 0: [(1, 1), (1, 1)]}
_BELOW = [(1, 0), (1, 0)]


class UprightAxis(pg.AxisItem):  # type: ignore[misc]
    """Its numbers never touch, however low the plot is."""

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, float]]:
        """Distance of its numbers and where they begin, in its unit; ``size`` is its length in pixels."""
        levels: list[tuple[float, float]] = super().tickSpacing(minVal, maxVal, size)
        spacing, offset = levels[0]
        while maxVal > minVal and size > 0 and 0 < spacing * size / (maxVal - minVal) < NUMBER_HIGH:
            spacing *= 2
        return [(spacing, offset), *levels[1:]]


class Growing:
    """Numbers that are added one by one and read as one array, which is never copied to be drawn."""

    def __init__(self) -> None:
        self._room = np.empty(256)
        self._count = 0

    def add(self, value: float) -> None:
        """One more. Arrays given out before stay as they are."""
        if self._count == len(self._room):
            self._room = np.concatenate([self._room, np.empty(self._count)])
        self._room[self._count] = value
        self._count += 1

    @property
    def values(self) -> NDArray[np.float64]:
        """All of them."""
        return self._room[: self._count]


class Smoothing:
    """Exponential moving average without the start's bias, as TensorBoard draws it; weight 0 leaves the values alone.

    Values are added one by one, so that a curve that grows is not computed anew each time.
    """

    def __init__(self, weight: float) -> None:
        self._weight, self._mean, self._norm = weight, 0.0, 0.0
        self._averages = Growing()

    @property
    def values(self) -> NDArray[np.float64]:
        """An average for each value that was added."""
        return self._averages.values

    def add(self, value: float) -> None:
        """One more value; one that is not finite leaves the average as it was."""
        if math.isfinite(value):
            self._mean = self._weight * self._mean + (1 - self._weight) * value
            self._norm = self._weight * self._norm + (1 - self._weight)
        self._averages.add(self._mean / self._norm if self._norm else value)


@dataclass(slots=True)
class _Series:
    """One curve: what it is called, how it is drawn, and its numbers."""

    name: str
    ink: QColor
    points: bool
    smooth: float
    across: Growing = field(default_factory=Growing)
    up: Growing = field(default_factory=Growing)
    smoothing: Smoothing = field(default_factory=lambda: Smoothing(0.0))
    seen: int = 0
    last: object = None
    raw: Any = None
    line: Any = None

    def clear(self) -> None:
        """Begin anew."""
        self.across, self.up, self.seen, self.last = Growing(), Growing(), 0, None
        self.smoothing = Smoothing(self.smooth)

    def add(self, x: float, y: float) -> None:
        """One more value."""
        self.across.add(x)
        self.up.add(y)
        if self.smooth:
            self.smoothing.add(y)

    @property
    def xs(self) -> NDArray[np.float64]:
        """Where its values stand, shape (values,)."""
        return self.across.values

    @property
    def ys(self) -> NDArray[np.float64]:
        """Its values, shape (values,)."""
        return self.up.values


def _pale(ink: QColor) -> QColor:
    """The ink, thinned on the card. Not transparent: lines that lie over each other would add up."""
    card, share = colour("card"), 0.35
    inks = ((ink.red(), card.red()), (ink.green(), card.green()), (ink.blue(), card.blue()))
    return QColor(*(round(share * over + (1 - share) * under) for over, under in inks))


class LinePlot(QWidget):
    """Curves over one axis. New numbers are drawn at the next tick of 100 ms, never at once.

    Wheel or + and - zooms, dragging or an arrow key pans, a double click or R shows everything again, Ctrl+S or the
    button in the corner saves a picture (CSV by its name). One tab stop.

    Signals:
        not_saved(UserError): the disk did not take the picture or the numbers.
    """

    not_saved = Signal(object)

    _free_at = 0.0
    """When the next of all plots may draw, on the monotonic clock."""

    def __init__(self, name: Text, *, x_label: Text, height: int = 0, from_zero: bool = False) -> None:
        super().__init__()
        self._from_zero = from_zero
        self._zoomed = False
        self._name, self._x_label = name, tr(x_label)
        self._series: dict[str, _Series] = {}
        self._marks: dict[str, Any] = {}
        self._pens: dict[str, tuple[str, Qt.PenStyle]] = {}
        self._near: dict[str, tuple[float, str]] = {}
        self._plot = pg.PlotWidget(background=colour("card"), axisItems={"left": UprightAxis("left")})
        self._plot.setFrameShape(self._plot.Shape.NoFrame)
        self._plot.viewport().setCursor(Qt.CursorShape.CrossCursor)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)  # where the frame of the focus is drawn
        layout.setSpacing(0)
        layout.addWidget(self._plot, 1)
        self._corner = self._made_corner()
        if height:
            self.setFixedHeight(height)
        self._dress()
        self._timer = QTimer(self)
        self._timer.setObjectName("plot redraws")
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._take_turn)

    def _made_corner(self) -> QWidget:
        """What is read and the way to save: laid over the plot while one looks at it, so that it takes no room."""
        self._read = label("", "small")
        self._save = tool(say("Save…", "保存…"), self.save)
        self._save.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # a plot is one tab stop; its key is Ctrl+S
        made = QFrame(self)
        made.setLayout(row(self._read, self._save, spacing=6, margins=(6, 0, 0, 0)))
        made.setStyleSheet(f"QFrame {{ background: {colour('card').name()}; }}")
        made.hide()
        return made

    def _place_corner(self) -> None:
        looked_at = self.hasFocus() or self.underMouse()
        self._corner.setVisible(looked_at)
        self._corner.adjustSize()
        self._corner.move(self.width() - self._corner.width() - 2, 2)

    def _dress(self) -> None:
        item = self._plot.getPlotItem()
        item.hideButtons()
        item.setMenuEnabled(False)
        item.showGrid(x=False, y=True, alpha=0.12)
        for side in ("left", "bottom"):
            axis = item.getAxis(side)
            axis.setStyle(tickFont=text_font(11), tickLength=0, autoExpandTextSpace=False, maxTickLevel=0)
            axis.setTextPen(colour("muted"))
            axis.setPen(pg.mkPen(colour("line")))
        # Of one width: an axis that grows with its numbers has everything laid out and painted once more.
        item.getAxis("left").setWidth(AXIS_WIDTH)
        item.getViewBox().setDefaultPadding(0.02)
        if self._from_zero:
            item.getViewBox().setLimits(yMin=0)
        item.getViewBox().sigRangeChangedManually.connect(self._zoomed_by_hand)
        self._plot.setAntialiasing(True)
        self._plot.scene().sigMouseMoved.connect(self._hover)
        self._plot.scene().sigMouseClicked.connect(self._clicked)
        self._plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(tr(self._name))
        self.setAccessibleDescription(tr(KEYS))
        self.setToolTip(tr(KEYS))
        for keys, action in (("R", self.show_all), ("Ctrl+S", self.save)):
            QShortcut(QKeySequence(keys), self, action, context=Qt.ShortcutContext.WidgetWithChildrenShortcut)

    # -------------------------------------------------------------------------------------------------- what is shown
    def add(self, key: str, name: Text, *, ink: int = 0, points: bool = False, smooth: float = 0.0) -> None:
        """Add a curve. ``smooth`` 0 to 1 draws the average over the pale raw values; ``points`` marks each value."""
        series = _Series(tr(name), QColor(palette().series[ink]), points, smooth)
        pen = pg.mkPen(_pale(series.ink), width=1) if smooth else pg.mkPen(series.ink, width=2)
        series.raw = self._plot.plot(pen=pen)
        if points:
            series.raw.setSymbol("o")
            series.raw.setSymbolSize(6)
            series.raw.setSymbolBrush(series.ink)
            series.raw.setSymbolPen(None)
        if smooth:
            series.line = self._plot.plot(pen=pg.mkPen(series.ink, width=2))
        for curve, method in ((series.raw, "peak"), (series.line, "subsample")):
            if curve is not None and not points:
                curve.setDownsampling(auto=True, method=method)
                curve.setClipToView(True)
        series.clear()
        self._series[key] = series

    def put(self, key: str, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Give a curve all its numbers; drawn at the next tick."""
        series = self._series[key]
        series.clear()
        for x, y in zip(xs, ys, strict=True):
            series.add(x, y)
        self.touch()

    def follow(self, key: str, items: Sequence[T], point: Callable[[T], tuple[float, float | None]]) -> None:
        """Let a curve follow a sequence that grows: only what is new since the last call is looked at.

        Args:
            items: all of them; when it is no longer what it was, the curve begins anew.
            point: item → x and y; y None leaves the item out.
        """
        series = self._series[key]
        if series.seen > len(items) or (series.seen and items[series.seen - 1] is not series.last):
            series.clear()
        for item in items[series.seen :]:
            x, y = point(item)
            if y is not None:
                series.add(x, y)
        series.seen, series.last = len(items), items[-1] if items else None
        self.touch()

    def mark(self, key: str, x: float, words: str, *, ink: str = "faint", quiet: bool = False) -> None:
        """A vertical dotted line with words, such as a checkpoint; the same key moves it.

        The words of a quiet one are only read where the mouse is near, so that many lines do not cover the curve.
        """
        self._line(key, x, "" if quiet else words, 90, ink)
        self._near[key] = (x, words)

    def level(
        self,
        key: str,
        y: float,
        words: str,
        ink: str = "warn",
        *,
        dotted: bool = False,
        at: float = 0.96,
        below: bool = False,
    ) -> None:
        """A horizontal dashed line with words, such as a limit; the same key moves it. The words stand above it, or
        below, and end at ``at``, a share of the width."""
        anchors, before = _BELOW if below else _ANCHORS[0], self._marks.get(key)
        if before is None or (before.value(), before.label.format) != (y, words):
            style = Qt.PenStyle.DotLine if dotted else Qt.PenStyle.DashLine
            self._line(key, y, words, 0, ink, style=style, at=at)
        made = self._marks[key].label
        if (made.orthoPos, made.anchors) != (at, anchors):
            made.anchors = anchors
            made.setPosition(at)

    def _line(
        self,
        key: str,
        value: float,
        words: str,
        angle: int,
        ink: str,
        *,
        style: Qt.PenStyle = Qt.PenStyle.DashLine,
        at: float = 0.96,
    ) -> None:
        pen = (ink, style)
        if key in self._marks:
            line = self._marks[key]
            if (line.value(), line.label.format) != (value, words):
                line.setValue(value)
                line.label.setFormat(words)
            if self._pens[key] != pen:
                self._pens[key] = pen
                line.setPen(pg.mkPen(colour(ink), width=1, style=style))
            return
        line = pg.InfiniteLine(
            pos=value,
            angle=angle,
            pen=pg.mkPen(colour(ink), width=1, style=style),
            label=words,
            labelOpts={"position": at, "color": colour("muted"), "movable": False, "anchors": _ANCHORS[angle]},
        )
        if not angle:
            line.label.fill = pg.mkBrush(colour("card"))  # readable where another level crosses the words
        line.label.setFont(text_font(11))
        self._plot.addItem(line)
        self._marks[key], self._pens[key] = line, pen

    def keep_marks(self, keys: set[str]) -> None:
        """Take all upright lines away but these. A line that stays is not made anew: what Qt sets aside for its words
        is not all given back, which adds up over days."""
        for key in [key for key, line in self._marks.items() if line.angle and key not in keys]:
            self._plot.removeItem(self._marks.pop(key))
            del self._pens[key], self._near[key]

    def clear_marks(self) -> None:
        """Take all lines away."""
        for line in self._marks.values():
            self._plot.removeItem(line)
        self._marks, self._pens, self._near = {}, {}, {}

    def touch(self) -> None:
        """Draw at the next tick."""
        if self.isVisible() and not self._timer.isActive():
            self._timer.start(REDRAW_MS)

    def _take_turn(self) -> None:
        wait = LinePlot._free_at - time.monotonic()
        if wait > 0:
            self._timer.start(math.ceil(1000 * wait))
            return
        LinePlot._free_at = time.monotonic() + APART_SECONDS
        self.redraw()

    def redraw(self) -> None:
        """Draw now what was given."""
        for series in self._series.values():
            series.raw.setData(series.xs, series.ys)
            if series.line is not None:
                series.line.setData(series.xs, series.smoothing.values)
        if self._from_zero and not self._zoomed:
            self._show_from_zero()
        # Ranges found while painting have everything painted twice.
        self._plot.getPlotItem().getViewBox().prepareForPaint()

    def _show_from_zero(self) -> None:
        # Words stand above a level: the room for them is pixels, whatever the plot's height; a low plot has none.
        height = self._plot.getViewBox().height()
        speaks = height >= SPEAKS
        room = (height - WORDS_HIGH) / height if speaks else 0.85
        for mark in self._marks.values():
            if mark.angle == 0:
                mark.label.setVisible(speaks)
        highest = [float(np.nanmax(series.ys)) for series in self._series.values() if len(series.ys)]
        highest += [float(mark.value()) for mark in self._marks.values() if mark.angle == 0]
        if highest and max(highest) > 0:
            self._plot.setYRange(0, max(highest) / room, padding=0)

    # --------------------------------------------------------------------------------------------------- what one does
    def show_all(self) -> None:
        """Zoom and pan back to everything."""
        self._zoomed = False
        self._plot.getPlotItem().enableAutoRange(x=True, y=not self._from_zero)
        self.redraw()

    def _zoomed_by_hand(self) -> None:
        self._zoomed = True

    def _clicked(self, event: Any) -> None:
        if event.double():
            self.show_all()

    def _hover(self, position: QPointF) -> None:
        if self._plot.sceneBoundingRect().contains(position):
            x = self._plot.getPlotItem().getViewBox().mapSceneToView(position).x()
            self._read.setText(self.reading(x))
            self._place_corner()

    def reading(self, x: float) -> str:
        """What the curves say nearest to ``x``, in words."""
        words = [f"{self._x_label} {x:.0f}"]
        for series in self._series.values():
            if len(series.xs):
                nearest = int(np.argmin(np.abs(series.xs - x)))
                words.append(f"{series.name} {short(float(series.ys[nearest]))}")
        low, high = self._plot.getViewBox().viewRange()[0]
        words += [text for at, text in self._near.values() if abs(at - x) <= NEAR * (high - low)]
        levels = [mark.label for mark in self._marks.values() if mark.angle == 0]
        words += [each.format for each in levels if not each.isVisible()]
        return " · ".join(words)

    def highest(self, key: str) -> float | None:
        """The highest value of a curve, None while it has none."""
        ys = self._series[key].ys
        return float(ys.max()) if len(ys) else None

    def newest(self, key: str) -> float | None:
        """The last value of a curve, None while it has none."""
        ys = self._series[key].ys
        return float(ys[-1]) if len(ys) else None

    def csv(self) -> str:
        """All numbers as CSV: curve, x, y."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["series", "x", "y"])
        for series in self._series.values():
            writer.writerows((series.name, float(x), float(y)) for x, y in zip(series.xs, series.ys, strict=True))
        return text.getvalue()

    def save(self) -> None:
        """Ask where to, and save a picture or the numbers."""
        kinds = "PNG (*.png);;CSV (*.csv)"
        chosen, kind = QFileDialog.getSaveFileName(self, tr(say("Save the plot", "保存图表")), "plot.png", kinds)
        if not chosen:
            return
        path = Path(chosen)
        if path.suffix.lower() not in (".png", ".csv"):
            path = path.with_name(f"{path.name}.{kind[:3].lower()}")
        try:
            self.save_to(path)
        except UserError as error:
            self.not_saved.emit(error)

    def save_to(self, path: Path) -> None:
        """Save as CSV where the name says so, else as PNG. Raises `UserError` when the disk does not take it."""
        if path.suffix.lower() == ".csv":
            write_text(path, self.csv())
        else:
            write_bytes(path, self._picture())

    def _picture(self) -> bytes:
        self.redraw()
        exporter = ImageExporter(self._plot.getPlotItem())
        exporter.parameters()["background"] = colour("card")
        content = QBuffer()
        content.open(QBuffer.OpenModeFlag.WriteOnly)
        exporter.export(toBytes=True).save(content, "PNG")
        return bytes(content.data().data())

    # ------------------------------------------------------------------------------------------------- Qt's overrides
    def showEvent(self, event: QShowEvent) -> None:
        """Draw what came while nobody looked."""
        super().showEvent(event)
        self.touch()

    def hideEvent(self, event: QHideEvent) -> None:
        """Nobody looks: nothing is drawn."""
        super().hideEvent(event)
        self._timer.stop()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the corner in its place and the words in view."""
        super().resizeEvent(event)
        self._place_corner()
        self.touch()

    def enterEvent(self, event: QEnterEvent) -> None:
        """One looks at it."""
        super().enterEvent(event)
        self._place_corner()

    def leaveEvent(self, event: QEvent) -> None:
        """One looks elsewhere."""
        super().leaveEvent(event)
        self._read.clear()
        self._place_corner()

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Show that the keys are for this plot."""
        super().focusInEvent(event)
        self._place_corner()
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """The keys are for another."""
        super().focusOutEvent(event)
        self._place_corner()
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Zoom with + and -, pan with the arrows."""
        box = self._plot.getViewBox()
        (left, right), (low, high) = box.viewRange()
        if event.key() in ZOOMS:
            factor = ZOOMS[Qt.Key(event.key())]
            box.scaleBy((factor, 1.0 if self._from_zero else factor))
        elif event.key() in PANS:
            x, y = PANS[Qt.Key(event.key())]
            box.translateBy(x=x * (right - left), y=0.0 if self._from_zero else y * (high - low))
        else:
            super().keyPressEvent(event)
            return
        self._zoomed = True

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the frame of the focus."""
        super().paintEvent(event)
        if self.hasFocus():
            painter = QPainter(self)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(colour("accent"), 1.5))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 5, 5)
