"""Every row of a file looked at once, on all cores: can it be used, how long is it, is it there twice.

What is found is kept on disk as plain arrays, a few bytes a row, so that files of any size need little memory and are
read once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from engine.data.declare import BadRow, Conversation, Shape
from engine.data.decode import has_broken_characters
from engine.data.formats import LONGEST_ROW, Record
from engine.data.quality.checks import BY_NAME
from engine.data.registry import SHAPES
from engine.data.rows import ASSISTANT, REASONS, Message, Row
from engine.data.store import LONGEST_BYTES, Lines, line_starts
from engine.host.platform import give_way
from engine.protocol.errors import UserError
from engine.protocol.text import say

Progress = Callable[[int, int], None]
CODES = ("", *REASONS, *BY_NAME)
"""Why a row is set aside, by number: a reason or a check of its quality; 0 for a row that can be used."""
CODE = {reason: number for number, reason in enumerate(CODES)}


def reasons(codes: NDArray[np.uint8]) -> dict[str, int]:
    """Reason → rows set aside for it, the most frequent first, of an array of `CODES`."""
    counts = Counter(dict(enumerate(np.bincount(codes, minlength=len(CODES)).tolist())))
    return {CODES[code]: count for code, count in counts.most_common() if code and count}


BLOCK = 4 << 20
_ALONE = 24 << 20
"""Files up to so many bytes are read in this process: starting others takes longer."""
COLUMNS: dict[str, Any] = {
    "offset": np.uint64,
    "line": np.uint32,
    "code": np.uint8,
    "characters": np.uint32,
    "tokens": np.uint32,
    "key": np.uint64,
    "prompt": np.uint64,
}
"""What is known of each row: where it begins in its `Lines`, its line, why it is set aside, characters of its texts,
estimated tokens, a fingerprint of the whole and one of what is asked."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a scan does, ready to be sent to another process.

    Attributes:
        lines: the file.
        shape: a key of `SHAPES`.
        mapping: role → column.
        size: bytes of the file.
        as_conversation: rows of preferences count as conversations with their better answer.
    """

    lines: Lines
    shape: str
    mapping: Mapping[str, str]
    size: int
    as_conversation: bool = False


@dataclass(slots=True)
class Block:
    """What was found in a piece of a file.

    Attributes:
        arrays: as `COLUMNS`; lines counted from the piece's first, 0.
        newlines: line ends in the piece.
        columns: names of all columns.
    """

    arrays: dict[str, NDArray[Any]]
    newlines: int = 0
    columns: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------------- one row
def fingerprint(text: str) -> int:
    """64 bits of a text (XXH3). Of ten million different texts two share one with a probability of 3 in a million."""
    found: int = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
    return found


def keys(row: Row | Conversation) -> tuple[int, int]:
    """Fingerprints of all that a row teaches, and of what it asks; of plain text both are of all of it."""
    if row.text is not None:
        key = fingerprint(row.text)
        return key, key
    turns = [_turn_text(message) for message in row.messages]
    answer = len(turns)
    if row.chosen is None:
        while answer and row.messages[answer - 1].role != ASSISTANT:
            answer -= 1
        answer = answer - 1 if answer else len(turns)
    asked = "".join(turns[:answer])
    rest = [asked, *turns[answer:]]
    if row.chosen is not None:
        rest += (f"{len(row.chosen)}+{row.chosen}", row.rejected or "")
    if row.liked is not None:
        rest.append("good" if row.liked else "bad")
    if row.tools:
        rest.append(row.tools)
    return fingerprint("\0".join(rest)), fingerprint(asked)


def _turn_text(message: Message) -> str:
    """A turn as one string. It begins with its length: no two lists of turns, joined, give the same."""
    if message.calls or message.reasoning:
        return f"{len(message.content)}{message.role}{message.content}{(message.reasoning, message.calls)!r}"
    return f"{len(message.content)}{message.role}{message.content}"


def estimated_tokens(text: str) -> int:
    """A token for each four characters of Latin text (OpenAI's rule of thumb), and for each other character."""
    if text.isascii():
        return (len(text) + 3) // 4
    plain = len(text.encode("ascii", "ignore"))
    return (plain + 3) // 4 + len(text) - plain


def row_texts(row: Row | Conversation) -> list[str]:
    """All texts of a row; of two answers the longer."""
    if row.text is not None:
        return [row.text]
    found = [m.content for m in row.messages]
    for message in row.messages:
        if message.reasoning or message.calls:
            found += [message.reasoning, *(call.arguments for call in message.calls)]
    if row.chosen is not None:
        found.append(max(row.chosen, row.rejected or "", key=len))
    return [*found, row.tools] if row.tools else found


TURN_TOKENS = 4
"""Estimated tokens of a turn's marks."""


def convert(record: Record, shape: Shape, mapping: Mapping[str, str]) -> Conversation:
    """What a record teaches. Raises `BadRow` where it cannot be used."""
    if record.reason:
        raise BadRow(record.reason, record.text)
    return _converted(record.value, shape, mapping)


def _converted(value: Mapping[str, Any], shape: Shape, mapping: Mapping[str, str]) -> Conversation:
    found = shape.convert(value, mapping)
    if any(map(has_broken_characters, row_texts(found))) or (found.rejected and has_broken_characters(found.rejected)):
        raise BadRow("wrong_encoding", say("It holds bytes that are no characters.", "其中有无法识别为字符的字节。"))
    return found


# ------------------------------------------------------------------------------------------------------- one piece
def scan_block(job: Job, begin: int, end: int, first_line: int = 0) -> Block:
    """Look at the rows from byte ``begin`` to byte ``end``, both at a line's start or the file's end."""
    if end - begin > LONGEST_BYTES:
        return _unread(begin)
    with job.lines.path.open("rb") as file:
        file.seek(begin)
        raw = file.read(end - begin)
    offsets: list[int] = []
    numbers: list[int] = []
    found: list[tuple[int, int, int, int, int]] = []
    columns: dict[str, None] = {}
    shape, mapping = SHAPES[job.shape], job.mapping
    at = begin
    last: KeysView[str] | None = None
    pieces = raw.split(b"\n")
    for number, line in enumerate(pieces):
        if line and not line.isspace():
            value, reason = _read(line, job, first_line + number + 1, is_last=at + len(line) >= job.size)
            offsets.append(at)
            numbers.append(number)
            if value.keys() != last:
                last = value.keys()
                columns.update(dict.fromkeys(value))
            found.append((CODE[reason], 0, 0, 0, 0) if reason else _facts(value, shape, mapping, job))
        at += len(line) + 1
    codes, characters, tokens, keys, prompts = zip(*found, strict=True) if found else ((), (), (), (), ())
    given = (offsets, numbers, codes, characters, tokens, keys, prompts)
    arrays = {name: np.array(values, dtype=kind) for (name, kind), values in zip(COLUMNS.items(), given, strict=True)}
    return Block(arrays, len(pieces) - 1, tuple(columns))


_DECODER: Any = json.JSONDecoder()


def _read(line: bytes, job: Job, number: int, *, is_last: bool) -> tuple[Mapping[str, Any], str]:
    """(columns, why it cannot be used) of a line. Whole objects are read here: `json.loads` is half as slow again."""
    try:
        text = line.decode("utf-8")
        value, end = _DECODER.scan_once(text, 0)
    except (ValueError, RecursionError, StopIteration):
        value, end = None, 0
    if isinstance(value, dict) and (end == len(text) or text[end:].isspace()) and len(text) <= LONGEST_ROW:
        return value, ""
    record = job.lines.record(line, number, is_last=is_last)
    return record.value, record.reason


def _facts(
    value: Mapping[str, Any], shape: Shape, mapping: Mapping[str, str], job: Job
) -> tuple[int, int, int, int, int]:
    """(code, characters, estimated tokens, key, prompt key) of a record."""
    try:
        found = _converted(value, shape, mapping)
    except BadRow as bad:
        return CODE[bad.reason], 0, 0, 0, 0
    texts = row_texts(found)
    tokens = TURN_TOKENS * (len(found.messages) + (found.chosen is not None))
    for text in texts:
        tokens += estimated_tokens(text)
    if job.as_conversation:
        if found.liked is False:
            return CODE["disliked"], 0, 0, 0, 0
        if found.chosen is not None:
            found = Conversation((*found.messages, Message(ASSISTANT, found.chosen)))
    return 0, sum(map(len, texts)), tokens, *keys(found)


def _unread(begin: int) -> Block:
    """A line of which nothing but its size is known."""
    values = {"offset": begin, "line": 0, "code": CODE["bad_row"]}
    arrays = {name: np.array([values.get(name, 0)], dtype=kind) for name, kind in COLUMNS.items()}
    return Block(arrays, newlines=1)


# ------------------------------------------------------------------------------------------------------- the whole
@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a file's rows: arrays on disk, mapped into memory anew whenever one is asked for, so that
    nothing of what was looked at stays in memory.

    Attributes:
        folder: where they lie.
        count: rows.
        columns: names of all columns, in order of appearance.
        numbers: a file of the rows' lines that stands for the scan's own, if any.
    """

    folder: Path
    count: int
    columns: tuple[str, ...]
    numbers: Path | None = None

    def __getitem__(self, name: str) -> NDArray[Any]:
        if not self.count:
            return np.empty(0, COLUMNS[name])
        path = self.numbers if name == "line" and self.numbers is not None else self.folder / f"{name}.bin"
        return np.memmap(path, dtype=COLUMNS[name], mode="r", shape=(self.count,))


def scan(job: Job, folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Look at every row and write what is found to ``folder``, an array a file.

    Args:
        job: the file and how its rows are read.
        folder: an empty one.
        progress: called with (bytes done, bytes); what it raises ends the scan.

    Returns:
        the rest of `Facts`: ``count`` and ``columns``.

    Raises:
        UserError: the file cannot be read.
    """
    starts = line_starts(job.lines.path, job.lines.skip, BLOCK)
    columns: dict[str, None] = {}
    lines = count = 0
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in COLUMNS}
        for number, block in enumerate(_blocks(job, starts)):
            columns.update(dict.fromkeys(block.columns))
            block.arrays["line"] = (block.arrays["line"] + lines + 1).astype(np.uint32)
            for name, file in files.items():
                file.write(block.arrays[name].tobytes())
            lines += block.newlines
            count += len(block.arrays["code"])
            if progress is not None:
                progress(starts[number + 1], job.size)
    return {"count": count, "columns": list(columns)}


