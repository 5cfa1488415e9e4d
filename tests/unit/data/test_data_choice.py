"""Rows chosen and ordered by figures: which, in what order, what is said of the others, and what is kept on disk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.data import choice
from engine.data.choice import KEPT, Scores, Texts, pick, read_kept, write_kept
from engine.data.encode import Example
from engine.data.prepare import Prepared, RowsAside
from engine.data.reasons import reason_hint, reason_label
from engine.data.rows import ASSISTANT, USER, Message, Row, SetAside
from engine.protocol.errors import UserError
from engine.protocol.text import say
from engine.recipe.recipe import DataSettings


def example(index: int, ids: list[int], learned: int = 2) -> Example:
    """A row whose last ``learned`` tokens are learned."""
    row = Row(index, f"rows.jsonl:{index + 1}", (Message(USER, "q"), Message(ASSISTANT, f"a{index}")))
    return Example(row, ids, [False] * (len(ids) - learned) + [True] * learned, whole=len(ids))


class Listed(list[Example]):
    """Examples in memory."""

    def taken(self, places: NDArray[np.int64]) -> "Listed":
        return Listed(self[place] for place in places.tolist())


def prepared(train: list[Example]) -> Prepared:
    aside = SetAside(3, "rows.jsonl:4", "no_answer", say("No answer.", "没有回答。"))
    made: dict[str, Any] = dict.fromkeys(("template", "tokenizer"))
    made |= {"train": Listed(train), "held_out": Listed()}
    return Prepared(set_aside=RowsAside((1, lambda: [aside])), sources=(), limit=64, **made)


ROWS = [
    example(0, [1, 2, 3]),
    example(1, [4, 5, 6]),
    example(2, [7, 8, 9]),
    example(4, [1, 1, 1]),
    example(5, [2, 2, 2]),
]
LOSS = (2.0, 1.0, 3.0, 1.0, float("nan"))
UNCERTAINTY = (0.1, 0.4, 0.3, 0.2, float("nan"))


def kept(
    rows: list[Example], loss: tuple[float, ...] = LOSS, uncertainty: tuple[float, ...] = UNCERTAINTY
) -> np.ndarray:
    return np.sort(np.array(list(zip(Texts.of(rows).key, loss, uncertainty, strict=True)), KEPT), order="key")


def scores(rows: list[Example] = ROWS) -> Scores:
    return Scores.of(Texts.of(rows), kept(rows))


def indices(found: Prepared) -> list[int]:
    return [item.row.index for item in found.train]


@pytest.mark.parametrize(
    ("wanted", "share", "left"),
    [
        ("uncertain", 0.4, [1, 2]),
        ("hardest", 0.4, [0, 2]),
        ("easiest", 0.4, [1, 4]),
        ("easiest", 0.2, [1]),  # of equals the first in the file
        ("hardest", 0.8, [0, 1, 2, 4]),  # that of which nothing is known goes first
        ("easiest", 0.01, [1]),
        ("uncertain", 1.0, [0, 1, 2, 4, 5]),
    ],
)
def test_the_share_that_is_wanted_is_trained_on_in_the_files_order(wanted: str, share: float, left: list[int]) -> None:
    data = DataSettings(choice=wanted, choice_share=share)
    found = pick(prepared(ROWS), scores(), data)
    assert indices(found) == left
    aside = [item for item in found.set_aside if item.reason == choice.NOT_CHOSEN]
    assert sorted([item.index for item in aside] + left) == [0, 1, 2, 4, 5]
    assert [item.index for item in found.set_aside] == sorted(item.index for item in found.set_aside)
    assert "no_answer" in {item.reason for item in found.set_aside}


@pytest.mark.parametrize(
    ("wanted", "left", "mixed_up"), [("hardest", [2, 3, 5], [0, 2, 3]), ("easiest", [0, 1, 4], [1, 4, 5])]
)
def test_general_data_are_chosen_among_themselves(wanted: str, left: list[int], mixed_up: list[int]) -> None:
    """Rows 4 and 5 are general data, easy for any model: half of them stay, whatever is wanted."""
    data = DataSettings(choice=wanted, choice_share=0.5)
    rows = [example(index, [index, 7, 8]) for index in range(6)]
    known = Scores.of(Texts.of(rows), kept(rows, (2.0, 1.0, 3.0, 4.0, 0.1, 0.2), (0.0,) * 6))
    assert indices(pick(replace(prepared(rows), general_from=4), known, data)) == left
    assert indices(pick(prepared(rows), known, data)) == mixed_up
    assert "the 3 of 6 rows" in choice.told(known, data, 4).en


def test_what_is_left_out_says_why() -> None:
    found = pick(prepared(ROWS), scores(), DataSettings(choice="uncertain", choice_share=0.6))
    (aside, _) = [item for item in found.set_aside if item.reason == choice.NOT_CHOSEN]
    assert aside.where == "rows.jsonl:1"
    assert aside.text.en == "Not among the 60% of rows that the model is least certain of (entropy 0.10)."
    assert aside.text.zh == "不在模型最不确定的 60% 之内（熵 0.10）。"
    assert reason_label(aside.reason).en == "not chosen by the model"
    assert reason_hint(aside.reason)


def test_easiest_rows_come_first_and_equals_as_in_the_file() -> None:
    found = pick(prepared(ROWS), scores(), DataSettings(order="easiest"))
    assert indices(found) == [1, 4, 0, 2, 5]
    assert len(found.set_aside) == 1
    both = pick(prepared(ROWS), scores(), DataSettings(order="easiest", choice="hardest", choice_share=0.8))
    assert indices(both) == [1, 4, 0, 2]


def test_nothing_else_changes_the_rows() -> None:
    found = pick(prepared(ROWS), scores(), DataSettings())
    assert list(found.train) == ROWS
    assert not DataSettings(order="shortest").asks_model
    assert DataSettings(order="easiest").asks_model
    assert DataSettings(choice="hardest").asks_model


def test_pieces_and_copies_of_a_row_share_its_figure() -> None:
    """Two pieces, one of them twice as long in learned tokens, and a row that is seen twice."""
    rows = [example(0, [1, 2, 3, 4, 5], 4), example(0, [6, 7, 8], 2), ROWS[1], ROWS[1]]
    texts = Texts.of(rows)
    known = {int(key): loss for key, loss in zip(texts.key, (1.0, 4.0, 1.5, 1.5), strict=True)}
    found = Scores.of(texts, np.array(sorted((key, loss, 0.0) for key, loss in known.items()), KEPT))
    assert found.loss.tolist() == [2.0, 1.5]
    assert found.tokens.tolist() == [6, 4]
    chosen = pick(prepared(rows), found, DataSettings(choice="easiest", choice_share=0.5))
    assert indices(chosen) == [1, 1]
    ordered = pick(prepared(rows), found, DataSettings(order="easiest"))
    assert indices(ordered) == [1, 1, 0, 0]


def test_a_preference_is_scored_by_its_chosen_answer() -> None:
    row = Row(0, "rows.jsonl:1", (Message(USER, "q"),), "good", "bad")
    pair = Example(row, [], [], prompt_ids=[1, 2], chosen_ids=[3, 4, 5], rejected_ids=[6])
    assert choice.scored_text(pair) == ([1, 2, 3, 4, 5], [False, False, True, True, True])
    texts = Texts.of([pair])
    assert (texts.length[0], texts.counted[0]) == (5, 3)
    other = Example(row, [], [], prompt_ids=[1, 2], chosen_ids=[3, 4, 5], rejected_ids=[7, 8])
    assert Texts.of([other]).key == texts.key


def test_the_key_is_of_the_tokens_and_of_which_are_learned() -> None:
    one = example(0, [1, 2, 3, 4])
    assert Texts.of([one]).key == Texts.of([example(9, [1, 2, 3, 4])]).key
    others = [example(0, [1, 2, 3, 4], 3), example(0, [1, 2, 3, 5]), example(0, [1, 2, 3, 4, 0])]
    assert len({int(Texts.of([item]).key[0]) for item in (one, *others)}) == 4


def test_data_that_changed_meanwhile_are_told() -> None:
    with pytest.raises(UserError, match="changed while"):
        Scores.of(Texts.of(ROWS), kept(ROWS)[:3])
    with pytest.raises(UserError, match="changed while"):
        Scores.of(Texts.of(ROWS), np.empty(0, KEPT))


def test_what_is_kept_comes_back_and_a_damaged_file_is_none(tmp_path: Path) -> None:
    file = tmp_path / "scores.npy"
    assert len(read_kept(file)) == 0
    write_kept(file, kept(ROWS))
    assert read_kept(file).tobytes() == kept(ROWS).tobytes()
    file.write_bytes(file.read_bytes()[:-3])
    assert len(read_kept(file)) == 0
    np.save(file, np.zeros(3))
    assert len(read_kept(file)) == 0


def test_joined_figures_are_by_key_and_the_first_ones_stay() -> None:
    one = np.array([(5, 1.0, 0.0), (2, 2.0, 0.0)], KEPT)
    other = np.array([(9, 3.0, 0.0), (5, 4.0, 0.0)], KEPT)
    assert choice.joined(one, other).tolist() == [(2, 2.0, 0.0), (5, 1.0, 0.0), (9, 3.0, 0.0)]


def test_of_many_models_the_last_used_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(choice, "MOST_FILES", 2)
    for n in range(4):
        write_kept(tmp_path / f"{n}.npy", kept(ROWS))
        os.utime(tmp_path / f"{n}.npy", (n, n))
    choice.tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.npy", "3.npy"]
