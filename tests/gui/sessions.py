"""A session whose answers the test gives, and what pages say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QWidget
from pytestqt.qtbot import QtBot

from engine.protocol.errors import Failure
from engine.protocol.events import Event
from gui.bridge.session import Ask
from gui.context import AppContext
from gui.operations import data as data_operations
from gui.pages.page import Page

PageT = TypeVar("PageT", bound=Page)


class Session:
    """Stands in for a session's client: keeps what it was asked, and answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.cancelled: list[Ask] = []

    def ask(
        self,
        name: str,
        arguments: dict[str, Any],
        done: Callable[[dict[str, Any]], None],
        failed: Callable[[Failure], None],
        told: Callable[[Event], None],
    ) -> Ask:
        self.asked.append(Ask(name, arguments, done, failed, told))
        return self.asked[-1]

    def cancel(self, ask: Ask) -> None:
        self.cancelled.append(ask)

    def drop(self, ask: Ask) -> None:
        ask.dropped = True

    def all(self, name: str) -> list[Ask]:
        return [ask for ask in self.asked if ask.name == name]

    def last(self, name: str) -> Ask:
        return self.all(name)[-1]

    def ask_to_end(self) -> None:
        """It has no thread."""

    def close(self) -> None:
        """It has no process."""


def shown(qtbot: QtBot, page: PageT) -> PageT:
    qtbot.addWidget(page)
    page.resize(1050, 700)
    page.show()
    page.refresh()
    return page


def read(context: AppContext, data: Session, answer: dict[str, Any] | Failure) -> None:
    """Have the draft's data read, and the session answer at once."""
    data_operations.open_data(context)
    ask = data.last("open_data")
    if isinstance(answer, Failure):
        ask.failed(answer)
    else:
        ask.done(answer)


def texts(widget: QWidget) -> list[str]:
    QApplication.processEvents()  # what was put into a layout just now is shown
    return [label.text() for label in widget.findChildren(QLabel) if label.isVisible() and label.text()]


def buttons(widget: QWidget) -> dict[str, QAbstractButton]:
    QApplication.processEvents()
    return {b.text(): b for b in widget.findChildren(QAbstractButton) if b.isVisible() and b.text()}
