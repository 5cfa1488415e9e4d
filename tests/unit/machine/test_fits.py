"""What fits here: the least that a run can do with, against the plan's own figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.catalogue import CATALOGUE
from engine.machine.advise import ModelFacts, Wish, advise
from engine.machine.detect import detect
from engine.machine.fits import TYPICAL_LENGTH, asked_methods, fits_here, leanest, typical
from engine.machine.forecast import Room, room
from engine.machine.known_models import FILE, read
from engine.methods.registry import METHODS
from engine.recipe.file import from_plain
from engine.recipe.recipe import Recipe

MODELS = {model.name: model for model in read(FILE).models}
MACHINE = replace(detect(), gpus=(), cpu="Example CPU", cores=8, ram_total_gib=64.0, ram_free_gib=60.0)


def recipe_with(**tables: Any) -> Recipe:
    return from_plain(tables, CATALOGUE)


def card(gib: float) -> Room:
    return room(MACHINE, gpu_memory_gib=gib)


def verdicts(name: str, gib: float, length: int = TYPICAL_LENGTH) -> dict[str, str]:
    recipe = recipe_with(data={"max_length": length})
    return {m: fit.verdict for m, fit in fits_here(MODELS[name].dims, card(gib), recipe, typical(length)).items()}


def test_only_registered_methods_are_asked() -> None:
    assert set(asked_methods()) <= set(METHODS)
    assert asked_methods()[:2] == ("qlora", "lora")


def test_a_card_holds_what_is_known_of_it() -> None:
    assert verdicts("Qwen3-8B", 24)["qlora"] == "fits"
    assert verdicts("Qwen3-8B", 24)["lora"] in ("fits", "tight")
    assert verdicts("Qwen3-8B", 8)["lora"] == "no"
    assert verdicts("Llama-3.3-70B-Instruct", 24) | {} == dict.fromkeys(asked_methods(), "no")
    assert verdicts("Llama-3.3-70B-Instruct", 80)["qlora"] == "fits"


def test_longer_rows_need_more() -> None:
    dims, recipe = MODELS["Qwen3-4B"].dims, recipe_with(data={"max_length": 8192})
    short, long = (fits_here(dims, card(24), recipe, typical(n))["qlora"].needed_gib for n in (512, 8192))
    assert long > short + 1


def test_tight_is_below_the_limit_and_above_its_last_tenth() -> None:
    dims, recipe, data = MODELS["Qwen3-4B"].dims, recipe_with(), typical()
    needed = fits_here(dims, card(24), recipe, data)["lora"].needed_gib
    fit = fits_here(dims, card(needed / 0.95 / 0.95), recipe, data)["lora"]
    assert (fit.verdict, fit.needed_gib <= fit.usable_gib) == ("tight", True)
    assert fits_here(dims, card(needed), recipe, data)["lora"].verdict == "no"


def test_the_leanest_run_has_one_row_and_no_kept_activations() -> None:
    asked = recipe_with(train={"batch_size": 8, "checkpointing": False, "optimizer": "paged_adamw_8bit"})
    lean = leanest(asked, "lora")
    assert (lean.train.batch_size, lean.train.checkpointing, lean.method.name) == (1, True, "lora")
    assert lean.train.optimizer == "paged_adamw_8bit"
    assert leanest(lean, "qlora").method.name == "qlora"


def test_what_is_said_to_be_too_big_no_advice_fits_either() -> None:
    """The other way round the plan may find less: it counts the user's wishes too."""
    for name in ("Qwen3-4B", "Llama-3.1-8B-Instruct", "gemma-2-9b-it", "Qwen2.5-32B-Instruct"):
        for gib in (6.0, 12.0, 24.0, 48.0):
            said = verdicts(name, gib)
            facts, wish = ModelFacts(name, MODELS[name].parameters), Wish(max_length=TYPICAL_LENGTH)
            advice = advise(MACHINE, MODELS[name].dims, facts, typical(), wish, gpu_memory_gib=gib)
            fitting = {option.method for option in advice.alternatives if option.fits}
            for method in ("qlora", "lora"):
                assert not (said[method] == "no" and method in fitting), (name, gib, method)
