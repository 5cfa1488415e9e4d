"""`lorimer follow`, `lorimer tell` and `lorimer stop`: what a window does with a run that trains elsewhere."""

from __future__ import annotations

import argparse
import time

from engine.host.control import StopLadder, send
from engine.host.follow import replay
from engine.host.launch import is_alive
from engine.jobs import failure_of, resume_with
from engine.project.kept import kept
from engine.project.project import open_run
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.events import DONE, FAILED
from engine.protocol.state import JobState
from engine.protocol.text import Text, say
from engine.terminal import Terminal, follow, quoted

POLL_SECONDS = 0.1


def watch(options: argparse.Namespace, terminal: Terminal) -> int:
    """Show a run until it ends. Ctrl+C leaves it: the run goes on."""
    run = open_run(options.run)
    outcome = follow(run, terminal, leave=True)
    if outcome.interrupted:
        terminal.show(say("The run goes on.", "训练会继续进行。"))
    state = replay(run)
    document = {"run": str(run.path), "status": state.status, "steps": state.step}
    again = say("Look again with: lorimer follow {run}", "可再次查看：lorimer follow {run}", run=quoted(run.path))
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
    """Stop a run by the ladder, and say how far it had to go, what of the run is kept, and what memory came back."""
    run = _working(options)
    terminal.show(say("Saving and stopping…", "正在保存并停止……"))
    ladder = StopLadder(run, save_seconds=options.patience)
    while not ladder.poll():
        time.sleep(POLL_SECONDS)
    state = replay(run)  # an end that it could not tell is written down
    kept_step = kept_of(run, state)
    document = {
        "run": str(run.path),
        "rung": ladder.rung,
        "step": state.step,
        "kept_step": kept_step,
        "freed": ladder.freed.en,
    }
    told = stopped_words(state, ladder.rung, kept_step)
    terminal.result(document, told, *([ladder.freed] if ladder.freed else []))
    return 0


def kept_of(run: RunFolder, state: JobState) -> int:
    """The step up to which nothing of a run is lost: of its newest checkpoint, or of all where it came to its end."""
    newest = max((item.step for item in kept(run)), default=0)
    if state.status == DONE:
        return max(newest, state.step)
    return min(newest, state.step) if state.step else newest


def stopped_words(state: JobState, rung: str, kept_step: int) -> Text:
    """How a run was stopped, and what of it was not saved."""
    how = _HOW.get(rung, _HOW["asked"])
    if state.status == DONE:
        how = say("It had come to its end", "训练已完成")
    elif state.status == FAILED:
        how = say("It ended with an error", "训练出错结束")
    step = state.step
    if not step:
        return say("{how} before its first step.", "{how}，尚未完成第一步。", how=how)
    if kept_step >= step:
        return say(
            "{how} at step {step}; all of it is kept.", "{how}，位于第 {step} 步，全部内容已保存。", how=how, step=step
        )
    lost = (
        say("step {step} was not saved", "第 {step} 步未保存", step=step)
        if step - kept_step == 1
        else say(
            "steps {first} to {step} were not saved", "第 {first} 至 {step} 步未保存", first=kept_step + 1, step=step
        )
    )
    left = (
        say("the checkpoint of step {step} is kept", "第 {step} 步的检查点已保留", step=kept_step)
        if kept_step
        else say("there is no checkpoint", "没有检查点")
    )
    return say(
        "{how} at step {step}: {lost}; {left}.",
        "{how}，位于第 {step} 步：{lost}；{left}。",
        how=how,
        step=step,
        lost=lost,
        left=left,
    )


_HOW = {
    "asked": say("Stopped", "已停止"),
    "terminated": say("Ended by the system", "已由系统结束"),
    "killed": say("Stopped by force", "已强制停止"),
}


def _working(options: argparse.Namespace) -> RunFolder:
    """The run. Raises `UserError` when no process works on it."""
    run = open_run(options.run)
    if not is_alive(run):
        raise UserError(
            "job.not_running",
            say("This run is not training now.", "该训练当前未在进行。"),
            resume_with(run.path),
            where=str(run.path),
        )
    return run
