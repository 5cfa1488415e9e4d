"""Names and rows of strangers are shown as they are written: never as HTML, which Qt would fetch pictures for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from engine.protocol.errors import Failure
from engine.protocol.text import say
from gui.state.notices import ERROR, Notices, details_of
from gui.widgets.basic import ElidedLabel, button, label, plain_tip
from gui.widgets.notice_strip import NoticeStrip
from gui.widgets.table import Column, PagedModel

EVIL = '<img src="file://evil.example/share/x.png"><b>bold</b> & <a href="x">y</a>'


@pytest.mark.parametrize("text", [EVIL, "<html>a\nb", "a <b>b</b>", "plain", "x < y", "1 & 2", "第一行\n第二行", ""])
def test_a_tip_says_what_is_written(text: str) -> None:
    tip = plain_tip(text)
    document = QTextDocument()
    document.setHtml(tip) if tip != text else document.setPlainText(tip)
    assert document.toPlainText() == text
    assert "<img" not in tip


def test_labels_tips_and_notices_take_no_html(qtbot: QtBot) -> None:
    notices = Notices()
    notices.tell(ERROR, say("{name}", "{name}", name=EVIL), problems=())
    elided = ElidedLabel(EVIL)
    elided.resize(40, 20)
    widgets = [label(EVIL), elided, button("x", lambda: None, tip=EVIL), NoticeStrip(notices)]
    for widget in widgets:
        qtbot.addWidget(widget)
        widget.show()
        labels = [*widget.findChildren(QLabel), *([widget] if isinstance(widget, QLabel) else [])]
        assert all(made.textFormat() == Qt.TextFormat.PlainText for made in labels)
        assert "<img" not in widget.toolTip()
    assert elided.toolTip()


def test_copied_details_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_PASSWORD", "hunter2")
    failure = Failure("x", say("a", "一"), details="GET https://host/f?Signature=abc123 with hunter2\nValueError: kept")
    told = details_of(failure)
    assert "abc123" not in told
    assert "hunter2" not in told
    assert "ValueError: kept" in told


def test_cells_of_a_table_have_plain_tips() -> None:
    model = PagedModel((Column(say("Title", "标题"), lambda row: str(row["title"])),))
    model.put_all([{"title": EVIL}])
    index = model.index(0, 0)
    assert model.data(index) == EVIL
    assert "<img" not in model.data(index, Qt.ItemDataRole.ToolTipRole)


def test_every_message_box_shows_plain_text(repository: Path) -> None:
    for path in (repository / "gui").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        made = len(re.findall(r"QMessageBox\(", text))
        assert text.count("setTextFormat(Qt.TextFormat.PlainText)") >= made, path
        assert not re.search(r"QMessageBox\.(?:question|warning|critical|information|about)\(", text), path
