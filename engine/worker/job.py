"""One job: read what to do, do it, tell how it ended."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.host import platform
from engine.host.follow import log_tail
from engine.host.launch import claim_work
from engine.project.atomic import disk_error, read_json
from engine.project.run_folder import JobFolder, RunFolder
from engine.protocol.channel import Channel
from engine.protocol.errors import EXIT_DONE, EXIT_MACHINE, Failure, Stopped, UserError
from engine.protocol.events import DONE, FAILED, STOPPED, Finished, JobStarted, Result
from engine.protocol.text import say
from engine.worker.channel import WorkerChannel

Arguments = dict[str, Any]
EXIT_BUSY = 75
"""Another process works on the folder: this one has nothing to do and nothing to tell (EX_TEMPFAIL of sysexits.h)."""


def work(path: Path, descriptor: int) -> int:
    """Do the job of the folder; gives the exit code. The last event is always a `Finished`."""
    folder = JobFolder(path)
    channel = WorkerChannel(descriptor, folder.commands, folder.events)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, _ended)
    platform.ignore_hangup()
    try:
        if not claim_work(folder):
            return EXIT_BUSY
        job = read_json(folder.job)
        channel.emit(JobStarted(kind=job["kind"], pid=os.getpid(), resumed_from=_last_checkpoint(job)))
        value = JOBS[job["kind"]](job["arguments"], channel)
        channel.emit(Result(value=value))
        channel.emit(Finished(status=str(value.get("status", DONE))))
        return EXIT_DONE
    except (Stopped, KeyboardInterrupt):
        channel.emit(Finished(status=STOPPED))
        return EXIT_DONE
    except Exception as error:  # noqa: BLE001  anything at all becomes a sentence here; the traceback is in the log
        traceback.print_exc()
        failure = explain(error, folder.log)
        channel.emit(Finished(status=FAILED, failure=failure))
        return failure.exit_code
    finally:
        channel.close()


def _ended(number: int, frame: Any) -> None:
    """Second rung of the stop ladder: leave whatever is being done, as after a stop."""
    raise Stopped


def explain(error: Exception, log: Path) -> Failure:
    """What a person should know of ``error``."""
    if isinstance(error, UserError):
        return Failure.of(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return Failure.of(disk_error(error, Path(error.filename or log)))
    details = "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        from engine.host.diagnose import diagnose

        return diagnose(EXIT_MACHINE, details)
    return Failure(
        "internal",
        say("Something unexpected went wrong: {error}", "发生意外错误：{error}", error=_short(error)),
        say("The log has the details; a report of it helps.", "详情见日志；欢迎反馈。"),
        details=details + "\n" + log_tail(log),
        exit_code=EXIT_MACHINE,
    )


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__


def _last_checkpoint(job: dict[str, Any]) -> int:
    """The step that a resumed run goes on from, 0 for any other job."""
    if job["kind"] != "resume":
        return 0
    from engine.train.checkpoints import latest, mend

    run = RunFolder(Path(job["arguments"]["run"]))
    mend(run)  # what is told is what the run will go on from
    checkpoint = latest(run)
    return checkpoint.step if checkpoint else 0


def _train(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.train.run import train

    return train(_run(arguments), channel)


def _resume(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.train.run import train

    return train(_run(arguments), channel, resume=True, killed=bool(arguments.get("restarts")))


def _evaluate(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.evaluate.run import evaluate

    return evaluate(_run(arguments), channel, rows=arguments.get("rows"))


def _harness(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.evaluate.harness import harness

    folder = Path(arguments["folder"]) if arguments.get("folder") else None
    tasks, limit = arguments["tasks"], arguments.get("limit") or 0
    return harness(_run(arguments), channel, tasks=tasks, folder=folder, limit=limit)


def _judge(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.catalogue import CATALOGUE
    from engine.evaluate.judge import judge
    from engine.recipe.file import load
    from engine.recipe.judge import JudgeSettings

    run = _run(arguments)
    seed = load(run.recipe_as_run, CATALOGUE).data.seed
    return judge(run, JudgeSettings(**arguments["judge"]), seed, channel)


def _merge(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.merge.adapter import merge, merge_folders

    out, device = Path(arguments["out"]), arguments.get("device") or "cpu"
    base = Path(arguments["base"]) if arguments.get("base") else None
    if arguments.get("adapter") and base is not None:
        return merge_folders(Path(arguments["adapter"]), base, out, channel, device=device)
    return merge(_run(arguments), out, channel, base_folder=base, device=device)


def _export(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.export.export_work import export

    return export(_run(arguments), arguments, channel)


def _upload(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.export.hub_upload_work import upload

    return upload(arguments, channel)


def _serve(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.export.serve_work import serve

    return serve(arguments, channel)


def _check(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.export.check_work import check_export

    base = arguments.get("base")
    return check_export(_run(arguments), Path(arguments["path"]), channel, base=Path(base) if base else None)


def _score(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import from_plain
    from engine.train.scoring import score

    out = arguments.get("out")
    return score(from_plain(arguments["recipe"], CATALOGUE), channel, out=Path(out) if out else None)


def _rehearse(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import from_plain
    from engine.train.rehearse import rehearse

    recipe = from_plain(arguments["recipe"], CATALOGUE)
    return rehearse(recipe, JobFolder(Path(arguments["folder"])), channel, settle=bool(arguments.get("settle")))


def _trial(arguments: Arguments, channel: Channel) -> dict[str, Any]:
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import from_plain
    from engine.train.trial import trial

    recipe = from_plain(arguments["recipe"], CATALOGUE)
    return trial(recipe, JobFolder(Path(arguments["folder"])), channel, parent=int(arguments["parent"]))


def _run(arguments: Arguments) -> RunFolder:
    return RunFolder(Path(arguments["run"]))


JOBS: dict[str, Callable[[Arguments, Channel], dict[str, Any]]] = {
    "train": _train,
    "resume": _resume,
    "evaluate": _evaluate,
    "harness": _harness,
    "judge": _judge,
    "merge": _merge,
    "export": _export,
    "check": _check,
    "serve": _serve,
    "upload": _upload,
    "score": _score,
    "rehearse": _rehearse,
    "trial": _trial,
}
