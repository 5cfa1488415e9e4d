"""``lorimer runs``, ``queue`` and ``project``: finding, comparing, going on with and deleting runs; letting them wait
their turn; moving a project."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.jobs import english, failure_of, interruption, resume_with, run_job
from engine.protocol.codec import to_plain
from engine.protocol.errors import EXIT_DONE, UserError
from engine.protocol.text import NOTHING, Text, say
from engine.terminal import Terminal, follow

if TYPE_CHECKING:
    from engine.project.curve import Reading
    from engine.project.kept import Kept
    from engine.project.queue import Entry
    from engine.project.run_folder import RunFolder
    from engine.project.runs import RunRow

MOST_COMPARED = 6
LOOK_SECONDS = 1.0
"""Between two looks at the queue while something else trains."""
LONGEST_TITLE = 60
"""Letters of a title in a list, so that one run is one line."""


# ---------------------------------------------------------------------------------------------------------------- list
def runs(options: argparse.Namespace, terminal: Terminal) -> int:
    """The runs of a project, those that are asked for."""
    from engine.project.project import open_project
    from engine.project.runs import Listing, found, in_order, query_of, sizes

    project = open_project(options.project)
    rows = Listing(project.path).read()
    query = query_of(options.search, status=options.status, tag=options.tag)
    taken = {row.folder.path: sizes(row.folder) for row in rows}
    chosen = [row for row in in_order(rows, options.sort, taken) if found(row, query)]
    value = {"project": str(project.path), "runs": [document(row) for row in chosen], "all": len(rows)}
    lines = [_line(row, longest=LONGEST_TITLE) for row in chosen]
    if not lines:
        lines = [say("No runs.", "没有训练。") if not rows else say("No run is like that.", "没有符合条件的训练。")]
    terminal.result(value, *lines)
    return EXIT_DONE


def document(row: RunRow) -> dict[str, Any]:
    """One run as a document tells it."""
    from engine.project.runs import sizes

    figures, taken = row.figures, sizes(row.folder)
    origin = {"run": row.came_from[0], "step": row.came_from[1]} if row.came_from else None
    return {
        "run": str(row.folder.path),
        "id": row.folder.id,
        "title": row.title,
        "status": figures.status or "new",
        "waits_for": figures.waits_for or None,
        "damaged": row.is_damaged,
        "created": row.created,
        "seconds": figures.seconds,
        "model": row.model,
        "method": row.method,
        "objective": row.objective,
        "files": list(row.files),
        "steps": figures.steps,
        "total_steps": figures.total,
        "loss": figures.loss,
        "best_loss": figures.best_loss,
        "best_step": figures.best_step,
        "evaluation": {**to_plain(row.measured), "gain": row.measured.gain} if row.measured else None,
        "bytes": {**to_plain(taken), "total": taken.total},
        "tags": list(row.tags),
        "note": row.note,
        "continued_from": origin,
        "failure": figures.failure.en or None,
    }


def _line(row: RunRow, *, longest: int = 0) -> Text:
    figures = row.figures
    loss = f"{figures.best_loss:.3f}" if figures.best_loss is not None else "—"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created))
    tags = " ".join(f"#{tag}" for tag in row.tags)
    return say(
        "{id}  {when}  {status}  {steps}/{total} steps  held-out loss {loss}  {title} {tags}",
        "{id}  {when}  {status}  {steps}/{total} 步  留出损失 {loss}  {title} {tags}",
        id=row.folder.number or row.folder.id,
        when=when,
        status=row_status(row),
        steps=figures.steps,
        total=figures.total,
        loss=loss,
        title=shortened(row.title, longest) if longest else row.title,
        tags=tags,
    )


def shortened(title: str, longest: int) -> str:
    """A title of so many letters at most."""
    return title if len(title) <= longest else title[: longest - 1].rstrip() + "…"


def row_status(row: RunRow) -> Text:
    """How a run stands, in a word, and whether its record is damaged."""
    words = status_words(row.figures.status, row.figures.waits_for)
    return say("{words}, record damaged", "{words}，记录损坏", words=words) if row.is_damaged else words


def status_words(status: str, waits_for: str = "") -> Text:
    """A run's status in a word."""
    if status == "waiting" and waits_for == "disk":
        return say("waiting for the disk", "等待磁盘空间")
    return _STATUS.get(status, say("not started", "未开始"))


_STATUS = {
    "done": say("done", "完成"),
    "stopped": say("stopped", "已停止"),
    "paused": say("paused", "已暂停"),
    "waiting": say("paused", "已暂停"),
    "failed": say("failed", "失败"),
    "working": say("training", "训练中"),
    "starting": say("starting", "启动中"),
}


