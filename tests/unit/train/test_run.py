"""Whole runs on a very small model: told, saved, stopped, resumed exactly, ended early, failed."""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine.catalogue import CATALOGUE
from engine.project.atomic import read_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import EXIT_MACHINE, Stopped, UserError
from engine.protocol.events import (
    CONTINUE,
    FREE,
    PAUSE,
    SAVE,
    STOP,
    CheckpointSaved,
    Command,
    Continued,
    Event,
    Gauge,
    HeldOut,
    Note,
    RunPlanned,
    Stage,
    StepDone,
    Waiting,
)
from engine.recipe.file import from_plain, load, save
from engine.train import checkpoints, disk, supervisor
from engine.train import run as training
from engine.train.run import train
from engine.train.supervisor import GAUGE_SECONDS

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Teller(Recorder):
    """Keeps events, and gives commands when one comes that is waited for."""

    def __init__(self, when: Callable[[Event], list[str]] | None = None) -> None:
        super().__init__()
        self.when = when

    def emit(self, event: Event) -> None:
        super().emit(event)
        if self.when:
            self.pending += [Command(name=name) for name in self.when(event)]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def at_step(step: int, *names: str) -> Teller:
    """Commands that come while step ``step`` is told; they are seen after the next."""
    return Teller(lambda event: list(names) if isinstance(event, StepDone) and event.step == step else [])


@pytest.fixture
def new_run(tiny: Path, rows: Path, tmp_path: Path) -> Callable[..., RunFolder]:
    """A run of 12 steps, six in each pass, measured every four."""

    def make(name: str = "run", method: str = "qlora", **settings: Any) -> RunFolder:
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        own = {"name": method} if method == "ia3" else {"name": method, "rank": 4, "alpha": 4.0, "dropout": 0.1}
        recipe = from_plain(
            {
                "model": {"source": str(tiny)},
                "data": {"files": [str(rows)], "held_out": 0.1},
                "method": own,
                "train": {
                    "epochs": 2.0,
                    "batch_size": 3,
                    "accumulation": 2,
                    "learning_rate": 1e-2,
                    "patience": 0,
                    "evaluate_every": 4,
                    **settings,
                },
            },
            CATALOGUE,
        )
        save(recipe, run.recipe)
        return run

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / WEIGHTS))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ------------------------------------------------------------------------------------------------------ a whole run
def test_a_run_tells_what_it_does_and_leaves_everything(new_run: Callable[..., RunFolder], tiny: Path) -> None:
    run, told = new_run(), Teller()
    assert train(run, told) == {"run": str(run.path), "status": "done", "steps": 12}

    assert [event.name for event in told.of(Stage)] == ["data", "model", "train", "save"]
    planned = told.of(RunPlanned)[0]
    assert (planned.steps, planned.epochs, planned.rows, planned.held_out) == (12, 2.0, 36, 4)
    assert 0 < planned.trained_parameters < planned.all_parameters
    assert planned.predicted_memory_gib > 0
    steps = told.of(StepDone)
    assert [event.step for event in steps] == list(range(1, 13))
    assert steps[-1].loss < steps[0].loss
    assert all(event.grad_norm > 0 and 0 <= event.token_accuracy <= 1 and event.memory_gib > 0 for event in steps)
    assert all(event.tokens_per_second > 0 and event.seconds_left >= 0 for event in steps)
    assert [event.tokens for event in steps] == sorted({event.tokens for event in steps})
    assert steps[-1].seconds_left == 0
    assert [event.step for event in told.of(HeldOut)] == [4, 8, 12]
    assert told.of(CheckpointSaved)[-1].path == "checkpoints/step-000012"
    assert told.of(Gauge)

    assert load(run.recipe_as_run, CATALOGUE).train.precision == "fp32"
    assert load(run.recipe_as_run, CATALOGUE).data.shape == "alpaca"
    assert len(run.held_out.read_text().splitlines()) == 4
    assert run.set_aside.read_text() == ""
    assert run.read_facts()["model_folder"] == str(tiny)
    assert not list(run.path.rglob("*.bin"))
    assert not list(run.path.rglob("*.part"))


