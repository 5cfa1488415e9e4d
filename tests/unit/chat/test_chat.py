"""Chat with base and tuned model of a real small run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.chat.pair import CANCELLED, ENDED, LIMIT, Pair, Sampling, ask_both
from engine.chat.serve import ChatService
from engine.data.rows import ASSISTANT, USER, Message, message_to_plain
from engine.project.atomic import write_lines
from engine.project.run_folder import RunFolder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import Event, Request, Stage, Token
from tests.tiny_model import make_model
from tests.unit.tuned_run import make_run, words

QUESTION = (Message(USER, "boat?"),)
SAMPLED = Sampling(seed=3, temperature=1.0, top_p=0.95, repetition_penalty=1.1, max_new_tokens=24)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A tiny run that knows its words by heart; its base model babbles, broken characters included."""
    folder = tmp_path_factory.mktemp("tiny")
    return make_run(folder / "run", make_model(folder / "model"), words(), method="lora", steps=60)


@pytest.fixture(scope="module")
def pair(run: RunFolder) -> Pair:
    return Pair.load(run)


# ------------------------------------------------------------------------------------------------------------ pair
@torch.inference_mode()
def test_greedy_answer_is_what_generate_gives(pair: Pair) -> None:
    ids = torch.tensor([pair.prompt(QUESTION)])
    for side in ("base", "tuned"):
        with pair.tuned.as_side(side):
            given = pair.tuned.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False
            )[0, ids.shape[1] :].tolist()
        reply = pair.ask(QUESTION, Sampling(max_new_tokens=24), sides=(side,))[side]
        assert reply.text.strip() == pair.tuned.tokenizer.decode(given).strip()
        assert reply.tokens == len(given)


def test_the_two_differ_and_the_tuned_one_has_learned(pair: Pair) -> None:
    replies = pair.ask(QUESTION, Sampling(max_new_tokens=40))
    assert replies["tuned"].text == "three blue tree"
    assert replies["tuned"].end == ENDED
    assert replies["base"].text != replies["tuned"].text
    assert not replies["base"].text[:1].isspace()


def test_same_seed_same_answer_and_sides_do_not_touch_each_other(pair: Pair) -> None:
    both = pair.ask(QUESTION, SAMPLED)
    again = pair.ask(QUESTION, SAMPLED)
    tuned_alone = pair.ask(QUESTION, SAMPLED, sides=("tuned",))
    base_alone = pair.ask(QUESTION, SAMPLED, sides=("base",))
    for side, alone in (("base", base_alone), ("tuned", tuned_alone)):
        assert both[side].text == again[side].text == alone[side].text != ""
    texts = {pair.ask(QUESTION, Sampling(seed=n, temperature=1.5), sides=("base",))["base"].text for n in range(3)}
    assert len(texts) > 1


