"""The panel that says which column means what: keys and words of turns where the file's turns use their own."""

from __future__ import annotations

from typing import Any

from pytestqt.qtbot import QtBot

from gui.widgets.columns_panel import ColumnsPanel
from tests.gui.sessions import buttons, texts

WORDS = {"messages": "gespraech", "who": "wer", "says": "was", "user_is": "ich", "assistant_is": "er"}


def panel(qtbot: QtBot, **facts: Any) -> tuple[ColumnsPanel, list[tuple[Any, ...]]]:
    applied: list[tuple[Any, ...]] = []
    made = ColumnsPanel(lambda *given: applied.append(given), lambda file: ("auto", "auto"), lambda: None)
    qtbot.addWidget(made)
    known = {"path": "/d/a.jsonl", "name": "a.jsonl", "shape": "messages", "columns": ["gespraech", "id"]}
    made.put([{**known, "certainty": "ask", "why": {"en": "Words of their own.", "zh": "自定义的词。"}, **facts}])
    made.show()
    return made, applied


def test_words_of_turns_are_chosen_among_those_that_the_file_has(qtbot: QtBot) -> None:
    offers = {"who": ["wer", "was"], "says": ["wer", "was"], "user_is": ["ich", "er"], "assistant_is": ["ich", "er"]}
    made, applied = panel(qtbot, mapping=WORDS, offers=offers)
    box = made.roles["user_is"]
    assert [box.itemData(i) for i in range(box.count())] == ["", "ich", "er"]
    column = made.roles["messages"]
    assert [column.itemData(i) for i in range(column.count())] == ["", "gespraech", "id"]
    assert {"Key of the speaker", "Word for the user"} <= set(texts(made))
    box.setCurrentIndex(box.findData("er"))
    made.roles["assistant_is"].setCurrentIndex(made.roles["assistant_is"].findData("ich"))
    buttons(made)["That is right"].click()
    assert applied == [("", "messages", WORDS | {"user_is": "er", "assistant_is": "ich"}, "auto")]


def test_usual_turns_are_not_asked_about_their_words(qtbot: QtBot) -> None:
    made, _ = panel(qtbot, mapping={"messages": "gespraech"}, offers={})
    assert set(made.roles) == {"messages", "system", "tools"}
