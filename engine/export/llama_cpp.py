"""A GGUF loaded in llama.cpp, asked through the server that the xllamacpp wheel holds (on this machine only)."""

from __future__ import annotations

import http.client
import json
import math
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.export.llama_parameters import parameters, started
from engine.merge.reference import Choice
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

_SECONDS = 600


class LlamaCpp:
    """A loaded model; every answer is greedy, with a cache in 32-bit floats."""

    def __init__(self, address: str, key: str, name: str) -> None:
        self._connection = http.client.HTTPConnection(address.partition("://")[2], timeout=_SECONDS)
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self._name = name

    def forced(self, ids: Sequence[int], start: int) -> list[Choice]:
        """What it would say at each place from ``start`` on, given the true tokens before: len(ids) - start choices."""
        return [self._forced_one(ids[:end], ids[end]) for end in range(start, len(ids))]

    def ends_at(self, prompt: Sequence[int], token: int) -> bool:
        """Whether an answer that comes to ``token`` ends there."""
        return self._complete(prompt, 2, token)[1]

    def greedy(self, prompt: Sequence[int], count: int) -> tuple[list[Choice], bool]:
        """Its first ``count`` tokens after ``prompt``, the ending one included, and whether it ended by itself."""
        return self._complete(prompt, count)

    def tokenize(self, text: str) -> list[int]:
        """Ids of ``text``, special tokens understood, with a first-of-text token where the file asks for one."""
        reply = self._ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        return [int(number) for number in reply["tokens"]]

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """Messages as the template inside the file writes them, with the opening of the next answer."""
        return str(self._ask("/apply-template", {"messages": list(messages)})["prompt"])

    @cached_property
    def vocabulary(self) -> int:
        """Number of tokens that it knows."""
        return int(self._ask("/v1/models", None)["data"][0]["meta"]["n_vocab"])

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _forced_one(self, before: Sequence[int], token: int) -> Choice:
        # The bias makes it write the token, but what it tells of probabilities is without the bias.
        places = self._completion(before, 1, token).get("completion_probabilities") or ()
        if not places or places[0]["id"] != token:
            # A token that ends amid a character has no entry: what it would say itself may have one.
            return self._complete(before, 1)[0][0]
        first, second = places[0]["top_logprobs"][:2]
        return Choice(int(first["id"]), float(first["logprob"] - second["logprob"]), float(places[0]["logprob"]))

    def _completion(self, prompt: Sequence[int], count: int, forced: int | None = None) -> dict[str, Any]:
        body = {
            "prompt": list(prompt),
            "n_predict": count,
            "temperature": 0,
            "n_probs": 2,
            "cache_prompt": True,
            "return_tokens": True,
        }
        return self._ask("/completion", body if forced is None else {**body, "logit_bias": [[forced, 1e5]]})

    def _complete(self, prompt: Sequence[int], count: int, forced: int | None = None) -> tuple[list[Choice], bool]:
        reply = self._completion(prompt, count, forced)
        places = iter([*reply.get("completion_probabilities", ())])
        place, choices = next(places, None), []
        for token in reply["tokens"]:
            # A token that ends amid a character has no entry; the other side's margin then speaks for both.
            if place is None or place["id"] != token:
                choices.append(Choice(int(token), math.inf))
                continue
            first, second = place["top_logprobs"][:2]
            # A difference of log-probabilities is the difference of the logits.
            choices.append(Choice(int(token), float(first["logprob"] - second["logprob"])))
            place = next(places, None)
        return choices, reply.get("stop_type") == "eos"

    def _ask(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            sent = None if body is None else json.dumps(body)
            self._connection.request("GET" if sent is None else "POST", path, sent, self._headers)
            response = self._connection.getresponse()
            reply: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise failed(self._name, str(error)) from error
        if response.status != http.client.OK:
            raise failed(self._name, json.dumps(reply.get("error", reply), ensure_ascii=False))
        return reply


@contextmanager
def loaded(path: Path, context: int, *, lora: Path | None = None) -> Iterator[LlamaCpp]:
    """The GGUF at ``path`` on the CPU, for texts of up to ``context`` tokens; freed when the block ends.

    Args:
        lora: GGUF of an adapter to put on it.

    Raises:
        UserError: llama.cpp does not load it.
    """
    key = secrets.token_hex(16)
    try:
        server = started(parameters(path, context=context, key=key, exact=True, lora=lora))
    except (RuntimeError, ValueError) as error:
        raise failed(path.name, str(error)) from error
    model = LlamaCpp(server.listening_address, key, path.name)
    try:
        yield model
    finally:
        model.close()
        del server


def runtime() -> str:
    """Name and version of what runs a GGUF here."""
    return f"llama.cpp (xllamacpp {version('xllamacpp')})"


def failed(name: str, details: str) -> UserError:
    """What is said when llama.cpp does not do it.

    Args:
        name: of the file.
        details: for the log.
    """
    return UserError(
        "export.llama_cpp",
        say("llama.cpp cannot run the GGUF.", "llama.cpp 无法运行该 GGUF。"),
        say("Export again; if it happens again, export as F16.", "请重新导出；若仍失败，请导出为 F16。"),
        where=name,
        exit_code=EXIT_MACHINE,
        details=details,
    )
