"""Text to tokens with the ``tokenizers`` library alone: transformers' ids without transformers' import time.

What transformers adds on top of ``tokenizer.json`` (special tokens and flags of ``tokenizer_config.json``) is added
here in the same order; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Encoding, Tokenizer

from engine.project.atomic import disk_error
from engine.protocol.errors import UserError
from engine.protocol.text import say

_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
# Asked in this order where no file names an end: the ends of well-known families.
_USUAL_ENDS = ("</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>", "<|im_end|>", "<｜end▁of▁sentence｜>")
# Tokens that families set apart for padding or for nothing; `pad` takes the first that exists.
_USUAL_PADS = (
    "<|finetune_right_pad_id|>",
    "<pad>",
    "[PAD]",
    "<|pad|>",
    "<|vision_pad|>",
    "<|endoftext|>",
    "<|reserved_special_token_0|>",
    "<unused0>",
    "<|placeholder1|>",
    "<unk>",
    "[UNK]",
)


@dataclass(frozen=True)
class TextTokenizer:
    """A model's tokenizer.

    Attributes:
        folder: where it was read from.
        bos, eos, unk, pad: texts of the special tokens; None where the model has none. ``pad`` is never ``eos``: a
            model that learns to ignore its padding would else learn to ignore its end, and never stop. It is the
            model's own pad token where that differs from eos; else a token that exists and is otherwise unused
            (``_USUAL_PADS``, any other special token); the vocabulary is never resized.
        declared: special tokens that tokenizer_config.json declares: what transformers hands to a template
            (``bos_token`` → text).
        adds_bos: the tokenizer puts bos before a text by itself (when asked for special tokens).
        context_length: positions that the model has; None when its files do not say.
    """

    folder: Path
    bos: str | None
    eos: str | None
    unk: str | None
    pad: str | None
    declared: Mapping[str, str]
    adds_bos: bool
    context_length: int | None
    _tokenizer: Tokenizer = field(repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path) -> TextTokenizer:
        """The tokenizer of a model's folder.

        Raises:
            UserError: there is no tokenizer.json, or it cannot be loaded.
        """
        config = _json_file(folder / "tokenizer_config.json")
        tokenizer = _load(folder)
        declared = _declared(config, _json_file(folder / "special_tokens_map.json"))
        adds_bos = _adds_bos(tokenizer, config, declared.get("bos_token"))
        _apply_config(tokenizer, config, declared)
        # Special tokens come from the template alone, as in transformers' apply_chat_template; and post-processors of
        # byte-level tokenizers trim spaces off the offsets.
        tokenizer.post_processor = None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        model = {**_json_file(folder / "generation_config.json"), **_json_file(folder / "config.json")}
        bos = declared.get("bos_token") or _token_of(tokenizer, model.get("bos_token_id"))
        eos = declared.get("eos_token") or _token_of(tokenizer, model.get("eos_token_id"))
        eos = eos or _usual(tokenizer, _USUAL_ENDS)
        unk = declared.get("unk_token")
        pad = declared.get("pad_token") or _token_of(tokenizer, model.get("pad_token_id"))
        if pad is None or pad == eos or tokenizer.token_to_id(pad) is None:
            pad = _spare_pad(tokenizer, bos, eos)
        return cls(folder, bos, eos, unk, pad, declared, adds_bos, _context_length(config, model), tokenizer)

    # ------------------------------------------------------------------------------------------------- encoding
    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """(ids, offsets) of a text: offsets are (start, end) in characters; special tokens are those in the text.

        Tokens that share one character (bytes of it) share its offsets.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encodings of many texts at once, on all cores."""
        found: list[Encoding] = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return found

    def count_batch(self, texts: Sequence[str]) -> list[int]:
        """Numbers of tokens of many texts at once, on all cores; `encode_batch` takes longer: it finds places, too."""
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in found]

    def count(self, text: str) -> int:
        """Number of tokens of a text."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of token ids."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special)
        return text

    # ------------------------------------------------------------------------------------------------ vocabulary
    def id_of(self, token: str | None) -> int | None:
        """Id of a token, None when it is None or not in the vocabulary."""
        return None if token is None else self._tokenizer.token_to_id(token)

    @property
    def bos_id(self) -> int | None:
        """Id of ``bos``."""
        return self.id_of(self.bos)

    @property
    def eos_id(self) -> int | None:
        """Id of ``eos``."""
        return self.id_of(self.eos)

    @property
    def unk_id(self) -> int | None:
        """Id of ``unk``."""
        return self.id_of(self.unk)

    @property
    def pad_id(self) -> int | None:
        """Id of ``pad``."""
        return self.id_of(self.pad)

    @cached_property
    def specials(self) -> frozenset[str]:
        """Texts of all tokens that stand for themselves and never for text: found whole wherever they stand."""
        named = {t for t in (self.bos, self.eos) if t is not None}
        added = self._tokenizer.get_added_tokens_decoder().values()
        return frozenset({token.content for token in added if token.special} | named)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of ``specials``."""
        return frozenset(i for text in self.specials if (i := self._tokenizer.token_to_id(text)) is not None)

    @property
    def size(self) -> int:
        """Tokens in the vocabulary, added ones counted."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def holds(self, tokens: Iterable[str]) -> bool:
        """Whether each of these texts is found whole, as one token, wherever it stands."""
        return set(tokens) <= _added(self._tokenizer)


