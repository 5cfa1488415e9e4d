"""Asking a judge over the network: one request at a time, with retries, and nothing that leads elsewhere.

Speaks the chat completions protocol of OpenAI, which local servers (llama.cpp, vLLM, Ollama, LM Studio) speak too.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from engine.project.judge_access import is_here
from engine.project.secrets import scrub
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import Text, say

TRIES, TRIES_AT_FIRST = 5, 3
"""How often a request is sent at most; and where nothing ever came back from the address, which ends all."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the second try, doubled each time, and at most."""
LARGEST_ANSWER = 4 * 2**20
_AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
"""Statuses after which the same request may go through."""
_REFUSED = frozenset((401, 403))
_OPTIONAL = ("seed", "temperature", "max_tokens")
"""What some endpoints do not take, the likeliest last: each is left out once it was refused."""


class Cancelled(Exception):
    """The user asked to stop while a request was waited for."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the judge wrote, and how many tokens the endpoint counted (0: it did not say)."""

    text: str
    prompt_tokens: int
    answer_tokens: int


class Unanswered(Exception):
    """No answer after all tries. ``args[0]`` is the reason, a `Text`."""

    @property
    def reason(self) -> Text:
        """Why."""
        reason: Text = self.args[0]
        return reason


class JudgeClient:
    """An endpoint; its methods may be called from several threads.

    Args:
        address: as `checked_address` gives it.
        key: sent as a bearer token; None for none.
        timeout: seconds to wait for an answer.
        seed: sent with each request, and of the times between tries.
        wait: how to wait so many seconds; tests do not.
    """

    def __init__(
        self,
        address: str,
        model: str,
        key: str | None,
        *,
        timeout: float,
        max_tokens: int,
        seed: int,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._parts, self._model, self._key, self._timeout = urlsplit(address), model, key, timeout
        self._options: dict[str, Any] = {"temperature": 0, "seed": seed, "max_tokens": max_tokens}
        self._chance, self._ended = random.Random(seed), threading.Event()
        self._wait = wait or self._ended.wait
        self._open: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()
        self._address, self._heard = address, False
        self.requests = 0

    def close(self) -> None:
        """End every request that is waited for, and take no more."""
        self._ended.set()
        with self._lock:
            open_ = list(self._open)
        for connection in open_:
            if connection.sock is not None:
                _shut(connection)

    def ask(self, messages: list[dict[str, str]]) -> Reply:
        """The judge's answer.

        Raises:
            Unanswered: not after all tries.
            UserError: the key is refused, the address has no such model, it leads elsewhere, or nothing ever came from
                it: no use in going on.
            Cancelled: `close` was called.
        """
        reason = say("no answer", "没有回答")
        for number in range(TRIES):
            self._look()
            try:
                status, headers, body = self._send(messages)
            except (OSError, http.client.HTTPException) as error:
                self._look()
                reason = _of_error(error)
                if not self._heard and number + 1 >= TRIES_AT_FIRST:
                    raise unreachable(self._address, reason) from error
                self._pause(number, None)
                continue
            self._heard = True
            if status == 200:
                return _reply(body)
            reason = self._judged(status, body)
            self._pause(number, headers.get("retry-after") if status in _AGAIN else "0")
        raise Unanswered(reason)

    def _look(self) -> None:
        if self._ended.is_set():
            raise Cancelled

    def _pause(self, number: int, asked: str | None) -> None:
        """Before the next try: what the endpoint asks for, else twice as long as before, a little by chance."""
        if number + 1 >= TRIES:
            return
        try:
            seconds = float(asked) if asked is not None else FIRST_WAIT * 2**number * self._chance.uniform(0.8, 1.2)
        except ValueError:  # a date
            seconds = FIRST_WAIT * 2**number
        if seconds > 0:
            self._wait(min(seconds, LONGEST_WAIT))

    def _judged(self, status: int, body: bytes) -> Text:
        """Why an answer was none, where another try may help. Raises `UserError` where it cannot."""
        told = self._told(body)
        if status in _AGAIN:
            return say("it answered with the error {status}", "返回错误 {status}", status=status)
        if status == 400 and (name := self._refused_option(told)):
            with self._lock:
                value = self._options.pop(name, None)
                if name == "max_tokens" and value is not None:  # what newer models of OpenAI call it
                    self._options["max_completion_tokens"] = value
            return say("it does not take {name}", "不接受参数 {name}", name=name)
        raise self._hopeless(status, told)

    def _refused_option(self, told: str) -> str:
        with self._lock:
            return next((name for name in reversed(_OPTIONAL) if name in told and name in self._options), "")

    def _hopeless(self, status: int, told: str) -> UserError:
        host = self._parts.netloc
        if status in _REFUSED:
            message = say("{host} refuses the key.", "{host} 拒绝了密钥。", host=host)
            hint = say("Keep the right one: lorimer judge-key ADDRESS", "请保存正确的密钥：lorimer judge-key 地址")
            return UserError("judge.key_refused", message, hint, details=told)
        if 300 <= status < 400:
            message = say("{host} sends on to another address.", "{host} 重定向到了其他地址。", host=host)
            hint = say(
                "Nothing was sent there; give the address itself.", "未向该地址发送任何内容；请直接填写最终地址。"
            )
            return UserError("judge.redirect", message, hint, details=told)
        if status == 404:
            message = say(
                "{host} has no model “{model}”, or answers at another address.",
                "{host} 没有模型“{model}”，或接口地址不同。",
                host=host,
                model=self._model,
            )
            return UserError(
                "judge.not_there", message, say("Such addresses end in /v1.", "这类地址通常以 /v1 结尾。"), details=told
            )
        message = say(
            "{host} refuses the request ({status}).", "{host} 拒绝了请求（{status}）。", host=host, status=status
        )
        return UserError("judge.refused", message, say("Its answer is in the details.", "其回答见详情。"), details=told)

    def _told(self, body: bytes) -> str:
        """What an endpoint said, without the key, which some repeat."""
        return scrub(body[:2000].decode("utf-8", "replace"), [self._key] if self._key else [])

    # ---------------------------------------------------------------------------------------------------- network
    def _send(self, messages: list[dict[str, str]]) -> tuple[int, Mapping[str, str], bytes]:
        with self._lock:
            document = {"model": self._model, "messages": messages, **self._options}
            self.requests += 1
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "lorimer"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        connection = self._connection()
        with self._lock:
            self._open.add(connection)
        try:
            path = f"{self._parts.path.rstrip('/')}/chat/completions"
            connection.request("POST", path, json.dumps(document, ensure_ascii=False).encode(), headers)
            answer = connection.getresponse()
            body = _read(answer, time.monotonic() + self._timeout)
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        secure = ssl.create_default_context()
        proxy = None if is_here(host) or urllib.request.proxy_bypass(host) else urllib.request.getproxies().get("https")
        if not proxy:
            return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=secure)
        through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = http.client.HTTPSConnection(
            through.hostname or "", through.port or 8080, timeout=self._timeout, context=secure
        )
        connection.set_tunnel(host, port or 443)
        return connection


