"""`lorimer follow`, `lorimer tell` and `lorimer stop`: what a window does with a run that trains elsewhere."""

from __future__ import annotations

import argparse
import time

from engine.host.control import StopLadder, send
from engine.host.follow import replay
from engine.host.launch import is_alive
from engine.jobs import failure_of
from engine.project.project import open_run
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import say
from engine.terminal import Terminal, follow

POLL_SECONDS = 0.1


def watch(options: argparse.Namespace, terminal: Terminal) -> int:
    """Show a run until it ends. Ctrl+C leaves it: the run goes on."""
    run = open_run(options.run)
    outcome = follow(run, terminal, leave=True)
    if outcome.interrupted:
        terminal.show(say("The run goes on.", "训练会继续进行。"))
    state = replay(run)
    document = {"run": str(run.path), "status": state.status, "steps": state.step}
    again = say("Look again with: lorimer follow {run}", "可再次查看：lorimer follow {run}", run=run.path)
    failure = failure_of(outcome, again)
    if failure is not None:
        return terminal.failure(failure, document)
    terminal.result(document, say("{status}: {run}", "{status}：{run}", status=state.status, run=run.path))
    return outcome.exit_code


def tell(options: argparse.Namespace, terminal: Terminal) -> int:
    """Send a command of the protocol to a run that trains."""
    run = _working(options)
    send(run, options.what)
    said = say("Told it to {what}.", "已发送指令：{what}。", what=options.what)
    terminal.result({"run": str(run.path), "told": options.what}, said)
    return 0


def stop(options: argparse.Namespace, terminal: Terminal) -> int:
    """Stop a run by the ladder, and say how far it had to go and what memory came back."""
    run = _working(options)
    terminal.show(say("Saving and stopping…", "正在保存并停止……"))
    ladder = StopLadder(run, save_seconds=options.patience)
    while not ladder.poll():
        time.sleep(POLL_SECONDS)
    replay(run)  # an end that it could not tell is written down
    document = {"run": str(run.path), "rung": ladder.rung, "freed": ladder.freed.en}
    terminal.result(document, say("Stopped.", "已停止。"), *([ladder.freed] if ladder.freed else []))
    return 0


def _working(options: argparse.Namespace) -> RunFolder:
    """The run. Raises `UserError` when no process works on it."""
    run = open_run(options.run)
    if not is_alive(run):
        raise UserError(
            "job.not_running",
            say("This run is not training now.", "该训练当前未在进行。"),
            say("Go on with: lorimer resume {run}", "继续请用：lorimer resume {run}", run=run.path),
            where=str(run.path),
        )
    return run
