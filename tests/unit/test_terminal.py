"""What a person reads on the terminal."""

from __future__ import annotations

import json

import pytest

from engine.protocol.errors import Failure, Problem
from engine.protocol.text import say
from engine.terminal import SHOWN, Terminal


def failure(count: int) -> Failure:
    problems = tuple(
        Problem("data.bad_row", say("Broken.", "已损坏。"), where=f"a.jsonl:{i + 1}") for i in range(count)
    )
    return Failure("data.bad", say("Many rows are broken.", "多行损坏。"), problems=problems)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_long_list_of_problems_is_counted(language: str, capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(as_json=False, language=language).failure(failure(SHOWN + 7))
    told = capsys.readouterr().err.splitlines()
    assert sum("a.jsonl:" in line for line in told) == SHOWN
    assert "7" in told[-1]
    assert "--json" in told[-1]


def test_a_short_list_is_told_whole_and_json_always_is(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(as_json=False, language="en").failure(failure(SHOWN))
    told = capsys.readouterr().err
    assert told.count("a.jsonl:") == SHOWN
    assert "--json" not in told
    Terminal(as_json=True, language="en").failure(failure(SHOWN + 7))
    assert len(json.loads(capsys.readouterr().out)["error"]["problems"]) == SHOWN + 7
