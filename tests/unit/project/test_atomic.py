"""A file is complete or absent, whatever goes wrong."""

import errno
import os
from pathlib import Path

import pytest

from engine.project import atomic
from engine.protocol.errors import UserError


def test_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "数据 1.json"
    atomic.write_json(path, {"a": "甲"})
    atomic.write_json(path, {"a": "乙"})
    assert atomic.read_json(path) == {"a": "乙"}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_failure_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    atomic.write_text(path, "old")
    with pytest.raises(ValueError, match="closed"), atomic.writing(path) as file:
        file.close()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("number", "code", "exit_code"),
    [
        (errno.ENOSPC, "disk.full", 1),
        (errno.EACCES, "disk.read_only", 1),
        (errno.EROFS, "disk.read_only", 1),
        (errno.EIO, "disk.error", 1),
    ],
)
def test_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str, exit_code: int
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError) as caught:
        atomic.write_text(tmp_path / "f", "x")
    assert (caught.value.problem.code, caught.value.exit_code) == (code, exit_code)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text('{"a": ')
    with pytest.raises(UserError, match="damaged"):
        atomic.read_json(tmp_path / "f.json")
    with pytest.raises(UserError, match="does not exist"):
        atomic.read_json(tmp_path / "g.json")


def test_a_folder_where_a_file_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="is a folder") as caught:
        atomic.write_text(tmp_path / "runs", "x")
    assert (caught.value.problem.code, caught.value.exit_code) == ("file.folder", 2)
    assert caught.value.problem.hint.en == "Choose a file in it."
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs"]


def test_a_file_where_a_folder_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError) as caught:
        atomic.write_text(tmp_path / "file" / "recipe.toml", "x")
    assert (caught.value.problem.code, caught.value.exit_code) == ("file.no_folder", 2)
    assert caught.value.problem.hint


def test_the_systems_words_stay_out_of_the_chinese_sentence(tmp_path: Path) -> None:
    problem = atomic.disk_error(OSError(errno.EIO, "Input/output error"), tmp_path).problem
    assert "Input/output error" in problem.message.en
    assert "Input/output error" not in problem.message.zh
    assert problem.hint.en
    assert problem.hint.zh
