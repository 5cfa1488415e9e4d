"""The local server for an exported GGUF, as programs that speak OpenAI's API ask it: start it, find it again, stop it.

Light. The server is a job of its own (`engine.export.serve_work`) with its folder in Lorimer's settings, not in a
project: a stranger's project can so neither start nor pretend one. It listens on the loopback address alone and asks
for a key that is made anew at each start and kept in a file for the user's account only. It ends with the program that
started it, unless it was told to stay.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.export.ledger import listed
from engine.host import platform
from engine.host.control import stop
from engine.host.follow import Follower
from engine.host.launch import is_alive, start_job
from engine.host.platform import config_folder
from engine.project.atomic import disk_error, open_plain, read_json
from engine.project.project import new_job_in
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.errors import EXIT_MACHINE, Failure, UserError
from engine.protocol.events import Finished
from engine.protocol.text import say

KIND = "serve"
HOST = "127.0.0.1"
RECORD, KEY_FILE = "serving.json", "key"
NEW_KEY, NO_KEY = "new", ""
CONTEXT = 8192
START_SECONDS = 600.0
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that runs.

    Attributes:
        folder: of its job.
        file: the GGUF.
        name: by which requests name the model.
        address: "http://127.0.0.1:8410/v1", to be copied into other programs.
        key: what each request must show; empty where none is asked for.
        context: tokens of a conversation.
        stays: it goes on when the program that started it ends.
    """

    folder: JobFolder
    file: str
    name: str
    address: str
    key: str
    context: int
    stays: bool

    @property
    def curl(self) -> str:
        """How to ask it in a terminal."""
        shown = f" -H 'Authorization: Bearer {self.key}'" if self.key else ""
        body = f'{{"model": "{self.name}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
        return f"curl {self.address}/chat/completions{shown} -H 'Content-Type: application/json' -d '{body}'"

    @property
    def python(self) -> str:
        """How to ask it in Python, with the ``openai`` package."""
        return (
            "from openai import OpenAI\n\n"
            f'client = OpenAI(base_url="{self.address}", api_key="{self.key or "none"}")\n'
            f'answer = client.chat.completions.create(model="{self.name}", '
            'messages=[{"role": "user", "content": "Hello"}])\n'
            "print(answer.choices[0].message.content)"
        )


def servers_folder() -> Path:
    """Where the folders of servers stand."""
    return config_folder() / "servers"


def running() -> tuple[Serving, ...]:
    """The servers of this user that run and listen, the newest first; what ended ones left is removed."""
    try:
        folders = sorted((path for path in servers_folder().iterdir() if path.is_dir()), reverse=True)
    except OSError:
        return ()
    found = []
    for path in folders:
        serving = serving_in(JobFolder(path))
        if serving is not None:
            found.append(serving)
        elif not is_alive(JobFolder(path)) and time.time() - path.stat().st_mtime > STOP_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
    return tuple(found)


def serving_in(folder: JobFolder) -> Serving | None:
    """The server of a job's folder; None where it does not listen yet, or any more."""
    if not (folder.path / RECORD).is_file() or not is_alive(folder):
        return None
    try:
        known: dict[str, Any] = read_json(folder.path / RECORD)
        key = _read_key(folder)
        return Serving(
            folder,
            file=str(known["file"]),
            name=str(known["name"]),
            address=str(known["address"]),
            key=key,
            context=int(known["context"]),
            stays=bool(known["stays"]),
        )
    except (UserError, OSError, KeyError, TypeError, ValueError):
        return None


def start(
    gguf: Path, *, port: int = 0, key: str = NEW_KEY, context: int = 0, stays: bool = False, name: str = ""
) -> JobFolder:
    """Start a server on a GGUF and return at once; its job's folder tells how it goes (`wait`, `serving_in`).

    Args:
        port: 0 for one that is free.
        key: `NEW_KEY` for one that is made now, `NO_KEY` for none, else the user's own.
        context: tokens of a conversation; 0: what the model knows, `CONTEXT` at most.
        stays: go on when this process ends.
        name: by which requests name the model; the file's if empty.

    Raises:
        UserError: the file is no GGUF, the port is taken, or no process can be started.
    """
    check_gguf_file(gguf)
    if port:
        check_port(port)
    folder = new_job_in(servers_folder(), KIND)
    try:
        folder.path.chmod(0o700)
        _write_key(folder, secrets.token_urlsafe(24) if key == NEW_KEY else key)
    except OSError as error:
        raise disk_error(error, folder.path) from error
    own = os.getpid()
    owner = None if stays else {"pid": own, "mark": platform.process_mark(own)}
    arguments = {
        "file": str(gguf.absolute()),
        "port": port,
        "context": context,
        "name": name or gguf.stem,
        "owner": owner,
        "folder": str(folder.path),
    }
    start_job(folder, KIND, arguments)
    return folder


