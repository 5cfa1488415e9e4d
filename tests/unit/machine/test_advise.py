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
from engine.machine.known_models import known_models
from engine.machine.nearest import amount, smaller_models
from engine.machine.plan import document, plan
from engine.methods.lora import LoraSettings
from engine.methods.registry import METHODS
from engine.protocol.codec import to_plain
from engine.protocol.text import say
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


# ------------------------------------------------------------------------------------------- wishes and the order
@pytest.mark.parametrize("goal", list(table.GOALS))
@pytest.mark.parametrize("model", ["Qwen3-0.6B", "gemma-2-2b", "Qwen2.5-7B-Instruct", "Mixtral-8x7B-v0.1"])
def test_more_memory_never_leads_to_a_lower_place(
    config_dims: Callable[[str], ModelDims], model: str, goal: table.Goal
) -> None:
    dims = config_dims(model)
    for data in (
        DataFacts(2000, Lengths(250.0, 220, 420, 500, 700, 900)),
        DataFacts(300, Lengths(900.0, 700, 1900, 2600, 5000, 9000), preference=True),
    ):
        previous: Advice | None = None
        for gib in (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 100, 141):
            advice = advise(_no_gpu(), dims, MODEL, data, Wish(goal=goal), gpu_memory_gib=gib)
            if previous is not None:
                assert advice.place <= previous.place
                assert advice.fits or not previous.fits
                assert advice.recipe.data.max_length >= previous.recipe.data.max_length
            previous = advice


def test_the_advice_leaves_room_for_the_forecasts_error(seven_b: ModelDims, rows: DataFacts) -> None:
    for gib in (8, 10, 12, 16, 24, 32, 48, 80):
        advice = advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=gib)
        place = table.ORDER["quality"][advice.place - 1]
        assert advice.memory.total <= place.share * advice.forecast.room.usable_gib


def test_who_wishes_for_speed_is_not_slowed_down_by_recomputing(seven_b: ModelDims, rows: DataFacts) -> None:
    quality = advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=24)
    speed = advise(_no_gpu(), seven_b, MODEL, rows, Wish(goal="speed"), gpu_memory_gib=24)
    assert sizes(quality)[:2] == ("lora", True)
    assert sizes(speed)[:2] == ("qlora", False)
    assert speed.seconds < quality.seconds
    assert any("speed" in reason.en for reason in speed.reasons)


@pytest.mark.parametrize(("count", "epochs"), [(2000, 1.0), (500, 2.0), (100, 3.0), (60_000, 1.0)])
def test_who_wishes_for_speed_gets_the_fewest_passes_that_learn(
    small_dims: ModelDims, rows: DataFacts, without_gpu: Machine, count: int, epochs: float
) -> None:
    data = replace(rows, rows=count)
    recipe = advise(without_gpu, small_dims, MODEL, data, Wish(goal="speed")).recipe
    assert recipe.train.epochs == epochs
    most = advise(without_gpu, small_dims, MODEL, data).recipe.train.epochs
    assert epochs == most or count * epochs / recipe.effective_batch >= table.LEAST_STEPS.value


def test_who_wishes_for_the_least_memory_gets_it_without_losing_rows(seven_b: ModelDims, rows: DataFacts) -> None:
    smallest = advise(_no_gpu(), seven_b, MODEL, rows, Wish(goal="smallest"), gpu_memory_gib=80)
    assert sizes(smallest) == ("qlora", True, 1, 960)
    assert smallest.recipe.train.optimizer == "paged_adamw_8bit"
    for goal in ("quality", "speed"):
        other = advise(_no_gpu(), seven_b, MODEL, rows, Wish(goal=goal), gpu_memory_gib=80)
        assert smallest.memory.total < other.memory.total


def test_the_largest_row_decides_the_length_and_nothing_else(seven_b: ModelDims, rows: DataFacts) -> None:
    for longest, told in ((900, 960), (901, 960), (961, 1024), (3000, 3008)):
        data = replace(rows, lengths=replace(rows.lengths, longest=longest))
        assert advise(_no_gpu(), seven_b, MODEL, data, gpu_memory_gib=80).recipe.data.max_length == told


# --------------------------------------------------------------------------------------------- what the rows teach
@pytest.mark.parametrize(
    ("task", "count", "rank"),
    [
        ("classification", 100_000, 8),
        ("dialogue", 2_000, 16),
        ("reasoning", 2_000, 32),
        ("reasoning", 20_000, 64),
        ("domain", 2_000, 32),
        ("domain", 50_000, 64),
        ("", 2_000, 16),
    ],
)
def test_rank_by_what_the_rows_teach(
    small_dims: ModelDims, rows: DataFacts, without_gpu: Machine, task: str, count: int, rank: int
) -> None:
    advice = advise(without_gpu, small_dims, MODEL, replace(rows, rows=count, task=task))
    assert isinstance(advice.recipe.method, LoraSettings)
    assert advice.recipe.method.rank == rank
    assert advice.recipe.method.alpha == scale(rank)
    told = next(reason.en for reason in advice.reasons if reason.en.startswith("Rank"))
    assert any(row.cell.source.en in told for row in table.RANK[task or "dialogue"])


