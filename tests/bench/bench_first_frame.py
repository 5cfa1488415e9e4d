"""How long the window takes to its first frame, against a bare PySide6 main window.

``python tests/bench/bench_first_frame.py [--runs 10]``: fresh processes, taken in turns, from process start to the
frame that shows the sidebar and the current page with its text (for the bare window: to its first paint). The figure is
the ratio of the medians, at most 2.5.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import ROOT, hardware, table, write

LIMIT = 2.5
BARE = """
import sys
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QLabel, QMainWindow

class Window(QMainWindow):
    def paintEvent(self, event):
        super().paintEvent(event)
        QTimer.singleShot(0, QApplication.quit)

app = QApplication(sys.argv)
window = Window()
window.setCentralWidget(QLabel("Bare"))
window.resize(1280, 800)
window.show()
app.exec()
"""


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and processor seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "LORIMER_HOME": home}
        commands = {
            "bare": [sys.executable, "-c", BARE],
            "lorimer": [sys.executable, "-m", "gui", "--exit-after-first-frame", "--project", str(Path(home) / "p")],
        }
        for command in commands.values():
            timed(command, environment)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                taken[name].append(timed(command, environment))
    rows = [
        {
            "window": name,
            "median_seconds": statistics.median(wall for wall, _ in times),
            "fastest": min(wall for wall, _ in times),
            "slowest": max(wall for wall, _ in times),
            "median_cpu_seconds": statistics.median(cpu for _, cpu in times),
        }
        for name, times in taken.items()
    ]
    ratio = float(rows[1]["median_seconds"]) / float(rows[0]["median_seconds"])
    cpu = float(rows[1]["median_cpu_seconds"]) / float(rows[0]["median_cpu_seconds"])
    table(rows)
    print(f"ratio of the medians {ratio:.2f} (processor time {cpu:.2f}), limit {LIMIT}")
    write(
        "first_frame",
        {
            "hardware": hardware(),
            "load": os.getloadavg()[0],
            "runs": runs,
            "windows": rows,
            "ratio": ratio,
            "cpu_ratio": cpu,
            "limit": LIMIT,
        },
    )
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
