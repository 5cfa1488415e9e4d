"""The hub, played by a server on the loopback: one model, gates, refusals, connections that break, and repositories
that are made and filled as the hub's library does it (git LFS for large files, then one commit)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ID = "someone/tiny"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"w" * 3_000_000,
    "README.md": b"---\nlicense: mit\n---\n",
    "pytorch_model.bin": b"pickle",
    "original/consolidated.safetensors": b"a second copy",
    "modeling_tiny.py": b"raise SystemExit",
}
WANTED = {"config.json", "tokenizer.json", "model.safetensors", "README.md"}


@dataclass
class Hub:
    """What the pretended hub holds and was asked.

    Attributes:
        files: of its one model.
        status, code: answered instead, with the hub's own error code, when not 200.
        name: what the hub calls its model by now.
        gated: as the model's owner set it.
        token: only who shows it is let in to a gated model; its owner is "ada".
        breaks_after: bytes of a file after which the connection is cut, once; 0 for never.
        pause: seconds between pieces of 100,000 bytes.
        fetched: names of the files that were asked for.
        starts: file → the bytes at which its parts that were asked for begin.
        sent: bytes of files that went out.
        shown: tokens that came with any request.
        refused: paths that were answered with an error.
        writes: whether the token may write.
        private: repositories that were made → whether they are private.
        repositories: their files.
        stored: large files by the SHA-256 of what they hold.
        puts: bytes of each large file that was sent, or begun to be.
        breaks_puts_after: bytes of a large file after which the connection is cut; 0 for never.
        breaks_puts: how often it is cut.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    status: int = 200
    code: str = ""
    name: str = ID
    gated: Any = False
    token: str = ""
    breaks_after: int = 0
    pause: float = 0.0
    fetched: list[str] = field(default_factory=list)
    starts: dict[str, list[int]] = field(default_factory=dict)
    sent: int = 0
    shown: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    writes: bool = True
    private: dict[str, bool] = field(default_factory=dict)
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    puts: list[int] = field(default_factory=list)
    breaks_puts_after: int = 0
    breaks_puts: int = 0


class Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if self.hub.status != 200:
            self._refuse()
        elif path == "/api/whoami-v2":
            self._who()
        elif f"/tree/{COMMIT}" in path:
            self._json([_entry(name, content) for name, content in self.hub.files.items()])
        elif path.startswith(f"/api/models/{ID}"):
            self._json(self._model())
        elif path.removeprefix("/api/models/") in self.hub.repositories:
            self._json({"id": path.removeprefix("/api/models/"), "sha": COMMIT, "siblings": []})
        elif path.startswith("/api/models/"):
            self.hub.code = "RepoNotFound"
            self._refuse(404)
        elif "/resolve/" in path:
            self._file(body=True)
        else:
            self._refuse(404)

    # ---------------------------------------------------------------------------------------------------- uploads
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        if self.hub.status != 200:
            self._refuse()
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif not self.hub.token or self._token != self.hub.token:
            self._refuse(401)
        elif not self.hub.writes:
            self._refuse(403)
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            self._ask_how(found.group(1), json.loads(body))
        elif found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            self._ask_where(json.loads(body))
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            self._commit(found.group(1), [json.loads(line) for line in body.splitlines()])
        else:
            self._refuse(404)

    def do_PUT(self) -> None:
        """One large file, to the store behind the hub: it is asked without a token."""
        assert "Authorization" not in self.headers
        size = int(self.headers.get("Content-Length") or 0)
        cut = self.hub.breaks_puts_after if self.hub.breaks_puts else 0
        content = b""
        while len(content) < (min(size, cut) if cut else size):
            piece = self.rfile.read(min(100_000, size - len(content)))
            if not piece:
                break
            content += piece
            time.sleep(self.hub.pause)
        self.hub.puts.append(len(content))
        if cut and size > cut:
            self.hub.breaks_puts -= 1
            self.close_connection = True
            return
        oid = self.path.removeprefix("/store/")
        assert hashlib.sha256(content).hexdigest() == oid
        self.hub.stored[oid] = content
        self._json({})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "ada":
            self._refuse(403)
        elif name in self.hub.repositories:
            self._refuse(409)
        else:
            self.hub.repositories[name] = {}
            self.hub.private[name] = asked["visibility"] == "private"
            self._json({"url": f"{self.hub.address}/{name}", "name": name})

    def _ask_how(self, name: str, asked: dict[str, Any]) -> None:
        """Whether a file is large: by its ending, as the hub's .gitattributes say."""
        held = self.hub.repositories[name]
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".gguf")) else "regular",
                "shouldIgnore": False,
                "oid": hashlib.sha256(held[file["path"]]).hexdigest() if file["path"] in held else None,
            }
            for file in asked["files"]
        ]
        self._json({"files": files})

    def _ask_where(self, asked: dict[str, Any]) -> None:
        """Where large files are sent; nowhere those that are there."""
        objects = [
            {
                "oid": wanted["oid"],
                "size": wanted["size"],
                **(
                    {}
                    if wanted["oid"] in self.hub.stored
                    else {"actions": {"upload": {"href": f"{self.hub.address}/store/{wanted['oid']}"}}}
                ),
            }
            for wanted in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.hub.repositories[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.repositories[name][value["path"]] = self.hub.stored[value["oid"]]
        url = f"{self.hub.address}/{name}/commit/{COMMIT}"
        self._json({"commitUrl": url, "commitOid": COMMIT, "success": True})

    @property
    def _token(self) -> str:
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if given:
            self.hub.shown.add(given)
        return given

    def _who(self) -> None:
        if self.hub.token and self._token == self.hub.token:
            self._json({"name": "ada", "type": "user"})
        else:
            self._refuse(401)

    def _model(self) -> dict[str, Any]:
        siblings = [
            {"rfilename": name, "size": len(content), **_large(name, content)}
            for name, content in self.hub.files.items()
        ]
        return {
            "id": self.hub.name,
            "modelId": self.hub.name,
            "sha": COMMIT,
            "siblings": siblings,
            "gated": self.hub.gated,
            "private": False,
            "cardData": {"license": "mit"},
            "config": {"model_type": "llama"},
            "safetensors": {"parameters": {"F32": 750_000}, "total": 750_000},
        }

    def _file(self, *, body: bool) -> None:
        token = self._token
        if self.hub.status != 200:
            self._refuse()
            return
        if self.hub.gated and (not self.hub.token or token != self.hub.token):
            self.hub.code = "GatedRepo"
            self._refuse(403 if token else 401)
            return
        name = self.path.split(f"/resolve/{COMMIT}/")[1].split("?")[0]
        content = self.hub.files[name]
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{_etag(name, content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            self.hub.fetched.append(name)
            self.hub.starts.setdefault(name, []).append(start)
            self._send(content[start:])

    def _send(self, content: bytes) -> None:
        cut = self.hub.breaks_after
        if cut and len(content) > cut:
            self.hub.breaks_after, content = 0, content[:cut]
            self.close_connection = True
        try:
            for begin in range(0, len(content), 100_000):
                self.wfile.write(content[begin : begin + 100_000])
                self.hub.sent += len(content[begin : begin + 100_000])
                time.sleep(self.hub.pause)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client cancelled

    def _json(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int = 0) -> None:
        self.hub.refused.append(self.path)
        self.send_response(status or self.hub.status)
        self.send_header("X-Error-Code", self.hub.code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the test's output is its own."""


def _etag(name: str, content: bytes) -> str:
    """Weights are kept by the SHA-256 of what they hold, small files by git's own name, as on the hub."""
    algorithm = hashlib.sha256 if name.endswith(".safetensors") else hashlib.sha1
    return algorithm(content).hexdigest()


def _large(name: str, content: bytes) -> dict[str, Any]:
    if not name.endswith(".safetensors"):
        return {}
    return {"lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}}


def _entry(name: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextmanager
def playing() -> Iterator[Hub]:
    """A hub on the loopback; the caller sets ``HF_ENDPOINT`` to its address, or the mirror of the settings."""
    played = Hub()
    handler = type("PlayedHandler", (Handler,), {"hub": played})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    played.address = f"http://127.0.0.1:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield played
    finally:
        from huggingface_hub import close_session

        close_session()
        listening.shutdown()
        listening.server_close()
        thread.join(5)
