"""Tokenised rows on the disk: the same from one process and from several, made once, and lost by no interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data import token_store, tokenise
from engine.data.dataset import DataSet
from engine.data.encode import Example, RowEncoder, longest
from engine.data.rows import SetAside
from engine.data.template import choose_template
from engine.data.token_store import TokenStore, tokenised
from engine.data.tokenizer import TextTokenizer
from engine.host.platform import cache_folder
from engine.recipe.recipe import DataSettings

Write = Callable[[str, str | bytes], Path]


def encoder(data: DataSettings, folder: Path) -> RowEncoder:
    tokenizer = TextTokenizer.load(folder)
    return RowEncoder(choose_template(folder, tokenizer=tokenizer), tokenizer, data, longest(data, tokenizer))


@pytest.fixture
def path(write: Write) -> Path:
    """Rows of all lengths; every seventh is too long, every eleventh there twice."""
    rows = [
        {
            "instruction": f"Question {i // 11 if i % 11 == 0 else i}?",
            "output": "word " * (200 if i % 7 == 0 else i % 9 + 1),
        }
        for i in range(300)
    ]
    return write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def plain(examples: Any) -> list[tuple[Any, ...]]:
    return [(e.index, e.input_ids, e.learned, e.cut, e.whole, e.notes, e.prompt_ids) for e in examples]


def asked(store: TokenStore) -> list[tuple[int, str]]:
    return [(item.index, item.reason) for item in store.set_aside()]


def test_what_is_read_is_what_was_encoded(path: Path, starter_text: Path) -> None:
    data = DataSettings(files=(str(path),), max_length=100, over_long="drop")
    rows, maker = DataSet(data).scan(), encoder(data, starter_text)
    store = tokenised(rows, maker)
    found = list(maker.encode(rows.rows()))
    examples = [item for item in found if isinstance(item, Example)]
    assert plain(store.all()) == plain(examples)
    assert asked(store) == [(item.index, item.reason) for item in found if isinstance(item, SetAside)]
    assert store.set_aside_count == len(asked(store)) > 30
    every = store.all()
    assert every.lengths.tolist() == [example.length for example in examples]
    assert every.learned.tolist() == [example.learned_tokens for example in examples]
    assert [example.row for example in every] == [example.row for example in examples]
    some = every.taken(np.array([5, 2, 2]))
    assert (
        [example.row.index for example in some.with_rows()]
        == some.rows.tolist()
        == [examples[i].index for i in (5, 2, 2)]
    )
    assert plain(some[1:]) == plain(some)[1:]


def test_preferences_are_kept_in_three_parts(write: Write, starter_text: Path) -> None:
    records = [{"prompt": f"Q{i}?", "chosen": "good " * (i + 1), "rejected": "bad " * 3} for i in range(20)]
    data = DataSettings(files=(str(write("a.jsonl", "".join(json.dumps(r) + "\n" for r in records))),))
    rows, maker = DataSet(data, preference=True).scan(), encoder(data, starter_text)
    store = tokenised(rows, maker)
    wanted = [item for item in maker.encode(rows.rows()) if isinstance(item, Example)]
    assert [(e.prompt_ids, e.chosen_ids, e.rejected_ids) for e in store.all()] == [
        (e.prompt_ids, e.chosen_ids, e.rejected_ids) for e in wanted
    ]
    assert store.all().lengths.tolist() == [e.length for e in wanted]
    assert store.all().learned.tolist() == [e.learned_tokens for e in wanted]


def test_several_processes_give_the_same(path: Path, starter_text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataSettings(files=(str(path),), max_length=100, over_long="drop")
    alone = tokenised(DataSet(data).scan(), encoder(data, starter_text))
    counts = dict(_counts(data, starter_text))
    expected, aside = plain(alone.all()), asked(alone)
    monkeypatch.setattr(tokenise, "_ALONE", 0)
    monkeypatch.setattr(tokenise, "_PIECE", 64)
    monkeypatch.setattr(tokenise, "cores", lambda: 2)
    monkeypatch.setattr(token_store, "VERSION", 1000)  # not what is kept already
    together = tokenised(DataSet(data).scan(), encoder(data, starter_text))
    assert plain(together.all()) == expected
    assert asked(together) == aside
    assert dict(_counts(data, starter_text)) == counts
    assert {index for index, tokens in counts.items() if tokens > 100} == {index for index, _ in aside}
    assert all(counts[example.index] == example.whole for example in together.all())


def _counts(data: DataSettings, folder: Path) -> list[tuple[int, int]]:
    rows = DataSet(data).scan()
    found = tokenise.counted(rows, rows.usable, encoder(data, folder))
    return [pair for some, tokens in found for pair in zip(some.tolist(), tokens.tolist(), strict=True)]


def test_made_once_and_anew_when_something_changes(
    path: Path, starter_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    encode = token_store.encoded

    def counting(*arguments: Any) -> Any:
        nonlocal made
        made += 1
        return encode(*arguments)

    monkeypatch.setattr(token_store, "encoded", counting)

    def go(**settings: Any) -> None:
        data = DataSettings(files=(str(path),), **settings)
        tokenised(DataSet(data).scan(), encoder(data, starter_text))

    go()
    go()
    go(held_out=0.3, seed=7, order="shortest")  # nothing of these changes a token
    assert made == 1
    go(system="Be brief.")
    go(max_length=64)
    go(learn_from="everything")
    assert made == 4
    path.write_bytes(path.read_bytes() + b'{"instruction": "One more?", "output": "Yes."}\n')
    go()
    assert made == 5


def test_an_end_on_the_way_leaves_nothing(path: Path, starter_text: Path) -> None:
    data = DataSettings(files=(str(path),))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenised(DataSet(data).scan(), encoder(data, starter_text), stop)
    assert not list((cache_folder() / "data").rglob("ids.bin"))
    assert len(tokenised(DataSet(data).scan(), encoder(data, starter_text)).all()) > 200
