"""The way down when memory runs out."""

import pytest

from engine.catalogue import CATALOGUE
from engine.objectives.ladder import SHORTEST, Descent, Ladder, Rung, divided
from engine.protocol.errors import UserError
from engine.protocol.text import say
from engine.recipe.file import from_plain

FULL = UserError("memory.gpu", say("The GPU ran out of memory.", "显存不足。"), details="2 GiB")


def test_rows_then_recomputing_then_length() -> None:
    told: list[Descent] = []
    ladder = Ladder(Rung(rows=6, held_out=6), shorten=True, tell=told.append)
    for _ in range(5):
        ladder.down(FULL, step=3, longest=ladder.rung.longest or 400)
    assert [each.after for each in told] == [
        Rung(3, 3),
        Rung(1, 1),
        Rung(1, 1, True),
        Rung(1, 1, True, 300),
        Rung(1, 1, True, 225),
    ]
    assert ladder.rung == told[-1].after
    assert all(each.before != each.after and each.step == 3 for each in told)


def test_without_leave_rows_stay_whole() -> None:
    told: list[Descent] = []
    ladder = Ladder(Rung(1, 1, True), shorten=False, tell=told.append)
    for step in (3, 7):  # once more for each step: another program may have needed the memory for a moment
        ladder.down(FULL, step=step, longest=400)
    assert [each.before == each.after for each in told] == [True, True]
    with pytest.raises(UserError) as caught:
        ladder.down(FULL, step=7, longest=400)
    assert caught.value.problem.code == "memory.gpu"
    assert "step 7" in caught.value.problem.message.en
    assert "400" in caught.value.problem.message.zh
    assert caught.value.details == "2 GiB"


def test_no_row_is_cut_to_nothing() -> None:
    ladder = Ladder(Rung(1, 1, True, SHORTEST), shorten=True, tell=lambda descent: None)
    ladder.down(FULL, step=7, longest=SHORTEST)
    assert ladder.rung.longest == SHORTEST
    with pytest.raises(UserError):
        ladder.down(FULL, step=7, longest=SHORTEST)


def test_measuring_has_its_own_way() -> None:
    ladder = Ladder(Rung(4, 4), shorten=False, tell=lambda descent: None)
    ladder.down(FULL, step=5, longest=400, measuring=True)
    assert ladder.rung == Rung(4, 2)
    ladder.down(FULL, step=5, longest=400)
    assert ladder.rung == Rung(2, 2)
    for _ in range(2):
        ladder.down(FULL, step=5, longest=400, measuring=True)
    assert ladder.rung == Rung(2, 1)
    with pytest.raises(UserError):
        ladder.down(FULL, step=5, longest=400, measuring=True)


@pytest.mark.parametrize(("rows", "less"), [(2, 1), (3, 1), (4, 2), (5, 1), (6, 3), (9, 3), (64, 32)])
def test_parts_are_all_of_one_size(rows: int, less: int) -> None:
    assert divided(rows) == less


def test_a_run_goes_on_where_it_stood() -> None:
    recovered = {
        "step": 3,
        "cause": "memory",
        "batch_size": 2,
        "accumulation": 8,
        "held_out_rows": 1,
        "checkpointing": True,
        "longest": 96,
    }
    plain = {"train": {"batch_size": 2, "accumulation": 8, "checkpointing": True}, "recovered": [recovered]}
    assert Rung.of(from_plain(plain, CATALOGUE)) == Rung(2, 1, True, 96)
    assert Rung.of(from_plain({"train": {"batch_size": 4}}, CATALOGUE)) == Rung(4, 4)
