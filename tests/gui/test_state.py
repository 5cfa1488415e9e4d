"""The states: the draft validates and is kept, the wizard says why a step waits, notices are not repeated."""

from pathlib import Path

import pytest
from PySide6.QtTest import QSignalSpy
from pytestqt.qtbot import QtBot

from engine.catalogue import CATALOGUE
from engine.project.run_folder import JobFolder, RunFolder
from engine.project.settings import load_settings
from engine.protocol.codec import encode_event
from engine.protocol.errors import Failure, UserError
from engine.protocol.events import Finished, JobStarted, StepDone
from engine.protocol.text import say
from engine.recipe.file import from_plain, load
from gui.context import AppContext
from gui.i18n import numbers
from gui.i18n.language import speak, tr
from gui.state.draft import DraftRecipe
from gui.state.notices import ERROR, WARNING, Notices
from gui.state.phase import Phase, Status
from gui.state.settings import AppSettings


# --------------------------------------------------------------------------------------------------------- the draft
def test_a_change_is_validated_told_and_kept(qtbot: QtBot, tmp_path: Path) -> None:
    draft = DraftRecipe()
    draft.begin(from_plain({}, CATALOGUE), tmp_path / "draft.toml")
    names: list[set[str]] = []
    draft.changed.connect(names.append)
    draft.set({"train.epochs": 5, "method.rank": 8})
    assert names == [{"train.epochs", "method.rank"}]
    qtbot.waitUntil(lambda: (tmp_path / "draft.toml").exists())
    assert load(tmp_path / "draft.toml", CATALOGUE).train.epochs == 5


def test_a_wrong_value_changes_nothing(qtbot: QtBot, tmp_path: Path) -> None:
    draft = DraftRecipe()
    draft.begin(from_plain({}, CATALOGUE), tmp_path / "draft.toml")
    before = draft.recipe
    with pytest.raises(UserError) as error:
        draft.set({"method.rank": -4})
    assert error.value.problems[0].where == "method.rank"
    assert draft.recipe is before


def test_a_change_of_method_tells_the_names_that_came_and_went(tmp_path: Path) -> None:
    draft = DraftRecipe()
    draft.begin(from_plain({}, CATALOGUE), tmp_path / "draft.toml")
    names: list[set[str]] = []
    draft.changed.connect(names.append)
    draft.replace(from_plain({"method": {"name": "ia3"}}, CATALOGUE))
    draft.keep()
    assert {"method.name", "method.rank", "method.feed_forward"} <= names[0]
    assert load(tmp_path / "draft.toml", CATALOGUE).method.name == "ia3"


