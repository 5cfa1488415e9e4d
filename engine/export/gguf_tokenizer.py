"""A ``tokenizer.json`` in the terms of GGUF: tokens, their kinds, merges or scores, and how spaces are treated.

Source: llama.cpp, ``conversion/base.py`` for what is written, ``src/llama-vocab.cpp`` for what is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType

from engine.export.families.declare import Family
from engine.export.families.llama import LLAMA
from engine.export.gguf_tokenizer_pieces import Pieces
from engine.export.gguf_tokenizer_pre import pair, pre_tokenizer, steps, unknown
from engine.project.atomic import read_json
from engine.protocol.errors import UserError
from engine.protocol.text import say

SPM, BPE = "llama", "gpt2"
# A token that no merge makes; llama.cpp would else build it from any two neighbours.
_NEVER = -1e9
_ADDED, _PADDING = -1000.0, -10000.0
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
# Added tokens that stand for no text though their files do not say so, as llama.cpp's converter takes them.
_LOOKS_SPECIAL = re.compile(r"<pad>|<mask>|<2mass>|\[@BOS@\]|<\|.*\|>|<｜.*｜>|<unused.*>", re.DOTALL)
_PHI3, _PHI3_TOKENS = re.compile(r"(?i)phi-?3"), frozenset({"<unk>", "<s>", "</s>", "<|endoftext|>"})
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a GGUF says of a tokenizer.

    Attributes:
        model: "gpt2" (byte-level BPE) or "llama" (SentencePiece).
        pre: llama.cpp's name of the split pattern.
        tokens, types: text and `TokenType` of each id.
        merges: of byte-level BPE, best first.
        scores: of SentencePiece, higher merges first.
        space_prefix: whether a space is put before every text; None where llama.cpp's own rule for the model holds.
        collapses: the tokenizer drops repeated or outer spaces, which llama.cpp keeps.
        trims: special tokens swallow the spaces and line breaks after them, as Phi-3's do.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[TokenType]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    space_prefix: bool | None = None
    collapses: bool = False
    trims: bool = False

    @classmethod
    def read(cls, folder: Path, base: Path, rows: int, family: Family, *, opens_special: bool = False) -> Vocabulary:
        """The vocabulary of the tokenizer in ``folder``; scores of SentencePiece from there or from the base's folder.

        Args:
            rows, family, opens_special: as for `of`.

        Raises:
            UserError: as `of`, or a file is damaged.
        """
        tokenizer = read_json(folder / "tokenizer.json")
        config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
        pieces = Pieces.of(folder, base)
        return cls.of(tokenizer, rows, family, config=config, pieces=pieces, opens_special=opens_special)

    @classmethod
    def of(
        cls,
        tokenizer: Mapping[str, Any],
        rows: int,
        family: Family = LLAMA,
        *,
        config: Mapping[str, Any] | None = None,
        pieces: Pieces | None = None,
        opens_special: bool = False,
    ) -> Vocabulary:
        """The vocabulary of a ``tokenizer.json``, filled up to the model's ``rows`` with unused tokens.

        Args:
            family: of the model; families differ in what their files leave unsaid.
            config: ``tokenizer_config.json``.
            pieces: the SentencePiece file that the tokenizer was made from, for its scores.
            opens_special: what was trained begins with a special token (see `_spaces`).

        Raises:
            UserError: llama.cpp knows no such tokenizer, or it has more tokens than the model has rows.
        """
        config = config or {}
        model = tokenizer.get("model") or {}
        if model.get("type") != "BPE":
            raise unknown(say("its model is {kind}", "其模型为 {kind}", kind=model.get("type", "?")))
        spm = bool(model.get("byte_fallback"))
        trims = _trims(tokenizer, config)
        added = _added(tokenizer, config)
        table = _Table.of(model, added, rows, pieces if spm else None, by_look=family.marks_by_look)
        merges = [pair(merge) for merge in model.get("merges") or ()]
        stated = family.states_prefix and isinstance(config.get("add_prefix_space"), bool)
        if not spm:
            joined = [" ".join(side.replace(" ", "Ġ") for side in merge) for merge in merges]
            pre = pre_tokenizer(tokenizer)
            said = False if stated else None
            return cls(BPE, pre, table.tokens, table.types, merges=joined, space_prefix=said, trims=trims)
        prefix, collapses = _spaces(tokenizer, opens_special=opens_special)
        scores = table.scores or _scores(table.tokens, table.types, merges)
        return cls(
            SPM,
            "default",
            table.tokens,
            table.types,
            scores=scores,
            # Left out where llama.cpp does so by itself and the tokenizer's files do not speak of it.
            space_prefix=prefix if stated or not prefix else None,
            collapses=collapses,
            trims=trims,
        )

    def name(self, title: str) -> str:
        """A model's title so that llama.cpp treats its special tokens as training did.

        It lets special tokens swallow what follows where the name speaks of Phi-3, and nowhere else. Four tokens must
        then be there, or it does not load the file. Source: llama.cpp, ``src/llama-vocab.cpp``.
        """
        if self.trims and _PHI3_TOKENS.issubset(self.tokens):
            return title if _PHI3.search(title) else f"{title} (Phi-3)"
        return _PHI3.sub("Phi 3", title)

    def describe(self, writer: GGUFWriter) -> None:
        """Write the vocabulary."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.space_prefix is not None:
            writer.add_add_space_prefix(self.space_prefix)


