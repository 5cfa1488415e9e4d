"""Runs on small models, made once: what exports are tested on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.data.template import choose_template
from engine.export.gguf_work import export_gguf
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from tests.unit.merge.made import hold_out, lora, trained_run

STORIES = (
    ("Once upon a time", "there was a little girl named Lily. She loved to play outside with her mom and dad."),
    ("A dog", "ran in the park and was happy. The end."),
    ("Tell a story about a boat.", "One day, a big boat went to the sea. The boat was very happy."),
    ("你好", "The sun was big."),
)


@pytest.fixture(scope="session")
def stories(shared_data: Path) -> Path:
    """The pretrained model stories260K."""
    return shared_data / "models" / "stories260K"


@pytest.fixture(scope="session")
def stories_run(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with LoRA on stories260K and the chat template that Lorimer chooses for it."""
    template = choose_template(stories).source
    run = trained_run(tmp_path_factory.mktemp("stories") / "run", stories, lora(), template=template, size=0.03)
    hold_out(run, STORIES)
    return run


@pytest.fixture
def run(stories_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of that run that a test may change."""
    return RunFolder(Path(shutil.copytree(stories_run.path, tmp_path / "run")))


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the first 12 tokens of each answer instead of 32: the same code in a third of the time."""
    for module in ("engine.export.gguf_check", "engine.merge.verify"):
        monkeypatch.setattr(f"{module}.ANSWER", 12)


@pytest.fixture(scope="session")
def starter_run(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on the starter, exported once as a GGUF; tests that change it take a copy."""
    run = trained_run(tmp_path_factory.mktemp("starter") / "run", starter, lora(), stops=(3,), size=0.02)
    hold_out(run, (("Hello!", "Hi!"), ("Where is the ball?", "It is in the park.")))
    export_gguf(run, run.exports / "orders.gguf", "f16", Recorder())
    return run


@pytest.fixture(scope="session")
def starter_gguf(starter_run: RunFolder) -> Path:
    """That GGUF."""
    return starter_run.exports / "orders.gguf"
