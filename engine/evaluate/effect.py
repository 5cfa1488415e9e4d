"""Whether an adapter does anything at all: how far it moves the weights, the next-token probabilities and the answers.

The norm of a low-rank change is found without its product: ‖BA‖² = tr(BᵀB AAᵀ), two r × r matrices. What has no such
form is merged into a copy of its weight, whose original is put back bit by bit.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from peft.utils.integrations import dequantize_module_weight
from safetensors import safe_open

from engine.evaluate.score import Scored, head_sees
from engine.evaluate.watch import Watch
from engine.model.tuned import TunedModel
from engine.project.effect import Effect, Part, write_effect
from engine.project.run_folder import RunFolder
from engine.protocol.text import Text, say

ROWS = 32
"""Held-out rows that both models' probabilities are compared on: enough to tell something from nothing."""
POSITIONS = 64
"""Token positions of a row at most, spread over it: each has the probabilities of the whole vocabulary, twice."""
TINY_RATE = 1e-6
"""A learning rate below it is named as a reason."""
_WEIGHTS = "adapter_model.safetensors"
_LAYER = re.compile(r"\.(?:layers|h|blocks?|decoder_layers)\.(\d+)\.")

Norms = tuple[float, float]
"""‖ΔW‖² and ‖W‖² of one module."""


def effect(
    run: RunFolder, tuned: TunedModel, texts: Sequence[Scored], watch: Watch, *, changed_answers: float | None = None
) -> Effect:
    """Measure what the adapter does, and keep it in ``effect.json``.

    Args:
        texts: held-out rows as they are scored.
        changed_answers: share of the answers that differ, from the evaluation.

    Raises:
        Stopped: the user asked; what was kept stays as it was.
    """
    looked_at = [text for text in texts if text.counted][:ROWS]
    modules = list(_modules(tuned.model))
    watch.stage(
        "effect", say("Measuring the adapter's effect", "测量适配器的作用"), len(modules) + len(looked_at), "steps"
    )
    base = dict(tuned.speakers["base"].model.named_parameters(remove_duplicate=False))
    measured = {name: norms(module, base.get(f"{name}.weight")) for name, module in _told(modules, watch.at)}
    measured.update(_written(base, tuned.model, measured))
    watch.next_part(len(modules))
    shifts = [_shift(tuned, text) for _, text in _told(list(enumerate(looked_at)), watch.at)]
    positions = sum(shift[3] for shift in shifts)
    kl, variation, other = (
        math.fsum(shift[column] for shift in shifts) / positions if positions else None for column in range(3)
    )
    known = {name: pair for name, pair in measured.items() if pair is not None}
    found = Effect(
        whole=_part("all", list(known.values())) if known else None,
        kinds=_parts(known, lambda name: name.rpartition(".")[2]),
        layers=_parts(known, _layer_of),
        unmeasured=tuple(name for name, pair in measured.items() if pair is None),
        rows=len(looked_at),
        positions=positions,
        kl=_finite(kl),
        variation=_finite(variation),
        other_token=other,
        changed_answers=changed_answers,
        created=round(time.time(), 3),
    )
    if found.nothing or found.next_to_nothing:
        found = replace(found, reasons=reasons(run, tuned, texts, known))
    write_effect(run, found)
    return found


def _told(items: list[tuple[Any, Any]], watch: Callable[[float], None]) -> Iterator[tuple[Any, Any]]:
    for done, item in enumerate(items):
        watch(done)
        yield item


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


