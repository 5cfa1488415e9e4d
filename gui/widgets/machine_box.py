"""The machine at the foot of the sidebar: device, memory used, temperature, load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtWidgets import QFrame, QVBoxLayout

from engine.protocol.text import say
from gui.i18n.language import tr
from gui.i18n.numbers import percent
from gui.state.machine import MachineState
from gui.widgets.bars import ThinBar
from gui.widgets.basic import ElidedLabel, label

if TYPE_CHECKING:
    from engine.protocol.events import Gauge


class MachineBox(QFrame):
    """Renders `MachineState`."""

    def __init__(self, state: MachineState) -> None:
        super().__init__()
        self._state = state
        self.setProperty("role", "sidecard")
        self.setAccessibleName(tr(say("This machine", "本机")))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(11, 9, 11, 9)
        layout.setSpacing(6)
        self._name = ElidedLabel(say("Looking at the machine…", "正在检测本机…"), "card")
        self._bar = ThinBar()
        self._words = label("", "small", wrap=True)
        for widget in (self._name, self._bar, self._words):
            layout.addWidget(widget)
        state.detected.connect(self.refresh)
        state.gauged.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show what is known now."""
        machine, gauge = self._state.machine, self._state.gauge
        if machine is not None:
            self._name.setText(machine.gpus[0].name if machine.gpus else machine.cpu)
        if gauge is not None:
            used, whole = gauge.memory_gib or 0.0, gauge.memory_total_gib or 0.0
            self._bar.put(used / whole if whole else 0.0)
            self._words.setText(gauge_words(gauge, has_gpu=machine is None or bool(machine.gpus)))


def gauge_words(gauge: Gauge, *, has_gpu: bool) -> str:
    """A gauge in two lines: "17.1 of 24.0 GiB", "68 °C · 97% busy"; a CPU's memory is called so."""
    used, whole = gauge.memory_gib or 0.0, gauge.memory_total_gib or 0.0
    memory = say("{used:.1f} of {whole:.1f} GiB", "{used:.1f} / {whole:.1f} GiB", used=used, whole=whole)
    first = tr(memory) if has_gpu else tr(say("{memory} RAM", "内存 {memory}", memory=memory))
    words = []
    if gauge.temperature_c is not None:
        words.append(f"{gauge.temperature_c:.0f} °C")
    if gauge.busy is not None:
        busy = percent(gauge.busy)
        words.append(tr(say("idle", "空闲") if gauge.busy < 0.02 else say("{n} busy", "占用 {n}", n=busy)))
    return f"{first}\n{' · '.join(words)}" if words else first
