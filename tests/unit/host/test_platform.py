"""Each system's branch, by a faked platform."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.host import platform


def _on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, "platform", {"linux": "linux", "windows": "win32", "mac": "darwin"}[name])


@pytest.mark.parametrize("name", ["linux", "windows", "mac"])
def test_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _on(monkeypatch, name)
    assert platform.current() == name


@pytest.mark.parametrize(
    ("name", "variable", "expected"),
    [
        ("linux", "XDG_CONFIG_HOME", "base/lorimer"),
        ("windows", "APPDATA", "base/Lorimer"),
        ("mac", "", "home/Library/Application Support/Lorimer"),
    ],
)
def test_config_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, variable: str, expected: str
) -> None:
    _on(monkeypatch, name)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "base"))
    assert platform.config_folder() == Path(os.environ["LORIMER_HOME"])
    monkeypatch.delenv("LORIMER_HOME")
    assert platform.config_folder() == tmp_path / expected


@pytest.mark.parametrize(
    ("name", "detached", "session", "flags"),
    [
        ("linux", True, True, 0),
        ("linux", False, False, 0),
        ("mac", True, True, 0),
        ("windows", True, False, 0x08000000 | 0x200 | 0x01000000),
        ("windows", False, False, 0x08000000),
    ],
)
def test_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, detached: bool, session: bool, flags: int
) -> None:
    _on(monkeypatch, name)
    seen: dict[str, Any] = {}
    monkeypatch.setattr(subprocess, "Popen", lambda command, **given: seen.update(given, command=command))
    platform.start(["x"], folder=tmp_path, environment={}, stdin=0, stdout=1, stderr=2, detached=detached)
    assert (seen["start_new_session"], seen["creationflags"]) == (session, flags)


@pytest.mark.parametrize(("force", "number"), [(False, signal.SIGTERM), (True, signal.SIGKILL)])
def test_end_group_by_signal(monkeypatch: pytest.MonkeyPatch, force: bool, number: int) -> None:
    _on(monkeypatch, "linux")
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda pid, signal_number: sent.append((pid, signal_number)))
    platform.end_group(123, force=force)
    assert sent == [(123, number)]


@pytest.mark.parametrize("force", [False, True])
def test_end_group_on_windows_takes_the_children_first(monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
    _on(monkeypatch, "windows")
    done: list[str] = []

    class Fake:
        def __init__(self, pid: int) -> None:
            self.pid = pid

        def children(self, *, recursive: bool) -> list["Fake"]:
            return [Fake(2)] if recursive else []

        def kill(self) -> None:
            done.append(f"kill {self.pid}")

        def terminate(self) -> None:
            done.append(f"terminate {self.pid}")

    monkeypatch.setattr(psutil, "Process", Fake)
    platform.end_group(1, force=force)
    verb = "kill" if force else "terminate"
    assert done == [f"{verb} 2", f"{verb} 1"]


@pytest.mark.parametrize("name", ["linux", "windows"])
def test_ending_what_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    _on(monkeypatch, name)
    platform.end_group(ended.pid, force=True)
    assert not psutil.pid_exists(ended.pid)


def test_windows_tries_again_while_a_scanner_holds_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _on(monkeypatch, "windows")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    real, calls = os.replace, []

    def held(source: Path, target: Path) -> None:
        calls.append(1)
        if len(calls) < 3:
            raise PermissionError(13, "in use")
        real(source, target)

    monkeypatch.setattr(os, "replace", held)
    (tmp_path / "a").write_text("new")
    platform.replace(tmp_path / "a", tmp_path / "b")
    assert ((tmp_path / "b").read_text(), len(calls)) == ("new", 3)


def test_linux_does_not_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def held(source: Path, target: Path) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(PermissionError):
        platform.replace(tmp_path / "a", tmp_path / "b")


def test_sync_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    platform.sync_folder(tmp_path)
    _on(monkeypatch, "windows")
    platform.sync_folder(tmp_path / "absent")  # Windows: nothing to do, so nothing to fail
    _on(monkeypatch, "linux")
    with pytest.raises(FileNotFoundError):
        platform.sync_folder(tmp_path / "absent")


def test_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    assert not platform.has_display()
    _on(monkeypatch, "windows")
    assert platform.has_display()
    assert platform.system_libraries_hint() == ""
    _on(monkeypatch, "linux")
    assert "libegl1" in platform.system_libraries_hint()


@pytest.mark.parametrize(("name", "before", "expected"), [("linux", 0, 10), ("mac", 15, 19), ("windows", 32, 16384)])
def test_helpers_give_way(monkeypatch: pytest.MonkeyPatch, name: str, before: int, expected: int) -> None:
    chosen: list[int] = []

    class Faked:
        def nice(self, value: int | None = None) -> int:
            chosen.extend([] if value is None else [value])
            return before

    _on(monkeypatch, name)
    monkeypatch.setattr(psutil, "Process", Faked)
    platform.give_way()
    assert chosen == [expected]


# ------------------------------------------------------------------------------------- ended for lack of memory
@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A faked /proc and /sys/fs/cgroup below one folder; process 7 has no group yet."""
    _on(monkeypatch, "linux")
    for name in ("proc/7", "groups"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(platform, "_PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(platform, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(platform, "_VMSTAT", tmp_path / "proc" / "vmstat")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/user.slice/app.scope", "groups/user.slice/app.scope/memory.events"),
        ("0::/docker/4f", "groups/memory.events"),
        ("4:cpu:/a\n9:memory:/docker/4f", "groups/memory/docker/4f/memory.oom_control"),
        ("0::/", "proc/vmstat"),
    ],
)
def test_memory_kills_are_counted_where_the_process_is(groups: Path, line: str, file: str) -> None:
    (groups / "proc" / "7" / "cgroup").write_text(line + "\n")
    path = groups / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("low 0\noom 4\noom_kill 2\noom_group_kill 0\n")
    assert platform.memory_kill_count(7) == (path, 2)
    path.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert platform.memory_kills(path) == 3


def test_where_nothing_is_counted_nothing_is_known(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert platform.memory_kill_count(7) is None
    assert platform.memory_kills(groups / "gone") is None
    (groups / "proc" / "vmstat").write_text("oom_kill 1\n")
    assert platform.memory_kill_count(7) == (groups / "proc" / "vmstat", 1)
    for name in ("windows", "mac"):
        _on(monkeypatch, name)
        assert platform.memory_kill_count(7) is None


@pytest.mark.parametrize("name", ["linux", "windows", "mac"])
def test_the_peak_is_forgotten_where_the_system_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    _on(monkeypatch, name)
    status, clear = tmp_path / "status", tmp_path / "clear_refs"
    status.write_text("Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  300 kB\n", encoding="ascii")
    monkeypatch.setattr(platform, "_STATUS", status)
    monkeypatch.setattr(platform, "_CLEAR", clear)
    known = 300 * 1024 if name == "linux" else None
    assert platform.peak_memory() == known
    assert not clear.exists()
    assert platform.peak_memory(forget=True) == known
    assert clear.exists() == (name == "linux")
    status.unlink()
    assert platform.peak_memory() is None


def test_who_is_ended_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(Path, "write_text", lambda self, text, **_: written.append((str(self), text)))
    _on(monkeypatch, "windows")
    platform.be_ended_first()
    assert written == []
    _on(monkeypatch, "linux")
    platform.be_ended_first()
    assert written == [("/proc/self/oom_score_adj", "1000")]
