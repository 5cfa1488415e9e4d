"""The job that serves a GGUF: llama.cpp's own server, of the xllamacpp wheel, in this process, until it is stopped."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.export.llama_parameters import parameters, started
from engine.export.serve import CONTEXT, KEY_FILE, RECORD, check_port
from engine.host import platform
from engine.project.atomic import read_plain, write_json
from engine.protocol.channel import Channel, stop_if_asked
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.events import Stage
from engine.protocol.text import say

BEAT_SECONDS = 0.2


def serve(arguments: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Load the GGUF and answer until the job is stopped, or the process that started it is gone.

    Args:
        arguments: ``file``, ``port`` (0: free), ``context`` (0: the model's, `CONTEXT` at most), ``name``, ``owner``
            (``{"pid", "mark"}`` of whom it ends with; None: nobody), ``folder`` of the job, which holds the key.

    Returns:
        ``{"status": "stopped"}`` when its owner is gone.

    Raises:
        UserError: llama.cpp does not load the file, or the port was taken meanwhile.
        Stopped: the user asked.
    """
    file, folder = Path(arguments["file"]), Path(arguments["folder"])
    key = read_plain(folder / KEY_FILE).decode("utf-8")
    channel.emit(Stage(name="load", text=say("Loading {name}", "正在加载 {name}", name=file.name)))
    server, known = _loaded(file, arguments, key)
    try:
        address = f"{server.listening_address}/v1"
        record = {
            "file": str(file),
            "name": arguments["name"],
            "address": address,
            "context": known,
            "stays": arguments["owner"] is None,
        }
        write_json(folder / RECORD, record)
        channel.emit(Stage(name="serving", text=say("Listening on {address}", "正在监听 {address}", address=address)))
        while _is_wanted(arguments["owner"]):
            stop_if_asked(channel)
            time.sleep(BEAT_SECONDS)
    finally:
        (folder / RECORD).unlink(missing_ok=True)
        del server
    return {"status": "stopped"}


def _is_wanted(owner: Mapping[str, Any] | None) -> bool:
    return owner is None or platform.is_running(owner["pid"], owner["mark"])


def _loaded(file: Path, arguments: Mapping[str, Any], key: str) -> tuple[Any, int]:
    """A server that listens, and its context; one that is larger than the model knows is loaded anew."""
    context = int(arguments["context"]) or CONTEXT
    server = _server(file, arguments, key, context)
    known = _trained_context(server.listening_address, key)
    if not arguments["context"] and 0 < known < context:
        del server
        return _server(file, arguments, key, known), known
    return server, context


def _server(file: Path, arguments: Mapping[str, Any], key: str, context: int) -> Any:
    port = int(arguments["port"])
    if port:
        check_port(port)
    values = parameters(file, context=context, key=key, port=port, alias=str(arguments["name"]))
    try:
        return started(values)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            "serve.load",
            say("llama.cpp cannot load {name}.", "llama.cpp 无法加载 {name}。", name=file.name),
            say(
                "It may be damaged, need more memory than is free, or be of a kind that llama.cpp does not know.",
                "文件可能已损坏、所需内存超过空闲内存，或类型不受 llama.cpp 支持。",
            ),
            where=str(file),
            exit_code=EXIT_MACHINE,
            details=str(error),
        ) from error


def _trained_context(address: str, key: str) -> int:
    """Tokens that the model was made for, as the server says; 0 where it does not."""
    connection = http.client.HTTPConnection(address.partition("://")[2], timeout=30)
    try:
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {})
        reply = json.loads(connection.getresponse().read())
        return int(reply["data"][0]["meta"]["n_ctx_train"])
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return 0
    finally:
        connection.close()
