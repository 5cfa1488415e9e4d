"""What the command line shows: sentences and progress on standard error, the result on standard output."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine.host.control import StopLadder
from engine.host.follow import Follower
from engine.host.launch import is_alive
from engine.project.run_folder import JobFolder
from engine.protocol.codec import to_plain
from engine.protocol.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_MACHINE, Failure, Problem
from engine.protocol.events import (
    FAILED,
    Event,
    Finished,
    HeldOut,
    Launched,
    Note,
    Progress,
    Result,
    RunPlanned,
    Stage,
    StepDone,
    Waiting,
)
from engine.protocol.text import Text, say

FOLLOW_SECONDS = 0.1
SHOWN = 20
"""Problems that a person is told one by one."""


class Terminal:
    """Standard output and error of one command.

    With ``as_json`` exactly one JSON document goes to standard output, in English; sentences go to standard error.
    """

    def __init__(self, *, as_json: bool, language: str) -> None:
        self.as_json = as_json
        self.language = language

    def show(self, text: Text | str) -> None:
        """A sentence for people."""
        print(self._read(text), file=sys.stderr, flush=True)

    def result(self, value: dict[str, Any], *lines: Text | str) -> None:
        """The command's result: the JSON document, or the lines that tell it to people."""
        if self.as_json:
            self._document(value)
            return
        for line in lines:
            print(self._read(line), flush=True)

    def failure(self, failure: Failure, value: dict[str, Any] | None = None) -> int:
        """Tell what is wrong; gives the exit code. ``value`` is what the command could still find out."""
        if self.as_json:
            self._document({**(value or {}), "error": error_document(failure)})
        else:
            self._failure_lines(failure)
        return failure.exit_code

    def _failure_lines(self, failure: Failure) -> None:
        message = self._read(failure.message)
        self.show(message if _names(message, failure.where) else f"{failure.where}: {message}")
        if failure.hint:
            self.show("  " + self._read(failure.hint))
        if len(failure.problems) > 1 or (failure.problems and failure.problems[0].message != failure.message):
            for problem in failure.problems[:SHOWN]:
                told = say("{message} {hint}", "{message}{hint}", message=problem.message, hint=problem.hint)
                self.show(f"  - {problem.where}: {self._read(told)}")
            if len(failure.problems) > SHOWN:
                self.show("  " + self._read(more(len(failure.problems) - SHOWN)))

    def _document(self, value: dict[str, Any]) -> None:
        document = json.dumps(to_plain(value), ensure_ascii=False, indent=2, allow_nan=False)
        print(_CONTROLS.sub(lambda found: f"\\u{ord(found.group()):04x}", document), flush=True)

    def _read(self, text: Text | str) -> str:
        return shown(text.in_language(self.language) if isinstance(text, Text) else text)


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What terminals take for commands, and what turns the order of letters round. Tab and line end are none."""


def shown(text: str) -> str:
    """A text as it may be printed: names and messages can come from strangers, and a terminal obeys what they hold."""
    return _CONTROLS.sub("\ufffd", text)


def _names(message: str, where: str) -> bool:
    """Whether a message says itself where something is."""
    return not where or re.search(rf"(?<!\w){re.escape(where)}(?!\w)", message) is not None


def quoted(path: Path | str) -> str:
    """A path as it can be pasted behind a command, whatever blanks and signs are in it."""
    text = str(path)
    if os.name != "nt":
        return shlex.quote(text)
    return f'"{text}"' if re.search(r"[^\w.:\\/-]", text) else text


def more(count: int) -> Text:
    """The line behind a list of problems that is not whole."""
    return say("… {n} more; --json lists them all.", "……另有 {n} 个；--json 会全部列出。", n=count)


def error_document(failure: Failure) -> dict[str, Any]:
    """``error`` of a JSON document: code, message, hint, where, problems."""
    return {
        "code": failure.code,
        "message": failure.message.en,
        "hint": failure.hint.en,
        "where": failure.where,
        "problems": [problem_document(problem) for problem in failure.problems],
    }


def problem_document(problem: Problem) -> dict[str, str]:
    """A problem in a JSON document."""
    return {
        "code": problem.code,
        "message": problem.message.en,
        "hint": problem.hint.en,
        "where": problem.where,
    }


class Outcome:
    """How a followed job ended.

    Attributes:
        status: the terminal status.
        value: what its `Result` events said.
        failure: why, when it failed.
        step: the last optimizer step seen.
        interrupted: the person pressed Ctrl+C.
    """

    def __init__(self) -> None:
        self.status = ""
        self.value: dict[str, Any] = {}
        self.failure: Failure | None = None
        self.step = 0
        self.interrupted = False

    @property
    def exit_code(self) -> int:
        """The exit code that a command about this job ends with."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        if self.status == FAILED:
            return self.failure.exit_code if self.failure else EXIT_MACHINE
        return EXIT_DONE


