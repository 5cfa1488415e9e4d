"""Widgets alone: what they are given is what they show, with words beside every colour."""

import csv
import io
import math
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage, QTextFormat
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from engine.protocol.errors import Failure
from engine.protocol.events import Progress
from engine.protocol.text import say
from gui.state.notices import Notices
from gui.widgets.banner import StatusBanner, progress_words
from gui.widgets.bars import Part, StackedBar
from gui.widgets.basic import ElidedLabel, button
from gui.widgets.bubbles import Conversation
from gui.widgets.cells import MOST_SHOWN, CellList
from gui.widgets.choice_card import ChoiceList
from gui.widgets.facts import Facts
from gui.widgets.histogram import Histogram
from gui.widgets.mix import Mix
from gui.widgets.notice_strip import NoticeStrip
from gui.widgets.search_field import SearchField
from gui.widgets.table import MOST_PAGES, PAGE, Column, Table
from gui.widgets.tabs import Tabs
from gui.widgets.tokens import MOST, TokenView, runs


# -------------------------------------------------------------------------------------------------------------- table
def numbered(count: int) -> list[dict[str, object]]:
    return [{"index": i, "text": f"row {i}", "status": "ready"} for i in range(count)]


def made_table(qtbot: QtBot) -> Table:
    columns = (
        Column("#", lambda r: str(r["index"]), 40),
        Column("Text", lambda r: str(r["text"])),
        Column("Note", lambda r: "n", 300, spare=True),
        Column("Stands", lambda r: "trains", 90, tone=lambda r: "good"),
    )
    table = Table(columns, say("Rows", "数据行"))
    qtbot.addWidget(table)
    table.resize(700, 300)
    table.show()
    return table


def test_a_table_fetches_only_the_pages_in_view(qtbot: QtBot) -> None:
    table, wanted = made_table(qtbot), []
    table.paged.wanted.connect(wanted.append)
    table.paged.reset(10_000)
    qtbot.waitUntil(lambda: wanted == [0])
    assert table.paged.index(3, 1).data() == "…"
    table.paged.put(0, numbered(PAGE))
    assert table.paged.index(3, 1).data() == "row 3"
    table.scrollTo(table.paged.index(5000, 0))
    qtbot.waitUntil(lambda: 5000 in wanted)
    assert len(wanted) <= 3


def test_a_table_keeps_few_pages_and_asks_again_for_the_others(qtbot: QtBot) -> None:
    table, wanted = made_table(qtbot), []
    paged = table.paged
    paged.wanted.connect(wanted.append)
    paged.reset(3_000_000)
    for start in range(0, (MOST_PAGES + 20) * PAGE, PAGE):
        paged.put(start, numbered(PAGE))
        paged.row(0)  # what is looked at stays
    assert paged.kept == MOST_PAGES
    assert paged.row(0) is not None
    wanted.clear()
    assert paged.row(PAGE) is None
    assert wanted == [PAGE]
    paged.forget(PAGE)
    paged.row(PAGE)
    assert wanted == [PAGE, PAGE]


def test_rows_are_shown_as_they_were_until_they_come_anew(qtbot: QtBot) -> None:
    table = made_table(qtbot)
    table.paged.put_all(numbered(5))
    table.selectRow(3)
    wanted: list[int] = []
    table.paged.wanted.connect(wanted.append)
    table.paged.renew()
    assert table.paged.index(3, 1).data() == "row 3"
    assert wanted == [0]
    table.paged.resize(4)
    table.paged.put(0, [{**row, "text": "new"} for row in numbered(4)])
    assert table.paged.index(3, 1).data() == "new"
    assert (table.paged.rowCount(), table.currentIndex().row()) == (4, 3)
    table.paged.resize(9)
    assert table.paged.rowCount() == 9


def test_a_search_asks_when_enter_is_pressed_and_escape_clears(qtbot: QtBot) -> None:
    field, asked, cleared = SearchField(say("Search", "搜索"), "Ctrl+F"), [], []
    qtbot.addWidget(field)
    field.show()
    field.asked.connect(asked.append)
    field.cleared.connect(lambda: cleared.append(1))
    qtbot.keyClicks(field, "tea")
    assert not asked
    qtbot.keyClick(field, Qt.Key.Key_Return)
    qtbot.keyClick(field, Qt.Key.Key_Escape)
    assert (asked, cleared, field.text()) == (["tea"], [1], "")
    assert field.toolTip() == "Search (Ctrl+F)"


