"""Kills and starves real training processes at chosen points, and looks at what is left.

This process loads the libraries once and forks for each worker, so that a life costs a second and not ten: what the
child does is `engine.worker` from its first line on. Points are the file operations below the run's folder, as Python's
audit hooks tell them (PEP 578), `os.fsync`, and instants of the clock for what libraries write by themselves.

Run by `test_kills.py` and `tests/bench/bench_kills.py`; never imported where threads of torch already run.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from engine.catalogue import CATALOGUE  # noqa: E402
from engine.host import launch, platform  # noqa: E402
from engine.host.follow import Follower, replay  # noqa: E402
from engine.project.run_folder import RunFolder  # noqa: E402
from engine.protocol.events import Event, Finished, StepDone  # noqa: E402
from engine.recipe.file import from_plain, load, save  # noqa: E402

CHANGES = frozenset(
    {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "shutil.copyfile", "fsync"}
)
TAKES = frozenset({"open", "os.rename", "os.mkdir", "shutil.copyfile", "fsync"})
"""Those that a full disk refuses."""
STEPS, EVALUATED, SAVED = 12, 4, 3
PATIENCE = 120.0


# ------------------------------------------------------------------------------------------------------- in the child
@dataclass(frozen=True)
class Fault:
    """What happens to a process.

    Attributes:
        at: the number of the file operation at which it happens, from 1; 0: never.
        error: the errno with which the operation fails; 0: the process is killed.
        until: with ``error``, the file whose appearance ends the trouble.
    """

    at: int = 0
    error: int = 0
    until: str = ""


class Injected:
    """Counts the file operations of this process below a folder, and has one of them be its last, or fail.

    ``tally``: where the number of operations is written now and then.
    """

    def __init__(self, fault: Fault, folder: Path, tally: Path) -> None:
        self._fault, self._inside = fault, os.fspath(folder) + os.sep
        self._tally = os.open(tally, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._count = 0
        self._given_back = 64 * 1024
        """Bytes that the worker's reserve makes room for."""
        self._fsync, self._write = os.fsync, os.write
        os.fsync, os.write = self.fsync, self.write  # type: ignore[assignment]
        sys.addaudithook(self.hook)

    @property
    def _is_full(self) -> bool:
        fault = self._fault
        return bool(fault.error) and self._count >= fault.at and not os.access(fault.until, os.F_OK)

    def _happened(self, name: str, place: object) -> None:
        if not isinstance(place, (str, os.PathLike)) or not str(place).startswith(self._inside):
            return
        self._count += 1
        os.pwrite(self._tally, f"{self._count:8d} {name}".ljust(64).encode(), 0)
        if self._is_full and name in TAKES:
            raise OSError(self._fault.error, os.strerror(self._fault.error), str(place))
        if not self._fault.error and self._count == self._fault.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name not in CHANGES:
            return
        if name == "open":
            flags = arguments[2]
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        self._happened(name, arguments[0])

    def fsync(self, descriptor: int) -> None:
        self._happened("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
        self._fsync(descriptor)

    def write(self, descriptor: int, content: Any) -> int:
        if self._is_full and os.readlink(f"/proc/self/fd/{descriptor}").startswith(self._inside):
            if os.access(self._inside + ".reserve", os.F_OK) or self._given_back < len(content):
                raise OSError(self._fault.error, os.strerror(self._fault.error))
            self._given_back -= len(content)
        return self._write(descriptor, content)


# --------------------------------------------------------------------------------------------------------- in the host
class Forked:
    """A forked worker, as far as the host asks a `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (timeout or 3600.0)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode


@dataclass
class Host:
    """Starts workers by forking; the next one meets ``fault``."""

    folder: Path
    fault: Fault = Fault()
    tally: Path = field(init=False)

    def __post_init__(self) -> None:
        self.tally = self.folder / "tally"
        launch._start = self._fork  # type: ignore[assignment]

    def _fork(self, arguments: list[str], stdin: Any, stdout: Any, stderr: Any, *, detached: bool) -> Forked:
        pid = os.fork()
        if pid:
            return Forked(pid)
        try:
            os.setsid()
            for target, source in ((1, stdout), (2, stderr)):
                os.dup2(source.fileno(), target)
            os.chdir(ROOT)
            Injected(self.fault, Path(arguments[0]), self.tally)
            from engine.worker.__main__ import main

            os._exit(main(arguments))
        except BaseException:  # noqa: BLE001  a child that failed must not go on as its parent
            import traceback

            traceback.print_exc()
            os._exit(99)

    def operations(self) -> int:
        """How many operations the last worker came to."""
        return int(self.tally.read_bytes()[:8])


def load_libraries() -> None:
    """All that a worker imports, before anything is computed: a fork of threads that compute would hang."""
    import bitsandbytes
    import peft
    import transformers
    import trl  # noqa: F401

    import engine.objectives.sft_work
    import engine.train.disk
    import engine.train.run
    import engine.worker.__main__
    import engine.worker.job

    assert bitsandbytes
    assert peft
    assert transformers
    # Room is looked for as soon as it is made.
    engine.train.disk.LOOK_SECONDS, engine.train.disk.FIRST_SECONDS = 0.02, 0.1


def make_run(folder: Path, model: Path, rows: Path, **settings: Any) -> RunFolder:
    """A run of 12 steps that is measured every four and saved every three."""
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    train = {
        "epochs": 2.0,
        "batch_size": 3,
        "accumulation": 2,
        "learning_rate": 1e-2,
        "patience": 3,
        "evaluate_every": EVALUATED,
        "save_every": SAVED,
        **settings,
    }
    plain = {
        "model": {"source": str(model)},
        "data": {"files": [str(rows)], "held_out": 0.1},
        "method": {"name": "lora", "rank": 4, "alpha": 4.0, "dropout": 0.1},
        "train": train,
    }
    save(from_plain(plain, CATALOGUE), run.recipe)
    run.write_facts({"id": run.id, "title": "killed", "created": time.time()})
    return run


def live(run: RunFolder, kind: str, *, kill_after: float | None = None) -> list[Event]:
    """One process from its start to its end; ``kill_after``: seconds after its first step until it is killed."""
    launch.start_job(run, kind, {"run": str(run.path)})
    offset = run.events.stat().st_size
    follower, events, stepped = Follower(run), list[Event](), 0.0
    end = time.monotonic() + PATIENCE
    while launch.is_alive(run):
        events += follower.poll()
        stepped = stepped or (time.monotonic() if any(isinstance(event, StepDone) for event in events) else 0.0)
        pid = launch.running_pid(run)
        if kill_after is not None and pid and stepped and time.monotonic() - stepped > kill_after:
            platform.end_group(pid, force=True)
        if time.monotonic() > end:
            raise TimeoutError(f"{run.path}: {run.log.read_text()[-2000:]}")
        time.sleep(0.002)
    assert offset >= 0
    while more := follower.poll():
        events += more
    return events


def weights(run: RunFolder) -> dict[str, bytes]:
    """The final adapter, tensor by tensor."""
    from safetensors.numpy import load_file

    return {name: value.tobytes() for name, value in load_file(run.adapter / "adapter_model.safetensors").items()}


def readable(run: RunFolder) -> list[str]:
    """Files of the run that are damaged."""
    bad = []
    for path in run.path.rglob("*"):
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text("utf-8"))
            elif path.suffix == ".toml":
                load(path, CATALOGUE)
            elif path.suffix == ".jsonl" and path != run.events:
                [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        except Exception as error:  # noqa: BLE001  whatever is wrong with it is what is looked for
            bad.append(f"{path.relative_to(run.path)}: {type(error).__name__}")
    return bad


@dataclass
class Life:
    """What became of one run.

    Attributes:
        kills: (operation, its name) or (seconds, "clock") at which it was killed.
        repeated: the most steps that one resume did again.
        same: the final weights are those of the undisturbed run, bit for bit.
        curve: the curve that a window shows is the undisturbed run's.
        damaged: files that cannot be read.
    """

    kills: list[tuple[float, str]]
    repeated: int
    same: bool
    curve: bool
    damaged: list[str]
    lost: bool = False


class Harness:
    """One undisturbed run, and disturbed ones beside it."""

    def __init__(self, folder: Path) -> None:
        from tests.tiny_model import write_rows

        self.folder = folder
        self.model = folder / "model"
        # Made elsewhere: what computes here cannot be forked afterwards.
        made = "import pathlib, sys; from tests.tiny_model import make_model; make_model(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", made, str(self.model)], check=True, cwd=ROOT)
        self.rows = write_rows(folder / "rows.jsonl")
        self.host = Host(folder)
        load_libraries()
        self.number = 0
        self.whole = self.run()
        live(self.whole, "train")
        self.operations = self.host.operations()
        self.weights = weights(self.whole)
        self.curve = curve(self.whole)

    def run(self, **settings: Any) -> RunFolder:
        self.number += 1
        return make_run(self.folder / f"run-{self.number:04d}", self.model, self.rows, **settings)

    def life(self, chance: random.Random, kills: int) -> Life:
        """A run that is killed so many times, and then left to end."""
        run, kind, done, repeated = self.run(), "train", list[tuple[float, str]](), 0
        while len(done) < kills:
            before = replay(run).step if run.events.exists() else 0
            point = self.kill(run, kind, chance)
            if point is None:
                break
            done.append(point)
            kind = "resume"
            repeated = max(repeated, before - resumed_at(run) if before else 0)
        self.host.fault = Fault()
        if replay(run).status != "done":
            before = replay(run).step
            live(run, "resume" if done else "train")
            repeated = max(repeated, before - resumed_at(run))
        ended = replay(run).status == "done"
        return Life(
            done,
            repeated,
            ended and weights(run) == self.weights,
            ended and curve(run) == self.curve,
            readable(run),
            not ended,
        )

    def kill(self, run: RunFolder, kind: str, chance: random.Random) -> tuple[float, str] | None:
        """Kill one process; None where it ended before."""
        if chance.random() < 0.25:
            seconds = chance.random() * 0.6
            self.host.fault = Fault()
            events = live(run, kind, kill_after=seconds)
            point = (round(seconds, 3), "clock")
        else:
            at = chance.randrange(1, self.operations + 1)
            self.host.fault = Fault(at)
            events = live(run, kind)
            point = (at, self.host.tally.read_bytes()[9:].split(b"\0")[0].decode().strip())
        told = [event for event in events if isinstance(event, Finished)]
        return None if told and told[-1].status == "done" else point


def resumed_at(run: RunFolder) -> int:
    """The step from which the last process went on."""
    from engine.protocol.events import JobStarted

    started = [event for event in Follower(run).poll() if isinstance(event, JobStarted)]
    return started[-1].resumed_from if started else 0


def curve(run: RunFolder) -> list[Any]:
    """What a window shows of the training, without times."""
    state = replay(run)
    steps = [(item.step, item.loss, item.grad_norm, item.learning_rate, item.tokens) for item in state.steps]
    return [steps, [(item.step, item.loss, item.best) for item in state.held_out]]


def summary(lives: list[Life]) -> dict[str, Any]:
    """The figures."""
    points = Counter(name for life in lives for _, name in life.kills)
    return {
        "lives": len(lives),
        "kills": sum(len(life.kills) for life in lives),
        "lost": sum(life.lost for life in lives),
        "damaged_files": sum(len(life.damaged) for life in lives),
        "bit_identical": sum(life.same for life in lives),
        "curve_complete": sum(life.curve for life in lives),
        "most_steps_repeated": max((life.repeated for life in lives), default=0),
        "points": dict(sorted(points.items())),
    }


@contextmanager
def harness() -> Iterator[Harness]:
    """A harness in a folder of its own, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="lorimer-kills-") as made:
        os.environ["LORIMER_HOME"] = str(Path(made) / "home")
        yield Harness(Path(made))


