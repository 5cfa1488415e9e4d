"""Data sets of the hub by their id: fetched once with the `datasets` library, then read offline from the cache."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs

from engine.data import cache
from engine.data.files import Found, expand
from engine.host.platform import cache_folder
from engine.project.atomic import disk_error
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import Text, say
from engine.recipe.recipe import HUB_DATA


def is_hub_data(name: str) -> bool:
    """Whether a name of ``data.files`` is an id of the hub."""
    return name.startswith(HUB_DATA)


def found(names: Sequence[str]) -> Found:
    """The files behind names of ``data.files``: files, folders and ids of the hub. Raises as `expand` and `fetched`."""
    return expand([path for name in names for path in (fetched(name) if is_hub_data(name) else [name])])


def fetched(name: str) -> list[Path]:
    """The Arrow files of a data set of the hub; fetched when they are not in the cache, without network when they are.

    Args:
        name: ``hub:owner/name`` or ``hub:owner/name?config=main&split=test``; the split is "train" where it names none.

    Raises:
        UserError: there is no such data set, configuration or split, or it cannot be reached (exit code 1).
    """
    source, _, query = name.removeprefix(HUB_DATA).partition("?")
    wished = {key: values[-1] for key, values in parse_qs(query).items()}
    unknown = set(wished) - {"config", "split", "revision"}
    if unknown or not source:
        raise _bad(name, say("“{name}” is no data set's id.", "“{name}”不是数据集标识。", name=name), _HOW)
    key = hashlib.blake2b(name.encode("utf-8"), digest_size=12).hexdigest()
    place = cache_folder() / "hub-data" / key
    cache.made(place, lambda there: _fetch(name, source, wished, there))
    return sorted(place.rglob("*.arrow"))


_HOW = say(
    "Write hub:owner/name, with ?config=…&split=… where it has several.",
    "写法为 hub:owner/name；有多个配置或划分时，在后面加上 “?config=…&split=…”。",
)


def _fetch(name: str, source: str, wished: dict[str, str], folder: Path) -> None:
    import datasets  # a second; most data are files
    from datasets.exceptions import DatasetNotFoundError

    try:
        with contextlib.redirect_stdout(None):
            found = datasets.load_dataset(
                source,
                wished.get("config"),
                split=wished.get("split", "train"),
                revision=wished.get("revision"),
            )
        found.save_to_disk(str(folder))
    except (DatasetNotFoundError, FileNotFoundError) as error:
        message = say(
            "There is no data set “{name}”, or it is not open to you.", "没有数据集“{name}”，或无权访问。", name=source
        )
        raise _bad(
            name,
            message,
            say("Check the id; log in to the hub for a gated one.", "请检查标识；受限数据集需先登录 hub。"),
            error,
        ) from error
    except ConnectionError as error:
        message = say(
            "The hub cannot be reached, and “{name}” is not in the cache.",
            "无法连接 hub，且“{name}”不在缓存中。",
            name=source,
        )
        raise UserError(
            "data.hub_offline",
            message,
            say("Connect once; later it is read offline.", "请先联网一次；之后可离线读取。"),
            where=name,
            exit_code=EXIT_MACHINE,
            details=str(error),
        ) from error
    except ValueError as error:
        # A configuration or split that there is not: the library's sentence names those that there are.
        said = " ".join(str(error).split())[:300]
        raise _bad(
            name,
            say("“{name}” cannot be taken: {said}", "无法使用“{name}”：{said}", name=source, said=said),
            _HOW,
            error,
        ) from error
    except OSError as error:
        raise disk_error(error, folder) from error
    (folder / cache.DONE).write_text("{}", "utf-8")


def _bad(name: str, message: Text, hint: Text, error: Exception | None = None) -> UserError:
    return UserError("data.hub", message, hint, where=name, details=str(error or ""))
