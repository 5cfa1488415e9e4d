"""An exported GGUF as a column: through llama.cpp, with its own template, beside the weights in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.chat.gguf import GgufColumn
from engine.chat.pair import Pair, Sampling
from engine.data.rows import USER, Message
from engine.export.gguf_work import export_gguf
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import UserError
from tests.unit.tuned_run import conversation, make_run

QUESTION = (Message(USER, "Tell me a story about a dog."),)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, starter: Path) -> RunFolder:
    rows = [conversation(0, "Hello?", "Hi!")]
    return make_run(tmp_path_factory.mktemp("gguf") / "run", starter, rows, method="lora")


@pytest.fixture(scope="module")
def file(run: RunFolder) -> Path:
    out = run.path / "m.gguf"
    export_gguf(run, out, "f16", Recorder())
    return out


@pytest.fixture(scope="module")
def pair(run: RunFolder, file: Path) -> Pair:
    made = Pair.load(run)
    made.add("g", "gguf", file)
    return made


def test_it_says_what_the_tuned_model_says(pair: Pair) -> None:
    order: list[str] = []
    replies = pair.ask(
        QUESTION, Sampling(max_new_tokens=24), sides=["base", "tuned", "g"], tell=lambda side, _: order.append(side)
    )
    assert pair.prompt(QUESTION, side="g") == pair.prompt(QUESTION)
    assert replies["g"].text.strip() == replies["tuned"].text.strip()
    assert replies["g"].tokens == replies["tuned"].tokens
    assert replies["g"].end == replies["tuned"].end
    assert replies["g"].prompt_tokens == replies["tuned"].prompt_tokens
    assert replies["g"].tokens_per_second is None or replies["g"].tokens_per_second > 0
    assert order.index("g") > max(
        i for i, side in enumerate(order) if side != "g"
    )  # after the others, on one processor
    assert order.count("g") > 1  # it streams
    assert pair.facts("g")["kind"] == "gguf"


def test_same_seed_same_answer_and_every_setting_is_taken(pair: Pair) -> None:
    drawn = Sampling(5, 1.5, top_p=0.9, top_k=50, min_p=0.01, repetition_penalty=1.2, max_new_tokens=16)
    first, again = (pair.ask(QUESTION, drawn, sides=["g"])["g"].text for _ in range(2))
    other = pair.ask(QUESTION, Sampling(6, 1.5, max_new_tokens=16), sides=["g"])["g"].text
    assert first == again != other
    # One likeliest token only is the greedy answer, whatever the temperature.
    greedy = pair.ask(QUESTION, Sampling(max_new_tokens=16), sides=["g"])["g"].text
    assert pair.ask(QUESTION, Sampling(1, 2.0, top_k=1, max_new_tokens=16), sides=["g"])["g"].text == greedy


def test_it_is_stopped_and_asked_again(pair: Pair) -> None:
    asked = iter([False, False, True])
    reply = pair.ask(QUESTION, Sampling(), sides=["g"], cancelled=lambda: next(asked, True))["g"]
    assert reply.end == "cancelled"
    assert pair.ask(QUESTION, Sampling(max_new_tokens=2), sides=["g"])["g"].end == "limit"
    stream = pair.stream("g", QUESTION, Sampling())
    assert next(stream)
    stream.close()
    with pytest.raises(UserError, match="the model has room for"):
        pair.ask((Message(USER, "word " * 5000),), Sampling(), sides=["g"])


def test_files_that_are_none(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        pair.add("x", "gguf", tmp_path / "absent.gguf")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(UserError, match=r"llama\.cpp"):
        GgufColumn(broken, apart=True)
    assert "x" not in pair.columns
