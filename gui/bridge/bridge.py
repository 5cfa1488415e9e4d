"""All threads of the window in one place: opened when first needed, closed together."""

from __future__ import annotations

from PySide6.QtCore import QObject

from gui.bridge.background import Background
from gui.bridge.jobs import JobWatcher
from gui.bridge.loop import Loop
from gui.bridge.machine import MachineWatcher
from gui.bridge.session import SessionClient


class Bridge(QObject):
    """What the window asks when it wants the engine to work.

    Attributes:
        jobs: follows job folders.
        machine: what the machine is and does.
        background: short calls that may touch the disk.
        data: rows, tokens and models ("data" session).
        hub: downloads, in a session of their own so that rows stay quick meanwhile.
        chat: base and tuned model to talk to.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.jobs = JobWatcher(self)
        self.machine = MachineWatcher(self)
        self.background = Background(self)
        self.data = SessionClient("data", self)
        self.hub = SessionClient("data", self, name="hub")
        self.chat = SessionClient("chat", self)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """Every thread there may be."""
        return (self.jobs, self.machine, self.background, self.data, self.hub, self.chat)

    def close(self) -> None:
        """End all threads and sessions; jobs go on."""
        for loop in self.loops:
            loop.ask_to_end()
        for loop in self.loops:
            loop.close()
