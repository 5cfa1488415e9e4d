"""The Plan page's words for figures: the peak, the verdict, the machine, and what a setting would change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.machine.memory import PARTS
from engine.protocol.text import NOTHING, Text, say
from engine.recipe.fields import Setting, settings
from gui.i18n.language import tr
from gui.i18n.numbers import count, duration, gib, percent, short, size
from gui.widgets.bars import Part
from gui.widgets.chip import BAD, GOOD, WARN
from gui.widgets.form import Effect
from gui.widgets.stop_slider import Stop

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.machine.detect import Machine
    from engine.machine.forecast import Forecast
    from engine.recipe.recipe import Recipe
    from gui.state.plan import Outcome

BAR_PARTS: tuple[tuple[Text, tuple[str, ...]], ...] = (
    (PARTS["weights"], ("weights",)),
    (PARTS["activations"], ("activations",)),
    (PARTS["logits"], ("logits",)),
    (say("Adapter and optimizer", "适配器与优化器"), ("adapter", "gradients", "optimizer")),
    (say("Reserve", "预留"), ("reserve",)),
)
SAME_GIB = 0.005
"""A difference below this is none: it would be shown as 5 MiB."""
SAME_SECONDS = 0.5


def bar_parts(forecast: Forecast) -> list[Part]:
    """The parts of the memory bar."""
    parts = forecast.memory.parts
    shown = [(tr(name), sum(parts[key] for key in keys)) for name, keys in BAR_PARTS]
    return [Part(name, value, gib(value)) for name, value in shown]


def peak_words(forecast: Forecast) -> Text:
    """The prediction beside what a run may use, and what it leaves alone."""
    room = forecast.room
    return say(
        "predicted peak {total} of {usable} · {kept} stay free",
        "预计峰值 {total} / {usable} · 另留 {kept}",
        total=gib(forecast.memory.total),
        usable=gib(room.usable_gib),
        kept=gib(room.free_gib - room.usable_gib),
    )


def kept_words(forecast: Forecast) -> Text:
    """Why a run does not use all that is free."""
    room = forecast.room
    return say(
        "{free} are free now. A run plans with {share} of them; the rest is for other programs and what no forecast "
        "sees.",
        "目前可用 {free}。训练只按其中的 {share} 规划，其余留给其他程序及无法预测的开销。",
        free=gib(room.free_gib),
        share=percent(room.usable_gib / room.free_gib if room.free_gib else 0.0),
    )


def disk_words(need: int, free: int) -> Text:
    """What the run keeps on the disk, and whether there is room for it."""
    if need <= free:
        return say("{need} of {free} free", "{need}（可用 {free}）", need=size(need), free=size(free))
    return say("{need}, only {free} free", "{need}，仅剩 {free}", need=size(need), free=size(free))


def verdict(forecast: Forecast) -> tuple[Text, str]:
    """The judgement in words, and its tone."""
    spare = gib(abs(forecast.spare_gib))
    if not forecast.fits:
        return say("{n} too much", "超出 {n}", n=spare), BAD
    if forecast.tight:
        return say("fits closely, {n} to spare", "勉强放得下，余 {n}", n=spare), WARN
    return say("fits with {n} to spare", "放得下，余 {n}", n=spare), GOOD


def machine_words(machine: Machine) -> str:
    """The machine in one line: card, memory, driver, CUDA, or the processor."""
    gpu = machine.gpu
    ram = tr(say("{n} RAM", "内存 {n}", n=gib(machine.ram_total_gib)))
    if gpu is None:
        cores = tr(say("{n} cores", "{n} 核", n=machine.cores))
        no_gpu = tr(say("no NVIDIA GPU: trains on the CPU", "没有 NVIDIA GPU：用 CPU 训练"))
        return " · ".join(part for part in (machine.cpu, cores, ram, no_gpu) if part)
    parts = [gpu.name, gib(gpu.total_gib)]
    if gpu.driver:
        parts.append(tr(say("driver {v}", "驱动 {v}", v=gpu.driver)))
    if gpu.cuda:
        parts.append(f"CUDA {gpu.cuda}")
    if gpu.bf16:
        parts.append("bf16")
    return " · ".join([*parts, ram])


# ----------------------------------------------------------------------------------------------- what a setting changes
def effects(recipe: Recipe, outcomes: Mapping[str, tuple[Outcome, ...]]) -> dict[str, Effect]:
    """Each setting's other values and what they would bring, for the form."""
    found = {}
    for name, stops in outcomes.items():
        part, field = name.split(".")
        if not hasattr(getattr(recipe, part), field):
            continue  # of the method of before: the outcomes of this one follow
        now, about = getattr(getattr(recipe, part), field), settings(type(getattr(recipe, part)))[field]
        found[name] = Effect(tuple(_stop(about, stop) for stop in stops), _next_words(about, now, stops))
    return found


