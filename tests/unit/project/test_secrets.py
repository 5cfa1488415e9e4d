"""Secrets are found wherever they stand, and nothing else is taken for one."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.catalogue import CATALOGUE
from engine.project import secrets
from engine.project.secrets import HIDDEN, Scrubber, guard_output, known_secrets, scrub
from engine.protocol.errors import UserError
from engine.recipe.file import from_plain, loads

HUB = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
SECRETS = {
    "hub": HUB,
    "hub, in a word": f"x{HUB}",
    "openai": "sk-proj-abcdEFGH1234_5678-ijkl",
    "anthropic": "sk-ant-api03-abcdEFGH12345678",
    "aws id": "AKIAIOSFODNN7EXAMPLE",
    "github": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "gitlab": "glpat-abcdefghij0123456789",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize(
    "around", ["{}", '"key": "{}"', "tried {}, refused", "https://host/x?a={}&b=1", "中文{}，失败"]
)
def test_keys_are_known_by_their_look(secret: str, around: str) -> None:
    told = scrub(around.format(secret))
    assert HIDDEN in told
    assert secret.lstrip("x") not in told


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("{'authorization': 'Bearer abcdef0123456789'}", "abcdef0123456789"),
        (r"{\"authorization\": \"Bearer abcdef0123456789\"}", "abcdef0123456789"),
        ("Illegal header value b'Bearer abcdef0123456789'", "abcdef0123456789"),
        ("authorization=Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("Cookie: session=0123456789abcdef", "0123456789abcdef"),
        ("https://ben:hunter2@host/path", "hunter2"),
        ("proxy http://ben:p%40ss@10.0.0.1:3128", "p%40ss"),
        ("https://oauth-abc123@host/x.git", "oauth-abc123"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
        ('{"password": "correct-horse"}', "correct-horse"),
        ("WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567", "0123456789abcdef"),
        ("my_token: abcd1234efgh", "abcd1234efgh"),
        ("GET https://cdn.host/f?X-Amz-Signature=abc123def&X-Amz-Date=1", "abc123def"),
        ("GET https://cdn.host/f?Expires=1&Policy=eyJTdGF0&Signature=xYz~-A__&Key-Pair-Id=K2", "xYz~-A__"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----", "MIIEow"),
    ],
)
def test_what_opens_something_is_known_by_its_place(text: str, secret: str) -> None:
    told = scrub(text)
    assert secret not in told
    assert HIDDEN in told


@pytest.mark.parametrize(
    "text",
    [
        '{"tokens": 123456789, "tokens_per_second": 51.25, "token_accuracy": 0.123456}',
        "max_new_tokens = 1280000",
        'eos_token = "<|im_end|>", bos_token: <|begin_of_text|>, pad_token=endoftext_1',
        "TOKENIZERS_PARALLELISM=true",
        "disk-full-and-nothing-was-written, task-0123456789abcdef0",
        "https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct/resolve/main/config.json?download=true",
        "/home/user/models/hf_cache/model.safetensors",
        "step 12 loss 1.234 at 2026-01-01T12:00:00",
        "secrets are never kept; the password is asked for",
        "code hub.token, hub.token_refused: 该令牌无效",
    ],
)
def test_nothing_else_is_taken_for_a_secret(text: str) -> None:
    assert scrub(text) == text


def test_a_hostile_log_is_scrubbed_in_time() -> None:
    began = time.perf_counter()
    for piece in ("eyJ", "sk-", "password:", "token=", "authorization: ", "a", "://", "-----BEGIN ", "?sig=", "/home/"):
        scrub(piece * (300_000 // len(piece)))
    assert time.perf_counter() - began < 10.0


def test_variables_whose_names_say_so_and_the_kept_token_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MY_SERVICE_PASSWORD": "hunter2",
        "HF_TOKEN": "unusual-token",
        "TOKENIZERS_PARALLELISM": "sometimes",
        "SOME_TOKEN": "true",
        "PLAIN_NAME": "not-secret",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(secrets.hub_access, "kept_token", lambda: "kept-in-the-keyring")
    found = known_secrets()
    assert {"hunter2", "unusual-token", "kept-in-the-keyring"} <= set(found)
    assert not {"sometimes", "true", "not-secret"} & set(found)
    assert "kept-in-the-keyring" not in known_secrets(keyring=False)
    assert "hunter2" not in Scrubber()("it said: hunter2")


def test_who_and_where_the_user_is_goes_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "karl müller"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "karlm")
    monkeypatch.setattr(secrets.platform, "node", lambda: "karls-laptop")
    clean = Scrubber(())
    assert clean(f"open {home}/project/x.jsonl") == "open ~/project/x.jsonl"
    assert clean("file://" + str(home).replace(" ", "%20").replace("ü", "%C3%BC") + "/x").endswith("~/x")
    assert clean("by KARLM on Karls-Laptop; karlmann stays") == "by user on host; karlmann stays"
    assert clean("/home/somebody/x /Users/Else/y C:\\Users\\Third\\z C:\\\\Users\\\\Third\\\\z") == (
        "/home/user/x /Users/user/y C:\\Users\\user\\z C:\\\\Users\\\\user\\\\z"
    )


def test_in_json_a_field_that_is_called_a_secret_is_one() -> None:
    clean = Scrubber(())
    plain = {"password": "correct horse", "eos_token": "<|im_end|>", "n": [1, None, {HUB: f"a {HUB}"}], "rows": 3}
    told = clean.plain(plain)
    assert HUB not in json.dumps(told)
    assert told["password"] == HIDDEN
    assert told["eos_token"] == "<|im_end|>"
    assert told["n"][:2] == [1, None]
    assert told["rows"] == 3


@pytest.fixture
def kept_logging() -> Iterator[None]:
    """Records are made as before, afterwards."""
    make = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(make)


@pytest.mark.usefixtures("kept_logging")
def test_logs_and_tracebacks_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_PASSWORD", "hunter2")
    written = io.StringIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, written)
    guard_output()
    guard_output()
    seen = io.StringIO()
    handler = logging.StreamHandler(seen)
    log = logging.getLogger("a.library.of.others")
    log.addHandler(handler)
    try:
        log.warning("GET https://host/f?Signature=%s by %s", "abc123", HUB)
        try:
            raise ValueError(f"refused: Bearer {HUB}")
        except ValueError:
            log.exception("with hunter2")
        print(f"printed {HUB}")  # noqa: T201
        sys.stderr.write(f"traceback {HUB}\n")
    finally:
        log.removeHandler(handler)
    told = seen.getvalue() + written.getvalue()
    for secret in (HUB, "abc123", "hunter2"):
        assert secret not in told
    assert "with [secret]" in told
    assert "printed [secret]" in told
    assert "ValueError" in seen.getvalue()


# -------------------------------------------------------------------------------------------------------- recipes
@pytest.mark.parametrize(
    "plain",
    [
        {"model": {"source": HUB}},
        {"data": {"files": ["a.jsonl", f"https://ben:hunter2@host/{HUB}"]}},
        {"data": {"system": f"Use {HUB} to ask."}},
        {"data": {"mapping": {"prompt": HUB}}},
        {"train": {"epochs": HUB}},
        {HUB: 1},
    ],
)
def test_a_recipe_refuses_what_looks_like_a_token(plain: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        from_plain(plain, CATALOGUE)
    assert [problem.code for problem in caught.value.problems] == ["recipe.secret"]
    assert HUB not in str(caught.value) + caught.value.problems[0].hint.zh + caught.value.problems[0].message.zh


def test_a_recipe_with_plain_names_is_taken() -> None:
    assert from_plain({"data": {"files": ["disk-full.jsonl", "hf_rows.jsonl"]}}, CATALOGUE).data.files


def test_a_recipe_nested_too_deeply_is_told() -> None:
    with pytest.raises(UserError) as caught:
        loads("a = " + "[" * 100_000, CATALOGUE)
    assert caught.value.problem.code == "recipe.syntax"
