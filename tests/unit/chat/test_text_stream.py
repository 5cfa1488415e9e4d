"""Text that comes token by token equals the text decoded at once."""

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from engine.chat.text_stream import Pieces, StopText, before_stop

TOKENIZERS = ("models/stories260K", "tokenizers/qwen2", "tokenizers/llama3", "tokenizers/phi-3-mini")


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest, shared_data: Path) -> Tokenizer:
    return Tokenizer.from_file(str(shared_data / request.param / "tokenizer.json"))


def _pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = Pieces(lambda tokens: tokenizer.decode(list(tokens), skip_special_tokens=True))
    return [*(stream.push(token) for token in ids), stream.flush()]


def _texts() -> list[str]:
    draw = random.Random(5)
    characters = lambda: draw.choice(  # noqa: E731
        [
            chr(draw.randrange(33, 127)),
            " ",
            "\n",
            chr(draw.randrange(0x4E00, 0x9FFF)),
            chr(draw.randrange(0x1F300, 0x1F600)),
        ]
    )
    return ["".join(characters() for _ in range(draw.randrange(1, 50))) for _ in range(60)]


def test_pieces_are_whole_characters_and_make_the_text(tokenizer: Tokenizer) -> None:
    for text in [*_texts(), "你好，世界！🎉👩‍👩‍👧 done", "  two  spaces "]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        pieces = _pieces(tokenizer, ids)
        assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)
        assert not any("\ufffd" in piece for piece in pieces)


def test_characters_come_as_soon_as_they_are_whole(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("abc 你好", add_special_tokens=False).ids
    stream = Pieces(lambda tokens: tokenizer.decode(list(tokens), skip_special_tokens=True))
    so_far = ""
    for place, token in enumerate(ids, 1):
        so_far += stream.push(token)
        readable = tokenizer.decode(ids[:place], skip_special_tokens=True).rstrip("\ufffd")
        assert so_far.startswith(readable)
        assert "abc 你好".startswith(so_far)


def test_any_tokens_give_text_and_never_fail(tokenizer: Tokenizer) -> None:
    draw = random.Random(7)
    size = tokenizer.get_vocab_size()
    for _ in range(200):
        ids = [draw.randrange(min(size, 400)) for _ in range(draw.randrange(1, 40))]
        joined = "".join(_pieces(tokenizer, ids))
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        # Bytes that make no character may be marked differently; every readable character is there.
        assert [c for c in whole if c.isalnum()] == [c for c in joined if c.isalnum()] or "\ufffd" in whole


def test_special_tokens_are_not_text(shared_data: Path) -> None:
    tokenizer = Tokenizer.from_file(str(shared_data / "tokenizers" / "qwen2" / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|im_end|>"])
    ids = tokenizer.encode("yes<|im_end|>", add_special_tokens=False).ids
    assert ids[-1] == tokenizer.token_to_id("<|im_end|>")
    assert "".join(_pieces(tokenizer, ids)) == "yes"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_stop_text_is_found_across_pieces(size: int) -> None:
    text = "one ## two\n### Instruction: three"
    stream = StopText(["### Instruction:", "</s>"])
    given = "".join(stream.push(text[i : i + size]) for i in range(0, len(text), size)) + stream.flush()
    assert given == "one ## two\n"
    assert stream.met


def test_text_that_only_begins_like_a_stop_is_given_at_the_end() -> None:
    stream = StopText(["###"])
    assert stream.push("a #") == "a "
    assert stream.push("b##") == "#b"
    assert stream.flush() == "##"
    assert not stream.met


def test_before_stop() -> None:
    assert before_stop("a###b", ["###"]) == "a"
    assert before_stop("a##", ["###"]) == "a##"
    assert before_stop("a", []) == "a"