@dataclass(frozen=True, slots=True)
class _Table:
    """Text, kind and (of a SentencePiece file) score of each id."""

    tokens: list[str]
    types: list[TokenType]
    scores: list[float]

    @classmethod
    def of(
        cls,
        model: Mapping[str, Any],
        added: Mapping[int, tuple[str, bool]],
        rows: int,
        pieces: Pieces | None,
        *,
        by_look: bool,
    ) -> _Table:
        texts: dict[int, str] = {number: text for text, number in (model.get("vocab") or {}).items()}
        beyond = max((*texts, *added), default=-1)
        if beyond >= rows:
            raise _too_many(beyond + 1, rows)
        types = dict.fromkeys(texts, TokenType.NORMAL)
        if model.get("byte_fallback"):
            types |= {at: TokenType.BYTE for at, text in texts.items() if _BYTE.fullmatch(text)}
            types |= {at: TokenType.UNKNOWN for at, text in texts.items() if text == model.get("unk_token")}
        scores: dict[int, float] = {}
        # The file speaks for this vocabulary only where it is the same.
        if pieces is not None and all(texts.get(at, text) == text for at, text in enumerate(pieces.texts[:rows])):
            texts |= dict(enumerate(pieces.texts[:rows]))
            types |= dict(enumerate(pieces.types[:rows]))
            scores |= dict(enumerate(pieces.scores[:rows]))
        taken = {text for at, text in texts.items() if at not in added}
        for at, (text, special) in sorted(added.items()):
            control = special or (by_look and _LOOKS_SPECIAL.fullmatch(text) is not None)
            types[at] = TokenType.CONTROL if control else TokenType.USER_DEFINED
            plain = text.replace("▁", " ") if by_look and not control else text
            texts[at] = plain if plain not in taken else text
            taken.add(texts[at])
        tokens = [texts.get(at) or _padding(at, taken) for at in range(rows)]
        if len(set(tokens)) < rows:
            raise unknown(say("two of its tokens have the same text", "它有两个词元的文本相同"))
        listed = [scores.get(at, _PADDING) if at not in added else _ADDED for at in range(rows)] if scores else []
        return cls(tokens, [types.get(at, TokenType.UNUSED) for at in range(rows)], listed)


def _padding(number: int, taken: set[str]) -> str:
    """Text of a row that no token has; llama.cpp wants every text once."""
    text = f"[PAD{number}]"
    while text in taken:
        text = f"[{text}]"
    return text


