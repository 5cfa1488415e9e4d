"""What the command line answers: right words for wrong options, both languages, documents in English."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import commands, demo, evaluate_command
from engine.catalogue import CATALOGUE
from engine.cli import main
from engine.jobs import english, failure_of, resume_with
from engine.machine.time import gpu_speed
from engine.options import parser
from engine.project.project import Project
from engine.project.run_folder import RunFolder
from engine.protocol.errors import Failure
from engine.protocol.events import DONE, FAILED, STOPPED
from engine.protocol.text import say
from engine.recipe.file import loads
from engine.terminal import Outcome, Terminal


class Answer:
    """One command run in this process: exit code, what it printed, and its document."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


Lorimer = Callable[..., Answer]


@pytest.fixture
def lorimer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Lorimer:
    monkeypatch.delenv("LORIMER_LANG", raising=False)

    def call(*given: str | Path) -> Answer:
        capsys.readouterr()
        code = main([str(item) for item in given])
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return call


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that has not begun."""
    return Project.open_or_create(tmp_path / "p").new_run(loads("", CATALOGUE))


def _outcome(status: str = STOPPED, *, interrupted: bool = True, **value: Any) -> Outcome:
    outcome = Outcome()
    outcome.status, outcome.interrupted, outcome.value = status, interrupted, value
    outcome.failure = Failure("run.died", say("It died.", "已退出。"), details="log") if status == FAILED else None
    return outcome


# ----------------------------------------------------------------------------------------------------- interrupted
@pytest.mark.parametrize("given", [["resume"], ["evaluate"], ["merge", "--out", "x"], ["export", "--out", "x"]])
def test_ctrl_c_in_a_job_gives_a_document_with_an_error(
    lorimer: Lorimer, run: RunFolder, monkeypatch: pytest.MonkeyPatch, given: list[str]
) -> None:
    for module in (commands, evaluate_command):
        monkeypatch.setattr(module, "run_job", lambda *_: _outcome())
    answer = lorimer(given[0], run.path, *given[1:], "--json")
    assert answer.code == 130
    assert answer.document["error"]["code"] == "interrupted"
    assert answer.document["error"]["hint"]
    if given == ["resume"]:
        assert answer.document["status"] == "stopped"
        assert f"lorimer resume {run.path}" in answer.document["error"]["hint"]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_interrupted_demo_names_its_run(
    lorimer: Lorimer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    done: list[str] = []

    def job(folder: Any, kind: str, *_: Any) -> Outcome:
        done.append(kind)
        return _outcome(interrupted=len(done) > at)

    monkeypatch.setattr(demo, "run_job", job)
    answer = lorimer("demo", "--project", tmp_path / "p", "--json")
    assert (answer.code, len(done)) == (130, at + 1)
    assert answer.document["error"]["code"] == "interrupted"
    assert Path(answer.document["run"]).is_dir()


def test_ctrl_c_between_two_jobs_of_the_demo(lorimer: Lorimer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: Any) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_job", press)
    answer = lorimer("demo", "--project", tmp_path / "p", "--json")
    assert (answer.code, answer.document["error"]["code"]) == (130, "interrupted")
    assert "run" in answer.document


def test_how_a_job_ended(tmp_path: Path) -> None:
    hint = resume_with(tmp_path)
    assert failure_of(_outcome(interrupted=False), hint) is None
    failed = failure_of(_outcome(FAILED, interrupted=False), hint)
    assert failed is not None
    assert failed.code == "run.died"
    killed = failure_of(_outcome(FAILED), hint)
    assert killed is not None
    assert (killed.code, killed.exit_code, killed.details) == ("interrupted", 130, "log")
    over = failure_of(_outcome(DONE), hint)
    assert over is not None
    assert "resume" not in over.hint.en


def test_ctrl_c_is_answered_while_modules_are_loaded(repository: Path) -> None:
    program = """