def _shut(connection: http.client.HTTPConnection) -> None:
    """Wake a thread that waits for this connection."""
    with suppress(OSError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _read(answer: http.client.HTTPResponse, until: float) -> bytes:
    """The body, as long as it is no longer and comes no slower than an answer may."""
    parts, held = [], 0
    while piece := answer.read1(65536):
        parts.append(piece)
        held += len(piece)
        if held > LARGEST_ANSWER or time.monotonic() > until:
            raise TimeoutError
    return b"".join(parts)


def _of_error(error: Exception) -> Text:
    if isinstance(error, TimeoutError):
        return say("it did not answer in time", "未在时限内回答")
    if isinstance(error, ConnectionRefusedError):
        return say("nothing answers at its address", "该地址没有服务在运行")
    return say("the connection failed ({kind})", "连接失败（{kind}）", kind=type(error).__name__)


def _reply(body: bytes) -> Reply:
    """The text of a completion; an empty one where the answer is none, which is then asked for again."""
    try:
        plain = json.loads(body)
        text = plain["choices"][0]["message"]["content"]
        used = plain.get("usage") or {}
        counts = [used.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return Reply("", 0, 0)
    read, written = (count if isinstance(count, int) and 0 <= count < 10**9 else 0 for count in counts)
    return Reply(text if isinstance(text, str) else "", read, written)


def unreachable(address: str, reason: Text) -> UserError:
    """No row could be judged."""
    return UserError(
        "judge.unreachable",
        say(
            "The judge at {host} cannot be asked: {reason}.",
            "无法向 {host} 的评审模型提问：{reason}。",
            host=urlsplit(address).netloc,
            reason=reason,
        ),
        say("Is it running, and the address right?", "服务是否在运行？地址是否正确？"),
        exit_code=EXIT_MACHINE,
    )