def wait(folder: JobFolder, seconds: float = START_SECONDS) -> Serving:
    """Wait until a server listens.

    Raises:
        UserError: it ended before (why is told as the job told it), or takes longer than ``seconds``.
    """
    follower, end = Follower(folder), time.monotonic() + seconds
    while time.monotonic() < end:
        serving = serving_in(folder)
        if serving is not None:
            return serving
        for event in follower.poll():
            if isinstance(event, Finished):
                raise _ended(event.failure)
        time.sleep(0.05)
    halt(folder)
    raise _ended(None)


def halt(folder: JobFolder) -> str:
    """Stop a server and wait until it is gone; its folder goes, too. Gives the rung of the ladder that was needed."""
    rung = stop(folder, save_seconds=STOP_SECONDS)
    shutil.rmtree(folder.path, ignore_errors=True)
    return rung


def served_file(run: RunFolder, *, force: bool = False) -> Path:
    """The newest GGUF of a run that may be served.

    Raises:
        UserError: there is none, or only one that differs from what was trained (``force`` takes it all the same).
    """
    files = [export for export in listed(run) if export.kind == "gguf" and export.is_there]
    for export in files:
        if force or export.passed is not False:
            return Path(export.file)
    if files:
        raise UserError(
            "serve.differs",
            say("The GGUF of this run differs from what was trained.", "此训练的 GGUF 与训练结果不一致。"),
            say("Export it again, or serve it all the same with --force.", "请重新导出，或用 --force 仍然使用它。"),
            where=files[0].file,
        )
    raise UserError(
        "serve.no_gguf",
        say("This run has no GGUF yet.", "此训练还没有 GGUF。"),
        say("Make one: lorimer export RUN --to gguf --out FILE", "请先导出：lorimer export RUN --to gguf --out FILE"),
        where=str(run.path),
    )


def check_gguf_file(path: Path) -> None:
    """See that ``path`` begins as a GGUF does. Raises `UserError`."""
    try:
        with open_plain(path, links=True) as file:
            head = file.read(4)
    except OSError as error:
        raise disk_error(error, path) from error
    if head != b"GGUF":
        raise UserError(
            "serve.no_gguf",
            say("{name} is no GGUF.", "{name} 不是 GGUF 文件。", name=path.name),
            say("Give a file that ends in .gguf, or a run that has one.", "请给出 .gguf 文件，或含有它的训练。"),
            where=str(path),
        )


def check_port(port: int) -> None:
    """See that nobody listens on a port of the loopback. Raises `UserError`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
        if os.name != "nt":  # else a port would stay taken for a minute after a server ended
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError as error:
            raise UserError(
                "serve.port",
                say(
                    "Port {port} cannot be used: {why}.",
                    "无法使用端口 {port}。",
                    port=port,
                    why=error.strerror or error,
                ),
                say(
                    "Another program listens there, or the system keeps it. Leave it out for one that is free.",
                    "可能已被其他程序占用，或为系统保留。省略则自动选择空闲端口。",
                ),
                where=f"--port {port}",
                exit_code=EXIT_MACHINE,
            ) from error


def _ended(failure: Failure | None) -> UserError:
    if failure is not None:
        return UserError(
            failure.code,
            failure.message,
            failure.hint,
            where=failure.where,
            problems=failure.problems,
            exit_code=failure.exit_code,
            details=failure.details,
        )
    return UserError(
        "serve.ended",
        say("The server ended before it listened.", "服务器在开始监听前已结束。"),
        say("Start it again; its log tells more.", "请重新启动；详情见其日志。"),
        exit_code=EXIT_MACHINE,
    )


def _write_key(folder: JobFolder, key: str) -> None:
    handle = os.open(folder.path / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(key)


def _read_key(folder: JobFolder) -> str:
    with open_plain(folder.path / KEY_FILE) as file:
        return file.read().decode("utf-8")
