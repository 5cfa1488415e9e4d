"""All threads of the window in one place: opened when first needed, closed together."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from PySide6.QtCore import QObject

if TYPE_CHECKING:
    from gui.bridge.background import Background
    from gui.bridge.control import ControlKeeper
    from gui.bridge.copier import Copier
    from gui.bridge.jobs import JobWatcher
    from gui.bridge.loop import Loop
    from gui.bridge.machine import MachineWatcher
    from gui.bridge.session import SessionClient
    from gui.bridge.stopping import JobCommands

PartT = TypeVar("PartT", bound="Loop | JobWatcher")
SWITCH_SECONDS = 0.0005
"""A thread gives Python's lock up so soon when another waits. Qt's calls let it go and take it back many times while a
frame is drawn; by Python's default each of them may wait 5 ms for a thread that decodes events."""


class Bridge(QObject):
    """What the window asks when it wants the engine to work.

    Each part is imported and made when it is first asked for: the window's first frame waits for none of them.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        sys.setswitchinterval(SWITCH_SECONDS)
        self._is_closed = False

    @cached_property
    def jobs(self) -> JobWatcher:
        """Follows job folders."""
        from gui.bridge.jobs import JobWatcher

        return self._made(JobWatcher(self))

    @cached_property
    def control(self) -> ControlKeeper:
        """Which window controls the open project."""
        from gui.bridge.control import ControlKeeper

        return self._made(ControlKeeper(self))

    @cached_property
    def commands(self) -> JobCommands:
        """Tells jobs what to do, and ends them."""
        from gui.bridge.stopping import JobCommands

        return self._made(JobCommands(self))

    @cached_property
    def machine(self) -> MachineWatcher:
        """What the machine is and does."""
        from gui.bridge.machine import MachineWatcher

        return self._made(MachineWatcher(self))

    @cached_property
    def background(self) -> Background:
        """Short calls that may touch the disk."""
        from gui.bridge.background import Background

        return self._made(Background(self))

    @cached_property
    def copies(self) -> Copier:
        """Copies that take minutes."""
        from gui.bridge.copier import Copier

        return self._made(Copier(self))

    @cached_property
    def data(self) -> SessionClient:
        """Rows, tokens and models ("data" session)."""
        return self._session("data")

    @cached_property
    def hub(self) -> SessionClient:
        """Downloads, in a session of their own so that rows stay quick meanwhile."""
        return self._session("data", name="hub")

    @cached_property
    def chat(self) -> SessionClient:
        """Base and tuned model to talk to."""
        return self._session("chat")

    def _session(self, kind: str, *, name: str = "") -> SessionClient:
        from gui.bridge.session import SessionClient

        return self._made(SessionClient(kind, self, name=name))

    def _made(self, part: PartT) -> PartT:
        """A part that is asked for when the window has closed starts no thread: an answer may come late."""
        if self._is_closed:
            part.close()
        return part

    def close(self) -> None:
        """End all threads and sessions; jobs go on."""
        self._is_closed = True
        names = ("jobs", "control", "commands", "machine", "background", "copies", "data", "hub", "chat")
        made: list[Loop | JobWatcher] = [self.__dict__[name] for name in names if name in self.__dict__]
        for loop in made:
            loop.ask_to_end()
        for loop in made:
            loop.close()
