"""Starting jobs: each in a process of its own that outlives the window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from engine.host import platform
from engine.project.atomic import disk_error, open_plain, read_json, write_bytes, write_json
from engine.project.run_folder import JobFolder
from engine.protocol.codec import decode_event, encode_event
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.events import Event, Finished, Launched
from engine.protocol.text import say

ROOT = Path(__file__).resolve().parents[2]

BORN_SECONDS = 2.0
"""By so much the clock of files and that of processes may differ."""
LEAVING_SECONDS = 10.0
"""How long a process that has told its end may take to go."""

_started: dict[int, subprocess.Popen[bytes]] = {}
"""Processes that this one started: asked now and then, so that none stays a zombie."""


def start_job(folder: JobFolder, kind: str, arguments: dict[str, Any]) -> None:
    """Start the worker on ``folder`` and return at once. What happens is told by ``events.jsonl``.

    Args:
        kind: "train", "resume", "evaluate", "merge", "export", "check", "score", "rehearse", or "trial" (of a
            rehearsal).
        arguments: what `engine.worker` documents for that kind; paths absolute.

    Raises:
        UserError: a process works on it already, the disk does not take the files, or no process can be started.
    """
    if not _has_left(folder):
        raise UserError(
            "job.running",
            say("This is already being worked on.", "该任务已在进行中。"),
            say("Wait for it, or stop it first.", "请等待其完成，或先停止它。"),
            where=str(folder.path),
        )
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.job, {"kind": kind, "arguments": arguments})
        for old in (folder.commands, stop_file(folder)):
            old.unlink(missing_ok=True)
        # Who looks between the next lines sees a process that is being started, and not one that has died.
        write_json(process_file(folder), {"starts": {"pid": os.getpid(), "mark": platform.process_mark(os.getpid())}})
        append_event(folder, Launched(kind=kind))
        with open_plain(folder.events, "ab") as events, open_plain(folder.log, "ab") as log:
            process = _start([str(folder.path)], subprocess.DEVNULL, events, log, detached=True)
    except (OSError, UserError) as error:
        process_file(folder).unlink(missing_ok=True)
        raise disk_error(error, folder.path) if isinstance(error, OSError) else error from None
    _started[process.pid] = process
    # The process writes the same of itself as soon as it can: this host may be ended before the next line.
    write_json(process_file(folder), about_process(process.pid))


def about_process(pid: int) -> dict[str, Any]:
    """What `process_file` holds of a process."""
    kills = platform.memory_kill_count(pid)
    return {
        "pid": pid,
        "mark": platform.process_mark(pid),
        **({"memory_kills": {"file": str(kills[0]), "count": kills[1]}} if kills else {}),
    }


def claim_work(folder: JobFolder) -> bool:
    """Make this process the one that works on ``folder``, for as long as it lives; False while another one does.

    Two hosts may each have started one: the second process sees that the first holds the lock, and puts the word back
    by which hosts find it.

    Raises:
        UserError: the disk does not take it.
    """
    lock = folder.path / "worker.lock"
    try:
        end = time.monotonic() + LEAVING_SECONDS
        while (handle := platform.hold_lock(lock)) is None:
            # Children of a process that was killed may hold its lock for a moment.
            if _runs(known := lock.read_bytes()) or time.monotonic() > end:
                write_bytes(process_file(folder), known)
                return False
            time.sleep(0.05)
        about = json.dumps(about_process(os.getpid()), ensure_ascii=False).encode()
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, about)
    except OSError as error:
        raise disk_error(error, lock) from error
    write_bytes(process_file(folder), about)
    return True


def _runs(about: bytes) -> bool:
    """Whether the process that `about_process` told of still runs."""
    try:
        known = json.loads(about)
        return platform.is_running(known["pid"], known["mark"])
    except (ValueError, KeyError, TypeError):
        return False


def _has_left(folder: JobFolder) -> bool:
    """Whether no process works on it; one that has told its end and only takes its leave is waited for."""
    end = time.monotonic() + LEAVING_SECONDS
    while is_alive(folder) and is_told(folder):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return not is_alive(folder)


def is_told(folder: JobFolder) -> bool:
    """Whether the last line of the job's record tells its end."""
    try:
        lines = read_tail(folder.events).splitlines()
        return bool(lines) and isinstance(decode_event(lines[-1]), Finished)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def read_tail(path: Path, size: int = 65536) -> bytes:
    """The last ``size`` bytes of a file. Raises `OSError`."""
    with open_plain(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read()


def start_session_process(kind: str, log: Any) -> subprocess.Popen[bytes]:
    """Start a session's worker: it speaks over pipes and ends when its input ends. Raises `UserError`."""
    return _start(["--session", kind], subprocess.PIPE, subprocess.PIPE, log, detached=False)


def _start(arguments: list[str], stdin: Any, stdout: Any, stderr: Any, *, detached: bool) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, "-m", "engine.worker", *arguments]
    try:
        return platform.start(
            command,
            folder=ROOT,
            environment=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            detached=detached,
        )
    except OSError as error:
        raise UserError(
            "job.cannot_start",
            say("The worker process cannot be started.", "无法启动工作进程。"),
            say(
                "Is the installation complete? Run packaging/run.py --set-up-only.",
                "安装是否完整？请运行 packaging/run.py --set-up-only。",
            ),
            exit_code=EXIT_MACHINE,
            details=str(error),
        ) from error


