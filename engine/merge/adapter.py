"""Merge an adapter into the original weights, shard by shard, and check that nothing was lost."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.data.rows import USER, Message
from engine.data.template import TEMPLATES_FOLDER, own_template
from engine.export.card import CARD, card
from engine.export.ledger import Export, remember
from engine.export.parity import Parity, doubt
from engine.export.targets import MERGED
from engine.merge.delta import Adapter
from engine.merge.place import check_folder, check_space, writing_folder
from engine.merge.prompts import GENERIC, Trained, load_samples
from engine.merge.shards import bytes_of, check_memory, write_weights
from engine.merge.verify import ROWS, Subject, verify_folder, watching
from engine.merge.weights import BaseWeights
from engine.project.atomic import write_json, write_text
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel, telling
from engine.protocol.events import Stage
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


def merge(
    run: RunFolder, out: Path, channel: Channel, *, base_folder: Path | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Write base weights with the adapter of ``run`` in them to the folder ``out``, as a complete model folder.

    Weights are added in float32 and rounded once to the dtype of the base, a few rows at a time: no whole model and no
    whole file of it is in memory.

    Args:
        base_folder: the original 16-bit weights, where the run was trained on quantised ones or they were moved.
        device: "cpu" or "cuda".

    Returns:
        ``{"folder", "bytes", "files", "parity": {"prompts", "agreement", "passed", …}}``.

    Raises:
        UserError: the base is missing, damaged or quantised; the adapter is not for it or of a kind that cannot be
            merged; ``out`` is occupied; disk or memory are too small.
        Stopped: the user asked.
    """
    trained_on = base_folder if base_folder is not None and run.adapter_written else run.trained_on()
    base = BaseWeights.open(trained_on)
    facts = run.read_facts()
    adapter = Adapter.open(run.adapter, base)
    trained = Trained.load(run.adapter)
    subject = Subject(base, run.adapter, trained, tuple(load_samples(run, trained, limit=ROWS)))
    mark = {"kind": MERGED.name, "run": run.id, "base": facts.get("model", ""), "title": facts.get("title", "")}

    def describe(parity: Parity) -> str:
        return card(run, MERGED.name, parity=parity.to_plain())

    parity, result = _write(adapter, subject, out, mark, channel, device, describe)
    remember(run, Export(MERGED.name, "", result["folder"], result["bytes"], time.time(), parity.to_plain()))
    return result


def merge_folders(
    adapter_folder: Path, base_folder: Path, out: Path, channel: Channel, *, device: str = "cpu"
) -> dict[str, Any]:
    """The same for an adapter of PEFT's that no run of ours trained; compared along general prompts.

    Tokenizer and template are the adapter's, where it has them, else the base's. Returns and raises as `merge`.
    """
    base = BaseWeights.open(base_folder)
    adapter = Adapter.open(adapter_folder, base)
    trained = Trained.load(adapter_folder if is_own(adapter_folder / "tokenizer.json") else base_folder)
    samples = tuple(trained.asked((Message(USER, text),)) for text in GENERIC)
    subject = Subject(base, adapter_folder, trained, samples)
    # Not the path, which is of this machine: only the same adapter's merge is replaced.
    mark: dict[str, object] = {"kind": MERGED.name}
    mark["run"] = hashlib.sha256(str(adapter_folder.resolve()).encode()).hexdigest()[:16]
    return _write(adapter, subject, out, mark, channel, device)[1]


def _write(
    adapter: Adapter,
    subject: Subject,
    out: Path,
    mark: dict[str, object],
    channel: Channel,
    device: str,
    describe: Callable[[Parity], str] | None = None,
) -> tuple[Parity, dict[str, Any]]:
    """Write the folder ``out``, complete or not at all, and check it. Gives what the check found, and the result.

    Args:
        describe: the text of the folder's card.
    """
    base = subject.base
    check_folder(out, mark)
    check_space(out, sum(map(bytes_of, adapter.targets.values())))
    check_memory(base, adapter, device)
    channel.emit(Stage(name="merge", text=say("Merging the adapter into the weights", "正在把适配器合并到权重中")))
    with writing_folder(out, mark) as folder:
        write_weights(base, adapter, folder, telling(channel, "bytes"), device)
        copy_companions(base.folder, adapter.folder, folder)
        if adapter.changed_config:
            write_json(folder / "config.json", merged_config(base.config, adapter))
        channel.emit(Stage(name="check", text=say("Comparing with base and adapter", "正在与基础模型加适配器对比")))
        parity = verify_folder(subject, folder, MERGED.name, watching(channel))
        if describe is not None:
            write_text(folder / CARD, describe(parity))
    if note := doubt(parity, "merge"):
        channel.emit(note)
    files = sorted(path for path in out.iterdir() if path.is_file())
    size = sum(path.stat().st_size for path in files)
    return parity, {
        "folder": str(out.absolute()),
        "bytes": size,
        "files": [path.name for path in files],
        "parity": parity.to_plain(),
    }


def merged_config(config: dict[str, Any], adapter: Adapter) -> dict[str, Any]:
    """``config.json`` of the merged model: the base's, but for a longer vocabulary or a head that was untied."""
    changed = dict(adapter.changed_config)
    inner = config.get("text_config")
    if changed and isinstance(inner, dict):
        config = {**config, "text_config": {**inner, **changed}}
        changed.pop("vocab_size", None)
    return {**config, **changed}


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
