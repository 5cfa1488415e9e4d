"""Data sets of the hub by their id: looked up and streamed with the `datasets` library, kept as Arrow files in the
cache, and read offline from then on. What other tools of this machine fetched with that library is found offline too.

The token, where one is needed, is that of `engine.project.hub_access`, else the one that huggingface_hub finds
(``HF_TOKEN``, or what ``hf auth login`` kept).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data import cache
from engine.data.files import Found, expand
from engine.data.hub_names import HubName
from engine.host.platform import cache_folder
from engine.machine.detect import disk_free_gib
from engine.project import hub_access
from engine.project.atomic import disk_error
from engine.protocol.errors import EXIT_MACHINE, Stopped, UserError
from engine.protocol.text import Text, say
from engine.recipe.recipe import HUB_DATA, DataSettings, FileSettings

Progress = Callable[[int, int], None]
_SECONDS_TO_ANSWER = 10.0
_AT_ONCE = 1000
_GIB = 2**30
_SPARE_GIB = 1.0
_MOST_SAID = 300


@dataclass(frozen=True, slots=True)
class HubData:
    """What is known of a data set of the hub.

    Attributes:
        source: its id.
        configs: its configurations, the one that is meant first.
        config: the one that the rest is about.
        splits: each split with its rows, 0 where the hub does not say.
        here: splits of this configuration that are on this machine, and read offline.
        bytes: what there is to fetch of each split, empty where the hub does not say.
        licence: as its card says, empty when it says none.
        gated: its owner wants to be asked first.
        offline: the hub cannot be reached, and this is what the machine has of it.
    """

    source: str
    configs: tuple[str, ...]
    config: str
    splits: dict[str, int]
    here: tuple[str, ...]
    bytes: dict[str, int]
    licence: str = ""
    gated: bool = False
    offline: bool = False


def is_hub_data(name: str) -> bool:
    """Whether a name of ``data.files`` is an id of the hub."""
    return name.startswith(HUB_DATA)


def found(names: Sequence[str]) -> Found:
    """The files behind names of ``data.files``: files, folders and ids of the hub. Raises as `expand` and `fetched`."""
    return expand([path for name in names for path in (fetched(name) if is_hub_data(name) else [name])])


def fetched(name: str, progress: Progress | None = None) -> list[Path]:
    """The Arrow files of a data set of the hub; fetched when they are not in the cache, without network when they are.

    Args:
        name: ``hub:owner/name`` or ``hub:owner/name?config=main&split=test``; the split is "train" where it names none.
        progress: called with (rows fetched, rows in all, 0 where the hub does not say); what it raises ends it.

    Raises:
        UserError: there is no such data set, configuration or split, or it cannot be reached (exit code 1).
    """
    wished = _parsed(name)
    place = _place(name)
    cache.made(place, lambda there: _fetch(wished, there, progress))
    return sorted(place.rglob("*.arrow"))


def _parsed(name: str) -> HubName:
    try:
        return HubName.parse(name)
    except ValueError as error:
        raise _bad(name, say("“{name}” is no data set's id.", "“{name}”不是数据集标识。", name=name), _HOW) from error


def _place(name: str) -> Path:
    return _root() / hashlib.blake2b(name.encode("utf-8"), digest_size=12).hexdigest()


def _root() -> Path:
    return cache_folder() / "hub-data"


def here() -> list[dict[str, Any]]:
    """Data sets that were fetched before, last used first: ``name`` (as a recipe has it), ``rows``, ``bytes``."""
    notes = sorted(_root().glob(f"*/{cache.DONE}"), key=lambda note: -note.stat().st_mtime)
    known = [json.loads(note.read_text("utf-8")) for note in notes]
    return [item for item in known if item.get("name")]


def is_here(name: str) -> bool:
    """Whether a name of ``data.files`` can be read without network."""
    return (_place(name) / cache.DONE).is_file()


def settings_of(data: DataSettings, path: Path) -> FileSettings | None:
    """What a recipe says of one file, None for nothing; a data set's files go by its name, wherever they are kept."""
    own = data.per_file.get(str(path))
    if own is not None:
        return own
    names = (name for name in data.per_file if is_hub_data(name))
    return next((data.per_file[name] for name in names if path.is_relative_to(_place(name))), None)