def test_cells_that_are_no_text_or_very_long_cannot_be_changed(qtbot: QtBot) -> None:
    saved: list[tuple[int, str, str]] = []
    cells = CellList(lambda *change: saved.append(change))
    qtbot.addWidget(cells)
    long = {"column": "long", "value": "x" * (MOST_SHOWN + 1), "is_text": True}
    short = {"column": "a", "value": "A", "is_text": True}
    cells.put(7, [short, {"column": "n", "value": "3", "is_text": False}, long])
    assert [cell.editor.isReadOnly() for cell in cells.cells] == [False, True, True]
    assert cells.cells[0].editor.accessibleName() == "a"
    cells.cells[0].editor.setPlainText("B")
    assert cells.is_dirty
    cells.save()
    cells.save()
    assert saved == [(7, "a", "B")]
    assert not cells.is_dirty


def test_tabs_bring_their_views_forward(qtbot: QtBot) -> None:
    tabs, moved = Tabs(), []
    qtbot.addWidget(tabs)
    one, two = QLabel("1"), QLabel("2")
    tabs.add("one", say("One", "一"), one, shortcut="Ctrl+T")
    tabs.add("two", say("Two", "二"), two, shortcut="F2")
    tabs.moved.connect(moved.append)
    assert (tabs.current, tabs.buttons["one"].isChecked()) == ("one", True)
    tabs.buttons["two"].click()
    assert (tabs.current, tabs.buttons["one"].isChecked(), moved) == ("two", False, ["two"])


def test_shares_are_links_that_break_between_words(qtbot: QtBot) -> None:
    opened: list[str] = []
    shares = [("language:en", "English <b> 88%"), ("language:zh", "Chinese 12%")]
    mix = Mix(say("Languages", "语言"), shares, opened.append)
    qtbot.addWidget(mix)
    assert "English &lt;b&gt;&nbsp;88%" in mix.text()
    assert mix.accessibleDescription() == "English <b> 88%, Chinese 12%"
    mix.linkActivated.emit("language:zh")
    assert opened == ["language:zh"]


def test_a_table_leaves_spare_columns_out_where_it_is_narrow(qtbot: QtBot) -> None:
    table = made_table(qtbot)
    assert not table.isColumnHidden(2)
    table.resize(360, 300)
    qtbot.waitUntil(lambda: table.isColumnHidden(2))
    assert sum(table.columnWidth(i) for i in (0, 1, 3)) <= table.viewport().width()


def test_the_keyboard_chooses_rows(qtbot: QtBot) -> None:
    table, chosen = made_table(qtbot), []
    table.paged.put_all(numbered(5))
    table.chosen.connect(chosen.append)
    table.selectRow(0)
    qtbot.keyClick(table, Qt.Key.Key_Down)
    assert chosen == [0, 1]


# ------------------------------------------------------------------------------------------------------------- tokens
def test_learned_tokens_are_underlined_and_coloured(qtbot: QtBot) -> None:
    view = TokenView()
    qtbot.addWidget(view)
    pieces = [("<|user|>", False, True), ("Hi\n", False, False), ("Hello", True, False), ("!", True, False)]
    view.put([{"text": text, "learned": learned, "special": special} for text, learned, special in pieces])
    assert view.toPlainText() == "<|user|>Hi↵\nHello!"
    cursor = view.textCursor()
    cursor.setPosition(view.toPlainText().index("Hello") + 2)
    learned = cursor.charFormat()
    assert learned.underlineStyle() == learned.UnderlineStyle.SingleUnderline
    assert learned.hasProperty(QTextFormat.Property.BackgroundBrush)
    cursor.setPosition(3)
    assert cursor.charFormat().underlineStyle() == learned.UnderlineStyle.NoUnderline


def test_a_very_long_row_says_how_much_more_there_is(qtbot: QtBot) -> None:
    view = TokenView()
    qtbot.addWidget(view)
    view.put([{"text": "a", "learned": True}] * (MOST + 7))
    assert view.toPlainText().endswith("7 more tokens")