def follow(job: JobFolder, terminal: Terminal, *, offset: int = 0, leave: bool = False) -> Outcome:
    """Show a job until it ends. Ctrl+C asks it to save and stop; a second one ends it at once.

    Args:
        offset: bytes of the job's record to pass over (what earlier processes wrote).
        leave: Ctrl+C leaves the job to itself instead. Its record is shown from its beginning, until its process ends.
    """
    follower = Follower(job, restarts=True)
    follower.offset = offset
    outcome, bar = Outcome(), _Bar(terminal)
    ladder: StopLadder | None = None
    while not outcome.status or follower.has_more or (leave and is_alive(job)):
        try:
            for event in follower.poll():
                _take(event, outcome, bar)
            if ladder is not None:
                ladder.poll()
            time.sleep(FOLLOW_SECONDS)
        except KeyboardInterrupt:
            outcome.interrupted = True
            if leave:
                break
            seconds = None if ladder is None else 0.0
            terminal.show(say("Saving and stopping…", "正在保存并停止……"))
            ladder = StopLadder(job, save_seconds=seconds, terminate_seconds=10.0 if seconds is None else 0.0)
    bar.close()
    return outcome


def _take(event: Event, outcome: Outcome, bar: _Bar) -> None:
    bar.show(event)
    match event:
        case StepDone():
            outcome.step = event.step
        case Result():
            outcome.value.update(event.value)
        case Launched():  # an end that was told before is that of another process
            outcome.status, outcome.failure = "", None
        case Finished():
            outcome.status = event.status
            outcome.failure = event.failure


class _Bar:
    """One progress bar on standard error for whatever the job does now."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._bar: tqdm[Any] | None = None
        self._title = ""

    def show(self, event: Event) -> None:
        match event:
            case Stage():
                self.close()
                self._title = self._read(event.text)
                self._terminal.show(self._title)
            case Progress() if event.total:
                self._move(event.done, event.total, shown(event.unit))
            case RunPlanned():
                self._terminal.show(_planned(event))
            case StepDone():
                self._move(event.step, event.steps, self._read(say("step", "步")), f"loss {event.loss:.3f}")
            case Waiting() if event.text:
                self._terminal.show(event.text)
            case Note() | HeldOut():
                self._line(event)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def _move(self, done: float, total: float, unit: str, note: str = "") -> None:
        # Batches count in parts while they are worked on; nobody wants to read 12.6153 of 240.0 answers.
        done, total = int(done), int(total) if float(total).is_integer() else total
        if self._bar is None or self._bar.total != total:
            self.close()
            self._bar = tqdm(total=total, unit=unit or "it", leave=True, dynamic_ncols=True, file=sys.stderr)
        self._bar.update(done - self._bar.n)
        if note:
            self._bar.set_postfix_str(note, refresh=False)

    def _line(self, event: Note | HeldOut) -> None:
        if isinstance(event, HeldOut):
            text = say(
                "held-out loss {loss:.3f} at step {step}",
                "第 {step} 步留出损失 {loss:.3f}",
                loss=event.loss,
                step=event.step,
            )
        else:
            text = event.text
        with tqdm.external_write_mode(file=sys.stderr):
            self._terminal.show(text)

    def _read(self, text: Text) -> str:
        return text.in_language(self._terminal.language)


def _planned(event: RunPlanned) -> Text:
    return say(
        "{rows} rows train, {held} held out; {steps} steps; {few:,} of {all:,} weights train ({share:.2%}) on {device}",
        "训练 {rows} 行，留出 {held} 行，{steps} 步；训练 {all:,} 个权重中的 {few:,} 个（{share:.2%}），设备 {device}",
        rows=event.rows,
        held=event.held_out,
        steps=event.steps,
        few=event.trained_parameters,
        all=event.all_parameters,
        share=event.trained_parameters / max(1, event.all_parameters),
        device=event.device,
    )