# --------------------------------------------------------------------------------------------------------- weights
def _modules(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Every module that the adapter changes, by its name in the base model."""
    for name, module in model.named_modules():
        if isinstance(module, (BaseTunerLayer, ModulesToSaveWrapper)) and _active(module):
            yield name.removeprefix("base_model.model."), module


def _active(module: Any) -> list[str]:
    """The adapters in use that this module has weights of."""
    names = module.active_adapters
    if isinstance(module, ModulesToSaveWrapper):
        return [name for name in names if name in module.modules_to_save]
    held = [getattr(module, kind, {}) for kind in module.adapter_layer_names]
    return [name for name in names if any(_has(kind, name) for kind in held)]


def _has(kind: Any, name: str) -> bool:
    return hasattr(kind, "__contains__") and not isinstance(kind, torch.Tensor) and name in kind


@torch.no_grad()
def norms(module: Any, base: torch.Tensor | None = None) -> Norms | None:
    """(‖ΔW‖², ‖W‖²) of a module with its adapter; None where it cannot be told.

    Args:
        base: the untouched base's weight, where the adapter's module may lie over another one (PiSSA takes its
            beginning off the weight).
    """
    names = _active(module)
    if isinstance(module, ModulesToSaveWrapper):
        return _replaced(module, names[0])
    own = getattr(getattr(module, "get_base_layer", lambda: None)(), "weight", None)
    if base is None or own is None or own.data_ptr() == base.data_ptr():
        base = None
    if len(names) == 1 and isinstance(module, LoraLayer) and base is None:
        product = _of_product(module, names[0])
        if product is not None:
            return product
    return _of_merge(module, names, base)


def _written(
    base: dict[str, torch.Tensor], model: Any, measured: dict[str, Norms | None]
) -> Iterator[tuple[str, Norms | None]]:
    """Tensors of the base saved with the adapter, such as embeddings of added tokens: those that lie apart."""
    own = dict(model.get_base_model().named_parameters(remove_duplicate=False))
    for name, before in base.items():
        after, module = own.get(name), name.rpartition(".")[0]
        if after is None or after.data_ptr() == before.data_ptr() or module in measured:
            continue
        rows = min(len(before), len(after))
        if before.dtype.is_floating_point and before.shape[1:] == after.shape[1:]:
            yield module, (_square(after[:rows] - before[:rows]) + _square(after[rows:]), _square(before))


def _replaced(module: Any, name: str) -> Norms | None:
    """A whole copy that was trained."""
    before, after = (dict(part.named_parameters()) for part in (module.original_module, module.modules_to_save[name]))
    if any(before[key].shape != after[key].shape for key in before if key in after):
        return None
    shared = [key for key in before if key in after]
    return sum(_square(after[key] - before[key]) for key in shared), sum(_square(before[key]) for key in shared)


def _of_product(module: Any, name: str) -> Norms | None:
    """LoRA of a matrix, rank stabilised or not, weight-decomposed or not; None for other variants."""
    variant = getattr(module, "lora_variant", {}).get(name)
    if name in module.lora_A:
        down, up = module.lora_A[name].weight, module.lora_B[name].weight
    elif name in module.lora_embedding_A:
        down, up = module.lora_embedding_A[name], module.lora_embedding_B[name]
    else:
        return None
    if down.ndim != 2 or getattr(module, "lora_bias", {}).get(name):
        return None
    scale, base = float(module.scaling[name]), _base_weight(module)
    if base is None:
        return None
    if variant is None:
        return scale**2 * product_square(up, down), _square(base)
    if type(variant).__name__ != "DoraLinearVariant" or getattr(module, "fan_in_fan_out", False):
        return None
    # Liu et al. 2024 (DoRA), equation 5: magnitude times direction.
    moved = base.float() + scale * (up.float() @ down.float())
    magnitude = module.lora_magnitude_vector[name].weight.float()
    whole = (magnitude / moved.norm(dim=1).clamp_min(1e-12))[:, None] * moved
    return _square(whole - base.float()), _square(base)


def product_square(up: torch.Tensor, down: torch.Tensor) -> float:
    """‖up · down‖², of (O, r) and (r, I), from two r × r matrices. Never below 0, whatever rounding does."""
    left, right = up.float().T @ up.float(), down.float() @ down.float().T
    return max(0.0, float((left * right.T).sum()))


def _of_merge(module: Any, names: list[str], base: torch.Tensor | None) -> Norms | None:
    """Any other adapter: merged into a copy of the weight; the weight itself is the same tensor as before."""
    holder = module.get_base_layer()
    weight = getattr(holder, "weight", None)
    if weight is None or not weight.dtype.is_floating_point or hasattr(weight, "quant_state"):
        return None
    kept = [(parameter, parameter.data) for parameter in holder.parameters(recurse=False)]
    try:
        for parameter, data in kept:
            parameter.data = data.float().clone()
        module.merge(adapter_names=names)
        merged, before = holder.weight.data, _kept_of(kept, weight) if base is None else base
        if merged.shape != before.shape:
            return None
        return _square(merged - before.float()), _square(before)
    except (NotImplementedError, AttributeError, ValueError, RuntimeError, TypeError):
        return None  # peft cannot merge this kind; what it does is told by the probabilities alone
    finally:
        for parameter, data in kept:
            parameter.data = data
        module.merged_adapters.clear()


def _kept_of(kept: list[tuple[torch.Tensor, torch.Tensor]], weight: torch.Tensor) -> torch.Tensor:
    """What a parameter held before."""
    return next(data for parameter, data in kept if parameter is weight)


def _base_weight(module: Any) -> torch.Tensor | None:
    """The base weight in full, expanded where it is quantised; None where that cannot be done here."""
    try:
        weight = dequantize_module_weight(module.get_base_layer())
    except (NotImplementedError, AttributeError, ValueError, RuntimeError, TypeError, ImportError):
        return None
    return weight if isinstance(weight, torch.Tensor) and weight.dtype.is_floating_point else None


def _square(weight: torch.Tensor) -> float:
    return float(weight.detach().float().square().sum())


def _layer_of(name: str) -> str:
    found = _LAYER.search(f".{name}")
    return found[1] if found else ""


def _parts(measured: dict[str, Norms], of: Callable[[str], str]) -> tuple[Part, ...]:
    groups: dict[str, list[Norms]] = {}
    for name, pair in measured.items():
        if key := of(name):
            groups.setdefault(key, []).append(pair)
    return tuple(_part(name, pairs) for name, pairs in groups.items())


def _part(name: str, pairs: Sequence[Norms]) -> Part:
    delta, base = (math.sqrt(math.fsum(pair[column] for pair in pairs)) for column in range(2))
    return Part(name, len(pairs), delta, base)


# --------------------------------------------------------------------------------------------------- probabilities
@torch.inference_mode()
def _shift(tuned: TunedModel, text: Scored) -> tuple[float, float, float, int]:
    """(KL of tuned from base, total variation, other likeliest token, positions), summed over a text's positions."""
    places = [place for place, learned in enumerate(text.learned) if learned and place]
    places = places[:: max(1, math.ceil(len(places) / POSITIONS))]
    ids = torch.tensor([list(text.ids)], device=tuned.device)
    rows, before = torch.zeros(len(places), dtype=torch.long), torch.tensor(places) - 1 - ids.shape[1]
    with tuned.as_side("base"), head_sees(tuned.model, rows, before) as chosen:
        base = chosen(tuned.model(input_ids=ids, use_cache=False).logits).float().log_softmax(-1)
    with head_sees(tuned.model, rows, before) as chosen:
        after = chosen(tuned.model(input_ids=ids, use_cache=False).logits).float().log_softmax(-1)
    other = (base.argmax(-1) != after.argmax(-1)).sum()
    variation = (base.exp() - after.exp()).abs().sum() / 2
    # A token that one side rules out is −∞ there: 0 · ∞ counts as nothing.
    kl = (after.exp() * (after - base)).nan_to_num(0.0, posinf=math.inf).sum()
    return max(0.0, float(kl)), float(variation), float(other), len(places)


# --------------------------------------------------------------------------------------------------------- reasons
def reasons(run: RunFolder, tuned: TunedModel, texts: Sequence[Scored], known: dict[str, Norms]) -> tuple[Text, ...]:
    """Why an adapter may do nothing, what is certain first."""
    found = []
    if not any(text.counted for text in texts):
        found.append(
            say(
                "no token of the rows is learned (data.learn_from, data.max_length)",
                "数据中没有任何需要学习的词元（data.learn_from、data.max_length）",
            )
        )
    if not known and not any(True for _ in _modules(tuned.model)):
        found.append(
            say("it fits no module of this model (method.targets)", "模型中没有与之匹配的模块（method.targets）")
        )
    elif not any(delta for delta, _ in known.values()) and _has_weights(run):
        found.append(say("its weights found no place in this model", "其权重在模型中没有找到对应位置"))
    rate = tuned.recipe.train.learning_rate
    if rate < TINY_RATE:
        found.append(say("the learning rate was {rate:g}", "学习率仅为 {rate:g}", rate=rate))
    if getattr(tuned.recipe.method, "alpha", 1) == 0:
        found.append(say("its alpha is 0, by which it is multiplied", "alpha 为 0，适配器被乘以 0"))
    if not found:
        found.append(
            say(
                "it is as it was before the first step: no step was taken, or the learning rate ({rate:g}) was too low",
                "它与训练开始前相同：一步都未训练，或学习率（{rate:g}）过低",
                rate=rate,
            )
        )
    return tuple(found)


def _has_weights(run: RunFolder) -> bool:
    """Whether the adapter's file holds a change at all: the half that starts at 0 is not 0."""
    with safe_open(run.adapter / _WEIGHTS, framework="pt") as file:
        names = [name for name in file.keys() if "lora_B" in name or "embedding_B" in name]  # noqa: SIM118  no dict
        return any(bool(file.get_tensor(name).any()) for name in names)
