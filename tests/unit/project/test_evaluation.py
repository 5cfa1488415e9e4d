"""The evaluation as a file, and the lists that the window shows of it."""

import json
import subprocess
import sys
from pathlib import Path

from engine.project.evaluation import (
    Comparison,
    EvaluatedRow,
    Evaluation,
    Scores,
    SideOfRow,
    Verdict,
    read_evaluation,
    write_evaluation,
)
from engine.project.run_folder import RunFolder
from engine.protocol.text import say


def _side(answer: str, rouge: float | None, *, exact: bool = False) -> SideOfRow:
    return SideOfRow(answer, exact, rouge, 1.0, 0.5)


def _evaluation() -> Evaluation:
    rows = (
        EvaluatedRow("a:1", "P1", "red", _side("x", 0.0), _side("red", 1.0, exact=True)),
        EvaluatedRow("a:2", "P2", "two blue", _side("blue", 0.66), _side("y", 0.1)),
        EvaluatedRow("a:3", "P3", "four 猫", _side("four", 0.5), _side("four", 0.5)),
        EvaluatedRow("a:4", "P4", "!", _side("z", None), _side("w", None)),
    )
    side = Scores(1.0, 2.718, 0.5, 0.25, None)
    verdict = Verdict(Comparison(1, 1, 1, 1.0), Comparison(0, 0, 4, None), 0.75)
    return Evaluation(side, side, verdict, rows, {"rouge_l": say("Why.", "原因。")}, held_out=9)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert read_evaluation(run) is None
    write_evaluation(run, _evaluation())
    assert read_evaluation(run) == _evaluation()
    assert "猫" in run.evaluation.read_text(encoding="utf-8")


def test_fields_of_a_newer_version_are_passed_over(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_evaluation(run, _evaluation())
    plain = json.loads(run.evaluation.read_text(encoding="utf-8"))
    plain["later"] = plain["rows"][0]["later"] = {"any": 1}
    run.evaluation.write_text(json.dumps(plain), encoding="utf-8")
    assert read_evaluation(run) == _evaluation()


def test_an_old_file_opens_without_intervals_and_says_that_it_is_old(tmp_path: Path) -> None:
    """As the first version wrote it: no measures, no groups, none of the newer figures."""
    run = RunFolder(tmp_path)
    write_evaluation(run, _evaluation())
    plain = json.loads(run.evaluation.read_text(encoding="utf-8"))
    newer = {"measures", "headline", "groups", "grouped_by", "labels", "overlap", "seed", "resamples", "tokenizer"}
    old = {**{name: value for name, value in plain.items() if name not in newer}, "version": 1}
    for side in ("base", "tuned"):
        old[side] = {
            name: old[side][name] for name in ("loss", "perplexity", "token_accuracy", "exact_match", "rouge_l")
        }
        for row in old["rows"]:
            row[side] = {n: v for n, v in row[side].items() if n not in ("bleu", "chrf", "rouge_1", "rouge_2")}
    run.evaluation.write_text(json.dumps(old), encoding="utf-8")
    found = read_evaluation(run)
    assert found is not None
    assert found.is_old
    assert [m.name for m in found.measures] == ["exact_match", "token_accuracy", "perplexity", "loss"]
    assert found.headline == "exact_match"
    exact = found.measure("exact_match")
    assert exact is not None
    assert (exact.base.value, exact.difference.value, exact.base.low, exact.p_value) == (0.25, 0.0, None, None)
    assert found.measure("bleu") is None
    assert not _evaluation().is_old


def test_which_row_is_better() -> None:
    rows = _evaluation().rows
    assert [row.outcome for row in rows] == ["better", "worse", "same", "same"]
    unasked = EvaluatedRow("a:5", "", "x", SideOfRow(None, None, None, 2.0, 0.5), SideOfRow(None, None, None, 1.0, 0.5))
    assert unasked.outcome == "better"
    # An exact answer is never the worse one, whatever words the other has.
    exact = EvaluatedRow("a:6", "", "Red.", _side("Red.", 0.9, exact=True), _side("red", 1.0))
    assert (exact.outcome, exact.gain) == ("worse", -1.0)


def test_best_worst_and_changed_rows() -> None:
    evaluation = _evaluation()
    assert [row.where for row in evaluation.best(5)] == ["a:1"]
    assert [row.where for row in evaluation.worst(2)] == ["a:4", "a:2"]
    assert [row.where for row in evaluation.changed()] == ["a:1", "a:2", "a:4"]


def test_reading_needs_no_heavy_library() -> None:
    code = (
        "import sys, engine.project.evaluation; "
        "print([name for name in ('torch', 'transformers', 'peft', 'rouge_score') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