def test_a_disk_that_refuses_the_draft_is_told(qtbot: QtBot, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    draft = DraftRecipe()
    draft.begin(from_plain({}, CATALOGUE), blocker / "draft.toml")
    refused = QSignalSpy(draft.not_kept)
    draft.set({"train.epochs": 5})
    draft.keep()
    assert refused.count() == 1


# ----------------------------------------------------------------------------------------------------------- settings
def test_settings_are_kept_and_override(qtbot: QtBot) -> None:
    settings = AppSettings()
    settings.set_language("zh")
    settings.set_theme("dark")
    assert load_settings().language == "zh"
    assert AppSettings(theme="light").values.theme == "light"
    assert AppSettings().values.theme == "dark"


# ------------------------------------------------------------------------------------------------------------ notices
def test_notices_are_not_repeated_and_cancelled_is_no_error() -> None:
    notices = Notices()
    failure = Failure("disk.full", say("The disk is full.", "磁盘已满。"), say("Free some.", "请腾出空间。"))
    notices.failure(failure)
    notices.failure(failure)
    notices.failure(Failure("cancelled", say("Cancelled.", "已取消。")))
    notices.tell(WARNING, say("Note this.", "请注意。"))
    assert [notice.level for notice in notices.open] == [ERROR, WARNING]
    assert "disk.full" in notices.open[0].details
    notices.close(notices.open[0])
    assert [notice.level for notice in notices.open] == [WARNING]


def test_status_tells_cancelled_from_wrong() -> None:
    status = Status()
    status.work(say("Reading…", "读取中…"))
    status.fail(Failure("cancelled", say("Cancelled.", "已取消。")))
    assert status.phase is Phase.EMPTY
    status.fail(Failure("data.empty", say("Empty.", "为空。")))
    assert status.phase is Phase.WRONG


def test_a_choice_that_the_disk_refuses_becomes_a_notice(context: AppContext, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    context.draft.begin(from_plain({}, CATALOGUE), tmp_path / "file" / "draft.toml")
    context.draft.set({"train.epochs": 5})
    context.draft.keep()
    assert [notice.level for notice in context.notices.open] == [ERROR]
    assert context.draft.recipe.train.epochs == 5


# ------------------------------------------------------------------------------------------------------------- wizard
def test_steps_say_why_they_wait(context: AppContext) -> None:
    wizard = context.wizard
    assert not wizard.step("data").done
    assert "data" in wizard.step("plan").waits.en
    assert wizard.step("train").waits
    assert wizard.step("export").waits
    context.data.set_facts({"train": 1800, "held_out": 200})
    assert wizard.step("data").done
    assert wizard.step("data").word.en == "1,800 rows"
    assert "model" in wizard.step("plan").waits.en


def test_the_train_step_shows_how_far_the_run_is(qtbot: QtBot, context: AppContext, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_facts({"id": "run", "title": "run", "created": 0})
    lines = [JobStarted(kind="train", pid=1), StepDone(step=5, steps=8, epoch=0.5, loss=1.0, learning_rate=1e-4)]
    run.events.write_text("".join(encode_event(event) + "\n" for event in lines), encoding="utf-8")
    context.runs.select(run)
    qtbot.waitUntil(lambda: context.runs.train.state.step == 5)
    # Its process is gone without a last word, so the host gives one.
    qtbot.waitUntil(lambda: context.runs.train.state.is_over)
    assert context.wizard.step("train").word.en == "failed"


def test_replaying_a_run_gives_the_same_state(qtbot: QtBot, context: AppContext, tmp_path: Path) -> None:
    job = JobFolder(tmp_path / "job")
    job.path.mkdir()
    steps = [StepDone(step=i, steps=50, epoch=0.0, loss=1.0, learning_rate=1e-4) for i in range(1, 51)]
    lines = [JobStarted(kind="train", pid=1), *steps, Finished(status="done")]
    job.events.write_text("".join(encode_event(event) + "\n" for event in lines), encoding="utf-8")
    view = context.runs.evaluate
    with qtbot.waitSignal(view.finished):
        view.follow(job)
    first = view.state
    with qtbot.waitSignal(view.finished):
        view.follow(job)
    assert view.state == first
    assert first.step == 50


# ------------------------------------------------------------------------------------------------------------ numbers
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.count(4812), "4,812"),
        (numbers.parameters(7.62e9), "7.6 B"),
        (numbers.parameters(260_032), "260 k"),
        (numbers.gib(15.64), "15.6 GiB"),
        (numbers.gib(0.0127), "13 MiB"),
        (numbers.gib(None), "—"),
        (numbers.size(6_824_448), "6.5 MiB"),
        (numbers.duration(65 * 60), "1 h 05 min"),
        (numbers.duration(24 * 60), "24 min"),
        (numbers.duration(42), "42 s"),
        (numbers.percent(0.624), "62%"),
        (numbers.short(1.1e-4), "1.1e-4"),
        (numbers.short(0.002), "0.002"),
        (numbers.length(32768), "32 k"),
    ],
)
def test_numbers_are_written_with_units(written: str, expected: str) -> None:
    assert written == expected


def test_the_language_is_spoken_and_follows_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    words = say("Data", "数据")
    assert speak("zh") == "zh"
    assert tr(words) == "数据"
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert speak("auto") == "zh"
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert speak("auto") == "en"
    assert tr(words) == "Data"
