"""The hub, played by a server on this machine: what it says of a model, downloads, cancels, gates, refusals."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.model import hub
from engine.model.download import download
from engine.model.hub import CachedModel, HubInfo, cached_folder, cached_models, check_disk, info, is_needed, unfinished
from engine.model.locate import is_hub_id, locate
from engine.project import hub_access
from engine.protocol.errors import Stopped, UserError
from tests.played_hub import COMMIT, FILES, ID, WANTED, Hub, playing

LARGE = b"w" * 12_000_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on the loopback, for one test; nobody's own token is shown to it."""
    for name in hub_access.TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with playing() as played:
        monkeypatch.setenv("HF_ENDPOINT", played.address)
        yield played


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


def interrupted(server: Hub, cache: Path) -> int:
    """Begin to fetch a large model and cancel it in the middle; gives the bytes of its weights that have come."""
    server.files = FILES | {"model.safetensors": LARGE}
    seen = 0

    def progress(done: int, total: int) -> None:
        nonlocal seen
        seen = done

    with pytest.raises(Stopped):
        fetch(cache, progress=progress, cancelled=lambda: seen > 6_000_000)
    assert 6_000_000 < seen < 12_000_000
    (part,) = (cache / "models--someone--tiny" / "blobs").glob("*.incomplete")
    return part.stat().st_size


def test_a_cancel_ends_it_and_a_second_try_goes_on_where_it_stopped(server: Hub, cache: Path) -> None:
    come = interrupted(server, cache)
    with pytest.raises(UserError, match="not finished"):
        cached_folder(ID, cache=cache)
    assert come > 0
    about = info(ID, cache=cache)
    assert about.missing_bytes == len(LARGE) - come
    told: list[int] = []
    server.starts.clear()
    folder = fetch(cache, progress=lambda done, total: told.append(done))
    assert server.starts["model.safetensors"] == [come]
    assert told[0] >= come
    assert told[-1] == about.bytes
    assert all(before <= after for before, after in pairwise(told))
    assert (folder / "model.safetensors").read_bytes() == LARGE
    assert locate(ID, cache=cache) == folder
    assert unfinished(cache) == ()


def test_a_connection_that_breaks_is_taken_up_again(server: Hub, cache: Path) -> None:
    server.files = FILES | {"model.safetensors": LARGE}
    server.breaks_after = 8_000_000
    folder = fetch(cache)
    first, again = server.starts["model.safetensors"]
    assert (first, again > 4_000_000) == (0, True)
    assert (folder / "model.safetensors").read_bytes() == LARGE


def test_a_part_that_another_program_spoiled_is_fetched_anew(server: Hub, cache: Path) -> None:
    interrupted(server, cache)
    (part,) = (cache / "models--someone--tiny" / "blobs").glob("*.incomplete")
    part.write_bytes(b"x" * 1_000_000)
    server.starts.clear()
    folder = fetch(cache)
    assert server.starts["model.safetensors"] == [1_000_000, 0]
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).digest() == hashlib.sha256(LARGE).digest()


def test_a_download_that_was_begun_is_listed_as_such(server: Hub, cache: Path) -> None:
    come = interrupted(server, cache)
    (found,) = unfinished(cache)
    assert found.id == ID
    assert come < found.bytes < come + 10_000
    assert cached_models(cache) == ()


def test_a_model_that_has_a_newer_name_is_found_by_the_one_that_was_asked_for(server: Hub, cache: Path) -> None:
    server.name = "someone/tiny-1.1"
    assert info(ID, cache=cache).id == "someone/tiny-1.1"
    folder = fetch(cache)
    assert locate(ID, cache=cache) == folder


def test_shards_are_fetched_together_and_all_are_there(server: Hub, cache: Path) -> None:
    del server.files["model.safetensors"]
    shards = {f"model-0000{i}-of-00003.safetensors": bytes([i]) * 2_000_000 for i in (1, 2, 3)}
    server.files |= shards | {"model.safetensors.index.json": b"{}"}
    folder = fetch(cache)
    assert {name: (folder / name).read_bytes() for name in shards} == shards


# ---------------------------------------------------------------------------------------------------- tokens, mirrors
def test_a_gated_model_is_fetched_with_the_kept_token_alone(
    server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.gated, server.token = "manual", "hf_the_right_one"
    with pytest.raises(UserError, match="wants to be asked") as caught:
        fetch(cache)
    assert "lorimer models token" in caught.value.problem.hint.en
    monkeypatch.setattr(hub_access, "token", lambda: "hf_the_wrong_one")
    with pytest.raises(UserError, match="wants to be asked") as caught:
        fetch(cache)
    assert "the account of your token" in caught.value.problem.hint.en
    assert "wrong_one" not in f"{caught.value.details} {caught.value.problem}"
    monkeypatch.setattr(hub_access, "token", lambda: "hf_the_right_one")
    assert info(ID, cache=cache).has_token
    assert (fetch(cache) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_whose_token_it_is(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.token = "hf_the_right_one"
    monkeypatch.setattr(hub_access, "token", lambda: "hf_the_right_one")
    assert hub.user() == "ada"
    monkeypatch.setattr(hub_access, "token", lambda: "hf_withdrawn")
    with pytest.raises(UserError, match="does not know this token"):
        hub.user()


def test_the_mirror_of_the_settings_is_asked(server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT")
    hub_access.set_mirror(server.address)
    assert (fetch(cache) / "model.safetensors").is_file()
    assert set(server.fetched) == WANTED


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