import sys
import engine.cli
assert not [name for name in sys.modules if name.startswith("engine.") and name != "engine.cli"]
class Press:
    def find_spec(self, name, *_):
        if name == "engine.terminal":
            sys.meta_path.remove(self)
            raise KeyboardInterrupt
sys.meta_path.insert(0, Press())
sys.exit(engine.cli.main(["doctor", "--json"]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (130, "")
    assert json.loads(done.stdout)["error"]["code"] == "interrupted"


# --------------------------------------------------------------------------------------------------- wrong options
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["plan", "--model", "m", "--data", "d", "--gpu-memory", "-3"], "number of at least 0"),
        (["plan", "--model", "m", "--data", "d", "--gpu-memory", "nan"], "number of at least 0"),
        (["plan", "--model", "m", "--data", "d", "--gpu-memory", "inf"], "number of at least 0"),
        (["data", "check", "f", "--max-length", "-4"], "whole number from 16 to 1048576"),
        (["data", "check", "f", "--max-length", "x"], "whole number from 16 to 1048576"),
        (["evaluate", "r", "--rows", "-3"], "whole number of at least 1"),
        (["evaluate", "r", "--rows", "0"], "whole number of at least 1"),
        (["chat", "r", "--prompt", "x", "--max-new-tokens", "-5"], "whole number of at least 1"),
        (["chat", "r", "--prompt", "x", "--temperature", "-1"], "number from 0 to 10"),
        (["demo", "--seed", "-1"], "whole number from 0 to 2147483647"),
        (["doctor", "--js"], "unrecognized arguments: --js"),
        (["run"], "required: recipe"),
        (["teleport"], "invalid choice: 'teleport'"),
    ],
)
def test_a_wrong_option_is_a_matter_of_usage(lorimer: Lorimer, given: list[str], says: str) -> None:
    answer = lorimer(*given, "--json")
    assert answer.code == 2
    error = answer.document["error"]
    assert error["code"] == "usage"
    assert says in error["message"]
    assert error["hint"]


@pytest.mark.parametrize("language", [["--lang=zh"], ["--lang", "zh"]])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["run"], "缺少参数 recipe"),
        (["doctor", "--fast"], "无法识别的参数 --fast"),
        (["evaluate", "r", "--rows"], "--rows 需要一个值"),
        (["export", "r", "--out", "o", "--to", "zip"], "--to 不能是 'zip'，只能是 "),
        (["evaluate", "r", "--rows", "0"], "必须是不小于 1 的整数"),
    ],
)
def test_wrong_options_in_chinese(lorimer: Lorimer, language: list[str], given: list[str], says: str) -> None:
    answer = lorimer(*language, *given)
    assert answer.code == 2
    assert says in answer.err
    assert "argument" not in answer.err


def test_the_help_is_in_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--lang", "zh", "plan", "--help"])
    page = capsys.readouterr().out
    assert page.startswith("用法：lorimer plan")
    assert "适合本机的配方" in page
    assert "选项" in page
    assert "usage:" not in page
    assert "options:" not in page
    assert "show this" not in page


def test_a_level_may_be_written_as_the_messages_write_it() -> None:
    assert parser().parse_args(["export", "r", "--out", "o", "--quantize", "IQ4_XS"]).quantize == "iq4_xs"
    assert parser().parse_args(["export", "r", "--out", "o"]).quantize == "q4_k_m"


def test_no_memory_at_all_still_has_a_speed() -> None:
    assert gpu_speed("", None, -3.0).assumed
    assert gpu_speed("", None, float("nan")).assumed


