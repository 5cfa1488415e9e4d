"""The Data, Model and Plan pages on the real data session: what a user sees and does before training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtWidgets import QAbstractButton, QApplication, QComboBox, QLabel, QSpinBox, QWidget
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.machine.dims import ModelDims
from engine.machine.forecast import DataFacts, Lengths, Room, forecast
from engine.machine.time import cpu_speed
from engine.methods.registry import METHODS
from engine.project.project import Project, RunSummary
from engine.protocol.codec import encode_event
from engine.protocol.errors import Failure, UserError
from engine.protocol.events import Finished, Launched
from engine.protocol.text import say
from engine.recipe.file import from_plain, load
from gui.context import AppContext
from gui.i18n.numbers import parameters
from gui.main_window import SMALLEST, MainWindow
from gui.operations import data as data_operations
from gui.operations import models as model_operations
from gui.operations import plan as plan_operations
from gui.pages.data import DataPage
from gui.pages.model import ModelPage
from gui.pages.plan import PlanPage
from gui.state.phase import Phase
from gui.widgets.sidebar import WIDTH

PATIENCE = 60_000
pytestmark = pytest.mark.slow


def texts(widget: QWidget) -> list[str]:
    """Every word that is visible in a widget."""
    return [label.text() for label in widget.findChildren(QLabel) if label.isVisible() and label.text()]


def press(qtbot: QtBot, widget: QWidget, words: str) -> None:
    """Press the button with these words, once it is visible."""

    def found() -> list[QAbstractButton]:
        return [b for b in widget.findChildren(QAbstractButton) if b.text() == words and b.isVisible()]

    qtbot.waitUntil(lambda: bool(found()), timeout=PATIENCE)
    found()[0].click()


def page(window: MainWindow, context: AppContext, name: str) -> Any:
    """The page of a step, looked at."""
    context.wizard.go(name)
    found = window.page(name)
    assert found is not None
    return found


def read(qtbot: QtBot, context: AppContext, phase: Phase) -> None:
    """Wait until the data stand so."""
    qtbot.waitUntil(lambda: context.data.status.phase is phase, timeout=PATIENCE)


# --------------------------------------------------------------------------------------------------------------- data
def test_the_sample_is_one_press_away(qtbot: QtBot, window: MainWindow, opened: AppContext) -> None:
    data: DataPage = page(window, opened, "data")
    press(qtbot, data, "Use the sample")
    read(qtbot, opened, Phase.READY)
    qtbot.waitUntil(lambda: "orders_en.jsonl" in texts(data))
    qtbot.waitUntil(lambda: "1,800 rows train · 200 held out" in texts(data))
    qtbot.waitUntil(lambda: data._rows.row.tokens.toPlainText() != "", timeout=PATIENCE)
    assert "<|im_start|>assistant" in data._rows.row.tokens.toPlainText()
    assert "tokens learned" in data._rows.row._length.text()
    assert opened.wizard.step("data").word.en == "1,800 rows"


def test_rows_are_filtered_and_walked_by_keyboard(qtbot: QtBot, window: MainWindow, with_data: AppContext) -> None:
    data: DataPage = page(window, with_data, "data")
    rows = data._rows
    qtbot.waitUntil(lambda: rows.table.paged.row(0) is not None, timeout=PATIENCE)
    rows.show_only("held_out")
    assert rows.table.paged.rowCount() == 200
    qtbot.waitUntil(lambda: rows.table.paged.row(0) is not None, timeout=PATIENCE)
    assert {rows.table.paged.row(i)["status"] for i in range(20)} == {"held_out"}
    before = rows.row._which.text()
    qtbot.keyClick(rows.table, Qt.Key.Key_Down)
    qtbot.waitUntil(lambda: rows.row._which.text() != before, timeout=PATIENCE)
    rows.show_only("set_aside")
    assert rows.table.paged.rowCount() == 0


def test_set_aside_rows_are_counted_and_opened(
    qtbot: QtBot, window: MainWindow, opened: AppContext, tmp_path: Path
) -> None:
    lines = ['{"instruction": "Say a", "output": "a"}', '{"instruction": "Say b", "output": ""}', "{broken"]
    lines += [f'{{"instruction": "Say {i}", "output": "it is {i}"}}' for i in range(20)]
    file = tmp_path / "mixed.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data_operations.import_files(opened, [file])
    read(qtbot, opened, Phase.READY)
    data: DataPage = page(window, opened, "data")
    assert opened.data.facts["set_aside"] == {"empty_answer": 1, "bad_row": 1}
    qtbot.waitUntil(lambda: "2 rows set aside, nothing deleted" in texts(data))
    press(qtbot, data, "Empty answer")
    qtbot.waitUntil(lambda: data._rows.table.paged.row(0) is not None, timeout=PATIENCE)
    assert data._rows.table.paged.row(0)["where"] == "mixed.jsonl:2"
    assert data._rows.table.paged.index(0, 4).data() == "empty answer"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jsonl", b"", "empty"),
        ("binary.jsonl", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, ""),
        ("half.json", b'[{"instruction": "a", "output": "b"', ""),
    ],
)
def test_a_bad_file_is_explained(
    qtbot: QtBot, window: MainWindow, opened: AppContext, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    data_operations.import_files(opened, [file])
    qtbot.waitUntil(lambda: opened.data.status.phase in (Phase.WRONG, Phase.READY), timeout=PATIENCE)
    data: DataPage = page(window, opened, "data")
    if opened.data.status.phase is Phase.READY:
        # A file that lost its end still has rows; what is broken is set aside.
        assert sum(opened.data.facts["set_aside"].values()) >= 1
        return
    assert words in data.banner.sentence.lower()
    assert [b.text() for b in data.banner.buttons] == ["Import data…", "Copy details"]
    assert "Traceback" not in " ".join(texts(data))


def test_a_missing_file_is_explained_and_another_can_be_taken(
    qtbot: QtBot, window: MainWindow, opened: AppContext, tmp_path: Path
) -> None:
    data_operations.import_files(opened, [tmp_path / "gone.jsonl"])
    read(qtbot, opened, Phase.WRONG)
    data: DataPage = page(window, opened, "data")
    assert "gone.jsonl" in data.banner.sentence
    data_operations.import_files(opened, [data_operations.sample_file()])
    read(qtbot, opened, Phase.READY)
    assert data.is_ready


def test_columns_are_changed_beside_the_rows(
    qtbot: QtBot, window: MainWindow, opened: AppContext, tmp_path: Path
) -> None:
    lines = [f'{{"ask": "What is {i}?", "reply": "It is {i}.", "note": "n{i}"}}' for i in range(30)]
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data_operations.import_files(opened, [file])
    qtbot.waitUntil(lambda: opened.data.status.phase in (Phase.READY, Phase.WRONG), timeout=PATIENCE)
    mapping = {"prompt": "ask", "completion": "note"}
    data_operations.choose_columns(opened, "prompt_completion", mapping, "auto")
    qtbot.waitUntil(lambda: opened.data.facts.get("mapping") == mapping, timeout=PATIENCE)
    data: DataPage = page(window, opened, "data")
    press(qtbot, data, "Change columns…")
    panel = data._panel
    assert panel is not None
    assert panel.roles["completion"].currentData() == "note"
    panel.roles["completion"].setCurrentIndex(panel.roles["completion"].findData("reply"))
    press(qtbot, panel, "Read again")
    qtbot.waitUntil(lambda: opened.data.facts.get("mapping", {}).get("completion") == "reply", timeout=PATIENCE)
    press(qtbot, panel, "Close")
    assert data._panel is None


def test_a_file_can_be_dropped(qtbot: QtBot, window: MainWindow, opened: AppContext, repository: Path) -> None:
    data: DataPage = page(window, opened, "data")
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(repository / "resources" / "samples" / "orders_zh.jsonl"))])
    event = QDropEvent(
        QPointF(10, 10), Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    data.dropEvent(event)
    read(qtbot, opened, Phase.READY)
    assert opened.data.facts["shape"] == "messages"


def test_preferences_choose_their_objective(
    qtbot: QtBot, window: MainWindow, opened: AppContext, shared_data: Path
) -> None:
    data_operations.import_files(opened, [shared_data / "datasets" / "llama-factory" / "dpo_en_demo.json"])
    read(qtbot, opened, Phase.READY)
    assert opened.draft.recipe.objective.name == "dpo"
    assert "Learn a preference" in opened.notices.open[0].message.en
    plan: PlanPage = page(window, opened, "plan")
    qtbot.waitUntil(lambda: opened.plan.forecast is not None and plan.is_ready, timeout=PATIENCE)
    assert plan._method.objective.isVisible()
    data_operations.import_files(opened, [data_operations.sample_file()])
    qtbot.waitUntil(lambda: opened.draft.recipe.objective.name == "sft", timeout=PATIENCE)


# -------------------------------------------------------------------------------------------------------------- model
def test_the_starter_is_listed_chosen_and_described(qtbot: QtBot, window: MainWindow, opened: AppContext) -> None:
    model: ModelPage = page(window, opened, "model")
    qtbot.waitUntil(lambda: bool(opened.models.chosen), timeout=PATIENCE)
    assert model.table.paged.index(0, 0).data() == "Lorimer starter"
    qtbot.waitUntil(lambda: "complete, checked" in texts(model))
    assert model.table.paged.index(0, 4).data() == "fits"
    assert opened.wizard.step("model").word.en == parameters(opened.models.chosen["parameters"])


def test_a_folder_is_opened_and_chosen(qtbot: QtBot, window: MainWindow, opened: AppContext, shared_data: Path) -> None:
    model: ModelPage = page(window, opened, "model")
    folder = shared_data / "models" / "stories260K"
    model_operations.open_folder(opened, folder)
    qtbot.waitUntil(lambda: opened.models.chosen.get("name") == "stories260K", timeout=PATIENCE)
    assert Path(opened.draft.recipe.model.source) == folder
    qtbot.waitUntil(lambda: "none: one is chosen" in texts(model))
    model.search.setText("no such model")
    assert model.table.paged.rowCount() == 0


def test_a_folder_without_weights_is_explained(
    qtbot: QtBot, window: MainWindow, opened: AppContext, tmp_path: Path
) -> None:
    model: ModelPage = page(window, opened, "model")
    before = opened.draft.recipe.model.source
    (tmp_path / "hollow").mkdir()
    (tmp_path / "hollow" / "config.json").write_text("{}", encoding="utf-8")
    model_operations.open_folder(opened, tmp_path / "hollow")
    qtbot.waitUntil(lambda: opened.models.chosen_status.phase is Phase.WRONG, timeout=PATIENCE)
    qtbot.waitUntil(lambda: "Cannot be trained" in texts(model))
    assert opened.draft.recipe.model.source == before


def test_the_hub_that_cannot_be_reached_is_explained(
    qtbot: QtBot, window: MainWindow, opened: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    model: ModelPage = page(window, opened, "model")
    model_operations.look_up(opened, "nobody/nothing")
    qtbot.waitUntil(lambda: opened.models.hub_status.phase is Phase.WRONG, timeout=PATIENCE)
    failure = opened.models.hub_status.failure
    assert failure is not None
    qtbot.waitUntil(lambda: failure.message.en in texts(model))
    press(qtbot, model, "Back")
    assert opened.models.hub_status.phase is Phase.EMPTY


# ------------------------------------------------------------------------------------- the plan without any session
FREE = 20.0
WRONG = Failure("data.binary", say("cat.png is no text.", "cat.png 不是文本。"), say("Take another.", "请换一个。"))


@pytest.fixture
def planned(context: AppContext, starter: Path) -> AppContext:
    """The states as they stand when data, model and machine are known, without anybody having read them."""
    context.draft.begin(from_plain({}, CATALOGUE), context.project.path / "draft.toml")
    recipe, data = context.draft.recipe, DataFacts(rows=2000, lengths=Lengths(50.0, 50, 60, 65, 68, 70))
    dims = ModelDims.from_config(json.loads((starter / "config.json").read_text(encoding="utf-8")))
    where = Room("cpu", "CPU", FREE, 24.0, cpu_speed(2, "CPU"))
    plan = context.plan
    plan.dims, plan.room, plan.forecast = dims, where, forecast(recipe, dims, data, where)
    plan.methods = {name: forecast(plan_operations.with_method(recipe, name), dims, data, where) for name in METHODS}
    context.data.status.ready()
    context.models.chosen = {"name": "starter", "path": str(starter)}
    return context


@pytest.fixture
def plan(qtbot: QtBot, planned: AppContext) -> PlanPage:
    """The Plan page as high and wide as in the smallest window."""
    made = PlanPage(planned)
    qtbot.addWidget(made)
    made.setFixedSize(SMALLEST[0] - WIDTH, SMALLEST[1])
    made.show()
    made.refresh()
    return made


def test_the_plan_says_what_is_wrong_with_the_data(planned: AppContext, plan: PlanPage) -> None:
    planned.data.status.fail(WRONG)
    planned.plan.clear()
    assert plan.banner.sentence == "cat.png is no text."
    plan.banner.buttons[0].click()
    assert planned.wizard.current == "data"


def test_the_plan_says_what_is_wrong_with_the_model(planned: AppContext, plan: PlanPage) -> None:
    planned.models.chosen = {}
    planned.models.chosen_status.fail(WRONG)
    planned.plan.clear()
    assert plan.banner.sentence == "cat.png is no text."
    plan.banner.buttons[0].click()
    assert planned.wizard.current == "model"


def test_the_plan_lets_the_next_run_start_when_one_ends(
    qtbot: QtBot, planned: AppContext, plan: PlanPage, tmp_project: Path
) -> None:
    run = Project.open_or_create(tmp_project).new_run(planned.draft.recipe)
    run.events.write_text(encode_event(Launched(kind="train")) + "\n", encoding="utf-8")
    planned.runs.select(run)
    assert not plan._start.isEnabled()
    with run.events.open("a", encoding="utf-8") as file:
        file.write(encode_event(Finished(status="done", time=2.0)) + "\n")
    qtbot.waitUntil(plan._start.isEnabled, timeout=PATIENCE)
    assert "A run is under way; the next can start when it ends." not in texts(plan)


def test_the_plan_waits_for_a_run_that_nobody_looks_at(planned: AppContext, plan: PlanPage, tmp_project: Path) -> None:
    project = Project.open_or_create(tmp_project)
    run = project.new_run(planned.draft.recipe)
    summary = RunSummary(run, "one", 1.0, "starter", "lora", "sft", "working")
    planned.project.set_project(project, [summary], [])
    assert not plan._start.isEnabled()
    assert "A run is under way; the next can start when it ends." in texts(plan)
    assert plan._wait.isVisibleTo(plan)
    assert plan._wait.isEnabled()
    planned.project.set_lists([replace(summary, status="done")], [])
    assert plan._start.isEnabled()
    assert not plan._wait.isVisibleTo(plan)


def test_the_plans_figures_agree(planned: AppContext, plan: PlanPage) -> None:
    forecast_now = planned.plan.forecast
    assert forecast_now is not None
    total, usable = forecast_now.memory.total, FREE * 0.85
    assert plan._peak.text() == f"predicted peak {total:.1f} GiB of {usable:.1f} GiB · 3.0 GiB stay free"
    assert plan._verdict.text == f"fits with {usable - total:.1f} GiB to spare"
    assert "85%" in plan._peak.toolTip()
    assert plan._summary.value("Steps").endswith("rows each")


def test_tab_goes_through_the_settings_before_the_footer(plan: PlanPage) -> None:
    for _ in range(2):
        order, at = [], plan._all.nextInFocusChain()
        while at is not plan._start:
            order.append(at)
            at = at.nextInFocusChain()
        assert [w for w in order if w in plan._form.controls()] == plan._form.controls()
        plan._toggle_all()


def test_no_setting_is_cut_in_the_smallest_window(plan: PlanPage) -> None:
    QApplication.processEvents()
    for name, made in plan._form.rows.items():
        control = made.editor.control
        if isinstance(control, (QSpinBox, QComboBox)):
            words = control.currentText() if isinstance(control, QComboBox) else control.text()
            assert control.fontMetrics().horizontalAdvance(words) <= control.width() - 44, name
    assert "evaluations without gain" in texts(plan)


def test_all_basic_settings_are_in_view_in_the_usual_window(plan: PlanPage) -> None:
    plan.setFixedSize(1280 - WIDTH, 800)
    QApplication.processEvents()
    bar = plan._form._scroll.verticalScrollBar()
    assert bar.maximum() == 0


# --------------------------------------------------------------------------------------------------------------- plan
def test_the_plan_says_what_it_needs_and_why(qtbot: QtBot, window: MainWindow, with_data: AppContext) -> None:
    plan: PlanPage = page(window, with_data, "plan")
    assert plan.is_ready
    for part in ("Will it fit?", "Why this plan", "Settings", "As advised for this machine, model and data."):
        qtbot.waitUntil(lambda part=part: part in texts(plan))
    forecast = with_data.plan.forecast
    assert forecast is not None
    assert forecast.fits
    assert with_data.wizard.step("plan").word.en == "fits"
    assert plan._bar.accessibleName().startswith("Weights")


def test_settings_move_the_forecast_and_the_advice_is_one_press_away(
    qtbot: QtBot, window: MainWindow, with_data: AppContext
) -> None:
    plan: PlanPage = page(window, with_data, "plan")
    advised = with_data.draft.recipe.train
    steps = with_data.plan.forecast.steps
    with_data.draft.set({"train.epochs": 1})
    qtbot.waitUntil(lambda: with_data.plan.forecast.steps < steps, timeout=PATIENCE)
    qtbot.waitUntil(lambda: "Your own settings; the advice differs." in texts(plan))
    press(qtbot, plan, "Use the advice")
    qtbot.waitUntil(lambda: with_data.draft.recipe.train == advised, timeout=PATIENCE)


def test_a_method_is_chosen_by_its_card(qtbot: QtBot, window: MainWindow, with_data: AppContext) -> None:
    plan: PlanPage = page(window, with_data, "plan")
    for name in ("qlora", "ia3", "lora"):
        plan._method.cards.cards[name].click()
        assert with_data.draft.recipe.method.name == name
        qtbot.waitUntil(lambda name=name: plan._method.cards.chosen == name, timeout=PATIENCE)
    assert "GiB" in plan._method.cards.cards["ia3"].right


def test_a_recipe_is_saved_and_opened(qtbot: QtBot, window: MainWindow, with_data: AppContext, tmp_path: Path) -> None:
    from engine.catalogue import CATALOGUE

    plan_operations.save_recipe(with_data, tmp_path / "mine.toml")
    assert load(tmp_path / "mine.toml", CATALOGUE) == with_data.draft.recipe
    (tmp_path / "wrong.toml").write_text("[train]\nepoch = 2\nbatch_size = -1\n", encoding="utf-8")
    before = with_data.draft.recipe
    plan_operations.open_recipe(with_data, tmp_path / "wrong.toml")
    assert "2 settings are wrong" in with_data.notices.open[-1].message.en
    assert with_data.draft.recipe == before


def test_starting_makes_a_run_and_goes_to_train(
    qtbot: QtBot, window: MainWindow, with_data: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(
        "engine.host.launch.start_job", lambda folder, kind, arguments: started.append((kind, arguments))
    )
    plan: PlanPage = page(window, with_data, "plan")
    press(qtbot, plan, "Start training")
    assert with_data.runs.run is not None
    assert started == [("train", {"run": str(with_data.runs.run.path)})]
    assert with_data.wizard.current == "train"
    qtbot.waitUntil(lambda: len(with_data.project.runs) == 1, timeout=PATIENCE)
    summary: RunSummary = with_data.project.runs[0]
    assert summary.model == "starter"


def test_a_run_that_cannot_start_is_explained(
    qtbot: QtBot, window: MainWindow, with_data: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UserError("disk.full", say("The disk is full.", "磁盘已满。"))

    monkeypatch.setattr("engine.host.launch.start_job", refuse)
    plan: PlanPage = page(window, with_data, "plan")
    press(qtbot, plan, "Start training")
    assert with_data.wizard.current == "plan"
    assert with_data.notices.open[-1].message.en == "The disk is full."


def test_closing_and_opening_again_loses_nothing(
    qtbot: QtBot, window: MainWindow, with_data: AppContext, tmp_project: Path
) -> None:
    with_data.draft.set({"train.epochs": 2})
    window.close()
    from engine.catalogue import CATALOGUE

    kept = load(tmp_project / "draft.toml", CATALOGUE)
    assert kept.train.epochs == 2
    assert kept.data.files == with_data.draft.recipe.data.files