def test_turns_by_the_token_give_the_same_answers(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pair.ask(QUESTION, SAMPLED)
    monkeypatch.setattr("engine.chat.pair.TURN_SECONDS", 0.0)
    order: list[str] = []
    mixed = pair.ask(QUESTION, SAMPLED, tell=lambda side, piece: order.append(side))
    assert {side: reply.text for side, reply in mixed.items()} == {side: reply.text for side, reply in whole.items()}
    assert order[:4] == ["base", "tuned", "base", "tuned"]


def test_pieces_make_the_text_and_speed_is_told(pair: Pair) -> None:
    pieces: dict[str, str] = {"base": "", "tuned": ""}

    def tell(side: str, piece: str) -> None:
        pieces[side] += piece

    replies = pair.ask(QUESTION, Sampling(max_new_tokens=16), tell=tell)
    assert pieces == {side: reply.text for side, reply in replies.items()}
    base = replies["base"]
    assert base.end == LIMIT
    assert base.tokens == 16
    assert base.first_token_seconds is not None
    assert base.first_token_seconds > 0
    rate = base.tokens_per_second
    assert rate == pytest.approx(15 / (base.seconds - base.first_token_seconds))


def test_a_stream_dropped_halfway_leaves_nothing_behind(pair: Pair) -> None:
    stream = pair.stream("tuned", QUESTION, Sampling())
    assert next(stream) != ""
    stream.close()
    assert pair.ask(QUESTION, Sampling(), sides=("tuned",))["tuned"].text == "three blue tree"


def test_cancel_ends_it_between_tokens(pair: Pair) -> None:
    asked = iter([False, False, False, True, True])
    reply = pair.ask(QUESTION, Sampling(), sides=("base",), cancelled=lambda: next(asked))["base"]
    assert reply.end == CANCELLED
    assert reply.tokens == 3
    nothing = pair.ask(QUESTION, Sampling(), cancelled=lambda: True)
    assert nothing["base"].plain() == {
        "text": "",
        "tokens": 0,
        "tokens_per_second": None,
        "first_token_seconds": None,
        "end": CANCELLED,
    }


def test_a_full_context_is_told(pair: Pair) -> None:
    with pytest.raises(UserError, match="the model has room for 128"):
        pair.ask((Message(USER, "word " * 200),), Sampling())
    nearly = pair.prompt((Message(USER, "word"),))
    room = pair.tuned.context
    assert room is not None
    words = 1
    while len(pair.prompt((Message(USER, "word " * words),))) < room - 6:
        words += 1
    reply = pair.ask((Message(USER, "word " * words),), Sampling(), sides=("base",))["base"]
    assert len(nearly) + reply.tokens <= room
    assert reply.end in ("context", "ended")


def test_ask_both(run: RunFolder) -> None:
    answers = ask_both(run, "boat?", Sampling(max_new_tokens=40))
    assert set(answers) == {"base", "tuned"}
    assert answers["tuned"] == "three blue tree"
    with pytest.raises(UserError, match="nothing to answer"):
        ask_both(run, "  ", Sampling())


# --------------------------------------------------------------------------------------------------------- sampling
@pytest.mark.parametrize(
    ("plain", "where"),
    [
        ({"temperature": -1}, "sampling.temperature"),
        ({"top_p": 0}, "sampling.top_p"),
        ({"repetition_penalty": 0}, "sampling.repetition_penalty"),
        ({"max_new_tokens": 0}, "sampling.max_new_tokens"),
        ({"seed": -1}, "sampling.seed"),
        ({"temperature": "hot"}, "sampling.temperature"),
        ({"heat": 1}, "sampling.heat"),
    ],
)
def test_wrong_sampling_names_the_setting(plain: dict[str, object], where: str) -> None:
    with pytest.raises(UserError) as caught:
        Sampling.from_plain(plain)
    assert caught.value.problem.where == where


def test_sampling_from_plain() -> None:
    assert Sampling.from_plain({"temperature": "0.7", "seed": 5}) == Sampling(seed=5, temperature=0.7)


# ---------------------------------------------------------------------------------------------------------- service
def test_service_loads_once_and_answers(run: RunFolder) -> None:
    service = ChatService()
    events: list[Event] = []
    facts = service.handle(Request(request=1, name="load", arguments={"run": str(run.path)}), events.append)
    assert facts["run"] == str(run.path.resolve())
    assert facts["template"] == "model"
    assert facts["context"] == 128
    assert facts["device"] in ("cpu", "cuda", "mps")
    asked = {"messages": [{"role": "user", "content": "boat?"}], "sampling": {"max_new_tokens": 30}}
    value = service.handle(Request(request=2, name="ask", arguments=asked), events.append)
    assert set(value) == {"base", "tuned"}
    assert value["tuned"]["text"] == "three blue tree"
    tokens = [event for event in events if isinstance(event, Token)]
    assert {event.request for event in tokens} == {2}
    for side in ("base", "tuned"):
        assert "".join(event.text for event in tokens if event.side == side).strip() == value[side]["text"]
    assert sum(isinstance(event, Stage) for event in events) == 1
    one = service.handle(Request(request=3, name="ask", arguments={"prompt": "tree?", "sides": ["tuned"]}), print)
    assert set(one) == {"tuned"}
    assert one["tuned"]["text"] == "猫 four"
    assert one["tuned"]["end"] == "ended"


def test_service_cancel_keeps_what_there_was(run: RunFolder) -> None:
    service = ChatService()

    def stop_at_first(event: Event) -> None:
        if isinstance(event, Token):
            service.cancel(1)

    arguments = {"run": str(run.path), "prompt": "boat?", "sides": "tuned"}
    value = service.handle(Request(request=1, name="ask", arguments=arguments), stop_at_first)
    assert value["tuned"]["end"] == "cancelled"
    assert value["tuned"]["text"] in ("th", "thr", "three", "t")
    again = service.handle(Request(request=2, name="ask", arguments=arguments), lambda event: None)
    assert again["tuned"]["end"] == "ended"


class Unloaded:
    """In place of a pair: what matters here is when one is loaded."""

    def ask(self, *_: object, **__: object) -> dict[str, object]:
        return {}


@pytest.fixture
def untrained(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.adapter.mkdir(parents=True)
    made.write_facts({"id": "run"})
    (made.adapter / "adapter_config.json").write_text("{}")
    return made


def test_service_loads_a_run_again_that_has_learned_more(untrained: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[RunFolder] = []
    monkeypatch.setattr(Pair, "load", lambda run: loads.append(run) or Unloaded())
    service = ChatService()
    request = Request(request=1, name="ask", arguments={"run": str(untrained.path), "prompt": "boat?"})
    service.handle(request, lambda event: None)
    service.handle(request, lambda event: None)
    assert len(loads) == 1
    os.utime(untrained.adapter / "adapter_config.json", ns=(1, 1))
    service.handle(request, lambda event: None)
    assert len(loads) == 2


def test_service_lets_go_of_what_was_cancelled_while_it_loaded(
    untrained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = ChatService()
    loads: list[RunFolder] = []

    def load(run: RunFolder) -> Unloaded:
        loads.append(run)
        if len(loads) == 1:
            service.cancel(1)
        return Unloaded()

    monkeypatch.setattr(Pair, "load", load)
    request = Request(request=1, name="ask", arguments={"run": str(untrained.path), "prompt": "boat?"})
    with pytest.raises(Stopped):
        service.handle(request, lambda event: None)
    service.handle(request, lambda event: None)
    assert len(loads) == 2


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("dance", {}, "chat.request"),
        ("load", {}, "chat.request"),
        ("load", {"run": "/nowhere/at/all"}, "run.missing"),
        ("ask", {"messages": []}, "chat.no_message"),
        ("ask", {"messages": [{"role": "user"}]}, "chat.no_message"),
        ("ask", {"prompt": "x", "sides": ["left"]}, "chat.request"),
        ("ask", {"prompt": "x", "sampling": {"top_p": 2}}, "chat.sampling"),
    ],
)
def test_service_says_what_is_wrong(name: str, arguments: dict[str, object], code: str) -> None:
    with pytest.raises(UserError) as caught:
        ChatService().handle(Request(request=1, name=name, arguments=arguments), lambda event: None)
    assert caught.value.problem.code == code


def test_examples_of_training_stand_before_the_question(run: RunFolder, pair: Pair) -> None:
    shown = [Message(USER, "tree?"), Message(ASSISTANT, "blue", learned=False)]
    write_lines(run.examples, map(message_to_plain, shown))
    try:
        asked = Pair.load(run)
    finally:
        run.examples.unlink()
    text = asked.tuned.tokenizer.decode(asked.prompt(QUESTION), skip_special=False)
    assert text.index("tree?") < text.index("blue") < text.index("boat?")
    assert asked.prompt((*shown, *QUESTION)) != asked.prompt(QUESTION)
    assert pair.prompt((*shown, *QUESTION)) == asked.prompt(QUESTION)
