"""Learned tokens of real conversations against a reference that finds them by another way, for each real template.

    python tests/bench/bench_learned_tokens.py [--only PART] [--most 1000] [--jobs 2]

Every conversation of the real data sets (the better and the worse answer of a preference each make one) is rendered
with each template and tokenised with the tokenizer of the template's own family where there is one, else with the
nearest. Compared are text and learned tokens, row by row; what a template drops or alters is counted by note, what it
refuses by reason. Then the rows per second that rendering takes, spans and notes included, on one core.
The result goes to tests/bench/results/learned_tokens.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.data.encode import learned_tokens  # noqa: E402
from engine.data.rows import Row  # noqa: E402
from engine.protocol.errors import UserError  # noqa: E402
from tests.bench.results import hardware, table, write  # noqa: E402
from tests.unit.data.learned_reference import (  # noqa: E402
    FAMILIES,
    Family,
    Model,
    load_model,
    real_rows,
    shown,
    tokens,
    truth,
)

DATA = ROOT.parent / "shared" / "data"
TIMED = 1000


def measure(name: str, model: Model, rows: list[Row]) -> dict[str, Any]:
    """All rows with one template."""
    counts: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for row in rows:
        try:
            rendered = model.template.render(row.messages, tools=row.tools)
        except UserError as error:
            refused[error.problem.message.en] += 1
            continue
        notes.update(rendered.notes)
        counts["noted"] += bool(rendered.notes)
        counts["silent"] += not rendered.notes and not shown(row, rendered)
        expected = truth(model.theirs, model.template, model.family, row)
        encoding = model.ours.encode_batch([rendered.text])[0]
        learned = tokens(expected, encoding)
        counts["text"] += rendered.text == expected.text
        counts["equal"] += rendered.text == expected.text and learned_tokens(rendered, encoding) == learned
        counts["tokens"] += len(learned)
        counts["nothing_learned"] += not any(learned)
    return {
        "template": name,
        "tokenizer": model.family.vocabulary + (" (nearest)" if model.family.nearest else ""),
        "rows": len(rows),
        "text equal": counts["text"],
        "learned equal": counts["equal"],
        "tokens": counts["tokens"],
        "nothing learned": counts["nothing_learned"],
        "with notes": counts["noted"],
        "dropped silently": counts["silent"],
        "refused": sum(refused.values()),
        "rows/s": round(speed(model, rows)),
        "rows/s, tools": round(speed(model, [row for row in rows if row.tools])),
        "notes": dict(notes),
        "refusals": dict(refused),
    }


def speed(model: Model, rows: list[Row]) -> float:
    """Rows rendered per second of one core: the best of three goes over the first rows, patterns known."""
    chosen = rows[:TIMED]
    best = float("inf")
    for _ in range(4):
        start = time.process_time()
        for row in chosen:
            try:
                model.template.render(row.messages, tools=row.tools)
            except UserError:
                continue
        best = min(best, time.process_time() - start)
    return len(chosen) / best if chosen else 0.0


def one(task: tuple[str, int]) -> dict[str, Any]:
    """All rows with the template of a name; ``most`` per file."""
    name, most = task
    rows = [row for found in real_rows(DATA).values() for row in (found[:most] if most else found)]
    with tempfile.TemporaryDirectory() as folder:
        return measure(name, load_model(DATA, name, Path(folder)), rows)


def distinct(names: list[str]) -> dict[str, str]:
    """For each template the first one that is the same to the letter, with the same tokenizer."""
    first: dict[tuple[str, Family], str] = {}
    return {
        name: first.setdefault(((DATA / "templates" / f"{name}.jinja").read_text("utf-8"), FAMILIES[name]), name)
        for name in names
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="templates whose name contains this")
    parser.add_argument("--most", type=int, default=0, help="rows per file at most; 0 for all")
    parser.add_argument("--jobs", type=int, default=2, help="templates at once")
    options = parser.parse_args()
    same = distinct([name for name in FAMILIES if options.only in name])
    measured: dict[str, dict[str, Any]] = {}
    tasks = [(name, options.most) for name in dict.fromkeys(same.values())]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for result in pool.imap(one, tasks):
            measured[result["template"]] = result
            print(result, flush=True)
    results = [measured[first] | {"template": name} for name, first in same.items()]
    table([{k: v for k, v in result.items() if k not in ("notes", "refusals")} for result in results])
    for name, first in same.items():
        if name != first:
            print(f"{name} is {first}, to the letter: measured once.")
    if not options.only and not options.most:
        counted = {name: len(found) for name, found in real_rows(DATA).items()}
        write("learned_tokens", {"hardware": hardware(), "conversations": counted, "templates": results})


if __name__ == "__main__":
    main()
