"""The commands of ``lorimer``: each reads its options, calls what the pages call, and tells the result."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.export.parity import Parity, figures, refusal, sentence
from engine.jobs import AGAIN, english, failure_of, interruption, resume_with, run_job
from engine.options import language_of, parser
from engine.project.hub_access import apply_mirror
from engine.protocol.errors import EXIT_MACHINE, Failure, UserError
from engine.protocol.text import Text, as_text, say
from engine.terminal import SHOWN, Terminal, more

if TYPE_CHECKING:
    from engine.recipe.recipe import DataSettings, Recipe
    from engine.terminal import Outcome

Command = Callable[[argparse.Namespace, Terminal], int]


def run(given: list[str]) -> int:
    """Run the command that ``given`` names; gives the exit code. Raises `KeyboardInterrupt` alone."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    apply_mirror()
    terminal = _terminal(given)
    try:
        options = parser(terminal.language).parse_args(given)
        return COMMANDS[options.command](options, terminal)
    except UserError as error:
        return terminal.failure(Failure.of(error))
    except BrokenPipeError:
        # Who read has seen enough (``| head``). What is still held back must not be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_MACHINE
    except Exception as error:  # noqa: BLE001  nobody is shown a traceback; it is in the log
        return terminal.failure(_unexpected(error))


def interrupted(given: list[str]) -> int:
    """Tell that Ctrl+C ended the command where no job ran; gives the exit code."""
    return _terminal(given).failure(interruption())


def _terminal(given: list[str]) -> Terminal:
    language = language_of(given, os.environ.get("LORIMER_LANG") or "en")
    return Terminal(as_json="--json" in given, language=language)


def _unexpected(error: Exception) -> Failure:
    from engine.host.platform import config_folder
    from engine.project.atomic import write_text

    path = config_folder() / "logs" / "command-line.log"
    hint = say("Details are in {path}.", "详情见 {path}。", path=path)
    details = "".join(traceback.format_exception(error))
    try:
        write_text(path, details)
    except UserError:
        hint = say("The log could not be written either.", "日志也无法写入。")
    what = ": ".join(filter(None, (type(error).__name__, str(error))))
    message = say("Something unexpected went wrong: {what}", "发生意外错误：{what}", what=what)
    return Failure("internal", message, hint, details=details, exit_code=EXIT_MACHINE)


def _window(options: argparse.Namespace, terminal: Terminal) -> int:
    """The window, in a process that has none of the engine's heavy rooms."""
    import subprocess

    from engine.host.platform import has_display

    if not has_display():
        raise UserError(
            "window.no_display",
            say("There is no display to open a window on.", "没有可用的显示器，无法打开窗口。"),
            say("Try: lorimer demo", "可以试试：lorimer demo"),
            exit_code=EXIT_MACHINE,
        )
    return subprocess.call([sys.executable, "-m", "gui"])


def _doctor(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.machine.doctor import doctor, lines

    report = doctor()
    terminal.result(_document(report), *lines(report))
    return 0


def _document(report: dict[str, Any]) -> dict[str, Any]:
    """What goes out as JSON: the report without its ``texts``, which say the same in both languages."""
    plain: dict[str, Any] = english({name: value for name, value in report.items() if name != "texts"})
    return plain


def _reading(options: argparse.Namespace) -> DataSettings:
    """How the options say that files are read."""
    from engine.recipe.recipe import DataSettings

    return DataSettings(shape=options.shape, mapping=dict(options.map), encoding=options.encoding)


def _data_check(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.data.check import CheckFailed, check
    from engine.model.inspect import inspect
    from engine.model.locate import locate

    settings = _reading(options).model_copy(update={"max_length": options.max_length})
    failure, folder = None, None
    try:
        folder = inspect(locate(options.model)).path if options.model else None
    except UserError as error:
        failure = Failure.of(error)  # the report is whole all the same, without what a model would tell
    try:
        report = check(options.file.expanduser(), model_folder=folder, settings=settings, quality=options.quality)
    except CheckFailed as error:
        return terminal.failure(Failure.of(error), _document(error.report))
    if failure is not None:
        return terminal.failure(failure, _document(report))
    terminal.result(_document(report), *_check_lines(report))
    return 0


def _scored(recipe: Recipe, terminal: Terminal, out: Path | None = None) -> Outcome:
    """The job that scores a recipe's rows, in a folder of Lorimer's own: there may be no project yet. What failed is
    left there with its log."""
    import shutil

    from engine.host.platform import cache_folder
    from engine.project.project import new_job_in
    from engine.recipe.file import to_plain

    job = new_job_in(cache_folder() / "jobs", "score")
    given = {"recipe": to_plain(recipe), "out": str(out) if out is not None else ""}
    outcome = run_job(job, "score", given, terminal)
    if outcome.failure is None:
        shutil.rmtree(job.path, ignore_errors=True)
    return outcome


def _data_score(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.catalogue import CATALOGUE
    from engine.precheck import check_recipe
    from engine.recipe.file import load

    path = options.recipe.expanduser()
    recipe = load(path, CATALOGUE)
    if options.run is not None:
        scored_by = str(options.run.expanduser().resolve())
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"scored_by": scored_by})})
    check_recipe(recipe, where=str(path))
    out = options.out.expanduser().resolve() if options.out is not None else None
    outcome = _scored(recipe, terminal, out)
    failure = failure_of(outcome, AGAIN)
    if failure is not None:
        return terminal.failure(failure, outcome.value)
    terminal.result(outcome.value, *(_score_lines(outcome.value) if outcome.value else []))
    return outcome.exit_code


