"""From files to token ids: what is learned, cut, set aside and held out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.data.encode import Example
from engine.data.prepare import Prepared, gather, prepare
from engine.data.rows import Message, Row, row_from_plain, row_to_plain, set_aside_from_plain, set_aside_to_plain
from engine.protocol.errors import EXIT_INPUT, UserError
from engine.recipe.recipe import DataSettings

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def run(starter_text: Path) -> Callable[..., Prepared]:
    """Prepare files for the starter: (*paths, **data settings)."""

    def go(*paths: Path, preference: bool = False, model: Path = starter_text, **fields: Any) -> Prepared:
        data = DataSettings(files=tuple(map(str, paths)), **fields)
        return prepare(data, preference=preference, model_folder=model)

    return go


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def learned_text(prepared: Prepared, example: Example) -> str:
    ids = [i for i, learned in zip(example.input_ids, example.learned, strict=True) if learned]
    return prepared.tokenizer.decode(ids, skip_special=False)


def whole_text(prepared: Prepared, example: Example) -> str:
    return prepared.tokenizer.decode(example.input_ids, skip_special=False)


TURNS = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "four"},
]


# --------------------------------------------------------------------------------------------------- what is learned
@pytest.mark.parametrize(
    ("learn_from", "text"),
    [
        ("answers", "two<|im_end|>four<|im_end|>"),
        ("last_answer", "four<|im_end|>"),
    ],
)
def test_learn_from(run: Callable[..., Prepared], write: Write, learn_from: str, text: str) -> None:
    prepared = run(write("a.jsonl", lines({"messages": TURNS})), learn_from=learn_from)
    assert learned_text(prepared, prepared.train[0]) == text


def test_learn_from_everything(run: Callable[..., Prepared], write: Write) -> None:
    prepared = run(write("a.jsonl", lines({"messages": TURNS})), learn_from="everything")
    example = prepared.train[0]
    assert all(example.learned)
    assert learned_text(prepared, example) == whole_text(prepared, example)


def test_a_base_model_learns_its_end_in_every_turn(run: Callable[..., Prepared], write: Write, stories: Path) -> None:
    prepared = run(write("a.jsonl", lines({"messages": TURNS})), model=stories)
    example, tokenizer = prepared.train[0], prepared.tokenizer
    ends = [learned for i, learned in zip(example.input_ids, example.learned, strict=True) if i == tokenizer.eos_id]
    assert ends == [True, True]
    assert example.input_ids.count(tokenizer.bos_id or -1) == 1
    assert example.input_ids[0] == tokenizer.bos_id
    assert not example.learned[0]
    assert prepared.limit == 512


def test_the_recipes_system_prompt_is_put_where_there_is_none(run: Callable[..., Prepared], write: Write) -> None:
    own = [{"role": "system", "content": "mine"}, *TURNS]
    prepared = run(write("a.jsonl", lines({"messages": TURNS}, {"messages": own})), system="Be brief.")
    assert [e.row.messages[0].content for e in prepared.train] == ["Be brief.", "mine"]
    assert "Be brief." in whole_text(prepared, prepared.train[0])


# ----------------------------------------------------------------------------------------------------------- lengths
def test_long_rows_are_cut_or_dropped(run: Callable[..., Prepared], write: Write) -> None:
    path = write("a.jsonl", lines({"prompt": "Q", "completion": "A"}, {"prompt": "Q?", "completion": "word " * 100}))
    cut = run(path, max_length=40)
    assert [(e.cut, e.length, e.whole > 40) for e in cut.train] == [
        (False, cut.train[0].whole, False),
        (True, 40, True),
    ]
    assert all(len(e.input_ids) == len(e.learned) for e in cut.train)
    dropped = run(path, max_length=40, over_long="drop")
    assert [(item.reason, item.where) for item in dropped.set_aside] == [("too_long", "a.jsonl:2")]


def test_a_row_whose_answer_is_cut_away_is_set_aside(run: Callable[..., Prepared], write: Write) -> None:
    path = write("a.jsonl", lines({"prompt": "Q", "completion": "A"}, {"prompt": "word " * 100, "completion": "A"}))
    prepared = run(path, max_length=40)
    assert [(item.reason, item.where) for item in prepared.set_aside] == [("answer_cut_away", "a.jsonl:2")]
    assert len(prepared.train) == 1


def test_a_long_row_in_pieces_learns_every_token_once(run: Callable[..., Prepared], write: Write) -> None:
    answer = " ".join(f"word{i}" for i in range(120))
    path = write("a.jsonl", lines({"prompt": "Q?", "completion": answer}, {"prompt": "R?", "completion": "Short."}))
    whole = run(path, max_length=4096, held_out=0.0).train[0]
    pieces = [e for e in run(path, max_length=64, over_long="split", held_out=0.0).train if e.row.index == 0]
    assert len(pieces) > 3
    assert all(e.length <= 64 and len(e.learned) == e.length and e.whole == whole.whole for e in pieces)
    wanted = [i for i, learned in zip(whole.input_ids, whole.learned, strict=True) if learned]
    assert [i for e in pieces for i, learned in zip(e.input_ids, e.learned, strict=True) if learned] == wanted


def test_a_row_can_lose_its_beginning(run: Callable[..., Prepared], write: Write) -> None:
    path = write("a.jsonl", lines({"prompt": "word " * 100, "completion": "The end."}))
    example = run(path, max_length=40, over_long="cut_start").train[0]
    prepared = run(path, max_length=40, over_long="cut_start")
    assert (example.cut, example.length) == (True, 40)
    assert learned_text(prepared, example) == "The end.<|im_end|>"


def test_nothing_to_learn_is_its_own_reason(run: Callable[..., Prepared], write: Write) -> None:
    unlearned = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "weight": 0}]
    prepared = run(write("a.jsonl", lines({"messages": TURNS}, {"messages": unlearned})))
    assert [(item.reason, item.where) for item in prepared.set_aside] == [("nothing_learned", "a.jsonl:2")]


def test_plain_text_is_learned_whole(run: Callable[..., Prepared], write: Write) -> None:
    prepared = run(write("a.txt", "First paragraph of the text.\n\nSecond paragraph, a little longer.\n"), held_out=0.0)
    assert [learned_text(prepared, e) for e in prepared.train] == [
        "First paragraph of the text.<|im_end|>",
        "Second paragraph, a little longer.<|im_end|>",
    ]


# ------------------------------------------------------------------------------------------------------- preferences
def test_preferences_share_their_prompt_and_end(run: Callable[..., Prepared], write: Write) -> None:
    path = write("a.jsonl", lines({"prompt": "Say hi.", "chosen": "Hi, friend!", "rejected": "No."}))
    prepared = run(path, preference=True)
    example, tokenizer = prepared.train[0], prepared.tokenizer
    assert tokenizer.decode(example.prompt_ids, skip_special=False) == (
        "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.decode(example.chosen_ids, skip_special=False) == "Hi, friend!<|im_end|>"
    assert tokenizer.decode(example.rejected_ids, skip_special=False) == "No.<|im_end|>"
    assert example.learned == []
    assert example.length == len(example.prompt_ids) + len(example.chosen_ids)


def test_a_preference_can_be_learned_as_its_chosen_answer(run: Callable[..., Prepared], write: Write) -> None:
    prepared = run(write("a.jsonl", lines({"prompt": "Say hi.", "chosen": "Hi!", "rejected": "No."})))
    assert learned_text(prepared, prepared.train[0]) == "Hi!<|im_end|>"
    assert prepared.train[0].row.chosen is None


def test_long_preferences(run: Callable[..., Prepared], write: Write) -> None:
    records = [
        {"prompt": "Q", "chosen": "yes " * 90, "rejected": "no " * 90},
        {"prompt": "word " * 90, "chosen": "A", "rejected": "B"},
    ]
    prepared = run(write("a.jsonl", lines(*records)), preference=True, max_length=48)
    assert [(e.cut, e.length) for e in prepared.train] == [(True, 48)]
    assert [item.reason for item in prepared.set_aside] == ["answer_cut_away"]
    with pytest.raises(UserError) as caught:
        run(write("b.jsonl", lines(*records)), preference=True, max_length=48, over_long="drop")
    assert caught.value.problem.code == "data.nothing_to_train"


def test_preference_needs_preference_rows(run: Callable[..., Prepared], alpaca: Callable[..., Path]) -> None:
    with pytest.raises(UserError) as caught:
        run(alpaca(3), preference=True)
    assert caught.value.problem.code == "data.not_preference"


# ----------------------------------------------------------------------------------------------- duplicates and splits
def test_duplicates_are_set_aside_once(run: Callable[..., Prepared], write: Write) -> None:
    record = {"prompt": "Q", "completion": "A"}
    other = write("b.jsonl", lines(record, {"prompt": "R", "completion": "B"}))
    prepared = run(write("a.jsonl", lines(record, record)), other)
    assert [(item.reason, item.where) for item in prepared.set_aside] == [
        ("duplicate", "a.jsonl:2"),
        ("duplicate", "b.jsonl:1"),
    ]
    assert "a.jsonl:1" in next(iter(prepared.set_aside)).text.en
    assert [e.row.where for e in prepared.train] == ["a.jsonl:1", "b.jsonl:2"]


def test_the_split_is_seeded_and_stable(run: Callable[..., Prepared], alpaca: Callable[..., Path]) -> None:
    first, again, other = (run(alpaca(100), seed=seed) for seed in (1, 1, 2))
    assert len(first.held_out) == 10
    assert [e.row.index for e in first.held_out] == [e.row.index for e in again.held_out]
    assert [e.row.index for e in first.held_out] != [e.row.index for e in other.held_out]
    more = run(alpaca(101), seed=1)
    moved = {e.row.where for e in first.held_out} ^ {e.row.where for e in more.held_out}
    assert len(moved) <= 2
    assert {e.row.index for e in first.train} | {e.row.index for e in first.held_out} == set(range(100))


@pytest.mark.parametrize(
    ("count", "share", "held_out"), [(9, 0.1, 1), (10, 0.01, 1), (200, 0.5, 100), (50, 0.0, 0), (4, 0.1, 0)]
)
def test_how_many_are_held_out(
    run: Callable[..., Prepared], alpaca: Callable[..., Path], count: int, share: float, held_out: int
) -> None:
    assert len(run(alpaca(count), held_out=share).held_out) == held_out


def asked(*prompts: str) -> list[dict[str, str]]:
    """A record for each prompt, each with an answer of its own."""
    return [{"prompt": prompt, "completion": f"It is number {i}."} for i, prompt in enumerate(prompts)]


def questions(examples: Sequence[Example]) -> set[str]:
    return {example.row.question for example in examples}


def test_the_same_prompt_falls_on_one_side(run: Callable[..., Prepared], write: Write) -> None:
    path = write("a.jsonl", lines(*asked(*(f"What is thing {i % 30}?" for i in range(120)))))
    for seed in range(5):
        prepared = run(path, held_out=0.2, seed=seed)
        assert len(prepared.held_out) == 24
        assert not questions(prepared.train) & questions(prepared.held_out)


def test_one_prompt_for_all_rows_is_still_split(run: Callable[..., Prepared], write: Write) -> None:
    same = write("a.jsonl", lines(*asked(*["What is the same?"] * 40)))
    roles = {"shape": "prompt_completion", "mapping": {"prompt": "prompt", "completion": "completion"}}
    prepared = run(same, held_out=0.1, seed=7, **roles)  # a column that never changes has to be named by hand
    assert (len(prepared.train), len(prepared.held_out)) == (36, 4)


def test_prompts_with_more_rows_than_wanted_do_not_leak(run: Callable[..., Prepared], write: Write) -> None:
    path = write("a.jsonl", lines(*asked(*(f"What is thing {i % 5}?" for i in range(43)))))
    for seed in range(5):
        prepared = run(path, held_out=0.1, seed=seed)
        assert len(prepared.held_out) == 8  # one of the two prompts with the fewest rows, whole
        assert not questions(prepared.train) & questions(prepared.held_out)
    thirds = write("b.jsonl", lines(*asked(*(f"What is thing {i % 3}?" for i in range(42)))))
    assert len(run(thirds, held_out=0.1, seed=1).held_out) == 4


def test_a_held_out_file_is_never_trained_on(run: Callable[..., Prepared], write: Write) -> None:
    train = write("a.jsonl", lines(*({"prompt": f"Q{i}", "completion": f"A{i}"} for i in range(20))))
    measured = write("b.jsonl", lines({"prompt": "Q3", "completion": "other"}, {"prompt": "Z", "completion": "A"}))
    prepared = run(train, held_out_file=str(measured))
    assert [e.row.where for e in prepared.held_out] == ["b.jsonl:1", "b.jsonl:2"]
    assert [(item.reason, item.where) for item in prepared.set_aside] == [("in_held_out", "a.jsonl:4")]
    assert len(prepared.train) == 19
    assert [s.path.name for s in prepared.sources] == ["a.jsonl", "b.jsonl"]


# ------------------------------------------------------------------------------------------------------ nothing left
def test_no_row_to_train_names_every_reason(run: Callable[..., Prepared], write: Write) -> None:
    path = write("a.jsonl", lines({"prompt": "Q", "completion": ""}, {"prompt": "", "completion": "A"}))
    with pytest.raises(UserError) as caught:
        run(path)
    assert caught.value.problem.code == "data.nothing_to_train"
    assert caught.value.exit_code == EXIT_INPUT
    assert [(p.code, p.where) for p in caught.value.problems] == [
        ("data.empty_answer", "a.jsonl:1"),
        ("data.empty_question", "a.jsonl:2"),
    ]


def test_no_file() -> None:
    with pytest.raises(UserError) as caught:
        gather(DataSettings())
    assert caught.value.problem.where == "data.files"


def test_a_template_that_refuses_costs_only_the_row(run: Callable[..., Prepared], write: Write, tmp_path: Path) -> None:
    template = tmp_path / "strict.jinja"
    template.write_text(
        "{% for m in messages %}{% if 'bad' in m['content'] %}{{ raise_exception('no') }}{% endif %}"
        "{{ m['content'] + '<|im_end|>' }}{% endfor %}"
    )
    records = [{"prompt": "fine", "completion": "A"}, {"prompt": "bad", "completion": "A"}]
    prepared = run(write("a.jsonl", lines(*records)), template=str(template))
    assert [(item.reason, item.where) for item in prepared.set_aside] == [("template_refused", "a.jsonl:2")]


def test_progress_counts_every_row(starter_text: Path, alpaca: Callable[..., Path]) -> None:
    seen: list[tuple[int, int]] = []
    data = DataSettings(files=(str(alpaca(2100)),))
    prepare(data, preference=False, model_folder=starter_text, progress=lambda done, total: seen.append((done, total)))
    assert seen[:3] == [(512, 2100), (1024, 2100), (1536, 2100)]
    assert seen[-1] == (2100, 2100)


# ----------------------------------------------------------------------------------------------------------- as JSON
def test_rows_survive_json() -> None:
    rows = [
        Row(3, "a:4", (Message("user", "Q"), Message("assistant", "A", learned=False), Message("assistant", "B"))),
        Row(5, "a:9", (Message("user", "Q"),), "chosen", "rejected"),
    ]
    for item in rows:
        assert row_from_plain(json.loads(json.dumps(row_to_plain(item)))) == item


def test_set_aside_rows_survive_json(run: Callable[..., Prepared], write: Write) -> None:
    record = {"prompt": "Q", "completion": "A"}
    item = next(iter(run(write("a.jsonl", lines(record, record))).set_aside))
    assert set_aside_from_plain(json.loads(json.dumps(set_aside_to_plain(item)))) == item


# --------------------------------------------------------------------------------------------------------- real data
def test_alpaca_for_a_base_model(run: Callable[..., Prepared], shared_data: Path, stories: Path) -> None:
    prepared = run(shared_data / "datasets/llama-factory/alpaca_en_demo.json", model=stories)
    assert Counter(item.reason for item in prepared.set_aside) == {"duplicate": 14}
    assert (len(prepared.train), len(prepared.held_out)) == (887, 98)
    asked = {e.row.question for e in prepared.train}
    assert not asked & {e.row.question for e in prepared.held_out}
    for example in prepared.train:
        assert example.length <= 512
        assert example.cut or example.input_ids[-1] != prepared.tokenizer.pad_id
        assert example.cut or learned_text(prepared, example).endswith("</s>")


def test_real_preferences(run: Callable[..., Prepared], shared_data: Path) -> None:
    path = shared_data / "datasets/llama-factory/dpo_en_demo.json"
    prepared = run(path, preference=True, max_length=1024)
    assert len(prepared.train) > 150
    for example in prepared.train:
        assert example.prompt_ids
        assert example.chosen_ids != example.rejected_ids
        assert example.length <= 1024
        if not example.cut:
            assert example.chosen_ids[-1] == example.rejected_ids[-1] == prepared.tokenizer.eos_id
