"""The two commands of the README, `run.py` and `test.py`. Standard library only."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))  # the engine's light rooms need nothing installed

import setup_system
from engine.protocol.text import Text, say
from setup_env import Places
from setup_pip import SetUpError
from setup_progress import Progress, minutes
from setup_steps import set_up

ROOT = Path(__file__).resolve().parent.parent
FAILED, INTERRUPTED = 1, 130
# Each process of the tests, and the workers that it starts, take up to 3 GiB.
MOST_PROCESSES = 4


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments before and after the first `--`."""
    if "--" not in arguments:
        return list(arguments), []
    at = list(arguments).index("--")
    return list(arguments[:at]), list(arguments[at + 1 :])


def _prepare(places: Places, *, dev: bool, window: bool, stream: TextIO, language: str) -> int:
    """Set up where that is needed; 0, or the exit code of a failure that has been explained on `stream`."""
    progress = Progress(stream, language)
    try:
        if set_up(places, dev=dev, window=window, progress=progress):
            progress.say(_farewell(places, progress.elapsed))
    except SetUpError as error:
        progress.say(error.sentence)
        if places.log.exists():
            progress.say(say("Log: {file}", "日志：{file}", file=places.log))
        return FAILED
    except KeyboardInterrupt:
        progress.say(
            say(
                "The set-up was interrupted; the same command takes it up again.",
                "安装已中断；再次运行同一命令即可继续。",
            )
        )
        return INTERRUPTED
    return 0


def _farewell(places: Places, seconds: float) -> Text:
    """How to start Lorimer next time, and how to remove it."""
    return say(
        "Set up in {time} minutes.\n"
        "  Start Lorimer:   {run} {script}   (from now on without any set-up)\n"
        "  Command line:    {lorimer} --help\n"
        "  Remove Lorimer:  delete the folder {root}. Settings are in {settings}, downloaded packages in pip's cache\n"
        "                   (`{run} -m pip cache purge` empties it).",
        "安装完成，用时 {time} 分钟。\n"
        "  启动 Lorimer：{run} {script}（今后无需再安装）\n"
        "  命令行：      {lorimer} --help\n"
        "  卸载 Lorimer：删除文件夹 {root}。设置保存在 {settings}，下载的软件包在 pip 缓存中\n"
        "                 （可用 `{run} -m pip cache purge` 清空）。",
        time=minutes(seconds),
        run="python" if setup_system.system() == setup_system.WINDOWS else "python3",
        script=ROOT / "packaging" / "run.py",
        lorimer=setup_system.venv_script(places.venv, "lorimer"),
        root=places.root,
        settings=setup_system.settings_folder(os.environ),
    )


