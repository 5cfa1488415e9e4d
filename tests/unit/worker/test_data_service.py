"""The data session's requests: what is slow lets others go first, limits are followed, first rows answer at once."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.data import preview
from engine.data.preview import DataView
from engine.project.model_folders import remembered
from engine.protocol.errors import UserError
from engine.protocol.events import Event, Progress, Request
from engine.recipe.recipe import DataSettings
from engine.worker.data_service import DataService
from tests.played_hub import FILES, ID, playing

COUNT = 60


class Asker:
    """Asks a service as a session does."""

    def __init__(self) -> None:
        self.service = DataService()
        self.told: list[Event] = []
        self._number = 0

    def __call__(self, name: str, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        return self.service.handle(Request(name=name, request=self._number, arguments=arguments), self.told.append)


@pytest.fixture
def ask() -> Iterator[Asker]:
    asker = Asker()
    yield asker
    asker.service.cancel(0)


@pytest.fixture
def data(tmp_path: Path) -> DataSettings:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"Question {i}?", "completion": "word " * (i + 1)} for i in range(COUNT)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataSettings(files=(str(path),), max_length=64)


def plain(data: DataSettings, **fields: Any) -> dict[str, Any]:
    return data.model_copy(update=fields).model_dump(mode="json")


def test_a_limit_is_followed_on_the_same_data(ask: Asker, data: DataSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = ask("open_data", data=plain(data), model="starter")
    assert opened["measured"]
    measured: list[int] = []
    monkeypatch.setattr(DataView, "_measure", lambda self, indices: measured.append(len(indices)))
    shorter = ask("limit", data=plain(data, max_length=20, encoding="utf-8"))
    assert (opened["limit"], shorter["limit"]) == (64, 20)
    assert shorter["cut"] > opened["cut"]
    assert shorter["lengths"]["counts"] == opened["lengths"]["counts"]
    # Only the limit is taken: how the files are read needs another look at them.
    assert shorter["encoding"] == opened["encoding"]
    again = ask("open_data", data=plain(data, max_length=30), model="starter")
    assert (again["limit"], again["measured"], measured) == (30, True, [])


def test_first_rows_answer_while_a_large_file_is_scanned(
    ask: Asker, data: DataSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "SMALL", 0)
    assert not ask("open_data", data=plain(data), model="starter")["scanned"]
    assert ask("find", words="QUESTION 7?") == {"found": 1, "covered": COUNT, "all": False}
    assert [row["index"] for row in ask("rows", start=0, count=9, found=True)["rows"]] == [7]
    assert ask("row", index=7)["cells"][0]["value"] == "Question 7?"
    assert not ask("limit", data=plain(data, max_length=20))["scanned"]
    with pytest.raises(UserError, match="Not all rows are read yet"):
        ask("decide", index=7, aside=True)
    assert ask("scan")["limit"] == 20
    assert ask("find", words="question 7?")["all"]


def test_what_is_slow_rests_while_somebody_waits_for_a_page(ask: Asker, data: DataSettings) -> None:
    ask("open_data", data=plain(data), model="starter")
    service = ask.service
    rested, order = threading.Event(), []
    wait = service._gate.wait

    def waits(seconds: float) -> bool:
        rested.set()
        return wait(seconds)

    service._gate.wait = waits  # type: ignore[method-assign]
    service._gate.clear()

    def search() -> None:
        ask("find", words="word")
        order.append("find")

    thread = threading.Thread(target=search)
    thread.start()
    assert rested.wait(10)
    ask("rows", start=0, count=5)  # opens the gate when it is answered
    order.insert(0, "rows")
    thread.join(10)
    assert order == ["rows", "find"]
    rested.clear()
    ask("row", index=3)
    assert not rested.is_set()


# ------------------------------------------------------------------------------------------------------------- models
def test_models_of_a_folder_are_listed_from_then_on(
    ask: Asker, starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    shelf = tmp_path / "models"
    shutil.copytree(starter, shelf / "owner" / "mine")
    (shelf / "broken").mkdir()
    (shelf / "broken" / "config.json").write_text("{}", encoding="utf-8")
    found = {Path(model["source"]).name: model for model in ask("find_models", folder=str(shelf))["models"]}
    assert set(found) == {"mine", "broken"}
    assert found["mine"]["dims"]["layers"] == found["mine"]["layers"]
    assert found["broken"]["problem"]["en"]
    listed = {model["source"] for model in ask("list_models")["models"]}
    assert {"starter", str(shelf / "owner" / "mine")} <= listed


def test_a_folder_without_models_says_what_it_lacks_and_is_not_kept(ask: Asker, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        ask("find_models", folder=str(tmp_path))
    assert remembered() == []


def test_downloads_that_were_begun_are_named(ask: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = tmp_path / "models--someone--large" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "0123.incomplete").write_bytes(b"w" * 1000)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert ask("list_models")["begun"] == {"someone/large": 1000}


def test_a_model_is_looked_up_and_fetched_with_progress(
    ask: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with playing() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        about = ask("hub_info", id=ID)
        assert (about["licence"], about["gated"]) == ("mit", False)
        assert about["missing_bytes"] == about["bytes"] < about["free_bytes"]
        folder = Path(ask("hub_download", id=ID)["folder"])
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    told = [event for event in ask.told if isinstance(event, Progress)]
    assert (told[-1].done, told[-1].unit, told[-1].request) == (about["bytes"], "B", 2)