def test_neighbours_of_one_kind_are_one_piece() -> None:
    tokens = [{"text": "a", "learned": True}, {"text": "b", "learned": True}, {"text": "c"}]
    assert [text for text, _ in runs(tokens)] == ["ab", "c"]


def test_a_preference_shows_both_answers(qtbot: QtBot) -> None:
    view = TokenView()
    qtbot.addWidget(view)
    view.put([{"text": "good", "learned": True}], [{"text": "bad", "learned": True}])
    text = view.toPlainText()
    assert text.index("Better") < text.index("good") < text.index("Worse") < text.index("bad")


# ------------------------------------------------------------------------------------------------------------- banner
def test_the_banner_has_a_sentence_a_hint_and_the_details(qtbot: QtBot) -> None:
    banner = StatusBanner()
    qtbot.addWidget(banner)
    banner.show()
    failure = Failure(
        "data.empty", say("The file is empty.", "文件为空。"), say("Choose another.", "请另选。"), details="line 1"
    )
    banner.wrong(failure, button(say("Import data…", "导入数据…"), lambda: None))
    assert banner.sentence == "The file is empty."
    assert [item.text() for item in banner.buttons] == ["Import data…", "Copy details"]
    banner.buttons[-1].click()
    from PySide6.QtGui import QGuiApplication

    assert "data.empty" in QGuiApplication.clipboard().text()
    assert "line 1" in QGuiApplication.clipboard().text()


def test_the_banner_shows_progress_and_cancels(qtbot: QtBot) -> None:
    banner, cancelled = StatusBanner(), []
    qtbot.addWidget(banner)
    banner.show()
    banner.working(
        say("Downloading…", "下载中…"),
        Progress(done=2**30, total=2**32, unit="B", seconds_left=180),
        lambda: cancelled.append(1),
    )
    texts = [label.text() for label in banner.findChildren(QLabel) if label.isVisible()]
    assert "1.0 GiB of 4.0 GiB · 3 min left" in texts
    banner.buttons[0].click()
    assert cancelled == [1]
    assert progress_words(Progress(done=1, total=0)) == ""
    assert progress_words(Progress(done=2**20, total=2**30, unit="bytes")) == "1.0 MiB of 1.0 GiB"
    assert progress_words(Progress(done=5, total=20, unit="rows")) == "5 of 20 rows"
    assert progress_words(Progress(done=5, total=20, unit="share")) == "25%"


# -------------------------------------------------------------------------------------------------------------- small
def test_bars_facts_and_cards_say_in_words_what_they_draw(qtbot: QtBot) -> None:
    bar, facts, cards = StackedBar(), Facts(columns=2), ChoiceList(["qlora", "lora"])
    histogram = Histogram()
    for widget in (bar, facts, cards, histogram):
        qtbot.addWidget(widget)
        widget.resize(400, 200)
        widget.show()
    bar.put([Part("Weights", 4.6, "4.6 GiB"), Part("Activations", 6.9, "6.9 GiB")], 24.0)
    assert "Weights 4.6 GiB" in bar.accessibleName()
    assert bar.heightForWidth(120) > bar.heightForWidth(900)
    facts.put([("Steps", "903"), ("Time", "1 h 05 min", "good")])
    assert facts.value("Steps") == "903"
    cards.cards["lora"].put(say("LoRA", "LoRA"), "exact", "23.1 GiB", say("does not fit", "放不下"), "bad")
    assert "does not fit" in cards.cards["lora"].accessibleName()
    cards.cards["lora"].click()
    assert cards.chosen == "lora"
    histogram.put([3, 5, 1], [0, 10, 20, 30], 20)
    assert "9 rows" in histogram.accessibleName()
    for widget in (bar, cards, histogram):
        assert not widget.grab().isNull()


def test_a_long_line_is_shortened_and_told_in_its_tip(qtbot: QtBot) -> None:
    line = ElidedLabel("a very long line of text that does not fit")
    qtbot.addWidget(line)
    line.resize(80, 20)
    line.show()
    qtbot.waitUntil(lambda: line.toolTip().startswith("a very long"))
    line.resize(600, 20)
    qtbot.waitUntil(lambda: line.toolTip() == "")