def run_of(options: argparse.Namespace, given: Path) -> RunFolder:
    """The run that is meant: a folder, or in the project of the options its name or number. Raises `UserError`."""
    from engine.project.project import open_run
    from engine.project.rebuilt import is_run
    from engine.project.run_folder import RunFolder

    name = given.name
    if str(given) == name and not is_run(RunFolder(given)):
        runs = options.project.expanduser().resolve() / "runs"
        listed = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
        meant = [
            one
            for one in listed
            if one == name or (name.isdigit() and one.split("-")[0].lstrip("0") == name.lstrip("0"))
        ]
        if meant:
            return open_run(runs / meant[0])
    return open_run(given)


def row_of(run: RunFolder) -> RunRow:
    """What the list tells of a run. Raises `UserError` when its folder is damaged."""
    from engine.project.runs import Listing

    found = next((row for row in Listing(run.path.parent.parent).read() if row.folder == run), None)
    if found is None:
        raise UserError(
            "run.not_in_project",
            say("{path} does not lie in a project's folder runs.", "{path} 不在项目的 runs 文件夹中。", path=run.path),
            say("Put it there.", "请将其放到那里。"),
            where=str(run.path),
        )
    return found


# ---------------------------------------------------------------------------------------------------------------- show
def show(options: argparse.Namespace, terminal: Terminal) -> int:
    """One run: its figures, its checkpoints, and what its curve says."""
    from engine.project.kept import kept

    run = run_of(options, options.run)
    row, saved, reading = row_of(run), kept(run), reading_of_run(run)
    value = {
        **document(row),
        "checkpoints": [{"step": item.step, "bytes": item.bytes} for item in saved],
        "reading": english(to_plain(reading)) if reading is not None else None,
    }
    terminal.result(value, *_show_lines(row, saved, reading))
    return EXIT_DONE


def reading_of_run(run: RunFolder) -> Reading | None:
    """What the run's curve says; None where nothing was trained yet, or its recipe cannot be read."""
    from engine.catalogue import CATALOGUE
    from engine.host.follow import replay
    from engine.project.curve import reading_of
    from engine.recipe.file import load

    state = replay(run)
    try:
        recipe = load(run.recipe_as_run if run.recipe_as_run.is_file() else run.recipe, CATALOGUE)
    except UserError:
        return None
    return reading_of(state, recipe) if state.latest is not None else None


def _show_lines(row: RunRow, saved: Sequence[Kept], reading: Reading | None) -> list[Text]:
    from engine.project.kept import in_a_row
    from engine.project.runs import sizes

    figures, taken = row.figures, sizes(row.folder)
    lines = [_line(row), say("  {model}, {method}, {files}", "  {model}，{method}，{files}", model=row.model,
                             method=row.method, files=", ".join(row.files) or "—")]  # fmt: skip
    if row.came_from:
        lines.append(say("  goes on from step {step} of {run}", "  从 {run} 的第 {step} 步继续",
                         step=row.came_from[1], run=row.came_from[0]))  # fmt: skip
    if figures.failure:
        lines.append(say("  {why}", "  {why}", why=figures.failure))
    for text in _reading_lines(reading):
        lines.append(say("  {text}", "  {text}", text=text))
    if row.measured is not None:
        figures_of = f"{row.measured.measure} {row.measured.base:.1%} → {row.measured.tuned:.1%}"
        lines.append(say("  evaluated: {figures}", "  评估：{figures}", figures=figures_of))
    if saved:
        steps = in_a_row(item.step for item in saved)
        lines.append(say("  checkpoints: {steps}", "  检查点：{steps}", steps=steps))
    if row.is_damaged:
        lines.append(say("  run.json cannot be read; resuming the run writes it anew.",
                         "  run.json 无法读取；继续训练时会重新写入。"))  # fmt: skip
    lines.append(say("  {all} on disk: checkpoints {checkpoints}, adapter {adapter}, exports {exports}, rest {rest}",
                     "  磁盘占用 {all}：检查点 {checkpoints}，适配器 {adapter}，导出 {exports}，其余 {rest}",
                     all=size(taken.total), checkpoints=size(taken.checkpoints), adapter=size(taken.adapter),
                     exports=size(taken.exports), rest=size(taken.rest)))  # fmt: skip
    if row.note:
        lines.append(say("  note: {note}", "  备注：{note}", note=row.note))
    return lines


