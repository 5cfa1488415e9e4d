"""A ``tokenizer.json`` in the terms of GGUF.

llama.cpp's own converter knows tokenizers by a fingerprint of their output and refuses any it has not met. Here the
tokenizer's own split pattern decides, so that one with added tokens or a new vocabulary is understood as well.

Source of names and patterns: llama.cpp, ``src/llama-vocab.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gguf import GGUFWriter, TokenType

from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _TAIL
_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _TAIL
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORD = r"[^\r\n\p{L}\p{N}]?"
_SLASH_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_TEKKEN = rf"{_WORD}{_UPPER}*{_LOWER}+|{_WORD}{_UPPER}+{_LOWER}*|\p{{N}}{_SLASH_TAIL}"
_GPT4O = rf"{_WORD}{_UPPER}*{_LOWER}+{_SHORT}|{_WORD}{_UPPER}+{_LOWER}*{_SHORT}|\p{{N}}{{1,3}}{_SLASH_TAIL}"
# What a ByteLevel step splits by itself.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = "digits one by one"

# Steps of splitting, and whether a whole word in the vocabulary is taken without merging → llama.cpp's name.
_NAMES: dict[tuple[tuple[str, ...], bool], str] = {
    ((_QWEN2,), False): "qwen2",
    ((_LLAMA3,), True): "llama-bpe",
    ((_LLAMA3,), False): "smaug-bpe",
    ((_GPT2,), False): "gpt-2",
    ((_DIGIT, _GPT2), False): "smollm",
    ((_TEKKEN,), True): "tekken",
    ((_GPT4O,), False): "gpt-4o",
}
# A token that no merge makes; llama.cpp would else build it from any two neighbours.
_NEVER = -1e9


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a GGUF says of a tokenizer.

    Attributes:
        model: "gpt2" (byte-level BPE) or "llama" (SentencePiece).
        pre: llama.cpp's name of the split pattern.
        tokens, types: text and `TokenType` of each id.
        merges: of byte-level BPE, best first.
        scores: of SentencePiece, higher merges first.
        space_prefix: a space is put before every text.
        collapses: the tokenizer drops repeated or outer spaces, which llama.cpp keeps.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[TokenType]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    space_prefix: bool = False
    collapses: bool = False

    @classmethod
    def of(cls, tokenizer: Mapping[str, Any], rows: int) -> Vocabulary:
        """The vocabulary of a ``tokenizer.json``, filled up to the model's ``rows`` with unused tokens.

        Raises:
            UserError: llama.cpp knows no such tokenizer, or it has more tokens than the model has rows.
        """
        model = tokenizer.get("model") or {}
        if model.get("type") != "BPE":
            raise _unknown(say("its model is {kind}", "其模型为 {kind}", kind=model.get("type", "?")))
        tokens, types = _tokens(tokenizer, rows, byte_fallback=bool(model.get("byte_fallback")))
        merges = [_pair(merge) for merge in model.get("merges", ())]
        if model.get("byte_fallback"):
            prefix, collapses = _spaces(tokenizer)
            scores = _scores(tokens, types, merges)
            return cls("llama", "default", tokens, types, scores=scores, space_prefix=prefix, collapses=collapses)
        pre = pre_tokenizer(tokenizer)
        return cls("gpt2", pre, tokens, types, merges=[" ".join(pair) for pair in merges])

    def describe(self, writer: GGUFWriter) -> None:
        """Write the vocabulary."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        if self.scores:
            writer.add_token_scores(self.scores)
            writer.add_add_space_prefix(self.space_prefix)