def test_the_adapter_folder_can_be_used_without_lorimer(new_run: Callable[..., RunFolder], tiny: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    run = new_run()
    train(run, Teller())
    tokenizer = AutoTokenizer.from_pretrained(run.adapter)
    asked = [{"role": "user", "content": "red"}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nred<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.pad_token == "<|pad|>"
    assert 1 in GenerationConfig.from_pretrained(run.adapter).eos_token_id
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), run.adapter)
    loaded = {name: weight for name, weight in model.named_parameters() if "lora_" in name}
    assert all(torch.equal(loaded[n.replace(".weight", ".default.weight")], w) for n, w in weights(run.adapter).items())


def test_held_out_rows_are_kept_as_rows(new_run: Callable[..., RunFolder]) -> None:
    from engine.data.rows import row_from_plain

    run = new_run(method="ia3", max_steps=1)
    train(run, Teller())
    kept = [row_from_plain(json.loads(line)) for line in run.held_out.read_text().splitlines()]
    assert all(row.answer and row.question for row in kept)


def test_decisions_about_rows_are_those_of_the_runs_beginning(
    new_run: Callable[..., RunFolder], rows: Path, tmp_path: Path
) -> None:
    from engine.data.dataset import DataSet

    run = new_run(method="ia3", max_steps=1)
    recipe = load(run.recipe, CATALOGUE)
    decisions = tmp_path / "decisions.jsonl"
    data = recipe.data.model_copy(update={"decisions": str(decisions)})
    save(recipe.model_copy(update={"data": data}), run.recipe)
    known = DataSet(data).scan()
    known.decide(3, aside=True)
    train(run, Teller())
    known.undo()
    kept = load(run.recipe_as_run, CATALOGUE).data
    assert kept.decisions == str(run.decisions)
    assert DataSet(kept).scan().reasons() == {"by_hand": 1}
    assert "by_hand" in run.set_aside.read_text()


def test_dpo_runs_whole(new_run: Callable[..., RunFolder], preferences: Path) -> None:
    run, told = new_run(), Teller()
    recipe = load(run.recipe, CATALOGUE)
    plain = {**recipe.model_dump(mode="json"), "objective": {"name": "dpo"}}
    plain["data"]["files"] = [str(preferences)]
    plain["train"]["max_steps"] = 6
    save(from_plain(plain, CATALOGUE), run.recipe)
    assert train(run, told)["status"] == "done"
    assert told.of(StepDone)[0].loss == pytest.approx(0.6931, abs=1e-3)
    assert sorted(path.name for path in run.adapter.iterdir() if path.is_dir()) == []


# ---------------------------------------------------------------------------------------------------------- resume
@pytest.fixture(scope="module")
def undisturbed() -> dict[str, tuple[RunFolder, Teller]]:
    """Runs that were never stopped, by method, filled by the tests that compare with them."""
    return {}


@pytest.mark.parametrize(("method", "stop"), [("qlora", 2), ("qlora", 5), ("qlora", 9), ("ia3", 5)])
def test_a_resumed_run_ends_with_the_very_same_weights(
    new_run: Callable[..., RunFolder], undisturbed: dict[str, tuple[RunFolder, Teller]], method: str, stop: int
) -> None:
    """Stopped within the first pass, at its end (5: seen after step 6), and within the second; dropout 0.1, grouped."""
    if method not in undisturbed:
        undisturbed[method] = new_run("whole", method), Teller()
        train(*undisturbed[method])
    whole, told = undisturbed[method]

    run, before, after = new_run("stopped", method), at_step(stop, STOP), Teller()
    assert train(run, before) == {"run": str(run.path), "status": "stopped", "steps": stop + 1}
    assert (run.adapter / WEIGHTS).is_file()
    assert train(run, after, resume=True)["status"] == "done"

    last = "step-000012"
    assert same(weights(run.checkpoints / last), weights(whole.checkpoints / last))
    assert same(weights(run.adapter), weights(whole.adapter))
    parts = [*before.of(StepDone), *after.of(StepDone)]
    for name in ("step", "loss", "grad_norm", "learning_rate", "tokens", "token_accuracy"):
        assert [getattr(event, name) for event in parts] == [getattr(event, name) for event in told.of(StepDone)]
    measured = [(event.step, event.loss, event.best) for event in [*before.of(HeldOut), *after.of(HeldOut)]]
    assert measured == [(event.step, event.loss, event.best) for event in told.of(HeldOut)]


