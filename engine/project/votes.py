"""Blind tests of a run: which of two answers a person preferred without knowing whose they were. Light.

The file is ``votes.jsonl`` in the run's folder. Each vote is a line that is added and on the disk before the next
question comes, so a crash loses none; a line that is broken off is passed over. A vote taken back is a line too.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.project.atomic import disk_error, open_plain
from engine.project.run_folder import RunFolder
from engine.protocol.text import Text, say

FIRST, SECOND, TIE, BAD = "first", "second", "tie", "bad"
CHOICES = (FIRST, SECOND, TIE, BAD)
"""The answer shown as A is better, that shown as B is, they are equally good, they are equally bad."""
LONGEST_LINE = 4 * 2**20
LEVEL = 0.05
"""Error that a verdict risks; intervals hold the rest."""
MOST_MORE = 2000
"""So many further votes are forecast at most."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the two models.

    Attributes:
        name: "base", "tuned" or the column's.
        title: for people.
        kind: "base", "tuned", "adapter" or "gguf".
        path: of its adapter or file; empty for the base.
        written: when that was written, in nanoseconds since the epoch; 0 where it is not known.
    """

    name: str
    title: str
    kind: str = ""
    path: str = ""
    written: int = 0


@dataclass(frozen=True, slots=True)
class Vote:
    """One question judged.

    Attributes:
        number: of the vote in its test, from 1; undone ones keep theirs.
        index: of the question in its order, from 0.
        question: what was asked.
        shown: names of the two models in the order in which their answers were shown: A, B.
        choice: one of `CHOICES`.
        answers: by name.
        where, reference: of the held-out row that it was taken from.
        time: seconds since the epoch.
    """

    number: int
    index: int
    question: str
    shown: tuple[str, str]
    choice: str
    answers: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    reference: str = ""
    time: float = 0.0

    @property
    def winner(self) -> str:
        """The name of the model that was preferred; empty for neither."""
        return self.shown[0] if self.choice == FIRST else self.shown[1] if self.choice == SECOND else ""


@dataclass
class BlindTest:
    """One blind test.

    Attributes:
        id: its name in the file.
        seed: decides the order of the questions and of each pair of answers.
        sides: the two models.
        source: "held_out" or "own": where questions come from.
        sampling, system: how answers were drawn.
        votes: those that count, oldest first.
        cast: votes ever cast, undone ones included.
        revealed: the person has seen which is which.
        time: when it began.
    """

    id: str
    seed: int
    sides: tuple[Contender, Contender]
    source: str = "held_out"
    sampling: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    votes: list[Vote] = field(default_factory=list)
    cast: int = 0
    revealed: bool = False
    time: float = 0.0

    def shown(self, index: int) -> tuple[str, str]:
        """Whose answers are A and B for a question: by the seed, each question anew."""
        first, second = self.sides[0].name, self.sides[1].name
        turned = random.Random(f"{self.seed}:{index}").random() < 0.5
        return (second, first) if turned else (first, second)

    @property
    def next_index(self) -> int:
        """The question that comes now."""
        return self.votes[-1].index + 1 if self.votes else 0

    @property
    def result(self) -> Result:
        """How it stands."""
        wins = [sum(vote.winner == side.name for vote in self.votes) for side in self.sides]
        ties = sum(vote.choice == TIE for vote in self.votes)
        return Result(wins[0], wins[1], ties, sum(vote.choice == BAD for vote in self.votes))


# ------------------------------------------------------------------------------------------------------------ the file
def begin_test(
    run: RunFolder,
    sides: tuple[Contender, Contender],
    *,
    seed: int,
    source: str,
    sampling: Mapping[str, Any],
    system: str | None = None,
) -> BlindTest:
    """A new test, written down. Raises `UserError` when the disk does not take it."""
    now = round(time.time(), 3)
    test = BlindTest(f"{now:.3f}-{seed}", seed, sides, source, dict(sampling), system, time=now)
    _add(
        run,
        {
            "type": "test",
            "test": test.id,
            "time": now,
            "seed": seed,
            "sides": [asdict(side) for side in sides],
            "source": source,
            "sampling": dict(sampling),
            "system": system,
        },
    )
    return test


def cast_vote(
    run: RunFolder,
    test: BlindTest,
    *,
    question: str,
    choice: str,
    answers: Mapping[str, str],
    where: str = "",
    reference: str = "",
) -> Vote:
    """Write a vote on the test's next question down, then count it. Raises `UserError` as `begin_test` does."""
    index = test.next_index
    vote = Vote(
        test.cast + 1,
        index,
        question,
        test.shown(index),
        choice,
        dict(answers),
        where,
        reference,
        round(time.time(), 3),
    )
    _add(run, {"type": "vote", "test": test.id, **asdict(vote)})
    _take(test, vote)
    return vote


