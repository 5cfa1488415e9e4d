"""What the user can do with a trained run: take it away, hand it to other programs, serve it, give it to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices

from engine.export import serve
from engine.export.hub_upload import Sent, parcel
from engine.export.ledger import forget
from engine.export.other_architectures import checked_checkout
from engine.export.serve import Serving
from engine.host.trash import move_to_trash
from engine.project.run_folder import JobFolder
from engine.project.showing import folder_to_show
from engine.protocol.errors import Failure
from gui.context import AppContext
from gui.operations.jobs import start_later_job
from gui.operations.operation import Operation
from gui.state.takeaway import GGUF, MERGED, Found, Taken, find


def look(context: AppContext) -> None:
    """Ask the disk what was taken away, what can be, and what is installed."""
    takeaway, run = context.takeaway, context.runs.run
    takeaway.begin(run)
    if run is None:
        return
    facts, plan, folder = dict(context.runs.facts), context.runs.train.state.plan, takeaway.folder
    converter = context.settings.values.llama_cpp

    def work() -> Found:
        return find(run, facts, plan, folder, converter)

    Operation(context).in_background(work).on_success(takeaway.take)


def export(context: AppContext) -> None:
    """Write what is chosen and hold it against the trained model."""
    run, chosen = context.runs.run, context.takeaway.chosen
    if run is None:
        return
    (first, out), *more = context.takeaway.targets_of(run, str(context.runs.facts.get("title", "")))
    context.takeaway.set(shown=None, removing=None)
    if chosen == MERGED:
        start_later_job(context, context.runs.export, "merge", {"out": str(out)})
        return
    arguments: dict[str, Any] = {"to": chosen, "quantize": first, "out": str(out)}
    if chosen == GGUF:
        arguments["llama_cpp"] = context.settings.values.llama_cpp
        arguments["also"] = [{"quantize": name, "out": str(path)} for name, path in more]
    start_later_job(context, context.runs.export, "export", arguments)


def check_again(context: AppContext, item: Taken) -> None:
    """Hold an export against the trained model once more."""
    start_later_job(context, context.runs.export, "check", {"path": item.export.file})


def hand_to_ollama(context: AppContext, item: Taken, *, create: bool) -> None:
    """Write a Modelfile beside a GGUF, and have Ollama make a model of it where that is wished."""
    arguments = {"to": "ollama", "file": item.export.file, "create": create}
    start_later_job(context, context.runs.export, "export", arguments)


def hand_to_lm_studio(context: AppContext, item: Taken, models: Path) -> None:
    """Put a GGUF into LM Studio's models folder."""
    arguments = {"to": "lmstudio", "file": item.export.file, "models": str(models), "quantize": item.export.type}
    start_later_job(context, context.runs.export, "export", arguments)


def look_into_parcel(context: AppContext, item: Taken) -> None:
    """Find out which files an upload would send."""
    run = context.runs.run
    if run is None:
        return

    def done(files: tuple[Sent, ...]) -> None:
        context.takeaway.set(parcel=(item.path, files))

    Operation(context).in_background(lambda: parcel(run, [item.export])).on_success(done)


def upload(context: AppContext, item: Taken) -> None:
    """Send an export to the hub."""
    arguments = {"files": [item.export.file], "repo": context.takeaway.repo, "public": context.takeaway.public}
    start_later_job(context, context.runs.export, "upload", arguments)


def remove(context: AppContext, item: Taken) -> None:
    """Move an export to the system's trash and take it off the list; one that is gone already is only taken off."""
    run = context.runs.run
    if run is None:
        return

    def work() -> None:
        if item.path.exists():
            move_to_trash(item.path)
        forget(run, item.export.file)

    def done(_nothing: object) -> None:
        context.takeaway.set(shown=None, removing=None)
        look(context)

    Operation(context).in_background(work, changes=True).on_success(done)


# --------------------------------------------------------------------------------------------------------------- serve
def start_server(context: AppContext, item: Taken) -> None:
    """Serve a GGUF to programs of this machine; the job's view says how it goes."""
    stays = context.takeaway.stays

    def failed(failure: Failure) -> None:
        context.notices.failure(failure)

    def started(folder: JobFolder) -> None:
        context.serving.follow(folder)

    operation = Operation(context).in_background(lambda: serve.start(item.path, stays=stays))
    operation.on_success(started).on_failure(failed)


def stop_server(context: AppContext, serving: Serving) -> None:
    """Stop a server, and give its port free."""

    def done(_rung: object) -> None:
        context.serving.follow(None)
        look(context)

    Operation(context).in_background(lambda: serve.halt(serving.folder)).on_success(done)


def use_converter(context: AppContext, folder: Path) -> None:
    """Have llama.cpp's own converter in a folder make what Lorimer does not write itself."""

    def done(_checkout: object) -> None:
        context.settings.set_llama_cpp(str(folder))
        look(context)

    Operation(context).in_background(lambda: checked_checkout(folder)).on_success(done)


def show_in_folder(path: Path) -> None:
    """Open the folder that holds an export in the system's file manager."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder_to_show(path))))
