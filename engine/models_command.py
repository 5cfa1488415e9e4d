"""``lorimer models``: what there is to start from, what fits here, downloads, and how the hub is reached."""

from __future__ import annotations

import argparse
import getpass
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine.jobs import english, interruption
from engine.protocol.errors import Failure, Stopped, UserError
from engine.protocol.text import Text, as_text, say
from engine.terminal import Terminal

if TYPE_CHECKING:
    from engine.machine.forecast import DataFacts, Room
    from engine.model.hub import HubInfo
    from engine.recipe.recipe import Recipe

GIB = 2**30
MARKS = {"fits": "✓", "tight": "~", "no": "✗"}


def models(options: argparse.Namespace, terminal: Terminal) -> int:
    """All models: on this machine and of the catalogue, with what fits."""
    from engine.machine.known_models import known_models, own_file
    from engine.model.listing import document

    where, recipe, data = _asked(options)
    found = document(known_models(), where, recipe, data)
    own = say("Models of your own are listed from {path}", "你自己的模型可写入 {path}", path=own_file())
    terminal.result({**english(found), "own_file": str(own_file())}, *_list_lines(found), say("", ""), own)
    for problem in found["problems"]:
        line = say("{where}: {text} {hint}", "{where}：{text}{hint}", where=problem["where"],
                   text=problem["message"], hint=problem["hint"])  # fmt: skip
        terminal.show(line)
    return 0


def info(options: argparse.Namespace, terminal: Terminal) -> int:
    """One model: what is known here, and what the hub says. Without network what is known here stands alone."""
    from engine.machine.known_models import known_models
    from engine.model.listing import document

    where, recipe, data = _asked(options)
    rows = document(known_models(), where, recipe, data)["models"]
    row = next((row for row in rows if row["id"] == options.id), None)
    failure, said = None, None
    try:
        said = _hub_says(options.id)
    except UserError as error:
        failure = Failure.of(error)
    if row is None and failure is not None:
        return terminal.failure(failure)
    value = {**(row or {"id": options.id}), "hub": said}
    terminal.result(english(value), *_info_lines(value))
    if failure is not None and (row is None or row["where"] in ("catalogue", "begun")):
        terminal.show(failure.message)
        terminal.show(failure.hint)
    return 0


def get(options: argparse.Namespace, terminal: Terminal) -> int:
    """Download a model; Ctrl+C stops it, and the same command goes on."""
    from tqdm import tqdm

    from engine.model.download import download
    from engine.model.hub import check_disk
    from engine.model.hub import info as hub_info

    about = hub_info(options.id, revision=options.revision)
    check_disk(about)
    terminal.show(_get_line(about))
    lock = threading.Lock()
    with (
        tqdm(total=about.bytes, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr) as bar,
        _ctrl_c() as ended,
    ):

        def show(done: int, total: int) -> None:
            with lock:
                bar.update(done - bar.n)

        try:
            folder = download(options.id, revision=options.revision, progress=show, cancelled=ended.is_set)
        except Stopped:
            folder = None
    if folder is None:
        kept = say("What has come is kept: the same command goes on.", "已下载的部分会保留：重新运行同一命令即可继续。")
        return terminal.failure(interruption(kept))
    value = {"id": about.id, "folder": str(folder), "revision": about.revision, "bytes": about.bytes}
    terminal.result(value, say("On this machine: {folder}", "已在本机：{folder}", folder=folder))
    return 0


