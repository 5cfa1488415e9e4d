"""Checkpoints: complete or absent, checked when read, rotated."""

import errno
import json
from pathlib import Path

import pytest

from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.train import checkpoints
from engine.train.checkpoints import Checkpoint


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def write(run: RunFolder, step: int, content: str = "weights") -> Checkpoint:
    def fill(folder: Path) -> None:
        (folder / "adapter.bin").write_text(content)
        (folder / "inner").mkdir()
        (folder / "inner" / "more.bin").write_text("more")

    return checkpoints.write(run, step, {"tokens": step * 10}, fill)


def steps(run: RunFolder) -> list[int]:
    return [item.step for item in checkpoints.checkpoints(run)]


def test_written_checkpoint_is_whole_and_remembers(run: RunFolder) -> None:
    made = write(run, 100)
    assert made.path.name == "step-000100"
    assert checkpoints.is_whole(made)
    assert made.progress() == {"tokens": 1000}
    assert checkpoints.latest(run) == made
    assert set(json.loads((made.path / "manifest.json").read_text())["files"]) == {
        "adapter.bin",
        "inner/more.bin",
        "progress.json",
    }


def test_run_without_checkpoints_has_none(run: RunFolder) -> None:
    assert checkpoints.latest(run) is None
    assert checkpoints.damaged(run, checkpoints.latest(run)) == []


@pytest.mark.parametrize("harm", ["flipped", "shorter", "missing", "no manifest", "no json", "no files", "other json"])
def test_damaged_newest_is_passed_over(run: RunFolder, harm: str) -> None:
    good, bad = write(run, 10), write(run, 20)
    file, manifest = bad.path / "adapter.bin", bad.path / "manifest.json"
    {
        "flipped": lambda: file.write_text("weighty"),
        "shorter": lambda: file.write_text("weight"),
        "missing": file.unlink,
        "no manifest": manifest.unlink,
        "no json": lambda: manifest.write_text("{"),
        "no files": lambda: manifest.write_text('{"files": {}}'),
        "other json": lambda: manifest.write_text("[1]"),
    }[harm]()
    assert checkpoints.latest(run) == good
    assert checkpoints.damaged(run, checkpoints.latest(run)) == [bad]


def test_failed_filling_leaves_nothing_and_keeps_the_old_one(run: RunFolder) -> None:
    old = write(run, 10, "old")

    def fill(folder: Path) -> None:
        (folder / "adapter.bin").write_text("half")
        raise KeyError("while filling")

    with pytest.raises(KeyError):
        checkpoints.write(run, 10, {}, fill)
    assert (old.path / "adapter.bin").read_text() == "old"
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000010"]


def test_same_step_is_replaced(run: RunFolder) -> None:
    write(run, 10, "old")
    assert (write(run, 10, "new").path / "adapter.bin").read_text() == "new"
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000010"]


def test_parts_left_by_a_killed_process_are_no_checkpoints_and_go(run: RunFolder) -> None:
    left = run.checkpoints / ".step-000010.abc.part"
    left.mkdir(parents=True)
    assert checkpoints.checkpoints(run) == []
    write(run, 10)
    assert not left.exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed: No space left on device")]
)
def test_full_disk_is_told_in_a_sentence(run: RunFolder, error: Exception) -> None:
    write(run, 10)

    def fill(folder: Path) -> None:
        raise error

    with pytest.raises(UserError) as caught:
        checkpoints.write(run, 20, {}, fill)
    assert caught.value.problem.code == "disk.full"
    assert steps(run) == [10]


def test_other_library_errors_stay_what_they_are(run: RunFolder) -> None:
    def fill(folder: Path) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        checkpoints.write(run, 20, {}, fill)


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [(2, None, [30, 40]), (2, 10, [10, 30, 40]), (1, 40, [40]), (1, 20, [20, 40]), (9, None, [10, 20, 30, 40])],
)
def test_rotation_keeps_the_newest_and_the_best(run: RunFolder, keep: int, best: int | None, left: list[int]) -> None:
    made = [write(run, step) for step in (10, 20, 30, 40)]
    checkpoints.rotate(run, made[-1], keep, best)
    assert steps(run) == left
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [f"step-{step:06d}" for step in left]


def test_rotation_removes_what_a_resume_left_behind(run: RunFolder) -> None:
    made = [write(run, step) for step in (10, 20, 50)]
    checkpoints.rotate(run, made[1], 2, None)
    assert steps(run) == [10, 20]


def test_what_a_killed_process_left_is_put_right(run: RunFolder) -> None:
    kept = write(run, 100)
    # Killed between moving the old one away and the new one in.
    kept.path.rename(run.checkpoints / ".step-000100.old")
    # Killed after it: the old one only waits to be removed.
    write(run, 200)
    (run.checkpoints / ".step-000200.old").mkdir()
    (run.checkpoints / ".step-000300.abc.part").mkdir()
    (run.checkpoints / ".step-000050.removed").mkdir()
    run.adapter.with_name(".adapter.old").mkdir()
    run.recipe_as_run.with_name(".recipe.run.toml.x1.part").write_text("half")
    of_window = run.path / ".stop.json.x2.part"
    of_window.write_text("half")
    assert [item.step for item in checkpoints.checkpoints(run)] == [200]
    checkpoints.mend(run)
    assert [item.step for item in checkpoints.checkpoints(run)] == [100, 200]
    assert checkpoints.is_whole(kept)
    assert run.adapter.is_dir()
    assert [path.name for path in run.checkpoints.glob(".*")] == []
    assert [path.name for path in run.path.glob(".*")] == [of_window.name]


def test_a_disk_that_gives_back_something_else_is_told(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run, 100)
    plain = checkpoints._publish

    def untrue(folder: Path, place: Path) -> None:
        plain(folder, place)
        (place / "adapter.bin").write_bytes(b"other")

    monkeypatch.setattr(checkpoints, "_publish", untrue)
    with pytest.raises(UserError) as raised:
        write(run, 200)
    assert raised.value.problem.code == "disk.untrue"
    found = checkpoints.latest(run)
    assert found is not None
    assert found.step == 100