def undo_vote(run: RunFolder, test: BlindTest) -> Vote | None:
    """Take the last vote back; None where there is none. Raises `UserError` when the disk does not take it."""
    if not test.votes:
        return None
    _add(run, {"type": "undo", "test": test.id, "number": test.votes[-1].number})
    return test.votes.pop()


def reveal_test(run: RunFolder, test: BlindTest) -> None:
    """The person is told which is which: no further vote of it is blind. Raises `UserError` as the others do."""
    if not test.revealed:
        _add(run, {"type": "reveal", "test": test.id})
        test.revealed = True


def read_tests(run: RunFolder) -> list[BlindTest]:
    """Every test of the run, oldest first; lines that are none of Lorimer's are passed over.

    Raises:
        UserError: the file cannot be read.
    """
    found: dict[str, BlindTest] = {}
    for plain in _lines(run):
        name, kind = str(plain.get("test", "")), plain.get("type")
        try:
            if kind == "test":
                found[name] = _test(name, plain)
            elif name in found:
                _replay(found[name], str(kind), plain)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            continue
    return list(found.values())


def _replay(test: BlindTest, kind: str, plain: dict[str, Any]) -> None:
    if kind == "vote":
        _take(test, _vote(test, plain))
    elif kind == "undo":
        test.votes = [vote for vote in test.votes if vote.number != plain["number"]]
    elif kind == "reveal":
        test.revealed = True


def _take(test: BlindTest, vote: Vote) -> None:
    test.votes.append(vote)
    test.cast = max(test.cast, vote.number)


def _test(name: str, plain: dict[str, Any]) -> BlindTest:
    first, second = (_contender(side) for side in plain["sides"])
    if not first.name or not second.name or first.name == second.name:
        raise ValueError(name)
    system = plain.get("system")
    return BlindTest(
        name,
        int(plain["seed"]),
        (first, second),
        str(plain.get("source", "held_out")),
        dict(plain.get("sampling") or {}),
        None if system is None else str(system),
        time=float(plain.get("time", 0.0)),
    )


def _contender(plain: dict[str, Any]) -> Contender:
    name, title, kind, path = (str(plain.get(key, "")) for key in ("name", "title", "kind", "path"))
    return Contender(name, title, kind, path, int(plain.get("written", 0)))


def _vote(test: BlindTest, plain: dict[str, Any]) -> Vote:
    first, second = (str(name) for name in plain["shown"])
    if {first, second} != {side.name for side in test.sides} or plain["choice"] not in CHOICES:
        raise ValueError(first)
    return Vote(
        int(plain["number"]),
        int(plain["index"]),
        str(plain["question"]),
        (first, second),
        str(plain["choice"]),
        {str(name): str(text) for name, text in (plain.get("answers") or {}).items()},
        str(plain.get("where", "")),
        str(plain.get("reference", "")),
        float(plain.get("time", 0.0)),
    )


def _lines(run: RunFolder) -> Iterator[dict[str, Any]]:
    if not run.votes.is_file():
        return
    try:
        with open_plain(run.votes) as lines:
            while line := lines.readline(LONGEST_LINE):
                try:
                    plain = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(plain, dict):
                    yield plain
    except OSError as error:
        raise disk_error(error, run.votes) from error


