"""Runs that wait for their turn: order, what an end means for the next, two that look after it, strangers."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engine.project import claim, queue
from engine.project.atomic import write_json
from engine.project.claim import claimed
from engine.project.project import Project
from engine.project.queue import ANY, ONLY_IF_DONE, Entry, add, advance, entries, move, remove, set_after
from engine.project.recent import MOST, at_work, forget, recent, remember, remember_project_of
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.events import Finished, Launched
from engine.protocol.text import say
from tests.unit.project.made_run import leave, make_run, work_on, write


def with_forks(test: Callable[..., None]) -> Callable[..., None]:
    """A test that makes processes of this one, where the system can."""
    can = "fork" in multiprocessing.get_all_start_methods()
    # From Python 3.12 on a fork warns of threads, of which the tests' own runner has some.
    quiet = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    marked: Callable[..., None] = quiet(pytest.mark.skipif(not can, reason="this system has no fork")(test))
    return marked


def new_runs(project: Path, *titles: str) -> list[RunFolder]:
    """Runs that nobody has started."""
    found = []
    for title in titles:
        run = make_run(project, title, status="", steps=0)
        run.events.unlink()
        found.append(run)
    return found


def begin(run: RunFolder) -> None:
    write(run, Launched(kind="train"))
    work_on(run)


def end(run: RunFolder, status: str = "done") -> None:
    leave(run)
    write(run, Finished(status=status))


def states() -> list[tuple[str, str]]:
    return [(item.title, item.status or item.state) for item in entries()]


# -------------------------------------------------------------------------------------------------------------- turns
def test_one_after_the_other(tmp_path: Path) -> None:
    one, two = new_runs(tmp_path, "one", "two")
    add(one)
    add(two, after=ONLY_IF_DONE)
    looked = advance(begin)
    assert looked.started is not None
    assert looked.started.folder == one
    assert advance(begin).started is None
    end(one)
    looked = advance(begin)
    assert [item.title for item in looked.ended] == ["one"]
    assert looked.started is not None
    assert looked.started.folder == two
    end(two, "stopped")
    assert [item.status for item in advance(begin).ended] == ["stopped"]
    assert advance(begin) == queue.Advance(entries())
    assert states() == [("one", "done"), ("two", "stopped")]


def test_what_is_only_for_a_good_end_is_held(tmp_path: Path) -> None:
    one, two, three, four = new_runs(tmp_path, "one", "two", "three", "four")
    add(one)
    add(two, after=ONLY_IF_DONE)
    add(three, after=ONLY_IF_DONE)
    add(four, after=ANY)
    advance(begin)
    end(one, "failed")
    looked = advance(begin)
    assert looked.started is not None
    assert looked.started.folder == four
    assert states() == [("one", "failed"), ("two", "held"), ("three", "held"), ("four", "running")]
    assert entries()[1].reason == say("Held back, because “0001 one” failed.", "未开始，因为“0001 one”失败了。")
    end(four)
    set_after(entries()[1].id, ANY)
    looked = advance(begin)
    assert looked.started is not None
    assert looked.started.folder == two
    end(two)


def test_what_trains_in_a_project_that_left_the_list_is_waited_for(tmp_path: Path) -> None:
    (outside,), (one,) = new_runs(tmp_path / "a", "outside"), new_runs(tmp_path / "b", "one")
    remember_project_of(outside)
    begin(outside)
    for number in range(MOST + 2):
        remember(Project.open_or_create(tmp_path / f"other {number}").path)
    assert tmp_path / "a" not in recent()
    add(one)
    assert advance(begin).started is None
    end(outside)
    started = advance(begin).started
    assert started is not None
    assert started.folder == one
    remember(tmp_path / "b")
    assert at_work() == []
    forget(tmp_path / "b")  # a person took it off the list while it trains
    assert queue.trains_here() == one
    end(one)


def test_what_a_queue_starts_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = new_runs(tmp_path / "a", "one")
    one.facts.write_text("{")
    monkeypatch.setattr(queue, "start_job", lambda run, kind, arguments: begin(run))
    add(one)
    advance()
    assert recent() == [tmp_path / "a"]
    assert one.read_facts()["title"] == "one"  # rebuilt
    end(one)


def test_behind_a_run_outside_of_the_queue(tmp_path: Path) -> None:
    outside, one = new_runs(tmp_path, "outside", "one")
    remember(tmp_path)
    begin(outside)
    add(one, after=ONLY_IF_DONE, behind=outside)
    assert advance(begin).started is None
    end(outside, "failed")
    assert advance(begin).started is None
    assert states() == [("one", "held")]


def test_nothing_starts_while_another_project_trains(tmp_path: Path) -> None:
    (other,) = new_runs(tmp_path / "other", "other")
    remember(tmp_path / "other")
    (one,) = new_runs(tmp_path / "p", "one")
    begin(other)
    add(one)
    assert advance(begin).started is None
    assert states() == [("one", "waiting")]
    end(other)
    assert advance(begin).started is not None
    end(one)


def test_a_run_that_is_gone_is_told_and_passed_over(tmp_path: Path) -> None:
    one, two = new_runs(tmp_path, "one", "two")
    add(one)
    add(two)
    one.path.rename(tmp_path / "elsewhere")
    looked = advance(begin)
    assert looked.started is not None
    assert looked.started.folder == two
    assert states() == [("one", "missing"), ("two", "running")]
    assert "not there any more" in entries()[0].reason.en
    end(two)


def test_a_run_that_cannot_be_started_does_not_hold_up_the_next(tmp_path: Path) -> None:
    one, two = new_runs(tmp_path, "one", "two")
    add(one)
    add(two)

    def refuse(run: RunFolder) -> None:
        raise UserError("disk.full", say("The disk is full.", "磁盘已满。"))

    assert advance(refuse).started is None
    assert (entries()[0].status, entries()[0].reason.en) == ("failed", "The disk is full.")
    looked = advance(begin)
    assert looked.started is not None
    assert looked.started.folder == two
    end(two)


def test_order_is_the_persons(tmp_path: Path) -> None:
    for run in new_runs(tmp_path, "one", "two", "three"):
        add(run)
    move(entries()[2].id, -1)
    move(entries()[0].id, 1)
    assert [item.title for item in entries()] == ["three", "one", "two"]
    move(entries()[0].id, -5)
    remove(entries()[1].id)
    assert [item.title for item in entries()] == ["three", "two"]


def test_what_may_not_wait(tmp_path: Path) -> None:
    (one,) = new_runs(tmp_path, "one")
    add(one)
    with pytest.raises(UserError, match="in the queue already"):
        add(one)
    work_on(one)
    remove(entries()[0].id)
    with pytest.raises(UserError, match="being worked on"):
        add(one)
    leave(one)


# ----------------------------------------------------------------------------------------------------------- accidents
def test_who_died_while_starting_a_run(tmp_path: Path) -> None:
    """The run had not come to a record: it waits again. It had, and is over: it is not started twice."""
    one, two = new_runs(tmp_path, "one", "two")
    waiting = [Entry(name, str(run.path), name, state="starting", told=0) for name, run in (("a", one), ("b", two))]
    write(two, Launched(kind="train"), Finished(status="done"))
    queue._write(waiting)
    looked = advance(begin)
    assert [item.id for item in looked.ended] == ["b"]
    assert looked.started is not None
    assert looked.started.folder == one
    end(one)


def test_a_run_that_somebody_started_by_hand_is_taken_over(tmp_path: Path) -> None:
    (one,) = new_runs(tmp_path, "one")
    add(one)
    begin(one)
    assert advance(lambda run: pytest.fail("started twice")).started is None
    assert states() == [("one", "running")]
    end(one)


def _work_off(started: Path) -> None:
    def run_at_once(run: RunFolder) -> None:
        with started.open("a") as file:
            file.write(f"{run.id}\n")
        write(run, Launched(kind="train"), Finished(status="done"))

    while any(not item.is_over for item in entries()):
        with suppress(UserError):  # another holds it all the time
            advance(run_at_once)


@with_forks
def test_several_that_look_after_it_start_each_run_once(tmp_path: Path) -> None:
    waiting = new_runs(tmp_path / "p", *(f"run {number}" for number in range(8)))
    for run in waiting:
        add(run)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work_off, args=(tmp_path / "started",)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "started").read_text().splitlines() == [run.id for run in waiting]
    assert {item.status for item in entries()} == {"done"}


@pytest.mark.parametrize("content", ["", "[", '{"entries": 3}', '{"entries": [{"id": 1}, null]}', "[]"])
def test_an_unreadable_queue_is_empty(lorimer_home: Path, content: str) -> None:
    (lorimer_home / "queue.json").write_text(content)
    assert entries() == ()
    assert advance(begin) == queue.Advance()


def test_a_project_can_put_nothing_into_the_queue(tmp_path: Path) -> None:
    """Whatever lies in a project's folder, opening it changes no queue, also where it claims to be another one."""
    (mine,) = new_runs(tmp_path / "mine", "mine")
    add(mine)
    strange = make_run(tmp_path / "strange", "strange", status="", steps=0)
    write_json(tmp_path / "strange" / "queue.json", {"entries": [{"id": "x", "run": str(strange.path), "title": "x"}]})
    facts = json.loads((tmp_path / "strange" / "project.json").read_text())
    write_json(tmp_path / "strange" / "project.json", {**facts, "path": str(tmp_path / "mine")})
    Project.open_or_create(tmp_path / "strange").runs()
    assert [item.run for item in entries()] == [str(mine.path)]


