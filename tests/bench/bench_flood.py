"""Records without end: 10,000 events a second into the window, a day's events, and a million of them opened again.

``python tests/bench/bench_flood.py [--minutes 10] [--rate 10000] [--events 1000000]``; 0 minutes or events leave that
part out and keep its last result. The window stands on the Train page. Live: resident memory is to be flat after a
minute (slope of a line through it), and no turn of the event loop long, on the clock and in the thread's own processor
time. Opening again is measured in fresh processes: from the file to the state, and from choosing the run to the painted
page; under 2 s. "own" is processor time, which other programs do not lengthen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from results import RESULTS, ROOT, hardware, table, write

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(ROOT))

LIMIT_SECONDS = 2.0
LIMIT_MS = 100.0
TURN_MS = 10
WARM_UP_SECONDS = 60.0
REPEATS = 5
TOLD = 250
STEP = (
    '{"type": "step", "time": %.3f, "step": %d, "steps": %d, "epoch": %.4f, "loss": %.6f, "learning_rate": 0.0001, '
    '"grad_norm": 0.5, "token_accuracy": 0.61, "tokens": %d, "tokens_per_second": 3000.0, "memory_gib": 1.0, '
    '"seconds_left": 100.0}\n'
)
GAUGE = (
    '{"type": "gauge", "time": %.3f, "memory_gib": 1.0, "memory_total_gib": 24.0, "peak_gib": 1.1, "busy": 0.9, '
    '"temperature_c": 60.0, "power_w": 200.0}\n'
)
HELD = '{"type": "held_out", "time": %.3f, "step": %d, "loss": %.6f, "token_accuracy": 0.6, "best": false}\n'
SAVED = (
    '{"type": "checkpoint", "time": %.3f, "step": %d, "path": "checkpoints/step-%06d", "best": false, '
    '"reason": "safety", "bytes": 1000000, "seconds": 0.5}\n'
)
BEGIN = (
    '{"type": "launched", "kind": "train", "time": %.3f}\n'
    '{"type": "job_started", "time": %.3f, "kind": "train", "pid": 1}\n'
    '{"type": "run_planned", "time": %.3f, "steps": %d, "epochs": 3.0, "rows": 900, "held_out": 100, '
    '"trained_parameters": 5, "all_parameters": 100, "device": "cpu", "predicted_memory_gib": 1.2}\n'
)
END = '{"type": "finished", "status": "done", "time": %.3f}\n'


# ------------------------------------------------------------------------------------------------------------ the job
def step_line(moment: float, step: int, steps: int) -> str:
    """One optimizer step."""
    return STEP % (moment, step, steps, 3 * step / steps, 0.5 + 2.0 / step**0.5, 500 * step)


def write_live(path: Path, rate: int, seconds: float) -> None:
    """Be the job: so many events a second, 95 of 100 of them steps, in ten bursts a second."""
    steps, step, burst = int(rate * seconds), 1, rate // 10
    with path.open("a", encoding="utf-8") as file:
        began = time.monotonic()
        for number in range(int(seconds * 10)):
            lines = []
            for event in range(burst):
                step += 1
                lines.append(GAUGE % time.time() if event % 20 == 19 else step_line(time.time(), step, steps))
            if number % 50 == 0:
                lines.append(HELD % (time.time(), step, 1.0 + 1.0 / step**0.5))
            if number % 300 == 0:
                lines.append(SAVED % (time.time(), step, step))
            file.write("".join(lines))
            file.flush()
            time.sleep(max(0.0, began + (number + 1) / 10 - time.monotonic()))
        file.write(END % time.time())


def write_day(path: Path) -> int:
    """24 hours of a run: a step and a gauge each second, a measurement each 10 minutes, a checkpoint each 5."""
    seconds, began = 24 * 3600, 1.7e9
    with path.open("w", encoding="utf-8") as file:
        file.write(BEGIN % (began, began, began, seconds))
        for step in range(1, seconds + 1):
            file.write(step_line(began + step, step, seconds) + GAUGE % (began + step))
            if step % 600 == 0:
                file.write(HELD % (began + step, step, 1.0 + 1.0 / step**0.5))
            if step % 300 == 0:
                file.write(SAVED % (began + step, step, step))
        file.write(END % (began + seconds))
    return 2 * seconds + seconds // 600 + seconds // 300 + 4


def write_many(path: Path, count: int) -> int:
    """A run of so many events: steps, one in twenty a gauge, a measurement and a checkpoint now and then."""
    began, step = 1.7e9, 0
    with path.open("w", encoding="utf-8") as file:
        file.write(BEGIN % (began, began, began, count))
        for number in range(count - 4):
            moment = began + number / 10
            if number % 20 == 19:
                file.write(GAUGE % moment)
            elif number % 1000 == 500:
                file.write(HELD % (moment, step, 1.0 + 1.0 / (step + 1) ** 0.5))
            elif number % 5000 == 2500:
                file.write(SAVED % (moment, step, step))
            else:
                step += 1
                file.write(step_line(moment, step, count))
        file.write(END % (began + count / 10))
    return count


# --------------------------------------------------------------------------------------------------------- the window
class Turns:
    """How long turns of the event loop took, in little memory: counted by whole milliseconds."""

    def __init__(self) -> None:
        self.clock: dict[int, int] = {}
        self.longest = self.longest_own = 0.0
        self.over = self.over_own = 0

    def begin(self) -> None:
        """Count from now."""
        self._last = (time.perf_counter(), time.thread_time())

    def tick(self) -> None:
        """A turn has ended."""
        now = (time.perf_counter(), time.thread_time())
        clock, own = ((new - old) * 1000 for new, old in zip(now, self._last, strict=True))
        clock = max(0.0, clock - TURN_MS)
        self._last = now
        self.clock[int(clock)] = self.clock.get(int(clock), 0) + 1
        self.longest, self.longest_own = max(self.longest, clock), max(self.longest_own, own)
        self.over, self.over_own = self.over + (clock > LIMIT_MS), self.over_own + (own > LIMIT_MS)

    def figures(self) -> dict[str, float]:
        """In milliseconds."""
        total, seen, p99 = sum(self.clock.values()), 0, 0
        for value, number in sorted(self.clock.items()):
            seen += number
            if seen >= 0.99 * total:
                p99 = value
                break
        return {
            "turns": total,
            "p99_ms": p99,
            "longest_ms": round(self.longest, 1),
            "longest_own_ms": round(self.longest_own, 1),
            f"over_{LIMIT_MS:.0f}_ms": self.over,
            f"over_{LIMIT_MS:.0f}_ms_own": self.over_own,
        }


def opened(home: Path) -> tuple[Any, Any, Any]:
    """A window on an empty project, on the Train page, that has painted and has all imported."""
    from PySide6.QtWidgets import QApplication

    from gui.bridge.garbage import GarbageCollector
    from gui.context import AppContext
    from gui.main_window import MainWindow
    from gui.state.settings import AppSettings

    app = QApplication.instance() or QApplication(sys.argv[:1])
    context = AppContext(AppSettings(language="en", theme="light"), home / "project")
    context.garbage = GarbageCollector(context)  # type: ignore[attr-defined]
    window = MainWindow(context)
    window.show()
    context.wizard.go("train")
    app.processEvents()
    return app, context, window


def run_folder(path: Path) -> Any:
    """A run in which nothing has happened."""
    from engine.project.run_folder import RunFolder

    run = RunFolder(path)
    run.path.mkdir(parents=True)
    run.write_facts({"id": path.name, "title": "bench", "created": 1.7e9, "model": "starter", "method": "lora"})
    return run


def live(home: Path, rate: int, minutes: float) -> dict[str, Any]:
    """Follow a job that tells so many events a second."""
    import psutil
    from PySide6.QtCore import QTimer

    from engine.host.launch import process_file
    from engine.host.platform import process_mark
    from engine.project.atomic import write_json

    app, context, window = opened(home)
    run = run_folder(home / "live")
    run.events.write_text(BEGIN % (time.time(), time.time(), time.time(), int(rate * minutes * 60)), encoding="utf-8")
    write_json(process_file(run), {"pid": os.getpid(), "mark": process_mark(os.getpid())})
    with run.events.open("a", encoding="utf-8") as file:
        # The page's list of what happened and its marks are full from the beginning: they grow to a bound of their own.
        for _ in range(TOLD):
            file.write(HELD % (time.time(), 1, 2.0) + SAVED % (time.time(), 1, 1))
        file.write(step_line(time.time(), 1, 10))
    context.runs.select(run)
    end = time.monotonic() + 4.0  # the first plot imports the plotting library
    while time.monotonic() < end:
        app.processEvents()
        time.sleep(0.001)
    turns, timer, sampler = Turns(), QTimer(), QTimer()
    timer.timeout.connect(turns.tick)
    memory: list[tuple[float, float]] = []
    own, began = psutil.Process(), time.monotonic()
    sampler.timeout.connect(lambda: memory.append((time.monotonic() - began, own.memory_info().rss / 2**20)))
    command = [sys.executable, __file__, "--write", str(run.events), "--rate", str(rate), "--minutes", str(minutes)]
    writer, used = subprocess.Popen(command), own.cpu_times()
    timer.start(TURN_MS)
    sampler.start(1000)
    turns.begin()
    context.runs.train.finished.connect(app.quit)
    app.exec()
    seconds, spent = time.monotonic() - began, own.cpu_times()
    writer.wait()
    timer.stop()
    sampler.stop()
    state = context.runs.train.state
    events = sum(1 for _ in run.events.open("rb"))
    assert state.status == "done"
    window.close()
    settled = [(moment, rss) for moment, rss in memory if moment > min(WARM_UP_SECONDS, seconds / 3)]
    slope = statistics.linear_regression(*zip(*settled, strict=True)).slope * 60
    return {
        "events": events,
        "minutes": round(seconds / 60, 2),
        "events_per_second": round(events / seconds),
        "steps_kept": len(state.steps),
        "rss_first_mib": round(memory[0][1], 1),
        "rss_settled_mib": round(settled[0][1], 1),
        "rss_last_mib": round(settled[-1][1], 1),
        "rss_most_mib": round(max(rss for _, rss in memory), 1),
        "rss_mib_per_minute": round(slope, 3),
        "window_cpu_share": round((spent.user + spent.system - used.user - used.system) / seconds, 3),
        **turns.figures(),
        "rss_each_30_s": [round(rss, 1) for _, rss in memory[::30]],
    }


def to_state(path: Path) -> dict[str, Any]:
    """From the file to the state, in this process."""
    from engine.host.follow import replay
    from engine.project.run_folder import JobFolder

    began, used = time.perf_counter(), time.process_time()
    state = replay(JobFolder(path))
    seconds, own = time.perf_counter() - began, time.process_time() - used
    return {"seconds": seconds, "own": own, "step": state.step, "status": state.status}


def to_paint(home: Path, path: Path) -> dict[str, Any]:
    """From choosing the run to the painted page, in this process whose window is open."""
    import psutil
    from PySide6.QtCore import QTimer

    from engine.project.run_folder import RunFolder

    app, context, window = opened(home)
    page = window.page("train")
    assert page is not None
    page.build_ahead()  # as the window does while it is idle
    turns, timer = Turns(), QTimer()
    timer.timeout.connect(turns.tick)
    timer.start(TURN_MS)
    turns.begin()
    began, used = time.perf_counter(), time.process_time()
    context.runs.train.finished.connect(app.quit)
    context.runs.select(RunFolder(path))
    app.exec()
    page.refresh()
    window.repaint()
    window.grab()
    seconds, own, state = time.perf_counter() - began, time.process_time() - used, context.runs.train.state
    timer.stop()
    assert page.is_ready
    window.close()
    rss = psutil.Process().memory_info().rss / 2**20
    told = {"seconds": seconds, "own": own, "step": state.step, "status": state.status, "rss_mib": rss}
    return {**told, **turns.figures()}


def fresh(kind: str, home: Path, path: Path) -> dict[str, Any]:
    """One of the two in a process of its own."""
    command = [sys.executable, __file__, "--open", kind, "--at", str(path), "--home", str(home)]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "with_start": time.perf_counter() - began}


def reopened(name: str, home: Path, events: int, path: Path) -> dict[str, Any]:
    """A finished run opened again, several times."""
    state = [fresh("state", home, path) for _ in range(REPEATS)]
    paint = [fresh("paint", home, path) for _ in range(REPEATS)]
    assert all(item["status"] == "done" for item in state + paint)
    return {
        "record": name,
        "events": events,
        "mib": round((path / "events.jsonl").stat().st_size / 2**20, 1),
        "to_state_s": round(statistics.median(item["seconds"] for item in state), 3),
        "to_state_worst_s": round(max(item["seconds"] for item in state), 3),
        "to_state_own_s": round(statistics.median(item["own"] for item in state), 3),
        "to_paint_s": round(statistics.median(item["seconds"] for item in paint), 3),
        "to_paint_worst_s": round(max(item["seconds"] for item in paint), 3),
        "to_paint_own_s": round(statistics.median(item["own"] for item in paint), 3),
        "longest_turn_ms": round(statistics.median(item["longest_ms"] for item in paint), 1),
        "longest_turn_own_ms": round(statistics.median(item["longest_own_ms"] for item in paint), 1),
        "rss_mib": round(max(item["rss_mib"] for item in paint), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--write", type=Path, help="be the job: write the events there")
    parser.add_argument("--open", choices=("state", "paint"), help="be the process that opens a record again")
    parser.add_argument("--at", type=Path)
    parser.add_argument("--home", type=Path)
    chosen = parser.parse_args()
    if chosen.write is not None:
        write_live(chosen.write, chosen.rate, chosen.minutes * 60)
        return 0
    if chosen.open:
        print(json.dumps(to_state(chosen.at) if chosen.open == "state" else to_paint(chosen.home, chosen.at)))
        return 0
    with tempfile.TemporaryDirectory() as home:
        os.environ["LORIMER_HOME"] = home
        return measure(Path(home), chosen)


def measure(home: Path, chosen: argparse.Namespace) -> int:
    kept = RESULTS / "flood.json"
    found: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    found |= {"hardware": hardware(), "limit_s": LIMIT_SECONDS}
    if chosen.minutes:
        load = os.getloadavg()[0]
        found["live"] = {"load": load, **live(home, chosen.rate, chosen.minutes)}
        table([{name: value for name, value in found["live"].items() if not isinstance(value, list)}])
    records: list[dict[str, Any]] = []
    if not chosen.events:
        write("flood", found)
        return 0
    load = os.getloadavg()[0]
    for name in ("a day", "many"):
        run = run_folder(home / name)
        events = write_day(run.events) if name == "a day" else write_many(run.events, chosen.events)
        records.append({"load": load, **reopened(name, home, events, run.path)})
        table(records[-1:])
    found["reopened"] = records
    write("flood", found)
    worst = max(max(item["to_state_s"], item["to_paint_s"]) for item in records)
    return 0 if worst < LIMIT_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
