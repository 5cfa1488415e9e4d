"""The window: what it shows first, how one moves, how it changes its language and theme, how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QWidget
from pytestqt.qtbot import QtBot

from engine.project.project import Project
from engine.project.recent import recent, remember
from engine.protocol.errors import Failure
from engine.protocol.text import say
from gui.app import _arguments, _project
from gui.context import AppContext
from gui.main_window import MainWindow
from gui.operations.project import open_project
from gui.pages.registry import PAGES
from gui.theme.apply import palette
from gui.widgets.project_card import ProjectCard
from gui.widgets.sidebar import Sidebar

PATIENCE = 60_000


def texts(widget: QWidget) -> list[str]:
    """Every word that is visible in a widget."""
    return [label.text() for label in widget.findChildren(QLabel) if label.isVisible() and label.text()]


# ------------------------------------------------------------------------------------------------------- first frame
def test_the_first_frame_has_sidebar_and_page(qtbot: QtBot, window: MainWindow) -> None:
    with qtbot.waitSignal(window.painted):
        window.update()
    sidebar = window.findChild(Sidebar)
    assert sidebar is not None
    assert sidebar.isVisible()
    assert list(sidebar.steps) == [entry.name for entry in PAGES]
    assert "Data" in texts(window)
    assert any("Bring the data" in text for text in texts(window))


def test_only_the_page_that_is_looked_at_is_built(window: MainWindow, context: AppContext) -> None:
    assert window.page("data") is not None
    assert window.page("plan") is None
    context.wizard.go("plan")
    assert window.page("plan") is not None


FIRST_FRAME = """
import sys
sys.argv = ["lorimer", "--exit-after-first-frame", "--project", sys.argv[1]]
from gui.__main__ import main
code = main()
import json
print(json.dumps([code, [name for name in ("torch", "pyqtgraph", "pydantic", "psutil") if name in sys.modules]]))
"""


def test_the_first_frame_waits_for_nothing_heavy(repository: Path, tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", FIRST_FRAME, str(tmp_path / "project")],
        capture_output=True,
        text=True,
        cwd=repository,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout.splitlines()[-1]) == [0, []]
    assert not (tmp_path / "project").exists(), "nothing is written before the user has seen the window"


ALL_PAGES = """
import json, sys, time
from pathlib import Path
from PySide6.QtWidgets import QApplication
from gui.context import AppContext
from gui.main_window import MainWindow
from gui.operations.data import import_files
from gui.operations.start import begin
from gui.pages.registry import PAGES
from gui.state.settings import AppSettings

app = QApplication([])
context = AppContext(AppSettings(language="en"), Path(sys.argv[1]))
window = MainWindow(context)
window.show()
begin(context)
end = time.monotonic() + 100
def wait(done):
    while not done() and time.monotonic() < end:
        app.processEvents()
        time.sleep(0.005)
wait(lambda: context.project.project is not None and context.models.models)
import_files(context, [Path("resources/samples/orders_en.jsonl")])
wait(lambda: context.plan.forecast is not None)
for entry in PAGES:
    context.wizard.go(entry.name)
    app.processEvents()
