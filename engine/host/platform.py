"""Every difference between operating systems, one function each. Nothing else in Lorimer asks which system it is on.

The Windows and macOS branches are tested with a faked platform.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

LINUX, WINDOWS, MAC = "linux", "windows", "mac"


def current() -> str:
    """Which system this is: "linux" (any other Unix counts as it), "windows" or "mac"."""
    if sys.platform.startswith("win"):
        return WINDOWS
    return MAC if sys.platform == "darwin" else LINUX


def config_folder() -> Path:
    """Where Lorimer keeps settings, recent projects and its own logs; ``LORIMER_HOME`` overrides it."""
    own = os.environ.get("LORIMER_HOME")
    if own:
        return Path(own)
    system = current()
    if system == WINDOWS:
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "Lorimer"
    if system == MAC:
        return Path.home() / "Library" / "Application Support" / "Lorimer"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "lorimer"


def cache_folder() -> Path:
    """Where Lorimer keeps what it can make again; below ``LORIMER_HOME`` where that is set."""
    own = os.environ.get("LORIMER_HOME")
    if own:
        return Path(own) / "cache"
    system = current()
    if system == WINDOWS:
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "Lorimer" / "Cache"
    if system == MAC:
        return Path.home() / "Library" / "Caches" / "Lorimer"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lorimer"


def start(
    command: list[str],
    *,
    folder: Path,
    environment: dict[str, str],
    stdin: int | IO[bytes],
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    detached: bool,
) -> subprocess.Popen[bytes]:
    """Start a process without a console window; ``detached`` puts it in a session and process group of its own, so that
    it outlives this one and can be ended with all its children.

    Raises:
        OSError: it cannot be started.
    """
    flags = 0
    if current() == WINDOWS:
        flags = 0x08000000  # CREATE_NO_WINDOW
        if detached:
            flags |= 0x00000200 | 0x01000000  # CREATE_NEW_PROCESS_GROUP, CREATE_BREAKAWAY_FROM_JOB
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        creationflags=flags,
        start_new_session=detached and current() != WINDOWS,
        close_fds=True,
    )


def hold_lock(path: Path) -> int | None:
    """Lock a file until this process ends, however it ends; None while another process holds it.

    Gives the open descriptor, which must stay open.

    Raises:
        OSError: the file cannot be opened.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
    try:
        if current() == WINDOWS:
            import msvcrt

            # Bytes far behind the content: Windows lets nobody read what is locked.
            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:  # Linux, macOS
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:  # a network drive that knows none: as before, process.json alone tells
            return handle
        os.close(handle)
        return None
    return handle


_LOCKED_BYTE = 2**30
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


def ignore_hangup() -> None:
    """Go on when the terminal or the session that this process was started from ends. Windows tells no such end."""
    if current() != WINDOWS:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def give_way() -> None:
    """Let other programs go first: for a helper that keeps a core busy while somebody works in the window."""
    import psutil

    process = psutil.Process()
    if current() == WINDOWS:
        process.nice(_BELOW_NORMAL)
    else:  # Linux, macOS
        process.nice(min(_LOWEST, process.nice() + _STEP))


def be_ended_first() -> None:
    """Where the machine's memory runs out, let the system end this process before any other.

    Linux chooses by a score; Windows refuses memory instead, and macOS asks the user.
    """
    if current() != LINUX:
        return
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        return  # a sandbox without /proc: the system then chooses as it would have


def peak_memory(*, forget: bool = False) -> int | None:
    """The most resident bytes that this process ever had, or had since they were last forgotten.

    None where the system does not forget them: only Linux does (proc_pid_clear_refs, since 4.0).

    Args:
        forget: count anew from now on.
    """
    if current() != LINUX:
        return None
    try:
        if forget:
            _CLEAR.write_text("5", encoding="ascii")
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines if line.startswith("VmHWM:"))
    return next((int(words[1]) * 1024 for words in found), None)


_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_STEP, _LOWEST = 10, 19
_BELOW_NORMAL = 0x4000
"""BELOW_NORMAL_PRIORITY_CLASS, as Windows knows it; psutil has the name on Windows only."""


def end_group(pid: int, *, force: bool) -> None:
    """End the process and all its children: politely, or at once with ``force``. Absent processes are no error."""
    if current() == WINDOWS:
        import psutil

        for process in _family(pid):
            try:
                process.kill() if force else process.terminate()
            except psutil.NoSuchProcess:
                continue
        return
    try:
        os.killpg(pid, signal.SIGKILL if force else signal.SIGTERM)
    except ProcessLookupError:
        return