def test_what_the_user_says_of_the_rows_counts_more(
    small_dims: ModelDims, rows: DataFacts, without_gpu: Machine
) -> None:
    data = replace(rows, task="classification")
    recipe = advise(without_gpu, small_dims, MODEL, data, Wish(task="domain")).recipe
    assert isinstance(recipe.method, LoraSettings)
    assert recipe.method.rank == 32


@pytest.mark.parametrize(
    ("kinds", "task"),
    [
        ({}, "dialogue"),
        ({"qa": 6, "creative": 4}, "dialogue"),
        ({"classification": 5, "qa": 5}, "classification"),
        ({"analysis": 3, "code": 3, "qa": 4}, "reasoning"),
    ],
)
def test_most_rows_decide_what_all_teach(kinds: dict[str, int], task: str) -> None:
    assert table.task_of(kinds) == table.task_of(kinds, "alpaca") == task
    assert table.task_of(kinds, "text") == "domain"
    assert table.task_of(kinds, "classification") == "classification"


def test_the_kinds_of_the_table_are_those_of_the_data_room() -> None:
    from engine.data.quality.tasks import NAMES
    from engine.data.registry import SHAPES

    assert table.KINDS.keys() <= set(NAMES)
    assert table.SHAPES.keys() <= SHAPES.keys()


# ----------------------------------------------------------------------------------------------- when nothing fits
def test_a_smaller_model_of_the_family_is_named(config_dims: Callable[[str], ModelDims], rows: DataFacts) -> None:
    known = known_models(Path("nothing of my own")).models
    seventy = config_dims("Qwen2.5-72B-Instruct")
    smaller = smaller_models(seventy, known)
    assert [dims.parameters() for _, dims in smaller] == sorted((d.parameters() for _, d in smaller), reverse=True)
    assert all(dims.family == "qwen2" for _, dims in smaller)
    advice = advise(_no_gpu(), seventy, ModelFacts("some/model", smaller=smaller), rows, gpu_memory_gib=24)
    change = next(each for each in advice.changes if each.kind == "model")
    name, dims = next(each for each in smaller if each[0] == change.name)
    assert name in (advice.nearest or say("", "")).en
    assert advise(_no_gpu(), dims, ModelFacts(name), rows, gpu_memory_gib=24).fits
    larger = [d for _, d in smaller if d.parameters() > dims.parameters()]
    assert all(not advise(_no_gpu(), d, MODEL, rows, gpu_memory_gib=24).fits for d in larger)


def test_the_card_of_the_nearest_change_holds_it(seven_b: ModelDims, rows: DataFacts) -> None:
    advice = advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=4)
    more = advice.changes[-1]
    assert more.kind == "memory"
    card = int(more.name.split()[0])
    assert card in table.CARDS
    assert advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=card).fits
    smaller = [size for size in table.CARDS if size < card]
    assert all(not advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=size).fits for size in smaller)


def test_every_change_says_what_would_be_needed(seven_b: ModelDims, rows: DataFacts) -> None:
    data = replace(rows, lengths=Lengths(20_000.0, 20_000, 20_000, 20_000, 20_000, 20_000))
    advice = advise(_no_gpu(), seven_b, MODEL, data, gpu_memory_gib=8)
    assert [change.kind for change in advice.changes] == ["rows", "model", "memory"]
    assert all(change.words.en and change.words.zh for change in advice.changes)
    assert advice.changes[0].memory_gib <= advice.forecast.room.usable_gib < advice.changes[-1].memory_gib


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
    assert (report["wish"], report["changes"]) == ("quality", [])
    assert 1 <= report["place"] <= report["places"] == len(table.ORDER["quality"])


def test_the_document_tells_the_nearest_change(seven_b: ModelDims, rows: DataFacts) -> None:
    report = document(advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=3))
    assert report["fits"] is False
    assert "GiB" in report["nearest"]
    assert [change["kind"] for change in report["changes"]] == ["model", "memory"]
    assert report["place"] == report["places"] + 1


def test_reasons_are_told_in_both_languages(seven_b: ModelDims, rows: DataFacts) -> None:
    for gib in (4, 8, 24, 80):
        for reason in advise(_no_gpu(), seven_b, MODEL, rows, gpu_memory_gib=gib).reasons:
            assert reason.en
            assert reason.zh
            assert reason.en != reason.zh
            assert "{" not in reason.en + reason.zh


def test_every_figure_of_the_table_names_its_source() -> None:
    by_size = (*table.RANK.values(), table.EPOCHS, table.PREFERENCE_EPOCHS, table.RATE_FACTOR)
    sources = [row.cell.source for rows in by_size for row in rows]
    sources += [value.source for value in vars(table).values() if isinstance(value, table.Cell)]
    sources += [place.source for places in table.ORDER.values() for place in places]
    assert len(sources) > 50
    assert all(source.en and source.zh for source in sources)


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
    # Two more than are kept can lie there at once.
    assert there.disk_bytes - here.disk_bytes == 7 * here.checkpoint_bytes


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
    pick = recommend(case, "lora")
    assert pick.recipe.method.name == "lora"
    assert not pick.forecast.fits
    assert pick.place == len(table.ORDER["quality"]) + 1


def _no_gpu(ram: float = 32.0) -> Machine:
    return Machine((), "Example CPU", 8, ram, ram * 0.9, None, "/", 100.0, "Linux", "3.11")
