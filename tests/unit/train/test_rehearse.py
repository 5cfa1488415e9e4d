"""A recipe tried before its run: what is measured, what stays (nothing), and what follows when memory runs out."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine.catalogue import CATALOGUE
from engine.machine import calibration
from engine.machine.forecast import Room
from engine.machine.time import cpu_speed
from engine.objectives.trainer import Hooks
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Failure, Stopped, UserError
from engine.protocol.events import STOP, Command, Note, Progress, Rehearsed, Result, Stage
from engine.protocol.text import say
from engine.recipe.file import changed, from_plain, save
from engine.recipe.file import to_plain as recipe_to_plain
from engine.recipe.recipe import Recipe
from engine.train import rehearse as job
from engine.train.rehearse import Trial
from engine.train.run import train
from engine.train.trial import trial

OUT = Failure("memory.gpu", say("The GPU ran out of memory.", "显存不足。"))
ENDED = Failure("process.killed", say("The process was ended.", "进程被终止。"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def recipe(tiny: Path, rows: Path) -> Recipe:
    plain: dict[str, Any] = {
        "model": {"source": str(tiny)},
        "data": {"files": [str(rows)]},
        "method": {"name": "lora", "rank": 4, "alpha": 4.0, "dropout": 0.1},
        "train": {"epochs": 1.0, "batch_size": 4, "accumulation": 3, "patience": 0, "evaluate_every": 2},
    }
    return from_plain(plain, CATALOGUE)


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    (tmp_path / "job").mkdir()
    return JobFolder(tmp_path / "job")


def of(told: Recorder, kind: type[Any]) -> list[Any]:
    return [event for event in told.events if isinstance(event, kind)]


def hashes(place: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in place.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------------------ one trial
def test_a_trial_measures_all_that_a_run_does(recipe: Recipe, folder: JobFolder, tiny: Path) -> None:
    told, before = Recorder(), hashes(tiny)
    found = trial(recipe, folder, told)
    assert [event.name for event in of(told, Stage)] == [
        *("data", "model", "train", "train", "train", "evaluate", "checkpoint", "generate")
    ]
    assert (found["rows"], found["longest"]) == (40, found["lengths"]["longest"])
    assert found["steps"] == 3
    for name in ("peak_gib", "evaluation_gib", "generation_gib"):
        assert 0.1 < found[name] < 8
    assert found["longest_step_seconds"] >= found["step_seconds"] > 0
    # Three steps, two measurements and as many checkpoints.
    parts = 3 * found["step_seconds"] + 2 * found["evaluation_seconds"] + 2 * found["checkpoint_seconds"]
    assert found["seconds"] == pytest.approx(parts)
    assert found["checkpoint_bytes"] > 10_000
    assert found["disk_bytes_per_second"] > 1e5
    assert found["tokens_per_second"] > 0
    first = of(told, Result)[0].value
    assert first["longest"] == found["longest"], "it is known before the model is loaded"
    assert "peak_gib" not in first
    assert all(0 <= event.done <= event.total for event in of(told, Progress))
    assert list(folder.path.iterdir()) == [], "nothing is left"
    assert hashes(tiny) == before


@pytest.mark.parametrize("changes", [{"objective": "dpo"}, {"train.short_rows": "packed"}, {"data.held_out": 0.0}])
def test_a_trial_of_other_recipes(
    recipe: Recipe, folder: JobFolder, preferences: Path, changes: dict[str, Any]
) -> None:
    values = changes
    if "objective" in changes:
        values = {"objective": {"name": "dpo"}, "data.files": [str(preferences)]}
    found = trial(changed(recipe, values, CATALOGUE), folder, Recorder(), seconds=0.1)
    assert found["batches"] == 4, "the step on the longest rows is done however little time there is"
    assert (found["evaluation_seconds"] is None) == ("data.held_out" in changes)
    assert found["seconds"] > 0


def test_a_run_is_bit_for_bit_what_it_would_have_been(recipe: Recipe, folder: JobFolder, tmp_path: Path) -> None:
    weights = []
    for name in ("without", "with"):
        if name == "with":
            trial(recipe, folder, Recorder(), seconds=0.1)
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        save(recipe, run.recipe)
        train(run, Recorder())
        weights.append(load_file(run.adapter / "adapter_model.safetensors"))
    one, other = weights
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_trial_can_be_stopped(recipe: Recipe, folder: JobFolder) -> None:
    told = Recorder()
    emit = told.emit

    def stop_at_the_longest(event: Any) -> None:
        emit(event)
        if isinstance(event, Progress) and event.unit == "s":
            told.pending.append(Command(name=STOP))

    told.emit = stop_at_the_longest  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        trial(recipe, folder, told)
    assert list(folder.path.iterdir()) == []
    with pytest.raises(Stopped):  # nobody is there any more who wants to know
        trial(recipe, folder, Recorder(), parent=2**30)


def test_memory_that_runs_out_is_told_as_such(
    recipe: Recipe, folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(Hooks, "training_step", full)
    told = Recorder()
    with pytest.raises(UserError) as caught:
        trial(recipe, folder, told)
    assert caught.value.problem.code == "memory.gpu"
    assert of(told, Result)[0].value["longest"] > 0
    assert list(folder.path.iterdir()) == []


# -------------------------------------------------------------------------------------------------------------- the job
@pytest.fixture
def facts(tiny: Path) -> dict[str, Any]:
    """What a trial tells before it fails."""
    lengths = {"mean": 60.0, "p50": 60, "p90": 90, "p95": 100, "p99": 110, "longest": 120}
    known = {"learned": 0.5, "longest": 120, "learned_longest": 0.5, "torch": "2.13.0", "about": "it"}
    return {"model_folder": str(tiny), "rows": 40, "lengths": lengths, **known}


@pytest.fixture
def figures(facts: dict[str, Any]) -> dict[str, Any]:
    """What a trial tells in the end."""
    times = {"step_seconds": 0.5, "longest_step_seconds": 0.9, "seconds": 60.0, "evaluation_seconds": 1.0}
    files = {"checkpoint_bytes": 50_000, "checkpoint_seconds": 0.1, "disk_bytes_per_second": 2e8}
    return {**facts, **times, **files, "peak_gib": 0.75, "steps": 100, "tokens_per_second": 20.0}


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    made = Room("cpu", "CPU", 1.0, 8.0, cpu_speed(2, "CPU"))
    monkeypatch.setattr(job, "_room", lambda path: made)
    return made


def tries(*endings: Trial) -> tuple[list[Recipe], Callable[[Recipe, JobFolder, Any], Trial]]:
    """Trials that end as given, and the recipes that they were given."""
    seen: list[Recipe] = []

    def attempt(recipe: Recipe, folder: JobFolder, channel: Any) -> Trial:
        seen.append(recipe)
        return endings[len(seen) - 1]

    return seen, attempt


def test_what_was_measured_is_told_and_corrects_the_machine(
    recipe: Recipe, folder: JobFolder, figures: dict[str, Any], room: Room
) -> None:
    told, (_, attempt) = Recorder(), tries(Trial(figures))
    found = job._rehearse(recipe, folder, told, settle=False, attempt=attempt)
    event = of(told, Rehearsed)[0]
    assert (event.verdict, event.held) == ("holds", True)
    assert (event.peak_gib, event.usable_gib) == (0.75, 0.85)
    assert event.predicted_gib == pytest.approx(0.55, abs=0.1)
    assert event.recipe == recipe_to_plain(recipe)
    assert event.failure is None
    assert not event.next_recipe
    assert found["verdict"] == "holds"
    assert found["tried"] == [{"verdict": "holds", "change": {"en": "", "zh": ""}}]
    (line,) = calibration.known("cpu", "CPU", 8.0)
    assert (line.held_gib, line.seconds, line.torch, line.method) == (0.75, 0.9, "2.13.0", "lora")
    assert (line.checkpoint_bytes, line.write_bytes_per_second) == (50_000, pytest.approx(2e8))
    assert line.told_seconds > 0


def test_little_memory_left_is_said(recipe: Recipe, folder: JobFolder, figures: dict[str, Any]) -> None:
    told, (_, attempt) = Recorder(), tries(Trial({**figures, "peak_gib": 0.8}))
    job._rehearse(recipe, folder, told, settle=False, attempt=attempt)
    assert of(told, Rehearsed)[0].verdict == "close"


@pytest.mark.parametrize(("failure", "verdict"), [(OUT, "out_of_memory"), (ENDED, "killed")])
def test_a_failure_proposes_the_next_recipe(
    recipe: Recipe, folder: JobFolder, facts: dict[str, Any], failure: Failure, verdict: str
) -> None:
    told, (seen, attempt) = Recorder(), tries(Trial(facts, failure))
    found = job._rehearse(recipe, folder, told, settle=False, attempt=attempt)
    event = of(told, Rehearsed)[0]
    assert (event.verdict, event.held, event.failure) == (verdict, False, failure)
    assert len(seen) == 1
    assert event.next_recipe["train"]["batch_size"] < 4
    assert event.next_recipe["train"]["batch_size"] * event.next_recipe["train"]["accumulation"] == 12
    assert event.next_change.en.startswith("Rows at once 4 → ")
    assert event.next_gib > 0
    assert event.next_seconds > 0
    assert found["next_recipe"] == event.next_recipe
    assert not calibration.known("cpu", "CPU", 8.0), "nothing was measured"


def test_settling_goes_down_until_one_holds(
    recipe: Recipe, folder: JobFolder, facts: dict[str, Any], figures: dict[str, Any]
) -> None:
    told, (seen, attempt) = Recorder(), tries(Trial(facts, OUT), Trial(facts, ENDED), Trial(figures))
    found = job._rehearse(recipe, folder, told, settle=True, attempt=attempt)
    assert [event.verdict for event in of(told, Rehearsed)] == ["out_of_memory", "killed", "holds"]
    assert [event.code for event in of(told, Note)] == ["rehearsal.next"] * 2
    assert seen[0] == recipe
    assert recipe_to_plain(seen[1]) == of(told, Rehearsed)[0].next_recipe
    assert found["recipe"] == recipe_to_plain(seen[2])
    assert [each["verdict"] for each in found["tried"]] == ["out_of_memory", "killed", "holds"]
    assert found["tried"][1]["change"]["en"].startswith("Rows at once")


def test_settling_ends_where_rows_would_be_cut(recipe: Recipe, folder: JobFolder, facts: dict[str, Any]) -> None:
    """Nobody but the user decides to lose parts of rows."""
    lengths = {"mean": 40.0, "p50": 40, "p90": 50, "p95": 55, "p99": 60, "longest": 128}
    for shorten in (False, True):
        ended = Trial({**facts, "lengths": lengths, "longest": 128}, OUT)
        told, (seen, attempt) = Recorder(), tries(*[ended] * job.MOST_TRIALS)
        start = changed(recipe, {"train.shorten": shorten, "data.max_length": 128}, CATALOGUE)
        job._rehearse(start, folder, told, settle=True, attempt=attempt)
        assert any(each.data.max_length == 64 for each in seen) == shorten
        last = of(told, Rehearsed)[-1]
        assert shorten or last.next_recipe["data"]["max_length"] == 64, "it is proposed all the same"


def test_nothing_is_left_to_save(recipe: Recipe, folder: JobFolder, facts: dict[str, Any]) -> None:
    last = changed(
        recipe,
        {
            "method": {"name": "qlora", "rank": 4, "alpha": 4.0},
            "train.batch_size": 1,
            "train.checkpointing": True,
            "data.max_length": 64,
        },
        CATALOGUE,
    )
    told, (seen, attempt) = Recorder(), tries(Trial(facts, OUT))
    found = job._rehearse(last, folder, told, settle=True, attempt=attempt)
    assert len(seen) == 1
    assert found["next_recipe"] == {}


def test_any_other_failure_is_an_error(recipe: Recipe, folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial's process tells it; the job says the same."""
    failure = Failure("model.unreadable", say("It cannot be loaded.", "无法加载。"), where="here", exit_code=2)
    monkeypatch.setattr(job, "start_job", lambda *_: None)
    monkeypatch.setattr(job, "_follow", lambda *_: (Trial({}, failure), "failed"))
    with pytest.raises(UserError) as caught:
        job.attempt(recipe, folder, Recorder())
    assert (caught.value.problem.code, caught.value.problem.where, caught.value.exit_code) == (
        *("model.unreadable", "here", 2),
    )
    monkeypatch.setattr(job, "_follow", lambda *_: (Trial(), "stopped"))
    with pytest.raises(Stopped):
        job.attempt(recipe, folder, Recorder())


def test_an_unknown_architecture_is_measured_without_a_prediction(
    recipe: Recipe, folder: JobFolder, figures: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    told, (_, attempt) = Recorder(), tries(Trial({**figures, "model_folder": str(tmp_path)}))
    job._rehearse(recipe, folder, told, settle=False, attempt=attempt)
    event = of(told, Rehearsed)[0]
    assert (event.predicted_gib, event.peak_gib, event.seconds) == (None, 0.75, 60.0)
    assert replace(event, time=0.0).held