def _reading_lines(reading: Reading | None) -> list[Text]:
    """The verdict in a sentence, and what to change."""
    if reading is None:
        return []
    words = say("{word}: {sentence}", "{word}：{sentence}", word=reading.word, sentence=reading.sentence)
    return [words, *reading.advice]


def size(count: int) -> str:
    """Bytes as people read them."""
    for power, name in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        unit = 1024**power
        if count >= unit * 1000 / 1024:  # never "1010.0 KiB" beside "1.2 MiB"
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


# ------------------------------------------------------------------------------------------------------------- compare
def compare(options: argparse.Namespace, terminal: Terminal) -> int:
    """Settings in which runs differ, and their final figures."""
    from engine.catalogue import CATALOGUE
    from engine.project.runs import differing
    from engine.recipe.file import load

    chosen = [run_of(options, given) for given in options.run]
    if not 2 <= len(set(chosen)) <= MOST_COMPARED or len(set(chosen)) != len(chosen):
        raise UserError(
            "usage",
            say("Give 2 to {n} runs, each once.", "请给出 2 到 {n} 次不同的训练。", n=MOST_COMPARED),
            say("See: lorimer runs list", "参见：lorimer runs list"),
        )
    rows = [row_of(run) for run in chosen]
    found = differing([load(run.recipe, CATALOGUE) for run in chosen])
    value = {
        "runs": [document(row) for row in rows],
        "differing": [{"setting": item.name, "values": to_plain(item.values)} for item in found],
    }
    lines = [_line(row) for row in rows]
    lines += [_difference(item.name, item.values) for item in found]
    terminal.result(value, *(lines if found else [*lines, say("The recipes are the same.", "配方相同。")]))
    return EXIT_DONE


def _difference(name: str, values: Sequence[Any]) -> Text:
    shown = " | ".join("—" if value is None else str(to_plain(value)) for value in values)
    return say("  {name}: {values}", "  {name}：{values}", name=name, values=shown)


# ------------------------------------------------------------------------------------------------------------- remarks
def tag(options: argparse.Namespace, terminal: Terminal) -> int:
    """Give a run tags, or take them away."""
    from dataclasses import replace

    from engine.project.remarks import clean_tags, read_remarks, write_remarks

    run = run_of(options, options.run)
    remarks = read_remarks(run)
    gone = {name.casefold() for name in clean_tags(options.remove)}
    tags = clean_tags((*remarks.tags, *options.tags))
    kept = write_remarks(run, replace(remarks, tags=tuple(one for one in tags if one.casefold() not in gone)))
    words = say("Tags of {run}: {tags}", "{run} 的标签：{tags}", run=run.id, tags=", ".join(kept.tags) or "—")
    terminal.result({"run": str(run.path), "tags": list(kept.tags)}, words)
    return EXIT_DONE


def note(options: argparse.Namespace, terminal: Terminal) -> int:
    """Put a note to a run, or show it."""
    from dataclasses import replace

    from engine.project.remarks import read_remarks, write_remarks

    run = run_of(options, options.run)
    remarks = read_remarks(run)
    if options.text is not None:
        remarks = write_remarks(run, replace(remarks, note=options.text))
    terminal.result({"run": str(run.path), "note": remarks.note}, remarks.note or say("No note.", "没有备注。"))
    return EXIT_DONE


def rename(options: argparse.Namespace, terminal: Terminal) -> int:
    """Call a run something else; its folder keeps its name."""
    from dataclasses import replace

    from engine.project.remarks import read_remarks, write_remarks

    run = run_of(options, options.run)
    write_remarks(run, replace(read_remarks(run), title=options.title))
    title = row_of(run).title
    words = say("{run} is called {title}.", "{run} 现名为 {title}。", run=run.id, title=title)
    terminal.result({"run": str(run.path), "title": title}, words)
    return EXIT_DONE


