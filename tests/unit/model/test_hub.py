"""The hub, played by a server on this machine: what it says of a model, downloads, cancels, refusals."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest

from engine.model import hub
from engine.model.hub import CachedModel, HubInfo, cached_folder, cached_models, check_disk, download, info, is_needed
from engine.model.locate import is_hub_id, locate
from engine.protocol.errors import Stopped, UserError

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
        gated: as the model's owner set it.
        fetched: names of the files that were asked for.
        refused: paths that were answered with an error.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    status: int = 200
    code: str = ""
    gated: Any = False
    fetched: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if self.hub.status != 200:
            self._refuse()
        elif f"/tree/{COMMIT}" in path:
            self._json([_entry(name, content) for name, content in self.hub.files.items()])
        elif path.startswith(f"/api/models/{ID}"):
            self._json(self._model())
        elif "/resolve/" in path:
            self._file(body=True)
        else:
            self._refuse(404)

    def _model(self) -> dict[str, Any]:
        siblings = [{"rfilename": name, "size": len(content)} for name, content in self.hub.files.items()]
        return {
            "id": ID,
            "modelId": ID,
            "sha": COMMIT,
            "siblings": siblings,
            "gated": self.hub.gated,
            "private": False,
            "cardData": {"license": "mit"},
            "config": {"model_type": "llama"},
            "safetensors": {"parameters": {"F32": 750_000}, "total": 750_000},
        }

    def _file(self, *, body: bool) -> None:
        if self.hub.status != 200:
            self._refuse()
            return
        name = self.path.split(f"/resolve/{COMMIT}/")[1].split("?")[0]
        content = self.hub.files[name]
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            self.hub.fetched.append(name)
            self._send(content[start:])

    def _send(self, content: bytes) -> None:
        try:
            self.wfile.write(content)
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


def _entry(name: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on the loopback, for one test."""
    played = Hub()
    handler = type("PlayedHandler", (Handler,), {"hub": played})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    played.address = f"http://127.0.0.1:{listening.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", played.address)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield played
    from huggingface_hub import close_session

    close_session()
    listening.shutdown()
    listening.server_close()
    thread.join(5)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty hub cache."""
    return tmp_path / "cache"


def fetch(cache: Path, **options: Any) -> Path:
    options = {"progress": lambda done, total: None, "cancelled": lambda: False} | options
    return download(ID, cache=cache, **options)


# ------------------------------------------------------------------------------------------------------------ info
def test_what_the_hub_says(server: Hub, cache: Path) -> None:
    about = info(ID, cache=cache)
    size = sum(len(FILES[name]) for name in WANTED)
    assert (about.id, about.revision, about.files, about.bytes, about.missing_bytes) == (ID, COMMIT, 4, size, size)
    assert (about.licence, about.gated, about.family, about.parameters) == ("mit", False, "llama", 750_000)
    assert about.disk_free_gib is not None
    assert server.fetched == []


def test_a_gated_model_is_called_so(server: Hub, cache: Path) -> None:
    server.gated = "manual"
    assert info(ID, cache=cache).gated is True


def test_pickled_weights_alone_are_refused(server: Hub, cache: Path) -> None:
    del server.files["model.safetensors"]
    with pytest.raises(UserError, match="pickled weights only"):
        fetch(cache)
    del server.files["pytorch_model.bin"]
    with pytest.raises(UserError, match="no safetensors"):
        info(ID, cache=cache)
    assert server.fetched == []


@pytest.mark.parametrize(
    ("status", "code", "expected", "exit_code"),
    [
        (401, "RepoNotFound", "hub.not_found", 2),
        (404, "RepoNotFound", "hub.not_found", 2),
        (403, "GatedRepo", "hub.gated", 2),
        (404, "RevisionNotFound", "hub.no_revision", 2),
        (500, "", "hub.error", 1),
    ],
)
def test_refusals_are_told_in_sentences(
    server: Hub, cache: Path, status: int, code: str, expected: str, exit_code: int
) -> None:
    server.status, server.code = status, code
    with pytest.raises(UserError) as caught:
        fetch(cache)
    assert (caught.value.problem.code, caught.value.exit_code) == (expected, exit_code)
    assert caught.value.problem.hint.en
    assert caught.value.problem.hint.zh


def test_no_network_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(UserError, match="cannot be reached") as caught:
            info(ID, cache=cache)
    assert (caught.value.problem.code, caught.value.exit_code) == ("hub.offline", 1)


def test_offline_mode_is_told_with_the_switch(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    try:
        with pytest.raises(UserError, match="cannot be reached") as caught:
            info(ID, cache=cache)
    finally:
        close_session()
    assert "HF_HUB_OFFLINE" in caught.value.problem.hint.en


@pytest.mark.parametrize("wrong", ["one/two/three", "a--b/c", "a/../b", "-a/b", "a/b.git"])
def test_what_is_no_id_is_told(wrong: str, cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        info(wrong, cache=cache)
    assert caught.value.problem.code == "hub.bad_id"


# -------------------------------------------------------------------------------------------------------- download
def test_only_what_is_needed_is_fetched(server: Hub, cache: Path) -> None:
    told: list[tuple[int, int]] = []
    folder = fetch(cache, progress=lambda done, total: told.append((done, total)))
    assert {path.name for path in folder.iterdir()} == WANTED
    assert set(server.fetched) == WANTED
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    total = sum(len(FILES[name]) for name in WANTED)
    assert told[-1] == (total, total)
    assert any(0 < done < total for done, _ in told)
    assert all(before[0] <= after[0] for before, after in pairwise(told))


def test_what_is_there_is_not_fetched_again(server: Hub, cache: Path) -> None:
    first = fetch(cache)
    server.fetched.clear()
    assert fetch(cache) == first
    assert server.fetched == []
    assert info(ID, cache=cache).missing_bytes == 0


def test_a_cancel_ends_it_and_a_second_try_goes_on(server: Hub, cache: Path) -> None:
    server.files = FILES | {"model.safetensors": b"w" * 40_000_000}
    seen = 0

    def progress(done: int, total: int) -> None:
        nonlocal seen
        seen = done

    with pytest.raises(Stopped):
        fetch(cache, progress=progress, cancelled=lambda: seen > 1_000_000)
    assert seen < 40_000_000
    with pytest.raises(UserError, match="not finished"):
        cached_folder(ID, revision=COMMIT, cache=cache)
    folder = fetch(cache)
    assert (folder / "model.safetensors").stat().st_size == 40_000_000
    assert locate(ID, cache=cache) == folder


def test_a_disk_too_small_is_told_before_anything_is_fetched(
    server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "disk_free_gib", lambda path: 0.5)
    with pytest.raises(UserError, match=r"0\.5 GiB are free") as caught:
        fetch(cache)
    assert (caught.value.problem.code, caught.value.exit_code) == ("hub.no_disk", 1)
    assert server.fetched == []


def test_a_disk_that_does_not_tell_is_not_in_the_way() -> None:
    check_disk(HubInfo(ID, COMMIT, 10**15, 1, 10**15, None, "", False, "", None))


def test_a_folder_that_cannot_be_written(server: Hub, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(UserError) as caught:
        fetch(in_the_way / "cache")
    assert (caught.value.problem.code, caught.value.exit_code) == ("file.no_folder", 2)


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("model-00001-of-00002.safetensors", True),
        ("model.safetensors.index.json", True),
        ("tokenizer.model", True),
        ("chat_template.jinja", True),
        ("additional_chat_templates/tool_use.jinja", True),
        ("additional_chat_templates/tool_use.py", False),
        ("assets/model.safetensors", False),
        ("LICENSE", True),
        ("pytorch_model-00001-of-00002.bin", False),
        ("tokenizer.bin", False),
        ("tokenization_odd.py", False),
        ("model.pt", False),
        ("original/model.safetensors", False),
        ("consolidated.safetensors", False),
        ("tf_model.h5", False),
    ],
)
def test_which_files_are_needed(name: str, needed: bool) -> None:
    assert is_needed(name) is needed


# ----------------------------------------------------------------------------------------------------------- cache
def test_an_empty_cache(cache: Path) -> None:
    assert cached_models(cache) == ()
    assert cached_folder(ID, cache=cache) is None
    with pytest.raises(UserError) as caught:
        locate(ID, cache=cache)
    assert caught.value.problem.code == "model.not_downloaded"


def test_a_downloaded_model_is_listed(server: Hub, cache: Path) -> None:
    folder = fetch(cache)
    (found,) = cached_models(cache)
    assert isinstance(found, CachedModel)
    assert (found.id, found.folder, found.revision) == (ID, folder, COMMIT)
    assert found.bytes == sum(len(FILES[name]) for name in WANTED)


def test_a_model_that_another_tool_fetched_by_commit_is_found(server: Hub, cache: Path) -> None:
    folder = fetch(cache, revision=COMMIT)
    assert cached_folder(ID, cache=cache) == folder


def test_a_model_without_weights_is_not_listed(cache: Path) -> None:
    snapshot = cache / "models--someone--else" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert cached_models(cache) == ()


# ---------------------------------------------------------------------------------------------------------- locate
def test_a_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("owner/name") == tmp_path / "owner" / "name"
    assert locate(str(tmp_path)) == tmp_path


def test_the_starter(starter: Path) -> None:
    assert locate("starter") == starter


def test_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        locate(str(tmp_path / "nowhere"))
    assert caught.value.problem.code == "model.missing"


@pytest.mark.parametrize(
    ("text", "is_id"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", True),
        ("a/b", True),
        ("name", False),
        ("/root/model", False),
        ("./a/b", False),
        ("a/b/c", False),
        ("../a", False),
        ("a/..", False),
        ("C:\\models\\x", False),
    ],
)
def test_what_reads_like_a_hub_id(text: str, is_id: bool) -> None:
    assert is_hub_id(text) is is_id
