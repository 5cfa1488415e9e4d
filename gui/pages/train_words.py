"""Words of the Train page: what a run's events and figures say."""

from __future__ import annotations

from bisect import bisect_right

from engine.protocol.events import CheckpointSaved, HeldOut, Note, StepDone
from engine.protocol.state import WAITING, JobState
from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import count, duration, figure, gib, parameters, percent, size
from gui.widgets.chip import PLAIN, WARN

Happened = Note | HeldOut | CheckpointSaved

RECOVERY, WARNING = say("recovered {n}", "恢复 {n}"), say("warning {n}", "警告 {n}")
MARKS: dict[str, Text] = {
    "asked": say("saved on request {n}", "按要求保存 {n}"),
    "safety": say("safety save {n}", "安全保存 {n}"),
    "best": say("best so far {n}", "当时最佳 {n}"),
}
"""Why a checkpoint was written → its words on the axis; "{n}" is the step."""
CHECKPOINT = say("checkpoint {n}", "检查点 {n}")
BEST = say("best {n}", "最佳 {n}")
EARLY = say("ended early {n}", "提前结束 {n}")
SAVED: dict[str, Text] = {
    "asked": say("Checkpoint {n} saved, as you asked.", "已按要求保存检查点 {n}。"),
    "safety": say("Checkpoint {n} saved for safety.", "已保存检查点 {n}（安全保存）。"),
    "best": say("Checkpoint {n} saved: the best so far.", "已保存检查点 {n}：目前最佳。"),
    "last": say("Checkpoint {n} saved: the last.", "已保存检查点 {n}：最后一个。"),
}


def last_of(state: JobState) -> StepDone:
    """The last step of a run that is shown: the page's body is, from the first one on."""
    assert state.latest is not None
    return state.latest


def step_at(state: JobState, moment: float) -> int:
    """The last step that was done at this epoch second, 0 before the first."""
    before = bisect_right(state.steps, moment, key=lambda item: item.time)
    return state.steps[before - 1].step if before else 0


def busy_words(title: str) -> Text:
    """Why a run cannot go on now."""
    return say(
        "“{title}” is training. This run can be continued when that one has ended.",
        "“{title}”正在训练。等它结束后即可继续本次训练。",
        title=title,
    )


def time_left(state: JobState, created: float = 0.0) -> Text:
    """How long it still takes, or how long was worked on it since the run was ``created``."""
    if state.is_over:
        return say("took {time}", "用时 {time}", time=duration(state.worked(created)))
    if state.status == WAITING:
        return say("paused", "已暂停") if not waits_for_disk(state) else say("waiting for the disk", "等待磁盘")
    left = last_of(state).seconds_left
    if left is None:
        return say("measuring the speed…", "正在测速……")
    return say("{time} left", "剩余 {time}", time=duration(left))


def waits_for_disk(state: JobState) -> bool:
    """Whether it stands still because the disk does not take what must be kept."""
    return state.waiting is not None and state.waiting.reason == "disk"


def held_out_words(state: JobState, *, short: bool = False) -> str:
    """The newest held-out loss and, where there is room, the step of the best, which is marked on the axis, too."""
    if state.best is None:
        return ""
    if short:
        return "● " + tr(say("held out {now}", "留出 {now}", now=figure(state.held_out[-1].loss)))
    words = say(
        "held out {now}, best at {step}",
        "留出 {now}，第 {step} 步最佳",
        now=figure(state.held_out[-1].loss),
        step=count(state.best.step),
    )
    return "● " + tr(words)


def on_gpu(state: JobState) -> bool:
    """Whether the run is on a GPU."""
    return state.plan is not None and state.plan.device not in ("cpu", "mps")


def memory_name(state: JobState) -> Text:
    """Which memory the curve shows."""
    return say("GPU memory", "显存") if on_gpu(state) else say("Memory of the run", "训练进程内存")


def memory_words(state: JobState, peak: float | None) -> Text:
    """The highest memory so far, and how much there is."""
    total = state.gauge.memory_total_gib if state.gauge is not None else None
    if total is None:
        return say("peak {n}", "峰值 {n}", n=gib(peak))
    return say("peak {n} of {all}", "峰值 {n}，共 {all}", n=gib(peak), all=gib(total))


def speed_words(state: JobState) -> Text:
    """Tokens per second."""
    speed = last_of(state).tokens_per_second
    return say("{n} tokens/s", "{n} 词元/秒", n=count(speed)) if speed is not None else say("Speed", "速度")


def machine_words(state: JobState) -> str:
    """What the machine says of itself: use, temperature, power."""
    words = []
    gauge = state.gauge
    if gauge is not None and gauge.busy is not None:
        words.append(tr(say("{n} busy", "占用 {n}", n=percent(gauge.busy))))
    if gauge is not None and gauge.temperature_c is not None:
        words.append(f"{gauge.temperature_c:.0f} °C")
    if gauge is not None and gauge.power_w is not None:
        words.append(f"{gauge.power_w:.0f} W")
    return " · ".join(words)


def started_words(state: JobState) -> Text | None:
    """What the run is made of, None while that is not known."""
    plan = state.plan
    if plan is None:
        return None
    return say(
        "Started: {n} rows train, {h} are held out; {few} of {all} weights learn ({share}), on {device}.",
        "开始：{n} 行用于训练，{h} 行留出；{all} 个权重中训练 {few} 个（{share}），设备 {device}。",
        n=count(plan.rows),
        h=count(plan.held_out),
        few=parameters(plan.trained_parameters),
        all=parameters(plan.all_parameters),
        share=percent(plan.trained_parameters / max(1, plan.all_parameters), 2),
        device=plan.device if on_gpu(state) else plan.device.upper(),
    )


def happened_words(event: Happened) -> Text:
    """What happened, as a sentence."""
    if isinstance(event, Note):
        return event.text
    return held_words(event) if isinstance(event, HeldOut) else saved_words(event)


def held_words(event: HeldOut) -> Text:
    """An evaluation as a sentence."""
    if event.best:
        return say(
            "Held-out loss {loss} at step {n}: the best so far.",
            "第 {n} 步留出损失 {loss}：目前最佳。",
            loss=figure(event.loss, 3),
            n=count(event.step),
        )
    return say(
        "Held-out loss {loss} at step {n}.",
        "第 {n} 步留出损失 {loss}。",
        loss=figure(event.loss, 3),
        n=count(event.step),
    )


def saved_words(event: CheckpointSaved) -> Text:
    """A checkpoint as a sentence, with its size and how long it took where that is known."""
    words = SAVED.get(event.reason, say("Checkpoint {n} saved.", "已保存检查点 {n}。"))
    text = Text(words.en.format(n=count(event.step)), words.zh.format(n=count(event.step)))
    if not event.bytes:
        return text
    return say(
        "{text} {size}, {time}", "{text}{size}，{time}", text=text, size=size(event.bytes), time=took(event.seconds)
    )


def took(seconds: float) -> Text:
    """How long a short thing took."""
    if seconds >= 10:
        return Text(duration(seconds), duration(seconds))
    return say("{n:.1f} s", "{n:.1f} 秒", n=seconds)


def tone_of(event: Happened) -> str:
    """How its time is coloured: warnings and recoveries stand out."""
    return WARN if isinstance(event, Note) and event.level != "info" else PLAIN
