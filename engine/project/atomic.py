"""Files that are complete or absent: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from engine.host.platform import replace, sync_folder
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that replaces ``path`` when the block ends well, and leaves nothing when it does not.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        share(temporary)
        replace(temporary, path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise disk_error(IsADirectoryError() if os.path.isdir(path) else error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``. Raises `UserError` as `writing` does."""
    with writing(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Replace ``path`` by ``content`` in UTF-8, line ends as given. Raises `UserError` as `writing` does."""
    write_bytes(path, content.encode("utf-8"))


def write_lines(path: Path, items: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file by JSON Lines, one item a line; however many there are, they are never all in memory.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    with writing(path) as file:
        for item in items:
            file.write((json.dumps(item, ensure_ascii=False) + "\n").encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Replace ``path`` by ``content`` as indented JSON. Raises `UserError` as `writing` does."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def open_plain(path: Path, mode: Literal["rb", "ab"] = "rb", *, links: bool = False) -> IO[bytes]:
    """A file that is a file, opened to be read or added to: never a pipe or a device, which would hang or never end,
    and, without ``links``, never a link. Folders may come from strangers, and a link could lead anywhere.

    Raises:
        OSError: it is something else, does not exist, or cannot be opened.
    """
    flags = (os.O_RDONLY if mode == "rb" else os.O_WRONLY | os.O_APPEND | os.O_CREAT) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    if not links:
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        flags |= getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags, 0o666)
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        number = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
        raise OSError(number, os.strerror(number), str(path))
    return os.fdopen(handle, mode)


def read_plain(path: Path) -> bytes:
    """The content of a file that is a file, or a link to one. Raises `OSError` as `open_plain` does."""
    with open_plain(path, links=True) as file:
        return file.read()


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_plain(path).decode("utf-8"))
    except OSError as error:
        raise disk_error(error, path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            "file.damaged",
            say("{name} is damaged and cannot be read.", "{name} 已损坏，无法读取。", name=path.name),
            say("Restore it from a copy, or remove it.", "请从备份恢复，或将其删除。"),
            where=str(path),
            details=str(error),
        ) from error


def disk_error(error: OSError, path: Path) -> UserError:
    """What a person should know of an `OSError` at ``path``."""
    if isinstance(error, FileNotFoundError):
        return UserError(
            "file.missing",
            say("{path} does not exist.", "{path} 不存在。", path=path),
            say("Check the path; was the file moved or renamed?", "请检查路径；文件是否被移动或改名？"),
            where=str(path),
        )
    if isinstance(error, IsADirectoryError):
        return UserError(
            "file.folder",
            say("{path} is a folder.", "{path} 是文件夹。", path=path),
            say("Choose a file in it.", "请选择其中的文件。"),
            where=str(path),
        )
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return UserError(
            "file.no_folder",
            say(
                "{path} leads through a file as if it were a folder.", "{path} 把其中一个文件当成了文件夹。", path=path
            ),
            say("Check the path, or choose another folder.", "请检查路径，或选择其他文件夹。"),
            where=str(path),
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            "disk.full",
            say("The disk that holds {path} is full.", "{path} 所在磁盘已满。", path=path.parent),
            say(
                "Free some space and try again; nothing that was there is lost.", "请腾出空间后重试；已有内容没有丢失。"
            ),
            where=str(path),
            exit_code=EXIT_MACHINE,
            details=str(error),
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(
            "disk.read_only",
            say("{path} cannot be written or read: no permission.", "没有权限读写 {path}。", path=path),
            say("Choose a folder of your own, or change its permissions.", "请选择你自己的文件夹，或修改其权限。"),
            where=str(path),
            exit_code=EXIT_MACHINE,
            details=str(error),
        )
    return UserError(
        "disk.error",
        # The system's words are in its own language; the Chinese sentence leaves them to the details.
        say("{path} cannot be used: {reason}.", "无法使用 {path}。", path=path, reason=error.strerror or error),
        say(
            "Is the disk connected and the name one that it takes? Check the path and try again.",
            "磁盘是否已连接，名称是否合法？请检查路径后重试。",
        ),
        where=str(path),
        exit_code=EXIT_MACHINE,
        details=str(error),
    )


def flush(path: Path) -> None:
    """Have the disk take what was written to a file that is closed. Raises `OSError`."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def share(path: Path) -> None:
    """Give a file or folder the rights that a new one has: temporary ones, and weights, are for their owner only."""
    path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
