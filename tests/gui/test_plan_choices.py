"""The Plan page's sliders, wishes, other cards and comparison, without any session."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QLabel, QWidget
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.machine.detect import Machine
from engine.project.project import Project
from engine.recipe.file import from_plain
from gui.context import AppContext
from gui.i18n.language import speak
from gui.i18n.numbers import duration
from gui.main_window import SMALLEST
from gui.operations import plan as operations
from gui.operations import plan_compare, plan_effects
from gui.pages.plan import PlanPage
from gui.widgets.chip import BAD, WARN
from gui.widgets.editors import SliderEditor
from gui.widgets.sidebar import WIDTH
from gui.widgets.stop_slider import Stop, StopSlider
from gui.widgets.switch import Switch

SEVEN_B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
FACTS: dict[str, Any] = {
    "lengths": {"mean": 300.0, "p50": 260, "p90": 600, "p95": 700, "p99": 1200, "longest": 3000},
    "train": 1800,
    "held_out": 200,
    "shape": "alpaca",
    "kinds": {"qa": 150, "creative": 50},
}


@pytest.fixture
def ready(context: AppContext, tmp_path: Path) -> AppContext:
    """Data, a model of seven billion weights and a machine of 32 GiB without a GPU, as if they had been read."""
    folder = tmp_path / "seven"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SEVEN_B), encoding="utf-8")
    context.draft.begin(from_plain({}, CATALOGUE), context.project.path / "draft.toml")
    context.machine.machine = Machine((), "CPU", 8, 32.0, 30.0, None, "/", 100.0, "Linux", "3.11")
    context.models.chosen = {"path": str(folder), "name": "seven", "parameters": 7_615_616_512}
    context.data.facts = FACTS
    context.data.status.ready()
    context.draft.changed.connect(lambda _names: operations.compute(context))
    operations.compute(context)
    return context


@pytest.fixture
def plan(qtbot: QtBot, ready: AppContext) -> PlanPage:
    """The page as in the smallest window."""
    return shown(qtbot, ready)


def shown(qtbot: QtBot, context: AppContext) -> PlanPage:
    made = PlanPage(context)
    qtbot.addWidget(made)
    made.setFixedSize(SMALLEST[0] - WIDTH, SMALLEST[1])
    made.show()
    made.refresh()
    return made


def slider(plan: PlanPage, name: str) -> SliderEditor:
    editor = plan._form.rows[name].editor
    assert isinstance(editor, SliderEditor)
    return editor


def texts(widget: QWidget) -> list[str]:
    return [label.text() for label in widget.findChildren(QLabel) if label.isVisible() and label.text()]


# ------------------------------------------------------------------------------------------------------------- sliders
def test_the_settings_that_decide_what_fits_have_a_slider(plan: PlanPage, ready: AppContext) -> None:
    for name in plan_effects.SLIDERS:
        editor = slider(plan, name)
        assert editor.slider.isVisible()
        assert len(editor.slider.stops) >= 4, name
        assert ready.draft.value(name) in [stop.value for stop in editor.slider.stops]
        assert editor.effect.text().startswith("→ "), name


def test_a_slider_moves_the_recipe_and_the_forecast(qtbot: QtBot, plan: PlanPage, ready: AppContext) -> None:
    editor = slider(plan, "train.batch_size")
    before, peak, at = ready.plan.forecast, plan._peak.text(), editor.slider.value()
    assert before is not None
    qtbot.keyClick(editor.slider, Qt.Key.Key_Right)
    assert ready.draft.recipe.train.batch_size == editor.slider.stops[at + 1].value
    assert ready.plan.forecast is not None
    assert ready.plan.forecast.memory.total > before.memory.total
    assert plan._peak.text() != peak
    assert editor.slider.value() == at + 1


def test_what_the_next_stop_costs_is_what_it_then_costs(plan: PlanPage, ready: AppContext) -> None:
    editor = slider(plan, "data.max_length")
    editor.slider.setValue(2)
    told = editor.effect.text()
    before = ready.plan.forecast
    editor.slider.setValue(3)
    after = ready.plan.forecast
    assert before is not None
    assert after is not None
    more = after.memory.total - before.memory.total
    assert told.startswith(f"→ {editor.slider.stops[3].value:,}: +{more:.1f} GiB")


def test_stops_that_do_not_fit_are_marked(plan: PlanPage, ready: AppContext) -> None:
    editor = slider(plan, "train.batch_size")
    tones = [stop.tone for stop in editor.slider.stops]
    assert tones[0] == ""
    assert tones[-1] == BAD
    assert tones == sorted(tones, key=["", WARN, BAD].index)
    assert "does not fit" in editor.slider.stops[-1].words
    outcome = ready.plan.outcomes["train.batch_size"][-1]
    recipe = plan_effects.changed(ready.draft.recipe, "train.batch_size", outcome.value)
    assert recipe.train.batch_size == outcome.value
    assert not outcome.forecast.fits


def test_a_slider_stands_at_values_between_its_usual_stops(plan: PlanPage, ready: AppContext) -> None:
    ready.draft.set({"data.max_length": 777})
    editor = slider(plan, "data.max_length")
    assert editor.slider.stops[editor.slider.value()].value == 777
    values = [stop.value for stop in editor.slider.stops]
    assert values == sorted(values)


def test_settings_with_few_values_say_what_they_change(plan: PlanPage, ready: AppContext) -> None:
    plan._toggle_all()
    row = plan._form.rows["train.checkpointing"]
    assert "GiB" in row._effect.text()
    assert row._effect.isVisible()
    optimizer = plan._form.rows["train.optimizer"].editor.control
    assert "GiB" in str(optimizer.itemData(1, Qt.ItemDataRole.ToolTipRole))


def test_nothing_is_cut_in_the_smallest_window(qtbot: QtBot, ready: AppContext) -> None:
    for language in ("en", "zh"):
        speak(language)
        plan = shown(qtbot, ready)
        for name in plan_effects.SLIDERS:
            editor = slider(plan, name)
            assert editor.effect.fontMetrics().horizontalAdvance(editor.effect.text()) <= editor.effect.width(), name
        for made in plan._method.goal.buttons.values():
            assert made.sizeHint().width() <= made.width()
            assert made.geometry().right() <= plan._method.goal.width()


# -------------------------------------------------------------------------------------------------------------- wishes
def test_another_wish_brings_another_recipe_while_the_advice_is_followed(
    qtbot: QtBot, plan: PlanPage, ready: AppContext
) -> None:
    quality = ready.draft.recipe
    plan._method.goal.buttons["smallest"].click()
    assert ready.plan.goal == "smallest"
    smallest = ready.draft.recipe
    assert smallest != quality
    assert smallest.train.batch_size == 1
    assert operations.follows_advice(ready)
    qtbot.waitUntil(lambda: any("least memory:" in text for text in texts(plan._method)))
    plan._method.goal.buttons["quality"].click()
    assert ready.draft.recipe == quality


def test_own_settings_stay_when_the_wish_changes(plan: PlanPage, ready: AppContext) -> None:
    ready.draft.set({"train.epochs": 7})
    mine = ready.draft.recipe
    plan._method.goal.buttons["speed"].click()
    assert ready.draft.recipe == mine
    assert plan._advice.isVisible()
    plan._advice.click()
    assert ready.draft.recipe.train.epochs == 1.0
    assert not plan._advice.isVisible()


def test_the_wish_of_a_draft_of_before_is_recognised(ready: AppContext) -> None:
    operations.set_goal(ready, "smallest")
    ready.plan.goal, ready.plan.advised, ready.plan.advised_for = "quality", None, ()
    operations.compute(ready)
    assert ready.plan.goal == "smallest"
    assert operations.follows_advice(ready)


def test_what_the_rows_teach_is_told_and_corrected(plan: PlanPage, ready: AppContext) -> None:
    task = plan._method.task
    assert task.control.currentText() == "dialogue, recognised"
    rank = ready.draft.value("method.rank")
    task.edited.emit("domain")
    assert ready.plan.task == "domain"
    assert ready.draft.value("method.rank") > rank
    assert task.control.currentText() == "a new domain"


def test_the_advice_is_not_made_anew_for_a_slider(ready: AppContext) -> None:
    advice = ready.plan.advice
    ready.draft.set({"train.epochs": 2})
    assert ready.plan.advice is advice
    operations.set_goal(ready, "speed")
    assert ready.plan.advice is not advice


# ------------------------------------------------------------------------------------------------------- another card
def test_another_card_is_planned_for_but_nothing_is_started_on_it(plan: PlanPage, ready: AppContext) -> None:
    room = ready.plan.room
    plan._card.edited.emit(80.0)
    assert ready.plan.forecast is not None
    assert ready.plan.forecast.room.free_gib == 80.0
    assert ready.plan.room == room, "what fits on this machine is still told of this machine"
    assert "a card with 80 GiB" in plan._subtitle.text()
    assert not plan._start.isEnabled()
    assert any(text.startswith("Planned for another card") for text in texts(plan))
    plan._card.edited.emit("here")
    assert ready.plan.imagined_gib is None
    assert plan._start.isEnabled()


def test_where_nothing_fits_one_press_cuts_the_rows(plan: PlanPage, ready: AppContext) -> None:
    ready.data.facts = FACTS | {"lengths": dict.fromkeys(FACTS["lengths"], 20000)}
    plan._card.edited.emit(8.0)
    assert ready.plan.forecast is not None
    assert not ready.plan.forecast.fits
    assert plan._nearest.text().startswith("It would fit with rows cut at")
    assert plan._cut.isVisible()
    plan._cut.click()
    assert ready.plan.forecast.fits
    assert not plan._nearest_row.isVisible()


# ---------------------------------------------------------------------------------------------------------- comparison
def test_two_recipes_stand_side_by_side(plan: PlanPage, ready: AppContext) -> None:
    plan._views.show_view("compare")
    panel = plan._compare
    assert panel._offer.isVisible()
    assert not panel.swap.isVisible()
    panel.keep.click()
    assert "A and B are the same recipe." in texts(panel)
    one = ready.draft.recipe
    ready.draft.set({"train.epochs": 1, "data.max_length": 512})
    told = {row[0]: row[1:] for row in panel.differences}
    assert told["Passes over the data"] == ("3", "1")
    assert told["Longest row"] == (f"{one.data.max_length:,}", "512")
    assert len(told) == 2
    change = panel._change.text()
    assert "−" in change
    assert ready.plan.kept_forecast is not None
    assert ready.plan.forecast is not None
    gain = ready.plan.kept_forecast.memory.total - ready.plan.forecast.memory.total
    assert f"−{gain:.1f} GiB" in change


def test_two_recipes_are_exchanged_and_one_is_forgotten(plan: PlanPage, ready: AppContext) -> None:
    one = ready.draft.recipe
    plan._compare.keep.click()
    ready.draft.set({"train.epochs": 1})
    other = ready.draft.recipe
    plan._compare.swap.click()
    assert ready.draft.recipe == one
    assert ready.plan.kept is not None
    assert ready.plan.kept.recipe == other
    plan._compare.forget.click()
    assert ready.plan.kept is None
    assert ready.draft.recipe == one


def test_the_advice_and_an_earlier_run_can_be_compared_with(plan: PlanPage, ready: AppContext, tmp_path: Path) -> None:
    plan._views.show_view("compare")
    assert plan._compare.others["advice"].isVisible()
    assert not plan._compare.others["run"].isVisible()
    run = Project.open_or_create(tmp_path / "another").new_run(ready.draft.recipe)
    ready.draft.set({"train.epochs": 9})
    ready.runs.select(run)
    operations.compute(ready)
    assert plan._compare.others["run"].isVisible()
    plan._compare.others["run"].click()
    told = {row[0]: row[1:] for row in plan._compare.differences}
    assert told == {"Passes over the data": ("3", "9")}
    plan._compare.forget.click()
    plan._compare.others["advice"].click()
    assert {row[0]: row[1:] for row in plan._compare.differences} == told


def test_reasons_are_not_squeezed_after_the_page_was_away(qtbot: QtBot, plan: PlanPage, ready: AppContext) -> None:
    plan._views.show_view("compare")
    plan._card.edited.emit(6.0)
    plan._views.show_view("method")
    panel = plan._method

    def room_for_all() -> bool:
        cards = list(panel.cards.cards.values())
        apart = all(a.geometry().bottom() < b.geometry().top() for a, b in pairwise(cards))
        reasons = [panel._why.itemAt(at).widget() for at in range(panel._why.count())]
        return apart and all(each.height() >= each.heightForWidth(each.width()) for each in reasons)

    qtbot.waitUntil(room_for_all)


def test_methods_and_settings_that_one_side_lacks_are_listed(plan: PlanPage, ready: AppContext) -> None:
    plan._compare.keep.click()
    operations.choose_method(ready, "ia3")
    kept = ready.plan.kept
    assert kept is not None
    told = {row[0]: row[1:] for row in plan._compare.differences}
    assert told["Method"][1] == "(IA)³"
    assert told["Rank"][1] == "—"
    names = [name for name, *_ in plan_compare.differing(kept.recipe, ready.draft.recipe)]
    assert "method.feed_forward" in names


# ------------------------------------------------------------------------------------------------------------- widgets
@pytest.fixture
def stops(qtbot: QtBot) -> StopSlider:
    made = StopSlider()
    qtbot.addWidget(made)
    made.resize(200, 22)
    made.put([Stop(1, "one"), Stop(2, "two", WARN), Stop(8, "eight", BAD)], 2)
    made.show()
    return made


def test_a_stop_slider_tells_what_the_user_chooses_and_nothing_else(qtbot: QtBot, stops: StopSlider) -> None:
    told: list[int] = []
    stops.chosen.connect(told.append)
    stops.put(stops.stops, 1)
    assert told == []
    assert stops.accessibleDescription() == "one"
    qtbot.keyClick(stops, Qt.Key.Key_Up)
    qtbot.keyClick(stops, Qt.Key.Key_End)
    assert told == [2, 8]


def test_a_stop_slider_goes_to_where_it_is_pressed(qtbot: QtBot, stops: StopSlider) -> None:
    told: list[int] = []
    stops.chosen.connect(told.append)
    qtbot.mouseClick(stops, Qt.MouseButton.LeftButton, pos=QPoint(198, 11))
    assert told == [8]
    qtbot.mouseClick(stops, Qt.MouseButton.LeftButton, pos=QPoint(1, 11))
    assert told == [8, 1]
    assert not stops.grab().isNull()


def test_a_switch_tells_another_choice(qtbot: QtBot) -> None:
    from engine.protocol.text import say

    made = Switch(say("Colour", "颜色"), [("red", say("red", "红"), "Alt+1"), ("blue", say("blue", "蓝"), "Alt+2")])
    qtbot.addWidget(made)
    made.put("red")
    with qtbot.waitSignal(made.chosen) as told:
        made.buttons["blue"].click()
    assert told.args == ["blue"]
    assert made.current == "blue"
    assert made.buttons["red"].accessibleName() == "Colour: red"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(42, "42 s"), (1440, "24 min"), (3900, "1 h 05 min"), (172_740, "47 h 59 min"), (183_600, "2 d 3 h")],
)
def test_spans_of_time_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
