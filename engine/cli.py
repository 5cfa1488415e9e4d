"""``lorimer``: the engine without a window. Whatever a page does, a command does too, by the same functions.

Exit codes: 0 done, 1 failed, 2 the input is wrong, 130 interrupted. With ``--json`` exactly one JSON document goes to
standard output; its shapes are described in ``docs/command-line.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from engine.project.run_folder import JobFolder
from engine.protocol.errors import EXIT_INTERRUPTED, EXIT_MACHINE, Failure, UserError
from engine.protocol.text import Text, say
from engine.terminal import Outcome, Terminal

Command = Callable[[argparse.Namespace, Terminal], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    terminal = Terminal(as_json="--json" in given, language=_language(given))
    try:
        options = _parser().parse_args(given)
        command: Command = options.command
        return command(options, terminal)
    except UserError as error:
        return terminal.failure(Failure.of(error))
    except KeyboardInterrupt:
        message = say("Interrupted.", "已中断。")
        terminal.failure(Failure("interrupted", message, exit_code=EXIT_INTERRUPTED))
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  nobody is shown a traceback; it is in the log
        return terminal.failure(_unexpected(error))


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
    message = say("Something unexpected went wrong: {error}", "发生意外错误：{error}", error=error)
    return Failure("internal", message, hint, details=details, exit_code=EXIT_MACHINE)


def _language(given: list[str]) -> str:
    if "--lang" in given[:-1]:
        return given[given.index("--lang") + 1]
    return os.environ.get("LORIMER_LANG") or "en"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as every other error is said."""

    def error(self, message: str) -> NoReturn:
        raise UserError(
            "usage",
            say("{message}.", "参数有误：{message}。", message=message),
            say("See: {program} --help", "参见：{program} --help", program=self.prog),
        )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lorimer", description="Fine-tune language models on this machine.")
    parser.set_defaults(command=_window)
    shared = _Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="one JSON document on standard output")
    shared.add_argument("--lang", choices=("en", "zh"), help="language of the sentences")
    parser.add_argument("--lang", choices=("en", "zh"), help="language of the sentences")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, parents=[shared])
        made.set_defaults(command=command)
        return made

    demo = add("demo", _demo, "the whole path on the starter model and its sample data")
    demo.add_argument("--project", type=Path, default=Path("lorimer-project"), help="project folder")
    demo.add_argument("--seed", type=int, default=42, help="seed of the split and the run")
    add("doctor", _doctor, "what this machine has and what is wrong with it")
    data = commands.add_parser("data", help="look at data", description="look at data").add_subparsers(
        title="data commands", metavar="COMMAND", required=True
    )
    check = data.add_parser("check", help="what a file holds and what of it trains", parents=[shared])
    check.set_defaults(command=_data_check)
    check.add_argument("file", type=Path)
    check.add_argument("--model", default="", help="starter, a folder, or a hub id: token lengths are measured with it")
    check.add_argument("--max-length", type=int, default=512, help="longest row in tokens")
    plan = add("plan", _plan, "a recipe that fits this machine")
    plan.add_argument("--model", required=True, help="starter, a folder, or a hub id")
    plan.add_argument("--data", type=Path, required=True, action="append", help="data file; may stand several times")
    plan.add_argument("--gpu-memory", type=float, help="plan for a GPU with so many GiB; 0 for the CPU")
    plan.add_argument("--out", type=Path, help="write the recipe here")
    run = add("run", _run, "train as a recipe says")
    run.add_argument("recipe", type=Path)
    run.add_argument("--project", type=Path, default=Path("lorimer-project"), help="project folder")
    add("resume", _resume, "continue a run from its last checkpoint").add_argument("run", type=Path)
    evaluate = add("evaluate", _evaluate, "measure base against tuned on the held-out rows")
    evaluate.add_argument("run", type=Path)
    evaluate.add_argument("--rows", type=int, help="at most so many rows")
    chat = add("chat", _chat, "ask base and tuned the same")
    chat.add_argument("run", type=Path)
    chat.add_argument("--prompt", required=True)
    chat.add_argument("--system", default="", help="system prompt")
    chat.add_argument("--seed", type=int, default=42)
    chat.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    chat.add_argument("--max-new-tokens", type=int, default=256)
    merge = add("merge", _merge, "put the adapter into the 16-bit weights")
    merge.add_argument("run", type=Path)
    merge.add_argument("--out", type=Path, required=True, help="folder to write")
    export = add("export", _export, "write what can be taken away")
    export.add_argument("run", type=Path)
    export.add_argument("--to", choices=("gguf", "adapter"), default="gguf")
    export.add_argument("--quantize", choices=("f16", "q8_0", "q4_k_m"), default="q4_k_m")
    export.add_argument("--out", type=Path, required=True, help="file (gguf) or folder (adapter) to write")
    return parser


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
    terminal.result(report, *lines(report))
    return 0


