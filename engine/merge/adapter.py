"""Merge a run's adapter into the original weights, shard by shard, and check that nothing was lost."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from engine.data.template import TEMPLATES_FOLDER, own_template
from engine.export.ledger import Export, remember
from engine.export.parity import doubt
from engine.export.targets import MERGED
from engine.merge.delta import Adapter
from engine.merge.place import check_folder, check_space, writing_folder
from engine.merge.prompts import Trained, load_samples
from engine.merge.reference import calm
from engine.merge.verify import ROWS, Subject, verify_folder, watching
from engine.merge.weights import INDEX, BaseWeights
from engine.project.atomic import write_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel
from engine.protocol.errors import Stopped
from engine.protocol.events import STOP, Progress, Stage
from engine.protocol.text import say

# What a model folder needs beside weights. The adapter's copies go first: they carry the trained template and stops.
_FROM_ADAPTER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
)
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def merge(run: RunFolder, out: Path, channel: Channel) -> dict[str, Any]:
    """Write base weights with the adapter of ``run`` in them to the folder ``out``, as a complete model folder.

    Weights are added in float32 and rounded once to the dtype of the base; memory stays near the largest shard.

    Returns:
        ``{"folder", "bytes", "files", "parity": {"prompts", "agreement", "passed", …}}``.

    Raises:
        UserError: the base is missing, damaged or quantised; the adapter is not for it; ``out`` is occupied; disk full.
        Stopped: the user asked.
    """
    base = BaseWeights.open(run.trained_on())
    facts = run.read_facts()
    adapter = Adapter.open(run.adapter)
    adapter.check_against(base.shapes)
    trained = Trained.load(run.adapter)
    samples = load_samples(run, trained, limit=ROWS)
    mark = {"kind": MERGED.name, "run": run.id, "base": facts.get("model", ""), "title": facts.get("title", "")}
    check_folder(out, mark)
    check_space(out, base.bytes)
    channel.emit(Stage(name="merge", text=say("Merging the adapter into the weights", "正在把适配器合并到权重中")))
    with writing_folder(out, mark) as folder:
        with calm(base.elements):
            write_weights(base, adapter, folder, channel)
        copy_companions(base.folder, run.adapter, folder)
        channel.emit(Stage(name="check", text=say("Comparing with base and adapter", "正在与基础模型加适配器对比")))
        subject = Subject(base, run.adapter, trained, tuple(samples))
        parity = verify_folder(subject, folder, MERGED.name, watching(channel))
    if note := doubt(parity, "merge"):
        channel.emit(note)
    files = sorted(path for path in out.iterdir() if path.is_file())
    size = sum(path.stat().st_size for path in files)
    remember(run, Export(MERGED.name, "", str(out.absolute()), size, time.time(), parity.to_plain()))
    return {
        "folder": str(out.absolute()),
        "bytes": size,
        "files": [path.name for path in files],
        "parity": parity.to_plain(),
    }


def write_weights(base: BaseWeights, adapter: Adapter, folder: Path, channel: Channel) -> None:
    """The merged weights, in the files the base has. Raises as `merge` does."""
    done = 0
    for file, names in base.shards():
        shard = {}
        for name in names:
            stop_if_asked(channel)
            stored = base.tensors[name]
            shard[name] = adapter.merged(name, base.read(name)).to(_DTYPES[stored.dtype]).contiguous()
            done += stored.bytes
            channel.emit(Progress(done=done, total=base.bytes, unit="bytes"))
        save_file(shard, folder / file, metadata={"format": "pt"})
    if len(base.files) > 1:
        weight_map = {name: stored.file for name, stored in base.tensors.items()}
        write_json(folder / INDEX, {"metadata": {"total_size": base.bytes}, "weight_map": weight_map})


def copy_companions(base: Path, adapter: Path, folder: Path) -> None:
    """Configuration from ``base``; tokenizer, chat template and stop tokens from ``adapter``, else from ``base``."""
    shutil.copyfile(base / "config.json", folder / "config.json")
    for name in _FROM_ADAPTER:
        source = next((path for path in (adapter / name, base / name) if is_own(path)), None)
        # The base's template must not come along when training chose another one that lies inside the adapter's files.
        if source is None or (name == "chat_template.jinja" and source.parent == base and own_template(adapter)):
            continue
        shutil.copyfile(source, folder / name)
    named = (adapter if own_template(adapter) else base) / TEMPLATES_FOLDER
    if named.is_dir() and not named.is_symlink():
        (folder / TEMPLATES_FOLDER).mkdir()
        for path in sorted(named.glob("*.jinja")):
            if is_own(path):
                shutil.copyfile(path, folder / TEMPLATES_FOLDER / path.name)


def is_own(path: Path) -> bool:
    """Whether a file lies in the folder that it seems to lie in, or where the hub's cache keeps a model's files: a link
    to anywhere else is not copied into what is given away."""
    if not path.is_file():
        return False
    place = path.parent.resolve()
    inside = path.resolve()
    kept = next((parent.parent for parent in place.parents if parent.name == "snapshots"), None)
    cached = kept is not None and kept.name.startswith("models--") and inside.is_relative_to(kept / "blobs")
    return inside.is_relative_to(place) or cached


def stop_if_asked(channel: Channel) -> None:
    """Raises `Stopped` when the channel holds a stop."""
    if any(command.name == STOP for command in channel.commands()):
        raise Stopped
