"""The scores and kinds in a SentencePiece file (``tokenizer.model``), where one lies beside the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gguf import TokenType

from engine.project.atomic import read_plain

FILE = "tokenizer.model"


@dataclass(frozen=True, slots=True)
class Pieces:
    """A SentencePiece vocabulary: text, score and kind of each id."""

    texts: list[str]
    scores: list[float]
    types: list[TokenType]

    @classmethod
    def of(cls, *folders: Path) -> Pieces | None:
        """That of the first folder that has one; None where none has, or where it cannot be read."""
        path = next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)
        if path is None:
            return None
        # Imported here: only tokenizers of this kind need it.
        from sentencepiece import SentencePieceProcessor

        model = SentencePieceProcessor()
        try:
            model.LoadFromSerializedProto(read_plain(path))
        except (RuntimeError, OSError):
            return None  # tokenizer.json says enough; its own scores are as good
        ids = range(model.GetPieceSize())
        types = [_type(model, number) for number in ids]
        return cls([model.IdToPiece(i) for i in ids], [model.GetScore(i) for i in ids], types)


def _type(model: object, number: int) -> TokenType:
    for name, kind in (
        ("IsUnknown", TokenType.UNKNOWN),
        ("IsControl", TokenType.CONTROL),
        ("IsUnused", TokenType.UNUSED),
        ("IsByte", TokenType.BYTE),
    ):
        if getattr(model, name)(number):
            return kind
    return TokenType.NORMAL
