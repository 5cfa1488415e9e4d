"""``lorimer chat``: once, in turns, and blind, on a real small run."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.chat_command import chat
from engine.options import parser
from engine.project.run_folder import RunFolder
from engine.project.votes import read_tests
from engine.protocol.errors import UserError
from engine.terminal import Terminal
from tests.tiny_model import make_model
from tests.unit.tuned_run import make_run, words

Chat = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A tiny run that knows its words by heart."""
    folder = tmp_path_factory.mktemp("tiny")
    return make_run(folder / "run", make_model(folder / "model"), words(), method="lora", steps=60)


@pytest.fixture
def run(trained: RunFolder) -> RunFolder:
    """The same without votes of other tests."""
    trained.votes.unlink(missing_ok=True)
    return trained


@pytest.fixture
def lorimer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Chat:
    """Runs the command with JSON; gives its document and what people saw."""

    def call(*options: Any, typed: str = "") -> tuple[dict[str, Any], str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        given = parser().parse_args(["chat", *map(str, options), "--json", "--max-new-tokens", "24"])
        assert chat(given, Terminal(as_json=True, language="en")) == 0
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    return call


def test_questions_in_turns_with_another_adapter_beside(lorimer: Chat, run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        asked = (run.path, "--prompt", "boat?", "--prompt", "tree?", "--adapter", run.path, "--transcript", path)
        document, _ = lorimer(*asked)
    assert [str(item.message) for item in heard if "is_gradient_checkpointing" in str(item.message)] == []
    assert document["tuned"] == document["adapter1"] == "猫 four"
    assert document["base"] != document["tuned"]
    assert [turn["question"] for turn in document["turns"]] == ["boat?", "tree?"]
    assert document["turns"][0]["answers"]["tuned"]["text"] == "three blue tree"
    assert document["turns"][1]["answers"]["tuned"]["prompt_tokens"] > 30  # it knows what was said before
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["turns"] == document["turns"]
    assert [side["kind"] for side in kept["sides"]] == ["base", "tuned", "adapter"]
    with pytest.raises(UserError, match="no adapter"):
        lorimer(run.path, "--prompt", "x", "--adapter", tmp_path)


def test_commands_between_questions(lorimer: Chat, run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "t.md"
    first = ("boat?", "/regenerate", "/keep tuned", "tree?", "/dance", "", f"/save {path}")
    typed = (*first, "/seed 9", "/new", "/system Rhyme.", "sun?", "/quit", "no")
    document, said = lorimer(run.path, typed="\n".join(typed))
    assert [turn["question"] for turn in document["turns"]] == ["sun?"]
    assert document["turns"][0]["system"] == "Rhyme."
    assert document["turns"][0]["sampling"]["seed"] == 9
    assert said.count("Tuned: three blue tree") == 2
    assert "/regenerate" in said
    text = path.read_text(encoding="utf-8")
    assert "seed 43" in text
    assert "Went on from the answer of: tuned" in text
    assert text.index("boat?") < text.index("tree?")


def test_blind_votes_are_kept_as_they_are_cast_and_gone_on_with(lorimer: Chat, run: RunFolder) -> None:
    document, said = lorimer(run.path, "--blind", typed="1\nx\n2\nu\n")
    assert document == {"test": document["test"], "votes": 1, "ties": 0, "bad": 0}
    assert "Base" not in said
    assert "Tuned" not in said
    assert "tokens/s" not in said
    (test,) = read_tests(run)
    assert [vote.choice for vote in test.votes] == ["first"]
    assert test.cast == 2
    again, said = lorimer(run.path, "--blind", typed="1\n3\n4\n")  # four rows: the test ends by itself
    assert again["test"] == document["test"]
    assert (again["votes"], again["ties"], again["bad"]) == (4, 1, 1)
    assert sum(again["wins"].values()) == 2
    assert "Too few votes" in again["verdict"] or "nearly even" in again["verdict"]
    assert read_tests(run)[0].revealed
    another, _ = lorimer(run.path, "--blind", "--prompt", "boat?", typed="r\n")
    assert another["test"] != document["test"]
    assert len(read_tests(run)) == 2


def test_blind_without_held_out_rows_asks_for_questions(lorimer: Chat, run: RunFolder) -> None:
    rows = run.held_out.read_bytes()
    run.held_out.unlink()
    try:
        with pytest.raises(UserError) as caught:
            lorimer(run.path, "--blind")
    finally:
        run.held_out.write_bytes(rows)
    assert caught.value.problem.code == "chat.no_questions"
