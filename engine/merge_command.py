"""The command ``lorimer merge``: of a run, or of an adapter and a base that lie in folders."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from typing import Any

from engine.host.platform import cache_folder
from engine.jobs import AGAIN, english, failure_of, run_job
from engine.project.project import new_job_in
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say
from engine.terminal import Terminal


def merge_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What the job is given.

    Raises:
        UserError: neither a run nor an adapter with its base is named, or both are.
    """
    paths = {name: getattr(options, name) for name in ("adapter", "base", "out")}
    if (options.run is None) == (paths["adapter"] is None) or (paths["adapter"] and paths["base"] is None):
        raise UserError(
            "merge.what",
            say("It is not clear what is to be merged.", "未指明要合并什么。"),
            say(
                "Name a run, or an adapter and its base: lorimer merge --adapter DIR --base DIR --out DIR",
                "请指定一次训练，或适配器及其基础模型：lorimer merge --adapter DIR --base DIR --out DIR",
            ),
        )
    given = {name: str(path.expanduser().resolve()) for name, path in paths.items() if path is not None}
    return {**given, "device": options.device}


def merge_folders(arguments: dict[str, Any], terminal: Terminal, lines: Callable[[dict[str, Any]], list[Text]]) -> int:
    """Merge without a run; gives the exit code. What failed is left in a folder of Lorimer's own, with its log."""
    job = new_job_in(cache_folder() / "jobs", "merge")
    outcome = run_job(job, "merge", arguments, terminal)
    failure = failure_of(outcome, AGAIN)
    if failure is not None:
        return terminal.failure(failure, english(outcome.value))
    shutil.rmtree(job.path, ignore_errors=True)
    terminal.result(english(outcome.value), *(lines(outcome.value) if outcome.value else []))
    return outcome.exit_code
