"""The catalogue: each entry is true to itself, a user's own file is read, and what is wrong in it is told by line."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.machine.dims import FAMILIES, ModelDims
from engine.machine.known_models import (
    FILE,
    HUB_ID,
    LICENCES,
    TOLERANCE,
    WIDTH,
    KnownModel,
    is_free,
    known_models,
    licence_label,
    own_file,
    read,
)
from engine.protocol.errors import UserError

BUILT_IN = read(FILE)
GOOD = """
[[model]]
id = "me/mine"
parameters = 260_032
licence = "mit"
good_for = { en = "Stories.", zh = "讲故事。" }
[model.config]
model_type = "llama"
hidden_size = 64
intermediate_size = 172
num_hidden_layers = 5
num_attention_heads = 8
num_key_value_heads = 4
vocab_size = 512
tie_word_embeddings = true
"""


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "models.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# ------------------------------------------------------------------------------------------------------- each entry
def test_there_are_some_forty_and_none_has_a_problem() -> None:
    assert BUILT_IN.problems == ()
    assert len(BUILT_IN.models) >= 40
    assert len({model.id for model in BUILT_IN.models}) == len(BUILT_IN.models)
    assert {model.dims.family for model in BUILT_IN.models} >= {"llama", "mistral", "qwen2", "qwen3", "gemma2"}


@pytest.mark.parametrize("model", BUILT_IN.models, ids=lambda model: model.id)
def test_an_entry_is_true_to_itself(model: KnownModel) -> None:
    count = model.dims.parameters()
    assert abs(count / model.parameters - 1) <= TOLERANCE
    assert model.dims.family in FAMILIES
    assert model.licence in LICENCES
    assert HUB_ID.fullmatch(model.id)
    assert model.has_template is not None
    assert model.good_for.en.endswith(".")
    assert model.good_for.zh.endswith("。")
    assert 512 <= model.context <= 2**20
    # Some small models hold the tied output weights a second time.
    with_output = count + model.dims.vocab * model.dims.hidden
    assert WIDTH * count <= model.bytes <= 1.01 * WIDTH * with_output


def test_published_configs_say_the_same(shared_data: Path, config_dims: Callable[[str], ModelDims]) -> None:
    listed = {model.name: model for model in BUILT_IN.models}
    names = [path.stem for path in (shared_data / "configs").glob("*.json")]
    same = [name for name in names if name in listed]
    assert len(same) >= 5
    for name in same:
        assert listed[name].dims == config_dims(name), name


def test_gated_models_are_those_of_owners_who_ask() -> None:
    gated = {model.id.partition("/")[0] for model in BUILT_IN.models if model.gated}
    assert gated == {"meta-llama", "google"}
    assert all(model.gated is None for model in BUILT_IN.models if model.id.startswith("mistralai/"))


def test_licences() -> None:
    assert (licence_label("apache-2.0"), is_free("Apache-2.0")) == ("Apache-2.0", True)
    assert (licence_label("llama3.1"), is_free("llama3.1")) == ("Llama 3.1", False)
    assert (licence_label("my-own"), is_free("my-own")) == ("my-own", False)
    assert all(licence.about.en and licence.about.zh for licence in LICENCES.values())


# --------------------------------------------------------------------------------------------------------- one's own
def test_own_entries_come_after_the_built_in_ones(own: Callable[[str], Path]) -> None:
    found = known_models(own(GOOD))
    assert found.problems == ()
    mine = found.models[-1]
    assert (mine.id, mine.is_own, mine.gated, mine.has_template) == ("me/mine", True, None, None)
    assert (mine.bytes, mine.good_for.zh) == (WIDTH * 260_032, "讲故事。")
    assert found.find("me/mine") is mine
    assert found.find("me/other") is None


def test_the_own_file_lies_in_the_settings_folder(lorimer_home: Path) -> None:
    assert own_file() == lorimer_home / "models.toml"
    own_file().write_text(GOOD, encoding="utf-8")
    assert known_models().find("me/mine") is not None


def test_an_own_entry_takes_the_place_of_a_built_in_one(own: Callable[[str], Path]) -> None:
    taken = BUILT_IN.models[0].id
    found = known_models(own(GOOD.replace("me/mine", taken)))
    assert len(found.models) == len(BUILT_IN.models)
    model = found.find(taken)
    assert model is not None
    assert model.is_own


@pytest.mark.parametrize(
    ("change", "code", "line", "words"),
    [
        (("licence =", "license ="), "models.unknown", 5, '"licence"'),
        (("licence =", "license ="), "models.missing", 2, "licence"),
        (("260_032", '"260 k"'), "models.type", 4, "whole number"),
        (("260_032", "270_000"), "models.parameters", 4, "billion"),
        (("me/mine", "mine"), "models.id", 3, "owner/name"),
        (('"llama"', '"phi3"'), "model.family", 7, "phi3"),
        (("vocab_size = 512\n", ""), "model.config", 7, "vocab_size"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    own: Callable[[str], Path], change: tuple[str, str], code: str, line: int, words: str
) -> None:
    path = own(GOOD.replace(*change) + GOOD.replace("me/mine", "me/second"))
    found = known_models(path)
    told = {problem.code: problem for problem in found.problems}
    assert told[code].where == f"{path}:{line}"
    assert words in f"{told[code].message.en} {told[code].hint.en}"
    assert told[code].message.zh
    assert found.find("me/second") is not None
    assert found.find("me/mine") is None


def test_a_file_that_is_no_toml_spoils_nothing_else(own: Callable[[str], Path]) -> None:
    path = own(GOOD + "\n[[model]\n")
    found = known_models(path)
    assert found.models == BUILT_IN.models
    (problem,) = found.problems
    assert (problem.code, problem.where) == ("models.no_toml", f"{path}:{len(GOOD.splitlines()) + 2}")


def test_a_key_outside_of_the_entries_is_told(own: Callable[[str], Path]) -> None:
    path = own('models = "all"\n' + GOOD)
    (problem,) = known_models(path).problems
    assert (problem.code, problem.where) == ("models.entry", f"{path}:1")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        read(tmp_path)


def test_widths_are_as_in_config_json() -> None:
    keys = {key for entry in tomllib.loads(FILE.read_text(encoding="utf-8"))["model"] for key in entry["config"]}
    assert keys <= {
        "model_type",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
        "tie_word_embeddings",
        "num_experts",
        "num_local_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
    }