def is_alive(folder: JobFolder) -> bool:
    """Whether the process that works on ``folder`` still runs (that process, not a later one with its number), or is
    being started this instant."""
    return running_pid(folder) is not None or _is_started_now(folder)


def _is_started_now(folder: JobFolder) -> bool:
    """Whether a host, which is alive, is about to start a process for ``folder``."""
    try:
        host = read_json(process_file(folder))["starts"]
        return platform.is_running(host["pid"], host["mark"])
    except (UserError, KeyError, TypeError, ValueError):
        return False


def running_pid(folder: JobFolder) -> int | None:
    """The process that works on ``folder``, None when none does."""
    if not process_file(folder).exists():
        return None
    try:
        known = read_json(process_file(folder))
        pid = int(known["pid"])
    except (UserError, KeyError, TypeError, ValueError, OverflowError):
        return None
    child = _started.get(pid)
    if child is not None and child.poll() is not None:
        return None
    return pid if platform.is_running(pid, known.get("mark")) else None


def sweep(folder: JobFolder) -> None:
    """End at once what the folder's ended process left behind: children in its group, which nobody else knows.

    A group's number may be another's by now. Only processes that began while the job was telling what it does are its
    own: after its process was started, and before the last line of its record. Both times may be a stranger's word,
    and so may the number: it counts only with a mark of this boot, which nobody can guess, or where this process
    started it.
    """
    try:
        known = read_json(process_file(folder))
        group = int(known["pid"])
        if group not in _started and not platform.is_of_this_boot(known.get("mark")):
            return
        first, last = process_file(folder).stat().st_mtime, folder.events.stat().st_mtime
    except (UserError, OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return
    if group <= 1 or platform.process_mark(group) is not None:
        return
    left = platform.group_members(group)
    if left and all(first - BORN_SECONDS <= platform.born(pid) <= last + BORN_SECONDS for pid in left):
        platform.end_group(group, force=True)


def exit_code(folder: JobFolder) -> int | None:
    """The exit code of the folder's ended process, when this process started it; negative is a signal's number."""
    try:
        child = _started.get(int(read_json(process_file(folder))["pid"]))
    except (UserError, KeyError, TypeError, ValueError, OverflowError):
        return None
    if child is None:
        return None
    try:
        # Its threads may still be on their way out when its main thread is a zombie already.
        return child.wait(timeout=2.0)
    except subprocess.TimeoutExpired:
        return None


def memory_kills(folder: JobFolder) -> tuple[int, int] | None:
    """(then, now): how many processes the system had ended for lack of memory when the folder's process was started,
    and has by now. None where it keeps no count."""
    try:
        known = read_json(process_file(folder))["memory_kills"]
        then, now = int(known["count"]), platform.memory_kills(Path(known["file"]))
    except (UserError, KeyError, TypeError, ValueError, OverflowError):
        return None
    return (then, now) if now is not None else None


def append_event(folder: JobFolder, event: Event) -> None:
    """Write an event for a process that cannot: a line that it left half-written does not swallow this one.

    Raises:
        OSError: the file cannot be written.
    """
    line = encode_event(event) + "\n"
    with open_plain(folder.events, "ab") as file:
        file.write((("" if _ends_well(folder.events) else "\n") + line).encode())
        file.flush()
        os.fsync(file.fileno())


def _ends_well(path: Path) -> bool:
    with open_plain(path) as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def process_file(folder: JobFolder) -> Path:
    """Where the host remembers which process works on the job."""
    return folder.path / "process.json"


def stop_file(folder: JobFolder) -> Path:
    """Where the host remembers how far the stop ladder had to go."""
    return folder.path / "stop.json"
