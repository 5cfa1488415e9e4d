"""The Data page's panels: the hub, the files, held-out rows, rows by difficulty; on a session whose answers the test
gives, and on the real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent, QGuiApplication
from PySide6.QtWidgets import QApplication, QFileDialog, QLineEdit
from pytestqt.qtbot import QtBot

from engine.protocol.errors import Failure
from engine.protocol.events import Progress
from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import speak
from gui.main_window import MainWindow
from gui.operations import data as data_operations
from gui.operations import hub_data as hub_operations
from gui.operations import split as split_operations
from gui.pages.data import DataPage
from gui.pages.data_files import FilesPanel
from gui.pages.data_hub import HubView
from gui.pages.data_score import ScorePanel
from gui.pages.data_split import SplitPanel
from gui.state.phase import Phase
from tests.gui.conftest import PATIENCE
from tests.gui.sessions import Session, buttons, read, shown, texts
from tests.gui.test_data_page import facts, file, lines, row

ABOUT: dict[str, Any] = {
    "source": "owner/name",
    "configs": ["main", "other"],
    "config": "main",
    "splits": {"train": 12_000, "test": 300},
    "here": ["test"],
    "bytes": {"train": 5 * 2**20},
    "licence": "mit",
    "gated": False,
    "offline": False,
}
FIRST = {"columns": ["question", "answer"], "rows": [["Q one", "A one"], ["Q two", "A two"]]}


@pytest.fixture
def hub(context: AppContext) -> Session:
    made = context.bridge.__dict__["hub"] = Session()
    return made


@pytest.fixture
def data(context: AppContext) -> Session:
    made = context.bridge.__dict__["data"] = Session()
    return made


@pytest.fixture
def empty(qtbot: QtBot, context: AppContext, data: Session, hub: Session) -> DataPage:
    """The Data page with nothing on it."""
    return shown(qtbot, DataPage(context))


@pytest.fixture
def page(qtbot: QtBot, context: AppContext, data: Session, hub: Session) -> DataPage:
    """The Data page with two files."""
    data_operations.import_files(context, [Path("/d/a.jsonl"), Path("/d/b.jsonl")])
    read(context, data, two_files())
    made = shown(qtbot, DataPage(context))
    qtbot.waitUntil(lambda: bool(data.all("rows")))
    data.last("rows").done(lines(20))
    data.last("row").done(row())
    return made


def two_files(**more: Any) -> dict[str, Any]:
    return facts(
        file("a.jsonl", trained=900, seen=600, share=0.6),
        file("b.jsonl", trained=100, seen=400, share=0.4),
        **more,
    )


def view(page: DataPage) -> HubView:
    assert page._hub is not None
    assert page._stack.currentWidget() is page._hub
    return page._hub


def answer(hub: Session, **more: Any) -> None:
    hub.last("hub_data_info").done({**ABOUT, **more})
    hub.last("hub_data_rows").done(FIRST)


def dropped(text: str) -> QDropEvent:
    mime = QMimeData()
    mime.setUrls([QUrl(text)])
    event = QDropEvent(
        QPointF(9, 9), Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    event.kept = mime  # Qt does not keep it
    return event


# ------------------------------------------------------------------------------------------------------------- the hub
def test_a_data_set_is_looked_up_chosen_and_imported(
    qtbot: QtBot, context: AppContext, data: Session, hub: Session, empty: DataPage
) -> None:
    assert buttons(empty)["From the hub…"].shortcut().toString() == "Ctrl+H"
    buttons(empty)["From the hub…"].click()
    made = view(empty)
    hub.last("hub_data_here").done({"data": [{"name": "hub:old/one?split=test", "rows": 7}]})
    assert {"old/one · test"} <= set(buttons(made))
    assert not made._import.isEnabled()
    qtbot.keyClicks(made.id, "owner/name")
    qtbot.keyClick(made.id, Qt.Key.Key_Return)
    assert hub.last("hub_data_info").arguments == {"id": "owner/name", "config": ""}
    assert "Asking the hub about owner/name…" in texts(made)
    hub.last("hub_data_info").done(ABOUT)
    assert hub.last("hub_data_rows").arguments == {"named": "hub:owner/name?config=main"}
    assert "The first rows are coming…" in texts(made)
    assert made._import.isEnabled()  # they need not be waited for
    hub.last("hub_data_rows").done(FIRST)
    QApplication.processEvents()
    assert made.table.paged.index(1, 1).data() == "A two"
    assert [made.config.itemText(i) for i in range(made.config.count())] == ["main", "other"]
    assert [made.split.itemText(i) for i in range(made.split.count())] == ["train · 12,000 rows", "test · 300 rows"]
    made.split.setCurrentIndex(1)
    made.split.activated.emit(1)
    assert hub.last("hub_data_rows").arguments == {"named": "hub:owner/name?config=main&split=test"}
    hub.last("hub_data_rows").done(FIRST)
    buttons(made)["Import"].click()
    name = "hub:owner/name?config=main&split=test"
    assert context.draft.recipe.data.files == (name,)
    assert not context.data.hub.is_open
    data_operations.open_data(context)
    assert hub.last("hub_data_get").arguments == {"names": [name]}
    assert not data.all("open_data")
    told = hub.last("hub_data_get").told
    assert told is not None
    told(Progress(done=100, total=300, unit="rows", request=1))
    assert empty.banner.sentence == "Fetching owner/name · main · test from the hub…"
    hub.last("hub_data_get").done({"fetched": [name]})
    data.last("open_data").done(facts(file("name-main-test.arrow", named=name, shown="owner/name · main · test")))
    assert empty.is_ready
    assert "owner/name · main · test" in texts(empty)
    data_operations.open_data(context)
    assert len(hub.all("hub_data_get")) == 1  # it is here


def test_a_fetch_can_be_cancelled(context: AppContext, data: Session, hub: Session, empty: DataPage) -> None:
    data_operations.import_files(context, ["hub:owner/name"])
    data_operations.open_data(context)
    buttons(empty)["Cancel"].click()
    assert hub.cancelled == [hub.last("hub_data_get")]
    assert empty.banner.sentence == "Reading was stopped."


def test_a_fetch_that_fails_says_what_to_do(context: AppContext, data: Session, hub: Session, page: DataPage) -> None:
    name = "hub:owner/name"
    data_operations.add_files(context, [name])
    data_operations.open_data(context)
    message, hint = say("The owner wants to be asked.", "需要许可。"), say("Accept its terms.", "请接受条款。")
    hub.last("hub_data_get").failed(Failure("data.hub_gated", message, hint, where=name))
    assert page.banner.sentence == "The owner wants to be asked."
    buttons(page)["Try again"].click()
    assert len(hub.all("hub_data_get")) == 2
    hub.last("hub_data_get").failed(Failure("data.hub_gated", message, hint, where=name))
    buttons(page)["Leave owner/name out"].click()
    assert name not in context.draft.recipe.data.files


def test_what_is_wrong_is_told_in_the_view(context: AppContext, hub: Session, empty: DataPage) -> None:
    hub_operations.look(context, "two words")
    made = view(empty)
    assert any("“two words” names no data set" in words for words in texts(made))
    assert not hub.all("hub_data_info")
    hub_operations.ask(context, "owner/name")
    buttons(made)["Cancel"].click()
    assert hub.last("hub_data_info").dropped
    hub_operations.ask(context, "owner/name")
    hub.last("hub_data_info").failed(Failure("x", say("No such.", "没有。"), say("Check it.", "请检查。")))
    assert {"No such.", "Check it."} <= set(texts(made))
    assert "Copy details" in buttons(made)
    assert not made._import.isEnabled()
    hub_operations.ask(context, "owner/name")
    hub.last("hub_data_info").done({**ABOUT, "gated": True, "offline": True})
    hub.last("hub_data_rows").failed(Failure("x", say("Not open to you.", "无权访问。")))
    assert "Not open to you." in texts(made)
    chips = [made._chips.itemAt(i).widget().accessibleName() for i in range(made._chips.count())]
    assert chips == ["5.0 MiB to fetch", "hub not reached", "its owner wants to be asked first", "mit"]
    buttons(made)["Back"].click()
    assert "Import data…" in buttons(empty)


def test_other_configurations_have_splits_of_their_own(context: AppContext, hub: Session, empty: DataPage) -> None:
    hub_operations.look(context, "https://huggingface.co/datasets/owner/name/viewer/main/test")
    answer(hub)
    made = view(empty)
    assert context.data.hub.wished is not None
    assert context.data.hub.wished.split == "test"
    made.config.setCurrentIndex(1)
    made.config.activated.emit(1)
    assert hub.last("hub_data_info").arguments == {"id": "owner/name", "config": "other"}
    answer(hub, config="other", splits={"validation": 5})
    assert context.data.hub.wished.name == "hub:owner/name?config=other&split=validation"


def test_addresses_are_dropped_and_pasted(
    qtbot: QtBot, context: AppContext, data: Session, hub: Session, page: DataPage
) -> None:
    page.dropEvent(dropped("https://huggingface.co/datasets/owner/name"))
    assert hub.last("hub_data_info").arguments["id"] == "owner/name"
    answer(hub)
    made = view(page)
    assert made.id.text() == "https://huggingface.co/datasets/owner/name"
    assert {"Replace the data", "Add to the data"} <= set(buttons(made))
    buttons(made)["Add to the data"].click()
    assert context.draft.recipe.data.files[-1] == "hub:owner/name?config=main"
    QGuiApplication.clipboard().setText("https://hf-mirror.com/datasets/one/two")
    page._paste()
    assert hub.last("hub_data_info").arguments["id"] == "one/two"
    hub_operations.leave(context)
    QGuiApplication.clipboard().setText("a sentence")
    page._paste()
    assert not context.data.hub.is_open


# ----------------------------------------------------------------------------------------------------------- the files
def files_panel(page: DataPage) -> FilesPanel:
    buttons(page)["and 1 more…"].click()
    panel = page._other_panel
    assert isinstance(panel, FilesPanel)
    return panel


def edit(qtbot: QtBot, editor: Any, text: str) -> None:
    line: QLineEdit = editor.control
    line.setText(text)
    line.editingFinished.emit()


def test_files_tell_their_share_and_are_weighted(
    qtbot: QtBot, context: AppContext, data: Session, page: DataPage
) -> None:
    panel = files_panel(page)
    assert {"60%", "40%", "900 rows train · 600 a pass (0.67 ×)", "100 rows train · 400 a pass (4 ×)"} <= set(
        texts(panel)
    )
    assert "1,000 rows a pass" in texts(panel)
    first, second = (str(Path("/d") / name) for name in ("a.jsonl", "b.jsonl"))
    edit(qtbot, panel.boxes[second].weight, "2.5")
    edit(qtbot, panel.boxes[second].prefix, "[b] ")
    own = context.draft.recipe.data.per_file[second]
    assert (own.weight, own.prefix) == (2.5, "[b] ")
    edit(qtbot, panel.boxes[first].weight, "-1")
    assert context.notices.open
    assert first not in context.draft.recipe.data.per_file
    assert not panel._heat.isVisible()
    panel.mixing.edited.emit("temperature")
    read(context, data, two_files())
    assert panel._heat.isVisible()
    edit(qtbot, panel.temperature, "5")
    assert (context.draft.recipe.data.mixing, context.draft.recipe.data.temperature) == ("temperature", 5.0)
    panel.boxes[first].leave.click()
    assert context.draft.recipe.data.files == (second,)
    read(context, data, facts(file("b.jsonl", trained=100, seen=100, share=1.0)))
    assert "100 rows train, each once a pass" in texts(panel)
    assert not panel.boxes[second].leave.isVisible()
    buttons(panel)["Close"].click()
    assert page._other_panel is None
    assert page._side.isVisible()


def test_general_data_have_a_share_of_their_own(
    qtbot: QtBot, context: AppContext, data: Session, page: DataPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: (["/d/chat.jsonl"], ""))
    panel = files_panel(page)
    assert any("keeps what it could before" in words for words in texts(panel))
    assert not panel._share.isVisible()
    buttons(panel)["Add general data…"].click()
    assert context.draft.recipe.data.general == ("/d/chat.jsonl",)
    chat = file("chat.jsonl", trained=50, seen=200, share=0.1, general=True)
    read(context, data, facts(*two_files()["files"], chat))
    assert any(words.startswith("10% of what is trained on: there are too few rows for 30%") for words in texts(panel))
    assert panel.note.text() == "2 files"
    assert not panel.boxes[chat["path"]].weight.isVisible()
    edit(qtbot, panel.share, "10")
    assert context.draft.recipe.data.general_share == 0.1
    read(context, data, facts(*two_files()["files"], chat))
    assert "10% of what is trained on." in texts(panel)
    panel.boxes[chat["path"]].leave.click()
    assert context.draft.recipe.data.general == ()


def test_a_file_of_a_folder_or_of_the_hub_is_left_out(context: AppContext, data: Session, page: DataPage) -> None:
    folder = Path("/d/folder")
    inside = [{**file(name), "path": str(folder / name)} for name in ("a.jsonl", "b.jsonl")]
    kept = {**file("name.arrow"), "path": "/cache/name.arrow", "named": "hub:owner/name"}
    data_operations.import_files(context, [folder, "hub:owner/name"])
    context.data.hub.known.add("hub:owner/name")
    read(context, data, facts(*inside, kept))
    data_operations.leave_out(context, str(folder / "a.jsonl"))
    assert context.draft.recipe.data.files == (str(folder / "b.jsonl"), "hub:owner/name")
    data_operations.choose_of_file(context, "/cache/name.arrow", "weight", 2.0)
    assert list(context.draft.recipe.data.per_file) == ["hub:owner/name"]  # wherever it is kept
    data_operations.leave_out(context, "/cache/name.arrow")
    assert not context.draft.recipe.data.per_file
    assert context.draft.recipe.data.files == (str(folder / "b.jsonl"),)


# ------------------------------------------------------------------------------------------------------- held-out rows
def split_panel(page: DataPage) -> SplitPanel:
    buttons(page)["Held-out rows…"].click()
    panel = page._other_panel
    assert isinstance(panel, SplitPanel)
    return panel


def test_another_split_is_tried_before_it_is_taken(
    qtbot: QtBot, context: AppContext, data: Session, page: DataPage
) -> None:
    panel = split_panel(page)
    assert {"18 rows", "2 rows (10.0%)"} <= set(texts(panel))
    assert not panel._lines["split_column"].isVisible()
    panel.way.edited.emit("group")
    assert panel._lines["split_column"].isVisible()
    assert "Choose the column." in texts(panel)
    assert not data.all("split")
    assert context.draft.recipe.data.split == "random"
    assert [panel.column.control.itemText(i) for i in range(panel.column.control.count())] == [  # type: ignore[attr-defined]
        "choose…",
        "a",
        "b",
        "c",
    ]
    panel.column.edited.emit("a")
    asked = data.last("split").arguments["data"]
    assert (asked["split"], asked["split_column"]) == ("group", "a")
    assert panel._trying.isVisible()
    failed = Failure("data.split", say("The groups are too large.", "分组过大。"), say("Choose another.", "请另选。"))
    data.last("split").failed(failed)
    assert {"The groups are too large.", "Choose another. Until then it stays as it was."} <= set(texts(panel))
    assert context.draft.recipe.data.split == "random"
    panel.column.edited.emit("b")
    data.last("split").done({"train": 15, "held_out": 5, "in_training": 0})
    chosen = context.draft.recipe.data
    assert (chosen.split, chosen.split_column) == ("group", "b")
    assert "The groups are too large." not in texts(panel)
    edit(qtbot, panel.share, "20")
    assert data.last("split").arguments["data"]["held_out"] == 0.2
    data.last("split").done({})
    assert context.draft.recipe.data.held_out == 0.2
    edit(qtbot, panel.share, "90")
    assert context.notices.open
    assert panel.share.control.text() == "20"  # type: ignore[attr-defined]
    buttons(panel)["Show the held-out rows"].click()
    assert data.last("rows").arguments["status"] == "held_out"


def test_a_file_of_its_own_is_held_out(
    context: AppContext, data: Session, page: DataPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("/d/test.jsonl", ""))
    panel = split_panel(page)
    panel.way.edited.emit("file")
    assert context.draft.recipe.data.held_out_file == str(Path("/d/test.jsonl"))
    read(context, data, two_files())
    assert "test.jsonl" in texts(panel)
    assert not panel._lines["held_out"].isVisible()
    panel.way.edited.emit("random")
    data.last("split").done({})
    assert context.draft.recipe.data.held_out_file == ""


def test_a_wrong_split_of_a_recipe_has_a_way_back(context: AppContext, data: Session, page: DataPage) -> None:
    context.draft.set({"data.split": "group", "data.split_column": "no"})
    read(context, data, Failure("data.split", say("There is no such column.", "没有这一列。")))
    buttons(page)["Hold rows out at random"].click()
    assert context.draft.recipe.data.split == "random"


# --------------------------------------------------------------------------------------------------- rows by difficulty
def test_scored_rows_are_opened(context: AppContext, data: Session, page: DataPage) -> None:
    assert "By difficulty for the model…" in [action.text() for action in page._rows._menu().actions()]
    page._open_scores()
    panel = page._other_panel
    assert isinstance(panel, ScorePanel)
    assert "Score the rows" in buttons(panel)
    assert "The hardest rows" not in buttons(panel)
    scores = {"rows": 20, "loss": 1.5, "uncertainty": None, "hardest": 12, "uncertain": 11, "easiest": 20}
    context.data.rows_changed(two_files(scores=scores))
    assert {"20 rows", "1.50 nats a token"} <= set(texts(panel))
    assert "Score again" in buttons(panel)
    buttons(panel)["The hardest rows"].click()
    assert data.last("rows").arguments["status"] == "score:hardest"
    assert page._rows.table.paged.rowCount() == 12
    assert page._rows.filter.text() == "the hardest rows ▾"
    data.last("rows").done({**lines(12, loss=2.345, uncertainty=1.0), "total": 12})
    at = next(i for i in range(9) if page._rows.table.paged.headerData(i, Qt.Orientation.Horizontal) == "Loss")
    assert page._rows.table.paged.index(0, at).data() == "2.35"
    page._rows.show_only("")
    heads = [page._rows.table.paged.headerData(i, Qt.Orientation.Horizontal) for i in range(5)]
    assert "Tokens" in heads
    assert not panel._share_line.isVisible()
    panel._choice.edited.emit("hardest")
    read(context, data, two_files())
    edit_share = panel._share.control
    assert isinstance(edit_share, QLineEdit)
    assert panel._share_line.isVisible()
    edit_share.setText("30")
    edit_share.editingFinished.emit()
    assert context.draft.recipe.data.choice_share == 0.3


# ------------------------------------------------------------------------------------------------ while all is read
def test_what_must_wait_for_every_row_says_so(context: AppContext, data: Session, page: DataPage) -> None:
    read(context, data, facts(file("large.jsonl"), scanned=False, quality=None, total=200))
    for control in (page._rows.filter, page._split):
        assert not control.isEnabled()
        assert control.toolTip() == "Possible when every row is read"
    assert page._rows.filter.accessibleDescription() == "Possible when every row is read"
    assert page._rows.search.isEnabled()
    assert page._rows.search.toolTip().startswith("Searches the first rows now")
    words = texts(page._side)
    assert "of the first 200 rows" in words
    assert any("Every row is being read" in line for line in words)
    assert page._side.histogram.isVisible()
    read(context, data, facts(file("large.jsonl")))
    assert page._rows.search.toolTip() == "Search the rows (Ctrl+F)"
    assert page._split.isEnabled()
    assert not any("Every row is being read" in line for line in texts(page._side))


def test_panels_have_keys_of_their_own_and_speak_chinese(context: AppContext, data: Session, page: DataPage) -> None:
    for name in ("files", "split", "score"):
        page._close_panel()
        page._toggle_panel(name)
        keys = [b.shortcut().toString() for b in buttons(page).values() if not b.shortcut().isEmpty()]
        assert len(set(keys)) == len(keys), name
    page._close_panel()
    speak("zh")
    for name, words in {"files": "2 个文件", "split": "留出的行", "score": "按难度查看"}.items():
        page._toggle_panel(name)
        assert page._other_panel is not None
        assert words in texts(page._other_panel)
        assert not any(
            line[:1].isascii() and line[:1].isalpha() for line in texts(page._other_panel) if ".json" not in line
        )


# --------------------------------------------------------------------------------------------------- the real session
@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A folder laid out as a repository of the hub."""
    folder = tmp_path / "shops"
    folder.mkdir()
    for split, count in (("train", 60), ("test", 12)):
        rows = [
            {"question": f"When does shop {i} open?", "answer": f"{split} {i}", "town": f"t{i % 6}"}
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    return folder


def ready(qtbot: QtBot, context: AppContext) -> None:
    done = (Phase.READY, Phase.WRONG)
    qtbot.waitUntil(lambda: context.data.status.phase in done and context.data.under_way is None, timeout=PATIENCE)


def test_a_data_set_comes_from_the_hub_and_is_mixed_and_split(
    qtbot: QtBot, window: MainWindow, opened: AppContext, remote: Path, tmp_path: Path
) -> None:
    context = opened
    hub_operations.look(context, f"hub:{remote}")
    qtbot.waitUntil(lambda: bool(context.data.hub.first), timeout=PATIENCE)
    assert set(context.data.hub.about["splits"]) == {"train", "test"}
    assert context.data.hub.first["columns"] == ["question", "answer", "town"]
    hub_operations.take(context, add=False)
    qtbot.waitUntil(lambda: context.data.is_scanned, timeout=PATIENCE)
    ready(qtbot, context)
    assert context.data.facts["total"] == 60
    for path in remote.iterdir():
        path.unlink()  # it is read offline from now on

    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps({"question": f"What is {i}?", "answer": f"{i}"}) + "\n" for i in range(20)))
    data_operations.add_files(context, [more])
    qtbot.waitUntil(lambda: context.data.facts.get("total") == 80, timeout=PATIENCE)
    ready(qtbot, context)
    data_operations.choose(context, "mixing", "balanced")
    qtbot.waitUntil(lambda: abs(context.data.facts["files"][0].get("share", 0) - 0.5) < 0.02, timeout=PATIENCE)
    ready(qtbot, context)
    data_operations.choose_of_file(context, str(more), "weight", 2.0)
    qtbot.waitUntil(lambda: abs(context.data.facts["files"][1].get("share", 0) - 2 / 3) < 0.02, timeout=PATIENCE)
    ready(qtbot, context)

    split_operations.try_split(context, {"split": "group", "split_column": "town"})
    tried = context.data.splitting
    qtbot.waitUntil(lambda: tried.errand.status.phase is Phase.WRONG, timeout=PATIENCE)
    assert tried.errand.status.failure is not None
    assert "more.jsonl has no column" in tried.errand.status.failure.message.en
    assert context.draft.recipe.data.split == "random"
    data_operations.leave_out(context, str(more))
    qtbot.waitUntil(lambda: context.data.facts.get("total") == 60, timeout=PATIENCE)
    ready(qtbot, context)
    split_operations.try_split(context, {"split": "group", "split_column": "town", "held_out": 0.2})
    qtbot.waitUntil(lambda: context.draft.recipe.data.split == "group", timeout=PATIENCE)
    qtbot.waitUntil(lambda: context.data.facts.get("held_out") == 10, timeout=PATIENCE)  # a town whole
    ready(qtbot, context)


