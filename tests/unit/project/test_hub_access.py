"""The hub's token and address: kept where they belong, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import PasswordDeleteError

from engine.project import hub_access
from engine.project.settings import Settings, load_settings
from engine.protocol.errors import UserError

TOKEN = "hf_abcdefghijklmnop"


class InMemory(KeyringBackend):
    """A keyring of one test."""

    priority = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemory]:
    for name in hub_access.TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before, made = keyring.get_keyring(), InMemory()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def test_a_token_is_kept_in_the_keyring_alone(ring: InMemory, lorimer_home: Path) -> None:
    assert hub_access.token() is None
    hub_access.keep_token(f" {TOKEN}\n")
    assert hub_access.token() == TOKEN
    assert list(ring.kept.values()) == [TOKEN]
    written = [file.read_text(encoding="utf-8") for file in lorimer_home.rglob("*") if file.is_file()]
    assert not any(TOKEN in text for text in written)
    assert hub_access.forget_token() is True
    assert hub_access.forget_token() is False
    assert hub_access.token() is None


def test_a_variable_goes_before_the_keyring(ring: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_access.keep_token(TOKEN)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    assert hub_access.token() is None  # the hub's library finds that one itself
    assert hub_access.has_token_variable()


@pytest.mark.parametrize("text", ["", "short", "hf_with spaces inside", "hf_" + "x" * 600, "hf_新令牌新令牌新令牌"])
def test_what_is_no_token_is_not_kept(ring: InMemory, text: str) -> None:
    with pytest.raises(UserError, match="does not look like a token") as caught:
        hub_access.keep_token(text)
    assert ring.kept == {}
    assert not text or text not in str(caught.value.problem)


def test_a_system_without_a_keyring_says_what_to_do(ring: InMemory) -> None:
    keyring.set_keyring(NoKeyring())
    assert hub_access.token() is None
    for call in (lambda: hub_access.keep_token(TOKEN), hub_access.forget_token):
        with pytest.raises(UserError) as caught:
            call()
        assert (caught.value.problem.code, caught.value.exit_code) == ("hub.no_keyring", 1)
        assert "HF_TOKEN" in caught.value.problem.hint.en
        assert TOKEN not in f"{caught.value.details}{caught.value.problem}"


# ---------------------------------------------------------------------------------------------------------- address
def test_a_mirror_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert hub_access.endpoint() is None
    assert hub_access.set_mirror(" hf-mirror.com/ ") == "https://hf-mirror.com"
    assert load_settings() == Settings(mirror="https://hf-mirror.com")
    assert hub_access.endpoint() == "https://hf-mirror.com"
    monkeypatch.setenv("HF_ENDPOINT", "https://other.example")
    assert hub_access.endpoint() == "https://other.example"
    assert hub_access.set_mirror("") == ""
    assert load_settings().mirror == ""


def test_libraries_that_know_the_variable_alone_use_the_mirror_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_ENDPOINT", "LORIMER_HF_ENDPOINT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    hub_access.apply_mirror()
    assert "HF_ENDPOINT" not in os.environ
    hub_access.set_mirror("https://hf-mirror.com")
    hub_access.apply_mirror()
    assert os.environ["HF_ENDPOINT"] == "https://hf-mirror.com"
    hub_access.set_mirror("https://other.example")  # what the user changes counts at once for what we ask ourselves
    assert hub_access.endpoint() == "https://other.example"
    monkeypatch.setenv("HF_ENDPOINT", "https://set.by.the.user")
    hub_access.apply_mirror()
    assert hub_access.endpoint() == os.environ["HF_ENDPOINT"] == "https://set.by.the.user"


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("ftp://hf-mirror.com", "hub.mirror"),
        ("https://", "hub.mirror"),
        ("https://me:secret@hf-mirror.com", "hub.mirror"),
        ("http://hf-mirror.com", "hub.mirror_open"),
    ],
)
def test_what_is_no_address_to_send_a_token_to_is_refused(address: str, code: str) -> None:
    with pytest.raises(UserError) as caught:
        hub_access.set_mirror(address)
    assert caught.value.problem.code == code
    assert load_settings().mirror == ""


def test_a_mirror_on_this_machine_need_not_be_encrypted() -> None:
    assert hub_access.checked_mirror("http://127.0.0.1:8080") == "http://127.0.0.1:8080"


def test_pages_are_those_of_the_hub_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hf-mirror.com")
    assert hub_access.page("google/gemma-2-2b-it") == "https://huggingface.co/google/gemma-2-2b-it"
    assert hub_access.page(hub_access.TOKENS) == "https://huggingface.co/settings/tokens"
