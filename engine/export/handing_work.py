"""Hand a GGUF to the programs that run it: to Ollama with a Modelfile, to LM Studio in its models folder."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.export.card import write_card
from engine.export.ledger import Export, listed, remember
from engine.export.lmstudio import PUBLISHER, needed_models_folder, place_of
from engine.export.ollama import MODELFILE, check_ours, checked_name, modelfile_of, needed_program, proposed_name
from engine.export.ollama_work import create, write_modelfile
from engine.merge.place import check_gguf, check_space, writing_file
from engine.project.atomic import disk_error
from engine.project.project import slug
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel, stop_if_asked
from engine.protocol.errors import UserError
from engine.protocol.events import Progress, Stage
from engine.protocol.text import say

Make = Callable[[Path], dict[str, Any]]
"""Writes the GGUF of a run to a path and gives what its export found."""
_CHUNK = 8 * 2**20


def hand_to_ollama(run: RunFolder, arguments: Mapping[str, Any], channel: Channel, make: Make) -> dict[str, Any]:
    """Write a Modelfile, and have Ollama make a model of it where that is wished.

    Args:
        arguments: ``file`` (a GGUF of the run; else ``out``, a folder into which one is written), ``name``, ``create``,
            ``context``, ``force`` (take a GGUF that failed its check).

    Returns:
        ``{"file", "modelfile", "name", "created", "template", "stops", "system", "context", "parity"}``.

    Raises:
        UserError: as the export; the GGUF failed its check; Ollama is not there, or fails.
    """
    title = str(run.read_facts().get("title") or run.id)
    name = checked_name(str(arguments.get("name") or "") or proposed_name(title))
    if arguments.get("create"):
        needed_program()
    if arguments.get("file"):
        gguf = Path(arguments["file"])
        path, known = modelfile_of(gguf), _known(run, gguf)
        check_ours(path)
    else:
        folder = Path(arguments["out"])
        path = folder / MODELFILE
        check_ours(path)
        made = make(folder / f"{slug(title)}.gguf")
        gguf = Path(made["file"])
        write_card(run, gguf)
        known = _known(run, gguf)
    _check_parity(known, force=bool(arguments.get("force")))
    about = write_modelfile(run, gguf, path, channel, context=int(arguments.get("context") or 0))
    if arguments.get("create"):
        create(path, name, channel)
        remember(run, Export("ollama", known.type, str(path.absolute()), known.bytes, time.time(), known.parity))
    return {
        "file": str(gguf.absolute()),
        "bytes": known.bytes,
        "name": name,
        "created": bool(arguments.get("create")),
        **about,
        "parity": dict(known.parity),
    }


def hand_to_lm_studio(run: RunFolder, arguments: Mapping[str, Any], channel: Channel, make: Make) -> dict[str, Any]:
    """Put a GGUF where LM Studio finds it, as a hard link where the disk is the same, else as a copy.

    Args:
        arguments: ``file`` (a GGUF of the run; else one is written into the run's own folder), ``models`` (LM Studio's
            models folder; found if empty), ``publisher``, ``name``, ``force``.

    Returns:
        ``{"file", "bytes", "way": "linked|copied|there", "parity"}``.

    Raises:
        UserError: as the export; the models folder is not found, something else lies there, or the disk is full.
        Stopped: the user asked; nothing is left.
    """
    title = str(run.read_facts().get("title") or run.id)
    models = needed_models_folder(Path(arguments["models"]) if arguments.get("models") else None)
    name = str(arguments.get("name") or "") or slug(title)
    given = arguments.get("file")
    gguf = Path(given) if given else run.exports / f"{slug(title)}-{str(arguments['quantize']).lower()}.gguf"
    target = place_of(gguf.name, models, name, str(arguments.get("publisher") or PUBLISHER))
    if not target.exists() or not gguf.exists() or not target.samefile(gguf):
        check_gguf(target)
    if not given:
        make(gguf)
    known = _known(run, gguf)
    _check_parity(known, force=bool(arguments.get("force")))
    channel.emit(Stage(name="lmstudio", text=say("Putting it into LM Studio's folder", "正在放入 LM Studio 的文件夹")))
    way = put(gguf, target, channel)
    remember(run, Export("lmstudio", known.type, str(target), known.bytes, time.time(), known.parity))
    return {"file": str(target), "bytes": known.bytes, "way": way, "parity": dict(known.parity)}


def put(gguf: Path, target: Path, channel: Channel) -> str:
    """Link or copy a file; gives "linked", "copied" or "there". Raises `UserError` where the disk does not take it."""
    if target.exists() and target.samefile(gguf):
        return "there"
    check_gguf(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name[:40]}.{os.getpid()}.part")
        beside.unlink(missing_ok=True)
        os.link(gguf, beside)
        os.replace(beside, target)
        return "linked"
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not gguf.exists():
            raise disk_error(error, gguf) from error
    _copy(gguf, target, channel)
    return "copied"


def _copy(gguf: Path, target: Path, channel: Channel) -> None:
    size = gguf.stat().st_size
    check_space(target, size)
    with writing_file(target) as path, gguf.open("rb") as source, path.open("wb") as copy:
        done = 0
        while piece := source.read(_CHUNK):
            stop_if_asked(channel)
            copy.write(piece)
            done += len(piece)
            channel.emit(Progress(done=done, total=size, unit="bytes"))
    shutil.copystat(gguf, target)


def _known(run: RunFolder, gguf: Path) -> Export:
    """The entry of a GGUF among the run's exports. Raises `UserError` where there is none."""
    found = next((export for export in listed(run) if Path(export.file) == gguf.absolute()), None)
    if found is not None and found.is_there:
        return found
    raise UserError(
        "export.unknown",
        say("{name} is no export of this run.", "{name} 不是此训练的导出。", name=gguf.name),
        say("Export a GGUF first.", "请先导出 GGUF。"),
        where=str(gguf),
    )


def _check_parity(export: Export, *, force: bool) -> None:
    if export.passed is not False or force:
        return
    raise UserError(
        "export.differs",
        say(
            "{name} differs from what was trained: it is not handed on.",
            "{name} 与训练结果不一致，不会交给其他程序。",
            name=Path(export.file).name,
        ),
        say("Export it again. If you must: --force", "请重新导出。确有必要时可用 --force"),
        where=export.file,
    )