def process_mark(pid: int) -> str | None:
    """What tells a process from a later one with the same number; None when no such process runs.

    The time at which it began would do, were it not for clocks that are set: on Linux the system computes it from the
    clock of now. There the mark is the boot and the ticks since it (proc(5): ``starttime``), which never change.
    """
    if current() != LINUX:
        import psutil

        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.3f}"
        except psutil.Error:
            return None
    try:
        # The name stands in brackets and may hold anything, brackets too.
        fields = (_PROCESSES / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    boot = _this_boot()
    return None if fields[0] in "ZX" or not boot else f"{boot}:{fields[19]}"


def is_running(pid: object, mark: object) -> bool:
    """Whether the process of this number and `process_mark` runs, and not a later one with its number. Both may come
    from a file that anybody wrote."""
    return isinstance(pid, int) and mark is not None and process_mark(pid) == mark


def _this_boot() -> str:
    """Linux's name for the time since the machine was started; empty where it does not say."""
    try:
        return _BOOT.read_text("ascii").strip()
    except OSError:
        return ""


def started() -> float:
    """Epoch second at which the machine was started."""
    import psutil

    return psutil.boot_time()


def born(pid: int) -> float:
    """Epoch second at which a process began; 0 when it has ended."""
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


def is_of_this_boot(mark: object) -> bool:
    """Whether a mark was made since the machine was started: it names the boot, which no file from elsewhere can know.
    Only Linux's do."""
    if current() != LINUX or not isinstance(mark, str):
        return False
    boot = _this_boot()
    return bool(boot) and mark.startswith(f"{boot}:")


def group_members(group: int) -> list[int]:
    """Processes that run in the process group, its head included; on Windows none can be told when the head is gone."""
    if current() == WINDOWS:
        return [process.pid for process in _family(group)]
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def _family(pid: int) -> list[psutil.Process]:
    import psutil  # here and not above: the window's first frame needs this room but not psutil, which takes 20 ms

    try:
        head = psutil.Process(pid)
        return [*head.children(recursive=True), head]
    except psutil.NoSuchProcess:
        return []


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut. Windows does so by itself."""
    if current() == WINDOWS:
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(source: Path, target: Path) -> None:
    """Put ``source`` in the place of the file ``target`` in one step.

    Windows refuses while another program (a virus scanner, an indexer) has the target open, mostly for an instant: it
    is tried again for two seconds.

    Raises:
        OSError: it cannot be replaced.
    """
    attempts = 20 if current() == WINDOWS else 1
    for attempt in range(attempts):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == attempts - 1:
                raise
            time.sleep(0.1)


def has_display() -> bool:
    """Whether a window can be shown."""
    if current() == LINUX:
        named = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        return bool(named or os.environ.get("QT_QPA_PLATFORM"))
    return True


def system_libraries_hint() -> str:
    """The command that installs what Qt needs, empty where nothing is missing by design."""
    if current() == LINUX:
        return "sudo apt-get install libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libxcb-cursor0"
    return ""


def memory_kill_count(pid: int) -> tuple[Path, int] | None:
    """Where the system counts the processes that it ended for lack of memory, and how many it has, where ``pid`` runs.

    On Linux that is the process's own memory group (containers and desktop sessions have one), else the whole machine.
    None where the system keeps no such count (Windows and macOS do not).
    """
    if current() != LINUX:
        return None
    for path in (*_memory_groups(pid), _VMSTAT):
        count = memory_kills(path)
        if count is not None:
            return path, count
    return None


_CGROUPS, _VMSTAT, _PROCESSES = Path("/sys/fs/cgroup"), Path("/proc/vmstat"), Path("/proc")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def _memory_groups(pid: int) -> list[Path]:
    """Files in which the process's memory group counts, of the newer and the older kind of groups."""
    try:
        lines = (_PROCESSES / str(pid) / "cgroup").read_text("utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        # A container may see its own group as the root, and yet be told the group's name outside.
        if not controllers:
            found += [_CGROUPS / name / "memory.events" for name in (group.lstrip("/"), "")]
        elif "memory" in controllers.split(","):
            found += [_CGROUPS / "memory" / name / "memory.oom_control" for name in (group.lstrip("/"), "")]
    return found


def memory_kills(path: Path) -> int | None:
    """The count that `memory_kill_count` found in ``path``, as it is now; None when it is not there (any more).

    Paths come from files of a project, which may be anybody's: nothing but the system's own counts is read.
    """
    if path != _VMSTAT and (_CGROUPS not in path.parents or ".." in path.parts):
        return None
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return None
    counts = (line.split() for line in lines)
    return next((int(words[1]) for words in counts if len(words) == 2 and words[0] == "oom_kill"), None)
