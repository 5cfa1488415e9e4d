"""Rows scored by a model: right figures, each row asked for once, and runs that train on what it chose."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.catalogue import CATALOGUE
from engine.data import choice
from engine.data.choice import NOT_CHOSEN, read_kept
from engine.data.prepare import prepare
from engine.data.write_out import write_prepared
from engine.model.tuned import load_tuned
from engine.precheck import check_recipe
from engine.project.atomic import disk_error
from engine.project.project import Project
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import STOP, Command, Event, Note, Progress, RunPlanned, Stage, StepDone
from engine.recipe.file import from_plain, load, save
from engine.recipe.recipe import Recipe
from engine.train import scoring
from engine.train.run import train
from engine.train.scoring import score
from tests.tiny_model import make_model

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Teller(Recorder):
    """Keeps events, and says stop when one comes that is waited for."""

    def __init__(self, stop: Callable[[Event], bool] = lambda event: False) -> None:
        super().__init__()
        self.stop = stop

    def emit(self, event: Event) -> None:
        super().emit(event)
        if self.stop(event):
            self.pending.append(Command(name=STOP))

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def stages(self) -> list[str]:
        return [event.name for event in self.of(Stage)]


@pytest.fixture
def recipe(tiny: Path, rows: Path) -> Callable[..., Recipe]:
    """A recipe on the very small model; ``data`` settings by name."""

    def make(*, source: Path = tiny, file: Path = rows, objective: str = "sft", **data: Any) -> Recipe:
        return from_plain(
            {
                "model": {"source": str(source)},
                "data": {"files": [str(file)], "held_out": 0.1, **data},
                "method": {"name": "ia3"},
                "objective": {"name": objective},
                "train": {"epochs": 2.0, "batch_size": 3, "accumulation": 1, "patience": 0, "evaluate_every": 100},
            },
            CATALOGUE,
        )

    return make


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[[Recipe], RunFolder]:
    project = Project.open_or_create(tmp_path / "project")
    return lambda recipe: project.new_run(recipe)


def written(recipe: Recipe, out: Path, channel: Recorder | None = None) -> list[dict[str, Any]]:
    score(recipe, channel or Recorder(), out=out)
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


# ----------------------------------------------------------------------------------------------------- right figures
def test_the_loss_is_the_one_that_transformers_computes(
    recipe: Callable[..., Recipe], starter: Path, repository: Path, tmp_path: Path
) -> None:
    """Row by row on the starter, by the model's own loss; and the entropy by torch's own distribution."""
    from transformers import AutoModelForCausalLM

    sample = (repository / "resources" / "samples" / "orders_en.jsonl").read_text(encoding="utf-8").splitlines()[:9]
    file = tmp_path / "orders.jsonl"
    file.write_text("\n".join(sample) + "\n", encoding="utf-8")
    asked = recipe(source=starter, file=file, held_out=0.0)
    found = written(asked, tmp_path / "out.jsonl")
    assert [line["where"] for line in found] == [f"orders.jsonl:{n}" for n in range(1, 10)]
    model = AutoModelForCausalLM.from_pretrained(starter, dtype=torch.float32).eval()
    for example, line in zip(prepare(asked.data, preference=False, model_folder=starter).train, found, strict=True):
        ids = torch.tensor([example.input_ids])
        learned = torch.tensor([example.learned])
        with torch.inference_mode():
            output = model(input_ids=ids, labels=ids.masked_fill(~learned, -100))
        assert line["loss"] == pytest.approx(float(output.loss), rel=1e-5)
        entropy = torch.distributions.Categorical(logits=output.logits[0, :-1].double()).entropy()
        assert line["uncertainty"] == pytest.approx(float(entropy[learned[0, 1:]].mean()), rel=1e-5)
        assert line["tokens"] == int(learned.sum())


def test_the_result_names_the_rows_at_both_ends(recipe: Callable[..., Recipe], tiny: Path, tmp_path: Path) -> None:
    told = Teller()
    out = tmp_path / "out.jsonl"
    result = score(recipe(choice="hardest", choice_share=0.25), told, out=out)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert (result["rows"], result["new"], result["chosen"]) == (36, 36, 9)
    assert len(lines) == 36
    by_loss = sorted(lines, key=lambda line: line["loss"])
    assert [row["where"] for row in result["easiest"]] == [line["where"] for line in by_loss[:10]]
    assert [row["where"] for row in result["hardest"]] == [line["where"] for line in by_loss[::-1][:10]]
    uncertain = sorted(lines, key=lambda line: -line["uncertainty"])
    assert [row["where"] for row in result["uncertain"]] == [line["where"] for line in uncertain[:10]]
    assert result["hardest"][0]["text"].startswith("Turn round")
    assert {line["where"] for line in lines if line["chosen"]} == {line["where"] for line in by_loss[-9:]}
    losses = [line["loss"] for line in lines]
    assert result["loss"]["median"] == pytest.approx(float(np.median(losses)))
    assert result["loss"]["p5"] <= result["loss"]["mean"] <= result["loss"]["p95"]
    assert result["model"] == str(tiny)
    assert told.stages == ["data", "load", "score"]
    assert [(event.done, event.total) for event in told.of(Progress)][-1] == (36, 36)
    json.dumps(result, allow_nan=False)


def test_held_out_rows_are_not_scored(recipe: Callable[..., Recipe], tiny: Path, tmp_path: Path) -> None:
    asked = recipe()
    held_out = prepare(asked.data, preference=False, model_folder=tiny).held_out
    found = {line["where"] for line in written(asked, tmp_path / "out.jsonl")}
    assert len(held_out) == 4
    assert not found & {example.row.where for example in held_out}


def test_a_preference_counts_by_its_chosen_answer(
    recipe: Callable[..., Recipe], preferences: Path, tiny: Path, tmp_path: Path
) -> None:
    pairs = written(recipe(file=preferences, objective="dpo"), tmp_path / "pairs.jsonl")
    plain = [json.loads(line) for line in preferences.read_text(encoding="utf-8").splitlines()]
    file = tmp_path / "chosen.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": row["prompt"], "completion": row["chosen"]}) + "\n" for row in plain),
        encoding="utf-8",
    )
    alone = written(recipe(file=file, held_out=0.0), tmp_path / "alone.jsonl")
    assert len(pairs) == 22
    losses = {line["index"]: line["loss"] for line in alone}
    for line in pairs:
        assert line["loss"] == pytest.approx(losses[line["index"]], rel=1e-5)


# --------------------------------------------------------------------------------------------------- each once only
def test_rows_that_are_known_need_no_model(
    recipe: Callable[..., Recipe], rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(rows.read_bytes())
    first = written(recipe(file=file, held_out=0.0), tmp_path / "1.jsonl")
    with file.open("a", encoding="utf-8") as more:
        more.write('{"instruction": "Say", "input": "", "output": "red tree"}\n')

    asked: list[int] = []
    plain = scoring.in_batches

    def counting(scorer: Any, text: Any, lengths: list[int], *rest: Any, **named: Any) -> Any:
        asked.append(len(lengths))
        return plain(scorer, text, lengths, *rest, **named)

    monkeypatch.setattr(scoring, "in_batches", counting)
    result = score(recipe(file=file, held_out=0.0), Recorder(), out=tmp_path / "2.jsonl")
    assert (result["rows"], result["new"], asked) == (41, 1, [1])
    second = [json.loads(line) for line in (tmp_path / "2.jsonl").read_text(encoding="utf-8").splitlines()]
    assert second[:40] == first

    monkeypatch.setattr(scoring, "_scorer", lambda *_: pytest.fail("the model was loaded"))
    told = Teller()
    result = score(recipe(file=file, held_out=0.0, order="easiest"), told)
    assert (result["rows"], result["new"]) == (41, 0)
    assert told.stages == ["data"]


@pytest.mark.parametrize("change", [{"system": "Be brief."}, {"learn_from": "everything"}, {"max_length": 40}])
def test_what_the_model_sees_otherwise_is_scored_again(recipe: Callable[..., Recipe], change: dict[str, Any]) -> None:
    assert score(recipe(held_out=0.0), Recorder())["new"] == 40
    assert score(recipe(held_out=0.0, **change), Recorder())["new"] > 0
    assert score(recipe(held_out=0.0), Recorder())["new"] == 0


def test_another_model_scores_for_itself(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    first = score(recipe(), Recorder())
    other = make_model(tmp_path / "other", seed=1)
    second = score(recipe(source=other), Recorder())
    assert second["new"] == first["new"] == 36
    assert second["loss"] != first["loss"]
    # The same folder with other weights in it is another model.
    make_model(other, seed=2)
    assert score(recipe(source=other), Recorder())["new"] == 36


def test_what_was_scored_before_a_stop_is_kept(recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.evaluate.watch.TELL_SECONDS", 0.0)
    asked = recipe().model_copy(update={"evaluate": recipe().evaluate.model_copy(update={"batch_size": 4})})
    told = Teller(lambda event: isinstance(event, Progress) and (event.done, event.total) == (8, 36))
    with pytest.raises(Stopped):
        score(asked, told)
    assert score(asked, Recorder())["new"] == 28


def test_a_cache_that_takes_nothing_does_not_stop_the_work(
    recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, kept: Any) -> None:
        raise disk_error(OSError(28, "No space left on device"), path)

    monkeypatch.setattr(choice, "write_kept", refuse)
    assert score(recipe(), Recorder())["rows"] == 36


# ---------------------------------------------------------------------------------------------------------- in a run
def test_a_run_trains_on_the_chosen_rows_alone(
    recipe: Callable[..., Recipe], new_run: Callable[[Recipe], RunFolder], tiny: Path, tmp_path: Path
) -> None:
    asked = recipe(choice="uncertain", choice_share=0.5)
    lines = written(asked, tmp_path / "out.jsonl")
    run, told = new_run(asked), Teller()
    assert train(run, told)["status"] == "done"
    planned = told.of(RunPlanned)[0]
    assert (planned.rows, planned.held_out, planned.steps) == (18, 4, 12)
    aside = [json.loads(line) for line in run.set_aside.read_text(encoding="utf-8").splitlines()]
    assert {item["reason"] for item in aside} == {NOT_CHOSEN}
    assert {item["where"] for item in aside} == {line["where"] for line in lines if not line["chosen"]}
    assert len(aside) == 18
    notes = {note.code: note.text for note in told.of(Note)}
    assert notes["data.chosen"].en == "Training on the 18 of 36 rows that the model is least certain of."
    assert "data.set_aside" not in notes
    assert load(run.recipe_as_run, CATALOGUE).data.choice == "uncertain"
    held_out = {example.row.where for example in prepare(asked.data, preference=False, model_folder=tiny).held_out}
    assert {json.loads(line)["where"] for line in run.held_out.read_text().splitlines()} == held_out


def test_general_data_stay_in_their_share_whatever_is_chosen(
    recipe: Callable[..., Recipe], new_run: Callable[[Recipe], RunFolder], tmp_path: Path
) -> None:
    general = tmp_path / "general.jsonl"
    lines = [json.dumps({"instruction": f"Say {n}", "input": "", "output": "red " * (n + 1)}) for n in range(12)]
    general.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run, told = new_run(recipe(general=[str(general)], general_share=0.25, choice="hardest")), Teller()
    train(run, told)
    aside = [json.loads(line)["where"] for line in run.set_aside.read_text(encoding="utf-8").splitlines()]
    assert sum(where.startswith("rows.jsonl") for where in aside) == 18
    assert sum(where.startswith("general.jsonl") for where in aside) == 6
    assert told.of(RunPlanned)[0].rows == 18 + 6


def test_a_run_tells_that_it_scores_and_can_be_stopped_there(
    recipe: Callable[..., Recipe], new_run: Callable[[Recipe], RunFolder]
) -> None:
    asked = recipe(order="easiest")
    run = new_run(asked)
    told = Teller(lambda event: isinstance(event, Stage) and event.name == "score")
    with pytest.raises(Stopped):
        train(run, told)
    assert told.stages == ["data", "load", "score"]
    told = Teller()
    assert train(run, told, resume=True)["status"] == "done"
    assert told.stages == ["data", "load", "score", "model", "train", "save"]
    told = Teller()
    train(new_run(asked), told)
    assert told.stages == ["data", "model", "train", "save"]


@pytest.mark.parametrize("again", ["resume", "kept recipe"])
def test_a_run_from_easy_to_hard_is_repeated_bit_for_bit(
    recipe: Callable[..., Recipe], new_run: Callable[[Recipe], RunFolder], lorimer_home: Path, again: str
) -> None:
    """Resumed within the second pass without cache and scoring model; or begun anew by the recipe that was kept."""
    asked = recipe(order="easiest", choice="easiest", choice_share=0.8)
    whole, told = new_run(asked), Teller()
    train(whole, told)
    run, parts = new_run(asked), []
    if again == "resume":
        before = Teller(lambda event: isinstance(event, StepDone) and event.step == 13)
        assert train(run, before)["status"] == "stopped"
        for file in (lorimer_home / "cache" / "scores").iterdir():
            file.unlink()
        parts = before.of(StepDone)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scoring, "_scorer", lambda *_: pytest.fail("the model was loaded"))
            after = Teller()
            train(run, after, resume=True)
    else:
        save(load(whole.recipe_as_run, CATALOGUE), run.recipe)
        after = Teller()
        train(run, after)
    parts += after.of(StepDone)
    assert [event.loss for event in parts] == [event.loss for event in told.of(StepDone)]
    one, other = (load_file(folder.adapter / WEIGHTS) for folder in (whole, run))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_first_steps_of_a_curriculum_are_its_easiest(
    recipe: Callable[..., Recipe], new_run: Callable[[Recipe], RunFolder], tmp_path: Path
) -> None:
    lines = sorted(written(recipe(), tmp_path / "out.jsonl"), key=lambda line: line["loss"])
    told = Teller()
    train(new_run(recipe(order="easiest")), told)
    easy = sum(line["loss"] * line["tokens"] for line in lines[:3]) / sum(line["tokens"] for line in lines[:3])
    first = told.of(StepDone)[0]
    assert first.loss == pytest.approx(easy, rel=1e-3)  # IA3 begins as the base model


# -------------------------------------------------------------------------------------------------------- another run
def test_a_run_can_score_for_the_next(
    recipe: Callable[..., Recipe], new_run: Callable[[Recipe], RunFolder], tmp_path: Path, tiny: Path
) -> None:
    run = new_run(recipe())
    train(run, Teller())
    by_base = written(recipe(), tmp_path / "base.jsonl")
    by_run = written(recipe(scored_by=str(run.path)), tmp_path / "run.jsonl")
    assert [line["loss"] for line in by_run] != [line["loss"] for line in by_base]
    model = load_tuned(run).model
    example = prepare(recipe().data, preference=False, model_folder=tiny).train[0]
    ids, learned = torch.tensor([example.input_ids]), torch.tensor([example.learned])
    with torch.inference_mode():
        wanted = model(input_ids=ids, labels=ids.masked_fill(~learned, -100)).loss
    assert by_run[0]["loss"] == pytest.approx(float(wanted), rel=1e-5)
    told = Teller()
    asked = recipe(scored_by=str(run.path), choice="hardest")
    train(new_run(asked), told)
    assert told.of(RunPlanned)[0].rows == 18


def test_a_run_of_another_model_cannot_score(
    recipe: Callable[..., Recipe], new_run: Callable[[Recipe], RunFolder], tmp_path: Path
) -> None:
    run = new_run(recipe())
    train(run, Teller())
    other = make_model(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="another model") as caught:
        score(recipe(source=other, scored_by=str(run.path)), Recorder())
    assert caught.value.problem.where == "data.scored_by"


def test_a_run_that_cannot_score_is_told_before_anything_is_made(
    recipe: Callable[..., Recipe], new_run: Callable[[Recipe], RunFolder], tmp_path: Path
) -> None:
    run = new_run(recipe())
    for folder in (tmp_path / "nothing", run.path):
        asked = recipe(scored_by=str(folder), choice="hardest")
        with pytest.raises(UserError) as caught:
            check_recipe(asked, where="recipe.toml")
        assert [problem.where for problem in caught.value.problems] == ["data.scored_by"]
        check_recipe(recipe(scored_by=str(folder)), where="recipe.toml")  # nobody asks it


# ------------------------------------------------------------------------------------------------------- written out
def test_what_is_written_out_is_what_a_run_trains_on(
    recipe: Callable[..., Recipe], new_run: Callable[[Recipe], RunFolder], tiny: Path, tmp_path: Path
) -> None:
    asked = recipe(choice="hardest", choice_share=0.25, order="easiest")
    scores = Path(score(asked, Recorder())["scores"])
    assert len(read_kept(scores)) == 36
    report = write_prepared(asked.data, tmp_path / "out", preference=False, model_folder=tiny, scores=scores)
    assert (report["train"], report["held_out"], report["set_aside"]) == (9, 4, {NOT_CHOSEN: 27})
    run = new_run(asked)
    train(run, Teller())
    lines = (tmp_path / "out" / "set_aside.jsonl").read_text(encoding="utf-8")
    assert lines == run.set_aside.read_text(encoding="utf-8")
