"""Going on from a checkpoint in the middle, as a new run: without a change it ends with the weights of the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.catalogue import CATALOGUE
from engine.project.fork import fork
from engine.project.project import Project
from engine.protocol.channel import Recorder
from engine.protocol.codec import encode_event
from engine.protocol.events import StepDone
from engine.recipe.file import from_plain
from engine.train.run import train


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_it_ends_bit_for_bit_as_the_other_did(tiny: Path, rows: Path, tmp_path: Path) -> None:
    """The best checkpoint (whose weights become the adapter) and dropout's random numbers included."""
    plain = {
        "model": {"source": str(tiny)},
        "data": {"files": [str(rows)], "held_out": 0.1},
        "method": {"name": "lora", "rank": 4, "dropout": 0.1},
        "train": {"epochs": 2.0, "batch_size": 3, "accumulation": 2, "learning_rate": 1e-2, "evaluate_every": 2,
                  "save_every": 2, "keep_checkpoints": 10, "patience": 0},
    }  # fmt: skip
    run = Project.open_or_create(tmp_path).new_run(from_plain(plain, CATALOGUE))
    told = Recorder()
    assert train(run, told)["status"] == "done"
    run.events.write_text("".join(encode_event(event) + "\n" for event in told.events), encoding="utf-8")
    made = fork(run, 6)
    again = Recorder()
    assert train(made, again, resume=True)["steps"] == 12
    steps = [[event for event in each.events if isinstance(event, StepDone)] for each in (told, again)]
    assert [event.step for event in steps[1]] == list(range(7, 13))
    assert [event.loss for event in steps[1]] == [event.loss for event in steps[0][6:]]
    one, other = (load_file(each.adapter / "adapter_model.safetensors") for each in (run, made))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