def pre_tokenizer(tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name for the way a byte-level tokenizer splits text, decided from its own pattern.

    Raises:
        UserError: llama.cpp knows no such pattern, or the text is changed before it is split.
    """
    for step in _steps(tokenizer.get("normalizer"), "normalizers"):
        # llama.cpp does not compose characters; its own converter accepts NFC, in which nearly all text comes.
        if step.get("type") != "NFC":
            raise _unknown(say("it changes the text by {kind}", "它会用 {kind} 改变文本", kind=step.get("type")))
    steps: list[str] = []
    for step in _steps(tokenizer.get("pre_tokenizer"), "pretokenizers"):
        steps += _splits(step)
    ignores_merges = bool((tokenizer.get("model") or {}).get("ignore_merges"))
    name = _NAMES.get((tuple(steps), ignores_merges))
    if name is None:
        raise _unknown(say("it splits text by {pattern}", "它用 {pattern} 切分文本", pattern=" + ".join(steps) or "—"))
    return name


def _splits(step: Mapping[str, Any]) -> list[str]:
    kind = step.get("type")
    if kind == "Split":
        pattern = (step.get("pattern") or {}).get("Regex", "")
        plain = step.get("behavior") == "Isolated" and not step.get("invert")
        return [_DIGIT if pattern == r"\p{N}" else pattern] if plain else [f"{kind} {pattern}"]
    if kind == "Digits":
        return [_DIGIT if step.get("individual_digits") else "digits together"]
    if kind == "ByteLevel":
        if step.get("add_prefix_space"):
            return ["ByteLevel add_prefix_space"]
        return [_GPT2] if step.get("use_regex", True) else []
    return [str(kind)]


def _steps(part: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    if not part:
        return []
    if part.get("type") == "Sequence":
        return [leaf for step in part.get(inner, ()) for leaf in _steps(step, inner)]
    return [part]


def _tokens(tokenizer: Mapping[str, Any], rows: int, *, byte_fallback: bool) -> tuple[list[str], list[TokenType]]:
    """Text and type of each id below ``rows``."""
    model = tokenizer["model"]
    texts: dict[int, str] = {number: text for text, number in model["vocab"].items()}
    kinds: dict[int, TokenType] = {}
    if byte_fallback:
        kinds.update({at: TokenType.BYTE for at, text in texts.items() if re.fullmatch(r"<0x[0-9A-F]{2}>", text)})
    for added in tokenizer.get("added_tokens", ()):
        texts[added["id"]] = added["content"]
        kinds[added["id"]] = TokenType.CONTROL if added.get("special") else TokenType.USER_DEFINED
    unknown = model["vocab"].get(model.get("unk_token") or "")
    if unknown is not None and byte_fallback:
        kinds[unknown] = TokenType.UNKNOWN
    beyond = max(texts, default=-1)
    if beyond >= rows:
        raise UserError(
            "export.vocabulary",
            say(
                "The tokenizer has {tokens} tokens, but the model only {rows}.",
                "分词器有 {tokens} 个词元，但模型只有 {rows} 个。",
                tokens=beyond + 1,
                rows=rows,
            ),
            say("Use the tokenizer that belongs to the model.", "请使用与模型配套的分词器。"),
            where="tokenizer.json",
        )
    filled = [texts.get(at, f"[UNUSED_{at}]") for at in range(rows)]
    return filled, [kinds.get(at, TokenType.NORMAL) if at in texts else TokenType.UNUSED for at in range(rows)]


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    first, second = merge.split(" ", 1) if isinstance(merge, str) else merge
    return first, second


def _scores(tokens: Sequence[str], types: Sequence[TokenType], merges: Sequence[tuple[str, str]]) -> list[float]:
    """SentencePiece merges the pair whose piece scores highest; BPE the pair of lowest rank. So a score is -rank."""
    ranks: dict[str, int] = {}
    for rank, (first, second) in enumerate(merges):
        ranks.setdefault(first + second, rank)
    return [
        float(-ranks[text]) if text in ranks else (0.0 if kind != TokenType.NORMAL or len(text) == 1 else _NEVER)
        for text, kind in zip(tokens, types, strict=True)
    ]


def _spaces(tokenizer: Mapping[str, Any]) -> tuple[bool, bool]:
    """(a space is put before texts, outer or repeated spaces are dropped) of a SentencePiece-like tokenizer."""
    prefix = collapses = replaces = False
    for step in _steps(tokenizer.get("normalizer"), "normalizers"):
        kind, pattern = step.get("type"), step.get("pattern") or {}
        if kind == "Prepend" and step.get("prepend") == "▁":
            prefix = True
        elif kind == "Replace" and pattern.get("String") == " " and step.get("content") == "▁":
            replaces = True
        elif kind == "Strip" or (kind == "Replace" and step.get("content") in (" ", "▁")):
            collapses = True
        elif kind not in ("NFC", "NFKC"):
            raise _unknown(say("it changes the text by {kind}", "它会用 {kind} 改变文本", kind=kind))
    for step in _steps(tokenizer.get("pre_tokenizer"), "pretokenizers"):
        if step.get("type") != "Metaspace" or step.get("split", True):
            raise _unknown(say("it splits text by {pattern}", "它用 {pattern} 切分文本", pattern=step.get("type")))
        replaces = True
        prefix = prefix or step.get("prepend_scheme", "always") != "never"
    if not replaces:
        raise _unknown(say("it does not mark spaces by ▁", "它没有用 ▁ 标记空格"))
    return prefix, collapses


def _unknown(why: Text) -> UserError:
    return UserError(
        "export.tokenizer",
        say(
            "llama.cpp does not know a tokenizer like this one: {why}.", "llama.cpp 不支持此类分词器：{why}。", why=why
        ),
        say("Export the adapter or the merged weights instead.", "请改为导出适配器或合并后的权重。"),
        where="tokenizer.json",
    )