def _blocks(job: Job, starts: Sequence[int]) -> Iterator[Block]:
    """The pieces in order, from as many processes as there are cores where that pays."""
    pairs = list(itertools.pairwise(starts))
    workers = min(len(pairs), cores())
    if job.size <= _ALONE or workers < 2:
        for begin, end in pairs:
            yield scan_block(job, begin, end)
        return
    with Helpers(workers) as helpers:
        yield from helpers.map(scan_block, ((job, begin, end) for begin, end in pairs))


def cores() -> int:
    """How many processes share the work: the cores this one may use, at most eight."""
    return max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


# ------------------------------------------------------------------------------------------------------- helpers
class Helpers:
    """Processes that do the same work on pieces; they end with this one, however it ends.

    Each holds one end of a pipe of its own and reads until it closes, which the system does even where this process is
    killed.
    """

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there,), daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
            process.join()

    def map(self, work: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """What ``work`` gives for each arguments, in their order; few are asked for before they are needed.

        Raises:
            UserError: a helper was ended from outside (most likely memory ran out).
            Exception: whatever the work raises.
        """
        waiting: dict[int, Any] = {}
        busy: dict[Connection, int] = {}
        free = list(self._pipes)
        left = enumerate(arguments)
        given = 0
        ahead = 2 * len(free)
        asked: tuple[int, tuple[Any, ...]] | None = next(left, None)
        while asked is not None or busy or waiting:
            while asked is not None and free and asked[0] - given < ahead:
                pipe = free.pop()
                self._send(pipe, (work, asked[1]))
                busy[pipe] = asked[0]
                asked = next(left, None)
            ready = wait(list(busy)) if given not in waiting else []
            for pipe in [pipe for pipe in self._pipes if pipe in ready]:
                waiting[busy.pop(pipe)] = self._answer(pipe)
                free.append(pipe)
            while given in waiting:
                yield waiting.pop(given)
                given += 1

    @staticmethod
    def _send(pipe: Connection, message: object) -> None:
        try:
            pipe.send(message)
        except OSError as error:
            raise _helper_gone() from error

    @staticmethod
    def _answer(pipe: Connection) -> Any:
        try:
            is_done, value = pipe.recv()
        except (EOFError, OSError) as error:
            raise _helper_gone() from error
        if not is_done:
            raise value
        return value


def _helper_gone() -> UserError:
    return UserError(
        "data.helper_ended",
        say("A helper process was ended while it read the data.", "读取数据的辅助进程被终止。"),
        say(
            "Most likely memory ran out: close other programs and try again.", "多半是内存不足：请关闭其他程序后重试。"
        ),
        exit_code=1,
    )


def _serve(pipe: Connection) -> None:
    """A helper's life: work until the pipe closes, after those that somebody waits for."""
    give_way()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a helper for each core
    while True:
        try:
            work, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (True, work(*arguments))
        except Exception as error:  # noqa: BLE001  told to the process that asked, which raises it
            answer = (False, error)
        try:
            pipe.send(answer)
        except OSError:
            return
