"""Blind votes: kept as they are cast, gone on with, and what they say by the exact test."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from engine.project.run_folder import RunFolder
from engine.project.votes import (
    BlindTest,
    Contender,
    Result,
    begin_test,
    binomial_p,
    cast_vote,
    exact_interval,
    read_tests,
    reveal_test,
    undo_vote,
    verdict,
    votes_missing,
)
from engine.protocol.errors import UserError

SIDES = (Contender("base", "Base", "base"), Contender("tuned", "Run 3", "tuned", "/a", 7))
SAMPLING = {"seed": 1, "temperature": 0.5}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.fixture
def blind(run: RunFolder) -> BlindTest:
    return begin_test(run, SIDES, seed=3, source="held_out", sampling=SAMPLING, system="Be kind.")


def vote(run: RunFolder, blind: BlindTest, choice: str, question: str = "Why?") -> None:
    answers = {"base": "Because.", "tuned": "为什么不？\u2028"}
    cast_vote(run, blind, question=question, choice=choice, answers=answers, where="a.jsonl:3", reference="So.")


# ------------------------------------------------------------------------------------------------------------ the file
def test_what_was_cast_is_read_again(run: RunFolder, blind: BlindTest) -> None:
    for choice in ("first", "second", "tie", "bad"):
        vote(run, blind, choice)
    (again,) = read_tests(run)
    assert again == blind
    assert [item.index for item in again.votes] == [0, 1, 2, 3]
    assert again.next_index == 4
    assert not again.revealed
    reveal_test(run, blind)
    reveal_test(run, blind)
    assert read_tests(run)[0].revealed
    assert sum('"reveal"' in line for line in run.votes.read_text(encoding="utf-8").splitlines()) == 1


def test_winners_go_by_the_order_in_which_answers_were_shown(run: RunFolder, blind: BlindTest) -> None:
    orders = {blind.shown(n) for n in range(30)}
    assert orders == {("base", "tuned"), ("tuned", "base")}
    assert [blind.shown(n) for n in range(30)] == [BlindTest("other", 3, SIDES).shown(n) for n in range(30)]
    assert [blind.shown(n) for n in range(30)] != [BlindTest("x", 4, SIDES).shown(n) for n in range(30)]
    for n in range(10):
        vote(run, blind, "first" if blind.shown(n)[0] == "tuned" else "second")
    assert blind.result == Result(0, 10)
    assert {item.winner for item in blind.votes} == {"tuned"}


def test_the_last_vote_can_be_taken_back_and_cast_anew(run: RunFolder, blind: BlindTest) -> None:
    assert undo_vote(run, blind) is None
    vote(run, blind, "first", "one")
    vote(run, blind, "first", "two")
    taken = undo_vote(run, blind)
    assert taken is not None
    assert taken.question == "two"
    assert blind.next_index == 1
    vote(run, blind, "bad", "two")
    (again,) = read_tests(run)
    assert again == blind
    assert [(item.number, item.question, item.choice) for item in again.votes] == [
        (1, "one", "first"),
        (3, "two", "bad"),
    ]
    assert run.votes.read_bytes().count(b"\n") == 5  # nothing is ever taken out of the file


def test_a_crash_in_the_middle_of_a_line_loses_no_vote(run: RunFolder, blind: BlindTest) -> None:
    vote(run, blind, "first")
    whole = run.votes.read_bytes()
    for length in range(1, 60, 7):
        run.votes.write_bytes(whole + whole[:length])
        (again,) = read_tests(run)
        assert again == blind
        vote(run, again, "second")
        (after,) = read_tests(run)
        assert [item.choice for item in after.votes] == ["first", "second"]


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        "[" * 100_000,
        '{"type": "vote"}',
        '{"type": "vote", "test": "T", "number": 9, "index": 9, "question": "?", "shown": ["a", "b"], "choice": "tie"}',
        '{"type": "vote", "test": "T", "number": 9, "index": 9, "question": "?", "shown": "base", "choice": "first"}',
        '{"type": "vote", "test": "T", "number": 9, "index": 9, "shown": ["base", "tuned"], "choice": "best"}',
        '{"type": "vote", "test": "T", "number": "x"}',
        '{"type": "undo", "test": "T"}',
        '{"type": "test", "test": "other", "seed": "x", "sides": []}',
        '{"type": "test", "test": "other", "seed": 1, "sides": [{"name": "a"}, {"name": "a"}]}',
        '{"type": "dance", "test": "T"}',
    ],
)
def test_lines_that_are_none_of_ours_are_passed_over(run: RunFolder, blind: BlindTest, line: str) -> None:
    vote(run, blind, "first")
    with run.votes.open("a", encoding="utf-8") as file:
        file.write(line.replace('"T"', json.dumps(blind.id)) + "\n")
    assert read_tests(run) == [blind]


def test_a_file_that_is_a_link_is_not_written(run: RunFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine\n")
    run.votes.symlink_to(elsewhere)
    with pytest.raises(UserError):
        begin_test(run, SIDES, seed=3, source="own", sampling={})
    assert elsewhere.read_text() == "mine\n"


def test_no_file_is_no_test(run: RunFolder) -> None:
    assert read_tests(run) == []


# --------------------------------------------------------------------------------------------------------- what it says
def exact(wins: int, count: int) -> Fraction:
    """By listing every outcome of ``count`` tosses."""
    far = abs(2 * wins - count)
    hits = sum(abs(2 * sum(tosses) - count) >= far for tosses in itertools.product((0, 1), repeat=count))
    return Fraction(hits, 2**count)


def test_p_value_is_that_of_all_outcomes() -> None:
    for count in range(11):
        for wins in range(count + 1):
            assert binomial_p(wins, count) == pytest.approx(float(exact(wins, count)))
    assert binomial_p(14, 20) == pytest.approx(0.11531829833984375)
    assert binomial_p(600, 1000) == pytest.approx(2.7284e-10, rel=1e-3)
    assert 0 <= binomial_p(3000, 3000) < 1e-300
    assert binomial_p(0, 0) == 1.0


def test_interval_is_that_of_clopper_and_pearson() -> None:
    # Bounds by their definition: at the lower one the upper tail is 2.5%, at the upper one the lower tail.
    for wins, count in ((0, 5), (5, 5), (3, 10), (14, 20), (31, 60)):
        low, high = exact_interval(wins, count)
        assert 0 <= low <= wins / count <= high <= 1
        if wins:
            assert _tail(range(wins, count + 1), count, low) == pytest.approx(0.025, rel=1e-6)
        if wins < count:
            assert _tail(range(wins + 1), count, high) == pytest.approx(0.025, rel=1e-6)
    assert exact_interval(0, 10)[1] == pytest.approx(1 - 0.025 ** (1 / 10))
    assert exact_interval(0, 0) == (0.0, 1.0)


def _tail(outcomes: Any, count: int, share: float) -> float:
    p = Fraction(share)
    chosen = (Fraction(_choose(count, k)) * p**k * (1 - p) ** (count - k) for k in outcomes)
    return float(sum(chosen, Fraction(0)))


def _choose(n: int, k: int) -> int:
    found = 1
    for i in range(k):
        found = found * (n - i) // (i + 1)
    return found


def test_how_many_votes_are_missing() -> None:
    assert votes_missing(5, 5) == 1  # six of six are the fewest that can be clear
    assert binomial_p(6, 6) < 0.05 < binomial_p(5, 5)
    assert votes_missing(6, 6) is None
    assert votes_missing(5, 10) is None
    assert votes_missing(0, 0) is None
    more = votes_missing(14, 20)
    assert more is not None
    assert binomial_p(round(0.7 * (20 + more)), 20 + more) < 0.05
    assert votes_missing(501, 1000) is None  # never within a lifetime


def test_the_verdict_in_words() -> None:
    assert "No vote" in verdict(Result(0, 0, 3, 1), SIDES).en
    assert verdict(Result(5, 15), SIDES).en == "Run 3 is preferred: by chance alone 4 of 100 tests would say so."
    assert "Base is preferred" in verdict(Result(30, 2), SIDES).en
    assert "fewer than 1 of 100" in verdict(Result(30, 2), SIDES).en
    assert verdict(Result(6, 14), SIDES).en.startswith("Too few votes to tell: about ")
    assert "nearly even" in verdict(Result(5, 5), SIDES).en
    for result in (Result(0, 0), Result(5, 15), Result(6, 14), Result(5, 5)):
        assert verdict(result, SIDES).zh
    result = Result(6, 14, ties=4, bad=2)
    assert (result.votes, result.decided, result.share) == (26, 20, 0.7)
    assert result.p_value == Result(6, 14).p_value  # ties decide nothing
