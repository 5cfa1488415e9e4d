"""Evaluation of a real small model: figures against values computed the plain way, answers against one at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF
from torch.nn.functional import cross_entropy

from engine.chat.pair import Pair, Sampling
from engine.data.rows import Row, row_from_plain
from engine.evaluate import score
from engine.evaluate.metrics import exact_match
from engine.evaluate.questions import prepare_questions, read_rows, sample
from engine.evaluate.run import DOCUMENTED, METRICS, evaluate
from engine.evaluate.score import Scored, losses
from engine.model.load import load_base
from engine.model.tuned import SIDES, TunedModel, expanded, load_tuned
from engine.project.evaluation import read_evaluation
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import STOP, Command, Progress, Stage
from tests.tiny_model import make_model
from tests.unit.tuned_run import conversation, make_run, preference, stories, words


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(shared_data: Path) -> Path:
    return shared_data / "models" / "stories260K"


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose adapter has learned its rows; read only."""
    return make_run(tmp_path_factory.mktemp("run"), base, stories(), steps=25, evaluate={"max_new_tokens": 24})


@pytest.fixture(scope="module")
def tuned(run: RunFolder) -> TunedModel:
    return load_tuned(run)


@pytest.fixture(scope="module")
def outcome(run: RunFolder) -> tuple[dict[str, object], Recorder]:
    recorder = Recorder()
    return evaluate(run, recorder), recorder


def _plain_loss(model: torch.nn.Module, text: Scored) -> tuple[float, int]:
    ids = torch.tensor([list(text.ids)])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, :-1].float()
    each = cross_entropy(logits, ids[0, 1:], reduction="none")
    learned = torch.tensor(list(text.learned[1:]))
    return float(each[learned].sum()), int(learned.sum())


# --------------------------------------------------------------------------------------------------- the two models
def test_base_side_gives_the_logits_of_the_untouched_model(base: Path, tuned: TunedModel) -> None:
    untouched = expanded(load_base(base, quantised=True))
    ids = torch.tensor([[1, *range(300, 340)]])
    with torch.inference_mode():
        before = tuned.model(input_ids=ids).logits
        with tuned.as_side("base"):
            assert torch.equal(tuned.model(input_ids=ids).logits, untouched(input_ids=ids).logits)
        after = tuned.model(input_ids=ids).logits
    assert torch.equal(before, after)
    assert not torch.allclose(before, untouched(input_ids=ids).logits)


def test_expanded_weights_give_the_logits_of_the_4_bit_ones(base: Path) -> None:
    ids = torch.tensor([[1, *range(300, 340)]])
    quantised = load_base(base, quantised=True)
    assert quantised.is_loaded_in_4bit
    with torch.inference_mode():
        wanted = quantised(input_ids=ids).logits
        whole = expanded(load_base(base, quantised=True))
        assert torch.equal(whole(input_ids=ids).logits, wanted)
    kinds = {type(module).__name__ for module in whole.modules()}
    assert "Linear4bit" not in kinds


def test_unquantised_model_is_not_touched(base: Path) -> None:
    model = load_base(base, quantised=False)
    assert expanded(model) is model


@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_other_methods_load_and_switch(base: Path, tmp_path: Path, method: str) -> None:
    tuned = load_tuned(make_run(tmp_path, base, stories(), method=method))
    untouched = load_base(base, quantised=False)
    ids = torch.tensor([[1, *range(300, 320)]])
    with torch.inference_mode(), tuned.as_side("base"):
        assert torch.equal(tuned.model(input_ids=ids).logits, untouched(input_ids=ids).logits)
    with torch.inference_mode():
        assert not torch.allclose(tuned.model(input_ids=ids).logits, untouched(input_ids=ids).logits)


