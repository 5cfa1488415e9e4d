"""The Runs page on runs whose record is written by hand: four states, finding, describing, comparing, repeating, going
on, removing, and the queue while a window is open."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QFile, QItemSelectionModel, Qt
from PySide6.QtWidgets import QAbstractButton, QApplication, QCheckBox, QMenu, QMessageBox, QPushButton, QToolButton
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.host import launch
from engine.host.launch import is_alive
from engine.project import queue
from engine.project.kept import kept
from engine.project.project import Project
from engine.project.remarks import Remarks, read_remarks, write_remarks
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.events import Finished, Launched, Waiting
from engine.protocol.text import say
from engine.recipe.file import load
from gui.context import AppContext
from gui.i18n.language import sentences, speak
from gui.i18n.numbers import size
from gui.operations import plan as plans
from gui.operations import project as projects
from gui.operations import queue as queues
from gui.operations import runs as operations
from gui.pages.runs import RunsPage
from gui.state.settings import AppSettings
from gui.widgets.announcer import RunAnnouncer
from gui.widgets.project_card import run_words
from tests.unit.project.made_run import evaluate, leave, make_run, step, work_on, write

PATIENCE = 30_000
Pages = Callable[[], RunsPage]


@pytest.fixture
def context(qtbot: QtBot, tmp_path: Path) -> Iterator[AppContext]:
    made = AppContext(AppSettings(language="en", theme="light"), tmp_path / "p")
    yield made
    made.close()


@pytest.fixture
def opened(qtbot: QtBot, context: AppContext) -> Pages:
    """Opens the project, and the page on it."""

    def open_page() -> RunsPage:
        with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
            projects.open_project(context, context.project.path)
        page = RunsPage(context)
        qtbot.addWidget(page)
        page.resize(1050, 750)
        page.show()
        return page

    return open_page


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    """Two finished runs and one that failed, oldest first."""
    made = [
        make_run(tmp_path / "p", "clinic replies", saved=(10, 20, 40)),
        make_run(tmp_path / "p", "orders", status="failed", saved=(20,), steps=30, train={"epochs": 2.0}),
        make_run(tmp_path / "p", "third", saved=(), method={"name": "ia3"}),
    ]
    evaluate(made[0], 0.2, 0.58)
    write_remarks(made[0], Remarks(tags=("best",), note="Ask Maria"))
    return made


@pytest.fixture
def page(qtbot: QtBot, opened: Pages, runs: list[RunFolder], context: AppContext) -> RunsPage:
    made = opened()
    qtbot.waitUntil(lambda: len(context.project.listed.sizes) == 3, timeout=PATIENCE)
    return made


def titles(page: RunsPage) -> list[str]:
    """Without the numbers before them."""
    return [text.partition(" ")[2] for text in numbered(page)]


def numbered(page: RunsPage) -> list[str]:
    paged = page.table.paged
    return [paged.columns[0].text(paged.row(number) or {}) for number in range(paged.rowCount())]


def choose(page: RunsPage, *numbers: int) -> None:
    """Choose lines of the table, as one does with Ctrl."""
    model, paged = page.table.selectionModel(), page.table.paged
    model.clearSelection()
    flags = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
    for number in numbers:
        model.select(paged.index(number, 0), flags)


def press(page: Any, words: str) -> None:
    found = [b for b in page.findChildren(QPushButton) if b.text() == words and b.isVisibleTo(page)]
    assert found, f"no button says {words}"
    assert found[0].isEnabled()
    found[0].click()


def answer(words: str) -> None:
    """Answer the question that stands before the window."""
    QApplication.processEvents()
    box = next(w for w in QApplication.topLevelWidgets() if isinstance(w, QMessageBox) and w.isVisible())
    next(b for b in box.findChildren(QAbstractButton) if b.text() == words).click()


def pick(menu: QMenu, words: str) -> None:
    next(action for action in menu.actions() if action.text().startswith(words)).trigger()
    menu.deleteLater()


def facts(page: RunsPage, name: str) -> str:
    return page._details._facts.value(name)


# -------------------------------------------------------------------------------------------------------- four states
def test_nothing_yet_leads_to_the_plan(qtbot: QtBot, opened: Pages, context: AppContext) -> None:
    page = opened()
    qtbot.waitUntil(lambda: page.banner.sentence == "No run in this project yet.", timeout=PATIENCE)
    page.banner.buttons[0].click()
    assert context.wizard.current == "plan"


def test_reading_takes_a_moment_and_may_fail(
    qtbot: QtBot, opened: Pages, runs: list[RunFolder], context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        raise UserError("disk.error", say("The drive does not answer.", "磁盘没有响应。"))

    monkeypatch.setattr("engine.project.runs.Listing.read", refuse)
    page = opened()
    assert page.banner.sentence == "Reading the runs…"
    qtbot.waitUntil(lambda: page.banner.sentence == "The drive does not answer.", timeout=PATIENCE)
    monkeypatch.undo()
    monkeypatch.setenv("LORIMER_HOME", str(runs[0].path.parents[2] / "home"))
    page.banner.buttons[0].click()
    qtbot.waitUntil(lambda: page.is_ready, timeout=PATIENCE)


def test_the_list_tells_what_is_known(qtbot: QtBot, page: RunsPage, context: AppContext) -> None:
    assert numbered(page) == ["0003 third", "0002 orders", "0001 clinic replies #best"]
    assert page._subtitle.text().startswith("3 runs · ")
    assert context.wizard.step("runs").word.en == "3"
    choose(page, 2)
    assert facts(page, "Best held-out loss") == "1.500 at step 20"
    assert facts(page, "Evaluation") == "exact answers 20% → 58%; 5 better, 1 worse"
    assert "checkpoints" in facts(page, "On disk")
    qtbot.waitUntil(lambda: page._details._verdict.isVisibleTo(page), timeout=PATIENCE)
    assert page._details._says.text()


def test_a_run_under_way_moves(qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext) -> None:
    run = runs[1]
    work_on(run)
    write(run, Launched(kind="resume"), step(31))
    page._timer.setInterval(50)
    page._read()
    qtbot.waitUntil(lambda: context.project.listed.rows[1].is_under_way, timeout=PATIENCE)
    assert page._timer.isActive()
    choose(page, 1)
    assert not page._details._remove.isEnabled()
    write(run, Finished(status="stopped"))  # before it leaves: the curve is read meanwhile, and tells who died unheard
    leave(run)
    qtbot.waitUntil(lambda: context.project.listed.rows[1].figures.status == "stopped", timeout=PATIENCE)
    assert not page._timer.isActive()


# -------------------------------------------------------------------------------------------------------- finding
def test_runs_are_searched_filtered_and_sorted(qtbot: QtBot, page: RunsPage, context: AppContext) -> None:
    page._search.setText("maria")
    assert titles(page) == ["clinic replies #best"]
    assert page._subtitle.text().startswith("1 of 3 runs")
    page._search.setText("nothing like it")
    assert page._none.isVisibleTo(page)
    page._search.setText("")
    page._stands.edited.emit("failed")
    assert titles(page) == ["orders"]
    page._stands.edited.emit("")
    page._tag.edited.emit("best")
    assert titles(page) == ["clinic replies #best"]
    page._tag.edited.emit("")
    page._order.edited.emit("title")
    assert titles(page) == ["clinic replies #best", "orders", "third"]


def test_what_is_chosen_stays_chosen(qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext) -> None:
    choose(page, 2)
    page._order.edited.emit("title")
    assert context.project.listed.chosen == (runs[0].path,)
    assert [index.row() for index in page.table.selectionModel().selectedRows()] == [0]


# ------------------------------------------------------------------------------------------------------- describing
def test_title_tags_and_note_are_kept(qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext) -> None:
    choose(page, 0)
    page._details._tags.setText("sweep，#try, sweep")
    page._details._tags.editingFinished.emit()
    assert read_remarks(runs[2]).tags == ("sweep", "try")
    assert titles(page)[0] == "third #sweep #try"
    page._details._note.setPlainText("two\nlines")
    choose(page, 1)  # one looks elsewhere without leaving the field first
    assert read_remarks(runs[2]).note == "two\nlines"
    choose(page, 0)
    page._details._title.setText("the third")
    page._details._title.editingFinished.emit()
    assert read_remarks(runs[2]) == Remarks("the third", ("sweep", "try"), "two\nlines")
    qtbot.waitUntil(lambda: context.project.runs[0].title == "the third", timeout=PATIENCE)


# -------------------------------------------------------------------------------------------------------- comparing
def test_runs_are_compared(qtbot: QtBot, page: RunsPage, context: AppContext) -> None:
    choose(page, 0, 1, 2)
    assert page._details._several.text() == "3 runs are chosen."
    press(page, "Compare")
    qtbot.waitUntil(lambda: context.project.listed.compared is not None, timeout=PATIENCE)
    view = page._compared
    assert view is not None
    lines = {line[0]: line[1:] for line in view.lines if len(line) > 3}
    assert (lines["Best held-out loss"], lines["Reached at step"]) == (["1.500"] * 3, ["20"] * 3)
    assert lines["State"] == ["done", "failed", "done"]
    assert lines["Method"] == ["(IA)³", "QLoRA, 4-bit", "QLoRA, 4-bit"]
    assert lines["Passes over the data"] == ["3", "2", "3"]
    assert "Learn from" not in lines
    press(page, "← Back")
    assert titles(page)[0] == "third"
    choose(page, 0)
    assert not page._details._compare.isVisibleTo(page)


# -------------------------------------------------------------------------------------------------------- repeating
def test_a_runs_recipe_becomes_the_plan_and_the_earlier_one_can_be_taken_back(
    qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext
) -> None:
    context.draft.set({"train.epochs": 7.0})
    choose(page, 1)
    press(page, "Use its recipe")
    assert context.wizard.current == "plan"
    assert context.draft.recipe == load(runs[1].recipe, CATALOGUE)
    assert "kept" in context.notices.open[-1].hint.en
    press(page, "Take back the earlier plan")
    assert context.draft.recipe.train.epochs == 7.0
    assert not operations.earlier_plan(context).exists()
    assert not page._earlier.isVisibleTo(page)


def test_opening_looks_at_the_run(page: RunsPage, runs: list[RunFolder], context: AppContext) -> None:
    choose(page, 1)
    press(page, "Open")
    assert (context.runs.run, context.wizard.current) == (runs[1], "train")


# -------------------------------------------------------------------------------------------------------- going on
def test_going_on_from_a_checkpoint_makes_a_new_run(
    qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[RunFolder, str]] = []
    monkeypatch.setattr(launch, "start_job", lambda run, kind, arguments: begun.append((run, kind)))
    choose(page, 2)
    qtbot.waitUntil(lambda: page._details._go_on.isEnabled(), timeout=PATIENCE)
    menu = page._details.steps_menu()
    words = [action.text() for action in menu.actions()[1:]]
    assert [text.split(" · ")[0] for text in words] == ["Step 40", "Step 20", "Step 10"]
    assert words[1].endswith("best")
    pick(menu, "Step 20")
    qtbot.waitUntil(lambda: bool(begun), timeout=PATIENCE)
    made, kind = begun[0]
    assert (kind, [item.step for item in kept(made)]) == ("resume", [20])
    assert (context.runs.run, context.wizard.current) == (made, "train")
    assert [item.step for item in kept(runs[0])] == [10, 20, 40]


def test_while_another_trains_it_waits_for_its_turn(
    qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext
) -> None:
    work_on(runs[1])
    write(runs[1], Launched(kind="resume"))
    projects.refresh_lists(context)
    qtbot.waitUntil(lambda: context.project.trains(context.runs), timeout=PATIENCE)
    operations.go_on_from(context, runs[0], 40)
    qtbot.waitUntil(lambda: len(queue.entries()) == 1, timeout=PATIENCE)
    assert queue.entries()[0].title == "clinic replies 40+"
    leave(runs[1])
    write(runs[1], Finished(status="done"))


# -------------------------------------------------------------------------------------------------------- removing
@pytest.fixture
def trash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was moved to the trash, which is a folder here."""
    moved: list[str] = []

    def move(path: str) -> tuple[bool, str]:
        moved.append(path)
        Path(path).rename(tmp_path / f"trash{len(moved)}")
        return True, ""

    monkeypatch.setattr(QFile, "moveToTrash", move)
    return moved


