"""20,000 events of a run through the bridge into the window, with the Train page looked at: the longest frame.

``python tests/bench/bench_bridge.py [--events 20000]``. A frame is a turn of the event loop: while events come,
a timer that wants to fire every millisecond notes how long it had to wait. At most 50 ms.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import ROOT, hardware, table, write

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(ROOT))

from PySide6.QtCore import QEventLoop, QTimer
from PySide6.QtWidgets import QApplication

from engine.host.launch import process_file
from engine.host.platform import process_mark
from engine.project.atomic import write_json
from engine.project.run_folder import RunFolder
from engine.protocol.codec import encode_event
from engine.protocol.events import Event, Finished, Gauge, HeldOut, JobStarted, StepDone
from gui.context import AppContext
from gui.main_window import MainWindow
from gui.pages.registry import PAGES
from gui.state.settings import AppSettings

LIMIT_MS = 50.0


class Frames:
    """How long each turn of the event loop took: on the clock, and of the window's thread's own processor time.

    On a machine that is busy with other things the clock also counts what they took.
    """

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.own: list[float] = []

    def begin(self) -> None:
        """Count from now."""
        self._last = (time.perf_counter(), time.thread_time())

    def tick(self) -> None:
        """A turn has ended."""
        now = (time.perf_counter(), time.thread_time())
        self.clock.append((now[0] - self._last[0]) * 1000)
        self.own.append((now[1] - self._last[1]) * 1000)
        self._last = now

    def figures(self) -> dict[str, float]:
        """The distribution in milliseconds."""
        clock, own = sorted(self.clock), sorted(self.own)
        return {
            "frames": len(clock),
            "median_ms": statistics.median(clock),
            "p99_ms": clock[int(0.99 * len(clock))],
            "longest_ms": clock[-1],
            "over_limit": sum(item > LIMIT_MS for item in clock),
            "p99_own_ms": own[int(0.99 * len(own))],
            "longest_own_ms": own[-1],
            "over_limit_own": sum(item > LIMIT_MS for item in own),
        }


def step_of(number: int, count: int) -> StepDone:
    """One optimizer step of a run with so many."""
    return StepDone(
        step=number,
        steps=count,
        epoch=number / count,
        loss=3.0 / number**0.5,
        learning_rate=1e-4,
        tokens=number,
        tokens_per_second=3000.0,
        memory_gib=1.0,
    )


def turn(app: QApplication) -> None:
    """One turn of the event loop."""
    app.processEvents(QEventLoop.ProcessEventsFlag.AllEvents | QEventLoop.ProcessEventsFlag.WaitForMoreEvents)


def turn_for(app: QApplication, seconds: float) -> None:
    """Let the event loop turn for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        app.processEvents()
        time.sleep(0.001)


def write_events(path: Path, count: int, pause: float) -> None:
    """What a fast run tells: steps, gauges and held-out losses, in bursts."""
    with path.open("a", encoding="utf-8") as file:
        for i in range(2, count - 1):
            if i % 100 == 0:
                event: Event = HeldOut(step=i, loss=2.0 / i**0.5)
            elif i % 20 == 0:
                event = Gauge(memory_gib=1.0, memory_total_gib=24.0, busy=0.9)
            else:
                event = step_of(i, count)
            file.write(encode_event(event) + "\n")
            if i % 500 == 0:
                file.flush()
                time.sleep(pause)
        file.write(encode_event(Finished(status="done")) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between bursts of 500 events")
    parser.add_argument("--page", default="train")
    parser.add_argument("--write", type=Path, help="be the job: write the events there")
    chosen = parser.parse_args()
    if chosen.write is not None:
        write_events(chosen.write, chosen.events, chosen.pause)
        return 0
    with tempfile.TemporaryDirectory() as home:
        os.environ["LORIMER_HOME"] = home
        return measure(chosen, Path(home))


def measure(chosen: argparse.Namespace, home: Path) -> int:
    app = QApplication(sys.argv[:1])
    run = RunFolder(home / "run")
    run.path.mkdir()
    run.write_facts({"id": "run", "title": "bench", "created": time.time(), "model": "starter", "method": "lora"})
    context = AppContext(AppSettings(language="en", theme="light"), home / "project")
    window = MainWindow(context)
    window.show()
    page = chosen.page if chosen.page in [entry.name for entry in PAGES] else "data"
    context.runs.select(run)
    context.wizard.go(page)
    write_json(process_file(run), {"pid": os.getpid(), "mark": process_mark(os.getpid())})
    # The first plot imports the plotting library, once per window: not a matter of the bridge.
    with run.events.open("w", encoding="utf-8") as file:
        file.writelines(encode_event(event) + "\n" for event in (JobStarted(kind="train", pid=1), step_of(1, 2)))
    turn_for(app, 4.0)
    timer, frames = QTimer(), Frames()
    timer.timeout.connect(frames.tick)
    # The job is a process of its own, as in life: its work must not count as the window's.
    job = [sys.executable, __file__, "--events", str(chosen.events), "--pause", str(chosen.pause)]
    writer = subprocess.Popen([*job, "--write", str(run.events)])
    while context.runs.train.state.step < 2:
        turn(app)
    timer.start(1)
    frames.begin()
    began = time.perf_counter()
    while context.runs.train.state.status != "done":
        turn(app)
    seconds = time.perf_counter() - began
    writer.wait()
    timer.stop()
    assert context.runs.train.state.highest > 0.9 * chosen.events
    row = {"events": chosen.events, "page": page, "seconds": seconds, **frames.figures()}
    table([row])
    write(f"bridge_{page}", {"hardware": hardware(), "load": os.getloadavg()[0], "limit_ms": LIMIT_MS, **row})
    window.close()
    app.processEvents()
    return 0 if row["longest_ms"] <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