def _data_check(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.data.check import CheckFailed, check
    from engine.model.locate import locate
    from engine.recipe.recipe import DataSettings

    settings = DataSettings(max_length=options.max_length)
    failure, folder = None, None
    try:
        folder = locate(options.model) if options.model else None
    except UserError as error:
        failure = Failure.of(error)  # the report is whole all the same, without what a model would tell
    try:
        report = check(options.file.expanduser(), model_folder=folder, settings=settings)
    except CheckFailed as error:
        return terminal.failure(Failure.of(error), error.report)
    if failure is not None:
        return terminal.failure(failure, report)
    terminal.result(report, *_check_lines(report))
    return 0


def _check_lines(report: dict[str, Any]) -> list[Text | str]:
    lines: list[Text | str] = [
        say(
            "{format}, {encoding}, shape {shape}: {trainable} of {rows} rows train",
            "{format}，{encoding}，格式 {shape}：{rows} 行中可训练 {trainable} 行",
            **{name: report[name] for name in ("format", "encoding", "shape", "trainable", "rows")},
        )
    ]
    if report["template"]:
        lines.append(say("template {name}: {reason}", "模板 {name}：{reason}", **report["template"]))
    lines += [f"  set aside, {reason}: {count}" for reason, count in report["set_aside"].items()]
    lines += [f"  {p['where']}: {p['message']} {p['hint']}" for p in report["problems"][:20]]
    return lines


def _plan(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.catalogue import CATALOGUE
    from engine.planning import plan_for, plan_lines
    from engine.recipe.file import from_plain, save

    document = plan_for(options.model, tuple(options.data), gpu_memory_gib=options.gpu_memory)
    if options.out is not None:
        save(from_plain(document["recipe"], CATALOGUE), options.out.resolve())
    terminal.result(document, *plan_lines(document))
    return 0


def _run(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.catalogue import CATALOGUE
    from engine.project.project import Project
    from engine.recipe.file import load

    recipe = load(options.recipe.expanduser(), CATALOGUE)
    run = Project.open_or_create(options.project).new_run(recipe)
    return _train(run.path, "train", terminal)


def _resume(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.project.project import open_run

    return _train(open_run(options.run).path, "resume", terminal)


def _train(path: Path, kind: str, terminal: Terminal) -> int:
    from engine.project.run_folder import RunFolder

    run = RunFolder(path)
    outcome = _job(run, kind, {"run": str(path)}, terminal)
    document = {"run": str(path), "status": outcome.status, "steps": outcome.value.get("steps", outcome.step)}
    if outcome.failure is not None:
        return terminal.failure(outcome.failure, document)
    terminal.result(document, say("{status}: {run}", "{status}：{run}", status=outcome.status, run=path))
    return outcome.exit_code


def _evaluate(options: argparse.Namespace, terminal: Terminal) -> int:
    return _later_job(options.run, "evaluate", {"rows": options.rows}, terminal, _evaluation_lines)


def _merge(options: argparse.Namespace, terminal: Terminal) -> int:
    return _later_job(options.run, "merge", {"out": str(options.out.expanduser().resolve())}, terminal, _written_lines)


def _export(options: argparse.Namespace, terminal: Terminal) -> int:
    arguments = {
        "to": options.to,
        "quantize": options.quantize,
        "out": str(options.out.expanduser().resolve()),
    }
    return _later_job(options.run, "export", arguments, terminal, _written_lines)


def _chat(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.chat.pair import Sampling, ask_both
    from engine.project.project import open_run

    sampling = Sampling(seed=options.seed, temperature=options.temperature, max_new_tokens=options.max_new_tokens)
    answers = ask_both(open_run(options.run), options.prompt, sampling, system=options.system)
    terminal.result(
        answers,
        say("Base:  {text}", "基础模型：{text}", text=answers["base"]),
        say("Tuned: {text}", "微调模型：{text}", text=answers["tuned"]),
    )
    return 0


def _demo(options: argparse.Namespace, terminal: Terminal) -> int:
    from engine.demo import demo, demo_lines

    document, failure = demo(options.project, terminal, seed=options.seed)
    if failure is not None:
        return terminal.failure(failure, document)
    terminal.result(document, *demo_lines(document))
    return 0


def _later_job(
    path: Path,
    kind: str,
    arguments: dict[str, Any],
    terminal: Terminal,
    lines: Callable[[dict[str, Any]], list[Text]],
) -> int:
    """A job on a finished run, followed to its end."""
    from engine.project.project import new_job, open_run

    run = open_run(path)
    outcome = _job(new_job(run, kind), kind, {"run": str(run.path), **arguments}, terminal)
    if outcome.failure is not None:
        return terminal.failure(outcome.failure, outcome.value)
    terminal.result(outcome.value, *(lines(outcome.value) if outcome.value else []))
    return outcome.exit_code


def _job(folder: JobFolder, kind: str, arguments: dict[str, Any], terminal: Terminal) -> Outcome:
    from engine.host.launch import start_job
    from engine.terminal import follow

    offset = folder.events.stat().st_size if folder.events.exists() else 0
    start_job(folder, kind, arguments)
    return follow(folder, terminal, offset=offset)


def _evaluation_lines(value: dict[str, Any]) -> list[Text]:
    from engine.demo import evaluation_lines

    return evaluation_lines(value)


def _written_lines(value: dict[str, Any]) -> list[Text]:
    where = value.get("file") or value.get("folder")
    lines = [say("Written: {path}", "已写入：{path}", path=where)]
    parity = value.get("parity") or {}
    if parity.get("passed") is True:
        lines.append(say("Checked: it is what you trained.", "已检查：与训练结果一致。"))
    elif parity.get("passed") is False:
        lines.append(say("Do not use it: it differs from what you trained.", "请勿使用：与训练结果不一致。"))
    share = parity.get("agreement")
    if share is not None:
        lines.append(say("{share:.1%} of next tokens agree.", "{share:.1%} 的下一词元一致。", share=share))
    return lines


if __name__ == "__main__":
    sys.exit(main())
