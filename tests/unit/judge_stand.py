"""A judge's server of our own, and an evaluation to judge."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from engine.project.evaluation import Comparison, EvaluatedRow, Evaluation, Scores, SideOfRow, Verdict, write_evaluation
from engine.project.run_folder import RunFolder
from engine.recipe.judge import JudgeSettings

NO_SCORES = Scores(None, None, None, None, None)
EVEN = Comparison(0, 0, 0, None)


# ------------------------------------------------------------------------------------------------- a judge's server
@dataclass
class Stand:
    """A judge's server: `answer` is given the request and gives (status, headers, body)."""

    answer: Callable[[dict[str, Any]], tuple[int, dict[str, str], Any]]
    key: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        stand: Stand = self.server.stand  # type: ignore[attr-defined]
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with stand.lock:
            stand.at_once += 1
            stand.most_at_once = max(stand.most_at_once, stand.at_once)
            stand.seen.append({"path": self.path, **request})
            stand.keys.append(self.headers.get("Authorization"))
        try:
            if stand.key and self.headers.get("Authorization") != f"Bearer {stand.key}":
                status, headers, body = 401, {}, {"error": f"Incorrect API key {self.headers.get('Authorization')}"}
            else:
                status, headers, body = stand.answer(request)
        finally:
            with stand.lock:
                stand.at_once -= 1
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # who asked has left
            pass

    def log_message(self, *args: object) -> None:
        """Nothing."""


def completion(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": 100, "completion_tokens": 7}}


def verdict(text: str) -> tuple[int, dict[str, str], Any]:
    return 200, {}, completion(json.dumps({"reason": "because", "verdict": text}))


Serve = Callable[..., tuple[Stand, JudgeSettings]]


@contextmanager
def serving() -> Iterator[Serve]:
    """Gives what starts servers; they end with the block."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(answer: Callable[[dict[str, Any]], Any], key: str = "", **settings: Any) -> tuple[Stand, JudgeSettings]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads = False
        stand = Stand(answer, key)
        server.stand = stand  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        servers.append((server, thread))
        address = f"http://127.0.0.1:{server.server_address[1]}/v1"
        return stand, JudgeSettings(**{"address": address, "model": "judge-1", "timeout": 5.0, **settings})

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


# ------------------------------------------------------------------------------------------------------- what is judged
def row(number: int, base: str | None = None, tuned: str | None = None, *, prompt: str = "") -> EvaluatedRow:
    sides = [SideOfRow(a, False, None, None, None) for a in (base or f"base {number}", tuned or f"good {number}")]
    return EvaluatedRow(f"rows.jsonl:{number}", prompt or f"question {number}", f"right {number}", *sides)


def evaluated(folder: Path, rows: list[EvaluatedRow]) -> RunFolder:
    run = RunFolder(folder)
    folder.mkdir(exist_ok=True)
    write_evaluation(run, Evaluation(NO_SCORES, NO_SCORES, Verdict(EVEN, EVEN, 1.0), tuple(rows)))
    return run


def by_quality(request: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    """A judge that finds the answer beginning with "good" better, wherever it stands."""
    text = request["messages"][0]["content"]
    return verdict("1" if text.index("good ") < text.index("base ") else "2")
