"""``lorimer export``, ``serve``, ``servers`` and ``upload``: take a trained run away, run it, give it to others."""

from __future__ import annotations

import argparse
import getpass
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.export.targets import TARGETS, Target
from engine.project.run_folder import RunFolder
from engine.protocol.errors import EXIT_DONE, UserError
from engine.protocol.text import Text, say
from engine.terminal import Terminal

BEAT_SECONDS = 0.3


def export(options: argparse.Namespace, terminal: Terminal) -> int:
    """Make what is asked of a run; without ``--out`` in the run's own ``exports``."""
    from engine.project.project import open_run
    from engine.project.settings import load_settings

    run, target = open_run(options.run), TARGETS[options.to]
    arguments: dict[str, Any] = {
        "to": target.name,
        "quantize": options.quantize,
        "out": str(options.out.expanduser().resolve())
        if options.out
        else str(_own_place(run, target, options.quantize)),
        "name": options.name,
        "create": options.create,
        "context": int(options.context or 0),
        "publisher": options.publisher,
        "models": str(options.models_folder.expanduser().resolve()) if options.models_folder else "",
        "llama_cpp": str(options.llama_cpp.expanduser().resolve()) if options.llama_cpp else load_settings().llama_cpp,
        "force": options.force,
    }
    if target.kind == "merge":
        return _job(run, "merge", {"out": arguments["out"]}, terminal, export_lines)
    return _job(run, "export", arguments, terminal, export_lines)


def _own_place(run: RunFolder, target: Target, quantize: str) -> Path:
    """Where an export goes of which nobody said where: a name that is safe on every system, in the run's own folder."""
    from engine.project.project import slug

    title = slug(str(run.read_facts().get("title") or run.id))
    part = quantize.lower() if target.name == "gguf" else target.name
    return run.exports / f"{title}-{part}{target.suffix}"


def export_lines(value: dict[str, Any]) -> list[Text]:
    """What was written, how it agrees with what was trained, and what to do with it."""
    from engine.commands import checked_lines

    where = value.get("modelfile") or value.get("file") or value.get("folder")
    lines = [say("Written: {path}", "已写入：{path}", path=where)]
    lines += checked_lines(value)
    if value.get("created"):
        lines.append(say("Ask it: ollama run {name}", "开始使用：ollama run {name}", name=value["name"]))
    elif value.get("modelfile"):
        path = Path(value["modelfile"])
        lines.append(
            say(
                "Give it to Ollama: cd {folder} && ollama create {name} -f {file}",
                "交给 Ollama：cd {folder} && ollama create {name} -f {file}",
                folder=path.parent,
                name=value["name"],
                file=path.name,
            )
        )
    if value.get("way") == "linked":
        lines.append(say("It is a hard link: it takes no room twice.", "这是硬链接，不重复占用空间。"))
    return lines


# --------------------------------------------------------------------------------------------------------------- serve
def serve(options: argparse.Namespace, terminal: Terminal) -> int:
    """Serve a GGUF until Ctrl+C; with ``--stay`` until it is stopped by ``servers stop``."""
    from engine.export import serve as servers

    gguf = _served(options.what, force=options.force)
    folder = servers.start(
        gguf,
        port=int(options.port or 0),
        key=_key(options.key, terminal),
        context=int(options.context or 0),
        stays=options.stay,
        name=options.name,
    )
    terminal.show(say("Loading {name}…", "正在加载 {name}……", name=gguf.name))
    try:
        serving = servers.wait(folder)
    except KeyboardInterrupt:
        servers.halt(folder)
        raise
    terminal.result(_serving_document(serving), *_serving_lines(serving, stays=options.stay))
    if options.stay:
        return EXIT_DONE
    try:
        while servers.serving_in(folder) is not None:
            time.sleep(BEAT_SECONDS)
    except KeyboardInterrupt:  # that is how it is meant to end
        terminal.show(say("Stopping…", "正在停止……"))
    servers.halt(folder)
    return EXIT_DONE


def _served(what: Path, *, force: bool) -> Path:
    """The GGUF that is named, or the newest of the run that is."""
    from engine.export.serve import served_file
    from engine.project.project import open_run

    what = what.expanduser()
    return served_file(open_run(what), force=force) if what.is_dir() else what.absolute()


