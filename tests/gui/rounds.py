"""A round of a window's life, again and again: every page opened, a run started and stopped, and nothing left over."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from PySide6.QtCore import QCoreApplication, QEvent, QObject, QThread, QTimer

from engine.host import platform
from engine.host.launch import exit_code, is_alive, start_job
from engine.project.project import Project
from engine.project.run_folder import RunFolder
from gui.context import AppContext
from gui.main_window import MainWindow
from gui.operations.train import stop_run
from gui.pages.registry import PAGES

FAKE = Path(__file__).resolve().parents[1] / "process" / "misbehaving.py"
PATIENCE = 60.0
Start = Callable[[RunFolder], None]


@dataclass(frozen=True)
class Held:
    """What the window holds at one moment."""

    threads: int
    timers: int
    files: int
    objects: int
    kinds: Counter[str]
    processes: int
    rss_mib: float

    def figures(self) -> dict[str, float]:
        """The numbers alone."""
        return {name: getattr(self, name) for name in ("threads", "timers", "files", "objects", "processes", "rss_mib")}


def start_fake(arguments: list[str], stdin: Any, stdout: Any, stderr: Any, *, detached: bool) -> Any:
    """In the place of `engine.host.launch._start`: the misbehaving worker."""
    command = [sys.executable, "-S", "-E", str(FAKE), *arguments]
    streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
    return platform.start(command, folder=Path(arguments[-1]), environment={}, detached=detached, **streams)


def begin_fake(run: RunFolder) -> None:
    """A run that tells of three steps, then waits until it is stopped."""
    start_job(run, "train", {"end": "hang", "plan": True})


def turn(done: Callable[[], Any] = lambda: False, seconds: float = PATIENCE) -> bool:
    """Let the event loop turn until ``done``, or for so long; whether it was done."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QCoreApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        if done():
            return True
        time.sleep(0.002)
    return False


def wait(done: Callable[[], Any], what: str) -> None:
    """Let the event loop turn until ``done``. Raises `AssertionError`."""
    assert turn(done), f"waited too long for {what}"


def play(context: AppContext, window: MainWindow, start: Start, steps: int = 3) -> None:
    """One round: every page looked at, a run started, followed, stopped and removed."""
    project = context.project.project
    assert project is not None
    for entry in PAGES:
        context.wizard.go(entry.name)
        turn(seconds=0.0)
    run = Project(project.path).new_run(context.draft.recipe)
    start(run)
    context.runs.select(run)
    context.wizard.go("train")
    wait(lambda: context.runs.train.state.step >= steps, "the first steps")
    stop_run(context)
    wait(lambda: context.runs.train.state.is_over and not context.runs.train.is_stopping, "the end")
    assert context.runs.train.state.status == "stopped"
    wait(lambda: not is_alive(run), "the process")
    exit_code(run)  # nobody else asks for it any more
    for entry in PAGES:
        context.wizard.go(entry.name)
        turn(seconds=0.0)
    context.runs.select(None)
    context.wizard.go("data")
    for notice in context.notices.open:
        context.notices.close(notice)
    shutil.rmtree(run.path)


def look(context: AppContext, window: MainWindow) -> Held:
    """What is held once all has settled."""
    turn(seconds=0.3)
    gc.collect()
    turn(seconds=0.2)
    objects = [*context.findChildren(QObject), *window.findChildren(QObject)]
    own = psutil.Process()
    return Held(
        threads=threading.active_count() + sum(isinstance(item, QThread) and item.isRunning() for item in objects),
        timers=sum(isinstance(item, QTimer) and item.isActive() for item in objects),
        files=len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else own.num_handles(),
        objects=len(objects),
        kinds=Counter(type(item).__name__ for item in objects),
        processes=len(own.children(recursive=True)),
        rss_mib=own.memory_info().rss / 2**20,
    )
