"""``lorimer evaluate``: measure, and what can be done beside: tasks of lm-evaluation-harness, a judge, the report."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import Any

from engine.jobs import AGAIN, english, failure_of, run_job
from engine.project.effect import read_effect
from engine.project.forgetting import read_forgetting
from engine.project.judgement import read_judgement
from engine.project.run_folder import RunFolder
from engine.protocol.codec import to_plain
from engine.protocol.errors import Failure, UserError
from engine.protocol.text import Text, say
from engine.terminal import Terminal


def evaluate(options: argparse.Namespace, terminal: Terminal) -> int:
    """Measure base against tuned, then run the tasks, ask the judge and write the report that the options name."""
    from engine.project.project import open_run
    from engine.project.rebuilt import repair

    run = open_run(options.run)
    repair(run)
    told: dict[str, Any] = {}
    lines: list[Text] = []
    for kind, arguments in _jobs(run, options):
        failure, value = _followed(run, kind, arguments, terminal)
        told.update(value if kind == "evaluate" else {kind: value} if value else {})
        if failure is not None:
            return terminal.failure(failure, english(told))
        if not value:  # stopped from elsewhere
            return 0
        lines += _lines(run, kind, value)
    told.update(_beside(run))
    lines += _beside_lines(run, measured=not options.kept, judge=options.judge is not None)
    if options.report is not None:
        told["report"], line = _report(run, options.report, terminal)
        lines.append(line)
    terminal.result(english(told), *lines)
    return 0


def _jobs(run: RunFolder, options: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """The jobs that the options ask for, in their order. Raises `UserError` before any of them is started."""
    found: list[tuple[str, dict[str, Any]]] = []
    if not options.kept:
        found.append(("evaluate", {"rows": options.rows}))
    if options.tasks:
        folder = str(options.tasks_folder.expanduser().resolve()) if options.tasks_folder is not None else ""
        names = [name.strip() for name in options.tasks.split(",") if name.strip()]
        found.append(("harness", {"tasks": names, "folder": folder, "limit": options.limit}))
    if options.judge is not None:
        found.append(("judge", {"judge": _judge(run, options)}))
    return found


def _judge(run: RunFolder, options: argparse.Namespace) -> dict[str, Any]:
    """The judge's settings: the recipe's, but the address, which is given each time: a recipe may be a stranger's."""
    from engine.catalogue import CATALOGUE
    from engine.project.judge_access import checked_address
    from engine.recipe.file import load

    settings = load(run.recipe_as_run, CATALOGUE).evaluate.judge
    changed = {"address": checked_address(options.judge)}
    if options.judge_model:
        changed["model"] = options.judge_model
    if options.judge_rows:
        changed["rows"] = options.judge_rows
    plain: dict[str, Any] = settings.model_copy(update=changed).model_dump(mode="json")
    return plain


def _followed(
    run: RunFolder, kind: str, arguments: dict[str, Any], terminal: Terminal
) -> tuple[Failure | None, dict[str, Any]]:
    from engine.project.project import new_job

    outcome = run_job(new_job(run, kind), kind, {"run": str(run.path), **arguments}, terminal)
    return failure_of(outcome, AGAIN), outcome.value


def _beside(run: RunFolder) -> dict[str, Any]:
    """What is kept beside the evaluation, without rows."""
    found: dict[str, Any] = {}
    records = {"effect": read_effect(run), "forgetting": read_forgetting(run)}
    for name, record in records.items():
        if record is not None:
            found[name] = {**to_plain(record), "sentence": record.sentence.en}
    return found


def _lines(run: RunFolder, kind: str, value: dict[str, Any]) -> list[Text]:
    if kind == "evaluate":
        from engine.measured_lines import measured_lines
        from engine.project.evaluation import read_evaluation

        found = read_evaluation(run)
        return measured_lines(found, read_effect(run)) if found is not None else []
    if kind == "harness":
        return [_task_line(figure) for figure in value["figures"]]
    return []


def _task_line(figure: dict[str, Any]) -> Text:
    rate = figure["rate"]
    return say(
        "{task}, {metric}: base {base:.3f} → tuned {tuned:.3f}{rate}",
        "{task}，{metric}：基础 {base:.3f} → 微调 {tuned:.3f}{rate}",
        **{name: figure[name] for name in ("task", "metric", "base", "tuned")},
        rate=say("", "") if rate is None else say(" ({rate:.0%} lost)", "（遗忘 {rate:.0%}）", rate=rate),
    )


def _beside_lines(run: RunFolder, *, measured: bool, judge: bool) -> list[Text]:
    found: list[Text] = []
    if measured:
        for record in (read_effect(run), read_forgetting(run)):
            if record is not None:
                found.append(record.sentence)
        forgetting = read_forgetting(run)
        if forgetting is not None and forgetting.advice:
            found.append(forgetting.advice)
    judgement = read_judgement(run) if judge else None
    if judgement is not None:
        found.append(judgement.sentence)
        if judgement.p_value is not None and judgement.low is not None and judgement.high is not None:
            found.append(
                say(
                    "Wins among decided rows: {share:.0%} ({low:.0%} to {high:.0%}), p = {p:.3g}; "
                    "{n} rows the order decided.",
                    "决出胜负的行中胜率 {share:.0%}（{low:.0%} 至 {high:.0%}），p = {p:.3g}；{n} 行由先后顺序决定。",
                    share=judgement.share,
                    low=judgement.low,
                    high=judgement.high,
                    p=judgement.p_value,
                    n=judgement.contradictions,
                )
            )
    return found


def _report(run: RunFolder, given: Path, terminal: Terminal) -> tuple[str, Text]:
    from engine.report.write import write_report

    path = given.expanduser().resolve()
    write_report(run, path, terminal.language)
    return str(path), say("Report: {path}", "报告：{path}", path=path)


def judge_key(options: argparse.Namespace, terminal: Terminal) -> int:
    """Keep a judge's key in the system's keyring, or forget it. It is read without being shown."""
    from engine.project.judge_access import checked_address, forget_judge_key, keep_judge_key, origin

    address = checked_address(options.address)
    if options.forget:
        was = forget_judge_key(address)
        words = say("The key is forgotten.", "密钥已删除。") if was else say("No key was kept.", "没有保存过密钥。")
        terminal.result({"kept": False, "for": origin(address)}, words)
        return 0
    keep_judge_key(address, _read_key(terminal))
    words = say(
        "The key for {origin} is in this system's keyring.", "{origin} 的密钥已存入系统密钥环。", origin=origin(address)
    )
    terminal.result({"kept": True, "for": origin(address)}, words)
    return 0


def _read_key(terminal: Terminal) -> str:
    """A key that is typed unseen, or the first line that is piped in. Raises `UserError` where the input ended."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    try:
        return getpass.getpass(say("Key (not shown): ", "密钥（不显示）：").in_language(terminal.language))
    except EOFError as error:
        raise UserError("judge.key", say("No key was given.", "没有给出密钥。")) from error
