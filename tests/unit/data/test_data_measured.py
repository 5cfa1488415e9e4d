"""Another longest length is followed without tokenising or checking again, and comes to what a new look would find."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data.encode import RowEncoder
from engine.data.measured import NO_LIMIT, Measured
from engine.data.prepare import gather
from engine.data.preview import DataView
from engine.data.quality import inspect as quality
from engine.data.rows import Row, SetAside
from engine.data.scan import CODES
from engine.data.template import choose_template
from engine.data.tokenizer import TextTokenizer
from engine.recipe.recipe import DataSettings

Write = Callable[[str, str | bytes], Path]
LIMITS = (16, 24, 40, 64, 100, 200, 400)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts rows that are tokenised, and looks at the quality of all rows."""
    done = {"rows": 0, "checks": 0}

    encode, count = RowEncoder.encode, RowEncoder.count

    def encoded(self: RowEncoder, rows: Iterable[Row], *more: Any) -> Iterator[Any]:
        listed = list(rows)
        done["rows"] += len(listed)
        return encode(self, listed, *more)

    def counted(self: RowEncoder, rows: Sequence[Row]) -> list[int]:
        done["rows"] += len(rows)
        return count(self, rows)

    monkeypatch.setattr(RowEncoder, "encode", encoded)
    monkeypatch.setattr(RowEncoder, "count", counted)
    looked = quality.tally_rows

    def checked(*given: Any) -> Any:
        done["checks"] += 1
        return looked(*given)

    monkeypatch.setattr(quality, "tally_rows", checked)
    return done