def test_the_unexpected_names_its_kind(lorimer: Lorimer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> int:
        raise StopIteration

    monkeypatch.setitem(commands.COMMANDS, "doctor", fail)
    answer = lorimer("doctor", "--json")
    assert (answer.code, answer.document["error"]["code"]) == (1, "internal")
    assert "StopIteration" in answer.document["error"]["message"]


# ---------------------------------------------------------------------------------------------- a recipe before a run
def test_all_that_a_recipe_names_and_is_not_there(lorimer: Lorimer, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        '[model]\nsource = "./gone"\n'
        '[data]\nfiles = ["gone.jsonl", "."]\nheld_out_file = "none.jsonl"\n'
        'shape = "alpca"\nencoding = "utf-9"\ntemplate = "chatlm"\n',
        encoding="utf-8",
    )
    answer = lorimer("run", tmp_path / "r.toml", "--project", tmp_path / "p", "--json")
    error = answer.document["error"]
    assert (answer.code, error["code"]) == (2, "recipe.invalid")
    assert [problem["where"] for problem in error["problems"]] == [
        "model.source",
        "data.files",
        "data.files",
        "data.held_out_file",
        "data.shape",
        "data.encoding",
        "data.template",
    ]
    assert all(problem["hint"] for problem in error["problems"])
    assert "gone.jsonl" in error["problems"][1]["message"]
    assert error["problems"][-1]["hint"] == 'Did you mean "chatml"?'
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "data.files"),
        ('[data]\nfiles = ["r.toml"]\nmapping = {asnwer = "x"}\n', "data.mapping"),
        ('[data]\nfiles = ["r.toml"]\ntemplate = "gone.jinja"\n', "data.template"),
    ],
)
def test_one_thing_that_is_not_there(lorimer: Lorimer, tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    answer = lorimer("run", tmp_path / "r.toml", "--project", tmp_path / "p", "--json")
    assert (answer.code, answer.document["error"]["code"]) == (2, "recipe.invalid")
    assert [problem["where"] for problem in answer.document["error"]["problems"]] == [where]
    assert answer.document["error"]["hint"]
    assert not (tmp_path / "p").exists()


# -------------------------------------------------------------------------------------------------- data and a plan
@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Nine rows and one of them twice."""
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"instruction": f"Question {i}?", "output": f"Answer {i}."}) for i in range(9)]
    path.write_text("\n".join([*lines, lines[0]]) + "\n", encoding="utf-8")
    return path


def test_data_check_in_chinese(lorimer: Lorimer, rows: Path) -> None:
    answer = lorimer("data", "check", rows, "--model", "starter", "--lang", "zh")
    assert answer.code == 0
    assert "模板 model：模型自带。" in answer.out
    assert "搁置，重复：1" in answer.out
    assert "与 rows.jsonl:1 相同" in answer.out
    assert not {"set aside", "duplicate", "the same as"} & set(answer.out.splitlines())


def test_data_check_documents_english_alone(lorimer: Lorimer, rows: Path) -> None:
    report = lorimer("data", "check", rows, "--model", "starter", "--json", "--lang", "zh").document
    assert report["template"] == {"name": "model", "reason": "The model's own."}
    assert report["problems"][0]["message"].startswith("It is the same as")
    assert "texts" not in report


def test_data_check_looks_at_the_model(lorimer: Lorimer, rows: Path, starter: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    for file in starter.iterdir():
        if file.suffix != ".safetensors":
            (half / file.name).write_bytes(file.read_bytes())
    answer = lorimer("data", "check", rows, "--model", half, "--json")
    assert answer.code == 2
    assert answer.document["error"]["code"].startswith("model.")
    assert answer.document["trainable"] == 9


def test_a_plan_tells_which_rows_do_not_train(lorimer: Lorimer, rows: Path) -> None:
    plan = lorimer("plan", "--model", "starter", "--data", rows, "--json").document
    assert plan["reasons"][1] == "1 of 10 rows do not train (duplicate: 1)."
    assert "texts" not in plan


def test_a_plan_in_chinese(lorimer: Lorimer, rows: Path) -> None:
    answer = lorimer("plan", "--model", "starter", "--data", rows, "--lang", "zh")
    assert "10 行中有 1 行不参与训练（重复：1）。" in answer.out
    assert "权重 0.01" in answer.out
    assert "weights" not in answer.out


def test_a_plan_into_a_folder_is_said(lorimer: Lorimer, rows: Path, tmp_path: Path) -> None:
    answer = lorimer("plan", "--model", "starter", "--data", rows, "--out", tmp_path, "--json")
    assert (answer.code, answer.document["error"]["code"]) == (2, "file.folder")
    assert answer.document["error"]["hint"]


# ------------------------------------------------------------------------------------------------------- documents
def test_documents_are_in_english() -> None:
    both = {"en": "No memory.", "zh": "内存不足。"}
    assert english({"parity": {"passed": None, "reason": both}, "rows": [say("a", "甲")]}) == {
        "parity": {"passed": None, "reason": "No memory."},
        "rows": ["a"],
    }


def test_an_evaluations_notes_are_in_english(lorimer: Lorimer, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = {"base": {"loss": 2.0}, "tuned": {"loss": 1.0}}
    notes = {"rouge_l": {"en": "No answer.", "zh": "没有回答。"}}
    monkeypatch.setattr(evaluate_command, "run_job", lambda *_: _outcome(DONE, interrupted=False, **sides, notes=notes))
    answer = lorimer("evaluate", run.path, "--json", "--lang", "zh")
    assert (answer.code, answer.document["notes"]) == (0, {"rouge_l": "No answer."})


def test_a_terminal_writes_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(as_json=True, language="zh").result({"a": 1}, say("x", "甲"))
    assert json.loads(capsys.readouterr().out) == {"a": 1}


# -------------------------------------------------------------------------------------------------------------- data
@pytest.fixture
def unclear(tmp_path: Path) -> Path:
    path = tmp_path / "unclear.jsonl"
    rows = [{"alpha": f"Some text number {i} about", "beta": f"Other text number {i} of"} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("command", [("data", "check"), ("plan", "--model", "starter", "--data")])
def test_unclear_columns_are_asked_about(lorimer: Lorimer, unclear: Path, command: tuple[str, ...]) -> None:
    answer = lorimer(*command, unclear, "--json")
    assert (answer.code, answer.document["error"]["code"]) == (2, "data.ask")
    assert "--map" in answer.document["error"]["hint"]
    said = ("--map", "prompt=alpha", "--map", "completion=beta")
    answer = lorimer(*command, unclear, *said, "--json")
    assert answer.code == 0
    found = answer.document.get("mapping") or answer.document["recipe"]["data"]["mapping"]
    assert found == {"prompt": "alpha", "completion": "beta"}


def test_a_mapping_is_written_with_an_equals_sign(lorimer: Lorimer, unclear: Path) -> None:
    answer = lorimer("data", "check", unclear, "--map", "prompt")
    assert answer.code == 2
    assert "ROLE=COLUMN" in answer.err


def test_quality_is_told_where_it_is_asked_for(lorimer: Lorimer, repository: Path) -> None:
    sample = repository / "resources" / "samples" / "orders_zh.jsonl"
    assert lorimer("data", "check", sample, "--json").document["quality"] is None
    assert lorimer("data", "check", sample, "--quality", "--json").document["quality"]["languages"] == {"zh": 2000}


def test_data_are_written_out_and_imported_again(lorimer: Lorimer, repository: Path, tmp_path: Path) -> None:
    sample = repository / "resources" / "samples" / "orders_zh.jsonl"
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    assert lorimer("plan", "--model", "starter", "--data", sample, "--out", recipe, "--json").code == 0
    document = lorimer("data", "prepare", recipe, "--out", out, "--json").document
    assert document["train"] + document["held_out"] == 2000
    assert json.loads((out / "report.json").read_text()) == document
    again = lorimer("data", "check", out / "train.jsonl", "--json").document
    assert (again["shape"], again["trainable"]) == ("messages", document["train"])


def test_who_reads_may_stop_reading(repository: Path, unclear: Path) -> None:
    command = [sys.executable, "-m", "engine.cli", "doctor", "--json"]
    process = subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    told = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 1
    assert "Traceback" not in told
