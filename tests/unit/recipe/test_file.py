"""Recipes survive their file; whatever is wrong in one is told at once, with the nearest right name."""

from pathlib import Path

import pytest

from engine.catalogue import CATALOGUE
from engine.protocol.errors import UserError
from engine.recipe.file import changed, dumps, from_plain, load, loads, save
from engine.recipe.recipe import DataSettings, EvaluateSettings, ModelSettings, Recovered, TrainSettings


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


def test_what_a_run_recovered_from_survives_its_file_and_is_only_there_where_there_is_any(tmp_path: Path) -> None:
    recipe = loads("", CATALOGUE)
    assert "recovered" not in dumps(recipe)
    entry = Recovered(
        step=12,
        cause="memory",
        batch_size=2,
        accumulation=8,
        held_out_rows=2,
        checkpointing=False,
        longest=96,
        left_out=(3, 4),
    )
    recipe = recipe.model_copy(update={"recovered": (entry, entry)})
    save(recipe, tmp_path / "r.toml")
    assert (tmp_path / "r.toml").read_text("utf-8").count("[[recovered]]") == 2
    assert load(tmp_path / "r.toml", CATALOGUE) == recipe


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


@pytest.mark.parametrize(
    ("text", "hint", "chinese"),
    [
        ("[method]\nrank = -3", "Use 1 to 1024; the default is 16.", "应为 1 到 1024；默认为 16。"),
        ("[method]\nrank = 8.5", "Use 1 to 1024; the default is 16.", "应为 1 到 1024；默认为 16。"),
        ("[train]\naccumulation = 0", "Use 1 to 4096; the default is 4.", "应为 1 到 4096；默认为 4。"),
        ("[train]\nmax_steps = -1", "Use 0 or more; the default is 0.", "应不小于 0；默认为 0。"),
        (
            "[train]\nlearning_rate = nan",
            "Use more than 0, at most 1; the default is 0.0002.",
            "应大于 0 且不大于 1；默认为 0.0002。",
        ),
        ('[train]\noptimizer = "adam"', 'Did you mean "adamw"?', "是否想写“adamw”？"),
        (
            "[train]\ncheckpointing = 3",
            "Use true or false; the default is false.",
            "可用 true 或 false；默认为 false。",
        ),
        ("version = 99", "Known: 1.", "可用：1。"),
        ("train = 3", "Write [train] and its settings below it.", "请写 [train]，并在其下写各项设置。"),
        ('[data]\nfiles = "a"', 'Write it as a list, like ["rows.jsonl"].', '请写成列表，如 ["rows.jsonl"]。'),
        ("[data]\nmapping = 3", 'Write it like {prompt = "question"}.', '请写成 {prompt = "question"} 的形式。'),
    ],
)
def test_a_wrong_value_is_told_what_it_may_be(text: str, hint: str, chinese: str) -> None:
    with pytest.raises(UserError) as caught:
        loads(text, CATALOGUE)
    assert (caught.value.problem.hint.en, caught.value.problem.hint.zh) == (hint, chinese)


def test_every_setting_has_a_hint_for_a_value_of_another_kind() -> None:
    sections = {"model": ModelSettings, "data": DataSettings, "train": TrainSettings, "evaluate": EvaluateSettings}
    plain = {name: {field: [[]] for field in section.model_fields} for name, section in sections.items()}
    methods = {field: [[]] for field in CATALOGUE.methods["qlora"].model_fields if field != "name"}
    with pytest.raises(UserError) as caught:
        from_plain({**plain, "method": {"name": "qlora", **methods}}, CATALOGUE)
    assert len(caught.value.problems) > 30
    assert [problem.where for problem in caught.value.problems if not problem.hint or not problem.hint.zh] == []
    assert caught.value.problem.hint.en == "Change each as is said of it."


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, CATALOGUE)
    assert (caught.value.problem.code, caught.value.exit_code) == ("file.folder", 2)
    assert caught.value.problem.hint


def test_a_templates_file_is_taken_from_the_recipes_folder(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[data]\ntemplate = "own.jinja"\n', encoding="utf-8")
    assert load(tmp_path / "r.toml", CATALOGUE).data.template == str(tmp_path / "own.jinja")
