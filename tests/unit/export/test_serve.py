"""The local server: it listens here alone, asks for its key, can be found again, and is gone when it is stopped."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.export import serve
from engine.export.ledger import Export, remember
from engine.export.serve import Serving, halt, running, served_file, start, wait
from engine.host.launch import is_alive
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def gguf(starter_gguf: Path) -> Path:
    """The starter as a GGUF."""
    return starter_gguf


@pytest.fixture(scope="module")
def serving(starter_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that the tests below ask."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORIMER_HOME", str(tmp_path_factory.mktemp("home")))
        folder = start(starter_gguf)
    try:
        yield wait(folder, 60)
    finally:
        halt(folder)


def asked(served: Serving, path: str, body: Any = None, *, key: str | None = None, **headers: str) -> Any:
    """(status, headers, body) of one request."""
    host = served.address.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(host, timeout=30)
    shown = served.key if key is None else key
    connection.request(
        "POST" if body is not None else "GET",
        path,
        json.dumps(body) if body is not None else None,
        {"Content-Type": "application/json", **({"Authorization": f"Bearer {shown}"} if shown else {}), **headers},
    )
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content


def test_it_answers_lists_and_streams(serving: Serving) -> None:
    status, _, content = asked(serving, "/v1/models")
    assert status == 200
    assert [model["id"] for model in json.loads(content)["data"]] == ["orders"]
    question = {"model": "orders", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 12}
    status, _, content = asked(serving, "/v1/chat/completions", question)
    whole = json.loads(content)["choices"][0]["message"]["content"]
    assert status == 200
    assert whole
    status, headers, content = asked(serving, "/v1/chat/completions", {**question, "stream": True})
    assert headers["Content-Type"] == "text/event-stream"
    lines = [line.removeprefix("data: ") for line in content.decode().splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    pieces = [json.loads(line)["choices"] for line in lines[:-1]]
    assert "".join(piece[0]["delta"].get("content") or "" for piece in pieces if piece) == whole
    assert serving.context == 1024  # what the starter knows, not more


def test_only_who_shows_the_key_is_answered_and_no_page_of_another_origin(serving: Serving) -> None:
    assert len(serving.key) >= 24
    for key in ("wrong", ""):
        assert asked(serving, "/v1/models", key=key)[0] == 401
        assert asked(serving, "/v1/chat/completions", {"messages": []}, key=key)[0] == 401
    _, headers, _ = asked(serving, "/v1/models", Origin="http://evil.example")
    assert headers["Access-Control-Allow-Origin"] not in ("*", "http://evil.example")


def test_it_listens_on_this_machine_alone(serving: Serving) -> None:
    port = int(serving.address.rsplit(":", 1)[1].removesuffix("/v1"))
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        with pytest.raises(OSError):  # noqa: PT011  refused, or unreachable
            socket.create_connection((str(address), port), timeout=2).close()
    assert serving.address.startswith("http://127.0.0.1:")


@pytest.mark.skipif(os.name == "nt", reason="rights of files are told otherwise there")
def test_its_key_is_for_this_account_only_and_in_no_record(serving: Serving) -> None:
    folder = serving.folder.path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / serve.KEY_FILE).stat().st_mode) == 0o600
    others = [path for path in folder.iterdir() if path.name != serve.KEY_FILE and path.is_file()]
    assert {"job.json", "events.jsonl", serve.RECORD} <= {path.name for path in others}
    assert all(serving.key.encode() not in path.read_bytes() for path in others)


def test_it_is_found_again_and_stopped_and_frees_its_port(gguf: Path) -> None:
    folder = start(gguf, stays=True, key="my own key")
    served = wait(folder, 60)
    assert [found.address for found in running()] == [served.address]
    assert running()[0].key == "my own key"
    assert running()[0].stays
    port = int(served.address.rsplit(":", 1)[1].removesuffix("/v1"))
    with pytest.raises(UserError) as caught:
        start(gguf, port=port)
    assert caught.value.problem.code == "serve.port"
    assert str(port) in caught.value.problem.message.en
    halt(running()[0].folder)
    assert running() == ()
    assert not folder.path.exists()
    serve.check_port(port)


def test_it_ends_with_who_started_it(gguf: Path, lorimer_home: Path) -> None:
    code = f"""
from pathlib import Path
from engine.export.serve import start, wait
print(wait(start(Path({str(gguf)!r})), 60).folder.path)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    folder = JobFolder(Path(done.stdout.strip()))
    end = time.monotonic() + 20
    while is_alive(folder) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_alive(folder)
    assert running() == ()


def test_what_is_no_gguf_or_damaged_is_told(tmp_path: Path, shared_data: Path) -> None:
    with pytest.raises(UserError) as caught:
        start(tmp_path / "absent.gguf")
    assert caught.value.problem.code == "file.missing"
    other = tmp_path / "words.gguf"
    other.write_bytes(b"words")
    with pytest.raises(UserError) as caught:
        start(other)
    assert caught.value.problem.code == "serve.no_gguf"
    folder = start(shared_data / "broken" / "ggml-vocab-gpt-2.gguf")
    with pytest.raises(UserError) as caught:
        wait(folder, 60)
    assert caught.value.problem.code == "serve.load"
    assert "ggml-vocab-gpt-2.gguf" in caught.value.problem.message.en
    halt(folder)


def test_a_file_that_is_cut_off_is_told(gguf: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.gguf"
    half.write_bytes(gguf.read_bytes()[: gguf.stat().st_size // 2])
    folder = start(half)
    with pytest.raises(UserError) as caught:
        wait(folder, 60)
    assert caught.value.problem.code == "serve.load"
    halt(folder)


def test_the_newest_gguf_that_passed_is_served(tmp_path: Path, gguf: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(UserError) as caught:
        served_file(run)
    assert caught.value.problem.code == "serve.no_gguf"
    wrong = Path(shutil.copyfile(gguf, tmp_path / "wrong.gguf"))
    remember(run, Export("gguf", "Q8_0", str(wrong), 1, 2.0, {"passed": False}))
    with pytest.raises(UserError) as caught:
        served_file(run)
    assert caught.value.problem.code == "serve.differs"
    assert served_file(run, force=True) == wrong
    remember(run, Export("gguf", "F16", str(gguf), 1, 1.0, {"passed": True}))
    assert served_file(run) == gguf


def test_its_examples_work(serving: Serving) -> None:
    assert serving.address in serving.curl
    assert serving.key in serving.curl
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    import shlex

    done = subprocess.run(["curl", "-s", *shlex.split(serving.curl)[1:]], capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout)["choices"]
    compile(serving.python, "example", "exec")