def test_older_checkpoints_or_the_whole_run_go_to_the_trash(
    qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext, trash: list[str]
) -> None:
    choose(page, 2)
    qtbot.waitUntil(lambda: page._details._go_on.isEnabled(), timeout=PATIENCE)
    taken = context.project.listed.sizes[runs[0].path].total
    menu = page._details.remove_menu()
    assert [action.text().split(":")[0] for action in menu.actions()] == ["1 older checkpoints", "The whole run"]
    assert all("once the trash is emptied" in action.text() for action in menu.actions())
    pick(menu, "1 older")
    answer("Keep it")
    assert trash == []
    pick(page._details.remove_menu(), "1 older")
    answer("Move to the trash")
    assert trash == [str(runs[0].checkpoints / "step-000010")]
    qtbot.waitUntil(lambda: context.project.listed.sizes[runs[0].path].total < taken, timeout=PATIENCE)
    pick(page._details.remove_menu(), "The whole run")
    answer("Move to the trash")
    assert trash[-1] == str(runs[0].path)
    qtbot.waitUntil(lambda: titles(page) == ["third", "orders"], timeout=PATIENCE)


# --------------------------------------------------------------------------------------------------------- the queue
def begin(run: RunFolder, kind: str, arguments: dict[str, Any]) -> None:
    work_on(run)
    write(run, Launched(kind=kind))


