"""Saving the bundle for a report: asked where to, made beside the window, told with the folder."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFileDialog, QPushButton
from pytestqt.qtbot import QtBot

from engine.project.run_folder import RunFolder
from gui.context import AppContext
from gui.operations.bundle import report_run, save_bundle
from gui.widgets.notice_strip import NoticeStrip


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "0001-run")
    made.path.mkdir()
    made.recipe.write_text('[model]\nsource = "starter"\n', encoding="utf-8")
    return made


def test_a_bundle_is_saved_and_its_folder_can_be_opened(
    qtbot: QtBot, context: AppContext, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def choose(*arguments: object) -> tuple[str, str]:
        asked.append(str(arguments[2]))
        return str(tmp_path / "report"), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    report_run(context)
    assert asked == []  # no run is looked at
    saving = save_bundle(context, run)
    assert saving is not None
    with qtbot.waitSignal(saving.ended, timeout=10_000):
        pass
    assert asked == ["lorimer-0001-run.zip"]
    assert "recipe.toml" in zipfile.ZipFile(tmp_path / "report.zip").namelist()
    notice = context.notices.open[-1]
    assert (notice.level, notice.folder) == ("good", tmp_path)
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    strip = NoticeStrip(context.notices)
    qtbot.addWidget(strip)
    next(made for made in strip.findChildren(QPushButton) if made.text() == "Open folder").click()
    assert opened == [str(tmp_path)]


def test_nothing_is_made_where_no_place_is_chosen(
    context: AppContext, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    assert save_bundle(context, run) is None


def test_a_disk_that_refuses_is_told(
    qtbot: QtBot, context: AppContext, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (f"{run.recipe}/x.zip", ""))
    saving = save_bundle(context, run)
    assert saving is not None
    with qtbot.waitSignal(saving.ended, timeout=10_000):
        pass
    assert context.notices.open[-1].level == "error"
