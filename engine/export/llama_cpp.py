"""A GGUF loaded in llama.cpp, asked through the server that the xllamacpp wheel holds (on this machine only)."""

from __future__ import annotations

import http.client
import json
import math
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.merge.reference import Choice
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

_SECONDS = 600
# Threads of llama.cpp wait for each other spinning; below this size one is faster, on a busy machine a hundredfold.
_ONE_THREAD = 256 * 1024**2


class LlamaCpp:
    """A loaded model; every answer is greedy, with a cache in 32-bit floats."""

    def __init__(self, address: str, key: str, name: str) -> None:
        self._connection = http.client.HTTPConnection(address.partition("://")[2], timeout=_SECONDS)
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self._name = name

    def forced(self, ids: Sequence[int], start: int) -> list[Choice]:
        """What it would say at each place from ``start`` on, given the true tokens before: len(ids) - start choices."""
        return [self._complete(ids[:end], 1)[0][0] for end in range(start, len(ids))]

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

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _complete(self, prompt: Sequence[int], count: int) -> tuple[list[Choice], bool]:
        reply = self._ask(
            "/completion",
            {
                "prompt": list(prompt),
                "n_predict": count,
                "temperature": 0,
                "n_probs": 2,
                "cache_prompt": True,
                "return_tokens": True,
            },
        )
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

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            self._connection.request("POST", path, json.dumps(body), self._headers)
            response = self._connection.getresponse()
            reply: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _failed(self._name, str(error)) from error
        if response.status != http.client.OK:
            raise _failed(self._name, json.dumps(reply.get("error", reply), ensure_ascii=False))
        return reply


@contextmanager
def loaded(path: Path, context: int) -> Iterator[LlamaCpp]:
    """The GGUF at ``path`` on the CPU, for texts of up to ``context`` tokens; freed when the block ends.

    Raises:
        UserError: llama.cpp does not load it.
    """
    # Imported here: it maps 100 MB of library, which only a check needs.
    import xllamacpp

    key = secrets.token_hex(16)
    try:
        server = xllamacpp.Server(_parameters(xllamacpp, path, context, key))
    except (RuntimeError, ValueError) as error:
        raise _failed(path.name, str(error)) from error
    model = LlamaCpp(server.listening_address, key, path.name)
    try:
        yield model
    finally:
        model.close()
        del server


def _parameters(xllamacpp: Any, path: Path, context: int, key: str) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = context
    parameters.n_parallel = 1
    parameters.n_gpu_layers = 0
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    threads = 1 if path.stat().st_size < _ONE_THREAD else max(1, (os.cpu_count() or 2) - 1)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.use_jinja = True
    parameters.fit_params = parameters.warmup = parameters.ui = False
    parameters.cache_ram_mib = 0
    parameters.verbosity = -1
    # Any process of this machine could else ask while the check runs.
    parameters.api_keys = [key]
    return parameters


def _failed(name: str, details: str) -> UserError:
    return UserError(
        "export.llama_cpp",
        say("llama.cpp cannot run the GGUF.", "llama.cpp 无法运行该 GGUF。"),
        say("Export again; if it happens again, export as F16.", "请重新导出；若仍失败，请导出为 F16。"),
        where=name,
        exit_code=EXIT_MACHINE,
        details=details,
    )