def _key(asked: str, terminal: Terminal) -> str:
    """The key that requests must show. One of the user's own is typed unseen or piped in, never an argument, which
    other accounts of this machine could read."""
    from engine.export.serve import NEW_KEY, NO_KEY

    if asked == "new":
        return NEW_KEY
    if asked == "none":
        terminal.show(
            say(
                "Without a key every program on this machine can ask the model.",
                "不设密钥时，本机的任何程序都能访问该模型。",
            )
        )
        return NO_KEY
    words = say("Key (not shown): ", "密钥（不显示）：").in_language(terminal.language)
    given = (getpass.getpass(words) if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if len(given) >= 8 and given.isascii() and given.isprintable() and " " not in given:
        return given
    raise UserError(
        "serve.key",
        say(
            "A key has at least 8 letters, digits or signs, without blanks.",
            "密钥至少 8 个字母、数字或符号，不含空格。",
        ),
        say("Leave --key out for one that is made now.", "省略 --key 则自动生成。"),
        where="--key",
    )


def _serving_document(serving: Any) -> dict[str, Any]:
    names = ("address", "key", "name", "file", "context", "stays", "curl", "python")
    return {name: getattr(serving, name) for name in names}


def _serving_lines(serving: Any, *, stays: bool) -> list[Text]:
    lines = [
        say("Listening on {address} (this machine only)", "正在监听 {address}（仅限本机）", address=serving.address),
        say("Key: {key}", "密钥：{key}", key=serving.key) if serving.key else say("No key.", "无密钥。"),
        say("Model: {name}, {n} tokens", "模型：{name}，{n} 词元", name=serving.name, n=serving.context),
        say("", ""),
        say("{text}", "{text}", text=serving.curl),
        say("", ""),
        say("{text}", "{text}", text=serving.python),
        say("", ""),
    ]
    stop = (
        say("Stop it: lorimer servers stop", "停止：lorimer servers stop")
        if stays
        else say("Ctrl+C stops it.", "按 Ctrl+C 停止。")
    )
    return [*lines, stop]


def servers(options: argparse.Namespace, terminal: Terminal) -> int:
    """The servers that run."""
    from engine.export.serve import running

    found = running()
    lines = [
        say(
            "{address}  {name}  {file}",
            "{address}  {name}  {file}",
            address=each.address,
            name=each.name,
            file=each.file,
        )
        for each in found
    ]
    nothing = [say("No server runs.", "没有正在运行的服务器。")]
    terminal.result({"servers": [_serving_document(each) for each in found]}, *(lines or nothing))
    return EXIT_DONE


def servers_stop(options: argparse.Namespace, terminal: Terminal) -> int:
    """Stop the server of an address, or all of them."""
    from engine.export.serve import halt, running

    wanted = options.address.rstrip("/")
    found = [each for each in running() if wanted in ("", each.address, each.address.removesuffix("/v1"))]
    if wanted and not found:
        raise UserError(
            "serve.none",
            say(
                "No server of Lorimer's listens on {address}.", "没有 Lorimer 服务器在监听 {address}。", address=wanted
            ),
            say("See: lorimer servers", "参见：lorimer servers"),
            where=wanted,
        )
    for each in found:
        halt(each.folder)
    lines = [say("Stopped: {address}", "已停止：{address}", address=each.address) for each in found]
    nothing = [say("No server runs.", "没有正在运行的服务器。")]
    terminal.result({"stopped": [each.address for each in found]}, *(lines or nothing))
    return EXIT_DONE


# -------------------------------------------------------------------------------------------------------------- upload
def upload(options: argparse.Namespace, terminal: Terminal) -> int:
    """Send exports to the hub; what goes is told before, file by file."""
    from engine.export.hub_upload import check_may_go, checked_repo, found_export, parcel
    from engine.project.project import open_run

    repo = checked_repo(options.repo)
    given = open_run(options.run) if options.run else None
    run, first = found_export(options.export[0], given)
    exports = [first, *(found_export(path, run)[1] for path in options.export[1:])]
    check_may_go(exports, force=options.force)
    files = parcel(run, exports)
    whose = say("everybody may see it", "所有人可见") if options.public else say("private", "私有")
    terminal.show(say("To {repo} ({whose}):", "上传到 {repo}（{whose}）：", repo=repo, whose=whose))
    for file in files:
        name, size = file.name, f"{file.size / 2**20:10.2f} MiB"
        terminal.show(say("  {size}  {name}", "  {size}  {name}", size=size, name=name))
    arguments = {
        "files": [export.file for export in exports],
        "repo": repo,
        "public": options.public,
        "update": options.update,
        "force": options.force,
    }
    return _job(run, "upload", arguments, terminal, _uploaded_lines)


def _uploaded_lines(value: dict[str, Any]) -> list[Text]:
    return [say("Uploaded: {url}", "已上传：{url}", url=value["url"])]


def _job(
    run: RunFolder,
    kind: str,
    arguments: dict[str, Any],
    terminal: Terminal,
    lines: Callable[[dict[str, Any]], list[Text]],
) -> int:
    """A job on a finished run, followed to its end; what differs from what was trained makes it fail."""
    from engine.commands import later_job

    return later_job(run.path, kind, arguments, terminal, lines)