# ------------------------------------------------------------------------------------------------------------ losses
def test_losses_in_batches_equal_those_one_by_one(tuned: TunedModel, run: RunFolder) -> None:
    texts = [text for q in prepare_questions(tuned, read_rows(run)) for text in q.texts]
    told: list[int] = []
    for side in SIDES:
        with tuned.as_side(side):
            found = losses(tuned, texts, batch_size=4, watch=told.append)
            for text, loss in zip(texts, found, strict=True):
                total, tokens = _plain_loss(tuned.model, text)
                assert loss.tokens == tokens > 0
                assert loss.total == pytest.approx(total, rel=1e-4)
                assert 0 <= loss.right <= tokens
    assert told == [4, 6, 4, 6]


def test_a_text_without_learned_tokens_counts_nothing(tuned: TunedModel) -> None:
    texts = [Scored([1, 300, 301], [True, False, False]), Scored([1, 300, 301, 302], [False, False, True, True])]
    nothing, two = losses(tuned, texts, batch_size=8, watch=lambda done: None)
    assert (nothing.total, nothing.tokens, nothing.right) == (0.0, 0, 0)
    assert two.tokens == 2
    (alone,) = losses(tuned, texts[:1], batch_size=8, watch=lambda done: None)
    assert alone.mean is None


