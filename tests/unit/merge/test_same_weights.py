"""One tensor that is other than base and adapter is named, however little the rows show of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.merge.adapter import merge
from engine.merge.same_weights import other_weights
from engine.merge.verify import Subject, verify_folder
from engine.merge.weights import SINGLE, BaseWeights
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from tests.unit.merge.made import hold_out, lora, random_llama, trained_run

NAME = "model.layers.1.mlp.down_proj.weight"
PLAIN = "model.norm.weight"


def _in_four_bits(weight: torch.Tensor) -> torch.Tensor:
    """Sixteen values a row."""
    step = weight.abs().amax(1, keepdim=True) / 7
    return (weight / step).round() * step


@pytest.fixture(scope="module")
def run(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("made")
    found = trained_run(folder / "run", random_llama(folder / "base", repository / "resources" / "starter"), lora())
    hold_out(found, (("What is blue?", "The sky is blue."),))
    return found


@pytest.fixture
def merged(run: RunFolder, tmp_path: Path) -> Path:
    merge(run, tmp_path / "merged", Recorder())
    return tmp_path / "merged"


def _other(run: RunFolder, merged: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> list[str]:
    weights = load_file(merged / SINGLE)
    weights[name] = change(weights[name].float()).to(weights[name].dtype).contiguous()
    save_file(weights, merged / SINGLE, metadata={"format": "pt"})
    return [item.text.en for item in other_weights(BaseWeights.open(run.trained_on()), run.adapter, merged, int)]


def test_what_was_merged_is_base_and_adapter_also_in_sixteen_bits_of_another_kind(run: RunFolder, merged: Path) -> None:
    assert _other(run, merged, NAME, lambda weight: weight) == []
    weights = {name: weight.to(torch.float16) for name, weight in load_file(merged / SINGLE).items()}
    save_file(weights, merged / SINGLE, metadata={"format": "pt"})
    assert _other(run, merged, NAME, lambda weight: weight) == []


@pytest.mark.parametrize("name", [NAME, PLAIN])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda weight: weight * 1.5, "50.0% apart"),
        (lambda weight: weight * float("nan"), "no numbers"),
        (lambda weight: torch.cat([weight, weight]), "another shape"),
    ],
)
def test_one_tensor_that_differs_is_named(
    run: RunFolder, merged: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor], told: str
) -> None:
    (found,) = _other(run, merged, name, change)
    assert name in found
    assert told in found


def test_weights_that_went_through_four_bits_are_told(run: RunFolder, merged: Path) -> None:
    assert NAME in _other(run, merged, NAME, _in_four_bits)[0]


def test_a_check_fails_by_it_alone(run: RunFolder, merged: Path) -> None:
    _other(run, merged, NAME, lambda weight: weight * 1.02)
    found = verify_folder(Subject.of(run), merged, "merged", lambda done, total: None)
    assert found.passed is False
    assert any(NAME in item.text.en for item in found.differs)
