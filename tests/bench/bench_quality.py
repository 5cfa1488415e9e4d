"""Quality checks, languages, tasks, exact and near duplicates: their seconds, recall, precision and memory.

    python tests/bench/bench_quality.py [--rows 52000] [--millions 2 5] [--data FOLDER]

The rows are made by resampling words of the demo files in the shared test data beside the repository, 400 bytes each in
the mean; exact and near duplicates and decoys are planted. Each part is measured on one core, then all in two processes
(the duplicates and a third of the checks in one). Near duplicates of many
short made-up rows run in a process of their own, whose resident memory is read from the system.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.data.quality.checker import RowChecker
from engine.data.quality.duplicates import near_duplicates
from engine.data.quality.groups import Groups, exact_duplicates
from engine.data.quality.language import language_of_row
from engine.data.quality.report import Report, Tally, compared_text
from engine.data.quality.shingles import jaccard, shingles
from engine.data.quality.style import style_of
from engine.data.quality.tasks import task_of
from engine.data.rows import ASSISTANT, USER, Message, Row
from engine.recipe.quality import QualitySettings

BYTES = 400
LIKE = (0.85, 0.99)
UNLIKE = (0.60, 0.75)


@dataclass
class Planted:
    """Rows, and what was planted among them.

    Attributes:
        rows: shuffled.
        exact, near, decoys: pairs of positions; near ones have a similarity of 0.85 and above, decoys 0.6 to 0.75.
    """

    rows: list[Row]
    exact: list[tuple[int, int]]
    near: list[tuple[int, int]]
    decoys: list[tuple[int, int]]


def words_of(folder: Path) -> tuple[list[str], list[str]]:
    """Words of the English demo file; two-letter pieces of the Chinese one."""
    texts = {}
    for name in ("alpaca_en_demo", "alpaca_zh_demo"):
        rows = json.loads((folder / "datasets" / "llama-factory" / f"{name}.json").read_text(encoding="utf-8"))
        texts[name] = [row["instruction"] + " " + row["output"] for row in rows]
    english = " ".join(texts["alpaca_en_demo"]).split(" ")
    chinese = "".join(texts["alpaca_zh_demo"])
    return english, [chinese[i : i + 2] for i in range(0, len(chinese) - 1, 2)]


def made_rows(folder: Path, count: int, seed: int = 1) -> Planted:
    """``count`` rows: 2% exact copies, 3% near duplicates, 3% decoys."""
    english, chinese = words_of(folder)
    rng = random.Random(seed)
    pairs: list[list[tuple[int, int]]] = [[], [], []]
    # A piece of Chinese is 6 bytes, an English word with its space about 6.
    pieces = [made_text(rng, english if i % 2 else chinese) for i in range(count - 8 * count // 100)]
    for base in range(2 * count // 100):
        pairs[0].append((base, len(pieces)))
        pieces.append(pieces[base])
    for kind, (low, high) in ((1, LIKE), (2, UNLIKE)):
        for base in range(kind * 3 * count // 100, (kind + 1) * 3 * count // 100):
            changed = altered(rng, pieces[base], low, high)
            if changed is not None:
                pairs[kind].append((base, len(pieces)))
                pieces.append(changed)
    order = list(range(len(pieces)))
    rng.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    rows = [row_of(new, pieces[old]) for new, old in enumerate(order)]
    exact, near, decoys = ([(place[a], place[b]) for a, b in kind] for kind in pairs)
    return Planted(rows, exact, near, decoys)


def made_text(rng: random.Random, words: list[str]) -> list[str]:
    """Pieces of a text of about 400 bytes; where a piece ends in a space is in the piece."""
    space = " " if words[0].isascii() else ""
    text: list[str] = []
    size = 0
    goal = max(60, rng.gauss(BYTES, 120))
    while size < goal:
        start = rng.randrange(len(words) - 4)
        for word in words[start : start + 4]:
            text.append(word + space)
            size += len(text[-1].encode())
    return text


def altered(rng: random.Random, pieces: list[str], low: float, high: float) -> list[str] | None:
    """The text with pieces replaced until its similarity lies between ``low`` and ``high``; None where that fails, as
    for a text of very few, long pieces.
    """
    text = "".join(pieces)
    for _ in range(8):
        goal = rng.uniform(low, high)
        changed = list(pieces)
        for place in rng.sample(range(len(pieces)), len(pieces)):
            changed[place] = "".join(rng.choice("abcdefghij") for _ in range(5)) + " "
            alike = similar(text, "".join(changed))
            if alike <= goal:
                break
        if low <= alike <= high:
            return changed
    return None


def similar(first: str, second: str) -> float:
    one, two = shingles((first, second)).sets()
    return jaccard(one, two)


def row_of(index: int, pieces: list[str]) -> Row:
    cut = max(1, len(pieces) // 5)
    question, answer = "".join(pieces[:cut]).strip(), "".join(pieces[cut:]).strip()
    return Row(index, f"made:{index + 1}", (Message(USER, question), Message(ASSISTANT, answer)))


# -------------------------------------------------------------------------------------------------- part by part
def near_of(texts: list[str]) -> tuple[Groups, float, int]:
    """Groups, seconds, and how many texts were asked for again."""
    asked = 0

    def text_of(indices: Sequence[int]) -> list[str]:
        nonlocal asked
        asked += len(indices)
        return [texts[i] for i in indices]

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        groups = near_duplicates(enumerate(texts), text_of, scratch=Path(folder))
        return groups, time.perf_counter() - start, asked


def accuracy(planted: Planted) -> dict[str, Any]:
    """Recall and precision of near duplicates: a group that a planted decoy joins counts as wrong."""
    groups, _, asked = near_of([compared_text(row) for row in planted.rows])
    found = [groups.first_of(a) == groups.first_of(b) for a, b in planted.near]
    copies = [groups.first_of(a) == groups.first_of(b) for a, b in planted.exact]
    wrong = sum(groups.first_of(a) == groups.first_of(b) for a, b in planted.decoys)
    return {
        "pairs_at_0.85_and_above": len(found),
        "recall": sum(found) / len(found),
        "exact_pairs": len(copies),
        "exact_recall": sum(copies) / len(copies),
        "decoys_at_0.6_to_0.75": len(planted.decoys),
        "decoys_joined": wrong,
        "precision": 1 - wrong / max(1, len(groups.copies)),
        "texts_compared_exactly": asked,
    }


def hashes_of(rows: Iterable[Row]) -> NDArray[np.uint64]:
    """64 bits of BLAKE2b of question and answer."""
    digests = b"".join(hashlib.blake2b(compared_text(row).encode(), digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, np.uint64)


def one_core(rows: list[Row]) -> dict[str, tuple[float, float]]:
    """Seconds by the clock and of the processor of each part, one after another."""
    checker = RowChecker(QualitySettings())
    answers = [(row.question, row.answer) for row in rows]

    def exact() -> None:
        exact_duplicates(np.arange(len(rows)), hashes_of(rows))

    def report() -> None:
        Report(whole).to_plain()

    seconds = {
        "row checks": timed(lambda: [checker.check(row) for row in rows]),
        "language": timed(lambda: [language_of_row(row) for row in rows]),
        "task": timed(lambda: [task_of(question, answer) for question, answer in answers]),
        "style": timed(lambda: [style_of(answer) for _, answer in answers]),
        "exact duplicates": timed(exact),
        "near duplicates": timed(lambda: near_of([compared_text(row) for row in rows])),
    }
    whole = tally_of(0, rows)
    return seconds | {"report": timed(report)}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    start, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - used


# ------------------------------------------------------------------------------------------------- in two processes
def tally_of(start: int, rows: Sequence[Row]) -> Tally:
    tally = Tally(QualitySettings())
    for index, row in enumerate(rows, start):
        tally.add(index, row)
    return tally


def check_the_rest(rows: list[Row], results: Connection) -> None:
    used = time.process_time()
    tally = tally_of(first_rows(rows), rows[first_rows(rows) :])
    results.send((tally, time.process_time() - used))


def first_rows(rows: list[Row]) -> int:
    """How many rows the process checks that seeks the duplicates as well: about as long as the others take."""
    return len(rows) * 3 // 10


def in_two_processes(rows: list[Row]) -> tuple[Report, dict[str, float]]:
    """The whole report: a second process checks most of the rows, this one the duplicates and the others. The
    start of the process and the way of its results are in the time. The processor's seconds of each are told as well:
    on a machine that is busy with other things they tell more than the clock.
    """
    start, used = time.perf_counter(), time.process_time()
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.Process(target=check_the_rest, args=(rows, theirs))
    worker.start()
    exact = exact_duplicates(np.arange(len(rows)), hashes_of(rows))
    near, _, _ = near_of([compared_text(row) for row in rows])
    tally = tally_of(0, rows[: first_rows(rows)])
    theirs_tally, theirs_used = ours.recv()
    tally.merge(theirs_tally)
    worker.join()
    report = Report(tally, exact=exact, near=near)
    report.to_plain()
    seconds = {
        "clock": time.perf_counter() - start,
        "processor_of_the_first": time.process_time() - used,
        "processor_of_the_second": theirs_used,
    }
    return report, seconds


# ---------------------------------------------------------------------------------------------- millions of rows
WORDS = [f"w{i}" for i in range(20_000)]
STREAM = np.random.default_rng(0).integers(0, len(WORDS), 1_000_003).tolist()
LENGTH = 25


def short_text(index: int) -> str:
    """25 words, made when they are asked for: every 25th row nearly repeats the seventh before it."""
    copy = index % 25 == 0 and index > 7
    base = index - 7 if copy else index
    start = (base * 7919 + base // 1000 * 13) % (len(STREAM) - LENGTH)
    words = [WORDS[i] for i in STREAM[start : start + LENGTH]]
    # What two rows share of the stream by chance would make them near duplicates, so each row has words of its own.
    words[::4] = [f"{word}r{base}" for word in words[::4]]
    if copy:
        words[-2] = "changed"
    return " ".join(words)


def millions(count: int) -> dict[str, Any]:
    """Near duplicates of ``count`` short rows, and the most memory that this process has held."""
    before = peak_mib()
    marks: dict[str, float] = {}
    start = time.perf_counter()

    def progress(stage: str, done: int, total: int | None, /) -> None:
        marks[stage] = time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        groups = near_duplicates(
            ((i, short_text(i)) for i in range(count)),
            lambda indices: [short_text(i) for i in indices],
            scratch=Path(folder),
            progress=progress,
        )
    seconds = time.perf_counter() - start
    pairs = [(i - 7, i) for i in range(25, count, 25)]
    found = sum(groups.first_of(a) == groups.first_of(b) for a, b in pairs)
    return {
        "rows": count,
        "seconds": seconds,
        "seconds_of_signatures_and_texts": marks["read"],
        "planted": len(pairs),
        "recall": found / len(pairs),
        "groups": groups.count,
        "mib_before": before,
        "peak_mib": peak_mib(),
    }


def in_a_process_of_its_own(count: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only-millions", str(count)]
    many = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(many.stdout)
    return result


def peak_mib() -> float:
    """The most resident memory of this process so far; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    # Not getrusage: what it tells counts the parent's memory at the fork.
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), math.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--rows", type=int, default=52_000)
    parser.add_argument("--millions", type=float, nargs="*", default=[2.0])
    parser.add_argument("--only-millions", type=int, default=0, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only_millions:
        print(json.dumps(millions(chosen.only_millions)))
        return
    planted = made_rows(chosen.data, chosen.rows)
    rows = planted.rows
    size = sum(len(compared_text(row).encode()) for row in rows) / len(rows)
    parts = one_core(rows)
    table([{"part": name, "seconds": clock, "processor_s": used} for name, (clock, used) in parts.items()])
    found = accuracy(planted)
    report, seconds = in_two_processes(rows)
    table([seconds])
    table([{"rows": len(rows), "mean_bytes": size, "two_processes_s": seconds["clock"], **found}])
    large = [in_a_process_of_its_own(int(millions * 1e6)) for millions in chosen.millions]
    table(large)
    results = {
        "hardware": hardware(),
        "rows": len(rows),
        "mean_bytes": size,
        "load_of_the_machine": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "one_core_seconds": {name: {"clock": clock, "processor": used} for name, (clock, used) in parts.items()},
        "two_processes_seconds": seconds,
        "near_duplicates": found,
        "report": report.to_plain(),
        "millions": large,
    }
    write("quality", results)


if __name__ == "__main__":
    main()
