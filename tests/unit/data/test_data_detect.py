"""Detection: what is sure, what is likely, what must be asked; every real file; files that hold no training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.data.detect import Guess, detect, nested_columns
from engine.data.read import open_source
from engine.data.rows import Row
from engine.protocol.errors import UserError
from tests.unit.data.detection_variants import REAL, unchanged, variants

Write = Callable[[str, str | bytes], Path]
COUNT = 30
QUESTIONS = [f"What is the number after {i}?" for i in range(COUNT)]
ANSWERS = [f"The number after {i} is {i + 1}, of course." for i in range(COUNT)]
TEXTS = [f"Once upon a time there were {i} little pigs who lived in the wood." for i in range(COUNT)]
MARKS = [i % 3 == 0 for i in range(COUNT)]
ALPACA = {"instruction": "instruction", "input": "input", "output": "output"}


def rows(**columns: Sequence[Any]) -> list[dict[str, Any]]:
    return [{name: values[i] for name, values in columns.items()} for i in range(COUNT)]


def turns(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def found(records: Sequence[Mapping[str, Any]], **options: Any) -> Guess:
    return detect(records, list(dict.fromkeys(key for record in records for key in record)), "a.json", **options)


# ------------------------------------------------------------------------------------------------------ the real files
ASIDE = {"llama-factory/v1_multimodal_demo.jsonl": {"multimodal": 24}}
COUNTS = {
    "llama-factory/alpaca_en_demo.json": 999,
    "llama-factory/alpaca_zh_demo.json": 1000,
    "llama-factory/identity.json": 91,
    "llama-factory/dpo_en_demo.json": 300,
    "llama-factory/kto_en_demo.json": 300,
    "llama-factory/glaive_toolcall_en_demo.json": 300,
    "llama-factory/v1_sft_demo.jsonl": 500,
    "llama-factory/v1_dpo_demo.jsonl": 10,
    "llama-factory/v1_multimodal_demo.jsonl": 24,
    "llama-factory/c4_demo.jsonl": 300,
    "llama-factory/wiki_demo.txt": 30,
    "gsm8k/train.jsonl": 7473,
    "gsm8k/test.jsonl": 1319,
    "sms-spam/spam.csv": 5572,
    "litgpt/alpaca.json": 23,
    "litgpt/dolly.json": 12,
    "litgpt/longform_train.json": 17,
    "litgpt/longform_val.json": 9,
}


@pytest.mark.parametrize(("name", "shape", "mapping"), [real for real in REAL if real[0] in COUNTS])
def test_every_real_file(shared_data: Path, name: str, shape: str, mapping: dict[str, str]) -> None:
    source = open_source(shared_data / "datasets" / name)
    items = list(source.rows())
    assert (source.shape.name, source.mapping, len(items)) == (shape, mapping, COUNTS[name])
    assert Counter(item.reason for item in items if not isinstance(item, Row)) == ASIDE.get(name, {})


def test_every_real_file_is_in_the_table(shared_data: Path) -> None:
    files = (
        path for path in (shared_data / "datasets").rglob("*") if path.suffix in (".json", ".jsonl", ".csv", ".txt")
    )
    names = {path.relative_to(shared_data / "datasets").as_posix() for path in files}
    assert names == {name for name, _, _ in REAL} | {"llama-factory/dataset_info.json"}


def test_the_real_files_are_right_and_need_no_question(shared_data: Path) -> None:
    for variant in unchanged(shared_data / "datasets"):
        guess = detect(variant.rows, variant.columns, variant.source)
        assert variant.is_right(guess), (variant.source, guess)
        assert guess.certainty in ("sure", "likely"), (variant.source, guess.why)
        assert guess.confidence >= 0.85, variant.source


def test_sure_is_never_wrong(shared_data: Path) -> None:
    stated: Counter[str] = Counter()
    for variant in variants(shared_data / "datasets", 200, seed=20_26):
        guess = detect(variant.rows, variant.columns, variant.source)
        stated[guess.certainty] += 1
        assert guess.certainty != "sure" or variant.is_right(guess), (variant.source, variant.done, guess)
    # A detector that never dares to be sure would pass the line above.
    assert stated["sure"] >= 30
    assert stated["likely"] >= 40


# ------------------------------------------------------------------------------------------------------------- certain
@pytest.mark.parametrize(
    ("records", "shape", "mapping"),
    [
        (rows(INSTRUCTION=QUESTIONS, Output=ANSWERS), "alpaca", {"instruction": "INSTRUCTION", "output": "Output"}),
        (rows(回答=ANSWERS, 问题=QUESTIONS), "prompt_completion", {"prompt": "问题", "completion": "回答"}),
        (
            rows(id=range(COUNT), url=["https://example.org"] * COUNT, response=ANSWERS, query=QUESTIONS),
            "prompt_completion",
            {"prompt": "query", "completion": "response"},
        ),
        (rows(text=TEXTS, score=range(COUNT), label=[i % 2 for i in range(COUNT)]), "classification", None),
        (rows(text=TEXTS), "text", {"text": "text"}),
        (
            rows(messages=[turns(q, a) for q, a in zip(QUESTIONS, ANSWERS, strict=True)], id=range(COUNT)),
            "messages",
            None,
        ),
        (rows(prompt=QUESTIONS, completion=ANSWERS, label=MARKS), "kto", None),
        (rows(prompt=QUESTIONS, completion=ANSWERS, label=[str(mark) for mark in MARKS]), "kto", None),
        (rows(prompt=QUESTIONS, chosen=ANSWERS, rejected=[f"The word {a}" for a in ANSWERS]), "preference", None),
    ],
)
def test_usual_names_and_contents_that_agree_are_sure(
    records: list[dict[str, Any]], shape: str, mapping: dict[str, str] | None
) -> None:
    guess = found(records)
    assert (guess.shape.name, guess.certainty, guess.confidence) == (shape, "sure", 1.0), guess.why.en
    assert mapping is None or guess.mapping == mapping
    assert guess.why.en
    assert guess.why.zh


@pytest.mark.parametrize(
    ("records", "shape", "mapping"),
    [
        (
            rows(user_message=QUESTIONS, assistant_message=ANSWERS),
            "prompt_completion",
            {"prompt": "user_message", "completion": "assistant_message"},
        ),
        (
            rows(promptText=QUESTIONS, model_response=ANSWERS),
            "prompt_completion",
            {"prompt": "promptText", "completion": "model_response"},
        ),
        (
            rows(用户问题=QUESTIONS, 标准答案=ANSWERS),
            "prompt_completion",
            {"prompt": "用户问题", "completion": "标准答案"},
        ),
        (
            [{"data": row} for row in rows(prompt=QUESTIONS, completion=ANSWERS)],
            "prompt_completion",
            {"prompt": "data.prompt", "completion": "data.completion"},
        ),
        (rows(zz=[turns(q, a) for q, a in zip(QUESTIONS, ANSWERS, strict=True)]), "messages", {"messages": "zz"}),
        (rows(aa=TEXTS, bb=["ham", "spam", "ham"] * 10), "classification", {"text": "aa", "label": "bb"}),
        # The context is neither the question, nor the question the system prompt.
        (
            rows(context=TEXTS, answer=ANSWERS, question=QUESTIONS),
            "prompt_completion",
            {"prompt": "question", "context": "context", "completion": "answer"},
        ),
        (
            rows(prompt=QUESTIONS, chosen=ANSWERS, zz=[f"The word {a}" for a in ANSWERS]),
            "preference",
            {"prompt": "prompt", "chosen": "chosen", "rejected": "zz"},
        ),
    ],
)
def test_what_contents_or_unusual_names_tell_is_likely(
    records: list[dict[str, Any]], shape: str, mapping: dict[str, str]
) -> None:
    guess = found(records)
    assert (guess.shape.name, guess.mapping, guess.certainty) == (shape, mapping, "likely"), guess.why.en


@pytest.mark.parametrize(
    ("records", "mapping", "words"),
    [
        (rows(foo=QUESTIONS, bar=ANSWERS), {"prompt": "foo", "completion": "bar"}, "No name says"),
        (rows(bar=ANSWERS, foo=QUESTIONS), {"prompt": "foo", "completion": "bar"}, "No name says"),
        (rows(a=["x"] * COUNT, b=["y"] * COUNT), {"prompt": "a", "completion": "b"}, "No name says"),
        (
            rows(question=ANSWERS, answer=QUESTIONS),
            {"prompt": "question", "completion": "answer"},
            "reads like answers",
        ),
        (rows(input=ANSWERS, output=QUESTIONS), {"prompt": "input", "completion": "output"}, "reads like answers"),
        (rows(context=TEXTS, answer=ANSWERS), {"prompt": "context", "completion": "answer"}, "No name says"),
        (
            rows(question=QUESTIONS, answers=[[a, "or so"] for a in ANSWERS]),
            {"prompt": "question", "completion": "answers"},
            "several answers",
        ),
        (
            rows(instruction=[""] * 20 + QUESTIONS[:10], input=QUESTIONS, output=ANSWERS),
            ALPACA,
            "empty more often",
        ),
        (
            rows(instruction=QUESTIONS, output=ANSWERS, mystery=TEXTS),
            {"instruction": "instruction", "output": "output"},
            "not used",
        ),
        (
            rows(text=[f"### Human: {q}\n### Assistant: {a}" for q, a in zip(QUESTIONS, ANSWERS, strict=True)]),
            {"text": "text"},
            "conversations written as text",
        ),
        (
            rows(prompt=QUESTIONS, completion=ANSWERS, zz=MARKS),
            {"prompt": "prompt", "completion": "completion", "label": "zz"},
            "good or bad",
        ),
        (
            rows(
                aa=[turns(q, a) for q, a in zip(QUESTIONS, ANSWERS, strict=True)],
                bb=[turns(q, "I know not.") for q in QUESTIONS],
            ),
            {"chosen": "aa", "rejected": "bb"},
            "better answer",
        ),
        (rows(messages=[turns(a, q)[::-1] for q, a in zip(QUESTIONS, ANSWERS, strict=True)]), None, ""),
    ],
)
def test_what_nothing_tells_is_asked_with_the_best_guess(
    records: list[dict[str, Any]], mapping: dict[str, str] | None, words: str
) -> None:
    guess = found(records)
    assert guess.certainty == "ask"
    assert mapping is None or guess.mapping == mapping
    assert words in guess.why.en
    assert guess.confidence <= 0.5


def test_a_rated_file_is_not_taken_for_one_to_learn_whole() -> None:
    listed = [turns(q, a) for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
    assert found(rows(messages=listed, rating=MARKS)).certainty == "ask"
    assert found(rows(messages=listed, is_english=MARKS)).certainty == "sure"


def test_few_rows_are_never_sure() -> None:
    assert found([{"instruction": "What is up?", "output": "The sky is up."}]).certainty == "likely"


def test_other_shapes_that_would_fit_are_named() -> None:
    guess = found(rows(prompt=QUESTIONS, completion=ANSWERS, label=MARKS))
    assert guess.others[0] == "prompt_completion"


# ------------------------------------------------------------------------------------------------------------- by hand
def test_the_users_word_is_sure() -> None:
    asked = rows(foo=ANSWERS, bar=QUESTIONS)
    guess = found(asked, mapping={"prompt": "foo", "completion": "bar"})
    assert (guess.shape.name, guess.certainty) == ("prompt_completion", "sure")
    assert "you chose" in guess.why.en
    # The shape alone does not say which column is which.
    assert found(asked, shape="prompt_completion").certainty == "ask"
    assert found(rows(text=TEXTS), shape="text", mapping={"text": "text"}).certainty == "sure"


def test_a_role_can_be_left_out_by_hand() -> None:
    records = rows(instruction=QUESTIONS, input=TEXTS, output=ANSWERS)
    guess = found(records, mapping={"instruction": "instruction", "input": "", "output": "output"})
    assert guess.mapping == {"instruction": "instruction", "output": "output"}


def test_fields_of_nested_objects_can_be_mapped() -> None:
    records = [{"data": {"q": {"text": q}, "a": a}} for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
    assert nested_columns(records, ["data"]) == ("data.q.text", "data.a")
    guess = found(records, mapping={"prompt": "data.q.text", "completion": "data.a"})
    made = guess.shape.convert(records[3], guess.mapping)
    assert [m.content for m in made.messages] == [QUESTIONS[3], ANSWERS[3]]
    with pytest.raises(UserError) as caught:
        found(records, mapping={"prompt": "data.nothing"})
    assert "data.q.text" in caught.value.problem.hint.en


# ----------------------------------------------------------------------------------------------------- nothing to learn
@pytest.mark.parametrize(
    ("records", "code", "words"),
    [
        ([{"a": {"file_name": "a.json"}, "b": {"hf_hub_url": "x/y"}}], "data.not_training_data", "list of data sets"),
        ([{"architectures": ["LlamaForCausalLM"], "hidden_size": 64}], "data.not_training_data", "model's settings"),
        ([{"name": "x", "version": "1", "dependencies": {}}], "data.not_training_data", "package"),
        ([{"type": "Feature", "geometry": {}, "properties": {"name": "x"}}], "data.not_training_data", "GeoJSON"),
        ([{"cell_type": "code", "source": ["x = 1"], "outputs": []}], "data.not_training_data", "notebook"),
        ([{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}], "data.not_training_data", "token numbers"),
        (rows(a=range(COUNT), b=range(COUNT)), "data.shape_unknown", "no known shape"),
        ([{}], "data.shape_unknown", "no rows with columns"),
    ],
)
def test_files_that_hold_no_training_data(records: list[dict[str, Any]], code: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        found(records)
    problem = caught.value.problem
    assert (problem.code, problem.where) == (code, "a.json:1")
    assert words in problem.message.en
    assert problem.message.zh
    assert problem.hint.en


def test_a_peers_list_of_data_sets_is_refused(shared_data: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_source(shared_data / "datasets" / "llama-factory" / "dataset_info.json")
    assert caught.value.problem.code == "data.not_training_data"
    assert "identity.json" in caught.value.problem.hint.en
