"""Turns in words of their own, lists of texts and lists of pairs: proposed, mapped by hand, read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.data.detect import Guess, detect
from engine.data.preview import DataView
from engine.data.rows import ASSISTANT, SYSTEM, USER
from engine.protocol.errors import UserError
from engine.recipe.recipe import DataSettings

Write = Callable[[str, str | bytes], Path]
COUNT = 30
QUESTIONS = [f"What is the number after {i}?" for i in range(COUNT)]
ANSWERS = [f"The number after {i} is {i + 1}, of course." for i in range(COUNT)]
PAIRS = list(zip(QUESTIONS, ANSWERS, strict=True))
WHOLE = {"messages": "gespraech", "who": "wer", "says": "was", "user_is": "ich", "assistant_is": "er"}


def invented() -> list[dict[str, Any]]:
    return [{"gespraech": [{"wer": "ich", "was": q}, {"wer": "er", "was": a}]} for q, a in PAIRS]


def found(records: Sequence[Mapping[str, Any]], **options: Any) -> Guess:
    return detect(records, list(dict.fromkeys(key for record in records for key in record)), "a.json", **options)


def said(guess: Guess, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in guess.shape.convert(record, guess.mapping).messages]


# ------------------------------------------------------------------------------------------------- words of their own
def test_turns_in_invented_words_are_asked_about_with_a_whole_proposal() -> None:
    guess = found(invented())
    assert (guess.shape.name, guess.certainty, guess.mapping) == ("messages", "ask", WHOLE)
    assert 'who="wer"' in guess.why.en
    assert guess.offers["who"] == ("wer", "was")
    assert guess.offers["user_is"] == ("ich", "er")
    assert said(guess, invented()[0]) == [(USER, QUESTIONS[0]), (ASSISTANT, ANSWERS[0])]


@pytest.mark.parametrize("given", [WHOLE, {name: WHOLE[name] for name in WHOLE if name != "messages"}])
def test_the_users_words_are_kept_to(given: dict[str, str]) -> None:
    guess = found(invented(), mapping=given)
    assert (guess.certainty, guess.mapping) == ("sure", WHOLE)
    turned = found(invented(), mapping=given | {"user_is": "er", "assistant_is": "ich"})
    assert turned.certainty == "sure"
    longer = {"gespraech": [*invented()[0]["gespraech"], {"wer": "Ich ", "was": "So it is."}]}
    assert said(turned, longer) == [(ASSISTANT, QUESTIONS[0]), (USER, ANSWERS[0]), (ASSISTANT, "So it is.")]


def test_what_the_user_leaves_open_is_still_asked() -> None:
    assert found(invented(), shape="messages").certainty == "ask"
    assert found(invented(), shape="messages", mapping={"messages": "gespraech"}).certainty == "ask"


@pytest.mark.parametrize(
    ("turn", "certainty", "own"),
    [
        (lambda who, text: {"sender": who, "message": text}, "likely", {"who": "sender", "says": "message"}),
        (lambda who, text: {"role": f"The {who}", "content": text}, "ask", {"user_is": "The user"}),
        (lambda who, text: {"from": f"The {who}", "value": text, "n": 1}, "ask", {"assistant_is": "The bot"}),
        (lambda who, text: {"role": who, "content": text}, "sure", {}),
    ],
)
def test_only_what_the_usual_words_leave_open_is_proposed(
    turn: Callable[[str, str], dict[str, Any]], certainty: str, own: dict[str, str]
) -> None:
    guess = found([{"messages": [turn("user", q), turn("bot", a)]} for q, a in PAIRS])
    assert guess.certainty == certainty, guess.why.en
    assert guess.mapping.items() >= own.items()
    assert bool(own) == bool(guess.mapping.keys() & {"who", "says", "user_is", "assistant_is"})


def test_who_speaks_once_and_first_is_the_system() -> None:
    records = [
        {"chat": [{"speaker": "stage", "line": "Be brief."}, {"speaker": "A", "line": q}, {"speaker": "B", "line": a}]}
        for q, a in PAIRS
    ]
    guess = found(records)
    assert {r: guess.mapping[r] for r in ("system_is", "user_is", "assistant_is")} == {
        "system_is": "stage",
        "user_is": "A",
        "assistant_is": "B",
    }
    assert said(guess, records[0])[0] == (SYSTEM, "Be brief.")


def test_several_words_for_one_speaker() -> None:
    mapping = WHOLE | {"assistant_is": "er, sie"}
    guess = found(invented(), mapping=mapping)
    record = {"gespraech": [{"wer": "ich", "was": "Q"}, {"wer": "sie", "was": "A"}]}
    assert said(guess, record) == [(USER, "Q"), (ASSISTANT, "A")]


def test_a_cell_that_holds_the_turns_as_text_and_a_word_that_nobody_named() -> None:
    records = [{"gespraech": json.dumps(record["gespraech"])} for record in invented()]
    guess = found(records)
    assert guess.mapping == WHOLE
    assert said(guess, records[0])[0] == (USER, QUESTIONS[0])
    stranger = {"gespraech": [{"wer": "wir", "was": "Q"}, {"wer": "er", "was": "A"}]}
    with pytest.raises(Exception, match='unknown speaker, "wir"'):
        guess.shape.convert(stranger, guess.mapping)


@pytest.mark.parametrize(
    "cells",
    [
        [[{"name": "find", "description": f"Finds {i}"}] for i in range(COUNT)],
        [[{"page": i, "words": 3}, {"page": i + 1, "words": 4}] for i in range(COUNT)],
        [[{"a": "same", "b": "same"}] * 3 for _ in range(COUNT)],
    ],
)
def test_lists_of_other_things_are_no_turns(cells: list[Any]) -> None:
    records = [{"question": q, "answer": a, "xs": cell} for (q, a), cell in zip(PAIRS, cells, strict=True)]
    guess = found(records)
    assert (guess.shape.name, guess.mapping) == ("prompt_completion", {"prompt": "question", "completion": "answer"})


def test_the_recipe_and_the_data_page_know_the_words(write: Write, starter_text: Path) -> None:
    path = write("own.jsonl", "".join(json.dumps(record) + "\n" for record in invented()))
    asked = DataView(DataSettings(files=(str(path),)), starter_text)
    with pytest.raises(UserError) as caught:
        asked.refuse_doubt()
    assert all(f'--map {role}="{word}"' in caught.value.problem.hint.en for role, word in WHOLE.items())
    facts = asked.facts()
    assert {role["name"]: role["holds"] for role in facts["roles"]}.items() >= {
        "messages": "column",
        "who": "key",
        "user_is": "word",
    }.items()
    assert facts["files"][0]["offers"]["user_is"] == ["ich", "er"]
    view = DataView(DataSettings(files=(str(path),), mapping=WHOLE), starter_text)
    view.refuse_doubt()
    assert [(row["question"], row["answer"]) for row in view.page(0, 2)["rows"]] == PAIRS[:2]


# --------------------------------------------------------------------------------------------- texts and pairs in turn
@pytest.mark.parametrize(
    ("records", "certainty"),
    [
        ([{"id": i, "data": [q, a]} for i, (q, a) in enumerate(PAIRS)], "likely"),
        ([{"messages": [q, a]} for q, a in PAIRS], "likely"),
        ([{"history": [[q, a]]} for q, a in PAIRS], "likely"),
        ([{"zz": [[q, a]]} for q, a in PAIRS], "likely"),
        ([{"data": [a, q]} for q, a in PAIRS], "ask"),
        ([{"data": [f"Some text number {i}", f"Other text number {i}"]} for i in range(COUNT)], "ask"),
    ],
)
def test_lists_without_speakers(records: list[dict[str, Any]], certainty: str) -> None:
    guess = found(records)
    assert (guess.shape.name, guess.certainty) == ("messages", certainty), guess.why.en
    column = guess.mapping["messages"]
    first = records[0][column]
    asked, answered = first if isinstance(first[0], str) else first[0]
    assert said(guess, records[0]) == [(USER, asked), (ASSISTANT, answered)]


def test_texts_in_turn_lose_a_last_question() -> None:
    records = [{"data": [q, a, "And then?"]} for q, a in PAIRS]
    guess = found(records)
    assert guess.certainty == "ask"
    assert said(guess, records[0]) == [(USER, QUESTIONS[0]), (ASSISTANT, ANSWERS[0])]


@pytest.mark.parametrize(
    "extra",
    [{"tags": ["one", "two"]}, {"keywords": ["a long keyword of words", "another one of some words"]}],
)
def test_lists_of_tags_are_no_conversations(extra: dict[str, Any]) -> None:
    guess = found([{"question": q, "answer": a, **extra} for q, a in PAIRS])
    assert guess.mapping == {"prompt": "question", "completion": "answer"}
    assert guess.certainty != "ask"


def test_short_words_alone_are_no_conversation() -> None:
    with pytest.raises(UserError, match="fit no known shape"):
        found([{"data": ["red", "green"]} for _ in range(COUNT)])


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([{"prompt": "Be brief.", "completion": a} for _, a in PAIRS], "same in every row"),
        ([{"question": q, "context": [a, a.upper()], "answer": a.lower()} for q, a in PAIRS], "is not used"),
        ([{"text": a, "quality": "ab"[i % 2]} for i, (_, a) in enumerate(PAIRS)], None),
        ([{"zz": a, "quality": ("ham", "spam")[i % 2]} for i, (_, a) in enumerate(PAIRS)], "may be a label"),
        ([{"question": q, "answer": a, "score": "You are a very kind helper."} for q, a in PAIRS], "holds texts"),
        (
            [
                {"mystery": q, "label": turned, "b2": i % 2 == 0}
                for i, (q, turned) in enumerate(
                    (q, [{"role": "user", "content": q}, {"role": "assistant", "content": a}]) for q, a in PAIRS
                )
            ],
            "",
        ),
    ],
)
def test_names_that_what_they_hold_speaks_against_are_asked_about(
    records: list[dict[str, Any]], words: str | None
) -> None:
    guess = found(records)
    assert (guess.certainty == "ask") is (words is not None), (guess.certainty, guess.why.en)
    assert words is None or words in guess.why.en


def test_one_instruction_for_all_rows_is_usual_where_the_input_differs() -> None:
    records = [{"instruction": "Answer the question.", "input": q, "output": a} for q, a in PAIRS]
    assert found(records).certainty != "ask"


def test_several_answers_are_not_taken_for_a_conversation() -> None:
    guess = found([{"question": q, "xq": [a, a.upper()]} for q, a in PAIRS])
    assert guess.shape.name == "prompt_completion"
