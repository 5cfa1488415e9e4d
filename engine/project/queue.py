"""Runs that wait for their turn: one at a time on this machine, in the order that a person gave them.

The queue lies in Lorimer's own folder, never in a project: a project from a stranger can start nothing. Windows and
``lorimer queue run`` look after it (`advance`); whoever does holds the claim meanwhile, so that no run starts twice.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.host.follow import replay
from engine.host.launch import is_alive, start_job
from engine.host.platform import config_folder
from engine.project.atomic import read_json, write_json
from engine.project.claim import claimed
from engine.project.kept import kept
from engine.project.rebuilt import facts_of, is_run, repair
from engine.project.recent import at_work, recent, remember_project_of
from engine.project.remarks import read_remarks
from engine.project.run_folder import RunFolder
from engine.protocol.codec import build, to_plain
from engine.protocol.errors import UserError
from engine.protocol.events import DONE, FAILED, TERMINAL
from engine.protocol.text import NOTHING, Text, say

WAITING, STARTING, RUNNING, ENDED, HELD, MISSING = "waiting", "starting", "running", "ended", "held", "missing"
OVER = (ENDED, HELD, MISSING)
"""States of an entry that will not start by itself any more."""
ANY, ONLY_IF_DONE = "any", "done"
MOST_ENDED = 20
"""Entries that are over and still told."""
VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One run in the queue.

    Attributes:
        id: of the entry, made up.
        run: absolute path of its folder.
        title: of the run when it was added.
        after: "any": it starts when the one before it has ended; "done": only if that one is done.
        behind: a run outside of the queue that it was put behind; empty for none.
        state: "waiting", "starting", "running", "ended", "held" (the one before is not done) or "missing".
        status: how it ended, as `Finished.status`.
        reason: why it is held or missing, or could not be started, in a sentence.
        told: bytes of its record before it was started here; -1 before.
    """

    id: str
    run: str
    title: str
    after: str = ANY
    behind: str = ""
    state: str = WAITING
    status: str = ""
    reason: Text = NOTHING
    added: float = 0.0
    told: int = -1

    @property
    def folder(self) -> RunFolder:
        """The run."""
        return RunFolder(Path(self.run))

    @property
    def named(self) -> str:
        """Its title behind the run's number."""
        return self.folder.named(self.title)

    @property
    def is_over(self) -> bool:
        """Whether it will not start by itself any more."""
        return self.state in OVER


@dataclass(frozen=True, slots=True)
class Advance:
    """What a look at the queue came to.

    Attributes:
        entries: the queue now.
        started: the run that was started just now.
        ended: entries that were seen to have ended just now.
    """

    entries: tuple[Entry, ...] = ()
    started: Entry | None = None
    ended: tuple[Entry, ...] = field(default_factory=tuple)


def entries() -> tuple[Entry, ...]:
    """The queue in its order. An unreadable file counts as an empty queue."""
    try:
        plain = read_json(_file())
        return tuple(build(Entry, item) for item in plain["entries"] if isinstance(item, dict))
    except (UserError, KeyError, TypeError, ValueError):
        return ()


def is_at_work() -> bool:
    """Whether a run of the queue is being started or trains now."""
    return any(item.state in (STARTING, RUNNING) and is_alive(item.folder) for item in entries())


def add(run: RunFolder, *, after: str = ANY, behind: RunFolder | None = None) -> Entry:
    """Put a run at the end.

    Raises:
        UserError: it waits there already, something works on it, or the disk does not take the queue.
    """
    if is_alive(run):
        raise UserError(
            "queue.running",
            say("{run} is being worked on.", "{run} 正在进行中。", run=run.id),
            say("Wait for it, or stop it first.", "请等待其完成，或先停止它。"),
            where=str(run.path),
        )
    with _changing() as queue:
        if any(item.run == str(run.path) and not item.is_over for item in queue):
            raise UserError(
                "queue.twice",
                say("{run} is in the queue already.", "{run} 已在队列中。", run=run.id),
                say("Move it up instead.", "可以将其上移。"),
                where=str(run.path),
            )
        title = read_remarks(run).title or str(facts_of(run)[0].get("title") or run.id)
        entry = Entry(
            uuid.uuid4().hex[:12], str(run.path), title, after, str(behind.path) if behind else "", added=time.time()
        )
        queue[:] = [item for item in queue if item.run != str(run.path)]
        queue.append(entry)
    return entry


