"""How a byte-level tokenizer cuts texts before it merges, in llama.cpp's names.

llama.cpp's own converter knows tokenizers by a fingerprint of their output and refuses any it has not met. Here the
tokenizer's own split pattern decides, so that one with added tokens or a new vocabulary is understood as well.

Source of names and patterns: llama.cpp, ``src/llama-vocab.cpp`` (what it runs, and the original beside it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers.models import BPE

from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# The same, as patterns for engines without (?i:…) spell it.
_SHORT_SPELT = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_END = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*" + _END
_SLASH_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _END
_HEAD = _SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_LLAMA3 = _HEAD + r"|\p{N}{1,3}" + _TAIL
_QWEN2 = _HEAD + r"|\p{N}" + _TAIL
_QWEN35 = _SHORT + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + _END
_SEED = _HEAD + r"|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+" + _END
_MINICPM5 = _HEAD + r"|\p{N}+" + _TAIL
_UFAKZEKA = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _TAIL
_BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORD = r"[^\r\n\p{L}\p{N}]?"
_TEKKEN = rf"{_WORD}{_UPPER}*{_LOWER}+|{_WORD}{_UPPER}+{_LOWER}*|\p{{N}}{_SLASH_TAIL}"
_GPT4O = rf"{_WORD}{_UPPER}*{_LOWER}+{_SHORT}?|{_WORD}{_UPPER}+{_LOWER}*{_SHORT}?|\p{{N}}{{1,3}}{_SLASH_TAIL}"
_THREE_DIGITS = r"\p{N}{1,3}"
_HAN_KANA = "[一-龥\u3040-ゟ゠-ヿ]+"
_DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*" + _END
)
# What a ByteLevel step splits by itself.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = "digits one by one"

# Steps of splitting → llama.cpp's name where a whole word of the vocabulary is merged like any other text, and its name
# where such a word is taken as it stands ("ignore_merges"); "" where llama.cpp has none.
_NAMES: dict[tuple[str, ...], tuple[str, str]] = {
    (_QWEN2,): ("qwen2", ""),
    (_LLAMA3,): ("smaug-bpe", "llama-bpe"),
    (_GPT2,): ("gpt-2", ""),
    (_DIGIT, _GPT2): ("smollm", ""),
    (_TEKKEN,): ("", "tekken"),
    (_GPT4O,): ("gpt-4o", ""),
    (_QWEN35,): ("qwen35", ""),
    (_SEED,): ("seed-coder", ""),
    (_UFAKZEKA,): ("ufakzeka", ""),
    (_BAILING,): ("bailingmoe", ""),
    (_THREE_DIGITS, _MINICPM5): ("", "minicpm5"),
    (_THREE_DIGITS, _HAN_KANA, _DEEPSEEK3): ("deepseek-v3", ""),
}


def pre_tokenizer(tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name for the way a byte-level tokenizer splits text, decided from its own pattern.

    Raises:
        UserError: llama.cpp knows no such pattern, or the text is changed before it is split.
    """
    for step in steps(tokenizer.get("normalizer"), "normalizers"):
        # llama.cpp does not compose characters; its own converter accepts NFC, in which nearly all text comes.
        if step.get("type") != "NFC":
            raise unknown(say("it changes the text by {kind}", "它会用 {kind} 改变文本", kind=step.get("type")))
    found: list[str] = []
    for step in steps(tokenizer.get("pre_tokenizer"), "pretokenizers"):
        found += _splits(step)
    names = _NAMES.get(tuple(found))
    if names is None:
        raise unknown(say("it splits text by {pattern}", "它用 {pattern} 切分文本", pattern=" + ".join(found) or "—"))
    model = tokenizer.get("model") or {}
    merging, whole = names
    name = whole if model.get("ignore_merges") else merging
    if name:
        return name
    # The flag changes nothing where merging makes every word of the vocabulary anyway.
    if not _all_merged(model, {str(token["content"]) for token in tokenizer.get("added_tokens") or ()}):
        raise unknown(say("words of its vocabulary are not made by merging", "其词表中有无法通过合并得到的词"))
    return merging or whole


def _all_merged(model: Mapping[str, Any], added: set[str]) -> bool:
    """Whether merging makes every word but the added tokens, which are found whole anyway."""
    vocabulary: Mapping[str, int] = model.get("vocab") or {}
    merges = [(first, second) for first, second in map(pair, model.get("merges") or ())]
    merging = BPE(vocab=dict(vocabulary), merges=merges)
    return all(len(merging.tokenize(text)) == 1 for text in vocabulary if text not in added)


def pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """Both sides of a merge, as older and newer files write it."""
    first, second = merge.split(" ", 1) if isinstance(merge, str) else merge
    return first, second


def _splits(step: Mapping[str, Any]) -> list[str]:
    kind = step.get("type")
    if kind == "Split":
        pattern = str((step.get("pattern") or {}).get("Regex", "")).replace(_SHORT_SPELT, _SHORT)
        plain = step.get("behavior") == "Isolated" and not step.get("invert")
        return [_DIGIT if pattern == r"\p{N}" else pattern] if plain else [f"{kind} {pattern}"]
    if kind == "Digits":
        return [_DIGIT if step.get("individual_digits") else "digits together"]
    if kind == "ByteLevel":
        if step.get("add_prefix_space"):
            return ["ByteLevel add_prefix_space"]
        return [_GPT2] if step.get("use_regex", True) else []
    return [str(kind)]


def steps(part: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    """The single steps of a normalizer or pre-tokenizer, sequences unfolded."""
    if not part:
        return []
    if part.get("type") == "Sequence":
        return [leaf for step in part.get(inner, ()) for leaf in steps(step, inner)]
    return [part]


def unknown(why: Text) -> UserError:
    """The error for a tokenizer that llama.cpp cannot follow."""
    return UserError(
        "export.tokenizer",
        say(
            "llama.cpp does not know a tokenizer like this one: {why}.", "llama.cpp 不支持此类分词器：{why}。", why=why
        ),
        say(
            "Export the adapter or the merged weights instead; vLLM and transformers run them with any tokenizer.",
            "请改为导出适配器或合并后的权重；vLLM 和 transformers 可使用任意分词器运行它们。",
        ),
        where="tokenizer.json",
    )