def convert(options: argparse.Namespace, terminal: Terminal) -> int:
    """Write one model's pickled weights as safetensors, after the warning that says what opening them means."""
    from tqdm import tqdm

    from engine.model.convert import IF_TRUSTED, warning
    from engine.model.convert import convert as written

    folder = options.folder.expanduser().resolve()
    told = warning(folder)
    if not options.yes:
        raise UserError("model.pickled", told, IF_TRUSTED, where=str(folder))
    terminal.show(told)
    with tqdm(unit="file", file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        files = written(folder, show)
    value = {"folder": str(folder), "files": [path.name for path in files]}
    terminal.result(value, say("Written: {files}", "已写入：{files}", files=", ".join(value["files"])))
    return 0


def token(options: argparse.Namespace, terminal: Terminal) -> int:
    """Keep the hub's token in the system's keyring, or forget it. It is read without being shown."""
    from engine.model.hub import user
    from engine.project import hub_access

    if options.forget:
        was = hub_access.forget_token()
        words = say("The token is forgotten.", "令牌已删除。") if was else say("No token was kept.", "没有保存过令牌。")
        terminal.result({"kept": False, "user": None}, words)
        return 0
    hub_access.keep_token(_read_token(terminal))
    failure, name = None, None
    try:
        name = user()
    except UserError as error:
        failure = Failure.of(error)
    if failure is not None and failure.code == "hub.token_refused":
        hub_access.forget_token()
        return terminal.failure(failure, {"kept": False, "user": None})
    kept = say("The token is in this system's keyring.", "令牌已存入系统密钥环。")
    who = say("It is {name}'s.", "账号为 {name}。", name=name) if name else failure.message if failure else kept
    terminal.result({"kept": True, "user": name}, kept, who)
    if hub_access.has_token_variable():
        terminal.show(say("HF_TOKEN is set and goes before it.", "已设置 HF_TOKEN，它优先于保存的令牌。"))
    return 0


def mirror(options: argparse.Namespace, terminal: Terminal) -> int:
    """Say or set by which address the hub is reached."""
    from engine.project import hub_access
    from engine.project.settings import load_settings

    if options.forget or options.address:
        hub_access.set_mirror("" if options.forget else options.address)
    used = hub_access.endpoint() or hub_access.HUB
    kept = load_settings().mirror
    terminal.result(
        {"mirror": kept, "endpoint": used},
        say("The hub is reached at {address}", "hub 地址：{address}", address=used),
    )
    if kept and kept != used:
        terminal.show(say("HF_ENDPOINT is set and goes before the setting.", "已设置 HF_ENDPOINT，它优先于此设置。"))
    elif kept:
        terminal.show(say("Your token goes there, too.", "你的令牌也会发送到该地址。"))
    return 0


# ---------------------------------------------------------------------------------------------------------- asking
def _asked(options: argparse.Namespace) -> tuple[Room, Recipe, DataFacts]:
    """The machine, a recipe of defaults, and rows of the asked length."""
    from engine.catalogue import CATALOGUE
    from engine.machine.detect import detect
    from engine.machine.fits import typical
    from engine.machine.forecast import room
    from engine.machine.versions import torch_build
    from engine.recipe.file import from_plain

    build = torch_build()
    where = room(detect(), gpu_memory_gib=options.gpu_memory, torch_cuda=build is not None and build.cuda is not None)
    data = typical(int(options.length))
    recipe = from_plain({}, CATALOGUE)
    longest = recipe.data.model_copy(update={"max_length": data.lengths.longest})
    return where, recipe.model_copy(update={"data": longest}), data


def _hub_says(hub_id: str) -> dict[str, Any]:
    from engine.model.hub import info as hub_info

    about = hub_info(hub_id)
    names = ("revision", "bytes", "missing_bytes", "files", "licence", "gated", "has_token", "parameters")
    free = about.disk_free_gib
    return {name: getattr(about, name) for name in names} | {
        "disk_free_bytes": None if free is None else int(free * GIB)
    }


def _read_token(terminal: Terminal) -> str:
    """A token that is typed unseen, or the first line that is piped in."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    from engine.project import hub_access

    where = hub_access.page(hub_access.TOKENS)
    terminal.show(say("Make a token with read access at {where}", "在 {where} 新建只读令牌", where=where))
    asked = say("Token (not shown): ", "令牌（不显示）：")
    return getpass.getpass(asked.in_language(terminal.language))


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """An event that Ctrl+C sets: raised in the middle, it would wait for the threads that fetch."""
    ended = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield ended
        return
    before = signal.signal(signal.SIGINT, lambda *_: ended.set())
    try:
        yield ended
    finally:
        signal.signal(signal.SIGINT, before)


# ----------------------------------------------------------------------------------------------------------- lines
def _list_lines(found: dict[str, Any]) -> list[Text]:
    """The list for people: on this machine, then the catalogue."""
    head = say(
        "On {device} with {free:.1f} GiB free, rows of {length} tokens:  ✓ fits  ~ tight  ✗ too big",
        "{device}，可用 {free:.1f} GiB，每行 {length} 词元：✓ 放得下  ~ 勉强  ✗ 放不下",
        device=found["device"]["name"],
        free=found["device"]["free_gib"],
        length=found["length"],
    )
    lines = [head]
    here = [row for row in found["models"] if row["where"] != "catalogue"]
    known = [row for row in found["models"] if row["where"] == "catalogue"]
    for title, rows in ((say("On this machine", "本机已有"), here), (say("To download", "可下载"), known)):
        lines += [say("", ""), title, *(_line(row) for row in rows)]
    return lines


def _line(row: dict[str, Any]) -> Text:
    if row["problem"]:
        start = f"  {row['id']:<46}"
        return say("{start}{problem}", "{start}{problem}", start=start, problem=as_text(row["problem"]))
    marks = "  ".join(f"{name} {MARKS[verdict]}" for name, verdict in row["fits"].items())
    size = f"{_weights(row['parameters']):>8}"
    disk = f"{(row['bytes'] or row['here_bytes'] or 0) / GIB:6.1f} GiB"
    part = f" ({row['here_bytes'] / GIB:.1f} GiB ⤓)" if row["where"] != "folder" and _is_part(row) else ""
    gated = say(", gated", "，需授权") if row["gated"] else say("", "")
    line = f"  {row['id']:<46}{size}  {disk}{part}  {marks}  {row['licence']}"
    return say("{line}{gated}", "{line}{gated}", line=line, gated=gated)


def _weights(number: float | None) -> str:
    """Number of weights: 7.61 B, 3.3 M."""
    if not number:
        return "—"
    return f"{number / 1e9:.2f} B" if number >= 1e8 else f"{number / 1e6:.1f} M"


def _is_part(row: dict[str, Any]) -> bool:
    return row["where"] in ("catalogue", "begun") and bool(row["here_bytes"])


def _info_lines(value: dict[str, Any]) -> list[Text]:
    """One model for people."""
    hub = value["hub"] or {}
    yes, no, unknown = say("yes", "是"), say("no", "否"), say("not known", "未知")
    gated = hub.get("gated", value.get("gated"))
    size = hub.get("bytes") or value.get("bytes")
    parameters = value.get("parameters") or hub.get("parameters")
    pairs: list[tuple[Text, Any]] = [
        (say("Good for", "适合"), value.get("good_for")),
        (say("Where", "位置"), value.get("path") or value.get("where")),
        (say("Family", "系列"), value.get("family")),
        (say("Parameters", "参数"), _weights(parameters) if parameters else None),
        (say("Size", "大小"), f"{size / GIB:.1f} GiB" if size else None),
        (say("Still to download", "尚需下载"), f"{hub['missing_bytes'] / GIB:.1f} GiB" if hub else None),
        (say("Free on the disk", "磁盘可用"), f"{(hub.get('disk_free_bytes') or 0) / GIB:.1f} GiB" if hub else None),
        (say("Context", "上下文"), value.get("context")),
        (say("Licence", "许可"), hub.get("licence") or value.get("licence")),
        (say("Gated", "需要授权"), unknown if gated is None else yes if gated else no),
    ]
    lines = [say("{id}", "{id}", id=value["id"])]
    lines += [say("  {name}: {text}", "  {name}：{text}", name=name, text=text) for name, text in pairs if text]
    for method, needed in (value.get("needed_gib") or {}).items():
        line = say(
            "  {method}: at least {needed:.1f} GiB, {verdict}",
            "  {method}：至少 {needed:.1f} GiB，{verdict}",
            method=method,
            needed=needed,
            verdict=_verdict(value["fits"][method]),
        )
        lines.append(line)
    return lines


def _verdict(name: str) -> Text:
    from engine.machine.fits import WORDS

    return WORDS[name]  # type: ignore[index]  # a document's plain string


def _get_line(about: HubInfo) -> Text:
    return say(
        "{id}: {missing:.1f} of {size:.1f} GiB to fetch, {free:.1f} GiB free on the disk. Licence: {licence}.",
        "{id}：需下载 {missing:.1f} / {size:.1f} GiB，磁盘可用 {free:.1f} GiB。许可：{licence}。",
        id=about.id,
        missing=about.missing_bytes / GIB,
        size=about.bytes / GIB,
        free=about.disk_free_gib or 0.0,
        licence=about.licence or "—",
    )
