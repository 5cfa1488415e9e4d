"""The Model page on sessions whose answers the test gives: the list and its filter, what fits, the hub, its access."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
from PySide6.QtWidgets import QApplication, QFileDialog, QLineEdit, QPushButton, QScrollArea
from pytestqt.qtbot import QtBot

from engine.machine.detect import detect
from engine.machine.fits import WORDS
from engine.machine.forecast import room
from engine.machine.known_models import known_models
from engine.project import hub_access as access_of_hub
from engine.project.settings import load_settings
from engine.protocol.errors import Failure
from engine.protocol.events import Progress
from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import speak, tr
from gui.operations import hub_access
from gui.operations import models as operations
from gui.pages.model import CELL_MARGIN, HAS_PROBLEM, ModelPage, download_words, verdict_width
from gui.state.models import ModelFilter
from gui.state.phase import Phase
from gui.widgets.chip import chip_width
from tests.gui.sessions import Session, buttons, shown, texts
from tests.unit.project.test_hub_access import InMemory

STARTER = {"source": "starter", "name": "starter", "where": "starter", "parameters": 3e6, "context": 2048, "bytes": 7e6}
QWEN = "Qwen/Qwen3-4B"
GEMMA = "google/gemma-2-9b-it"
TOKEN = "hf_abcdefghijklmnop"
OWN = """
[[model]]
id = "me/mine"
parameters = 260_032
licence = "mit"
[model.config]
model_type = "llama"
hidden_size = 64
intermediate_size = 172
num_hidden_layers = 5
num_attention_heads = 8
num_key_value_heads = 4
vocab_size = 512
tie_word_embeddings = true
"""
GIB = 2**30


@pytest.fixture
def data(context: AppContext) -> Session:
    made = context.bridge.__dict__["data"] = Session()
    return made


@pytest.fixture
def hub(context: AppContext, data: Session) -> Session:
    made = context.bridge.__dict__["hub"] = Session()
    return made


@pytest.fixture
def page(qtbot: QtBot, context: AppContext, hub: Session) -> ModelPage:
    """The Model page with the starter chosen, the catalogue read, and a card of 24 GiB."""
    context.models.models = [dict(STARTER)]
    context.models.catalogue = known_models()
    context.models.status.ready()
    context.plan.room = room(detect(), gpu_memory_gib=24)
    operations.inspect_chosen(context)
    return shown(qtbot, ModelPage(context))


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemory]:
    for name in access_of_hub.TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before, made = keyring.get_keyring(), InMemory()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def names(page: ModelPage) -> list[str]:
    return [str(row["source"]) for row in page._listed]


def click(page: ModelPage, source: str) -> None:
    """Choose a row of the list."""
    page.table.selectRow(names(page).index(source))


def choose(page: ModelPage, box: str, value: str) -> None:
    page.filters[box].setCurrentIndex(page.filters[box].findData(value))


def cell(page: ModelPage, source: str, title: str) -> str:
    titles = [tr(column.title) for column in page.table.paged.columns]
    index = page.table.paged.index(names(page).index(source), titles.index(title))
    return str(index.data())


# -------------------------------------------------------------------------------------------------------------- list
def test_this_machines_models_and_the_catalogue_are_one_list(context: AppContext, page: ModelPage) -> None:
    catalogue = context.models.catalogue
    assert catalogue is not None
    assert names(page)[0] == "starter"
    assert len(names(page)) == 1 + len(catalogue.models)
    assert cell(page, "starter", "Download") == "built in"
    assert cell(page, QWEN, "Download") == "7.5 GiB"
    assert (cell(page, QWEN, "QLoRA"), cell(page, QWEN, "LoRA")) == ("fits", "fits")
    assert cell(page, "meta-llama/Llama-3.3-70B-Instruct", "QLoRA") == "too big"
    assert cell(page, GEMMA, "Licence") == "Gemma · gated"
    assert any("22.8 GiB usable, rows of 512 tokens" in words for words in texts(page))


def test_a_model_that_is_here_is_listed_once(context: AppContext, page: ModelPage) -> None:
    context.models.put({"source": QWEN, "name": QWEN, "where": "cache", "parameters": 4e9, "bytes": 8e9})
    assert names(page).count(QWEN) == 1
    assert cell(page, QWEN, "Download") == "on disk"
    assert cell(page, QWEN, "Licence") == "Apache-2.0"


def test_a_download_that_was_begun_is_named_first_of_those_to_fetch(context: AppContext, page: ModelPage) -> None:
    context.models.begun = {QWEN: 3 * GIB, "some/other": GIB}
    context.models.changed.emit()
    assert names(page)[:3] == ["starter", "some/other", QWEN]
    assert cell(page, QWEN, "Download") == "40% here"
    assert cell(page, "some/other", "Download") == "begun"
    click(page, QWEN)
    assert "Go on with the download…" in buttons(page)


@pytest.mark.parametrize(
    ("box", "value", "holds"),
    [
        ("show", "fits", lambda row: "starter" in row["source"] or row["parameters"] < 40e9),
        ("show", "here", lambda row: row["source"] == "starter"),
        ("show", "away", lambda row: row["source"] != "starter"),
        ("licence", "free", lambda row: row["licence"] in ("apache-2.0", "mit")),
        ("licence", "own", lambda row: row["licence"] not in ("apache-2.0", "mit")),
        ("size", "small", lambda row: row["parameters"] <= 2e9),
        ("size", "medium", lambda row: 2e9 < row["parameters"] <= 10e9),
        ("size", "large", lambda row: row["parameters"] > 10e9),
        ("family", "Gemma 2", lambda row: row["source"].startswith("google/gemma-2")),
    ],
)
def test_the_list_is_filtered(
    context: AppContext, page: ModelPage, box: str, value: str, holds: Callable[[dict[str, Any]], bool]
) -> None:
    whole = page._listed
    choose(page, box, value)
    assert 0 < len(page._listed) < len(whole)
    assert all(holds(row) for row in page._listed)
    assert context.models.filter != ModelFilter()


def test_the_list_is_sorted(page: ModelPage) -> None:
    choose(page, "order", "small")
    weights = [row.get("parameters") or 0 for row in page._listed]
    assert weights == sorted(weights)
    choose(page, "order", "large")
    assert names(page)[0] == "Qwen/Qwen2.5-72B-Instruct"
    choose(page, "order", "name")
    short = [operations.short_name(row).lower() for row in page._listed]
    assert short == sorted(short)
    choose(page, "order", "context")
    assert page._listed[0]["context"] == 262144


def test_a_search_finds_by_name_and_owner_and_an_empty_list_says_what_to_do(page: ModelPage) -> None:
    page.search.setText("mistralai/")
    assert all(name.startswith("mistralai/") for name in names(page))
    page.search.setText("nobody/nothing")
    assert names(page) == []
    assert any(words.startswith("No model is as the filter") for words in texts(page))
    choose(page, "show", "here")
    buttons(page)["List all models"].click()
    assert len(names(page)) > 40
    assert page.search.text() == ""


def test_the_filter_outlives_the_page(qtbot: QtBot, context: AppContext, page: ModelPage) -> None:
    choose(page, "size", "large")
    anew = shown(qtbot, ModelPage(context))
    assert anew.filters["size"].currentData() == "large"
    assert names(anew) == names(page)


def test_longer_rows_change_the_verdict(context: AppContext, page: ModelPage) -> None:
    context.plan.room = room(detect(), gpu_memory_gib=10)
    context.plan.changed.emit()
    assert cell(page, "Qwen/Qwen3-8B", "QLoRA") in ("fits", "tight")
    context.draft.set({"data.max_length": 32768})
    context.plan.changed.emit()
    # Data that are not there yet are of a usual length, whatever the draft allows.
    assert cell(page, "Qwen/Qwen3-8B", "QLoRA") in ("fits", "tight")
    context.plan.room = room(detect(), gpu_memory_gib=5)
    context.plan.changed.emit()
    assert cell(page, "Qwen/Qwen3-8B", "QLoRA") == "too big"


def test_nothing_is_computed_while_another_page_is_looked_at(context: AppContext, page: ModelPage) -> None:
    page.hide()
    context.models.fits = {}
    context.draft.set({"data.max_length": 1024})
    context.plan.changed.emit()
    assert context.models.fits == {}
    page.show()
    page.refresh()
    assert len(context.models.fits) > 40


def test_without_a_machine_nothing_is_judged(context: AppContext, page: ModelPage) -> None:
    context.plan.room = None
    context.plan.changed.emit()
    assert cell(page, QWEN, "QLoRA") == ""
    assert not any("usable" in words for words in texts(page))


def test_a_mistake_in_the_own_file_is_a_notice(
    qtbot: QtBot, context: AppContext, hub: Session, lorimer_home: Path
) -> None:
    (lorimer_home / "models.toml").write_text('[[model]]\nid = "me/mine"\nlicense = "mit"\n', encoding="utf-8")
    operations.read_catalogue(context)
    qtbot.waitUntil(lambda: bool(context.notices.open))
    assert "models.toml:3" in "\n".join(str(line) for line in context.notices.open[0].problems)
    assert context.models.catalogue is not None
    assert len(context.models.catalogue.models) > 40


def test_looking_again_finds_what_came_since(
    qtbot: QtBot, context: AppContext, page: ModelPage, data: Session, lorimer_home: Path
) -> None:
    (lorimer_home / "models.toml").write_text(OWN, encoding="utf-8")
    buttons(page)["Look again"].click()
    data.last("list_models").done(
        {"models": [dict(STARTER), {**STARTER, "source": QWEN, "name": QWEN, "where": "cache"}]}
    )
    assert cell(page, QWEN, "Download") == "on disk"
    qtbot.waitUntil(lambda: "me/mine" in names(page))


# -------------------------------------------------------------------------------------------------- before a download
def test_looking_at_a_model_asks_nobody_and_leaves_the_draft(
    context: AppContext, page: ModelPage, hub: Session
) -> None:
    click(page, QWEN)
    assert context.draft.recipe.model.source == "starter"
    assert hub.asked == []
    said = texts(page.side)
    assert QWEN in said
    assert "Apache-2.0" in said
    assert any(words.startswith("from ") and "GiB, fits" in words for words in said)
    assert any("Good first choice" in words for words in said)
    click(page, "starter")
    assert QWEN not in texts(page.side)


def about(**facts: Any) -> dict[str, Any]:
    known = {"id": QWEN, "bytes": 8 * GIB, "missing_bytes": 8 * GIB, "free_bytes": 20 * GIB, "licence": "apache-2.0"}
    return {**known, "gated": False, "has_token": False, **facts}


def test_size_licence_gate_and_disk_are_told_before_a_download(page: ModelPage, hub: Session) -> None:
    click(page, QWEN)
    buttons(page)["Download…"].click()
    assert hub.last("hub_info").arguments == {"id": QWEN}
    hub.last("hub_info").done(about())
    said = texts(page.side)
    assert {"8.0 GiB", "20 GiB", "Apache-2.0", "no"} <= set(said)
    buttons(page)["Download"].click()
    assert hub.last("hub_download").arguments == {"id": QWEN}


def test_a_disk_too_small_is_told_by_how_much(page: ModelPage, hub: Session) -> None:
    click(page, QWEN)
    buttons(page)["Download…"].click()
    hub.last("hub_info").done(about(free_bytes=5 * GIB))
    assert any(words.startswith("3.0 GiB more are needed") for words in texts(page.side))
    assert not buttons(page)["Download"].isEnabled()


def test_a_gate_without_a_token_leads_to_the_token(context: AppContext, page: ModelPage, hub: Session) -> None:
    click(page, GEMMA)
    buttons(page)["Download…"].click()
    hub.last("hub_info").done(about(id=GEMMA, gated=True))
    assert "Download" not in buttons(page)
    assert {"Open its page", "Give a token…", "Back"} <= set(buttons(page))
    hub_info = about(id=GEMMA, gated=True, has_token=True)
    operations.look_up(context, GEMMA)
    hub.last("hub_info").done(hub_info)
    assert "Download" in buttons(page)
    assert "yes, with your token" in texts(page.side)


def test_offline_is_one_sentence_and_the_catalogue_stays(context: AppContext, page: ModelPage, hub: Session) -> None:
    click(page, QWEN)
    buttons(page)["Download…"].click()
    words = say("The hub cannot be reached.", "无法连接 hub。")
    hub.last("hub_info").failed(Failure("hub.offline", words, say("Check the network.", "请检查网络。")))
    assert {"The hub cannot be reached.", "Check the network."} <= set(texts(page.side))
    assert len(names(page)) > 40
    buttons(page)["Back"].click()
    assert QWEN in texts(page.side)


# ---------------------------------------------------------------------------------------------------------- download
def test_a_question_to_the_hub_is_cancelled(context: AppContext, hub: Session, page: ModelPage) -> None:
    operations.look_up(context, "some/model")
    buttons(page)["Cancel"].click()
    assert hub.last("hub_info").dropped
    assert context.models.hub_status.phase is Phase.EMPTY
    assert "Cancel" not in buttons(page)


def test_a_download_keeps_its_cancel_when_the_page_is_built_anew(
    qtbot: QtBot, context: AppContext, hub: Session, page: ModelPage
) -> None:
    operations.look_up(context, "some/model")
    hub.last("hub_info").done(about(id="some/model", bytes=10, missing_bytes=10, free_bytes=20))
    buttons(page)["Download"].click()
    ask = hub.last("hub_download")
    assert ask.told is not None
    kept = buttons(page)["Cancel"]
    ask.told(Progress(done=5, total=10, unit="B"))
    assert buttons(page)["Cancel"] is kept
    anew = shown(qtbot, ModelPage(context))
    anew.search.setText("other/model")
    assert not buttons(anew)["Ask the hub"].isEnabled()
    assert operations.look_up(context, "other/model") is None
    assert context.models.hub["id"] == "some/model"
    buttons(anew)["Cancel"].click()
    assert hub.cancelled == [ask]
    assert "Stopping the download…" in texts(anew)
    assert not buttons(anew)["Cancel"].isEnabled()
    ask.failed(Failure("cancelled", say("Cancelled.", "已取消。")))
    assert "Go on downloading" in buttons(anew)
    assert context.models.begun == {"some/model": 5}
    assert buttons(anew)["Ask the hub"].isEnabled()


def test_other_models_can_be_looked_at_while_one_is_fetched(context: AppContext, hub: Session, page: ModelPage) -> None:
    operations.look_up(context, GEMMA)
    hub.last("hub_info").done(about(id=GEMMA))
    buttons(page)["Download"].click()
    click(page, QWEN)
    said = texts(page.side)
    assert QWEN in said
    assert f"Downloading {GEMMA}…" in said
    assert not buttons(page)["Download…"].isEnabled()
    click(page, "starter")
    assert f"Downloading {GEMMA}…" in texts(page.side)
    hub.last("hub_download").done({"folder": "/somewhere"})
    assert context.draft.recipe.model.source == GEMMA


def test_a_model_that_is_asked_for_is_brought_into_view(context: AppContext, page: ModelPage, hub: Session) -> None:
    last = names(page)[-1]
    operations.look_up(context, last)
    at = page.table.visualRect(page.table.paged.index(len(names(page)) - 1, 0))
    assert page.table.viewport().rect().contains(at.center())
    page.table.verticalScrollBar().setValue(0)
    context.models.changed.emit()  # whoever scrolls away is not taken back
    assert page.table.verticalScrollBar().value() == 0


def test_a_failure_of_the_hub_has_details_to_copy(context: AppContext, hub: Session, page: ModelPage) -> None:
    operations.look_up(context, "some/model")
    hub.last("hub_info").failed(Failure("hub.gone", say("No such model.", "没有该模型。"), details="404 some/model"))
    buttons(page)["Copy details"].click()
    assert "404 some/model" in QApplication.clipboard().text()
    assert "Back" in buttons(page)


# ------------------------------------------------------------------------------------------------------------ folders
def test_a_folder_with_several_models_lists_them(
    context: AppContext, data: Session, page: ModelPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args: "/models")
    buttons(page)["Open a folder…"].click()
    ask = data.last("find_models")
    assert ask.arguments == {"folder": str(Path("/models"))}
    found = [{**STARTER, "source": f"/models/{n}", "name": n, "where": "folder"} for n in ("a", "b")]
    ask.done({"models": found})
    assert {"/models/a", "/models/b"} <= set(names(page))
    assert context.draft.recipe.model.source == "starter"
    assert "2 models were found in models." in [str(notice.message) for notice in context.notices.open]


def test_a_folder_that_is_a_model_is_chosen(context: AppContext, data: Session, page: ModelPage) -> None:
    operations.open_folder(context, Path("/models/a"))
    data.last("find_models").done({"models": [{**STARTER, "source": "/models/a", "name": "a", "where": "folder"}]})
    assert context.draft.recipe.model.source == "/models/a"


def test_a_folder_without_a_model_says_what_it_lacks(context: AppContext, data: Session, page: ModelPage) -> None:
    operations.open_folder(context, Path("/empty"))
    words = say("There is no config.json.", "缺少 config.json。")
    data.last("find_models").failed(Failure("model.no_config", words))
    assert "There is no config.json." in texts(page.side)


# ------------------------------------------------------------------------------------------------------------- access
def test_a_token_is_kept_asked_about_and_forgotten(
    qtbot: QtBot, context: AppContext, page: ModelPage, hub: Session, ring: InMemory
) -> None:
    buttons(page)["Hub access…"].click()
    qtbot.waitUntil(lambda: context.models.access.token == "none")
    field = next(edit for edit in page.side.findChildren(QLineEdit) if edit.echoMode() is QLineEdit.EchoMode.Password)
    field.setText(TOKEN)
    context.models.changed.emit()  # a download's progress, say: what is typed stays
    assert field.text() == TOKEN
    buttons(page)["Keep"].click()
    assert field.text() == ""
    qtbot.waitUntil(lambda: any(ask.name == "hub_user" for ask in hub.asked))
    assert list(ring.kept.values()) == [TOKEN]
    hub.last("hub_user").done({"user": "ada"})
    assert any("A token of ada is kept" in words for words in texts(page.side))
    assert TOKEN not in " ".join(texts(page))
    buttons(page)["Forget it"].click()
    qtbot.waitUntil(lambda: context.models.access.token == "none")
    assert ring.kept == {}
    buttons(page)["Back"].click()
    assert "Keep" not in buttons(page)


def test_a_token_that_the_hub_does_not_know_is_forgotten(
    qtbot: QtBot, context: AppContext, page: ModelPage, hub: Session, ring: InMemory
) -> None:
    hub_access.open_access(context)
    hub_access.keep_token(context, TOKEN)
    qtbot.waitUntil(lambda: any(ask.name == "hub_user" for ask in hub.asked))
    words = say("The hub does not know this token.", "hub 不认识这个令牌。")
    hub.last("hub_user").failed(Failure("hub.token_refused", words))
    qtbot.waitUntil(lambda: not context.models.access.doing)
    assert ring.kept == {}
    assert any(text.startswith("The hub does not know this token.") for text in texts(page.side))


def test_a_mirror_is_used_and_a_wrong_one_told(context: AppContext, page: ModelPage, ring: InMemory) -> None:
    hub_access.open_access(context)
    field = next(edit for edit in page.side.findChildren(QLineEdit) if edit.echoMode() is QLineEdit.EchoMode.Normal)
    field.setText("hf-mirror.com")
    buttons(page)["Use"].click()
    assert (field.text(), load_settings().mirror) == ("https://hf-mirror.com", "https://hf-mirror.com")
    assert "Your token goes to the mirror, too." in texts(page.side)
    field.setText("http://hf-mirror.com")
    buttons(page)["Use"].click()
    assert any("not encrypted" in words for words in texts(page.side))
    assert load_settings().mirror == "https://hf-mirror.com"


# -------------------------------------------------------------------------------------------------------------- looks
def test_the_list_of_models_need_not_be_waited_for(qtbot: QtBot, context: AppContext, data: Session) -> None:
    page = shown(qtbot, ModelPage(context))
    operations.list_models(context)
    buttons(page)["Cancel"].click()
    assert page.is_ready
    assert buttons(page)["Open a folder…"].isEnabled()
    qtbot.waitUntil(lambda: context.models.catalogue is not None)


def test_every_verdict_has_room_in_chinese(qtbot: QtBot, context: AppContext, page: ModelPage) -> None:
    speak("zh")
    anew = shown(qtbot, ModelPage(context))
    titles = [tr(column.title) for column in anew.table.paged.columns]
    for name in ("QLoRA", "LoRA"):
        room_for_words = anew.table.columnWidth(titles.index(name)) - 2 * CELL_MARGIN
        assert room_for_words >= max(chip_width(tr(text)) for text in (*WORDS.values(), HAS_PROBLEM))
    assert verdict_width() > 50
    assert download_words({"where": "begun", "here_bytes": 3 * GIB, "bytes": 6 * GIB}) == "已有 50%"


def test_what_is_known_of_a_model_scrolls(page: ModelPage) -> None:
    facts = [area for area in page.side.findChildren(QScrollArea) if "Family" in texts(area)]
    assert facts
    inner = facts[0].widget()
    assert inner is not None
    assert inner.minimumSizeHint().height() > 200  # what a small window cuts without the bar


def without_keys(page: ModelPage) -> list[str]:
    QApplication.processEvents()
    shown_buttons = [b for b in page.findChildren(QPushButton) if b.isVisible()]
    keys = [b.shortcut().toString() for b in shown_buttons]
    assert len(set(keys)) == len(keys), keys
    return [b.text() for b in shown_buttons if b.shortcut().isEmpty()]


def test_every_button_has_a_key_of_its_own(context: AppContext, page: ModelPage, hub: Session, ring: InMemory) -> None:
    assert without_keys(page) == []
    click(page, GEMMA)
    assert without_keys(page) == []
    buttons(page)["Download…"].click()
    assert without_keys(page) == []
    hub.last("hub_info").done(about(id=GEMMA, gated=True))
    assert without_keys(page) == []
    buttons(page)["Give a token…"].click()
    context.models.access.token = "kept"
    context.models.changed.emit()
    assert without_keys(page) == []
    page.search.setText("nobody/nothing")
    assert without_keys(page) == []