def remove(id: str) -> None:
    """Take an entry out; the run stays, and one that works goes on. Raises `UserError`."""
    with _changing() as queue:
        queue[:] = [item for item in queue if item.id != id]


def move(id: str, by: int) -> None:
    """Move an entry up (negative) or down among those that wait. Raises `UserError`."""
    with _changing() as queue:
        waiting = [place for place, item in enumerate(queue) if item.state == WAITING]
        here = next((number for number, place in enumerate(waiting) if queue[place].id == id), None)
        if here is None:
            return
        there = min(max(0, here + by), len(waiting) - 1)
        order = [queue[place] for place in waiting]
        order.insert(there, order.pop(here))
        for place, item in zip(waiting, order, strict=True):
            queue[place] = item


def set_after(id: str, after: str) -> None:
    """Start it whenever the one before has ended, or only if that is done; one that is held waits again. Raises
    `UserError`."""
    with _changing() as queue:
        for place, item in enumerate(queue):
            if item.id == id and item.state in (WAITING, HELD):
                queue[place] = replace(item, after=after, state=WAITING, reason=NOTHING)


def clear_over() -> None:
    """Take out all that are over. Raises `UserError`."""
    with _changing() as queue:
        queue[:] = [item for item in queue if not item.is_over]


def rehome(old: Path, new: Path) -> None:
    """A project's folder is elsewhere now. Raises `UserError`."""
    if not any(_inside(item.run, old) or _inside(item.behind, old) for item in entries()):
        return
    with _changing() as queue:
        queue[:] = [
            replace(item, run=_moved(item.run, old, new), behind=_moved(item.behind, old, new)) for item in queue
        ]


def advance(start: Callable[[RunFolder], None] | None = None) -> Advance:
    """Look after the queue once: notice what has ended, and start the next run when nothing trains on this machine.

    Args:
        start: starts a run; for tests.

    Raises:
        UserError: another process looks after it just now, or the disk does not take the queue.
    """
    if not any(not item.is_over for item in entries()):
        return Advance(entries())
    with _changing() as queue:
        ended = _notice_ends(queue)
        started = None if any(item.state == RUNNING for item in queue) else _start_next(queue, start or begin)
        _forget_old(queue)
        return Advance(tuple(queue), started, ended)


def _notice_ends(queue: list[Entry]) -> tuple[Entry, ...]:
    """What was being started or worked, and is no more."""
    found = []
    for place, item in enumerate(queue):
        if item.state not in (STARTING, RUNNING):
            continue
        if not is_run(item.folder):
            queue[place] = _gone(item)
        elif is_alive(item.folder):
            queue[place] = replace(item, state=RUNNING)
        elif item.state == STARTING and _record(item.folder) <= item.told:
            queue[place] = replace(item, state=WAITING)  # who was about to start it is gone
        else:
            status = replay(item.folder).status
            if status in TERMINAL:
                queue[place] = replace(item, state=ENDED, status=status)
                found.append(queue[place])
    return tuple(found)


def _start_next(queue: list[Entry], start: Callable[[RunFolder], None]) -> Entry | None:
    for place, item in enumerate(queue):
        if item.state != WAITING:
            continue
        if not is_run(item.folder):
            queue[place] = _gone(item)
            continue
        if is_alive(item.folder):  # somebody started it by hand
            queue[place] = replace(item, state=RUNNING)
            return None
        if trains_here([one.folder for one in queue]):
            return None
        if item.after == ONLY_IF_DONE and (before := _before(queue, place)) is not None and before[1] != DONE:
            queue[place] = replace(item, state=HELD, reason=_why_held(*before))
            continue
        return _started(queue, place, start)
    return None