def test_a_text_with_more_logits_than_fit_at_once_is_scored_all_the_same(
    tuned: TunedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [Scored([1, *range(300, 300 + n)], [False] * 4 + [True] * (n - 3)) for n in (30, 20, 9)]
    whole = losses(tuned, texts, batch_size=8, watch=lambda done: None)
    monkeypatch.setitem(score._LOGITS_BYTES, "cpu", 10 * tuned.vocabulary * score._BYTES_PER_LOGIT)
    told: list[int] = []
    parts = losses(tuned, texts, batch_size=8, watch=told.append)
    assert told == [1, 2, 3]
    for one, other in zip(whole, parts, strict=True):
        assert (one.tokens, one.right) == (other.tokens, other.right)
        assert (one.total, one.entropy) == pytest.approx((other.total, other.entropy), rel=1e-5)


def test_entropy_is_that_of_the_next_token(tuned: TunedModel) -> None:
    text = Scored([1, *range(300, 320)], [False] * 10 + [True] * 11)
    (found,) = losses(tuned, [text], batch_size=1, watch=lambda done: None)
    with torch.inference_mode():
        logits = tuned.model(input_ids=torch.tensor([list(text.ids)])).logits[0, 9:-1]
    wanted = torch.distributions.Categorical(logits=logits.double()).entropy()
    assert found.tokens == len(wanted) == 11
    assert found.mean_entropy == pytest.approx(float(wanted.mean()), rel=1e-5)


@pytest.mark.parametrize("cap", [None, 3.0])
def test_what_an_architecture_does_to_its_logits_counts(cap: float | None) -> None:
    """Gemma 2 caps them, after the head that is given the learned positions only."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 16}
    config = Gemma2Config(
        vocab_size=50, **sizes, num_attention_heads=2, num_key_value_heads=1, final_logit_softcapping=cap
    )
    model = Gemma2ForCausalLM(config).eval()
    for weight in model.parameters():
        weight.data *= 20
    text = Scored(list(range(5, 30)), [False] * 6 + [True] * 19)
    (found,) = losses(Plain(model), [text], batch_size=1, watch=lambda done: None)
    assert (found.total, found.tokens) == (pytest.approx(_plain_loss(model, text)[0], rel=1e-5), 19)


class Plain:
    """A model without an adapter."""

    pad_id, vocabulary, device = 0, 50, torch.device("cpu")

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model


# ------------------------------------------------------------------------------------------------------- whole thing
def test_document_and_file(run: RunFolder, outcome: tuple[dict[str, object], Recorder]) -> None:
    document, recorder = outcome
    assert set(document) == {"base", "tuned", "rows", "notes", *DOCUMENTED}
    assert set(document["base"]) == set(METRICS)
    assert document["rows"] == 6
    assert set(document["notes"]) == {"intervals", "overlap"}
    json.dumps(document, allow_nan=False)
    kept = read_evaluation(run)
    assert kept is not None
    assert {name: getattr(kept.tuned, name) for name in document["tuned"]} == document["tuned"]
    assert len(kept.rows) == kept.held_out == 6
    assert [row.where for row in kept.rows] == [f"rows.jsonl:{i}" for i in range(1, 7)]
    assert kept.rows[0].prompt == "Who is Tom?"
    assert kept.rows[0].reference == "Tom likes to play."
    stages = [event.name for event in recorder.events if isinstance(event, Stage)]
    assert stages[:4] == ["load", "loss", "answers", "figures"]
    told = recorder.events[: recorder.events.index(next(e for e in recorder.events if _is_stage(e, "figures")))]
    last = [event for event in told if isinstance(event, Progress)][-1]
    assert (last.done, last.total) == (12, 12)


def _is_stage(event: object, name: str) -> bool:
    return isinstance(event, Stage) and event.name == name


def test_the_same_run_gives_the_same_figures_and_answers(run: RunFolder, outcome: object) -> None:
    first = read_evaluation(run)
    evaluate(run, Recorder())
    second = read_evaluation(run)
    assert first is not None
    assert second is not None
    assert replace(second, seconds=first.seconds, created=first.created) == first


def test_rows_as_they_are_kept(run: RunFolder, outcome: object) -> None:
    kept = read_evaluation(run)
    assert kept is not None
    assert [measure.name for measure in kept.measures] == [
        *("exact_match", "rouge_l", "chrf", "bleu", "rouge_1", "rouge_2", "token_accuracy", "perplexity", "loss")
    ]
    for measure in kept.measures:
        assert measure.rows == 6
        assert measure.difference.low is measure.base.low is None  # too few rows for an interval
        assert measure.p_value is not None
    loss = kept.measure("loss")
    assert loss is not None
    assert loss.p_value == pytest.approx(2 / 64)  # all six better: 2 of the 64 ways to swap reach as far
    assert loss.is_better
    assert [group.key for group in kept.groups] == ["qa"]
    assert {row.group for row in kept.rows} == {"qa"}
    assert all(row.outcome == "better" for row in kept.rows if row.gain > 0)
    references = [row.reference for row in kept.rows]
    said = [row.tuned.answer or "" for row in kept.rows]
    assert kept.tuned.bleu == pytest.approx(BLEU(tokenize=kept.tokenizer).corpus_score(said, [references]).score)
    assert kept.tuned.chrf == pytest.approx(CHRF().corpus_score(said, [references]).score)


@pytest.mark.parametrize("answers", [["", "", ""], ["red", "", "猫" * 40]])
def test_one_row_and_strange_ones_get_figures(tmp_path: Path, answers: list[str]) -> None:
    """Answers that are empty or very long, and a single row; the right answers here are a template's business."""
    model = make_model(tmp_path / "model")
    rows = [conversation(i, "cat?", answer or "!") for i, answer in enumerate(answers)]
    for name, chosen in (("one", rows[:1]), ("all", rows)):
        run = make_run(tmp_path / name, model, chosen, method="lora", evaluate={"max_new_tokens": 4, "probes": False})
        document = evaluate(run, Recorder())
        assert document["rows"] == len(chosen)
        assert document["notes"]["intervals"]["en"].startswith("One row" if len(chosen) == 1 else f"{len(chosen)} rows")
        json.dumps(document, allow_nan=False)


def test_figures_follow_from_the_rows(run: RunFolder, tuned: TunedModel, outcome: object) -> None:
    kept = read_evaluation(run)
    assert kept is not None
    questions = prepare_questions(tuned, read_rows(run))
    with tuned.as_side("base"):
        plain = [_plain_loss(tuned.model, q.texts[0]) for q in questions]
    assert kept.base.loss == pytest.approx(sum(a for a, _ in plain) / sum(b for _, b in plain), rel=1e-4)
    for scores, sides in ((kept.base, [r.base for r in kept.rows]), (kept.tuned, [r.tuned for r in kept.rows])):
        assert scores.loss is not None
        assert scores.perplexity == pytest.approx(math.exp(scores.loss))
        assert scores.exact_match == sum(bool(side.exact) for side in sides) / len(sides)
        assert scores.rouge_l == pytest.approx(sum(side.rouge_l or 0 for side in sides) / len(sides))
    for row in kept.rows:
        assert row.tuned.exact is exact_match(row.reference, row.tuned.answer or "")


def test_what_was_learned_shows(run: RunFolder, outcome: object) -> None:
    kept = read_evaluation(run)
    assert kept is not None
    assert kept.base.exact_match == 0.0
    assert kept.tuned.loss < kept.base.loss / 2
    assert kept.tuned.rouge_l > kept.base.rouge_l
    assert kept.verdict.losses.better == 6
    assert kept.verdict.losses.p_value == pytest.approx(2 / 64)
    assert kept.verdict.changed == 1.0
    assert len(kept.best(3)) == 3
    assert len(kept.changed()) == 6


def test_answers_in_batches_equal_those_one_by_one(run: RunFolder, outcome: object) -> None:
    kept = read_evaluation(run)
    assert kept is not None
    pair = Pair.load(run)
    rows = read_rows(run)
    for row, source in list(zip(kept.rows, rows, strict=True))[:3]:
        replies = pair.ask(source.prompt, Sampling(max_new_tokens=kept.max_new_tokens))
        assert row.base.answer == replies["base"].text.strip()
        assert row.tuned.answer == replies["tuned"].text.strip()
        assert row.tuned.cut is (replies["tuned"].end == "limit")


def test_answers_that_end_by_themselves_are_exact(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_model(tmp_path / "model"), words(), method="lora", steps=60)
    document = evaluate(run, Recorder())
    assert document["tuned"]["exact_match"] == document["tuned"]["rouge_l"] == 1.0
    assert document["base"]["exact_match"] == 0.0
    kept = read_evaluation(run)
    assert kept is not None
    assert [row.tuned.answer for row in kept.rows] == [row.answer for row in words()]
    assert not any(row.tuned.cut for row in kept.rows)
    assert kept.verdict.answers.better == 4
    assert kept.worst(5) == ()


def test_rows_are_sampled_the_same_way_each_time(run: RunFolder) -> None:
    rows = read_rows(run)
    chosen = sample(rows, 3, seed=1)
    assert chosen == sample(rows, 3, seed=1)
    assert [row.index for row in chosen] == sorted(row.index for row in chosen)
    assert sample(rows, 99, seed=1) == rows


def test_preference_run(base: Path, tmp_path: Path) -> None:
    rows = [preference(i, f"Say {i}.", f"Lily said yes {i}.", f"zq xv {i} jj kk.") for i in range(4)]
    run = make_run(tmp_path, base, rows, steps=12, evaluate={"max_new_tokens": 4})
    document = evaluate(run, Recorder(), rows=3)
    assert document["rows"] == 3
    assert document["tuned"]["preference_accuracy"] == 1.0
    assert document["base"]["preference_accuracy"] == 1.0
    assert document["tuned"]["loss"] < document["base"]["loss"]
    assert set(document["notes"]["preference_accuracy"]) == {"en", "zh"}
    kept = read_evaluation(run)
    assert kept is not None
    assert kept.tuned.ranking_accuracy == 1.0
    assert kept.rows[0].reference.startswith("Lily said yes")


def test_multi_turn_rows_are_asked_their_last_turn(base: Path, tmp_path: Path, tuned: TunedModel) -> None:
    row = conversation(0, "Hello.", "Hi.", "Who is Tom?", "A boy.")
    (question,) = prepare_questions(tuned, [row])
    text = tuned.tokenizer.decode(question.prompt)
    assert "Hi." in text
    assert "Who is Tom?" in text
    assert "A boy." not in text
    assert text.rstrip().endswith("Answer:")
    scored = question.texts[0]
    learned = tuned.tokenizer.decode([i for i, flag in zip(scored.ids, scored.learned, strict=True) if flag])
    assert "Hi." in learned
    assert "A boy." in learned
    assert "Hello" not in learned


def test_plain_text_is_scored_whole_and_asked_nothing(tuned: TunedModel) -> None:
    text = "Once upon a time there was a boy."
    (question,) = prepare_questions(tuned, [Row(0, "a.txt:1", (), text=text)])
    assert question.prompt == []
    (scored,) = question.texts
    assert all(scored.learned)
    assert tuned.tokenizer.decode(list(scored.ids)).strip() == text


def test_a_metric_that_does_not_apply_is_null_with_a_reason(tmp_path: Path) -> None:
    long = "word " * 200
    model = make_model(tmp_path / "model")
    run = make_run(tmp_path / "run", model, [conversation(0, "Go!", "!!!")], method="lora")
    document = evaluate(run, Recorder())
    assert document["tuned"]["rouge_l"] is None
    assert "both models" in document["notes"]["rouge_l"]["en"]
    assert "两个模型" in document["notes"]["rouge_l"]["zh"]
    with pytest.raises(UserError, match="No held-out row can be used"):
        prepare_questions(load_tuned(run), [conversation(0, long, "yes")])


def test_stop_ends_it_and_writes_nothing(tmp_path: Path) -> None:
    class StopsLater(Recorder):
        def commands(self) -> list[Command]:
            asking = any(isinstance(event, Stage) and event.name == "answers" for event in self.events)
            return [Command(name=STOP)] if asking else []

    run = make_run(tmp_path / "run", make_model(tmp_path / "model"), words(), method="lora")
    recorder = StopsLater()
    with pytest.raises(Stopped):
        evaluate(run, recorder)
    assert not run.evaluation.exists()
    assert read_evaluation(run) is None


def test_stopped_after_the_rows_keeps_no_figures_of_an_earlier_state_beside_them(tmp_path: Path) -> None:
    class StopsLater(Recorder):
        def commands(self) -> list[Command]:
            asking = any(isinstance(event, Stage) and event.name == "effect" for event in self.events)
            return [Command(name=STOP)] if asking else []

    run = make_run(tmp_path / "run", make_model(tmp_path / "model"), words(), method="lora")
    run.forgetting.write_text("{}")
    run.effect.write_text("{}")
    with pytest.raises(Stopped):
        evaluate(run, StopsLater())
    assert read_evaluation(run) is not None
    assert not run.forgetting.exists()
    assert not run.effect.exists()


# ------------------------------------------------------------------------------------------------------- bad input
def test_bad_input_gets_a_sentence(run: RunFolder, tmp_path: Path) -> None:
    empty = RunFolder(tmp_path)
    empty.write_facts({"model_folder": str(tmp_path)})
    with pytest.raises(UserError, match="no adapter yet"):
        evaluate(empty, Recorder())
    empty.adapter.mkdir()
    (empty.adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="base model of this run is not in"):
        evaluate(empty, Recorder())
    empty.write_facts(run.read_facts())
    with pytest.raises(UserError, match="held out no rows"):
        evaluate(empty, Recorder())
    empty.held_out.write_text('{"where": "a:1", "mess', encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        evaluate(empty, Recorder())


def test_damaged_evaluation_file_is_told(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.evaluation.write_text('{"base": 1}', encoding="utf-8")
    with pytest.raises(UserError, match="not an evaluation") as caught:
        read_evaluation(run)
    assert caught.value.problem.where == str(run.evaluation)


def test_held_out_rows_are_those_that_training_wrote(run: RunFolder) -> None:
    lines = run.held_out.read_text(encoding="utf-8").splitlines()
    assert [row_from_plain(json.loads(line)) for line in lines] == stories()
