"""Runs in which memory runs out, or the loss breaks away: what is learned in the end, what is told, what is kept."""

import json
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.catalogue import CATALOGUE
from engine.objectives.trainer import cut
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.events import STOP, Command, Event, HeldOut, Note, RolledBack, StepDone
from engine.protocol.state import JobState, apply_all
from engine.recipe.file import from_plain, load, save
from engine.recipe.recipe import Recipe
from engine.train import checkpoints
from engine.train import run as training
from engine.train.run import train
from engine.train.watch import LossWatch, Trouble
from tests.faults import Fault, Faults

WEIGHTS = "adapter_model.safetensors"
STEPS = 10
GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Teller(Recorder):
    """Keeps events, and says stop after a step."""

    def __init__(self, stop_after: int = 0) -> None:
        super().__init__()
        self.stop_after = stop_after

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, StepDone) and event.step == self.stop_after - 1:
            self.pending.append(Command(name=STOP))

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def recoveries(self) -> list[Note]:
        return [note for note in self.of(Note) if note.level == "recovery"]


@pytest.fixture
def new_run(tiny: Path, rows: Path, tmp_path: Path) -> Callable[..., RunFolder]:
    """A run of ten steps of eight rows in two batches, five in each pass (the last of four rows); no dropout."""

    def make(
        name: str = "run", *, dropout: float = 0.0, data: dict[str, Any] | None = None, **settings: Any
    ) -> RunFolder:
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        objective = settings.pop("objective", "sft")
        recipe = from_plain(
            {
                "model": {"source": str(tiny)},
                "data": {"files": [str(rows)], "held_out": 0.1, **(data or {})},
                "method": {"name": "lora", "rank": 4, "alpha": 4.0, "dropout": dropout},
                "objective": {"name": objective},
                "train": {
                    "epochs": 2.0,
                    "batch_size": 4,
                    "accumulation": 2,
                    "learning_rate": 1e-2,
                    "patience": 0,
                    "evaluate_every": 5,
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


def near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Equal but for rounding, which ten steps of a high rate make larger."""
    return all(torch.allclose(one[name], other[name], rtol=0.05, atol=2e-3) for name in one)


def as_run(run: RunFolder) -> Recipe:
    return load(run.recipe_as_run, CATALOGUE)


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, tuple[RunFolder, Teller, Counter[tuple[int, ...]]]]:
    """Runs in which nothing happened, by their settings."""
    return {}


@pytest.fixture
def whole(
    undisturbed: dict[str, Any], new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[RunFolder, Teller, Counter[tuple[int, ...]]]]:
    """The run of some settings in which nothing happens."""

    def make(**settings: Any) -> tuple[RunFolder, Teller, Counter[tuple[int, ...]]]:
        key = json.dumps(settings, sort_keys=True)
        if key not in undisturbed:
            run, told = new_run("whole", **settings), Teller()
            with monkeypatch.context() as patch:
                faults = Faults(patch)
                train(run, told)
            undisturbed[key] = run, told, faults.rows
        found: tuple[RunFolder, Teller, Counter[tuple[int, ...]]] = undisturbed[key]
        return found

    return make


def last_held_out(told: Teller) -> float:
    return float(told.of(HeldOut)[-1].loss)


# ---------------------------------------------------------------------------------------------- memory in the process
@pytest.mark.parametrize(
    "faults",
    [
        (Fault(3, "forward", 1),),
        (Fault(4, "backward", 1),),
        (Fault(1, "update", 3),),
        (Fault(5, "measuring"), Fault(7, "update")),
        (Fault(2, "backward", 1), Fault(5, "measuring"), Fault(6, "forward", 3), Fault(8, "update")),
    ],
    ids=lambda faults: "+".join(f"{each.point}{each.step}.{each.part}" for each in faults),
)
def test_every_row_counts_once_and_the_end_is_that_of_an_undisturbed_run(
    new_run: Callable[..., RunFolder], whole: Any, monkeypatch: pytest.MonkeyPatch, faults: tuple[Fault, ...]
) -> None:
    expected, before, rows = whole()
    run, told = new_run(), Teller()
    injected = Faults(monkeypatch, *faults)
    assert train(run, told) == {"run": str(run.path), "status": "done", "steps": STEPS}
    assert sorted(injected.met, key=str) == sorted(faults, key=str)

    assert len(injected.updates) == STEPS
    assert injected.rows == rows
    assert set(rows.values()) == {2}  # two passes
    assert last_held_out(told) == pytest.approx(last_held_out(before), rel=2e-3)
    assert near(weights(run.adapter), weights(expected.adapter))
    for name in ("step", "learning_rate", "tokens"):
        assert [getattr(event, name) for event in told.of(StepDone)] == [
            getattr(event, name) for event in before.of(StepDone)
        ]
    for one, other in zip(told.of(StepDone), before.of(StepDone), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=2e-2)
        assert one.token_accuracy == pytest.approx(other.token_accuracy, abs=0.05)

    notes = told.recoveries
    assert [(note.step, note.code) for note in notes] == [(fault.step, "memory.recovered") for fault in injected.met]
    recipe = as_run(run)
    assert [(item.step, item.cause) for item in recipe.recovered] == [(fault.step, "memory") for fault in injected.met]
    trained = sum(fault.point != "measuring" for fault in faults)
    assert (recipe.train.batch_size, recipe.train.accumulation) == {0: (4, 2), 1: (2, 4), 2: (1, 8), 3: (1, 8)}[trained]
    assert recipe.train.checkpointing == (trained == 3)


@pytest.mark.parametrize("settings", [{"objective": "dpo"}, {"short_rows": "packed"}, {"checkpointing": True}], ids=str)
def test_other_kinds_of_batches(
    new_run: Callable[..., RunFolder],
    whole: Any,
    preferences: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
) -> None:
    settings = {**settings, "max_steps": 5}
    if "objective" in settings:
        settings["data"] = {"files": [str(preferences)]}
    expected, before, rows = whole(**settings)
    run, told = new_run(**settings), Teller()
    faults = Faults(monkeypatch, Fault(2, "backward", 1), Fault(4, "forward"), error=GPU)
    train(run, told)
    assert len(faults.met) == 2
    assert faults.rows == rows
    assert [note.step for note in told.recoveries] == [2, 4]
    assert last_held_out(told) == pytest.approx(last_held_out(before), rel=5e-3)
    assert near(weights(run.adapter), weights(expected.adapter))
    assert as_run(run).train.batch_size == 1


def test_after_a_recovery_a_run_is_the_one_that_began_so(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, dropout included: the parts of a batch are the batches that such a run loads."""
    small, told_small = new_run("small", dropout=0.1, batch_size=2, accumulation=4), Teller()
    train(small, told_small)
    run, told = new_run(dropout=0.1), Teller()
    with monkeypatch.context() as patch:
        Faults(patch, Fault(1, "backward", 1))
        train(run, told)
    assert same(weights(run.adapter), weights(small.adapter))
    for name in ("grad_norm", "token_accuracy", "tokens"):
        assert [getattr(event, name) for event in told.of(StepDone)] == [
            getattr(event, name) for event in told_small.of(StepDone)
        ]
    losses, expected = ([event.loss for event in each.of(StepDone)] for each in (told, told_small))
    assert losses == pytest.approx(expected, rel=1e-5)  # added up in another order
    assert [event.loss for event in told.of(HeldOut)] == [event.loss for event in told_small.of(HeldOut)]


def test_a_resumed_run_goes_on_with_what_was_recovered_to(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, dropout included; and the recoveries stay written."""
    faults = (Fault(3, "forward", 1), Fault(5, "measuring"))
    whole = new_run("whole", dropout=0.1)
    with monkeypatch.context() as patch:
        Faults(patch, *faults)
        train(whole, Teller())
    run, after = new_run(dropout=0.1), Teller()
    with monkeypatch.context() as patch:
        Faults(patch, *faults)
        assert train(run, Teller(stop_after=7))["status"] == "stopped"
    assert train(run, after, resume=True)["status"] == "done"
    assert after.recoveries == []
    assert same(weights(run.adapter), weights(whole.adapter))
    last = as_run(run).recovered[-1]
    assert (last.batch_size, last.accumulation, last.held_out_rows) == (2, 4, 1)
    assert as_run(run).recovered == as_run(whole).recovered


def test_a_run_begun_by_a_recipe_as_run_has_recovered_from_nothing_yet(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(max_steps=2)
    with monkeypatch.context() as patch:
        Faults(patch, Fault(1, "forward"))
        train(run, Teller())
    again = new_run("again")
    save(as_run(run), again.recipe)
    train(again, Teller())
    assert as_run(again).recovered == ()
    assert (as_run(again).train.batch_size, as_run(again).train.accumulation) == (2, 4)


def test_at_one_row_recomputing_is_switched_on(
    new_run: Callable[..., RunFolder], whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"batch_size": 1, "accumulation": 8, "max_steps": 4}
    expected, _, rows = whole(**settings)
    run, told = new_run(**settings), Teller()
    faults = Faults(monkeypatch, Fault(2, "backward", 5))
    train(run, told)
    assert faults.rows == rows
    assert as_run(run).train.checkpointing
    assert "recomputing" in told.recoveries[0].text.en
    assert near(weights(run.adapter), weights(expected.adapter))


def test_rows_are_cut_only_where_the_user_allows_it(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"batch_size": 1, "accumulation": 8, "checkpointing": True}
    refused = new_run("refused", max_steps=2, **settings)
    with monkeypatch.context() as patch:
        Faults(patch, Fault(2, "forward"), Fault(2, "forward"))  # once more, and then no more
        with pytest.raises(UserError) as caught:
            train(refused, Teller())
    assert caught.value.problem.code == "memory.ram"
    assert "step 2" in caught.value.problem.message.en
    assert caught.value.exit_code == EXIT_MACHINE
    assert caught.value.problem.hint

    run, told = new_run("allowed", shorten=True, **settings), Teller()
    faults = Faults(monkeypatch, Fault(2, "forward"))
    assert train(run, told)["steps"] == STEPS
    (entry,) = as_run(run).recovered
    assert 0 < entry.longest < max(map(len, faults.updates[0]))
    assert max(len(row) for update in faults.updates[1:] for row in update) <= entry.longest
    assert [update.total() for update in faults.updates] == [8, 8, 8, 8, 4] * 2
    assert str(entry.longest) in told.recoveries[0].text.en
    assert all(event.loss > 0 for event in told.of(StepDone))


@pytest.mark.parametrize(
    ("learned", "from_start", "kept"),
    [
        (range(2, 10), False, range(6)),
        (range(2, 10), True, range(4, 10)),
        (range(7, 10), False, range(4, 10)),  # its end is all that is learned
        (range(1, 3), True, range(6)),
    ],
)
def test_a_cut_row_keeps_something_to_learn(learned: range, from_start: bool, kept: range) -> None:
    ids = torch.arange(10)
    labels = torch.tensor([n if n in learned else -100 for n in range(10)])
    row = cut({"input_ids": ids, "labels": labels}, 6, from_start=from_start)
    assert row["input_ids"].tolist() == list(kept)
    assert row["labels"].tolist() == [n if n in learned else -100 for n in kept]


def test_a_cut_preference_keeps_both_answers() -> None:
    row = {"prompt_ids": list(range(10)), "chosen_ids": [1] * 8, "rejected_ids": [2] * 3}
    assert cut(row, 12, from_start=False) == {
        "prompt_ids": [*range(1, 10)],
        "chosen_ids": [1] * 3,
        "rejected_ids": [2] * 3,
    }
    assert cut(row, 18, from_start=False) == row


def test_memory_that_never_suffices_ends_the_run_with_what_to_do(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.objectives.sft_work import Supervised

    def full(*_: Any, **__: Any) -> None:
        raise GPU

    monkeypatch.setattr(Supervised, "compute_loss", full)
    run, told = new_run(), Teller()
    with pytest.raises(UserError) as caught:
        train(run, told)
    assert caught.value.problem.code == "memory.gpu"
    assert len(told.recoveries) == 4  # 4 → 2 → 1 rows, recomputing, once more
    assert "Tried to allocate" in caught.value.details


def test_what_a_failed_attempt_held_is_let_go_at_once() -> None:
    """Its traceback would hold every activation, and the next attempt would not fit either."""
    from engine.objectives.ladder import Ladder, Rung
    from engine.objectives.recovering import Recovering

    trainer = Recovering.__new__(Recovering)
    trainer.ladder = Ladder(Rung(4, 4), shorten=False, tell=lambda descent: None)
    held: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        activations = torch.zeros(10)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory")

    found = trainer._attempt(work)
    assert isinstance(found, UserError)
    assert found.problem.code == "memory.gpu"
    assert held[0]() is None


def test_an_update_that_fails_half_way_leaves_weights_and_states_as_they_were() -> None:
    """Optimizers that update weight by weight, as bitsandbytes' do, make states between updates."""
    from engine.objectives.recovering import Kept

    torch.manual_seed(0)
    one, two = (torch.nn.Parameter(torch.randn(5)) for _ in range(2))
    optimizer = torch.optim.AdamW([{"params": [one]}, {"params": [two]}], lr=0.1)
    one.grad = torch.randn(5)
    optimizer.step()
    before = [one.detach().clone(), two.detach().clone(), optimizer.state[one]["exp_avg"].clone()]
    one.grad, two.grad = torch.randn(5), torch.randn(5)
    kept = Kept(optimizer)
    optimizer.step()
    assert not torch.equal(one, before[0])
    kept.put_back(UserError("memory.ram", told()))
    assert torch.equal(one, before[0])
    assert torch.equal(two, before[1])
    assert torch.equal(optimizer.state[one]["exp_avg"], before[2])
    assert optimizer.state[one]["step"] == 1
    assert two not in optimizer.state


def test_an_update_that_changed_what_was_not_kept_is_not_repeated() -> None:
    from engine.objectives.recovering import Kept

    weight = torch.nn.Parameter(torch.ones(5))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.grad = torch.ones(5)
    optimizer.step()
    kept = Kept(optimizer)
    kept.put_back(UserError("memory.ram", told()))
    optimizer.step()
    with pytest.raises(UserError):
        kept.put_back(UserError("memory.ram", told()))


def told() -> Any:
    from engine.protocol.text import say

    return say("Memory ran out.", "内存不足。")


# ------------------------------------------------------------------------------------------- ended by the system
def test_a_process_that_the_system_ended_goes_on_with_less(new_run: Callable[..., RunFolder]) -> None:
    run, after = new_run(), Teller()
    train(run, Teller(stop_after=7))
    assert train(run, after, resume=True, killed=True)["status"] == "done"
    assert after.of(StepDone)[0].step == 8
    (entry,) = as_run(run).recovered
    assert (entry.step, entry.cause, entry.batch_size, entry.accumulation) == (7, "killed", 2, 4)
    assert "step 7" in after.recoveries[0].text.en


def test_a_process_that_cannot_do_with_less_says_so(new_run: Callable[..., RunFolder]) -> None:
    run = new_run(batch_size=1, accumulation=2, checkpointing=True, max_steps=4)
    train(run, Teller(stop_after=2))
    with pytest.raises(UserError) as caught:
        train(run, Teller(), resume=True, killed=True)
    assert caught.value.problem.code == "memory.ram"


# ----------------------------------------------------------------------------------------------- the loss breaks away
def spoil(monkeypatch: pytest.MonkeyPatch, step: int, factor: float = float("nan")) -> None:
    """The loss of a step is no number, whenever it is computed."""
    from engine.objectives.sft_work import Supervised

    plain = Supervised.compute_loss

    def spoiled(self: Any, model: Any, *arguments: Any, **named: Any) -> Any:
        loss = plain(self, model, *arguments, **named)
        return loss * factor if model.training and self.state.global_step + 1 == step else loss

    monkeypatch.setattr(Supervised, "compute_loss", spoiled)


def test_a_loss_that_is_no_number_ends_the_run_before_it(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, channel = new_run(save_every=3, evaluate_every=100), Teller()
    spoil(monkeypatch, 8)
    with pytest.raises(UserError) as caught:
        train(run, channel)
    error = caught.value
    assert error.problem.code == "train.not_finite"
    assert "step 8" in error.problem.message.en
    assert "step 6" in error.problem.message.en
    named = {problem.where for problem in error.problems}
    assert len(named) == 8
    assert all(where.startswith("rows.jsonl:") for where in named)
    assert error.problems[0].where in error.problem.message.en
    assert error.problems[0].message.en.startswith("Turn round")
    assert channel.of(RolledBack) == [RolledBack(step=6)]
    (note,) = channel.recoveries
    assert note.step == 8
    assert error.problems[0].where in note.text.en
    assert same(weights(run.adapter), weights(run.checkpoints / "step-000006"))
    state = apply_all(JobState(), channel.events)
    assert state.step == 6

    after = Teller()
    assert train(run, after, resume=True)["status"] == "done"
    assert [event.step for event in after.of(StepDone)] == [7, 9, 10]
    assert [note.step for note in after.of(Note) if note.code == "train.left_out"] == [8]


def test_a_gradient_that_is_no_number_is_told_at_its_own_step(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss would show it a step later, and the wrong rows would be named."""
    from engine.objectives.sft_work import Supervised

    plain = Supervised.compute_loss

    def spoiled(self: Any, model: Any, *arguments: Any, **named: Any) -> Any:
        if model.training and self.state.global_step + 1 == 4:
            weight = next(each for each in model.parameters() if each.requires_grad)
            handle = weight.register_hook(lambda gradient: (handle.remove(), gradient * float("nan"))[1])
        return plain(self, model, *arguments, **named)

    monkeypatch.setattr(Supervised, "compute_loss", spoiled)
    run, channel = new_run(save_every=2, evaluate_every=100), Teller()
    with pytest.raises(UserError) as caught:
        train(run, channel)
    assert caught.value.problem.message.en.startswith("The gradient became NaN at step 4.")
    assert channel.of(RolledBack) == [RolledBack(step=2)]
    assert as_run(run).recovered[-1].left_out == (4,)


def test_the_rows_that_are_named_are_those_of_the_step(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    """By the tokens that the step was computed on."""
    from engine.data.prepare import prepare

    run = new_run(save_every=3, evaluate_every=100)
    spoil(monkeypatch, 8)
    faults = Faults(monkeypatch)
    with pytest.raises(UserError) as caught:
        train(run, Teller())
    prepared = prepare(as_run(run).data, preference=False, model_folder=tiny)
    tokens = {example.row.where: tuple(example.input_ids) for example in prepared.train}
    assert {tokens[problem.where] for problem in caught.value.problems} == set(faults.updates[7])


def test_the_run_goes_on_without_the_rows_where_the_recipe_says_so(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, channel = new_run(save_every=3, evaluate_every=100, unstable="skip"), Teller()
    spoil(monkeypatch, 8)
    faults = Faults(monkeypatch)
    assert train(run, channel)["status"] == "done"
    assert [note.code for note in channel.recoveries] == ["train.rolled_back"]
    (entry,) = as_run(run).recovered
    assert (entry.step, entry.cause, entry.left_out) == (8, "loss", (8,))
    state = apply_all(JobState(), channel.events)
    assert [event.step for event in state.steps] == [1, 2, 3, 4, 5, 6, 7, 9, 10]
    # Steps 1 to 8, then 7, 9 and 10: the eighth is not updated with a second time.
    assert len(faults.updates) == 8 + 3
    left = faults.updates[7]
    lasting = [*faults.updates[:6], *faults.updates[8:]]
    counted = sum(lasting, Counter())
    assert {row for row, times in counted.items() if times == 1} == set(left)
    assert all(bool(torch.isfinite(weight).all()) for weight in weights(run.adapter).values())


def test_a_run_goes_back_a_few_times_only(new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    run, channel = new_run(save_every=1, unstable="skip"), Teller()

    def look(self: LossWatch, step: int, *_: Any) -> Trouble | None:
        return Trouble(step, step, float("nan")) if step > 1 else None

    monkeypatch.setattr(LossWatch, "look", look)
    monkeypatch.setattr(training, "MOST_RETURNS", 1)
    with pytest.raises(UserError) as caught:
        train(run, channel)
    assert caught.value.problem.code == "train.not_finite"
    assert len(channel.of(RolledBack)) == 2
    assert as_run(run).recovered[-1].left_out == (2, 3)


def test_checkpoints_without_numbers_are_passed_over(
    new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step whose gradient is no number spoils the weights; the loss shows it a step later."""
    run, channel = new_run(save_every=2, evaluate_every=100), Teller()
    plain = training.save_state

    def spoiled(trainer: Any, folder: Path) -> None:
        plain(trainer, folder)
        if trainer.state.global_step == 6:
            bad = {name: weight * float("nan") for name, weight in load_file(folder / WEIGHTS).items()}
            save_file(bad, folder / WEIGHTS, metadata={"format": "pt"})

    monkeypatch.setattr(training, "save_state", spoiled)
    spoil(monkeypatch, 7)
    with pytest.raises(UserError):
        train(run, channel)
    assert channel.of(RolledBack) == [RolledBack(step=4)]
    assert [item.step for item in checkpoints.checkpoints(run)] == [4]


@pytest.mark.parametrize(("unstable", "ends"), [("stop", True), ("warn", False)])
def test_a_spike(new_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch, unstable: str, ends: bool) -> None:
    run, channel = new_run(save_every=2, evaluate_every=100, unstable=unstable), Teller()

    def look(self: LossWatch, step: int, *_: Any) -> Trouble | None:
        return Trouble(5, 7, 9.0, 1.5) if step == 7 else None

    monkeypatch.setattr(LossWatch, "look", look)
    if not ends:
        assert train(run, channel)["status"] == "done"
        (note,) = [note for note in channel.of(Note) if note.code == "train.spike"]
        assert (note.level, note.step) == ("warning", 5)
        assert "1.50 to 9.00" in note.text.en
        return
    with pytest.raises(UserError) as caught:
        train(run, channel)
    assert caught.value.problem.code == "train.spike"
    assert channel.of(RolledBack) == [RolledBack(step=4)]
    assert as_run(run).recovered[-1].left_out == (5, 6, 7)
    assert len({problem.where for problem in caught.value.problems}) >= 12
