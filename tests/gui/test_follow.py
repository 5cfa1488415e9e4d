"""What follows from a change of the draft, as the data session is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from gui.context import AppContext
from gui.operations import data as data_operations
from gui.operations import rows as row_operations
from gui.operations.follow import READ_DELAY_MS, Follower
from tests.gui.sessions import Session, read


def facts(**more: Any) -> dict[str, Any]:
    lengths = dict.fromkeys(("mean", "p50", "p90", "p95", "p99", "longest"), 20)
    known = {"files": [], "shape": "alpaca", "total": 60, "rows": 60, "train": 50, "held_out": 10, "trainable": 60}
    return {**known, "learned": 0.5, "scanned": True, "measured": True, "quality": {}, "lengths": lengths, **more}


@pytest.fixture
def data(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> Session:
    session = Session()
    monkeypatch.setattr(context.bridge, "data", session)
    data_operations.import_files(context, [Path("/d/orders.jsonl")])
    return session


def test_another_limit_is_followed_without_reading_again(qtbot: QtBot, context: AppContext, data: Session) -> None:
    read(context, data, facts())
    Follower(context)
    reads, decided = len(data.all("open_data")), context.data.decided
    row_operations.check_texts(context)
    context.draft.set({"data.max_length": 300})
    assert data.last("limit").arguments["data"]["max_length"] == 300
    data.last("limit").done(facts(limit=300))
    assert context.data.facts["limit"] == 300
    assert context.data.decided == decided + 1  # the rows in view are asked for anew
    context.draft.set({"data.over_long": "drop"})
    qtbot.wait(2 * READ_DELAY_MS)
    assert len(data.all("open_data")) == reads
    assert not data.last("inspect").dropped
    assert data.all("measure") == []
    data.last("limit").done(facts(limit=300, measured=False))
    assert len(data.all("measure")) == 1  # what only the new limit asks for


def test_a_limit_that_comes_with_something_else_is_read(qtbot: QtBot, context: AppContext, data: Session) -> None:
    read(context, data, facts())
    Follower(context)
    reads = len(data.all("open_data"))
    context.draft.set({"data.max_length": 300, "data.template": "plain"})
    qtbot.waitUntil(lambda: len(data.all("open_data")) == reads + 1)
    assert data.all("limit") == []


def test_a_late_answer_about_a_limit_is_not_wanted(context: AppContext, data: Session) -> None:
    read(context, data, facts())
    follower = Follower(context)
    context.draft.set({"data.max_length": 300})
    first = data.last("limit")
    context.draft.set({"data.max_length": 200})
    assert first.dropped
    assert not data.last("limit").dropped
    follower._open_data()
    assert data.last("limit").dropped


def test_first_rows_are_searched_at_once_and_all_of_them_when_they_are_read(context: AppContext, data: Session) -> None:
    read(context, data, facts(scanned=False))
    row_operations.find(context, "pear")
    data.last("find").done({"found": 1, "covered": 1000, "all": False})
    assert context.data.words == "pear"
    assert any("first 1,000 rows" in notice.message.en for notice in context.notices.open)
    data_operations._scan(context)
    data.last("scan").done(facts())
    assert len(data.all("find")) == 2
    data.last("find").done({"found": 3, "covered": 60, "all": True})
    assert len(context.notices.open) == 1
