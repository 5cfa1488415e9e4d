"""Recipes survive their file; whatever is wrong in one is told at once, with the nearest right name."""

from pathlib import Path

import pytest

from engine.catalogue import CATALOGUE
from engine.protocol.errors import UserError
from engine.recipe.file import changed, dumps, load, loads, save


def _problems(text: str) -> dict[str, str]:
    with pytest.raises(UserError) as caught:
        loads(text, CATALOGUE)
    assert caught.value.exit_code == 2
    return {problem.where: f"{problem.message} {problem.hint}" for problem in caught.value.problems}


@pytest.mark.parametrize("name", CATALOGUE.methods)
@pytest.mark.parametrize("objective", CATALOGUE.objectives)
def test_every_recipe_survives_its_file(name: str, objective: str, tmp_path: Path) -> None:
    recipe = loads(f'[method]\nname = "{name}"\n[objective]\nname = "{objective}"\n', CATALOGUE)
    assert type(recipe.method) is CATALOGUE.methods[name]
    save(recipe, tmp_path / "r.toml")
    assert load(tmp_path / "r.toml", CATALOGUE) == recipe
    assert loads(dumps(recipe), CATALOGUE) == recipe


def test_all_problems_at_once_with_the_nearest_name() -> None:
    found = _problems(
        '[train]\nepoch = 3\nbatch_size = -1\nscheduler = "cosin"\n'
        '[method]\nname = "qlora"\nrank = -8\nrnk = 3\n[modle]\nsource = "x"\n'
    )
    assert set(found) == {"train.epoch", "train.batch_size", "train.scheduler", "method.rank", "method.rnk", "modle"}
    assert 'Did you mean "epochs"?' in found["train.epoch"]
    assert 'Did you mean "rank"?' in found["method.rnk"]
    assert 'Did you mean "model"?' in found["modle"]
    assert "at least 1" in found["method.rank"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[method]\nname = "qlra"', "method.name"),
        ("[method]\nname = 3", "method.name"),
        ("method = 3", "method"),
        ('[objective]\nname = "sfd"', "objective.name"),
        ("[train]\nlearning_rate = nan", "train.learning_rate"),
        ("[train]\nlearning_rate = 0", "train.learning_rate"),
        ("[train]\nbatch_size = 2.5", "train.batch_size"),
        ('[train]\nseed = "x"', "train.seed"),
        ("[data]\nheld_out = 0.9", "data.held_out"),
        ('[data]\nfiles = "one.json"', "data.files"),
        ("[model]\nsource = 3", "model.source"),
        ("version = 2", "version"),
    ],
)
def test_a_wrong_value_is_named_by_its_field(text: str, where: str) -> None:
    assert list(_problems(text)) == [where]


def test_broken_toml_names_its_line() -> None:
    with pytest.raises(UserError, match="line 2"):
        loads("[train]\nepochs = \n", CATALOGUE)


def test_a_missing_recipe_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist") as caught:
        load(tmp_path / "gone.toml", CATALOGUE)
    assert caught.value.exit_code == 2


def test_a_recipe_in_another_encoding_is_said(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes('[data]\nsystem = "中文"'.encode("gb18030"))
    with pytest.raises(UserError, match="UTF-8"):
        load(tmp_path / "r.toml", CATALOGUE)


def test_paths_are_taken_from_the_recipes_folder(tmp_path: Path) -> None:
    (tmp_path / "sub" / "base").mkdir(parents=True)
    text = '[model]\nsource = "base"\n[data]\nfiles = ["../rows.json"]\n'
    (tmp_path / "sub" / "r.toml").write_text(text, encoding="utf-8")
    recipe = load(tmp_path / "sub" / "r.toml", CATALOGUE)
    assert recipe.model.source == str(tmp_path / "sub" / "base")
    assert recipe.data.files == (str(tmp_path / "rows.json"),)


def test_a_hub_id_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[model]\nsource = "Qwen/Qwen2.5-0.5B"\n', encoding="utf-8")
    assert load(tmp_path / "r.toml", CATALOGUE).model.source == "Qwen/Qwen2.5-0.5B"


def test_changing_by_dotted_name() -> None:
    recipe = loads("", CATALOGUE)
    other = changed(recipe, {"train.epochs": 1.5, "method.rank": 8, "data.mapping": {"answer": "reply"}}, CATALOGUE)
    assert (other.train.epochs, other.method.model_dump()["rank"], other.data.mapping) == (1.5, 8, {"answer": "reply"})
    with pytest.raises(UserError):
        changed(recipe, {"train.epochs": -1}, CATALOGUE)