def test_notices_are_shown_and_closed(qtbot: QtBot) -> None:
    notices = Notices()
    strip = NoticeStrip(notices)
    qtbot.addWidget(strip)
    assert strip.isHidden()
    notices.failure(Failure("x", say("It broke.", "出错了。")))
    assert not strip.isHidden()
    notices.close(notices.open[0])
    assert strip.isHidden()


def test_a_conversation_grows(qtbot: QtBot) -> None:
    talk = Conversation(say("Base", "基础"))
    qtbot.addWidget(talk)
    talk.resize(400, 300)
    talk.show()
    talk.ask("How are you?")
    answer = talk.answer()
    for piece in ("I ", "am ", "well."):
        answer.grow(piece)
    qtbot.waitUntil(lambda: answer.words.text() == "I am well.")
    talk.clear_all()


# --------------------------------------------------------------------------------------------------------------- plot
def test_a_plot_redraws_later_reads_and_saves(qtbot: QtBot, tmp_path: Path) -> None:
    from gui.widgets.plots import REDRAW_MS, LinePlot

    plot = LinePlot(say("Loss", "损失"), x_label=say("step", "步"))
    qtbot.addWidget(plot)
    plot.resize(500, 300)
    plot.show()
    plot.add("train", say("training", "训练"), smooth=0.9)
    plot.add("held", say("held out", "留出"), ink=3, points=True)
    plot.put("train", list(range(1, 101)), [2.0 / i for i in range(1, 101)])
    plot.put("held", [50, 100], [0.5, 0.4])
    plot.mark("c50", 50, "checkpoint 50")
    plot.level("limit", 1.0, "limit")
    assert plot._series["train"].raw.getData()[0] is None
    qtbot.wait(REDRAW_MS + 100)
    assert len(plot._series["train"].raw.getOriginalDataset()[0]) == 100
    assert plot.reading(99.8) == "step 100 · training 0.02 · held out 0.4"
    plot.save_to(tmp_path / "plot.csv")
    assert len(list(csv.reader(io.StringIO((tmp_path / "plot.csv").read_text())))) == 103
    plot.save_to(tmp_path / "plot.png")
    assert not QImage(str(tmp_path / "plot.png")).isNull()
    plot.show_all()
    plot.clear_marks()


def test_a_plot_follows_what_grows_and_begins_anew_when_it_changed(qtbot: QtBot) -> None:
    from gui.widgets.plots import LinePlot

    plot, looked_at = LinePlot(say("Loss", "损失"), x_label=say("step", "步")), []
    qtbot.addWidget(plot)
    plot.add("train", say("training", "训练"), smooth=0.9)

    def point(item: tuple[int, float | None]) -> tuple[float, float | None]:
        looked_at.append(item)
        return item

    items = tuple((i, None if i == 3 else 1.0 / i) for i in range(1, 6))
    plot.follow("train", items, point)
    plot.follow("train", (*items, (6, 0.1)), point)
    assert len(looked_at) == 6
    assert plot._series["train"].xs.tolist() == [1, 2, 4, 5, 6]
    assert plot.highest("train") == 1.0
    plot.follow("train", items[:2], point)
    assert plot._series["train"].xs.tolist() == [1, 2]


def test_smoothing_has_no_bias_at_the_start() -> None:
    from gui.widgets.plots import Smoothing

    def smoothed(values: list[float], weight: float) -> list[float]:
        made = Smoothing(weight)
        for value in values:
            made.add(value)
        return made.values.tolist()

    assert smoothed([3.0] * 50, 0.9) == pytest.approx([3.0] * 50)
    assert smoothed([1.0, 2.0], 0.0) == pytest.approx([1.0, 2.0])
    assert all(math.isfinite(value) for value in smoothed([1.0, math.nan, 2.0], 0.5))


