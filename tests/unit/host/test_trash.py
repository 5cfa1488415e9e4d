"""The trash of each system, none of them the developer's own."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.host import platform, trash
from engine.host.trash import move_to_trash
from engine.protocol.errors import UserError


@pytest.fixture
def bin_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platform, "current", lambda: platform.LINUX)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return tmp_path / "share" / "Trash"


def test_a_folder_lies_in_the_trash_with_its_old_place(bin_: Path, tmp_path: Path) -> None:
    for _ in range(2):
        folder = tmp_path / "run 1 训练%"
        folder.mkdir()
        (folder / "run.json").write_text("{}")
        move_to_trash(folder)
        assert not folder.exists()
    assert sorted(path.name for path in (bin_ / "files").iterdir()) == ["run 1 训练%", "run 1 训练%.1"]
    note = (bin_ / "info" / "run 1 训练%.trashinfo").read_text()
    assert note.startswith("[Trash Info]\nPath=/")
    assert "run%201%20%E8%AE%AD%E7%BB%83%25" in note


def test_a_link_is_moved_and_not_what_it_leads_to(bin_: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    move_to_trash(tmp_path / "link")
    assert (tmp_path / "mine").is_dir()
    assert (bin_ / "files" / "link").is_symlink()


def test_another_disk_has_a_trash_of_its_own(bin_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "run").mkdir()
    own = trash._trash_for

    def elsewhere(path: Path) -> tuple[Path, Path | None]:
        assert own(path)[0] == bin_
        return disk / f".Trash-{os.getuid()}", disk

    monkeypatch.setattr(trash, "_trash_for", elsewhere)
    move_to_trash(disk / "run")
    assert (disk / f".Trash-{os.getuid()}" / "files" / "run").is_dir()
    assert "Path=run\n" in (disk / f".Trash-{os.getuid()}" / "info" / "run.trashinfo").read_text()


def test_what_cannot_be_moved_stays(bin_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()

    def refuse(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(trash.os, "rename", refuse)
    with pytest.raises(UserError, match="could not be moved to the trash"):
        move_to_trash(tmp_path / "run")
    assert (tmp_path / "run").is_dir()
    assert list((bin_ / "info").iterdir()) == []


@pytest.mark.parametrize(("system", "program"), [(platform.WINDOWS, "powershell"), (platform.MAC, "osascript")])
def test_no_name_is_taken_for_a_command_by_other_systems(
    system: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    environments: list[dict[str, str]] = []

    def run(command: list[str], **options: Any) -> None:
        commands.append(command)
        environments.append(options["env"])
        if len(commands) > 1:
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(platform, "current", lambda: system)
    monkeypatch.setattr(subprocess, "run", run)
    path = tmp_path / "$(rm -rf x); 'run'"
    path.mkdir()
    move_to_trash(path)
    # What stands behind a script is more script for PowerShell; osascript takes it for an argument.
    given = commands[0] if system == platform.WINDOWS else commands[0][:-1]
    assert commands[0][0] == program
    assert "rm -rf" not in " ".join(given)
    assert str(path) in (environments[0]["LORIMER_TO_TRASH"], commands[0][-1])
    with pytest.raises(UserError):
        move_to_trash(path)