def look(qtbot: QtBot, context: AppContext) -> None:
    """Look after the queue now, and wait for what comes of it."""
    watch = context.project.findChild(queues.QueueWatch)
    assert watch is not None
    watch.look()
    qtbot.waitUntil(lambda: not watch._is_looking, timeout=PATIENCE)


def test_the_queue_is_shown_changed_and_worked_off(
    qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "start_job", begin)
    told: list[str] = []
    context.project.run_ended.connect(lambda title, state: told.append(f"{title} {state.status}"))
    for number in (0, 1):
        choose(page, number)
        press(page, "Add to the queue")
        qtbot.waitUntil(lambda: not page._details._wait.isEnabled(), timeout=PATIENCE)
    assert page._queue.isVisibleTo(page)
    QApplication.processEvents()
    names = {b.accessibleName(): b for b in page._queue.findChildren(QToolButton) if b.isVisibleTo(page)}
    names["Move 0002 orders up"].click()
    qtbot.waitUntil(
        lambda: [item.title for item in context.project.listed.queue] == ["orders", "third"], timeout=PATIENCE
    )
    QApplication.processEvents()
    box = [b for b in page._queue.findChildren(QCheckBox) if b.isVisibleTo(page)][1]
    box.click()
    qtbot.waitUntil(lambda: context.project.listed.queue[1].after == "done", timeout=PATIENCE)

    look(qtbot, context)
    assert is_alive(runs[1])
    assert "has been started" in context.notices.open[-1].message.en
    leave(runs[1])
    write(runs[1], Finished(status="done"))
    look(qtbot, context)
    assert told == ["0002 orders done"]
    assert [item.state for item in context.project.listed.queue] == ["ended", "running"]
    leave(runs[2])
    write(runs[2], Finished(status="stopped"))
    look(qtbot, context)
    clear = next(b for b in page._queue.findChildren(QToolButton) if b.text() == "Clear what is over")
    clear.click()
    qtbot.waitUntil(lambda: context.project.listed.queue == (), timeout=PATIENCE)
    assert queue.entries() == ()
    assert not page._queue.isVisibleTo(page)