# -------------------------------------------------------------------------------------------------------------- delete
def delete(options: argparse.Namespace, terminal: Terminal) -> int:
    """Move a run, or only the checkpoints that it can do without, to the system's trash."""
    from engine.host.trash import move_to_trash
    from engine.project.kept import spare
    from engine.project.project import is_busy
    from engine.project.runs import sizes

    run = run_of(options, options.run)
    chosen = spare(run) if options.checkpoints else []
    count = sum(item.bytes for item in chosen) if options.checkpoints else sizes(run).total
    steps = [item.step for item in chosen]
    value = {"run": str(run.path), "checkpoints": steps if options.checkpoints else None, "bytes": count}
    if not options.yes:
        terminal.result({**value, "deleted": False}, _would_free(run, steps if options.checkpoints else None, count))
        return EXIT_DONE
    if is_busy(run):
        raise UserError(
            "run.busy",
            say("Something still works on this run, so it stays.", "仍有任务在处理这次训练，因此未移除。"),
            say("Stop it first, or wait until it has ended.", "请先停止，或等待其结束。"),
            where=str(run.path),
        )
    for path in [item.path for item in chosen] if options.checkpoints else [run.path]:
        move_to_trash(path)
    words = say(
        "In the trash: {n}. Empty it to have the room.", "已移到回收站：{n}。清空回收站后空间才会释放。", n=size(count)
    )
    terminal.result({**value, "deleted": True}, words)
    return EXIT_DONE


def _would_free(run: RunFolder, steps: list[int] | None, count: int) -> Text:
    from engine.project.kept import in_a_row

    again = say("Give --yes to do it.", "加上 --yes 即执行。")
    if steps is None:
        return say("{run} takes {n}. {again}", "{run} 占用 {n}。{again}", run=run.id, n=size(count), again=again)
    if not steps:
        return say(
            "{run} keeps no checkpoint but the newest and the best.", "{run} 只保留了最新和最佳的检查点。", run=run.id
        )
    return say(
        "Checkpoints {steps} of {run} take {n}. {again}",
        "{run} 的检查点 {steps} 占用 {n}。{again}",
        steps=in_a_row(steps),
        run=run.id,
        n=size(count),
        again=again,
    )


# ------------------------------------------------------------------------------------------------------------ continue
def go_on(options: argparse.Namespace, terminal: Terminal) -> int:
    """Train on from any checkpoint of a run, as a new run."""
    from engine.project.fork import fork

    made = fork(run_of(options, options.run), options.step, title=options.title)
    terminal.show(say("New run: {run}", "新的训练：{run}", run=made.path))
    return _followed(made, "resume", terminal)


def _followed(run: RunFolder, kind: str, terminal: Terminal) -> int:
    outcome = run_job(run, kind, {"run": str(run.path)}, terminal)
    value = {"run": str(run.path), "status": outcome.status, "steps": outcome.value.get("steps", outcome.step)}
    failure = failure_of(outcome, resume_with(run.path))
    if failure is not None:
        return terminal.failure(failure, value)
    terminal.result(value, say("{status}: {run}", "{status}：{run}", status=status_words(outcome.status), run=run.path))
    return outcome.exit_code


# --------------------------------------------------------------------------------------------------------------- queue
def queue(options: argparse.Namespace, terminal: Terminal) -> int:
    """What waits for its turn."""
    from engine.project.queue import document as plain
    from engine.project.queue import entries

    found = entries()
    lines = [_queue_line(number, item) for number, item in enumerate(found, 1)]
    terminal.result({"queue": plain(found)}, *(lines or [say("Nothing waits.", "队列为空。")]))
    return EXIT_DONE


def _queue_line(number: int, item: Entry) -> Text:
    only = _ONLY if item.after == "done" and not item.is_over else NOTHING
    values = {"n": number, "title": shortened(item.named, LONGEST_TITLE), "state": state_words(item), "only": only}
    words = say("{n}. {title}: {state}{only}", "{n}. {title}：{state}{only}", **values)
    return say("{words}. {why}", "{words}。{why}", words=words, why=item.reason) if item.reason else words


def state_words(item: Entry) -> Text:
    """How an entry stands, in a word."""
    return status_words(item.status) if item.state == "ended" else _STATES.get(item.state, say("waits", "等待中"))


_ONLY = say(", only if the one before is done", "，仅当前一个完成时")
_STATES = {
    "starting": say("starting", "启动中"),
    "running": say("training", "训练中"),
    "held": say("held back", "未开始"),
    "missing": say("missing", "已不存在"),
}


def queue_add(options: argparse.Namespace, terminal: Terminal) -> int:
    """Let a run wait for its turn."""
    from engine.project.queue import ANY, ONLY_IF_DONE, add
    from engine.project.queue import document as plain

    entry = add(run_of(options, options.run), after=ONLY_IF_DONE if options.only_if_done else ANY)
    hint = say("An open window starts it, or: lorimer queue run", "打开的窗口会启动它，也可运行：lorimer queue run")
    words = say("{title} waits for its turn. {hint}", "{title} 已排队。{hint}", title=entry.named, hint=hint)
    terminal.result(plain([entry])[0], words)
    return EXIT_DONE


