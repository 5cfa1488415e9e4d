"""Words for runs: how one stands, its figures, and what removing it frees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.methods.registry import METHODS
from engine.protocol.text import Text, say
from gui.i18n.language import tr
from gui.i18n.numbers import NONE, count, day, duration, figure, percent, size
from gui.state.proof import points
from gui.widgets.chip import ACCENT, BAD, GOOD, PLAIN, WARN

if TYPE_CHECKING:
    from engine.project.queue import Entry
    from engine.project.runs import Figures, Measured, RunRow, Sizes
    from gui.widgets.facts import Fact

STATUSES: dict[str, tuple[Text, str]] = {
    "": (say("not started", "未开始"), PLAIN),
    "starting": (say("starting", "启动中"), ACCENT),
    "working": (say("training", "训练中"), ACCENT),
    "waiting": (say("paused", "已暂停"), WARN),
    "disk": (say("waits for disk", "等待磁盘空间"), WARN),
    "damaged": (say("record damaged", "记录损坏"), BAD),
    "done": (say("done", "完成"), GOOD),
    "stopped": (say("stopped", "已停止"), PLAIN),
    "paused": (say("paused", "已暂停"), WARN),
    "failed": (say("failed", "失败"), BAD),
}
ENTRIES: dict[str, tuple[Text, str]] = {
    "waiting": (say("waits", "等待中"), PLAIN),
    "starting": STATUSES["starting"],
    "running": STATUSES["working"],
    "held": (say("held back", "未开始"), WARN),
    "missing": (say("missing", "已不存在"), BAD),
}
FILTERS: tuple[tuple[str, Text], ...] = (
    ("", say("any state", "所有状态")),
    ("training", say("training", "训练中")),
    ("done", say("done", "完成")),
    ("stopped", say("stopped", "已停止")),
    ("paused", say("paused", "已暂停")),
    ("failed", say("failed", "失败")),
    ("new", say("not started", "未开始")),
)
ORDERS: tuple[tuple[str, Text], ...] = (
    ("newest", say("newest first", "最新在前")),
    ("oldest", say("oldest first", "最早在前")),
    ("title", say("by title", "按标题")),
    ("loss", say("lowest loss first", "损失最低在前")),
    ("gain", say("most gained first", "提升最多在前")),
    ("size", say("largest first", "占用最大在前")),
)
MEASURES: dict[str, Text] = {
    "exact_match": say("exact answers", "完全一致的回答"),
    "preference_accuracy": say("preferred answers", "偏好正确的回答"),
    "token_accuracy": say("right tokens", "正确的词元"),
}


def status_of(row: RunRow) -> tuple[Text, str]:
    """A run's status in a word, and its tone."""
    if row.figures.status == "waiting" and row.figures.waits_for == "disk":
        return STATUSES["disk"]
    if row.is_damaged and not row.is_under_way:
        return STATUSES["damaged"]
    return STATUSES.get(row.figures.status, STATUSES["failed"])


def entry_status(entry: Entry) -> tuple[Text, str]:
    """How an entry of the queue stands, and its tone."""
    return STATUSES.get(entry.status, STATUSES[""]) if entry.state == "ended" else ENTRIES[entry.state]


def steps_words(figures: Figures) -> str:
    """Steps done, and of how many where not all are."""
    if not figures.total:
        return NONE
    done = count(figures.steps)
    return done if figures.steps == figures.total else f"{done} / {count(figures.total)}"


def gain_words(measured: Measured | None) -> str:
    """What tuning changed, in percentage points."""
    return tr(points(measured.gain)) if measured is not None else NONE


def evaluation_words(measured: Measured) -> Text:
    """The last evaluation: 20% → 58% exact answers, 5 better, 1 worse."""
    return say(
        "{measure} {base} → {tuned}; {better} better, {worse} worse",
        "{measure} {base} → {tuned}；{better} 个更好，{worse} 个更差",
        measure=MEASURES[measured.measure],
        base=percent(measured.base),
        tuned=percent(measured.tuned),
        better=count(measured.better),
        worse=count(measured.worse),
    )