def _started(queue: list[Entry], place: int, start: Callable[[RunFolder], None]) -> Entry | None:
    """Start an entry. It is written down first: a window that dies in between is then seen to have been about to."""
    item = replace(queue[place], state=STARTING, told=_record(queue[place].folder))
    queue[place] = item
    _write(queue)
    try:
        start(item.folder)
    except UserError as error:
        queue[place] = replace(item, state=ENDED, status=FAILED, reason=error.problem.message)
        return None
    queue[place] = replace(item, state=RUNNING)
    return queue[place]


def begin(run: RunFolder) -> None:
    """Start a run from its beginning, or go on from its last checkpoint. Raises `UserError`."""
    repair(run)
    remember_project_of(run)
    start_job(run, "resume" if kept(run) or _record(run) else "train", {"run": str(run.path)})


def _before(queue: list[Entry], place: int) -> tuple[str, str] | None:
    """Title and status of what an entry waited for: the nearest before it that is over, else the run outside that it
    was put behind; None when it waited for nothing."""
    for item in reversed(queue[:place]):
        if item.is_over:
            return item.named, item.status
    behind = RunFolder(Path(queue[place].behind))
    if not queue[place].behind:
        return None
    return behind.id, replay(behind).status if behind.events.is_file() else ""


def _why_held(title: str, status: str) -> Text:
    how = _HOW.get(status, say("did not run", "未运行"))
    return say("Held back, because “{title}” {how}.", "未开始，因为“{title}”{how}。", title=title, how=how)


_HOW = {
    "failed": say("failed", "失败了"),
    "stopped": say("was stopped", "被停止了"),
    "paused": say("is paused", "已暂停"),
}


def _gone(item: Entry) -> Entry:
    text = say("Its folder is not there any more, so it is passed over.", "其文件夹已不存在，因此跳过。")
    return replace(item, state=MISSING, reason=text)


def trains_here(others: Sequence[RunFolder] = ()) -> RunFolder | None:
    """A run (or a later job of one) that some process works on now, among ``others`` and those of the projects that are
    recent or were when it began; None when there is none. Two would share the memory that each was planned to have
    alone."""
    patterns = ("runs/*/process.json", "runs/*/jobs/*/process.json")
    files = [file for project in [*recent(), *at_work()] for pattern in patterns for file in project.glob(pattern)]
    folders = {file.parent: None for file in files} | {run.path: None for run in others}
    return next((run for path in folders if is_alive(run := RunFolder(path))), None)


def _record(run: RunFolder) -> int:
    try:
        return run.events.stat().st_size
    except OSError:
        return 0


def _forget_old(queue: list[Entry]) -> None:
    over = [item.id for item in queue if item.is_over]
    gone = set(over[: max(0, len(over) - MOST_ENDED)])
    queue[:] = [item for item in queue if item.id not in gone]


@contextmanager
def _changing() -> Iterator[list[Entry]]:
    """The queue to change; written when the block ends well and changed something."""
    with claimed(config_folder() / "queue.lock"):
        queue = list(entries())
        yield queue
        if tuple(queue) != entries():
            _write(queue)


def _write(queue: list[Entry]) -> None:
    write_json(_file(), {"version": VERSION, "entries": [to_plain(item) for item in queue]})


def _file() -> Path:
    return config_folder() / "queue.json"


def _inside(path: str, folder: Path) -> bool:
    return bool(path) and Path(path).is_relative_to(folder)


def _moved(path: str, old: Path, new: Path) -> str:
    return str(new / Path(path).relative_to(old)) if _inside(path, old) else path


def document(queue: Sequence[Entry]) -> list[dict[str, Any]]:
    """The queue as a command tells it."""
    names = ("id", "run", "title", "after", "state", "status", "added")
    return [{**{name: getattr(item, name) for name in names}, "reason": item.reason.en or None} for item in queue]
