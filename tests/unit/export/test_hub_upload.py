"""An export on the hub: private, whole or not at all, with its card; and each way in which that can fail."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.export import hub_upload
from engine.export.adapter_work import export_adapter
from engine.export.hub_upload import check_may_go, checked_repo, found_export, parcel
from engine.export.hub_upload_work import upload
from engine.export.ledger import Export, listed, remember
from engine.merge.place import MARK
from engine.project.atomic import read_json
from engine.project.project import Project
from engine.project.recent import remember as remember_project
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import STOP, Command, Note, Progress, Stage
from tests.played_hub import COMMIT, Hub, playing
from tests.unit.export.moved import moved

TOKEN = "hf_of_ada_who_may_write"
REPO = "ada/orders"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that knows ada's token, which is the one in use."""
    with playing() as played:
        played.token = TOKEN
        monkeypatch.setenv("HF_ENDPOINT", played.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        yield played


@pytest.fixture(scope="module")
def exported(starter_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with a GGUF and an adapter folder."""
    run = moved(starter_run, tmp_path_factory.mktemp("exported") / "run")
    export_adapter(run, run.exports / "adapter", Recorder())
    return run


@pytest.fixture
def sent(exported: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of it that a test may change."""
    return moved(exported, tmp_path / "run")


def send(run: RunFolder, name: str, channel: Recorder | None = None, **wished: Any) -> dict[str, Any]:
    arguments = {"run": str(run.path), "files": [str(run.exports / name)], "repo": REPO, **wished}
    return upload(arguments, channel or Recorder())


def code(run: RunFolder, name: str = "orders.gguf", **wished: Any) -> str:
    with pytest.raises(UserError) as caught:
        send(run, name, **wished)
    assert TOKEN not in str(caught.value) + caught.value.details
    return caught.value.problem.code


def test_a_gguf_goes_with_its_card_and_is_private(sent: RunFolder, hub: Hub) -> None:
    channel = Recorder()
    result = send(sent, "orders.gguf", channel)
    assert result["url"] == f"{hub.address}/{REPO}"
    assert result["commit"] == COMMIT
    assert hub.private == {REPO: True}
    files = hub.repositories[REPO]
    assert set(files) == {"README.md", "orders.gguf"}
    assert files["orders.gguf"] == (sent.exports / "orders.gguf").read_bytes()
    assert b"one F16 file" in files["README.md"]
    told = [event for event in channel.events if isinstance(event, Progress)]
    assert told[-1].done == told[-1].total > 2 * len(files["orders.gguf"])
    assert [event.name for event in channel.events if isinstance(event, Stage)] == ["hub", "hash", "upload"]
    assert read_json(sent.path / "uploads.json") == {REPO: "done"}


def test_a_folder_goes_without_what_is_not_its_own(sent: RunFolder, hub: Hub) -> None:
    (sent.exports / "adapter" / "diary.txt").write_text("mine")
    (sent.exports / "adapter" / "link.json").symlink_to(sent.facts)
    result = send(sent, "adapter", public=True)
    assert hub.private == {REPO: False}
    names = set(hub.repositories[REPO])
    assert names == {file["name"] for file in result["files"]}
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert not names & {"diary.txt", "link.json", MARK}
    for content in hub.repositories[REPO].values():
        assert str(sent.path).encode() not in content


def test_what_is_there_already_is_left_alone_unless_wished(sent: RunFolder, hub: Hub) -> None:
    hub.repositories[REPO] = {"README.md": b"of somebody"}
    assert code(sent) == "upload.exists"
    assert hub.repositories[REPO] == {"README.md": b"of somebody"}
    send(sent, "orders.gguf", update=True)
    assert set(hub.repositories[REPO]) == {"README.md", "orders.gguf"}


def test_a_token_that_is_unknown_absent_or_may_not_write(
    sent: RunFolder, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.writes = False
    assert code(sent) == "upload.forbidden"
    hub.writes = True
    assert code(sent, repo="somebody/else") == "upload.forbidden"
    monkeypatch.setenv("HF_TOKEN", "hf_of_yesterday_and_expired")
    assert code(sent) == "hub.token_refused"
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert code(sent) == "upload.no_token"
    assert hub.repositories == {}


def test_a_connection_that_breaks_once_is_gone_on_with(sent: RunFolder, hub: Hub) -> None:
    hub.breaks_puts_after, hub.breaks_puts = 500_000, 1
    send(sent, "orders.gguf")
    assert hub.repositories[REPO]["orders.gguf"] == (sent.exports / "orders.gguf").read_bytes()
    assert len(hub.puts) == 2


def test_a_network_that_stays_away_is_told_and_the_next_try_goes_on(sent: RunFolder, hub: Hub) -> None:
    second = Path(shutil.copyfile(sent.exports / "orders.gguf", sent.exports / "more.gguf"))
    with second.open("ab") as file:
        file.write(b"\0" * 800_000)  # another file for the hub, a little larger
    remember(sent, Export("gguf", "F16", str(second), 1, 2.0, {"passed": True}))
    both = [str(sent.exports / "orders.gguf"), str(second)]
    size = (sent.exports / "orders.gguf").stat().st_size
    hub.breaks_puts_after, hub.breaks_puts = size + 100_000, 99  # the first file passes, the second never does
    assert code(sent, files=both) == "hub.offline"
    assert hub.repositories == {REPO: {}}  # made, and empty: nothing half
    assert len(hub.stored) == 1
    hub.breaks_puts, hub.puts = 0, []
    send(sent, "orders.gguf", files=both)  # without --update: the repository is ours
    assert len(hub.puts) == 1  # the first file was not sent again
    assert set(hub.repositories[REPO]) == {"README.md", "orders.gguf", "more.gguf"}


def test_it_stops_when_asked(sent: RunFolder, hub: Hub) -> None:
    hub.pause = 0.02
    channel = Recorder()

    def stop() -> None:
        while not any(isinstance(event, Stage) and event.name == "upload" for event in channel.events):
            time.sleep(0.01)
        channel.pending.append(Command(name=STOP))

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Stopped):
        send(sent, "orders.gguf", channel)
    thread.join()
    assert hub.repositories == {REPO: {}}
    hub.pause = 0.0
    send(sent, "orders.gguf")
    assert set(hub.repositories[REPO]) == {"README.md", "orders.gguf"}


def test_what_failed_its_check_stays_here_unless_forced(sent: RunFolder, hub: Hub) -> None:
    file = str(sent.exports / "orders.gguf")
    remember(sent, Export("gguf", "Q8_0", file, 1, 2.0, {"passed": False, "agreement": 0.2, "limit": 0.98}))
    assert code(sent) == "upload.differs"
    assert hub.repositories == {}
    send(sent, "orders.gguf", force=True)
    assert b"Do not use it" in hub.repositories[REPO]["README.md"]
    remember(sent, Export("gguf", "Q8_0", file, 1, 2.0, {"passed": None}))
    channel = Recorder()
    send(sent, "orders.gguf", channel, repo="ada/other")
    assert [event.code for event in channel.events if isinstance(event, Note)] == ["upload.unchecked"]


@pytest.mark.parametrize(
    "repo", ["orders", "a/b/c", "ada/or ders", "ada/../x", "ada/-x", "ada/x.git", "/x", "ada/a--b", ""]
)
def test_names_that_the_hub_would_refuse(repo: str) -> None:
    with pytest.raises(UserError) as caught:
        checked_repo(repo)
    assert caught.value.problem.code == "upload.repo"


def test_a_stranger_s_list_sends_no_file_that_is_no_export(sent: RunFolder, tmp_path: Path) -> None:
    key = tmp_path / "id_rsa"
    key.write_text("secret")
    remember(sent, Export("gguf", "F16", str(key), 1, 3.0, {"passed": True}))
    run, export = found_export(key, sent)
    with pytest.raises(UserError) as caught:
        parcel(run, [export])
    assert caught.value.problem.code == "serve.no_gguf"
    with pytest.raises(UserError) as caught:
        parcel(sent, [known for known in listed(sent) if known.file != str(key)])
    assert caught.value.problem.code == "upload.several"


def test_the_run_of_an_export_is_found(sent: RunFolder, tmp_path: Path) -> None:
    project = Project.open_or_create(tmp_path / "project")
    run = RunFolder(Path(shutil.copytree(sent.path, project.path / "runs" / "0001-made")))
    elsewhere = Path(shutil.copyfile(sent.exports / "orders.gguf", tmp_path / "away.gguf"))
    remember(run, Export("gguf", "F16", str(elsewhere), 1, 3.0, {"passed": True}))
    remember_project(project.path)
    assert found_export(elsewhere)[0].path == run.path
    assert found_export(sent.exports / "orders.gguf", sent)[1].type == "F16"
    other = Path(shutil.copyfile(elsewhere, tmp_path / "other.gguf"))
    with pytest.raises(UserError) as caught:
        found_export(other)
    assert caught.value.problem.code == "upload.unknown"
    with pytest.raises(UserError) as caught:
        found_export(tmp_path / "absent.gguf")
    assert caught.value.problem.code == "file.missing"


def test_it_knows_the_list_of_an_export() -> None:
    assert hub_upload.MARK == MARK
    check_may_go([Export("gguf", "F16", "x", 1, 1.0, {"passed": None})])
