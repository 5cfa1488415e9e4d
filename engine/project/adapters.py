"""Adapters of a project that belong to the same base model: what can stand beside a run's own. Light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.project.kept import kept
from engine.project.rebuilt import facts_of, run_folders
from engine.project.remarks import clean_title, read_remarks
from engine.project.run_folder import RunFolder
from engine.protocol.text import Text, say

FILES = ("adapter_config.json", "adapter_model.safetensors")
RUN, CHECKPOINT = "run", "checkpoint"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One adapter.

    Attributes:
        kind: "run" (another run of the project) or "checkpoint" (an earlier state of this one).
        title: for people.
        path: PEFT's folder.
    """

    kind: str
    title: Text
    path: Path


def adapters_beside(run: RunFolder) -> list[Candidate]:
    """Checkpoints of the run, newest first, then other runs of its project on the same base, newest first."""
    found = []
    for item in reversed(kept(run)):
        if _is_adapter(item.path):
            title = say("Checkpoint {n}", "检查点 {n}", n=f"{item.step:,}")
            found.append(Candidate(CHECKPOINT, title, item.path))
    base = facts_of(run)[0].get("model_folder")
    for other in run_folders(run.path.parent):
        if other.path == run.path or not base or not _is_adapter(other.adapter):
            continue
        facts, _ = facts_of(other)
        if facts.get("model_folder") == base:
            name = read_remarks(other).title or clean_title(facts.get("title")) or other.id
            found.append(Candidate(RUN, Text(other.named(name), other.named(name)), other.adapter))
    return found


def _is_adapter(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)
