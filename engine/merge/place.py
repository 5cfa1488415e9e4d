"""Where a merge or an export is put: complete or absent, and never over what is not an earlier one of ours."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from engine.export.ledger import MARK as WARNING
from engine.project.atomic import disk_error, flush, read_json, share, write_json
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
        out: absent, empty, or an earlier export of the same kind from the same run, without a file of someone else's.
        mark: what to write into `MARK`, with ``kind`` and ``run``; the names of all files are added.

    Raises:
        UserError: ``out`` holds something else, or the disk does not take it.
    """
    check_folder(out, mark)
    temporary: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.", suffix=".part", dir=out.parent))
        yield temporary
        write_json(temporary / MARK, {**mark, "files": sorted(path.name for path in temporary.iterdir())})
        _flush(temporary)
        share(temporary)
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
        flush(temporary)
        share(temporary)
        os.replace(temporary, out)
        temporary = None
    except OSError as error:
        raise disk_error(error, out) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_folder(out: Path, mark: Mapping[str, object]) -> None:
    """See that the export of ``mark`` may be put at ``out``, as `writing_folder` says. Raises `UserError`."""
    if out.is_dir():
        if any(out.iterdir()) and not _may_go(out, mark):
            raise _occupied(out)
    elif out.exists() or out.is_symlink():
        raise _occupied(out)


def _may_go(out: Path, mark: Mapping[str, object]) -> bool:
    """Whether all that lies in ``out`` is what the new export replaces."""
    if not (out / MARK).is_file():
        return False
    known = read_json(out / MARK)
    ours = {MARK, WARNING, *known.get("files", ())}
    same = all(known.get(name) == mark.get(name) for name in ("kind", "run"))
    return same and all(path.name in ours and not path.is_dir() for path in out.iterdir())


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


def _occupied(out: Path) -> UserError:
    return UserError(
        "export.occupied",
        say(
            "{out} already holds something else.",
            "{out} 中已有其他内容。",
            out=out,
        ),
        say(
            "Choose another name; only an earlier export of the same kind from the same run is replaced.",
            "请换一个名称；只会替换同一训练先前的同类导出。",
        ),
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
            share(path)  # safetensors writes for the owner's eyes only
            flush(path)
