"""One window controls a project. Whoever is gone controls nothing; whoever was quicker does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread

import pytest

from engine.host import platform
from engine.project import lease as leases
from engine.project.lease import UNREADABLE, VOID_SECONDS, Holder, Lease

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys, time
from pathlib import Path
from engine.project.lease import Lease
lease = Lease(Path(sys.argv[1]))
print("other" if lease.look() else "mine", flush=True)
for line in sys.stdin:
    print("other" if (lease.take() if line.strip() == "take" else lease.look()) else "mine", flush=True)
"""


class Clock:
    """Seconds that go on when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def files(project: Path) -> list[str]:
    return sorted(entry.name for entry in project.iterdir())


def test_the_first_controls_and_the_others_watch(tmp_path: Path) -> None:
    one, other = Lease(tmp_path), Lease(tmp_path)
    assert one.look() is None
    assert other.look() == one.me
    assert one.look() is None
    assert files(tmp_path) == ["control.1.json"]
    one.give_back()
    assert files(tmp_path) == []
    assert other.look() is None
    assert one.look() == other.me


def test_it_is_taken_over(tmp_path: Path) -> None:
    one, other = Lease(tmp_path), Lease(tmp_path)
    one.look()
    assert other.take() is None
    assert one.look() == other.me
    one.give_back()  # no longer its own
    assert other.look() is None
    assert files(tmp_path) == ["control.2.json"]
    assert other.take() is None
    assert files(tmp_path) == ["control.2.json"]


def test_another_process_controls_until_it_is_gone(tmp_path: Path) -> None:
    """Also when it was killed and could give nothing back."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(word: str) -> str:
        process.stdin.write(word + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    try:
        assert process.stdout.readline().strip() == "mine"
        lease = Lease(tmp_path)
        holder = lease.look()
        assert holder is not None
        assert holder.pid == process.pid
        assert lease.take() is None
        assert ask("look") == "other"
        assert ask("take") == "mine"
        assert getattr(lease.look(), "pid", 0) == process.pid
        process.kill()
        process.wait()
        assert lease.look() is None
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_of_many_that_come_at_once_one_controls(tmp_path: Path) -> None:
    many = [Lease(tmp_path) for _ in range(8)]
    for _ in range(20):
        start = Barrier(len(many))

        def ask(lease: Lease, start: Barrier = start) -> None:
            start.wait()
            lease.look()

        threads = [Thread(target=ask, args=[lease]) for lease in many]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        controlling = [lease for lease in many if lease.look() is None]
        assert len(controlling) == 1
        controlling[0].give_back()


def test_a_process_with_the_same_number_is_another(tmp_path: Path) -> None:
    known = {"host": Lease(tmp_path).me.host, "pid": os.getpid(), "mark": "another boot:1", "token": "a"}
    (tmp_path / "control.3.json").write_text(json.dumps(known))
    assert Lease(tmp_path).look() is None
    assert files(tmp_path) == ["control.4.json"]


def test_another_machine_must_renew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By how long one waited, whatever the wall clock does meanwhile."""
    far, clock = Lease(tmp_path, me=Holder("far", 4, "boot:1", "b")), Clock()
    far.look()
    lease = Lease(tmp_path, now=clock)
    for jump in (6 * 3600, -6 * 3600):
        monkeypatch.setattr("time.time", lambda jump=jump: 1.7e9 + jump)
        assert lease.look() == far.me
    clock.now += VOID_SECONDS - 1
    assert lease.look() == far.me
    os.utime(tmp_path / "control.1.json", (1, 1))  # renewed, by a clock that is decades behind
    clock.now += VOID_SECONDS - 1
    assert lease.look() == far.me
    clock.now += VOID_SECONDS + 1
    assert lease.look() is None
    assert far.look() == lease.me


def test_the_holder_renews_now_and_then(tmp_path: Path) -> None:
    clock = Clock()
    lease = Lease(tmp_path, now=clock)
    lease.look()
    file = tmp_path / "control.1.json"
    os.utime(file, (1, 1))
    lease.look()
    assert file.stat().st_mtime == 1
    clock.now += leases.RENEW_SECONDS
    lease.look()
    assert file.stat().st_mtime > 1


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b"[]", b"[" * 4000, b'{"host": 1, "pid": "x"}'])
def test_a_file_that_cannot_be_read_is_somebodys_for_a_while(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "control.1.json").write_bytes(content)
    clock = Clock()
    lease = Lease(tmp_path, now=clock)
    assert lease.look() == UNREADABLE
    clock.now += VOID_SECONDS + 1
    assert lease.look() is None


def test_a_number_made_from_an_old_look_does_not_count(tmp_path: Path) -> None:
    one, late = Lease(tmp_path), Lease(tmp_path)
    one.look()
    one.give_back()
    (tmp_path / "control.9.json").write_text((tmp_path / "x").name)
    assert late._claim(2) == UNREADABLE
    assert files(tmp_path) == ["control.9.json"]


def test_without_links_the_file_is_made_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", no_links)
    one, other = Lease(tmp_path), Lease(tmp_path)
    assert one.look() is None
    assert other.look() == one.me
    assert files(tmp_path) == ["control.1.json"]


def test_a_folder_that_takes_no_file_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Lease(tmp_path / "gone").look() is None
    one, other = Lease(tmp_path), Lease(tmp_path)
    one.look()
    assert other.look() == one.me
    tmp_path.rename(tmp_path.with_name("moved"))
    assert other.look() == one.me  # nothing is known that would change it
    other.give_back()
    tmp_path.with_name("moved").rename(tmp_path)


def test_where_the_system_knows_no_marks_the_file_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "process_mark", lambda pid: None)
    monkeypatch.setattr(leases, "process_mark", lambda pid: None)
    one, other = Lease(tmp_path), Lease(tmp_path)
    assert one.me.mark == ""
    assert one.look() is None
    assert other.look() == one.me
