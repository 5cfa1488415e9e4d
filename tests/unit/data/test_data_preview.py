"""What the Data page is told: pages of rows, one row token by token, lengths, what is set aside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.encode import render_row
from engine.data.prepare import gather, prepare
from engine.data.preview import DataView
from engine.data.registry import SHAPES
from engine.data.rows import Row
from engine.data.template import choose_template
from engine.protocol.errors import UserError
from engine.recipe.recipe import DataSettings

Write = Callable[[str, str | bytes], Path]
RECORDS = [
    {"prompt": "Say hello.", "completion": "Hello, 你好 🙂!"},
    {"prompt": "Say hello.", "completion": "Hello, 你好 🙂!"},
    {"prompt": "Long?", "completion": "word " * 60},
    {"prompt": "Empty?", "completion": ""},
    {"prompt": "word " * 60, "completion": "A"},
]


@pytest.fixture
def path(write: Write) -> Path:
    return write("a.jsonl", "".join(json.dumps(record) + "\n" for record in RECORDS) + "{half")


def settings(path: Path, **fields: Any) -> DataSettings:
    return DataSettings(files=(str(path),), **{"max_length": 48, **fields})


def test_pages_hold_every_row_with_its_state(path: Path, starter_text: Path) -> None:
    view = DataView(settings(path), starter_text)
    assert view.total == 6
    page = view.page(0, 10)
    states = [(row["where"], row["status"], row["reason"]) for row in page["rows"]]
    assert states == [
        ("a.jsonl:1", "ready", ""),
        ("a.jsonl:2", "set_aside", "duplicate"),
        ("a.jsonl:3", "cut", ""),
        ("a.jsonl:4", "set_aside", "empty_answer"),
        ("a.jsonl:5", "set_aside", "answer_cut_away"),
        ("a.jsonl:6", "set_aside", "cut_off"),
    ]
    assert page["rows"][1]["question"] == "Say hello."
    assert page["rows"][0]["tokens"] > 5
    assert page["rows"][3]["tokens"] is None
    assert page["rows"][3]["reason_text"]["zh"]
    assert json.loads(json.dumps(page)) == page
    assert [r["index"] for r in view.page(2, 2)["rows"]] == [2, 3]
    assert view.page(0, 10, status="duplicate")["total"] == 1
    assert [r["index"] for r in view.page(1, 2, status="set_aside")["rows"]] == [3, 4]
    assert view.page(100, 5)["rows"] == []


@pytest.mark.parametrize("model", ["starter", "stories", "none"])
@pytest.mark.parametrize("learn_from", ["answers", "everything"])
def test_pieces_joined_are_the_text(path: Path, starter_text: Path, stories: Path, model: str, learn_from: str) -> None:
    folder = {"starter": starter_text, "stories": stories}.get(model)
    data = settings(path, learn_from=learn_from)
    view = DataView(data, folder)
    item = next(gather(data).rows())
    row = view.row(item.index)
    joined = "".join(piece["text"] for piece in row["pieces"])
    if folder is not None:
        assert joined == render_row(choose_template(folder), item)[0].text
        assert row["length"] == sum(len(piece["ids"]) for piece in row["pieces"])
    learned = "".join(piece["text"] for piece in row["pieces"] if piece["learned"]).strip()
    assert RECORDS[0]["completion"] in joined
    if learn_from == "answers":
        assert learned.startswith("Hello, 你好 🙂!")
    else:
        assert "Say hello." in learned
    assert any("🙂" in piece["text"] for piece in row["pieces"])
    assert row["estimate"] is (folder is None)
    assert json.loads(json.dumps(row)) == row


def test_a_row_shows_special_tokens_and_where_it_is_cut(path: Path, starter_text: Path) -> None:
    row = DataView(settings(path), starter_text).row(2)
    assert row["cut"]
    assert row["length"] > row["limit"] == 48
    assert [piece["text"] for piece in row["pieces"] if piece["special"]][:2] == ["<|im_start|>", "<|im_end|>"]
    whole = [piece for piece in row["pieces"] if not piece["cut"]]
    assert sum(len(piece["ids"]) for piece in whole) == 48
    assert row["learned_tokens"] == sum(len(piece["ids"]) for piece in whole if piece["learned"])


def test_a_duplicate_can_be_looked_at_and_a_broken_row_has_nothing(path: Path, starter_text: Path) -> None:
    view = DataView(settings(path), starter_text)
    assert view.row(1)["pieces"]
    assert view.row(5)["pieces"] == []
    assert view.row(5)["reason"] == "cut_off"
    with pytest.raises(IndexError):
        view.row(6)


def test_a_preference_shows_both_answers(write: Write, starter_text: Path) -> None:
    path = write("a.jsonl", json.dumps({"prompt": "Q", "chosen": "Better.", "rejected": "Worse."}) + "\n")
    for folder in (starter_text, None):
        row = DataView(settings(path), folder).row(0)
        learned = ["".join(p["text"] for p in row[k] if p["learned"]) for k in ("pieces", "rejected_pieces")]
        assert learned == ["Better.<|im_end|>", "Worse.<|im_end|>"]
        assert (row["chosen"], row["rejected"]) == ("Better.", "Worse.")


def test_facts_before_and_after_measuring(path: Path, starter_text: Path) -> None:
    view = DataView(settings(path), starter_text)
    facts = view.facts()
    assert (facts["total"], facts["trainable"], facts["measured"]) == (6, 3, False)
    assert view.measure(rows=1) == {"done": 1, "total": 3}
    assert view.measure() == {"done": 3, "total": 3}
    facts = view.facts()
    assert (facts["trainable"], facts["cut"], facts["measured"]) == (2, 1, True)
    assert facts["set_aside"] == {"duplicate": 1, "empty_answer": 1, "answer_cut_away": 1, "cut_off": 1}
    assert facts["files"][0]["shape_label"]["zh"]
    assert facts["template"]["name"] == "model"
    assert {p["code"] for p in facts["problems"]} == {"data.cut"}
    assert set(facts["set_aside"]) <= set(facts["reasons"])
    assert json.loads(json.dumps(facts)) == facts


def test_held_out_rows_are_those_of_the_run(alpaca: Callable[..., Path], starter_text: Path) -> None:
    data = DataSettings(files=(str(alpaca(60)),))
    view = DataView(data, starter_text)
    view.measure()
    prepared = prepare(data, preference=False, model_folder=starter_text)
    shown = [r["index"] for r in view.page(0, 60, status="held_out")["rows"]]
    assert shown == [e.row.index for e in prepared.held_out]
    assert view.facts()["held_out"] == 6


def test_histogram_counts_every_measured_row(path: Path, starter_text: Path) -> None:
    view = DataView(settings(path), starter_text)
    assert sum(view.histogram()["counts"]) == 0
    view.measure()
    histogram = view.histogram(bins=5)
    assert sum(histogram["counts"]) == histogram["rows"] == 2
    assert len(histogram["edges"]) == 6
    assert histogram["edges"][-1] >= histogram["longest"] > 48
    assert histogram["median"] <= histogram["p95"] <= histogram["longest"]


def test_without_a_model_lengths_are_estimates(path: Path) -> None:
    view = DataView(settings(path))
    assert view.estimate
    view.measure()
    facts = view.facts()
    assert (facts["estimate"], facts["template"], facts["measured"]) == (True, None, True)
    assert view.page(0, 1)["rows"][0]["tokens"] == view.row(0)["length"]


def test_set_aside_rows_are_listed(path: Path, starter_text: Path) -> None:
    view = DataView(settings(path), starter_text)
    view.measure()
    listed = view.set_aside(1, 2)
    assert (listed["total"], [r["where"] for r in listed["rows"]]) == (4, ["a.jsonl:4", "a.jsonl:5"])


def test_shapes_can_be_offered() -> None:
    assert [shape["name"] for shape in DataView.shapes()] == list(SHAPES)


def test_bad_files_raise_as_everywhere(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        DataView(settings(tmp_path / "none.jsonl"))


def test_real_rows_are_shown_whole(shared_data: Path, starter_text: Path, stories: Path) -> None:
    for name in ("alpaca_zh_demo.json", "glaive_toolcall_en_demo.json"):
        data = DataSettings(files=(str(shared_data / "datasets/llama-factory" / name),), max_length=4096)
        rows = [item for item in gather(data).items() if isinstance(item, Row)]
        for folder in (starter_text, stories):
            view, template = DataView(data, folder), choose_template(folder)
            for item in rows[:40]:
                pieces = view.row(item.index)["pieces"]
                assert "".join(p["text"] for p in pieces) == render_row(template, item)[0].text
                assert any(p["learned"] for p in pieces)


def test_held_out_rows_that_are_asked_in_training_are_counted_and_found(write: Write) -> None:
    same = [{"prompt": "the same", "completion": f"answer {i}"} for i in range(40)]
    path = write("same.jsonl", "".join(json.dumps(record) + "\n" for record in same))
    view = DataView(settings(path))
    assert (view.facts()["held_out"], view.facts()["in_training"]) == (4, 4)
    page = view.page(0, 10, status="in_training")
    assert (page["total"], {r["status"] for r in page["rows"]}) == (4, {"held_out"})
    own = [{"prompt": f"Q{i}", "completion": "A"} for i in range(40)]
    view = DataView(settings(write("own.jsonl", "".join(json.dumps(record) + "\n" for record in own))))
    view.measure()
    assert (view.facts()["held_out"], view.facts()["in_training"]) == (4, 0)


def test_other_settings_for_the_same_rows_keep_what_is_known(path: Path, starter_text: Path) -> None:
    data = settings(path)
    view = DataView(data, starter_text, preference=False)
    longer = data.model_copy(update={"max_length": 64, "over_long": "drop"})
    rows = view.rows_for(longer, False)
    assert rows is not None
    again = DataView(longer, starter_text, preference=False, rows=rows)
    anew = DataView(longer, starter_text, preference=False)
    assert again.page(0, 10) == anew.page(0, 10)
    assert view.rows_for(longer, True) is None
    assert view.rows_for(data.model_copy(update={"encoding": "utf-8"}), False) is None
    path.write_text(path.read_text(encoding="utf-8") + "\n{}\n", encoding="utf-8")
    assert view.rows_for(longer, False) is None


def test_other_actions_are_taken_without_looking_again(path: Path, starter_text: Path) -> None:
    view = DataView(settings(path), starter_text, preference=False)
    view.inspect()
    before = view.facts()["set_aside"]
    found = view.quality
    assert found is not None
    assert found["checks"]["short_question"]["rows"] == 0
    assert view.page(0, 9, status="check:short_answer")["total"] == found["checks"]["short_answer"]["rows"]
    quality = view.data.quality
    assert view.judge(quality.model_copy(update={"actions": {"short_answer": "set_aside", "email": "off"}}))
    assert view.facts()["set_aside"].get("short_answer", 0) == found["checks"]["short_answer"]["rows"]
    assert view.quality is not None
    assert view.quality["checks"]["email"]["rows"] is None
    assert view.judge(quality)
    assert view.facts()["set_aside"] == before
    assert not view.judge(quality.model_copy(update={"min_answer": 99}))


def test_rows_over_the_limit_are_told_whatever_becomes_of_them(path: Path, starter_text: Path) -> None:
    for over_long in ("cut", "drop"):
        view = DataView(settings(path, over_long=over_long), starter_text, preference=False)
        view.measure()
        assert view.facts()["over"] == view.page(0, 9, status="over")["total"] >= 1


def test_a_tool_call_is_written_out(write: Write) -> None:
    call = {"name": "weather", "arguments": json.dumps({"city": "Bern", "days": 2})}
    turns = [{"role": "user", "content": "Weather?"}, {"role": "assistant", "tool_calls": [{"function": call}]}]
    view = DataView(settings(write("t.jsonl", json.dumps({"messages": turns}) + "\n")), preference=False)
    assert view.page(0, 1)["rows"][0]["answer"] == '→ weather(city="Bern", days=2)'


def test_plain_text_and_marks_stand_in_the_table(write: Write) -> None:
    view = DataView(settings(write("a.txt", "First line\nsecond line\n\nMore\n"), shape="text"), preference=False)
    first = view.page(0, 1)["rows"][0]
    assert first["question"] == "First line"
    assert first["answer"].startswith("First line")
    assert first["liked"] is None


def test_kinds_are_told_before_and_after_the_texts_are_checked(write: Write) -> None:
    asked = ["Translate to French: cat", "What is a cat?", "What is a dog?"]
    rows = [{"prompt": asked[i % 3], "completion": f"It is number {i} of many."} for i in range(900)]
    view = DataView(settings(write("many.jsonl", "".join(json.dumps(row) + "\n" for row in rows))))
    told = view.kinds
    assert sum(told.values()) == 200
    assert told["qa"] == pytest.approx(2 * told["translation"], rel=0.1)
    view.inspect()
    assert (view.kinds["qa"], view.kinds["translation"]) == (600, 300)
