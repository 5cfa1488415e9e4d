"""The Data page on a session whose answers the test gives: search, checks, cells, decisions, doubt, drops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent, QKeySequence
from PySide6.QtWidgets import QApplication, QToolButton
from pytestqt.qtbot import QtBot

from engine.protocol.errors import Failure
from engine.protocol.events import Progress
from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import speak
from gui.operations import data as data_operations
from gui.operations import rows as row_operations
from gui.operations.follow import Follower
from gui.pages.data import DataPage
from gui.pages.words import aside_words, rows_expected, status_label
from gui.state.phase import Phase
from gui.widgets.mix import Mix
from tests.gui.sessions import Session, buttons, read, shown, texts


def check(rows: int | None, action: str = "flag", label: str = "") -> dict[str, Any]:
    words = {"en": label, "zh": label}
    return {"rows": rows, "action": action, "label": words, "hint": words, "explain": words}


QUALITY: dict[str, Any] = {
    "rows": 20,
    "checks": {
        "email": check(3, label="e-mail address"),
        "near_duplicate": check(4, label="near duplicate"),
        "short_answer": check(2, "set_aside", "answer too short"),
        "markup": check(0, label="leftover HTML"),
        "refusal": check(None, "off", "refusal boiler-plate"),
    },
    "languages": {"en": 15, "zh": 5},
    "tasks": {"qa": 20, "code": 0},
    "styles": {"familiar": 12, "polite": 8},
    "uneven": [["familiar", "polite"]],
    "names": {
        "languages": {"en": {"en": "English", "zh": "英语"}, "zh": {"en": "Chinese", "zh": "中文"}},
        "tasks": {"qa": {"en": "questions and answers", "zh": "问答"}},
        "styles": {},
    },
}


def file(name: str = "orders.jsonl", **facts: Any) -> dict[str, Any]:
    return {
        "path": str(Path("/d") / name),
        "name": name,
        "shape": "prompt_completion",
        "mapping": {"prompt": "a", "completion": "b"},
        "columns": ["a", "b", "c"],
        "certainty": "sure",
        "why": {"en": "Because.", "zh": "因为。"},
        **facts,
    }


def facts(*files: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = list(files) or [file()]
    return {
        "name": found[0]["name"],
        "format": "jsonl",
        "encoding": "utf-8",
        "shape": found[0]["shape"],
        "mapping": found[0]["mapping"],
        "columns": found[0]["columns"],
        "files": found,
        "scanned": True,
        "measured": True,
        "rows": 20,
        "total": 20,
        "train": 18,
        "held_out": 2,
        "in_training": 0,
        "set_aside": {},
        "cut": 0,
        "over": 0,
        "limit": 512,
        "problems": [],
        "lengths": {"counts": [20], "edges": [0, 9], "mean": 5, "p50": 5, "p90": 7, "p95": 8, "p99": 9, "longest": 9},
        "template": None,
        "quality": QUALITY,
        "decisions": 0,
        **more,
    }


def lines(count: int, **more: Any) -> dict[str, Any]:
    made = [{"index": i, "question": f"q{i}", "answer": f"a{i}", "status": "ready", **more} for i in range(count)]
    return {"total": count, "start": 0, "rows": made}


def row(index: int = 0, **more: Any) -> dict[str, Any]:
    cells = [
        {"column": "a", "value": "What?", "is_text": True, "changed": False},
        {"column": "b", "value": "[\n 1\n]", "is_text": False, "changed": False},
    ]
    piece = {"text": "Hi", "learned": True, "special": False, "cut": False, "ids": [1]}
    return {
        "index": index,
        "status": "ready",
        "cells": cells,
        "pieces": [piece],
        "length": 1,
        "learned_tokens": 1,
    } | more


@pytest.fixture
def data(context: AppContext) -> Session:
    made = context.bridge.__dict__["data"] = Session()
    return made


@pytest.fixture
def page(qtbot: QtBot, context: AppContext, data: Session) -> DataPage:
    """The Data page with one good file read, its first rows and the first of them in view."""
    data_operations.import_files(context, [Path("/d/orders.jsonl")])
    read(context, data, facts())
    made = shown(qtbot, DataPage(context))
    qtbot.waitUntil(lambda: bool(data.all("rows")))
    data.last("rows").done(lines(20))
    data.last("row").done(row())
    return made


# -------------------------------------------------------------------------------------------------------------- search
def test_the_search_goes_on_beside_the_rows_and_can_be_ended(
    qtbot: QtBot, context: AppContext, data: Session, page: DataPage
) -> None:
    search = page._rows.search
    search.setFocus()
    qtbot.keyClicks(search, "box")
    assert not data.all("find")
    qtbot.keyClick(search, Qt.Key.Key_Return)
    ask = data.last("find")
    assert ask.arguments == {"words": "box"}
    assert ask.told is not None
    ask.told(Progress(done=5, total=20, unit="rows"))
    assert "Searching for “box”… 5 of 20 rows" in texts(page)
    buttons(page)["Cancel"].click()
    assert data.cancelled == [ask]
    assert context.data.words == ""
    qtbot.keyClick(search, Qt.Key.Key_Return)
    data.last("find").done({"found": 3})
    assert data.last("rows").arguments["found"] is True
    data.last("rows").done({**lines(3), "total": 3})
    assert "3 of 20 rows" in texts(page)
    page._rows.show_only("held_out")
    assert data.last("rows").arguments == {"start": 0, "count": 100, "status": "held_out", "found": True}
    qtbot.keyClick(search, Qt.Key.Key_Escape)
    assert search.text() == ""
    assert data.last("rows").arguments["found"] is False


def test_a_failed_search_is_told(qtbot: QtBot, context: AppContext, data: Session, page: DataPage) -> None:
    row_operations.find(context, "box")
    data.last("find").failed(Failure("x", say("It broke.", "出错了。")))
    assert [notice.message.en for notice in context.notices.open] == ["It broke."]
    row_operations.find(context, "  ")
    assert context.data.finding.status.phase is Phase.EMPTY


def test_filters_know_the_rows_of_every_check(page: DataPage) -> None:
    found = facts(
        set_aside={"duplicate": 5, "short_answer": 2}, reasons={"short_answer": {"en": "too short", "zh": ""}}
    )
    assert rows_expected("check:email", found) == 3
    assert rows_expected("language:zh", found) == 5
    assert rows_expected("set_aside", found) == 7
    assert rows_expected("duplicate", found) == 5
    assert status_label("language:zh", found).zh == "中文"
    assert status_label("check:email", found).en == "e-mail address"
    assert status_label("short_answer", found).en == "too short"
    menu = page._rows._menu()
    words = [action.text() for action in menu.actions()]
    assert {"near duplicate · 4", "English · 15", "questions and answers · 20"} <= set(words)


# ---------------------------------------------------------------------------------------------------------------- rows
def test_only_the_newest_pages_are_asked_for(context: AppContext, data: Session, page: DataPage) -> None:
    before = len(data.all("rows"))
    for start in range(100, 2000, 100):
        page._rows._fetch(start)
    assert len(data.all("rows")) == before + 2
    data.all("rows")[before].done(lines(0))
    assert data.last("rows").arguments["start"] == 1900
    assert len(page._rows._waiting) <= 4


def test_columns_suit_the_rows(qtbot: QtBot, context: AppContext, data: Session, page: DataPage) -> None:
    def heads() -> list[str]:
        paged = page._rows.table.paged
        return [paged.headerData(i, Qt.Orientation.Horizontal) for i in range(paged.columnCount())]

    assert heads() == ["#", "Question", "Answer", "Tokens", "Stands"]
    read(context, data, facts(file(shape="text")))
    assert heads() == ["#", "Text", "Tokens", "Stands"]
    read(context, data, facts(file(shape="kto")))
    assert heads()[3] == "Marked"
    page._rows.table.paged.put(0, lines(20, liked=False)["rows"])
    assert page._rows.table.paged.index(0, 3).data() == "avoid"
    read(context, data, facts(file(shape="classification")))
    assert heads()[1:3] == ["Text", "Label"]
    read(context, data, facts(file(shape="preference"), preference=True))
    assert heads()[2:4] == ["Better answer", "Worse answer"]
    read(context, data, facts(file(shape="preference"), file("b", shape="text")))
    assert heads()[1:3] == ["Question", "Answer"]


def test_one_stays_where_one_was_when_the_same_files_are_read_again(
    context: AppContext, data: Session, page: DataPage
) -> None:
    page._rows.show_only("held_out")
    page._rows.show_only("")
    page._rows.table.selectRow(7)
    read(context, data, facts(limit=256))
    assert page._rows.table.currentIndex().row() == 7
    read(context, data, facts(file("other.jsonl")))
    assert page._rows.table.currentIndex().row() == 0


# ------------------------------------------------------------------------------------------------------------- one row
def test_a_cell_is_changed_and_the_change_is_undone(
    qtbot: QtBot, context: AppContext, data: Session, page: DataPage
) -> None:
    view = page._rows.row
    buttons(page)["Cells"].click()
    assert any("never changed" in words for words in texts(view))
    text, other = view.cells.cells
    assert (text.editor.isReadOnly(), other.editor.isReadOnly()) == (False, True)
    assert "Save" not in buttons(page)
    text.editor.setPlainText("Who?")
    assert buttons(page)["Save"].shortcut() == QKeySequence("Ctrl+Return")
    buttons(page)["Save"].click()
    assert data.last("decide").arguments == {"index": 0, "column": "a", "value": "Who?"}
    data.last("decide").done(facts(decisions=1))
    assert data.last("row").arguments == {"index": 0}
    changed = [{**cell, "changed": cell["column"] == "a"} for cell in row()["cells"]]
    changed[0]["value"] = "Who?"
    data.last("row").done(row(cells=changed))
    assert text._chip.text == "changed"
    assert "Save" not in buttons(page)
    assert buttons(page)["Undo"].shortcut() == QKeySequence("Ctrl+Z")
    buttons(page)["Undo"].click()
    data.last("undo").done({**facts(), "undone": {"row": 0, "column": "a", "aside": None}})
    assert [notice.message.en for notice in context.notices.open] == ["Undone: “a” of row 1 is as before."]
    assert "Undo" not in buttons(page)


def test_what_was_typed_is_saved_when_the_row_is_left(data: Session, page: DataPage) -> None:
    view = page._rows.row
    view.cells.cells[0].editor.setPlainText("Who?")
    view.put(row())  # the same row again, as after a count: what was typed stays
    assert view.cells.cells[0].text == "Who?"
    assert not data.all("decide")
    view.put(row(1))
    assert data.last("decide").arguments == {"index": 0, "column": "a", "value": "Who?"}


def test_a_row_is_set_aside_and_taken_back(qtbot: QtBot, context: AppContext, data: Session, page: DataPage) -> None:
    assert buttons(page)["Set aside"].shortcut() == QKeySequence("Del")
    buttons(page)["Set aside"].click()
    assert data.last("decide").arguments == {"index": 0, "aside": True}
    data.last("decide").done(facts(decisions=1, set_aside={"by_hand": 1}))
    assert "1 rows set aside by you, nothing deleted" in texts(page)
    data.last("row").done(row(status="set_aside", reason="by_hand", can_take_back=True))
    buttons(page)["Take back"].click()
    assert data.last("decide").arguments == {"index": 0, "aside": False}
    page._rows.row.put(row(status="set_aside", reason="bad_row", can_take_back=False, pieces=[]))
    assert not {"Set aside", "Take back"} & set(buttons(page))


def test_undoing_says_what_it_undid() -> None:
    words = row_operations.undone_words
    assert words(None).en == "There is nothing to undo."
    assert "another file" in words({"row": None, "column": "", "aside": True}).en
    assert words({"row": 4, "column": "", "aside": True}).en == "Undone: row 5 is no longer set aside by you."
    assert words({"row": 4, "column": "", "aside": False}).en == "Undone: row 5 is no longer taken back by you."


def test_a_second_undo_takes_the_place_of_the_first_notice(context: AppContext, data: Session, page: DataPage) -> None:
    for number in (3, 2):
        row_operations.undo(context)
        data.last("undo").done({**facts(), "undone": {"row": number, "column": "a", "aside": None}})
    assert [notice.message.en for notice in context.notices.open] == ["Undone: “a” of row 3 is as before."]


def test_the_row_tells_its_cut_and_what_the_template_did(page: DataPage) -> None:
    view = page._rows.row
    notes = [{"en": "The template leaves out reasoning.", "zh": "模板省略了推理内容。"}]
    view.put(row(length=900, limit=512, cut=True, learned_tokens=40, notes=notes))
    assert "900 tokens, cut at 512; 40 learned" in texts(view)
    assert "The template leaves out reasoning." in texts(view)
    view.tabs.show_view("cells")
    assert "The template leaves out reasoning." not in texts(view)


# -------------------------------------------------------------------------------------------------------------- checks
def test_checks_warn_of_personal_data_and_open_their_rows(data: Session, page: DataPage) -> None:
    side = page._side
    assert {"⚠ 3", "4", "2", "20 rows checked", "1 more checks"} <= set(texts(side))
    assert any("repeat what it learned" in words for words in texts(side))
    buttons(side)["Near duplicate"].click()
    assert data.last("rows").arguments["status"] == "check:near_duplicate"
    assert page._rows.table.paged.rowCount() == 4
    mixes = {mix.accessibleName(): mix for mix in side.findChildren(Mix)}
    assert mixes["Languages"].shares == [("language:en", "English 75%"), ("language:zh", "Chinese 25%")]
    assert mixes["Uneven style"].accessibleDescription() == "familiar 60%, polite 40%"
    mixes["Languages"].linkActivated.emit("language:zh")
    assert data.last("rows").arguments["status"] == "language:zh"


def test_what_a_check_does_is_chosen_without_reading_again(
    qtbot: QtBot, context: AppContext, data: Session, page: DataPage
) -> None:
    Follower(context)
    reads = len(data.all("open_data"))
    names = [b.accessibleName() for b in page._side.findChildren(QToolButton)]
    assert {"e-mail address: shown", "answer too short: set aside", "refusal boiler-plate: not looked for"} <= set(
        names
    )
    menu = page._side.checks._actions("email", "flag")
    assert [(item.text(), item.isChecked()) for item in menu.actions()] == [
        ("not looked for", False),
        ("shown", True),
        ("set aside", False),
    ]
    menu.actions()[2].trigger()
    assert context.draft.recipe.data.quality.actions == {"email": "set_aside"}
    assert data.last("inspect").arguments["quality"]["actions"] == {"email": "set_aside"}
    data.last("inspect").done(facts(set_aside={"email": 3}, reasons={"email": {"en": "e-mail address", "zh": ""}}))
    assert "3 set aside (e-mail address), nothing deleted" in texts(page)
    assert len(data.all("open_data")) == reads


def test_texts_are_checked_by_themselves_where_there_are_few(
    context: AppContext, data: Session, page: DataPage
) -> None:
    read(context, data, facts(quality=None, measured=False, error=0.06))
    counting = data.last("measure")
    assert not data.all("inspect")
    counting.failed(Failure("cancelled", say("Cancelled.", "已取消。")))
    assert "Estimated: 95 of 100 rows within 6%." in texts(page)
    asked = data.last("inspect")
    assert asked.told is not None
    asked.told(Progress(done=10, total=20, unit="rows"))
    assert "checking… 50%" in texts(page._side)
    asked.failed(Failure("x", say("It broke.", "出错了。"), say("Try.", "重试。")))
    assert "It broke. Try." in texts(page._side)
    buttons(page)["Check again"].click()
    data.last("inspect").done(facts(measured=False, error=0.06))
    assert "20 rows checked" in texts(page._side)
    buttons(page)["Count exactly"].click()
    data.last("measure").done(facts())
    assert "Count exactly" not in buttons(page)


def test_texts_of_many_rows_are_checked_when_asked_for(context: AppContext, data: Session, page: DataPage) -> None:
    read(context, data, facts(quality=None, total=data_operations.CHECKED_AT_ONCE + 1))
    assert not data.all("inspect")
    assert any("Looks for near duplicates" in words for words in texts(page._side))
    buttons(page)["Check the texts"].click()
    assert data.all("inspect")
    assert "Check the texts" not in buttons(page)


def test_rows_over_the_limit_are_opened(context: AppContext, data: Session, page: DataPage) -> None:
    read(context, data, facts(over=7))
    buttons(page)["7 over 512"].click()
    assert data.last("rows").arguments["status"] == "over"
    assert page._rows.table.paged.rowCount() == 7


# --------------------------------------------------------------------------------------------------------- large files
def test_the_first_rows_are_there_while_all_are_read(
    qtbot: QtBot, context: AppContext, data: Session, page: DataPage
) -> None:
    data_operations.import_files(context, [Path("/d/large.jsonl")])
    read(context, data, facts(file("large.jsonl"), scanned=False, quality=None, total=200))
    assert page.is_ready
    qtbot.waitUntil(lambda: bool(data.all("scan")))
    scan = data.last("scan")
    assert scan.told is not None
    scan.told(Progress(done=2**30, total=2**31, unit="bytes", seconds_left=30))
    assert "Reading large.jsonl… 1.0 GiB of 2.0 GiB · 30 s left" in texts(page)
    assert "the first 200 rows" in texts(page)
    assert not page._rows.filter.isEnabled()
    assert "Duplicate" not in texts(page._side)
    scan.done(facts(file("large.jsonl")))
    assert page._rows.filter.isEnabled()
    assert "Cancel" not in buttons(page)


def test_reading_can_be_ended_before_all_rows_are_looked_at(
    qtbot: QtBot, context: AppContext, data: Session, page: DataPage
) -> None:
    read(context, data, facts(scanned=False, quality=None))
    buttons(page)["Cancel"].click()
    assert context.data.is_stopped
    qtbot.wait(data_operations.SCAN_DELAY_MS + 50)
    assert not data.all("scan")


# --------------------------------------------------------------------------------------------------------------- doubt
def test_doubtful_columns_are_confirmed_first(context: AppContext, data: Session, page: DataPage) -> None:
    read(context, data, facts(file(certainty="ask")))
    panel = page._panel
    assert panel is not None
    assert "Please confirm, or choose other columns. Because." in texts(panel)
    assert "Confirm what the columns of orders.jsonl mean." in texts(page)
    assert not page._next.isEnabled()
    assert context.wizard.step("data").word.en == "confirm columns"
    assert not panel.file.isVisible()
    buttons(panel)["That is right"].click()
    chosen = context.draft.recipe.data
    assert (chosen.shape, chosen.mapping) == ("prompt_completion", {"prompt": "a", "completion": "b"})
    read(context, data, facts())
    assert page._panel is None
    assert page._next.isEnabled()


def test_each_of_several_files_is_confirmed_for_itself(context: AppContext, data: Session, page: DataPage) -> None:
    data_operations.add_files(context, [Path("/d/b.csv")])
    read(context, data, facts(file(), file("b.csv", certainty="ask", mapping={"prompt": "c", "completion": "a"})))
    panel = page._panel
    assert panel is not None
    QApplication.processEvents()
    assert panel.file.isVisible()
    assert panel.file.currentText() == "b.csv ?"
    panel.roles["prompt"].setCurrentIndex(panel.roles["prompt"].findData("b"))
    buttons(panel)["That is right"].click()
    own = context.draft.recipe.data.per_file[str(Path("/d/b.csv"))]
    assert (own.shape, own.mapping) == ("prompt_completion", {"prompt": "b", "completion": "a"})
    assert data_operations.how_file_is_read(context, str(Path("/d/b.csv")))[0] == "prompt_completion"
    assert data_operations.how_file_is_read(context, str(Path("/d/orders.jsonl")))[0] == "auto"
    data_operations.leave_out(context, str(Path("/d/b.csv")))
    assert context.draft.recipe.data.per_file == {}


def test_what_was_chosen_for_one_file_stays_its_own(context: AppContext, data: Session, page: DataPage) -> None:
    data_operations.choose_columns(context, "prompt_completion", {"prompt": "c"}, "gb18030")
    read(context, data, facts())
    data_operations.add_files(context, [Path("/d/b.csv")])
    own = context.draft.recipe.data.per_file[str(Path("/d/orders.jsonl"))]
    assert (own.shape, own.mapping, own.encoding) == ("prompt_completion", {"prompt": "c"}, "gb18030")
    assert context.draft.recipe.data.shape == "auto"
    data_operations.find_columns(context)
    assert data_operations.how_file_is_read(context, str(Path("/d/orders.jsonl"))) == ("auto", "auto")


def test_a_column_that_is_left_out_is_not_found_again(context: AppContext, data: Session, page: DataPage) -> None:
    mapping = {"prompt": "a", "completion": "b", "system": "c"}
    read(context, data, facts(file(mapping=mapping)))
    buttons(page)["Change columns…"].click()
    panel = page._panel
    assert panel is not None
    panel.roles["system"].setCurrentIndex(0)
    buttons(panel)["Read again"].click()
    assert context.draft.recipe.data.mapping == {"prompt": "a", "completion": "b", "system": ""}


def test_how_sure_the_columns_are_is_told(context: AppContext, data: Session, page: DataPage) -> None:
    def chips() -> list[str]:
        return [page._chips.itemAt(i).widget().accessibleName() for i in range(page._chips.count())]

    assert "likely" not in chips()
    read(context, data, facts(file(certainty="likely")))
    assert chips()[-1] == "likely"
    assert page._chips.itemAt(page._chips.count() - 1).widget().toolTip() == "Because."
    read(context, data, facts(file(certainty="ask")))
    assert chips()[-1] == "please confirm the columns"


# ----------------------------------------------------------------------------------------------------- files, folders
def dropped(*paths: Path) -> QDropEvent:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    event = QDropEvent(
        QPointF(9, 9), Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    event.kept = mime  # Qt does not keep it
    return event


def test_what_is_dropped_on_data_replaces_them_or_comes_besides(
    context: AppContext, data: Session, page: DataPage, tmp_path: Path
) -> None:
    folder, packed, picture = tmp_path / "folder", tmp_path / "a.jsonl.zst", tmp_path / "a.png"
    folder.mkdir()
    page.dropEvent(dropped(folder, packed, picture))
    assert "folder, a.jsonl.zst" in texts(page)
    assert context.draft.recipe.data.files == (str(Path("/d/orders.jsonl")),)
    buttons(page)["Add to the data"].click()
    assert context.draft.recipe.data.files == (str(Path("/d/orders.jsonl")), str(folder), str(packed))
    assert "Replace the data" not in buttons(page)
    page.dropEvent(dropped(packed))
    buttons(page)["Leave them"].click()
    assert len(context.draft.recipe.data.files) == 3
    page.dropEvent(dropped(packed))
    buttons(page)["Replace the data"].click()
    assert context.draft.recipe.data.files == (str(packed),)


def test_what_is_dropped_where_nothing_is_is_imported(
    qtbot: QtBot, context: AppContext, data: Session, tmp_path: Path
) -> None:
    made = shown(qtbot, DataPage(context))
    assert {"Import data…", "Use the sample", "Folder…", "From the hub…"} == set(buttons(made))
    made.dropEvent(dropped(tmp_path))
    assert context.draft.recipe.data.files == (str(tmp_path),)


# -------------------------------------------------------------------------------------------------------- all together
def test_a_draft_names_its_file_of_decisions_before_it_is_read(
    context: AppContext, data: Session, page: DataPage, tmp_path: Path
) -> None:
    context.draft.begin(context.draft.recipe, tmp_path / "draft.toml")
    read(context, data, facts())
    assert data.last("open_data").arguments["data"]["decisions"] == str(tmp_path / "decisions.jsonl")
    context.draft.keep()


def test_every_button_of_every_state_has_a_key_of_its_own(context: AppContext, data: Session, page: DataPage) -> None:
    page._rows.row.put(row(status="ready"))
    page._strip.offer([Path("/d/b.csv")])
    page._rows.row.tabs.show_view("cells")
    page._rows.row.cells.cells[0].editor.setPlainText("Who?")
    more = {"quality": None, "total": 10**6, "measured": False, "error": 0.1, "decisions": 2, "over": 3}
    context.data.know_more(facts(**more))
    QApplication.processEvents()
    keys = [b.shortcut().toString() for b in buttons(page).values() if not b.shortcut().isEmpty()]
    assert len(set(keys)) == len(keys)
    expected = {"Save", "Undo", "Set aside", "Check the texts", "Count exactly", "3 over 512", "Replace the data"}
    assert expected <= {words for words, b in buttons(page).items() if not b.shortcut().isEmpty()}
    page._toggle_panel()
    keys = [b.shortcut().toString() for b in buttons(page).values() if not b.shortcut().isEmpty()]
    assert len(set(keys)) == len(keys)


def test_the_page_speaks_chinese(qtbot: QtBot, context: AppContext, data: Session) -> None:
    speak("zh")
    data_operations.import_files(context, [Path("/d/orders.jsonl")])
    read(context, data, facts(set_aside={"by_hand": 2}, over=3))
    made = shown(qtbot, DataPage(context))
    assert {"单元格", "3 行超过 512", "从其他来源…", "留出的行…", "文件…"} <= set(buttons(made))
    assert "由你搁置 2 行，未删除" in texts(made)
    assert aside_words({}).zh == "没有搁置的行"
