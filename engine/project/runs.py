"""What is known of every run of a project, for a list: how it stands, figures, sizes; and finding one by words.

Listing hundreds of runs is cheap: what was read of a record is kept with the other things that Lorimer can make again,
and read anew only where the record is another. A record that grows is followed from where it was left.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.host.follow import Follower
from engine.host.platform import cache_folder
from engine.project.atomic import open_plain, read_json, read_plain, write_json
from engine.project.rebuilt import facts_of, run_folders
from engine.project.remarks import clean_title, read_remarks
from engine.project.run_folder import RunFolder
from engine.protocol.codec import build, decode_event, to_plain
from engine.protocol.errors import UserError
from engine.protocol.events import TERMINAL, Event, Finished, JobStarted, Waiting
from engine.protocol.state import JobState, apply_all
from engine.protocol.text import NOTHING, Text

if TYPE_CHECKING:
    from engine.recipe.recipe import Recipe

CACHE_VERSION = 2
LARGEST_BYTES = 64 * 2**20
"""Of files that are read whole for the list: a larger one is none that Lorimer wrote."""
UNDER_WAY = frozenset({"starting", "working", "waiting"})
"""Statuses of a run that has not ended."""
FRESH_SECONDS = 5.0
"""Between the first line of a process and the moment at which others can see that it runs."""
LONGEST_LINE, AT_ONCE = 4 * 2**20, 1000
"""Bytes of a line that is still an event; lines that are taken in together."""
Stamp = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Figures:
    """What the record of a run comes to.

    Attributes:
        status: as `JobState.status`; empty before anything was started.
        started, ended: epoch seconds, 0 before.
        seconds: that processes worked on it; pauses and the time between two processes are left out.
        steps, total: done, and of the whole run.
        loss: of the last step; None before the first.
        best_loss, best_step: lowest held-out loss, and where; None and 0 before any.
        failure: why it failed, in a sentence.
        waits_for: why it stands still, as `Waiting.reason`; empty where it does not, or a person paused it.
    """

    status: str = ""
    started: float = 0.0
    ended: float = 0.0
    seconds: float = 0.0
    steps: int = 0
    total: int = 0
    loss: float | None = None
    best_loss: float | None = None
    best_step: int = 0
    failure: Text = NOTHING
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """The last evaluation in a word.

    Attributes:
        measure: "exact_match", "preference_accuracy" or "token_accuracy".
        base, tuned: shares, 0 to 1.
        better, worse: rows.
    """

    measure: str
    base: float
    tuned: float
    better: int = 0
    worse: int = 0

    @property
    def gain(self) -> float:
        """How much higher the tuned share is, −1 to 1."""
        return self.tuned - self.base


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run in the list.

    Attributes:
        title: the person's, else the one that it was given.
        created: epoch seconds.
        model, method, objective: as in its recipe; the model without its folders.
        files: names of its data files.
        measured: None before it was evaluated.
        came_from: the run and the step that it goes on from; None for one that began at the beginning.
        is_damaged: its ``run.json`` cannot be read; what is told comes from its other files.
    """

    folder: RunFolder
    title: str
    created: float
    model: str
    method: str
    objective: str
    files: tuple[str, ...] = ()
    figures: Figures = Figures()
    measured: Measured | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    came_from: tuple[str, int] | None = None
    is_damaged: bool = False

    @property
    def named(self) -> str:
        """Its title behind its number."""
        return self.folder.named(self.title)

    @property
    def is_under_way(self) -> bool:
        """Whether a process works on it, or waits."""
        return self.figures.status in UNDER_WAY