_HOW = say(
    "Write hub:owner/name, with ?config=…&split=… where it has several.",
    "写法为 hub:owner/name；有多个配置或划分时，在后面加上 “?config=…&split=…”。",
)


# ------------------------------------------------------------------------------------------------------------ look up
def about(source: str, config: str = "") -> HubData:
    """What there is to choose of a data set: its configurations, and the splits of one of them.

    Without network it is what this machine has of it.

    Raises:
        UserError: there is no such data set or configuration, or it cannot be reached and nothing of it is here.
    """
    with _told(source):
        try:
            card = _asked(source)
        except UserError as error:
            if error.problem.code != "data.hub_offline":
                raise
            return _about_offline(source, config, error)
        import datasets

        token = hub_access.token()
        configs = datasets.get_dataset_config_names(source, token=token)
        chosen = config or datasets.get_dataset_default_config_name(source, token=token) or configs[0]
        builder = datasets.load_dataset_builder(source, chosen, token=token)
        known = builder.info.splits or datasets.get_dataset_config_info(source, chosen, token=token).splits or {}
    splits = {str(split): int(getattr(info, "num_examples", 0) or 0) for split, info in known.items()}
    configs = tuple(sorted(configs, key=lambda name: name != chosen))
    return HubData(
        source,
        configs,
        chosen,
        splits,
        _splits_here(source, chosen, splits),
        _sizes(card, builder),
        licence=_licence(card),
        gated=bool(getattr(card, "gated", False)),
    )


def _about_offline(source: str, config: str, error: UserError) -> HubData:
    """What was fetched before, by Lorimer or by the library for another tool."""
    found = [item for note in here() if (item := HubName.parse(note["name"])).source == source]
    rows = {HubName.parse(note["name"]): int(note.get("rows", 0)) for note in here()}
    kept = dict(_kept_by_library(source))
    configs = list(dict.fromkeys([*([config] if config else []), *(item.config for item in found), *kept]))
    if not found and not kept:
        raise error
    chosen = configs[0]
    mine = {item.split: rows[item] for item in found if item.config == chosen}
    splits = {**kept.get(chosen, {}), **mine}
    if not splits:
        raise error
    return HubData(source, tuple(configs), chosen, splits, tuple(splits), {}, offline=True)