def best_words(figures: Figures) -> Text | str:
    """The lowest held-out loss and where it was; the training loss where none was measured."""
    if figures.best_loss is not None:
        return say(
            "{n} at step {step}", "{n}（第 {step} 步）", n=figure(figures.best_loss, 3), step=count(figures.best_step)
        )
    return NONE


def size_words(sizes: Sizes | None) -> str:
    """What a run takes on disk."""
    return size(sizes.total) if sizes is not None else "…"


def parts_words(sizes: Sizes) -> Text:
    """What of it is what; parts that take nothing are left out."""
    named = {
        say("checkpoints {n}", "检查点 {n}", n=size(sizes.checkpoints)): sizes.checkpoints,
        say("adapter {n}", "适配器 {n}", n=size(sizes.adapter)): sizes.adapter,
        say("exports {n}", "导出 {n}", n=size(sizes.exports)): sizes.exports,
        say("rest {n}", "其余 {n}", n=size(sizes.rest)): sizes.rest,
    }
    shown = [text for text, taken in named.items() if taken]
    return Text(", ".join(text.en for text in shown), "，".join(text.zh for text in shown))


def facts_of(row: RunRow, sizes: Sizes | None) -> list[Fact]:
    """What the details tell of a run."""
    figures = row.figures
    files = ", ".join(row.files) or NONE
    found: list[Fact] = [
        (say("Model", "模型"), row.model or NONE),
        (say("Method", "方法"), METHODS[row.method].label if row.method in METHODS else row.method or NONE),
        (say("Data", "数据"), files),
        (say("Made", "创建于"), day(row.created)),
        (say("Steps", "步数"), steps_words(figures)),
        (say("Time", "用时"), duration(figures.seconds) if figures.seconds else NONE),
        (say("Best held-out loss", "最佳留出损失"), best_words(figures)),
    ]
    if row.is_damaged:
        found.insert(0, (say("Record", "记录"), DAMAGED, "bad"))
    if figures.best_loss is None and figures.loss is not None:
        found[-1] = (say("Training loss", "训练损失"), figure(figures.loss, 3))
    if row.measured is not None:
        found.append((say("Evaluation", "评估"), evaluation_words(row.measured)))
    if row.came_from is not None:
        words = say("{run}, step {step}", "{run}，第 {step} 步", run=row.came_from[0], step=count(row.came_from[1]))
        found.append((say("Goes on from", "继续自"), words))
    if sizes is not None:
        found.append(
            (
                say("On disk", "磁盘占用"),
                say("{all}: {parts}", "{all}：{parts}", all=size(sizes.total), parts=parts_words(sizes)),
            )
        )
    if figures.failure:
        found.append((say("Why it failed", "失败原因"), figures.failure, "bad"))
    return found


def titled(row: RunRow) -> str:
    """The title behind its number, with its tags."""
    return " ".join((row.named, *(f"#{tag}" for tag in row.tags)))


def number_words(shown: int, all_: int, taken: int) -> Text:
    """How many runs there are, and what they take."""
    if not all_:
        return say("Every run of this project", "本项目的全部训练")
    runs = say("1 run", "1 次训练") if all_ == 1 else say("{n} runs", "{n} 次训练", n=count(all_))
    if shown != all_:
        runs = say("{n} of {runs}", "{n} / {runs}", n=count(shown), runs=runs)
    return say("{runs} · {size} on disk", "{runs} · 占用 {size}", runs=runs, size=size(taken)) if taken else runs


def frees(taken: int) -> Text:
    """What removing something frees; the trash keeps it until it is emptied."""
    return say("frees {n} once the trash is emptied", "清空回收站后释放 {n}", n=size(taken))


DAMAGED = say(
    "run.json is unreadable; continuing the run writes it anew",
    "run.json 无法读取，继续训练时会重新写入",
)
SEVERAL = say("Ctrl or Shift: several to compare", "按住 Ctrl 或 Shift 可多选对比")
ONE_AT_A_TIME = say("one run trains at a time", "每次只训练一个")
ABOUT_QUEUE = say(
    "One run trains at a time. The queue goes on while a window is open, or by lorimer queue run.",
    "每次只训练一个。只要有窗口打开（或运行 lorimer queue run），队列就会继续。",
)