def _stop(about: Setting, outcome: Outcome) -> Stop:
    needs = outcome.forecast
    words = say(
        "{value}: {memory}, {time}, {fits}",
        "{value}：{memory}，{time}，{fits}",
        value=value_words(about, outcome.value),
        memory=gib(needs.memory.total),
        time=duration(needs.seconds),
        fits=say("does not fit", "放不下") if not needs.fits else say("fits", "放得下"),
    )
    return Stop(outcome.value, tr(words), BAD if not needs.fits else WARN if needs.tight else "")


def _next_words(about: Setting, now: Any, stops: tuple[Outcome, ...]) -> str:
    """What the next value up would bring, the one below at the end of the scale."""
    at = next((i for i, stop in enumerate(stops) if stop.value == now), None)
    if at is None or len(stops) < 2:
        return ""
    other = stops[at + 1] if at + 1 < len(stops) else stops[at - 1]
    words = say(
        "→ {value}: {change}",
        "→ {value}：{change}",
        value=value_words(about, other.value),
        change=change_words(stops[at].forecast, other.forecast),
    )
    return tr(words)


def change_words(now: Forecast, then: Forecast) -> Text:
    """How memory and time differ: "+0.4 GiB, −2 min"."""
    memory, seconds = then.memory.total - now.memory.total, then.seconds - now.seconds
    told = [sign(memory) + gib(abs(memory))] if abs(memory) >= SAME_GIB else []
    told += [sign(seconds) + roughly(abs(seconds))] if abs(seconds) >= SAME_SECONDS else []
    if not told:
        return say("costs nothing", "无变化")
    return Text(", ".join(told), "，".join(told))


def roughly(seconds: float) -> str:
    """A span of time in one unit: "42 s", "24 min", "4.1 h", "2.3 d"."""
    if seconds < 3600:
        return duration(seconds)
    if seconds < 48 * 3600:
        return tr(say("{n:.1f} h", "{n:.1f} 小时", n=seconds / 3600))
    return tr(say("{n:.1f} d", "{n:.1f} 天", n=seconds / 86_400))


def sign(value: float) -> str:
    """Plus, or a true minus."""
    return "+" if value >= 0 else "−"


def value_words(about: Setting, value: Any) -> str:
    """A setting's value as the form shows it."""
    words = dict(about.choices).get(value) if isinstance(value, str) else None
    if words is not None:
        return tr(words)
    if isinstance(value, bool):
        return tr(say("on", "开启") if value else say("off", "关闭"))
    if isinstance(value, float):
        return short(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "—"
    return count(value) if isinstance(value, int) else str(value)


def label_of(recipe: Recipe, name: str) -> tuple[Text, Setting | None]:
    """A setting's label by its dotted name, and its metadata; the name itself where it has none."""
    part, field = name.split(".")
    about = settings(type(getattr(recipe, part))).get(field)
    if about is not None:
        return about.label, about
    return {"method.name": say("Method", "方法"), "objective.name": say("What is learned", "学习目标")}.get(
        name, NOTHING
    ), None
