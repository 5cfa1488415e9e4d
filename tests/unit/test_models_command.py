"""``lorimer models``: the list, one model, its download, the token and the mirror, on a hub played on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest

from engine.cli import main
from engine.project import hub_access
from engine.project.settings import load_settings
from tests.played_hub import COMMIT, FILES, ID, Hub, playing
from tests.unit.project.test_hub_access import InMemory

TOKEN = "hf_abcdefghijklmnop"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No cache, no folders, no token of this machine's."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    for name in (*hub_access.TOKEN_VARIABLES, "HF_ENDPOINT", "LORIMER_HF_ENDPOINT", "LORIMER_LANG"):
        monkeypatch.setenv(name, "")  # so that what a command sets is taken back, too
        monkeypatch.delenv(name)
    return cache


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with playing() as played:
        monkeypatch.setenv("HF_ENDPOINT", played.address)
        yield played


@pytest.fixture
def ring() -> Iterator[InMemory]:
    before, made = keyring.get_keyring(), InMemory()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


class Lorimer:
    """Commands run in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *given: str) -> int:
        self._capsys.readouterr()
        code = main(list(given))
        self.out, self.err = self._capsys.readouterr()
        return code

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture
def lorimer(capsys: pytest.CaptureFixture[str]) -> Lorimer:
    return Lorimer(capsys)


# ------------------------------------------------------------------------------------------------------------- list
def test_the_list_says_what_fits(lorimer: Lorimer) -> None:
    assert lorimer("models", "--json", "--gpu-memory", "24") == 0
    document = lorimer.document
    rows = {row["id"]: row for row in document["models"]}
    assert document["length"] == 512
    assert rows["starter"]["where"] == "starter"
    assert rows["starter"]["fits"]["lora"] == "fits"
    eight = rows["Qwen/Qwen3-8B"]
    assert (eight["where"], eight["fits"]["qlora"], eight["licence"]) == ("catalogue", "fits", "apache-2.0")
    assert 5 < eight["needed_gib"]["qlora"] < 12
    assert rows["meta-llama/Llama-3.3-70B-Instruct"]["fits"]["qlora"] == "no"
    assert isinstance(eight["good_for"], str)


def test_the_list_is_read_by_people_in_both_languages(lorimer: Lorimer) -> None:
    assert lorimer("models", "--gpu-memory", "24", "--length", "1024") == 0
    assert "rows of 1024 tokens" in lorimer.out
    assert "On this machine" in lorimer.out
    assert "gated" in next(line for line in lorimer.out.splitlines() if "gemma-2-9b-it" in line)
    assert lorimer("models", "--lang", "zh") == 0
    assert "本机已有" in lorimer.out


def test_a_mistake_in_the_own_file_is_told_with_its_line(lorimer: Lorimer, lorimer_home: Path) -> None:
    (lorimer_home / "models.toml").write_text('[[model]]\nid = "me/mine"\nlicense = "mit"\n', encoding="utf-8")
    assert lorimer("models") == 0
    assert "models.toml:3" in lorimer.err
    assert lorimer("models", "--json") == 0
    assert lorimer.document["problems"][0]["where"].endswith("models.toml:3")


# -------------------------------------------------------------------------------------------------------------- info
def test_info_before_a_download(lorimer: Lorimer, server: Hub) -> None:
    assert lorimer("models", "info", ID, "--json") == 0
    hub = lorimer.document["hub"]
    assert (hub["licence"], hub["gated"], hub["files"]) == ("mit", False, 4)
    assert hub["missing_bytes"] == hub["bytes"]
    assert hub["disk_free_bytes"] > 0
    assert lorimer("models", "info", ID) == 0
    assert "Licence: mit" in lorimer.out
    assert server.fetched == []


def test_info_without_network_is_what_is_known(lorimer: Lorimer, server: Hub) -> None:
    server.status = 503
    assert lorimer("models", "info", "Qwen/Qwen3-4B", "--gpu-memory", "24") == 0
    assert "qlora: at least" in lorimer.out
    assert "error 503" in lorimer.err
    assert lorimer("models", "info", "some/unknown") == 1