def test_a_damaged_newest_checkpoint_is_passed_over_and_told(new_run: Callable[..., RunFolder]) -> None:
    run = new_run(method="ia3")
    train(run, at_step(9, STOP))
    assert [item.step for item in checkpoints.checkpoints(run)] == [8, 10]
    with (run.checkpoints / "step-000010" / "optimizer.pt").open("r+b") as file:
        file.seek(200)
        file.write(b"damage")
    told = Teller()
    assert train(run, told, resume=True)["status"] == "done"
    assert told.of(StepDone)[0].step == 9
    note = next(note for note in told.of(Note) if note.code == "train.checkpoint_damaged")
    assert "step 10" in note.text.en
    assert "step 8" in note.text.en
    assert all(checkpoints.is_whole(item) for item in checkpoints.checkpoints(run))


def test_resuming_a_finished_run_trains_nothing_more(new_run: Callable[..., RunFolder]) -> None:
    run = new_run(method="ia3", max_steps=5)
    train(run, Teller())
    before = weights(run.adapter)
    told = Teller()
    assert train(run, told, resume=True) == {"run": str(run.path), "status": "done", "steps": 5}
    assert told.of(StepDone) == []
    assert same(weights(run.adapter), before)


def test_resuming_without_a_checkpoint_begins_anew(new_run: Callable[..., RunFolder]) -> None:
    told = Teller()
    assert train(new_run(method="ia3", max_steps=2), told, resume=True)["steps"] == 2
    assert told.of(StepDone)[0].step == 1


def test_data_that_changed_since_the_checkpoint_is_told(new_run: Callable[..., RunFolder], tmp_path: Path) -> None:
    run = new_run(method="ia3", max_steps=6)
    recipe = load(run.recipe, CATALOGUE)
    file = tmp_path / "rows.jsonl"
    file.write_bytes(Path(recipe.data.files[0]).read_bytes())
    save(recipe.model_copy(update={"data": recipe.data.model_copy(update={"files": (str(file),)})}), run.recipe)
    train(run, at_step(2, STOP))
    file.write_text(file.read_text() + '{"instruction": "More", "input": "", "output": "red"}\n')
    told = Teller()
    assert train(run, told, resume=True)["status"] == "done"
    assert "data.changed" in {note.code for note in told.of(Note)}


def test_safety_checkpoints_change_nothing(new_run: Callable[..., RunFolder]) -> None:
    """One after every step, with dropout, against a run without any."""
    whole, often = new_run("whole", save_minutes=0), new_run("often", save_minutes=1e-6, keep_checkpoints=100)
    told = Teller()
    train(whole, Teller())
    train(often, told)
    assert same(weights(often.adapter), weights(whole.adapter))
    reasons = {event.step: event.reason for event in told.of(CheckpointSaved)}
    assert reasons[4] == "step"
    assert reasons[12] == "last"
    assert "safety" in reasons.values()


def test_safety_checkpoints_follow_the_bound_and_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: clock[0])
    safety = supervisor.Safety(300.0)
    clock[0] += 299
    assert not safety.is_due()
    clock[0] += 1
    assert safety.is_due()
    assert safety.saved(10.0) is None  # 10 of 300 s is less than the share
    assert not safety.is_due()
    said = safety.saved(50.0)  # between 10 and 50: 30 s a save need 600 s for 5%
    assert said is not None
    assert "10 min" in said.en
    clock[0] += 599
    assert not safety.is_due()
    clock[0] += 1
    assert safety.is_due()
    assert safety.saved(30.0) is None  # told once
    assert not supervisor.Safety(0.0).is_due()


