"""``data check``: every real dataset, and the report's promises."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.data.check import CheckFailed, check
from engine.data.preview import DataView
from engine.protocol.errors import EXIT_INPUT, UserError
from engine.recipe.recipe import DataSettings

Write = Callable[[str, str | bytes], Path]
PROMISED = {"shape", "format", "encoding", "mapping", "rows", "trainable", "set_aside", "problems"}
TEXTS = {"prompt": "question", "completion": "answer"}
ALPACA = {"instruction": "instruction", "input": "input", "output": "output"}
LISTED = {"messages": "conversations", "tools": "tools"}
PREFERENCE = {"prompt": "conversations", "chosen": "chosen", "rejected": "rejected"}
BOTH = {"chosen": "chosen_messages", "rejected": "rejected_messages"}


@pytest.mark.parametrize(
    ("name", "shape", "mapping", "rows", "set_aside"),
    [
        ("llama-factory/alpaca_en_demo.json", "alpaca", ALPACA, 999, {"duplicate": 14}),
        ("llama-factory/alpaca_zh_demo.json", "alpaca", ALPACA, 1000, {"duplicate": 8}),
        ("llama-factory/identity.json", "alpaca", ALPACA, 91, {}),
        ("llama-factory/dpo_en_demo.json", "preference", PREFERENCE, 300, {"duplicate": 5}),
        ("llama-factory/glaive_toolcall_en_demo.json", "sharegpt", LISTED, 300, {"duplicate": 35}),
        ("llama-factory/v1_sft_demo.jsonl", "messages", {"messages": "messages"}, 500, {"duplicate": 1}),
        ("llama-factory/v1_dpo_demo.jsonl", "preference", BOTH, 10, {}),
        ("gsm8k/train.jsonl", "prompt_completion", TEXTS, 7473, {}),
        ("gsm8k/test.jsonl", "prompt_completion", TEXTS, 1319, {}),
        ("litgpt/alpaca.json", "alpaca", ALPACA, 23, {}),
        (
            "litgpt/dolly.json",
            "prompt_completion",
            {"prompt": "instruction", "context": "context", "completion": "response"},
            12,
            {},
        ),
        ("litgpt/longform_train.json", "prompt_completion", {"prompt": "input", "completion": "output"}, 17, {}),
        ("litgpt/longform_val.json", "prompt_completion", {"prompt": "input", "completion": "output"}, 9, {}),
        ("llama-factory/kto_en_demo.json", "kto", {"messages": "messages", "label": "label"}, 300, {"disliked": 150}),
        ("llama-factory/c4_demo.jsonl", "text", {"text": "text"}, 300, {}),
        ("llama-factory/wiki_demo.txt", "text", {"text": "text"}, 30, {}),
        ("tiny_shakespeare.txt", "text", {"text": "text"}, 7222, {"duplicate": 74}),
        ("sms-spam/spam.csv", "classification", {"text": "masseges", "label": "label"}, 5572, {"duplicate": 403}),
    ],
)
def test_real_datasets(
    shared_data: Path, name: str, shape: str, mapping: dict[str, str], rows: int, set_aside: dict[str, int]
) -> None:
    report = check(shared_data / "datasets" / name)
    assert (report["shape"], report["mapping"], report["rows"]) == (shape, mapping, rows)
    assert report["set_aside"] == set_aside
    assert report["trainable"] == rows - sum(set_aside.values())
    assert report["encoding"] == "utf-8"
    assert report["confidence"] >= 0.9
    duplicates = [p for p in report["problems"] if p["code"] == "data.duplicate"]
    assert len(duplicates) == set_aside.get("duplicate", 0)
    assert all(p["where"].startswith(Path(name).name + ":") and p["hint"] for p in duplicates)
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("llama-factory/v1_multimodal_demo.jsonl", "data.nothing_to_train", "an image"),
        ("llama-factory/dataset_info.json", "data.not_training_data", "list of data sets"),
    ],
)
def test_real_datasets_that_are_refused_politely(shared_data: Path, name: str, code: str, words: str) -> None:
    with pytest.raises(CheckFailed) as caught:
        check(shared_data / "datasets" / name)
    error = caught.value
    assert (error.problem.code, error.exit_code) == (code, EXIT_INPUT)
    assert words in str(error)
    assert error.problem.hint.zh
    assert error.report.keys() >= PROMISED
    assert any(p["code"] == code for p in error.report["problems"])


def test_spam_by_hand(shared_data: Path) -> None:
    settings = DataSettings(mapping={"prompt": "masseges", "completion": "label"})
    report = check(shared_data / "datasets/sms-spam/spam.csv", settings=settings)
    assert report["shape"] == "prompt_completion"
    assert (report["format"], report["rows"]) == ("csv", 5572)
    assert report["columns"] == ["label", "masseges", "column_3", "column_4", "column_5"]
    assert 380 <= report["set_aside"]["duplicate"] <= 420
    assert report["trainable"] == 5572 - sum(report["set_aside"].values())


def test_the_report_is_whole_with_and_without_a_model(starter_text: Path, alpaca: Callable[..., Path]) -> None:
    bare, full = check(alpaca(5)), check(alpaca(5), model_folder=starter_text)
    assert bare.keys() == full.keys()
    assert bare["tokens"] is bare["template"] is None
    assert full["template"] == {"name": "model", "reason": "The model's own."}
    tokens = full["tokens"]
    assert tokens["limit"] == 512
    assert 0 < tokens["learned"] < tokens["total"]
    assert tokens["median"] <= tokens["p95"] <= tokens["longest"]


def test_a_base_models_template_is_told(stories: Path, alpaca: Callable[..., Path]) -> None:
    settings = DataSettings(max_length=2048)
    report = check(alpaca(5), model_folder=stories, settings=settings)
    assert report["template"]["name"] == "plain"
    assert report["tokens"]["limit"] == 512
    assert [p["code"] for p in report["problems"]] == ["data.model_length"]


def test_a_missing_file_still_gives_a_whole_report(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed) as caught:
        check(tmp_path / "none.json")
    assert isinstance(caught.value, UserError)
    assert caught.value.report.keys() >= PROMISED
    assert caught.value.report["problems"][0]["code"] == "file.missing"


def test_rows_that_are_cut_are_counted(starter_text: Path, write: Write) -> None:
    records = [{"prompt": "Q", "completion": "word " * 50}, {"prompt": "word " * 50, "completion": "A"}]
    path = write("a.jsonl", "".join(json.dumps(r) + "\n" for r in records))
    report = check(path, model_folder=starter_text, settings=DataSettings(max_length=32))
    assert (report["trainable"], report["tokens"]["cut"]) == (1, 1)
    assert report["set_aside"] == {"answer_cut_away": 1}
    assert {"data.cut", "data.answer_cut_away"} == {p["code"] for p in report["problems"]}
    assert report["tokens"]["longest"] > 32
    with pytest.raises(CheckFailed) as caught:
        check(path, model_folder=starter_text, settings=DataSettings(max_length=32, over_long="drop"))
    assert caught.value.report["set_aside"] == {"too_long": 2}


def test_odd_texts_are_told(starter_text: Path, write: Write) -> None:
    records = [{"prompt": "Who?", "completion": "I am {{name}}."}, {"prompt": "x <|im_end|> y", "completion": "A"}]
    path = write("a.jsonl", "".join(json.dumps(r) + "\n" for r in records))
    report = check(path, model_folder=starter_text)
    assert {p["code"]: p["where"] for p in report["problems"]} == {
        "data.placeholder": "a.jsonl:1",
        "data.special_token": "a.jsonl:2",
    }


def test_plain_text_says_what_cannot_be_measured(starter_text: Path, write: Write) -> None:
    path = write("a.txt", "Once upon a time there was a house.\n\nIt stood by the sea, and nobody lived there.\n")
    report = check(path, model_folder=starter_text)
    assert [p["where"] for p in report["problems"] if p["code"] == "data.no_questions"] == ["a.txt"]
    problems = DataView(DataSettings(files=(str(path),)), starter_text).facts()["problems"]
    assert any("perplexity" in problem["message"]["en"] for problem in problems)


def test_a_template_whose_prompts_are_cut_otherwise_is_told(
    stories: Path, alpaca: Callable[..., Path], tmp_path: Path
) -> None:
    template = tmp_path / "space.jinja"
    template.write_text(
        "{% for m in messages %}{{ m['role'] + ':\n' + m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
    )
    for name, expected in ((str(template), ["data.prompt_boundary"]), ("auto", [])):
        report = check(alpaca(5), model_folder=stories, settings=DataSettings(template=name))
        assert [p["code"] for p in report["problems"]] == expected


def test_many_bad_rows_do_not_bury_the_reader(write: Write) -> None:
    good = json.dumps({"prompt": "Q", "completion": "A"})
    report = check(write("a.jsonl", "\n".join([good, *["{broken"] * 1500])))
    assert report["set_aside"] == {"bad_row": 1499, "cut_off": 1}
    told = [p for p in report["problems"] if p["code"] == "data.bad_row"]
    assert len(told) == 1001
    assert told[-1]["message"] == "499 more rows likewise."


def test_fifty_thousand_rows_in_seconds(write: Write) -> None:
    answer = "A sentence of an answer that is about as long as they are in such sets. " * 4
    rows: list[dict[str, Any]] = [
        {"instruction": f"Question number {i}?", "input": "", "output": f"{i}. {answer}"} for i in range(50_000)
    ]
    path = write("a.json", json.dumps(rows))
    start = time.process_time()
    report = check(path)
    # Processor seconds, since other work may share the machine; 3 on two slow cores.
    assert time.process_time() - start < 12
    assert report["trainable"] == 50_000
