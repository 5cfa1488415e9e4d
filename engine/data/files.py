"""What lies on the disk: folders to data files, compressed files to bytes. Nothing is read whole."""

from __future__ import annotations

import io
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.endings import ENDINGS, PACKED
from engine.project.atomic import disk_error
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import say

_MARKS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
# Files that describe a data set or its folder, and are none.
_NOT_ROWS = (
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "readme.md",
    "license.txt",
    "license.md",
    "requirements.txt",
    "package.json",
    "config.json",
)
_MEASURED = ("test", "validation", "valid", "val", "dev", "eval")
_MOST_FILES = 10_000
# A file of text seldom packs to a fiftieth; what unpacks to far more is made to fill memory and disk.
_BOMB_RATIO, _BOMB_BYTES = 300, 128 * 1024**2


@dataclass(frozen=True, slots=True)
class Found:
    """The data files that a list of files and folders comes to.

    Attributes:
        files: in order, those of a folder sorted by name.
        problems: what of the folders is not used, and why.
    """

    files: tuple[Path, ...]
    problems: tuple[Problem, ...] = ()


def plain_suffix(path: Path) -> str:
    """The ending that tells the format, in lower case: of ``rows.jsonl.gz`` it is ``.jsonl``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def expand(names: Sequence[str | Path]) -> Found:
    """Files as they are; folders as the data files in them.

    Links that lead out of their folder are left out, and so are a folder's test and validation files where it has
    others: both are told.

    Raises:
        UserError: a folder holds no data file, or cannot be listed.
    """
    files: list[Path] = []
    problems: list[Problem] = []
    for name in names:
        path = Path(name)
        if not path.is_dir():
            files.append(path)
            continue
        inside = list(_inside(path, problems))
        trained = [file for file in inside if not _is_measured(file, path)]
        if trained and len(trained) < len(inside):
            problems.append(_left_for_measuring(path, [file for file in inside if file not in trained]))
        if not inside:
            raise _no_file(path)
        files += trained or inside
    return Found(tuple(dict.fromkeys(files)), tuple(problems))


def _inside(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    root = folder.resolve()
    try:
        found = sorted(folder.rglob("*"))[:_MOST_FILES]
    except OSError as error:
        raise disk_error(error, folder) from error
    for path in found:
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        if not path.resolve().is_relative_to(root):
            message = say("{name} is a link out of its folder.", "{name} 是指向文件夹外的链接。", name=path.name)
            hint = say("Import the file itself if it is wanted.", "如需使用，请直接导入该文件。")
            problems.append(Problem("data.link", message, hint, str(path)))
        elif plain_suffix(path) in ENDINGS and path.name.lower() not in _NOT_ROWS:
            yield path


def _is_measured(file: Path, folder: Path) -> bool:
    """Whether a file's name, or that of a folder around it, says that it is to measure with."""
    names = [*file.relative_to(folder).parts[:-1], file.name.split(".")[0]]
    return any(name.lower().replace("_", "-").split("-")[0] in _MEASURED for name in names)


def _left_for_measuring(folder: Path, files: Sequence[Path]) -> Problem:
    message = say(
        "{names} in {folder} is named as data to measure with, and is not trained on.",
        "{folder} 中的 {names} 从名称看用于评估，不参与训练。",
        names=", ".join(file.name for file in files[:5]),
        folder=folder.name,
    )
    hint = say("Set it as the held-out file, or add it as a file of its own.", "请设为留出文件，或单独添加。")
    return Problem("data.measured_files", message, hint, str(folder))


def _no_plain_file(path: Path) -> UserError:
    return UserError(
        "data.no_file",
        say("{name} is no file but a pipe or device.", "{name} 不是文件，而是管道或设备。", name=path.name),
        say("Save what it gives to a file, and choose that.", "请先把内容保存为文件，再选择该文件。"),
        where=str(path),
    )


def _no_file(folder: Path) -> UserError:
    return UserError(
        "data.folder",
        say("{name} holds no data file.", "{name} 中没有数据文件。", name=folder.name or str(folder)),
        say(
            "Known endings: {all}, also packed as .gz or .zst.", "支持：{all}，以及 .gz、.zst。", all=", ".join(ENDINGS)
        ),
        where=str(folder),
    )


# ------------------------------------------------------------------------------------------------------------- bytes
class Bytes(io.RawIOBase):
    """A file's bytes, unpacked where it is compressed, as a raw stream.

    Attributes:
        is_broken: a compressed file ended before its end, or is damaged: what could be unpacked was given.

    Raises:
        UserError: it cannot be read, or unpacks to so much more than it is that no data set does.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.is_broken = False
        self._given = 0
        try:
            status = path.stat()
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise _no_plain_file(path)  # a pipe would be waited for, and some devices never end
            self._size = status.st_size
            with path.open("rb") as file:
                self.packing = next((kind for mark, kind in _MARKS.items() if file.peek(4).startswith(mark)), "")
            self._file: Any = self._opened()
        except OSError as error:
            raise disk_error(error, path) from error

    def _opened(self) -> Any:
        if self.packing == "gzip":
            return _Gunzip(self._path)
        if self.packing == "zstd":
            import pyarrow  # a third of a second; few files are packed like this

            return pyarrow.input_stream(str(self._path), compression="zstd")
        return self._path.open("rb", buffering=0)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether it is not packed."""
        return not self.packing

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte of a file that is not packed."""
        if self.packing:
            raise io.UnsupportedOperation("seek")
        position: int = self._file.seek(offset, whence)
        return position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as there are bytes; 0 at the end."""
        try:
            content = self._file.read(len(buffer))
        except (EOFError, zlib.error, OSError) as error:
            if not self.packing:
                raise disk_error(error, self._path) from error  # type: ignore[arg-type]
            self.is_broken, content = True, b""
        self._given += len(content)
        if self.packing and self._given > max(_BOMB_BYTES, _BOMB_RATIO * self._size):
            raise _bomb(self._path)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()


class _Gunzip:
    """A gzip file unpacked as far as it goes: Python's own reader gives nothing of the piece in which it breaks off."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._unpack = zlib.decompressobj(_GZIP)
        self._left = b""

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes, none at the end. Raises `EOFError` where it breaks off, `zlib.error` where it is
        damaged."""
        while True:
            packed = self._unpack.unconsumed_tail or self._left or self._file.read(_PACKED_PIECE)
            self._left = b""
            if not packed:
                if self._unpack.eof or self._is_new:
                    return b""
                raise EOFError
            content = self._unpack.decompress(packed, count)
            if self._unpack.eof:  # files put one behind the other are one file
                self._left = self._unpack.unused_data.lstrip(b"\0")
                self._unpack = zlib.decompressobj(_GZIP)
                self._is_new = not self._left
            else:
                self._is_new = False
            if content:
                return content

    _is_new = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()


_GZIP = 16 + zlib.MAX_WBITS
_PACKED_PIECE = 1 << 16


def open_bytes(path: Path) -> io.BufferedReader:
    """A file's bytes, unpacked, buffered. Raises as `Bytes`."""
    return io.BufferedReader(Bytes(path), 1 << 20)


def _bomb(path: Path) -> UserError:
    return UserError(
        "data.bomb",
        say(
            "{name} unpacks to more than {n} times its size, as no data set does.",
            "{name} 解压后超过其大小的 {n} 倍，不像是数据集。",
            name=path.name,
            n=_BOMB_RATIO,
        ),
        say("If you trust it, unpack it yourself and import the result.", "若确信无误，请自行解压后再导入。"),
        where=str(path),
    )