def _add(run: RunFolder, plain: Mapping[str, Any]) -> None:
    """One more line, on the disk when this returns; what a crash broke off before is closed first."""
    line = json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    try:
        broken = _is_broken_off(run)
        with open_plain(run.votes, "ab") as file:
            file.write(b"\n" + line if broken else line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_error(error, run.votes) from error


def _is_broken_off(run: RunFolder) -> bool:
    if not run.votes.is_file() or not run.votes.stat().st_size:
        return False
    with open_plain(run.votes) as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


# --------------------------------------------------------------------------------------------------------- what it says
@dataclass(frozen=True, slots=True)
class Result:
    """How a blind test stands.

    Attributes:
        first, second: questions on which the first or the second of the test's models was preferred.
        ties, bad: questions on which neither was: equally good, equally bad. They decide nothing.
    """

    first: int
    second: int
    ties: int = 0
    bad: int = 0

    @property
    def decided(self) -> int:
        """Votes for one of the two."""
        return self.first + self.second

    @property
    def votes(self) -> int:
        """All votes."""
        return self.decided + self.ties + self.bad

    @property
    def p_value(self) -> float:
        """Of the exact two-sided binomial test that both are preferred equally often."""
        return binomial_p(self.second, self.decided)

    @property
    def share(self) -> float | None:
        """Of the decided votes, how many are for the second model; None without any."""
        return self.second / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float]:
        """Of `share`: exact, 95%."""
        return exact_interval(self.second, self.decided)

    @property
    def is_clear(self) -> bool:
        """Whether chance alone would seldom do it."""
        return bool(self.decided) and self.p_value < LEVEL

    @property
    def more(self) -> int | None:
        """Further decided votes after which it would be clear, if they go on as they did; None where they never would,
        or where it is clear already."""
        return votes_missing(self.second, self.decided)


def binomial_p(wins: int, count: int) -> float:
    """Exact two-sided p-value of ``wins`` of ``count`` under a fair coin: the outcomes at least as far from the middle.

    Source: the sign test (Dixon and Mood 1946). The distribution is symmetric, so this is twice the smaller tail.
    """
    extreme = max(wins, count - wins)
    tail, ways = 0, math.comb(count, extreme)
    for k in range(extreme, count + 1):
        tail += ways
        ways = ways * (count - k) // (k + 1)
    # Whole numbers are divided, not floats: no count is too large.
    return min(1.0, 2 * tail / 2**count) if count else 1.0


def exact_interval(wins: int, count: int, *, level: float = 1 - LEVEL) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson 1934)."""
    if not count:
        return 0.0, 1.0
    rest = (1 - level) / 2
    low = 0.0 if wins == 0 else _solve(lambda p: 1 - _at_most(wins - 1, count, p), rest)
    high = 1.0 if wins == count else _solve(lambda p: -_at_most(wins, count, p), -rest)
    return low, high


def _at_most(wins: int, count: int, share: float) -> float:
    """Probability of at most ``wins`` of ``count``."""
    logs = (
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(share)
        + (count - k) * math.log1p(-share)
        for k in range(wins + 1)
    )
    return math.fsum(map(math.exp, logs))


def _solve(rising: Any, wanted: float) -> float:
    """Where a rising function of a share reaches a value."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2


def votes_missing(wins: int, count: int) -> int | None:
    """How many more votes would make it clear if they went on in the same proportion; None where they never would, or
    it is clear already."""
    if not count or binomial_p(wins, count) < LEVEL or 2 * wins == count:
        return None
    share = max(wins, count - wins) / count
    # The normal distribution tells nearly where; the exact test is asked from well before that on.
    nearly = round(0.8 * (0.98 / (share - 0.5)) ** 2)
    for more in range(max(1, nearly - count), MOST_MORE + 1):
        total = count + more
        if binomial_p(round(share * total), total) < LEVEL:
            return more
    return None


def verdict(result: Result, sides: Sequence[Contender]) -> Text:
    """What a result means, in a sentence."""
    if not result.decided:
        return say("No vote for either yet.", "尚未对任何一方投票。")
    if result.is_clear:
        better = sides[1] if result.second > result.first else sides[0]
        return say(
            "{title} is preferred: by chance alone {often} would say so.",
            "{title} 更受青睐：仅凭偶然，{often}会有此结果。",
            title=better.title,
            often=_in_100(result.p_value),
        )
    if result.more is None:
        return say("No difference can be told: the votes are nearly even.", "看不出差别：双方票数相近。")
    return say(
        "Too few votes to tell: about {n} more if they go on like this.",
        "票数太少，无法判断：若照此继续，约需再投 {n} 票。",
        n=result.more,
    )


def _in_100(p: float) -> Text:
    """A p-value as so many of 100 tests."""
    if p < 0.01:
        return say("fewer than 1 of 100 tests", "100 次测试中不到 1 次")
    return say("{n:.0f} of 100 tests", "100 次测试中约 {n:.0f} 次", n=100 * p)
