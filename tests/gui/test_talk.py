"""The Compare page and its chat session: whose models are loaded, what a failure leaves, how loading is stopped."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QSpinBox, QWidget
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.data.rows import Message
from engine.export.ledger import Export, remember
from engine.project.held_out import HeldOutQuestion
from engine.project.project import Project
from engine.project.run_folder import RunFolder
from engine.project.votes import read_tests
from engine.protocol.codec import to_plain
from engine.protocol.errors import Failure
from engine.protocol.events import Answer, Event, Stage, Token
from engine.protocol.text import Text, say
from engine.recipe.file import loads
from gui.bridge.session import Ask
from gui.context import AppContext
from gui.i18n.language import speak
from gui.main_window import SMALLEST
from gui.operations import blind as judging
from gui.operations import talk as talking
from gui.pages.compare import ComparePage
from gui.state.phase import Phase
from gui.state.settings import AppSettings
from gui.theme.apply import apply
from gui.widgets.basic import ElidedLabel
from gui.widgets.bubbles import Bubble
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


def bubble(page: ComparePage, side: str) -> Bubble:
    """The answer that grows."""
    found = page.columns.cards[side].open
    assert found is not None
    return found


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
    context.talk.add("adapter", Text("Other", "Other"), "/a")
    assert context.talk.status.phase is Phase.READY
    context.runs.select(runs[1])
    assert context.talk.status.phase is Phase.EMPTY
    assert [column.name for column in context.talk.columns] == ["base", "tuned"]


def test_every_question_names_its_run_and_columns(
    loaded: ComparePage, context: AppContext, chat: Chat, runs: list[RunFolder]
) -> None:
    context.talk.add("adapter", Text("Other", "Other"), "/a")
    talking.ask_all(context, "Hello?")
    asked = chat.asked[0].arguments
    assert asked["run"] == str(runs[0].path)
    assert asked["columns"] == [{"name": "adapter1", "kind": "adapter", "path": "/a"}]
    assert asked["sides"] == ["base", "tuned", "adapter1"]
    assert asked["sampling"] == context.talk.sampling
    assert "system" not in asked


def test_a_run_that_went_on_is_loaded_again_and_the_conversation_stays(
    qtbot: QtBot, loaded: ComparePage, context: AppContext, chat: Chat, runs: list[RunFolder]
) -> None:
    context.talk.facts["written"] = runs[0].adapter_written
    talking.ask_all(context, "Hello?")
    chat.answer(0, "base", "tuned")
    context.runs.train.finished.emit()
    qtbot.wait(100)
    assert context.talk.status.phase is Phase.READY
    os.utime(runs[0].adapter / "adapter_config.json", ns=(1, 1))
    context.runs.train.finished.emit()
    qtbot.waitUntil(lambda: context.talk.status.phase is Phase.EMPTY)
    assert [turn.question for turn in context.talk.turns] == ["Hello?"]
    qtbot.waitUntil(lambda: "Load the models" in seen(loaded))


def test_a_session_that_died_is_asked_again_and_says_that_it_loads(
    loaded: ComparePage, context: AppContext, chat: Chat
) -> None:
    talking.ask_all(context, "Hello?")
    chat.say(0, Answer(request=1, failure=DIED))
    seen(loaded)["Ask again"].click()
    chat.say(1, Stage(name="load", text=say("Loading the model…", "正在加载模型……")))
    assert bubble(loaded, "base").text == "Loading the model…"
    chat.say(1, Token(request=2, side="base", text="Hi"))
    assert bubble(loaded, "base").text == "Hi"
    chat.answer(1, "base", "tuned")
    assert context.talk.turns[0].texts == {"base": "base says", "tuned": "tuned says"}


# --------------------------------------------------------------------------------------------------------- failures
def test_a_failure_keeps_what_was_said(loaded: ComparePage, context: AppContext, chat: Chat) -> None:
    talking.ask_all(context, "Hello?")
    chat.say(0, Token(request=1, side="base", text="Half an ans"))
    bubbles = {side: bubble(loaded, side) for side in ("base", "tuned")}
    chat.say(0, Answer(request=1, failure=DIED))
    assert bubbles["base"].text == "Half an ans"
    assert bubbles["tuned"].text == "The model ended unexpectedly.\nAsk again."
    assert "The model ended unexpectedly.\nAsk again." in seen(loaded, QLabel)
    seen(loaded)["Copy details"].click()
    assert "job.killed" in QApplication.clipboard().text()


def test_one_side_that_fails_leaves_the_others_their_answers(
    loaded: ComparePage, context: AppContext, chat: Chat
) -> None:
    talking.ask_all(context, "Hello?")
    told = {"base": {**FACTS, "text": "base says"}, "tuned": {"text": "", "end": "failed", "failure": to_plain(DIED)}}
    chat.say(0, Answer(request=1, value=told))
    turn = context.talk.turns[-1]
    assert turn.is_over
    assert turn.texts["base"] == "base says"
    assert turn.failures["tuned"].code == "job.killed"
    assert "Send" in seen(loaded)
    talking.ask_all(context, "Once more")
    asked = chat.asked[1].arguments["conversations"]
    assert [message["content"] for message in asked["base"]] == ["Hello?", "base says", "Once more"]
    assert [message["content"] for message in asked["tuned"]] == ["Once more"]


def test_stop_asks_the_session_and_keeps_what_there_was(loaded: ComparePage, context: AppContext, chat: Chat) -> None:
    talking.ask_all(context, "Hello?")
    chat.say(0, Token(request=1, side="base", text="Half"))
    seen(loaded)["Stop"].click()
    assert chat.cancelled == [chat.asked[0]]
    chat.say(0, Answer(request=1, failure=CANCELLED))
    assert context.talk.turns[-1].facts["base"] == {"text": "Half", "tokens": 0, "end": "cancelled"}
    assert not context.talk.is_speaking


# ------------------------------------------------------------------------------------------------------------- turns
def test_all_can_go_on_from_one_answer(loaded: ComparePage, context: AppContext, chat: Chat) -> None:
    talking.ask_all(context, "Hello?")
    chat.answer(0, "base", "tuned")
    assert "Go on from this" in seen(loaded)
    keep = [b for b in loaded.findChildren(QAbstractButton) if b.isVisible() and b.text() == "Go on from this"]
    assert len(keep) == 2
    keep[1].click()
    assert "All go on from this ✓" in seen(loaded)
    talking.ask_all(context, "And now?")
    asked = chat.asked[1].arguments["conversations"]
    assert asked["base"] == asked["tuned"]
    assert asked["base"][1]["content"] == "tuned says"


def test_ask_again_with_the_same_seed_a_new_one_and_other_words(
    qtbot: QtBot, loaded: ComparePage, context: AppContext, chat: Chat
) -> None:
    talking.ask_all(context, "Hello?")
    chat.answer(0, "base", "tuned")
    talking.ask_again(context)
    assert chat.asked[1].arguments["sampling"]["seed"] == 42
    chat.answer(1, "base", "tuned")
    talking.ask_again(context, new_seed=True)
    assert chat.asked[2].arguments["sampling"]["seed"] == 43
    chat.answer(2, "base", "tuned")
    assert loaded.ask.findChild(QSpinBox, "seed").value() == 43  # type: ignore[union-attr]
    assert len(context.talk.turns) == 1
    loaded.ask.edit()
    assert context.talk.turns == []
    assert loaded.ask.question.words == "Hello?"
    qtbot.keyClicks(loaded.ask.question, " Sir")
    qtbot.keyClick(loaded.ask.question, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClick(loaded.ask.question, Qt.Key.Key_Return)
    assert context.talk.turns[0].question == "Hello? Sir"
    assert chat.asked[3].arguments["drop"] is False


def test_the_oldest_turns_are_left_out_on_request(loaded: ComparePage, context: AppContext, chat: Chat) -> None:
    talking.ask_all(context, "Hello?")
    chat.say(0, Answer(request=1, failure=Failure("chat.too_long", say("Too long.", "过长。"), where="turns")))
    seen(loaded)["Drop oldest turns"].click()
    assert chat.asked[1].arguments["drop"] is True
    value = {side: {**FACTS, "text": "x", "dropped": 2} for side in ("base", "tuned")}
    chat.say(1, Answer(request=1, value=value))
    assert "3 tokens · 2 oldest turns left out" in seen(loaded, QLabel)
    talking.begin_anew(context)
    assert context.talk.drop is False


def test_a_held_out_row_brings_its_own_turns_and_its_answer_on_request(
    loaded: ComparePage, context: AppContext, chat: Chat
) -> None:
    before = (Message("system", "Be kind."), Message("user", "One?"), Message("assistant", "1"))
    context.talk.prompts = [HeldOutQuestion("rows:7", "Two?", before, "2", True)]
    context.talk.changed.emit()
    talking.ask_all(context, "Hello?")
    chat.answer(0, "base", "tuned")
    action = loaded._prompts_menu.actions()[-1]
    assert action.text() == "Two? (without its tools)"
    action.trigger()
    asked = chat.asked[1].arguments["conversations"]["base"]
    assert [m["content"] for m in asked] == ["Be kind.", "One?", "1", "Two?"]
    chat.answer(1, "base", "tuned")
    assert not any("Reference (rows:7): 2" in words for words in seen(loaded, QLabel))
    seen(loaded)["Reference answer"].click()
    assert any("Reference (rows:7): 2" in words for words in seen(loaded, QLabel))


def test_system_prompt_is_that_of_training_until_it_is_changed(
    qtbot: QtBot, loaded: ComparePage, context: AppContext, chat: Chat
) -> None:
    context.talk.facts["system"] = "Be brief."
    context.talk.changed.emit()
    seen(loaded)["Settings"].click()
    field = loaded.ask._system
    assert field.text() == "Be brief."
    field.clear()
    field.textEdited.emit("")
    talking.ask_all(context, "Hello?")
    assert chat.asked[0].arguments["system"] == ""
    chat.answer(0, "base", "tuned")
    assert "no system prompt" in loaded.ask._summary.text()
    seen(loaded)["As in training"].click()
    assert field.text() == "Be brief."
    talking.ask_all(context, "Again?")
    assert "system" not in chat.asked[1].arguments


# ----------------------------------------------------------------------------------------------------------- columns
def test_columns_come_and_go(loaded: ComparePage, context: AppContext, chat: Chat) -> None:
    talking.add_column(context, "adapter", Text("Other", "Other"), "/a")
    assert chat.asked[0].name == "load"
    told = [{"name": "adapter1", "kind": "adapter", "method": "LORA", "context": 128}]
    chat.say(0, Answer(request=1, value={"model": "starter", "columns": told}))
    assert loaded.columns.cards["adapter1"].title.text() == "Other · lora"
    talking.add_column(context, "gguf", Text("x.gguf", "x.gguf"), "/x.gguf")
    told.append({"name": "gguf2", "failure": to_plain(DIED)})
    chat.say(1, Answer(request=1, value={"model": "starter", "columns": told}))
    assert "The model ended unexpectedly.\nAsk again." in seen(loaded, QLabel)
    talking.ask_all(context, "Hello?")
    assert chat.asked[2].arguments["sides"] == ["base", "tuned", "adapter1"]  # what failed is not asked
    talking.remove_column(context, "gguf2")
    assert len(chat.asked) == 3  # not while an answer grows
    chat.answer(2, "base", "tuned", "adapter1")
    assert not context.talk.can_add
    close = loaded.columns.cards["gguf2"]._close
    close.click()
    assert list(loaded.columns.cards) == ["base", "tuned", "adapter1"]
    assert chat.asked[3].arguments["columns"] == [{"name": "adapter1", "kind": "adapter", "path": "/a"}]
    chat.say(3, Answer(request=1, value={"model": "starter", "columns": told[:1]}))
    assert context.talk.can_add
    talking.remove_column(context, "base")
    assert "base" in loaded.columns.cards


def test_what_can_stand_beside_is_found(
    qtbot: QtBot, loaded: ComparePage, context: AppContext, runs: list[RunFolder], tmp_path: Path
) -> None:
    for run in runs:
        (run.adapter / "adapter_model.safetensors").write_bytes(b"x")
        run.write_facts({**run.read_facts(), "model_folder": str(tmp_path)})
    checkpoint = runs[0].checkpoints / "step-000040"
    checkpoint.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (checkpoint / name).write_bytes(b"x")
    (tmp_path / "m.gguf").write_bytes(b"x")
    remember(runs[0], Export("gguf", "Q8_0", str(tmp_path / "m.gguf"), 1, 1.0))
    talking.find_candidates(context)
    qtbot.waitUntil(lambda: context.talk.candidates is not None)
    found = [(item.kind, item.title.en) for item in context.talk.candidates or ()]
    assert found == [("adapter", "Checkpoint 40"), ("adapter", "0002 two"), ("gguf", "m.gguf")]
    words = [action.text() for action in loaded._add_menu.actions() if action.text()]
    assert words == ["Checkpoint 40", "0002 two", "m.gguf", "Adapter folder…", "GGUF file…"]


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
    words = loaded.columns.cards["base"].talk.invitation
    assert "before training" in words
    assert words in seen(loaded, QLabel)
    talking.ask_all(context, "Hello?")
    assert loaded.columns.cards["base"].talk.invitation == ""
    assert words not in seen(loaded, QLabel)
    talking.begin_anew(context)
    assert "what the run has learned" in loaded.columns.cards["tuned"].talk.invitation


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("blind", [False, True])
def test_nothing_is_cut_in_the_smallest_window(
    qtbot: QtBot, context: AppContext, chat: Chat, runs: list[RunFolder], language: str, blind: bool
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
    page.ask._settings_switch.setChecked(True)
    if blind:
        judging.open_blind(context)
        qtbot.waitUntil(lambda: context.blind.status.phase is Phase.READY)
        judging.begin_blind(context, *context.talk.columns[:2], source="own", seed=1)
        qtbot.waitUntil(lambda: context.blind.test is not None)
    QApplication.processEvents()
    for label in page.findChildren(QLabel):
        if label.isVisible() and label.text().strip() and not label.wordWrap() and not isinstance(label, ElidedLabel):
            assert label.fontMetrics().horizontalAdvance(label.text()) <= label.width() + 1, label.text()
    for made in page.findChildren(QAbstractButton):
        if made.isVisible() and made.text():
            assert made.width() >= made.minimumSizeHint().width(), made.text()


# ------------------------------------------------------------------------------------------------------------- blind
@pytest.fixture
def judged(qtbot: QtBot, loaded: ComparePage, context: AppContext, runs: list[RunFolder]) -> ComparePage:
    """The page at the first question of a blind test on three held-out rows."""
    rows = [
        {"where": f"r:{n}", "messages": [{"role": "user", "content": f"Q{n}?"}, {"role": "assistant", "content": "ok"}]}
        for n in range(3)
    ]
    runs[0].held_out.write_text("".join(json.dumps(item) + "\n" for item in rows), encoding="utf-8")
    seen(loaded)["Blind test…"].click()
    qtbot.waitUntil(lambda: context.blind.status.phase is Phase.READY)
    judging.begin_blind(context, *context.talk.columns[:2], source="held_out", seed=1)
    qtbot.waitUntil(lambda: context.blind.is_asking)
    return loaded


def say_both(chat: Chat) -> None:
    value = {side: {**FACTS, "text": f"{side} says", "tokens_per_second": 9.0} for side in ("base", "tuned")}
    chat.say(-1, Answer(request=1, value=value))


def voted(qtbot: QtBot, page: ComparePage, context: AppContext, key: Qt.Key, votes: int) -> None:
    seen(page)  # buttons are shown by an event, and have no key before
    page.activateWindow()
    qtbot.waitUntil(page.isActiveWindow)
    qtbot.keyClick(page, key)
    qtbot.waitUntil(lambda: context.blind.test is not None and len(context.blind.test.votes) == votes)


def test_blind_answers_are_shown_together_and_tell_nothing_of_whose_they_are(
    qtbot: QtBot, judged: ComparePage, context: AppContext, chat: Chat
) -> None:
    view = judged.blind.judging
    assert chat.asked[-1].arguments["sides"] == ["base", "tuned"]
    chat.say(-1, Token(request=1, side="base", text="base s"))
    assert "base s" not in seen(judged, QLabel)  # who is quicker would tell
    assert not any(made.isVisible() for made in view.votes.values())
    say_both(chat)
    words = seen(judged, QLabel)
    assert {"base says", "tuned says"} <= words.keys()
    assert all(made.isVisible() for made in view.votes.values())
    told = " ".join([*words, *seen(judged)]).replace("base says", "").replace("tuned says", "")
    for hint in ("Base", "Tuned", "one", "tokens", "to first", "starter"):
        assert hint not in told.split(), hint
    bubbles = [[b.text for b in talk.findChildren(Bubble)] for talk in view.talks]
    shown = context.blind.shown
    assert shown is not None
    assert bubbles == [[f"{shown[0]} says"], [f"{shown[1]} says"]]


def test_votes_are_on_the_disk_as_they_are_cast_and_can_be_taken_back(
    qtbot: QtBot, judged: ComparePage, context: AppContext, chat: Chat, runs: list[RunFolder]
) -> None:
    say_both(chat)
    voted(qtbot, judged, context, Qt.Key.Key_1, 1)
    assert [vote.choice for vote in read_tests(runs[0])[0].votes] == ["first"]
    qtbot.waitUntil(lambda: context.blind.is_asking)
    say_both(chat)
    voted(qtbot, judged, context, Qt.Key.Key_4, 2)
    qtbot.waitUntil(lambda: context.blind.is_asking)
    seen(judged)["Undo vote"].click()
    qtbot.waitUntil(lambda: context.blind.stage == "judge")
    assert len(read_tests(runs[0])[0].votes) == 1
    assert set(context.blind.answers) == {"base", "tuned"}  # the same answers are judged again
    voted(qtbot, judged, context, Qt.Key.Key_2, 2)
    qtbot.waitUntil(lambda: context.blind.is_asking)
    say_both(chat)
    voted(qtbot, judged, context, Qt.Key.Key_3, 3)
    qtbot.waitUntil(lambda: context.blind.stage == "result")  # no question is left
    test = read_tests(runs[0])[0]
    assert test.revealed
    assert [vote.choice for vote in test.votes] == ["first", "second", "tie"]
    words = " ".join(seen(judged, QLabel))
    assert "one" in words
    assert "exact two-sided binomial test" in words
    assert "1 equally good" in words
    seen(judged)["Back to the conversations"].click()
    assert "Send" in seen(judged)
    assert any(words.startswith("Blind test: ") and words.endswith("(p = 1)") for words in seen(judged, QLabel))


def test_a_test_is_gone_on_with_later(
    qtbot: QtBot, judged: ComparePage, context: AppContext, chat: Chat, runs: list[RunFolder]
) -> None:
    say_both(chat)
    voted(qtbot, judged, context, Qt.Key.Key_1, 1)
    qtbot.waitUntil(lambda: context.blind.is_asking)
    seen(judged)["Go on later"].click()
    qtbot.waitUntil(lambda: bool(context.blind.earlier))
    assert any(words.endswith("1 vote") for words in seen(judged, QLabel))
    seen(judged)["Go on"].click()
    qtbot.waitUntil(lambda: context.blind.is_asking)
    assert context.blind.test is not None
    assert context.blind.test.next_index == 1
    say_both(chat)
    seen(judged)["Tell me after each"].click()
    voted(qtbot, judged, context, Qt.Key.Key_1, 2)
    assert any("A was" in words for words in seen(judged, QLabel))
    seen(judged)["Reveal and end"].click()
    judging.close_blind(context)


def test_a_session_that_dies_in_a_blind_test_loses_no_vote(
    qtbot: QtBot, judged: ComparePage, context: AppContext, chat: Chat, runs: list[RunFolder]
) -> None:
    say_both(chat)
    voted(qtbot, judged, context, Qt.Key.Key_1, 1)
    qtbot.waitUntil(lambda: context.blind.is_asking)
    chat.say(-1, Answer(request=1, failure=DIED))
    assert any("The model ended unexpectedly." in words for words in seen(judged, QLabel))
    count = len(chat.asked)
    seen(judged)["Ask again"].click()
    assert len(chat.asked) == count + 1
    say_both(chat)
    voted(qtbot, judged, context, Qt.Key.Key_2, 2)
    assert len(read_tests(runs[0])[0].votes) == 2


def test_own_questions_are_asked_blindly(
    qtbot: QtBot, loaded: ComparePage, context: AppContext, chat: Chat, runs: list[RunFolder]
) -> None:
    judging.open_blind(context)
    qtbot.waitUntil(lambda: context.blind.status.phase is Phase.READY)
    judging.begin_blind(context, *context.talk.columns[:2], source="own", seed=1)
    qtbot.waitUntil(lambda: context.blind.stage == "question")
    field = loaded.blind.judging._own
    qtbot.waitUntil(field.isVisible)
    qtbot.keyClicks(field, "1 + 2?")  # the keys of votes are words here
    qtbot.keyClick(field, Qt.Key.Key_Return)
    assert chat.asked[-1].arguments["messages"] == [{"role": "user", "content": "1 + 2?"}]
    say_both(chat)
    voted(qtbot, loaded, context, Qt.Key.Key_3, 1)
    assert read_tests(runs[0])[0].votes[0].question == "1 + 2?"
    qtbot.waitUntil(field.isVisible)