def queue_remove(options: argparse.Namespace, terminal: Terminal) -> int:
    """Take a run out of the queue; the run stays."""
    from engine.project.queue import remove

    entry = _entry(options.entry)
    remove(entry.id)
    words = say("{title} waits no more.", "{title} 已移出队列。", title=entry.named)
    terminal.result({"removed": entry.run}, words)
    return EXIT_DONE


def queue_move(options: argparse.Namespace, terminal: Terminal) -> int:
    """Move a run up or down."""
    from engine.project.queue import move

    move(_entry(options.entry).id, -1 if options.way == "up" else 1)
    return queue(options, terminal)


def _entry(given: str) -> Entry:
    """By its place from 1, its id, or its run's folder or name. Raises `UserError`."""
    from engine.project.queue import entries

    found = entries()
    if given.isdigit() and 1 <= int(given) <= len(found):
        return found[int(given) - 1]
    path = str(Path(given).expanduser().resolve())
    for item in found:
        if given in (item.id, Path(item.run).name) or path == item.run:
            return item
    raise UserError(
        "queue.unknown",
        say("{given} is not in the queue.", "队列中没有 {given}。", given=given),
        say("See: lorimer queue", "参见：lorimer queue"),
    )


def queue_run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Start what waits, one after the other, until nothing does."""
    from engine.project.claim import BUSY
    from engine.project.queue import advance

    ran: list[dict[str, Any]] = []
    told = False
    while True:
        try:
            looked = advance()
        except UserError as error:
            if error.problem.code != BUSY:
                raise
            time.sleep(LOOK_SECONDS)  # a window looks after the queue just now
            continue
        if looked.started is not None:
            item = looked.started
            terminal.show(say("Training: {title}", "开始训练：{title}", title=item.named))
            # The record of before is passed over.
            outcome = follow(item.folder, terminal, offset=max(0, item.told))
            ran.append({"run": item.run, "status": outcome.status})
            if outcome.interrupted:
                return terminal.failure(interruption(resume_with(item.folder.path)), {"ran": ran})
            continue
        if not any(item.state in ("waiting", "starting", "running") for item in looked.entries):
            break
        if not told:
            terminal.show(say("Something else trains; waiting for its end.", "有其他训练正在进行，等待其结束。"))
            told = True
        time.sleep(LOOK_SECONDS)
    runs = say("1 run has", "1 次训练") if len(ran) == 1 else say("{n} runs have", "{n} 次训练", n=len(ran))
    words = say("{runs} ended; nothing waits any more.", "{runs}已结束，队列已空。", runs=runs)
    terminal.result({"ran": ran}, words)
    return EXIT_DONE


# ------------------------------------------------------------------------------------------------------------ projects
def projects(options: argparse.Namespace, terminal: Terminal) -> int:
    """Projects opened lately, newest first."""
    from engine.project.project import Project
    from engine.project.recent import recent

    found = [{"project": str(path), "name": Project(path).name} for path in recent()]
    lines = [say("{name}: {path}", "{name}：{path}", name=item["name"], path=item["project"]) for item in found]
    terminal.result({"projects": found}, *(lines or [say("No project was opened yet.", "还没有打开过项目。")]))
    return EXIT_DONE


def project_check(options: argparse.Namespace, terminal: Terminal) -> int:
    """What a project names that is not on this machine; nothing of it is run."""
    from engine.project.moving import absent
    from engine.project.project import open_project

    project = open_project(options.folder)
    found = absent(project.path)
    lines = [
        say("not here: {path} ({where})", "不在本机：{path}（{where}）", path=one.path, where=one.where)
        for one in found
    ]
    value = {"project": str(project.path), "runs": len(project.runs()), "absent": to_plain(found)}
    terminal.result(value, *(lines or [say("Everything that it names is here.", "所引用的内容都在本机。")]))
    return EXIT_DONE


def project_move(options: argparse.Namespace, terminal: Terminal) -> int:
    """Move a project; Ctrl+C during a copy to another disk leaves it where it was."""
    from tqdm import tqdm

    from engine.project.moving import move_project
    from engine.project.project import open_project

    project = open_project(options.folder)
    target = options.target.expanduser().resolve()
    with tqdm(total=1, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr, disable=None) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        is_gone = move_project(project.path, target, progress=tell)
    if not is_gone:
        terminal.show(say("The old folder could not be removed wholly.", "原文件夹未能完全删除。"))
    words = say("The project is in {path} now.", "项目现位于 {path}。", path=target)
    terminal.result({"project": str(target), "was": str(project.path)}, words)
    return EXIT_DONE
