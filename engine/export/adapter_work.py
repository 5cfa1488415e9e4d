"""Export a run's adapter: PEFT's own folder with tokenizer, template and a card, verified to load."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from engine.export.card import CARD, card
from engine.export.ledger import Export, remember
from engine.export.parity import doubt
from engine.export.targets import ADAPTER
from engine.merge.adapter import is_own
from engine.merge.delta import CONFIG, Adapter
from engine.merge.place import check_folder, check_space, writing_folder
from engine.merge.prompts import Trained, load_samples
from engine.merge.verify import ROWS, Subject, verify_folder, watching
from engine.merge.weights import BaseWeights
from engine.project.atomic import read_json, write_json, write_text
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel, stop_if_asked
from engine.protocol.events import Progress, Stage
from engine.protocol.text import say


def export_adapter(run: RunFolder, out: Path, channel: Channel) -> dict[str, Any]:
    """Copy the adapter of ``run`` to the folder ``out`` with a model card.

    Returns:
        ``{"folder", "bytes", "files", "parity": {"passed", …}}``: what peft answers with the copy.

    Raises:
        UserError: the adapter is damaged or belongs to another base, ``out`` is occupied, the disk is full.
        Stopped: the user asked.
    """
    base = BaseWeights.open(run.trained_on())
    facts = run.read_facts()
    samples = load_samples(run, Trained.load(run.adapter), limit=ROWS)
    sources = sorted(path for path in run.adapter.iterdir() if is_own(path))
    mark = {"kind": ADAPTER.name, "run": run.id, "base": facts.get("model", ""), "title": facts.get("title", "")}
    total = sum(path.stat().st_size for path in sources)
    check_folder(out, mark)
    check_space(out, total)
    channel.emit(Stage(name="adapter", text=say("Copying the adapter", "正在复制适配器")))
    with writing_folder(out, mark) as folder:
        done = 0
        for source in sources:
            stop_if_asked(channel)
            shutil.copyfile(source, folder / source.name)
            done += source.stat().st_size
            channel.emit(Progress(done=done, total=total, unit="bytes"))
        _name_base(folder / CONFIG, str(facts.get("model") or ""))
        _verify(folder, base)
        channel.emit(Stage(name="check", text=say("Comparing with what was trained", "正在与训练结果对比")))
        subject = Subject(base, run.adapter, Trained.load(run.adapter), tuple(samples))
        parity = verify_folder(subject, folder, ADAPTER.name, watching(channel))
        write_text(folder / CARD, card(run, ADAPTER.name, parity=parity.to_plain()))
    if note := doubt(parity):
        channel.emit(note)
    files = sorted(path for path in out.iterdir() if path.is_file())
    size = sum(path.stat().st_size for path in files)
    remember(run, Export(ADAPTER.name, "", str(out.absolute()), size, time.time(), parity.to_plain()))
    names = [path.name for path in files]
    return {"folder": str(out.absolute()), "bytes": size, "files": names, "parity": parity.to_plain()}


def _name_base(path: Path, model: str) -> None:
    """Name the base as the hub does, where it has such a name: a path of this machine says nothing elsewhere."""
    if "/" in model and not model.startswith(("/", ".", "~", "\\")) and not Path(model).is_dir():
        write_json(path, {**read_json(path), "base_model_name_or_path": model})


def _verify(folder: Path, base: BaseWeights) -> None:
    """Read every weight of the copy against the base it changes. Raises `UserError` when one does not fit."""
    copied = Adapter.open(folder, base)
    for name in copied.targets:
        if copied.changes(name):
            copied.whole(name)
    Trained.load(folder)