# --------------------------------------------------------------------------------------------------------------- get
def test_get_downloads_and_tells_where(lorimer: Lorimer, server: Hub, alone: Path) -> None:
    assert lorimer("models", "get", ID, "--json") == 0
    folder = Path(lorimer.document["folder"])
    assert folder.is_relative_to(alone)
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert lorimer.document["revision"] == COMMIT
    assert not (folder / "modeling_tiny.py").exists()
    assert lorimer("models", "get", ID) == 0
    assert "0.0 of 0.0 GiB to fetch" in lorimer.err


def test_get_without_network_is_one_sentence(lorimer: Lorimer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert lorimer("models", "get", ID, "--json") == 1
    assert lorimer.document["error"]["code"] == "hub.offline"


def test_an_interrupted_get_keeps_what_has_come(lorimer: Lorimer, server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files = FILES | {"model.safetensors": b"w" * 12_000_000}
    from engine import models_command

    class Pressed:
        """Ctrl+C, pressed when half has come."""

        def is_set(self) -> bool:
            return server.sent > 6_000_000

    from contextlib import contextmanager

    @contextmanager
    def pressed() -> Iterator[Pressed]:
        yield Pressed()

    with monkeypatch.context() as patched:
        patched.setattr(models_command, "_ctrl_c", pressed)
        assert lorimer("models", "get", ID, "--json") == 130
        assert lorimer.document["error"]["code"] == "interrupted"
    assert lorimer("models", "--json") == 0
    row = next(row for row in lorimer.document["models"] if row["id"] == ID)
    assert row["where"] == "begun"
    assert row["here_bytes"] > 1_000_000
    server.starts.clear()
    assert lorimer("models", "get", ID) == 0
    assert server.starts["model.safetensors"][0] > 1_000_000


# ------------------------------------------------------------------------------------------------- token and mirror
def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Type a token unseen."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: text)


def test_a_token_is_typed_unseen_and_opens_the_gate(
    lorimer: Lorimer, server: Hub, ring: InMemory, monkeypatch: pytest.MonkeyPatch, lorimer_home: Path
) -> None:
    server.gated, server.token = "manual", TOKEN
    assert lorimer("models", "get", ID) == 2
    assert "wants to be asked first" in lorimer.err
    typed(monkeypatch, TOKEN)
    assert lorimer("models", "token", "--json") == 0
    assert lorimer.document == {"kept": True, "user": "ada"}
    assert TOKEN not in lorimer.out + lorimer.err
    assert lorimer("models", "get", ID) == 0
    assert server.shown == {TOKEN}
    assert TOKEN not in lorimer.out + lorimer.err
    assert not any(TOKEN in file.read_text("utf-8") for file in lorimer_home.rglob("*") if file.is_file())
    assert lorimer("models", "token", "--forget") == 0
    assert ring.kept == {}


def test_a_token_that_the_hub_does_not_know_is_not_kept(
    lorimer: Lorimer, server: Hub, ring: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "hf_another_one_altogether"
    typed(monkeypatch, TOKEN)
    assert lorimer("models", "token") == 2
    assert "does not know this token" in lorimer.err
    assert ring.kept == {}


def test_a_mirror_is_set_and_forgotten(lorimer: Lorimer) -> None:
    assert lorimer("models", "mirror", "https://hf-mirror.com", "--json") == 0
    assert lorimer.document == {"mirror": "https://hf-mirror.com", "endpoint": "https://hf-mirror.com"}
    assert load_settings().mirror == "https://hf-mirror.com"
    assert lorimer("models", "mirror", "--json") == 0  # this process has told the libraries of it by now
    assert lorimer.document["endpoint"] == "https://hf-mirror.com"
    assert lorimer("models", "mirror", "--forget", "--json") == 0
    assert lorimer.document == {"mirror": "", "endpoint": "https://huggingface.co"}
    assert lorimer("models", "mirror", "http://somewhere.example") == 2
