"""Every setting carries what the form, the help and the docs need, in both languages."""

import pytest
from pydantic import BaseModel

from engine.catalogue import CATALOGUE
from engine.recipe.fields import bounds, setting_of, settings
from engine.recipe.quality import QualitySettings
from engine.recipe.recipe import DataSettings, EvaluateSettings, FileSettings, ModelSettings, TrainSettings

SECTIONS: list[type[BaseModel]] = [
    ModelSettings,
    DataSettings,
    TrainSettings,
    EvaluateSettings,
    FileSettings,
    QualitySettings,
    *CATALOGUE.methods.values(),
    *CATALOGUE.objectives.values(),
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_field_is_described(section: type[BaseModel]) -> None:
    for name, field in section.model_fields.items():
        about = setting_of(field)
        if name == "name":
            continue
        assert about is not None, f"{section.__name__}.{name} has no setting()"
        assert about.label.en
        assert about.label.zh
        assert about.help.en.endswith((".", "?"))
        assert about.help.zh.endswith(("。", "？"))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_choices_are_the_values_that_validation_takes(section: type[BaseModel]) -> None:
    for name, about in settings(section).items():
        for value, label in about.choices:
            made = section.model_validate({**_required(section), name: value})
            assert getattr(made, name) == value
            assert label.zh


def _required(section: type[BaseModel]) -> dict[str, str]:
    return {"name": section.model_fields["name"].default} if "name" in section.model_fields else {}


def test_seven_settings_are_basic() -> None:
    basic = [name for section in SECTIONS[:4] for name, about in settings(section).items() if about.basic]
    assert basic == [
        "learn_from",
        "max_length",
        "epochs",
        "learning_rate",
        "batch_size",
        "accumulation",
        "short_rows",
        "patience",
    ]  # batch size and accumulation are shown as the one setting "batch"


def test_bounds() -> None:
    assert bounds(TrainSettings, "epochs") == (0, 1000)
    assert bounds(TrainSettings, "batch_size") == (1, 4096)
    assert bounds(TrainSettings, "max_steps") == (0, None)
    assert bounds(TrainSettings, "scheduler") == (None, None)
