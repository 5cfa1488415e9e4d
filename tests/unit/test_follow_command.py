"""What stopping a run says of it: how far it had to go, and what of the run is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.follow_command import kept_of, stopped_words
from engine.host.follow import replay
from engine.terminal import quoted
from tests.unit.project.made_run import make_run


@pytest.mark.parametrize(
    ("rung", "steps", "status", "kept", "words"),
    [
        ("asked", 20, "stopped", 20, "Stopped at step 20; all of it is kept."),
        ("killed", 33, "stopped", 20, "Stopped by force at step 33: steps 21 to 33 were not saved; "
         "the checkpoint of step 20 is kept."),
        ("terminated", 21, "stopped", 20, "Ended by the system at step 21: step 21 was not saved; "
         "the checkpoint of step 20 is kept."),
        ("killed", 5, "stopped", 0, "Stopped by force at step 5: steps 1 to 5 were not saved; there is no checkpoint."),
        ("killed", 0, "stopped", 0, "Stopped by force before its first step."),
        ("asked", 39, "done", 39, "It had come to its end at step 39; all of it is kept."),
    ],
)  # fmt: skip
def test_what_is_kept(tmp_path: Path, rung: str, steps: int, status: str, kept: int, words: str) -> None:
    state = replay(run := make_run(tmp_path, "one", steps=steps, status=status))
    assert kept_of(run, state) == kept
    assert stopped_words(state, rung, kept).en == words
    assert not stopped_words(state, rung, kept).zh.isascii()


def test_paths_are_quoted_as_the_system_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.terminal.os.name", "nt")
    assert [quoted("C:\\a b\\c"), quoted("C:\\a\\c-1")] == ['"C:\\a b\\c"', "C:\\a\\c-1"]
    monkeypatch.setattr("engine.terminal.os.name", "posix")
    assert [quoted("/a b"), quoted("/a/c-1")] == ["'/a b'", "/a/c-1"]
