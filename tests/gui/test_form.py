"""The settings form: built from the recipe's metadata, honest about defaults, and refusing what is wrong."""

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit, QSpinBox
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.recipe.file import from_plain
from engine.recipe.recipe import DataSettings, TrainSettings
from gui.state.draft import DraftRecipe
from gui.widgets.form import ELSEWHERE, RecipeForm, fields_of

BASIC = {
    "train.epochs",
    "train.learning_rate",
    "train.batch_size",
    "train.accumulation",
    "train.short_rows",
    "train.patience",
    "data.learn_from",
    "data.max_length",
}


@pytest.fixture
def draft(tmp_path: Path) -> DraftRecipe:
    made = DraftRecipe()
    made.begin(from_plain({}, CATALOGUE), tmp_path / "draft.toml")
    return made


@pytest.fixture
def form(qtbot: QtBot, draft: DraftRecipe) -> RecipeForm:
    made = RecipeForm(draft)
    qtbot.addWidget(made)
    made.show()
    yield made
    draft.keep()


def test_basic_settings_come_first_and_all_on_request(form: RecipeForm, draft: DraftRecipe) -> None:
    assert set(form.rows) == BASIC
    form.show_all(True)
    assert set(form.rows) == {item.name for item in fields_of(draft)}
    assert {f"train.{name}" for name in TrainSettings.model_fields} <= set(form.rows)
    assert {f"data.{name}" for name in DataSettings.model_fields} - ELSEWHERE <= set(form.rows)
    assert "method.rank" in form.rows


def test_each_kind_of_field_has_its_control(form: RecipeForm) -> None:
    form.show_all(True)
    kinds = {
        "train.batch_size": QSpinBox,
        "train.learning_rate": QLineEdit,
        "train.scheduler": QComboBox,
        "train.checkpointing": QCheckBox,
        "data.system": QLineEdit,
    }
    for name, kind in kinds.items():
        assert isinstance(form.rows[name].editor.control, kind), name


def test_every_control_has_a_name_and_help(form: RecipeForm) -> None:
    form.show_all(True)
    for name, row in form.rows.items():
        assert row.editor.control.accessibleName(), name
        assert "Default:" in row.toolTip(), name


def test_what_is_entered_reaches_the_draft(qtbot: QtBot, form: RecipeForm, draft: DraftRecipe) -> None:
    line = form.rows["train.learning_rate"].editor.control
    line.selectAll()
    qtbot.keyClicks(line, "5e-5")
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert draft.recipe.train.learning_rate == 5e-5
    spin = form.rows["train.batch_size"].editor.control
    qtbot.keyClick(spin, Qt.Key.Key_Up)
    assert draft.recipe.train.batch_size == 5


def test_what_is_wrong_is_said_beside_the_field_and_changes_nothing(
    qtbot: QtBot, form: RecipeForm, draft: DraftRecipe
) -> None:
    row = form.rows["train.learning_rate"]
    row.editor.control.selectAll()
    qtbot.keyClicks(row.editor.control, "-1")
    qtbot.keyClick(row.editor.control, Qt.Key.Key_Return)
    assert "above 0" in row.trouble
    assert draft.recipe.train.learning_rate == 2e-4
    row.editor.control.selectAll()
    qtbot.keyClicks(row.editor.control, "many")
    qtbot.keyClick(row.editor.control, Qt.Key.Key_Return)
    assert "number" in row.trouble
    draft.set({"train.learning_rate": 3e-4})
    assert row.trouble == ""


def test_a_changed_setting_offers_its_default_back(qtbot: QtBot, form: RecipeForm, draft: DraftRecipe) -> None:
    row = form.rows["train.patience"]
    assert not row.back.isVisible()
    draft.set({"train.patience": 7})
    assert row.back.isVisible()
    row.back.click()
    assert draft.recipe.train.patience == 2
    assert not row.back.isVisible()


@pytest.mark.parametrize(
    ("words", "found"), [("warm-up", "train.warmup_ratio"), ("秩", "method.rank"), ("double", "method")]
)
def test_the_search_finds_by_term_in_both_languages(form: RecipeForm, words: str, found: str) -> None:
    form.show_all(True)
    form.search.setText(words)
    visible = [name for name, row in form.rows.items() if row.isVisible()]
    assert any(name.startswith(found) for name in visible)
    assert len(visible) < 10


def test_a_search_without_a_hit_says_so_and_is_cleared_by_a_press(form: RecipeForm) -> None:
    form.show_all(True)
    form.search.setText("no such thing")
    assert form._nothing.isVisible()
    assert "no such thing" in form._nothing.text()
    assert form._empty.accessibleName() == "Clear the search"
    form._empty.click()
    assert form.search.text() == ""
    assert not form._nothing.isVisible()
    assert not form._empty.isVisible()


def test_another_method_brings_its_own_settings(form: RecipeForm, draft: DraftRecipe) -> None:
    form.show_all(True)
    draft.replace(from_plain({"method": {"name": "ia3"}}, CATALOGUE))
    assert "method.feed_forward" in form.rows
    assert "method.rank" not in form.rows


def test_a_setting_can_be_revealed(form: RecipeForm) -> None:
    form.reveal("method.alpha")
    assert form.shows_all
    assert "method.alpha" in form.rows
