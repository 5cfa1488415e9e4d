"""Windows killed while a real run trains, and windows and workers killed together: nothing is lost, nothing damaged.

``python tests/bench/bench_windows.py [--windows 50] [--both 20]``. A window is ended by SIGKILL at a file operation of
its own (each file that it replaces, links, removes or renews), before or after it, or at an instant of its life: start,
opening, following, changing the draft. After each: every file can be read, the next window shows what a replay shows,
and it controls the project. The worker goes on; killed itself, it is resumed. In the end the weights are those, bit for
bit, of the run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import ROOT, hardware, table, write

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(ROOT))

PATIENCE = 120.0
STEPS, SAVED = 400, 20
OPERATIONS = 40
"""File operations of a window's life from its start to its tenth change of the draft, about."""
LIFE_SECONDS = 4.0
MAKE = "import sys; from pathlib import Path; from tests.tiny_model import make_model; make_model(Path(sys.argv[1]))"


# --------------------------------------------------------------------------------------------------------- the window
def be_window(project: Path, at: int, tally: Path) -> int:
    """Be a window that a person works in: opens the project, looks at pages, changes the draft. Its file operation
    number ``at`` is its last (negative: when it is done; 0: none is)."""
    count = 0

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == at:
                _leave(tally, count)
            found = work(*args, **named)
            if count == -at:
                _leave(tally, count)
            return found

        return call

    for name in ("replace", "link", "utime", "fsync", "unlink", "rename"):
        setattr(os, name, counted(getattr(os, name)))

    from PySide6.QtCore import QTimer

    from gui import app
    from gui.context import AppContext
    from gui.operations.start import begin
    from gui.pages.registry import PAGES

    def work(context: AppContext) -> None:
        begin(context)
        turn = QTimer(context)
        beats = 0

        def beat() -> None:
            nonlocal beats
            beats += 1
            if context.project.project is None:
                return
            context.draft.set({"train.epochs": 1.0 + beats})
            context.wizard.go(PAGES[beats % len(PAGES)].name)
            context.settings.set_theme(("light", "dark")[beats % 2])
            _tell(tally, count)

        turn.timeout.connect(beat)
        turn.start(500)

    app.begin = work  # type: ignore[assignment]
    return app.run(["--project", str(project), "--lang", "en"])


def _tell(tally: Path, count: int) -> None:
    tally.write_text(str(count), encoding="ascii")


def _leave(tally: Path, count: int) -> None:
    _tell(tally, count)
    os.kill(os.getpid(), signal.SIGKILL)


# ------------------------------------------------------------------------------------------------------------ the run
class Bench:
    """A project with a run that a real worker trains."""

    def __init__(self, home: Path) -> None:
        self.home, self.project_path = home, home / "项目 with 'names'"
        self.model = home / "model"
        subprocess.run([sys.executable, "-c", MAKE, str(self.model)], check=True, cwd=ROOT, capture_output=True)
        from tests.tiny_model import write_rows

        self.rows = write_rows(home / "rows.jsonl")
        self.tally = home / "tally"
        self.points: Counter[str] = Counter()
        self.operations = 0

    def new_run(self) -> Any:
        """A run of the project, started."""
        from engine.catalogue import CATALOGUE
        from engine.host.launch import start_job
        from engine.project.project import Project
        from engine.recipe.file import from_plain

        plain = {
            "model": {"source": str(self.model)},
            "data": {"files": [str(self.rows)]},
            "method": {"name": "ia3"},
            "train": {
                "max_steps": STEPS,
                "epochs": 1000.0,
                "batch_size": 4,
                "accumulation": 1,
                "save_every": SAVED,
                "evaluate_every": 100,
            },
        }
        run = Project.open_or_create(self.project_path).new_run(from_plain(plain, CATALOGUE))
        start_job(run, "train", {"run": str(run.path)})
        return run

    def window(self, at: int) -> subprocess.Popen[bytes]:
        """A window in a process of its own."""
        self.tally.unlink(missing_ok=True)
        command = [sys.executable, __file__, "--be-window", str(self.project_path), "--at", str(at)]
        with (self.home / "window.log").open("ab") as log:
            return subprocess.Popen([*command, "--tally", str(self.tally)], stdout=log, stderr=log)

    def kill_window(self, chance: random.Random) -> str:
        """Start one, and have it killed somewhere in its life; gives where."""
        if chance.random() < 0.6:
            at = chance.randint(1, OPERATIONS) * chance.choice((1, -1))
            window, end = self.window(at), time.monotonic() + 3 * LIFE_SECONDS
            while window.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            where = "before a file operation" if at > 0 else "after a file operation"
        else:
            moment = chance.uniform(0.0, LIFE_SECONDS)
            window = self.window(0)
            time.sleep(moment)
            where = f"in second {int(moment) + 1}"
        window.kill()
        code = window.wait()
        assert code == -signal.SIGKILL, (self.home / "window.log").read_text()[-3000:]
        if self.tally.exists():
            self.operations = max(self.operations, int(self.tally.read_text() or 0))
        return where