def _score_lines(value: dict[str, Any]) -> list[Text]:
    lines = [
        say(
            "{rows} rows scored by {model}: loss {loss:.3f}, uncertainty {uncertainty:.3f} (medians, nats a token)",
            "{model} 为 {rows} 行评分：损失 {loss:.3f}，不确定性 {uncertainty:.3f}（中位数，奈特/词元）",
            rows=value["rows"],
            model=value["scored_by"] or value["model"],
            **{name: value[name]["median"] or 0.0 for name in ("loss", "uncertainty")},
        )
    ]
    titles = {
        "easiest": say("easiest", "最容易"),
        "hardest": say("hardest", "最难"),
        "uncertain": say("most uncertain", "最不确定"),
    }
    for name, title in titles.items():
        lines.append(say("{title}:", "{title}：", title=title))
        for row in value[name]:
            figures = "  ".join(f"{row[key] or 0.0:6.3f}" for key in ("loss", "uncertainty"))
            line = f"  {figures}  {row['where']}  {row['text'][:60]!r}"
            lines.append(say("{line}", "{line}", line=line))
    if value["out"]:
        lines.append(say("Written: {path}", "已写入：{path}", path=value["out"]))
    return lines


def _data_prepare(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.catalogue import CATALOGUE
    from engine.data.write_out import write_prepared
    from engine.model.inspect import inspect
    from engine.model.locate import locate
    from engine.objectives.registry import OBJECTIVES
    from engine.precheck import check_recipe
    from engine.recipe.file import load

    path = options.recipe.expanduser()
    recipe = load(path, CATALOGUE)
    check_recipe(recipe, where=str(path))
    folder = inspect(locate(recipe.model.source, revision=recipe.model.revision)).path
    preference = OBJECTIVES[recipe.objective.name].preference
    out = options.out.expanduser().resolve()
    scores = None
    if recipe.data.asks_model:
        outcome = _scored(recipe, terminal)
        failure = failure_of(outcome, AGAIN)
        if failure is not None:
            return terminal.failure(failure)
        if not outcome.value:
            return outcome.exit_code
        scores = Path(outcome.value["scores"])
    document = write_prepared(recipe.data, out, preference=preference, model_folder=folder, scores=scores)
    words = say(
        "{train} rows to train on, {held_out} held out, {aside} set aside: {out}",
        "训练 {train} 行，留出 {held_out} 行，搁置 {aside} 行：{out}",
        train=document["train"],
        held_out=document["held_out"],
        aside=sum(document["set_aside"].values()),
        out=out,
    )
    terminal.result(document, words)
    return 0


def _check_lines(report: dict[str, Any]) -> list[Text]:
    from engine.data.reasons import reason_label

    lines = [
        say(
            "{format}, {encoding}, shape {shape}: {trainable} of {rows} rows train",
            "{format}，{encoding}，格式 {shape}：{rows} 行中可训练 {trainable} 行",
            **{name: report[name] for name in ("format", "encoding", "shape", "trainable", "rows")},
        )
    ]
    texts = report["texts"]
    if report["template"]:
        name, reason = report["template"]["name"], as_text(texts["template"])
        lines.append(say("template {name}: {reason}", "模板 {name}：{reason}", name=name, reason=reason))
    for reason, count in report["set_aside"].items():
        lines.append(say("  set aside, {why}: {n}", "  搁置，{why}：{n}", why=reason_label(reason), n=count))
    for name, about in (report["quality"] or {"checks": {}})["checks"].items():
        if about["rows"]:
            lines.append(say("  {what}: {n}", "  {what}：{n}", what=reason_label(name), n=about["rows"]))
    problems = list(zip(report["problems"], texts["problems"], strict=True))
    for problem, text in problems[:SHOWN]:
        told = say("{message} {hint}", "{message}{hint}", **{name: as_text(value) for name, value in text.items()})
        where = f"{problem['where']}: " if problem["where"] else ""
        lines.append(say("  {where}{told}", "  {where}{told}", where=where, told=told))
    if len(problems) > SHOWN:
        lines.append(say("  {text}", "  {text}", text=more(len(problems) - SHOWN)))
    return lines


def _plan(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.catalogue import CATALOGUE
    from engine.machine.advise import Wish
    from engine.planning import plan_for, plan_lines
    from engine.recipe.file import from_plain, save

    files, memory = tuple(options.data), options.gpu_memory
    wish = Wish(goal=options.wish, task=options.task)
    document = plan_for(options.model, files, wish=wish, gpu_memory_gib=memory, reading=_reading(options))
    if options.out is not None:
        save(from_plain(document["recipe"], CATALOGUE), options.out.expanduser().resolve())
    terminal.result(_document(document), *plan_lines(document))
    return 0


def _rehearse(options: argparse.Namespace, terminal: Terminal) -> int:
    """In a folder of Lorimer's own: there may be no project yet. What failed is left there with its log."""
    import shutil

    from engine.catalogue import CATALOGUE
    from engine.host.platform import cache_folder
    from engine.precheck import check_recipe
    from engine.project.project import new_job_in
    from engine.recipe.file import from_plain, load, save, to_plain
    from engine.rehearsing import not_held, rehearsal_document, rehearsal_lines

    path = options.recipe.expanduser()
    recipe = load(path, CATALOGUE)
    check_recipe(recipe, where=str(path))
    job = new_job_in(cache_folder() / "jobs", "rehearse")
    given = {"recipe": to_plain(recipe), "folder": str(job.path), "settle": options.settle}
    outcome = run_job(job, "rehearse", given, terminal)
    document = rehearsal_document(outcome.value)
    failure = failure_of(outcome, AGAIN) or not_held(outcome.value)
    if failure is not None:
        return terminal.failure(failure, document)
    if not outcome.value:  # stopped from elsewhere
        return outcome.exit_code
    shutil.rmtree(job.path, ignore_errors=True)
    if options.out is not None:
        save(from_plain(outcome.value["recipe"], CATALOGUE), options.out.expanduser().resolve())
    terminal.result(document, *rehearsal_lines(outcome.value))
    return outcome.exit_code


def _run(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.catalogue import CATALOGUE
    from engine.precheck import check_recipe
    from engine.project.project import Project
    from engine.recipe.file import load

    path = options.recipe.expanduser()
    recipe = load(path, CATALOGUE)
    check_recipe(recipe, where=str(path))
    return _train(Project.open_or_create(options.project).new_run(recipe).path, "train", terminal)


def _resume(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.project.project import open_run

    return _train(open_run(options.run).path, "resume", terminal)


def _train(path: Path, kind: str, terminal: Terminal) -> int:
    from engine.project.run_folder import RunFolder

    outcome = run_job(RunFolder(path), kind, {"run": str(path)}, terminal)
    document = {"run": str(path), "status": outcome.status, "steps": outcome.value.get("steps", outcome.step)}
    failure = failure_of(outcome, resume_with(path))
    if failure is not None:
        return terminal.failure(failure, document)
    terminal.result(document, say("{status}: {run}", "{status}：{run}", status=outcome.status, run=path))
    return outcome.exit_code


def _evaluate(part: str) -> Command:
    """A command of `engine.evaluate_command`, imported when it runs."""

    def run_it(options: argparse.Namespace, terminal: Terminal) -> int:
        from engine import evaluate_command

        command: Command = getattr(evaluate_command, part)
        return command(options, terminal)

    return run_it


def _merge(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.merge_command import merge_arguments, merge_folders

    arguments = merge_arguments(options)
    if options.run is not None:
        return later_job(options.run, "merge", arguments, terminal, _written_lines)
    return merge_folders(arguments, terminal, _written_lines)


def _exporting(part: str) -> Command:
    """A command of `engine.export_command`, imported when it runs."""

    def run_it(options: argparse.Namespace, terminal: Terminal) -> int:
        from engine import export_command

        command: Command = getattr(export_command, part)
        return command(options, terminal)

    return run_it


def _check(options: argparse.Namespace, terminal: Terminal) -> int:
    paths = {"path": options.export, "base": options.base_gguf}
    arguments = {name: str(path.expanduser().resolve()) for name, path in paths.items() if path is not None}
    return later_job(options.run, "check", arguments, terminal, checked_lines)


def _chat(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.chat_command import chat

    return chat(options, terminal)


def _demo(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.demo import demo, demo_lines

    document, failure = demo(options.project, terminal, seed=options.seed)
    if failure is not None:
        return terminal.failure(failure, english(document))
    terminal.result(english(document), *demo_lines(document))
    return 0


def later_job(
    path: Path,
    kind: str,
    arguments: dict[str, Any],
    terminal: Terminal,
    lines: Callable[[dict[str, Any]], list[Text]],
) -> int:
    """A job on a finished run, followed to its end."""
    from engine.project.project import new_job, open_run
    from engine.project.rebuilt import repair

    run = open_run(path)
    repair(run)
    outcome = run_job(new_job(run, kind), kind, {"run": str(run.path), **arguments}, terminal)
    failure = failure_of(outcome, AGAIN)
    if failure is not None:
        return terminal.failure(failure, english(outcome.value))
    told = lines(outcome.value) if outcome.value else []
    refused = refusal(Parity.of((outcome.value or {}).get("parity") or {}))
    if refused is None:
        terminal.result(english(outcome.value), *told)
        return outcome.exit_code
    if not terminal.as_json:
        terminal.result({}, *told)
    return terminal.failure(refused, english(outcome.value))


def _written_lines(value: dict[str, Any]) -> list[Text]:
    where = value.get("file") or value.get("folder")
    return [say("Written: {path}", "已写入：{path}", path=where), *checked_lines(value)]


def checked_lines(value: dict[str, Any]) -> list[Text]:
    """What a check found, for people."""
    parity = Parity.of(value.get("parity") or {})
    return [*([] if parity.passed is False else [sentence(parity)]), *figures(parity)]


def _models(part: str) -> Command:
    """A command of `engine.models_command`, imported when it runs."""

    def run_it(options: argparse.Namespace, terminal: Terminal) -> int:
        from engine import models_command

        command: Command = getattr(models_command, part)
        return command(options, terminal)

    return run_it


def _runs(part: str) -> Command:
    """A command of `engine.runs_command`, imported when it runs."""

    def run_it(options: argparse.Namespace, terminal: Terminal) -> int:
        from engine import runs_command

        command: Command = getattr(runs_command, part)
        return command(options, terminal)

    return run_it


def _bundle(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.bundle_command import bundle

    return bundle(options, terminal)


def _on_run(part: str) -> Command:
    """A command of `engine.follow_command`, imported when it runs."""

    def run_it(options: argparse.Namespace, terminal: Terminal) -> int:
        from engine import follow_command

        command: Command = getattr(follow_command, part)
        return command(options, terminal)

    return run_it


COMMANDS: dict[str, Command] = {
    "window": _window,
    "demo": _demo,
    "doctor": _doctor,
    "data check": _data_check,
    "data prepare": _data_prepare,
    "data score": _data_score,
    "models": _models("models"),
    "models info": _models("info"),
    "models get": _models("get"),
    "models convert": _models("convert"),
    "models token": _models("token"),
    "models mirror": _models("mirror"),
    "plan": _plan,
    "rehearse": _rehearse,
    "run": _run,
    "resume": _resume,
    "follow": _on_run("watch"),
    "tell": _on_run("tell"),
    "stop": _on_run("stop"),
    "runs": _runs("runs"),
    "runs list": _runs("runs"),
    "runs show": _runs("show"),
    "runs compare": _runs("compare"),
    "runs tag": _runs("tag"),
    "runs note": _runs("note"),
    "runs rename": _runs("rename"),
    "runs delete": _runs("delete"),
    "runs continue": _runs("go_on"),
    "project": _runs("projects"),
    "project check": _runs("project_check"),
    "project move": _runs("project_move"),
    "queue": _runs("queue"),
    "queue list": _runs("queue"),
    "queue add": _runs("queue_add"),
    "queue remove": _runs("queue_remove"),
    "queue move": _runs("queue_move"),
    "queue run": _runs("queue_run"),
    "evaluate": _evaluate("evaluate"),
    "judge-key": _evaluate("judge_key"),
    "chat": _chat,
    "merge": _merge,
    "export": _exporting("export"),
    "serve": _exporting("serve"),
    "servers": _exporting("servers"),
    "servers list": _exporting("servers"),
    "servers stop": _exporting("servers_stop"),
    "upload": _exporting("upload"),
    "check": _check,
    "bundle": _bundle,
}