def test_what_the_watch_has_seen_is_remembered(new_run: Callable[..., RunFolder]) -> None:
    run = new_run(method="ia3")
    train(run, at_step(5, STOP))
    kept = checkpoints.latest(run)
    assert kept is not None
    window = kept.progress()["watch"]["window"]
    told = Teller()
    train(run, told, resume=True)
    last = checkpoints.latest(run)
    assert last is not None
    assert len(window) == 6
    assert last.progress()["watch"]["window"] == [*window, *(event.loss for event in told.of(StepDone))]


def test_a_run_that_ended_early_stays_ended_when_it_is_killed_before_its_adapter(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"learning_rate": 0.5, "patience": 1, "evaluate_every": 2, "epochs": 20.0}
    whole, run = new_run("whole", "ia3", **settings), new_run("run", "ia3", **settings)
    train(whole, Teller())

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_adapter", killed)
        with pytest.raises(KeyboardInterrupt):
            train(run, Teller())
    told = Teller()
    assert train(run, told, resume=True)["status"] == "done"
    assert told.of(StepDone) == []
    assert same(weights(run.adapter), weights(whole.adapter))


def test_what_it_was_computed_with_is_kept_and_a_change_is_told(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(method="ia3", max_steps=4)
    train(run, at_step(1, STOP))
    plain = training.environment
    monkeypatch.setattr(training, "environment", lambda on: {**plain(on), "threads": 7})
    told = Teller()
    train(run, told, resume=True)
    kept = read_json(run.environment)
    assert len(kept) == 2
    assert kept[0]["versions"]["torch"] == torch.__version__
    note = next(note for note in told.of(Note) if note.code == "train.not_exact")
    assert "7" in note.text.en
    assert read_json(run.facts)["data"][0]["sha256"]


def test_a_resume_with_nothing_changed_says_nothing(new_run: Callable[..., RunFolder]) -> None:
    run, told = new_run(method="ia3", max_steps=4), Teller()
    train(run, at_step(1, STOP))
    train(run, told, resume=True)
    assert "train.not_exact" not in {note.code for note in told.of(Note)}


def test_a_best_checkpoint_that_is_gone_is_told(new_run: Callable[..., RunFolder]) -> None:
    run, told = new_run(method="ia3"), Teller()
    assert training._best(run, supervisor.Progress(best_loss=0.5, best_step=4), 8, told) is None
    assert [note.code for note in told.of(Note)] == ["train.best_lost"]


def test_a_base_model_that_changed_since_the_checkpoint_is_told(
    new_run: Callable[..., RunFolder], tiny: Path, tmp_path: Path
) -> None:
    run = new_run(method="ia3", max_steps=4)
    own = tmp_path / "model"
    shutil.copytree(tiny, own)
    recipe = load(run.recipe, CATALOGUE)
    save(recipe.model_copy(update={"model": recipe.model.model_copy(update={"source": str(own)})}), run.recipe)
    train(run, at_step(1, STOP))
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "rope_theta": 500.0}))
    told = Teller()
    train(run, told, resume=True)
    assert "model.changed" in {note.code for note in told.of(Note)}


# -------------------------------------------------------------------------------------------------------- commands
def test_a_pause_that_gives_the_memory_back_ends_the_process_and_not_the_run(
    new_run: Callable[..., RunFolder],
) -> None:
    whole, run = new_run("whole", "ia3", max_steps=6), new_run("paused", "ia3", max_steps=6)
    train(whole, Teller())

    def when(event: Event) -> list[str]:
        if isinstance(event, StepDone) and event.step == 2:
            return [PAUSE]
        return [FREE] if isinstance(event, Waiting) else []

    told = Teller(when)
    assert train(run, told) == {"run": str(run.path), "status": "paused", "steps": 3}
    assert told.of(Waiting)[0].until > 0
    assert told.of(Continued) == []
    assert not run.adapter.exists()
    assert train(run, Teller(), resume=True)["status"] == "done"
    assert same(weights(run.adapter), weights(whole.adapter))