def test_the_end_of_a_run_that_nobody_looks_at_is_announced(
    qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext
) -> None:
    from engine.host.follow import replay

    announcer = RunAnnouncer(context, page)
    with qtbot.waitSignal(announcer.announced, timeout=PATIENCE) as told:
        context.project.run_ended.emit("third", replay(runs[2]))
    assert told.args == ["“third”: The run is done. Best held-out loss 1.50."]
    assert context.notices.open[-1].message.zh == "“third”：训练完成。"
    announcer.dismiss()


def test_a_plan_waits_behind_the_run_that_trains(
    qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext
) -> None:
    work_on(runs[1])
    write(runs[1], Launched(kind="resume"))
    context.runs.select(runs[1])
    qtbot.waitUntil(lambda: context.runs.train.is_running and bool(context.runs.train.state.kind), timeout=PATIENCE)
    plans.queue_training(context)
    qtbot.waitUntil(lambda: bool(context.project.listed.queue), timeout=PATIENCE)
    (entry,) = queue.entries()
    assert (entry.behind, entry.state) == (str(runs[1].path), "waiting")
    assert not entry.folder.events.exists()
    assert "waits for its turn" in context.notices.open[-1].message.en
    leave(runs[1])
    write(runs[1], Finished(status="done"))


def test_a_plan_waits_behind_a_run_of_the_queue_in_another_project(
    qtbot: QtBot, page: RunsPage, context: AppContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "start_job", begin)
    monkeypatch.setattr(launch, "start_job", lambda *_: pytest.fail("two would train at once"))
    other = make_run(tmp_path / "other", "other", status="stopped")
    queue.add(other)
    look(qtbot, context)
    assert queue.is_at_work()
    plans.start_training(context)
    qtbot.waitUntil(lambda: len(context.project.listed.queue) == 2, timeout=PATIENCE)
    assert [item.state for item in queue.entries()] == ["running", "waiting"]
    leave(other)
    write(other, Finished(status="done"))


