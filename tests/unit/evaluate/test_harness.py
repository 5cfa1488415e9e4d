"""lm-evaluation-harness: a task of our own on a real small model; folders that hold code; figures. Skips without it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.evaluate import harness as room
from engine.evaluate.harness import check_folder, figures_of, harness
from engine.project.harness_record import read_harness
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import STOP, Command
from tests.tiny_model import make_model
from tests.unit.tuned_run import make_run, words

TASK = """\
task: words
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
doc_to_choice: choices
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    items = [{"question": f"{w}?", "choices": ["one", "six", "red"], "answer": i % 3} for i, w in enumerate("abcdefgh")]
    (folder / "words.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    (folder / "words.yaml").write_text(TASK.format(data=folder / "words.jsonl"), encoding="utf-8")
    return folder


def test_without_it_a_sentence_says_how_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "is_installed", lambda: False)
    with pytest.raises(UserError) as failure:
        harness(RunFolder(tmp_path), Recorder(), tasks=["words"])
    assert failure.value.problem.code == "harness.not_installed"
    assert "pip install" in failure.value.problem.hint.en


@pytest.mark.parametrize(
    "text",
    [
        "task: x\nprocess_docs: !function utils.process\n",
        "task: x\ndataset_path: pandas\n",
        "task: x\ninclude: ../other.yaml\n",
        "task: x\nunsafe_code: true\n",
        "!!python/object/apply:os.system ['true']\n",
        "task: [" * 50_000,
    ],
)
def test_a_folder_with_code_is_refused(tasks: Path, text: str) -> None:
    check_folder(tasks)
    (tasks / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as failure:
        check_folder(tasks)
    assert failure.value.problem.code == "harness.unsafe"


def test_a_folder_without_tasks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no tasks"):
        check_folder(tmp_path)


def test_figures_and_rates() -> None:
    def side(acc: list[float]) -> dict[str, object]:
        samples = [{"doc_id": i, "filter": "none", "acc": value} for i, value in enumerate(acc)]
        mean = sum(acc) / len(acc)
        return {
            "results": {"t": {"alias": "t", "acc,none": mean, "acc_stderr,none": "N/A", "ppl,none": 2.0}},
            "higher_is_better": {"t": {"acc": True, "ppl": False}},
            "samples": {"t": samples},
        }

    acc, ppl = figures_of(side([1.0] * 30 + [0.0] * 10), side([1.0] * 15 + [0.0] * 25), seed=1)
    assert (acc.metric, acc.items, acc.base, acc.tuned) == ("acc", 40, 0.75, 0.375)
    assert acc.rate == pytest.approx(0.5)
    assert acc.low is not None
    assert acc.high is not None
    assert 0.3 < acc.low < 0.5 < acc.high < 0.7
    assert acc.base_error is None
    assert (ppl.metric, ppl.rate) == ("ppl", None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    base = make_model(tmp_path_factory.mktemp("base"))
    return make_run(tmp_path_factory.mktemp("run"), base, words(), method="lora")


@pytest.mark.skipif(not room.is_installed(), reason="lm-eval is not installed: pip install lm-eval")
@pytest.mark.filterwarnings("ignore")
def test_a_task_of_our_own_on_both_models(run: RunFolder, tasks: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = harness(run, Recorder(), tasks=["words"], folder=tasks, limit=6)
        found = read_harness(run)
        assert found is not None
        assert {figure.metric for figure in found.figures} == {"acc", "acc_norm"}
        assert all(figure.items == 6 for figure in found.figures)
        assert all(0 <= figure.base <= 1 for figure in found.figures)
        assert value["limit"] == 6
        with pytest.raises(UserError, match="no task “other”"):
            harness(run, Recorder(), tasks=["other"], folder=tasks)

        # A pattern that looks for a way out finds none.
        evil = TASK.format(data=tasks / "words.jsonl").replace("question}}", "question.__class__.__mro__}}")
        (tasks / "words.yaml").write_text(evil, encoding="utf-8")
        with pytest.raises(UserError, match="unsafe"):
            harness(run, Recorder(), tasks=["words"], folder=tasks, limit=2)

        recorder = Recorder()
        recorder.pending = [Command(name=STOP)]
        with pytest.raises(Stopped):
            harness(run, recorder, tasks=["words"], folder=tasks)