def _speakable(stream: TextIO) -> None:
    """Never fail on a terminal whose encoding lacks a character."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")


# -------------------------------------------------------------------------------------------------------- run.py
def run(arguments: Sequence[str]) -> int:
    """Set Lorimer up where needed, then become its window, or the main job in the terminal.

    Returns:
        The exit code: 0 done, 1 failed, 2 unknown arguments, 130 interrupted; else that of the started program.
    """
    language = setup_system.language(os.environ)
    own, passed_on = _split(arguments)
    options = _run_parser(language).parse_args(own)
    window = setup_system.has_display(os.environ) and not options.headless
    # Standard output is for the one JSON document.
    stream = sys.stderr if options.json else sys.stdout
    _speakable(stream)
    places = Places(ROOT)
    code = _prepare(places, dev=False, window=window and not options.set_up_only, stream=stream, language=language)
    if code or options.set_up_only:
        return code
    if window:
        return setup_system.replace_process([str(places.python), "-m", "gui", *passed_on], os.environ)
    if not options.headless:
        no_display = say(
            "There is no display: the main job runs here in the terminal instead of a window.",
            "没有可用的显示器：不打开窗口，改在终端中运行完整流程。",
        )
        stream.write(no_display.in_language(language) + "\n")
        stream.flush()
    command = [str(setup_system.venv_script(places.venv, "lorimer")), "demo", *(["--json"] if options.json else [])]
    return setup_system.replace_process([*command, *passed_on], os.environ)


def _run_parser(language: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py",
        usage="run.py [--headless] [--json] [--set-up-only] [-- ARGUMENTS]",
        description=say(
            "Set Lorimer up on first use and open its window.", "首次使用时安装 Lorimer，然后打开窗口。"
        ).in_language(language),
        epilog=say(
            "ARGUMENTS after -- go to the window, or to `lorimer demo` where there is none.",
            "-- 之后的参数传给窗口；没有窗口时传给 `lorimer demo`。",
        ).in_language(language),
        allow_abbrev=False,
    )
    for name, text in (
        ("--headless", say("run the main job in the terminal, without a window", "不打开窗口，在终端中运行完整流程")),
        ("--json", say("without a window: one JSON document on standard output", "无窗口时：标准输出仅为一个 JSON")),
        ("--set-up-only", say("stop after the set-up", "安装完成后停止")),
    ):
        parser.add_argument(name, action="store_true", help=text.in_language(language))
    return parser


# ------------------------------------------------------------------------------------------------------- test.py
@dataclass(frozen=True)
class Outcome:
    """How one stage of the checks ended."""

    name: str
    code: int
    seconds: float
    last_line: str

    def __str__(self) -> str:
        result = "passed" if self.code == 0 else f"FAILED (exit code {self.code})"
        return f"  {self.name:<22}{result:<24}{self.seconds:>7.1f} s   {self.last_line}"


def stages(places: Places, *, fast: bool, gpu: bool, passed_on: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Name and command of every check, in order."""
    python = str(places.python)
    left_out = [*([] if gpu else ["not gpu"]), *(["not slow"] if fast else [])]
    markers = ["-m", " and ".join(left_out)] if left_out else []
    # Processes share the tests, and whoever is done takes some of another's. One GPU is not shared.
    together = 1 if gpu else min(os.cpu_count() or 1, MOST_PROCESSES)
    shared = ["-n", str(together), "--dist", "worksteal"] if together > 1 else []
    return [
        ("lint", [python, "-m", "ruff", "check", "."]),
        ("format", [python, "-m", "ruff", "format", "--check", "."]),
        ("types", [python, "-m", "mypy"]),
        ("import contracts", [str(setup_system.venv_script(places.venv, "lint-imports"))]),
        ("tests", [python, "-m", "pytest", *markers, *shared, *passed_on]),
    ]


def test(arguments: Sequence[str]) -> int:
    """Set up with the developers' tools, then run every check and say how each ended.

    Returns:
        The exit code: 0 all passed, 1 one failed, 2 unknown arguments, 130 interrupted.
    """
    language = setup_system.language(os.environ)
    own, passed_on = _split(arguments)
    options = _test_parser().parse_args(own)
    _speakable(sys.stdout)
    places = Places(ROOT)
    code = _prepare(places, dev=True, window=False, stream=sys.stdout, language=language)
    if code or options.set_up_only:
        return code
    gpu = setup_system.find_gpu() is not None
    outcomes: list[Outcome] = []
    try:
        for name, command in stages(places, fast=options.fast, gpu=gpu, passed_on=passed_on):
            outcomes.append(_run_stage(name, command))
    except KeyboardInterrupt:
        return INTERRUPTED
    failed = [outcome.name for outcome in outcomes if outcome.code]
    print("\n" + "\n".join(str(outcome) for outcome in outcomes))
    print(f"Failed: {', '.join(failed)}." if failed else "All checks passed.")
    return FAILED if failed else 0


def _test_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="test.py",
        usage="test.py [--fast] [--set-up-only] [-- PYTEST ARGUMENTS]",
        description="Lint, check types and import contracts, and run all tests.",
        allow_abbrev=False,
    )
    parser.add_argument("--fast", action="store_true", help="leave out the tests marked slow")
    parser.add_argument("--set-up-only", action="store_true", help="stop after the set-up")
    return parser


def _run_stage(name: str, command: list[str]) -> Outcome:
    """Run one check with its output shown as it comes, and keep its last line for the summary."""
    print(f"\n== {name}: {' '.join(command[1:] if command[1:] else command)}", flush=True)
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONUNBUFFERED": "1"}
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    tail = b""
    try:
        while chunk := process.stdout.read1(65536):  # type: ignore[attr-defined]
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            tail = (tail + chunk)[-2000:]
    except BaseException:
        process.terminate()
        raise
    finally:
        code = process.wait()
        process.stdout.close()
    lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
    return Outcome(name, code, time.monotonic() - started, lines[-1].strip() if lines else "")