# ---------------------------------------------------------------------------------------------------------- keyboard
def test_enter_opens_and_names_are_told(
    qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext
) -> None:
    page.table.setFocus()
    choose(page, 1)
    page.table.setCurrentIndex(page.table.paged.index(1, 0))
    qtbot.keyClick(page.table, Qt.Key.Key_Return)
    assert context.runs.run == runs[1]
    for control in (page._stands, page._tag, page._order):
        assert control.control.accessibleName()
    assert page._search.accessibleName()


def test_chinese_is_whole(qtbot: QtBot, opened: Pages, runs: list[RunFolder], context: AppContext) -> None:
    from gui.i18n.language import speak

    speak("zh")
    page = opened()
    qtbot.waitUntil(lambda: page.is_ready and len(context.project.listed.sizes) == 3, timeout=PATIENCE)
    choose(page, 2)
    assert facts(page, "最佳留出损失") == "1.500（第 20 步）"
    buttons = [b.text() for b in page.findChildren(QPushButton) if b.isVisibleTo(page)]
    assert not [text for text in buttons if text.isascii()]
    assert Project(context.project.path).runs()[0].title == "third"


def test_a_damaged_record_and_a_wait_for_the_disk_are_told(
    qtbot: QtBot, page: RunsPage, runs: list[RunFolder], context: AppContext
) -> None:
    runs[0].facts.write_text("{")
    write(runs[1], Launched(kind="resume"), Waiting(step=30, reason="disk"))
    work_on(runs[1])
    page._read()
    qtbot.waitUntil(lambda: context.project.listed.rows[2].is_damaged, timeout=PATIENCE)
    state = page.table.paged.columns[1].text
    assert [state(page.table.paged.row(number) or {}) for number in (1, 2)] == ["waits for disk", "record damaged"]
    choose(page, 2)
    assert facts(page, "Record") == "run.json is unreadable; continuing the run writes it anew"
    described = [run_words(run).rpartition(" · ")[2] for run in Project(context.project.path).runs()]
    assert described[1:] == ["waiting for the disk", "record damaged"]
    leave(runs[1])


def test_chinese_sentences_stand_without_a_blank() -> None:
    words = (say("One.", "一。"), say("Two.", "二。"))
    assert sentences(*words, "") == "One. Two."
    speak("zh")
    try:
        assert sentences(*words) == "一。二。"
        assert sentences(say("One", "一"), words[1]) == "一 二。"
    finally:
        speak("en")
    assert [size(count) for count in (1010 * 1024, 999 * 1024)] == ["1.0 MiB", "999 KiB"]
