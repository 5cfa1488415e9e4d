"""Data sets by id: fetched once, read offline; a folder stands in for the hub."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.data import hub_data
from engine.data.dataset import DataSet
from engine.data.hub_data import about, fetched, here, is_here, is_hub_data, peek
from engine.data.mixing import factors_of
from engine.data.rows import Row
from engine.protocol.errors import Stopped, UserError
from engine.recipe.recipe import DataSettings


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote"
    folder.mkdir()
    for split, count in (("train", 20), ("test", 4)):
        lines = [{"question": f"What is {i}?", "answer": f"It is {split} {i}."} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_an_id_is_told_from_a_file() -> None:
    assert is_hub_data("hub:owner/name")
    assert not is_hub_data("owner/name.jsonl")


def test_splits_are_fetched_once_and_read_offline(remote: Path, tmp_path: Path) -> None:
    data = DataSettings(files=(f"hub:{remote}",), held_out_file=f"hub:{remote}?split=test")
    rows = DataSet(data).scan()
    assert (len(rows.usable), len(rows.measured)) == (16, 4)  # four questions are asked in both
    first = next(rows.rows())
    assert isinstance(first, Row)
    assert first.answer.startswith("It is train")
    remote.rename(tmp_path / "gone")
    assert len(DataSet(data).scan().usable) == 16


def test_a_data_sets_own_settings_go_by_its_name(remote: Path, tmp_path: Path) -> None:
    name = f"hub:{remote}"
    data = DataSettings.model_validate({"files": (name,), "per_file": {name: {"weight": 2, "prefix": "[shop] "}}})
    first = next(DataSet(data).scan().rows())
    assert first.messages[0].content == "[shop] What is 0?"
    path = fetched(name)[0]
    assert factors_of(data, [path, tmp_path / "other.jsonl"], {0: 5, 1: 5}) == {0: 2.0, 1: 1.0}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("hub:", "data.hub"),
        ("hub:{remote}?split=nope", "data.hub"),
        ("hub:{remote}?rows=3", "data.hub"),
        ("hub:{remote}/none", "data.hub"),
    ],
)
def test_what_there_is_not(remote: Path, name: str, code: str) -> None:
    with pytest.raises(UserError) as caught:
        fetched(name.format(remote=remote))
    assert caught.value.problem.code == code
    assert caught.value.problem.hint


def test_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    _answer(monkeypatch, ConnectionError("no route"))
    with pytest.raises(UserError) as caught:
        fetched("hub:owner/name")
    assert (caught.value.problem.code, caught.value.exit_code) == ("data.hub_offline", 1)


# ------------------------------------------------------------------------------------------------------------ look up
def test_what_there_is_to_choose(remote: Path) -> None:
    found = about(str(remote))
    assert set(found.splits) == {"train", "test"}
    assert (found.configs, found.here, found.offline) == (("default",), (), False)
    fetched(f"hub:{remote}?split=test")
    assert about(str(remote)).here == ("test",)
    assert [(item["name"], item["rows"]) for item in here()] == [(f"hub:{remote}?split=test", 4)]


def test_the_first_rows_come_before_anything_is_fetched(remote: Path) -> None:
    name = f"hub:{remote}"
    found = peek(name, 3)
    assert found["columns"] == ["question", "answer"]
    assert [row[0] for row in found["rows"]] == ["What is 0?", "What is 1?", "What is 2?"]
    assert not is_here(name)
    fetched(name)
    for file in remote.iterdir():
        file.unlink()
    assert peek(name, 3) == found  # of what is here, without asking anybody


def test_a_fetch_tells_how_far_it_is_and_can_be_ended(remote: Path) -> None:
    lines = "".join(json.dumps({"question": f"q{i}", "answer": f"a{i}"}) + "\n" for i in range(2500))
    (remote / "train.jsonl").write_text(lines)
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        raise Stopped

    name = f"hub:{remote}"
    with pytest.raises(Stopped):
        fetched(name, stop)
    assert len(told) == 1
    assert not is_here(name)
    assert [file.name for file in fetched(name)] == ["remote-train.arrow"]
    assert DataSet(DataSettings(files=(name,))).scan().count == 2500


def test_columns_that_change_their_type_are_kept_in_several_files(remote: Path) -> None:
    lines = [{"question": f"q{i}", "answer": f"a{i}", "n": None if i < 1500 else str(i)} for i in range(3000)]
    (remote / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert DataSet(DataSettings(files=(f"hub:{remote}",))).scan().count == 3000


def test_labels_are_the_words_of_the_card(tmp_path: Path) -> None:
    import datasets

    remote = tmp_path / "remote"
    remote.mkdir()
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    rows = {"text": ["one", "two", "three"], "label": [0, 1, None]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(remote / "train.parquet"))
    assert [row[1] for row in peek(f"hub:{remote}")["rows"]] == ["bad", "good", ""]


def test_what_the_library_fetched_for_others_is_found_offline(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "library"))
    note = tmp_path / "library" / "owner___name" / "main" / "0.0.0" / "abc" / "dataset_info.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"splits": {"train": {"num_examples": 7}}}))
    _answer(monkeypatch, ConnectionError("no route"))
    found = about("owner/name")
    assert (found.offline, found.configs, found.splits, found.here) == (True, ("main",), {"train": 7}, ("train",))


def _answer(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Have the hub answer every question with an error."""
    import huggingface_hub

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)


