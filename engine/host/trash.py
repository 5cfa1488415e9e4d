"""Moving a folder to the system's trash without a window: one function, with a branch for each system.

The window has Qt's; a command must not load Qt for it.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from engine.host import platform
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

TRASH_SECONDS = 120.0


def move_to_trash(path: Path) -> None:
    """Move a file or folder to the trash.

    Raises:
        UserError: there is no trash on its disk, or it refuses; it then lies where it was.
    """
    system = platform.current()
    try:
        if system == platform.WINDOWS:
            _by_program(_windows_command(path), path)
        elif system == platform.MAC:
            _by_program(["osascript", "-e", _MAC_SCRIPT, str(path)], path)
        else:
            _freedesktop(path)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            "trash.refused",
            say("{path} could not be moved to the trash.", "无法将 {path} 移到回收站。", path=path),
            say("Delete it yourself to remove it for good.", "如需彻底删除，请自行删除。"),
            where=str(path),
            exit_code=EXIT_MACHINE,
            details=str(error),
        ) from error


_MAC_SCRIPT = """on run argv
tell application "Finder" to delete (POSIX file (item 1 of argv) as alias)
end run"""


def _windows_command(path: Path) -> list[str]:
    """PowerShell takes whatever stands behind the script for more of the script: the path is given by the environment,
    where nothing in a name is taken for a command."""
    kind = "Directory" if path.is_dir() else "File"
    script = (
        "Add-Type -AssemblyName Microsoft.VisualBasic; "
        f"[Microsoft.VisualBasic.FileIO.FileSystem]::Delete{kind}"
        f"($env:{_NAMED}, 'OnlyErrorDialogs', 'SendToRecycleBin')"
    )
    return ["powershell", "-NoProfile", "-NonInteractive", "-Command", script]


_NAMED = "LORIMER_TO_TRASH"


def _by_program(command: list[str], path: Path) -> None:
    environment = {**os.environ, _NAMED: str(path)}
    subprocess.run(command, check=True, capture_output=True, timeout=TRASH_SECONDS, env=environment)


def _freedesktop(path: Path) -> None:
    """The trash of the desktops of Linux (freedesktop.org, Trash specification 1.0): ``files`` and ``info`` in the
    user's folder, or at the top of another disk."""
    path = path.absolute()
    trash, top = _trash_for(path)
    for folder in (trash / "files", trash / "info"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    told = path if top is None else path.relative_to(top)
    number = 0
    while True:
        name = path.name if not number else f"{path.name}.{number}"
        note = trash / "info" / f"{name}.trashinfo"
        try:
            handle = os.open(note, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)  # it claims the name
            break
        except FileExistsError:
            number += 1
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            when = time.strftime("%Y-%m-%dT%H:%M:%S")
            file.write(f"[Trash Info]\nPath={quote(os.fsencode(told))}\nDeletionDate={when}\n")
        os.rename(path, trash / "files" / name)
    except OSError:
        note.unlink(missing_ok=True)
        raise


def _trash_for(path: Path) -> tuple[Path, Path | None]:
    """The trash folder on the same disk, and the top of that disk where it is not the user's own."""
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "Trash"
    device = path.lstat().st_dev
    nearest = home
    while not nearest.exists():
        nearest = nearest.parent
    if nearest.stat().st_dev == device:
        return home, None
    top = path.parent
    while top.parent != top and top.parent.stat().st_dev == device:
        top = top.parent
    shared = top / ".Trash"
    if shared.is_dir() and not shared.is_symlink() and shared.stat().st_mode & 0o1000:
        return shared / str(os.getuid()), top
    return top / f".Trash-{os.getuid()}", top
