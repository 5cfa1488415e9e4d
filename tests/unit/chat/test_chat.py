"""Chat with base and tuned model of a real small run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from engine.chat.pair import CANCELLED, ENDED, LIMIT, Pair, Sampling
from engine.chat.serve import ChatService
from engine.chat.weights import _processors, _Tokens
from engine.data.rows import ASSISTANT, SYSTEM, USER, Message, message_to_plain
from engine.model.load import load_base
from engine.project.atomic import write_lines
from engine.project.run_folder import RunFolder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import Event, Progress, Request, Stage, Token
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
        "prompt_tokens": len(pair.prompt(QUESTION)),
        "dropped": 0,
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


def test_oldest_turns_are_left_out_on_request_only(pair: Pair) -> None:
    long = [Message(USER, "word " * 20), Message(ASSISTANT, "word " * 10)] * 3
    with pytest.raises(UserError, match="Leave the oldest turns out"):
        pair.ask((*long, *QUESTION), Sampling())
    reply = pair.ask((Message(SYSTEM, "be kind"), *long, *QUESTION), Sampling(), drop=True, sides=("tuned",))["tuned"]
    assert reply.dropped in (2, 3)
    assert reply.end == ENDED
    kept = (Message(SYSTEM, "be kind"), *long[2 * reply.dropped :], *QUESTION)
    assert reply.prompt_tokens == len(pair.prompt(kept)) < (pair.tuned.context or 0)
    with pytest.raises(UserError, match="Shorten it"):
        pair.ask((Message(USER, "word " * 200),), Sampling(), drop=True)


def test_system_prompt_is_that_of_training_another_or_none(run: RunFolder, tmp_path: Path) -> None:
    trained = make_run(tmp_path / "run", run.trained_on(), words(), method="lora", data={"system": "Be brief."})
    pair = Pair.load(trained)
    text = pair.tuned.tokenizer.decode
    assert "Be brief." in text(pair.prompt(QUESTION), skip_special=False)
    for system, there in ((None, "Be brief."), ("Rhyme.", "Rhyme."), ("", "")):
        messages = pair.with_system(QUESTION, system)
        assert [m.content for m in messages if m.role == SYSTEM] == ([there] if there else [])
    own = (Message(SYSTEM, "Own."), *QUESTION)
    assert pair.with_system(own, "Other.") == own


def test_each_side_has_its_own_conversation_and_one_that_fails_leaves_the_other(pair: Pair) -> None:
    alone = pair.ask(QUESTION, Sampling(), sides=("tuned",))["tuned"].text
    replies = pair.ask({"base": (Message(USER, "word " * 200),), "tuned": QUESTION}, Sampling())
    assert replies["tuned"].text == alone
    assert replies["base"].end == "failed"
    failure = replies["base"].failure
    assert failure is not None
    assert failure.code == "chat.too_long"
    assert replies["base"].plain()["failure"] == failure


# ------------------------------------------------------------------------------------------------------ more columns
@pytest.fixture(scope="module")
def other(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Another run on the same base, of another method, that has not learned the words."""
    return make_run(tmp_path_factory.mktemp("other") / "run", run.trained_on(), words(), method="ia3")


def test_adapters_come_and_go_beside_the_others(run: RunFolder, other: RunFolder) -> None:
    pair = Pair.load(run)
    before = pair.ask(QUESTION, SAMPLED)
    pair.add("a", "adapter", other.adapter)
    pair.add("b", "adapter", run.adapter)
    assert list(pair.columns) == ["base", "tuned", "a", "b"]
    assert pair.facts("a") == {"name": "a", "kind": "adapter", "method": "IA3", "context": 128}
    assert pair.facts("base")["kind"] == "base"
    replies = pair.ask(QUESTION, SAMPLED, sides=list(pair.columns))
    assert replies["base"].text == before["base"].text
    assert replies["tuned"].text == replies["b"].text == before["tuned"].text
    own = Pair.load(other).ask(QUESTION, SAMPLED, sides=("tuned",))["tuned"].text
    assert replies["a"].text == own not in (before["base"].text, before["tuned"].text)
    pair.remove("a")
    assert list(pair.columns) == ["base", "tuned", "b"]
    assert pair.ask(QUESTION, SAMPLED)["base"].text == before["base"].text
    with pytest.raises(UserError, match="no adapter"):
        pair.add("c", "adapter", run.path / "nowhere")
    assert list(pair.columns) == ["base", "tuned", "b"]


@pytest.mark.parametrize("kind", ["prefix", "prompt", "ptuning", "adaption", "dora"])
def test_answers_with_kept_keys_and_values_are_those_of_the_whole_text(
    run: RunFolder, tmp_path: Path, kind: str
) -> None:
    """Learned prompts stand before the text once, not before each token."""
    configs: dict[str, Any] = {
        "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
        "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
        "ptuning": peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, encoder_hidden_size=16),
        "adaption": peft.AdaptionPromptConfig(task_type="CAUSAL_LM", adapter_len=4, adapter_layers=2),
        "dora": peft.LoraConfig(task_type="CAUSAL_LM", r=4, use_dora=True, target_modules=["q_proj", "v_proj"]),
    }
    torch.manual_seed(3)
    model = peft.get_peft_model(load_base(run.trained_on(), quantised=False), configs[kind])
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.3 * torch.randn_like(weight)
    model.eval().save_pretrained(tmp_path / "a")
    pair = Pair.load(run)
    pair.add("a", "adapter", tmp_path / "a")
    ids = pair.prompt(QUESTION, side="a")
    speaker = pair.tuned.speakers["a"]
    drawn = _Tokens(speaker, ids, SAMPLED)
    found = [drawn.next() for _ in range(16)]
    wanted, random = list(ids), torch.Generator().manual_seed(SAMPLED.seed)
    for _ in range(16):
        with torch.inference_mode():  # the whole text each time, as in training
            logits = speaker.model(input_ids=torch.tensor([wanted]), use_cache=False).logits[:, -1].float()
        scores = _processors(SAMPLED)(torch.tensor([wanted]), logits)
        wanted.append(int(torch.multinomial(scores.softmax(-1), 1, generator=random)))
    assert found == wanted[len(ids) :]
    assert pair.facts("a")["context"] == 128 - speaker.virtual_tokens


