"""Answers of an exported GGUF, through llama.cpp: what a person will meet where the file is taken."""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from engine.chat.reply import CANCELLED, CONTEXT, ENDED, LIMIT, Reply
from engine.chat.sampling import Sampling
from engine.data.rows import Message
from engine.export.llama_cpp import failed
from engine.export.llama_parameters import parameters, started
from engine.protocol.errors import UserError
from engine.protocol.text import say

LARGEST_CONTEXT = 8192
"""Tokens that llama.cpp keeps room for at once; a model's own context can be a hundred times what is free."""
_SECONDS = 600
_ENDS = {"eos": ENDED, "word": ENDED, "limit": LIMIT}
# As with the weights in memory: repetition, temperature, top-k, top-p, min-p.
_SAMPLERS = ["penalties", "temperature", "top_k", "top_p", "min_p"]


class GgufColumn:
    """A GGUF loaded in llama.cpp, with the tokenizer and the template inside the file.

    Its random numbers are llama.cpp's own: with a temperature above 0 the same seed repeats its answer, but draws other
    tokens than the seed does for the weights in memory.
    """

    def __init__(self, path: Path, *, apart: bool, wanted: int | None = None) -> None:
        """Load ``path``. Raises `UserError` when llama.cpp does not load it.

        Args:
            apart: see `engine.chat.column.Column`.
            wanted: tokens that conversation and answer should have room for; None for as many as is usual.
        """
        if not path.is_file():
            raise _no_file(path)
        self.apart = apart
        self._name = path.name
        self._key = secrets.token_hex(16)
        self.context: int | None = min(wanted or LARGEST_CONTEXT, LARGEST_CONTEXT)
        try:
            self._server = started(parameters(path, context=self.context, key=self._key))
        except (RuntimeError, ValueError, OSError) as error:
            raise failed(path.name, str(error)) from error
        self._address = self._server.listening_address.partition("://")[2]

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids, by the template in the file. Raises `UserError` when llama.cpp cannot."""
        plain = [{"role": message.role, "content": message.content} for message in messages]
        prompt = self._ask("/apply-template", {"messages": plain})["prompt"]
        reply = self._ask("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})
        return [int(number) for number in reply["tokens"]]

    def stream(
        self, ids: Sequence[int], sampling: Sampling, reply: Reply, cancelled: Callable[[], bool]
    ) -> Generator[str]:
        """The answer. Raises `UserError` when llama.cpp fails."""
        connection = self._connect()
        try:
            response = self._post(connection, "/completion", _body(ids, sampling, self.context or LARGEST_CONTEXT))
            for line in _events(response):
                if cancelled():
                    reply.end = CANCELLED
                    return
                piece = str(line.get("content", ""))
                piece = piece if reply.text else piece.lstrip()
                reply.text += piece
                reply.tokens += bool(line.get("tokens"))
                if line.get("stop"):
                    self._finish(reply, line, len(ids))
                if piece:
                    yield piece
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise failed(self._name, str(error)) from error
        finally:
            connection.close()  # llama.cpp ends what nobody hears
        if not reply.end:
            raise failed(self._name, "the answer broke off")

    def _finish(self, reply: Reply, line: dict[str, Any], prompt: int) -> None:
        """The figures of the whole answer; times are llama.cpp's own."""
        times = line.get("timings") or {}
        reply.tokens = int(line.get("tokens_predicted", reply.tokens))
        reading, writing = float(times.get("prompt_ms", 0)) / 1000, float(times.get("predicted_ms", 0)) / 1000
        if reply.tokens:
            reply.seconds = reading + writing
            reply.first_token_seconds = reading + writing / reply.tokens
        full = self.context is not None and prompt + reply.tokens >= self.context
        end = _ENDS.get(str(line.get("stop_type")), ENDED)
        reply.end = CONTEXT if full and end == LIMIT else end

    # ------------------------------------------------------------------------------------------------------- its server
    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._address, timeout=_SECONDS)

    def _post(self, to: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        to.request("POST", path, json.dumps(body), headers)
        response = to.getresponse()
        if response.status != http.client.OK:
            raise failed(self._name, response.read().decode("utf-8", "replace")[:2000])
        return response

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        connection = self._connect()
        try:
            found: dict[str, Any] = json.loads(self._post(connection, path, body).read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise failed(self._name, str(error)) from error
        finally:
            connection.close()
        return found


def _events(response: http.client.HTTPResponse) -> Generator[dict[str, Any]]:
    """What the server sends, one JSON object an event."""
    for line in response:
        if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
            found = json.loads(line[6:])
            if "error" in found:
                raise ValueError(json.dumps(found["error"], ensure_ascii=False))
            yield found


def _body(ids: Sequence[int], sampling: Sampling, window: int) -> dict[str, Any]:
    return {
        "prompt": list(ids),
        "stream": True,
        "return_tokens": True,
        "cache_prompt": False,  # the same question is answered the same, whatever was asked before
        "n_predict": sampling.max_new_tokens,
        "seed": sampling.seed % (2**32 - 1),  # the last number means "by chance" to llama.cpp
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": window,
        "samplers": _SAMPLERS,
    }


def _no_file(path: Path) -> UserError:
    return UserError(
        "chat.gguf",
        say("There is no file {path}.", "没有文件 {path}。", path=path),
        say("Export the model as GGUF first.", "请先导出为 GGUF。"),
        where=str(path),
    )
