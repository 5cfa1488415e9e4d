"""A run whose disk takes nothing more waits for it: what it learned stays in memory, its last checkpoint is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from engine.project.run_folder import RunFolder
from engine.project.runs import sizes
from engine.protocol.channel import Channel
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import CONTINUE, FREE, SAVE, STOP, Continued, Waiting
from engine.protocol.text import Text, say
from engine.train.checkpoints import checkpoints

T = TypeVar("T")
TROUBLES = frozenset(
    {"disk.full", "disk.error", "disk.read_only", "disk.untrue", "disk.gone", "file.missing", "file.no_folder"}
)
"""Codes of what may pass: somebody makes room, or plugs the drive in again."""
LOOK_SECONDS = 0.5
FIRST_SECONDS, MOST_SECONDS = 2.0, 30.0
"""Between two tries where nothing tells that there is room; each is twice the one before."""
ROOM_BYTES = 2**20
MIB = 2**20
NAMED = 3


class Freed(Exception):
    """The run was told to give its memory back while it waited."""


class Disk:
    """Does what must be kept, again and again until the disk takes it.

    Args:
        run: whose folder is written.
        step: gives the last optimizer step done.
        busy: called now and then while it waits.

    Attributes:
        step, busy: as given; the run gives others when it begins to train.
    """

    def __init__(
        self, run: RunFolder, channel: Channel, step: Callable[[], int], busy: Callable[[], object] = lambda: None
    ) -> None:
        self._run, self._channel = run, channel
        self.step, self.busy = step, busy
        self._need = ROOM_BYTES

    def keep(self, work: Callable[[], T], *, need: int = 0) -> T:
        """What ``work`` gives, as soon as the disk takes it.

        Args:
            need: bytes that it writes, where they are known; else what the last checkpoint took.

        Raises:
            UserError: something else than the disk is wrong.
            Stopped: the user stopped the run meanwhile; its last checkpoint is kept.
            Freed: the user wants the memory back; likewise.
        """
        waits, pause = False, FIRST_SECONDS
        self._need = max(need, self._need)
        while True:
            try:
                self._check_folder()
                done = work()
            except UserError as error:
                if error.problem.code not in TROUBLES:
                    raise
                if not waits:
                    self._tell(error)
                waits = True
                self._wait(error, pause)
                pause = min(pause * 2, MOST_SECONDS)
                continue
            if waits:
                self._channel.emit(Continued(step=self.step()))
            return done

    def took(self, size: int) -> None:
        """A checkpoint of so many bytes was written."""
        self._need = max(size, ROOM_BYTES)

    def _check_folder(self) -> None:
        """A drive that is gone leaves an empty folder in its place, on another disk: nothing may be written there."""
        if not self._run.recipe.exists():
            raise UserError(
                "disk.gone",
                say("The folder of the run is not there any more.", "训练的文件夹已不存在。"),
                say("Connect the drive again, or put the folder back.", "请重新连接磁盘，或把文件夹放回原处。"),
                where=str(self._run.path),
            )

    def _tell(self, error: UserError) -> None:
        text = waits_for_room(self._run, self._need) if error.problem.code == "disk.full" else waits_for_disk(error)
        self._channel.emit(Waiting(step=self.step(), reason="disk", code=error.problem.code, text=text))

    def _wait(self, error: UserError, seconds: float) -> None:
        """Until it is worth another try."""
        end, before = time.monotonic() + seconds, free_bytes(self._run.path)
        while time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            self.busy()
            for command in self._channel.commands():
                if command.name == STOP:
                    raise Stopped from error
                if command.name == FREE:
                    raise Freed from error
                if command.name in (CONTINUE, SAVE):
                    return
            if free_bytes(self._run.path) >= before + self._need:
                return


def free_bytes(path: Path) -> int:
    """Bytes that are free where ``path`` is; 0 where that cannot be told."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0


def waits_for_room(run: RunFolder, need: int) -> Text:
    """What a full disk needs, and what lies in the project that could go."""
    saved = checkpoints(run)
    kept = say("the checkpoint of step {n} is kept", "第 {n} 步的检查点仍在", n=saved[-1].step) if saved else None
    return say(
        "The disk is full: the run waits, and goes on by itself once there is room for {need} MiB. Nothing is lost: "
        "{kept}.{more}",
        "磁盘已满：训练正在等待，腾出 {need} MiB 后会自动继续。没有丢失任何内容：{kept}。{more}",
        need=max(1, round(need / MIB)),
        kept=kept or say("what was learned is in memory", "学到的内容保存在内存中"),
        more=could_go(run),
    )


def could_go(run: RunFolder) -> Text:
    """The largest other runs of the project."""
    try:
        others = [path for path in run.path.parent.iterdir() if path != run.path and path.is_dir()]
    except OSError:
        return Text("", "")
    largest = sorted(((sizes(RunFolder(path)).total, path.name) for path in others), reverse=True)[:NAMED]
    named = [f"{name} ({size / MIB:.0f} MiB)" for size, name in largest if size >= MIB]
    if not named:
        return Text("", "")
    return say(
        " Other runs of this project hold: {runs}.",
        "本项目的其他训练占用：{zh}。",
        runs=", ".join(named),
        zh="、".join(named),
    )


def waits_for_disk(error: UserError) -> Text:
    """A disk that is gone or refuses."""
    return say(
        "{what} The run waits, with what it learned in memory, and goes on by itself when the disk is there again.",
        "{what}训练正在等待，学到的内容保存在内存中；磁盘恢复后会自动继续。",
        what=error.problem.message,
    )
