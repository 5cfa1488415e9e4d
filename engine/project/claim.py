"""A file that only one process can hold at a time; one whose process is gone is void."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine.host.platform import is_running, process_mark
from engine.project.atomic import disk_error
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

BUSY = "file.claimed"
"""Code of the error that another holds it."""
WRITING_SECONDS = 10.0
"""A file without a readable owner is being written; after so long nobody writes it any more."""
ASK_SECONDS = 0.02


@contextmanager
def claimed(path: Path, *, seconds: float = 5.0) -> Iterator[None]:
    """Hold ``path`` while the block works.

    Args:
        seconds: how long another may hold it.

    Raises:
        UserError: another process holds it all the time, or the disk does not take the file.
    """
    end = time.monotonic() + seconds
    token = uuid.uuid4().hex
    while not _taken(path, token):
        _void(path)
        if time.monotonic() > end:
            raise UserError(
                BUSY,
                say(
                    "Another window or command is at {name} just now.",
                    "另一个窗口或命令正在使用 {name}。",
                    name=path.stem,
                ),
                say("Try again in a moment.", "请稍后再试。"),
                where=str(path),
                exit_code=EXIT_MACHINE,
            )
        time.sleep(ASK_SECONDS)
    try:
        yield
    finally:
        if _owner(path).get("token") == token:
            path.unlink(missing_ok=True)


def _taken(path: Path, token: str) -> bool:
    """Whether the file is made by this call; that of another stays as it is."""
    content = json.dumps({"pid": os.getpid(), "mark": process_mark(os.getpid()), "token": token})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    except OSError as error:
        raise disk_error(error, path) from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(content)
    return True


def _void(path: Path) -> None:
    """Take away a file whose process is gone. Of several who see that only one does it: who makes the file that is
    named after the very claim, for a new claim of the same name must not go in its place."""
    owner = _owner(path)
    if not owner or _is_there(owner):
        if owner or not _is_old(path):
            return
        owner = {"token": "unreadable"}
    ending = path.with_name(f".{path.name}.{owner.get('token', 'unreadable')}"[:100])
    try:
        os.close(os.open(ending, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError:
        if _is_old(ending):  # whoever was about to do it is gone, too
            with suppress(OSError):
                ending.unlink()
        return
    try:
        if _owner(path).get("token", "unreadable") == owner.get("token", "unreadable"):
            path.unlink(missing_ok=True)
    except OSError:
        return  # somebody reads it at the moment (Windows); it is tried again
    finally:
        with suppress(OSError):
            ending.unlink()


def _owner(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return plain if isinstance(plain, dict) else {}


def _is_there(owner: dict[str, Any]) -> bool:
    return is_running(owner.get("pid"), owner.get("mark"))


def _is_old(path: Path) -> bool:
    try:
        return abs(time.time() - path.stat().st_mtime) > WRITING_SECONDS
    except OSError:
        return False
