"""Trainers on tokenised rows: what the loss counts, in which order, and ten stored losses of each kind.

The stored losses are of this code at the time of writing; a change of them must have a reason. They differ between
machines by rounding only.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import TrainerCallback, set_seed
from trl.trainer import base_trainer

from engine.catalogue import CATALOGUE
from engine.data.encode import Example
from engine.data.prepare import Prepared, prepare
from engine.methods import ia3_work, lora_work
from engine.methods.registry import METHODS
from engine.model.load import load_base, load_tokenizer
from engine.objectives import dpo_work, sft_work
from engine.objectives.trainer import EpochSampler, Hooks, Parts, one_device
from engine.protocol.errors import UserError
from engine.recipe.file import from_plain
from engine.recipe.recipe import Recipe

STEPS = 10
WORK: dict[str, Any] = {"engine.methods.lora_work": lora_work, "engine.methods.ia3_work": ia3_work}


class Losses(TrainerCallback):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.logs.append(dict(logs))

    @property
    def losses(self) -> list[float]:
        return [logs["loss"] for logs in self.logs]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL must never get as far as sending."""

    def send(*_: Any, **__: Any) -> None:
        raise AssertionError("telemetry was about to be sent")

    monkeypatch.setattr(base_trainer, "send_telemetry", send)
    monkeypatch.delenv("CI", raising=False)


def recipe(model: Path, file: Path, method: str, objective: str = "sft", **train: Any) -> Recipe:
    """Ten steps of six rows."""
    return from_plain(
        {
            "model": {"source": str(model)},
            "data": {"files": [str(file)], "max_length": 128},
            "method": {"name": method},
            "objective": {"name": objective},
            "train": {
                "precision": "fp32",
                "batch_size": 3,
                "accumulation": 2,
                "learning_rate": 5e-3,
                "max_grad_norm": 1.0,
                "warmup_ratio": 0.0,
                **train,
            },
        },
        CATALOGUE,
    )


def make(wanted: Recipe, folder: Path, callbacks: list[TrainerCallback] | None = None) -> tuple[Hooks, Prepared]:
    """The trainer of a recipe."""
    source = Path(wanted.model.source)
    prepared = prepare(wanted.data, preference=wanted.objective.name == "dpo", model_folder=source)
    method = METHODS[wanted.method.name]
    set_seed(wanted.train.seed)
    model = WORK[method.work].build(load_base(source, quantised=method.quantised, precision="fp32"), wanted.method)
    parts = Parts(
        model=model,
        tokenizer=load_tokenizer(source, prepared.template),
        recipe=wanted,
        train=prepared.train,
        held_out=prepared.held_out,
        steps=STEPS,
        warmup=0,
        folder=folder,
        callbacks=callbacks or [],
        save=lambda trainer: None,
    )
    work: Any = dpo_work if wanted.objective.name == "dpo" else sft_work
    return work.build_trainer(parts), prepared


def ten_losses(wanted: Recipe, folder: Path) -> list[float]:
    """The losses of ten steps."""
    kept = Losses()
    make(wanted, folder, [kept])[0].train()
    return kept.losses


# ------------------------------------------------------------------------------------------------- stored losses
RATES = {("lora", "sft"): 5e-3, ("qlora", "sft"): 5e-3, ("ia3", "sft"): 0.1, ("lora", "dpo"): 2e-4}
STORED = {
    ("lora", "sft"): [5.9215, 5.7434, 5.6518, 5.6457, 5.6510, 5.6122, 5.4879, 5.4161, 5.4289, 5.4450],
    ("qlora", "sft"): [5.9266, 5.7429, 5.6494, 5.6487, 5.6518, 5.6193, 5.4920, 5.4302, 5.4285, 5.4454],
    ("ia3", "sft"): [5.9215, 5.9038, 5.8966, 5.8972, 5.8985, 5.8620, 5.8582, 5.8625, 5.8663, 5.8354],
    ("lora", "dpo"): [0.6931, 0.6903, 0.6920, 0.6921, 0.6838, 0.6730, 0.6855, 0.6884, 0.6764, 0.6857],
}
STORED_STORIES = {
    ("qlora", "sft"): [4.0530, 3.6574, 3.6508, 3.4261, 4.4898, 3.4500, 3.4706, 3.2789, 2.9990, 3.4817],
    ("ia3", "sft"): [3.8387, 3.9425, 3.7572, 3.3648, 4.7296, 3.2696, 3.5984, 3.4536, 2.8584, 3.5430],
    ("lora", "dpo"): [0.6931, 0.6962, 0.6715, 0.6929, 0.6916, 0.6952, 0.6948, 0.6207, 0.6301, 0.6463],
}