def test_the_model_scores_the_rows_in_a_job(
    qtbot: QtBot, window: MainWindow, opened: AppContext, tmp_path: Path
) -> None:
    context = opened
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps({"question": f"What is {i}?", "answer": f"{i}"}) + "\n" for i in range(20)))
    context.wizard.go("data")
    page = window.page("data")
    assert isinstance(page, DataPage)
    data_operations.import_files(context, [path])
    qtbot.waitUntil(lambda: context.plan.forecast is not None, timeout=PATIENCE)
    qtbot.waitUntil(lambda: context.data.facts.get("limit") == context.draft.recipe.data.max_length, timeout=PATIENCE)
    ready(qtbot, context)
    page._open_scores()
    panel = page._other_panel
    assert isinstance(panel, ScorePanel)
    panel.begin.click()
    assert context.scoring.is_running
    assert "Cancel" in buttons(panel)
    assert not panel.begin.isEnabled()
    qtbot.waitUntil(lambda: not context.scoring.is_running, timeout=2 * PATIENCE)
    assert context.scoring.state.failure is None
    qtbot.waitUntil(lambda: bool(context.data.facts.get("scores")), timeout=PATIENCE)
    assert context.data.facts["scores"]["rows"] == context.data.facts["train"]
    page._rows.show_only("score:hardest")
    table = page._rows.table.paged
    qtbot.waitUntil(lambda: table.row(0) is not None, timeout=PATIENCE)
    losses = [line["loss"] for i in range(table.rowCount()) if (line := table.row(i)) is not None]
    assert len(losses) == context.data.facts["train"]
    assert losses == sorted(losses, reverse=True)
    data_operations.open_data(context)
    qtbot.waitUntil(lambda: context.data.status.phase is Phase.READY, timeout=PATIENCE)
    assert context.data.facts["scores"]  # the same rows: nothing is lost
    ready(qtbot, context)
