"""Near duplicates are found, look-alikes are not, and nothing is left behind."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.data.quality import duplicates
from engine.data.quality.duplicates import bands, leaks, near_duplicates
from engine.data.quality.groups import Groups, exact_duplicates
from engine.data.quality.shingles import CHARACTERS, LONGEST, WORDS, shingles, similarity

WORD_LIST = [f"word{i}" for i in range(3000)]
LETTERS = [chr(point) for point in range(0x4E00, 0x5600)]


def of(texts: list[str]) -> Callable[[Sequence[int]], list[str]]:
    return lambda indices: [texts[i] for i in indices]


def grouped(texts: list[str], scratch: Path, threshold: float = 0.8) -> Groups:
    return near_duplicates(enumerate(texts), of(texts), threshold=threshold, scratch=scratch)


# ------------------------------------------------------------------------------------------------------- shingles
def plain_shingles(text: str) -> set[tuple[str, ...]]:
    """The definition, word by word, as the module's head gives it."""
    text = unicodedata.normalize("NFKC", text).lower()
    spaceless = [c for c in text if "\u4e00" <= c <= "\u9fff"]
    letters = [c for c in text if c.isalnum() and c not in spaceless]
    by_character = bool(spaceless) and 3 * len(spaceless) >= len(letters)
    tokens: list[str] = []
    word = ""
    for c in text + " ":
        alone = c in spaceless or (by_character and c.isalnum())
        if word and (alone or not c.isalnum()):
            tokens.append(word)
            word = ""
        if alone:
            tokens.append(c)
        elif c.isalnum():
            word += c
    size = CHARACTERS if by_character else WORDS
    return {tuple(tokens[i : i + size]) for i in range(max(1, len(tokens) - size + 1))} if tokens else set()


def test_shingles_are_what_the_definition_says() -> None:
    rng = random.Random(3)
    alphabet = "ab cd,E. \nÄé12你好世界ＡＢ。、-_"
    texts = ["".join(rng.choice(alphabet) for _ in range(rng.randrange(40))) for _ in range(300)]
    texts += ["", "one", "one two", "one two three", "你好", "Tell me: 你好 means what in all these English words?"]
    numbers = shingles(texts).sets()
    words = [plain_shingles(text) for text in texts]
    assert [len(one) for one in numbers] == [len(one) for one in words]
    for _ in range(3000):
        a, b = rng.randrange(len(texts)), rng.randrange(len(texts))
        assert len(numbers[a] & numbers[b]) == len(words[a] & words[b])


def test_case_spaces_and_punctuation_make_no_difference() -> None:
    assert similarity("The cat sat, on the MAT!", "the  cat\nsat on “the mat”") == 1.0
    assert similarity("你好，世界！今天天气很好。", "你好世界 今天天气很好") == 1.0
    assert similarity("", "") == 0.0


