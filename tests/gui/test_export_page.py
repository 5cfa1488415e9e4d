"""The Export page: what is offered, what is stamped, and what can be done with it, by the real worker."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog, QPushButton
from pytestqt.qtbot import QtBot

from engine.export.ledger import Export, listed, remember
from engine.export.parity import difference
from engine.export.serve import halt, running
from engine.export.targets import QUANTISATIONS
from engine.project.project import Project
from engine.project.run_folder import RunFolder
from engine.protocol.text import say
from gui.context import AppContext
from gui.operations.export import look
from gui.pages.export import ExportPage
from gui.state.settings import AppSettings
from tests.played_hub import playing
from tests.unit.export.moved import moved
from tests.unit.merge.made import hold_out, lora, trained_run

PATIENCE = 60_000
TOKEN = "hf_of_ada_who_may_write"


@pytest.fixture(scope="module")
def made(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A trained run on the starter."""
    run = trained_run(tmp_path_factory.mktemp("made") / "0001-clinic", starter, lora(), stops=(3,), size=0.02)
    run.recipe.write_text('[model]\nsource = "starter"\n', encoding="utf-8")
    run.write_facts({**run.read_facts(), "title": "clinic replies"})
    hold_out(run, (("Hello!", "Hi!"), ("Where is the ball?", "It is in the park.")))
    (run.path / "exports.json").write_text("[]")
    return run


@pytest.fixture
def run(made: RunFolder, tmp_path: Path) -> RunFolder:
    project = Project.open_or_create(tmp_path / "project")
    return moved(made, project.path / "runs" / "0001-clinic")


@pytest.fixture
def context(qtbot: QtBot, run: RunFolder) -> Iterator[AppContext]:
    made = AppContext(AppSettings(language="en", theme="light"), run.path.parents[1])
    made.control.begin(run.path.parents[1])
    qtbot.waitUntil(lambda: made.control.controls)
    yield made
    made.close()


@pytest.fixture
def page(qtbot: QtBot, context: AppContext, run: RunFolder) -> ExportPage:
    context.runs.select(run)
    made = ExportPage(context)
    qtbot.addWidget(made)
    made.resize(1100, 700)
    made.show()
    made.refresh()
    qtbot.waitUntil(lambda: made.is_ready)
    return made


def press(page: ExportPage, text: str) -> None:
    """Press the button with these words, which must be seen and ready."""
    found = [item for item in page.findChildren(QPushButton) if item.text() == text and item.isVisible()]
    assert len(found) == 1, [item.text() for item in page.findChildren(QPushButton) if item.isVisible()]
    assert found[0].isEnabled(), text
    found[0].click()


def buttons(page: ExportPage) -> set[str]:
    return {item.text() for item in page.findChildren(QPushButton) if item.isVisible()}


def exported(run: RunFolder, name: str = "m.gguf", *, kind: str = "F16", passed: bool | None = True) -> Path:
    """A file that counts as an export."""
    file = run.exports / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"GGUF" + b"x" * 2000)
    remember(run, Export("gguf", kind, str(file), 2004, time.time(), {"passed": passed}))
    return file


def reread(qtbot: QtBot, context: AppContext) -> None:
    before = context.takeaway.found
    look(context)
    qtbot.waitUntil(lambda: context.takeaway.found is not before and context.takeaway.is_read)