def _added(tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> dict[int, tuple[str, bool]]:
    """Added tokens by id: text, and whether it is special; those that tokenizer_config.json names are."""
    vocabulary = (tokenizer.get("model") or {}).get("vocab") or {}
    named = {text for name in _NAMED if (text := _text(config.get(name)))}
    found = {
        int(token["id"]): (str(token["content"]), bool(token.get("special")))
        for token in tokenizer.get("added_tokens") or ()
    }
    listed = config.get("added_tokens_decoder")
    for number, token in listed.items() if isinstance(listed, Mapping) else ():
        if (text := _text(token)) and str(number).isdecimal():
            found[int(number)] = (text, bool(token.get("special")))
    known = {text for text, _ in found.values()}
    for text in named - known:
        if text in vocabulary:
            found[int(vocabulary[text])] = (text, True)
    return found


def _trims(tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether most special tokens swallow the spaces after them."""
    tokens = {_text(token): token for token in tokenizer.get("added_tokens") or ()}
    listed = config.get("added_tokens_decoder")
    tokens |= {_text(token): token for token in (listed.values() if isinstance(listed, Mapping) else ())}
    flags = [bool(token.get("rstrip")) for text, token in tokens.items() if text not in _PHI3_TOKENS]
    return sum(flags) > len(flags) / 2


def _text(token: Any) -> str:
    """Text of a token as configuration files write it: a string, or an object with its flags."""
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) else ""


def _scores(tokens: Sequence[str], types: Sequence[TokenType], merges: Sequence[tuple[str, str]]) -> list[float]:
    """SentencePiece merges the pair whose piece scores highest; BPE the pair of lowest rank. So a score is -rank."""
    ranks: dict[str, int] = {}
    for rank, (first, second) in enumerate(merges):
        ranks.setdefault(first + second, rank)
    return [
        float(-ranks[text]) if text in ranks else (0.0 if kind != TokenType.NORMAL or len(text) == 1 else _NEVER)
        for text, kind in zip(tokens, types, strict=True)
    ]


def _spaces(tokenizer: Mapping[str, Any], *, opens_special: bool) -> tuple[bool, bool]:
    """(a space is put before texts, outer or repeated spaces are dropped) of a SentencePiece-like tokenizer.

    llama.cpp puts the space before the text after every special token; a tokenizer with the scheme "first" only where
    the whole begins. Where the whole begins with a special token, that is nowhere.
    """
    prefix = collapses = replaces = False
    for step in steps(tokenizer.get("normalizer"), "normalizers"):
        kind, pattern = step.get("type"), step.get("pattern") or {}
        if kind == "Prepend" and step.get("prepend") == "▁":
            prefix = True
        elif kind == "Replace" and pattern.get("String") == " " and step.get("content") == "▁":
            replaces = True
        elif kind == "Strip" or (kind == "Replace" and step.get("content") in (" ", "▁")):
            collapses = True
        elif kind not in ("NFC", "NFKC"):
            raise unknown(say("it changes the text by {kind}", "它会用 {kind} 改变文本", kind=kind))
    for step in steps(tokenizer.get("pre_tokenizer"), "pretokenizers"):
        kind, pattern = step.get("type"), step.get("pattern") or {}
        if kind == "Split" and pattern.get("String") == " " and replaces:
            continue  # Gemma: there are no spaces left to split at
        if kind != "Metaspace" or step.get("split", True):
            raise unknown(say("it splits text by {pattern}", "它用 {pattern} 切分文本", pattern=kind))
        replaces = True
        scheme = step.get("prepend_scheme", "always")
        prefix = prefix or scheme == "always" or (scheme == "first" and not opens_special)
    if not replaces:
        raise unknown(say("it does not mark spaces by ▁", "它没有用 ▁ 标记空格"))
    return prefix, collapses


def _too_many(tokens: int, rows: int) -> UserError:
    return UserError(
        "export.vocabulary",
        say(
            "The tokenizer has {tokens} tokens, but the model only {rows}.",
            "分词器有 {tokens} 个词元，但模型只有 {rows} 个。",
            tokens=tokens,
            rows=rows,
        ),
        say("Use the tokenizer that belongs to the model.", "请使用与模型配套的分词器。"),
        where="tokenizer.json",
    )