def test_memory_asked_back_while_it_trains_is_given_after_a_checkpoint(new_run: Callable[..., RunFolder]) -> None:
    run, told = new_run(method="ia3", max_steps=6), at_step(2, FREE)
    assert train(run, told) == {"run": str(run.path), "status": "paused", "steps": 3}
    assert [(event.step, event.reason) for event in told.of(CheckpointSaved)] == [(3, "asked")]


def test_a_pause_ends_by_itself(new_run: Callable[..., RunFolder]) -> None:
    run, told = new_run(method="ia3", max_steps=6, pause_minutes=0.005), at_step(2, PAUSE)
    assert train(run, told)["status"] == "paused"
    assert [event.step for event in told.of(Waiting)] == [3]


@pytest.mark.parametrize(("command", "ends"), [(STOP, "stopped"), (FREE, "paused")])
def test_a_run_that_is_to_end_while_it_measures_saves_what_it_learned(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, command: str, ends: str
) -> None:
    whole, run = new_run("whole", "ia3", max_steps=8), new_run("run", "ia3", max_steps=8)
    train(whole, Teller())
    told = Teller()
    plain, asked = supervisor.Supervisor.on_prediction_step, []

    def measuring(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 4 and not asked:
            asked.append(1)
            told.pending.append(Command(name=command))
        plain(self, args, state, control, **more)

    monkeypatch.setattr(supervisor.Supervisor, "on_prediction_step", measuring)
    assert train(run, told) == {"run": str(run.path), "status": ends, "steps": 4}
    assert told.of(HeldOut) == []
    assert "train.not_measured" in {note.code for note in told.of(Note)}
    assert [event.step for event in told.of(CheckpointSaved)] == [4]
    assert train(run, Teller(), resume=True)["status"] == "done"
    assert same(weights(run.checkpoints / "step-000008"), weights(whole.checkpoints / "step-000008"))


# ------------------------------------------------------------------------------------------------------------ disk
@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is looked for as soon as it is made."""
    monkeypatch.setattr(disk, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(disk, "FIRST_SECONDS", 0.02)


def test_a_full_disk_is_waited_for(
    new_run: Callable[..., RunFolder], quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = new_run("whole", "ia3", max_steps=8), new_run("run", "ia3", max_steps=8)
    train(whole, Teller())
    plain, tries = checkpoints.write_json, [3]

    def full(path: Path, content: Any) -> None:
        if "step-000008" in str(path) and tries[0]:
            tries[0] -= 1
            raise checkpoints.disk_error(OSError(errno.ENOSPC, "No space left on device"), path)
        plain(path, content)

    monkeypatch.setattr(checkpoints, "write_json", full)
    told = Teller()
    assert train(run, told)["status"] == "done"
    waits = told.of(Waiting)
    assert [(event.step, event.reason) for event in waits] == [(8, "disk")]
    assert "step 4 is kept" in waits[0].text.en
    assert [event.step for event in told.of(Continued)] == [8]
    assert tries == [0]
    assert same(weights(run.adapter), weights(whole.adapter))


@pytest.mark.parametrize(("command", "ends"), [(STOP, "stopped"), (FREE, "paused")])
def test_a_run_that_waits_for_the_disk_can_be_ended(
    new_run: Callable[..., RunFolder], quick: None, monkeypatch: pytest.MonkeyPatch, command: str, ends: str
) -> None:
    run = new_run(method="ia3", max_steps=8)
    plain = checkpoints.write_json

    def full(path: Path, content: Any) -> None:
        if "step-000008" in str(path):
            raise checkpoints.disk_error(OSError(errno.ENOSPC, "No space left on device"), path)
        plain(path, content)

    told = Teller(lambda event: [command] if isinstance(event, Waiting) else [])
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_json", full)
        try:
            status = train(run, told)["status"]
        except Stopped:
            status = "stopped"
    assert status == ends
    kept = checkpoints.latest(run)
    assert kept is not None
    assert kept.step == 4
    assert not list(run.checkpoints.glob(".*"))
    assert train(run, Teller(), resume=True)["status"] == "done"


def test_a_disk_that_is_full_at_the_start_is_waited_for(
    new_run: Callable[..., RunFolder], quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, tries = training.save, [2]

    def full(recipe: Any, path: Path) -> None:
        if tries[0]:
            tries[0] -= 1
            raise checkpoints.disk_error(OSError(errno.ENOSPC, "No space left on device"), path)
        plain(recipe, path)

    run, told = new_run(method="ia3", max_steps=1), Teller()
    monkeypatch.setattr(training, "save", full)
    assert train(run, told)["status"] == "done"
    assert [(event.step, event.code) for event in told.of(Waiting)] == [(0, "disk.full")]


def test_too_little_room_is_told_before_the_first_step(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "free_bytes", lambda path: 2**20)
    told = Teller()
    train(new_run(method="ia3", max_steps=1), told)
    names = [getattr(event, "code", "") or type(event).__name__ for event in told.events]
    assert names.index("RunPlanned") < names.index("disk.short") < names.index("StepDone")


def test_nothing_is_written_in_the_place_of_a_drive_that_is_gone(
    new_run: Callable[..., RunFolder], quick: None
) -> None:
    run = new_run(method="ia3", max_steps=8)
    away = run.path.with_name("away")

    def when(event: Event) -> list[str]:
        if isinstance(event, StepDone) and event.step == 8:
            run.path.rename(away)
        if isinstance(event, Waiting):
            assert not run.path.exists()
            away.rename(run.path)
        return []

    told = Teller(when)
    assert train(run, told)["status"] == "done"
    assert [event.reason for event in told.of(Waiting)] == ["disk"]


@pytest.mark.parametrize("name", ["a name with spaces", "训练 名称", "🦙 llama", "x" * 250])
def test_folders_of_any_name(new_run: Callable[..., RunFolder], name: str) -> None:
    run = new_run(name, "ia3", max_steps=2)
    assert train(run, Teller())["status"] == "done"
    assert (run.adapter / WEIGHTS).is_file()


def test_pause_waits_in_place_and_goes_on_as_if_nothing_had_been(new_run: Callable[..., RunFolder]) -> None:
    whole = new_run("whole", "ia3", max_steps=6)
    train(whole, Teller())
    run = new_run("paused", "ia3", max_steps=6)

    def when(event: Event) -> list[str]:
        if isinstance(event, StepDone) and event.step == 2:
            return [PAUSE]
        return [CONTINUE] if isinstance(event, Waiting) else []

    told = Teller(when)
    assert train(run, told)["status"] == "done"
    names = [type(event).__name__ for event in told.events if isinstance(event, CheckpointSaved | Waiting | Continued)]
    assert names[:3] == ["CheckpointSaved", "Waiting", "Continued"]
    assert told.of(Waiting)[0].step == 3
    assert same(weights(run.adapter), weights(whole.adapter))


def test_stop_while_paused_ends_the_run(new_run: Callable[..., RunFolder]) -> None:
    def when(event: Event) -> list[str]:
        if isinstance(event, StepDone) and event.step == 2:
            return [PAUSE]
        return [STOP] if isinstance(event, Waiting) else []

    run = new_run(method="ia3")
    assert train(run, Teller(when)) == {"run": str(run.path), "status": "stopped", "steps": 3}
    assert (run.adapter / WEIGHTS).is_file()


def test_save_writes_a_checkpoint_and_goes_on(new_run: Callable[..., RunFolder]) -> None:
    told = at_step(1, SAVE)
    assert train(new_run(method="ia3", max_steps=4), told)["status"] == "done"
    assert [event.step for event in told.of(CheckpointSaved)] == [2, 4]


def test_stop_at_the_last_step_is_a_run_that_is_done(new_run: Callable[..., RunFolder]) -> None:
    assert train(new_run(method="ia3", max_steps=3), at_step(2, STOP))["status"] == "done"


def test_stop_before_the_first_step_ends_at_once(new_run: Callable[..., RunFolder]) -> None:
    told = Teller(lambda event: [STOP] if isinstance(event, Stage) and event.name == "model" else [])
    with pytest.raises(Stopped):
        train(new_run(method="ia3"), told)
    assert told.of(StepDone) == []


# ---------------------------------------------------------------------------------------------------- best and early
def test_run_ends_early_and_keeps_the_best_adapter(new_run: Callable[..., RunFolder]) -> None:
    """A rate far too high: the held-out loss falls once at most, then rises."""
    settings = {"learning_rate": 0.5, "patience": 2, "evaluate_every": 2, "keep_checkpoints": 1, "epochs": 20.0}
    run, told = new_run(method="lora", **settings), Teller()
    result = train(run, told)
    held_out = told.of(HeldOut)
    best = min(held_out, key=lambda event: event.loss)
    assert result["status"] == "done"
    assert result["steps"] == best.step + 4 < 120
    assert [event.best for event in held_out[-2:]] == [False, False]
    assert {note.code for note in told.of(Note)} >= {"train.early_stop", "train.best"}
    assert same(weights(run.adapter), weights(run.checkpoints / f"step-{best.step:06d}"))
    assert not same(weights(run.adapter), weights(run.checkpoints / f"step-{result['steps']:06d}"))


# ---------------------------------------------------------------------------------------------------------- trouble
def test_loss_that_is_no_number_ends_the_run_with_its_step(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.objectives.sft_work import Supervised

    plain, calls = Supervised.compute_loss, []

    def spoiled(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        loss = plain(self, *arguments, **named)
        return loss * float("nan") if len(calls) > 12 else loss

    monkeypatch.setattr(Supervised, "compute_loss", spoiled)
    run = new_run(method="ia3", save_every=3, evaluate_every=100)
    with pytest.raises(UserError) as caught:
        train(run, Teller())
    assert caught.value.problem.code == "train.not_finite"
    assert "step 7" in caught.value.problem.message.en
    assert caught.value.exit_code == EXIT_MACHINE
    kept = checkpoints.latest(run)
    assert kept is not None
    assert kept.step == 6


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "memory.gpu"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory.ram"),
    ],
)
def test_out_of_memory_is_told_with_what_to_do(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    from engine.objectives.sft_work import Supervised

    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Supervised, "compute_loss", full)
    with pytest.raises(UserError) as caught:
        train(new_run(method="ia3"), Teller())
    assert caught.value.problem.code == code
    assert caught.value.problem.hint
    assert caught.value.exit_code == EXIT_MACHINE


def test_other_errors_are_not_hidden(new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.objectives.sft_work import Supervised

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Supervised, "compute_loss", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        train(new_run(method="ia3"), Teller())


def test_data_that_is_gone_is_told(new_run: Callable[..., RunFolder], tmp_path: Path) -> None:
    run = new_run(method="ia3")
    recipe = load(run.recipe, CATALOGUE)
    data = recipe.data.model_copy(update={"files": (str(tmp_path / "gone.jsonl"),)})
    save(recipe.model_copy(update={"data": data}), run.recipe)
    with pytest.raises(UserError):
        train(run, Teller())


# ------------------------------------------------------------------------------------------------------------ small
def test_gauge_is_told_about_once_a_second(new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    told = Teller()
    monkeypatch.setattr(training, "gauge", lambda pid: Gauge(memory_gib=1.0))
    train(new_run(method="ia3", max_steps=3), told)
    assert 1 <= len(told.of(Gauge)) <= 4 / GAUGE_SECONDS


def test_rotation_keeps_what_the_recipe_says(new_run: Callable[..., RunFolder]) -> None:
    run, told = new_run(method="ia3", keep_checkpoints=1, save_every=2), Teller()
    train(run, told)
    best = min(told.of(HeldOut), key=lambda event: event.loss).step
    assert [item.step for item in checkpoints.checkpoints(run)] == sorted({best, 12})
    assert read_json(run.checkpoints / "step-000012" / "progress.json")["best_step"] == best
