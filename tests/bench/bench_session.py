"""Pages and single rows of the data session while it does something slow beside: milliseconds from question to answer.

``python tests/bench/bench_session.py [MEGABYTES]``. A JSON Lines file of so many megabytes (100) is made in a temporary
folder, opened and scanned. Then pages of 60 rows at random places, and single rows, are asked for: with nothing else
under way, while every row's tokens are counted, while words are searched, while the texts are checked. At last the
longest length is changed: how long that takes, and how many rows are tokenised for it (none).
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.data.encode import RowEncoder
from engine.protocol.errors import Stopped
from engine.protocol.events import Request
from engine.recipe.recipe import DataSettings
from engine.worker.data_service import DataService

PAGES, ROWS, PAUSE_S = 40, 60, 0.05
BEGIN_S = 0.5
SEED = 3


class Asker:
    """Asks a service, as the loop of a session does."""

    def __init__(self) -> None:
        self.service = DataService()
        self._number = 0

    def __call__(self, name: str, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        return self.service.handle(Request(name=name, request=self._number, arguments=arguments), lambda event: None)

    def beside(self, name: str, **arguments: Any) -> threading.Thread:
        """Ask in a thread of its own, as is done with what is slow."""

        def run() -> None:
            try:
                self(name, **arguments)
            except Stopped:
                print(f"{name} was still under way")

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(BEGIN_S)
        return thread


def made(path: Path, size: int) -> None:
    """Write questions and answers, no two the same."""
    chance = random.Random(SEED)
    words = ["".join(chance.choices("abcdefghijklmnoprstuvw", k=chance.randint(2, 9))) for _ in range(5000)]
    written = number = 0
    with path.open("w", encoding="ascii") as file:
        while written < size:
            asked, answered = (" ".join(chance.choices(words, k=chance.randint(8, 60))) for _ in range(2))
            written += file.write(f'{{"instruction": "{number}: {asked}", "output": "{answered}"}}\n')
            number += 1


def timed(ask: Asker, doing: str, total: int) -> dict[str, Any]:
    """Milliseconds that pages and rows take."""
    # Other places each time: rows that were shown before are known.
    chance = random.Random(f"{SEED} {doing}")
    taken: dict[str, list[float]] = {"rows": [], "row": []}
    for place in range(PAGES):
        time.sleep(PAUSE_S)
        kind = "row" if place % 4 == 3 else "rows"
        at = chance.randrange(total - ROWS)
        begin = time.perf_counter()
        if kind == "rows":
            ask("rows", start=at, count=ROWS)
        else:
            ask("row", index=at)
        taken[kind].append(1000 * (time.perf_counter() - begin))
    found: dict[str, Any] = {"meanwhile": doing}
    for kind, name in (("rows", "page"), ("row", "row")):
        found |= {f"{name} median": round(statistics.median(taken[kind])), f"{name} longest": round(max(taken[kind]))}
    return found


def limit(ask: Asker, data: DataSettings) -> dict[str, Any]:
    """What another longest length costs, in a data set whose tokens are counted."""
    encoded = 0
    encode = RowEncoder.encode

    def counted(self: RowEncoder, rows: Any, *more: Any) -> Any:
        nonlocal encoded
        listed = list(rows)
        encoded += len(listed)
        return encode(self, listed, *more)

    RowEncoder.encode = counted  # type: ignore[method-assign]
    begin = time.perf_counter()
    ask("limit", data=data.model_copy(update={"max_length": 2 * data.max_length}).model_dump(mode="json"))
    return {"milliseconds": round(1000 * (time.perf_counter() - begin)), "rows tokenised": encoded}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("megabytes", type=int, nargs="?", default=100)
    size = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory(prefix="lorimer-bench-") as folder:
        path = Path(folder) / "rows.jsonl"
        made(path, size * 1_000_000)
        data = DataSettings(files=(str(path),))
        ask = Asker()
        facts = ask("open_data", data=data.model_dump(mode="json"), model="starter")
        facts = facts if facts["scanned"] else ask("scan")
        total = facts["total"]
        rows = [timed(ask, "nothing", total)]
        slow = [("counting tokens", "measure", {}), ("searching", "find", {"words": "no such words"})]
        for doing, name, arguments in [*slow, ("checking texts", "inspect", {})]:
            thread = ask.beside(name, **arguments)
            rows.append(timed(ask, doing, total))
            ask.service.cancel(0)
            thread.join()
        cost = limit(ask, data)
    print(f"{size} MB, {total} rows")
    table(rows)
    print("another longest length:", cost)
    write("session", {"hardware": hardware(), "megabytes": size, "rows": total, "milliseconds": rows, "limit": cost})


if __name__ == "__main__":
    main()
