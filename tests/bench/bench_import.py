"""A large file imported in the real window: seconds to the first rows on screen, and the longest frame meanwhile.

``python tests/bench/bench_import.py [GIGABYTES]``. A JSON Lines file of so many gigabytes (1.0) is made in a temporary
folder. First rows: at most 0.5 s after the import, once the data session runs. Frames (see bench_bridge.py): at most
50 ms while all rows are read, and while one scrolls through them afterwards.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from results import ROOT, hardware, table, write

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(ROOT))

from bench_bridge import LIMIT_MS, Frames, turn
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from gui.context import AppContext
from gui.main_window import MainWindow
from gui.operations.data import cancel_reading, import_files
from gui.operations.start import begin
from gui.pages.data import DataPage
from gui.state.phase import Phase
from gui.state.settings import AppSettings

FIRST_ROWS_S = 0.5
SCROLLS, SCROLL_S = 200, 0.02
SEED = 5


def made(path: Path, size: int) -> int:
    """Write questions and answers, no two the same; gives the number of rows."""
    chance = random.Random(SEED)
    words = ["".join(chance.choices("abcdefghijklmnoprstuvw", k=chance.randint(2, 9))) for _ in range(5000)]
    texts = [" ".join(chance.choices(words, k=chance.randint(8, 60))) for _ in range(20_000)]
    written = rows = 0
    with path.open("w", encoding="ascii") as file:
        while written < size:
            asked, answered = chance.choice(texts), chance.choice(texts)
            written += file.write(f'{{"instruction": "{rows}: {asked}", "input": "", "output": "{answered}"}}\n')
            rows += 1
    return rows


def opened(context: AppContext, window: MainWindow, app: QApplication) -> DataPage:
    """The window with its project open and its session running."""
    window.show()
    begin(context)
    while context.project.project is None or not context.models.models:
        turn(app)
    page = window.page("data")
    assert isinstance(page, DataPage)
    return page


def has_rows(page: DataPage) -> bool:
    """Whether rows are in view."""
    return page.is_ready and page._rows.table.paged.kept > 0


def scrolled(app: QApplication, page: DataPage) -> dict[str, float]:
    """Drag the scroll bar through all rows, back and forth: frames, and rows that were kept."""
    bar, frames = page._rows.table.verticalScrollBar(), Frames()
    timer = QTimer()
    timer.timeout.connect(frames.tick)
    timer.start(1)
    frames.begin()
    chance = random.Random(SEED)
    for _ in range(SCROLLS):
        bar.setValue(chance.randint(0, bar.maximum()))
        end = time.monotonic() + SCROLL_S
        while time.monotonic() < end:
            turn(app)
    timer.stop()
    figures = frames.figures()
    return {
        "scroll_p99_ms": figures["p99_ms"],
        "scroll_longest_ms": figures["longest_ms"],
        "scroll_longest_own_ms": figures["longest_own_ms"],
        "pages_kept": page._rows.table.paged.kept,
    }


def measure(size: float, home: Path) -> int:
    app = QApplication(sys.argv[:1])
    file = home / "large.jsonl"
    rows = made(file, int(size * 1e9))
    context = AppContext(AppSettings(language="en", theme="light"), home / "project")
    window = MainWindow(context)
    page = opened(context, window, app)
    timer, frames = QTimer(), Frames()
    timer.timeout.connect(frames.tick)
    timer.start(1)
    began = time.perf_counter()
    frames.begin()
    import_files(context, [file])
    while not has_rows(page):
        turn(app)
    first = time.perf_counter() - began
    while context.data.status.phase is Phase.WORKING or not context.data.is_scanned:
        turn(app)
    seconds = time.perf_counter() - began
    timer.stop()
    assert context.data.facts["total"] == rows, context.data.facts["total"]
    row = {"gigabytes": size, "rows": rows, "first_rows_s": first, "read_s": seconds, **frames.figures()}
    row |= scrolled(app, page)
    table([row])
    limits = {"first_rows_limit_s": FIRST_ROWS_S, "limit_ms": LIMIT_MS}
    write("import", {"hardware": hardware(), "load": os.getloadavg()[0], **limits, **row})
    cancel_reading(context)
    window.close()
    app.processEvents()
    return 0 if first <= FIRST_ROWS_S and max(row["longest_ms"], row["scroll_longest_ms"]) <= LIMIT_MS else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("gigabytes", type=float, nargs="?", default=1.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["LORIMER_HOME"] = home
        return measure(chosen.gigabytes, Path(home))


if __name__ == "__main__":
    sys.exit(main())