@pytest.mark.parametrize(("method", "objective"), list(STORED))
def test_ten_losses(tiny: Path, rows: Path, preferences: Path, tmp_path: Path, method: str, objective: str) -> None:
    file = preferences if objective == "dpo" else rows
    losses = ten_losses(recipe(tiny, file, method, objective, learning_rate=RATES[method, objective]), tmp_path)
    assert losses == pytest.approx(STORED[method, objective], abs=1e-3)


@pytest.mark.parametrize(("method", "objective"), list(STORED_STORIES))
def test_ten_losses_of_a_pretrained_model(shared_data: Path, tmp_path: Path, method: str, objective: str) -> None:
    name = "dpo_en_demo.json" if objective == "dpo" else "alpaca_en_demo.json"
    file = shared_data / "datasets" / "llama-factory" / name
    model = shared_data / "models" / "stories260K"
    rate = RATES[method, objective] / 5
    wanted = recipe(model, file, method, objective, learning_rate=rate, batch_size=2, accumulation=1)
    assert ten_losses(wanted, tmp_path) == pytest.approx(STORED_STORIES[method, objective], abs=1e-3)


# ------------------------------------------------------------------------------------------------------------ SFT
class Given:
    """Rows of given tokens: (ids, which are learned) each."""

    def __init__(self, *rows: tuple[list[int], list[bool]]) -> None:
        self._rows = rows

    def tokens(self, place: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        ids, learned = self._rows[place]
        return np.array(ids, np.int32), np.array(learned)


def encoded(ids: list[int], learned: list[bool]) -> dict[str, torch.Tensor]:
    rows: Any = Given((ids, learned))
    return sft_work.encode(rows, 0)


def test_labels_are_ids_where_learned_and_ignored_elsewhere() -> None:
    row = encoded([5, 6, 7, 8], [False, True, False, True])
    assert row["input_ids"].tolist() == [5, 6, 7, 8]
    assert row["labels"].tolist() == [-100, 6, -100, 8]


def test_batches_are_padded_to_their_own_longest_row() -> None:
    rows = [encoded([5, 6, 7], [True] * 3), encoded([8], [True])]
    batch = sft_work.Pad(2)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 2, 2]]
    assert batch["labels"].tolist() == [[5, 6, 7], [8, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


# ----------------------------------------------------------------------------------------------------------- packing
def test_packed_rows_stand_behind_one_another() -> None:
    rows = [encoded([5, 6, 7], [True] * 3), encoded([8, 9], [True, True])]
    batch = sft_work.Join()(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert rows[1]["labels"].tolist() == [8, 9]


def test_packed_rows_score_as_they_do_alone(tiny: Path) -> None:
    model = load_base(tiny, quantised=False, precision="fp32").eval()
    texts = [torch.randint(3, 100, (length,)) for length in (9, 4, 13)]
    batch = sft_work.Join()([{"input_ids": ids, "labels": ids} for ids in texts])
    with torch.no_grad():
        packed = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]
        alone = torch.cat([model(input_ids=ids[None], use_cache=False).logits[0] for ids in texts])
    assert torch.allclose(packed, alone, atol=1e-5)
    sft_work.prove_isolation(model)


def test_a_model_that_does_not_keep_rows_apart_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import masking_utils

    model = load_base(tiny, quantised=False, precision="fp32")
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda positions: None)
    with pytest.raises(UserError) as caught:
        sft_work.prove_isolation(model)
    assert caught.value.problem.code == "train.packing_leaks"


def test_packing_learns_what_padding_learns(tiny: Path, rows: Path, tmp_path: Path) -> None:
    losses = []
    for short in ("shuffled", "packed"):
        wanted = recipe(tiny, rows, "lora", short_rows=short)
        # Dropout falls elsewhere in tensors of another shape.
        still = wanted.model_copy(update={"method": wanted.method.model_copy(update={"dropout": 0.0})})
        losses.append(ten_losses(still, tmp_path / short))
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_preferences_are_not_packed(tiny: Path, preferences: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        make(recipe(tiny, preferences, "lora", "dpo", short_rows="packed"), tmp_path)
    assert caught.value.problem.code == "train.packing_pairs"


def mean_loss(model: Any, examples: Sequence[Example]) -> float:
    """Cross-entropy over the learned tokens of rows, one row at a time, without TRL."""
    total, count = 0.0, 0
    for item in examples:
        ids, learned = torch.tensor([item.input_ids]), torch.tensor(item.learned[1:])
        with torch.no_grad():
            scores = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        picked = scores.gather(-1, ids[0, 1:, None])[:, 0][learned]
        total, count = total - picked.sum().item(), count + int(learned.sum())
    return total / count


def test_held_out_loss_is_the_mean_over_all_learned_tokens(tiny: Path, rows: Path, tmp_path: Path) -> None:
    trainer, prepared = make(recipe(tiny, rows, "lora"), tmp_path)
    measured = trainer.evaluate()
    assert measured["eval_loss"] == pytest.approx(mean_loss(trainer.model.eval(), prepared.held_out), abs=1e-5)
    assert 0 <= measured["eval_mean_token_accuracy"] <= 1


def test_first_loss_is_the_mean_over_the_steps_learned_tokens(tiny: Path, rows: Path, tmp_path: Path) -> None:
    kept = Losses()
    wanted = recipe(tiny, rows, "ia3")
    trainer, prepared = make(wanted, tmp_path, [kept])
    first = list(trainer.order)[:6]
    expected = mean_loss(trainer.model.eval(), tuple(prepared.train[index] for index in first))
    trainer.train()
    assert kept.losses[0] == pytest.approx(expected, abs=1e-5)


def test_real_tokens_are_counted_without_padding(tiny: Path, rows: Path, tmp_path: Path) -> None:
    trainer, prepared = make(recipe(tiny, rows, "ia3"), tmp_path)
    trainer.train()  # ten steps are one pass of six and four steps of the next
    order = [index for epoch in (0, 1) for index in _epoch(trainer.order, epoch)]
    seen = order[: len(prepared.train) + 4 * 6]
    assert int(trainer.tokens) == sum(prepared.train[index].length for index in seen)


def _epoch(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_four_bit_adapters_stay_as_peft_made_them(tiny: Path, rows: Path, tmp_path: Path) -> None:
    whole = make(recipe(tiny, rows, "lora"), tmp_path)[0].model
    model = make(recipe(tiny, rows, "qlora"), tmp_path)[0].model
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    assert all(torch.equal(weight, whole.get_parameter(name)) for name, weight in trained.items())


def test_nothing_is_printed_and_nothing_left_in_the_folder(
    tiny: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(recipe(tiny, rows, "ia3"), tmp_path)[0].train()
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ DPO
def test_fresh_adapter_cannot_prefer_yet(tiny: Path, preferences: Path, tmp_path: Path) -> None:
    """With policy equal to reference the loss is -log sigmoid(0) (Rafailov et al. 2023, equation 7)."""
    kept = Losses()
    make(recipe(tiny, preferences, "lora", "dpo"), tmp_path, [kept])[0].train()
    assert kept.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert kept.losses[-1] < math.log(2)


def test_reference_is_the_base_model_and_no_copy_is_kept(tiny: Path, preferences: Path, tmp_path: Path) -> None:
    trainer, _ = make(recipe(tiny, preferences, "lora", "dpo"), tmp_path)
    assert list(trainer.model.peft_config) == ["default"]
    trained = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert {name.split(".")[-2] for name in trained} == {"default"}


def test_dpo_loss_is_that_of_the_paper(tiny: Path, preferences: Path, tmp_path: Path) -> None:
    trainer, prepared = make(recipe(tiny, preferences, "lora", "dpo"), tmp_path)
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(7))

    def answer(ids: list[int], prompt: list[int]) -> torch.Tensor:
        tokens = torch.tensor([prompt + ids])
        scores = trainer.model(input_ids=tokens).logits[0, :-1].log_softmax(-1)
        return scores.gather(-1, tokens[0, 1:, None])[len(prompt) - 1 :, 0].sum()

    def margin(item: Example) -> torch.Tensor:
        return answer(item.chosen_ids, item.prompt_ids) - answer(item.rejected_ids, item.prompt_ids)

    trainer.model.eval()
    measured = trainer.evaluate()["eval_loss"]
    trainer.model.eval()
    losses = []
    with torch.no_grad():
        for item in prepared.held_out:
            policy = margin(item)
            with trainer.model.disable_adapter():
                reference = margin(item)
            losses.append(-torch.nn.functional.logsigmoid(0.1 * (policy - reference)))
    assert measured == pytest.approx(torch.stack(losses).mean().item(), abs=1e-5)


# ---------------------------------------------------------------------------------------------------------- order
def grouped(lengths: list[int], seed: int = 1) -> EpochSampler:
    return EpochSampler(lengths, group=6, grouped=True, seed=seed)


def test_each_pass_has_every_row_once_in_an_order_of_seed_and_pass() -> None:
    lengths = [(index * 37) % 91 + 1 for index in range(100)]
    for sampler in (grouped(lengths), EpochSampler(lengths, group=6, grouped=False, seed=1)):
        first, second = _epoch(sampler, 0), _epoch(sampler, 1)
        assert sorted(first) == sorted(second) == list(range(100))
        assert first != second
        assert first == _epoch(sampler, 0)
        assert len(sampler) == 100
    assert _epoch(grouped(lengths), 0) != _epoch(grouped(lengths, seed=2), 0)


def test_grouping_saves_padding_begins_with_the_longest_and_does_not_fall_in_length() -> None:
    lengths = [(index * 37) % 91 + 1 for index in range(240)]
    order = _epoch(grouped(lengths), 0)

    def padding(order: list[int]) -> int:
        steps = [[lengths[i] for i in order[start : start + 6]] for start in range(0, 240, 6)]
        return sum(max(step) * len(step) - sum(step) for step in steps)

    assert padding(order) < 0.3 * padding(_epoch(EpochSampler(lengths, group=6, grouped=False, seed=1), 0))
    assert max(lengths) in [lengths[i] for i in order[:6]]
    means = [sum(lengths[i] for i in order[start : start + 6]) for start in range(0, 240, 6)]
    rising = sum(after > before for before, after in itertools.pairwise(means))
    assert 0.3 < rising / len(means) < 0.7


@pytest.mark.parametrize("rows", [1, 5, 6, 7, 13])
def test_few_rows_are_all_there(rows: int) -> None:
    assert sorted(grouped(list(range(1, rows + 1)))) == list(range(rows))


# ---------------------------------------------------------------------------------------------------- other settings
@pytest.mark.parametrize("optimizer", ["adamw", "paged_adamw", "adamw_8bit", "paged_adamw_8bit"])
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")  # bitsandbytes takes the plain one
def test_every_optimizer_learns_on_the_cpu(tiny: Path, rows: Path, tmp_path: Path, optimizer: str) -> None:
    losses = ten_losses(recipe(tiny, rows, "lora", optimizer=optimizer), tmp_path)
    assert losses[-1] < losses[0]


def test_all_logits_at_once_give_the_same_losses(
    tiny: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    score_all = sft_work.score_all
    monkeypatch.setattr(sft_work, "score_all", lambda *given: asked.append(given) or score_all(*given))
    whole = ten_losses(recipe(tiny, rows, "lora", loss="all"), tmp_path)
    assert whole == pytest.approx(STORED["lora", "sft"], abs=2e-3)
    assert len(asked) == STEPS * 2


def test_recomputing_gives_the_same_losses(tiny: Path, rows: Path, tmp_path: Path) -> None:
    wanted = recipe(tiny, rows, "qlora")
    again = wanted.model_copy(update={"train": wanted.train.model_copy(update={"checkpointing": True})})
    assert ten_losses(again, tmp_path) == pytest.approx(ten_losses(wanted, tmp_path), abs=1e-5)


def test_other_rows_other_losses(tiny: Path, rows: Path, tmp_path: Path) -> None:
    """The stored lists are no constant of the code."""
    one = recipe(tiny, rows, "lora")
    other = one.model_copy(update={"data": replace_seed(one)})
    assert ten_losses(one, tmp_path) != pytest.approx(ten_losses(other, tmp_path), abs=1e-3)


def replace_seed(wanted: Recipe) -> Any:
    return wanted.data.model_copy(update={"seed": wanted.data.seed + 1})


def test_one_gpu_is_used_of_several() -> None:
    class Several:
        n_gpu = 4
        _n_gpu = 4

    configuration: Any = one_device(Several())  # type: ignore[type-var]
    assert configuration._n_gpu == 1
