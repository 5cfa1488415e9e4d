"""The judge of the Evaluate page, asked by the real worker at a small server of the test's own; and the report."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.project.evaluation import (
    Comparison,
    EvaluatedRow,
    Evaluation,
    Scores,
    SideOfRow,
    Verdict,
    write_evaluation,
)
from engine.project.project import Project
from engine.project.run_folder import RunFolder
from engine.recipe.file import loads, save
from gui.context import AppContext
from gui.operations import report
from gui.operations.proof import Prover
from gui.pages.evaluate import EvaluatePage
from gui.state.settings import AppSettings

PATIENCE = 30_000


class Prefers(BaseHTTPRequestHandler):
    """A judge that likes answers with "good" in them."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = request["messages"][-1]["content"]
        first, second = asked.find("base "), asked.find("good ")
        said = json.dumps({"reason": "it is good", "verdict": "1" if second < first else "2"})
        content = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Prefers)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run whose answers were measured."""
    recipe = loads("", CATALOGUE)
    made = Project.open_or_create(tmp_path / "p").new_run(recipe, title="replies")
    made.adapter.mkdir()
    (made.adapter / "adapter_config.json").write_text("{}")
    save(recipe, made.recipe_as_run)
    rows = []
    for number in range(8):
        base, tuned = (SideOfRow(f"{name} {number}", False, 0.5, 1.0, 0.5) for name in ("base", "good"))
        rows.append(EvaluatedRow(f"rows.jsonl:{number}", f"question {number}", f"right {number}", base, tuned))
    even = Comparison(0, 0, 8, None)
    found = Evaluation(
        Scores(1.0, 2.7, 0.5, 0.0, 0.5), Scores(1.0, 2.7, 0.5, 0.0, 0.5), Verdict(even, even, 1.0), tuple(rows)
    )
    write_evaluation(made, found)
    return made


@pytest.fixture
def context(qtbot: QtBot, run: RunFolder) -> Iterator[AppContext]:
    made = AppContext(AppSettings(language="en", theme="light"), run.path.parent.parent)
    Prover(made)
    yield made
    made.close()


@pytest.fixture
def page(qtbot: QtBot, context: AppContext, run: RunFolder) -> EvaluatePage:
    made = EvaluatePage(context)
    qtbot.addWidget(made)
    made.resize(1050, 750)
    made.show()
    context.runs.select(run)
    made.refresh()
    qtbot.waitUntil(lambda: made.is_ready)
    made._tabs.show_view("judge")
    return made


def type_in(page: EvaluatePage, address: str, model: str = "judge-1") -> None:
    for line, text in ((page._judge.address, address), (page._judge.model, model)):
        line.setText(text)
        line.editingFinished.emit()


def test_a_judge_is_asked_and_its_verdict_shown(qtbot: QtBot, page: EvaluatePage, address: str) -> None:
    judge = page._judge
    assert not judge.ask.isEnabled()
    assert judge.result.isHidden()
    type_in(page, address)
    qtbot.waitUntil(judge.ask.isEnabled)
    assert judge._cost.text().startswith("16 questions: about")
    assert "No key is kept" in judge._state.text()
    judge.ask.click()
    qtbot.waitUntil(lambda: not judge.result.isHidden(), timeout=PATIENCE)
    assert judge.sentence.text() == "judge-1 finds the tuned model better: 8 wins, 0 losses, 0 ties."
    assert judge.facts.value("Tuned better · tie · base better") == "8 · 0 · 0"
    assert judge.list.count() == 8
    judge.list.setCurrentRow(2)
    assert judge._reason.text() == "it is good"
    assert page.is_ready


@pytest.mark.parametrize(
    ("address", "words"),
    [("gpt please", "is no address of a judge"), ("http://judge.example.com/v1", "is not encrypted")],
)
def test_an_address_that_is_not_asked(qtbot: QtBot, page: EvaluatePage, address: str, words: str) -> None:
    type_in(page, address)
    qtbot.waitUntil(lambda: words in page._judge.failure.sentence)
    assert not page._judge.ask.isEnabled()


def test_a_judge_that_is_not_there_is_told_and_the_figures_stay(qtbot: QtBot, page: EvaluatePage) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Prefers)
    port = server.server_address[1]
    server.server_close()
    type_in(page, f"http://127.0.0.1:{port}/v1")
    qtbot.waitUntil(page._judge.ask.isEnabled)
    page._judge.ask.click()
    qtbot.waitUntil(lambda: page._judge.failure.isVisible(), timeout=2 * PATIENCE)
    assert f"127.0.0.1:{port}" in page._judge.failure.sentence
    assert page.is_ready
    assert page._judge.ask.isVisible()


def test_the_report_is_saved_and_shown(
    qtbot: QtBot, page: EvaluatePage, context: AppContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(report.QDesktopServices, "openUrl", lambda url: shown.append(url.toLocalFile()))
    monkeypatch.setattr(report.QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "said"), ""))
    saved = report.save_report(context)
    assert saved is not None
    with qtbot.waitSignal(saved.ended):
        pass
    assert shown == [str(tmp_path / "said.html")]
    text = (tmp_path / "said.html").read_text(encoding="utf-8")
    assert "question 3" in text
    assert "good 3" in text
    assert "said.html" in context.notices.open[-1].message.en
    monkeypatch.setattr(report.QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    assert report.save_report(context) is None
