"""Every page opened, a run started and stopped, again and again: what is left of it in the window.

``python tests/bench/bench_leaks.py [--fake 500] [--real 10]``. Counts threads, running timers, open files, Qt objects
and child processes after some rounds and at the end; any that grew makes the exit code 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from results import ROOT, hardware, table, write

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(ROOT))

from PySide6.QtWidgets import QApplication

from engine.host import launch
from engine.host.launch import start_job
from engine.project.run_folder import RunFolder
from gui.bridge.garbage import GarbageCollector
from gui.context import AppContext
from gui.main_window import MainWindow
from gui.operations.project import open_project
from gui.state.settings import AppSettings
from tests.gui.rounds import Held, Start, begin_fake, look, play, start_fake, wait
from tests.tiny_model import write_rows

WARM_UP = 5
COUNTED = ("threads", "timers", "files", "objects", "processes")
MAKE = "import sys; from pathlib import Path; from tests.tiny_model import make_model; make_model(Path(sys.argv[1]))"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fake", type=int, default=500)
    parser.add_argument("--real", type=int, default=10)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["LORIMER_HOME"] = home
        return measure(Path(home), chosen.fake, chosen.real)


def measure(home: Path, fake: int, real: int) -> int:
    app = QApplication(sys.argv[:1])
    garbage = GarbageCollector()
    context = AppContext(AppSettings(language="en", theme="light"), home / "project")
    window = MainWindow(context)
    window.show()
    open_project(context, home / "project")
    wait(lambda: context.project.project is not None, "the project")
    rows, grown = [], False
    start_worker = launch._start
    for name, number, start in (("fake", fake, begin_fake), ("real", real, _real(home))):
        launch._start = start_fake if name == "fake" else start_worker  # type: ignore[assignment]
        if number:
            row, leaks = rounds(context, window, name, number, start)
            rows.append(row)
            grown |= leaks
    window.close()
    garbage.close()
    app.processEvents()
    write("leaks", {"hardware": hardware(), "load": os.getloadavg()[0], "warm_up_rounds": WARM_UP, "rows": rows})
    return int(grown)


def _real(home: Path) -> Start:
    """Training of a very small model, longer than anybody waits."""
    model = home / "model"
    subprocess.run([sys.executable, "-c", MAKE, str(model)], check=True, cwd=ROOT)
    data = write_rows(home / "rows.jsonl")
    plain: dict[str, dict[str, Any]] = {
        "model": {"source": str(model)},
        "data": {"files": [str(data)]},
        "method": {"name": "ia3"},
    }
    plain["train"] = {"max_steps": 20_000, "epochs": 100.0, "batch_size": 4, "accumulation": 1}

    def start(run: RunFolder) -> None:
        from engine.catalogue import CATALOGUE
        from engine.recipe.file import from_plain, save

        save(from_plain(plain, CATALOGUE), run.recipe)
        start_job(run, "train", {"run": str(run.path)})

    return start


def rounds(
    context: AppContext, window: MainWindow, name: str, number: int, start: Start
) -> tuple[dict[str, Any], bool]:
    warm = min(WARM_UP, number - 1)
    for _ in range(warm):
        play(context, window, start)
    before, began = look(context, window), time.perf_counter()
    course = [{"round": warm, **before.figures()}]
    for done in range(warm + 1, number + 1):
        play(context, window, start)
        if done % max(1, number // 10) == 0 or done == number:
            after = look(context, window)
            course.append({"round": done, **after.figures()})
            table(course[-1:])
    # A button that a page shows in one state and not in another comes and goes: growth goes on in the second half.
    early = course[: len(course) // 2 + 1]
    grown: dict[str, Any] = {item: getattr(after, item) - max(row[item] for row in early) for item in COUNTED}
    grown["kinds"] = _more(before, after)
    seconds = (time.perf_counter() - began) / (number - warm)
    row = {"worker": name, "rounds": number, "seconds_per_round": round(seconds, 3), "grown": grown, "course": course}
    return row, any(grown[item] > 0 for item in COUNTED)


def _more(before: Held, after: Held) -> dict[str, int]:
    return dict(after.kinds - before.kinds)


if __name__ == "__main__":
    sys.exit(main())