def test_only_the_beginning_of_an_endless_text_is_compared() -> None:
    text = "one two three four " * (LONGEST // 19 + 1)
    assert len(shingles([text + "x" * 10_000_000]).hashes) < LONGEST


# ------------------------------------------------------------------------------------------------- near duplicates
def altered(rng: random.Random, pieces: list[str], low: float, high: float, space: str) -> str:
    changed = list(pieces)
    for place in rng.sample(range(len(pieces)), len(pieces)):
        changed[place] = rng.choice(WORD_LIST) + "x" if space else rng.choice(LETTERS)
        alike = similarity(space.join(pieces), space.join(changed))
        if alike <= high:
            break
    assert low <= alike <= high
    return space.join(changed)


def planted(count: int, seed: int) -> tuple[list[str], list[tuple[int, int]], list[tuple[int, int]]]:
    """Texts with near duplicates (0.85 and above) and decoys (0.60 to 0.75) among them, half of them Chinese."""
    rng = random.Random(seed)
    bases = [rng.choices(WORD_LIST, k=90) if i % 2 else rng.choices(LETTERS, k=120) for i in range(count)]
    texts = [(" " if i % 2 else "").join(base) for i, base in enumerate(bases)]
    near: list[tuple[int, int]] = []
    decoys: list[tuple[int, int]] = []
    for i, base in enumerate(bases):
        kind, low, high = ((near, 0.85, 0.93), (decoys, 0.60, 0.75))[i // 2 % 2]
        kind.append((i, len(texts)))
        texts.append(altered(rng, base, low, high, " " if i % 2 else ""))
    return texts, near, decoys


def test_planted_pairs_are_found_and_decoys_are_not(tmp_path: Path) -> None:
    texts, near, decoys = planted(1200, seed=5)
    groups = grouped(texts, tmp_path)
    found = [groups.first_of(a) == groups.first_of(b) for a, b in near]
    wrong = [groups.first_of(a) == groups.first_of(b) for a, b in decoys]
    assert sum(found) / len(found) >= 0.98
    assert sum(wrong) == 0
    assert groups.count == sum(found)
    for a, b, alike in groups.pairs:
        assert alike == pytest.approx(similarity(texts[a], texts[b]))
        assert alike >= 0.8
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_a_group_is_kept(tmp_path: Path) -> None:
    rng = random.Random(1)
    words = rng.choices(WORD_LIST, k=60)
    text = " ".join(words)
    other = " ".join([*words[:-1], "else"])
    texts = ["...", text, "something that stands all alone", other, text.upper(), "?!"]
    ids = [70, 50, 60, 10, 90, 30]
    by_id = dict(zip(ids, texts, strict=True))
    groups = near_duplicates(
        zip(ids, texts, strict=True), lambda indices: [by_id[i] for i in indices], scratch=tmp_path
    )
    assert groups.group_of(90).tolist() == [50, 10, 90]
    assert groups.first_of(10) == 50
    assert groups.kept.tolist() == [70, 50, 60, 30]
    assert groups.copies.tolist() == [10, 90]
    # A row without a letter is nobody's copy.
    assert groups.group_of(70).tolist() == [70]
    assert {pair[2] for pair in groups.pairs if 90 in pair} == {1.0}
    with pytest.raises(KeyError):
        groups.group_of(51)


def test_no_rows_and_one_row(tmp_path: Path) -> None:
    assert grouped([], tmp_path).count == 0
    assert grouped(["!"], tmp_path).kept.tolist() == [0]
    assert list(grouped(["one row"], tmp_path).groups()) == []


def test_the_same_groups_every_time(tmp_path: Path) -> None:
    texts, _, _ = planted(200, seed=8)
    assert list(grouped(texts, tmp_path).pairs) == list(grouped(texts, tmp_path).pairs)


def test_many_copies_of_boiler_plate_are_bounded(tmp_path: Path) -> None:
    """Thousands of rows that share most of their words, but less than the threshold: none may be joined, and the work
    may not grow with their square.
    """
    rng = random.Random(2)
    common = " ".join(rng.choices(WORD_LIST, k=40))
    texts = [f"{common} {' '.join(rng.choices(WORD_LIST, k=12))}" for _ in range(3000)]
    asked = 0

    def count(indices: Sequence[int]) -> list[str]:
        nonlocal asked
        asked += len(indices)
        return [texts[i] for i in indices]

    groups = near_duplicates(enumerate(texts), count, scratch=tmp_path)
    assert groups.count == 0
    assert groups.partly > 0
    assert asked < 3000 * 24 * bands(0.8)[0]


def test_rows_are_sorted_in_parts_where_they_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, _, _ = planted(150, seed=4)
    whole = grouped(texts, tmp_path)
    monkeypatch.setattr(duplicates, "_SORTED_AT_ONCE", 20)
    assert np.array_equal(grouped(texts, tmp_path).root, whole.root)


def test_cancelling_leaves_nothing(tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    seen: list[str] = []

    def progress(stage: str, done: int, total: int | None, /) -> None:
        seen.append(stage)
        if stage == "compare" and done == 3:
            raise Cancelled

    texts, _, _ = planted(50, seed=6)
    with pytest.raises(Cancelled):
        near_duplicates(enumerate(texts), of(texts), scratch=tmp_path, progress=progress)
    assert set(seen) == {"read", "compare"}
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[int, str]]:
        yield 0, "one"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        near_duplicates(broken(), of(["one"]), scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9, 1.0])
def test_bands_keep_the_recall(threshold: float) -> None:
    count, slots = bands(threshold)
    assert count * slots <= duplicates.SLOTS
    assert 1 - (1 - threshold**slots) ** count >= duplicates.RECALL


def test_a_threshold_out_of_bounds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="between"):
        grouped(["one"], tmp_path, threshold=1.2)


# ------------------------------------------------------------------------------------------------------------ leaks
def test_leaks_name_the_row_most_alike(tmp_path: Path) -> None:
    rng = random.Random(9)
    words = [rng.choices(WORD_LIST, k=40) for _ in range(300)]
    train = [" ".join(one) for one in words]
    held = {1000 + i: " ".join(rng.choices(WORD_LIST, k=40)) for i in range(30)}
    held[1003] = train[7]
    held[1004] = " ".join([*words[8][:-1], "else"])
    train.append(train[8].upper())
    # Two training rows that are copies of each other alone are no leak.
    train.append(train[20])
    found = leaks(
        enumerate(train), held.items(), of(train), lambda indices: [held[i] for i in indices], scratch=tmp_path
    )
    pairs = {(ours, theirs): alike for ours, theirs, alike in found.pairs}
    assert set(pairs) == {(7, 1003), (8, 1004), (300, 1004)}
    assert pairs[7, 1003] == 1.0
    assert 0.8 <= pairs[8, 1004] < 1.0


def test_a_chain_alone_is_no_leak(tmp_path: Path) -> None:
    rng = random.Random(11)
    words = rng.choices(WORD_LIST, k=60)
    chain = [
        words,
        [*words[:-4], "a1", "a2", "a3", "a4"],
        ["b1", "b2", "b3", "b4", *words[4:-4], "a1", "a2", "a3", "a4"],
    ]
    texts = [" ".join(one) for one in chain]
    assert similarity(texts[0], texts[2]) < 0.8 <= min(similarity(texts[0], texts[1]), similarity(texts[1], texts[2]))
    held = [texts[2]]
    found = leaks(enumerate(texts[:2]), enumerate(held), of(texts), of(held), scratch=tmp_path)
    assert [(ours, theirs) for ours, theirs, _ in found.pairs] == [(1, 0)]


# ------------------------------------------------------------------------------------------------- exact duplicates
def test_exact_duplicates_by_hash() -> None:
    groups = exact_duplicates(np.array([5, 6, 7, 8, 9]), np.array([1, 2, 1, 3, 2], np.uint64))
    assert [group.tolist() for group in groups.groups()] == [[5, 7], [6, 9]]
    assert groups.kept.tolist() == [5, 6, 8]
    assert exact_duplicates(np.zeros(0, np.int64), np.zeros(0, np.uint64)).count == 0