def _kept_by_library(source: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Each configuration that the library's own cache holds, with its splits and their rows."""
    from datasets import config as settings
    from datasets.naming import camelcase_to_snakecase

    *owner, name = source.split("/")
    folder = Path(settings.HF_DATASETS_CACHE) / "___".join([*owner, camelcase_to_snakecase(name)])
    for note in sorted(folder.glob("*/*/*/dataset_info.json")):
        known = json.loads(note.read_text("utf-8")).get("splits") or {}
        yield note.parts[-4], {str(split): int(facts.get("num_examples") or 0) for split, facts in known.items()}


def _asked(source: str) -> Any:
    """What the hub itself says of a data set; None of a folder. Raises as `_told` says, soon where there is no net."""
    from huggingface_hub import HfApi

    if Path(source).is_dir():
        return None
    with _told(source):
        return HfApi(endpoint=hub_access.endpoint(), token=hub_access.token()).dataset_info(
            source, files_metadata=True, timeout=_SECONDS_TO_ANSWER
        )


def _licence(card: Any) -> str:
    told = getattr(getattr(card, "card_data", None), "license", None) or ""
    return ", ".join(told) if isinstance(told, list) else str(told)


def _sizes(card: Any, builder: Any) -> dict[str, int]:
    """Bytes of each split's files."""
    sizes = {item.rfilename: int(item.size or 0) for item in getattr(card, "siblings", None) or []}
    files = getattr(builder.config, "data_files", None) or {}
    named = {
        str(split): [str(url).partition("@")[2].partition("/")[2] for url in urls] for split, urls in files.items()
    }
    found = {split: sum(sizes.get(name, 0) for name in names) for split, names in named.items()}
    return {split: size for split, size in found.items() if size}


def _splits_here(source: str, config: str, splits: Sequence[str] | dict[str, int]) -> tuple[str, ...]:
    return tuple(split for split in splits if any(is_here(HubName(source, name, split).name) for name in (config, "")))


def peek(name: str, count: int = 12) -> dict[str, Any]:
    """The first rows, streamed: nothing is kept, and little more than they is fetched.

    Returns:
        ``columns``, ``rows`` (a list of texts each, as long as the columns; what is no text is written as JSON).

    Raises:
        UserError: as `fetched`.
    """
    wished = _parsed(name)
    if is_here(name):
        rows = _first_kept(fetched(name), count)
    else:
        with _told(wished.source, name), _reached(wished.source):
            streamed = _builder(wished).as_streaming_dataset(split=wished.split)
            tables = itertools.islice(streamed.with_format("arrow").iter(batch_size=1), count)
            rows = [record for table in tables for record in _readable(table).to_pylist()]
    columns = list(dict.fromkeys(column for record in rows for column in record))
    return {"columns": columns, "rows": [[_clipped(record.get(column)) for column in columns] for record in rows]}


def _first_kept(files: Sequence[Path], count: int) -> list[dict[str, Any]]:
    """The first rows of what was fetched before."""
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for file in files:
        with pa.memory_map(str(file)) as content, pa.ipc.open_stream(content) as stream:
            for batch in stream:
                rows += batch.slice(0, count - len(rows)).to_pylist()
                if len(rows) >= count:
                    return rows
    return rows


def _clipped(value: Any, most: int = 200) -> str:
    text = (
        value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    )
    return text if len(text) <= most else f"{text[:most]}…"


# -------------------------------------------------------------------------------------------------------------- fetch
def _builder(wished: HubName) -> Any:
    import datasets  # a second; most data are files

    return datasets.load_dataset_builder(
        wished.source, wished.config or None, revision=wished.revision or None, token=hub_access.token()
    )


def _fetch(wished: HubName, folder: Path, progress: Progress | None) -> None:
    """Stream the rows into Arrow files; a folder that was begun and not ended is no entry of the cache."""
    with _told(wished.source, wished.name), contextlib.redirect_stdout(None), _reached(wished.source) as card:
        builder = _builder(wished)
        _check_room(wished, _sizes(card, builder).get(wished.split, 0), folder)
        known = (builder.info.splits or {}).get(wished.split)
        rows = builder.as_streaming_dataset(split=wished.split)
        total = int(getattr(known, "num_examples", 0) or 0)
        written = _write(rows, folder / _file_name(wished), total, progress)
    size = sum(file.stat().st_size for file in folder.glob("*.arrow"))
    note = {"name": wished.name, "rows": written, "bytes": size}
    (folder / cache.DONE).write_text(json.dumps(note), "utf-8")


@contextlib.contextmanager
def _reached(source: str) -> Iterator[Any]:
    """Ask the hub whether it has the data set; where it cannot be reached the library looks into its own cache, at once
    instead of after five tries."""
    from datasets import config as settings

    try:
        card = _asked(source)
    except UserError as error:
        if error.problem.code != "data.hub_offline" or not dict(_kept_by_library(source)):
            raise
        before, settings.HF_HUB_OFFLINE = settings.HF_HUB_OFFLINE, True
        try:
            yield None
        finally:
            settings.HF_HUB_OFFLINE = before
        return
    yield card


def _check_room(wished: HubName, size: int, folder: Path) -> None:
    """Raises `UserError` where the disk has not the room for so many bytes; packed ones grow."""
    needed = size / _GIB
    free = disk_free_gib(folder)
    if free is None or needed + _SPARE_GIB <= free:
        return
    raise UserError(
        "data.hub_disk",
        say(
            "“{name}” needs {needed:.1f} GiB or more, and {free:.1f} GiB are free on the disk.",
            "“{name}”至少需要 {needed:.1f} GiB，而磁盘只剩 {free:.1f} GiB。",
            name=wished.source,
            needed=needed,
            free=free,
        ),
        say("Free some space, or choose a smaller part.", "请腾出空间，或选择较小的部分。"),
        where=wished.name,
        exit_code=EXIT_MACHINE,
    )


def _file_name(wished: HubName) -> str:
    """What the rows' places are told by: a data set's file has no name of its own."""
    parts = (wished.source.rstrip("/\\").replace("\\", "/").split("/")[-1], wished.config, wished.split)
    return "-".join("".join(c if c.isalnum() or c in "-_." else "_" for c in part) for part in parts if part)


def _write(rows: Any, path: Path, total: int, progress: Progress | None) -> int:
    """Write rows as Arrow, another file where columns change their type; gives how many."""
    import pyarrow as pa

    done, number = 0, 0
    with contextlib.ExitStack() as open_files:
        writer: Any = None
        for table in rows.with_format("arrow").iter(batch_size=_AT_ONCE):
            batch = _fitting(_readable(table), writer.schema if writer is not None else None)
            if writer is None or batch.schema != writer.schema:
                open_files.close()
                name = f"{path.name}.arrow" if number == 0 else f"{path.name}-{number}.arrow"
                writer = open_files.enter_context(_Writer(path.with_name(name), batch.schema, pa))
                number += 1
            writer.write(batch)
            done += batch.num_rows
            if progress is not None:
                progress(min(done, total), total)
    return done


class _Writer:
    """An Arrow file that is being written."""

    def __init__(self, path: Path, schema: Any, pa: Any) -> None:
        self.schema = schema
        self._file = path.open("wb")
        self._stream = pa.ipc.new_stream(self._file, schema)

    def write(self, table: Any) -> None:
        self._stream.write_table(table)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._file.close()


def _fitting(table: Any, schema: Any) -> Any:
    """The table with another's types, where each of its values has such."""
    import pyarrow as pa

    if schema is None or table.schema == schema:
        return table
    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        return table


def _readable(table: Any) -> Any:
    """Labels as the words that the data set's card gives them, instead of their numbers."""
    import pyarrow as pa
    from datasets import ClassLabel, Features

    features = Features.from_arrow_schema(table.schema)
    for at, (name, feature) in enumerate(features.items()):
        if isinstance(feature, ClassLabel) and feature.names:
            words = [
                feature.names[n] if n is not None and 0 <= n < len(feature.names) else None
                for n in table[name].to_pylist()
            ]
            table = table.set_column(at, name, pa.array(words, pa.string()))
    return table.replace_schema_metadata(None)


# -------------------------------------------------------------------------------------------------------------- wrong
@contextlib.contextmanager
def _told(source: str, name: str = "") -> Iterator[None]:
    """Tell what went wrong with the hub in sentences."""
    where = name or f"{HUB_DATA}{source}"
    try:
        yield
    except (UserError, Stopped):
        raise
    except Exception as error:
        told = _sentence(error, source, where)
        if told is None:
            raise
        raise told from error


def _sentence(error: Exception, source: str, where: str) -> UserError | None:
    """What an error means; None for one that is no fault of the hub, the network, the disk or the name."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    kinds: tuple[tuple[tuple[type[Exception], ...], Callable[[str, str, Exception], UserError]], ...] = (
        ((GatedRepoError,), _gated),
        # The library's own errors are FileNotFoundErrors, of gated ones too.
        ((RepositoryNotFoundError, FileNotFoundError), _gated if "gated" in str(error) else _missing),
        ((HFValidationError,), _no_id),
        ((HfHubHTTPError,), _refused),
        ((ConnectionError, TimeoutError), _offline),
        ((ValueError,), _not_there),
        ((OSError,), _disk),
    )
    for types, tell in kinds:
        if isinstance(error, types):
            return tell(source, where, error)
    if isinstance(error, RuntimeError) and "scripts are no longer supported" in str(error):
        return _program(source, where, error)
    # The hub's client lets its HTTP library's errors through, and which library that is changes between versions.
    is_network = type(error).__module__.startswith(("httpx", "requests", "httpcore", "aiohttp"))
    return _offline(source, where, error) if is_network else None


def _no_id(source: str, where: str, error: Exception) -> UserError:
    message = say("“{name}” is no data set's id.", "“{name}”不是数据集标识。", name=source)
    return _bad(where, message, say("It has the form owner/name.", "格式为 所有者/名称。"), error)


def _program(source: str, where: str, error: Exception) -> UserError:
    message = say(
        "“{name}” is made by a program of its owner's, which is not run here.",
        "“{name}”由其所有者的程序生成，此处不会运行。",
        name=source,
    )
    return _bad(where, message, say("Choose a copy of it that holds data files.", "请选择含数据文件的副本。"), error)


def _not_there(source: str, where: str, error: Exception) -> UserError:
    """A configuration or split that there is not: the library's sentence names those that there are."""
    said = " ".join(str(error).split())[:_MOST_SAID]
    message = say("“{name}” cannot be taken: {said}", "无法使用“{name}”：{said}", name=source, said=said)
    return _bad(where, message, _HOW, error)


def _disk(source: str, where: str, error: Exception) -> UserError:
    assert isinstance(error, OSError)
    return disk_error(error, _root())


def _gated(source: str, where: str, error: Exception) -> UserError:
    return UserError(
        "data.hub_gated",
        say("The owner of “{name}” wants to be asked first.", "“{name}”需要先获得所有者许可。", name=source),
        say(
            "Accept its terms on https://huggingface.co/datasets/{name}, then give your token: lorimer models token",
            "请在 https://huggingface.co/datasets/{name} 接受条款，然后提供令牌：lorimer models token",
            name=source,
        ),
        where=where,
        details=str(error),
    )


def _missing(source: str, where: str, error: Exception) -> UserError:
    message = say(
        "There is no data set “{name}”, or it is not open to you.", "没有数据集“{name}”，或无权访问。", name=source
    )
    hint = say(
        "Check the spelling, capitals included; a private one needs your token: lorimer models token",
        "请检查拼写（区分大小写）；私有数据集需要令牌：lorimer models token",
    )
    return _bad(where, message, hint, error)


def _offline(source: str, where: str, error: Exception) -> UserError:
    return UserError(
        "data.hub_offline",
        say(
            "The hub cannot be reached, and “{name}” is not in the cache.",
            "无法连接 hub，且“{name}”不在缓存中。",
            name=source,
        ),
        say(
            "Check the network and the proxy; what was fetched once is read offline.",
            "请检查网络与代理；取过一次的数据可离线读取。",
        ),
        where=where,
        exit_code=EXIT_MACHINE,
        details=f"{type(error).__name__}: {error}",
    )


def _refused(source: str, where: str, error: Exception) -> UserError:
    status = getattr(getattr(error, "response", None), "status_code", "?")
    if status in (401, 403):
        return _gated(source, where, error)
    return UserError(
        "data.hub_error",
        say("The hub answered with error {status}.", "hub 返回错误 {status}。", status=status),
        say("Try again in a few minutes.", "请过几分钟再试。"),
        where=where,
        exit_code=EXIT_MACHINE,
        details=str(error),
    )


def _bad(name: str, message: Text, hint: Text, error: Exception | None = None) -> UserError:
    return UserError("data.hub", message, hint, where=name, details=str(error or ""))