def starve(one: Harness, at: int, error: int = errno.ENOSPC) -> dict[str, Any]:
    """A run whose disk takes nothing from operation ``at`` on, until there is room; what became of it."""
    run, room = one.run(), one.folder / f"room-{one.number}"
    one.host.fault = Fault(at, error, str(room))
    launch.start_job(run, "train", {"run": str(run.path)})
    follower, events = Follower(run), list[Event]()
    began, waited = time.monotonic(), False
    while launch.is_alive(run) and time.monotonic() - began < PATIENCE:
        events += follower.poll()
        # Room is made when the run says that it waits, or when nothing was heard of it for a while.
        quiet = time.monotonic() - max([began, *(event.time - time.time() + time.monotonic() for event in events)])
        if not room.exists() and (any(event.type == "waiting" for event in events) or quiet > 3.0):
            waited = any(event.type == "waiting" for event in events)
            room.touch()
        time.sleep(0.01)
    while more := follower.poll():
        events += more
    state = replay(run)
    one.host.fault = Fault()
    if state.status != "done":  # it began on a full disk, and said so: nothing was there to lose
        live(run, "resume")
    again = replay(run)
    return {
        "at": at,
        "status": state.status,
        "told": state.failure.code if state.failure else "",
        "waited": waited,
        "ends_well": again.status == "done",
        "same": again.status == "done" and weights(run) == one.weights,
        "curve": curve(run) == one.curve,
        "damaged": readable(run),
    }


def main(kills: int, each: int, seed: int, starved: int, tell: Callable[[str], object] = print) -> dict[str, Any]:
    """So many kills, ``each`` to a life, and so many full disks, spread over a life (0: at every operation)."""
    chance = random.Random(seed)
    with harness() as one:
        tell(f"{one.operations} file operations in an undisturbed life")
        lives: list[Life] = []
        while sum(len(life.kills) for life in lives) < kills:
            lives.append(one.life(chance, each))
            last = lives[-1]
            tell(f"{last.kills} same={last.same} curve={last.curve} repeated={last.repeated} {last.damaged}")
        full = []
        for number in range(starved or one.operations):
            full.append(starve(one, 1 + number * one.operations // (starved or one.operations)))
            tell(str(full[-1]))
        return {"operations": one.operations, "kills": summary(lives), "full": full}


if __name__ == "__main__":
    kills, each, seed, starved = map(int, sys.argv[1:5])
    sys.stdout.write(json.dumps(main(kills, each, seed, starved, tell=lambda text: None)) + "\n")