def test_a_plot_is_one_tab_stop_with_keys(qtbot: QtBot) -> None:
    from PySide6.QtWidgets import QAbstractScrollArea

    from gui.widgets.plots import LinePlot

    plot = LinePlot(say("Loss", "损失"), x_label=say("step", "步"))
    qtbot.addWidget(plot)
    plot.resize(500, 300)
    plot.show()
    plot.add("train", say("training", "训练"))
    plot.put("train", [0.0, 100.0], [0.0, 1.0])
    plot.redraw()
    inner = [child for child in plot.findChildren(QWidget) if child.focusPolicy() & Qt.FocusPolicy.TabFocus]
    assert [child for child in inner if not isinstance(child.parent(), QAbstractScrollArea)] == []
    assert "Ctrl+S" in plot.toolTip()
    box = plot._plot.getViewBox()

    def width() -> float:
        (left, right), _ = box.viewRange()
        return float(right - left)

    before = width()
    qtbot.keyClick(plot, Qt.Key.Key_Plus)
    assert width() == pytest.approx(0.8 * before)
    left = box.viewRange()[0][0]
    qtbot.keyClick(plot, Qt.Key.Key_Right)
    assert box.viewRange()[0][0] > left
    assert width() == pytest.approx(0.8 * before)


def test_a_plot_shows_where_the_focus_is_and_offers_to_save(qtbot: QtBot) -> None:
    from gui.widgets.plots import LinePlot

    box = QWidget()
    plot, other = LinePlot(say("Loss", "损失"), x_label=say("step", "步")), button(say("Other", "其他"), lambda: None)
    layout = QVBoxLayout(box)
    layout.addWidget(plot)
    layout.addWidget(other)
    qtbot.addWidget(box)
    box.resize(400, 300)
    with qtbot.waitExposed(box):
        box.show()
    box.activateWindow()
    other.setFocus()
    qtbot.waitUntil(other.hasFocus)
    without = plot.grab().toImage().pixelColor(200, 1)
    plot.setFocus()
    qtbot.waitUntil(plot.hasFocus)
    assert plot.grab().toImage().pixelColor(200, 1) != without
    assert plot._save.isVisible()


def test_a_plot_tells_when_it_cannot_be_saved(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PySide6.QtWidgets import QFileDialog

    from gui.widgets.plots import LinePlot

    (tmp_path / "file").write_text("not a folder")
    plot, refused = LinePlot(say("Loss", "损失"), x_label=say("step", "步")), []
    qtbot.addWidget(plot)
    plot.add("train", say("training", "训练"))
    plot.not_saved.connect(refused.append)
    for name in ("plot.png", "plot.csv", "plot"):
        chosen = str(tmp_path / "file" / name)
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, chosen=chosen: (chosen, "PNG (*.png)"))
        plot.save()
    assert len(refused) == 3
    chosen = str(tmp_path / "v1.2")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (chosen, "PNG (*.png)"))
    plot.save()
    assert not QImage(chosen + ".png").isNull()


def test_a_choice_explains_itself_in_two_lines_where_one_is_too_short(qtbot: QtBot) -> None:
    from PySide6.QtGui import QFontMetrics

    from gui.theme.apply import text_font
    from gui.widgets.choice_card import broken

    cards = ChoiceList(["gguf"])
    qtbot.addWidget(cards)
    card = cards.cards["gguf"]
    words = "smallest; the usual choice; one file for llama.cpp, Ollama and LM Studio"
    card.put("GGUF", words)
    assert " ".join(broken(words, QFontMetrics(text_font(12)), 260)) == words
    assert broken(words * 3, QFontMetrics(text_font(12)), 260)[1].endswith("…")
    cards.resize(300, 400)
    cards.show()
    qtbot.waitUntil(lambda: card.height() == 73)
    cards.resize(900, 400)
    qtbot.waitUntil(lambda: card.height() == 56)


def test_a_list_that_grows_keeps_what_is_there(qtbot: QtBot) -> None:
    from gui.widgets.row_list import RowList

    rows = RowList(say("What happened", "发生了什么"))
    qtbot.addWidget(rows)
    old = [(f"{n}", "plain", f"line {n}") for n in (3, 2, 1)]
    rows.put(old, select=False)
    kept = rows.item(0)
    rows.put([("4", "plain", "line 4"), *old[:2]], select=False)
    assert [rows.item(i).text() for i in range(rows.count())] == ["line 4", "line 3", "line 2"]
    assert rows.item(1) is kept
    rows.put([("9", "plain", "another")])
    assert [rows.item(i).text() for i in range(rows.count())] == ["another"]
    assert rows.currentRow() == 0
    rows.put([])
    assert rows.count() == 0