def test_base_stays_itself_after_errors_cancelled_answers_and_dropped_streams(pair: Pair) -> None:
    """With the keys and values of both sides alive all the while."""
    wanted = pair.ask(QUESTION, SAMPLED, sides=("base",))["base"].text
    streams = {side: pair.stream(side, QUESTION, SAMPLED) for side in ("base", "tuned")}
    said = next(streams["base"])
    next(streams["tuned"])
    with pytest.raises(UserError):
        pair.ask((Message(USER, "word " * 200),), Sampling())
    asked = iter([False, False, True, True, True, True])
    pair.ask(QUESTION, SAMPLED, cancelled=lambda: next(asked, True))
    streams["tuned"].close()
    assert pair.ask(QUESTION, SAMPLED)["base"].text == wanted
    assert said + "".join(streams["base"]) == wanted
    assert pair.tuned.untouched.holds()
    assert pair.tuned.untouched.repeatable


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
        ({"top_k": -1}, "sampling.top_k"),
        ({"min_p": 1}, "sampling.min_p"),
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

    columns = ("base", "tuned")

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
    monkeypatch.setattr(Pair, "load", lambda run, told: loads.append(run) or Unloaded())
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

    def load(run: RunFolder, told: object) -> Unloaded:
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
        ("ask", {"prompt": "x", "sides": ["tuned", "tuned"]}, "chat.request"),
        ("ask", {"prompt": "x", "sides": []}, "chat.request"),
        ("ask", {"conversations": {"base": []}}, "chat.no_message"),
        ("ask", {"prompt": "x", "sampling": {"top_p": 2}}, "chat.sampling"),
    ],
)
def test_service_says_what_is_wrong(name: str, arguments: dict[str, object], code: str) -> None:
    with pytest.raises(UserError) as caught:
        ChatService().handle(Request(request=1, name=name, arguments=arguments), lambda event: None)
    assert caught.value.problem.code == code


def test_service_puts_beside_what_is_wanted_and_takes_away_what_is_not(run: RunFolder, other: RunFolder) -> None:
    service = ChatService()
    events: list[Event] = []
    a = {"name": "a", "kind": "adapter", "path": str(other.adapter)}
    bad = {"name": "b", "kind": "adapter", "path": str(run.path / "nowhere")}

    def handle(name: str, **arguments: Any) -> dict[str, Any]:
        return service.handle(Request(request=1, name=name, arguments=arguments), events.append)

    facts = handle("load", run=str(run.path), columns=[a, bad])
    assert facts["isolated"] is True
    assert [column["name"] for column in facts["columns"]] == ["base", "tuned", "a", "b"]
    assert facts["columns"][2]["method"] == "IA3"
    assert facts["columns"][3]["failure"].code == "adapter.none"
    assert {event.name for event in events if isinstance(event, Stage)} == {"load", "column"}
    assert any(isinstance(event, Progress) and event.total > 10 for event in events)
    value = handle("ask", prompt="boat?", sides=["base", "tuned", "a", "b"], columns=[a, bad])
    assert value["tuned"]["text"] == "three blue tree"
    assert value["a"]["tokens"] > 0
    assert value["b"]["failure"].code == "adapter.none"
    stages = sum(isinstance(event, Stage) for event in events)
    own = {"base": [{"role": "user", "content": "sun?"}], "tuned": [{"role": "user", "content": "tree?"}]}
    value = handle("ask", conversations=own, columns=[a, bad])
    assert value["tuned"]["text"] == "猫 four"
    assert sum(isinstance(event, Stage) for event in events) == stages  # nothing was loaded again
    assert [c["name"] for c in handle("load", columns=[])["columns"]] == ["base", "tuned"]
    with pytest.raises(UserError):
        handle("ask", prompt="boat?", sides=["a"])
    # A session that had to be started anew is told what was there.
    again = ChatService().handle(
        Request(request=1, name="ask", arguments={"run": str(run.path), "prompt": "x", "sides": ["a"], "columns": [a]}),
        events.append,
    )
    assert again["a"]["tokens"] > 0


@pytest.mark.parametrize(
    "columns",
    [
        "a",
        [{"name": "base", "kind": "adapter", "path": "x"}],
        [{"name": "a", "kind": "dance", "path": "x"}],
        [{"name": "a", "kind": "gguf"}],
        [{"name": "a", "kind": "gguf", "path": "x"}] * 2,
        [{"name": str(n), "kind": "gguf", "path": "x"} for n in range(9)],
    ],
)
def test_service_refuses_columns_that_are_none(
    run: RunFolder, columns: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pair, "load", lambda run, told: Unloaded())
    arguments = {"run": str(run.path), "columns": columns}
    with pytest.raises(UserError) as caught:
        ChatService().handle(Request(request=1, name="load", arguments=arguments), lambda event: None)
    assert caught.value.problem.where == "columns"


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