def _status(kind: str, status: int) -> Exception:
    import httpx2
    from huggingface_hub import errors

    response = httpx2.Response(status, request=httpx2.Request("GET", "https://hub.example/api"))
    return getattr(errors, kind)("refused", response=response)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "status", "code", "hint"),
    [
        ("GatedRepoError", 401, "data.hub_gated", "Accept its terms"),
        ("RepositoryNotFoundError", 404, "data.hub", "Check the spelling"),
        ("HfHubHTTPError", 403, "data.hub_gated", "Accept its terms"),
        ("HfHubHTTPError", 503, "data.hub_error", "Try again"),
    ],
)
def test_what_the_hub_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, kind: str, status: int, code: str, hint: str
) -> None:
    _answer(monkeypatch, _status(kind, status))
    for ask in (lambda: about("owner/name"), lambda: fetched("hub:owner/name")):
        with pytest.raises(UserError) as caught:
            ask()
        assert caught.value.problem.code == code
        assert hint in caught.value.problem.hint.en


def test_what_there_is_to_fetch_of_each_split() -> None:
    names = {
        "data/train-0.parquet": 3 * hub_data._GIB,
        "data/train-1.parquet": hub_data._GIB,
        "test.jsonl": 5,
        "README.md": 7,
    }
    card = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in names.items()])
    at = "hf://datasets/owner/name@0123abc/"
    files = {"train": [f"{at}data/train-0.parquet", f"{at}data/train-1.parquet"], "test": [f"{at}test.jsonl"]}
    builder = SimpleNamespace(config=SimpleNamespace(data_files=files))
    assert hub_data._sizes(card, builder) == {"train": 4 * hub_data._GIB, "test": 5}
    assert hub_data._sizes(None, builder) == {}


def test_a_disk_that_is_too_small_is_told_first(remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_data, "_sizes", lambda *_: {"train": 4 * hub_data._GIB})
    monkeypatch.setattr(hub_data, "disk_free_gib", lambda _: 4.5)
    with pytest.raises(UserError, match=r"needs 4\.0 GiB or more, and 4\.5 GiB are free") as caught:
        fetched(f"hub:{remote}")
    assert (caught.value.problem.code, caught.value.exit_code) == ("data.hub_disk", 1)
    assert [item for item in fetched(f"hub:{remote}?split=test") if item.exists()]


def test_a_program_of_the_owner_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    _answer(monkeypatch, RuntimeError("Dataset scripts are no longer supported, but found name.py"))
    with pytest.raises(UserError, match="program"):
        about("owner/name")


def test_the_kept_token_opens_data_sets_too(remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    shown: list[str | None] = []
    names = (
        "get_dataset_config_names",
        "get_dataset_default_config_name",
        "load_dataset_builder",
        "get_dataset_config_info",
    )
    for name in names:
        own = getattr(datasets, name)

        def call(*given: Any, token: str | None = None, _own: Any = own, **more: Any) -> Any:
            shown.append(token)
            return _own(*given, token=token, **more)

        monkeypatch.setattr(datasets, name, call)
    monkeypatch.setattr("engine.project.hub_access.token", lambda: "hf_the_kept_one")
    about(str(remote))
    fetched(f"hub:{remote}")
    assert len(shown) >= 4
    assert set(shown) == {"hf_the_kept_one"}
