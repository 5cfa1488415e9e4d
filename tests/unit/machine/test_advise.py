"""The advice: what is chosen on which machine, why, and what would fit when nothing does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.catalogue import CATALOGUE
from engine.machine import table
from engine.machine.advise import Advice, ModelFacts, Wish, advise, recommend, scale
from engine.machine.detect import Machine
from engine.machine.dims import ModelDims
from engine.machine.forecast import DataFacts, Forecast, Lengths, forecast, room
from engine.machine.gpu import Gpu
from engine.machine.nearest import amount
from engine.machine.plan import document, plan
from engine.methods.lora import LoraSettings
from engine.methods.registry import METHODS
from engine.protocol.codec import to_plain
from engine.recipe.file import dumps, from_plain, loads

MODEL = ModelFacts("some/model")


@pytest.fixture
def seven_b(config_dims: Callable[[str], ModelDims]) -> ModelDims:
    return config_dims("Qwen2.5-7B-Instruct")


def sizes(advice: Advice) -> tuple[str, bool, int, int]:
    train = advice.recipe.train
    return advice.recipe.method.name, train.checkpointing, train.batch_size, advice.recipe.data.max_length


# ------------------------------------------------------------------------------------------------------ what fits
@pytest.mark.parametrize(
    ("gib", "method", "checkpointing"),
    [(8.0, "qlora", True), (12.0, "qlora", True), (24.0, "lora", True), (48.0, "lora", False)],
)
def test_seven_billion_on_common_cards(
    seven_b: ModelDims,
    rows: DataFacts,
    with_gpu: Callable[[float], Machine],
    gib: float,
    method: str,
    checkpointing: bool,
) -> None:
    advice = advise(with_gpu(gib), seven_b, MODEL, rows)
    assert advice.fits
    assert advice.nearest is None
    assert (advice.recipe.method.name, advice.recipe.train.checkpointing) == (method, checkpointing)
    assert advice.memory.total < gib
    assert advice.recipe.data.max_length == 960  # the longest row, 900, up to a multiple of 64


def test_quantisation_and_savings_come_only_when_needed(seven_b: ModelDims, rows: DataFacts) -> None:
    machine = _no_gpu(16.0)
    large = advise(machine, seven_b, MODEL, rows, gpu_memory_gib=80)
    assert sizes(large)[:2] == ("lora", False)
    assert large.recipe.train.optimizer == "adamw"
    assert isinstance(large.recipe.method, LoraSettings)
    assert large.recipe.method.rank == 16


def test_a_roomy_choice_is_preferred_to_a_close_one_that_is_only_faster(seven_b: ModelDims, rows: DataFacts) -> None:
    advice = advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=24)
    assert not advice.forecast.tight
    faster = {"checkpointing": False, "batch_size": 1, "accumulation": 16}
    without = advice.recipe.model_copy(update={"train": advice.recipe.train.model_copy(update=faster)})
    other = forecast(without, seven_b, rows, advice.forecast.room)
    assert other.fits
    assert other.tight


def test_nothing_fits_and_the_nearest_that_would_is_told_in_numbers(seven_b: ModelDims, rows: DataFacts) -> None:
    advice = advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=4)
    assert not advice.fits
    assert advice.nearest is not None
    assert "GiB free" in advice.nearest.en
    assert " B parameters" in advice.nearest.en
    assert advice.nearest.zh
    assert advice.reasons[0].en.startswith("Does not fit")
    # The smallest recipe there is: everything was given up.
    assert sizes(advice)[:3] == ("qlora", True, 1)


def test_shorter_rows_are_the_nearest_change_where_they_suffice(small_dims: ModelDims) -> None:
    long_context = replace(small_dims, context=65536)
    data = DataFacts(500, Lengths(30_000.0, 30_000, 30_000, 30_000, 30_000, 30_000))
    advice = advise(_no_gpu(), long_context, MODEL, data, gpu_memory_gib=1.2)
    assert not advice.fits
    assert advice.nearest is not None
    length = int(advice.nearest.en.split(" cut at ")[1].split()[0])
    assert length in table.SHORTER
    cut = advice.recipe.model_copy(update={"data": advice.recipe.data.model_copy(update={"max_length": length})})
    assert forecast(cut, long_context, data, advice.forecast.room).fits
    assert "more than half" in advice.nearest.en


def test_the_largest_model_of_the_nearest_change_is_smaller(seven_b: ModelDims, rows: DataFacts) -> None:
    for gib in (3, 4, 5, 6):
        advice = advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=gib)
        assert advice.nearest is not None
        size = float(advice.nearest.en.split("at most about ")[1].split()[0])
        assert 0 < size < 7.6


def test_memory_in_use_by_others_is_not_planned_with(seven_b: ModelDims, rows: DataFacts) -> None:
    busy = replace(_no_gpu(), gpus=(Gpu(0, "NVIDIA GeForce RTX 3090", 24.0, 5.0, (8, 6)),))
    free = replace(_no_gpu(), gpus=(Gpu(0, "NVIDIA GeForce RTX 3090", 24.0, 24.0, (8, 6)),))
    assert advise(free, seven_b, MODEL, rows).recipe.method.name == "lora"
    assert not advise(busy, seven_b, MODEL, rows).fits


def test_long_rows_are_cut_only_when_all_else_is_given_up(seven_b: ModelDims) -> None:
    data = DataFacts(2000, Lengths(400.0, 300, 700, 900, 1500, 12_000))
    advice = advise(_no_gpu(), seven_b, MODEL, data, gpu_memory_gib=8)
    assert advice.fits
    assert advice.recipe.data.max_length == 1536
    assert any("cut" in reason.en for reason in advice.reasons)
    roomy = advise(_no_gpu(), seven_b, MODEL, data, gpu_memory_gib=48)
    assert roomy.recipe.data.max_length == 12_032


def test_never_longer_than_the_model_knows(small_dims: ModelDims, without_gpu: Machine) -> None:
    data = DataFacts(500, Lengths(2000.0, 2000, 3000, 3000, 3000, 5000))
    assert advise(without_gpu, small_dims, MODEL, data).recipe.data.max_length == small_dims.context


# ----------------------------------------------------------------------------------------------------- the machine
def test_the_tiny_real_model_on_a_cpu(shared_data: Path, without_gpu: Machine) -> None:
    config = json.loads((shared_data / "models" / "stories260K" / "config.json").read_text())
    dims = ModelDims.from_config(config)
    data = DataFacts(900, Lengths(204.0, 180, 380, 450, 512, 1200))
    advice = advise(without_gpu, dims, ModelFacts("stories260K", 260_032, has_template=False), data)
    assert advice.fits
    assert advice.forecast.room.device == "cpu"
    assert advice.recipe.method.name == "lora"
    assert advice.recipe.train.optimizer == "adamw"
    assert advice.recipe.data.max_length == 512
    assert advice.recipe.train.learning_rate > METHODS["lora"].default_learning_rate
    assert any("chat template" in reason.en for reason in advice.reasons)


def test_a_cpu_gets_neither_paged_optimizers_nor_needless_quantisation(
    seven_b: ModelDims, small_dims: ModelDims, rows: DataFacts
) -> None:
    assert advise(_no_gpu(16.0), small_dims, MODEL, rows).recipe.method.name == "lora"
    tight = advise(_no_gpu(20.0), seven_b, MODEL, rows)
    assert tight.recipe.method.name == "qlora"
    assert tight.recipe.train.optimizer == "adamw"
    nothing = advise(_no_gpu(4.0), seven_b, MODEL, rows)
    assert not nothing.fits
    assert nothing.recipe.train.optimizer == "adamw"


def test_a_run_of_days_is_warned_of(seven_b: ModelDims, rows: DataFacts) -> None:
    advice = advise(_no_gpu(24.0), seven_b, MODEL, rows)
    assert any("days" in reason.en for reason in advice.reasons)


def test_gpu_memory_zero_means_the_cpu(
    small_dims: ModelDims, rows: DataFacts, with_gpu: Callable[[float], Machine]
) -> None:
    assert advise(with_gpu(24.0), small_dims, MODEL, rows, gpu_memory_gib=0).forecast.room.device == "cpu"
    assert advise(with_gpu(24.0), small_dims, MODEL, rows).forecast.room.device == "cuda"


def test_a_torch_without_cuda_cannot_use_the_gpu(
    small_dims: ModelDims, rows: DataFacts, with_gpu: Callable[[float], Machine]
) -> None:
    assert advise(with_gpu(24.0), small_dims, MODEL, rows, torch_cuda=False).forecast.room.device == "cpu"


def test_the_time_of_an_imagined_card_is_called_assumed(seven_b: ModelDims, rows: DataFacts) -> None:
    imagined = advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=24)
    assert any("RTX 3090" in reason.en for reason in imagined.reasons)


# --------------------------------------------------------------------------------------------------- the settings
@pytest.mark.parametrize("rank", [1, 4, 8, 16, 32, 64, 256])
def test_rank_stabilised_alpha_keeps_the_factor(rank: int) -> None:
    assert scale(rank) / math.sqrt(rank) == pytest.approx(2.0, rel=0.005)


@pytest.mark.parametrize(("count", "rank"), [(100, 16), (19_999, 16), (20_000, 32), (99_999, 32), (395_000, 64)])
def test_rank_by_rows(small_dims: ModelDims, rows: DataFacts, without_gpu: Machine, count: int, rank: int) -> None:
    method = advise(without_gpu, small_dims, MODEL, replace(rows, rows=count)).recipe.method
    assert isinstance(method, LoraSettings)
    assert (method.rank, method.rank_stabilised, method.targets) == (rank, True, "all")
    assert method.alpha == scale(rank)


@pytest.mark.parametrize(("count", "epochs"), [(50, 3.0), (4_999, 3.0), (5_000, 2.0), (60_000, 1.0)])
def test_passes_by_rows(
    small_dims: ModelDims, rows: DataFacts, without_gpu: Machine, count: int, epochs: float
) -> None:
    assert advise(without_gpu, small_dims, MODEL, replace(rows, rows=count)).recipe.train.epochs == epochs


@pytest.mark.parametrize(
    ("parameters", "rate"),
    [(260_032, 4e-3), (4_000_000, 2e-3), (1_000_000_000, 4e-4), (7_600_000_000, 2e-4), (70_000_000_000, 1e-4)],
)
def test_smaller_models_learn_faster(
    small_dims: ModelDims, rows: DataFacts, without_gpu: Machine, parameters: int, rate: float
) -> None:
    advice = advise(without_gpu, small_dims, ModelFacts("m", parameters), rows)
    assert advice.recipe.train.learning_rate == pytest.approx(rate)


def test_few_rows_get_a_higher_rate_and_smaller_updates(
    small_dims: ModelDims, rows: DataFacts, without_gpu: Machine
) -> None:
    few = advise(without_gpu, small_dims, MODEL, replace(rows, rows=200)).recipe
    many = advise(without_gpu, small_dims, MODEL, replace(rows, rows=4000)).recipe
    assert few.train.learning_rate == pytest.approx(1.5 * many.train.learning_rate)
    assert few.effective_batch < many.effective_batch == 16


def test_preferences_are_learned_by_dpo_at_a_lower_rate(
    small_dims: ModelDims, rows: DataFacts, without_gpu: Machine
) -> None:
    sft = advise(without_gpu, small_dims, MODEL, rows).recipe
    dpo = advise(without_gpu, small_dims, MODEL, replace(rows, preference=True)).recipe
    assert (sft.objective.name, dpo.objective.name) == ("sft", "dpo")
    assert dpo.train.learning_rate == pytest.approx(0.1 * sft.train.learning_rate)


def test_a_large_data_set_holds_out_a_thousand_rows(
    small_dims: ModelDims, rows: DataFacts, without_gpu: Machine
) -> None:
    large = advise(without_gpu, small_dims, MODEL, replace(rows, rows=50_000)).recipe
    assert large.data.held_out == pytest.approx(0.02)
    assert advise(without_gpu, small_dims, MODEL, rows).recipe.data.held_out == 0.1


def test_the_micro_batch_divides_the_effective_one(seven_b: ModelDims, rows: DataFacts) -> None:
    for gib in (8, 16, 24, 48, 80, 140):
        train = advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=gib).recipe.train
        assert train.batch_size * train.accumulation == 16


# --------------------------------------------------------------------------------------------- wishes and options
@pytest.mark.parametrize("method", list(METHODS))
def test_a_wished_method_is_kept(seven_b: ModelDims, rows: DataFacts, method: str) -> None:
    advice = advise(_no_gpu(), seven_b, MODEL, rows, Wish(method=method), gpu_memory_gib=80)
    assert advice.recipe.method.name == method
    assert any("your choice" in reason.en for reason in advice.reasons)


def test_a_wished_length_is_kept(seven_b: ModelDims, rows: DataFacts) -> None:
    advice = advise(_no_gpu(), seven_b, MODEL, rows, Wish(max_length=333), gpu_memory_gib=8)
    assert advice.recipe.data.max_length == 333


def test_every_method_is_an_option_with_its_own_figures(seven_b: ModelDims, rows: DataFacts) -> None:
    advice = advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=12)
    assert {option.method for option in advice.alternatives} == set(METHODS)
    assert advice.alternatives[0].method == advice.recipe.method.name
    by_name = {option.method: option for option in advice.alternatives}
    assert by_name["qlora"].fits
    assert not by_name["lora"].fits
    assert "does not fit" in by_name["lora"].summary.en
    assert len({round(option.forecast.memory.total, 3) for option in advice.alternatives}) == len(METHODS)


def test_the_recommended_recipe_is_the_one_that_was_forecast(seven_b: ModelDims, rows: DataFacts) -> None:
    advice = advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=24)
    again = forecast(advice.recipe, seven_b, rows, advice.forecast.room)
    assert again == advice.forecast


def test_more_memory_never_makes_it_worse(seven_b: ModelDims, rows: DataFacts) -> None:
    """A larger card never loses rows, exactness or the fit; and of the same speed it never takes longer."""
    previous: Advice | None = None
    for gib in (4, 6, 7, 8, 10, 12, 15):
        advice = advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=gib)
        if previous is not None:
            assert advice.fits or not previous.fits
            assert advice.recipe.data.max_length >= previous.recipe.data.max_length
            assert previous.recipe.method.name == "qlora" or advice.recipe.method.name == "lora"
        previous = advice


# ------------------------------------------------------------------------------------------------------- documents
def test_the_recipe_can_be_written_and_read(small_dims: ModelDims, rows: DataFacts, without_gpu: Machine) -> None:
    recipe = advise(without_gpu, small_dims, MODEL, rows).recipe
    assert loads(dumps(recipe), CATALOGUE) == recipe
    assert (recipe.model.source, recipe.data.files) == ("some/model", ("rows.json",))


def test_the_document_of_the_command(seven_b: ModelDims, rows: DataFacts, without_gpu: Machine) -> None:
    report = plan(seven_b, MODEL, rows, machine=without_gpu, gpu_memory_gib=8)
    assert to_plain(report) == report
    assert report["fits"] is True
    parts = {name: value for name, value in report["memory_gib"].items() if name != "total"}
    assert report["memory_gib"]["total"] == pytest.approx(sum(parts.values()), abs=0.01)
    assert report["seconds"] > 0
    assert all(isinstance(reason, str) for reason in report["reasons"])
    assert from_plain(report["recipe"], CATALOGUE).method.name == "qlora"
    assert report["device"]["kind"] == "cuda"
    assert len(report["alternatives"]) == len(METHODS)


def test_the_document_tells_the_nearest_change(seven_b: ModelDims, rows: DataFacts) -> None:
    report = document(advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=3))
    assert report["fits"] is False
    assert "GiB" in report["nearest"]


def test_reasons_are_told_in_both_languages(seven_b: ModelDims, rows: DataFacts) -> None:
    for gib in (4, 8, 24, 80):
        for reason in advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=gib).reasons:
            assert reason.en
            assert reason.zh
            assert reason.en != reason.zh
            assert "{" not in reason.en + reason.zh


def test_every_figure_of_the_table_names_its_source() -> None:
    rows_of = [
        row.cell for rows in (table.RANK, table.EPOCHS, table.PREFERENCE_EPOCHS, table.RATE_FACTOR) for row in rows
    ]
    cells = [value for value in vars(table).values() if isinstance(value, table.Cell)]
    assert len(cells) + len(rows_of) > 15
    assert all(cell.source.en and cell.source.zh for cell in (*rows_of, *cells))


def test_looking_up_takes_the_last_row_that_applies() -> None:
    assert [table.look_up(table.EPOCHS, size).value for size in (0, 4_999, 5_000, 1e9)] == [3.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("count", "text"), [(260_032, "0.3 M"), (4_196_608, "4.2 M"), (134_515_008, "135 M"), (7_615_616_512, "7.6 B")]
)
def test_amounts_as_people_say_them(count: int, text: str) -> None:
    assert amount(count) == text


def test_the_disk_forecast_grows_with_checkpoints_and_rank(
    small_dims: ModelDims, rows: DataFacts, without_gpu: Machine
) -> None:
    recipe = advise(without_gpu, small_dims, MODEL, rows).recipe
    where = room(without_gpu)
    more = recipe.model_copy(update={"train": recipe.train.model_copy(update={"keep_checkpoints": 9})})
    here, there = forecast(recipe, small_dims, rows, where), forecast(more, small_dims, rows, where)
    assert there.disk_bytes - here.disk_bytes == 7 * here.trained_parameters * 12


def test_rows_that_are_not_chosen_take_no_steps_but_all_are_looked_at(
    small_dims: ModelDims, rows: DataFacts, without_gpu: Machine
) -> None:
    recipe = advise(without_gpu, small_dims, MODEL, rows).recipe
    where = room(without_gpu)

    def needs(**data: Any) -> Forecast:
        changed = recipe.model_copy(update={"data": recipe.data.model_copy(update=data)})
        return forecast(changed, small_dims, rows, where)

    everything, half = needs(), needs(choice="hardest", choice_share=0.5)
    assert half.steps == pytest.approx(everything.steps / 2, rel=0.02)
    assert everything.seconds / 2 < half.seconds < everything.seconds
    ordered = needs(order="easiest")
    assert ordered.steps == everything.steps
    assert everything.seconds < ordered.seconds < 1.5 * everything.seconds


def test_recommend_for_one_method_stays_with_it(seven_b: ModelDims, rows: DataFacts) -> None:
    from engine.machine.advise import Case

    case = Case(room(_no_gpu(), gpu_memory_gib=8), seven_b, MODEL, rows, Wish())
    recipe, needs, _ = recommend(case, "lora")
    assert recipe.method.name == "lora"
    assert not needs.fits


def _no_gpu(ram: float = 32.0) -> Machine:
    return Machine((), "Example CPU", 8, ram, ram * 0.9, None, "/", 100.0, "Linux", "3.11")
