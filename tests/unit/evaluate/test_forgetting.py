"""Forgetting: the shipped questions, rates and intervals by simulation, what cannot be measured, real small models."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from engine.evaluate.forgetting import at_least, by_skill, drift, forgetting, languages_of, rate_interval, together
from engine.evaluate.probes import Asker, Probe, likeliest, probes, texts
from engine.evaluate.questions import read_rows
from engine.evaluate.run import evaluate
from engine.evaluate.score import TextLoss
from engine.evaluate.watch import Watch
from engine.model.tuned import load_tuned
from engine.project.effect import read_effect
from engine.project.forgetting import (
    FORGOT,
    KEPT,
    NOT_MEASURABLE,
    SKILLS,
    UNSURE,
    Forgetting,
    SkillChange,
    TextDrift,
    read_forgetting,
)
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped
from engine.protocol.events import STOP, Command, Progress, Stage
from tests.tiny_model import WORDS, make_model
from tests.unit.tuned_run import conversation, make_run, words


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --------------------------------------------------------------------------------------------------- the questions
@pytest.fixture(scope="module")
def maker(repository: Path) -> ModuleType:
    path = repository / "packaging" / "probes" / "make_probes.py"
    spec = importlib.util.spec_from_file_location("make_probes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_files_are_what_their_script_writes(maker: ModuleType, repository: Path) -> None:
    folder = repository / "resources" / "probes"
    written = maker.files()
    assert {path.name for path in folder.glob("*.jsonl")} == set(written)
    for name, content in written.items():
        assert (folder / name).read_text(encoding="utf-8") == content, name


@pytest.mark.parametrize("language", ["en", "zh"])
def test_questions_are_sound(language: str) -> None:
    found = probes([language], 40, seed=1)
    assert {probe.skill for probe in found} == set(SKILLS)
    assert all(sum(probe.skill == skill for probe in found) == 40 for skill in SKILLS)
    assert len({probe.id for probe in found}) == len(found)
    assert len({probe.question for probe in found if probe.skill != "arithmetic"}) >= 158
    for probe in found:
        if probe.choices:
            assert len(set(probe.choices)) == len(probe.choices) >= 3, probe.id
            assert 0 <= probe.answer < len(probe.choices)
        else:
            assert re.compile(probe.accept)
        if probe.skill == "reading":
            assert all(choice in probe.question for choice in probe.choices), probe.id
        if language == "zh" and probe.skill not in ("arithmetic", "code"):
            assert re.search("[\u4e00-\u9fff]", probe.question), probe.id


def test_the_place_of_the_right_choice_says_nothing() -> None:
    found = [probe for probe in probes(["en", "zh"], 40, seed=1) if len(probe.choices) == 4]
    shares = np.bincount([probe.answer for probe in found], minlength=4) / len(found)
    assert shares.max() < 0.4


@pytest.mark.parametrize(
    ("skill", "language", "place", "good", "bad"),
    [
        ("format", "en", 0, "RIVER", "River"),
        ("format", "en", 2, "[river]", "river"),
        ("format", "en", 4, '{"word": "river"}', "word: river"),
        ("format", "en", 5, "2019-01-05", "5 January 2019"),
        ("format", "en", 8, "red, green", "red, green, blue"),
        ("format", "zh", 6, "是。", "是的，它是"),
        ("format", "zh", 8, "红色、绿色", "红色 绿色"),
    ],
)
def test_a_form_is_kept_or_not(skill: str, language: str, place: int, good: str, bad: str) -> None:
    probe = [item for item in probes([language], 40, seed=1) if item.skill == skill][place]
    assert probe.accepts(f" {good}\n")
    assert not probe.accepts(bad)


def test_a_smaller_sample_is_the_same_for_the_same_seed() -> None:
    small = probes(["en"], 7, seed=3)
    assert len(small) == 7 * len(SKILLS)
    assert small == probes(["en"], 7, seed=3)
    assert small != probes(["en"], 7, seed=4)


def test_log_likelihood_counts_per_character() -> None:
    assert likeliest(["yes", "a much longer answer"], [3.0, 10.0]) == 1
    assert likeliest(["yes", "no"], [3.0, 2.0]) == 0


def test_language_of_the_rows_decides() -> None:
    english = [conversation(i, "What colour is the sky over the sea?", "It is blue today.") for i in range(20)]
    chinese = [conversation(i, "今天的天空是什么颜色的？", "今天的天空是蓝色的。") for i in range(3)]
    assert languages_of(english) == ("en",)
    assert languages_of([*english, *chinese]) == ("en", "zh")
    assert languages_of([]) == ("en",)
    assert len(texts("zh")) == len(texts("en")) == 10


# --------------------------------------------------------------------------------------------------------- figures
def _asked(count: int, skill: str = "knowledge") -> list[Probe]:
    return [Probe(f"{skill}-{i}", skill, "en", "?", ("a", "b", "c", "d")) for i in range(count)]


def _outcome(both: int, lost: int, gained: int, never: int) -> tuple[list[bool], list[bool]]:
    before = [True] * (both + lost) + [False] * (gained + never)
    return before, [True] * both + [False] * lost + [True] * gained + [False] * never


def _skill(both: int, lost: int, gained: int, never: int) -> SkillChange:
    before, after = _outcome(both, lost, gained, never)
    return by_skill(_asked(both + lost + gained + never), before, after, seed=1)[0]


def test_rate_of_the_spec() -> None:
    found = _skill(both=12, lost=18, gained=2, never=8)
    assert (found.before, found.after) == (30 / 40, 14 / 40)
    assert found.rate == pytest.approx((30 - 14) / 30)
    assert found.low is not None
    assert found.high is not None
    assert 0.25 < found.low < found.rate < found.high < 0.75
    assert found.p_value == pytest.approx(0.0004, abs=1e-4)
    assert found.verdict(0.3) == FORGOT
    assert found.of_the_learned == pytest.approx((0.75 - 0.35) / (0.75 - 0.25))
    assert found.name.en == "Common knowledge (English)"


def test_few_questions_are_called_few() -> None:
    few = _skill(both=3, lost=3, gained=1, never=0)
    assert few.rate == pytest.approx(1 / 3)
    assert few.verdict(0.3) == UNSURE
    assert (few.low or 0) < 0


@pytest.mark.parametrize("counts", [(5, 5, 3, 27), (2, 1, 1, 36), (6, 8, 0, 26)])
def test_guessing_is_no_knowledge(counts: tuple[int, int, int, int]) -> None:
    found = _skill(*counts)
    assert found.rate is None
    assert found.low is None
    assert "Not measurable with this model" in found.reason.en
    assert found.verdict(0.3) == NOT_MEASURABLE


def test_nothing_right_of_open_questions_cannot_be_forgotten() -> None:
    asked = [Probe(f"format-{i}", "format", "en", "?", accept="x") for i in range(40)]
    before, after = _outcome(1, 3, 0, 36)
    assert by_skill(asked, before, after, seed=1)[0].reason.zh == "该模型无法测量：40 题仅答对 4 题。"


def test_guessing_by_the_exact_binomial() -> None:
    assert at_least(0, 10, 0.25) == pytest.approx(1.0)
    assert at_least(10, 10, 0.25) == pytest.approx(0.25**10)
    assert at_least(3, 4, 0.5) == pytest.approx(5 / 16)


def test_all_together_counts_questions_of_measurable_skills_alone() -> None:
    asked = [*_asked(40), *_asked(40, "code")]
    known, unknown = _outcome(30, 6, 2, 2), _outcome(5, 5, 0, 30)
    skills = by_skill(asked, known[0] + unknown[0], known[1] + unknown[1], seed=1)
    whole = together(skills, seed=1)
    assert whole is not None
    assert whole.items == 40
    assert whole.rate == skills[0].rate
    assert together(skills[1:], seed=1) is None


def test_intervals_cover_at_the_stated_rate() -> None:
    """400 simulated runs whose true rate is known; the stated 95%, within what 400 of them can tell."""
    chance = np.random.default_rng(11)
    shares = np.array([0.5, 0.2, 0.05, 0.25])
    truth = (shares[1] - shares[2]) / (shares[0] + shares[1])
    inside = 0
    tables = chance.multinomial(40, shares, size=400)
    for number, table in enumerate(tables):
        low, high = rate_interval([tuple(table.tolist())], seed=number)
        inside += low <= truth <= high
    assert 0.92 <= inside / len(tables) <= 0.99


def test_an_unchanged_skill_has_an_interval_with_a_width() -> None:
    low, high = rate_interval([(30, 0, 0, 10)], seed=1)
    assert -0.12 < low < 0 < high < 0.12


def test_drift_of_ordinary_text() -> None:
    before = [TextLoss(20.0 + i, 10, 0) for i in range(10)]
    after = [TextLoss((20.0 + i) * 1.5, 10, 0) for i in range(10)]
    found = drift("en", before, after, seed=1)
    assert found.rise == pytest.approx(0.5)
    assert (found.low, found.high) == (pytest.approx(0.5), pytest.approx(0.5))
    assert found.before == pytest.approx(2.45)
    broken = drift("en", before, [*after[:-1], TextLoss(float("nan"), 10, 0)], seed=1)
    assert broken.rise is broken.after is None


# ----------------------------------------------------------------------------------------------------------- verdict
def test_sentences_and_advice() -> None:
    lost, kept = _skill(10, 26, 0, 4), _skill(34, 2, 2, 2)
    text = TextDrift("en", 10, 700, 3.0, 3.1, 0.03, 0.01, 0.06)
    bad = Forgetting((kept, lost), kept, (text,))
    assert bad.tone == "bad"
    assert bad.sentence.en.startswith("It forgot 72% of common knowledge (English) (between ")
    assert "more than 30%" in bad.sentence.en
    assert "30%" in bad.advice.en
    assert bad.changes == {"data.general_share": 0.3}
    assert replace(bad, general_share=0.3).changes == {}
    good = Forgetting((kept,), kept, (text,))
    assert (good.tone, good.advice.en, good.changes) == ("good", "", {})
    unknown = Forgetting((_skill(5, 5, 5, 25),), None, (text,))
    assert unknown.tone == "plain"
    assert "loss on ordinary text changed by +3%" in unknown.sentence.en
    worse = Forgetting((), None, (replace(text, rise=0.6, low=0.4, high=0.8),))
    assert worse.tone == "warn"
    assert "rose by 60%" in worse.sentence.en
    assert kept.verdict(0.3) == KEPT


# ------------------------------------------------------------------------------------------------------ real models
@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    base = make_model(tmp_path_factory.mktemp("base"))
    return make_run(
        tmp_path_factory.mktemp("run"), base, words(), method="lora", evaluate={"probes": True, "probe_items": 5}
    )


def test_a_model_that_knows_nothing_is_told_so_and_twice_the_same(run: RunFolder) -> None:
    tuned = load_tuned(run)
    recorder = Recorder()
    found = forgetting(run, tuned, read_rows(run), Watch(recorder))
    assert found.own_template
    assert not found.measurable
    assert all("Not measurable" in skill.reason.en for skill in found.skills)
    assert len(found.drift) == 1
    assert found.drift[0].tokens > 500
    assert found.drift[0].rise is not None
    assert read_forgetting(run) == found
    again = forgetting(run, tuned, read_rows(run), Watch(Recorder()))
    assert replace(again, seconds=0.0, created=0.0) == replace(found, seconds=0.0, created=0.0)

    assert [event.name for event in recorder.events if isinstance(event, Stage)] == ["forgetting"]
    told = [event for event in recorder.events if isinstance(event, Progress)]
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert told[-1].done == told[-1].total == 2 * (5 * len(SKILLS) + 10)


def test_evaluating_measures_effect_and_forgetting_beside(run: RunFolder) -> None:
    for path in (run.effect, run.forgetting):
        path.unlink(missing_ok=True)
    recorder = Recorder()
    evaluate(run, recorder)
    found, done = read_forgetting(run), read_effect(run)
    assert found is not None
    assert done is not None
    assert done.changed_answers is not None
    assert [event.name for event in recorder.events if isinstance(event, Stage)][-2:] == ["effect", "forgetting"]


def test_stop_leaves_what_was_kept(run: RunFolder) -> None:
    recorder = Recorder()
    recorder.pending = [Command(name=STOP)]
    with pytest.raises(Stopped):
        forgetting(run, load_tuned(run), read_rows(run), Watch(recorder))


def test_batches_change_no_answer_and_a_taught_model_answers(run: RunFolder) -> None:
    """Questions one by one and together; and a question whose answer the adapter was fitted to."""
    tuned = load_tuned(run)
    asked = [probe for probe in probes(["en"], 5, seed=1) if probe.choices]
    together_, alone = Asker(tuned, own_template=True), Asker(tuned, own_template=True)
    assert together_.right(asked, _quiet) == [alone.right([probe], _quiet)[0] for probe in asked]
    plain = Asker(tuned, own_template=False)
    assert len(plain.right(asked, _quiet)) == len(asked)


def test_a_model_answers_what_it_was_taught(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base")
    taught = make_run(tmp_path / "run", base, words(), method="lora", steps=60)
    asker = Asker(load_tuned(taught), own_template=True)
    asked = [
        Probe("a", "knowledge", "en", "cat?", ("one", "two", "six"), 0),
        Probe("c", "format", "en", "cat?", accept="one"),
        Probe("d", "format", "en", "sun?", accept="one"),
    ]
    assert asker.right(asked, _quiet) == [True, True, False]


def test_what_a_model_knew_and_forgot_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base model that knows answers by heart, and a run that teaches it others: nothing but real weights."""
    names, answers = WORDS[3:8], ("one", "two", "red", "six", "five")
    known = [conversation(i, f"{name}?", answer) for i, (name, answer) in enumerate(zip(names, answers, strict=True))]
    first = make_model(tmp_path / "first")
    taught = load_tuned(make_run(tmp_path / "taught", first, known, method="lora", steps=120))
    base = Path(shutil.copytree(first, tmp_path / "base"))
    taught.model.merge_and_unload().save_pretrained(base)
    others = [conversation(i, f"{name}?", "green tree") for i, name in enumerate(names)]
    run = make_run(tmp_path / "run", base, others, method="lora", steps=60)
    asked = [
        Probe(f"{name}{n}", "knowledge", "en", f"{name}?", accept=answer)
        for name, answer in zip(names, answers, strict=True)
        for n in range(4)
    ]
    monkeypatch.setattr("engine.evaluate.forgetting.probes", lambda *given: asked)
    found = forgetting(run, load_tuned(run), read_rows(run), Watch(Recorder()))
    skill = found.skills[0]
    assert skill.before > 0.7
    assert skill.after < 0.3
    assert skill.verdict(found.limit) == FORGOT
    assert found.tone == "bad"
    assert "forgot" in found.sentence.en
    assert found.changes == {"data.general_share": 0.3}


def _quiet(_: float) -> None:
    """Nobody watches."""
