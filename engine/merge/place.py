"""Where a merge or an export is put: complete or absent, and never over what is not an earlier one of ours."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.project.atomic import disk_error, read_json, write_json
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

MARK = "lorimer-export.json"
GGUF_KEY = "lorimer.run"
_GIB = 1024**3
_SPARE = 64 * 1024**2


@contextmanager
def writing_folder(out: Path, mark: dict[str, object]) -> Iterator[Path]:
    """A folder that takes the place of ``out`` when the block ends well, and leaves nothing when it does not.

    Args:
        out: absent, empty, or an earlier export (it holds `MARK`).
        mark: what to write into `MARK`.

    Raises:
        UserError: ``out`` holds something else, or the disk does not take it.
    """
    check_folder(out)
    temporary: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.", suffix=".part", dir=out.parent))
        yield temporary
        write_json(temporary / MARK, mark)
        _flush(temporary)
        temporary.chmod(0o777 & ~_umask())
        _swap(temporary, out)
        temporary = None
    except OSError as error:
        raise disk_error(error, out) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def writing_file(out: Path) -> Iterator[Path]:
    """A path beside ``out`` that takes its place when the block ends well, and is removed when it does not.

    Raises:
        UserError: ``out`` is something that is not an earlier GGUF of ours, or the disk does not take it.
    """
    check_gguf(out)
    temporary: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{out.name[:40]}.", suffix=".part", dir=out.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, out)
        temporary = None
    except OSError as error:
        raise disk_error(error, out) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_folder(out: Path) -> None:
    """See that a folder may be written at ``out``. Raises `UserError`."""
    if out.is_dir():
        if any(out.iterdir()) and not (out / MARK).is_file():
            raise _occupied(out)
    elif out.exists() or out.is_symlink():
        raise _occupied(out)


def check_gguf(out: Path) -> None:
    """See that a GGUF may be written at ``out``: absent, or an earlier one of ours. Raises `UserError`."""
    if not out.exists():
        return
    if out.is_file():
        with out.open("rb") as file:
            head = file.read(4096)
        # Our key stands among the first; a whole vocabulary need not be read to find it.
        if head.startswith(b"GGUF") and GGUF_KEY.encode() in head:
            return
    raise _occupied(out)


def check_space(out: Path, needed: int) -> None:
    """See that ``needed`` bytes fit on the disk of ``out`` (its nearest folder that exists). Raises `UserError`."""
    folder = next(parent for parent in out.absolute().parents if parent.is_dir())
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise disk_error(error, folder) from error
    if free < needed + _SPARE:
        raise UserError(
            "disk.full",
            say(
                "{folder} has {free:.2f} GiB free, but {needed:.2f} GiB are needed.",
                "{folder} 剩余 {free:.2f} GiB，但需要 {needed:.2f} GiB。",
                folder=folder,
                free=free / _GIB,
                needed=(needed + _SPARE) / _GIB,
            ),
            say("Free some space, or choose another disk.", "请腾出空间，或选择其他磁盘。"),
            where=str(out),
            exit_code=EXIT_MACHINE,
        )


def earlier(out: Path) -> dict[str, object]:
    """The mark of an earlier export at ``out``; empty when there is none."""
    if not (out / MARK).is_file():
        return {}
    mark: dict[str, object] = read_json(out / MARK)
    return mark


def _occupied(out: Path) -> UserError:
    return UserError(
        "export.occupied",
        say(
            "{out} already holds something that Lorimer did not export.",
            "{out} 中已有内容，且不是 Lorimer 导出的。",
            out=out,
        ),
        say("Choose another name; only an earlier export is replaced.", "请换一个名称；只有先前的导出才会被替换。"),
        where=str(out),
    )


def _swap(new: Path, out: Path) -> None:
    """Put ``new`` where ``out`` is; the old one goes only after the new one is in place."""
    if not out.exists():
        os.replace(new, out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.", suffix=".old", dir=out.parent))
    aside = old / "was"
    os.replace(out, aside)
    try:
        os.replace(new, out)
    except OSError:
        os.replace(aside, out)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