def _json_file(path: Path) -> dict[str, Any]:
    """An optional JSON object, {} where the file is absent. Raises `UserError` when it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise disk_error(error, path) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    return content if isinstance(content, dict) else {}


def _load(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            "tokenizer.missing",
            say("{name} has no tokenizer.json.", "{name} 中没有 tokenizer.json。", name=folder.name),
            say(
                "Copy it from where the model came from; for old models make it with transformers (save_pretrained).",
                "请从模型来源处复制；旧模型需先用 transformers 转换一次（save_pretrained）。",
            ),
            where=str(path),
        ) from None
    except OSError as error:
        raise disk_error(error, path) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, error) from error
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises bare Exception from Rust
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        "tokenizer.damaged",
        say("The tokenizer cannot be loaded: {name} is damaged.", "无法加载分词器：{name} 已损坏。", name=path.name),
        say(
            "Download the file again, or take it from the model this one was made from.",
            "请重新下载该文件，或使用原始模型的同名文件。",
        ),
        where=str(path),
        details=f"tokenizers {tokenizers.__version__}: {error}",
    )


def _text(token: Any) -> str | None:
    """Text of a token as configuration files write it: a string, or an object with its flags."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def _declared(config: Mapping[str, Any], special_map: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens by name; special_tokens_map.json counts only without an added_tokens_decoder (transformers 5)."""
    files = [config] if "added_tokens_decoder" in config else [config, special_map]
    found: dict[str, str] = {}
    for name in (*_NAMED, "sep_token", "cls_token", "mask_token"):
        text = next((t for f in files if (t := _text(f.get(name))) is not None), None)
        if text is not None:
            found[name] = text
    return found


def _adds_bos(tokenizer: Tokenizer, config: Mapping[str, Any], bos: str | None) -> bool:
    if isinstance(config.get("add_bos_token"), bool):
        return bool(config["add_bos_token"]) and bos is not None
    ids = tokenizer.encode("", add_special_tokens=True).ids
    return bool(ids) and bos is not None and ids[0] == tokenizer.token_to_id(bos)


_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def _apply_config(tokenizer: Tokenizer, config: Mapping[str, Any], declared: Mapping[str, str]) -> None:
    """Give tokens the flags that tokenizer_config.json states, and make declared ones special, as transformers does.

    A declared token that is not in the vocabulary is left out: adding it would need a larger embedding.
    """
    known = {t.content for t in tokenizer.get_added_tokens_decoder().values()}
    listed = config.get("added_tokens_decoder")
    entries = sorted(listed.items(), key=lambda item: int(item[0])) if isinstance(listed, dict) else []
    tokens: list[AddedToken] = []
    next_id = tokenizer.get_vocab_size()
    for number, entry in entries:
        text = _text(entry)
        if text is None:
            continue
        if tokenizer.token_to_id(text) is None:
            if int(number) != next_id:
                continue
            next_id += 1
        flags = {flag: bool(entry[flag]) for flag in _FLAGS if flag in entry}
        flags["special"] = flags.get("special", False) or text in declared.values()
        tokens.append(AddedToken(text, **flags))
        known.add(text)
    extra = config.get("additional_special_tokens") or config.get("extra_special_tokens") or ()
    for text in (*declared.values(), *(_text(t) for t in (extra.values() if isinstance(extra, dict) else extra))):
        if text is not None and text not in known and tokenizer.token_to_id(text) is not None:
            tokens.append(AddedToken(text, special=True, normalized=False))
            known.add(text)
    if tokens:
        tokenizer.add_tokens(tokens)


def _token_of(tokenizer: Tokenizer, number: Any) -> str | None:
    """The token of an id in config.json (the first, where it lists several)."""
    if isinstance(number, list):
        number = number[0] if number else None
    return tokenizer.id_to_token(number) if isinstance(number, int) and number >= 0 else None


def _added(tokenizer: Tokenizer) -> set[str]:
    """Texts of the added tokens; a text such as "</s>" can stand in a vocabulary as an ordinary piece too."""
    return {token.content for token in tokenizer.get_added_tokens_decoder().values()}


def _usual(tokenizer: Tokenizer, names: Sequence[str]) -> str | None:
    added = _added(tokenizer)
    return next((name for name in names if name in added), None)


def _spare_pad(tokenizer: Tokenizer, bos: str | None, eos: str | None) -> str | None:
    """A token to pad with that is neither eos nor, where that can be had, anything that stands in texts."""
    usual = _usual(tokenizer, [name for name in _USUAL_PADS if name != eos])
    if usual is not None:
        return usual
    specials = [t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special]
    spare = [t for t in specials if t not in (bos, eos) and any(w in t.lower() for w in ("pad", "reserved", "unused"))]
    if spare:
        return spare[0]
    if bos is not None and bos != eos:
        return bos
    # One special token for all (GPT-2): the last merge is the rarest text there is, and padding is masked anyway.
    last = tokenizer.get_vocab_size(with_added_tokens=False) - 1
    token = tokenizer.id_to_token(last)
    return token if token != eos else tokenizer.id_to_token(last - 1)


def _context_length(config: Mapping[str, Any], model: Mapping[str, Any]) -> int | None:
    """Positions of the model: config.json's, bounded by tokenizer_config.json's (which writes 1e30 for "unknown")."""
    inner = model.get("text_config")
    places = (model, inner if isinstance(inner, dict) else {})
    found = [p.get(k) for p in places for k in ("max_position_embeddings", "n_positions", "seq_length")]
    lengths = [n for n in (*found, config.get("model_max_length")) if isinstance(n, int) and 0 < n < 10**9]
    return min(lengths, default=None)