# -------------------------------------------------------------------------------------------------------------- claims
@pytest.fixture
def lock(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "it.lock"
    assert list(tmp_path.glob("*it.lock*")) == []


def test_only_one_holds_it(lock: Path) -> None:
    with (
        claimed(lock),
        pytest.raises(UserError, match="Another window"),
        claimed(lock, seconds=0.1),
    ):
        pytest.fail("both hold it")


def test_one_whose_process_is_gone_is_void(lock: Path) -> None:
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    lock.write_text(json.dumps({"pid": int(process.stdout), "mark": "gone", "token": "t"}))
    with claimed(lock, seconds=1.0):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_one_that_was_never_written_is_void_after_a_while(lock: Path) -> None:
    lock.write_text("")
    with pytest.raises(UserError), claimed(lock, seconds=0.1):
        pytest.fail("somebody is writing it")
    old = time.time() - 2 * claim.WRITING_SECONDS
    os.utime(lock, (old, old))
    with claimed(lock, seconds=1.0):
        assert lock.exists()


def _count(lock: Path, counter: Path) -> None:
    for _ in range(20):
        with claimed(lock, seconds=30.0):
            counter.write_text(str(int(counter.read_text()) + 1))


@with_forks
def test_many_at_once(lock: Path, tmp_path: Path) -> None:
    """A counter that several processes raise, beginning with a claim whose process is gone."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    lock.write_text(json.dumps({"pid": 2**22 - 3, "mark": "gone", "token": "t"}))
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_count, args=(lock, counter)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert counter.read_text() == "60"