# --------------------------------------------------------------------------------------------------------- real work
def test_from_choice_to_stamp_to_server(
    page: ExportPage, context: AppContext, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr("gui.pages.export_use.copy", copied.append)
    assert not page.stamp.isVisible()
    for name in ("F16", "Q4_K_M"):  # F16 instead of the usual choice
        page.choices.types.boxes[name].click()
    assert context.takeaway.types == ("F16",)
    press(page, "Export and check")
    qtbot.waitUntil(lambda: page._work.isVisible(), timeout=PATIENCE)
    assert not page._start.isEnabled()
    qtbot.waitUntil(lambda: page.stamp.isVisible(), timeout=PATIENCE)
    item = context.takeaway.looked_at
    assert item is not None
    assert item.path == run.exports / "clinic-replies-f16.gguf"
    assert page.stamp.chip.text == "✓ is what you trained"
    assert page.stamp.figures.value("Tokenizer") == "as in training"
    assert page.stamp.figures.value("Next token equal to base + adapter").startswith("100.0% of ")
    assert page.choices.types._chips["F16"].text.startswith("ppl ")
    assert (run.exports / "clinic-replies-f16.md").is_file()

    press(page, "Start")
    qtbot.waitUntil(lambda: page.uses.server.serving is not None, timeout=PATIENCE)
    serving = page.uses.server.serving
    assert serving is not None
    assert serving.address in page.uses.server.words.text()
    assert serving.key not in page.uses.server.words.text()
    for name in ("Copy address", "Copy key", "curl", "Python"):
        press(page, name)
    assert copied == [serving.address, serving.key, serving.curl, serving.python]
    connection = http.client.HTTPConnection(serving.address.split("/")[2], timeout=30)
    connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {serving.key}"})
    assert json.loads(connection.getresponse().read())["data"][0]["id"] == "clinic-replies-f16"
    connection.close()
    reread(qtbot, context)  # as a new window finds it
    press(page, "Stop")
    qtbot.waitUntil(lambda: page.uses.server.serving is None and running() == (), timeout=PATIENCE)
    assert page.uses.server.words.text() == "not running"

    press(page, "Remove")
    assert item.path.exists()  # it is asked first, by the button's own words
    monkeypatch.setattr("gui.operations.export.move_to_trash", Path.unlink)
    press(page, "To the trash?")
    qtbot.waitUntil(lambda: not item.path.exists() and listed(run) == ())
    qtbot.waitUntil(lambda: not page.stamp.isVisible())


def test_several_types_in_one_go_and_a_cancel(page: ExportPage, context: AppContext, qtbot: QtBot) -> None:
    for name in ("Q8_0", "F16"):
        page.choices.types.boxes[name].click()
    assert context.takeaway.types == ("Q4_K_M", "Q8_0", "F16")
    assert "3 files" in page._footer.words.text()
    press(page, "Export and check")
    qtbot.waitUntil(lambda: page._work.isVisible(), timeout=PATIENCE)
    press(page, "Cancel")
    qtbot.waitUntil(lambda: not context.runs.export.is_running, timeout=PATIENCE)
    assert context.runs.export.state.status == "stopped"
    assert not page._failure.isVisible()  # a stop is no error
    assert page._start.isEnabled()


# ------------------------------------------------------------------------------------------------------------- stamp
def test_what_differs_is_red_says_what_and_is_not_handed_on(
    page: ExportPage, context: AppContext, run: RunFolder, qtbot: QtBot
) -> None:
    file = exported(run)
    wrong = difference("stop", say("It does not end.", "不会结束。"))
    plain = {"passed": False, "differs": [{"kind": "stop", "text": {"en": wrong.text.en, "zh": "不"},
             "hint": {"en": wrong.hint.en, "zh": "重"}}], "stops_equal": False}  # fmt: skip
    remember(run, Export("gguf", "Q4_K_M", str(file), 2004, time.time(), plain))
    reread(qtbot, context)
    assert page.stamp.chip.text == "do not use"
    assert page.stamp.said.text() == "Do not use it: It does not end."
    assert wrong.hint.en in page.stamp._more.text()
    assert page.stamp.figures.value("End of the answer") == "differs"
    assert page.stamp.property("tone") == "bad"
    assert not {"Start", "Write the Modelfile", "Upload…"} & buttons(page)
    assert page.uses._refused.isVisible()
    assert {"Check again", "Remove"} <= buttons(page)


def test_what_was_not_checked_says_why(page: ExportPage, context: AppContext, run: RunFolder, qtbot: QtBot) -> None:
    file = exported(run)
    remember(run, Export("gguf", "F16", str(file), 1, 1.0, {"passed": None, "reason": {"en": "no room", "zh": "无"}}))
    reread(qtbot, context)
    assert page.stamp.chip.text == "not checked"
    assert page.stamp.said.text() == "Not checked: no room."


def test_earlier_exports_are_listed_and_looked_at(
    page: ExportPage, context: AppContext, run: RunFolder, qtbot: QtBot
) -> None:
    old, new = exported(run, "old.gguf", kind="Q8_0"), exported(run, "new.gguf")
    reread(qtbot, context)
    assert [line[0] for line in page._earlier.texts] == ["GGUF F16, new.gguf", "GGUF Q8_0, old.gguf"]
    assert context.takeaway.looked_at is not None
    assert context.takeaway.looked_at.path == new
    context.takeaway.set(shown=old)
    assert page.stamp._name.text() == "old.gguf"
    old.unlink()
    reread(qtbot, context)
    assert page._earlier.texts[1][3] == "moved or deleted"
    assert not page.uses.isVisible()
    assert "Copy path" not in buttons(page)
    press(page, "Remove")
    press(page, "To the trash?")
    qtbot.waitUntil(lambda: [item.file for item in listed(run)] == [str(new)])


def test_a_damaged_list_is_told(page: ExportPage, context: AppContext, run: RunFolder, qtbot: QtBot) -> None:
    (run.path / "exports.json").write_text("[")
    look(context)
    qtbot.waitUntil(lambda: not page.is_ready)
    assert "damaged" in page.banner.sentence


# -------------------------------------------------------------------------------------------------------------- uses
def test_lm_studio_gets_a_link(
    page: ExportPage, context: AppContext, run: RunFolder, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = exported(run)
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args: str(models))
    reread(qtbot, context)
    press(page, "Its models folder…")
    target = models / "lorimer" / "clinic-replies" / "m.gguf"
    qtbot.waitUntil(target.exists, timeout=PATIENCE)
    assert target.samefile(file)
    qtbot.waitUntil(lambda: len(context.takeaway.exports) == 2, timeout=PATIENCE)


@pytest.mark.skipif(os.name == "nt", reason="the played program is a script with a first line")
def test_ollama_makes_the_model_by_the_button(
    page: ExportPage, context: AppContext, run: RunFolder, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(run)
    folder, told = tmp_path / "bin", tmp_path / "told"
    folder.mkdir()
    program = folder / "ollama"
    program.write_text(f"#!{sys.executable}\nimport sys\nopen({str(told)!r}, 'w').write(' '.join(sys.argv[1:]))\n")
    program.chmod(0o755)
    reread(qtbot, context)
    assert "Create now" not in buttons(page)
    monkeypatch.setenv("PATH", str(folder) + os.pathsep + os.environ["PATH"])
    reread(qtbot, context)
    assert page.uses.ollama.words.text() == "ollama create clinic-replies -f m.Modelfile"
    press(page, "Create now")
    qtbot.waitUntil(told.exists, timeout=PATIENCE)
    assert told.read_text() == "create clinic-replies -f m.Modelfile"
    qtbot.waitUntil(lambda: not context.runs.export.is_running, timeout=PATIENCE)
    assert (run.exports / "m.Modelfile").is_file()


def test_an_upload_is_private_and_by_a_checked_name(
    page: ExportPage, context: AppContext, run: RunFolder, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(run)
    with playing() as hub:
        hub.token = TOKEN
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        reread(qtbot, context)
        assert not page.uses.hub.repo.isVisible()
        press(page, "Upload…")
        qtbot.waitUntil(lambda: context.models.access.token == "variable")
        qtbot.keyClicks(page.uses.hub.repo, "not a name")
        assert not page.uses.hub._send_button.isEnabled()
        assert "owner/name" in page.uses.hub._state.text()
        page.uses.hub.repo.clear()
        qtbot.keyClicks(page.uses.hub.repo, "ada/clinic")
        assert "HF_TOKEN" in page.uses.hub._state.text()
        qtbot.waitUntil(lambda: page.uses.hub._files.text().startswith("Sends 2 files, "))
        assert page.uses.hub._files.text().endswith(": README.md, m.gguf")
        press(page, "Upload")
        qtbot.waitUntil(lambda: bool(hub.repositories.get("ada/clinic")), timeout=PATIENCE)
        assert hub.private == {"ada/clinic": True}
        qtbot.waitUntil(lambda: not context.runs.export.is_running, timeout=PATIENCE)
        assert context.runs.export.state.status == "done"


# ----------------------------------------------------------------------------------------------------------- choices
def test_another_architecture_can_be_made_by_a_converter(
    page: ExportPage, context: AppContext, run: RunFolder, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}')
    run.write_facts({**run.read_facts(), "model_folder": str(base)})
    context.runs.select(run)
    qtbot.waitUntil(lambda: not page.choices.targets.cards["gguf"].isEnabled())
    assert not page.choices.targets.cards["gguf"].isEnabled()
    assert context.takeaway.chosen == "adapter"
    assert page.choices.targets.chosen == "adapter"
    assert not page.choices.types.isVisible()
    checkout = tmp_path / "llama.cpp"
    (checkout / "gguf-py" / "gguf").mkdir(parents=True)
    (checkout / "convert_hf_to_gguf.py").write_text("")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args: str(checkout))
    press(page, "Use llama.cpp's converter…")
    qtbot.waitUntil(lambda: page.choices.targets.cards["gguf"].isEnabled())
    qtbot.mouseClick(page.choices.targets.cards["gguf"], Qt.MouseButton.LeftButton)
    assert str(checkout) in page.choices._by.text()
    assert context.settings.values.llama_cpp == str(checkout)


def test_sizes_and_room_are_told_before(
    page: ExportPage, context: AppContext, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(page.choices.types.boxes) == list(QUANTISATIONS)
    sizes = [context.takeaway.found.types[name].bytes for name in ("Q4_K_M", "Q8_0", "F16")]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    page.choices.types.boxes["Q4_K_M"].click()  # the last one stays
    assert page.choices.types.boxes["Q4_K_M"].isChecked()
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("gui.state.takeaway.shutil.disk_usage", lambda path: usage._replace(free=1000))
    reread(qtbot, context)
    assert not page._start.isEnabled()
    assert "choose another folder" in page._footer.words.text()


def test_every_button_has_a_key_of_its_own(page: ExportPage, context: AppContext, run: RunFolder, qtbot: QtBot) -> None:
    exported(run)
    reread(qtbot, context)
    page.uses.hub._form.show()
    found = [item for item in page.findChildren(QPushButton) if item.isVisible()]
    keys = {item.text(): item.shortcut().toString() for item in found}
    assert all(keys.values()), keys
    assert len(set(keys.values())) == len(keys), keys


@pytest.fixture(autouse=True)
def no_server_is_left() -> Iterator[None]:
    yield
    for serving in running():
        halt(serving.folder)