def wait(done: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    """Wait until ``done``. Raises `AssertionError`."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(0.02)


def damaged(bench: Bench) -> list[str]:
    """Files that cannot be read."""
    import json

    from engine.catalogue import CATALOGUE
    from engine.project.project import Project
    from engine.project.recent import recent
    from engine.project.settings import load_settings
    from engine.recipe.file import load

    project, wrong = Project(bench.project_path), []

    def check(name: str, read: Callable[[], Any]) -> None:
        try:
            assert read() is not None
        except Exception as error:  # noqa: BLE001  whatever it is, the file is damaged
            wrong.append(f"{name}: {error}")

    check("project.json", lambda: project._read()["version"])
    if project.draft.exists():
        check("draft.toml", lambda: load(project.draft, CATALOGUE))
    for run in (bench.project_path / "runs").iterdir():
        check("run.json", lambda run=run: json.loads((run / "run.json").read_text()))
        check("recipe.toml", lambda run=run: load(run / "recipe.toml", CATALOGUE))
        if (run / "recipe.run.toml").exists():
            check("recipe.run.toml", lambda run=run: load(run / "recipe.run.toml", CATALOGUE))
    for path in Path(os.environ["LORIMER_HOME"]).glob("*.*"):
        if path.suffix == ".json" and not path.name.startswith("."):
            check(path.name, lambda path=path: json.loads(path.read_text() or "null"))
    check("settings", load_settings)
    check("recent", recent)
    return wrong


def attach(bench: Bench, run: Any, app: Any) -> list[str]:
    """A new window's states: what they show is what a replay shows, and the project is theirs."""
    from engine.host.follow import replay
    from gui.context import AppContext
    from gui.operations.project import open_project
    from gui.state.settings import AppSettings

    context = AppContext(AppSettings(language="en", theme="light"), bench.project_path)
    wrong = []

    def turn(done: Callable[[], Any], what: str) -> None:
        end = time.monotonic() + 20.0
        while not done():
            app.processEvents()
            time.sleep(0.002)
            if time.monotonic() > end:
                wrong.append(f"waited too long for {what}")
                return

    open_project(context, bench.project_path, run)
    known = replay(run)
    turn(lambda: context.runs.run == run and context.runs.train.state.step >= known.step, "the curve")
    turn(lambda: context.control._has_answer, "the lease")
    if not context.control.controls:
        wrong.append("the killed window still controls the project")
    shown = context.runs.train.state
    later = replay(run)
    if shown.steps != tuple(item for item in later.steps if item.step <= shown.step)[: len(shown.steps)]:
        wrong.append("another curve than a replay shows")
    if shown.held_out != later.held_out[: len(shown.held_out)] or shown.kind != later.kind:
        wrong.append("another state than a replay shows")
    context.close()
    context.deleteLater()
    app.processEvents()
    return wrong


def weights(run: Any) -> str:
    """What the run has learned, as a digest of its adapter."""
    return hashlib.sha256((run.adapter / "adapter_model.safetensors").read_bytes()).hexdigest()


def finish(run: Any, right: str, wrong: list[str]) -> tuple[int, int]:
    """Wait until the run has ended; gives how many runs are lost by that, and how many weights are others."""
    from engine.host.follow import replay

    wait(lambda: replay(run).is_over, "the end of the run", 1800.0)
    state = replay(run)
    if state.status != "done":
        wrong.append(f"the run is {state.status}: {state.failure}")
        return 1, 0
    return 0, int(bool(right) and weights(run) != right)


def first_step(run: Any) -> None:
    """Wait until the run has told of a step."""
    from engine.host.follow import replay

    wait(lambda: replay(run).step > 0 or replay(run).is_over, "the first step")


def resume(run: Any) -> int:
    """Go on with a run whose worker was killed; gives how many steps are done again."""
    from engine.host.follow import replay
    from engine.host.launch import start_job

    before = replay(run).step
    start_job(run, "resume", {"run": str(run.path)})
    wait(lambda: replay(run).status == "working" or replay(run).is_over, "the resumed worker")
    return before - replay(run).step


# ------------------------------------------------------------------------------------------------------------ measure
def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=50)
    parser.add_argument("--both", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--be-window", type=Path, help="be the window")
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--tally", type=Path)
    chosen = parser.parse_args()
    if chosen.be_window is not None:
        return be_window(chosen.be_window, chosen.at, chosen.tally)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ["LORIMER_HOME"] = str(Path(home) / "lorimer")
        return measure(Path(home), chosen.windows, chosen.both, random.Random(chosen.seed))


def measure(home: Path, windows: int, both: int, chance: random.Random) -> int:
    from PySide6.QtWidgets import QApplication

    app = QApplication(sys.argv[:1])
    bench, wrong, began = Bench(home), [], time.monotonic()
    found: dict[str, Any] = {"hardware": hardware(), "steps": STEPS}
    undisturbed = bench.new_run()
    finish(undisturbed, "", wrong)
    found["undisturbed_seconds"] = round(time.monotonic() - began, 1)
    right = weights(undisturbed)
    rows = [
        of_windows(bench, windows, chance, app, right, wrong),
        of_both(bench, both, chance, app, right, wrong),
    ]
    table([{name: value for name, value in row.items() if name != "points"} for row in rows])
    write("windows", {**found, "load": os.getloadavg()[0], "rows": rows, "wrong": wrong})
    for line in wrong:
        print(line)
    return int(bool(wrong) or any(row["runs_lost"] or row["other_weights"] for row in rows))


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def of_windows(
    bench: Bench, number: int, chance: random.Random, app: Any, right: str, wrong: list[str]
) -> dict[str, Any]:
    """Kill windows while runs train; each run that ends meanwhile is followed by another one."""
    from engine.host.launch import running_pid

    points: Counter[str] = Counter()
    run, runs, lost, other, began = bench.new_run(), 1, 0, 0, time.monotonic()
    for done in range(number):
        worker = running_pid(run)
        points[where := bench.kill_window(chance)] += 1
        print(f"window {done + 1} of {number}: {where}, {len(wrong)} wrong", flush=True)
        wrong += damaged(bench) + attach(bench, run, app)
        if worker is not None and running_pid(run) not in (worker, None):
            wrong.append("another process works on the run")
        if running_pid(run) is None:
            lost, other = _sum((lost, other), finish(run, right, wrong))
            run, runs = bench.new_run(), runs + 1
    lost, other = _sum((lost, other), finish(run, right, wrong))
    return {
        "killed": "the window",
        "kills": number,
        "runs": runs,
        "runs_lost": lost,
        "other_weights": other,
        "wrong": len(wrong),
        "file_operations": bench.operations,
        "seconds": round(time.monotonic() - began, 1),
        "points": dict(points),
    }


def of_both(bench: Bench, number: int, chance: random.Random, app: Any, right: str, wrong: list[str]) -> dict[str, Any]:
    """Kill a window and the worker of its run at once, then resume, as a new window does when asked."""
    from engine.host import platform
    from engine.host.follow import replay
    from engine.host.launch import is_alive, running_pid

    points: Counter[str] = Counter()
    run, runs, lost, other, repeated, began = bench.new_run(), 1, 0, 0, 0, time.monotonic()
    for done in range(number):
        print(f"window and worker {done + 1} of {number}, {len(wrong)} wrong", flush=True)
        window, moment = bench.window(0), chance.uniform(0.0, LIFE_SECONDS)
        first_step(run)
        time.sleep(moment)
        pid = running_pid(run)
        window.kill()
        if pid is not None:
            platform.end_group(pid, force=True)
        window.wait()
        wait(lambda run=run: not is_alive(run), "the end of the worker")
        points[f"in second {int(moment) + 1}" if pid is not None else "when the worker had ended"] += 1
        wrong += damaged(bench) + attach(bench, run, app)
        state = replay(run)
        if state.status == "done":
            lost, other = _sum((lost, other), finish(run, right, wrong))
            run, runs = bench.new_run(), runs + 1
        elif state.status == "failed":
            repeated = max(repeated, resume(run))
        else:
            wrong.append(f"the state of a killed run is {state.status}")
    lost, other = _sum((lost, other), finish(run, right, wrong))
    return {
        "killed": "window and worker",
        "kills": number,
        "runs": runs,
        "runs_lost": lost,
        "other_weights": other,
        "wrong": len(wrong),
        "steps_repeated_at_most": repeated,
        "seconds": round(time.monotonic() - began, 1),
        "points": dict(points),
    }


if __name__ == "__main__":
    sys.exit(main())
