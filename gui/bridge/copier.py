"""A thread of its own for copies that take minutes, so that short calls need not wait for them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gui.bridge.background import Background

if TYPE_CHECKING:
    from PySide6.QtCore import QObject


class Copier(Background):
    """Does one copy after the other. What copies looks at `stopped` now and then, and leaves nothing half done.

    Attributes:
        stopped: the copy under way is to end: the user cancelled it, or the window closes.
        done, total: bytes of the copy under way; total 0 while unknown.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("copies")
        self.stopped = threading.Event()
        self.done, self.total = 0, 0

    def tell(self, done: int, total: int) -> None:
        """How far it is; called by what copies, in the thread.

        Raises:
            Stopped: it is to end.
        """
        from engine.protocol.errors import Stopped

        self.done, self.total = done, total
        if self.stopped.is_set():
            raise Stopped

    def ask_to_end(self) -> None:
        """Have the thread end; a copy under way ends soon."""
        self.stopped.set()
        super().ask_to_end()
