"""How soon the Plan page answers a slider: from the moved handle to the painted figures.

    python tests/bench/bench_plan_answers.py [--rounds N]

A model of seven billion weights on a machine without sessions; every slider goes from end to end and back. The page
is drawn offscreen, at 1280 × 800. What other values would cost follows when the handle rests: ``later``."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

LIMIT_MS = 50.0
SEVEN_B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
FACTS: dict[str, Any] = {
    "lengths": {"mean": 300.0, "p50": 260, "p90": 600, "p95": 700, "p99": 1200, "longest": 3000},
    "train": 45_000,
    "held_out": 1_000,
    "shape": "alpaca",
    "kinds": {"qa": 150, "creative": 50},
}


def planned(home: Path) -> Any:
    """The states as they stand when data, model and machine are known, each change of the draft followed at once."""
    from engine.catalogue import CATALOGUE
    from engine.machine.detect import Machine
    from engine.recipe.file import from_plain
    from gui.context import AppContext
    from gui.operations.plan import compute
    from gui.state.settings import AppSettings

    (home / "seven").mkdir()
    (home / "seven" / "config.json").write_text(json.dumps(SEVEN_B))
    context = AppContext(AppSettings(language="en", theme="light"), home / "project")
    context.draft.begin(from_plain({}, CATALOGUE), home / "draft.toml")
    context.machine.machine = Machine((), "CPU", 8, 32.0, 30.0, None, "/", 100.0, "Linux", "3.11")
    context.models.chosen = {"path": str(home / "seven"), "name": "seven", "parameters": 7_615_616_512}
    context.data.facts = FACTS
    context.data.status.ready()
    context.draft.changed.connect(lambda _names: compute(context, in_full=False))
    compute(context)
    return context


def measured(page: Any, context: Any, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of each move, by slider."""
    from PySide6.QtWidgets import QApplication

    from gui.operations.plan import compute
    from gui.operations.plan_effects import SLIDERS

    lines = []
    for name in SLIDERS:
        slider = page._form.rows[name].editor.slider
        times: list[float] = []
        computed: list[float] = []
        later: list[float] = []
        ends = [*range(slider.maximum() + 1), *range(slider.maximum() - 1, -1, -1)]
        for at in ends * rounds:
            started, worked = time.perf_counter(), time.process_time()
            slider.setValue(min(at, slider.maximum()))
            page.repaint()
            QApplication.processEvents()
            times.append((time.perf_counter() - started) * 1000)
            computed.append((time.process_time() - worked) * 1000)
            started = time.perf_counter()
            compute(context)
            page.repaint()
            QApplication.processEvents()
            later.append((time.perf_counter() - started) * 1000)
        times.sort()
        lines.append(
            {
                "slider": name,
                "moves": len(times),
                "median_ms": round(statistics.median(times), 1),
                "p95_ms": round(times[int(0.95 * len(times))], 1),
                "worst_ms": round(times[-1], 1),
                "above_50_ms": sum(each > LIMIT_MS for each in times),
                "processor_median_ms": round(statistics.median(computed), 1),
                "processor_worst_ms": round(max(computed), 1),
                "later_median_ms": round(statistics.median(later), 1),
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from PySide6.QtWidgets import QApplication

    from gui.pages.plan import PlanPage

    app = QApplication(sys.argv[:1])
    with tempfile.TemporaryDirectory() as home:
        os.environ["LORIMER_HOME"] = home
        context = planned(Path(home))
        page = PlanPage(context)
        page.resize(1068, 800)
        page.show()
        page.refresh()
        app.processEvents()
        lines = measured(page, context, options.rounds)
        context.close()
        page.close()
    table(lines)
    write("plan_answers", {"hardware": hardware(), "sliders": lines})


if __name__ == "__main__":
    main()