class Listing:
    """The runs of one project, read as often as one likes.

    Args:
        project: its folder.
    """

    def __init__(self, project: Path) -> None:
        self._project = project
        self._known: dict[str, dict[str, Any]] | None = None
        self._followed: dict[str, _Followed] = {}

    def read(self) -> list[RunRow]:
        """All runs, newest first; a folder that is no run is passed over, a damaged run is told."""
        known = self._known if self._known is not None else _read_cache(self._cache)
        found: dict[str, dict[str, Any]] = {}
        rows = []
        for run in run_folders(self._project / "runs"):
            entry = dict(known.get(run.id, {}))
            rows.append(self._row(run, entry))
            found[run.id] = entry
        if found != known:
            _write_cache(self._cache, found)
        self._known = found
        self._followed = {name: item for name, item in self._followed.items() if name in found}
        return rows

    @property
    def _cache(self) -> Path:
        name = hashlib.sha256(str(self._project).encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return cache_folder() / "runs" / f"{name}.json"

    def _row(self, run: RunFolder, entry: dict[str, Any]) -> RunRow:
        facts, is_damaged = facts_of(run)
        remarks = read_remarks(run)
        recipe = _cached(entry, "recipe", run.recipe, lambda: _of_recipe(run.recipe))
        measured = _cached(entry, "measured", run.evaluation, lambda: to_plain(_of_evaluation(run.evaluation)))
        text = {name: str(facts.get(name, "")) for name in ("model", "method", "objective")}
        return RunRow(
            folder=run,
            title=remarks.title or clean_title(facts.get("title")) or run.id,
            created=_number(facts.get("created")),
            files=tuple(str(name) for name in (recipe or {}).get("files", ())),
            figures=self._figures(run, entry),
            measured=build(Measured, measured) if measured else None,
            tags=remarks.tags,
            note=remarks.note,
            came_from=_origin(facts.get("continued_from")),
            is_damaged=is_damaged,
            **{**text, "model": last_part(text["model"])},
        )

    def _figures(self, run: RunFolder, entry: dict[str, Any]) -> Figures:
        """From the cache where the record is the same and was over; else followed."""
        stamp = _stamp(run.events)
        if stamp is None:
            entry.pop("figures", None)
            return Figures()
        plain, known = entry.get("figures", {}), entry.get("events")
        if known == list(stamp) and plain.get("status") in TERMINAL:
            self._followed.pop(run.id, None)
            return build(Figures, plain)
        figures = self._follow(run, stamp[0])
        entry["events"], entry["figures"] = list(self._read_until(run) or stamp), to_plain(figures)
        return figures

    def _read_until(self, run: RunFolder) -> Stamp | None:
        """The record as it is now, where all of it was read: what was found out may itself have been written down (the
        end of a process that died unheard), and more may have come since."""
        followed, now = self._followed.get(run.id), _stamp(run.events)
        return now if followed is not None and now is not None and now[0] == followed.read else None

    def _follow(self, run: RunFolder, length: int) -> Figures:
        followed = self._followed.get(run.id)
        if followed is None or followed.read > length:
            over = _over(run)
            if over is not None:
                return over
            followed = self._followed[run.id] = _Followed(run)
        return followed.figures()


def _over(run: RunFolder) -> Figures | None:
    """The figures of a run that has told its end, None for any other. Of its steps only those are decoded after which
    something else happened: the list shows no curve."""
    counted, step = _Counted(), b""
    told: list[bytes] = []
    try:
        with open_plain(run.events) as file:
            for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                if line.startswith(_STEP):
                    step = line
                elif not line.startswith(_OFTEN) and line.endswith(b"\n"):
                    told += [step, line]
                    step = b""
                if len(told) >= AT_ONCE:
                    counted.take([event for each in told if (event := _event(each)) is not None])
                    told = []
    except OSError:
        return None
    counted.take([event for each in told if (event := _event(each)) is not None])
    return counted.figures() if counted.state.is_over and not step else None


_STEP, _OFTEN = b'{"type": "step"', (b'{"type": "gauge"', b'{"type": "progress"')
"""How lines begin, as the codec writes them, of which there are very many."""


def _event(line: bytes) -> Event | None:
    try:
        return decode_event(line)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


class _Counted:
    """What events come to, and the seconds that were worked."""

    def __init__(self) -> None:
        self.state = JobState()
        self._worked, self._since, self._last = 0.0, 0.0, 0.0

    def take(self, events: list[Event]) -> None:
        """Events that came."""
        self.state = apply_all(self.state, events)
        for event in events:
            self._count(event)

    def figures(self) -> Figures:
        """All that is told by now."""
        state = self.state
        running = self._last - self._since if self._since else 0.0
        return Figures(
            status=state.status,
            started=state.started,
            ended=state.ended,
            seconds=self._worked + max(0.0, running),
            steps=state.step or self._told_steps,
            total=state.total_steps,
            loss=state.latest.loss if state.latest else None,
            best_loss=state.best.loss if state.best else None,
            best_step=state.best.step if state.best else 0,
            failure=state.failure.message if state.failure else NOTHING,
            waits_for=state.waiting.reason if state.waiting else "",
        )

    @property
    def _told_steps(self) -> int:
        """By the result alone, where the record of the steps was lost and a process found nothing left to do."""
        steps = self.state.result.get("steps")
        return steps if isinstance(steps, int) and steps > 0 else 0

    def _count(self, event: Event) -> None:
        """The end of a process that died unheard is told when somebody looks, which may be much later."""
        moment = self._last if isinstance(event, Finished) and event.derived else event.time
        if isinstance(event, (Finished, Waiting)) and self._since:
            self._worked += max(0.0, moment - self._since)
            self._since = 0.0
        elif isinstance(event, JobStarted) or event.type == "continued":
            self._since = event.time
        self._last = moment


class _Followed(_Counted):
    """A record that grows."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__()
        self._run, self._follower = run, Follower(run)

    @property
    def read(self) -> int:
        """Bytes that were read."""
        return self._follower.offset

    def figures(self) -> Figures:
        """All that is told by now. A poll that finds nothing new notices a process that died unheard; a record that was
        written to just now may be that of one whose process is about to be known."""
        while not self._is_fresh() or self._follower.has_more:
            events = self._follower.poll()
            self.take(events)
            if not events and not self._follower.has_more:
                break
        return super().figures()

    def _is_fresh(self) -> bool:
        """Whether all is read of a record that was written to just now."""
        stamp = _stamp(self._run.events)
        if stamp is None or self._follower.offset < stamp[0]:
            return False
        return abs(time.time() - stamp[1] / 1e9) < FRESH_SECONDS


# --------------------------------------------------------------------------------------------------------- reading
def _cached(entry: dict[str, Any], name: str, path: Path, read: Callable[[], Any]) -> Any:
    """What ``read`` makes of a file, kept until the file is another."""
    stamp = _stamp(path)
    known = entry.get(name)
    if stamp is None:
        entry.pop(name, None)
        return None
    if isinstance(known, dict) and known.get("stamp") == list(stamp):
        return known["value"]
    value = read() if stamp[0] <= LARGEST_BYTES else None
    entry[name] = {"stamp": list(stamp), "value": value}
    return value


def _stamp(path: Path) -> Stamp | None:
    """What changes when a file is written: its bytes, and when."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _of_recipe(path: Path) -> dict[str, Any] | None:
    """The names of the data files; read without its rules, so that an old or strange recipe is listed too."""
    try:
        data = tomllib.loads(read_plain(path).decode("utf-8-sig")).get("data", {})
        files = data.get("files", []) if isinstance(data, dict) else []
    except (OSError, ValueError, RecursionError):
        return None
    return {"files": [last_part(name) for name in files if isinstance(name, str)][:50]}


def _of_evaluation(path: Path) -> Measured | None:
    try:
        plain = read_json(path)
        base, tuned = plain["base"], plain["tuned"]
        rows = plain.get("verdict", {}).get("answers", {})
        for name in ("exact_match", "preference_accuracy", "token_accuracy"):
            if base.get(name) is not None and tuned.get(name) is not None:
                counts = (int(rows.get("better", 0)), int(rows.get("worse", 0)))
                return Measured(name, float(base[name]), float(tuned[name]), *counts)
    except (UserError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return None


def _origin(value: Any) -> tuple[str, int] | None:
    if isinstance(value, dict) and isinstance(value.get("run"), str) and isinstance(value.get("step"), int):
        return value["run"], value["step"]
    return None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def last_part(source: str) -> str:
    """A path's or hub id's last part."""
    return source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def _read_cache(path: Path) -> dict[str, dict[str, Any]]:
    try:
        plain = read_json(path)
        if plain["version"] != CACHE_VERSION:
            return {}
        runs = plain["runs"]
        return {str(name): dict(entry) for name, entry in runs.items()}
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _write_cache(path: Path, runs: dict[str, dict[str, Any]]) -> None:
    with suppress(UserError):  # it is read anew the next time
        write_json(path, {"version": CACHE_VERSION, "runs": runs})


# ----------------------------------------------------------------------------------------------------------- sizes
@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes on disk of a run's parts."""

    checkpoints: int = 0
    adapter: int = 0
    exports: int = 0
    rest: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.checkpoints + self.adapter + self.exports + self.rest


def sizes(run: RunFolder) -> Sizes:
    """What a run takes on disk. What a link points to belongs to somebody else."""
    parts = {run.checkpoints: "checkpoints", run.adapter: "adapter", run.exports: "exports"}
    found = dict.fromkeys(("checkpoints", "adapter", "exports", "rest"), 0)
    try:
        entries = [] if run.path.is_symlink() else list(os.scandir(run.path))
    except OSError:
        entries = []
    for entry in entries:
        found[parts.get(Path(entry.path), "rest")] += _bytes(entry)
    return Sizes(**found)


def _bytes(entry: os.DirEntry[str]) -> int:
    """Of a file, or of everything in a folder; what goes away meanwhile counts nothing."""
    total, open_ = 0, [entry]
    while open_:
        item = open_.pop()
        try:
            if item.is_dir(follow_symlinks=False):
                open_ += os.scandir(item.path)
            elif not item.is_symlink():
                total += item.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


# ---------------------------------------------------------------------------------------------------------- finding
@dataclass(frozen=True, slots=True)
class Query:
    """Which runs are wanted.

    Attributes:
        words: all of them must stand in its title, model, data files, tags or note.
        status: "" for any; "training" for those under way.
        tag: "" for any.
    """

    words: tuple[str, ...] = ()
    status: str = ""
    tag: str = ""


def query_of(text: str, *, status: str = "", tag: str = "") -> Query:
    """The query that is typed: words, ``#tag`` or ``tag:NAME``, and ``status:NAME``; a tag of several words stands in
    quotation marks, ``#"good one"``."""
    asked, words = Query(status=status, tag=tag), []
    for word in _WORD.findall(text):
        name, colon, value = word.partition(":")
        value = value.strip(_QUOTES)
        if word.startswith("#") and word[1:].strip(_QUOTES):
            asked = replace(asked, tag=word[1:].strip(_QUOTES))
        elif colon and value and name.lower() == "tag":
            asked = replace(asked, tag=value)
        elif colon and value and name.lower() == "status":
            asked = replace(asked, status=value)
        else:
            words.append(word.casefold())
    return replace(asked, words=tuple(words))


_QUOTES = '"“”'
_WORD = re.compile(r'(?:#|tag:)["“][^"“”]+["”]|\S+', re.IGNORECASE)


def found(row: RunRow, query: Query) -> bool:
    """Whether a run is what the query wants."""
    if query.tag and query.tag.casefold() not in (tag.casefold() for tag in row.tags):
        return False
    status = "training" if row.is_under_way else row.figures.status or "new"
    if query.status and query.status.casefold() not in (status, row.figures.status):
        return False
    texts = (row.folder.id, row.title, row.model, row.method, row.objective, row.note, *row.files, *row.tags)
    text = "\n".join(texts).casefold()
    return all(word in text for word in query.words)


ORDERS = ("newest", "oldest", "title", "loss", "gain", "size")
"""By what a list can be sorted."""


def in_order(rows: Sequence[RunRow], order: str, sizes: dict[Path, Sizes] | None = None) -> list[RunRow]:
    """Runs sorted; those without the figure that is sorted by stand last."""
    taken = sizes or {}
    keys: dict[str, Any] = {
        "oldest": lambda row: row.created,
        "title": lambda row: row.title.casefold(),
        "loss": lambda row: (row.figures.best_loss is None, row.figures.best_loss or 0.0),
        "gain": lambda row: (row.measured is None, -row.measured.gain if row.measured else 0.0),
        "size": lambda row: -taken.get(row.folder.path, Sizes()).total,
    }
    return sorted(rows, key=keys.get(order, lambda row: -row.created))


# -------------------------------------------------------------------------------------------------------- comparing
@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not the same in all recipes.

    Attributes:
        name: dotted.
        values: one for each recipe; None where it has no such setting.
    """

    name: str
    values: tuple[Any, ...] = field(default_factory=tuple)


PARTS = ("model", "data", "method", "objective", "train", "evaluate")
OWN = frozenset({"data.decisions"})
"""A file of the project or the run, another one in each."""


def differing(recipes: Sequence[Recipe]) -> list[Difference]:
    """The settings in which recipes differ, in the order of their file."""
    found = []
    for part in PARTS:
        sections = [getattr(recipe, part) for recipe in recipes]
        for name in dict.fromkeys(name for section in sections for name in type(section).model_fields):
            values = tuple(getattr(section, name, None) for section in sections)
            if f"{part}.{name}" not in OWN and any(value != values[0] for value in values[1:]):
                found.append(Difference(f"{part}.{name}", values))
    return found
