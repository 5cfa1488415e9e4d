"""The Compare page and its chat session: whose models are loaded, what a failure leaves, how loading is stopped."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QWidget
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.project.project import Project
from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure
from engine.protocol.events import Answer, Event, Stage, Token
from engine.protocol.text import say
from engine.recipe.file import loads
from gui.bridge.session import Ask
from gui.context import AppContext
from gui.i18n.language import speak
from gui.main_window import SMALLEST
from gui.operations import talk as talking
from gui.pages.compare import ComparePage
from gui.state.phase import Phase
from gui.state.settings import AppSettings
from gui.theme.apply import apply
from gui.widgets.sidebar import WIDTH

DIED = Failure("job.killed", say("The model ended unexpectedly.", "模型意外退出。"), say("Ask again.", "请重新提问。"))
CANCELLED = Failure("cancelled", say("Cancelled.", "已取消。"))
FACTS = {"tokens": 3, "tokens_per_second": 60.0, "first_token_seconds": 0.2, "end": "ended"}


class Chat:
    """A session that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.cancelled: list[Ask] = []

    def ask(self, name: str, arguments: dict[str, Any], done: Any, failed: Any, told: Any = None) -> Ask:
        self.asked.append(Ask(name, arguments, done, failed, told))
        return self.asked[-1]

    def cancel(self, ask: Ask) -> None:
        self.cancelled.append(ask)

    def drop(self, ask: Ask | None) -> None:
        if ask is not None:
            ask.dropped = True

    def say(self, at: int, event: Event) -> None:
        """Let something of a request reach the window, as `SessionClient` does."""
        ask = self.asked[at]
        if ask.dropped:
            return
        if not isinstance(event, Answer):
            ask.told(event)
        elif event.failure is not None:
            ask.failed(event.failure)
        else:
            ask.done(event.value)

    def answer(self, at: int, *sides: str) -> None:
        self.say(at, Answer(request=1, value={side: {**FACTS, "text": f"{side} says"} for side in sides}))

    def ask_to_end(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing runs."""


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    """Two trained runs of a project."""
    project = Project.open_or_create(tmp_path / "p")
    made = [project.new_run(loads("", CATALOGUE), title=title) for title in ("one", "two")]
    for run in made:
        run.adapter.mkdir()
        (run.adapter / "adapter_config.json").write_text("{}")
    return made


@pytest.fixture
def context(qtbot: QtBot, runs: list[RunFolder]) -> Iterator[AppContext]:
    speak("en")
    made = AppContext(AppSettings(language="en", theme="light"), runs[0].path.parent.parent)
    made.bridge.__dict__["chat"] = Chat()
    made.runs.select(runs[0])
    yield made
    made.close()


@pytest.fixture
def chat(context: AppContext) -> Chat:
    session: Any = context.bridge.chat
    return session  # type: ignore[no-any-return]


@pytest.fixture
def page(qtbot: QtBot, context: AppContext) -> ComparePage:
    made = ComparePage(context)
    qtbot.addWidget(made)
    made.resize(864, 700)
    made.show()
    made.refresh()
    return made


@pytest.fixture
def loaded(page: ComparePage, context: AppContext, chat: Chat) -> ComparePage:
    """The page with the models of the first run."""
    talking.load_models(context)
    chat.say(0, Answer(request=1, value={"model": "starter"}))
    chat.asked.clear()
    return page


def seen(page: QWidget, kind: type[Any] = QAbstractButton) -> dict[str, Any]:
    """What can be seen, by its words."""
    for _ in range(3):  # what was put in a layout is shown by an event, which may post another
        QApplication.processEvents()
    return {item.text(): item for item in page.findChildren(kind) if item.isVisible() and item.text()}


# ------------------------------------------------------------------------------------------------- whose models
def test_a_late_answer_does_not_make_another_runs_models_ready(
    qtbot: QtBot, page: ComparePage, context: AppContext, chat: Chat, runs: list[RunFolder]
) -> None:
    talking.load_models(context)
    context.runs.select(runs[1])
    assert chat.cancelled == [chat.asked[0]]
    chat.say(0, Answer(request=1, value={"model": "starter"}))
    assert context.talk.status.phase is Phase.EMPTY
    qtbot.waitUntil(lambda: "Load the models" in seen(page))


def test_models_are_watched_while_no_page_is_there(context: AppContext, chat: Chat, runs: list[RunFolder]) -> None:
    talking.load_models(context)
    chat.say(0, Answer(request=1, value={"model": "starter"}))
    assert context.talk.status.phase is Phase.READY
    context.runs.select(runs[1])
    assert context.talk.status.phase is Phase.EMPTY


def test_every_question_names_its_run(
    loaded: ComparePage, context: AppContext, chat: Chat, runs: list[RunFolder]
) -> None:
    talking.ask_both(context, "Hello?")
    assert chat.asked[0].arguments["run"] == str(runs[0].path)


def test_a_run_that_went_on_is_loaded_again_and_the_conversation_stays(
    qtbot: QtBot, loaded: ComparePage, context: AppContext, chat: Chat, runs: list[RunFolder]
) -> None:
    talking.ask_both(context, "Hello?")
    chat.answer(0, "base", "tuned")
    context.runs.train.finished.emit()
    assert context.talk.status.phase is Phase.READY
    os.utime(runs[0].adapter / "adapter_config.json", ns=(1, 1))
    context.runs.train.finished.emit()
    assert context.talk.status.phase is Phase.EMPTY
    assert [turn.question for turn in context.talk.turns] == ["Hello?"]
    qtbot.waitUntil(lambda: "Load the models" in seen(loaded))


def test_a_session_that_died_is_asked_again_and_says_that_it_loads(
    loaded: ComparePage, context: AppContext, chat: Chat
) -> None:
    talking.ask_both(context, "Hello?")
    chat.say(0, Answer(request=1, failure=DIED))
    seen(loaded)["Ask again"].click()
    chat.say(1, Stage(name="load", text=say("Loading the model…", "正在加载模型……")))
    assert loaded._open["base"].text == "Loading the model…"
    chat.say(1, Token(request=2, side="base", text="Hi"))
    assert loaded._open["base"].text == "Hi"
    chat.answer(1, "base", "tuned")
    assert context.talk.turns[0].texts == {"base": "base says", "tuned": "tuned says"}


# --------------------------------------------------------------------------------------------------------- failures
def test_a_failure_keeps_what_was_said(loaded: ComparePage, context: AppContext, chat: Chat) -> None:
    talking.ask_both(context, "Hello?")
    chat.say(0, Token(request=1, side="base", text="Half an ans"))
    bubbles = dict(loaded._open)
    chat.say(0, Answer(request=1, failure=DIED))
    assert bubbles["base"].text == "Half an ans"
    assert bubbles["tuned"].text == "The model ended unexpectedly.\nAsk again."
    assert "The model ended unexpectedly.\nAsk again." in seen(loaded, QLabel)
    seen(loaded)["Copy details"].click()
    assert "job.killed" in QApplication.clipboard().text()


def test_a_side_that_had_finished_keeps_its_answer(loaded: ComparePage, context: AppContext, chat: Chat) -> None:
    talking.ask_both(context, "Hello?")
    chat.answer(0, "base", "tuned")
    talking.ask_both(context, "And now?")
    bubbles = dict(loaded._open)
    chat.answer(1, "base")
    assert bubbles["base"].text == "base says"
    chat.say(2, Answer(request=3, failure=DIED))
    assert bubbles["base"].text == "base says"
    assert context.talk.turns[-1].is_over
    assert "Send" in seen(loaded)
    talking.ask_both(context, "Once more")
    chat.answer(3, "base")
    asked = [message["content"] for message in chat.asked[4].arguments["messages"]]
    assert asked == ["Hello?", "tuned says", "Once more"]


def test_stop_ends_the_side_that_was_not_asked_yet(loaded: ComparePage, context: AppContext, chat: Chat) -> None:
    talking.ask_both(context, "Hello?")
    chat.answer(0, "base", "tuned")
    talking.ask_both(context, "And now?")
    seen(loaded)["Stop"].click()
    chat.answer(1, "base")
    assert len(chat.asked) == 2
    assert context.talk.turns[-1].facts["tuned"]["end"] == "cancelled"
    assert not context.talk.is_speaking


# ----------------------------------------------------------------------------------------------------------- loading
def test_loading_can_be_cancelled_and_says_that_it_stops(
    qtbot: QtBot, page: ComparePage, context: AppContext, chat: Chat
) -> None:
    seen(page)["Load the models"].click()
    seen(page)["Cancel"].click()
    assert chat.cancelled == [chat.asked[0]]
    assert page.banner.sentence == "Stopping…"
    assert "Cancel" not in seen(page)
    chat.say(0, Stage(name="load", text=say("Loading the model…", "正在加载模型……")))
    assert page.banner.sentence == "Stopping…"
    chat.say(0, Answer(request=1, failure=CANCELLED))
    qtbot.waitUntil(lambda: "Load the models" in seen(page))


def test_an_empty_conversation_says_what_will_stand_there(loaded: ComparePage, context: AppContext, chat: Chat) -> None:
    words = loaded._talks["base"].invitation
    assert "before training" in words
    assert words in seen(loaded, QLabel)
    talking.ask_both(context, "Hello?")
    assert loaded._talks["base"].invitation == ""
    assert words not in seen(loaded, QLabel)
    talking.begin_anew(context)
    assert "what the run has learned" in loaded._talks["tuned"].invitation


@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_is_cut_in_the_smallest_window(
    qtbot: QtBot, context: AppContext, chat: Chat, runs: list[RunFolder], language: str
) -> None:
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    speak(language)
    apply(app, "light")
    page = ComparePage(context)
    qtbot.addWidget(page)
    page.setFixedSize(SMALLEST[0] - WIDTH, SMALLEST[1])
    page.show()
    talking.load_models(context)
    chat.say(0, Answer(request=1, value={"model": "starter"}))
    QApplication.processEvents()
    for label in page.findChildren(QLabel):
        if label.isVisible() and label.text().strip() and not label.wordWrap():
            assert label.fontMetrics().horizontalAdvance(label.text()) <= label.width() + 1, label.text()