heavy = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "accelerate", "pyarrow", "tokenizers")
print(json.dumps([context.plan.forecast is not None, [name for name in heavy if name in sys.modules]]))
window.close()
"""


@pytest.mark.slow
def test_the_window_process_never_loads_torch(repository: Path, tmp_path: Path) -> None:
    """Second proof of the import rules: the real window, with data, a plan, and every page looked at."""
    answer = subprocess.run(
        [sys.executable, "-c", ALL_PAGES, str(tmp_path / "project")],
        capture_output=True,
        text=True,
        cwd=repository,
        timeout=150,
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout.splitlines()[-1]) == [True, []]


def test_a_missing_part_of_qt_is_told_in_a_sentence(repository: Path) -> None:
    program = "import sys; sys.modules['PySide6.QtWidgets'] = None\nfrom gui.__main__ import main\nsys.exit(main([]))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=repository, timeout=60)
    assert answer.returncode == 1
    assert "apt-get install" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_without_a_display_one_is_told_what_to_do(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    command = [sys.executable, "-m", "gui", "--exit-after-first-frame"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=repository, timeout=60)
    if sys.platform.startswith("linux"):
        assert answer.returncode == 1
        assert "display" in answer.stderr
        assert "lorimer demo" in answer.stderr


# ------------------------------------------------------------------------------------------------------------- moving
def test_keys_move_between_the_steps(qtbot: QtBot, window: MainWindow, context: AppContext) -> None:
    window.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window)
    qtbot.keyClick(window, Qt.Key.Key_3, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: context.wizard.current == "plan")
    qtbot.keyClick(window, Qt.Key.Key_1, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: context.wizard.current == "data")


def test_tab_follows_reading_order(qtbot: QtBot, window: MainWindow) -> None:
    """Project, the steps (one stop: arrow keys move among them), language and theme, then the page."""
    window.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window)
    reached = []
    for _ in range(5):
        qtbot.keyClick(QApplication.focusWidget() or window, Qt.Key.Key_Tab)
        focused = QApplication.focusWidget()
        reached.append(focused.accessibleName() if focused is not None else "")
    assert reached == ["Project project", "1. Data", "Language and theme", "Import data…", "Use the sample"]


def test_arrow_keys_move_among_the_steps(qtbot: QtBot, window: MainWindow, context: AppContext) -> None:
    sidebar = window.findChild(Sidebar)
    assert sidebar is not None
    window.activateWindow()
    sidebar.steps["data"].setFocus()
    qtbot.waitUntil(sidebar.steps["data"].hasFocus)
    qtbot.keyClick(sidebar.steps["data"], Qt.Key.Key_Down)
    qtbot.waitUntil(lambda: context.wizard.current == "model")


def test_tab_goes_to_the_step_that_is_looked_at(qtbot: QtBot, window: MainWindow, context: AppContext) -> None:
    sidebar, card = window.findChild(Sidebar), window.findChild(ProjectCard)
    assert sidebar is not None
    assert card is not None
    window.activateWindow()
    for name in ("plan", "data"):
        context.wizard.go(name)
        card.setFocus()
        qtbot.waitUntil(card.hasFocus)
        qtbot.keyClick(card, Qt.Key.Key_Tab)
        qtbot.waitUntil(sidebar.steps[name].hasFocus)


def test_every_button_has_a_name_for_screen_readers(window: MainWindow, context: AppContext) -> None:
    for entry in PAGES:
        context.wizard.go(entry.name)
    nameless = [
        button for button in window.findChildren(QAbstractButton) if not (button.accessibleName() or button.text())
    ]
    # Qt's own clear buttons inside line edits name themselves by their tooltip only.
    assert [button for button in nameless if not button.inherits("QLineEditIconButton")] == []


def test_a_waiting_step_says_why(window: MainWindow) -> None:
    sidebar = window.findChild(Sidebar)
    assert sidebar is not None
    assert "Waits for data" in sidebar.steps["plan"].toolTip()
    assert "Waits for data" in sidebar.steps["plan"].accessibleDescription()


# ---------------------------------------------------------------------------------------------- language and theme
def test_language_and_theme_change_while_running(qtbot: QtBot, window: MainWindow, context: AppContext) -> None:
    context.wizard.go("plan")
    context.settings.set_language("zh")
    assert context.wizard.current == "plan"
    qtbot.waitUntil(lambda: "计划" in texts(window))
    context.settings.set_theme("dark")
    assert palette().dark
    context.settings.set_language("en")
    context.settings.set_theme("light")
    qtbot.waitUntil(lambda: "Plan" in texts(window))
    assert not palette().dark


def test_old_pages_are_gone_after_a_change(qtbot: QtBot, window: MainWindow, context: AppContext) -> None:
    old = window.page("data")
    gone = []
    assert old is not None
    old.destroyed.connect(lambda: gone.append(1))
    context.settings.set_language("zh")
    qtbot.waitUntil(lambda: gone == [1])
    context.data.set_facts({"train": 3, "held_out": 0})
    context.settings.set_language("en")


def test_the_preferences_menu_ticks_the_present_choice(window: MainWindow) -> None:
    sidebar = window.findChild(Sidebar)
    assert sidebar is not None
    menu = sidebar.preferences_menu()
    assert [action.text() for action in menu.actions() if action.isChecked()] == ["English", "Light"]
    menu.deleteLater()


# ----------------------------------------------------------------------------------------------------------- projects
def test_projects_are_opened_listed_and_removed(
    qtbot: QtBot, window: MainWindow, context: AppContext, tmp_path: Path
) -> None:
    other = Project.open_or_create(tmp_path / "other")
    remember(other.path)
    with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
        open_project(context, context.project.path)
    card = window.findChild(ProjectCard)
    assert card is not None
    menu = card.menu_now()
    inner = next(action.menu() for action in menu.actions() if action.text() == "other")
    next(action for action in inner.actions() if action.text().startswith("Remove")).trigger()
    qtbot.waitUntil(lambda: other.path not in context.project.recent)
    assert other.path not in recent()
    assert other.path.exists()
    menu.deleteLater()


def test_a_folder_that_is_no_project_is_told_and_the_old_one_stays(
    qtbot: QtBot, window: MainWindow, context: AppContext, tmp_path: Path
) -> None:
    with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
        open_project(context, context.project.path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"no")
    open_project(context, tmp_path / "photos")
    qtbot.waitUntil(lambda: bool(context.notices.open))
    assert "not empty" in context.notices.open[0].message.en
    assert context.project.path.name == "project"


def test_a_damaged_draft_is_told_and_the_defaults_are_taken(
    qtbot: QtBot, window: MainWindow, context: AppContext
) -> None:
    project = Project.open_or_create(context.project.path)
    project.draft.write_text("[train]\nepoch = 3\n", encoding="utf-8")
    with qtbot.waitSignal(context.project.opened, timeout=PATIENCE):
        open_project(context, project.path)
    qtbot.waitUntil(lambda: bool(context.notices.open))
    assert "train.epochs" in str(context.notices.open[0].details) or "epochs" in context.notices.open[0].hint.en
    assert context.draft.recipe.train.epochs == 3.0


def test_which_project_is_opened(tmp_path: Path) -> None:
    assert _project(tmp_path / "asked") == tmp_path / "asked"
    assert _project(None).name == "Lorimer"
    made = Project.open_or_create(tmp_path / "known")
    remember(made.path)
    assert _project(None) == made.path


def test_arguments() -> None:
    chosen = _arguments(["--project", "x", "--lang", "zh", "--theme", "dark"])
    assert (chosen.project, chosen.lang, chosen.theme) == (Path("x"), "zh", "dark")


# ------------------------------------------------------------------------------------------------------------- errors
def test_a_notice_has_details_to_copy(qtbot: QtBot, window: MainWindow, context: AppContext) -> None:
    context.notices.failure(Failure("disk.full", say("The disk is full.", "磁盘已满。"), details="errno 28"))
    copies = [b for b in window.findChildren(QAbstractButton) if b.text() == "Copy details" and b.isVisible()]
    copies[0].click()
    assert "errno 28" in QApplication.clipboard().text()


def test_closing_ends_every_thread(qtbot: QtBot, opened: AppContext, window: MainWindow) -> None:
    bridge = opened.bridge
    loops = [bridge.background, bridge.data, bridge.machine]
    assert all(loop.isRunning() for loop in loops)
    window.close()
    assert not any(loop.isRunning() for loop in loops)