@pytest.fixture
def mixed(write: Write) -> Path:
    """Conversations of all lengths, some of several turns, one whose answer lies far behind."""
    rows = [
        {
            "messages": [
                {"role": r, "content": f"{i} " + "word " * (i * k % 90)}
                for _ in range(1 + i % 3)
                for r, k in (("user", 3), ("assistant", 7))
            ]
        }
        for i in range(1, 60)
    ]
    return write("mixed.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def settings(path: Path, **fields: Any) -> DataSettings:
    return DataSettings(files=(str(path),), **{"max_length": 64, **fields})


@pytest.mark.parametrize("over_long", ["cut", "cut_start", "drop", "split"])
@pytest.mark.parametrize("name", ["mixed", "llama-factory/dpo_en_demo.json"])
def test_what_becomes_of_rows_is_what_the_encoder_says(
    mixed: Path, shared_data: Path, starter_text: Path, name: str, over_long: str
) -> None:
    path = mixed if name == "mixed" else shared_data / "datasets" / name
    data = settings(path, over_long=over_long)
    rows = list(gather(data).rows())[:40]
    tokenizer = TextTokenizer.load(starter_text)
    encoder = RowEncoder(choose_template(starter_text, tokenizer=tokenizer), tokenizer, data, NO_LIMIT)
    known = Measured(max(row.index for row in rows) + 1, preference=rows[0].chosen is not None)
    for found in encoder.encode(rows):
        known.take(found)
    indices = np.array([row.index for row in rows])
    for limit in LIMITS:
        limited = {
            found.index: found.reason
            for found in replace(encoder, limit=limit).encode(rows)
            if isinstance(found, SetAside)
        }
        said = {int(i): CODES[code] for i, code in zip(indices, known.codes(indices, limit, over_long), strict=True)}
        assert {i: reason for i, reason in said.items() if reason} == limited, limit
        assert not known.unknown(indices, limit, over_long).any()


@pytest.mark.parametrize("over_long", ["cut", "cut_start", "drop", "split"])
def test_another_limit_costs_nothing_and_is_right(
    mixed: Path, starter_text: Path, work: dict[str, int], over_long: str
) -> None:
    view = DataView(settings(mixed), starter_text)
    view.measure()
    view.inspect()
    before = dict(work)
    assert before["rows"] > 0
    assert before["checks"] > 0
    for limit in LIMITS:
        other = settings(mixed, max_length=limit, over_long=over_long)
        view.follow_limit(other)
        facts, histogram, checks = view.facts(), view.histogram(), view.quality
        assert work == before
        anew = DataView(other, starter_text)
        anew.measure()
        anew.inspect()
        names = ("trainable", "cut", "over", "set_aside", "held_out", "measured", "limit")
        assert {n: facts[n] for n in names} == {n: anew.facts()[n] for n in names}
        assert histogram == anew.histogram()
        assert checks == anew.quality
        assert view.page(0, 100) == anew.page(0, 100)
        assert view.learned_share == pytest.approx(anew.learned_share)
        work.update(before)


def test_other_settings_keep_what_they_leave_true(mixed: Path, starter_text: Path, work: dict[str, int]) -> None:
    view = DataView(settings(mixed), starter_text, preference=False)
    view.measure()
    view.inspect()
    before = dict(work)

    def opened(**fields: Any) -> DataView:
        other = settings(mixed, **fields)
        rows = view.rows_for(other, False)
        assert rows is not None
        return DataView(other, starter_text, preference=False, rows=rows, known=view)

    kept = opened(max_length=100, over_long="drop", order="shortest")
    assert (kept.measured, kept.quality is None, work) == (True, False, before)
    split = opened(held_out=0.2)
    assert (split.measured, split.quality) == (True, None)
    assert work == before
    assert not opened(template="plain").measured
    assert not opened(learn_from="everything").measured


def test_rows_that_were_only_counted_are_looked_at_once_they_are_too_long(
    mixed: Path, starter_text: Path, work: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.data.preview._CLOSELY", 0)
    view = DataView(settings(mixed, max_length=10_000), starter_text)
    view.measure()
    counted = work["rows"]
    longest = int(view.lengths.max())
    over = int((view.lengths > longest // 2).sum())
    view.follow_limit(settings(mixed, max_length=longest // 2))
    assert not view.measured
    view.measure()
    assert view.measured
    assert 0 < work["rows"] - counted <= 2 * over
    view.follow_limit(settings(mixed, max_length=longest // 2, over_long="drop"))
    view.follow_limit(settings(mixed, max_length=longest // 3, over_long="drop"))
    assert view.measured


def test_a_changed_cell_alone_is_measured_again(
    mixed: Path, starter_text: Path, work: dict[str, int], tmp_path: Path
) -> None:
    view = DataView(settings(mixed, decisions=str(tmp_path / "d.jsonl")), starter_text)
    view.measure()
    before = work["rows"]
    view.decide(3, aside=True)
    view.decide(3, aside=False)
    view.measure()
    assert work["rows"] - before <= 2


# ----------------------------------------------------------------------------------------------------- before the scan
def test_first_rows_are_searched_and_looked_at_while_a_large_file_is_read(
    mixed: Path, starter_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.data.preview.SMALL", 0)
    view = DataView(settings(mixed), starter_text)
    assert not view.is_scanned
    assert view.find("7 WORD") == {"found": 6, "covered": 59, "all": False}
    page = view.page(0, 3, found=True)
    assert (page["total"], [row["index"] for row in page["rows"]]) == (6, [6, 16, 26])
    assert view.page(0, 9, status="cut")["total"] > 0
    row = view.row(6)
    assert row["pieces"]
    assert [cell["column"] for cell in row["cells"]] == ["messages"]
    with pytest.raises(Exception, match="Not all rows are read yet"):
        view.decide(6, aside=True)
    view.scan()
    assert view.page(0, 3, found=True)["total"] == 59  # what was found before is no longer meant
    assert view.find("7 word")["all"]


def test_what_is_slow_lets_others_go_first(mixed: Path, starter_text: Path) -> None:
    view = DataView(settings(mixed), starter_text)
    paused: list[int] = []
    view.pause = lambda: paused.append(1)
    view.measure()
    assert len(paused) >= 3
    paused.clear()
    view.find("word")
    assert len(paused) >= 3
