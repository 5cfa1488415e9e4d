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
