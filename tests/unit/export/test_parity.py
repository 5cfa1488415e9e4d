"""The result of a check: what it keeps, what it reads of older and of strange records, what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.export.ledger import Export, listed, remember
from engine.export.parity import LIMITS, Limits, Parity, difference, doubt, figures, limits_of, refusal, sentence
from engine.export.targets import QUANTISATIONS
from engine.project.atomic import write_json
from engine.project.run_folder import RunFolder
from engine.protocol.text import say

WRONG = Parity(
    passed=False,
    type="Q8_0",
    prompts=12,
    tokens=300,
    near_ties=2,
    agreement=0.5,
    greedy_prompts=12,
    greedy_equal=0.25,
    perplexity=2.0,
    perplexity_found=3.0,
    limits=LIMITS["Q8_0"],
    tokenizer_equal=True,
    template_equal=False,
    stops_equal=True,
    differs=(
        difference("template", say("Another template.", "模板不同。")),
        difference("weights", say("Other.", "不同。")),
    ),
    seconds=1.5,
    runtime="llama.cpp",
    reference="fp32",
    time=5.0,
)


def test_every_type_that_is_written_has_its_limits() -> None:
    assert set(QUANTISATIONS) <= set(LIMITS)
    for name in QUANTISATIONS:
        assert QUANTISATIONS[name].limit == LIMITS[name].next_token, name
    assert limits_of("q4_k_m") == LIMITS["Q4_K_M"]
    assert limits_of("type 29") == LIMITS["Q2_K"]


def test_a_reference_in_bf16_asks_for_no_more_than_bf16_keeps() -> None:
    assert limits_of("F16", "bf16") == LIMITS["BF16"]
    assert limits_of("Q2_K", "bf16") == LIMITS["Q2_K"]


def test_it_is_read_as_it_was_written() -> None:
    assert Parity.of(WRONG.to_plain()) == WRONG
    assert Parity.of(Parity().to_plain()) == Parity()
    unchecked = Parity(reason=say("no memory", "内存不足"))
    assert Parity.of(unchecked.to_plain()).reason == unchecked.reason
    assert WRONG.perplexity_change == pytest.approx(0.5)
    assert WRONG.kinds == ("template", "weights")


def test_records_of_older_versions_open() -> None:
    old = {"prompts": 12, "agreement": 1, "passed": True, "limit": 0.98, "tokens": 40, "stops_equal": True}
    found = Parity.of(old)
    assert (found.passed, found.prompts, found.agreement, found.stops_equal) == (True, 12, 1.0, True)
    assert found.limits is not None
    assert found.limits.next_token == 0.98
    assert Parity.of({"passed": True}) == Parity(passed=True)
    failed = Parity.of({"passed": False, "reason": {"en": "llama.cpp cannot run it.", "zh": "无法运行。"}})
    assert sentence(failed).en == "Do not use it: llama.cpp cannot run it."


@pytest.mark.parametrize(
    "strange",
    [
        {"passed": "yes", "prompts": "many", "agreement": True, "limits": 3, "differs": {"kind": "weights"}},
        {"differs": [{"kind": "colour"}, 3, None, {"text": "no kind"}], "limits": {"next_token": 1}},
        {"seconds": None, "runtime": 5, "held_out": 1, "limit": "0.9"},
    ],
)
def test_strange_records_are_as_if_nothing_was_measured(strange: dict[str, object]) -> None:
    assert Parity.of(strange) == Parity()


def test_what_people_read() -> None:
    assert sentence(Parity(passed=True)).en == "Checked: it is what you trained."
    assert sentence(WRONG).en == "Do not use it: Another template."
    assert sentence(WRONG).zh == "请勿使用：模板不同。"
    assert sentence(Parity(reason=say("no memory", "内存不足"))).zh == "未检查：内存不足。"
    lines = [line.en for line in figures(WRONG)]
    assert lines[0] == "50.00% of next tokens agree (at least 98.0%); 2 near ties apart."
    assert lines[1].startswith("Perplexity +50.00%")
    assert figures(Parity()) == []
    assert doubt(Parity(passed=True)) is None
    assert [note.code for note in (doubt(WRONG), doubt(Parity(), "merge")) if note] == [
        "export.differs",
        "merge.unchecked",
    ]


def test_a_command_ends_with_what_differs() -> None:
    found = refusal(WRONG)
    assert found is not None
    assert (found.code, found.exit_code) == ("export.differs", 1)
    assert [problem.where for problem in found.problems] == ["template", "weights"]
    assert refusal(Parity()) is None
    assert refusal(Parity(passed=True)) is None


def test_limits_are_numbers() -> None:
    for found in LIMITS.values():
        assert isinstance(found, Limits)
        assert 0.0 <= found.greedy <= 1.0
        assert 0.0 < found.next_token <= 1.0
        assert found.perplexity > 0.0


def test_what_must_not_be_used_is_marked_where_it_lies(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    file, folder = tmp_path / "model.gguf", tmp_path / "merged"
    file.write_bytes(b"GGUF")
    folder.mkdir()
    for kind, path in (("gguf", file), ("merged", folder)):
        remember(run, Export(kind, "", str(path), 4, 1.0, WRONG.to_plain()))
    marks = [tmp_path / "model.gguf.DO-NOT-USE.txt", folder / "DO-NOT-USE.txt"]
    for mark in marks:
        text = mark.read_text(encoding="utf-8")
        assert "Do not use it: Another template." in text
        assert "请勿使用：模板不同。" in text
    assert [item.checked.kinds for item in listed(run)] == [("template", "weights")] * 2
    for kind, path, passed in (("gguf", file, True), ("merged", folder, None)):
        remember(run, Export(kind, "", str(path), 4, 2.0, Parity(passed=passed).to_plain()))
    assert not any(mark.exists() for mark in marks)
    assert {item.passed for item in listed(run)} == {True, None}


def test_a_ledger_of_an_older_version_opens(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    entry = {"kind": "gguf", "type": "F16", "file": "x.gguf", "bytes": 1, "time": 1.0}
    write_json(tmp_path / "exports.json", [entry, {**entry, "parity": {"passed": True}}])
    assert [item.passed for item in listed(run)] == [None, True]


def test_the_guide_has_the_limits() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "user-guide.md").read_text(encoding="utf-8")
    names = {"adapter": "adapter folder", "merged": "merged weights"}
    for name, found in LIMITS.items():
        free = f"{found.greedy:.0%}" if found.greedy else "told only"
        row = f"| {names.get(name, name)} | {found.next_token:.1%} | {found.perplexity:.1%} | {free} |"
        assert row in guide, row
