"""What the command says of a rehearsal: its document, its lines, and the failure where memory did not suffice."""

from typing import Any

import pytest

from engine.protocol.codec import to_plain
from engine.protocol.errors import Failure
from engine.protocol.events import Rehearsed
from engine.protocol.text import say
from engine.rehearsing import not_held, rehearsal_document, rehearsal_lines

CHANGE = say("Rows at once 4 → 2", "每批行数 4 → 2")


def value(event: Rehearsed, *tried: str) -> dict[str, Any]:
    """The job's result."""
    plain = to_plain(event)
    del plain["time"]
    return {**plain, "tried": [{"verdict": each, "change": to_plain(CHANGE)} for each in tried]}


HELD = Rehearsed(
    verdict="holds",
    recipe={"train": {}},
    device="CPU",
    free_gib=6.0,
    predicted_gib=4.0,
    peak_gib=4.2,
    seconds=720.0,
    steps=100,
    step_seconds=0.42,
    longest_step_seconds=1.3,
    evaluation_seconds=3.0,
    checkpoint_bytes=3 << 20,
    checkpoint_seconds=0.2,
    disk_bytes_per_second=2.0**28,
)
FAILED = Rehearsed(
    verdict="out_of_memory",
    free_gib=6.0,
    predicted_gib=4.0,
    failure=Failure("memory.gpu", say("The GPU ran out of memory.", "显存不足。"), details="CUDA out of memory"),
    next_recipe={"train": {"batch_size": 2}},
    next_change=CHANGE,
    next_gib=3.0,
    next_seconds=600.0,
)


def test_what_held_is_told() -> None:
    found = value(HELD, "killed", "holds")
    assert not_held(found) is None
    document = rehearsal_document(found)
    assert document["next"] is None
    assert document["tried"][1] == {"verdict": "holds", "change": "Rows at once 4 → 2"}
    assert not {"about", "failure", "next_recipe", "type", "time"} & set(document)
    lines = [line.en for line in rehearsal_lines(found)]
    assert lines == [
        "It holds.",
        "Changed: Rows at once 4 → 2",
        "Memory: 4.20 GiB at its peak (4.00 predicted, 6.00 free on CPU)",
        "Time: 0.42 s a step, 1.30 s on the longest rows; about 12.0 min for 100 steps",
        "Held-out rows: 3.0 s each time they are measured",
        "Checkpoint: 3.0 MiB in 0.20 s; disk: 256 MiB/s",
    ]
    assert all(line.zh for line in rehearsal_lines(found))


def test_what_did_not_hold_is_a_failure_with_the_way_on() -> None:
    found = value(FAILED, "out_of_memory")
    failure = not_held(found)
    assert failure is not None
    assert (failure.code, failure.exit_code, failure.details) == ("rehearsal.out_of_memory", 1, "CUDA out of memory")
    assert failure.message.en == "Memory did not suffice in the rehearsal. Predicted: 4.00 GiB; free: 6.00."
    assert failure.hint.en == "Next: Rows at once 4 → 2: about 3.00 GiB. --settle tries it."
    assert failure.hint.zh.startswith("下一步：每批行数 4 → 2")
    assert rehearsal_document(found)["next"] == {
        "recipe": {"train": {"batch_size": 2}},
        "change": "Rows at once 4 → 2",
        "gib": 3.0,
        "seconds": 600.0,
    }


@pytest.mark.parametrize("verdict", ["out_of_memory", "killed"])
def test_where_nothing_is_left_to_save(verdict: str) -> None:
    failure = not_held(value(Rehearsed(verdict=verdict), verdict))
    assert failure is not None
    assert "Predicted" not in failure.message.en
    assert "smaller model" in failure.hint.en


def test_a_rehearsal_that_came_to_nothing_has_no_document() -> None:
    assert rehearsal_document({}) == {}
    assert not_held({}) is None
